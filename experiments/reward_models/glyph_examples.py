"""Characters made by rule, as the network of the reward `glyph` sees them: framed crops, maps and references.

Shapes: N crops, C characters, ZZ the square, MM the cells of the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from base_model.data.glyphs.crops import SOUND, Crop, Source, crop
from base_model.data.glyphs.shapes import LANGUAGES, REFERENCES, Cut, alphabet, rendered
from base_model.data.writing.corpora import standard_set
from base_model.data.writing.faces import font, undrawable
from rewards.glyph.glyph_training import Examples
from rewards.glyph.ink_frame import SIDE, Frame, as_bytes, cut_out, frame_of, levels

CELLS = 8
BOX_EM = 200
"""pixels of the em that boxes are measured at"""
JITTER = 0.05
"""of the frame: standard deviation of its position, and of the logarithm of its size"""
WRONG_CELL = 3.0
"""times the mean change in a cell, up to 1: how sure it is that the cell is wrong"""


@dataclass(frozen=True)
class References:
    """What characters should look like."""

    characters: str
    image_C2ZZ: np.ndarray
    """uint8: without and with serifs"""
    language_C: np.ndarray
    box_C23: np.ndarray
    """float32, as in ``rewards.glyph.wholeness.Levels``"""

    def index(self) -> dict[str, int]:
        return {character: i for i, character in enumerate(self.characters)}


def references(characters: dict[str, str]) -> References:
    """Render the references of language -> characters; those that a face lacks are left out."""
    rows, names, languages, boxes = [], [], [], []
    for language, every in characters.items():
        pair = [Cut(face, 400 if 400 in face.weights else face.weights[0]) for face in REFERENCES[language]]
        for character in dict.fromkeys(every):
            if any(undrawable(cut.face, character) for cut in pair):
                continue
            rows.append(np.stack([fitted(rendered(cut, character)) for cut in pair]))
            boxes.append([_box(cut, character) for cut in pair])
            names.append(character)
            languages.append(LANGUAGES.index(language))
    if not rows:
        raise ValueError(f"no reference can be rendered for {characters}; name characters of the faces' languages")
    return References("".join(names), np.stack(rows), np.array(languages), np.array(boxes, np.float32))


def _box(cut: Cut, character: str) -> tuple[float, float, float]:
    left, top, right, bottom = font(cut.face, cut.weight, BOX_EM).getbbox(character, anchor="ls")
    return -top / BOX_EM, -bottom / BOX_EM, (right - left) / BOX_EM


def all_references() -> References:
    """Those of every Latin letter and digit, and of all common Chinese characters."""
    return references({"en": alphabet("en"), "zh-Hans": standard_set("zh-Hans")})


def fitted(levels_HW: np.ndarray) -> np.ndarray:
    """The ink of a rendered character, in 8 bits, as the network sees it."""
    level_HW = levels_HW.astype(np.float32) / 255.0
    frame = frame_of(level_HW)
    assert frame is not None, "a character that can be rendered leaves ink"
    return as_bytes(cut_out(level_HW, frame))


def framed_example(each: Crop, rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The crop [Z, Z] and its map [M, M] in 8 bits; ``rng`` moves the frame a little, as a locator's error does."""
    level_HW = levels(each.image_HW3)
    frame = None if level_HW is None else frame_of(level_HW)
    if level_HW is None or frame is None:
        return np.zeros((SIDE, SIDE), np.uint8), np.full((CELLS, CELLS), 255, np.uint8)
    if rng is not None:
        side = frame.side * float(np.exp(rng.normal(0, JITTER)))
        x, y = (float(v) for v in rng.normal(0, JITTER * side / 2, 2) + (frame.side - side) / 2)
        frame = Frame(frame.left + x, frame.top + y, side)
    broken_ZZ = cut_out(each.broken_HW, frame)
    broken_MM = broken_ZZ.reshape(CELLS, SIDE // CELLS, CELLS, SIDE // CELLS).mean((1, 3))
    return as_bytes(cut_out(level_HW, frame)), as_bytes(WRONG_CELL * broken_MM)


@dataclass(frozen=True)
class Labelled:
    """Examples, and of what each was made."""

    examples: Examples
    crops: tuple[Crop, ...] = ()
    """without their pixels' maps; only where they were asked for"""
    kinds: tuple[str, ...] = ()
    faces: tuple[str, ...] = ()
    characters: tuple[str, ...] = ()


def make(source: Source, count: int, table: References, jitter: bool = True) -> Iterator[int | Labelled]:
    """Makes crops 0 to ``count``: their number so far, every hundred, and at last the examples."""
    index = table.index()
    images = np.zeros((count, SIDE, SIDE), np.uint8)
    maps = np.zeros((count, CELLS, CELLS), np.uint8)
    character_N, sound_N = np.zeros(count, np.int64), np.zeros(count, bool)
    kinds, faces, characters = [], [], []
    for i in range(count):
        each = crop(source, i)
        if each.character not in index:
            raise ValueError(f"{each.character!r} has no reference; it is in none of the reference faces")
        images[i], maps[i] = framed_example(each, np.random.default_rng((source.seed, i, 1)) if jitter else None)
        character_N[i], sound_N[i] = index[each.character], each.kind == SOUND
        kinds.append(each.kind)
        faces.append(each.face)
        characters.append(each.character)
        if i % 100 == 99:
            yield i + 1
    examples = Examples(images, character_N, sound_N, maps, table.image_C2ZZ, table.language_C)
    yield Labelled(examples, (), tuple(kinds), tuple(faces), tuple(characters))


def made(source: Source, count: int, table: References, jitter: bool = False) -> Labelled:
    """The examples of ``make``, at once."""
    *_, last = make(source, count, table, jitter)
    assert isinstance(last, Labelled)
    return last
