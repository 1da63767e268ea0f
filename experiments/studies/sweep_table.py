"""The table of a sweep: every variant on the same held-out prompts, and how far it is above the first.

Intervals are by prompt: the seeds of a variant are averaged prompt by prompt first, and variants are paired by prompt.
What seeds do is told beside it, as the least and the greatest mean. Prompts in two languages are told once together and
once apart.

Shapes: N seeds, P prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from base_model.data.rendered_chinese import is_chinese
from experiments.record.intervals import bootstrap_ci, paired_ci
from experiments.record.results import MAIN, Evaluation, column, read_evaluations, read_stage
from experiments.report.page_words import duration, number, signed

PARTS = {"ned": "1 - NED", "exact": "exact", "judge_ned": "gold 1 - NED", "judge_exact": "gold exact"}
"""What a table tells of a row of an evaluation, with its head."""


@dataclass(frozen=True)
class Arm:
    """What the runs of one variant gave on the evaluation prompts, averaged over seeds prompt by prompt."""

    name: str
    seeds: int
    """that finished"""
    parts: Mapping[str, np.ndarray]
    """[P] of every one of PARTS"""
    chinese_P: np.ndarray
    """whether the prompt asks for Chinese characters"""
    ned_NP: np.ndarray
    """1 - NED of every seed"""
    seconds: float
    """of training, mean over seeds"""
    failed: tuple[str, ...]
    """what went wrong, for every run that failed"""

    @property
    def means(self) -> tuple[float, ...]:
        """Mean 1 - NED of every seed."""
        return tuple(mean(values) for values in self.ned_NP)


def arm(name: str, folders: Sequence[Path]) -> Arm:
    """The runs of one variant, read from their folders. Prompts that no seed could judge are NaN."""
    evaluations, seconds, failed = [], [], []
    for folder in folders:
        stage = read_stage(folder, {})
        evaluation = stage.evaluation(MAIN) if stage.run.status == "finished" else None
        if evaluation is None:
            failed.append(stage.run.error or stage.run.status)
            continue
        seconds.append(stage.run.seconds)
        evaluations.append(evaluation)
    return measured(name, evaluations, float(np.mean(seconds)) if seconds else math.nan, failed)


def start_arms(name: str, folders: Sequence[Path]) -> list[Arm]:
    """What the runs of each seed began from, in every way that it was sampled; [] where it was not evaluated."""
    by_setting: dict[str, list[Evaluation]] = {}
    for folder in folders:
        for evaluation in read_evaluations(folder, {}):
            by_setting.setdefault(evaluation.setting, []).append(evaluation)
    return [
        measured(name if setting == MAIN else f"{name}, {setting}", evaluations)
        for setting, evaluations in by_setting.items()
    ]


def measured(
    name: str, evaluations: Sequence[Evaluation], seconds: float = math.nan, failed: Sequence[str] = ()
) -> Arm:
    """The mean over evaluations of the same prompts."""
    by_part = {part: [column(each.rows, part) for each in evaluations] for part in PARTS}
    chinese_P = np.array([is_chinese(row.target) for row in evaluations[0].rows] if evaluations else [], dtype=bool)
    parts = {part: over_seeds(values) for part, values in by_part.items()}
    return Arm(name, len(evaluations), parts, chinese_P, np.array(by_part["ned"]), seconds, tuple(failed))


def over_seeds(values: Sequence[np.ndarray]) -> np.ndarray:
    """[P] mean over the seeds that could be judged; [] without one."""
    if not values:
        return np.zeros(0)
    stacked = np.stack(values)
    known = (~np.isnan(stacked)).sum(0)
    mean: np.ndarray = np.where(known > 0, np.nansum(stacked, axis=0) / np.maximum(known, 1), np.nan)
    return mean


def tables(arms: Sequence[Arm]) -> list[str]:
    """The comparison as Markdown: of all prompts, and of each language where there are two."""
    lines = table(arms)
    if any(0 < each.chinese_P.sum() < len(each.chinese_P) for each in arms):
        for title, chinese in (("English", False), ("Chinese", True)):
            lines += ["", f"{title}:", "", *table([within(each, each.chinese_P == chinese) for each in arms])]
    notes = [f"- {each.name}: a run failed: {reason}" for each in arms for reason in each.failed]
    return [*lines, *(["", *notes] if notes else [])]


def within(each: Arm, chosen_P: np.ndarray) -> Arm:
    """The arm on some of its prompts."""
    parts = {part: values[chosen_P] for part, values in each.parts.items()}
    ned_NP = each.ned_NP[:, chosen_P] if each.seeds else each.ned_NP
    return replace(each, parts=parts, chinese_P=each.chinese_P[chosen_P], ned_NP=ned_NP)


def table(arms: Sequence[Arm]) -> list[str]:
    """One table. Differences are to the first variant that has a finished run."""
    first = next((each for each in arms if each.seeds), None)
    measures = [cell for name in PARTS.values() for cell in (name, "minus the first")]
    heads = ["variant", "seeds", *measures, "1 - NED of seeds, from", "to", "time"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for each in arms:
        if not each.seeds or first is None:
            lines.append(f"| {each.name} | 0 |" + " – |" * (len(heads) - 2))
            continue
        cells = [each.name, str(each.seeds)]
        for part in PARTS:
            own, base = each.parts[part], first.parts[part]
            cells += [with_interval(own), "" if each is first else difference(base, own)]
        took = duration(each.seconds) if math.isfinite(each.seconds) else ""
        cells += [number(min(each.means)), number(max(each.means)), took]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def with_interval(values_P: np.ndarray) -> str:
    """The mean over prompts with its interval."""
    low, high = bootstrap_ci(values_P, seed=0)
    return f"{number(mean(values_P))} ({number(low)} to {number(high)})"


def difference(before_P: np.ndarray, after_P: np.ndarray) -> str:
    """after - before over the same prompts, with its interval."""
    delta, low, high = paired_ci(before_P, after_P, seed=0)
    return f"{signed(delta)} ({signed(low)} to {signed(high)})"


def mean(values_P: np.ndarray) -> float:
    return math.nan if np.isnan(values_P).all() else float(np.nanmean(values_P))
