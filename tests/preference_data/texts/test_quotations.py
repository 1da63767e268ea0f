"""What a prompt asks to be drawn, as a reader sees it: marks of all kinds, inches, capitals after "word"."""

from __future__ import annotations

import unicodedata

import pytest

from preference_data.records import Prompt
from preference_data.texts.quotations import quoted_spans
from preference_data.texts.visible import drawable, is_invisible, visible

CASES: list[tuple[str, tuple[str, ...]]] = [
    ('a 24" poster that says "HELLO"', ("HELLO",)),
    ('a sign \\"HELLO\\" in red', ("HELLO",)),
    ('"a photo of a cat in a sunny field"', ()),
    ('a sign "HELLO\u201d beside "WORLD"', ("HELLO", "WORLD")),
    ('a sign ""HELLO"" in red', ("HELLO",)),
    ('a 12" pizza with the text "HELLO"', ("HELLO",)),
    ('a 5\'10" man holding a sign "STOP"', ("STOP",)),
    ("In other words I want a cat", ()),
    ('""HELLO""', ("HELLO",)),
    ('\\"HELLO\\"', ("HELLO",)),
    ("a sign \u201eHALLO\u201c an der T\xfcr", ("HALLO",)),
    ("une affiche \xabBONJOUR\xbb rouge", ("BONJOUR",)),
    ("une affiche \xab BONJOUR \xbb rouge", ("BONJOUR",)),
    ("ein Schild \xbbHALLO\xab rot", ("HALLO",)),
    ("en skylt \u201dHEJ\u201d nu", ("HEJ",)),
    ("\u724c\u5b50\u3010\u6b22\u8fce\u3011", ("\u6b22\u8fce",)),
    ("a sign \u2018OPEN\u2019 in red", ("OPEN",)),
    ("a sign \u2018DON\u2019T PANIC\u2019 in red", ("DON\u2019T PANIC",)),
    ("the \u201880s sign \u2018OPEN\u2019", ("OPEN",)),
    ("the dog\u2019s sign and the cats\u2019 sign", ()),
    ("\u5199\u7740\u300c\u4f60\u597d\u300d\u548c\u300e\u518d\u89c1\u300f", ("\u4f60\u597d", "\u518d\u89c1")),
    ("the word CAF\xc9 in red", ("CAF\xc9",)),
    ("the word X-RAY in black", ("X-RAY",)),
    ("the word DON'T in red", ("DON'T",)),
    ("the word AI-ART in red", ("AI-ART",)),
    ("no words NOT even one", ()),
    ("the word Caf\xe9", ()),
    ("the word COVID-19", ()),
    ("the word X-ray", ()),
    ("the word \xdcBER ALLES now", ("\xdcBER ALLES",)),
    ("the word \u0416\u0418\u0417\u041d\u042c in red", ("\u0416\u0418\u0417\u041d\u042c",)),
    ("the words I want are many", ()),
    ("the word I in red", ("I",)),
    ("the word A", ("A",)),
    ("the words ON AIR in red", ("ON AIR",)),
    ("the words HELLO I saw", ("HELLO",)),
    ("the word R2D2", ()),
    ("the word AT&T in blue", ("AT&T",)),
    ("the words ROCK & ROLL in red", ("ROCK & ROLL",)),
    ('a sign "\u200b"', ()),
    ('a sign "\u200fHELLO\u200f"', ("HELLO",)),
    ('a sign \u200b"HELLO"\u200b in', ("HELLO",)),
    ('\ufeff"HELLO" sign', ("HELLO",)),
    ('"HI\u200bTHERE" sign', ("HITHERE",)),
    ('a sign "\u2764\ufe0f" here', ("\u2764\ufe0f",)),
    ('a "\U0001f468\u200d\U0001f469\u200d\U0001f467" here', ("\U0001f468\u200d\U0001f469\u200d\U0001f467",)),
    ('a sign "12" PIZZA" in red', ('12" PIZZA',)),
    ("a sign \u2018rock \u2019n\u2019 roll\u2019 in red", ("rock \u2019n\u2019 roll",)),
    ("a sign \u2018rock \u2018n\u2019 roll\u2019 in red", ("rock \u2018n\u2019 roll",)),
    ("a sign \u2018rock \u2018n\u2018 roll\u2019 in red", ("rock \u2018n\u2018 roll",)),
    ("a sign \u2018rock \u2019n\u2018 roll\u2019 in red", ("rock \u2019n\u2018 roll",)),
    ("\u2018Fish \u2019n\u2019 chips\u2019 and \u2018OPEN\u2019 beside", ("Fish \u2019n\u2019 chips", "OPEN")),
    ("\u2018A \u2019n\u2019 B \u2018n\u2019 C\u2019 on a wall", ("A \u2019n\u2019 B \u2018n\u2019 C",)),
    (
        "shops \u2018Toys \u2019R\u2019 Us\u2019 and \u2018Guns \u2018N\u2019 Roses!\u2019",
        ("Toys \u2019R\u2019 Us", "Guns \u2018N\u2019 Roses!"),
    ),
    ("shop \u2018Toys \u2018R\u2019 Us\u2019 there", ("Toys \u2018R\u2019 Us",)),
    ("a sign \u2018rock \u2019n\u2019 and then \u2018roll\u2019", ("rock \u2019n", "roll")),
    ("a sign \u201crock \u2018n\u2019 roll\u201d", ("rock \u2018n\u2019 roll",)),
    ("we play rock \u2018n\u2019 roll under \u2018LIVE\u2019", ("LIVE",)),
    ("\u2018PLAN B\u2019 and \u2018PLAN C\u2019 there", ("PLAN B", "PLAN C")),
    ("the letter \u2018N\u2019 in red", ("N",)),
    ("the letters \u2018n\u2019 and \u2018r\u2019 in red", ("n", "r")),
    ('a sign "OPEN" above a 24" screen with "HELLO"', ("OPEN", "HELLO")),
    ('a 24 " poster that says "HELLO"', ("HELLO",)),
    ('an opening " that is never closed, and "HELLO"', ("HELLO",)),
    ('\u5199\u7740"\u4f60\u597d"\u7684\u724c\u5b50\u548c"\u518d\u89c1"', ("\u4f60\u597d", "\u518d\u89c1")),
    ("\u5199\u7740\u201c\u4f60\u597d\u201d\u201c\u518d\u89c1\u201d\u7684", ("\u4f60\u597d", "\u518d\u89c1")),
    ('"HELLO""WORLD" sign', ("HELLO", "WORLD")),
    ('sign says:"HELLO".', ("HELLO",)),
    ('sign ("HELLO")', ("HELLO",)),
    ('text"HELLO" in red', ("HELLO",)),
    ('a sign " HELLO " in red', ("HELLO",)),
    ('"a sign that says ""HELLO"""', ("HELLO",)),
    ('"a sign that says \\"HELLO\\""', ("HELLO",)),
    ('"a sign that says \u201cHELLO\u201d in red"', ("HELLO",)),
    ('"a sign says "HELLO" in red"', ("HELLO",)),
    ("\u201ca photo of a cat in a sunny field\u201d", ()),
    ('"A" left of "B"', ("A", "B")),
    ('"Open 24" and "Close 7"', ("Open 24", "Close 7")),
    ('"CAT"', ("CAT",)),
    ('"Hello there"', ("Hello there",)),
    ('"a cat"', ()),
    ('"a photo of the word GLYPH in red"', ("GLYPH",)),
    ('a 12" x 18" print of "HELLO"', ("HELLO",)),
    ('a 12"x18" print of "HELLO"', ("HELLO",)),
    ('a 5\' 10" tall man with "STOP" and a 6\'2" one with "GO"', ("STOP", "GO")),
    ('a 24-inch (24") TV showing "NEWS"', ("NEWS",)),
    ("''HELLO'' in red", ("HELLO",)),
    ("``HELLO'' in red", ("HELLO",)),
    ('a sign \u201cHELLO" in red, "X\u201d', ("HELLO", "X")),
    ("a sign \u201cHELLO\u201c in red", ("HELLO",)),
    ('a book "the \u201cbest\u201d of" it', ("the \u201cbest\u201d of",)),
    ("\u201c\u300a\u7ea2\u697c\u68a6\u300b\u201d\u7684\u4e66", ("\u300a\u7ea2\u697c\u68a6\u300b",)),
    ('a smoke!", x 24" wide', ()),
    ("don't draw what isn't asked", ()),
    ('an empty "" says nothing', ()),
    ('an empty \u201c\u201d says nothing "A"', ("A",)),
    ('the word "GLYPH" in red', ("GLYPH",)),
    ('a poster, the word NEWS above "late edition"', ("NEWS", "late edition")),
    ('a \xbd" gap and "MIND"', ("MIND",)),
    ('a sign "12\xbd" PIZZA" in red', ('12\xbd" PIZZA',)),
    ('a 2\xbd"x3\xbd" card saying "HI"', ("HI",)),
    ('a 12\xbd " poster that says "HELLO"', ("HELLO",)),
    ('a 24\u2033 poster that says "HELLO"', ("HELLO",)),
    ("\uff02HELLO\uff02 sign", ("HELLO",)),
    ('a "24" on the door', ("24",)),
    ('room "24" and "25"', ("24", "25")),
    ('a sign \\\\"HELLO\\\\" in red', ("HELLO",)),
    ('a sign reading "WE\'RE OPEN"', ("WE'RE OPEN",)),
    ('"Skate or Die" slogan', ("Skate or Die",)),
    ('a menu: "Pizza 12", "Pasta 9", "Soup 7"', ("Pizza 12", "Pasta 9", "Soup 7")),
    (
        '\u4ed6\u8bf4\u201c\u5199\u7740"\u4f60\u597d"\u7684\u724c\u5b50\u201d\u5427',
        ('\u5199\u7740"\u4f60\u597d"\u7684\u724c\u5b50',),
    ),
    ('a sign "HELLO!"\\nbelow "BYE?"\\tin red', ("HELLO!", "BYE?")),
    ('a sign that says:\\n\\n"WHAT?"\\n\\nin blue', ("WHAT?",)),
    ('a sign "HELLO\\nWORLD" in red', ("HELLO\nWORLD",)),
    ('a sign \\"OPEN\\r\\nDAILY\\" in red', ("OPEN\nDAILY",)),
    ('a sign "A\\\\nB"\\n', ("A\nB",)),
    ('a sign "\\nHELLO\\n"', ("HELLO",)),
    ("\u5199\u7740\u201c\u4f60\u597d\\n\u4e16\u754c\u201d\u7684\u724c\u5b50", ("\u4f60\u597d\n\u4e16\u754c",)),
    ('a screen "C:\\new\\table"', ("C:\\new\\table",)),
    ('a board "x \\neq y" in white', ("x \\neq y",)),
    ('a board "\\alpha \\nu" in white', ("\\alpha \\nu",)),
    ('a board "\\rho" in white', ("\\rho",)),
    ('"\u4e00\u53ea\u732b\u5750\u5728\u9633\u5149\u660e\u5a9a\u7684\u7530\u91ce\u91cc"', ()),
    ('"\u6b22\u8fce\u5149\u4e34\u6b22\u8fce\u5149\u4e34"', ("\u6b22\u8fce\u5149\u4e34\u6b22\u8fce\u5149\u4e34",)),
    ("the word HELLO, in red", ("HELLO",)),
    ("word HELLO", ("HELLO",)),
    ("with words HELLO WORLD", ("HELLO WORLD",)),
    ("take my word FOR it", ()),
    ("other words BUT no", ()),
    ("in a word NO", ()),
    ("without words JUST colours", ()),
    ("the big red word STOP here", ("STOP",)),
    ("the word GLY\u200bPH in red", ("GLYPH",)),
    ("a password ABC", ()),
    ("the word NO-ONE", ("NO-ONE",)),
    ("the word O\u2019CLOCK", ("O\u2019CLOCK",)),
    ("the word GLYPH's", ()),
    ("the word E=MC2", ()),
    ("the word P!NK in red", ()),
    ("the word KE$HA", ()),
    ("the word AC/DC", ()),
    ("the word OH\u2013NO", ()),
    ("the word YAHOO! in red", ("YAHOO",)),
    ("the word STOP,then", ("STOP",)),
    ("the word STOP\u2014red", ("STOP",)),
    ("the word HELLO\u3002\u7ea2\u8272", ("HELLO",)),
    ("the word CAFE\u0301 in", ("CAFE\u0301",)),
    ('a screen of 24", saying "HI"', ("HI",)),
    ('a 27" monitor and a 32" monitor', ()),
    ('a 27" monitor beside a 32" monitor that says "HI"', ("HI",)),
]


@pytest.mark.parametrize(("text", "spans"), CASES)
def test_a_prompt_asks_for_what_a_reader_sees_in_quotes(text: str, spans: tuple[str, ...]) -> None:
    assert quoted_spans(text) == spans
    assert Prompt.from_text(text).spans == spans


MARKS = [
    '""', "\u201c\u201d", "\u201e\u201c", "\u00ab\u00bb", "\u00bb\u00ab", "\u2018\u2019", "\u300c\u300d",
    "\u300e\u300f", "\u3010\u3011", "\u300a\u300b", "\uff02\uff02", "\u201d\u201d",
]  # fmt: skip


@pytest.mark.parametrize("marks", MARKS)
@pytest.mark.parametrize(
    "text", ["HELLO", "Don\u2019t Panic!", "5 o'clock", "2 + 2 = 5", "\u6b22\u8fce", "Grow.", "(free)"]
)
def test_every_kind_of_mark_quotes_every_kind_of_text(marks: str, text: str) -> None:
    """At any place in a sentence, beside inches, and two at a time."""
    quoted = f"{marks[0]}{text}{marks[1]}"
    for sentence in ("a sign {} in red", "{} on a wall", "it says {}", "it says {}, in red", "it says ({})."):
        assert quoted_spans(sentence.format(quoted)) == (text,), sentence
    assert quoted_spans(f'a 24" poster, 5\'10" tall: {quoted} over {quoted}, 12" wide') == (text, text)


def test_sentences_of_the_usual_benchmarks_keep_their_targets() -> None:
    for quoted in ("Now Serving 42", "Chaos and Order", "Have you seen me?", "Sale 50%", "Life's a Beach 2024", "42"):
        for sentence in ('A slip that reads "{}", amid the hum of a spy\u2019s students\' desks.', '"{}" band poster',
                         'A chalkboard reads, "{}". A barista\'s latte', 'the plaque "{}": an abstract'):  # fmt: skip
            assert quoted_spans(sentence.format(quoted)) == (quoted,)


def test_spans_hold_nothing_that_cannot_be_seen() -> None:
    unseen = [
        c
        for c in map(chr, (*range(0x20000), *range(0xE0000, 0xE0080)))
        if unicodedata.category(c) in ("Cf", "Cc") and not c.isspace()
    ]
    assert len(unseen) > 100
    for character in unseen:
        assert is_invisible(character) and visible(f"a{character}b") == "ab"
        assert quoted_spans(f'a sign "{character}"') == ()
        assert quoted_spans(f'a sign {character}"{character}HELLO{character}"{character} here') == ("HELLO",)
    for character in (
        *"\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\u2800\uffa0",
        "\ufe00",
        "\ufe0f",
        "\U000e0100",
        "\U000e01ef",
    ):  # fillers and selectors, which are letters and marks by their categories
        assert is_invisible(character) and visible(f"a{character}b") == "ab", hex(ord(character))
        assert quoted_spans(f'a sign "{character}"') == ()
    for seen in ("\ufe10", "\u2764", " ", "\n", "\u3000", "a", "\u0301"):
        assert not is_invisible(seen)
    assert drawable(" \u200f\u2764\ufe0f\u200d ") == "\u2764\ufe0f"
    with pytest.raises(ValueError, match="none empty or invisible"):
        Prompt("a", "a", ("\u200b",))
