"""Reads written lines back: each is straightened by its known corners and read by the recogniser alone.

Without a detector the label is what is tested, not whether a detector finds it. Letters and digits are compared, in
compatibility forms and small letters; what engines confuse anywhere (1 and l) counts as wrong here too. The engine
knows no Korean: those lines are not judged.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PADDING = 0.12
"""of a line's height, round it"""
LEAST_HEIGHT = 48
SIZES = (14, 20, 32)
"""em sizes between which lines are counted apart"""


@dataclass(frozen=True)
class Checked:
    """A line, and what was read."""

    text: str
    read: str
    face: str
    language: str
    kind: str
    size: float

    @property
    def exact(self) -> bool:
        """Whether every letter and digit was read."""
        return compared(self.text) == compared(self.read)

    @property
    def likeness(self) -> float:
        """1 - edit distance by the longer text's length."""
        from rapidfuzz.distance import Levenshtein

        return float(Levenshtein.normalized_similarity(compared(self.text), compared(self.read)))

    @property
    def size_group(self) -> str:
        """The range of em sizes in pixels that the line is of."""
        low = max((bound for bound in SIZES if self.size >= bound), default=0)
        high = next((bound for bound in SIZES if self.size < bound), 0)
        return f"{low}-{high - 1} px" if high else f"from {low} px"


def compared(text: str) -> str:
    """Letters and digits of a text, as they are compared."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if unicodedata.category(c)[0] in "LN")


def straightened(pixels_HW3: np.ndarray, quad: Sequence[Sequence[float]]) -> np.ndarray:
    """A line cut out by its corners and turned upright, with a margin."""
    import cv2

    corners = np.asarray(quad, np.float32)
    right, down = corners[1] - corners[0], corners[3] - corners[0]
    width, height = float(np.linalg.norm(right)), float(np.linalg.norm(down))
    edge = PADDING * height
    along, across = right / max(width, 1.0) * edge, down / max(height, 1.0) * edge
    corners += np.asarray([-along - across, along - across, along + across, across - along], np.float32)
    scale = max(1.0, LEAST_HEIGHT / (height + 2 * edge))
    columns, rows = (max(8, round(scale * (side + 2 * edge))) for side in (width, height))
    target = np.asarray([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32)
    camera = cv2.getPerspectiveTransform(corners, target)
    cut = cv2.warpPerspective(
        pixels_HW3, camera, (columns, rows), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(cut)


@functools.cache
def recogniser() -> Any:
    """The engine that lines are read with."""
    from rewards.text.recognisers import V6, OnnxRecogniser, find_weights

    return OnnxRecogniser(find_weights(V6))


def read_line(pixels_HW3: np.ndarray, quad: Sequence[Sequence[float]]) -> str:
    """What the engine reads in a line of an image."""
    from rewards.text.reading.read_page import as_line

    return str(recogniser().read(as_line(straightened(pixels_HW3, quad))).text)


def check_lines(pixels_HW3: np.ndarray, row: Mapping[str, Any]) -> list[Checked]:
    """The lines of an image, given as its row of captions.jsonl, that the engine can judge."""
    if row["language"] == "ko":
        return []
    return [
        Checked(line["text"], read_line(pixels_HW3, line["quad"]), line["face"], row["language"], row["kind"],
                line["size"])
        for line in row["lines"] if compared(line["text"])
    ]  # fmt: skip


def table(lines: Iterable[Checked]) -> list[str]:
    """Share of lines that are read exactly and mean likeness: by kind, language, size and face, the worst first."""
    lines = list(lines)
    rows = [f"{len(lines)} lines read back: {_share(lines)}"]
    for name in ("kind", "language", "size_group", "face"):
        groups: dict[str, list[Checked]] = {}
        for line in lines:
            groups.setdefault(getattr(line, name).split("/")[0], []).append(line)
        ordered = sorted(groups.items(), key=lambda item: sum(line.exact for line in item[1]) / len(item[1]))
        rows += [f"  {group:20} {len(own):5} lines  {_share(own)}" for group, own in ordered]
    return rows


def _share(lines: Sequence[Checked]) -> str:
    if not lines:
        return "none that the engine can judge"
    exact = sum(line.exact for line in lines) / len(lines)
    return f"{exact:.3f} exactly, likeness {sum(line.likeness for line in lines) / len(lines):.4f}"
