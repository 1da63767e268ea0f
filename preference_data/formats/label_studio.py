"""Label Studio's tasks with annotations. Its Pairwise tag knows left and right only, so the outcome also stands in a
Choices tag, and a tie has no pairwise result at all.

    <View>
      <Text name="text" value="$prompt"/>
      <Pairwise name="pairwise" toName="left,right"/>
      <Image name="left" value="$left"/> <Image name="right" value="$right"/>
      <Choices name="outcome" toName="left"><Choice value="left"/><Choice value="right"/><Choice value="tie"/>
        <Choice value="both_good"/><Choice value="both_bad"/></Choices>
    </View>
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from preference_data.formats.interface import Format, Row, Said, carried, extra, file, place, said
from preference_data.judgements import Judgement
from preference_data.records import ImageRef

SIDES = {"first": "left", "second": "right"}
BACK = {"left": "first", "right": "second", "tie": "tie", "both_good": "both_good", "both_bad": "both_bad"}


def encode(judgements: Sequence[Judgement], _: Callable[[ImageRef], bytes]) -> list[dict[str, Any]]:
    """One task a judgement, the first picture on the left."""
    tasks = []
    for i, j in enumerate(judgements, 1):
        shown = SIDES.get(j.outcome, j.outcome)
        result = [{"from_name": "outcome", "to_name": "left", "type": "choices", "value": {"choices": [shown]}}]
        if j.outcome in SIDES:
            result.append({"from_name": "pairwise", "to_name": "left,right", "type": "pairwise",
                           "value": {"selected": shown}})  # fmt: skip
        tasks.append({
            "id": i, "data": {"prompt": j.prompt.text, "left": place(j.first), "right": place(j.second)},
            "annotations": [{"completed_by": {"email": j.annotator or "majority"}, "result": result}],
            "glyphlab": carried(j),
        })  # fmt: skip
    return tasks


def decode(row: Row) -> Said | None:
    """A task with one annotation; `tasks` makes one of each. None for a skipped one."""
    annotation = row["annotations"][0]
    if annotation.get("was_cancelled"):
        return None
    found = [BACK.get(str(r["value"].get("choices", r["value"].get("selected", [""])) if r["type"] == "pairwise"
                          else r["value"]["choices"][0])) for r in annotation["result"]
             if r["type"] in ("pairwise", "choices")]  # fmt: skip
    if not found or None in found or len(set(found)) != 1:
        raise ValueError(f"the annotation's outcomes are {found}; it has one: left, right, tie, both_good or both_bad")
    data = row["data"]
    return said(data["prompt"], file(data, "left"), file(data, "right"), str(found[0]), extra(row))


def tasks(row: Row) -> list[dict[str, Any]]:
    """A task as one for each of its annotations."""
    if not isinstance(row.get("annotations"), list):
        raise ValueError("the task has no list of annotations")
    return [{**row, "annotations": [a]} for a in row["annotations"]]


LABEL_STUDIO = Format("label-studio", "json", True, encode, decode, "Label Studio tasks; the outcome as a choice")
