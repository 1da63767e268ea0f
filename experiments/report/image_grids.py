"""Images with what was read in them, as data URIs: the wall of all stages, and what a run sampled on its way."""

from __future__ import annotations

import base64
import io
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from experiments.record.record import Sample
from experiments.record.results import Evaluation, Result, Row, Stage
from preference_data.texts.normalised_text import RIGHT, UNKNOWN, WRONG

if TYPE_CHECKING:
    from PIL import Image

WIDTH = 192
"""Pixels an image is shown wide, at most; small ones are doubled, so that every pixel stays a square."""
MARKS = {"right": ("✓", f"{RIGHT}: "), "wrong": ("✗", f"{WRONG}: "), "unknown": ("?", UNKNOWN)}
STEPS = 6
"""Columns of the sample table."""
Column = tuple[Stage, Evaluation, dict[str, Row]]
"""A stage, its evaluation in one setting, and the rows of that by prompt."""


class Embedded(NamedTuple):
    """An image inside the page, and the size it is shown at."""

    width: int
    height: int
    uri: str


def embedded(path: Path | None) -> Embedded | None:
    """A PNG for a page; None where the file is missing."""
    if path is None or not path.exists():
        return None
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # of a PNG, whose header chunk is always first
    scale = max(WIDTH // width, 1)
    return Embedded(width * scale, height * scale, f"data:image/png;base64,{base64.b64encode(content).decode()}")


def data_uri(image: Image.Image, kind: str, quality: int = 75) -> str:
    """An image inside a page, as `kind` = png or jpeg; the quality is that of JPEG."""
    content = io.BytesIO()
    image.save(content, kind.upper(), **({"quality": quality} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def pictured(result: Result) -> list[tuple[str, list[Column]]]:
    """Every setting, and the stages that kept images of it, with their rows by prompt."""
    grids = []
    for name in result.settings:
        results = [(stage, stage.evaluation(name)) for stage in result.stages]
        columns = [
            (s, e, {r.prompt: r for r in e.rows}) for s, e in results if e and any(row.picture for row in e.rows)
        ]
        if columns:
            grids.append((name, columns))
    return grids


def telling(columns: Sequence[Column]) -> tuple[Row, str]:
    """One held-out prompt for the top of the page, and which it is: the first on which the stages differ."""
    rows = [row for row in columns[0][1].rows if row.picture]
    differing = [row for row in rows if differs(row.prompt, columns)]
    if not differing:
        return rows[0], "The first held-out prompt"
    return differing[0], f"The first of {len(rows)} held-out prompts that stages did not all write right or all wrong"


def differs(prompt: str, columns: Sequence[Column]) -> bool:
    """Whether some stage wrote the word of a prompt right and another one wrong."""
    exact = [rows[prompt].exact for _, _, rows in columns if prompt in rows]
    return len({value >= 1.0 for value in exact if not math.isnan(value)}) == 2


def sampled(samples: Sequence[Sample]) -> tuple[list[int], dict[str, list[Sample | None]]]:
    """At most `STEPS` updates after which a run sampled, and the images of each caption at them."""
    steps = sorted({sample.step for sample in samples})
    if len(steps) > STEPS:
        steps = [steps[round(i * (len(steps) - 1) / (STEPS - 1))] for i in range(STEPS)]
    at = {(sample.caption, sample.step): sample for sample in samples}
    captions = dict.fromkeys(s.caption for s in samples if s.step == steps[-1])
    return steps, {caption: [at.get((caption, step)) for step in steps] for caption in captions}
