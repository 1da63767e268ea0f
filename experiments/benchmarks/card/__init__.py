"""A card that is none: full-size recipes run whole without a GPU and without numbers, and their bytes are counted.

The card itself is experiments/planning/card.py: torch's meta device plays the GPU; small tensors keep numbers, mixing
places is an error. experiments/planning/torch_patches.py has what torch decides otherwise for it than for a GPU.

fake_ranks.py     torch's fake process group plays the other ranks, and refuses host tensors as NCCL does
release.py        a released folder of true headers and no weights
recipe.py         one experiment through the runner on that card
random_weights.py a model of a published size on a card that is there
waits.py          where the host waits for the card, by source line
"""
