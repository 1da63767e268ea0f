"""Pick-a-Pic v2 (Kirstain et al., arXiv:2305.01569): two images in a row, labels 1/0, 0/1, or 0.5/0.5 for a tie.

A row without has_label was shown and not answered; it judges nothing. Both good and both bad are ties here, and come
back as themselves only in rows that we wrote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from preference_data.campaign.campaigns import label
from preference_data.exchange.formats.preference_format import (
    Format,
    Row,
    RowAnswer,
    carried,
    content,
    extra,
    row_answer,
)
from preference_data.exchange.formats.values import annotator, moment, number
from preference_data.exchange.judgements import Judgement
from preference_data.records import ImageRef

LABELS = {"first": (1.0, 0.0), "second": (0.0, 1.0)}


def encode(judgements: Sequence[Judgement], read: Callable[[ImageRef], bytes]) -> list[dict[str, Any]]:
    """The columns of the published data set, and one of ours. Images are PNG, which its readers open like JPEG."""
    people: dict[str, int] = {}
    prompts = Counter(j.prompt.id for j in judgements)
    rows = []
    for i, j in enumerate(judgements):
        one, other = LABELS.get(j.outcome, (0.5, 0.5))
        best = {1.0: j.first.sha256, 0.0: j.second.sha256}.get(one, "tie")
        rows.append({
            "are_different": label(j.first) != label(j.second), "best_image_uid": best, "caption": j.prompt.text,
            "created_at": datetime.fromtimestamp(j.at or 0.0, UTC), "has_label": True,
            "image_0_uid": j.first.sha256, "image_0_url": "", "image_1_uid": j.second.sha256, "image_1_url": "",
            "jpg_0": read(j.first), "jpg_1": read(j.second), "label_0": one, "label_1": other,
            "model_0": label(j.first), "model_1": label(j.second), "ranking_id": i,
            "user_id": people.setdefault(j.annotator, len(people)),
            "num_example_per_prompt": prompts[j.prompt.id], "__index_level_0__": i, "glyphlab": carried(j),
        })  # fmt: skip
    return rows


def decode(row: Row) -> RowAnswer | None:
    """None for a row without a label."""
    if (labelled := row["has_label"]) not in (True, False, None):
        raise ValueError(f"has_label is {labelled!r}; it is true or false")
    if not labelled:
        return None
    labels = (number(row["label_0"], "label_0"), number(row["label_1"], "label_1"))
    outcome = {(1.0, 0.0): "first", (0.0, 1.0): "second", (0.5, 0.5): "tie"}.get(labels)
    if outcome is None:
        raise ValueError(f"labels are {labels}; they are 1 and 0, 0 and 1, or 0.5 twice")
    best, uids = row.get("best_image_uid"), (row.get("image_0_uid"), row.get("image_1_uid"))
    if outcome != "tie" and best in uids and uids[0] != uids[1] and best != uids[outcome == "second"]:
        raise ValueError(f"the labels are {labels}, but best_image_uid is {best!r}, the other image")
    extras = extra(row)
    decoded = row_answer(row["caption"], content(row, "jpg_0", row.get("model_0") or "unknown"),
                 content(row, "jpg_1", row.get("model_1") or "unknown"), outcome, extras)  # fmt: skip
    return decoded if extras else RowAnswer(decoded.prompt, decoded.first, decoded.second, decoded.outcome,
                                   {"annotator": annotator(row.get("user_id"), "user_id"),
                                    "at": moment(row.get("created_at"))})  # fmt: skip


PICKAPIC = Format("pickapic", "parquet", True, encode, decode, "Pick-a-Pic v2; ties are 0.5 and 0.5")
