"""From a language model's answer to a number, or to a cause why there is none. A failure never becomes a score.

    (1)  yes    = P("Yes")                                  of the whole vocabulary, as VQAScore (Lin et al. 2024)
    (2)  rating = (sum_w v_w P(w) / sum_w P(w) - 1) / 4     w: the five words of ``rubric.RATINGS``, v: 5 to 1
    (3)  json   = score / 10                                of the one JSON object in the answer
    (4)  pair   = P("A") / (P("A") + P("B"))

P is the model's own probability of the next token, from its logits or from a server's log-probabilities, not the share
of sampled answers. A word counts in every spelling that is one token: with a space before it or not, in small letters,
with a capital or in capitals; their probabilities add up. Only the first token is seen, so a word that the model writes
in pieces ("ex" + "cellent" in Qwen's vocabulary) is lost, and what is left would be the rating of a model that cannot
say it: that is no answer ("split_word"), never the rest made up to 1.

Each reading says how much probability its words have together (``mass``): where that is next to nothing, the model
wanted to say something else, and (2) and (4) would be the shape of its noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rewards.image_scorer import Unjudged
from rewards.language.rubric import RATINGS

Odds = Mapping[str, float]
"""Answer word -> its probability as the next token."""
LEAST_MASS = 0.05  # the default below which there is no answer; with 0 every answer counts, as VQAScore and DeQA do
MOST = 10.0  # the top of the JSON scale


def spellings(word: str) -> tuple[str, ...]:
    """How an answer may be written; a single letter only as it is, because "a" is an article."""
    return (word,) if len(word) == 1 else tuple(dict.fromkeys((word, word.lower(), word.capitalize(), word.upper())))


def add_up(tokens: Iterable[tuple[str, float]], words: Sequence[str], least: float = LEAST_MASS) -> dict[str, float]:
    """Word -> probability, from the text and the probability of first tokens; a word that none of them spells has 0.

    ``Unjudged`` "split_word" when tokens that only begin a word have probability ``least`` or more together while the
    words have as much; with ``least`` 0 every answer counts.
    """
    spelled = {form: word for word in words for form in spellings(word)}
    odds = dict.fromkeys(words, 0.0)
    pieces: dict[str, float] = {}
    for token, p in tokens:
        answer = token.strip()
        if answer in spelled:
            odds[spelled[answer]] += p
        elif answer and (begun := next((word for form, word in spelled.items() if form.startswith(answer)), None)):
            pieces[begun] = pieces.get(begun, 0.0) + p
    if 0.0 < least <= sum(pieces.values()) and sum(odds.values()) >= least:
        shares = ", ".join(f"{word!r} with {p:.2f}" for word, p in pieces.items())
        raise Unjudged(
            "split_word", f"the model begins words in pieces, so that their probability is unknown: {shares}"
        )
    return odds


def read_yes(odds: Odds, least: float = LEAST_MASS) -> dict[str, float]:
    """Eq. (1), in [0, 1]. ``yes_or_no`` is the same among the two words, as LLaVA-type judges report it."""
    mass = _mass(odds, least)
    return {"value": odds["Yes"], "yes_or_no": odds["Yes"] / mass, "mass": mass}


def read_rating(odds: Odds, least: float = LEAST_MASS) -> dict[str, float]:
    """Eq. (2), in [0, 1]; ``rating`` is the expected value from 1 to 5."""
    mass = _mass(odds, least)
    rating = sum(RATINGS[word] * p for word, p in odds.items()) / mass
    return {"value": (rating - 1.0) / 4.0, "rating": rating, "mass": mass}


def read_pair(odds: Odds, least: float = LEAST_MASS) -> float:
    """Eq. (4); a judge that may answer "C", neither, counts a half of it for each."""
    return (odds["A"] + odds.get("C", 0.0) / 2.0) / _mass(odds, least)


READINGS: dict[str, tuple[tuple[str, ...], Callable[[Odds, float], dict[str, float]], tuple[str, ...]]] = {
    "yes": (("Yes", "No"), read_yes, ("value", "yes_or_no", "mass")),
    "rating": (tuple(RATINGS), read_rating, ("value", "rating", "mass")),
}
"""Way of reading -> the words it looks for, the reading, its parts."""
PAIR_WORDS = ("A", "B")
JSON_PARTS = ("value", "score")


def _mass(odds: Odds, least: float) -> float:
    mass = sum(odds.values())
    if not math.isfinite(mass) or min(odds.values()) < 0 or mass > 1.001:
        raise Unjudged("bad_probabilities", f"the words' probabilities are {dict(odds)}")
    if mass < least or mass == 0:
        raise Unjudged("no_answer", f"the words {', '.join(odds)} have probability {mass:.2g} together")
    return mass


def read_json(text: str) -> dict[str, float]:
    """Eq. (3), in [0, 1]. ``Unjudged``: "no_json", "two_answers", "no_score", "off_scale".

    What a model writes before ``</think>`` is not its answer. Text around the object, such as a code fence, is allowed.
    """
    if "<think>" in text and "</think>" not in text:
        raise Unjudged("no_json", "the answer ends before the model stopped thinking")
    results = [each for each in _objects(text.rpartition("</think>")[2]) if "score" in each]
    if not results:
        raise Unjudged("no_json", f"there is no JSON object with a score in {text[:200]!r}")
    if any(each["score"] != results[0]["score"] for each in results):
        raise Unjudged("two_answers", f"there are {len(results)} scores in {text[:200]!r}")
    score = results[0]["score"]
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise Unjudged("no_score", f"score is {score!r}, which is no number")
    if not 0 <= score <= MOST:
        raise Unjudged("off_scale", f"score is {score}, outside of 0 to {MOST:g}")
    return {"value": float(score) / MOST, "score": float(score)}


def _objects(text: str) -> list[dict[str, Any]]:
    """The outermost JSON objects in a text; ``Unjudged`` when a brace opens none: what is inside it could be anything.

    NaN and Infinity are no JSON, and a repeated name is an error.
    """
    decoder = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_no_repeats)
    results, index = [], text.find("{")
    while index >= 0:
        try:
            each, end = decoder.raw_decode(text, index)
        except (ValueError, RecursionError) as error:
            raise Unjudged("no_json", f"{text[index : index + 200]!r} is no JSON object: {error}") from error
        results.append(each)
        index = text.find("{", end)
    return results


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)
