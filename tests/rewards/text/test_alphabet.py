"""Texts as they are compared by every reward that reads, and what an engine has no characters for."""

from __future__ import annotations

import unicodedata
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.training.watch import Watch
from preference_data.records import Prompt
from preference_data.texts.normalised_text import Policy, normalise
from rewards.image_measures import disagreement, extra_text
from rewards.parse import named_reward
from rewards.text.ocr import ned_score
from rewards.text.ocr_contains import contained
from rewards.text.reading.alphabet import MOST, Alphabet, alphabet_of
from rewards.text.reading.matching import Line, score_reading
from rewards.text.recognisers import V4, V6, OnnxRecogniser, find_weights
from tests.fixtures.writing import FACES, written

SAME = [
    ("HI\u200bTHERE", "HITHERE"), ("\u200fHELLO\u200f", "HELLO"), ("EXTRA\u00adORDINARY", "EXTRAORDINARY"),
    ("\u201cDON\u2019T PANIC\u201d", '"DON\'T PANIC"'), ("it\u2019s", "it's"), ("A\u2013B", "A-B"),
    ("\u4f60\u597d\u3002", "\u4f60\u597d."), ("\u7e41\u9ad4", "\u7e41\u4f53"), ("\u2764\ufe0f", "\u2764"),
    ("I \u2764\ufe0f NY", "I \u2764 NY"), ("\ufeffOPEN", "OPEN"), ("\u201eHALLO\u201c", '"HALLO"'),
    ("\u00abOUI\u00bb", '"OUI"'), ("e\u200b\u0301", "\u00e9"), ("1\ufe0f\u20e3", "1"), ("\uff21\uff22\uff23", "ABC"),
    ("it\u00b4s", "it's"), ("it\u02bcs", "it's"), ("\u301dOUI\u301e", '"OUI"'), ("\u00bd", "1/2"), ("3\u22154", "3/4"),
    ("A\u0007B", "AB"), ("\u0130STANBUL", "iSTANBUL"), ("A\u2800B", "AB"),
    ("\u05e9\u05dc\u05d5\u05dd\u200f", "\u05e9\u05dc\u05d5\u05dd"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "read"), SAME)
def test_what_looks_the_same_is_the_same_to_every_reward(target: str, read: str) -> None:
    page = score_reading([target], [Line(read)], Policy())
    assert page["value"] == page["exact"] == page["ned_score"] == 1.0
    assert ned_score(target, read) == ned_score(read, target) == contained(target, read) == 1.0
    assert extra_text(target, read) == disagreement(target, target, read) == 0.0


@pytest.mark.parametrize("family", ["\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea",
                                    "\U0001f44d\U0001f3fd", "\U0001f3f4\u200d\u2620\ufe0f"])  # fmt: skip
def test_what_a_person_sees_as_one_emoji_is_one_character(family: str) -> None:
    assert len(normalise(family, Policy())) == 1
    assert ned_score(f"OK{family}", "OK") == pytest.approx(2 / 3)
    assert normalise(family, Policy()) != normalise("\U0001f1e9\U0001f1f0", Policy())  # another flag is another text


def test_every_invisible_character_is_nothing() -> None:
    for character in map(chr, (*range(0x20000), *range(0xFE00, 0xFE10), *range(0xE0001, 0xE0080))):
        if unicodedata.category(character) in ("Cf", "Cc") and not character.isspace():
            assert normalise(f"HI{character}THERE", Policy()) == "HITHERE", hex(ord(character))


def test_the_alphabet_is_that_of_the_weights() -> None:
    v6, v4 = (alphabet_of(OnnxRecogniser(find_weights(source))) for source in (V6, V4))
    for text in ("HELLO", "5 o'clock!", "caf\u00e9", "\u6b22\u8fce", "\u6b61\u8fce", "\uff21\uff22", "\u201chi\u201d"):
        assert v6.known_part([text])[1] == v4.known_part([text])[1] == 0.0, text
    for text in ("\u20ac 5", "\u0104", "\u3042\u308a\u304c\u3068", "\u03b4 = 2"):
        assert v6.known_part([text])[1] == 0.0 < v4.known_part([text])[1], text
    for text in ("\u0416\u0418\u0417\u041d\u042c", "\ud55c\uad6d", "\u0645\u0631\u062d\u0628\u0627",
                 "\u05e9\u05dc\u05d5\u05dd",
                 "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u0928\u092e\u0938\u094d\u0924\u0947"):  # fmt: skip
        assert v6.known_part([text])[1] >= MOST and v4.known_part([text])[1] >= MOST, text
    # Greek for formulas: alone it is judged, words of it are read as Latin letters
    for text in ("\u0391\u0398\u0397\u039d\u0391", "\u03ba\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1"):
        assert v6.known_part([text])[1] == v4.known_part([text])[1] == 1.0, text
    assert v6.known_part(["\u03a9", "\u0394x", "\u03b1 + \u03b2"])[1] == 0.0
    assert v6.known_part(["OPEN \u039d\u0391\u0399"])[0] == ("OPEN ",)
    assert Alphabet(["\u03b1", "\u03c2"]).known_part(["\u03b1\u03c2"])[1] == 0.0  # an engine of Greek
    # the letter of an accent that the engine does not know is compared, and the loss is said
    assert v6.known_part(["Ph\u1edf"]) == (("Pho",), pytest.approx(1 / 3))
    small = Alphabet(["A", "B"])
    assert small.known_part(["a \u200bc b", "C"]) == (("a  b", ""), 0.5)
    assert small.can_write("\uff22") and not small.can_write("c")
    assert not Alphabet(["a"], Policy(case=True)).can_write("A")


REWARDS = ("ocr", "ocr_judge", "ocr_likelihood", "ocr_contains", "ocr_page", "ocr_page:engine=onnxruntime_v4",
           "ocr_flow_grpo", "0.5*ocr+0.5*ocr_judge")  # fmt: skip


def cyrillic(text: str) -> np.ndarray:
    """(3, H, W) in [0, 1]: any text that DejaVu has."""
    return written(text, FACES[1], 24, canvas=(64, 320))


@pytest.mark.parametrize("name", REWARDS)
def test_a_text_that_the_engine_cannot_write_is_not_judged(name: str) -> None:
    texts = ["\u0416\u0418\u0417\u041d\u042c", "OPEN", "\u041f\u0440\u0438\u0432\u0435\u0442 OPEN"]
    prompts = [Prompt.from_text(f'a sign "{text}"') for text in texts]
    scores = named_reward(name).load()(prompts, np.stack([cyrillic(text) for text in texts]))
    assert np.isnan(scores.value_B[[0, 2]]).all() and scores.value_B[1] == pytest.approx(1.0, abs=0.1)
    assert sum(scores.unjudged.values()) == 2 and all("script" in cause for cause in scores.unjudged)


@pytest.mark.parametrize("name", ["ocr", "ocr_page", "ocr_likelihood", "ocr_contains"])
def test_a_part_that_the_engine_cannot_write_is_left_out_and_said(name: str) -> None:
    prompts = [Prompt.from_text('a sign "I \u0416 NY"'), Prompt.from_text('a sign "I NY"')]
    scores = named_reward(name).load()(prompts, np.stack([cyrillic("I NY")] * 2))
    assert scores.parts["unwritable"].tolist() == [0.25, 0.0]
    assert scores.value_B[0] == scores.value_B[1] > 0.9


def test_a_right_picture_with_typographic_marks_is_exact() -> None:
    shown = "DON\u2019T PANIC"
    prompts, pictures = [Prompt.from_text(f"a sign \u201c{shown}\u201d")], cyrillic(shown)[None]
    for name in ("ocr", "ocr_judge", "ocr_page", "ocr_contains"):
        assert named_reward(name).load()(prompts, pictures).value_B[0] == 1.0, name
    assert named_reward("ocr_likelihood").load()(prompts, pictures).value_B[0] > 0.9


def test_two_engines_do_not_disagree_about_what_one_cannot_write() -> None:
    readers = [named_reward(name).load() for name in ("ocr", "ocr_judge")]
    watch = SimpleNamespace(
        _prompts=[Prompt.from_text('a sign "OPEN"'), Prompt.from_text('a sign "\u3042\u308a"')], _readers=readers,
        _first="gold/ocr_judge", _plan=SimpleNamespace(readers=("ocr", "ocr_judge")),
    )  # fmt: skip
    said = Watch._texts(watch, ["OPEN", "\u3042\u308a"], ["OPEM", "8"])  # type: ignore[arg-type]
    assert said["disagreement"][0] == 0.25 and all(np.isnan(values[1]) for values in said.values())
