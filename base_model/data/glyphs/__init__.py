"""Single characters, sound and broken, made by rule: what a network learns from that sees broken characters.

    shapes.py    a character in a face, in pixels and strokes; which faces and characters are for learning only
    damage.py    the ways in which a character is broken, each a function
    texture.py   what a decoder does to every character, sound or broken: blur, grain, ringing, compression
    crops.py     (seed, index) -> a character in an image, and where it is broken

Nothing here imports torch.
"""
