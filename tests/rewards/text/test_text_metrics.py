"""Benchmark metrics by their definitions: numbers worked out by hand, and what the strict twins see beyond them."""

from __future__ import annotations

import math

import pytest

from preference_data.records import Prompt
from rewards.text.benchmark_metrics import (
    chinese_word,
    chinese_word_strict,
    cvtg_2k,
    cvtg_2k_strict,
    long_text,
    long_text_strict,
    long_text_tokens,
    measured,
    one_ig,
    one_ig_strict,
)


def test_cvtg_2k_by_hand() -> None:
    found = cvtg_2k(["a sign 'Open Late' and 'SALE'", "a cup 'tea'"], [["open", "sole"], ["coffee tea"]])
    # open, tea are right; late's closest in {open, sole} by difflib is sole (ratio .5), 3 edits of 4; sale-sole 1 of 4
    assert found["word_accuracy"] == 2 / 4 and found["words"] == 4
    parts = [1.0, 1 - 3 / (4 + 1e-5), 1 - 1 / (4 + 1e-5), 1.0]
    assert found["ned"] == pytest.approx(sum(parts) / 4, abs=1e-9)
    assert cvtg_2k(["'a b'"], [[]])["word_accuracy"] == 0.0 and cvtg_2k(["'a b'"], [None])["ned"] == 0.0


def test_the_average_is_over_words_and_not_over_pictures() -> None:
    prompts, read = ["'a b c d'", "'e'"], [["a b c d"], ["x"]]
    assert cvtg_2k(prompts, read)["word_accuracy"] == 4 / 5


def test_what_cvtg_2k_does_not_see_its_twin_does() -> None:
    prompt, right = "'buy one buy two'", ["buy one buy two"]
    for read in (["buy one two"], ["two one buy buy junk words"], ["buy one buy two"] * 3):
        assert cvtg_2k([prompt], [read])["word_accuracy"] == 1.0
        strict = cvtg_2k_strict([prompt], [read])
        assert min(strict["f1"], strict["ned"]) < 1.0, read
    assert cvtg_2k_strict([prompt], [right]) == {
        "f1": 1.0,
        "precision": 1.0,
        "recall": 1.0,
        "ned": 1.0,
        "unjudged": 0.0,
    }
    assert cvtg_2k(["'don't stop'"], [["don't stop"]])["word_accuracy"] == 0.0  # quotes end at the apostrophe
    assert cvtg_2k_strict(["'don't stop'"], [["Don't stop!"]])["f1"] == 1.0
    failed = cvtg_2k_strict([prompt, prompt], [right, None])
    assert failed["f1"] == 1.0 and failed["unjudged"] == 1.0


def test_long_text_recall_by_hand() -> None:
    english = long_text([["Hello, World!", "again"], ["x y"]], [["hello  hello again"], None], chinese=False)
    assert english["recall"] == 2 / 5
    assert long_text([["你好，世界"]], [["世界你你"]], chinese=True)["recall"] == 3 / 4
    assert long_text_tokens("C'est l'été 2024, 好!", False) == ["cest", "lété", "2024", "好"]
    assert long_text_tokens("ab 好 12", True) == ["好"]
    assert math.isnan(long_text([], [], False)["recall"])


def test_what_long_text_does_not_see_its_twin_does() -> None:
    text = [["one two three four"]]
    for read in (["four three two one"], ["one two three four and much more"]):
        assert long_text(text, [read], False)["recall"] == 1.0
        strict = long_text_strict(text, [read], False)
        assert min(strict["f1"], strict["ned"]) < 0.8
    assert long_text_strict(text * 2, [["One, two three four."], None], False) == {
        "f1": 1.0,
        "ned": 1.0,
        "unjudged": 1.0,
    }
    swapped = long_text_strict([["one two"]], [["two one"]], False)
    assert swapped["ned"] == 0.0  # distances count tokens, of which both are wrong; in letters it would be 1 - 4 / 7


def test_one_ig_by_hand() -> None:
    found = one_ig(["open late", "sale"], [["open lat"], ["sale"]], chinese=False)
    ed, cr, wac = 0.5, 0.5, 2 / 3
    assert (found["edit_distance"], found["completion_rate"]) == (ed, cr)
    assert found["word_accuracy"] == pytest.approx(wac)
    assert found["score"] == pytest.approx(1 - ed * (1 - cr) * (1 - wac) / 100)
    chinese = one_ig(["你好"], [["天地" * 60]], chinese=True)
    assert chinese["edit_distance"] == 120 and chinese["score"] == 0.0  # min(50, 120) / 50
    # the twin has no term that alone lifts it to 1
    wordy = ["sale", *["junk"] * 30]
    assert one_ig(["sale"], [wordy], False)["score"] == 1.0 and one_ig_strict(["sale"], [wordy], False)["score"] < 0.1
    assert one_ig_strict(["sale", "x"], [["sale"], None], False) == {
        "score": 1.0,
        "completion_rate": 1.0,
        "unjudged": 1.0,
    }


def test_chinese_word_is_weighted_by_the_size_of_its_levels() -> None:
    # the report's own line: 97.29, 40.53 and 6.48 by level are 58.30 over all
    assert round((3500 * 97.29 + 3000 * 40.53 + 1605 * 6.48) / 8105, 2) == 58.30
    characters, levels = list("天地人和"), [1, 1, 2, 3]
    readings = [["天"], ["也"], ["人", "入"], None]
    found = chinese_word(characters, levels, readings)
    assert found == {"level_1": 0.5, "level_2": 1.0, "level_3": 0.0, "overall": (3500 * 0.5 + 3000) / 8105}
    strict = chinese_word_strict(characters, levels, readings)
    assert strict["level_1"] == 0.5 and strict["level_2"] == 0.0  # another character stands beside it
    assert math.isnan(strict["level_3"]) and math.isnan(strict["overall"]) and strict["unjudged"] == 1.0
    with pytest.raises(ValueError, match=r"levels \[4\]"):
        chinese_word(["天"], [4], [["天"]])


def test_a_benchmark_by_name_takes_what_its_rule_compares_with_from_prompts() -> None:
    shop, mug = (Prompt.from_text(text) for text in ("a sign 'Open late' “Open late”", "a mug “tea”"))
    read = [["open late"], ["tea", "cup"]]
    assert measured("cvtg_2k", [shop], read[:1]) == {
        "published": cvtg_2k([shop.text], read[:1]), "strict": cvtg_2k_strict([shop.text], read[:1])
    }  # fmt: skip
    assert measured("long_text", [shop, mug], read)["strict"] == long_text_strict([shop.spans, mug.spans], read, False)
    chinese = Prompt.from_text("一块牌子，写着“好天”", "zh")
    parts = measured("one_ig", [mug, chinese], [read[1], ["好夫"]])
    assert parts["published"] == one_ig(["tea"], [read[1]], False)
    assert parts["published, zh"] == one_ig(["好天"], [["好夫"]], True)
    assert parts["strict, zh"] == one_ig_strict(["好天"], [["好夫"]], True) and len(parts) == 4
    signs = [Prompt.from_text(f"“{sign}”", "zh", [level]) for sign, level in (("好", "1"), ("鼷", "3"))]
    word = measured("chinese_word", signs, [["好", "了"], ["鼠"]])
    assert word["published"]["level_1"] == 1.0 and word["strict"]["level_1"] == 0.0 == word["strict"]["level_3"]


@pytest.mark.parametrize(
    ("name", "prompt", "says"),
    [
        ("cvtg", Prompt.from_text("“a”"), "there is no benchmark 'cvtg'; did you mean cvtg_2k"),
        ("one_ig", Prompt.from_text("a mug"), "'a mug' quotes none"),
        ("chinese_word", Prompt.from_text("“好”", "zh", ["4"]), "is 4; for chinese_word it must be the level"),
        ("chinese_word", Prompt.from_text("“好”", "zh"), "is not given"),
    ],
)
def test_a_benchmark_refuses_prompts_that_it_says_nothing_about(name: str, prompt: Prompt, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        measured(name, [prompt], [["a"]])
