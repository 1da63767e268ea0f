"""Items whose answer is known: gold from a file, and attention checks, which are work with one image spoilt.

Both are shown like any other item. Put them into a campaign before its work: a pair that is gold is then no work. Gold
asks for judgement and needs somebody who judged it before; an attention check asks only whether anybody looked.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from preference_data.campaign.campaigns import Item
from preference_data.campaign.sources import from_lines
from preference_data.image_files import read_image
from preference_data.records import ImageRef, Provenance
from preference_data.store.image_store import ImageFolder

EXPECTED = ("left", "right", "tie", "both_good", "both_bad")
FEWEST = 5
"""Attention checks of a campaign, when it has any."""
TILES = 12
"""Along each side, moved about in a spoilt image."""
NOISE = 0.6
"""Share of noise in a spoilt image."""
CORRUPTED = "spoilt"


def gold(path: Path, images: ImageFolder) -> list[Item]:
    """Gold items from JSON lines {"prompt", "left": PATH, "right": PATH, "expected"}; paths relative to the file.

    `expected` is left, right, tie, both_good or both_bad. Raises ValueError with the line number of what is wrong.
    """

    def finish(item: Item, row: Mapping[str, Any]) -> Item:
        expected = row["expected"]
        if expected not in EXPECTED:
            raise ValueError(f"expected is {expected!r}; choose one of {', '.join(EXPECTED)}")
        side = EXPECTED.index(expected)
        return replace(item, kind="gold", expected=item.images[side].sha256 if side < 2 else expected)

    return from_lines(path, images, finish)


def attention(items: Sequence[Item], images: ImageFolder, share: float, seed: int = 0) -> list[Item]:
    """Attention checks for work of two images: enough for `share` of what is shown, at least 5; [] when it is 0.

    One image of an item stays and must win; the other is replaced by the same image, spoilt.
    """
    pairs = [item for item in items if item.kind == "work" and len(item.images) == 2]
    if share <= 0 or not pairs:
        return []
    chance = random.Random(seed)
    count = min(len(pairs), max(FEWEST, math.ceil(share * len(pairs))))
    made = []
    for item in chance.sample(pairs, count):
        side = chance.randrange(2)
        good = item.images[side]
        bad = corrupted(good, images, chance.getrandbits(32))
        names = (item.labels[side], CORRUPTED) if item.labels else ()
        made.append(Item(item.prompt, (good, bad), "attention", good.sha256, item.reference, labels=names))
    return made


def corrupted(image: ImageRef, images: ImageFolder, seed: int) -> ImageRef:
    """A copy whose tiles are moved about and mixed with noise: nobody who looks prefers it."""
    random_ = np.random.default_rng(seed)
    pixels = read_image(images.path(image.sha256))
    high, wide = (max(size // TILES, 1) for size in pixels.shape[:2])
    rows, columns = pixels.shape[0] // high, pixels.shape[1] // wide
    tiles = pixels[: rows * high, : columns * wide].reshape(rows, high, columns, wide, 3).swapaxes(1, 2)
    moved = random_.permutation(tiles.reshape(-1, high, wide, 3)).reshape(rows, columns, high, wide, 3)
    mixed = pixels.astype(np.float32)
    mixed[: rows * high, : columns * wide] = moved.swapaxes(1, 2).reshape(rows * high, columns * wide, 3)
    mixed = (1 - NOISE) * mixed + NOISE * random_.integers(0, 256, mixed.shape)
    content = io.BytesIO()
    Image.fromarray(mixed.astype(np.uint8)).save(content, format="PNG")
    sha, width, height = images.add(content.getvalue(), CORRUPTED)
    made = Provenance(CORRUPTED, "", seed, 0, 0.0, image.provenance.run, image.provenance.step)
    return ImageRef(sha, image.path, width, height, made)
