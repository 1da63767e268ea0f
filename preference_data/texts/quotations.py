"""Which texts a prompt asks to be drawn: what it quotes, and bare capitals after "word".

Marks are not counted in pairs: each one opens or closes by what stands beside it, as a reader sees it.

1. A mark after white space or opening punctuation opens, a mark before white space or punctuation closes; where both
   are possible (Chinese has no spaces) it closes what is open, and opens when nothing is.
2. A mark after a digit, with nothing open, is a sign for inches. So is one inside a quotation when another mark closes
   that quotation later and could close nothing else.
3. Marks may be escaped (a backslash before them), doubled, and of several kinds: plain, curly and low double marks pair
   with each other. Corner and angle brackets pair with their own kind. A single curly mark between letters is an
   apostrophe, and so are the two around a letter inside a quotation that ends later (fish \u2019n\u2019 chips).
   Plain single quotes are left out: in English they are mostly apostrophes.
4. An opening mark that is never closed, and a closing one that was never opened, quote nothing.
5. A backslash and an n stand for a line break, as in files that were JSON once, but not in what looks like a path
   (C:\\new) or a formula (a backslash before other letters).
6. The outermost quotation counts. A description that stands in quotes as a whole quotes nothing by that: what counts is
   inside it. One word, a title or capitals in quotes as a whole are a text to be drawn.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from preference_data.texts.visible import drawable, is_invisible, shapes

_DOUBLE = dict.fromkeys('"\uff02\u201c\u201d\u201e\u201f\u301d\u301e\u301f', "double")
_PAIRS = {
    "\u300c": "\u300d", "\u300e": "\u300f", "\uff62": "\uff63", "\ufe41": "\ufe42", "\ufe43": "\ufe44",
    "\u300a": "\u300b", "\u3008": "\u3009", "\u3010": "\u3011", "\u3016": "\u3017",
}  # fmt: skip
_CLOSING = {close: open_ for open_, close in _PAIRS.items()}
_ANGLES = {"\u00ab": "angles", "\u00bb": "angles", "\u2039": "angle", "\u203a": "angle"}
_SINGLE = {"\u2018": "single", "\u2019": "single", "\u201a": "single", "\u201b": "single"}
_MARK = re.compile(
    r"\\*(?:(?<!\w)``|(?<!')''(?!')|[\"\uff02\u201c-\u201f\u301d-\u301f\u2018-\u201b\u00ab\u00bb\u2039\u203a"
    + "".join(_PAIRS) + "".join(_CLOSING) + r"])"
)  # fmt: skip
_LINE_BREAK = re.compile(r"\\+(?:r\\+)?n")
_NO_LINE_BREAK = re.compile(r"\\[a-mo-qsu-zA-Z]|\\r(?!\\+n)|\\n(?:eq|abla|ot(?:in)?)\b|\b[A-Za-z]:\\+\w")
_ELISION = re.compile(r"(?:\d\ds?|n|tis|twas|em|til|cause)(?!\w)", re.IGNORECASE)
_SHORTENED = re.compile(
    r"(?:^|\s)([\u2018\u2019\u201b])[^\W\d_]$"
)  # the letter of fish 'n' chips, up to its second mark
_NAMED = re.compile(r"\b(?:letters?|initials?|character|word|says|saying|reads|reading)\s+$", re.IGNORECASE)
# what never stands right after an opening mark, unless a space is before that
_INSIDE = frozenset(",.;:!?)]}%\u2026\uff0c\u3002\uff1b\uff1a\uff01\uff1f\uff09\u3001")

_CAPITALS = r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f]|[-'\u2019&](?=[^\W\d_]))*"
_GOES_ON = re.compile(
    r"[\w\u0300-\u036f]|[-!#$%&'*+./:<=>?@\\^_`|~\u00a2-\u00a5\u00b7\u2010-\u2013\u2018\u2019\u20a0-\u20bf]+\w|\+\+|#"
)
_BARE = re.compile(rf"\bwords?[ \t]+({_CAPITALS}(?:[ \t]+(?:&[ \t]+)?{_CAPITALS})*)", re.IGNORECASE)
_BEFORE = re.compile(
    r"(?:^|[^\w\s]|\b(?:the|an?|this|that|these|those|single|one|two|three|following|with|saying|says?|reads?|reading|"
    r"spelling|spells?|showing|shows?|displaying|displays?|containing|contains?|written|writes?|writing|draw|paint|"
    r"print|printed|and|or|of)(?:\s+(?!other|few|many|own|last|same|swear|curse|key|code)[a-z-]+){0,2})\s*$",
    re.IGNORECASE,
)
_SAYING = re.compile(
    r"\b(?:in\s+(?:a|one|other|so\s+many)|(?:no|any|few|many|some|without|not|than)(?:\s+\w+)?)\s*$", re.I
)
_SMALL = frozenset(
    ("a", "an", "the", "of", "in", "on", "at", "to", "and", "or", "for", "by", "with", "from", "de", "la", "le")
)
_ARTICLES = frozenset(("a", "an", "the", "photo", "picture", "image", "portrait"))
_AFTER = frozenset(
    ("in", "on", "at", "with", "and", "or", "above", "below", "beside", "under", "over", "near", "written", "painted")
)
SIGN = 12  # characters without capitals, such as Chinese, up to which a prompt in quotes as a whole is a text


@dataclass(frozen=True)
class _Mark:
    """A quotation mark: where it begins and ends, its family, and what it can be by its shape and its neighbours."""

    start: int
    stop: int
    family: str
    opens: bool
    closes: bool
    inches: bool
    plain: bool
    shortened: int = -1
    """of an apostrophe behind a letter: where the one before the letter begins"""


def quoted_spans(text: str) -> tuple[str, ...]:
    """The texts an image of this prompt must show, in reading order; () when it asks for none.

    A span stands in quotation marks (see the top of this file), or is a bare run of capital letters after "word" or
    "words" (``the word GLYPH in red``), whole: never a part of a word. Spans come without invisible characters, and
    what has none but those is no span.
    """
    text = "".join(c for c in text if not is_invisible(c) or shapes(c))
    if not _NO_LINE_BREAK.search(text):
        text = _LINE_BREAK.sub("\n", text)
    quotations = _quotations(text)
    if len(quotations) == 1 and _is_whole(text, quotations[0]):
        start, stop = quotations[0]
        inside = text[start:stop]
        within = quoted_spans(inside)
        if within or _describes(inside):
            return within
    elif (inner := _packed(text)) is not None:
        return quoted_spans(inner)
    spans = [(start, drawable(text[start:stop])) for start, stop in quotations]
    spans += [each for each in _bare(text) if not any(start <= each[0] < stop for start, stop in quotations)]
    return tuple(span for _, span in sorted(spans) if span)


def _quotations(text: str) -> list[tuple[int, int]]:
    """Start and stop of what stands in each outermost quotation, in order."""
    marks = _marks(text)
    open_: list[_Mark] = []
    pairs: list[tuple[int, int]] = []
    for i, mark in enumerate(marks):
        index = next((k for k in reversed(range(len(open_))) if open_[k].family == mark.family), None)
        if index is not None and mark.closes and not _goes_on(mark, open_[index], marks[i + 1 :]):
            pairs.append((open_[index].stop, mark.start))
            del open_[index:]
        elif mark.opens:
            open_.append(mark)
    outer: list[tuple[int, int]] = []
    for start, stop in sorted(pairs, key=lambda pair: (pair[0], -pair[1])):
        if not outer or start >= outer[-1][1]:
            outer.append((start, stop))
    return outer


def _goes_on(mark: _Mark, opener: _Mark, later: Sequence[_Mark]) -> bool:
    """Whether a mark that could close the quotation stands inside it: it opens one of its own in Chinese, says inches
    and the next mark of the family can only close, or is an apostrophe and the quotation ends later."""
    following = next((each for each in later if each.family == mark.family), None)
    if following is None:
        return False
    if mark.shortened not in (-1, opener.start):
        others = (each for each in later if each.family == mark.family and each.shortened < 0)
        ends = next((each for each in others if each.opens or each.closes), None)
        return ends is not None and ends.closes
    if mark.plain and mark.opens and not opener.plain:
        return any(each.family == mark.family and not each.plain and each.closes for each in later)
    return mark.inches and not mark.opens and following.closes and not following.opens and not following.inches


def _marks(text: str) -> list[_Mark]:
    """All marks with their roles. Doubled marks are one; a closing and an opening one side by side are two."""
    results = [match.span() for match in _MARK.finditer(text)]
    marks: list[_Mark] = []
    i = 0
    while i < len(results):
        j = i + 1
        family = _family(text[results[i][1] - 1])
        while j < len(results) and results[j][0] == results[j - 1][1] and _family(text[results[j][1] - 1]) == family:
            j += 1
        run = results[i:j]
        before, after = _neighbour(text, run[0][0], -1), _neighbour(text, run[-1][1], 1)
        if len(run) == 1 or family not in ("double", "angles"):
            marks += [_mark(text, start, stop, family) for start, stop in run]
        elif _is_close_and_open(text, run, before, after):
            marks.append(_Mark(*run[0], family, False, True, False, False))
            marks.append(_Mark(*run[-1], family, True, False, False, False))
        elif not ((not before or before.isspace()) and (not after or after.isspace() or after in _INSIDE)):
            both = _mark(text, run[0][0], run[-1][1], family)
            marks.append(both)
        i = j
    return marks


def _is_close_and_open(text: str, run: Sequence[tuple[int, int]], before: str, after: str) -> bool:
    """Two marks between two texts: one quotation ends and the next begins."""
    if len(run) != 2:
        return False
    first, second = (text[stop - 1] for _, stop in run)
    if (first, second) in (("\u201d", "\u201c"), ("\u00bb", "\u00ab")):
        return True
    return first == second == '"' and bool(before and after) and not before.isspace() and not after.isspace()


def _family(character: str) -> str:
    if character in "'`":
        return "double"
    kinds = _DOUBLE | _ANGLES | _SINGLE
    return kinds.get(character) or _CLOSING.get(character, character)


def _mark(text: str, start: int, stop: int, family: str) -> _Mark:
    character = text[stop - 1]
    if character in _PAIRS or character in _CLOSING:
        return _Mark(start, stop, family, character in _PAIRS, character in _CLOSING, False, False)
    before, after = _neighbour(text, start, -1), _neighbour(text, stop, 1)
    tight = not before or before.isspace() or before in "([{\uff08"
    loose = not after or after.isspace()
    letter_before, letter_after = _is_letter(before), _is_letter(after)
    opens = not loose and not letter_before and (tight or after not in _INSIDE)
    closes = not tight and not letter_after
    inches = before.isdigit() or bool(re.search(r"\d\s$", text[:start])) or _is_fraction(before)
    if family == "single":
        return _single(text, start, stop, character, (opens, closes, letter_before and letter_after))
    if (tight and loose) or (letter_before and letter_after):  # spaces on both sides, or on none: whatever is missing
        opens, closes = not inches, True
    if character in "\u201e\u301d":
        opens, closes = not loose, False
    elif character in "\u201c\u201f`":
        opens, closes = opens or (not loose and not letter_before), closes and not opens
        opens = opens or (letter_before and letter_after)
    elif character in "\u201d\u301e\u301f":
        opens, closes = opens and tight, not (opens and tight)
    elif character in _ANGLES:
        pointing = character in "\u00ab\u2039"
        opens, closes = (True, closes and not tight) if pointing else (opens and not closes, True)
    return _Mark(start, stop, family, opens, closes, inches, character in "\"\uff02'")


def _single(text: str, start: int, stop: int, character: str, sides: tuple[bool, bool, bool]) -> _Mark:
    opens, closes, between = sides
    short = _SHORTENED.search(text[:start])
    if character in "\u2018\u201a\u201b" and not (short and closes):
        left_out = _ELISION.match(text, stop) and not _NAMED.search(text[:start])
        return _Mark(start, stop, "single", opens and not left_out, False, False, False)
    return _Mark(start, stop, "single", False, closes and not between, False, False, short.start(1) if short else -1)


def _neighbour(text: str, index: int, step: int) -> str:
    """The character before (step -1) or after a place, invisible ones passed over; "" at an end."""
    at = index - 1 if step < 0 else index
    while 0 <= at < len(text) and is_invisible(text[at]):
        at += step
    return text[at] if 0 <= at < len(text) else ""


def _is_letter(character: str) -> bool:
    """Letters and digits of scripts that put spaces between words."""
    return bool(character) and character.isalnum() and unicodedata.east_asian_width(character) not in "WF"


def _is_fraction(character: str) -> bool:
    return bool(character) and unicodedata.category(character) == "No"


def _is_whole(text: str, results: tuple[int, int]) -> bool:
    """Whether nothing stands outside of a quotation but marks and punctuation."""
    outside = text[: results[0]] + text[results[1] :]
    return not any(c.isalnum() for c in outside)


def _packed(text: str) -> str | None:
    """The inside of a prompt that stands in plain quotes as a whole and quotes something itself; None otherwise."""
    stripped = text.strip()
    if len(stripped) < 2 or any(_DOUBLE.get(c) is None for c in (stripped[0], stripped[-1])):
        return None
    inner = stripped[1:-1]
    inside = [mark for mark in _marks(inner) if mark.family == "double" and not mark.inches]
    balance = 0
    for mark in inside:
        balance += 1 if mark.opens and not (mark.closes and balance) else -1
        if balance < 0:
            return None
    return inner if inside and balance == 0 and _describes(inner) else None


def _describes(text: str) -> bool:
    """Whether a text reads as the description of an image and not as what stands on one."""
    words = re.findall(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*", text)
    if not any(c.islower() or c.isupper() for c in text):
        return sum(c.isalnum() for c in text) > SIGN
    small = [word for word in words if word[0].islower() and word not in _SMALL]
    if len(words) < 2 or not (small or words[0].islower()):
        return False
    return len(words) > 2 or words[0].lower() in _ARTICLES


def _bare(text: str) -> list[tuple[int, str]]:
    """Place and text of each run of capitals after "word"."""
    results = []
    for match in _BARE.finditer(text):
        if not _BEFORE.search(text[: match.start()]) or _SAYING.search(text[: match.start()]):
            continue
        run = _run_of_capitals(text, match.start(1))
        if run:
            results.append((match.start(1), drawable(run)))
    return results


def _run_of_capitals(text: str, start: int) -> str:
    """The words in capitals from a place on, "" when the first one is no whole word of capitals."""
    stop = start
    for match in re.compile(rf"(?:[ \t]+(?:&[ \t]+)?)?({_CAPITALS})").finditer(text, start):
        word, gap = match[1], match.start() == stop
        if not gap or word.upper() != word or word.lower() == word or not _ends(text, match.end()):
            break
        if word in ("I", "A") and not _stands_alone(text, match.end(), start == match.start(1)):
            break
        stop = match.end()
    return text[start:stop]


def _ends(text: str, index: int) -> bool:
    """Whether a word ends at a place: no letter, digit or mark of it follows, such as the $ of KE$HA."""
    return not _GOES_ON.match(text, index)


def _stands_alone(text: str, index: int, only: bool) -> bool:
    """Whether I or A before a place is a text and no pronoun or article: no verb or noun may follow."""
    follows = re.match(r"[ \t]+([a-z]+)", text[index:])
    return not follows or (only and follows[1] in _AFTER)
