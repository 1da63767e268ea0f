"""Diffusion-DPO as the scripts of diffusers and its authors read it: jpg_0, jpg_1, label_0, caption.

The diffusers script takes a label of 0.5 for a win of image 0, so no tie may ever be in such a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from preference_data.exchange.formats.preference_format import (
    Format,
    Row,
    RowAnswer,
    carried,
    content,
    extra,
    row_answer,
)
from preference_data.exchange.formats.values import number
from preference_data.exchange.judgements import Judgement
from preference_data.records import ImageRef


def encode(judgements: Sequence[Judgement], read: Callable[[ImageRef], bytes]) -> list[dict[str, Any]]:
    """label_0 is 1 when image 0 is better, else 0. Images are PNG, which its readers open like JPEG."""
    return [
        {"jpg_0": read(j.first), "jpg_1": read(j.second), "label_0": int(j.outcome == "first"),
         "label_1": int(j.outcome == "second"), "caption": j.prompt.text, "glyphlab": carried(j)}
        for j in judgements
    ]  # fmt: skip


def decode(row: Row) -> RowAnswer | None:
    """0.5 is read as what it is, a tie."""
    value = number(row["label_0"], "label_0")
    other = row.get("label_1")
    if other is not None and number(other, "label_1") != 1.0 - value:
        raise ValueError(f"label_0 is {value} and label_1 is {other}; together they are 1")
    outcome = {1.0: "first", 0.0: "second", 0.5: "tie"}.get(value)
    if outcome is None:
        raise ValueError(f"label_0 is {value}; it is 1, 0 or 0.5")
    return row_answer(row["caption"], content(row, "jpg_0"), content(row, "jpg_1"), outcome, extra(row))


DIFFUSION_DPO = Format("diffusion-dpo", "parquet", False, encode, decode, "Diffusion-DPO's loaders; no ties")
