"""Reads written lines back: each is straightened by its known corners and read by the recogniser alone.

Without a detector the label is what is tested, not whether a detector finds it. Letters and digits are compared, in
compatibility forms and small letters; what engines confuse anywhere (1 and l) counts as wrong here too. The engine
knows no Korean: tesseract reads those lines where it is installed with Korean data, and nobody where it is not.

A gate that drops what an engine cannot read selects what the engine likes, so `GATE` drops nothing: it is counted what
it would drop, by face, script and size.
"""

from __future__ import annotations

import csv
import functools
import io
import os
import shutil
import subprocess
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.record.intervals import in_brackets
from preference_data.statistics.shares import share

PADDING = 0.12
"""of a line's height, round it"""
LEAST_HEIGHT = 48
SIZES = (14, 20, 32)
"""em sizes between which lines are counted apart"""
GATE = 0.5
"""likeness below which a gate would drop a line"""
SCRIPTS = {
    "en": "Latin", "zh-Hans": "simplified Chinese", "zh-Hant": "traditional Chinese", "ja": "Japanese", "ko": "Korean"
}  # fmt: skip
"""by language"""
BY = ("script", "face", "size_group")
NOBODY = "no lines that an engine can judge (Korean: apt-get install tesseract-ocr tesseract-ocr-kor)"
WORST = 12
"""combinations of face, script and size that are printed"""
COLUMNS = ("by", "group", "lines", "exact", "exact_low", "exact_high", "likeness", "dropped", "dropped_low",
           "dropped_high")  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """A line, and what was read."""

    text: str
    read: str
    face: str
    language: str
    kind: str
    size: float
    image: str = ""
    """the file that it stands in: lines of one image are one unit of an interval"""

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
    def script(self) -> str:
        """The script of the line's language."""
        return SCRIPTS.get(self.language, self.language)

    @property
    def size_group(self) -> str:
        """The range of em sizes in pixels that the line is of."""
        return size_group(self.size)


def size_group(size: float) -> str:
    """The range of `SIZES` that an em size in pixels is in."""
    low = max((bound for bound in SIZES if size >= bound), default=0)
    high = next((bound for bound in SIZES if size < bound), 0)
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


@functools.cache
def reads_korean() -> bool:
    """Whether tesseract is installed with its Korean data."""
    program = shutil.which("tesseract")
    listed = subprocess.run([program, "--list-langs"], capture_output=True, text=True).stdout if program else ""
    return "kor" in listed.split()


def read_korean(line_HW3: np.ndarray) -> str:
    """What tesseract reads in an upright line."""
    import cv2

    from rewards.text.reading.tesseract import BORDER

    framed = np.pad(line_HW3, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge")
    png = cv2.imencode(".png", framed[..., ::-1])[1].tobytes()
    done = subprocess.run(
        ["tesseract", "stdin", "stdout", "-l", "kor", "--psm", "7"], input=png, capture_output=True, check=True,
        timeout=60, env={**os.environ, "OMP_THREAD_LIMIT": "1"},
    )  # fmt: skip
    return done.stdout.decode("utf-8").strip()


def read_line(pixels_HW3: np.ndarray, quad: Sequence[Sequence[float]], language: str = "en") -> str:
    """What the language's engine reads in a line of an image."""
    from rewards.text.reading.read_page import as_line

    line_HW3 = straightened(pixels_HW3, quad)
    return read_korean(line_HW3) if language == "ko" else str(recogniser().read(as_line(line_HW3)).text)


def check_lines(pixels_HW3: np.ndarray, row: Mapping[str, Any]) -> list[Checked]:
    """The lines of an image, given as its row of captions.jsonl, that an engine can read."""
    language = row["language"]
    if language == "ko" and not reads_korean():
        return []
    return [
        Checked(line["text"], read_line(pixels_HW3, line["quad"], language), line["face"], language, row["kind"],
                line["size"], str(row["file_name"]))
        for line in row["lines"] if compared(line["text"])
    ]  # fmt: skip


def summary(lines: Iterable[Checked]) -> list[dict[str, Any]]:
    """A row for all lines, each kind, script, size and face, and each combination of face, script and size.

    Rows have `COLUMNS`: shares of lines that are read exactly and that a gate would drop, with intervals by image. The
    worst of what is grouped alike come first.
    """
    lines = list(lines)
    rows = [_row("all", "", lines)] if lines else []
    ways: dict[str, Callable[[Checked], str]] = {
        name: lambda line, name=name: str(getattr(line, name)).split("/")[0] for name in ("kind", *BY)
    }
    ways["face, script and size"] = lambda line: "; ".join((line.face, line.script, line.size_group))
    for by, named in ways.items():
        groups: dict[str, list[Checked]] = {}
        for line in lines:
            groups.setdefault(named(line), []).append(line)
        rows += sorted((_row(by, group, own) for group, own in groups.items()), key=lambda row: row["exact"])
    return rows


def _row(by: str, group: str, lines: Sequence[Checked]) -> dict[str, Any]:
    images = {name: i for i, name in enumerate(dict.fromkeys(line.image for line in lines))}
    cluster_N, weight_N = np.array([images[line.image] for line in lines]), np.ones(len(lines))
    exact, dropped = (
        share(np.array(values, float), weight_N, cluster_N)
        for values in ([line.exact for line in lines], [line.likeness < GATE for line in lines])
    )
    likeness = sum(line.likeness for line in lines) / len(lines)
    values = (by, group, len(lines), exact.value, exact.low, exact.high, likeness, dropped.value, dropped.low,
              dropped.high)  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Rows of `summary` as lines for a terminal: of combinations the worst alone."""
    if not rows:
        return [NOBODY]
    shown = [f"{rows[0]['lines']} lines read back: {_shares(rows[0])}"]
    for by in dict.fromkeys(row["by"] for row in rows[1:]):
        own = [row for row in rows if row["by"] == by]
        crossed = by not in ("kind", *BY)
        shown.append(f"by {by.replace('_group', '')}{', the worst' if crossed and len(own) > WORST else ''}:")
        shown += [
            f"  {row['group']:24} {row['lines']:5} lines  {_shares(row)}" for row in own[: WORST if crossed else None]
        ]
    return shown


def _shares(row: dict[str, Any]) -> str:
    exact, dropped = (
        f"{row[name]:.3f} {in_brackets(row[f'{name}_low'], row[f'{name}_high'], '.3f')}"
        for name in ("exact", "dropped")
    )
    return f"{exact} exactly, likeness {row['likeness']:.4f}, a gate would drop {dropped}"


def as_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """All rows of `summary` as a table for other programs."""
    content = io.StringIO()
    writer = csv.DictWriter(content, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return content.getvalue().encode()
