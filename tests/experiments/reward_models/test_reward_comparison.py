"""The comparison of rewards: intervals that hold, and every kind of broken reward in the section made for it."""

from __future__ import annotations

import csv
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.cli import main
from experiments.report.comparison_page import page
from experiments.reward_models.compare_rewards import compare_rewards
from experiments.reward_models.comparison_plan import ComparisonPlan
from experiments.reward_models.people_side import leaderboard, people
from preference_data.comparisons import EVERYBODY, Comparison, comparison_from_json, to_jsonl
from preference_data.pixels import pixel_hash, to_uint8
from preference_data.records import ImageRef, Prompt, Provenance
from preference_data.statistics.shares import adjusted, exact
from rewards.comparison import accuracy, ties
from rewards.comparison.best_of_n_choice import distance, weights
from rewards.comparison.calibration import Bin, expected_calibration_error, fit_temperature, reliability_bins, sigmoid
from rewards.comparison.checks import bias, probes, visible_share
from rewards.comparison.compare import Measured, compare
from rewards.comparison.correlation import spearman, tau_b
from rewards.comparison.findings import findings
from rewards.comparison.resample import Clusters
from rewards.comparison.score_table import Pairwise, Table, build, images_of, pairs_of
from rewards.reward_table import REWARDS
from rewards.scores import Scores, View, tabulate
from tests.fixtures.simulated_taste import digest, simulate, write

ABOUT = {
    "made": "today", "command": "", "pairs": "x.jsonl", "pairs_sha256": "", "gold": "people", "seconds": 1.0,
    "environment": {},
}  # fmt: skip
"""What a page says of how it was made."""


def made_up(prompts: int, group: int, seed: int, people: int = 3) -> tuple[list[Comparison], np.ndarray]:
    """Comparisons of images that nobody opens, each pair answered by `people`; and the true utility of each
    image."""
    rng = np.random.default_rng(seed)
    found, utility = [], []
    for g in range(prompts):
        text = f"scene {seed} {g} " + "very " * int(rng.integers(0, 30))
        prompt = Prompt.from_text(text, category=("odd" if g % 2 else "even",))
        made = Provenance("m", "1", g, 1, 0.0, "r", 0)
        refs = [ImageRef(digest(f"{seed}/{g}/{k}"), f"{g}-{k}.png", 64, 64, made) for k in range(group)]
        u = rng.normal(size=group) + 0.5 * rng.normal()
        utility += list(u)
        for i in range(group):
            j = (i + 1) % group
            if group == 2 and i == 1:
                continue
            for a in range(people):
                left = 1 / (1 + math.exp(-2 * (u[i] - u[j]) + 0.3))
                right = 1 / (1 + math.exp(2 * (u[i] - u[j]) + 0.3))
                z = rng.uniform()
                outcome = "left" if z < left else "right" if z < left + right else "both_bad" if u[i] < 0 else "tie"
                found.append(Comparison(prompt, refs[i], refs[j], outcome, f"human:{a}"))
    return found, np.array(utility)


def in_order(comparisons: list[Comparison], utility: np.ndarray, group: int) -> np.ndarray:
    """The utilities in the order of `pictures_of`."""
    where = [p.image.path.removesuffix(".png").split("-") for p in images_of(comparisons)]
    return np.array([utility[int(g) * group + int(k)] for g, k in where])


@pytest.fixture(scope="module")
def broken() -> dict[str, Any]:
    """A report on a good reward and four broken ones."""
    comparisons, utility = made_up(150, 4, seed=1)
    u = in_order(comparisons, utility, 4)
    rng = np.random.default_rng(0)
    length = np.array([len(p.prompt.text) for p in images_of(comparisons)], dtype=float)
    bright = rng.normal(size=len(u))
    scores = {
        "good": u + 0.3 * rng.normal(size=len(u)),
        "flipped": -u + 0.3 * rng.normal(size=len(u)),
        "constant": np.full(len(u), 0.7),
        "length": u + length / 10,
        "bright": u + 1.5 * bright,
        "picky": np.where(rng.uniform(size=len(u)) < 0.4, np.nan, u),
    }
    seen = {"good": (frozenset(), frozenset()), "picky": (frozenset({comparisons[0].prompt.id}), frozenset())}
    return compare(
        comparisons, build(comparisons, scores), Measured(facts={"brightness": bright}, seen=seen), resamples=500
    )


def said(report: dict[str, Any], name: str, section: str, severity: str = "") -> str:
    found = [f for f in findings(report, name) if f["section"] == section and severity in ("", f["severity"])]
    return " ".join(f["text"] for f in found)


def test_a_flipped_reward_is_exposed_by_its_accuracy(broken: dict[str, Any]) -> None:
    assert "sign turned round" in said(broken, "flipped", "accuracy", "broken")
    assert "worse than an image drawn at random" in said(broken, "flipped", "best_of_n", "broken")
    assert said(broken, "good", "accuracy") == ""


def test_a_constant_reward_is_exposed_by_its_equal_scores(broken: dict[str, Any]) -> None:
    assert "same score in 100 % of pairs" in said(broken, "constant", "accuracy", "broken")
    row = next(r for r in broken["accuracy"]["rewards"] if r["reward"] == "constant")
    assert row["accuracy"]["value"] == 0.5 and row["equal_scores"] == 1.0


def test_a_length_biased_reward_is_exposed_between_prompts_where_accuracy_cannot_see_it(broken: dict[str, Any]) -> None:
    assert "scores long prompts higher" in said(broken, "length", "bias", "warning")
    assert said(broken, "length", "accuracy") == "" and said(broken, "good", "bias") == ""
    filters = next(u for u in broken["advice"]["uses"] if u["use"].startswith("Filter"))
    assert filters["reward"] != "length"


def test_a_brightness_lover_is_exposed_by_its_covariate(broken: dict[str, Any]) -> None:
    assert "goes for more brightness" in said(broken, "bright", "bias", "warning")
    row = next(r for r in broken["bias"]["rows"] if (r["reward"], r["covariate"]) == ("bright", "brightness"))
    assert row["excess"]["low"] > 0.1 and row["coefficient"]["high"] < 0  # people would like less of it


def test_a_picky_reward_and_a_leak_are_named(broken: dict[str, Any]) -> None:
    assert "judges only" in said(broken, "picky", "accuracy", "warning")
    assert "trained on 1 of the 150 prompts" in said(broken, "picky", "hygiene", "broken")
    assert said(broken, "good", "hygiene") == ""


def test_a_reward_that_gave_the_answers_itself_is_named() -> None:
    """By the name of its scorer, settings included; another engine's answers are not its own."""
    comparisons, utility = made_up(40, 2, seed=2, people=1)
    own = [replace(c, annotator="machine:ocr:some/engine") for c in comparisons]
    u = in_order(comparisons, utility, 2)
    cost = [{"reward": "ocr", "scorer": "ocr:some/engine"}, {"reward": "other", "scorer": "ocr:another/engine"}]
    report = compare(own, build(own, {"ocr": u, "other": u}), Measured(cost=cost), resamples=200)
    assert "gave 40 of the 40 answers itself" in said(report, "ocr", "hygiene", "broken")
    assert said(report, "other", "hygiene") == "" and "Do not use ocr" in report["advice"]["answer"]
    assert report["hygiene"]["machine_answers"] == 40


def test_answers_that_had_seen_a_machines_reading_are_counted_and_said() -> None:
    comparisons, utility = made_up(40, 2, seed=2, people=2)
    u = in_order(comparisons, utility, 2)

    def page_of(shown: list[bool | None], machine: int = 0) -> tuple[dict[str, int], str]:
        said = [replace(c, reading_shown=s, annotator="machine:x" if i < machine else c.annotator)
                for i, (c, s) in enumerate(zip(comparisons, shown, strict=True))]  # fmt: skip
        again = [comparison_from_json(json.loads(line)) for line in to_jsonl(said).splitlines()]
        assert again == said
        report = compare(again, build(again, {"ocr": u}), Measured(), resamples=50)
        report["about"] = ABOUT
        return report["hygiene"]["readings"], page(report, Path())

    count = len(comparisons)
    readings, text = page_of([True] * 7 + [None] * 3 + [False] * (count - 10), machine=2)
    assert readings == {"shown": 5, "not_shown": count - 10, "unknown": 3}
    assert f"5 of the {count - 2} answers were given by people who had been shown" in text
    assert "with what a machine read in view</dt><dd>5</dd>" in text and "that is not known</dt><dd>3</dd>" in text
    for others in ([False] * count, [None] * count):
        assert "had been shown" not in page_of(others)[1]


def test_the_first_page_says_what_to_use_and_how_sure(broken: dict[str, Any]) -> None:
    first = broken["advice"]["uses"][0]
    assert first["reward"] in ("length", "good")  # length's order within a prompt is perfect
    assert "Do not use flipped, constant or picky." in broken["advice"]["answer"]
    train = broken["advice"]["uses"][1]
    assert train["certainty"] == "open" and "no probe was run" in train["text"]


def test_every_section_of_the_page_says_the_reports_numbers(broken: dict[str, Any]) -> None:
    text = "".join(str(page({**broken, "about": ABOUT}, Path())).split("\n"))

    def share(e: dict[str, Any]) -> str:
        return f'{100 * e["value"]:.1f} %<small class="ci">{100 * e["low"]:.1f} to {100 * e["high"]:.1f}</small>'

    def minus(shown: str) -> str:
        return shown.replace("-", "−")

    by_name = {r["reward"]: r for r in broken["accuracy"]["rewards"]}
    rows = [text.index(f'>{name}</th><td class="n">{share(r["accuracy"])}') for name, r in by_name.items()]
    values = [r["accuracy"]["value"] for r in by_name.values()]
    assert [values[i] for i in np.argsort(rows)] == sorted(values, reverse=True)
    assert {value <= 0.5 for value in values} == {True, False}
    one = broken["accuracy"]["differences"][0]
    value, low, high = (100 * one["difference"][key] for key in ("value", "low", "high"))
    assert f"{one['better']} <small>over {one['worse']}</small>" in text
    assert minus(f'{value:+.1f}<small class="ci">{low:.1f} to {high:.1f}</small>') in text
    cell = broken["slices"][0]["accuracy"][0]
    strength = min(abs(cell["value"] - 0.5) / 0.4, 1.0) * 62
    kind = "up" if cell["value"] >= 0.5 else "down"
    assert f'<td class="heat {kind}" style="--v:{strength:.0f}">{100 * cell["value"]:.0f} %<small>' in text
    lean = next(r for r in broken["bias"]["rows"] if r["leans"])
    of_people = lean["coefficient"]
    given = f'{of_people["value"]:+.2f}<small class="ci">{of_people["low"]:+.2f} to {of_people["high"]:+.2f}<'
    assert text.index(minus(given)) < text.index("<summary>All others")
    calibrated = broken["calibration"][0]
    ece = "".join(f'<td class="n">{calibrated[key]:.3f}</td>' for key in ("ece", "ece_by_chance"))
    assert ece in text
    tie = broken["ties"]["rewards"][0]
    assert f'>{tie["reward"]}</th><td class="n">{share(tie["three_way"])}</td>' in text
    names, tau = broken["correlation"]["names"], broken["correlation"]["within"]
    i, j = names.index("flipped"), names.index("good")
    assert tau[i][j] < -0.5 and f">{minus(f'{tau[i][j]:+.2f}')}<small>" in text
    last = broken["best_of_n"]["rewards"][0]["points"][-1]
    gold = last["gold"]
    assert minus(f"best of {last['n']}: gold {gold['low']:+.2f} to {gold['high']:+.2f}") in text
    assert "picky was trained on 1 of these 150 prompts" in text and "sign turned round" in text
    assert text.count('<svg class="forest"') > len(by_name) and text.count("<section") >= 12


class HalfBlind:
    """A scorer of brightness that sees only the middle third of the columns, or everything."""

    def __init__(self, crop: bool) -> None:
        self.name, self.crop = "half_blind", crop

    def __call__(self, prompts: list[Prompt], images_B3HW: np.ndarray) -> Scores:
        width = images_B3HW.shape[3]
        seen = images_B3HW[..., width // 3 : width - width // 3] if self.crop else images_B3HW
        return tabulate([{"contrast": float(np.abs(np.diff(image)).mean())} for image in seen], ("contrast",))


def test_a_crop_blind_reward_is_exposed_by_what_it_sees() -> None:
    wide = [probes.rendered_word(word, k, (48, 96), 12) for k, word in enumerate(probes.WORDS[:2])]
    prompts, pictures = [p for p, _ in wide], [image for _, image in wide]
    blind = visible_share.sight(HalfBlind(True), prompts, pictures, 0)
    whole = visible_share.sight(HalfBlind(False), prompts, pictures, 0)
    assert blind["seen"] == pytest.approx(0.5, abs=0.13) and whole["seen"] == 1.0
    assert all(row[0] == row[-1] == 0.0 for row in blind["cells"])
    comparisons, utility = made_up(20, 3, 2)
    table = build(comparisons, {"blind": in_order(comparisons, utility, 3)})
    rows = probes.run(HalfBlind(True), prompts * 4, pictures * 4, 0)
    report = compare(comparisons, table, Measured([{"reward": "blind", "rows": rows}], [{"reward": "blind", **blind}]))
    assert "of a wide image" in said(report, "blind", "sight", "warning")
    assert "edges" in said(report, "blind", "probes", "warning")
    assert "does not read the prompt" in said(report, "blind", "probes")


@pytest.mark.parametrize(("given", "severity", "words"), [
    (0.34, "warning", "sees 50 % of a wide image: nothing that happens in the rest changes its score"),
    (1.0, "note", "is given the whole image, and 50 % of a wide one moves its score: it looks at a part"),
])  # fmt: skip
def test_a_part_that_moves_the_score_is_told_beside_what_the_reward_is_given(
    given: float, severity: str, words: str
) -> None:
    wide = [probes.rendered_word(word, k, (48, 96), 12) for k, word in enumerate(probes.WORDS[:2])]
    found = visible_share.sight(HalfBlind(True), [p for p, _ in wide], [image for _, image in wide], 0)
    comparisons, utility = made_up(20, 3, 2)
    cost = [{"reward": "r", "scorer": "half", "says_it_sees": given, "view": "everything, 48 x 96"}]
    table = build(comparisons, {"r": in_order(comparisons, utility, 3)})
    report = compare(comparisons, table, Measured(sight=[{"reward": "r", **found}], cost=cost), resamples=100)
    assert said(report, "r", "sight", severity) == words and said(report, "r", "sight") == words
    report["about"], whole = ABOUT, {"of": 0, "not_judged": 0, "causes": {}}
    report["cost"] = [each | whole | dict.fromkeys(("ms_p50", "ms_p95", "ms_batched", "load_seconds"), math.nan)
                      for each in report["cost"]]  # fmt: skip
    text = page(report, Path())
    assert f"reacts to 50 % of the image; it is given {100 * given:.0f} % of it" in text


def test_probes_are_told_in_spreads_of_all_pictures_own_and_drawn() -> None:
    """Own images that are nearly alike: their own spread is tiny, and every change would be thousands of it."""
    own = [np.full((3, 48, 96), 128, np.uint8) for _ in range(6)]
    for k, image in enumerate(own):
        image[0, : k + 1, 10] = 129
    prompts = [Prompt.from_text(f"a wall {k}") for k in range(6)]
    rows = {r["probe"]: r for r in probes.run(HalfBlind(False), prompts, own, 0)}
    before = probes.score_any_sizes(HalfBlind(False), list(zip(prompts, own, strict=True)))
    after = probes.score_any_sizes(HalfBlind(False), [(p, probes._noisy(p, i, np.random.default_rng(k))[1])
                                            for k, (p, i) in enumerate(zip(prompts, own, strict=True))])  # fmt: skip
    assert (after - before).mean() / before.std() > 1000  # so many spreads of their own
    assert 1.0 < rows["noise"]["change"] < 100.0
    assert all(abs(r["change"]) < 100.0 for r in rows.values() if r["n"])


class Oracle:
    """Reads the drawn word from the image's own hash: a perfect text reward for images that it was shown."""

    name = "oracle"

    def __init__(self) -> None:
        self.shown: dict[str, list[str]] = {}

    def __call__(self, prompts: list[Prompt], images_B3HW: np.ndarray) -> Scores:
        values = []
        for prompt, image in zip(prompts, to_uint8(images_B3HW), strict=True):
            words = self.shown.get(pixel_hash(image), [])
            asked = list(prompt.spans)
            same = sum(a == b for a, b in zip("".join(words), "".join(asked), strict=False))
            values.append({"oracle": same / max(len("".join(words)), len("".join(asked)), 1)})
        return tabulate(values, ("oracle",))


def test_a_text_reward_passes_the_text_probes_and_legibility(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every drawing is remembered as it is made, so an oracle can read it; small letters it is told not to."""
    oracle, draw = Oracle(), probes.rendered_lines

    def remembered(lines: list[str], size: tuple[int, int] = (160, 320), height: int = 34, seed: int = 0) -> np.ndarray:
        picture = draw(lines, size, height, seed)
        oracle.shown[pixel_hash(picture)] = lines if height >= 12 else []
        return picture

    monkeypatch.setattr(probes, "rendered_lines", remembered)
    monkeypatch.setattr(visible_share, "rendered_lines", remembered)
    own = [probes.rendered_word(word, k) for k, word in enumerate(probes.WORDS)]
    rows = {r["probe"]: r for r in probes.run(oracle, [p for p, _ in own], [image for _, image in own], 0)}
    for name in ("typo asked", "typo drawn", "text twice", "text removed", "caption swap", "flip"):
        assert rows[name]["pass"] == 1.0 and rows[name]["n"] == 12, name
    found = visible_share.legibility(oracle, heights=(8, 12, 20), canvas=(96, 240))
    assert found["smallest"] == 12.0 and [p["share"] for p in found["points"]] == [0.5, 1.0, 1.0]


def test_intervals_cover_what_they_should() -> None:
    """600 simulated studies: accuracy, its paired difference and the p value hold what they promise."""
    rng = np.random.default_rng(7)
    clusters, size, studies = 60, 6, 600
    covered = np.zeros(2)
    false_alarms = 0
    for study in range(studies):
        ease = rng.beta(6, 3, size=clusters)  # prompts differ, so their pairs depend on each other; mean 2/3
        a = (rng.uniform(size=(clusters, size)) < ease[:, None]).astype(float).ravel()
        b = (rng.uniform(size=(clusters, size)) < ease[:, None] - 0.1).astype(float).ravel()
        c = (rng.uniform(size=(clusters, size)) < ease[:, None]).astype(float).ravel()
        boot = Clusters(np.repeat(np.arange(clusters), size), study, 1000)
        one, two = boot.estimate(a), boot.estimate(a - b)
        covered += [one.low <= 2 / 3 <= one.high, two.low <= 0.1 <= two.high]
        false_alarms += boot.difference(a - c)[1] < 0.05
    print("coverage", covered / studies, "false alarms", false_alarms / studies)
    assert ((covered / studies > 0.93) & (covered / studies < 0.97)).all()
    assert 0.03 < false_alarms / studies < 0.07


def test_ignoring_prompts_would_undercover() -> None:
    """The test above can fail: with pairs as clusters the interval of clustered data is too short."""
    rng = np.random.default_rng(8)
    ease = rng.beta(1.2, 0.6, size=60)
    right = np.repeat((rng.uniform(size=60) < ease).astype(float), 8)
    by_prompt = Clusters(np.repeat(np.arange(60), 8), 0).estimate(right)
    by_pair = Clusters(np.arange(480), 0).estimate(right)
    assert by_prompt.high - by_prompt.low > 2 * (by_pair.high - by_pair.low)
    assert by_prompt.clusters == 60 and by_prompt.n == 480


def test_corrections_and_small_samples_against_references() -> None:
    assert adjusted([0.01, 0.04, 0.03, float("nan")])[:3] == pytest.approx([0.03, 0.06, 0.06])
    stats = pytest.importorskip("scipy.stats")
    assert exact(8, 10) == pytest.approx(tuple(stats.binomtest(8, 10).proportion_ci(method="exact")))
    x, y = np.array([1, 2, 2, 4, 5.0]), np.array([2, 1, 3, 3, 5.0])
    assert tau_b(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)


def test_calibration_finds_its_temperature_and_a_perfect_judge_has_no_error() -> None:
    rng = np.random.default_rng(3)
    gap = rng.normal(size=40_000) * 3
    share = (rng.uniform(size=len(gap)) < sigmoid(gap / 2.5)).astype(float)
    ones = np.ones(len(gap))
    assert fit_temperature(gap, share, ones) == pytest.approx(2.5, rel=0.05)
    assert expected_calibration_error(reliability_bins(sigmoid(gap / 2.5), share, ones)) < 0.01
    assert expected_calibration_error(reliability_bins(sigmoid(gap), share, ones)) > 0.08
    assert fit_temperature(-gap, share, ones) > 1e3  # the opposite of the truth is flattened to a half
    too_sure_and_too_shy = [Bin(0.9, 0.7, 1.0), Bin(0.5, 0.7, 3.0)]  # their signed distances cancel
    assert expected_calibration_error(too_sure_and_too_shy) == pytest.approx(0.2)
    assert len(reliability_bins(np.full(100, 0.5), np.ones(100), np.ones(100))) == 1


def test_best_of_n_is_the_mean_over_all_subsets() -> None:
    from itertools import combinations

    rng = np.random.default_rng(1)
    proxy, gold = rng.normal(size=7), rng.normal(size=7)
    for n in (1, 2, 4, 7):
        every = [gold[max(c, key=lambda i: proxy[i])] for c in combinations(range(7), n)]
        assert float(weights(proxy[None], n)[0] @ gold) == pytest.approx(np.mean(every))
    equal = weights(np.zeros((1, 5)), 3)[0]
    np.testing.assert_allclose(equal, 0.2)
    assert distance(1) == 0.0 and distance(4) == pytest.approx((math.log(4) - 0.75) ** 0.5)


def test_ties_have_a_threshold_of_their_own_and_an_order() -> None:
    comparisons, utility = made_up(200, 3, seed=4)
    u = in_order(comparisons, utility, 3)
    table = build(comparisons, {"good": u, "noise": np.random.default_rng(0).normal(size=len(u))})
    found = ties.ties(table, Clusters(table.prompt_N, 0, 300), 0)
    good, noise = found["rewards"]
    assert good["tie_auc"]["low"] > 0.55 > noise["tie_auc"]["value"]
    assert good["both_bad_auc"]["low"] > 0.5 > noise["both_bad_auc"]["low"]
    assert good["three_way"]["low"] > found["always_the_same_answer"]
    assert ties.tie_threshold(np.array([0.1, -0.2, 3.0, -4.0]), np.array([0, 0, 1, -1])) == pytest.approx(1.6)
    assert ties.tie_threshold(np.array([3.0, -4.0]), np.array([1, -1])) == -1.0


def test_a_judge_of_pairs_that_likes_the_first_is_named() -> None:
    comparisons, utility = made_up(120, 2, seed=5, people=1)
    u = in_order(comparisons, utility, 2)
    gap = np.array([u[a] - u[b] for a, b in pairs_of(comparisons)])
    table = build(comparisons, {}, {"fair": Pairwise(sigmoid(3 * gap), sigmoid(3 * gap)),
                                    "first": Pairwise(sigmoid(3 * gap + 1), sigmoid(3 * gap - 1))})  # fmt: skip
    report = compare(comparisons, table, Measured(), resamples=200)
    fair, first = report["order"]
    assert fair["consistent"]["value"] == 1.0 and fair["prefers_first"]["value"] == 0.5
    assert first["consistent"]["high"] < 0.9 and first["prefers_first"]["low"] > 0.53
    assert "prefers the image shown first" in said(report, "first", "order", "warning")


def test_sides_do_not_matter_and_votes_are_gathered() -> None:
    comparisons, utility = made_up(30, 3, seed=6)
    turn = {"left": "right", "right": "left"}
    turned = [replace(c, left=c.right, right=c.left, outcome=turn.get(c.outcome, c.outcome)) if i % 2 else c
              for i, c in enumerate(comparisons)]  # fmt: skip
    u = in_order(comparisons, utility, 3)
    plain, mixed = build(comparisons, {"good": u}), build(turned, {"good": in_order(turned, utility, 3)})
    assert len(plain.left_N) == len(mixed.left_N) == 90 and plain.vote_N3.sum() == len(comparisons)
    a, b = (accuracy.overall(t, Clusters(t.prompt_N, 0)) for t in (plain, mixed))
    assert a["rewards"][0]["accuracy"]["value"] == b["rewards"][0]["accuracy"]["value"]


def test_the_human_ceiling_leaves_the_person_out() -> None:
    """An annotator who always agrees with the plurality of the others has 1, one who never does has 0."""
    base, _ = made_up(40, 2, seed=9, people=1)
    decided = [replace(c, outcome="left") for c in base]
    people = [replace(c, annotator=f"human:{k}") for c in decided for k in (1, 2)]
    contrary = [replace(c, outcome="right", annotator="human:c") for c in decided]
    table = build([*decided, *people, *contrary], {"good": np.zeros(80)})
    found = accuracy.ceiling(table, Clusters(table.prompt_N, 0))
    assert {p["annotator"]: p["value"] for p in found["people"]}["human:c"] == 0.0
    assert {p["annotator"]: p["value"] for p in found["people"]}["human:1"] == 1.0
    assert found["person"]["value"] == pytest.approx(3 / 4) and found["rewards"][0]["value"] == 0.5
    assert accuracy.ceiling(build(base, {"good": np.zeros(80)}), Clusters(table.prompt_N[:40], 0)) == {}
    twice = build([*decided, *decided], {"good": np.zeros(80)})  # as when one export is put behind itself
    assert accuracy.ceiling(twice, Clusters(twice.prompt_N, 0)) == {}
    unnamed = [replace(c, annotator=EVERYBODY) for c in (*decided, *decided)]
    assert accuracy.ceiling(build(unnamed, {"good": np.zeros(80)}), Clusters(twice.prompt_N, 0))["person"]["n"] == 80


def test_the_contextual_model_recovers_its_coefficients() -> None:
    rng = np.random.default_rng(11)
    comparisons, _ = made_up(500, 2, seed=10, people=1)
    x = rng.normal(size=1000)
    u = rng.normal(size=1000)
    pairs = pairs_of(comparisons)
    logit = np.array([1.0 * (u[a] - u[b]) - 0.8 * (x[a] - x[b]) for a, b in pairs])
    left = rng.uniform(size=500) < sigmoid(logit)
    asked = [replace(c, outcome="left" if k else "right") for c, k in zip(comparisons, left, strict=True)]
    table = build(asked, {"good": u})
    delta = np.array([x[a] - x[b] for a, b in pairs])
    found = bias.contextual(table.gap_RN[0], {"x": delta}, table)["x"]
    assert found["low"] < -0.8 * delta.std() < found["high"] and found["high"] < 0


def test_the_command_writes_one_page_json_and_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    world = simulate(160, seed=2)
    pairs = write(world, tmp_path)
    table = tmp_path / "scores.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sha256", "truth", "<b>hostile"])
        writer.writerows([p.image.sha256, world.utility[p.image.sha256], ""] if i % 5 == 0 else
                         [p.image.sha256, world.utility[p.image.sha256], i % 7]
                         for i, p in enumerate(images_of(world.comparisons)))  # fmt: skip
    judged = tmp_path / "judged.jsonl"
    flip = {"left": "right", "right": "left"}
    answers = [replace(c, annotator="machine:pairs") for c in world.comparisons]
    turned = [replace(c, left=c.right, right=c.left, outcome=flip.get(c.outcome, c.outcome)) for c in answers]
    judged.write_text(to_jsonl([*answers, *turned]), encoding="utf-8")
    monkeypatch.setattr(visible_share, "HEIGHTS", (8, 20))
    monkeypatch.setitem(REWARDS, "contrast", ContrastReward)
    out = tmp_path / "out"
    status = main(["compare-rewards", "--pairs", str(pairs), "--rewards", "contrast", "--scores", str(table),
                   "--judged", str(judged), "-o", str(out), "--probe-images", "6"])  # fmt: skip
    assert status == 0, capsys.readouterr().err
    report = json.loads((out / "comparison.json").read_text())
    assert report["rewards"] == ["contrast", "truth", "<b>hostile", "machine:pairs"]
    page = (out / "comparison.html").read_text()
    assert "<b>hostile" not in page and "&lt;b&gt;hostile" in page
    assert not any(word in page for word in ("<script", "http://", 'src="http', "url("))
    assert page.count("data:image/png;base64") >= 20 and "Which reward for what" in page
    rows = list(csv.DictReader((out / "comparison.csv").open()))
    assert {"accuracy", "bias", "calibration", "best_of_n", "order"} <= {r["section"] for r in rows}
    assert all(r["reward"] for r in rows if r["section"] == "accuracy")
    assert report["order"][0]["consistent"]["value"] == 1.0
    assert report["sight"][0]["seen"] == 1.0 and len(report["probes"][0]["rows"]) == len(probes.PROBES) + 1
    calls = ContrastReward.calls
    assert main(["compare-rewards", "--pairs", str(pairs), "--rewards", "contrast", "-o", str(out), "--probe-images",
                 "6"]) == 0  # fmt: skip
    assert ContrastReward.calls == calls  # everything was known
    told = capsys.readouterr().out
    assert "contrast: judging" in told and told.count("images are known already") == 1


class ContrastReward(HalfBlind):
    """Settings and scorer in one, for the command line."""

    version, range, needs, calls = 1, (0.0, 1.0), (), 0

    def __init__(self) -> None:
        super().__init__(False)

    def __repr__(self) -> str:  # what it is remembered by
        return "contrast"

    def sees(self, height: int, width: int) -> View:
        return View(1.0, height, width, "everything")

    def load(self, device: str = "cpu") -> ContrastReward:
        return self

    def __call__(self, prompts: list[Prompt], images_B3HW: np.ndarray) -> Scores:
        ContrastReward.calls += 1
        return super().__call__(prompts, images_B3HW)


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = write(simulate(20, seed=2), tmp_path)
    assert main(["compare-rewards", "--pairs", str(pairs), "-o", str(tmp_path / "o")]) == 2
    assert "no reward to compare" in capsys.readouterr().err
    (tmp_path / "s.csv").write_text("sha256,a\nabc,x\n")
    assert main(["compare-rewards", "--pairs", str(pairs), "--scores", str(tmp_path / "s.csv"), "-o",
                 str(tmp_path / "o")]) == 2  # fmt: skip
    assert "line 2: a is 'x', no number" in capsys.readouterr().err
    comparisons, _ = made_up(3, 2, 1)
    tied = [replace(c, outcome="tie") for c in comparisons]
    with pytest.raises(ValueError, match="none of the 3 pairs has a preferred image"):
        compare(tied, build(tied, {"a": np.zeros(6)}), Measured())


@pytest.mark.slow
def test_ten_thousand_pairs_and_six_cached_rewards_take_less_than_a_minute(tmp_path: Path) -> None:
    comparisons, utility = made_up(2500, 4, seed=12, people=1)
    assert len(comparisons) == 10_000
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    hashes = {}
    for picture in images_of(comparisons):
        image = Image.fromarray(rng.integers(0, 256, size=(8, 8, 3)).astype(np.uint8)).resize((64, 64))
        hashes[picture.image.sha256] = sha = pixel_hash(np.asarray(image).transpose(2, 0, 1))
        image.save(tmp_path / "pictures" / f"{sha}.png")
    comparisons = [replace(c, left=replace(c.left, sha256=hashes[c.left.sha256]),
                           right=replace(c.right, sha256=hashes[c.right.sha256])) for c in comparisons]  # fmt: skip
    shown = images_of(comparisons)
    (tmp_path / "answers.jsonl").write_text(to_jsonl(comparisons), encoding="utf-8")
    u = in_order(comparisons, utility, 4)
    with (tmp_path / "scores.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sha256", *(f"reward_{k}" for k in range(6))])
        for picture, value in zip(shown, u, strict=True):
            writer.writerow([picture.image.sha256, *(value + k * rng.normal() for k in range(6))])
    start = time.process_time()
    compare_rewards(ComparisonPlan(tmp_path / "answers.jsonl", "", tmp_path / "out", scores=tmp_path / "scores.csv"))
    took = time.process_time() - start
    print(f"10,000 pairs, 6 rewards: {took:.1f} s of processor time")
    assert took < 60.0 and (tmp_path / "out/comparison.html").stat().st_size < 5_000_000


def test_tables_of_no_use_are_refused() -> None:
    comparisons, _ = made_up(3, 2, 1)
    with pytest.raises(ValueError, match="6 images"):
        build(comparisons, {"a": np.zeros(5)})
    assert isinstance(build(comparisons, {"a": np.zeros(6)}), Table)


def test_people_and_models_are_rated_by_the_house_s_own_statistics() -> None:
    """Two models, one better by construction: people and a good reward rank it first, a constant one has no order."""
    comparisons, _ = made_up(60, 2, seed=13, people=2)
    made = [Provenance(name, "1", 0, 1, 0.0, "r", 0) for name in ("better", "worse")]
    rng = np.random.default_rng(1)
    named = []
    for i, c in enumerate(comparisons):
        left, right = (replace(image, provenance=m) for image, m in zip((c.left, c.right), made, strict=True))
        outcome = "left" if rng.uniform() < 0.75 else "right"
        shown = replace(c, left=left, right=right, outcome=outcome)
        turned = {"left": "right", "right": "left"}[outcome]
        named.append(shown if i % 2 else replace(shown, left=right, right=left, outcome=turned))
    shown = images_of(named)
    good = np.array([float(p.image.provenance.model == "better") + rng.normal() for p in shown])
    board = leaderboard(build(named, {"good": good, "constant": np.zeros(len(shown))}))
    assert board["people"]["ratings"][0]["name"] == board["good"]["ratings"][0]["name"] == "better"
    assert board["people"]["ratings"][0]["rank_high"] == 1 and board["people"]["ratings"][0]["low"] > 0
    assert "why" in board["constant"] or abs(board["constant"]["ratings"][0]["rating"]) < 1e-6
    alphas = people(named)
    assert alphas[0]["units"] == 60 and 0.0 < alphas[0]["value"] < 0.8
