"""Networks of others through diffusers, one small file a family: see `family.Family` and the table in `known.py`."""
