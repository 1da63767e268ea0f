"""A grid of runs: settings are checked before anything runs, finished runs are kept, variants are paired by prompt."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from base_model import flow
from base_model.sample import Sampler
from experiments import cli
from experiments.configs import nano, nano_hacking
from experiments.experiment import Experiment
from experiments.overrides import override
from experiments.record.record import RunRecord, read_run, write_json
from experiments.studies import sweep
from experiments.studies.sweep import grid, parse_seeds, run_folder, seeded
from experiments.studies.sweep_table import arm, over_seeds, start_arms, table, tables
from tests.experiments.training.test_runner import tiny_pretrain
from tests.fixtures.tiny.tiny_chain import tiny_plan

# --- settings -----------------------------------------------------------------------------------------------------


def test_several_experiments_share_a_grid():
    variants = sweep.grids([nano.grpo, nano.sft], ["algorithm.steps=3,4"])
    assert list(variants) == ["nano_grpo steps=3", "nano_grpo steps=4", "nano_sft steps=3", "nano_sft steps=4"]
    assert [v.algorithm.steps for v in variants.values()] == [3, 4, 3, 4]
    assert list(sweep.grids([nano.grpo, nano.sft], [])) == ["nano_grpo", "nano_sft"]
    with pytest.raises(ValueError, match="nano_sft is given twice"):
        sweep.grids([nano.sft, nano.grpo, nano.sft], [])


def test_settings_are_typed_as_their_fields() -> None:
    changed = override(
        nano_hacking.grpo,
        {
            "optim.adamw_lr": "1e-3", "optim.betas": "0.8|0.9", "algorithm.group": "8", "algorithm.micro": "16",
            "algorithm.group_spread": "true", "algorithm.exploration.kernel": "base_model.flow.cps", "base": "a/b",
            "monitors.on_alarm": "stop", "monitors.gold": "clipscore|brisque",
        },
    )  # fmt: skip
    assert changed.optim == replace(nano.grpo.optim, adamw_lr=1e-3, betas=(0.8, 0.9))
    cfg = replace(nano.grpo.algorithm, group=8, micro=16, group_spread=True)
    assert (
        changed.algorithm == replace(cfg, exploration=replace(cfg.exploration, kernel=flow.cps))
        and changed.base == "a/b"
    )
    assert changed.monitors == replace(nano_hacking.WATCHED, on_alarm="stop", gold=("clipscore", "brisque"))
    assert override(nano.grpo, {}) == nano.grpo


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"optim.adam_lr": "1"},
            r"no setting optim\.adam_lr; did you mean adamw_lr\? OptimConfig has steps, muon",
        ),
        ({"zzz": "1"}, r"no setting zzz; Experiment has name, algorithm, optim"),
        ({"algorithm.group": "many"}, r"algorithm\.group: a whole number is wanted, such as 48; 'many' is not one"),
        ({"algorithm.group": "1.5"}, r"a whole number is wanted, such as 48; '1.5' is not one"),
        ({"algorithm.group": "1"}, r"algorithm\.group=1: group=1: a group needs at least 2"),
        ({"algorithm.group_spread": "1"}, r"must be true or false"),
        ({"optim.betas": "0.9"}, r"must be 2 values joined by \|"),
        ({"optim": "1"}, r"optim is a group of settings; set those inside it"),
        ({"pairs": "1"}, r"pairs is a group of settings"),
        ({"name.x": "1"}, r"name is 'nano_grpo', which has no settings inside"),
        ({"pairs.group": "1"}, r"pairs is None, which has no settings inside"),
        ({"algorithm.exploration.kernel": "os.system"}, r"must be a function by its path, in .*base_model\.flow"),
        ({"algorithm": "1", "algorithm.group": "2"}, r"algorithm\.group and a part of it are both set"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(nano.grpo, settings)


def test_a_choice_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"monitors\.on_alarm is 'panic'; it must be one of report, stop, raise_beta"):
        override(nano_hacking.grpo, {"monitors.on_alarm": "panic"})


def test_a_grid_has_every_combination_once_and_settings_that_belong_together_change_together() -> None:
    found = grid(nano.grpo, ["optim.adamw_lr=1e-4,5e-5", "algorithm.group/algorithm.micro=8/32,12/24"])
    sizes = ("group=8 micro=32", "group=12 micro=24")
    assert list(found) == [f"adamw_lr={lr} {size}" for lr in ("1e-4", "5e-5") for size in sizes]
    last = found["adamw_lr=5e-5 group=8 micro=32"]
    assert (last.optim.adamw_lr, last.algorithm.group, last.algorithm.micro) == (5e-5, 8, 32)
    assert grid(nano.grpo, []) == {"nano_grpo": nano.grpo}
    both = grid(nano.grpo, ["seed=1", "algorithm.seed=2"])
    assert list(both) == ["seed=1 algorithm.seed=2"]


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (["optim.adamw_lr"], "has no values"),
        (["optim.adamw_lr="], "has no values"),
        (["seed=1", "seed=2"], "seed is given twice"),
        (["seed=1,1"], "seed=1 comes twice"),
        (["algorithm.group=12,7"], r"algorithm\.group=7: micro=48 must be a multiple of group=7"),
        (["algorithm.group/algorithm.micro=12/48,8"], "8 is 1 values for the 2 settings"),
    ],
)
def test_grids_that_cannot_run_are_refused_before_anything_runs(over: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        sweep.sweep("nano_grpo", over, "0", tmp_path / "sweep", None)
    assert not (tmp_path / "sweep").exists()


def test_seeds() -> None:
    assert parse_seeds("0,1,2") == [0, 1, 2]
    for text, message in (("0,x", "whole numbers"), ("1,1", "comes twice"), ("", "whole numbers")):
        with pytest.raises(ValueError, match=message):
            parse_seeds(text)
    other = seeded(nano.grpo, 7)
    assert other.seed == other.algorithm.seed == 7 and nano.grpo.algorithm.seed == 0
    assert run_folder(Path("a"), "exploration.kernel=x/y group=8", 3) == Path("a/exploration.kernel=x+y+group=8-seed3")


# --- the table ----------------------------------------------------------------------------------------------------


def rows_of(ned: list[float | None], targets: str = "A") -> dict[str, object]:
    """The content of an evaluation; prompt i asks for a character of `targets` in turns."""
    return {
        "rows": [
            {
                "prompt": f"p{i}", "target": targets[i % len(targets)], "ned": x, "exact": x and float(x == 1),
                "judge_ned": x and x / 2, "judge_exact": x and float(x > 0.5),
            }
            for i, x in enumerate(ned)
        ],
        "diversity": 0.1,
    }  # fmt: skip


def evaluated(folder: Path, ned: list[float | None], status: str = "finished", targets: str = "A") -> None:
    """A run folder with an evaluation."""
    record = RunRecord.open(folder, {"name": folder.name})
    try:
        with record.running():
            record.log(0, {"loss": 1.0})
            if status == "failed":
                raise FloatingPointError("loss = nan")
    except FloatingPointError:
        return
    write_json(folder / "evaluation" / "unguided.json", rows_of(ned, targets))


def test_seeds_are_averaged_by_prompt_and_variants_are_paired(tmp_path: Path) -> None:
    variants = {"a=1": nano.grpo, "a=2": nano.grpo, "a=3": nano.grpo}
    rows = {("a=1", 0): [0.2, 0.6, None], ("a=1", 1): [0.4, 0.6, None], ("a=2", 0): [0.5, 0.9, 0.3],
            ("a=2", 1): [0.7, None, 0.1]}  # fmt: skip
    for (name, seed), ned in rows.items():
        evaluated(run_folder(tmp_path, name, seed), ned)
    for seed in (0, 1):
        evaluated(run_folder(tmp_path, "a=3", seed), [], "failed")
    page = sweep.write_table(variants, [0, 1], tmp_path).read_text()
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[2].startswith("| a=1 | 2 | 0.450 (")  # (0.3 + 0.6) / 2
    assert "| +0.300 (−0.593 to +0.952) |" in lines[3], "0.6 - 0.3 and 0.9 - 0.6; the third prompt has no first"
    assert lines[3].startswith("| a=2 | 2 | 0.567 (") and "| 0.400 | 0.567 |" in lines[3]
    assert "|  | 0.000 (0.000 to " in lines[2] and "| +0.000 (−" in lines[3], "exact words with intervals as well"
    assert "| 0.225 (" in lines[2] and "| +0.150 (" in lines[3], "gold's 1 - NED"
    assert "| 0.500 (" in lines[2] and "| +0.250 (" in lines[3], "gold's exact words: 1 of 2 against all of them"
    assert lines[4] == f"| a=3 | 0 |{' – |' * 11}"
    assert lines[6:] == ["- a=3: a run failed: FloatingPointError: loss = nan"] * 2
    assert "Throughout, <code>loss</code> was 1." in page and "a=2, seed 1" in page and "+0.300" in page
    write_json(tmp_path / "start-seed0" / "evaluation" / "unguided.json", rows_of([0.1, 0.3, 0.2]))
    sweep.write_table(variants, [0, 1], tmp_path)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[2].startswith("| start | 1 | 0.200 (") and "| +0.250 (" in lines[3], "all are compared with the start"


def test_two_languages_are_told_together_and_apart(tmp_path: Path) -> None:
    evaluated(tmp_path / "a", [0.2, 0.8, 0.4, 1.0], targets="A中")
    evaluated(tmp_path / "b", [0.3, 0.9, 0.5, 1.0], targets="A中")
    lines = tables([arm("a", [tmp_path / "a"]), arm("b", [tmp_path / "b"])])
    assert [line for line in lines if line.endswith(":")] == ["English:", "Chinese:"]
    shown = [[part.split(" (")[0] for part in line.split(" | ")] for line in lines if line.startswith(("| a", "| b"))]
    assert [(cells[2], cells[3]) for cells in shown] == [
        ("0.600", ""), ("0.675", "+0.075"), ("0.300", ""), ("0.400", "+0.100"), ("0.900", ""), ("0.950", "+0.050"),
    ]  # fmt: skip
    assert all(cells[-3:-1] == [cells[2]] * 2 for cells in shown), "with one seed, its mean is the least and the most"
    evaluated(tmp_path / "c", [0.2, 0.8])
    assert not any(line.endswith(":") for line in tables([arm("c", [tmp_path / "c"])])), "one language, one table"


def test_what_runs_begin_from_is_told_first_with_guidance_and_without(tmp_path: Path) -> None:
    folders = [tmp_path / "start-seed0", tmp_path / "start-seed1"]
    for folder, ned in zip(folders, (0.2, 0.4), strict=True):
        write_json(folder / "evaluation" / "guided.json", rows_of([1.0, 0.8]))
        write_json(folder / "evaluation" / "unguided.json", rows_of([ned, ned]))
    found = start_arms("start", folders)
    assert [(each.name, each.seeds, each.means) for each in found] == [
        ("start", 2, (0.2, 0.4)), ("start, guided", 2, (0.9, 0.9)),
    ]  # fmt: skip
    assert table(found)[3].startswith("| start, guided | 2 | 0.900 (") and " | +0.600 (" in table(found)[3]
    assert table(found)[2].endswith("| 0.200 | 0.400 |  |"), "nothing was trained, so that it took no time"
    assert start_arms("start", [tmp_path / "none"]) == []


def test_what_no_seed_could_judge_stays_unknown() -> None:
    mean = over_seeds([np.array([0.0, math.nan, 1.0]), np.array([1.0, math.nan, math.nan])])
    np.testing.assert_array_equal(mean, [0.5, math.nan, 1.0])
    assert over_seeds([]).size == 0 and table([])[2:] == []


# --- running it ---------------------------------------------------------------------------------------------------


def tiny() -> Experiment:
    return replace(tiny_pretrain(steps=3), name="tiny")


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_and_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sweep.find.__globals__["CONFIGS"], "tiny", tiny())
    trained, out, whole = [], tmp_path / "sweep", sweep.train

    def noted(experiment: Experiment, folder: Path, parent: Path | None) -> Path:
        if experiment.optim.muon_lr == 0.5:
            raise FloatingPointError("loss = nan")
        if len(trained) == 1 and not (out / "interrupted").exists():
            (out / "interrupted").touch()
            raise KeyboardInterrupt
        if not ((folder / "run.json").exists() and RunRecord.read(folder).finished):
            trained.append(folder.name)
        return whole(experiment, folder, parent)

    def failing(experiment: Experiment, folder: Path, parent: Path | None) -> Path:
        if experiment.optim.muon_lr == 0.5:
            evaluated(folder, [], "failed")
        return noted(experiment, folder, parent)

    monkeypatch.setattr(sweep, "train", failing)
    over = ["optim.muon_lr=0.01,0.02,0.5"]
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep("tiny", over, "0", out, None, tiny_plan())
    assert read_run(out).status == "interrupted"
    page = sweep.resume_sweep(out)
    assert trained == ["muon_lr=0.01-seed0", "muon_lr=0.02-seed0"] and read_run(out).status == "finished"
    assert page.name == "sweep.html" and "loss = nan" in (out / "table.md").read_text()
    rows = [json.loads((out / name / "evaluation" / "unguided.json").read_text())["rows"] for name in trained]
    assert [len(each) for each in rows] == [6, 6] and rows[0][0]["prompt"] == rows[1][0]["prompt"]
    monkeypatch.setattr(sweep, "train", None)
    assert sweep.sweep("tiny", over, "0", out, None, tiny_plan()) == page, "nothing is left to do"
    with pytest.raises(ValueError, match="holds a run with other settings"):
        sweep.sweep("tiny", over, "1", out, None, tiny_plan())


def finished_run(folder: Path) -> Path:
    """The folder of a finished run, as far as a parent is asked for."""
    with RunRecord.open(folder, {"name": folder.name}).running():
        return folder


def test_every_seed_has_the_start_that_its_parent_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[tuple[str, Path]] = []
    monkeypatch.setattr(sweep, "run_one", lambda experiment, folder, parent, plan: ran.append((folder.name, parent)))
    monkeypatch.setattr(
        sweep, "evaluate_run", lambda parent, plan, target: ran.append((str(target.relative_to(out)), (parent, plan)))
    )
    monkeypatch.setattr(sweep, "write_table", lambda variants, seeds, out: out / "sweep.html")
    out, parent, plan = tmp_path / "sweep", tmp_path / "{seed}" / "pretrain", sweep.planned(8, 6)
    for seed in (0, 1):
        finished_run(tmp_path / str(seed) / "pretrain")
    sweep.sweep("nano_sft", (), "0,1", out, parent, plan, True)
    starts = [tmp_path / str(seed) / "pretrain" for seed in (0, 1)]
    assert [(name, what[0]) for name, what in ran[:2]] == [
        (f"start-seed{seed}/evaluation", starts[seed]) for seed in (0, 1)
    ]
    assert {what[1].samplers for _, what in ran[:2]} == {
        (("unguided", Sampler(steps=6)), ("guided", Sampler(steps=6, guidance=2.0)))
    }
    assert ran[2:] == [(f"nano_sft-seed{seed}", starts[seed]) for seed in (0, 1)]
    before, ran[:] = list(ran), []
    (out / "run.json").write_text((out / "run.json").read_text().replace('"finished"', '"interrupted"'))
    sweep.resume_sweep(out)
    assert [(name, (what[0] if isinstance(what, tuple) else what).resolve()) for name, what in ran] == [
        (name, what[0] if isinstance(what, tuple) else what) for name, what in before
    ]
    with pytest.raises(ValueError, match=r"2/pretrain is no folder of a run"):
        sweep.sweep("nano_sft", (), "0,2", tmp_path / "other", parent, plan)
    with pytest.raises(ValueError, match=r"--start evaluates what the runs begin from: name it with --parent"):
        sweep.sweep("nano_sft", (), "0", tmp_path / "other", None, plan, True)
    assert not (tmp_path / "other").exists()


def test_prompts_and_steps_of_the_evaluation() -> None:
    assert sweep.planned(None, None) == sweep.UNGUIDED
    changed = sweep.planned(512, 6)
    assert (changed.prompts.count, changed.samplers) == (512, (("unguided", Sampler(steps=6)),))
    for given in ((0, None), (None, 0)):
        with pytest.raises(ValueError, match="must be at least 1"):
            sweep.planned(*given)


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []
    monkeypatch.setattr(sweep, "sweep", lambda *arguments: asked.append(arguments) or tmp_path / "sweep.html")
    line = ["sweep", "nano_grpo", "--over", "optim.adamw_lr=1e-4,5e-5", "algorithm.group=8,12", "--seeds", "0,1,2"]
    assert cli.main([*line, "--parent", "runs/p"]) == 0
    over = ("optim.adamw_lr=1e-4,5e-5", "algorithm.group=8,12")
    plain = ("nano_grpo", over, "0,1,2", Path("runs/sweep_nano_grpo"), Path("runs/p"), sweep.UNGUIDED, False)
    assert asked == [plain]
    assert cli.main([*line, "--parent", "runs/{seed}/p", "--start", "--prompts", "8", "--steps", "6"]) == 0
    assert asked[1][4:] == (Path("runs/{seed}/p"), sweep.planned(8, 6), True)
    assert "sweep.html" in capsys.readouterr().out
    monkeypatch.undo()
    assert cli.main(["sweep", "nano_grpo", "--over", "optim.lr=1"]) == 2
    assert "there is no setting optim.lr" in capsys.readouterr().err


def test_the_study_of_orders_is_a_sweep(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = []
    monkeypatch.setattr(sweep, "run_one", lambda experiment, folder, *rest: trained.append((experiment, folder.name)))
    monkeypatch.setattr(sweep, "write_table", lambda variants, seeds, out: out / "sweep.html")
    line = ["study", "curriculum", "-o", str(tmp_path / "study"), "--updates", "16", "--seeds", "0,1"]
    assert cli.main(line) == 0 and "sweep.html" in capsys.readouterr().out
    orders = ["curriculum", "none", "mixed", "reversed"]
    assert [name for _, name in trained] == [f"{order}-seed{seed}" for seed in (0, 1) for order in orders]
    assert {experiment.algorithm.steps for experiment, _ in trained} == {16}
    assert cli.main([*line[:-3], "7"]) == 2 and "7 updates cannot hold" in capsys.readouterr().err
