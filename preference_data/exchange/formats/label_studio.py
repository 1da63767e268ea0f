"""Label Studio's tasks with annotations, as JSON or JSON_MIN.

Its Pairwise tag knows left and right only, so an export also puts the outcome into a Choices tag, and a tie has no
pairwise result at all.

    <View>
      <Text name="text" value="$prompt"/>
      <Pairwise name="pairwise" toName="left,right"/>
      <Image name="left" value="$left"/> <Image name="right" value="$right"/>
      <Image name="source" valueList="$sources"/>                  of edits: what was edited
      <Choices name="outcome" toName="left"><Choice value="left"/><Choice value="right"/><Choice value="tie"/>
        <Choice value="both_good"/><Choice value="both_bad"/></Choices>
    </View>

Projects of others name their fields and tags as they like: the fields `prompt`, `left`, `right` and `sources` of a
task's data, and the tag with the answer, `outcome`, can be mapped. Without a mapping the answer is the Pairwise tag's,
or that of the Choices called `outcome`; other Choices are reasons and are passed over, unless they contradict it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from preference_data.exchange.formats.containers import Problems
from preference_data.exchange.formats.preference_format import (
    Format,
    Row,
    RowAnswer,
    carried,
    extra,
    file,
    listed_files,
    png_path,
    reason_of,
    renamed,
    row_answer,
)
from preference_data.exchange.formats.values import annotator, duration, moment, written
from preference_data.exchange.judgements import Judgement
from preference_data.records import ImageRef

SIDES = {"first": "left", "second": "right"}
BACK = {"left": "first", "right": "second", "tie": "tie", "both_good": "both_good", "both_bad": "both_bad"}
TURNED = {"left": "right", "right": "left"}
MINIMAL = ("annotator", "annotation_id")
"""Fields by which a row of JSON_MIN is known: it has no list of annotations."""


def encode(judgements: Sequence[Judgement], _: Callable[[ImageRef], bytes]) -> list[dict[str, Any]]:
    """Make one task a judgement, the first image on the left."""
    tasks = []
    for i, j in enumerate(judgements, 1):
        shown = SIDES.get(j.outcome, j.outcome)
        result = [{"from_name": "outcome", "to_name": "left", "type": "choices", "value": {"choices": [shown]}}]
        if j.outcome in SIDES:
            result.append({"from_name": "pairwise", "to_name": "left,right", "type": "pairwise",
                           "value": {"selected": shown}})  # fmt: skip
        tasks.append({
            "id": i, "data": {"prompt": j.prompt.text, "left": png_path(j.first), "right": png_path(j.second),
                              **({"sources": [png_path(s) for s in j.prompt.sources]} if j.prompt.sources else {})},
            "annotations": [{"completed_by": {"email": j.annotator or "majority"}, "result": result,
                             "lead_time": j.seconds, "created_at": written(j.at)}],
            "glyphlab": carried(j),
        })  # fmt: skip
    return tasks


def decode(row: Row) -> RowAnswer | None:
    """Read a task with one annotation, as `spread` makes them. None where nothing was chosen: it was set aside."""
    annotation, data = row["annotations"][0], row["data"]
    if annotation.get("was_cancelled"):
        return None
    outcome = _outcome(annotation.get("result") or [], row.get("outcome_tag"))
    if outcome is None:
        return None
    extras = extra(row)
    for name in ("prompt", "left", "right"):
        if name not in data:
            raise ValueError(f"the task's data has no field {name!r}; it has {sorted(data)}: say which one it is with "
                             f"--fields {name}=NAME")  # fmt: skip
    made = row_answer(data["prompt"], file(data, "left"), file(data, "right"), outcome, extras)
    made = replace(made, sources=listed_files(data, "sources"))
    if extras:
        return made
    at = moment(annotation.get("updated_at")) or moment(annotation.get("created_at"))
    return replace(made, extra={"annotator": _person(annotation.get("completed_by")), "at": at,
                                "seconds": duration(annotation.get("lead_time"))})  # fmt: skip


def spread(
    rows: Iterable[tuple[int, Any]], problems: Problems, fields: Mapping[str, str]
) -> Iterator[tuple[int, Row]]:  # fmt: skip
    """Make one task of each annotation of a task; drafts and predictions are none."""
    names = {ours: theirs for ours, theirs in fields.items() if ours != "outcome"}
    for number, row in rows:
        try:
            whole = _from_minimal(row, fields) if "annotations" not in row and set(MINIMAL) & set(row) else row
            if not isinstance(whole.get("annotations"), list) or not isinstance(whole.get("data"), Mapping):
                raise ValueError("it has no data with a list of annotations; export the project as JSON or JSON_MIN")
            data = renamed(whole["data"], names)
            for annotation in whole["annotations"]:
                yield number, {**whole, "data": data, "annotations": [annotation], "outcome_tag": fields.get("outcome")}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problems.append((number, reason_of(error)))


def _outcome(result: Sequence[Mapping[str, Any]], tag: str | None) -> str | None:
    """What was chosen; None when nothing was. Raises ValueError for an unknown word, or when two tags disagree."""
    answers: dict[str, str] = {}
    for one in result:
        name, kind = str(one.get("from_name", "")), one.get("type")
        if kind not in ("pairwise", "choices") or (tag is not None and name != tag):
            continue
        chosen = _chosen(one)
        word = BACK.get(chosen.strip().lower().replace(" ", "_").replace("-", "_"))
        if word is None and (kind == "pairwise" or name in (tag, "outcome")):
            raise ValueError(f"{name or kind} is {chosen!r}; it must be one of {', '.join(BACK)}")
        if word is not None:
            answers[name or str(kind)] = word
    if len(set(answers.values())) > 1:
        raise ValueError(
            f"the annotation says {answers}; name the tag that holds the answer with --fields outcome=NAME"
        )
    if not answers and (others := [str(one.get("from_name")) for one in result if one.get("type") == "choices"]):
        raise ValueError(
            f"no choice of {', '.join(others)} is one of {', '.join(BACK)}, and there is no Pairwise result; name the "
            "tag that holds the answer with --fields outcome=NAME"
        )
    return next(iter(answers.values()), None)


def _chosen(one: Mapping[str, Any]) -> str:
    """The one word of a result. Choices of several words are joined, and so are no word that is known."""
    value = one["value"]
    chosen = value.get("choices", value.get("selected", ""))
    word = chosen if isinstance(chosen, str) else " and ".join(map(str, chosen))
    objects = [name.strip() for name in str(one.get("to_name", "")).split(",")]
    # `left` is the first object of the tag, and a tag can name the right one first
    return TURNED.get(word, word) if one["type"] == "pairwise" and objects == ["right", "left"] else word


def _person(value: Any) -> str:
    """Who completed an annotation: the number that Label Studio gave them, or else their address."""
    if isinstance(value, Mapping):
        known = [value.get(name) for name in ("id", "email", "username")]
        value = next((one for one in known if one is not None and one != ""), None)
    return annotator(value, "completed_by")


def _from_minimal(row: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """A row of JSON_MIN as a task: there the tags stand beside the data, with bare values."""
    result = []
    tags = {fields.get("outcome", "outcome")} | {
        name for name, value in row.items() if name == "pairwise" or "selected" in str(value)
    }
    for name in sorted(tags & set(row)):
        value = row[name]
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(value, Mapping):
            kind, words = ("pairwise", value["selected"]) if "selected" in value else ("choices", value["choices"])
        else:
            kind, words = ("pairwise" if name == "pairwise" else "choices"), value
        if words:
            result.append({"from_name": name, "type": kind,
                           "value": {"selected" if kind == "pairwise" else "choices": words}})  # fmt: skip
    annotation = {"completed_by": row.get("annotator"), "result": result, "updated_at": row.get("updated_at"),
                  "created_at": row.get("created_at"), "lead_time": row.get("lead_time"),
                  "was_cancelled": row.get("was_cancelled")}  # fmt: skip
    return {"data": dict(row), "annotations": [annotation]}


LABEL_STUDIO = Format(
    "label-studio", "json", True, encode, decode, "Label Studio tasks; the outcome as a choice", spread, sources=True
)
