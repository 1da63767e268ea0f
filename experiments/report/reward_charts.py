"""Charts of a reward comparison: intervals over a band, reliability plots, heat cells, grids of what is seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from experiments.report.charts import short, ticks
from experiments.report.page_words import number

CSS = """
.use { width: 100%; } .use td { vertical-align: top; padding-top: .6rem; padding-bottom: .6rem; }
.use td:nth-child(2) { font-weight: 600; white-space: nowrap; }
.use .sure { white-space: nowrap; } .sure-certain { color: var(--good); } .sure-open { color: var(--bad); }
.each { columns: 2 26rem; column-gap: 3rem; } .each > div { break-inside: avoid; padding-bottom: .8rem; }
.each h3 { margin-top: .4rem; }
.found { margin: .2rem 0; padding-left: 1.1rem; font-family: var(--sans); font-size: .86rem; }
.found .broken::marker, .broken b { color: var(--bad); } .found .broken b, .found .warning b { font-weight: 600; }
.broken b { color: var(--bad); } .warning b { color: var(--c4); } .note-line b { color: var(--soft); font-weight: 500; }
td.heat { text-align: center; white-space: nowrap; border-bottom: 1px solid var(--paper);
  background: color-mix(in srgb, var(--tone) calc(var(--v) * 1%), transparent); padding: .42rem .5rem; }
td.heat.up { --tone: var(--c3); } td.heat.down { --tone: var(--c4); } td.heat.few { opacity: .45; }
td.heat small { display: block; font-size: .82em; }
th.top { text-align: center; }
.band { fill: var(--c0); opacity: .22; } .diagonal { stroke: var(--soft); stroke-dasharray: 3 3; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.6rem 1.4rem; }
.pairs figure { margin: 0; font-family: var(--sans); font-size: .82rem; }
.pairs .two { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; margin: .35rem 0; }
.pairs img { width: 100%; max-height: 15rem; object-fit: contain; background: var(--raised); border-radius: 3px;
  box-shadow: 0 0 0 1px var(--rule); image-rendering: auto; display: block; }
.pairs img.won { box-shadow: 0 0 0 2.5px var(--good); }
.pairs table { font-size: .95em; } .pairs td, .pairs th { padding: .2rem .5rem .2rem 0; }
.legend { font-family: var(--sans); font-size: .82rem; color: var(--soft); }
"""


def known(value: Any) -> float:
    """A number of a report; NaN for one that is missing, as JSON has it."""
    return float(value) if isinstance(value, int | float) else math.nan


def in_words(e: Mapping[str, Any], scale: float = 100.0, unit: str = " %") -> str:
    value, low, high = (scale * known(e.get(k)) for k in ("value", "low", "high"))
    if not math.isfinite(value):
        return "unknown"
    text = f"{value:.1f}{unit}".replace("-", "−")
    return f"{text}, 95 % interval {low:.1f} to {high:.1f}".replace("-", "−") if math.isfinite(low) else text


def forest(
    e: Mapping[str, Any], low: float, high: float, ink: str, line: float | None = None,
    band: tuple[float, float] | None = None, width: int = 260, height: int = 30,
) -> str:  # fmt: skip
    """A dot with its interval on [low, high], a reference line, and a shaded band behind."""

    def x_of(value: float) -> float:
        return 8.0 + (min(max(value, low), high) - low) / (high - low) * (width - 16.0)

    parts = [f'<svg class="forest" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" ',
             f'style="width:{width}px;height:{height}px" '
             f'aria-label="{in_words(e)}"><title>{in_words(e)}</title>']  # fmt: skip
    if band and all(math.isfinite(v) for v in band):
        a, b = x_of(band[0]), x_of(band[1])
        parts.append(f'<rect class="band" x="{a:.1f}" width="{max(b - a, 1):.1f}" y="-8" height="{height + 16}"/>')
    parts += [f'<line class="grid" x1="{x_of(t):.1f}" x2="{x_of(t):.1f}" y1="-8" y2="{height + 8}"/>'
              for t in ticks(low, high, 5)]  # fmt: skip
    if line is not None:
        parts.append(f'<line class="zero" x1="{x_of(line):.1f}" x2="{x_of(line):.1f}" y1="-8" y2="{height + 8}"/>')
    value, below, above = (known(e.get(k)) for k in ("value", "low", "high"))
    if math.isfinite(value):
        y = height / 2
        if math.isfinite(below):
            a, b = x_of(below), x_of(above)
            parts.append(f'<line class="whisker {ink}" x1="{a:.1f}" x2="{b:.1f}" y1="{y}" y2="{y}"/>')
            parts += [
                f'<line class="whisker {ink}" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 4}" y2="{y + 4}"/>' for x in (a, b)
            ]
        parts.append(f'<circle class="dot {ink}" cx="{x_of(value):.1f}" cy="{y}" r="4.5"/>')
    return "".join([*parts, "</svg>"])


def axis(low: float, high: float, percent: bool = True, width: int = 260) -> str:
    """The scale under rows of `forest`."""
    labels = []
    for tick in ticks(low, high, 5):
        x = 8.0 + (tick - low) / (high - low) * (width - 16.0)
        text = f"{100 * tick:.0f} %".replace("-", "−") if percent else short(tick)
        labels.append(f'<text class="tick" x="{x:.1f}" y="11" text-anchor="middle">{text}</text>')
    inner = "".join(labels)
    return f'<svg class="forest axis" style="width:{width}px" viewBox="0 0 {width} 16" aria-hidden="true">{inner}</svg>'


def heat(value: float, neutral: float, reach: float, text: str, below: str = "", batch: bool = False) -> str:
    """A table cell whose colour says how far `value` is from `neutral`, full at a distance of `reach`."""
    if not math.isfinite(value):
        return f'<td class="heat few">{text or "–"}</td>'
    strength = min(abs(value - neutral) / reach, 1.0) * 62.0
    kind = "up" if value >= neutral else "down"
    small = f"<small>{below}</small>" if below else ""
    grey = " few" if batch else ""
    return f'<td class="heat {kind}{grey}" style="--v:{strength:.0f}">{text}{small}</td>'


def reliability(name: str, bins: Sequence[Mapping[str, Any]], ink: str, side: int = 190) -> str:
    """Predicted against observed share of agreement, with exact intervals; the diagonal is a perfect judge."""
    left, bottom, top, right = 34.0, side - 24.0, 8.0, side - 16.0

    def position(x: float, y: float) -> tuple[float, float]:
        return left + (x - 0.5) / 0.5 * (right - left), bottom - (min(max(y, 0.3), 1.0) - 0.3) / 0.7 * (bottom - top)

    words = "; ".join(f"{number(known(b['predicted']), 2)} said, {number(known(b['observed']), 2)} seen" for b in bins)
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
