"""What the monitors of a run saw: which rule was broken, when, and every measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.record.metric_table import MONITORED, explained
from experiments.record.record import EVIDENCE
from experiments.report.charts import short
from experiments.report.figures import Figure, figure
from experiments.report.page_words import known, meaning, signed

NO_MEASURES = ("step", "not_risen_since", "loop/NAME", "alarms")
"""Rows of the table that are no measures of images."""


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
    names = dict.fromkeys(name for check in checks for name in check)
    figures = []
    for row, metric in MONITORED.items():
        for name in names if row not in NO_MEASURES else ():
            points = tuple((float(c["step"]), known(c[name])) for c in checks if name in c)
            if explained(name, {row: metric}) and any(math.isfinite(y) for _, y in points):
                figures.append(figure(name, meaning(name, MONITORED), points, ink))
    return figures
