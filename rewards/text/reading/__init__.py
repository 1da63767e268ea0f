"""Reading images: engines that find lines of text, and the comparison of what they read with what was asked for."""
