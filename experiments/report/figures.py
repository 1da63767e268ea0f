"""Metrics as small charts with a caption."""

from __future__ import annotations

import math
from typing import NamedTuple

from markupsafe import Markup

from experiments.report.charts import Curve, Point, line_chart, short


class Figure(NamedTuple):
    """A chart with its name, what the name means, and the last value that is known ("" where none is shown)."""

    name: str
    words: str
    last: str
    chart: Markup


def figure(name: str, words: str, points: tuple[Point, ...], ink: str) -> Figure:
    """One metric of one run by update."""
    last = next((short(round(y, 4)) for _, y in reversed(points) if math.isfinite(y)), "–")
    return Figure(name, words, last, Markup(line_chart(f"{name} by update", [Curve(name, points, ink)])))
