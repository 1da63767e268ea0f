"""How runs that were watched did on held-out prompts while they trained: by time, and by images scored.

Of a variant's seeds the mean is followed, and the band from the least to the greatest. Time is training's own: looks
are taken out. Between looks scores are read off a straight line.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments.record.record import read_run
from experiments.report.charts import Band, band_chart
from experiments.report.page_style import INKS
from experiments.report.page_words import duration, number, signed

SCORE = "read/ocr"
"""1 - NED by the engine of the rewards, of prompts that nothing trains on"""


@dataclass(frozen=True)
class Course:
    """One run, or the mean of several: a point a look, the first before training."""

    updates: tuple[float, ...]
    seconds: tuple[float, ...]
    pictures: tuple[float, ...]
    """sampled and scored; all 0 when training samples none"""
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Variant:
    """Runs that differ by their seed."""

    name: str
    mean: Course
    low: tuple[float, ...]
    high: tuple[float, ...]


def course(folder: Path) -> Course | None:
    """Of a run; None when it was not watched, or is not finished."""
    run = read_run(folder)
    if run.status != "finished" or not run.monitors:
        return None
    cfg = run.config["experiment"]["algorithm"]
    each = cfg.get("prompts", 0) * cfg.get("group", 0)
    logged = {int(line["step"] or 0): float(line["seconds"] or 0.0) for line in run.metrics}
    first, *checks = run.monitors
    looking = float(first["seconds"])  # and what came before the first update
    updates, seconds, images, scores = [0.0], [0.0], [0.0], [float(first[SCORE])]
    for check in checks:
        step = int(check["step"])
        updates.append(float(step + 1))
        seconds.append(logged[step] - looking)
        looking += float(check["seconds"]) - logged[step]
        images.append(float((step + 1) * each))
        scores.append(float(check[SCORE]))
    return Course(tuple(updates), tuple(seconds), tuple(images), tuple(scores))


def variant(name: str, folders: Sequence[Path]) -> Variant | None:
    """The runs in these folders; None when none of them was watched to its end."""
    runs = [result for folder in folders if (result := course(folder))]
    if not runs:
        return None
    scores = np.array([run.scores for run in runs])
    seconds = tuple(np.mean([run.seconds for run in runs], 0).tolist())
    mean = Course(runs[0].updates, seconds, runs[0].pictures, tuple(scores.mean(0).tolist()))
    return Variant(name, mean, tuple(scores.min(0).tolist()), tuple(scores.max(0).tolist()))


def at_pace(result: Variant, seconds: float) -> Variant:
    """The variant as if every update had taken these seconds: when its own clock ran beside other work."""
    return replace(result, mean=replace(result.mean, seconds=tuple(seconds * n for n in result.mean.updates)))


def at(indices: Sequence[float], scores: Sequence[float], position: float) -> float:
    """The score there; NaN beyond the last look."""
    return float(np.interp(position, indices, scores)) if position <= indices[-1] + 1e-9 else math.nan


def reached(indices: Sequence[float], scores: Sequence[float], score: float) -> float:
    """Where the score is reached first; NaN when it is not."""
    for (a, low), (b, high) in itertools.pairwise(zip(indices, scores, strict=True)):
        if low < score <= high:
            return a + (b - a) * (score - low) / (high - low)
    return math.nan


def table(variants: Sequence[Variant]) -> list[str]:
    """Everything against the first: at the same time, at the same images, and what its last score costs.

    That score is dated where each variant reached it first, the first one itself not excepted.
    """
    if not variants:
        return []
    first = variants[0]
    target = first.mean.scores[-1]
    cost = reached(first.mean.seconds, first.mean.scores, target)
    time = min(each.mean.seconds[-1] for each in variants)
    samples = min((each.mean.pictures[-1] for each in variants if each.mean.pictures[-1]), default=0.0)
    heads = [
        "variant", "start", "end (seeds from, to)", f"at {duration(time)}", f"at {samples:.0f} images",
        f"time to {number(target)}", f"{first.name} / this", "training",
    ]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for each in variants:
        own = each.mean
        needed = reached(own.seconds, own.scores, target)
        band = f"{number(own.scores[-1])} ({number(each.low[-1])}, {number(each.high[-1])})"
        cells = [
            each.name, number(own.scores[0]), band,
            gained(own, at(own.seconds, own.scores, time)),
            gained(own, at(own.pictures, own.scores, samples)) if own.pictures[-1] else "–",
            duration(needed) if math.isfinite(needed) else "not reached",
            f"{cost / needed:.2f}" if math.isfinite(cost / needed) else "–", duration(own.seconds[-1]),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def gained(own: Course, score: float) -> str:
    """What was gained since the start."""
    return signed(score - own.scores[0]) if math.isfinite(score) else "–"


def figures(variants: Sequence[Variant], inks: Mapping[str, str]) -> list[tuple[str, str]]:
    """(title, chart) of the held-out score by time and by images."""
    results = []
    for title, axis in (("seconds of training", "seconds"), ("images scored", "pictures")):
        bands = [
            Band(each.name, getattr(each.mean, axis), each.mean.scores, each.low, each.high, inks[each.name])
            for each in variants if getattr(each.mean, axis)[-1] > 0
        ]  # fmt: skip
        if bands:
            results.append((f"1 − NED, held out, by {title}", band_chart(f"1 − NED by {title}", bands)))
    return results


def charts(variants: Sequence[Variant], inks: Mapping[str, str]) -> str:
    """The charts as a part of a page."""
    shown = [
        f"<figure><figcaption><b>{title}</b>; bands: all seeds</figcaption>{chart}</figure>"
        for title, chart in figures(variants, inks)
    ]
    return f'<div class="charts">{"".join(shown)}</div>' if shown else ""


def ink_of(variants: Sequence[str]) -> dict[str, str]:
    """A colour class for each name."""
    return {name: f"ink-{(i + 2) % INKS}" for i, name in enumerate(variants)}
