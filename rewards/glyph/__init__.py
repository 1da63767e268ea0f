"""Sees broken characters, also where a recogniser guesses right what they were meant to be.

framing.py   an image of a character -> the small crop of ink that the network sees
network.py   crop and two reference renderings -> how sound it is, and where it is not
train.py     the training loop, a generator
locate.py    where the characters of a prompt stand in an image
reward.py    the reward, and the folder that it is loaded from
"""
