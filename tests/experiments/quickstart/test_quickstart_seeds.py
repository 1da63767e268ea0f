"""What is asked of several quickstarts: means, differences and ratios by prompt, pooled over runs, held to bounds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks import quickstart_seeds as asked
from experiments.preferences.simulated_people import FACTS
from experiments.quickstart import demands
from experiments.quickstart.taste_summary import LANGUAGES
from experiments.record.intervals import paired_ci
from experiments.record.record import RunRecord

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


def finished(folder: Path, model: bytes, stages: tuple[str, ...] = ("pretrain", "nft")) -> Path:
    """The folder of a quickstart that has been run, with models that differ by that content."""
    record = RunRecord.open(folder, {"quickstart": {}})
    with record.running():
        for stage in stages:
            (folder / stage / "model").mkdir(parents=True)
            (folder / stage / "model" / "transformer.safetensors").write_bytes(model + stage.encode())
    return folder


@pytest.fixture()
def benchmark(tmp_path: Path) -> asked.Benchmark:
    """Two runs that were evaluated already: the aligned models write all, of the starts the first writes less."""
    runs = (finished(tmp_path / "a", b"first"), finished(tmp_path / "b", b"second"))
    made = asked.Benchmark(runs, tmp_path / "out", prompts=4, extras=())
    asked.note_models(made)
    for folder, start in zip((made.folder(run) for run in runs), ([0, 0, 0, 1], [1, 0, 1, 1]), strict=True):
        for inside in demands.KINDS:
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
    both = rows["its spelling, open prompts, less the start's, both languages"]
    assert [run[0] for run in both["runs"]] == [0.75, 0.25] and both["pooled"][0] == 0.5 and both["holds"] == 2
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
    assert demands.Demand("x", lambda folder: np.zeros(2), **bounds).holds(*measured) is holds


def test_a_difference_has_the_interval_of_a_difference(benchmark):
    rows = {row["demand"]: row for row in asked.demand_rows(benchmark)}
    alike = rows["aligned less the start with guidance, Chinese, full captions"]["pooled"]
    assert alike[0] == 0.0 and alike[1] == -alike[2] < 0.0
    before, after = np.array([0.5, 0.0]), np.array([1.0, 1.0])
    english = rows["its spelling, open prompts, less the start's, English"]["pooled"]
    assert english == paired_ci(before, after, seed=0)


def test_the_first_prompts_can_be_left_out(benchmark):
    later = asked.Benchmark(benchmark.runs, benchmark.out, prompts=4, extras=(), beyond=2)
    counts = [len(run.rows("nft", "captions", each)["rows"]) for run in later.evaluations for each in LANGUAGES]
    assert counts == [0, 2, 0, 2]
    third = {"rows": [{"index": 3, "target": "人大", "exact": 1.0}]}
    (later.folder(benchmark.runs[0]) / "nft" / "captions" / "third.json").write_text(json.dumps(third))
    assert later.evaluations[0].rows("nft", "captions", "chinese", "third")["rows"] == third["rows"]
    with pytest.raises(ValueError, match="--beyond 3 leaves fewer than 2 of --prompts 4"):
        asked.Benchmark(benchmark.runs, prompts=4, extras=(), beyond=3)


def test_prompts_that_an_engine_did_not_judge_are_counted(benchmark, capsys, monkeypatch):
    folder = benchmark.folder(benchmark.runs[0])
    written(folder / "nft", "captions", "unguided", [float("nan"), 1, 1, 1], [1, 0, 1, 1], taste=1.0)
    rows = {row["demand"]: row for row in asked.demand_rows(benchmark)}
    assert rows["English exact, full captions"]["unjudged"] == 1
    assert rows["English exact, full captions"]["pooled"][0] == 1.0
    monkeypatch.setattr(asked, "make_evaluations", lambda benchmark: None)
    asked.main(benchmark)
    assert "2 of 2, 1 prompts left out |" in capsys.readouterr().out


def test_the_tables_name_every_run_and_every_bound(benchmark, capsys, monkeypatch):
    monkeypatch.setattr(asked, "make_evaluations", lambda benchmark: None)
    asked.main(benchmark)
    printed = capsys.readouterr().out
    assert "| English exact, full captions | at least 0.95 |" in printed
    assert "| Chinese exact, open prompts | at least 0.9 |" in printed
    assert "| NFT on both wins | at least 0.85, lower end above 0.8 |" in printed
    assert "| nft, guided |  | 1.000 (0.500) |" in printed
    assert json.loads(printed.splitlines()[-1])["prompts"] == 4


def test_what_is_no_finished_quickstart_is_refused_before_anything_is_evaluated(benchmark, tmp_path):
    runs = benchmark.runs
    with pytest.raises(ValueError, match="at least one run"):
        asked.Benchmark(())
    with pytest.raises(ValueError, match="nowhere is no finished quickstart; make it with"):
        asked.Benchmark((tmp_path / "nowhere",))
    RunRecord.open(tmp_path / "begun", {"quickstart": {}})
    with pytest.raises(ValueError, match="begun is no finished quickstart"):
        asked.Benchmark((tmp_path / "begun",))
    with pytest.raises(ValueError, match=r"--extras dpo: .*a has no such stage beside .*; it has none"):
        asked.Benchmark(runs, extras=("dpo",))
    with pytest.raises(ValueError, match="--extras nft"):
        asked.Benchmark(runs, extras=("nft",))
    again = finished(tmp_path / "again", b"first")
    with pytest.raises(ValueError, match="a has the pretrained model of another of --runs"):
        asked.Benchmark((runs[0], again), extras=())
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file; name a folder"):
        asked.Benchmark(runs, tmp_path / "file", extras=())
    with pytest.raises(ValueError, match="nonsense"):
        asked.Benchmark(runs, extras=(), third="nonsense")


def test_evaluations_of_another_model_or_by_other_settings_are_refused(benchmark):
    asked.note_models(benchmark)
    weights = benchmark.runs[1] / "nft" / "model" / "transformer.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(b"again")
    with pytest.raises(ValueError, match=r"/nft has evaluations of another model than .*b/nft, .*delete it"):
        asked.note_models(benchmark)
    weights.write_bytes(kept)
    (benchmark.folder(benchmark.runs[1]) / "nft" / asked.NOTE).unlink()
    with pytest.raises(ValueError, match=r"/nft has evaluations of another model"):
        asked.note_models(benchmark)


def test_a_broken_evaluation_is_named(benchmark):
    (benchmark.folder(benchmark.runs[0]) / "nft" / "captions" / "unguided.json").write_text("{")
    with pytest.raises(ValueError, match=r"captions/unguided.json is broken .*; delete it"):
        list(asked.demand_rows(benchmark))
