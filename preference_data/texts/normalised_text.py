"""Texts as they are compared: what counts as the same character, and how far two texts are apart.

    (1)  d(a, b) = least total cost of insertions, deletions and substitutions that turn a into b

Punctuation costs less than other characters: engines take specks for it, and a comma too much is a small fault. Where
every character costs 1 the distance is rapidfuzz's. ``distances`` is our own: no library gives each character its own
cost, or lets a text begin anywhere in the other.

Sources: Unicode Standard Annex 15 (NFKC and NFC); Levenshtein 1966; Wagner and Fischer 1974 for the alignment.

Legend: N characters of the first text, M of the second.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from preference_data.texts.visible import visible

FOLD = str.maketrans({"0": "O", "1": "I"})
RIGHT, WRONG, UNKNOWN = "read right", "read wrong", "not judged"
"""What every page says of a reading, by `read_right`."""
_MARKS = str.maketrans(
    {"\u201c": '"', "\u201d": '"', "\u201e": '"', "\u201f": '"', "\u300c": '"', "\u300d": '"', "\u300e": '"',
     "\u300f": '"', "\u00ab": '"', "\u00bb": '"', "\u2033": '"', "\u2018": "'", "\u2019": "'", "\u201a": "'",
     "\u201b": "'", "\u2032": "'", "\u2039": "'", "\u203a": "'", "\u3001": ",", "\u3002": ".",
     "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2015": "-", "\u2212": "-",
     "\u00b7": ".", "\u2022": ".", "\u2027": ".", "\u30fb": ".", "\u02bc": "'", "\u275b": "'",
     "\u275c": "'", "\u275d": '"', "\u275e": '"', "\u301d": '"', "\u301e": '"', "\u301f": '"', "\u2044": "/",
     "\u2215": "/"}
)  # fmt: skip
_KEYCAP = "\u20e3"  # the frame around a digit; the digit inside is what is read
_EMOJI = "[\u203c-\u3299\U0001f000-\U0001faff]"
_ADDED = "(?:\ufe0f|[\U0001f3fb-\U0001f3ff])*"
_SEQUENCE = re.compile(
    f"[\U0001f1e6-\U0001f1ff]{{2}}|{_EMOJI}[\U000e0020-\U000e007f]+"
    f"|{_EMOJI}{_ADDED}(?:\u200d{_EMOJI}{_ADDED})+|{_EMOJI}\ufe0f?[\U0001f3fb-\U0001f3ff]"
)
"""flags, and emoji joined or coloured: several code points that a person sees as one"""
_BARS = str.maketrans({"l": "I", "|": "I", "1": "I"})
_UNITS = 0xF0000  # where the private characters begin that stand for them


@dataclass(frozen=True)
class Policy:
    """What is no fault. The defaults forgive what a person would not notice and an engine cannot tell."""

    case: bool = False
    """capitals and small letters differ"""
    width: bool = False
    """full-width and other compatibility forms differ from plain ones (NFC instead of NFKC)"""
    script: bool = False
    """traditional and simplified Chinese characters differ"""
    spaces: bool = False
    """spaces count: engines read wide letter spacing as spaces, and a new line ends a word anyway"""
    punctuation: float = 0.3
    """what a wrong punctuation mark costs, in characters: 0 ignores them, 1 counts them as any character"""

    def __post_init__(self) -> None:
        if not 0.0 <= self.punctuation <= 1.0:
            raise ValueError(f"punctuation is {self.punctuation}; a mark costs between 0 and 1 characters")


def normalise(text: str, policy: Policy, digits: bool = True, bar: bool = False) -> str:
    """``text`` as it is compared. ``digits``: whether digits were asked for; without, 0 and 1 pass as O and I.

    ``bar``: whether a single upright bar was asked for, see ``is_bar``; then every letter that is drawn as one is I."""
    text = folded(text.translate(_BARS) if bar else text, policy)
    text = (" " if policy.spaces else "").join(text.split())
    if not policy.case and not digits:
        text = text.translate(FOLD)
    return "".join(c for c in text if not is_mark(c)) if policy.punctuation == 0.0 else text


def as_compared(text: str, target: str, ignore_case: bool = True) -> str:
    """``text`` as a line of text is compared with its ``target``: ``normalise``, and capitals when case is ignored.

    Two things recognisers cannot tell are no errors. Spaces are dropped when ``target`` is a single word: they read
    wide letter spacing as spaces in up to a fifth of clean words. The digits 0 and 1 count as O and I when ``target``
    has no digit: in many faces the glyphs are the same. So are I, l and a bar where one of them is the whole target.
    """
    policy = Policy(case=not ignore_case, spaces=len(target.split()) > 1, punctuation=1.0)
    normalised = normalise(text, policy, bar=is_bar(target))
    return normalised if has_digit(target) else normalised.translate(FOLD)


def read_right(target: str, read: str, ignore_case: bool = True) -> bool:
    """Whether what was read is what was asked for. Rewards, reports and annotation pages all go by this one rule."""
    return as_compared(read, target, ignore_case) == as_compared(target, target, ignore_case)


def folded(text: str, policy: Policy) -> str:
    """``text`` with the characters that count as the same made the same; its spaces stay.

    What cannot be seen is no character, and a family of emoji, a flag or an emoji with a colour of skin is one.
    """
    if not text.isascii():
        text = seen(text)
        if not policy.width:
            text = text.replace("\u00b4", "'")  # NFKC would make it a space with an accent
        text = unicodedata.normalize("NFC" if policy.width else "NFKC", text)
        if not policy.width:
            text = text.translate(_MARKS)
        if not policy.script:
            text = simplified(text)
    else:
        text = visible(text)
    return text if policy.case else text.upper().replace("\u0130", "I")  # the capital of a Turkish i


def seen(text: str) -> str:
    """``text`` with one character for each that a person sees, and none for what cannot be seen."""
    return visible(_SEQUENCE.sub(_unit, text)).replace(_KEYCAP, "")


def _unit(match: re.Match[str]) -> str:
    """The private character that stands for a sequence of emoji."""
    return chr(_UNITS + zlib.crc32(visible(match[0]).encode() or match[0].encode()) % 0xFFFE)


def is_bar(text: str) -> bool:
    """Whether a text is one letter that many faces draw as a plain bar: I, l or |. Alone they cannot be told apart."""
    return visible(text).strip() in ("I", "l", "|")


def has_digit(text: str) -> bool:
    return any(c.isdigit() for c in text)


def simplified(text: str) -> str:
    """Traditional Chinese characters as simplified ones, one by one (OpenCC's t2s)."""
    converted: str = _converter().convert(text)
    return converted if len(converted) == len(text) else text


@cache
def _converter() -> Any:
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise ImportError(
            "comparing traditional with simplified Chinese needs OpenCC; run: pip install opencc-python-reimplemented, "
            "or set script=yes so that they differ"
        ) from error
    return OpenCC("t2s")


def is_mark(character: str) -> bool:
    """Punctuation and symbols, sequences of emoji among them."""
    return unicodedata.category(character)[0] in "PS" or _UNITS <= ord(character) < _UNITS + 0xFFFE


def is_wide(character: str) -> bool:
    """Chinese characters and others of their width, two of which are as much text as a short word."""
    return unicodedata.east_asian_width(character) in "WF"


def weights(text: str, policy: Policy) -> np.ndarray:
    """What each character costs: 1, less for punctuation. [N]"""
    return np.array([policy.punctuation if is_mark(c) else 1.0 for c in text], dtype=np.float64)


def distances(a: str, b: str, weight_N: np.ndarray, weight_M: np.ndarray, anywhere: bool = False) -> np.ndarray:
    """Eq. (1) for all prefixes, [N + 1, M + 1]. A substitution costs the dearer of the two.

    ``anywhere``: what stands in ``b`` before costs nothing (the last row then ends a match of ``a`` inside ``b``).
    """
    code_M = np.array([ord(c) for c in b], dtype=np.int64)
    inserted_M = np.zeros(len(b)) if anywhere else weight_M
    upto = np.concatenate(([0.0], np.cumsum(weight_M)))
    rows = np.empty((len(a) + 1, len(b) + 1))
    rows[0] = np.concatenate(([0.0], np.cumsum(inserted_M)))
    for i, (character, weight) in enumerate(zip(a, weight_N, strict=True), 1):
        replaced = rows[i - 1, :-1] + np.where(code_M == ord(character), 0.0, np.maximum(weight_M, weight))
        best = rows[i - 1] + weight
        best[1:] = np.minimum(best[1:], replaced)
        rows[i] = np.minimum.accumulate(best - upto) + upto  # insertions after the best place
    return rows


@dataclass(frozen=True)
class Alignment:
    """The cheapest way from a text to another. ``matched``: pairs of equal characters (place in a, place in b), rising.

    replaced, missing, added: places of characters that were replaced (in a), left out (of a), put in (in b).
    """

    matched: tuple[tuple[int, int], ...]
    replaced: tuple[int, ...]
    missing: tuple[int, ...]
    added: tuple[int, ...]


def align(a: str, b: str, policy: Policy) -> Alignment:
    """Trace eq. (1) back from its end."""
    weight_N, weight_M = weights(a, policy), weights(b, policy)
    rows = distances(a, b, weight_N, weight_M)
    matched, replaced, missing, added = [], [], [], []
    i, j = len(a), len(b)
    while i or j:
        cost = 0.0 if i and j and a[i - 1] == b[j - 1] else max(weight_N[i - 1], weight_M[j - 1]) if i and j else np.inf
        ways = (
            rows[i - 1, j - 1] + cost if i and j else np.inf,
            rows[i - 1, j] + weight_N[i - 1] if i else np.inf,
            rows[i, j - 1] + weight_M[j - 1] if j else np.inf,
        )
        way = int(np.argmin(ways))
        if way == 0:
            i, j = i - 1, j - 1
            (matched.append((i, j)) if cost == 0.0 and a[i] == b[j] else replaced.append(i))
        elif way == 1:
            i -= 1
            missing.append(i)
        else:
            j -= 1
            added.append(j)
    return Alignment(tuple(matched[::-1]), tuple(replaced[::-1]), tuple(missing[::-1]), tuple(added[::-1]))


def find(a: str, b: str, policy: Policy) -> tuple[float, int, int]:
    """Where ``a`` stands in ``b`` best: (cost, start, stop), stop exclusive. Of equal places the first."""
    rows = distances(a, b, weights(a, policy), weights(b, policy), anywhere=True)
    stop = int(np.argmin(rows[-1]))
    back = distances(a[::-1], b[:stop][::-1], weights(a[::-1], policy), weights(b[:stop][::-1], policy))
    length = int(np.argmin(back[-1]))
    return float(rows[-1, stop]), stop - length, stop
