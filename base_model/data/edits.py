"""What a sample of training may ask for: an image from a caption, the same image again, or an edit of it.

A task is a function that turns a scene into an `Example`. An edit changes one thing of the word of a scene (its
letters, its ink, its place) and nothing else. What was changed is known to the pixel, so that both can be measured: the
edit inside of the region, and that the rest stayed outside of it.

Edited images carry, where there is room, a *mark*: a small coloured shape in a cell of its own that no caption and no
instruction mentions. Only a model that sees the source can keep it.

Words of an edit, old and new, come from one side of the held-out split (`text.is_heldout`): training never sees a
held-out word, neither in a source nor in a target nor in an instruction.

Shapes: 3HW pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from base_model.data.rendered_text import (
    CELL,
    COLOURS,
    COLUMNS,
    HEIGHT,
    INKS,
    ROWS,
    SHAPES,
    WIDTH,
    Scene,
    backgrounds,
    choose_word,
    first_cell,
    render,
)

Size = tuple[int, int]
"""(height, width) of an image in pixels"""

KEEP = "keep the picture as it is"
MARK_CONTRAST = 60.0
"""Least distance of a mark's colour from the ground, in 8-bit levels of one channel"""
MARK_SIDE = 9
"""pixels; smaller than the smallest letter"""


@dataclass(frozen=True)
class Mark:
    """A small shape in the middle of a cell of `text.CELL` pixels a side."""

    shape: str
    colour: str
    row: int
    """of cells"""
    column: int
    """of cells"""


@dataclass(frozen=True)
class Sheet:
    """A scene on a canvas, with the mark that its caption does not mention."""

    scene: Scene
    size: Size = (HEIGHT, WIDTH)
    mark: Mark | None = None

    def render(self) -> np.ndarray:
        """uint8 [3, H, W]"""
        pixels = render(self.scene, self.size)
        if self.mark is None:
            return pixels
        image = Image.fromarray(pixels.transpose(1, 2, 0))
        gap = (CELL - MARK_SIDE) // 2
        x, y = self.mark.column * CELL + gap, self.mark.row * CELL + gap
        wide, tall = MARK_SIDE, MARK_SIDE // 2 if self.mark.shape == "bar" else MARK_SIDE
        pen = ImageDraw.Draw(image)
        shape = pen.ellipse if self.mark.shape == "circle" else pen.rectangle
        shape((x, y, x + wide, y + tall), fill=COLOURS[self.mark.colour])
        return np.asarray(image).transpose(2, 0, 1)

    def box(self) -> tuple[slice, slice]:
        """Rows and columns of pixels in which the word stands: its cells over the whole height."""
        first = first_cell(self.scene, self.size[1])
        return slice(0, self.size[0]), slice(first * CELL, (first + len(self.scene.word)) * CELL)


@dataclass(frozen=True)
class Example:
    """What is asked, of which image, and what should come of it."""

    text: str
    """the caption, or the instruction"""
    target: Sheet
    source: Sheet | None = None
    """None: an image from its caption alone"""

    def region(self) -> np.ndarray:
        """bool [H, W]: True where an edit may change pixels, which is where the word stood and where it stands now."""
        mask = np.zeros(self.target.size, dtype=bool)
        if self.source is not None and self.source != self.target:
            mask[self.source.box()] = mask[self.target.box()] = True
        return mask


Task = Callable[[Scene, str, Size, np.random.Generator, bool], Example]
"""(scene with a word, its caption, canvas, random, words from the held-out side) -> an example"""


def image_from_caption(scene: Scene, caption: str, size: Size, rng: np.random.Generator, heldout: bool) -> Example:
    """Text to image (T2I)."""
    return Example(caption, Sheet(scene, size))


def reconstruct(scene: Scene, caption: str, size: Size, rng: np.random.Generator, heldout: bool) -> Example:
    """The same image again (I2I)."""
    sheet = Sheet(scene, size, choose_mark(rng, size, scene))
    return Example(KEEP, sheet, sheet)


def change_word(scene: Scene, caption: str, size: Size, rng: np.random.Generator, heldout: bool) -> Example:
    """Other letters, as many as before, so that the same cells hold them."""
    n = len(scene.word)
    word = scene.word
    while word == scene.word:
        word = choose_word(rng, n, n, heldout)
    return edit(f'change the word to "{word}"', scene, replace(scene, word=word), size, rng)


def change_ink(scene: Scene, caption: str, size: Size, rng: np.random.Generator, heldout: bool) -> Example:
    """Another colour that is legible on the background; no background has one legible ink alone."""
    inks = [ink for ink in INKS if ink != scene.ink and scene.background in backgrounds(ink)]
    new = replace(scene, ink=str(rng.choice(inks)))
    return edit(f"make the word {new.ink}", scene, new, size, rng)


def change_position(scene: Scene, caption: str, size: Size, rng: np.random.Generator, heldout: bool) -> Example:
    """Another row, another column or both, so that at least one letter moves."""
    indices = [(row, column) for row in ROWS for column in COLUMNS]
    moved = [replace(scene, row=row, column=column) for row, column in indices]
    here = render(scene, size)
    others = [new for new in moved if not np.array_equal(render(new, size), here)]
    new = others[int(rng.integers(len(others)))]
    return edit(f"move the word to the {new.row} {new.column}", scene, new, size, rng)


def edit(instruction: str, before: Scene, after: Scene, size: Size, rng: np.random.Generator) -> Example:
    """The two scenes with one and the same mark."""
    mark = choose_mark(rng, size, before, after)
    return Example(instruction, Sheet(after, size, mark), Sheet(before, size, mark))


def choose_mark(rng: np.random.Generator, size: Size, *scenes: Scene) -> Mark | None:
    """A mark in a cell in whose column no word stands in any of the scenes; None when there is no such column."""
    taken = {first_cell(scene, size[1]) + i for scene in scenes for i in range(len(scene.word))}
    free = [column for column in range(size[1] // CELL) if column not in taken]
    ground = np.asarray(COLOURS[scenes[0].background], dtype=float)
    seen = [name for name, rgb in COLOURS.items() if np.abs(np.asarray(rgb) - ground).max() >= MARK_CONTRAST]
    shape, colour = str(rng.choice(SHAPES)), str(rng.choice(seen))
    row, chance = int(rng.integers(size[0] // CELL)), float(rng.random())
    return Mark(shape, colour, row, free[int(chance * len(free))]) if free else None
