"""Chinese characters for scenes: which there are, which strings are held out, and their masks.

300 frequent characters are few enough to be learned in minutes of one core and many enough that no string need be seen
twice. What is held out are pairs of neighbours, not characters: a character that was never shown cannot be written,
but one that was shown must be writable beside any other. A string of evaluation is made of held-out pairs alone, a
string of training of none.
"""

from __future__ import annotations

import functools
import hashlib
import itertools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from base_model.data.writing import faces

CHARACTERS = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方"
    "多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情"
    "明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给"
    "世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太"
    "量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象"
)
COMMON = 200
"""Characters of `CHARACTERS`, its first, that a quicker curriculum keeps to."""
FACES = {"sans": ("Noto Sans SC", 400), "serif": ("Noto Serif SC", 400), "heavy": ("Noto Sans CJK SC", 700)}
"""type face and weight by the name that captions say"""
SIZES = {"small": 26, "medium": 28, "large": 30}
"""Em size in pixels."""
CELL = 32
"""Pixels of a character's cell, two by two latent tokens."""
ASCENT = 0.88
"""of an em above the line that characters stand on, as all these faces have it"""


def is_chinese(text: str) -> bool:
    """Whether a text is of Chinese characters alone."""
    return bool(text) and all("\u4e00" <= character <= "\u9fff" for character in text)


@functools.cache
def is_heldout_pair(pair: str) -> bool:
    """Whether two neighbours are kept for evaluation: one pair in ten, decided by its hash."""
    return hashlib.sha256(pair.encode()).digest()[0] % 10 == 0


def choose_string(rng: np.random.Generator, low: int, high: int, heldout: bool, characters: str = CHARACTERS) -> str:
    """A string of `low` to `high` of the characters whose pairs are all held out, or none of them.

    Raises ValueError for held-out strings of one character, which have no pair.
    """
    if heldout and low < 2:
        raise ValueError(f"a held-out string has at least 2 characters, not {low}: what is held out are pairs")
    length = int(rng.integers(low, high + 1))
    while True:
        text = "".join(characters[i] for i in rng.integers(len(characters), size=length))
        if all(is_heldout_pair(a + b) == heldout for a, b in itertools.pairwise(text)):
            return text


@functools.cache
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """A type face at an em size in pixels. Raises ValueError, naming what to install, when it is missing."""
    name, weight = FACES[face]
    return faces.font(faces.FACES[name], weight, size)


def line_of(size: int) -> int:
    """Pixels from the top of a cell to the line that a character of that size stands on."""
    return round((CELL - size) / 2 + ASCENT * size)


@functools.cache
def glyph(character: str, face: str, size: int) -> Image.Image:
    """A character in the middle of an 8-bit mask of a whole cell."""
    cell = Image.new("L", (CELL, CELL))
    baseline = line_of(size)
    ImageDraw.Draw(cell).text((CELL / 2, baseline), character, fill=255, font=font(face, size), anchor="ms")
    return cell
