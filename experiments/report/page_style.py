"""The look of a report: its CSS and colours, and charts as an image of their own; for both themes, print, phones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

TEMPLATES = Path(__file__).with_name("templates")
CSS = (TEMPLATES / "page.css").read_text(encoding="utf-8")
INKS = 9


def ink_rules() -> str:
    """The CSS of the classes ink-0 ... that give charts, dots and bars their colour."""
    rules = []
    for i in range(INKS):
        rules.append(f"path.ink-{i}, line.ink-{i} {{ stroke: var(--c{i}); }}")
        rules.append(f"path.band.ink-{i} {{ fill: var(--c{i}); stroke: none; }}")
        rules.append(
            f"circle.ink-{i}, rect.ink-{i} {{ fill: var(--c{i}); }} .swatch.ink-{i} {{ background: var(--c{i}); }}"
        )
    return "\n".join(rules)


def chart_svg(charts: Sequence[tuple[str, str]], legend: Mapping[str, str], width: int = 460, height: int = 260) -> str:
    """Charts side by side as an SVG file of its own, on paper; `legend` has a colour class for each name."""
    per_row = max(len(charts) * width // 180, 1)
    rows = -(-len(legend) // per_row)
    whole = (len(charts) * width, height + 40 + 20 * rows)
    parts = []
    for i, (title, chart) in enumerate(charts):
        parts.append(f'<text class="title" x="{i * width + 12}" y="18">{escape(title)}</text>')
        parts.append(chart.replace("<svg ", f'<svg x="{i * width}" y="26" width="{width}" height="{height}" ', 1))
    for i, (name, ink) in enumerate(legend.items()):
        x, y = 12 + i % per_row * 180, height + 46 + i // per_row * 20
        parts.append(f'<rect class="{ink}" x="{x}" y="{y - 9}" width="14" height="10"/>')
        parts.append(f'<text x="{x + 20}" y="{y}">{escape(name)}</text>')
    light = CSS[: CSS.index("@media")] + "\n".join(line for line in CSS.splitlines() if line.startswith("svg "))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole[0]} {whole[1]}" role="img" '
        f'aria-label="{escape("; ".join(title for title, _ in charts))}">\n<style>{light}\n{ink_rules()}</style>\n'
        f'<rect width="{whole[0]}" height="{whole[1]}" fill="#fcfbf8"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
