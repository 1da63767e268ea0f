"""A reward comparison as one page that needs nothing else. Its words and tables are in `templates`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from experiments.report import charts, reward_charts
from experiments.report.image_grids import data_uri
from experiments.report.page import as_html, render
from experiments.report.page_style import INKS, TEMPLATES
from experiments.report.page_words import known
from preference_data.image_files import read_image
from preference_data.line_files import first_existing

Report = Mapping[str, Any]
SHOWN = 24
"""Pairs on the page; the dashboard has more."""
MOST = 320
"""Pixels of the longer side of an embedded image; smaller ones stay as they are."""


def page(report: Report, folder: Path) -> str:
    """The whole document. `folder` is where relative paths of images start; a missing image leaves a note."""
    diagrams: tuple[Callable[..., str], ...] = (
        reward_charts.forest, reward_charts.reliability, reward_charts.grid, reward_charts.legibility_chart,
        reward_charts.climb_chart,
    )  # fmt: skip
    counted = (best_first, agreement_scale, difference_scale, worst_slices, covariates, columns_of, thumbnail)
    return render("rewards.html", {
        "title": "Glyphlab: reward comparison", "report": {"agreement": [], **report}, "folder": folder, "shown": SHOWN,
        "inks": {name: f"ink-{(i + 2) % INKS}" for i, name in enumerate(report["rewards"])},
        "axis": as_html(partial(charts.interval_axis, width=260, percent=True)),
        **{each.__name__: as_html(each) for each in diagrams}, **{each.__name__: each for each in counted},
    }, (TEMPLATES / "rewards.css").read_text("utf-8"))  # fmt: skip


def columns_of(names: Iterable[str]) -> list[tuple[str, str]]:
    """The heads of columns that each stand for a reward or a model."""
    return [("top", name) for name in names]


def best_first(report: Report) -> list[Report]:
    """The rewards by their agreement with people."""
    return sorted(report["accuracy"]["rewards"], key=lambda r: -known(r["accuracy"]["value"]))


def finite(estimates: Iterable[Report], names: tuple[str, ...] = ("low", "high")) -> list[float]:
    """The numbers of estimates that are known."""
    return [value for e in estimates for name in names if math.isfinite(value := known(e[name]))]


def agreement_scale(report: Report) -> tuple[float, float, tuple[float, float] | None]:
    """A scale that holds every interval of agreement, and the band of one person against the others."""
    ceiling = report["ceiling"].get("person")
    values = [0.5, *finite((r["accuracy"] for r in report["accuracy"]["rewards"]), ("value", "low", "high"))]
    values += finite([ceiling]) if ceiling else []
    band = (known(ceiling["low"]), known(ceiling["high"])) if ceiling else None
    return max(min(values) - 0.04, 0.0), min(max(values) + 0.04, 1.0), band


def difference_scale(report: Report) -> tuple[float, float]:
    """A scale that holds every difference of two rewards, and 0."""
    estimates = [r["difference"] for r in report["accuracy"]["differences"]]
    reach = max([abs(value) for value in finite(estimates)] or [0.1]) * 1.05 or 0.1
    return min([0.0, *finite(estimates, ("low",))]) - 0.01, reach


def worst_slices(row: Report) -> list[Report]:
    """The two slices in which a reward is calibrated worst."""
    return sorted(row["slices"], key=lambda s: -known(s["ece"]))[:2]


def covariates(report: Report) -> tuple[tuple[float, float], list[Report], list[Report]]:
    """A scale for all of them, those to which a reward leans more than people do, and the others; largest first."""
    values = finite(r["excess"] for r in report["bias"]["rows"])
    rows = sorted(report["bias"]["rows"], key=lambda r: -abs(known(r["excess"]["value"])))
    scale = min([-0.05, *values]) * 1.05, max([0.05, *values]) * 1.05
    return scale, [r for r in rows if r["leans"]], [r for r in rows if not r["leans"]]


def thumbnail(folder: Path, path: str, sha256: str, alt: str, won: bool = False) -> Markup:
    """The image as a data URI, at most `MOST` pixels; a note where it cannot be read."""
    try:
        small = Image.fromarray(read_image(first_existing(folder / path, folder / "pictures" / f"{sha256}.png")))
    except FileNotFoundError:
        return Markup('<span class="unknown">{} is not here</span>').format(alt)
    except (OSError, ValueError):
        return Markup('<span class="unknown">{} cannot be read</span>').format(alt)
    small.thumbnail((MOST, MOST))
    return Markup('<img{} loading="lazy" decoding="async" alt="{}" src="{}">').format(
        Markup(' class="won"' if won else ""), f"{alt}{', preferred by people' if won else ''}",
        data_uri(small, "png" if small.width * small.height < 20_000 else "jpeg", 88),
    )  # fmt: skip
