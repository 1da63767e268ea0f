"""Pages from templates: whatever a run contains is escaped, and charts and rendered notes alone are HTML already."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from experiments.report import charts, image_grids, page_words, tables
from experiments.report.page_style import CSS, TEMPLATES, ink_rules

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, values: Mapping[str, Any], css: str = "") -> Markup:
    """The page, or the part of one, that a file of `templates` makes of the values. `css` follows the common rules."""
    rules = Markup(CSS + ink_rules() + css)
    return Markup(environment().get_template(template).render({**values, "css": rules}))


def document(title: str, header: str, sections: list[tuple[str, str]], footer: str) -> str:
    """A whole page of parts that are HTML already. `sections` are (title, HTML); empty ones are left out."""
    parts = [(name, Markup(body)) for name, body in sections]
    values = {"title": title, "header": Markup(header), "sections": parts, "footer": Markup(footer)}
    return render("page.html", values)


def swatch(ink: str) -> Markup:
    """The dot of a colour before a name."""
    return part("swatch", ink)


def part(name: str, *values: Any) -> Markup:
    """What a macro of parts.html makes of the values."""
    return Markup(getattr(environment().get_template("parts.html").module, name)(*values))


@cache
def environment() -> Environment:
    """Jinja's environment with the words and charts of every page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    templates.tests["finite"] = lambda value: math.isfinite(page_words.known(value))
    templates.filters |= {
        "number": page_words.number, "signed": page_words.signed, "duration": page_words.duration,
        "points": page_words.points, "percentage": page_words.percentage,
        "stage": page_words.title, "in_sentence": page_words.in_sentence, "setting": page_words.setting,
        "verdict": page_words.verdict, "short": charts.short, "thousands": "{:,}".format,
        "sessions": tables.sessions, "json": lambda value: json.dumps(value, indent=1, ensure_ascii=False),
    }  # fmt: skip
    templates.globals |= {"span": page_words.span, "embedded": image_grids.embedded, "marks": image_grids.MARKS}
    for chart in (charts.interval_row, charts.interval_axis, charts.share_bar):
        templates.globals[chart.__name__] = as_html(chart)
    return templates


def as_html(chart: Any) -> Any:
    """The chart as HTML that is not escaped again: it escapes the words inside itself."""
    return lambda *values, **options: Markup(chart(*values, **options))
