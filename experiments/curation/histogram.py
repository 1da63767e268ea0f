"""A histogram with its thresholds as an SVG that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

BINS = 48
WIDTH, HEIGHT = 560, 150
LEFT, RIGHT, TOP, BOTTOM = 6, 6, 18, 22
STEEP = 200.0
"""largest number by smallest from which the axis is logarithmic"""


def number(value: float) -> str:
    """A number as people write it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def histogram(values: np.ndarray, dropped: np.ndarray, bounds: Mapping[str, float], name: str) -> str:
    """Counts of `values`, those `dropped` in another colour, and a line for each threshold; "" without values."""
    if not len(values):
        return ""
    lines = [value for value in bounds.values() if np.isfinite(value)]
    low, high = min(values.min(), *lines, values.max()), max(values.max(), *lines, values.min())
    if low == high:
        low, high = low - 0.5, high + 0.5
    positive = min([*values, *lines]) > 0
    scale = np.log10 if positive and high / low > STEEP else lambda number: number
    edges = np.linspace(scale(low), scale(high), BINS + 1)
    wide = (WIDTH - LEFT - RIGHT) / BINS
    counts = [np.histogram(scale(values[mask]), edges)[0] for mask in (~dropped, dropped)]
    most = max(int((counts[0] + counts[1]).max()), 1)
    unit = (HEIGHT - TOP - BOTTOM) / most
    parts = []
    for i, (passed, out) in enumerate(zip(*counts, strict=True)):
        base = HEIGHT - BOTTOM
        for kind, count in (("in", passed), ("out", out)):
            if count:
                tall = count * unit
                base -= tall
                x = LEFT + i * wide
                parts.append(
                    f'<rect class="{kind}" x="{x:.1f}" y="{base:.1f}" width="{wide - 1:.1f}" height="{tall:.1f}"/>'
                )
    for bound, value in bounds.items():
        if np.isfinite(value):
            x = LEFT + (scale(value) - edges[0]) / (edges[-1] - edges[0]) * (WIDTH - LEFT - RIGHT)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{HEIGHT - BOTTOM}"/>')
            parts.append(word(x, TOP - 7, f"{bound} {number(value)}", "end" if x > WIDTH / 2 else "start"))
    axis = f"{name}{' (logarithmic)' if scale is np.log10 else ''}, at most {most:,} in a bar"
    below = HEIGHT - 6
    parts += [word(LEFT, below, number(low), "start"), word(WIDTH - RIGHT, below, number(high), "end")]
    parts.append(word(WIDTH / 2, below, axis, "middle"))
    about = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="histogram of {escape(name)}"'
    return f'<svg class="histogram" {about}>{"".join(parts)}</svg>'


def word(x: float, y: float, text: str, anchor: str) -> str:
    """A text of the chart."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
