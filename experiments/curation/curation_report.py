"""One page about a set: counts by stage, drops by filter, histograms, and images on both sides of each threshold.

The page holds its images and needs no network. Images that were dropped are read from the source; where one is gone,
the page says so.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from experiments.curation.balancing.resampling import balance_table
from experiments.curation.balancing.retrieval import Retrieval, summary
from experiments.curation.curated_folder import CAPTIONS, chosen_filters, decided, is_set, lacking, recorded
from experiments.curation.deciding import Decisions, cells_of
from experiments.curation.filters.rules import Filter
from experiments.curation.histogram import histogram, number
from experiments.curation.measuring import ENTRIES, entry_of
from experiments.curation.shard_files import read_table, table_path
from experiments.curation.thresholds import STAGES, Filters, in_order
from experiments.record.whole_files import write_bytes
from experiments.report.image_grids import data_uri
from experiments.report.page_style import CSS
from preference_data.image_files import decode_image
from preference_data.line_files import read_json_lines
from preference_data.statistics.shares import exact

PAGE = "report.html"
EACH = 5
"""images on each side of a threshold"""
THUMB = 200
"""pixels of the longer side"""
BROKEN = 30
"""broken files that the page names"""


class Thumbnails:
    """Images of a set's sources as data URIs, read when they are shown."""

    def __init__(self, out: Path, shards: int) -> None:
        self._out, self._shards = out, shards
        self._rows: dict[int, dict[str, Any]] = {}
        self._images: dict[int, dict[str, str]] = {}

    def image(self, row: int) -> dict[str, str]:
        """`name` and `uri` of a row; `problem` instead of a URI where it cannot be read."""
        if row not in self._images:
            if not self._rows:
                tables = (read_table(table_path(self._out, ENTRIES, shard)) for shard in range(self._shards))
                self._rows = {
                    line["row"]: line for table in tables for line in table.drop_columns(["facts"]).to_pylist()
                }
            self._images[row] = self._read(row)
        return self._images[row]

    def _read(self, row: int) -> dict[str, str]:
        entry = entry_of(self._rows[row])
        try:
            image = Image.fromarray(decode_image(entry.content(), entry.name))
        except (OSError, ValueError) as error:
            return {"name": entry.name, "uri": "", "problem": str(error)[:160]}
        image.thumbnail((THUMB, THUMB))
        return {"name": entry.name, "uri": data_uri(image, "jpeg", 80)}


def write_report(out: Path) -> Path:
    """Write the page of a set; where. Raises ValueError when the folder is no finished set."""
    if not is_set(out) or "kept" not in (about := recorded(out)):
        raise ValueError(f"{out} is not a finished set; make one with: glyphlab curate IMAGES -o {out}")
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    filters = chosen_filters(out, ())
    result = decided(out, about["shards"], filters)
    thumbnails = Thumbnails(out, about["shards"])
    loader = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("curation_report.html")
    broken = np.flatnonzero(result.dropped_by == "broken")[:BROKEN]
    values = {
        "title": str(out), "css": Markup(CSS), "count": about["images"], "kept": about["kept"],
        "sources": about["sources"],
        "stages": [{**each, "name": STAGES[each["stage"]]} for each in result.stages(filters)],
        "filters": [section(name, each, result, thumbnails, filters) for name, each in in_order(filters).items()
                    if name in result.reached],
        "rates": rates(result),
        "retrieval": retrieval_section(filters.retrieval, result, thumbnails),
        "cells": balance_table([row for _, row in read_json_lines(out / CAPTIONS)], cells_of(result)),
        "broken": [(result.images["name"][row], result.images["problem"][row]) for row in broken],
    }  # fmt: skip
    write_bytes(out / PAGE, page.render(values).encode())
    return out / PAGE


def section(name: str, each: Filter, result: Decisions, thumbnails: Thumbnails, chosen: Filters) -> dict[str, Any]:
    """What the page says of one filter."""
    columns = result.captions if each.of_captions else result.images
    dropped_by = result.caption_dropped_by if each.of_captions else result.dropped_by
    reached = result.reached[name]
    values = each.shown(columns)
    numbers = np.where(reached & ~exempt(each, result), values, np.nan)
    finite = np.flatnonzero(np.isfinite(numbers))
    dropped = dropped_by == name
    missing = {} if np.isfinite(values).any() else lacking(chosen)
    failures = [key for key in columns if key.endswith("_error") and key.removesuffix("_error") == each.group]
    chart = Markup(histogram(numbers[finite], dropped[finite], each.bounds(), each.column)) if is_scale(numbers) else ""
    return {
        "name": name, "what": " ".join((type(each).__doc__ or "").split("\n\n")[0].split()), "column": each.column,
        "unit": each.unit, "reason": each.reason, "source": each.source, "rendered": each.rendered,
        "bounds": {key: number(value) for key, value in each.bounds().items()} | each.choices(),
        "reached": int(reached.sum()), "dropped": int(dropped.sum()),
        "things": "captions" if each.of_captions else "images",
        "unmeasured": int(reached.sum()) - len(finite),
        "failed": sum(int((columns[key][reached] != "").sum()) for key in failures),
        "histogram": chart, "lacking": missing.get(each.group, ""),
        "sides": sides(name, each, result, numbers, thumbnails),
    }  # fmt: skip


def is_scale(numbers: np.ndarray) -> bool:
    """Whether numbers are more than a yes or a no, so that some are nearer to a threshold than others."""
    return len(np.unique(numbers[np.isfinite(numbers)])) > 2


def exempt(each: Filter, result: Decisions) -> np.ndarray:
    """Which images or captions a filter leaves alone because they are rendered pages."""
    rendered = result.images["rendered"]
    rendered = rendered[result.captions["row"]] if each.of_captions else rendered
    return np.zeros_like(rendered) if each.rendered else rendered


def sides(
    name: str, each: Filter, result: Decisions, numbers: np.ndarray, thumbnails: Thumbnails
) -> list[dict[str, Any]]:
    """The images nearest to each threshold, those that it drops and those that pass."""
    results = []
    for bound, value in each.bounds().items():
        outside = numbers < value if bound == "least" else numbers > value
        passes = np.isfinite(numbers) & ~each.outside(numbers)
        for kind, mask in (("out", outside), ("in", passes & is_scale(numbers))):
            rows = np.flatnonzero(mask)
            rows = rows[np.argsort(np.abs(numbers[rows] - value), kind="stable")][:EACH]
            words = "dropped" if kind == "out" else "passed"
            examples = [example(name, each, result, int(row), numbers, thumbnails) for row in rows]
            results.append(
                {"kind": kind, "title": f"{words}, nearest to {bound}={number(value)}", "examples": examples}
            )
    return results


def example(
    name: str, each: Filter, result: Decisions, index: int, numbers: np.ndarray, thumbnails: Thumbnails
) -> dict[str, Any]:
    """One image with its number; of captions the text, of duplicates also the image that stays."""
    row = int(result.captions["row"][index]) if each.of_captions else index
    shown = [row]
    if result.dropped_by[row] == name and result.images["duplicate_of"][row] >= 0:
        shown.append(int(result.images["duplicate_of"][row]))
    words = str(result.captions["text"][index])[:120] if each.of_captions else Path(result.images["name"][row]).name
    return {"value": number(numbers[index]), "words": words, "images": [thumbnails.image(each) for each in shown]}


def retrieval_section(settings: Retrieval, result: Decisions, thumbnails: Thumbnails) -> dict[str, Any]:
    """The images that are most like the queries, the last that are retrieved, and the first that are not."""
    if not settings.queries:
        return {}
    likeness = result.images["likeness"]
    rows = np.flatnonzero(np.isfinite(likeness))
    rows = rows[np.argsort(-likeness[rows], kind="stable")]
    own = result.images["category"][rows] == settings.name
    inside, outside = rows[own], rows[~own][:EACH]
    groups = {"most alike": inside[:EACH], "least alike of the retrieved": inside[EACH:][-EACH:], "left": outside}
    sides = []
    for title, some in groups.items():
        examples = [
            {"value": number(likeness[row]), "words": Path(result.images["name"][row]).name,
             "images": [thumbnails.image(int(row))]} for row in some
        ]  # fmt: skip
        sides.append({"kind": "out" if title == "left" else "in", "title": title, "examples": examples})
    return {"text": summary(result.images, settings)[0], "queries": settings.queries, "sides": sides}


def rates(result: Decisions) -> list[tuple[str, list[dict[str, Any]]]]:
    """Drop rates by script of the first caption and, of rendered pages, by language and type face."""
    scripts: dict[str, list[int]] = defaultdict(list)
    first = {
        int(row): str(script)
        for row, script in zip(result.captions["row"][::-1], result.captions["script"][::-1], strict=True)
    }
    for row, script in first.items():
        scripts[script].append(row)
    languages, faces = defaultdict(list), defaultdict(list)
    for row in np.flatnonzero(result.images["rendered"]):
        facts = json.loads(result.images["facts"][row])
        languages[str(facts.get("language", "?"))].append(int(row))
        for face in sorted(
            {str(line["face"]) for line in facts.get("lines", ()) if isinstance(line, Mapping) and "face" in line}
        ):
            faces[face].append(int(row))
    return [(title, [rate(name, rows, result) for name, rows in sorted(table.items())])
            for title, table in (("script of the caption", scripts), ("language of rendered pages", languages),
                                 ("type face of rendered pages", faces))]  # fmt: skip


def rate(name: str, rows: Sequence[int], result: Decisions) -> dict[str, Any]:
    """How many of some images were dropped, with an exact interval, and by what most of them."""
    by: Counter[str] = Counter(str(result.dropped_by[row]) for row in rows)
    dropped = len(rows) - by.pop("", 0)
    low, high = exact(dropped, len(rows))
    most = ", ".join(f"{filter_name} {count}" for filter_name, count in by.most_common(3))
    return {"name": name, "count": len(rows), "dropped": dropped, "rate": dropped / len(rows), "low": low, "high": high,
            "most": most}  # fmt: skip
