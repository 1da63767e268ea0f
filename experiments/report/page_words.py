"""How stages, settings, metrics, numbers and times are called and written for a reader."""

from __future__ import annotations

import math
from typing import Any

from experiments.record.metric_table import METRICS, Metric, explained
from experiments.record.results import Interval, Result
from experiments.report.page_style import INKS

STAGES = {
    "decoder": "Decoder", "pretrain": "Pretraining", "sft": "Fine-tuning", "dpo": "DPO", "grpo": "GRPO", "nft": "NFT",
    "nft_ocr": "NFT on OCR alone", "nft_taste": "NFT on the reward alone", "chosen": "Preferred images",
    "control": "Control",
}  # fmt: skip
SETTINGS = {"unguided": "Without guidance", "guided": "With guidance"}
GROUPS = (
    ("What is learned", ("loss", "flow_error", "psnr", "reconstruction", "edge", "reward", "implicit_accuracy",
                         "margin")),
    ("Health", ("ratio_first", "ratio_gap_first", "ratio", "ratio_gap", "clip_share", "kl", "kl_rate", "log_ratio",
                "divergence", "moved", "drift", "tie_gap", "chosen_drift", "rejected_drift", "tries", "passed_over",
                "groups_without_spread", "unjudged", "grad_norm")),
    ("Optimizer", ("lr",)),
    ("Speed", ("images_per_second", "mfu", "memory_gb")),
)  # fmt: skip
"""Metrics by what they tell, in the order they are shown. A metric not named here goes into a last group."""
PART = "part/"
"""Before the name of a reward in a mixture: its own mean, unweighted."""


def title(stage: str) -> str:
    return STAGES.get(stage, stage)


def in_sentence(stage: str) -> str:
    """The name inside a sentence: lower case unless it is an abbreviation."""
    name = title(stage)
    return name if name.isupper() else name[:1].lower() + name[1:]


def setting(name: str) -> str:
    return SETTINGS.get(name, name)


def inks(result: Result) -> dict[str, str]:
    """One colour a stage, the same in every chart of the page."""
    offset = 2 if len(result.stages) == 1 else 0
    return {stage.name: f"ink-{(i + offset) % INKS}" for i, stage in enumerate(result.stages)}


def grouped(names: list[str]) -> list[tuple[str, list[str]]]:
    """Metric names in their groups; what no group names comes last."""
    known = {name for _, members in GROUPS for name in members}
    groups = [(group, [name for name in members if name in names]) for group, members in GROUPS]
    groups[0][1].extend(name for name in names if name.startswith(PART))  # what a mixed reward is made of
    groups.append(("Other", [name for name in names if name not in known and not name.startswith(PART)]))
    return [(group, members) for group, members in groups if members]


def meaning(name: str, metrics: dict[str, Metric] = METRICS) -> str:
    """What a metric is, in as few words as stand below a chart; "" for one that no row of the table is about."""
    metric = explained(name, metrics)
    return metric.meaning.partition("; ")[0].replace("`", "") if metric else ""


def known(value: Any) -> float:
    """A number of a report; NaN for one that is missing, as JSON has it."""
    return float(value) if isinstance(value, int | float) else math.nan


def number(value: float | None, digits: int = 3) -> str:
    """A value for a table; an en dash when it is unknown."""
    return f"{value:.{digits}f}" if math.isfinite(value := known(value)) else "–"


def signed(value: float | None, digits: int = 3) -> str:
    """A difference, with a true minus sign."""
    if not math.isfinite(value := known(value)):
        return "–"
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # + 0.0: no "−0.000"


def points(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """A share in hundredths, or with `sign` a difference of shares, without the unit."""
    if sign:
        return signed(100 * known(value), digits)
    return number(100 * known(value), digits).replace("-", "−")


def percentage(value: float | None, digits: int = 1) -> str:
    """A share for a table."""
    return f"{points(value, digits)} %" if math.isfinite(known(value)) else "–"


def percent(value: float) -> str:
    return f"{100 * value:.0f} %" if math.isfinite(value) else "an unknown share"


def span(low: float, high: float, digits: int = 3) -> str:
    """An interval of differences; "" when unknown."""
    return f"{signed(low, digits)} to {signed(high, digits)}" if math.isfinite(low) and math.isfinite(high) else ""


def verdict(difference: Interval) -> str:
    """What an interval shows, in one word."""
    if not (math.isfinite(difference.low) and math.isfinite(difference.high)):
        return "unknown"
    return ("higher" if difference.value > 0 else "lower") if difference.excludes_zero else "undecided"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
