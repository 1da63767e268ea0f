"""What a written image is, and the settings that it is a function of. Shapes: HW3 pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from base_model.data.writing.faces import language_named

KINDS = ("pure", "compositional", "complex")
LEAST_SIDE, MOST_SIDE = 32, 4096
Colour = tuple[int, int, int]
Quad = tuple[tuple[float, float], ...]
"""corners in pixels: top left, top right, bottom right and bottom left of what they are round, as it is read"""


class Unwritable(Exception):
    """A text that cannot be written as a whole, with the face and the reason; another one is taken.

    `remedy` is what to do where none can be written.
    """

    def __init__(self, face: str, reason: str, remedy: str = "take a larger size, or shorter texts") -> None:
        super().__init__(f"{face}: {reason}")
        self.face, self.reason, self.remedy = face, reason, remedy


class Photographs(Protocol):
    """Images that text is put into."""

    def __len__(self) -> int: ...

    def pixels(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]"""
        ...

    def caption(self, index: int) -> str:
        """What it shows; "" where nobody said."""
        ...


@dataclass(frozen=True)
class Line:
    """A line as it stands in the image."""

    text: str
    quad: Quad
    characters: tuple[tuple[str, Quad], ...]
    """each with what is round its ink; blanks have none"""
    face: str
    style: str
    """of the face, as in `faces.Face`"""
    weight: int
    size: float
    """em size in pixels"""
    colour: str
    """name of the ink, a key of `grounds.COLOURS`"""
    ink: Colour


@dataclass(frozen=True)
class WrittenImage:
    """Pixels, and everything that is known about them."""

    pixels_HW3: np.ndarray
    kind: str
    """`pure`, or a kind and what it shows, such as `complex/menu`"""
    language: str
    text: str
    """all of it: paragraphs as they were before they were broken into lines"""
    lines: tuple[Line, ...]
    captions: tuple[str, ...]
    """in English and in Chinese"""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def record(self, file_name: str) -> dict[str, Any]:
        """A row of captions.jsonl."""
        lines = [
            {
                "text": line.text, "quad": rounded(line.quad), "face": line.face, "weight": line.weight,
                "size": round(line.size, 1), "colour": line.colour, "ink": list(line.ink),
                "characters": [[character, rounded(quad)] for character, quad in line.characters],
            }
            for line in self.lines
        ]  # fmt: skip
        return {
            "file_name": file_name, "text": list(self.captions), "kind": self.kind, "language": self.language,
            "written": self.text, "lines": lines, **self.facts,
        }  # fmt: skip


def rounded(quad: Quad) -> list[list[float]]:
    """Corners to a tenth of a pixel."""
    return [[round(float(x), 1), round(float(y), 1)] for x, y in quad]


def upright(left: float, top: float, right: float, bottom: float) -> Quad:
    """The corners of a box whose sides are parallel to the image's."""
    return (left, top), (right, top), (right, bottom), (left, bottom)


@dataclass(frozen=True)
class Writing:
    """Which images are written. Raises ValueError for settings that cannot work."""

    seed: int = 0
    """of everything that is drawn by lot"""
    kinds: tuple[str, ...] = ("pure",)
    """pure, compositional, complex, in equal shares; one that is named twice is written twice as often"""
    languages: tuple[str, ...] = ("en",)
    """en, zh-Hans (or zh), zh-Hant, ja, ko, in equal shares"""
    size: tuple[int, int] = (512, 512)
    """height and width in pixels"""
    length: tuple[int, int] = (8, 160)
    """fewest and most letters of a paragraph; half as many Chinese, Japanese or Korean characters"""
    rare: float = 0.1
    """share of pure images that show characters of a language's standard set one after the other, so that all appear"""

    def __post_init__(self) -> None:
        if not self.kinds or (wrong := [kind for kind in self.kinds if kind not in KINDS]):
            raise ValueError(f"kinds={','.join(wrong) if self.kinds else ''!r} must be of {', '.join(KINDS)}")
        if not self.languages:
            raise ValueError("no language is named; name one or several, such as en,zh")
        object.__setattr__(self, "languages", tuple(language_named(name) for name in self.languages))
        if not LEAST_SIDE <= min(self.size) <= max(self.size) <= MOST_SIDE:
            raise ValueError(f"size={self.size} must be from {LEAST_SIDE} to {MOST_SIDE} pixels, height and width")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must be at least 0")
        if not 1 <= self.length[0] <= self.length[1]:
            raise ValueError(f"length={self.length} must be the fewest and the most letters, at least 1")
        if not 0.0 <= self.rare <= 1.0:
            raise ValueError(f"rare={self.rare} must be a share from 0 to 1")


def bounds(quads: Sequence[Quad]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what corners are round."""
    points = np.asarray(quads).reshape(-1, 2)
    return float(points[:, 0].min()), float(points[:, 1].min()), float(points[:, 0].max()), float(points[:, 1].max())
