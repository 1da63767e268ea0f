"""Texts that images are asked to show: where a prompt quotes them, what of them can be seen, when two are the same."""
