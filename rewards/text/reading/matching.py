"""The lines that were read against the spans that were asked for: which is which, and how good.

A line may hold several spans (they stand beside each other) and a span may run over several lines (it was wrapped), so:

1. lines that contain a span among other text are cut at its ends, into pieces;
2. pieces are assigned to spans, one to one, so that the characters that are right are the most (the optimal assignment
   of Kuhn 1955);
3. pieces that are left over are added to the span they continue, as long as that makes more of it right.

What is left after that is extra. (The same page is also taken as one running text, see ``judge``.) Each span is then
aligned with its text, and all characters are counted:

    (1)  right   = characters of the spans that are there
    (2)  errors  = replaced + missing + slips + EXTRA * extra
    (3)  text    = right / (right + errors)
    (4)  value   = (1 - SEEN) * text * (1 - ORDER * (1 - order)) + SEEN * [anything was read]

Extra text is what stands in no span, or a run of at least three characters (two Chinese ones) inserted into one; a
shorter insertion is a slip. EXTRA is above 1 so that to write a word twice costs more than to leave it out (it does
when the word is less than 0.6 of the text), and garbage costs as much: a rule that ignores either is soon exploited.
SEEN is what ranks wrong text above none. ORDER is mild, because a prompt seldom says where its spans stand.

Legend: S spans, P pieces.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

from preference_data.texts.normalised_text import (
    Alignment,
    Policy,
    align,
    distances,
    find,
    has_digit,
    is_bar,
    is_wide,
    normalise,
    weights,
)

EXTRA = 2.5  # what an extra character costs, in characters
SEEN = 0.02  # of the whole score
ORDER = 0.2  # of the score, lost when all spans stand in the reverse order
CHANCE = 1 / 3  # of a piece's characters: fewer right ones are no sign that it belongs to a span
CUT = 0.34  # of a span's characters: with more errors it is not seen inside a line
RUNNING = 0.5  # of the characters asked for: with fewer right ones a page is no running text of them
REPEAT = 0.2  # of an extra text's characters: with at most so many errors it is something said before

PARTS = ("value", "exact", "ned_score", "precision", "recall", "order", "duplicates", "extra", "confidence")


@dataclass(frozen=True)
class Line:
    """A line that was read. ``confidence`` in [0, 1]. Lines come in reading order."""

    text: str
    confidence: float = 1.0


@dataclass(frozen=True)
class Match:
    """What was found. Every text is normalised.

    texts: of each span, in the order of the spans, "" where it is missing. places: of each span's first piece in
    reading order, -1 where it is missing. extra: what belongs to no span.
    """

    spans: tuple[str, ...]
    texts: tuple[str, ...]
    indices: tuple[int, ...]
    extra: tuple[str, ...]


def match(spans: Sequence[str], lines: Sequence[Line], policy: Policy) -> Match:
    """Assign what was read to the spans (steps 1 to 3)."""
    digits = has_digit("".join(spans))
    bar = len(spans) == 1 and is_bar(spans[0])
    wanted = [normalise(span, policy, digits, bar) for span in spans]
    read = [text for line in lines if (text := normalise(line.text, policy, digits, bar))]
    pieces = [piece for text in read for piece in cut(text, wanted, policy)]
    owned: list[list[int]] = [[] for _ in wanted]
    for span, piece in assign(wanted, pieces, policy):
        owned[span].append(piece)
    _grow(wanted, pieces, owned, policy)
    texts = tuple(_joined(pieces, each, policy) for each in owned)
    used = set(itertools.chain(*owned))
    extra = tuple(piece for i, piece in enumerate(pieces) if i not in used)
    return Match(tuple(wanted), texts, tuple(min(each, default=-1) for each in owned), extra)


def cut(text: str, wanted: Sequence[str], policy: Policy) -> list[str]:
    """Step 1: a line cut around the spans that it contains. Too little text to be extra stays with its neighbour."""
    results = []
    for span in wanted:
        if 2 <= len(span) < len(text):
            cost, start, stop = find(span, text, policy)
            if cost <= CUT * len(span) and stop > start:
                results.append((cost / len(span), -len(span), start, stop))
    taken: list[tuple[int, int]] = []
    for _, _, start, stop in sorted(results):
        if all(stop <= a or start >= b for a, b in taken):
            taken.append((start, stop))
    if not taken:
        return [text]
    taken.sort()
    ends = [0, *(end for each in taken for end in each), len(text)]
    for i in range(0, len(ends), 2):  # ends[i] to ends[i + 1] is what stands before, between or after spans
        if not is_extra(text[ends[i] : ends[i + 1]]):
            ends[i : i + 2] = [ends[i], ends[i]] if i == 0 else [ends[i + 1], ends[i + 1]]
    return [piece for a, b in itertools.pairwise(ends) if (piece := text[a:b].strip())]


def is_extra(text: str) -> bool:
    """Whether inserted text is text of its own and no slip: three letters or two Chinese characters."""
    return sum(1 + is_wide(c) for c in text if c.isalnum()) >= 3


def gain(span: str, text: str, policy: Policy) -> float:
    """Characters of ``span`` that ``text`` has, less its errors; 0 when that is no more than chance."""
    if not text:
        return 0.0
    weight_N, weight_M = weights(span, policy), weights(text, policy)
    won = float(weight_N.sum() - distances(span, text, weight_N, weight_M)[-1, -1])
    return won if won > CHANCE * min(weight_M.sum(), weight_N.sum()) else 0.0


def assign(wanted: Sequence[str], pieces: Sequence[str], policy: Policy) -> list[tuple[int, int]]:
    """Step 2: (span, piece) of the one-to-one assignment with the greatest sum of gains; chance finds left out."""
    from scipy.optimize import linear_sum_assignment

    if not wanted or not pieces:
        return []
    gain_SP = np.array([[gain(span, piece, policy) for piece in pieces] for span in wanted])
    # of equal gains, in the order that was asked for: the bonus is less than any difference of gains
    index_S, index_P = np.arange(len(wanted)) / len(wanted), np.arange(len(pieces)) / len(pieces)
    bonus_SP = -1e-6 * np.abs(index_S[:, None] - index_P[None])
    chosen = linear_sum_assignment(gain_SP + bonus_SP, maximize=True)
    return [(int(s), int(p)) for s, p in zip(*chosen, strict=True) if gain_SP[s, p] > 0.0]


def _joined(pieces: Sequence[str], chosen: Sequence[int], policy: Policy) -> str:
    return (" " if policy.spaces else "").join(pieces[i] for i in sorted(chosen))


def _grow(wanted: Sequence[str], pieces: Sequence[str], owned: list[list[int]], policy: Policy) -> None:
    """Step 3, the best addition first."""
    left = set(range(len(pieces))) - set(itertools.chain(*owned))
    now = [gain(span, _joined(pieces, each, policy), policy) for span, each in zip(wanted, owned, strict=True)]
    while left:
        best = max(
            (
                (gain(wanted[s], _joined(pieces, [*owned[s], p], policy), policy) - now[s], -p, s)
                for p in left
                for s in range(len(wanted))
            ),
            default=(0.0, 0, 0),
        )
        won, p, s = best[0], -best[1], best[2]
        if won <= CHANCE * len(pieces[p]):
            return
        owned[s].append(p)
        now[s] += won
        left.remove(p)


@dataclass(frozen=True)
class _Count:
    """Characters of one span and its text, weighted as the policy says."""

    right: float
    wrong: float
    extra: float
    runs: tuple[str, ...]  # the extra texts inside


def _count(span: str, text: str, policy: Policy) -> _Count:
    alignment: Alignment = align(span, text, policy)
    weight_N, weight_M = weights(span, policy), weights(text, policy)
    slips, extra, runs = 0.0, 0.0, []
    for run in _runs(alignment.added):
        inserted = text[run[0] : run[-1] + 1]
        amount = float(weight_M[run].sum())
        if is_extra(inserted):
            extra += amount
            runs.append(inserted)
        else:
            slips += amount
    right = float(weight_N[[i for i, _ in alignment.matched]].sum())
    return _Count(right, float(weight_N[[*alignment.replaced, *alignment.missing]].sum()) + slips, extra, tuple(runs))


def _runs(indices: Sequence[int]) -> list[list[int]]:
    """Joins neighbouring positions into runs."""
    groups = itertools.groupby(enumerate(indices), key=lambda pair: pair[1] - pair[0])
    return [[index for _, index in group] for _, group in groups]


def compare(result: Match, lines: Sequence[Line], policy: Policy) -> dict[str, float]:
    """Eqs. (1) to (4) and the parts, by the names in ``PARTS``.

    ``ned_score`` is 1 - d / max of the two lengths with every character alike; ``duplicates`` and ``extra`` are
    characters per character asked for; ``order`` is the share of the pairs of spans found that stand as they were asked
    for.
    """
    counts = [_count(span, text, policy) for span, text in zip(result.spans, result.texts, strict=True)]
    extras = [*result.extra, *itertools.chain(*(count.runs for count in counts))]
    outside = sum(float(weights(text, policy).sum()) for text in result.extra)
    right, wrong = sum(c.right for c in counts), sum(c.wrong for c in counts)
    extra = outside + sum(c.extra for c in counts)
    text = right / (right + wrong + EXTRA * extra) if right else 0.0
    order = _order(result.indices)
    target = max(sum(len(span) for span in result.spans), 1)
    read = sum(len(each) for each in (*result.texts, *result.extra))
    pairs = [(span, each) for span, each in zip(result.spans, result.texts, strict=True) if each]
    missing = sum(len(span) for span, each in zip(result.spans, result.texts, strict=True) if not each)
    distance = sum(Levenshtein.distance(a, b) for a, b in pairs) + max(missing, sum(len(each) for each in result.extra))
    matched = sum(len(align(a, b, Policy(punctuation=1.0)).matched) for a, b in pairs)
    repeats = sum(len(each) for each in extras if _repeats(each, result.spans, policy))
    value = (1.0 - SEEN) * text * (1.0 - ORDER * (1.0 - order)) + SEEN * (read > 0)
    exact = distance == 0 and order == 1.0
    return {
        "value": 1.0 if exact else value,
        "exact": float(exact),
        "ned_score": max(1.0 - distance / max(target, read), 0.0),
        "precision": matched / read if read else 0.0,
        "recall": matched / target,
        "order": order,
        "duplicates": repeats / target,
        "extra": sum(len(each) for each in extras) / target,
        "confidence": _confidence(lines),
    }


def _order(indices: Sequence[int]) -> float:
    """1 when at most one span was found."""
    results = [index for index in indices if index >= 0]
    pairs = list(itertools.combinations(results, 2))
    return float(np.mean([a < b for a, b in pairs])) if pairs else 1.0


def _repeats(text: str, spans: Sequence[str], policy: Policy) -> bool:
    """Whether an extra text says once more what a span, or a part of it, says."""
    return len(text) >= 2 and any(find(text, span, policy)[0] <= REPEAT * len(text) for span in spans)


def _confidence(lines: Sequence[Line]) -> float:
    """The mean over characters, 0 without any."""
    characters = sum(len(line.text) for line in lines)
    return sum(line.confidence * len(line.text) for line in lines) / characters if characters else 0.0


def score_reading(spans: Sequence[str], lines: Sequence[Line], policy: Policy) -> dict[str, float]:
    """The parts of an image on which ``lines`` were read and ``spans`` were asked for.

    The page is understood in two ways, as pieces that belong to spans and as one running text, and the better one
    counts: the first sees spans anywhere on the page, the second a span that runs over lines with other text between.
    """
    matched = match(spans, lines, policy)
    pieces = compare(matched, lines, policy)
    if pieces["exact"]:
        return pieces
    digits = has_digit("".join(spans))
    read = "".join(normalise(line.text, policy, digits) for line in lines)
    running = compare(Match(("".join(matched.spans),), (read,), (0,), ()), lines, policy)
    pieces["ned_score"] = max(pieces["ned_score"], running["ned_score"])
    return running if running["recall"] >= RUNNING and running["value"] > pieces["value"] else pieces
