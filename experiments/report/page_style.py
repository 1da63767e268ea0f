"""The look of a report, and the frame of its page. Both themes, print, and narrow screens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fcfbf8; --raised: #f5f3ee; --ink: #23211d; --soft: #6a665d; --rule: #dedad0; --track: #ebe8e0;
  --good: #17694a; --bad: #a63a22;
  --c0: #8d7b5f; --c1: #6b7788; --c2: #2463a6; --c3: #14806a; --c4: #c04c1c; --c5: #7b53b0; --c6: #a13670;
  --c7: #1f1f1f; --c8: #b08a00;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "URW Palladio L", P052, "Book Antiqua", Georgia, serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #17181b; --raised: #1f2124; --ink: #e8e5de; --soft: #a09b91; --rule: #36383c; --track: #2b2d31;
    --good: #63c79b; --bad: #f0896b;
    --c0: #c2ac86; --c1: #9aa7ba; --c2: #6aa9ea; --c3: #4fc3a7; --c4: #f28a57; --c5: #b794ea; --c6: #e282b4;
    --c7: #f2f2f2; --c8: #e8cf5a;
  }
}
* { box-sizing: border-box; }
html { font: 17px/1.58 var(--serif); background: var(--paper); color: var(--ink);
  -webkit-text-size-adjust: 100%; text-rendering: optimizeLegibility; }
body { margin: 0 auto; padding: 3.5rem clamp(1rem, 4vw, 2.5rem) 5rem; max-width: 69rem; }
p, ul, ol, header .answer { max-width: 42rem; }
h1, h2, h3, h4 { font-weight: 600; line-height: 1.25; text-wrap: balance; }
h1 { font-size: 1rem; margin: 0; letter-spacing: .01em; }
h2 { font-size: 1.45rem; margin: 3.75rem 0 .6rem; padding-top: 1.1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.08rem; margin: 2.2rem 0 .5rem; }
h4, h5, h6 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .6rem 0; } li { margin: .3rem 0; } ul, ol { padding-left: 1.3rem; }
a { color: var(--c2); text-underline-offset: .15em; }
header .meta, .note, figcaption, table, details, nav, footer, .facts { font-family: var(--sans); font-size: .82rem; }
header .meta, .note, figcaption, footer, nav { color: var(--soft); line-height: 1.5; }
header .answer { font-size: 1.72rem; line-height: 1.34; margin: 1.1rem 0 .9rem; text-wrap: pretty; }
.note { max-width: 50rem; margin: .6rem 0; } .note p { max-width: none; }
nav { margin: 1.6rem 0 0; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; }
nav a { color: inherit; text-decoration: none; border-bottom: 1px solid var(--rule); }
code, pre, .read, kbd { font-family: var(--mono); font-size: .88em; }
pre { background: var(--raised); border: 1px solid var(--rule); border-radius: 6px; padding: .8rem 1rem;
  overflow-x: auto; line-height: 1.5; font-size: .78rem; }
/* a shadow at the side to which a table goes on: the paper over it moves with the table, the shadow does not */
.scroll { overflow-x: auto; margin: .9rem 0; position: relative; /* holds what only screen readers see */
  background: linear-gradient(to right, var(--paper) 35%, transparent) left / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--paper) 35%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to right, var(--rule), transparent) left / .8rem 100% no-repeat scroll,
    linear-gradient(to left, var(--rule), transparent) right / .8rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums lining-nums; line-height: 1.35; width: 100%; }
th, td { padding: .42rem .7rem .42rem 0; text-align: left; vertical-align: middle;
  border-bottom: 1px solid var(--rule); }
thead th { font-weight: 500; color: var(--soft); vertical-align: bottom; border-bottom-color: var(--soft); }
tbody th { font-weight: 600; white-space: nowrap; }
tr.group th { padding-top: 1.25rem; font-weight: 500; color: var(--soft); }
td.n, th.n { text-align: right; white-space: nowrap; }
td.word { white-space: nowrap; color: var(--soft); }
td.n + td, th.n + th { padding-left: .9rem; }
td small, th small { color: var(--soft); font-weight: 400; font-size: .92em; }
td small.ci { display: block; font-size: .86em; }
td.plot { padding: 0 .9rem 0 0; width: 235px; border-bottom: 0; } td.plot svg { display: block; overflow: visible; }
tr.axis td { border: 0; padding-top: 0; }
.swatch { display: inline-block; width: .62em; height: .62em; border-radius: 50%; margin-right: .5em; }
svg text { font-family: var(--sans); font-size: 10.5px; fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--rule); stroke-width: 1; } svg .zero { stroke: var(--ink); stroke-width: 1; }
svg .band { opacity: .14; }
svg .raw { fill: none; stroke-width: 1; opacity: .32; } svg .mean { fill: none; stroke-width: 1.8; }
svg .raw, svg .mean { stroke-linejoin: round; stroke-linecap: round; }
svg .whisker { stroke-width: 1.8; } svg .track { fill: var(--track); }
.forest { width: 220px; height: 34px; } .forest.axis { height: 16px; }
.share { width: 130px; height: 7px; display: block; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 1.4rem 1.6rem;
  margin: 1rem 0; }
.charts figure, .wall figure { margin: 0; } .charts svg { width: 100%; height: auto; display: block; }
.charts figure { display: flex; flex-direction: column; justify-content: space-between; }
.charts figcaption { margin-bottom: .35rem; line-height: 1.35; } .charts figcaption .last { float: right; }
.charts figcaption b { color: var(--ink); font-weight: 600; display: block; } .last { color: var(--ink); }
.wall { border-spacing: 0; width: auto; min-width: 100%; }
.wall th, .wall td { border: 0; padding: 0 .9rem .2rem 1px; vertical-align: top; }
.wall td { min-width: 7rem; } /* images of a row are of one width, however short the words under them */
.wall thead th { padding-bottom: .3rem; border-bottom: 1px solid var(--rule); }
.wall tr.prompt th { padding-top: 1.05rem; padding-bottom: .3rem; font-weight: 400; color: var(--soft);
  white-space: normal; }
.wall tr.prompt b { color: var(--ink); font-weight: 600; }
.wall img, .strip img { display: block; border-radius: 3px; box-shadow: 0 0 0 1px var(--rule);
  image-rendering: pixelated; max-width: 100%; height: auto; }
.wall .read, .strip .read { display: block; margin-top: .28rem; line-height: 1.35; overflow-wrap: anywhere; }
.read .judge { color: var(--soft); font-size: .9em; }
.right { color: var(--good); } .wrong { color: var(--bad); } .unknown { color: var(--soft); }
.wrong .was { text-decoration: underline wavy 1px; text-underline-offset: .22em; }
.strip { display: flex; flex-wrap: wrap; gap: 1rem 1.1rem; margin: 1.7rem 0 .4rem; } .strip figure { margin: 0; }
.strip figcaption { margin-bottom: .3rem; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--soft); } summary:hover { color: var(--ink); }
dl.facts { display: grid; grid-template-columns: fit-content(60%) 1fr; gap: .3rem 1.4rem; margin: .8rem 0; }
dl.facts dt { color: var(--soft); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.sr { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
footer { margin-top: 4rem; border-top: 1px solid var(--rule); padding-top: 1rem; }
@media print {
  :root { color-scheme: light; } html { font-size: 10.5pt; background: #fff; } body { max-width: none; padding: 0; }
  nav, details:not([open]) { display: none; } h2 { margin-top: 2rem; break-after: avoid; }
  h3, thead { break-after: avoid; } tr, figure, .strip { break-inside: avoid; } .scroll { overflow: visible; }
  .wall img, .strip img { max-width: 2.9cm; } .strip { flex-wrap: nowrap; } tr.prompt { break-after: avoid; }
  a { color: inherit; }
}
"""

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


def picture(charts: Sequence[tuple[str, str]], legend: Mapping[str, str], width: int = 460, height: int = 260) -> str:
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


def document(title: str, header: str, sections: list[tuple[str, str]], footer: str, css: str = "") -> str:
    """A whole page. `sections` are (title, HTML); empty ones are left out. `css` comes after the common rules."""
    shown = [(name, f"s{i}", body) for i, (name, body) in enumerate(sections, 1) if body]
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for name, anchor, _ in shown)
    parts = [f'<section id="{anchor}"><h2>{escape(name)}</h2>{body}</section>' for name, anchor, body in shown]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}{ink_rules()}{css}</style>\n</head>\n<body>\n"
        f"<header>{header}<nav>{links}</nav></header>\n<main>\n"
        + "\n".join(parts)
        + f"\n</main>\n<footer>{footer}</footer>\n"
        "</body>\n</html>\n"
    )


def swatch(ink: str) -> str:
    """The dot of a colour before a name."""
    return f'<span class="swatch {ink}"></span>'
