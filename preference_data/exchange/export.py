"""Preferences out of the store, in the formats that others read; the way back is preference_data/exchange/incoming.py.

An export is a file and, for formats that name images by path, a folder `pictures` beside it. A format whose readers
know no tie needs to be told what to do with ties: `refuse` (the default; nothing is written), `drop` (only counted),
or `aside` (they go to FILE.ties.jsonl beside it, which an import reads back). A tie is never written as a win.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from preference_data.atomic_files import replacing
from preference_data.exchange.formats.plain import JSONL, PARQUET
from preference_data.exchange.formats.preference_format import Format, png_path
from preference_data.exchange.formats.table import FORMATS, find
from preference_data.exchange.formats.trl import KTO, PLAIN, WORDED, Wording, embedded
from preference_data.exchange.incoming import Malformed, read
from preference_data.exchange.judgements import DECIDED, Judgement
from preference_data.sentences import Sentence
from preference_data.store.facts import source_refs
from preference_data.store.image_store import ImageFolder

__all__ = ["FORMATS", "TIES", "Exported", "Malformed", "find", "read", "write"]

TIES = ("refuse", "drop", "aside")


@dataclass(frozen=True)
class Exported:
    """What an export wrote: rows, ties left out, and ties set aside in `aside`."""

    rows: int
    dropped: int
    excluded: Path | None


def write(
    judgements: Sequence[Judgement], path: Path, kind: str, images: ImageFolder, ties: str = "refuse",
    wording: Wording = PLAIN,
) -> Exported:  # fmt: skip
    """Write judgements in a format; the file is replaced whole or not at all.

    `wording` is what TRL's rows ask; a file of TRL's that is called .parquet holds the images themselves. Raises
    ValueError for ties in a format without them when `ties` is "refuse", and when there is nothing to write.
    """
    chosen = find(kind)
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}; choose one of {', '.join(TIES)}")
    if not chosen.sources and (edits := sum(bool(j.prompt.sources) for j in judgements)):
        raise ValueError(Sentence(
            "{edits} of {all} judgements are about edits, and {kind} has no place for the images that were edited; "
            "choose one of {others}",
            {"edits": edits, "all": len(judgements), "kind": kind,
             "others": ", ".join(each.name for each in FORMATS.values() if each.sources)},
        ))  # fmt: skip
    fit = [j for j in judgements if _fits(chosen, j)]
    left = [j for j in judgements if not _fits(chosen, j)]
    if left and ties == "refuse":
        raise ValueError(Sentence(
            "{left} of {all} judgements are ties, which {kind} cannot hold; say ties=drop, or ties=aside to keep them "
            "in a file beside it",
            {"left": len(left), "all": len(judgements), "kind": kind},
        ))  # fmt: skip
    if not fit:
        raise ValueError(Sentence("there is nothing to write as {kind}: {all} judgements, {left} of them ties",
                                  {"kind": kind, "all": len(judgements), "left": len(left)}))  # fmt: skip
    encode, container = chosen.encode, chosen.container
    if kind in WORDED:
        container = "parquet" if path.suffix == ".parquet" else container
        image_value = embedded(lambda ref: images.path(ref.sha256).read_bytes()) if container == "parquet" else png_path
        encode = partial(WORDED[kind], wording=wording, image_value=image_value)
    named = fit if container != "parquet" or chosen is PARQUET else []  # the others hold the images themselves
    side_path = path.with_name(f"{path.name}.ties.jsonl") if left and ties == "aside" else None
    _copy([*named, *(left if side_path else [])], path.parent, images)
    _put(path, container, encode(fit, lambda ref: images.path(ref.sha256).read_bytes()))
    if side_path is not None:
        _put(side_path, "jsonl", JSONL.encode(left, lambda ref: b""))
    return Exported(len(fit), len(left) if side_path is None else 0, side_path)


def _fits(chosen: Format, j: Judgement) -> bool:
    """KTO can also say that both are good or both bad; only a tie between them says nothing there."""
    return chosen.ties or j.outcome in DECIDED or (chosen is KTO and j.outcome != "tie")


def _copy(judgements: Sequence[Judgement], folder: Path, images: ImageFolder) -> None:
    """Put the images beside the file, each once."""
    refs = {p.sha256: p for j in judgements for p in (j.first, j.second)}
    for ref in (source_refs(j.prompt for j in judgements) | refs).values():
        target = folder / png_path(ref)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh = target.with_name(f".{target.name}")
            shutil.copyfile(images.path(ref.sha256), fresh)
            os.replace(fresh, target)


def features_of(schema: Any) -> str:
    """What the datasets package reads of a Parquet file's columns, so that `images` are images without a cast."""

    def feature(kind: Any) -> Any:
        if str(kind).startswith("list"):
            return {"feature": feature(kind.value_type), "_type": "List"}
        if str(kind).startswith("struct"):
            return {field.name: feature(field.type) for field in kind}
        return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}

    columns = {field.name: feature(field.type) for field in schema}
    columns["images"] = {"feature": {"_type": "Image"}, "_type": "List"}
    return json.dumps({"info": {"features": columns}})


def _put(path: Path, container: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows aside, then in place."""
    if container == "parquet":
        import pyarrow
        import pyarrow.parquet as parquet

        table, buffer = pyarrow.Table.from_pylist(rows), io.BytesIO()
        if "images" in table.column_names:
            table = table.replace_schema_metadata({"huggingface": features_of(table.schema)})
        parquet.write_table(table, buffer)
        content = buffer.getvalue()
    elif container == "jsonl":
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    else:
        content = (json.dumps(rows, ensure_ascii=False, indent=1) + "\n").encode()
    with replacing(path) as file:
        file.write(content)
