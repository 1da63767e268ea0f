"""What was read against what was asked, letter by letter, for writing systems with and without spaces.

Letters are user-perceived ones: a base with its combining marks is one. What is compared is shown as it is; only white
space is folded, because recognisers do not agree about it, and a space next to a Chinese character counts as none.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_LETTERS = 2000
"""Longer texts are cut: nobody reads a longer difference, and the comparison is quadratic."""
_CJK = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\u3000-\u303f"
_BESIDE_CJK = re.compile(rf"(?<=[{_CJK}])\s+|\s+(?=[{_CJK}])")


@dataclass(frozen=True)
class Piece:
    """A stretch of text. kind: "same", "missing" (asked, not read) or "extra" (read, not asked)."""

    kind: str
    text: str


def letters(text: str) -> list[str]:
    """The letters of a text, white space folded."""
    folded = _BESIDE_CJK.sub("", " ".join(unicodedata.normalize("NFC", text).split()))[:MAX_LETTERS]
    found: list[str] = []
    for character in folded:
        if found and unicodedata.combining(character):
            found[-1] += character
        else:
            found.append(character)
    return found


def difference(asked: str, read: str) -> list[Piece]:
    """Pieces that spell `asked` without the extra ones and `read` without the missing ones (white space folded)."""
    a, b = letters(asked), letters(read)
    pieces: list[Piece] = []
    for kind, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(Piece("same", "".join(a[a0:a1])))
            continue
        if a1 > a0:
            pieces.append(Piece("missing", "".join(a[a0:a1])))
        if b1 > b0:
            pieces.append(Piece("extra", "".join(b[b0:b1])))
    return pieces


def spelled(pieces: Sequence[Piece]) -> str:
    """In plain text, without colour: [−missing−] and {+extra+}."""
    marks = {"same": "{}", "missing": "[−{}−]", "extra": "{{+{}+}}"}
    return "".join(marks[p.kind].format(p.text) for p in pieces)


def exact(pieces: Sequence[Piece]) -> bool:
    """Whether it was read as it was asked."""
    return all(p.kind == "same" for p in pieces)


def of_spans(spans: Sequence[str], lines: Sequence[str]) -> Iterator[tuple[str, list[Piece]]]:
    """Each text that was asked for, against the lines that were read; lines that are nobody's come last, as extra.

    Every line belongs to the span that it is most like; a span that has none is missing as a whole.
    """
    mine: dict[int, list[str]] = {i: [] for i in range(len(spans))}
    nobody = []
    for line in lines:
        ratios = [difflib.SequenceMatcher(None, letters(s), letters(line), autojunk=False).ratio() for s in spans]
        best = max(range(len(spans)), key=lambda i: ratios[i], default=None)
        if best is None or (ratios[best] < 0.3 and len(spans) > 1):
            nobody.append(line)
        else:
            mine[best].append(line)
    for i, span in enumerate(spans):
        yield span, difference(span, " ".join(mine[i]))
    if nobody:
        yield "", difference("", " ".join(nobody))
