"""What run folders say, as plain numbers for a page or a table. No torch, so a dashboard can read it in milliseconds.

Where a run has a summary.json its numbers are shown; for other runs they are computed here from the evaluation files.

    run/summary.json                     only where several stages belong together
    run/[stage/]run.json, metrics.jsonl
    run/[stage/]evaluation/NAME.json     {"rows": [one a prompt], "diversity": x}; null = could not be judged
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.record.intervals import bootstrap_ci, paired_ci, unjudged
from experiments.record.record import Run, read_run

NAN = float("nan")
MAIN = "unguided"
"""The setting whose numbers stand at the top of a summary's entries."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; NaN where unknown."""

    value: float
    low: float = NAN
    high: float = NAN

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0.0 or self.high < 0.0


@dataclass(frozen=True)
class Row:
    """One held-out prompt in one setting."""

    prompt: str
    target: str
    ned: float
    exact: float
    read: str
    judge_ned: float
    judge_exact: float
    judge_read: str
    picture: Path | None


@dataclass(frozen=True)
class Evaluation:
    """Held-out prompts sampled in one way ("guided", "unguided") and read by two engines."""

    setting: str
    rows: tuple[Row, ...]
    exact: Interval
    """share of prompts whose word was read exactly"""
    ned: Interval
    """mean 1 - normalised edit distance"""
    judge_exact: float
    judge_ned: float
    diversity: float
    """mean root-mean-square pixel distance between images of one prompt"""
    prompts: int
    unjudged: int


@dataclass(frozen=True)
class Stage:
    """One training run and its evaluations."""

    name: str
    run: Run
    evaluations: tuple[Evaluation, ...]

    def evaluation(self, setting: str) -> Evaluation | None:
        return next((e for e in self.evaluations if e.setting == setting), None)


@dataclass(frozen=True)
class Paired:
    """How far `after` is above `before`, prompt by prompt."""

    after: str
    before: str
    measures: dict[str, Interval]
    """"ned" first; further "exact", "judge", "guided" where the run has them"""


@dataclass(frozen=True)
class Result:
    """A run folder: its stages, and what holds them together."""

    folder: Path
    run: Run
    """the folder's own record; of a run with a single stage, that stage's"""
    stages: tuple[Stage, ...]
    paired: tuple[Paired, ...]
    total_seconds: float
    peak_memory_mb: float
    notes: str
    """markdown"""
    headline: str = ""
    """what the run came to in a sentence, where its summary says it"""

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def evaluated(self) -> tuple[Stage, ...]:
        return tuple(stage for stage in self.stages if stage.evaluations)

    @property
    def settings(self) -> tuple[str, ...]:
        """Names of the evaluation settings, the main one first."""
        names = {e.setting for stage in self.stages for e in stage.evaluations}
        return tuple(sorted(names, key=lambda name: (name != MAIN, name)))


def read_result(folder: Path) -> Result:
    """Read a run of one stage or of several. Raises as `read_run`."""
    run = read_run(folder)
    summary = _json(folder / "summary.json", {})
    inner = [path.parent for path in sorted(folder.glob("*/run.json"))]
    stages = [read_stage(inside, summary.get("stages", {}).get(inside.name, {})) for inside in inner]
    named = list(summary.get("stages", {}))
    stages.sort(key=lambda s: (named.index(s.name) if s.name in named else -1, s.run.started))
    if run.metrics or not stages:
        stages.insert(0, read_stage(folder, {}))
    notes = folder / "notes.md"
    known = [_number(line.get("memory_gb")) for stage in stages for line in stage.run.metrics if "memory_gb" in line]
    memory = _json(folder / "memory.json", {"peak_mb": 1000.0 * max(known)} if known else {})
    return Result(
        folder, run, tuple(stages), tuple(_paired(summary.get("paired", {}))),
        total_seconds=float(summary.get("total_seconds", run.seconds)),
        peak_memory_mb=_number(summary.get("peak_memory_mb", memory.get("peak_mb"))),
        notes=notes.read_text(encoding="utf-8") if notes.exists() else "", headline=str(summary.get("headline", "")),
    )  # fmt: skip


def read_stage(folder: Path, summary: Mapping[str, Any]) -> Stage:
    """A folder with run.json and, perhaps, evaluations. `summary` is its entry in summary.json, {} without one."""
    return Stage(folder.resolve().name, read_run(folder), read_evaluations(folder, summary))


def read_evaluations(folder: Path, summary: Mapping[str, Any]) -> tuple[Evaluation, ...]:
    """The evaluations of a folder, that without guidance first; `summary` as for `read_stage`."""
    evaluations = []
    for path in sorted((folder / "evaluation").glob("*.json"), key=lambda p: (p.stem != MAIN, p.stem)):
        content = _json(path, {})
        rows = content["rows"] if isinstance(content, dict) else content
        diversity = _number(content.get("diversity")) if isinstance(content, dict) else NAN
        known = summary if path.stem == MAIN else summary.get(path.stem, {})
        evaluations.append(evaluated(path.stem, [_row(row, path.parent) for row in rows], diversity, known))
    return tuple(evaluations)


def evaluated(setting: str, rows: Sequence[Row], diversity: float, known: Mapping[str, Any]) -> Evaluation:
    """The means of an evaluation: those of the summary where `known` has them, else computed the same way."""
    measures = {name: column(rows, name) for name in ("exact", "ned", "judge_exact", "judge_ned")}
    exact, ned = (
        _interval(known, name) if name in known else Interval(_mean(values), *bootstrap_ci(values, seed=0))
        for name, values in (("exact", measures["exact"]), ("ned_score", measures["ned"]))
    )
    return Evaluation(
        setting, tuple(rows), exact, ned, _mean(measures["judge_exact"]), _mean(measures["judge_ned"]), diversity,
        len(rows), unjudged(measures["ned"]) if rows else 0,
    )  # fmt: skip


def compare(before: Evaluation, after: Evaluation) -> dict[str, Interval]:
    """Mean differences over the same prompts; {} when the prompts differ."""
    if [r.prompt for r in before.rows] != [r.prompt for r in after.rows]:
        return {}
    return {
        name: Interval(*paired_ci(column(before.rows, part), column(after.rows, part), seed=0))
        for name, part in (("ned", "ned"), ("exact", "exact"), ("judge", "judge_ned"))
    }


def column(rows: Sequence[Row], name: str) -> np.ndarray:
    """One number a prompt, NaN where it could not be judged."""
    return np.array([getattr(row, name) for row in rows], dtype=np.float64)


def _paired(entries: Mapping[str, Any]) -> list[Paired]:
    pairs = []
    for key, entry in entries.items():
        after, _, before = key.partition("_vs_")
        measures = {"ned": _difference(entry)}
        measures |= {name: _difference(part) for name, part in entry.items() if isinstance(part, Mapping)}
        pairs.append(Paired(after, before, measures))
    return pairs


def _difference(entry: Mapping[str, Any]) -> Interval:
    low, high = entry.get("ci") or (None, None)
    return Interval(_number(entry.get("delta")), _number(low), _number(high))


def _interval(entry: Mapping[str, Any], name: str) -> Interval:
    low, high = entry.get(f"{name}_ci") or (None, None)
    return Interval(_number(entry[name]), _number(low), _number(high))


def _row(row: Mapping[str, Any], folder: Path) -> Row:
    image = folder / row["picture"] if row.get("picture") else None
    if image is not None and not image.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder}: the image {row['picture']!r} lies outside of the evaluation's folder")
    numbers = {name: _number(row.get(name)) for name in ("ned", "exact", "judge_ned", "judge_exact")}
    return Row(
        str(row["prompt"]), str(row["target"]), numbers["ned"], numbers["exact"], str(row.get("read") or ""),
        numbers["judge_ned"], numbers["judge_exact"], str(row.get("judge_read") or ""), image,
    )  # fmt: skip


def _number(value: Any) -> float:
    return NAN if value is None else float(value)


def _mean(values: np.ndarray) -> float:
    return NAN if np.isnan(values).all() else float(np.nanmean(values))


def _json(path: Path, default: Any) -> Any:
    if not path.exists():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def evaluation_lines(stage: Stage) -> list[str]:
    """The evaluations of a stage as lines of text."""
    lines = [f"{'':10}{'exact':>7}{'95 %':>15}{'1-NED':>8}{'95 %':>15}{'gold':>8}{'diversity':>11}"]
    for e in stage.evaluations:
        exact, ned = (f"{i.low:.3f}-{i.high:.3f}" for i in (e.exact, e.ned))
        lines.append(
            f"{e.setting:10}{e.exact.value:7.3f}{exact:>15}{e.ned.value:8.3f}{ned:>15}{e.judge_ned:8.3f}{e.diversity:11.3f}"
        )
    return lines
