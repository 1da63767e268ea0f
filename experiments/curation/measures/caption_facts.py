"""Measures captions for stage 3: their words, their scripts, and whether they describe an image at all.

Which script a caption is in is counted from Unicode's names of its letters; no library is needed for that, and none
tells a caption of three words reliably.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

DENSE = ("han", "kana")
"""Scripts that put no blanks between words: a character counts as a word."""
SCRIPTS = {
    "LATIN": "latin", "CJK": "han", "IDEOGRAPHIC": "han",
    "HIRAGANA": "kana", "KATAKANA": "kana", "HANGUL": "hangul", "CYRILLIC": "cyrillic",
    "ARABIC": "arabic", "DEVANAGARI": "devanagari", "GREEK": "greek", "HEBREW": "hebrew", "THAI": "thai",
}  # fmt: skip
"""The first word of a letter's name in Unicode, and what its script is called here."""
NONE = "none"
GARBAGE = {
    "has no letters": re.compile(r"^[\W\d_]*$"),
    "is a file name": re.compile(
        r"^\s*[\w-]+\.(jpe?g|png|webp|gif|bmp|tiff?|heic)\s*$|^\s*(IMG|DSC|DSCF|PXL)[_-]?\d+\w*\s*$", re.I
    ),
    "is an address": re.compile(r"^\s*(https?://|www\.)\S+\s*$", re.I),
    "has tags of HTML": re.compile(
        r"</?(a|b|br|div|img|p|span|td|tr|table|html|body)\b[^>]*>|&(nbsp|amp|quot|lt|gt|#\d+);", re.I
    ),
    "was decoded wrongly": re.compile("\ufffd|\u00c3[\u0080-\u00bf]|\u00e2\u20ac|\u00ef\u00bc[\u0080-\u00bf]"),
    "repeats itself": re.compile(r"(.)\1{9,}|\b(\S+)(?:\s+\2\b){4,}"),
    "refuses to describe": re.compile(
        r"\bI(?: am|'m|\u2019m)(?: very)? sorry\b|\bI (?:can(?:no|'|\u2019)t|am unable to|am not able to)\b"
        r"|\bas an AI(?: language)? model\b|\bcannot (?:assist|describe|help) with\b|\bno image (?:is |was )?provided\b"
        r"|抱歉[，,]|对不起[，,]?我|我无法|作为(?:一个)?AI|未提供图", re.I,
    ),
}  # fmt: skip
"""What is no caption, and why."""


@lru_cache(maxsize=100_000)
def script_of(letter: str) -> str:
    """The script of a letter; "none" for what is no letter."""
    if not letter.isalpha():
        return NONE
    first = unicodedata.name(letter, "").replace("FULLWIDTH ", "").replace("HALFWIDTH ", "")
    return SCRIPTS.get(re.split("[ -]", first)[0], "other")


def scripts(text: str) -> dict[str, float]:
    """The share of a text's letters that each script has, the largest first; {} for a text without letters."""
    counts = Counter(script_of(letter) for letter in text)
    del counts[NONE]
    return {script: count / counts.total() for script, count in counts.most_common()}


def tokens(text: str) -> list[str]:
    """The words of a text, as they stand between blanks; each character of a script without blanks is one."""
    dense = [] if text.isascii() else [letter for letter in text if script_of(letter) in DENSE]
    rest = "".join(" " if script_of(letter) in DENSE else letter for letter in text) if dense else text
    return dense + [word for word in rest.split() if any(c.isalnum() for c in word)]


def words(text: str) -> int:
    """How many words a text has."""
    return len(tokens(text))


def garbage(text: str) -> str:
    """Why a text is no caption; "" where it is one."""
    return next((why for why, pattern in GARBAGE.items() if pattern.search(text)), "")


def describe_caption(text: str) -> dict[str, float | str]:
    """The numbers of one caption: `words`, `garbage` with `why`, its main `script`, and the share of each script."""
    shares, why = scripts(text), garbage(text)
    nothing = 0.0 if shares else float("nan")
    by_script = {f"letters_{script}": shares.get(script, nothing) for script in sorted({*SCRIPTS.values()})}
    return {"words": float(words(text)), "garbage": float(bool(why)), "why": why,
            "script": next(iter(shares), NONE), **by_script}  # fmt: skip
