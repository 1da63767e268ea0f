"""Other people's file formats for preferences between images: one file each, both ways."""
