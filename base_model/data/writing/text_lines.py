"""Text to lines: where they break, how large they may be, and where every character's ink stands.

A text is written as a whole or not at all: what the lines say, joined again, is compared with it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from base_model.data.writing.faces import Face, font
from base_model.data.writing.written_image import Colour, Line, Quad, upright

NO_START = frozenset(
    "，。、；：？！）】》」』〉〕’”…—·％,.;:?!)]}%ーぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ々〜ゝゞヽヾ"
)
"""Characters that no line begins with (kinsoku; GB/T 15834)."""
NO_END = frozenset("（【《「『〈〔‘“([{$￥£")
Align = Literal["left", "centre", "right"]
MEASURED = 64
"""em size in pixels at which widths are measured that are then scaled"""
SHARES = {"left": 0.0, "centre": 0.5, "right": 1.0}


@dataclass(frozen=True)
class Type:
    """A face at a weight and an em size in pixels."""

    face: Face
    weight: int
    size: int

    def width(self, text: str) -> float:
        """What a text takes on a line, in pixels."""
        return sum(advance(self.face, self.weight, self.size, c) for c in text)


@functools.lru_cache(maxsize=50_000)
def advance(face: Face, weight: int, size: int, character: str) -> float:
    """From a character's origin to the next one's, in pixels."""
    return float(font(face, weight, size).getlength(character))


@functools.lru_cache(maxsize=50_000)
def ink_box(face: Face, weight: int, size: int, character: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a character's ink, from the origin on the line's ascent."""
    mask, (x, y) = font(face, weight, size).getmask2(character, mode="L")
    left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
    return float(x + left), float(y + top), float(x + right), float(y + bottom)


def is_wide(character: str) -> bool:
    """Whether a line may break at both sides of a character: Chinese and Japanese ones, and their punctuation."""
    point = ord(character)
    return 0x2E80 <= point <= 0xA4CF or 0xF900 <= point <= 0xFAFF or 0xFF00 <= point <= 0xFF60 or point >= 0x20000


def pieces(text: str) -> list[str]:
    """The runs between which a line may break; blanks are runs of their own."""
    runs: list[str] = []
    for character in text:
        last = runs[-1][-1] if runs else " "
        breaks = is_wide(character) or is_wide(last)
        if character == " " or last == " " or (breaks and last not in NO_END and character not in NO_START):
            runs.append(character)
        else:
            runs[-1] += character
    return runs


def broken(text: str, measure: Callable[[str], float], width: float) -> list[str] | None:
    """The lines of a text in a width, by what each run takes; None where a run is wider than that."""
    lines, line, used = [], "", 0.0
    for run in pieces(text):
        needed = measure(run)
        if needed > width:
            return None
        if used + needed > width and line.strip():
            lines.append(line.rstrip())
            line, used = "", 0.0
        if run != " " or line:
            line, used = line + run, used + needed
    lines = [*lines, line.rstrip()] if line.strip() else lines
    assert "".join(lines).replace(" ", "") == text.replace(" ", ""), "a text is written whole"
    return lines


def fitted(
    text: str, face: Face, weight: int, box: tuple[float, float], sizes: tuple[int, int], leading: float
) -> tuple[Type, list[str]] | None:
    """The largest size of a range at which a text stands in a box (width, height), with its lines; None for none.

    Sizes are tried by widths that are measured once and scaled, since a font of each size takes time and memory; the
    one that is taken is measured itself. What fits is not monotone where lines break anew, so the best size counts.
    """

    def lines_at(size: int, measure: Callable[[str], float]) -> list[str] | None:
        lines = broken(text, measure, box[0])
        return lines if lines and (len(lines) - 1) * size * leading + size * 1.2 <= box[1] else None

    low, high = sizes
    best = low
    while low <= high:
        middle = (low + high) // 2
        scale = middle / MEASURED
        if lines_at(middle, lambda run, scale=scale: scale * Type(face, weight, MEASURED).width(run)):  # type: ignore[misc]
            best, low = middle, middle + 1
        else:
            high = middle - 1
    for size in range(best, sizes[0] - 1, -1):
        kind = Type(face, weight, size)
        if lines := lines_at(size, kind.width):
            return kind, lines
    return None


@dataclass(frozen=True)
class Placed:
    """A line at its place, in pixels of the canvas that it is rendered on."""

    text: str
    kind: Type
    origin: tuple[float, float]
    """left end of the line, and its ascent"""
    characters: tuple[tuple[str, Quad], ...]
    quad: Quad


def placed(
    lines: Sequence[str], kind: Type, box: tuple[float, float, float], leading: float, align: Align
) -> list[Placed]:
    """Lines one below the other from (left, top) in a width."""
    left, top, width = box
    rows = []
    for i, text in enumerate(lines):
        x = round(left + SHARES[align] * (width - kind.width(text)))
        y = round(top + i * kind.size * leading)
        rows.append(_line(text, kind, x, y))
    return rows


def _line(text: str, kind: Type, x: float, top: float) -> Placed:
    """A line whose em box begins at (x, top). The em box is in the middle of ascent and descent, which differ much
    from face to face."""
    ascent, descent = font(kind.face, kind.weight, kind.size).getmetrics()
    y = top + round((kind.size * 1.2 - (ascent + descent)) / 2)
    characters, cursor = [], x
    for character in text:
        if character != " ":
            left, upper, right, lower = ink_box(kind.face, kind.weight, kind.size, character)
            characters.append((character, upright(cursor + left, y + upper, cursor + right, y + lower)))
        cursor += advance(kind.face, kind.weight, kind.size, character)
    boxes = np.asarray([quad for _, quad in characters])
    upper, lower = min(boxes[:, 0, 1].min(), top), max(boxes[:, 2, 1].max(), top + kind.size)
    left, right = min(boxes[:, 0, 0].min(), x), max(boxes[:, 2, 0].max(), cursor)
    return Placed(text, kind, (x, y), tuple(characters), upright(left, upper, right, lower))


def render_lines(image: Image.Image, rows: Sequence[Placed], ink: Colour) -> None:
    """Put lines into an image."""
    pen = ImageDraw.Draw(image)
    for row in rows:
        pen.text(row.origin, row.text, fill=ink, font=font(row.kind.face, row.kind.weight, row.kind.size))


def as_line(row: Placed, colour: str, ink: Colour) -> Line:
    """What is recorded of a line."""
    kind = row.kind
    return Line(
        row.text, row.quad, row.characters, kind.face.name, kind.face.style, kind.weight, float(kind.size), colour, ink
    )
