"""Scores -> training pairs. A tie never becomes a win, and an image that was not judged neither wins nor loses.

Shapes: P prompts, G images of one prompt.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from preference_data.atomic_files import replacing
from preference_data.line_files import read_json_lines
from preference_data.records import ImageRef, PreferencePair, Prompt, pair_from_json, to_json

MACHINE = "machine:"


@dataclass(frozen=True)
class PairCounts:
    """What became of P groups of images; groups = pairs + ties + too_close + unjudged_groups.

    ties: best and worst score equal. too_close: they differ by less than the minimum. unjudged_groups: fewer than two
    images with a score. unjudged_pictures: images without a score, in any group. margins: (from, to, count) bins of
    best minus worst over the pairs, the last bin closed; () when there are none.
    """

    groups: int
    pairs: int
    ties: int
    too_close: int
    unjudged_groups: int
    unjudged_pictures: int
    margins: tuple[tuple[float, float, int], ...]


def best_and_worst(
    prompts: Sequence[Prompt],
    scores_PG: Sequence[Sequence[float]],
    images_PG: Sequence[Sequence[ImageRef]],
    *,
    source: str,
    min_margin: float = 0.0,
    per_prompt: int = 1,
) -> list[PreferencePair]:
    """The image with the greatest score against the one with the least; then the second of both, and so on.

    At most ``per_prompt`` pairs a prompt, in which no image stands twice. No pair where two are equal, closer than
    ``min_margin`` (in score units), or not scored. Of equally good images the first in the group goes first.
    ``source`` names the scorer; "machine:" is put in front when it lacks it, for no person was asked. ``outcome`` is
    "left" when the better image came first in its group. ValueError when the three lengths do not match.
    """
    _check(prompts, scores_PG, images_PG, min_margin, per_prompt)
    label = source if source.startswith(MACHINE) else MACHINE + source
    pairs = []
    for prompt, scores_G, images_G in zip(prompts, scores_PG, images_PG, strict=True):
        for best, worst in _extremes(scores_G)[:per_prompt]:
            margin = float(scores_G[best]) - float(scores_G[worst])
            if margin > 0 and margin >= min_margin:
                outcome = "left" if best < worst else "right"
                pairs.append(PreferencePair(prompt, images_G[best], images_G[worst], label, margin, outcome))
    return pairs


def summary(scores_PG: Sequence[Sequence[float]], *, min_margin: float = 0.0, bins: int = 10) -> PairCounts:
    """Count what the best and the worst of each group become and why, with a histogram of their margins."""
    margins: list[float] = []
    ties = too_close = unjudged = 0
    for scores_G in scores_PG:
        extremes = _extremes(scores_G)
        if not extremes:
            unjudged += 1
            continue
        best, worst = extremes[0]
        margin = float(scores_G[best]) - float(scores_G[worst])
        if margin == 0:
            ties += 1
        elif margin < min_margin:
            too_close += 1
        else:
            margins.append(margin)
    missing = sum(not math.isfinite(float(score)) for scores_G in scores_PG for score in scores_G)
    return PairCounts(len(scores_PG), len(margins), ties, too_close, unjudged, missing, _histogram(margins, bins))


def save(pairs: Sequence[PreferencePair], path: Path) -> None:
    """Write one JSON object a line; the file is replaced whole or not at all."""
    with replacing(path) as file:
        for pair in pairs:
            file.write((json.dumps(to_json(pair), ensure_ascii=False) + "\n").encode())


def load(path: Path) -> list[PreferencePair]:
    """Read what ``save`` wrote. ValueError with the line number when a line is damaged or not a pair."""
    pairs = []
    for number, row in read_json_lines(path):
        try:
            pairs.append(pair_from_json(row))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} line {number}: {error}") from error
    return pairs


def _extremes(scores_G: Sequence[float]) -> list[tuple[int, int]]:
    """Places of (best, worst), (second best, second worst), ... of finite scores; the first of equals goes first."""
    judged = [i for i, score in enumerate(scores_G) if math.isfinite(float(score))]
    falling = sorted(judged, key=lambda i: -float(scores_G[i]))
    rising = sorted(judged, key=lambda i: float(scores_G[i]))
    return list(zip(falling, rising, strict=True))[: len(judged) // 2]


def _check(
    prompts: Sequence[Prompt],
    scores_PG: Sequence[Sequence[float]],
    images_PG: Sequence[Sequence[ImageRef]],
    min_margin: float,
    per_prompt: int,
) -> None:
    if not len(prompts) == len(scores_PG) == len(images_PG):
        lengths = f"{len(prompts)} prompts, {len(scores_PG)} rows of scores, {len(images_PG)} rows of images"
        raise ValueError(f"{lengths}; each prompt needs one row of both")
    for prompt, scores_G, images_G in zip(prompts, scores_PG, images_PG, strict=True):
        if len(scores_G) != len(images_G):
            raise ValueError(f"prompt {prompt.id} has {len(scores_G)} scores but {len(images_G)} images")
    if not min_margin >= 0:
        raise ValueError(f"min_margin is {min_margin}; it is a least difference of scores and cannot be negative")
    if per_prompt < 1:
        raise ValueError(f"per_prompt is {per_prompt}; ask for at least one pair a prompt")


def _histogram(values: Sequence[float], bins: int) -> tuple[tuple[float, float, int], ...]:
    if not values:
        return ()
    low, high = min(values), max(values)
    width = (high - low) / bins
    counts = [0] * bins
    for value in values:
        counts[min(int((value - low) / width), bins - 1) if width else 0] += 1
    if not width:
        return ((low, high, len(values)),)
    return tuple((low + i * width, low + (i + 1) * width, count) for i, count in enumerate(counts))
