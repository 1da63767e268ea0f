"""TRL's preference and unpaired (KTO) data sets. In both, images belong to the prompt, and answers are text: two
images cannot be chosen and rejected. What can be said is what a judge should answer about them.

    preference   prompt: both images and the question which one shows the text better; chosen "1", rejected "2"
                 of an edit: first the images that were edited, then both edits, and another question
    KTO          prompt: one image and the question whether it shows the text well; completion "yes", label true or
                 false: the winner and both good are true, the loser and both bad are false; a tie says nothing

A `Wording` has other questions and answers, such as those of a judge that is to be trained. A Parquet file holds the
images themselves and says so as the datasets package does: it loads as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from preference_data.exchange.formats.preference_format import (
    Format,
    Row,
    RowAnswer,
    carried,
    either,
    extra,
    file,
    png_path,
    row_answer,
)
from preference_data.exchange.judgements import Judgement
from preference_data.records import ImageRef, Prompt, SourceImage

QUESTION = "Which of the two pictures is the better one for this prompt? Answer 1 or 2. Prompt: "
QUESTION_OF_EDIT = (
    "The last two pictures are edits of those before them by this instruction. Which of the two is the better one? "
    "Answer 1 or 2. Instruction: "
)
GOOD = "Is this a good picture for this prompt? Answer yes or no. Prompt: "
ImageValue = Callable[[ImageRef | SourceImage], Any]
"""An image as a row holds it: its path, or its bytes and its path."""


@dataclass(frozen=True)
class Wording:
    """What a judge is asked about two images and about one, and what it may answer."""

    which: Callable[[Prompt], str] = lambda prompt: (QUESTION_OF_EDIT if prompt.sources else QUESTION) + prompt.text
    answers: tuple[str, str] = ("1", "2")
    """for the image shown first, and for the second"""
    good: Callable[[Prompt], str] = lambda prompt: GOOD + prompt.text
    yes: str = "yes"
    both_orders: bool = False
    """every pair twice, the second time with its images exchanged"""


PLAIN = Wording()


def embedded(read: Callable[[ImageRef | SourceImage], bytes]) -> ImageValue:
    """Images by their bytes."""
    return lambda ref: {"bytes": read(ref), "path": png_path(ref)}


def encode(
    judgements: Sequence[Judgement], _: Callable[[ImageRef], bytes], wording: Wording = PLAIN,
    image_value: ImageValue = png_path,
) -> list[dict[str, Any]]:  # fmt: skip
    """Conversations, with the images in `images`; `margin` is how much better the chosen one is, 0 = not said."""
    rows = []
    for j in judgements:
        won, lost = wording.answers if j.outcome == "first" else wording.answers[::-1]
        edited = [image_value(source) for source in j.prompt.sources]
        shown = [image_value(j.first), image_value(j.second)]
        row = {
            "images": [*edited, *shown], "prompt": _ask(wording.which(j.prompt), len(edited) + 2),
            "chosen": _reply(won), "rejected": _reply(lost), "margin": float(j.strength or 0.0), "glyphlab": carried(j),
        }  # fmt: skip
        rows.append(row)
        if wording.both_orders:
            turned = {"images": [*edited, *shown[::-1]], "chosen": row["rejected"], "rejected": row["chosen"]}
            rows.append(row | turned | {"glyphlab": ""})
    return rows


def decode(row: Row) -> RowAnswer | None:
    """Rows in the form that `encode` writes; None for a pair's other order."""
    if row.get("glyphlab") == "":
        return None
    extras, sources, images = extra(row), list(row["images"])[:-2], list(row["images"])[-2:]
    text = _question_text(row["prompt"], QUESTION_OF_EDIT if sources else QUESTION, extras)
    if len(images) != 2:
        raise ValueError(f"there are {len(images)} images; a comparison has two")
    replies = (_replied(row["chosen"]), _replied(row["rejected"]))
    outcome = {("1", "2"): "first", ("2", "1"): "second", ("A", "B"): "first", ("B", "A"): "second"}.get(replies)
    if outcome is None:
        raise ValueError(f"chosen and rejected are {replies}; they are 1 and 2, or A and B, in either order")
    answer = row_answer(text, either(images[0], "images"), either(images[1], "images"), outcome, extras)
    return replace(answer, sources=tuple(either(source, "images") for source in sources))


def encode_kto(
    judgements: Sequence[Judgement], _: Callable[[ImageRef], bytes], wording: Wording = PLAIN,
    image_value: ImageValue = png_path,
) -> list[dict[str, Any]]:  # fmt: skip
    """Two rows a judgement, the first image's and the second's, together under one `pair`."""
    rows = []
    for i, j in enumerate(judgements):
        for side, ref in (("first", j.first), ("second", j.second)):
            good = j.outcome in (side, "both_good")
            rows.append({
                "images": [image_value(ref)], "prompt": _ask(wording.good(j.prompt), 1),
                "completion": _reply(wording.yes), "label": good, "pair": i, "side": side, "glyphlab": carried(j),
            })  # fmt: skip
    return rows


def decode_kto(row: Row) -> RowAnswer | None:
    """The pair of a first image's row; None for the second's, which `check_kto` compares with it.

    Unpaired rows from elsewhere compare nothing with anything, so they are refused.
    """
    extras = extra(row)
    if not extras:
        raise ValueError("an unpaired row compares no two images; only rows that were exported here can come back")
    if type(row["label"]) is not bool:
        raise ValueError(f"label is {row['label']!r}; it is true or false")
    if row["label"] != (extras["outcome"] in (row["side"], "both_good")):
        raise ValueError(f"label is {row['label']} where the judgement says {extras['outcome']!r}")
    if row["side"] != "first":
        return None
    return row_answer(
        _question_text(row["prompt"], GOOD, extras),
        either(row["images"][0], "images"),
        file({"path": f"pictures/{extras['second']['sha256']}.png"}, "path"),
        extras["outcome"],
        extras,
    )


def _check_conversation(messages: Any, what: str) -> None:
    """Raises ValueError unless it is a list of messages with lists of parts, as in TRL's vision sets."""
    if not isinstance(messages, list) or not messages or not isinstance(messages[0], dict):
        raise ValueError(f"{what} is {str(messages)[:40]!r}; only conversations about two images, in the form "
                         "that is exported here, compare images")  # fmt: skip
    content = messages[0].get("content")
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content) or not content:
        raise ValueError(f"the content of {what} is {str(content)[:40]!r}; it must be a list of parts with a type each")


def _ask(text: str, images: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*[{"type": "image", "text": None}] * images, {"type": "text", "text": text}]}]


def _reply(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


def _question_text(messages: Any, question: str, extras: Mapping[str, Any]) -> str:
    _check_conversation(messages, "the prompt")
    text = str(messages[0]["content"][-1]["text"])
    if extras and not text.startswith(question):
        return str(extras["prompt"]["text"])  # in the words of a rubric
    if not text.startswith(question):
        raise ValueError(f"the prompt does not begin with {question!r}")
    return text.removeprefix(question)


def _replied(messages: Any) -> str:
    _check_conversation(messages, "an answer")
    return str(messages[0]["content"][0]["text"])


TRL = Format(
    "trl",
    "jsonl",
    False,
    encode,
    decode,
    "TRL preference: what a judge of two images should answer; no ties",
    sources=True,
)
KTO = Format("kto", "jsonl", False, encode_kto, decode_kto, "TRL unpaired (KTO): good or bad, one image a row; no ties")
WORDED = {"trl": encode, "kto": encode_kto}
"""Formats whose rows ask something, which may be worded otherwise."""
