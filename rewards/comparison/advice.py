"""The first page: which reward to use for what, and how sure that is, in words.

Certainty follows from the resamples and not from a feeling: "certain" when the winner beats every other candidate after
correction for all comparisons and a coin besides, on answers that are not few, "likely" when it is the best in at least
four of five resamples, else "open". That no reward is fit is certain when the intervals of all say so. Probes and rank
correlations have no resamples: there the interval of the lead says it, of 95 % for "certain" and 60 % for "likely",
with the probed images as what is independent. Rewards are ordered by an accuracy that counts what they do not judge as
half right, so that none comes first by judging only what is easy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from preference_data.statistics.score_intervals import rho_interval
from preference_data.statistics.shares import LEVEL, added, exact
from rewards.comparison.findings import CALIBRATION, LENGTH, TEXT_PROBES, between, findings, points, row, share
from rewards.comparison.sufficiency import MIN_PAIRS, MIN_PROMPTS, USELESS

CERTAIN, LIKELY, OPEN = "certain", "likely", "open"
BEST = 0.8
EVEN = 2 * BEST - 1
"""Level of an interval above whose lower end a value is with the probability `BEST`."""
COIN = 0.02
"""Level at which the best must beat a coin, over all rewards together: one in a hundred random ones is above it."""
FILTERS = 0.2
"""Rank correlation with people from which on a reward is said to filter."""

Report = Mapping[str, Any]


def advice(report: Report) -> dict[str, Any]:
    """{"uses": [use, reward or "", certainty, text], "rewards": [reward, findings, summary], "answer": a sentence}."""
    names = list(report["rewards"])
    against = {name: findings(report, name) for name in names}
    sound = [n for n in names if not any(f["severity"] == "broken" for f in against[n])]
    uses = [_rank(report, sound), _train(report, sound, against), _text(report, sound), _filter(report, sound),
            _probability(report, sound)]  # fmt: skip
    return {
        "answer": _answer(report, uses, names, sound), "uses": uses,
        "rewards": [{"reward": n, "findings": against[n], "usable_for": [u["use"] for u in uses if u["reward"] == n]}
                    for n in names],
    }  # fmt: skip


def _use(use: str, reward: str, certainty: str, text: str) -> dict[str, str]:
    return {"use": use, "reward": reward, "certainty": certainty, "text": text}


def _answer(report: Report, uses: Sequence[Mapping[str, str]], names: Sequence[str], sound: Sequence[str]) -> str:
    best, train = uses[0], uses[1]
    enough = " ".join(report["answers"]["sentences"])
    if not best["reward"]:
        if best["certainty"] == CERTAIN:
            return f"None of the {len(names)} rewards is fit to choose images by."
        which = f"which of the {len(names)} rewards" if len(names) > 1 else "whether the reward"
        return f"The answers do not say yet {which} is fit to choose images by. {enough}".strip()
    alike = [best["reward"], *twins(report, best["reward"], sound)]
    first = f"Choose images by {_listed(alike)}"
    if len(alike) > 1:
        first += ", which order every pair alike and share the first place"
    alone = not [n for n in sound if n not in alike]
    first += {
        CERTAIN: "; that it follows people is certain." if alone else "; that it is the best of these is certain.",
        LIKELY: "; that it follows people is likely." if alone else ", which is likely the best of these.",
        OPEN: "; whether it follows people the answers do not say yet." if alone
        else "; whether it is the best of these the answers do not say yet.",
    }[best["certainty"]]  # fmt: skip
    second = f" {training_sentence(train, bool(report['probes']))}"
    out = [n for n in names if n not in sound]
    return first + second + (f" Do not use {_listed(out)}." if out else "") + (f" {enough}" if enough else "")


def training_sentence(train: Mapping[str, str], probed: bool) -> str:
    """The sentence about training: it claims no more than its row of the table."""
    name = train["reward"]
    if not name:
        return "Train against none of them yet."
    if train["certainty"] != OPEN:
        return f"Train against {name}."
    if not probed:
        return f"Whether {name} can be trained against is open: no probe was run."
    return f"Do not train against {name} alone: the table says what is open."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _ranked(report: Report, candidates: Sequence[str]) -> list[str]:
    rows = [r for r in report["accuracy"]["rewards"] if r["reward"] in candidates and r["accuracy"]["low"] > 0.5]
    return [r["reward"] for r in sorted(rows, key=lambda r: -r["accuracy_counting_unjudged"]["value"])]


def twins(report: Report, name: str, others: Sequence[str]) -> list[str]:
    """Those of the others that are right and wrong in the same pairs: no answer can tell them apart."""
    rows = report["accuracy"]["differences"]
    judged = {r["reward"]: r["accuracy"]["n"] for r in report["accuracy"]["rewards"]}
    same = {frozenset((d["better"], d["worse"])) for d in rows if d["pairs_apart"] == 0 and d["difference"]["n"]}
    return [o for o in others if o != name and frozenset((name, o)) in same and judged[o] == judged[name]]


def certainty(report: Report, best: str, others: Sequence[str]) -> str:
    """How sure it is that `best` follows people, and is the most accurate of itself and the others.

    Rewards without a difference share their place and are no rivals.
    """
    alike = twins(report, best, others)
    rivals = [o for o in others if o != best and o not in alike]
    result = row(report["accuracy"], best)
    judged = result["accuracy"]
    enough = not report["answers"]["few"] and judged["n"] >= MIN_PAIRS and judged["clusters"] >= MIN_PROMPTS
    follows = enough and result["p_coin_holm"] < COIN and judged["low"] > 0.5
    if not rivals:
        return CERTAIN if follows else LIKELY if result["accuracy"]["low"] > 0.5 else OPEN
    beaten = {d["worse"] for d in report["accuracy"]["differences"] if d["better"] == best and d["p_holm"] < 0.05}
    if follows and all(rival in beaten for rival in rivals):
        return CERTAIN
    shares = {r["reward"]: r["best_share"] for r in report["accuracy"]["rewards"]}
    own = sum(shares[n] for n in (best, *alike))
    total = own + sum(shares[n] for n in rivals)
    return LIKELY if total and own / total >= BEST and result["accuracy"]["low"] > 0.5 else OPEN


def undecided(report: Report, sound: Sequence[str]) -> bool:
    """Whether a sound reward may still turn out to follow people."""
    return not sound or any(not row(report["accuracy"], n)["accuracy"]["high"] < USELESS for n in sound)


def _rank(report: Report, sound: Sequence[str]) -> dict[str, str]:
    """The most accurate sound reward that is not kept as gold."""
    use = "Choose among images of one prompt (best of N, pairs for DPO)"
    judges = report["judges"]
    ranked = _ranked(report, [n for n in sound if n not in judges])
    excluded = [n for n in _ranked(report, sound) if n in judges]
    sentence = f" {_listed(excluded)} is kept as gold: pairs chosen by it would leave none." if excluded else ""
    if not ranked:
        if undecided(report, sound):
            answer = "No sound reward agrees with people surely more often than a coin does, and none surely does not."
            return _use(use, "", OPEN, answer if sound else "No sound reward is among them." + sentence)
        text = f"Every sound reward surely agrees with people in less than {share(USELESS)} of pairs."
        return _use(use, "", CERTAIN, text + sentence)
    best = ranked[0]
    e = row(report["accuracy"], best)["accuracy"]
    text = f"{best} is right in {share(e['value'])} of decided pairs ({between(e)})."
    alike = twins(report, best, sound)
    if alike:
        text += f" {_listed(alike)} is right and wrong in the same pairs."
    after = next((n for n in ranked[1:] if n not in alike), "")
    rival = next((d for d in report["accuracy"]["differences"] if {d["better"], d["worse"]} == {best, after}), None)
    if rival and rival["better"] == best:
        d = rival["difference"]
        text += (
            f" It leads the next, {after}, by {points(d['value'])} points (between {points(d['low'])} and "
            f"{points(d['high'])})."
        )
    person = report["ceiling"].get("person")
    if person:
        text += f" One person agrees with the others in {share(person['value'])} ({between(person)})."
    return _use(use, best, certainty(report, best, [n for n in sound if n not in judges]), text + sentence)


def _train(report: Report, sound: Sequence[str], against: Mapping[str, Sequence[Mapping[str, str]]]) -> dict[str, str]:
    """Training climbs every gap: the most accurate reward without a warning, else the one with the fewest."""
    use = "Train against (GRPO)"
    ranked = _ranked(report, [n for n in sound if not row(report["order"], n) and n not in report["judges"]])
    if not ranked:
        sure = OPEN if undecided(report, sound) else CERTAIN
        return _use(use, "", sure, "A reward that does not follow people teaches a model something else.")
    holes = {n: [f for f in against[n] if f["severity"] == "warning"] for n in ranked}
    best = min(ranked, key=lambda n: (len(holes[n]), ranked.index(n)))
    if not report["probes"]:
        return _use(use, best, OPEN, f"{best} follows people, but no probe was run: its gaps are unknown.")
    if holes[best]:
        text = f"{best} has the fewest gaps, and a policy will find them: {'; '.join(h['text'] for h in holes[best])}."
        return _use(use, best, OPEN, f"{text} Mix it with one that has not these, and hold a gold reward out.")
    sure = certainty(report, best, [n for n in ranked if not holes[n]])
    return _use(
        use, best, sure, f"{best} follows people and no probe found a gap. Hold a gold reward out all the same."
    )


def _leads(value: float, limits: tuple[float, float], other: float, others: tuple[float, float]) -> bool:
    """Whether a value is above another one for sure, by the intervals of both: Newcombe's of their difference."""
    return value - other > added(value - limits[0], others[1] - other, 0.0)


def _text(report: Report, sound: Sequence[str]) -> dict[str, str]:
    """The reward that punishes the most text probes, if it punishes most of them.

    All probes of an image stand or fall together, so an image counts once.
    """
    use = "Judge whether the text is right"
    rates = {}
    for name in sound:
        rows = [r for r in row(report["probes"], name).get("rows", []) if r["probe"] in TEXT_PROBES and r["n"]]
        if rows:
            passed, of = sum(r["pass"] * r["n"] for r in rows), sum(r["n"] for r in rows)
            rates[name] = (passed / of, of, min(r["pass"] for r in rows), max(r["n"] for r in rows))
    if not rates:
        return _use(use, "", OPEN, "No probe with text was run.")
    best = max(rates, key=lambda n: rates[n][0])
    rate, of, worst, images = rates[best]
    if rate < 0.7:
        sure = LIKELY if exact(rate * images, images, EVEN)[1] < 0.7 else OPEN
        return _use(use, "", sure, f"None: the best, {best}, punishes {share(rate)} of {of} typos, copies and blanks.")
    read = row(report["legibility"], best)
    smallest = read.get("smallest", math.nan)
    text = f"{best} punishes {share(rate)} of {of} typos, copies and blanks"
    text += f", and reads capitals from {smallest:.0f} px." if math.isfinite(smallest) else "."

    def first(level: float) -> bool:
        limits = {n: exact(r * count, count, level) for n, (r, _, _, count) in rates.items()}
        rivals = [n for n in rates if n != best]
        return limits[best][0] > 0.5 and all(_leads(rate, limits[best], rates[n][0], limits[n]) for n in rivals)

    firm = images >= MIN_PROMPTS and worst > 0.8 and first(1.0 - (1.0 - LEVEL) / len(rates))
    return _use(use, best, CERTAIN if firm else LIKELY if first(EVEN) else OPEN, text)


def _filter(report: Report, sound: Sequence[str]) -> dict[str, str]:
    """The reward whose scores mean the same under every prompt: pooled correlation without a length bias."""
    use = "Filter a data set over many prompts"
    names = report["correlation"]["names"]
    people = names.index("people")
    long = {r["reward"]: r["prompt_length"]["value"] for r in report["bias"].get("between_prompts", [])}
    pooled = {n: report["correlation"]["pooled"][names.index(n)][people] for n in sound if n in names}
    even = {n: rho_interval(v, report["correlation"]["with_people"][n], EVEN) for n, v in pooled.items()}
    short = [n for n in pooled if not abs(long.get(n, 0.0)) > LENGTH]
    fit = {n: pooled[n] for n in short if pooled[n] > 0}
    if not fit:
        known = not report["answers"]["few"] and all(even[n][1] < FILTERS for n in short)
        text = "None: no sound reward is comparable over different prompts here."
        return _use(use, "", LIKELY if known else OPEN, text)
    best = max(fit, key=lambda n: fit[n])
    leads = all(_leads(fit[best], even[best], fit[n], even[n]) for n in fit if n != best)
    sure = LIKELY if fit[best] > FILTERS and even[best][0] > 0.0 and leads else OPEN
    text = f"Over all images {best} orders as people's shares of wins do with a rank correlation of {fit[best]:.2f}."
    return _use(use, best, sure, f"{text} Shares of wins compare images of one prompt only, so this is a weak witness.")


def _probability(report: Report, sound: Sequence[str]) -> dict[str, str]:
    """The reward with the least Brier score whose calibration error is no more than chance explains."""
    use = "Say how likely people agree (soft labels, stopping rules)"
    good = [r for r in report["calibration"] if r["reward"] in sound and r["ece"] <= r["ece_by_chance"] + CALIBRATION]
    good = [r for r in good if r["brier"]["high"] < r["brier_of_a_half"]]
    if not good:
        known = report["calibration"] and not report["answers"]["few"]
        return _use(use, "", LIKELY if known else OPEN, "None is calibrated and better than saying one half.")
    good.sort(key=lambda r: r["brier"]["value"])
    best = good[0]
    text = (
        f"{best['reward']}, with the gap divided by {best['temperature']:.3g}: calibration error {best['ece']:.3f} "
        f"(chance "
        f"gives {best['ece_by_chance']:.3f}), Brier score {best['brier']['value']:.3f} against 0.250 of a coin."
    )
    distance = len(good) < 2 or best["brier"]["high"] < good[1]["brier"]["low"]
    sure = distance and certainty(report, best["reward"], [best["reward"]]) == CERTAIN
    return _use(use, best["reward"], CERTAIN if sure else OPEN, text)
