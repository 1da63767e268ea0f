"""Charts as inline SVG: no script, no file, no network. Colours come from the page's CSS, so both themes work.

Every chart says in words what it shows (`aria-label` and `<title>`), because a picture alone is no text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from experiments.page.words import number, signed
from experiments.results import Interval

Point = tuple[float, float]
SMOOTHING = 0.06
"""Width of the moving average as a share of the curve."""
POINTS = 240
"""Most points drawn of a curve; more cannot be seen."""
BEYOND = 8
"""Pixels that the lines of a forest plot reach beyond their row, so that those of the next row join them."""


@dataclass(frozen=True)
class Curve:
    """A line of a chart. Missing values are NaN and leave a gap."""

    name: str
    points: tuple[Point, ...]
    ink: str = "ink-0"
    """CSS class that gives the colour"""


def short(value: float) -> str:
    """An axis label: few digits, k for thousands, a true minus sign."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 10_000:
        text = f"{value / 1000:.3g}k"
    elif size < 1e-3:
        text = f"{value:.0e}".replace("e-0", "e-")
    else:
        text = f"{value:.4g}"
    return text.replace("-", "−")


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values inside [low, high], at most `most`. Raises ValueError when the range is empty."""
    if not low < high:
        raise ValueError(f"axis from {low} to {high}: the range must not be empty")
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0) if (high - low) / (power * m) <= most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def padded(low: float, high: float, share: float = 0.06) -> tuple[float, float]:
    """A range with air around it; a single value gets a range too."""
    if low == high:
        air = abs(low) * 0.1 or 1.0
        return low - air, high + air
    return low - share * (high - low), high + share * (high - low)


def thin(points: Sequence[Point], most: int = POINTS) -> list[Point]:
    """Means of consecutive points, at most `most` of them; gaps stay gaps."""
    size = -(-len(points) // most) if points else 1
    if size == 1:
        return list(points)
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    means = []
    for part in parts:
        known = [y for _, y in part if math.isfinite(y)]
        means.append((sum(x for x, _ in part) / len(part), sum(known) / len(known) if known else float("nan")))
    return means


def smooth(points: Sequence[Point], share: float = SMOOTHING) -> list[Point]:
    """Centred moving average over a share of the curve; at the ends the window has one side only."""
    reach = int(len(points) * share / 2.0)
    result = []
    for i, (x, _) in enumerate(points):
        known = [y for _, y in points[max(i - reach, 0) : i + reach + 1] if math.isfinite(y)]
        result.append((x, sum(known) / len(known) if known else float("nan")))
    return result


def path(points: Sequence[Point]) -> str:
    """The `d` of a line; NaN breaks it."""
    parts, pen = [], "M"
    for x, y in points:
        if not math.isfinite(y):
            pen = "M"
            continue
        parts.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(parts)


def line_chart(title: str, curves: Sequence[Curve], width: int = 300, height: int = 150) -> str:
    """Curves over updates: the measured values pale, their moving average strong. "" without a finite value."""
    everything = [p for curve in curves for p in curve.points if math.isfinite(p[1])]
    if not everything:
        return ""
    x_low, x_high = min(x for x, _ in everything), max(x for x, _ in everything)
    x_high = x_high if x_high > x_low else x_low + 1.0
    shown = [y for curve in curves for _, y in thin(curve.points) if math.isfinite(y)]
    y_low, y_high = padded(min(shown), max(shown))
    left, right, top, bottom = 44.0, width - 8.0, 8.0, height - 20.0

    def place(point: Point) -> Point:
        x, y = point
        return (
            left + (x - x_low) / (x_high - x_low) * (right - left),
            bottom - (y - y_low) / (y_high - y_low) * (bottom - top),
        )

    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">']
    for tick in ticks(y_low, y_high, 4):
        y = place((x_low, tick))[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y + 3.5:.1f}" text-anchor="end">{short(tick)}</text>')
    for tick in ticks(x_low, x_high, 4):
        x = place((tick, y_low))[0]
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 5}" text-anchor="middle">{short(tick)}</text>')
    for curve in curves:
        few = thin(curve.points)
        mean = smooth(curve.points)
        label = f"<title>{escape(curve.name)}</title>"
        parts.append(f'<path class="raw {curve.ink}" d="{path([place(p) for p in few])}"/>')
        parts.append(f'<path class="mean {curve.ink}" d="{path([place(p) for p in thin(mean)])}">{label}</path>')
    return "".join([*parts, "</svg>"])


def interval_row(
    interval: Interval, low: float, high: float, ink: str, zero: bool, width: int = 220, height: int = 34
) -> str:
    """One row of a forest plot: a dot with its interval on the scale [low, high], and the line of no difference.

    Rows of the same scale and size stack into one plot.
    """

    def place(value: float) -> float:
        return 8.0 + (min(max(value, low), high) - low) / (high - low) * (width - 16.0)

    show = signed if zero else number
    words = f"{show(interval.value)}, 95 % interval {show(interval.low)} to {show(interval.high)}"
    middle = height / 2
    parts = [
        f'<svg class="forest" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" ',
        f'aria-label="{words}">',
        f"<title>{words}</title>",
    ]
    parts += [f'<line class="grid" x1="{place(t):.1f}" x2="{place(t):.1f}" y1="{-BEYOND}" y2="{height + BEYOND}"/>'
              for t in ticks(low, high, 5)]  # fmt: skip
    if zero:
        parts.append(
            f'<line class="zero" x1="{place(0.0):.1f}" x2="{place(0.0):.1f}" y1="{-BEYOND}" y2="{height + BEYOND}"/>'
        )
    if math.isfinite(interval.value):
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            a, b = place(interval.low), place(interval.high)
            parts.append(f'<line class="whisker {ink}" x1="{a:.1f}" x2="{b:.1f}" y1="{middle}" y2="{middle}"/>')
            parts += [f'<line class="whisker {ink}" x1="{x:.1f}" x2="{x:.1f}" y1="{middle - 4}" y2="{middle + 4}"/>'
                      for x in (a, b)]  # fmt: skip
        parts.append(f'<circle class="dot {ink}" cx="{place(interval.value):.1f}" cy="{middle}" r="4.5"/>')
    return "".join([*parts, "</svg>"])


def interval_axis(low: float, high: float, width: int = 220, height: int = 16, sign: bool = True) -> str:
    """The scale under the rows of `interval_row`."""
    labels = []
    for tick in ticks(low, high, 5):
        x = 8.0 + (tick - low) / (high - low) * (width - 16.0)
        text = f"+{short(tick)}" if sign and tick > 0 else short(tick)
        labels.append(f'<text class="tick" x="{x:.1f}" y="11" text-anchor="middle">{text}</text>')
    return f'<svg class="forest axis" viewBox="0 0 {width} {height}" aria-hidden="true">{"".join(labels)}</svg>'


def share_bar(share: float, ink: str) -> str:
    """A bar of the length `share` in [0, 1]."""
    width = 100.0 * min(max(share, 0.0), 1.0)
    return (
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="8"/><rect class="bar {ink}" width="{width:.2f}" height="8"/></svg>'
    )
