"""Decides from stored numbers which images stay: no image is opened, so another threshold takes seconds.

Stage after stage, filter after filter: an image belongs to the first filter that drops it. Captions are dropped one by
one, and an image with its last. The captions of copies count for the copy that is kept.

Legend: N images, C captions.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.curation.balancing.image_categories import GENERAL, cells, seen_categories
from experiments.curation.balancing.retrieval import retrieved
from experiments.curation.edit_links import drop_together, with_pairs
from experiments.curation.filters.rules import Filter
from experiments.curation.measures.measure_groups import measures_of
from experiments.curation.measuring import CAPTIONS, ENTRIES, is_current
from experiments.curation.shard_files import read_note, read_table, table_path
from experiments.curation.thresholds import Filters, in_order

EMPTY = {"number": np.nan, "bits": 0, "flag": False, "text": ""}
WORD = re.compile(r"\w+")
KINDS = {"number": np.float64, "bits": np.uint64, "flag": bool, "text": object}


@dataclass(frozen=True)
class Decisions:
    """What every filter did. Arrays have an element for each image or caption."""

    images: dict[str, np.ndarray]
    """all numbers, those that depend on which images are left included"""
    captions: dict[str, np.ndarray]
    dropped_by: np.ndarray
    """[N] name of the filter that dropped the image; "" = it stays"""
    caption_dropped_by: np.ndarray
    """[C] the same of captions"""
    reached: dict[str, np.ndarray] = field(default_factory=dict)
    """of each filter, which images (or captions) it had to decide on"""

    @property
    def staying(self) -> np.ndarray:
        """[N] which images stay."""
        return np.asarray(self.dropped_by == "")

    def number(self, filters: Filters, name: str, row: int) -> float:
        """The number that a filter compared for an image; of captions the first one that it drops, or else the first.
        NaN where it has none."""
        each = in_order(filters)[name]
        if not each.of_captions:
            return float(each.shown(self.images)[row])
        own = np.flatnonzero(self.captions["row"] == row)
        values = each.shown({name: column[own] for name, column in self.captions.items()})
        wrong = values[each.outside(values)]
        return float(wrong[0]) if len(wrong) else float(values[0]) if len(values) else float("nan")

    def stages(self, filters: Filters) -> list[dict[str, Any]]:
        """Of each stage, how many images came and stayed, and how many each filter dropped; an edit counts as one."""
        rows = []
        dropped_by = self.dropped_by[~self.images["is_source"]]
        left = len(dropped_by)
        for number in range(1, 8):
            names = [name for name, each in in_order(filters).items() if each.stage == number]
            drops = {name: int((dropped_by == name).sum()) for name in names}
            rows.append({"stage": number, "in": left, "out": left - sum(drops.values()), "drops": drops})
            left -= sum(drops.values())
        return rows


def load(folder: Path, shards: int, filters: Filters) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The columns of images and of captions, of all shards."""
    tables = [read_table(table_path(folder, ENTRIES, shard)) for shard in range(shards)]
    names = np.concatenate([_array(table, "name") for table in tables])
    images: dict[str, np.ndarray] = {
        "name": names, "rendered": np.concatenate([_array(table, "rendered") for table in tables]).astype(bool),
        "facts": np.concatenate([_array(table, "facts") for table in tables]),
        "duplicate_of": np.full(len(names), -1),
    }  # fmt: skip
    images["category"] = np.array([category_of(facts) for facts in images["facts"]], dtype=object)
    for each in measures_of(filters):
        kinds = {**each.columns, f"{each.name}_error": "text"}
        for column, kind in kinds.items():
            images[column] = np.full(len(names), EMPTY[kind], dtype=KINDS[kind])
        for shard in range(shards):
            path = table_path(folder, each.name, shard)
            if is_current(path, each, read_note(table_path(folder, ENTRIES, shard))):
                fill(images, read_table(path), each.columns, f"{each.name}_error")
    images["category"] = seen_categories(images)
    captions = [read_table(table_path(folder, CAPTIONS, shard)) for shard in range(shards)]
    columns = {name: np.concatenate([_array(table, name) for table in captions]) for name in captions[0].column_names}
    images["texts"] = joined_texts(columns, len(names))
    links = [table["sources"].to_pylist() if "sources" in table.column_names else [()] * len(table) for table in tables]
    with_pairs(images, [own for part in links for own in part])
    return images, columns


def joined_texts(captions: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """[N] the captions of each image without case and punctuation, so that equal ones are equal; "" for none."""
    texts: list[list[str]] = [[] for _ in range(count)]
    for row, text in zip(captions["row"], captions["text"], strict=True):
        texts[row].append(" ".join(WORD.findall(unicodedata.normalize("NFKC", text).casefold())))
    return np.array(["\n".join(own) for own in texts], dtype=object)


def category_of(facts: str) -> str:
    """The category that a source names, or the kind of a written page; "general" where there is neither."""
    about = json.loads(facts) if facts else {}
    return str(about.get("category") or about.get("kind") or GENERAL)


def fill(images: Mapping[str, np.ndarray], table: Any, columns: Iterable[str], error: str) -> None:
    """Put the rows of a shard's table where they belong."""
    rows = _array(table, "row")
    for column in (*columns, "error"):
        values, target = _array(table, column), images[error if column == "error" else column]
        if target.dtype == object:
            values = np.asarray([value or "" for value in values], dtype=object)
        elif target.dtype != np.float64:
            values = table[column].fill_null(0 if target.dtype == np.uint64 else False).to_numpy(zero_copy_only=False)
        target[rows] = values


def _array(table: Any, column: str) -> np.ndarray:
    return np.asarray(table[column].to_numpy(zero_copy_only=False))


def good_in_itself(images: Mapping[str, np.ndarray], filters: Filters) -> np.ndarray:
    """[N] which images no threshold of the stages 1 and 2 drops, whatever other images there are.

    Filters of groups that are not measured of every image do not count: what looks like an unsafe image goes with it.
    """
    everything = np.ones(len(images["name"]), dtype=bool)
    good = everything.copy()
    for each in in_order(filters).values():
        if each.stage <= 2 and not each.group and each.column in images:
            good &= ~each.drops(images, everything)
    return good


def decide(
    images: dict[str, np.ndarray], captions: dict[str, np.ndarray], filters: Filters, until: int = 7
) -> Decisions:
    """Apply the filters of the stages up to `until`."""
    images, captions = dict(images), dict(captions)
    count = len(images["name"])
    result = Decisions(images, captions, np.full(count, "", dtype=object), np.full(len(captions["row"]), "", object))
    good = good_in_itself(images, filters)
    images["captions_listed"] = captions_listed(result)
    for name, each in in_order(filters).items():
        if each.stage > until:
            break
        if name == "category":
            images.update(retrieved(images, result.staying, filters.retrieval))
        if each.of_captions:
            drop_captions(result, name, each)
            drop_together(images, result.dropped_by, name)
            continue
        if each.bounds():
            images.update(each.prepared(images, result.staying, good))
        images.setdefault(each.column, np.full(count, np.nan))
        result.reached[name] = result.staying
        result.dropped_by[each.drops(images, result.staying)] = name
        drop_together(images, result.dropped_by, name)
        if name == "duplicates":
            hand_over_captions(result)
    return result


def hand_over_captions(result: Decisions) -> None:
    """Give the captions of copies to the image that they are copies of."""
    owner = np.arange(len(result.dropped_by))
    copies = np.flatnonzero((result.dropped_by == "duplicates") & (result.images["duplicate_of"] >= 0))
    owner[copies] = result.images["duplicate_of"][copies]
    result.captions["row"] = owner[result.captions["row"]]
    result.images["captions_listed"] = captions_listed(result)


def cells_of(result: Decisions) -> list[str]:
    """Category and scale of each image that stays, in order; what edits were made from is none of them."""
    rows = np.flatnonzero(result.staying & ~result.images["is_source"])
    return [str(name) for name in cells(result.images)[rows]]


def captions_listed(result: Decisions) -> np.ndarray:
    """[N] how many captions an image has; NaN of what edits were made from."""
    counts = np.bincount(result.captions["row"], minlength=len(result.dropped_by)).astype(float)
    return np.where(result.images["is_source"], np.nan, counts)


def drop_captions(result: Decisions, name: str, each: Filter) -> None:
    """Drop captions, and images whose last one goes. An image that has none is left to the filter `captioned`."""
    rows, count = result.captions["row"], len(result.dropped_by)
    rendered = {"rendered": result.images["rendered"][rows]}
    alive = (result.caption_dropped_by == "") & result.staying[rows]
    result.reached[name] = alive
    before = np.bincount(rows[alive], minlength=count)
    result.caption_dropped_by[each.drops({**result.captions, **rendered}, alive)] = name
    after = np.bincount(rows[alive & (result.caption_dropped_by == "")], minlength=count)
    result.dropped_by[result.staying & (before > 0) & (after == 0)] = name
