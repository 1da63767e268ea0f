"""TRL's preference and unpaired (KTO) data sets. In both, images belong to the prompt, and answers are text: two
images cannot be chosen and rejected. What can be said is what a judge should answer about them.

    preference   prompt: both images and the question which one shows the text better; chosen "1", rejected "2"
    KTO          prompt: one image and the question whether it shows the text well; completion "yes", label true or
                 false: the winner and both good are true, the loser and both bad are false; a tie says nothing
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from preference_data.exchange.formats.preference_format import (
    Format,
    Row,
    RowAnswer,
    carried,
    extra,
    file,
    png_path,
    row_answer,
)
from preference_data.exchange.judgements import Judgement
from preference_data.records import ImageRef

QUESTION = "Which of the two pictures is the better one for this prompt? Answer 1 or 2. Prompt: "
GOOD = "Is this a good picture for this prompt? Answer yes or no. Prompt: "


def encode(judgements: Sequence[Judgement], _: Callable[[ImageRef], bytes]) -> list[dict[str, Any]]:
    """Conversations, with the images' paths in `images`."""
    rows = []
    for j in judgements:
        won, lost = ("1", "2") if j.outcome == "first" else ("2", "1")
        rows.append({
            "images": [png_path(j.first), png_path(j.second)], "prompt": _ask(QUESTION + j.prompt.text, 2),
            "chosen": _reply(won), "rejected": _reply(lost), "glyphlab": carried(j),
        })  # fmt: skip
    return rows


def decode(row: Row) -> RowAnswer | None:
    """Rows in the form that `encode` writes."""
    text, images = _question_text(row["prompt"], QUESTION), row["images"]
    if len(images) != 2:
        raise ValueError(f"there are {len(images)} images; a comparison has two")
    replies = (_replied(row["chosen"]), _replied(row["rejected"]))
    outcome = {("1", "2"): "first", ("2", "1"): "second"}.get(replies)
    if outcome is None:
        raise ValueError(f"chosen and rejected are {replies}; they are 1 and 2, or 2 and 1")
    sides = {"0": images[0], "1": images[1]}
    return row_answer(text, file(sides, "0"), file(sides, "1"), outcome, extra(row))


def encode_kto(judgements: Sequence[Judgement], _: Callable[[ImageRef], bytes]) -> list[dict[str, Any]]:
    """Two rows a judgement, the first image's and the second's, together under one `pair`."""
    rows = []
    for i, j in enumerate(judgements):
        for side, ref in (("first", j.first), ("second", j.second)):
            good = j.outcome in (side, "both_good")
            rows.append({
                "images": [png_path(ref)], "prompt": _ask(GOOD + j.prompt.text, 1), "completion": _reply("yes"),
                "label": good, "pair": i, "side": side, "glyphlab": carried(j),
            })  # fmt: skip
    return rows


def decode_kto(row: Row) -> RowAnswer | None:
    """The pair of a first image's row; None for the second's, which `check_kto` compares with it.

    Unpaired rows from elsewhere compare nothing with anything, so they are refused.
    """
    extras = extra(row)
    if not extras:
        raise ValueError("an unpaired row compares no two pictures; only rows that were exported here can come back")
    if type(row["label"]) is not bool:
        raise ValueError(f"label is {row['label']!r}; it is true or false")
    if row["label"] != (extras["outcome"] in (row["side"], "both_good")):
        raise ValueError(f"label is {row['label']} where the judgement says {extras['outcome']!r}")
    if row["side"] != "first":
        return None
    other = {"path": png_path_of(extras, "second")}
    return row_answer(
        _question_text(row["prompt"], GOOD),
        file({"0": row["images"][0]}, "0"),
        file(other, "path"),
        extras["outcome"],
        extras,
    )


def _check_conversation(messages: Any, what: str) -> None:
    """Raises ValueError unless it is a list of messages with lists of parts, as in TRL's vision sets."""
    if not isinstance(messages, list) or not messages or not isinstance(messages[0], dict):
        raise ValueError(f"{what} is {str(messages)[:40]!r}; only conversations about two pictures, in the form "
                         "that is exported here, compare pictures")  # fmt: skip
    content = messages[0].get("content")
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content) or not content:
        raise ValueError(f"the content of {what} is {str(content)[:40]!r}; it must be a list of parts with a type each")


def png_path_of(extras: dict[str, Any], side: str) -> str:
    """Where the other image of a pair is in the exported folder."""
    return f"pictures/{extras[side]['sha256']}.png"


def _ask(text: str, images: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*[{"type": "image", "text": None}] * images, {"type": "text", "text": text}]}]


def _reply(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


def _question_text(messages: Any, question: str) -> str:
    _check_conversation(messages, "the prompt")
    text = str(messages[0]["content"][-1]["text"])
    if not text.startswith(question):
        raise ValueError(f"the prompt does not begin with {question!r}")
    return text.removeprefix(question)


def _replied(messages: Any) -> str:
    _check_conversation(messages, "an answer")
    return str(messages[0]["content"][0]["text"])


TRL = Format(
    "trl", "jsonl", False, encode, decode, "TRL preference: what a judge of two pictures should answer; no ties"
)
KTO = Format(
    "kto", "jsonl", False, encode_kto, decode_kto, "TRL unpaired (KTO): good or bad, one picture a row; no ties"
)
