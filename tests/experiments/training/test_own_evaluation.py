"""A run on prompts of its own ends with these: scored, beside what it began from, once, and from its folder alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest

from experiments import cli
from experiments.configs import nano
from experiments.evaluation.outcome import JUDGED, outcome_lines
from experiments.evaluation.prompt_files import as_requested
from experiments.record.record import read_monitors, read_run
from experiments.training.launch import rewards_for

SEEN = ('the word "AB" in red', 'the word "CD" in blue')
UNSEEN = ('the word "EF" in green', "an empty sheet")
FEW = ("--algorithm.prompts", "2", "--algorithm.group", "2", "--algorithm.micro", "4", "--algorithm.steps", "2",
       "--algorithm.sampler.steps", "6")  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of GRPO on the first two prompts of a file, and its parent."""
    home = tmp_path_factory.mktemp("own")
    (home / "p.txt").write_text("\n".join((*SEEN, *UNSEEN)), encoding="utf-8")
    small = ("--algorithm.steps", "1", "--algorithm.batch", "2", "--algorithm.micro", "2", "--no-evaluate")
    assert cli.main(["train", "nano_pretrain", "--out", str(home / "parent"), *small]) == 0
    line = ["train", "nano_grpo", "--parent", str(home / "parent"), "--out", str(home / "grpo"), *FEW, "--save-every",
            "1", "--reward", "ocr", "--prompts.file", str(home / "p.txt"), "--prompts.count", "2",
            "--monitors.every", "9", "--monitors.sampler.steps", "2"]  # fmt: skip
    assert cli.main(line) == 0
    return home


def test_it_is_evaluated_on_what_it_did_not_learn_from_beside_its_parent(runs):
    folder = runs / "grpo" / "evaluation" / "own_prompts"
    table, differences = (pandas.read_csv(folder / file) for file in ("scores.csv", "differences.csv"))
    assert list(table["prompt"]) == list(UNSEEN)
    assert {"ocr", "ocr_page"} <= set(table) and table["ocr"].isna().tolist() == [False, True]
    assert set(differences["reward"]) == {"ocr", "ocr_page"} and (folder / "prompts.html").exists()
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["sampler"] == {"steps": 10, "guidance": 2.0}
    theirs = json.loads((folder / "against" / "settings.json").read_text())
    assert theirs["model"] != settings["model"] and theirs["prompts"] == settings["prompts"]


def test_it_is_watched_and_shown_on_its_own_prompts(runs):
    shown = read_run(runs / "grpo").samples
    assert [sample.caption for sample in shown] == list(SEEN)
    start, end = read_monitors(runs / "grpo")
    assert start["step"] == -1 and end["step"] == 1 and start["unjudged"] == 0.5, "one of two prompts asks for text"


def test_the_outcome_is_told_from_the_folder_alone_and_made_once(runs, tmp_path, capsys):
    shutil.copytree(runs / "grpo", tmp_path / "run")
    text = "\n".join(outcome_lines(tmp_path / "run"))
    assert "ocr_page" in text and "difference" in text and "held-out words" not in text
    assert text.index("above what it began from:") < text.index("difference")
    page = (runs / "grpo" / "report.html").read_text(encoding="utf-8")
    assert '<a href="evaluation/own_prompts/prompts.html">own_prompts</a>' in page
    assert "not measured" not in page, "the most memory that an update saw"
    own = (runs / "grpo" / "evaluation" / "own_prompts" / "prompts.html").read_text(encoding="utf-8")
    assert "one image each" in own and f"{runs / 'grpo'} above {runs / 'parent'}," in own
    assert cli.main(["resume", str(runs / "grpo")]) == 0
    answer = capsys.readouterr()
    assert "ocr_page" in answer.out and "evaluating on" not in answer.err
    (tmp_path / "run" / "evaluation" / "own_prompts" / "prompts.html").unlink()
    assert "ocr_page" not in "\n".join(outcome_lines(tmp_path / "run"))


def test_no_evaluate_leaves_it_out_and_other_models_take_its_prompts(runs, tmp_path):
    shutil.copytree(runs / "grpo", tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    assert cli.main(["resume", str(tmp_path / "run"), "--no-evaluate"]) == 0
    assert not (tmp_path / "run" / "evaluation").exists()
    prompts = str(tmp_path / "run" / JUDGED)
    line = ["evaluate", str(runs / "parent"), "--prompts", prompts, "--rewards", "ocr", "-o", str(tmp_path / "e")]
    assert cli.main([*line, "--steps", "2"]) == 0
    assert list(pandas.read_csv(tmp_path / "e" / "scores.csv")["prompt"]) == list(UNSEEN)


def test_a_base_that_is_gone_is_a_note_and_no_failure(runs, tmp_path, capsys):
    shutil.copytree(runs / "grpo", tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    assert cli.main(["resume", str(tmp_path / "run")]) == 0
    assert "not evaluated on prompts of its own: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("experiment", "text", "rewards"),
    [
        (replace(nano.grpo, reward="ocr"), 'a sign "A"', "ocr,ocr_page"),
        (replace(nano.grpo, reward="ocr_page"), 'a sign "A"', "ocr_page"),
        (replace(nano.grpo, reward="0.7*brisque+0.3*ocr"), 'a sign "A"', "0.7*brisque+0.3*ocr,ocr_page"),
        (replace(nano.grpo, reward="brisque"), "a fox", "brisque"),
        (replace(nano.grpo, reward="ocr"), "a fox", ""),
        (nano.sft, 'a sign "A"', "ocr_page"),
        (nano.sft, "a fox", ""),
    ],
)
def test_rewards_are_those_that_the_prompts_allow(experiment, text, rewards):
    assert rewards_for(experiment, [as_requested(text)]) == rewards


def test_captions_without_text_are_shown_and_not_scored(runs, tmp_path):
    (tmp_path / "p.txt").write_text("a fox\n", encoding="utf-8")
    from experiments.evaluation.evaluate_file import Request, evaluate_file

    lines = list(evaluate_file(str(runs / "parent"), Request(tmp_path / "p.txt", steps=1), "", tmp_path / "e"))
    assert len(lines) == 4 and (tmp_path / "e" / "prompts.html").exists()
    assert np.all(pandas.read_csv(tmp_path / "e" / "means.csv").shape == np.array([0, 9]))
