"""Other people's file formats for preferences between pictures: one file each, both ways."""
