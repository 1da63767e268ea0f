"""Texts by language: paragraphs and phrases made of the vocabulary, or paragraphs of one's own; rare characters.

The vocabulary is ours (vocabulary/*.json): patterns whose {slots} are filled with words. A file of one's own,
`en.txt`, `zh-Hans.txt` and so on, one paragraph a line, takes the place of its sentences. A paragraph there must be in
its language: translated help pages, for one, repeat the English text wherever nobody translated it.
"""

from __future__ import annotations

import functools
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SLOT = re.compile(r"\{(\w+)\}")
DENSE = ("zh-Hans", "zh-Hant", "ja")
"""Languages that are written without blanks."""
SHARE = 0.3
"""least share of a paragraph's letters that are of its language's own script"""
LATIN_SHARE = 0.9
SENTENCE = (20, 10)
"""letters from which a paragraph is made of sentences, with and without blanks; below, it is what a sign says"""
TRIES = 12


@functools.cache
def vocabulary(language: str) -> Mapping[str, Any]:
    """The words and patterns of a language."""
    content = (Path(__file__).parent / "vocabulary" / f"{language}.json").read_text(encoding="utf-8")
    words: Mapping[str, Any] = json.loads(content)
    return words


def filled(pattern: str, language: str, rng: np.random.Generator) -> str:
    """A pattern with a word in every slot."""
    slots = vocabulary(language)["slots"]
    return SLOT.sub(lambda match: pick(slots[match.group(1)], rng), pattern)


def pick(values: list[str] | tuple[str, ...], rng: np.random.Generator) -> str:
    """One of some texts."""
    return values[int(rng.integers(len(values)))]


def phrase(language: str, key: str, rng: np.random.Generator) -> str:
    """A whole phrase of a list of the vocabulary, such as `titles`; in languages with capitals it begins with one."""
    text = filled(pick(vocabulary(language)[key], rng), language, rng)
    return text[:1].upper() + text[1:]


def phrases(language: str, key: str, count: int, rng: np.random.Generator) -> list[str]:
    """Several phrases of a list, no two alike; fewer where the list has not as many."""
    chosen: dict[str, None] = {}
    for _ in range(4 * count):
        if len(chosen) < count:
            chosen[phrase(language, key, rng)] = None
    return list(chosen)


@dataclass(frozen=True)
class Corpus:
    """Paragraphs of one language."""

    language: str
    own: tuple[str, ...] = ()
    """paragraphs of one's own, the shortest first; () = made of the vocabulary"""

    def paragraph(self, rng: np.random.Generator, length: tuple[int, int]) -> str:
        """A paragraph of about as many letters as the range says, drawn so that short ones are as frequent as long."""
        low, high = (max(1, round(each * (1.0 if self.language == "en" else 0.5))) for each in length)
        target = math.exp(rng.uniform(math.log(low), math.log(high + 1)))
        if self.own:
            return self.own_paragraph(rng, low, max(low, round(target)))
        signs = [phrase(self.language, "signs", rng) for _ in range(TRIES)]
        text = ""
        for _ in range(TRIES + round(target / 5) if target >= SENTENCE[self.language in DENSE] else 0):
            sentence = phrase(self.language, "sentences", rng)
            longer = sentence if not text else text + ("" if self.language in DENSE else " ") + sentence
            if len(longer) <= high and sentence not in text:
                text = longer
            if len(text) >= target:
                break
        return text or next((sign for sign in signs if low <= len(sign) <= high), min(signs, key=len))

    def own_paragraph(self, rng: np.random.Generator, low: int, high: int) -> str:
        """One of the own paragraphs of a range of lengths; the shortest where all are longer."""
        lengths = _lengths_of(self.own)
        last = int(np.searchsorted(lengths, high, side="right"))
        first = int(np.searchsorted(lengths, low, side="left"))
        first = first if first < last else 0
        return self.own[int(rng.integers(first, last))] if last else self.own[0]


@functools.lru_cache(maxsize=16)
def _lengths_of(texts: tuple[str, ...]) -> np.ndarray:
    return np.asarray([len(text) for text in texts])


def own_corpus(language: str, paragraphs: list[str]) -> tuple[Corpus, list[str]]:
    """The corpus of a file's paragraphs, and those that are left out because they are in another language.

    Letters and marks that some systems store apart are put together. Raises ValueError when none is left.
    """
    rows = [unicodedata.normalize("NFC", " ".join(paragraph.split())) for paragraph in paragraphs]
    usable = dict.fromkeys(row for row in rows if row and is_in(language, row))
    if not usable:
        raise ValueError(f"none of {len(rows)} paragraphs is in the language {language}")
    return Corpus(language, tuple(sorted(usable, key=lambda row: (len(row), row)))), [
        row for row in rows if row and row not in usable
    ]


def is_in(language: str, text: str) -> bool:
    """Whether a text is in a language, by the scripts of its letters."""
    letters = [script_of(c) for c in text if c.isalpha()]
    if not letters:
        return False
    share = {name: letters.count(name) / len(letters) for name in ("Latin", "Han", "kana", "Hangul")}
    if language == "en":
        return share["Latin"] >= LATIN_SHARE
    if language == "ko":
        return share["Hangul"] >= SHARE
    if language == "ja":
        return share["kana"] > 0.0 and share["Han"] + share["kana"] >= SHARE
    codec = "gb2312" if language == "zh-Hans" else "big5"
    simplified_or_not = all(encodable(c, codec) for c in text if script_of(c) == "Han")
    return share["Han"] >= SHARE and not share["kana"] and not share["Hangul"] and simplified_or_not


def script_of(character: str) -> str:
    """Latin, Han, kana, Hangul, or "" for any other script."""
    point = ord(character)
    if 0x4E00 <= point <= 0x9FFF or 0x3400 <= point <= 0x4DBF or 0x20000 <= point <= 0x2FFFF or point == 0x3005:
        return "Han"
    if 0x3040 <= point <= 0x30FF:
        return "kana"
    if 0xAC00 <= point <= 0xD7A3:
        return "Hangul"
    return "Latin" if point < 0x250 else ""


def encodable(character: str, codec: str) -> bool:
    """Whether a character is in a national standard."""
    try:
        character.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


# --- rare characters


def _of_rows(codec: str, rows: range, cells: tuple[int, ...]) -> str:
    pairs = [bytes((row, cell)) for row in rows for cell in cells]
    return "".join(pair.decode(codec, errors="ignore") for pair in pairs)


@functools.cache
def common_characters() -> str:
    """GB 2312, rows 16 to 55, in the order of the standard: the 3,755 most used characters."""
    return _of_rows("gb2312", range(0xB0, 0xD8), tuple(range(0xA1, 0xFF)))


JOYO_BEYOND = "曖彙鬱楷諧毀嗅惧憬錮傲刹恣摯𠮟羞箋踪緻嘲塡貪丼剝訃璧哺頰喩瘍拉辣慄籠"
"""the Joyo kanji of 2010 (Cabinet notification 2 of 2010) that are not in JIS X 0208 level 1; the other 2,102 are"""


@functools.cache
def standard_set(language: str) -> str:
    """The characters that every reader of a language knows: what is to appear in a large set of images.

    GB 2312 level 1, Big5 level 1, JIS X 0208 level 1 with kana and all Joyo kanji, the syllables of KS X 1001, or ASCII
    letters.
    """
    high = tuple(range(0xA1, 0xFF))
    if language == "zh-Hans":
        return common_characters()
    if language == "zh-Hant":
        return _of_rows("big5", range(0xA4, 0xC7), (*range(0x40, 0x7F), *high))[:5401]
    if language == "ja":
        kana = "".join(chr(point) for point in (*range(0x3041, 0x3094), *range(0x30A1, 0x30F7)))
        return kana + _of_rows("euc_jp", range(0xB0, 0xD0), high) + JOYO_BEYOND
    if language == "ko":
        return _of_rows("euc_kr", range(0xB0, 0xC9), high)
    return "".join(chr(point) for point in range(0x21, 0x7F) if chr(point).isalnum())


def rare_text(language: str, seed: int, ordinal: int, length: int = 24) -> str:
    """Characters of the standard set in an order of the seed: consecutive ordinals show all before any comes again."""
    alphabet = standard_set(language)
    passes, first = divmod(ordinal * length, len(alphabet))
    order = [*_order(language, seed, passes), *_order(language, seed, passes + 1)][first : first + length]
    text = "".join(alphabet[i] for i in order)
    if language in DENSE:
        return text
    return " ".join(text[i : i + 4] for i in range(0, length, 4))


@functools.lru_cache(maxsize=16)
def _order(language: str, seed: int, passes: int) -> tuple[int, ...]:
    alphabet = standard_set(language)
    return tuple(np.random.default_rng([seed, passes, len(alphabet)]).permutation(len(alphabet)).tolist())
