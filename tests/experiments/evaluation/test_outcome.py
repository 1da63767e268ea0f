"""`train` ends with what came out, judged and beside its parent's, and a second call does nothing and says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from experiments.commands.arguments import tell
from experiments.configs import nano
from experiments.evaluation.outcome import already_finished, outcome_lines
from experiments.record.record import RunRecord, write_json
from experiments.record.results import read_stage
from experiments.training import launch
from experiments.training.launch import conclude
from tests.fixtures.made_up_run import evaluate


def finished_run(folder: Path, name: str = "nano_sft", parent: str = "", steps: int = 3) -> Path:
    """A run of an experiment that made some updates."""
    record = RunRecord.open(folder, {"experiment": {"name": name}, "parent": parent})
    with record.running():
        for step in range(steps):
            record.log(step, {"loss": 1.0})
    return folder


@pytest.mark.parametrize(
    ("shares", "said"), [([1.0] * 4, "4 of 4"), ([1.0, 1.0, 0.5, 0.0], "2 of 4"), ([1.0, 0.5, 0.9], "")]
)
def test_updates_that_taught_nothing_are_said(tmp_path, shares, said):
    record = RunRecord.open(tmp_path / "run", {"experiment": {"name": "nano_grpo"}, "parent": ""})
    with record.running():
        for step, share in enumerate(shares):
            record.log(step, {"reward": 0.25, "groups_without_spread": share})
    text = "\n".join(outcome_lines(tmp_path / "run"))
    assert ("changed nothing" in text) == bool(said) and said in text
    assert not said or "0.25 on average" in text


@pytest.mark.parametrize(("skipped", "said"), [([0.0, 1.0, 1.0], "2 of 3"), ([0.0, 0.0, 0.0], "")])
def test_updates_that_were_left_out_are_said(tmp_path, skipped, said):
    record = RunRecord.open(tmp_path / "run", {"experiment": {"name": "nano_sft"}, "parent": ""})
    with record.running():
        for step, each in enumerate(skipped):
            record.log(step, {"loss": float("nan") if each else 1.0, "skipped": each})
    text = "\n".join(outcome_lines(tmp_path / "run"))
    assert ("left out, the first of them update 1," in text) == bool(said) and said in text


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """A run with evaluations beside its parent, which has them too."""
    evaluate(finished_run(tmp_path / "old") / "evaluation", 0.5, 40)
    child = finished_run(tmp_path / "new", parent="../old")
    evaluate(child / "evaluation", 0.7, 40)
    return child


def test_numbers_stand_with_their_intervals_beside_the_parents(family):
    lines = outcome_lines(family)
    assert lines[0].startswith("nano_sft is finished: 3 updates in ") and "40 held-out words" in lines[2]
    table = {line[:24].strip(): line[24:] for line in lines}
    new, old = (read_stage(folder, {}).evaluation("guided") for folder in (family, family.parent / "old"))
    own = next(i for i, line in enumerate(lines) if line.startswith("guided"))
    for line, of in ((lines[own], new), (lines[own + 1], old)):
        assert f"{of.exact.value:.3f} ({of.exact.low:.3f} to {of.exact.high:.3f})" in line
        assert f"{of.ned.value:.3f} ({of.ned.low:.3f} to {of.ned.high:.3f})" in line
    assert lines[own + 1].startswith("  its parent old")
    gap = float(lines[own + 2].split()[1])
    judged = [(a.exact, b.exact) for a, b in zip(old.rows, new.rows, strict=True)]
    assert gap == pytest.approx(np.nanmean([b - a for a, b in judged]), abs=6e-4) and gap > 0 and "+" in lines[own + 2]
    assert "unguided" in table and sum(line.startswith("  difference") for line in lines) == 2
    assert f"images:  {family / 'evaluation'}" in lines and lines[-1] == f"report:  {family / 'report.html'}"


def test_a_parent_that_was_not_evaluated_is_named_with_the_command(family):
    for file in (family.parent / "old" / "evaluation").iterdir():
        file.unlink()
    text = "\n".join(outcome_lines(family))
    assert f"glyphlab evaluate {family.parent / 'old'}" in text and "difference" not in text


def test_other_prompts_of_the_parent_give_no_difference(family):
    evaluate(family.parent / "old" / "evaluation", 0.5, 12)
    text = "\n".join(outcome_lines(family))
    assert "its parent old" in text and text.count("other prompts than its parent's") == 2


@pytest.mark.parametrize("gone", ["removed", "no run"])
def test_a_parent_that_is_gone_leaves_the_runs_own_numbers(family, gone):
    os.rename(family.parent / "old", family.parent / "elsewhere")
    if gone == "no run":
        (family.parent / "old").mkdir()
    text = "\n".join(outcome_lines(family))
    assert "\nguided" in text and "its parent" not in text


def test_without_an_evaluation_no_table_stands(tmp_path):
    lines = outcome_lines(finished_run(tmp_path / "run", steps=1))
    assert len(lines) == 2 and "1 update in" in lines[0] and "held-out" not in "".join(lines)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The runs that `conclude` had evaluated."""
    calls: list[Path] = []

    def judge(folder: Path) -> None:
        calls.append(folder)
        evaluate(folder / "evaluation", 0.5, 8)

    monkeypatch.setattr(launch, "evaluate_run", judge)
    monkeypatch.setattr(launch, "rebuild", lambda config: nano.sft)
    return calls


def model(folder: Path, file: str) -> Path:
    (folder / "model").mkdir()
    (folder / "model" / file).touch()
    return folder


def test_a_run_is_judged_once_and_its_report_has_the_numbers(tmp_path, judged, capsys):
    run = model(finished_run(tmp_path / "run"), "transformer.safetensors")
    lines = conclude(run, run / "report.html")
    assert judged == [run] and any(line.startswith("unguided") for line in lines)
    assert capsys.readouterr().err == f"{run} is finished; it is evaluated now (--no-evaluate leaves this out)\n"
    assert "held-out words exactly" in (run / "report.html").read_text()
    assert conclude(run, run / "report.html") == lines and judged == [run], "what is there is kept"
    assert not capsys.readouterr().err


def test_no_evaluate_judges_nothing(tmp_path, judged):
    run = model(finished_run(tmp_path / "run"), "transformer.safetensors")
    assert not judged and len(conclude(run, run / "report.html", False)) == 3 and not judged


@pytest.mark.parametrize(("file", "command"), [("vae.safetensors", "evaluate-vae"), ("base.json", "evaluate")])
def test_what_draws_no_held_out_words_says_what_judges_it(tmp_path, judged, file, command):
    from base_model.files.delta import BASE

    run = model(finished_run(tmp_path / "run"), BASE if file == "base.json" else file)
    assert f"glyphlab {command} {run}" in conclude(run, run / "report.html")[-1] and not judged


def test_other_ranks_are_silent(tmp_path, judged, monkeypatch):
    monkeypatch.setattr(launch, "rank_of", lambda experiment: 1)
    assert conclude(finished_run(tmp_path / "run"), tmp_path / "r") == [] and not judged


def test_a_chain_was_judged_by_itself(tmp_path, judged):
    with RunRecord.open(tmp_path / "chain", {"chain": {}}).running():
        pass
    assert conclude(tmp_path / "chain", Path("x.html")) == ["report: x.html"] and not judged


def test_only_what_is_finished_is_called_so(tmp_path):
    run = finished_run(tmp_path / "run")
    first, on, anew = already_finished(run)
    assert first.startswith("already finished since 20") and str(run) in first
    assert f"glyphlab train nano_sft --parent {run} --out" in on and "--out" in anew and str(run) in anew
    state = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", state | {"status": "failed"})
    assert already_finished(run) == already_finished(tmp_path / "none") == []


def test_a_chain_that_is_finished_cannot_be_a_parent(tmp_path):
    with RunRecord.open(tmp_path / "chain", {"chain": {}}).running():
        pass
    lines = already_finished(tmp_path / "chain")
    assert len(lines) == 2 and "--parent" not in "".join(lines)


def test_nothing_to_tell_prints_nothing(capsys):
    assert tell([]) == 0 and capsys.readouterr().out == ""
    assert tell(["a", "b"]) == 0 and capsys.readouterr().out == "a\nb\n"
