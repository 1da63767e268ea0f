"""What was read against what was asked, letter by letter, for writing systems with and without spaces.

A reading is right by the rule of rewards and reports (`read_right`), and what that rule forgives is marked nowhere:
capitals, 0 for O where no digit was asked for, spaces inside a word. Letters are user-perceived ones: a base with its
combining marks is one. What was read is shown as it was read; only white space is folded, because recognisers do not
agree about it, and a space next to a Chinese character counts as none.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from preference_data.texts.normalised_text import as_compared, has_digit, is_bar, read_right

MAX_LETTERS = 2000
"""Longer texts are cut: nobody reads a longer difference, and the comparison is quadratic."""
_CJK = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\u3000-\u303f"
_SPACE_NEXT_TO_CJK = re.compile(rf"(?<=[{_CJK}])\s+|\s+(?=[{_CJK}])")


@dataclass(frozen=True)
class Piece:
    """A stretch of text. kind: "same", "missing" (asked, not read) or "extra" (read, not asked)."""

    kind: str
    text: str


def shown(text: str) -> str:
    """A text as it is shown, white space folded."""
    return _SPACE_NEXT_TO_CJK.sub("", " ".join(unicodedata.normalize("NFC", text).split()))[:MAX_LETTERS]


def letters(text: str) -> list[str]:
    """The letters of a text, white space folded."""
    results: list[str] = []
    for character in shown(text):
        if results and unicodedata.combining(character):
            results[-1] += character
        else:
            results.append(character)
    return results


def compared(text: str, target: str) -> list[tuple[str, str]]:
    """(compared, shown) for each compared character of `text`. A letter that compares as several is shown with the
    first of them; one that counts for nothing, such as a space inside a word, is shown with the letter before.
    """
    rule = target if is_bar(target) else "0" if has_digit(target) else "A"  # what decides how one letter compares
    spaced, results = len(target.split()) > 1, [("", "")]
    for letter in letters(text):
        as_one = " " if letter == " " and spaced else as_compared(letter, rule)
        if as_one:
            results += [(as_one[0], letter), *((more, "") for more in as_one[1:])]
        else:
            results[-1] = (results[-1][0], results[-1][1] + letter)
    (_, before), *rest = results
    return [(rest[0][0], before + rest[0][1]), *rest[1:]] if rest else []


def difference(requested: str, read: str) -> list[Piece]:
    """Pieces that spell `read` without the missing ones, and without the extra ones what compares equal to `asked`."""
    if read_right(requested, read):
        return [Piece("same", shown(read))] if read else []
    a, b = compared(requested, requested), compared(read, requested)
    pieces: list[Piece] = []
    matcher = difflib.SequenceMatcher(None, [key for key, _ in a], [key for key, _ in b], autojunk=False)
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        missing, read_here = ("".join(text for _, text in part) for part in (a[a0:a1], b[b0:b1]))
        if kind == "equal":
            pieces.append(Piece("same", read_here))
            continue
        pieces += [Piece("missing", missing)] if missing else []
        pieces += [Piece("extra", read_here)] if read_here else []
    return pieces


def spelled(pieces: Sequence[Piece]) -> str:
    """In plain text, without colour: [−missing−] and {+extra+}."""
    marks = {"same": "{}", "missing": "[−{}−]", "extra": "{{+{}+}}"}
    return "".join(marks[p.kind].format(p.text) for p in pieces)


def of_spans(spans: Sequence[str], lines: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """(asked, spelled difference, read right) of each text that was asked for, against the lines that were read.

    Where all together is right, as one line or as several, there is one for all. Else every line belongs to the span
    that it is most like; a span that has none is missing as a whole, and lines that are nobody's come last, as extra.
    """
    whole, read = " ".join(spans), " ".join(lines)
    if read_right(whole, read):
        yield whole, spelled(difference(whole, read)), True
        return
    mine: dict[int, list[str]] = {i: [] for i in range(len(spans))}
    nobody = []
    for line in lines:
        ratios = [_likeness(span, line) for span in spans]
        best = max(range(len(spans)), key=lambda i: ratios[i], default=None)
        if best is None or (ratios[best] < 0.3 and len(spans) > 1):
            nobody.append(line)
        else:
            mine[best].append(line)
    for i, span in enumerate(spans):
        text = " ".join(mine[i])
        yield span, spelled(difference(span, text)), read_right(span, text)
    if nobody:
        yield "", spelled([Piece("extra", shown(" ".join(nobody)))]), False


def _likeness(span: str, line: str) -> float:
    a, b = ([key for key, _ in compared(text, span)] for text in (span, line))
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()
