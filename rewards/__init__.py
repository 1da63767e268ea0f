"""Images and prompts in, numbers out. ``REWARDS`` in reward_table.py is the whole list."""
