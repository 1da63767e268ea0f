"""Where an image of a set comes from: source file, licence, seed, every filter's number, and the decision.

An image is named by its file in the set, its file in the source, its sha256 or the beginning of that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.curation.curated_folder import DECISIONS, chosen_filters, decided, is_set, recorded
from experiments.curation.shard_files import HIDDEN, read_table
from experiments.curation.thresholds import in_order

SHORTEST = 6
"""letters of a sha256 that name an image"""
LICENCES = ("license", "licence")
LONG = 200
"""characters of a fact that are shown"""


def lineage(out: Path, name: str) -> Iterator[str]:
    """Lines about the images that a name is of. Raises ValueError when the set has none, or is not finished."""
    if not is_set(out) or "kept" not in (about := recorded(out)):
        raise ValueError(f"{out} is no finished set; make one with: glyphlab curate IMAGES -o {out}")
    decisions = read_table(out / HIDDEN / DECISIONS).to_pylist()
    rows = [line for line in decisions if is_named(line, name, out)]
    if not rows:
        raise ValueError(
            f"{out} and its sources have no image {name!r}; name a file of {out}/images, a file of the source, or a "
            f"sha256 of at least {SHORTEST} letters"
        )
    filters = chosen_filters(out, ())
    result = decided(out, about["shards"], filters)
    for line in rows:
        row = line["row"]
        yield f"{line['file_name'] or line['name']}: " + (
            "stays" if not line["dropped_by"] else f"dropped by {line['dropped_by']}: {line['why']}"
        )
        yield f"  from       {line['name']}"
        yield f"  sha256     {line['id'] or 'unknown: it cannot be read'}"
        facts = json.loads(result.images["facts"][row] or "{}")
        licence = next((facts.pop(key) for key in LICENCES if key in facts), "unknown: the source names none")
        yield f"  licence    {licence}"
        for key, value in facts.items():
            yield f"  {key:<10} {shortened(value)}"
        if line["duplicate_of"] >= 0:
            yield f"  like       {result.images['name'][line['duplicate_of']]}"
        own = np.flatnonzero(result.captions["row"] == row)
        for index in own:
            by = result.caption_dropped_by[index]
            yield f"  caption    {result.captions['text'][index]!r}" + (f", dropped by {by}" if by else "")
        for filter_name, each in in_order(filters).items():
            value = result.number(filters, filter_name, row)
            bounds = ", ".join(f"{key} {bound:g}" for key, bound in each.bounds().items()) or "no threshold"
            shown = "not measured" if math.isnan(value) else f"{value:.6g}"
            yield f"  {each.stage} {filter_name:<16} {each.column} = {shown} ({bounds}; {each.unit})"


def is_named(line: dict[str, Any], name: str, out: Path) -> bool:
    """Whether a line of the decisions is about the image of that name."""
    if len(name) >= SHORTEST and line["id"].startswith(name.lower()):
        return True
    in_set = line["file_name"] and Path(name) in (Path(line["file_name"]), out / line["file_name"])
    return bool(in_set) or Path(name).absolute() == Path(line["name"]).absolute() or name == Path(line["name"]).name


def shortened(value: Any) -> str:
    """A fact as one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONG else f"{text[:LONG]} ..."
