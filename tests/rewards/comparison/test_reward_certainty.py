"""What the first screen of a comparison calls certain, and what it says of the answers themselves."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from preference_data.comparisons import Comparison, comparison_from_json
from preference_data.records import ImageRef, Prompt, Provenance
from preference_data.statistics.shares import exact
from rewards.comparison import accuracy, ties
from rewards.comparison.advice import _text, certainty, training_sentence
from rewards.comparison.best_of_n_choice import best_of_n
from rewards.comparison.calibration import fit_temperature, log_loss
from rewards.comparison.checks.probes import FALLS, verdict
from rewards.comparison.compare import Measured, compare
from rewards.comparison.correlation import correlation
from rewards.comparison.findings import TEXT_PROBES
from rewards.comparison.probability import calibration
from rewards.comparison.resample import Clusters
from rewards.comparison.score_table import Table, build, pairs_of
from rewards.comparison.sufficiency import sufficiency
from tests.fixtures.simulated_taste import digest

MADE = Provenance("m", "1", 0, 1, 0.0, "r", 0)


def answered(
    prompts: int, pairs: int, annotators: int, seed: int = 0, agree: float = 0.8
) -> tuple[list[Comparison], np.ndarray]:
    """Answers about pairs of their own two images; the left one is better, and each person says so with `agree`."""
    rng, found = np.random.default_rng(seed), []
    for g in range(prompts):
        prompt = Prompt.from_text(f"scene {seed} number {g}")
        for k in range(pairs):
            left, right = (ImageRef(digest(f"{seed}/{g}/{k}/{s}"), f"{g}{k}{s}.png", 64, 64, MADE) for s in "lr")
            for a in range(annotators):
                outcome = "left" if rng.uniform() < agree else "right"
                found.append(Comparison(prompt, left, right, outcome, f"human:{a}"))
    return found, np.tile([1.0, 0.0], prompts * pairs)


def report_on(comparisons: list[Comparison], scores: dict[str, np.ndarray], **more: Any) -> dict[str, Any]:
    return compare(comparisons, build(comparisons, scores), Measured(**more), resamples=200)


def verdict_on(table: Table) -> tuple[str, str]:
    """(the most accurate reward, how sure the first screen is of it), from the parts that decide it alone."""
    found = accuracy.overall(table, Clusters(table.prompt_N, 0, 2))
    report: dict[str, Any] = {"rewards": list(table.rewards), "accuracy": found, "ceiling": {}}
    report["answers"] = sufficiency(report)
    best = max(found["rewards"], key=lambda row: row["accuracy"]["value"])["reward"]
    return best, certainty(report, best, table.rewards)


@pytest.mark.slow
@pytest.mark.parametrize("rewards", [1, 2, 5])
@pytest.mark.parametrize(("prompts", "pairs"), [(5, 2), (12, 3), (20, 2), (40, 1), (30, 4), (100, 1)])
def test_random_rewards_are_called_certain_in_under_two_percent(rewards: int, prompts: int, pairs: int) -> None:
    """Fresh scores in each trial; the best of several random rewards is picked. Shown by the rate's own upper limit."""
    comparisons, _ = answered(prompts, pairs, 1)
    table = build(comparisons, {f"r{k}": np.zeros(2 * prompts * pairs) for k in range(rewards)})
    rng, trials = np.random.default_rng([prompts, pairs, rewards]), 2000
    certain = sum(
        verdict_on(replace(table, gap_RN=rng.normal(size=(rewards, prompts * pairs))))[1] == "certain"
        for _ in range(trials)
    )
    assert exact(certain, trials)[1] < 0.02
    assert certain or rewards > 1 or prompts * pairs < 30  # of one reward and enough answers some must be


def test_a_random_reward_is_recommended_for_nothing_as_certain() -> None:
    """The whole first screen, of which `verdict_on` reads the first line."""
    comparisons, truth = answered(12, 3, 1)
    rng = np.random.default_rng(0)
    for _ in range(10):
        said = report_on(comparisons, {f"r{k}": rng.normal(size=len(truth)) for k in range(2)})["advice"]
        assert not any(use["certainty"] == "certain" and use["reward"] for use in said["uses"])
        assert "is certain" not in said["answer"]


@pytest.mark.parametrize(("hits", "sure"), [(58, "open"), (61, "likely"), (63, "certain"), (70, "certain")])
def test_certain_begins_where_a_coin_would_be_as_lucky_once_in_a_hundred_times(hits: int, sure: str) -> None:
    """Of 100 pairs 61 right have a two-sided p of .035, 63 of .012; from 61 on the interval is above a half."""
    comparisons, truth = answered(100, 1, 1, agree=1.0)
    score = truth.copy()
    score[2 * hits :] = 1.0 - score[2 * hits :]
    assert verdict_on(build(comparisons, {"r": score})) == ("r", sure)


def test_a_good_reward_is_certain_once_the_answers_are_enough() -> None:
    comparisons, truth = answered(40, 2, 1, agree=0.9)
    noise = np.random.default_rng(0).normal(size=len(truth))
    report = report_on(comparisons, {"good": truth, "noise": noise})
    first = report["advice"]["uses"][0]
    assert (first["reward"], first["certainty"]) == ("good", "certain")
    assert report["answers"]["sentences"] == [] and "leads" not in first["text"]  # noise is no candidate
    alone = report_on(comparisons, {"good": truth})
    assert "that it follows people is certain" in alone["advice"]["answer"]
    seen = frozenset(c.prompt.id for c in comparisons), frozenset(c.left.sha256 for c in comparisons)
    void = report_on(comparisons, {"good": truth, "leaks": truth + noise}, seen={"leaks": seen})["advice"]["answer"]
    assert "that it follows people is certain" in void and "Do not use leaks." in void  # it is the best of one
    assert "Whether good can be trained against is open: no probe was run" in alone["advice"]["answer"]
    few, truth = answered(4, 2, 1, agree=1.0)
    report = report_on(few, {"good": truth})
    assert report["advice"]["uses"][0]["certainty"] != "certain"
    assert "few answers: 8 decided pairs of 4 prompts" in report["advice"]["answer"]
    for prompts, pairs in ((9, 4), (29, 1)):  # all right, which a coin is too rarely for luck
        few, truth = answered(prompts, pairs, 1, agree=1.0)
        assert verdict_on(build(few, {"good": truth})) == ("good", "likely")


def test_a_reward_that_judges_only_what_is_easy_is_not_the_best() -> None:
    """Right in all of the eight pairs that it judges, of a hundred, in which another one is right in 85."""
    comparisons, truth = answered(100, 1, 1, agree=1.0)
    shy = np.where(np.arange(200) < 16, truth, np.nan)
    good = np.where(np.arange(200) < 170, truth, 1.0 - truth)
    report = report_on(comparisons, {"shy": shy, "good": good})
    rows = {r["reward"]: r["accuracy"] for r in report["accuracy"]["rewards"]}
    assert rows["shy"]["low"] > 0.5 and rows["shy"]["value"] > rows["good"]["value"]
    assert report["advice"]["uses"][0]["reward"] == "good"
    report = report_on(comparisons, {"shy": shy})
    assert report["advice"]["uses"][0]["certainty"] == "likely"  # a coin is as lucky once in 128 times
    assert (report["answers"]["pairs"], report["answers"]["prompts"], report["answers"]["few"]) == (100, 100, False)


def probed(images: int, **rates: float) -> dict[str, Any]:
    """The sections that say which reward judges text, with the share of text probes that each punishes."""
    rows = {name: [{"probe": p, "n": images, "pass": rate} for p in TEXT_PROBES] for name, rate in rates.items()}
    return {"probes": [{"reward": name, "rows": r} for name, r in rows.items()], "legibility": []}


@pytest.mark.parametrize(
    ("images", "rates", "sure"),
    [
        (1, {"a": 1.0}, "open"), (2, {"a": 1.0, "b": 0.75}, "open"), (24, {"a": 1.0, "b": 0.9}, "likely"),
        (12, {"a": 1.0, "b": 0.2}, "certain"), (12, {"a": 1.0}, "certain"), (9, {"a": 1.0}, "likely"),
        (1, {"a": 0.5}, "open"), (24, {"a": 0.3}, "likely"),
    ],
)  # fmt: skip
def test_few_probed_images_do_not_say_which_reward_judges_text(images: int, rates: dict[str, float], sure: str) -> None:
    assert _text(probed(images, **rates), list(rates))["certainty"] == sure


@pytest.mark.parametrize("images", [2, 12, 24])
def test_of_equal_rewards_none_certainly_judges_text_best(images: int) -> None:
    """All probes of an image pass or fail together, the worst case; each reward of three passes in 0.85."""
    rng = np.random.default_rng(images)
    said = [_text(probed(images, **dict(zip("abc", rng.binomial(images, 0.85, 3) / images, strict=True))), "abc")
            for _ in range(300)]  # fmt: skip
    assert sum(use["certainty"] == "certain" for use in said) <= 6


def test_two_prompts_do_not_say_what_filters_or_how_likely_people_agree() -> None:
    comparisons, truth = answered(2, 1, 1, agree=1.0)
    for scores in (truth, 1.0 - truth):
        uses = report_on(comparisons, {"r": scores, "s": np.array([0.1, 0.9, 0.3, 0.2])})["advice"]["uses"][3:]
        assert [use["certainty"] for use in uses] == ["open", "open"]
    comparisons, truth = answered(40, 1, 1, agree=0.9)
    uses = report_on(comparisons, {"r": truth})["advice"]["uses"][3:]
    assert [(use["reward"], use["certainty"]) for use in uses] == [("r", "likely"), ("r", "certain")]


def test_answers_that_disagree_are_named_and_decide_nothing() -> None:
    comparisons, _ = answered(50, 1, 2, agree=0.5)
    rng = np.random.default_rng(1)
    report = report_on(comparisons, {name: rng.normal(size=100) for name in ("a", "b")})
    first = report["advice"]["uses"][0]
    assert first["reward"] == "" and first["certainty"] == "open" and "is fit to choose" in report["advice"]["answer"]
    assert "People do not agree with each other" in report["advice"]["answer"] and report["answers"]["disagree"]


def test_how_many_more_answers_decide_is_what_decides() -> None:
    """A reward right in 60 %: the number asked for has the promised power."""
    comparisons, truth = answered(50, 1, 1)
    right = [replace(c, outcome="left" if k < 30 else "right") for k, c in enumerate(comparisons)]
    report = report_on(right, {"good": truth})
    e = report["accuracy"]["rewards"][0]["accuracy"]
    missing = report["answers"]["coin"]
    assert missing == pytest.approx(((1.96 * 0.5 + 0.8416 * math.sqrt(e["value"] * (1 - e["value"])))
                                     / (e["value"] - 0.5)) ** 2 - 50, rel=0.01)  # fmt: skip
    assert "from a coin, about" in report["advice"]["answer"]


def test_certainly_useless_rewards_are_called_so() -> None:
    comparisons, truth = answered(200, 2, 1, agree=1.0)
    coin = np.random.default_rng(4).permutation(truth)
    report = report_on(comparisons, {"coin": coin})
    assert report["advice"]["answer"] == "None of the 1 rewards is fit to choose images by."
    assert report["advice"]["uses"][0]["certainty"] == "certain"


@pytest.mark.parametrize(
    ("name", "sure", "sentence"),
    [
        ("", "certain", "Train against none of them yet."),
        ("a", "likely", "Train against a."),
        ("a", "open", "Do not train against a alone: the table says what is open."),
    ],
)
def test_the_first_line_about_training_claims_no_more_than_the_table(name: str, sure: str, sentence: str) -> None:
    assert training_sentence({"reward": name, "certainty": sure}, probed=True) == sentence


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_identical_rewards_share_the_first_place(names: tuple[str, str]) -> None:
    comparisons, truth = answered(40, 2, 1)
    report = report_on(comparisons, {names[0]: truth, names[1]: 3 * truth + 1, "noise": np.zeros(len(truth))})
    rows = {r["reward"]: r for r in report["accuracy"]["rewards"]}
    assert rows["a"]["best_share"] == rows["b"]["best_share"] == pytest.approx(0.5)
    assert "which order every pair alike and share the first place" in report["advice"]["answer"]
    assert all(name in report["advice"]["answer"].split(",")[0] for name in names)


def test_a_judge_is_not_recommended_for_training_pairs() -> None:
    comparisons, truth = answered(60, 2, 1, agree=0.95)
    other = truth + 0.4 * np.random.default_rng(0).normal(size=len(truth))
    report = report_on(comparisons, {"gold": truth, "other": other}, judges=frozenset({"gold"}))
    choose, train = report["advice"]["uses"][:2]
    assert choose["reward"] == train["reward"] == "other" and "gold is kept as gold" in choose["text"]


def test_a_lead_and_its_interval_have_one_sign() -> None:
    comparisons, truth = answered(80, 2, 1, agree=0.9)
    worse = np.where(np.arange(len(truth)) % 20 < 2, truth[::-1], truth)
    report = report_on(comparisons, {"good": truth, "worse": worse})
    d = report["accuracy"]["differences"][0]["difference"]
    assert d["value"] > 0
    text = report["advice"]["uses"][0]["text"]
    assert f"leads the next, worse, by +{round(100 * d['value'])} points" in text


def test_machines_are_not_people() -> None:
    comparisons, truth = answered(60, 1, 3, agree=0.75)
    machine = [replace(c, annotator=f"machine:{k}", outcome="right") for c in comparisons[::3] for k in range(2)]
    alone, mixed = (report_on(c, {"good": truth}) for c in (comparisons, [*comparisons, *machine]))
    assert mixed["ceiling"] == alone["ceiling"] and mixed["accuracy"] == alone["accuracy"]
    assert mixed["hygiene"]["machine_answers"] == 120 and mixed["hygiene"]["annotators"] == 3
    assert report_on(machine, {"good": truth})["ceiling"] == {}
    row = {"prompt": asdict(machine[0].prompt), "first": asdict(machine[0].left), "second": asdict(machine[0].right),
           "outcome": "first", "annotator": "machine:ocr"}  # fmt: skip
    assert comparison_from_json(row).annotator == "machine:ocr"  # in the form of a judgement, too


def test_an_adjudicated_item_counts_as_its_adjudicator_decided() -> None:
    comparison = answered(1, 1, 1)[0][0]
    row = {"prompt": asdict(comparison.prompt), "first": asdict(comparison.left), "second": asdict(comparison.right),
           "annotator": "", "decided_by": "adjudication"}  # fmt: skip
    for votes, outcome, label in (
        ([1, 1, 0], "first", (1.0, 0.0, 0.0)), ([2, 1, 0], "second", (0.0, 0.0, 1.0)),
        ([2, 1, 0], "tie", (0.0, 1.0, 0.0)),
    ):  # fmt: skip
        assert comparison_from_json({**row, "votes": votes, "outcome": outcome}).label == label
    majority = {**row, "votes": [2, 1, 0], "outcome": "first", "decided_by": "majority"}
    assert comparison_from_json(majority).label == pytest.approx((2 / 3, 0.0, 1 / 3))


def test_resamples_without_a_defined_prompt_are_nothing_and_not_zero() -> None:
    """Two rewards that order three of a hundred prompts, and order them alike."""
    comparisons, truth = answered(100, 1, 1)
    known = np.arange(200) < 6
    scores = {name: np.where(known, truth, np.nan) for name in ("a", "b")}
    found = correlation(build(comparisons, scores))
    i, j = found["names"].index("a"), found["names"].index("b")
    assert found["within"][i][j] == 1.0
    assert found["within_low"][i][j] == pytest.approx(2 * exact(3, 3)[0] - 1)  # three prompts, and not a hundred


def test_an_unjudged_picture_is_no_average_picture() -> None:
    comparisons, truth = answered(30, 1, 1)
    rng = np.random.default_rng(0)
    other, third = rng.normal(size=60), rng.normal(size=60)
    with_holes = np.where(np.arange(60) % 2 == 0, np.nan, other)  # it never judged an image that `good` chooses
    found = best_of_n(build(comparisons, {"good": truth, "other": with_holes, "third": third}), "people")
    last = next(r for r in found["rewards"] if r["reward"] == "good")["points"][-1]
    assert math.isnan(last["spread_of_others"])


def test_a_change_of_a_score_is_told_in_spreads_of_all_pictures() -> None:
    assert abs(verdict("p", FALLS, "", np.ones(12), np.zeros(12), 0.3)["change"]) < 10


def test_temperature_and_threshold_judge_the_half_they_never_saw() -> None:
    """Scores that mean something only in the half that fitted them: a leak would look good."""
    comparisons, truth = answered(40, 1, 1, agree=0.8)
    tied = [replace(c, outcome="tie") if k % 2 else c for k, c in enumerate(comparisons)]
    table = build(tied, {"r": truth * np.repeat(np.arange(1, 41), 2)})
    half_N = np.random.default_rng(0).permutation(int(table.prompt_N.max()) + 1)[table.prompt_N] % 2
    expected = np.full(40, np.nan)
    for half in (0, 1):
        limit = ties.tie_threshold(table.gap_RN[0][half_N != half], table.label_N[half_N != half])
        mine = half_N == half
        verdicts = np.where(np.abs(table.gap_RN[0]) <= limit, 0, np.sign(table.gap_RN[0]))
        expected[mine] = (verdicts == table.label_N)[mine]
    found = ties.ties(table, Clusters(table.prompt_N, 0), 0)["rewards"][0]
    assert found["three_way"]["value"] == pytest.approx(expected.mean())
    # the two halves disagree about the sign, so a temperature fitted on either misleads in the other
    plain = build(comparisons, {"r": np.zeros(80)})
    label = plain.label_N
    gap = np.where(half_N == 0, label, -label).astype(float) * 2
    left, right = (np.array([p[s] for p in pairs_of(comparisons)]) for s in (0, 1))
    score = np.zeros(80)
    score[left], score[right] = gap, 0.0
    row = calibration(build(comparisons, {"r": score}), Clusters(plain.prompt_N, 0), 0)[0]
    assert row["log_loss"] > 0.69
    # one half has large gaps and many wrong answers, the other small and right ones: T of all, or of its own, differs
    rng = np.random.default_rng(5)
    scale = np.where(half_N == 0, 6.0, 0.5)
    gap = scale * np.where(rng.uniform(size=40) < np.where(half_N == 0, 0.6, 0.8), plain.label_N, -plain.label_N)
    score[left], score[right] = gap, 0.0
    uneven = build(comparisons, {"r": score})
    found = calibration(uneven, Clusters(uneven.prompt_N, 0), 0)[0]
    scaled, ones = np.zeros(40), np.ones(40)
    for half in (0, 1):
        other, mine = half_N != half, half_N == half
        t = fit_temperature(uneven.gap_RN[0][other], uneven.share_N[other], ones[other])
        scaled[mine] = uneven.gap_RN[0][mine] / t
    assert found["log_loss"] == pytest.approx(log_loss(scaled, uneven.share_N, ones), rel=1e-9)


@pytest.mark.parametrize(("outcome", "votes", "margin"), [
    ("first", (3, 1, 0), 0.5), ("second", (1, 3, 0), 0.5), ("second", (2, 1, 0), 0.0), ("second", (0, 0, 0), None),
])  # fmt: skip
def test_a_margin_is_the_winner_s_lead_on_either_side(
    outcome: str, votes: tuple[int, int, int], margin: float | None
) -> None:
    from preference_data.exchange.judgements import Judgement, compared, training_pairs

    c = answered(1, 1, 1)[0][0]
    said = [Judgement(c.prompt, c.left, c.right, outcome, votes=votes)]
    assert training_pairs(said, "human:c")[0].margin == compared(said, "human:c")[0].strength == margin


@pytest.mark.parametrize("pairs", [2, 3, 4, 6, 12, 40, 100])
def test_a_random_reward_follows_people_certainly_in_under_two_percent_of_all_outcomes(pairs: int) -> None:
    """One pair a prompt and one reward: the rate is a sum over how many pairs it gets right by luck."""
    certain = 0.0
    for hits in range(pairs + 1):
        comparisons, truth = answered(pairs, 1, 1, agree=1.0)
        score = truth.copy()
        score[2 * hits :] = 1.0 - score[2 * hits :]
        table = build(comparisons, {"r": score})
        certain += math.comb(pairs, hits) / 2**pairs * (verdict_on(table)[1] == "certain")
    assert certain < 0.02 and (certain > 0.0) == (pairs >= 30)
