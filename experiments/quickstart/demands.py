"""What is asked of finished quickstarts: means over prompts, differences and ratios, of one seed and of several.

Shapes: P prompts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.configs import nano_taste
from experiments.evaluation.evaluate import column
from experiments.preferences.simulated_people import people, wins
from experiments.quickstart.taste_summary import (
    LANGUAGES,
    VOTERS_SEED,
    Rows,
    facts_of,
    named_obeyed,
    of_language,
    read,
)  # fmt: skip
from experiments.record.intervals import bootstrap_ci, paired_ci
from preference_data.statistics.score_intervals import bounded_ratio

KINDS = {"evaluation": "open prompts", "captions": "full captions"}
CORE = ("pretrain", "nft")
"""The start and the aligned model."""
ROUNDING = 1e-9


@dataclass(frozen=True)
class Evaluations:
    """What was read of one run's images."""

    folder: Path
    beyond: int = 0
    """prompts to leave out, the first ones of either kind"""

    def rows(self, stage: str, inside: str, language: str = "", sampler: str = "unguided") -> Rows:
        """An evaluation that was made before.

        Raises ValueError for a file that is broken, FileNotFoundError for one that is missing.
        """
        file = self.folder / stage / inside / f"{sampler}.json"
        try:
            rows = read(self.folder / stage, inside, sampler)
        except json.JSONDecodeError as error:
            raise ValueError(f"{file} is broken ({error}); delete it, and run the benchmark again") from error
        if rows is None:
            raise FileNotFoundError(f"{file} is missing; run the benchmark again")
        left = [row for i, row in enumerate(rows["rows"]) if row.get("index", i) >= self.beyond]
        rows = rows | {"rows": left}
        return of_language(rows, language) if language else rows


Values = Callable[[Evaluations], np.ndarray]
"""From a run's evaluations to one number a prompt."""


@dataclass(frozen=True)
class Demand:
    """One line of what is asked: a mean over prompts, or the ratio of two, and the bounds that it is held to."""

    name: str
    values: Values
    minus: Values | None = None
    """what it is a difference from, by prompt"""
    of: tuple[Values, Values] | None = None
    """of a ratio the lower part: what it is the difference of"""
    least: float | None = None
    """of the mean or the ratio"""
    low: float | None = None
    """of the interval's lower end"""
    high: float | None = None
    """of the interval's upper end"""

    def measured(self, runs: Sequence[Evaluations]) -> tuple[float, float, float]:
        """(value, low, high) of the runs pooled: of each prompt the mean over runs, where all runs were judged."""

        def pooled_P(values: Values) -> np.ndarray:
            return np.mean([values(each) for each in runs], axis=0)

        top_P = pooled_P(self.values)
        if self.minus is None:
            return (float(np.nanmean(top_P)), *bootstrap_ci(top_P, seed=0))
        base_P = pooled_P(self.minus)
        if self.of is None:
            return paired_ci(base_P, top_P, seed=0)
        end, begun = self.of
        return bounded_ratio(top_P - base_P, pooled_P(end) - pooled_P(begun))

    def holds(self, value: float, low: float, high: float) -> bool:
        """Whether all bounds are kept."""
        return (
            (self.least is None or value >= self.least - ROUNDING)
            and (self.low is None or low > self.low)
            and (self.high is None or high < self.high)
        )

    @property
    def bounds(self) -> str:
        """What is asked, in words."""
        words = {"at least {:g}": self.least, "lower end above {:g}": self.low, "upper end below {:g}": self.high}
        return ", ".join(form.format(bound) for form, bound in words.items() if bound is not None)


def spelt(stage: str, inside: str, language: str, engine: str = "exact", sampler: str = "unguided") -> Values:
    """Which texts an engine reads right."""
    return lambda run: column(run.rows(stage, inside, language, sampler), engine)


def won(stage: str) -> Values:
    """The share of other people who prefer the stage's image to the start's from the same noise."""
    voters = people(nano_taste.VOTERS, VOTERS_SEED)

    def values(run: Evaluations) -> np.ndarray:
        after_PF, before_PF = (facts_of(run.rows(each, "evaluation")) for each in (stage, "pretrain"))
        return wins(after_PF, before_PF, voters)

    return values


def obeyed(stage: str, part: str) -> Values:
    """Whether the ink or the ground that a full caption names is in the image."""
    return lambda run: np.array(named_obeyed(run.rows(stage, "captions"), part), dtype=np.float64)


def demands(stages: Sequence[str], third: str = "") -> Iterator[Demand]:
    """All lines, of the stages that were evaluated; `third` is what the third engine's readings are called."""
    each = [(inside, kind, language) for inside, kind in KINDS.items() for language in LANGUAGES]
    for inside, kind, language in each:
        least = 0.95 if language == "english" else 0.90
        yield Demand(f"{language.title()} exact, {kind}", spelt("nft", inside, language), least=least)
    for inside, kind, language in each:
        gold = (spelt(stage, inside, language, "judge_exact") for stage in ("nft", "pretrain"))
        own = spelt("nft", inside, language), spelt("pretrain", inside, language)
        yield Demand(f"gold's share of the gain, {language.title()}, {kind}", *gold, of=own, least=0.8)
    for inside, kind in KINDS.items() if third else ():
        other = (spelt(stage, inside, "english", sampler=third) for stage in ("nft", "pretrain"))
        own = spelt("nft", inside, "english"), spelt("pretrain", inside, "english")
        yield Demand(f"the third engine's share of the gain, English, {kind}", *other, of=own, least=0.8)
    for inside, kind, language in each:
        guided = spelt("pretrain", inside, language, sampler="guided")
        name = f"aligned less the start with guidance, {language.title()}, {kind}"
        yield Demand(name, spelt("nft", inside, language), guided, least=0.0)
    yield Demand("NFT on both wins", won("nft"), least=0.85, low=0.80)
    for language in ("", *LANGUAGES):
        name = language.title() or "both languages"
        own = spelt("nft", "evaluation", language), spelt("pretrain", "evaluation", language)
        yield Demand(f"its spelling, open prompts, less the start's, {name}", *own, least=0.15)
    if "dpo" in stages:
        yield Demand("DPO wins", won("dpo"), least=0.65, low=0.58)
        for inside, kind, language in each:
            own = spelt("dpo", inside, language), spelt("pretrain", inside, language)
            yield Demand(f"DPO's spelling less the start's, {language.title()}, {kind}", *own, least=-0.05)
    if "chosen" in stages:
        yield Demand("fine-tuning on preferred images wins", won("chosen"), high=0.60)
    yield Demand("named ink kept", obeyed("nft", "ink"), least=0.95)
    yield Demand("named ground kept", obeyed("nft", "ground"), least=0.95)
