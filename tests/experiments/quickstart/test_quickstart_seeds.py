"""What is asked of several quickstarts: means, differences and ratios by prompt, pooled over runs, held to bounds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks import quickstart_seeds as asked
from experiments.preferences.simulated_people import FACTS

ENGLISH, CHINESE = ("AB", "CD"), ("人大", "天心")


def written(folder: Path, inside: str, sampler: str, exact: list[float], gold: list[float], taste: float = 0.0) -> None:
    """An evaluation of two English and two Chinese prompts."""
    rows = [
        {
            "prompt": f'the word "{target}", middle centre, in red sans, large, on white',
            "target": target, "exact": own, "judge_exact": other, "facts": [taste] * len(FACTS), "ink": "red",
            "ground": "white" if other or own else "pink",
        }
        for target, own, other in zip((*ENGLISH, *CHINESE), exact, gold, strict=True)
    ]  # fmt: skip
    (folder / inside).mkdir(parents=True, exist_ok=True)
    (folder / inside / f"{sampler}.json").write_text(json.dumps({"rows": rows, "diversity": 0.1}))


@pytest.fixture()
def benchmark(tmp_path: Path) -> asked.Benchmark:
    """Two runs that were evaluated already: the aligned models write all, of the starts the first writes less."""
    for run in ("a", "b"):
        for stage in ("pretrain", "nft"):
            (tmp_path / run / stage / "model").mkdir(parents=True)
    runs = (tmp_path / "a", tmp_path / "b")
    made = asked.Benchmark(runs, tmp_path / "out", prompts=4, extras=())
    for index, start in enumerate(([0, 0, 0, 1], [1, 0, 1, 1])):
        folder = made.folder(index)
        for inside in asked.KINDS:
            written(folder / "pretrain", inside, "unguided", start, [0, 0, 1, 1])
            written(folder / "pretrain", inside, "guided", [1, 0, 1, 1], [1, 0, 1, 1])
            written(folder / "nft", inside, "unguided", [1, 1, 1, 1], [1, 0, 1, 1], taste=1.0)
            written(folder / "nft", inside, "guided", [1, 1, 1, 1], [1, 0, 1, 1])
    return made


def test_pooled_is_the_mean_of_each_prompt_over_runs(benchmark):
    rows = {row["demand"]: row for row in asked.demand_rows(benchmark)}
    gain = rows["its spelling, open prompts, less the start's, English"]
    assert [run[0] for run in gain["runs"]] == [1.0, 0.5]
    assert gain["pooled"][0] == 0.75 and gain["holds"] == 2
    guided = rows["aligned less the start with guidance, English, full captions"]
    assert [run[0] for run in guided["runs"]] == [0.5, 0.5] and guided["holds"] == 2
    assert rows["aligned less the start with guidance, Chinese, full captions"]["pooled"][0] == 0.0
    assert [rows[f"named {part} kept"]["pooled"][0] for part in ("ink", "ground")] == [1.0, 1.0]
    assert rows["NFT on both wins"]["pooled"][0] == 1.0  # all its facts are above the start's


def test_golds_share_is_a_ratio_of_gains_and_none_where_nothing_was_gained(benchmark):
    rows = {row["demand"]: row for row in asked.demand_rows(benchmark)}
    english = rows["gold's share of the gain, English, open prompts"]
    assert [run[0] for run in english["runs"]] == [0.5, 1.0]
    assert english["pooled"][0] == pytest.approx(0.5 / 0.75) and english["holds"] == 1
    chinese = rows["gold's share of the gain, Chinese, open prompts"]
    assert chinese["runs"][0][0] == 0.0 and np.isnan(chinese["runs"][1][0]) and chinese["holds"] == 0


@pytest.mark.parametrize(
    ("bounds", "measured", "holds"),
    [
        ({"least": 0.85, "low": 0.80}, (0.9, 0.79, 0.95), False),
        ({"least": 0.85, "low": 0.80}, (0.9, 0.81, 0.95), True),
        ({"least": 0.85}, (0.84, 0.81, 0.95), False),
        ({"least": 0.85}, (0.85, 0.81, 0.95), True),
        ({"high": 0.60}, (0.55, 0.5, 0.61), False),
        ({"high": 0.60}, (0.55, 0.5, 0.59), True),
        ({"least": 0.0}, (float("nan"), 0.0, 0.0), False),
    ],
)
def test_a_demand_is_held_to_all_of_its_bounds(bounds, measured, holds):
    assert asked.Demand("x", lambda folder: np.zeros(2), **bounds).holds(*measured) is holds


def test_a_loss_has_no_share():
    assert np.isnan(asked.ratio(np.array([-1.0, 0.0]), np.array([-1.0, -1.0]))[0])


def test_the_interval_of_a_ratio_covers_it():
    random, hits, truth = np.random.default_rng(5), 0, 0.6
    for _ in range(200):
        own = random.random(400) < 0.3
        gold = own & (random.random(400) < truth)
        _, low, high = asked.ratio(gold.astype(float), own.astype(float))
        hits += low <= truth <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_the_tables_name_every_run_and_every_bound(benchmark, capsys, monkeypatch):
    monkeypatch.setattr(asked, "make_evaluations", lambda benchmark: None)
    asked.main(benchmark)
    printed = capsys.readouterr().out
    assert "| English exact, full captions | at least 0.95 |" in printed
    assert "| Chinese exact, open prompts | at least 0.9 |" in printed
    assert "| NFT on both wins | at least 0.85, lower end above 0.8 |" in printed
    assert "| nft, guided |  | 1.000 (0.500) |" in printed
    assert json.loads(printed.splitlines()[-1])["prompts"] == 4


def test_a_run_that_is_not_finished_is_refused_before_anything_is_evaluated(benchmark):
    with pytest.raises(ValueError, match="has no model; finish it with"):
        asked.Benchmark(benchmark.runs, extras=("dpo",))
    with pytest.raises(ValueError, match="at least one run"):
        asked.Benchmark(())


def test_evaluations_of_another_model_are_refused(benchmark):
    weights = benchmark.runs[1] / "nft" / "model" / "transformer.safetensors"
    weights.write_bytes(b"first")
    asked.note_models(benchmark)
    asked.note_models(benchmark)
    weights.write_bytes(b"again")
    with pytest.raises(ValueError, match=r"1-b-4/nft has evaluations of another model than .*b/nft; delete it"):
        asked.note_models(benchmark)
