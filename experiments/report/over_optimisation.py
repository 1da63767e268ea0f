"""What the monitors of a run saw: which rule was broken, when, and every measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.record.record import EVIDENCE
from experiments.report.charts import short
from experiments.report.figures import Figure, figure
from experiments.report.page_words import signed

MEASURES = {
    "trained": "the trained reward on held-out prompts",
    "read": "1 − NED by the engine of the trained reward",
    "gold": "a held-out reward: nothing is trained on it",
    "disagreement": "share of letters that two engines read differently",
    "duplicate_text": "share of runs of letters that come again, beyond the word's own",
    "extra_text": "letters read beyond those asked for, a share of them",
    "text_area": "share of the image that text covers",
    "dark": "share of dark pixels",
    "edges": "share of pixels at an edge",
    "colour_entropy": "bits, of colours told apart in 64 classes",
    "saturation": "mean, of HSV",
    "diversity": "root mean square distance of two images of one prompt",
    "drift": "mean squared velocity difference to the start",
    "velocity_norm": "length of the velocity, over that of the start",
    "unjudged": "share of images that could not be judged",
}
"""Measures in the order in which they are shown; a name may go on after a slash."""


def verdict(checks: Sequence[Mapping[str, Any]]) -> str:
    """One sentence: the first alarm, and what the gold reward had lost by then; or that there was none."""
    first = next((check for check in checks if check["alarms"]), None)
    count = len(checks) - 1
    last = checks[-1]
    waited = ""
    if "not_risen_since" in last:
        since = last["not_risen_since"]
        when = "the start" if since < 0 else f"update {since}"
        waited = f" Training was stopped after update {last['step']}: the gold reward had not risen since {when}."
    if first is None:
        return f"No rule was broken in {count} look{'s' if count != 1 else ''}.{waited}"
    named = ", ".join(f"“{alarm['rule']}”" for alarm in first["alarms"])
    lost = [
        f"{name} had changed by {signed(value - checks[0][name])}"
        for name, value in first.items()
        if name.startswith("gold/") and value is not None and checks[0].get(name) is not None
    ]
    ended = " Training was stopped there." if first.get("stopped") and not waited else ""
    ended += f" Beta was raised to {short(first['beta'])}." if "beta" in first else ""
    return f"First broken after update {first['step']}: {named}; {', '.join(lost)}.{ended}{waited}"


def broken_rules(checks: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, Mapping[str, Any]]]]:
    """Every rule that was broken, with the updates and the alarms."""
    broken: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for check in checks:
        for alarm in check["alarms"]:
            broken.setdefault(alarm["rule"], []).append((check["step"], alarm))
    return broken


def evidence_file(folder: Path, name: str) -> Path:
    """Where an image of an alarm is kept."""
    return folder / EVIDENCE / Path(name).name


def measures(checks: Sequence[Mapping[str, Any]], ink: str) -> list[Figure]:
    """Every measure by update; -1 is before the first."""
    present = [
        name for name in dict.fromkeys(n for check in checks for n in check) if name.partition("/")[0] in MEASURES
    ]
    order = list(MEASURES)
    figures = []
    for name in sorted(present, key=lambda name: order.index(name.partition("/")[0])):
        points = tuple(
            (float(check["step"]), math.nan if check[name] is None else check[name])
            for check in checks
            if name in check
        )
        if any(math.isfinite(y) for _, y in points):
            figures.append(figure(name, MEASURES[name.partition("/")[0]], points, ink))
    return figures
