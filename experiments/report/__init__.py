"""The parts a report page is made of: HTML and SVG as text, without script, file or network."""
