"""Do the answers decide anything, and how many more would? Power, and whether people agree with each other at all.

What is missing is said in decided pairs like those that are there: as many a prompt, about images as far apart. The
estimate is taken for the truth, which makes it a rough number: it is printed with two digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from preference_data.statistics.shares import needed

MIN_PAIRS, MIN_PROMPTS = 30, 10
"""Decided pairs and their prompts below which nothing is called certain."""
USELESS = 0.6
"""A reward that is certainly right less often than this is of no use to choose images by."""
HOPELESS = 100.0
"""Times as many pairs as there are: from there on nobody will collect them."""

Report = Mapping[str, Any]


def sufficiency(report: Report) -> dict[str, Any]:
    """Counts, verdicts and sentences about the answers of a comparison, from its sections "accuracy" and "ceiling".

    {"pairs", "prompts", "few", "disagree", "coin": pairs still missing to tell the best from a coin, "rival": from the
    next, "sentences"}; a number of pairs is 0 when it is decided already and None when nobody will collect so many.
    """
    rows = sorted(report["accuracy"]["rewards"], key=lambda r: -_number(r["accuracy_counting_unjudged"]["value"]))
    pairs = int(report["accuracy"]["decided_pairs"])
    prompts = max((r["accuracy_counting_unjudged"]["clusters"] for r in rows), default=0)
    batch = pairs < MIN_PAIRS or prompts < MIN_PROMPTS
    person = report["ceiling"].get("person", {})
    disagree = bool(person) and not _number(person["low"]) > 0.5
    coin = _missing_for_coin(rows[0]) if rows else None
    rival = _missing_for_rival(report["accuracy"]["differences"], rows)
    hits = {"pairs": pairs, "prompts": prompts, "few": batch, "disagree": disagree, "coin": coin, "rival": rival}
    return {**hits, "sentences": _sentences(hits, rows, person)}


def _number(value: Any) -> float:
    return float(value) if value is not None and value == value else -math.inf


def _missing(estimate: Mapping[str, Any], independent: float) -> float | None:
    """Further pairs, when `independent` ones are needed; None when they are too many to be collected."""
    worth = _number(estimate["worth"])
    times = independent / worth if worth > 0 else math.inf
    return None if times > HOPELESS else max(times - 1.0, 0.0) * estimate["n"]


def _missing_for_coin(row: Mapping[str, Any]) -> float | None:
    e = row["accuracy"]
    if _number(e["low"]) > 0.5:
        return 0.0
    value = _number(e["value"])
    return _missing(e, needed(value - 0.5, value * (1 - value), 0.25)) if value > 0.5 else None


def _missing_for_rival(differences: Any, rows: Any) -> float | None:
    """Of the two most accurate rewards; 0 with a single one."""
    if len(rows) < 2:
        return 0.0
    names = {rows[0]["reward"], rows[1]["reward"]}
    row = next((d for d in differences if {d["better"], d["worse"]} == names), None)
    if row is None or not row["pairs_apart"]:
        return None
    if row["p_holm"] < 0.05:
        return 0.0
    gap = abs(_number(row["difference"]["value"]))
    return _missing(row["difference"], needed(gap, row["variance"], row["variance"] + gap * gap))


def _sentences(hits: Mapping[str, Any], rows: Any, person: Mapping[str, Any]) -> list[str]:
    """What the first screen says of the answers; [] when they decide."""
    answer = []
    if hits["few"]:
        answer.append(
            f"These are few answers: {hits['pairs']} decided pairs of {hits['prompts']} prompts. Below {MIN_PAIRS} "
            f"pairs or {MIN_PROMPTS} prompts nothing is called certain."
        )
    if hits["disagree"]:
        answer.append(
            f"People do not agree with each other more often than a coin would ({100 * person['value']:.0f} %, "
            f"{100 * person['low']:.0f} to {100 * person['high']:.0f} %): more answers of this kind decide nothing. "
            "Make the question or the guidelines clearer first."
        )
    if rows and hits["coin"] != 0.0:
        answer.append(f"To tell {rows[0]['reward']} from a coin, {_about(hits['coin'])}.")
    if len(rows) > 1 and hits["rival"] is not None and hits["rival"] > 0.0:
        answer.append(
            f"To tell {rows[0]['reward']} from {rows[1]['reward']}, {_about(hits['rival'])}, if the difference is as "
            "large as it looks."
        )
    return answer


def _about(missing: float | None) -> str:
    if missing is None:
        return f"even {HOPELESS:.0f} times as many answers would hardly do"
    digits = max(len(str(math.ceil(missing))) - 2, 0)
    return f"about {math.ceil(missing / 10**digits) * 10**digits:,} more decided pairs are needed"
