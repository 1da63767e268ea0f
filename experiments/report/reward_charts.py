"""Charts of a reward comparison: reliability plots, grids of what is seen, curves, and intervals over a band."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from experiments.record.results import Interval
from experiments.report.charts import Curve, line_chart, plot_row
from experiments.report.page_words import known, number, points

Report = Mapping[str, Any]


def forest(
    e: Report, low: float, high: float, ink: str, line: float, band: tuple[float, float] | None = None
) -> str:  # fmt: skip
    """A dot with its interval on [low, high], a reference line, and a shaded band behind."""
    interval = Interval(*(known(e.get(name)) for name in ("value", "low", "high")))
    words = f"{points(interval.value)} %" if math.isfinite(interval.value) else "unknown"
    if math.isfinite(interval.value) and math.isfinite(interval.low):
        words += f", 95 % interval {points(interval.low)} to {points(interval.high)}"
    return plot_row(interval, low, high, ink, words, line, band, 260, 30)


def reliability(name: str, bins: Sequence[Report], ink: str, side: int = 190) -> str:
    """Predicted against observed share of agreement, with exact intervals; the diagonal is a perfect reward."""
    left, bottom, top, right = 34.0, side - 24.0, 8.0, side - 16.0

    def position(x: float, y: float) -> tuple[float, float]:
        return left + (x - 0.5) / 0.5 * (right - left), bottom - (min(max(y, 0.3), 1.0) - 0.3) / 0.7 * (bottom - top)

    words = "; ".join(f"{number(b['predicted'], 2)} said, {number(b['observed'], 2)} seen" for b in bins)
    parts = [
        f'<svg class="chart" style="max-width:{side}px" viewBox="0 0 {side} {side}" role="img" '
        f'aria-label="{escape(name)}: {words}">'
    ]
    for tick in (0.4, 0.6, 0.8, 1.0):
        y = position(0.5, tick)[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 5}" y="{y + 3.5:.1f}" text-anchor="end">{100 * tick:.0f}</text>')
    for tick in (0.5, 0.75, 1.0):
        x = position(tick, 0.3)[0]
        parts.append(f'<text class="tick" x="{x:.1f}" y="{side - 8}" text-anchor="middle">{100 * tick:.0f} %</text>')
    (x0, y0), (x1, y1) = position(0.5, 0.5), position(1.0, 1.0)
    parts.append(f'<line class="diagonal" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>')
    for b in bins:
        x, y = position(known(b["predicted"]), known(b["observed"]))
        low, high = (position(0.5, known(v))[1] for v in b["interval"])
        parts.append(f'<line class="whisker {ink}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
        parts.append(f'<circle class="dot {ink}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    return "".join([*parts, "</svg>"])


def grid(cells: Sequence[Sequence[float]], words: str, width: int = 208) -> str:
    """A wide image cut into cells; the darker a cell, the more its covering moves the score, empty = not at all."""
    rows, columns = len(cells), len(cells[0])
    size = width / columns
    parts = [f'<svg class="chart" style="width:{width}px" viewBox="0 0 {width} {size * rows:.0f}" role="img" '
             f'aria-label="{escape(words)}">']  # fmt: skip
    for r, row in enumerate(cells):
        for c, value in enumerate(row):
            shade = 0.12 + 0.88 * math.sqrt(known(value)) if known(value) > 1e-6 else 0.0
            where = f'x="{c * size + 0.5:.1f}" y="{r * size + 0.5:.1f}" width="{size - 1:.1f}" height="{size - 1:.1f}"'
            parts.append(f'<rect class="track" {where}/><rect class="ink-2" style="opacity:{shade:.2f}" {where}/>')
    return "".join([*parts, "</svg>"])


def legibility_chart(report: Report, inks: Mapping[str, str]) -> str:
    """The share of words that each reward tells apart, by the height of the capitals."""
    curves = [
        Curve(r["reward"], tuple((float(p["height"]), known(p["share"])) for p in r["points"]), inks[r["reward"]])
        for r in report["legibility"]
    ]
    return line_chart("share of words told apart, by height of the capitals in pixels", curves, 620, 220)


def climb_chart(row: Report, inks: Mapping[str, str]) -> str:
    """What choosing the best of n by a reward gains in the gold reward, and in its own."""
    reached = [known(p["distance"]) for p in row["points"]]
    gold = tuple(zip(reached, (known(p["gold"]["value"]) for p in row["points"]), strict=True))
    proxy = tuple(zip(reached, (known(p["proxy"]) for p in row["points"]), strict=True))
    curves = [Curve("gold", gold, inks[row["reward"]]), Curve("proxy", proxy, "ink-1")]
    return line_chart("gold and proxy by distance", curves)
