"""Clean pictures of words for tests of rewards: PIL and the type faces inside matplotlib's distribution."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FACES = tuple(f"{name}.ttf" for name in ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif-Bold", "STIXGeneralBol"))
INKS = (("black", "white"), ("white", "black"), ("red", "white"), ("white", "darkred"), ("blue", "yellow"))
CONSONANTS, VOWELS = "BCDFGHJKLMNPRSTVWZ", "AEIOU"


def written(
    text: str,
    face: str = FACES[1],
    size: int = 18,
    ink: str = "black",
    ground: str = "white",
    at: tuple[float, float] = (0.5, 0.5),
    canvas: tuple[int, int] = (32, 96),
) -> np.ndarray:
    """A float32 picture (3, H, W) in [0, 1] of ``text``; ``at`` is its place, (0, 0) top left to (1, 1) low right."""
    height, width = canvas
    picture = Image.new("RGB", (width, height), ground)
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    font = ImageFont.truetype(str(Path(spec.origin).parent / "mpl-data/fonts/ttf" / face), size)
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    assert right - left <= width - 4 and bottom - top <= height - 4, f"{text!r} does not fit {canvas}"
    x, y = 2 + at[0] * (width - 4 - (right - left)), 2 + at[1] * (height - 4 - (bottom - top))
    pen.text((round(x - left), round(y - top)), text, font=font, fill=ink)
    return np.asarray(picture).transpose(2, 0, 1).astype(np.float32) / 255.0


def words_and_pictures(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Pronounceable words of 3-5 capitals in all faces, colours and places; the pictures are (count, 3, 32, 96)."""
    rng = np.random.default_rng(seed)
    words, pictures = [], []
    for i in range(count):
        start = int(rng.integers(2))
        letters = [CONSONANTS if (k + start) % 2 else VOWELS for k in range(int(rng.integers(3, 6)))]
        word = "".join(str(rng.choice(list(choices))) for choices in letters)
        ink, ground = INKS[i % len(INKS)]
        at = (float(rng.integers(3)) / 2, float(rng.integers(3)) / 2)
        pictures.append(written(word, FACES[i % len(FACES)], int(rng.integers(14, 20)), ink, ground, at))
        words.append(word)
    return words, np.stack(pictures)
