"""Images of written words, and captions that name everything in them.

An image is a value: `Scene` says what is drawn, `caption` puts it in words, `draw` puts it in pixels. A scene is a
pure function of (seed, index), so an endless stream is addressable, resumable and never stored.

Words are capital strings that mostly alternate consonants and vowels, so that a recogniser trained on language is not
asked to read noise, with enough clusters that any word can be asked for. A word belongs to the held-out tenth or to the
training nine tenths by its hash alone, whatever the seed. One level is of Chinese strings (rendered_chinese).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from base_model.data import rendered_chinese as chinese
from base_model.data.writing.grounds import contrast as contrast_of_levels

HEIGHT, WIDTH = 32, 96
WIDE = 160
"""Pixels of the wider canvas, of ten cells, that level 8 needs."""

FACES = {
    "sans": "DejaVuSans-Bold.ttf",
    "serif": "DejaVuSerif-Bold.ttf",
    "mono": "DejaVuSansMono-Bold.ttf",
    "roman": "STIXGeneralBol.ttf",
}
SIZES = {"small": 16, "medium": 19, "large": 22}
"""Em size in pixels."""

CELL = 16
"""Every letter stands in its own cell of this many pixels, as on a departure board; wider letters are condensed to it.
A cell is as wide as a latent token, so that a letter is not spread over two of them: with free spacing the same budget
of training left words illegible (experiments/reports)."""

COLOURS = {
    "black": (16, 16, 16),
    "white": (250, 250, 250),
    "red": (214, 30, 36),
    "green": (20, 130, 50),
    "blue": (30, 60, 200),
    "yellow": (250, 215, 50),
    "pink": (250, 180, 200),
    "grey": (190, 194, 198),
}
INKS = ("black", "red", "green", "blue", "white", "yellow")
DARK, PAPER = ("black", "red", "green", "blue"), ("white", "yellow", "pink", "grey")
"""Inks and backgrounds of dark letters on light paper. Light letters on dark are learned a hundred updates later, and
both together from the first update on are learned later than either (experiments/reports)."""
MIN_CONTRAST = 3.0
"""Least contrast ratio of ink and background (WCAG 2.1, large text)."""

ROWS = {"top": 0.0, "middle": 0.5, "bottom": 1.0}
COLUMNS = {"left": 0.0, "centre": 0.5, "right": 1.0}
STEPS = {"top": 0.0, "upper": 0.25, "middle": 0.5, "lower": 0.75, "bottom": 1.0}
"""`ROWS` and those between, of level 8."""
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
"""Columns of level 8: the cell in which a word begins."""
SHAPES = ("circle", "square", "bar")
MARGIN = 2
"""Pixels kept free above and below."""

LEVELS = 9
"""Of the curriculum; see `scene`."""
ENGLISH, CHINESE, COMMON_CHINESE, ANYWHERE = 4, 6, 7, 8
"""The levels of words and of Chinese strings that alignment and evaluation ask for."""

CONSONANTS, VOWELS = "BCDFGHJKLMNPQRSTVWXYZ", "AEIOU"
ALTERNATION = 0.75
"""Chance that a vowel follows a consonant, and the other way round."""


@dataclass(frozen=True)
class Scene:
    """What an image shows. `word` is empty for an image without text, which then shows `shape` (or nothing)."""

    word: str
    shape: str
    face: str
    size: str
    ink: str
    background: str
    row: str
    column: str

    @property
    def caption(self) -> str:
        """A sentence that names every degree of freedom of the image."""
        position = f"{self.position}, on {self.background}"
        if self.word:
            return f'the word "{self.word}" in {self.ink} {self.face}, {self.size}, {position}'
        if self.shape:
            return f"no text, a {self.size} {self.ink} {self.shape}, {position}"
        return f"no text, on {self.background}"

    @property
    def position(self) -> str:
        """The row and the column in words."""
        return f"{self.row} {self.column}" + (" cell" if self.column in ORDINALS else "")

    def caption_naming(self, named: Collection[str]) -> str:
        """The caption of a word with what else it names: any of ink, face, size, place and ground."""
        of = {
            "ink": f" in {self.ink}",
            "face": f" {self.face}" if "ink" in named else f" in {self.face}",
            "size": f", {self.size}",
            "place": f", {self.position}",
            "ground": f", on {self.background}",
        }
        return f'the word "{self.word}"' + "".join(text for part, text in of.items() if part in named)


INK_OF = ("letters", "text", "ink", "writing", "capitals")
GROUND_OF = ("paper", "background", "ground")
THINGS = ("sign", "label", "card", "poster")
"""What a colour before it is the colour of: the ink, the background, or either ("a red sign")."""
LIKE = {
    "big": "large", "huge": "large", "little": "small", "tiny": "small", "center": "centre", "gray": "grey",
    "monospaced": "mono",
}  # fmt: skip
FILLERS = frozenset((
    "a", "an", "the", "word", "in", "on", "at", "of", "with", "and", "that", "which", "says", "say", "saying",
    "reads", "reading", "please", "make", "me", "give", "show", "write", "draw", "i", "need", "want", "put", "it",
    "to", "for", "my", "image", "picture",
))  # fmt: skip
"""Words of a request that say nothing about the image."""


@dataclass(frozen=True)
class ShortPrompt:
    """A word that is asked for, and what the prompt says about it, by the fields of `Scene`."""

    word: str
    named: Mapping[str, str]
    either: bool
    """the colour that is named as the background may be meant as the ink"""

    @property
    def caption(self) -> str:
        """The caption with what is left open as it is most often legible: large, in the middle, black on white."""
        default = {"face": "sans", "size": "large", "row": "middle", "column": "centre", **self.named}
        ink = default.pop("ink", "black" if self.named.get("background") != "black" else "white")
        ground = default.pop("background", "white" if ink != "white" else "black")
        return Scene(self.word, "", ink=ink, background=ground, **default).caption

    def varied(self, rng: np.random.Generator) -> str:
        """A caption with what is left open drawn by lot, as captions of training have it."""
        named = dict(self.named)
        if self.either and named["background"] in DARK and rng.random() < 0.5:
            named["ink"] = named.pop("background")
        for field, values in (("face", FACES), ("size", SIZES), ("row", ROWS), ("column", COLUMNS)):
            named.setdefault(field, str(rng.choice(list(values))))
        ground = named.get("background", "white")
        inks = [ink for ink in INKS if ink != ground and ground in backgrounds(ink)]
        named.setdefault("ink", str(rng.choice([ink for ink in inks if ink in DARK] or inks)))
        grounds = backgrounds(named["ink"])
        named.setdefault("background", str(rng.choice([name for name in grounds if name in PAPER] or list(grounds))))
        return Scene(self.word, "", **named).caption


def read_short(prompt: str) -> ShortPrompt | None:
    """What a prompt asks for; None where that is not one word, or more than a caption says."""
    parts = [part.strip(".:;!?") for part in prompt.replace(",", " ").replace('"', " ").split()]
    capitals = [part for part in parts if (part.isupper() and part.isalpha()) or chinese.is_chinese(part)]
    words = [part for part in capitals if part not in ("I", "A")] or capitals
    bare = [LIKE.get(part.lower(), part.lower()) for part in parts if part and part not in words]
    if len(words) != 1:
        return None
    named: dict[str, str] = {}
    either = False
    for field, known in (("face", (*FACES, *chinese.FACES)), ("size", SIZES), ("row", ROWS), ("column", COLUMNS)):
        if values := [part for part in bare if part in known]:
            named[field] = values[0]
    for before, colour, after in zip(["", *bare], bare, [*bare[1:], ""], strict=False):
        if colour in COLOURS:
            field = "ink" if before == "in" or after in INK_OF else "background"
            if field in named or not (before in ("in", "on") or after in (*INK_OF, *GROUND_OF, *THINGS)):
                return None
            named[field], either = colour, either or (field == "background" and after in THINGS)
    if not set(bare) <= {*FILLERS, *INK_OF, *GROUND_OF, *THINGS, *named.values()}:
        return None
    if named.get("ink", "") == named.get("background", "-"):
        return None
    return ShortPrompt(words[0], named, either and "ink" not in named)


def complete(prompt: str) -> str:
    """A prompt that asks for a word and no more than a caption says, with what it leaves open filled in; any other as
    it is.

    Captions of training name everything, so a short prompt asks for the average of many images and gets a blur. Large
    models have another model rewrite prompts for the same reason (arXiv:2508.02324, section 3).
    """
    request = read_short(prompt)
    return request.caption if request else prompt


def is_heldout(word: str) -> bool:
    """Whether a word is kept for evaluation: one word in ten, decided by its hash."""
    return hashlib.sha256(word.encode()).digest()[0] % 10 == 0


def choose_word(rng: np.random.Generator, low: int, high: int, heldout: bool) -> str:
    """A word of `low` to `high` letters from the asked side of the split.

    Words of one or two letters are too few to split and are never held out.
    """
    while True:
        vowel = bool(rng.integers(2))
        letters = []
        for _ in range(int(rng.integers(low, high + 1))):
            letters.append(str(rng.choice(list(VOWELS if vowel else CONSONANTS))))
            vowel = vowel != (rng.random() < ALTERNATION)
        word = "".join(letters)
        if heldout == (len(word) > 2 and is_heldout(word)):
            return word


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two named colours, 1 to 21 (WCAG 2.1 relative luminance)."""
    return contrast_of_levels(COLOURS[a], COLOURS[b])


@functools.cache
def backgrounds(ink: str) -> tuple[str, ...]:
    """The backgrounds on which an ink is legible."""
    return tuple(name for name in COLOURS if name != ink and contrast(ink, name) >= MIN_CONTRAST)


@functools.cache
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """A type face at an em size in pixels. The faces are the ones that matplotlib's distribution carries."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ValueError("the type faces are missing: pip install matplotlib (it carries DejaVu and STIX)")
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / FACES[face]
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def glyph(letter: str, face: str, size: int) -> Image.Image:
    """One letter in the middle of an 8-bit mask, `CELL` wide and as high as the face's capitals at that size."""
    type_face = font(face, size)
    top, bottom = type_face.getbbox("H")[1], type_face.getbbox("HQJ")[3]
    left, _, right, _ = type_face.getbbox(letter)
    mask = Image.new("L", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(mask).text((-left, -top), letter, fill=255, font=type_face)
    if mask.width > CELL - 1:
        mask = mask.resize((CELL - 1, mask.height), Image.Resampling.LANCZOS)
    cell = Image.new("L", (CELL, mask.height))
    cell.paste(mask, ((CELL - mask.width) // 2, 0))
    return cell


def pick(rng: np.random.Generator, names: Collection[str], balance: float) -> str:
    """One of the names: at balance 1 all equally often, at 0 the k-th of them 1 / k^2 as often as the first."""
    if balance == 1.0:
        return str(rng.choice(list(names)))
    tail = 1.0 / np.arange(1, len(names) + 1) ** 2
    return str(rng.choice(list(names), p=balance / len(names) + (1.0 - balance) * tail / tail.sum()))


def scene(rng: np.random.Generator, level: int, *, heldout: bool = False, balance: float = 1.0) -> Scene:
    """A random scene of a curriculum level, whose faces and inks are as `balance` of `pick` says.

    0 no text, 1 single characters, 2 words in the centre, 3 words anywhere, 4 words anywhere in all faces and dark inks
    on light paper, 5 in all inks on all backgrounds, 6 Chinese strings in their faces and dark inks on light paper, as
    high as the image, 7 the same of the 200 most common characters, 8 as 5 with words of 3 to 8 letters that begin in
    any cell of a canvas of `WIDE` pixels and stand at any of five heights. Levels 1 to 3 are black sans on white.
    """
    colourful, of_chinese = level in (0, 5, ANYWHERE), level in (CHINESE, COMMON_CHINESE)
    coloured = colourful or of_chinese or level == ENGLISH
    ink = pick(rng, INKS if colourful else DARK, balance) if coloured else "black"
    grounds = [name for name in backgrounds(ink) if colourful or name in PAPER]
    background = str(rng.choice(grounds)) if coloured else "white"
    face = pick(rng, chinese.FACES if of_chinese else FACES, balance) if level >= 4 else "sans"
    size = str(rng.choice(list(SIZES)))
    rows = STEPS if level == ANYWHERE else ROWS
    row = "middle" if of_chinese or level in (1, 2) else str(rng.choice(list(rows)))
    column = "centre" if level in (1, 2) else str(rng.choice(list(COLUMNS)))
    if level == 0:
        shape = str(rng.choice([*SHAPES, ""]))
        return Scene("", shape, "", size if shape else "", ink, background, row, column)
    if of_chinese:
        characters = chinese.CHARACTERS[: chinese.COMMON] if level == COMMON_CHINESE else chinese.CHARACTERS
        word = chinese.choose_string(rng, 2 if heldout else 1, 3, heldout, characters)
    else:
        word = choose_word(rng, *{1: (1, 1), ANYWHERE: (3, 8)}.get(level, (3, 5)), heldout=heldout)
    if level == ANYWHERE:
        column = str(rng.choice(ORDINALS[: WIDE // CELL - len(word) + 1]))
    return Scene(word, "", face, size, ink, background, row, column)


def render(scene: Scene, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """The image of a scene on a canvas of that (height, width): uint8 [3, height, width].

    Raises ValueError when the word has more letters than the canvas has cells.
    """
    height, width = size
    image = Image.new("RGB", (width, height), COLOURS[scene.background])
    if scene.word:
        column, cell = first_cell(scene, width), cell_of_word(scene.word)
        for i, letter in enumerate(scene.word):
            mask = mask_of(scene, letter)
            image.paste(COLOURS[scene.ink], ((column + i) * cell, above(scene, mask.height, height)), mask)
    elif scene.shape:
        side = SIZES[scene.size] // 2
        wide = side * 3 if scene.shape == "bar" else side
        x, y = round(COLUMNS[scene.column] * (width - wide)), above(scene, side, height)
        pen = ImageDraw.Draw(image)
        (pen.ellipse if scene.shape == "circle" else pen.rectangle)((x, y, x + wide, y + side), fill=COLOURS[scene.ink])
    return np.asarray(image).transpose(2, 0, 1)


def cell_of_word(word: str) -> int:
    """Pixels of the cell of each of a word's characters."""
    return chinese.CELL if chinese.is_chinese(word) else CELL


def mask_of(scene: Scene, letter: str) -> Image.Image:
    """The 8-bit mask of a letter of the scene's word."""
    if chinese.is_chinese(scene.word):
        return chinese.glyph(letter, scene.face, chinese.SIZES[scene.size])
    return glyph(letter, scene.face, SIZES[scene.size])


def first_cell(scene: Scene, width: int = WIDTH) -> int:
    """The column of cells in which a scene's word begins. Raises ValueError when the word does not fit the canvas."""
    return first_cell_of(scene.word, scene.column, width)


def first_cell_of(word: str, column: str, width: int) -> int:
    """The same of a word that stands left, centre or right on so many pixels, or begins in a cell of `ORDINALS`."""
    cells = width // cell_of_word(word)
    first = ORDINALS.index(column) if column in ORDINALS else 0
    free = cells - first - len(word)
    if free < 0:
        raise ValueError(f"the word {word!r} needs {first + len(word)} cells, an image has {cells}")
    return first or int(COLUMNS.get(column, 0.0) * free)


def above(scene: Scene, tall: int, height: int = HEIGHT) -> int:
    """Pixels above something that tall in the scene's row of a canvas."""
    return round(MARGIN + STEPS[scene.row] * (height - 2 * MARGIN - tall))
