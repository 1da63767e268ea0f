"""Charts as inline SVG: no script, no file, no network. Colours come from the page's CSS, so both themes work.

Every chart says in words what it shows (`aria-label` and `<title>`), because an image alone is no text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from experiments.record.results import Interval
from experiments.report.page_words import number, signed

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
        digits, power = f"{value:.2e}".split("e")
        text = f"{float(digits):g}e{int(power)}"
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
    indices = 2 - math.floor(math.log10(step))  # as many as a step has digits
    return [round(i * step, indices) for i in range(first, last + 1)]


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
    """The `d` of a line; NaN breaks it. A point alone is a line of no length, which round ends make a dot."""
    parts: list[list[str]] = [[]]
    for x, y in points:
        if math.isfinite(y):
            parts[-1].append(f"{x:.1f} {y:.1f}")
        else:
            parts.append([])
    return "".join("M" + "L".join(part) + ("h0" if len(part) == 1 else "") for part in parts if part)


@dataclass(frozen=True)
class Band:
    """A line with what lies around it."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    ink: str = "ink-0"
    """CSS class that gives the colour"""


class Frame:
    """The axes of a chart: ranges in data, margins in pixels."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], width: int, height: int) -> None:
        self._x, self._x_high = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1.0
        self._y, self._y_high = padded(min(ys), max(ys))
        self._width, self._height = width, height
        self._left, self._right, self._top, self._bottom = 44.0, width - 8.0, 8.0, height - 20.0

    def to_pixels(self, point: Point) -> Point:
        """Where a point is drawn."""
        x, y = point
        return (
            self._left + (x - self._x) / (self._x_high - self._x) * (self._right - self._left),
            self._bottom - (y - self._y) / (self._y_high - self._y) * (self._bottom - self._top),
        )

    def svg(self, title: str, inside: Sequence[str]) -> str:
        """The chart with its grid."""
        size = f'viewBox="0 0 {self._width} {self._height}"'
        parts = [f'<svg class="chart" {size} role="img" aria-label="{escape(title)}">']
        for tick in ticks(self._y, self._y_high, 4):
            y = self.to_pixels((self._x, tick))[1]
            parts.append(f'<line class="grid" x1="{self._left}" x2="{self._right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            label = f'<text class="tick" x="{self._left - 6}" y="{y + 3.5:.1f}" text-anchor="end">{short(tick)}</text>'
            parts.append(label)
        for tick in ticks(self._x, self._x_high, 4):
            x, y = self.to_pixels((tick, self._y))[0], self._height - 5
            parts.append(f'<text class="tick" x="{x:.1f}" y="{y}" text-anchor="middle">{short(tick)}</text>')
        return "".join([*parts, *inside, "</svg>"])


def line_chart(title: str, curves: Sequence[Curve], width: int = 300, height: int = 150) -> str:
    """Curves over updates: the measured values pale, their moving average strong. "" without a finite value."""
    everything = [p for curve in curves for p in curve.points if math.isfinite(p[1])]
    if not everything:
        return ""
    shown = [y for curve in curves for _, y in thin(curve.points) if math.isfinite(y)]
    frame = Frame([x for x, _ in everything], shown, width, height)
    parts = []
    for curve in curves:
        batch, mean = thin(curve.points), thin(smooth(curve.points))
        label = f"<title>{escape(curve.name)}</title>"
        parts.append(f'<path class="raw {curve.ink}" d="{path([frame.to_pixels(p) for p in batch])}"/>')
        parts.append(f'<path class="mean {curve.ink}" d="{path([frame.to_pixels(p) for p in mean])}">{label}</path>')
    return frame.svg(title, parts)


def band_chart(title: str, bands: Sequence[Band], width: int = 460, height: int = 260) -> str:
    """Lines with the bands around them."""
    ys = [y for band in bands for y in (*band.low, *band.high)]
    frame = Frame([x for band in bands for x in band.x], ys, width, height)
    areas, lines = [], []
    for band in bands:
        there = [frame.to_pixels(p) for p in zip(band.x, band.high, strict=True)]
        back = [frame.to_pixels(p) for p in zip(band.x, band.low, strict=True)][::-1]
        areas.append(f'<path class="band {band.ink}" d="{path([*there, *back])}Z"/>')
        line = path([frame.to_pixels(p) for p in zip(band.x, band.y, strict=True)])
        lines.append(f'<path class="mean {band.ink}" d="{line}"><title>{escape(band.name)}</title></path>')
    return frame.svg(title, [*areas, *lines])


def interval_row(
    interval: Interval, low: float, high: float, ink: str, zero: bool, width: int = 220, height: int = 34
) -> str:
    """A row of a forest plot of means or, with the line of no difference at `zero`, of differences."""
    show = signed if zero else number
    words = f"{show(interval.value)}, 95 % interval {show(interval.low)} to {show(interval.high)}"
    return plot_row(interval, low, high, ink, words, 0.0 if zero else None, None, width, height)


def plot_row(
    interval: Interval, low: float, high: float, ink: str, words: str, line: float | None,
    band: tuple[float, float] | None, width: int, height: int,
) -> str:  # fmt: skip
    """One row of a forest plot: a dot with its interval on the scale [low, high], a reference line, a band behind.

    Rows of the same scale and size stack into one plot.
    """

    def x_of(value: float) -> float:
        return 8.0 + (min(max(value, low), high) - low) / (high - low) * (width - 16.0)

    middle, beyond = height / 2, f'y1="{-BEYOND}" y2="{height + BEYOND}"'
    parts = [
        f'<svg class="forest" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" ',
        f'aria-label="{words}">',
        f"<title>{words}</title>",
    ]
    if band and all(math.isfinite(v) for v in band):
        a, b = x_of(band[0]), x_of(band[1])
        where = f'x="{a:.1f}" width="{max(b - a, 1):.1f}" y="{-BEYOND}" height="{height + 2 * BEYOND}"'
        parts.append(f'<rect class="band" {where}/>')
    parts += [f'<line class="grid" x1="{x_of(t):.1f}" x2="{x_of(t):.1f}" {beyond}/>' for t in ticks(low, high, 5)]
    if line is not None:
        parts.append(f'<line class="zero" x1="{x_of(line):.1f}" x2="{x_of(line):.1f}" {beyond}/>')
    if math.isfinite(interval.value):
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            a, b = x_of(interval.low), x_of(interval.high)
            parts.append(f'<line class="whisker {ink}" x1="{a:.1f}" x2="{b:.1f}" y1="{middle}" y2="{middle}"/>')
            parts += [f'<line class="whisker {ink}" x1="{x:.1f}" x2="{x:.1f}" y1="{middle - 4}" y2="{middle + 4}"/>'
                      for x in (a, b)]  # fmt: skip
        parts.append(f'<circle class="dot {ink}" cx="{x_of(interval.value):.1f}" cy="{middle}" r="4.5"/>')
    return "".join([*parts, "</svg>"])


def interval_axis(
    low: float, high: float, width: int = 220, height: int = 16, sign: bool = True, percent: bool = False
) -> str:
    """The scale under the rows of a forest plot."""
    labels = []
    for tick in ticks(low, high, 5):
        x = 8.0 + (tick - low) / (high - low) * (width - 16.0)
        text = f"+{short(tick)}" if sign and tick > 0 else short(tick)
        text = f"{100 * tick:.0f} %".replace("-", "−") if percent else text
        labels.append(f'<text class="tick" x="{x:.1f}" y="11" text-anchor="middle">{text}</text>')
    return f'<svg class="forest axis" viewBox="0 0 {width} {height}" aria-hidden="true">{"".join(labels)}</svg>'


def share_bar(share: float, ink: str) -> str:
    """A bar of the length `share` in [0, 1]."""
    width = 100.0 * min(max(share, 0.0), 1.0)
    return (
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="8"/><rect class="bar {ink}" width="{width:.2f}" height="8"/></svg>'
    )
