from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from preference_data.records import (
    ImageRef,
    PreferencePair,
    Prompt,
    Provenance,
    image_from_json,
    pair_from_json,
    prompt_from_json,
    quoted_spans,
)


def picture(name: str = "a") -> ImageRef:
    made = Provenance(model="nano", revision="r1", seed=3, steps=8, guidance=1.5, run="quickstart", step=40)
    return ImageRef(sha256=name * 64, path=f"{name}.png", width=96, height=32, provenance=made)


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ('a sign that says "OPEN"', ("OPEN",)),
        ("a sign that says \u201cOPEN\u201d and \u300c\u5f00\u95e8\u300d", ("OPEN", "\u5f00\u95e8")),
        ("\u4e66\u540d\u300a\u7ea2\u697c\u68a6\u300b", ("\u7ea2\u697c\u68a6",)),
        ('"A" left of "B"', ("A", "B")),
        ("the word GLYPH in red on white", ("GLYPH",)),
        ('a sign "the word CAT"', ("the word CAT",)),
        ("the words ON AIR in red", ("ON AIR",)),
        ('the word "GLYPH" in red', ("GLYPH",)),
        ("the word I", ("I",)),
        ("the word glyph in red", ()),
        ("the word GLYPH2 in red", ()),
        ("the word Glyph in red", ()),
        ("a password ABC", ()),
        ("don't draw what isn't asked", ()),
        ('an empty "" says nothing', ()),
        ('an opening " that is never closed', ()),
        ("a cat", ()),
        ('a poster, the word NEWS above "late edition"', ("NEWS", "late edition")),
    ],
)
def test_spans_are_what_must_be_readable(text: str, spans: tuple[str, ...]) -> None:
    assert quoted_spans(text) == spans
    assert Prompt.from_text(text).spans == spans


def test_a_prompt_id_follows_from_its_text_alone() -> None:
    assert Prompt.from_text("a cat").id == Prompt.from_text("a cat", language="de").id
    assert Prompt.from_text("a cat").id != Prompt.from_text("a cat ").id
    assert len(Prompt.from_text("a cat").id) == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [({"text": " "}, "text"), ({"id": ""}, "id"), ({"spans": ["A"]}, "tuple"), ({"spans": ("",)}, "spans")],
)
def test_a_damaged_prompt_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Prompt.from_text('say "A"'), **change)


def test_a_picture_needs_a_hash_a_size_and_a_provenance() -> None:
    for change, message in [({"sha256": "abc"}, "64"), ({"width": 0}, "0x32"), ({"provenance": None}, "provenance")]:
        with pytest.raises(ValueError, match=message):
            replace(picture(), **change)


@pytest.mark.parametrize("outcome", ["tie", "both_good", "both_bad"])
def test_an_undecided_answer_cannot_become_a_pair(outcome: str) -> None:
    with pytest.raises(ValueError, match="no better image"):
        PreferencePair(Prompt.from_text("a cat"), picture("a"), picture("b"), "human:ada", None, outcome)


def test_a_pair_needs_two_pictures_a_source_and_a_sound_margin() -> None:
    pair = PreferencePair(Prompt.from_text("a cat"), picture("a"), picture("b"), "machine:ocr", 0.5, "left")
    assert pair.machine_made and not replace(pair, source="human:ada").machine_made
    damaged = [({"rejected": picture("a")}, "itself"), ({"source": ""}, "source"), ({"outcome": "win"}, "win")]
    damaged += [({"margin": -0.1}, "margin"), ({"margin": float("nan")}, "margin")]
    for change, message in damaged:
        with pytest.raises(ValueError, match=message):
            replace(pair, **change)


def test_records_survive_json() -> None:
    prompt = Prompt.from_text("\u5199\u300c\u5f00\u95e8\u300d", language="zh", category=("sign",))
    pair = PreferencePair(prompt, picture("a"), picture("b"), "machine:ocr", 1 / 3, "right")
    assert prompt_from_json(json.loads(json.dumps(asdict(prompt)))) == prompt
    assert image_from_json(json.loads(json.dumps(asdict(picture())))) == picture()
    assert pair_from_json(json.loads(json.dumps(asdict(pair)))) == pair


def test_missing_and_unknown_fields_are_named() -> None:
    data = asdict(Prompt.from_text("a cat"))
    with pytest.raises(ValueError, match="lacks text;"):
        prompt_from_json({key: value for key, value in data.items() if key != "text"})
    with pytest.raises(ValueError, match="has the unknown colour;"):
        prompt_from_json({**data, "colour": "red"})
    with pytest.raises(ValueError, match="spans is 'CAT'"):
        prompt_from_json({**data, "spans": "CAT"})
    with pytest.raises(ValueError, match="Provenance"):
        image_from_json({**asdict(picture()), "provenance": None})
