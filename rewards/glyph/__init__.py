"""Sees broken characters, also where a recogniser guesses right what they were meant to be.

ink_frame.py       an image of a character -> the small crop of ink that the network sees
glyph_network.py   crop and two reference renderings -> how sound it is, and where it is not
glyph_settings.py  how it is trained
glyph_training.py  the training loop, a generator
wholeness.py       a gate for what can be no whole character, and the level of a score
line_fit.py        another, for what is no whole character beside its neighbours
locate.py          where the characters of a prompt stand in an image
glyph.py           the reward, and the folder that it is loaded from
"""
