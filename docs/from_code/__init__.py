"""Makes the reference pages of the documentation site from the code. `hook.py` is where MkDocs comes in."""
