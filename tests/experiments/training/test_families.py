"""Checkpoints of other families through the command line: trained, sampled, evaluated, given back, gone on with.

A family is a parameter here: the name of its tiny pipeline, and options that its commands need.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from base_model.files.delta import load_derived
from base_model.files.weights import load_model
from base_model.sample import Sampler, sample
from experiments import cli
from experiments.evaluation.sample_run import sample_prompt
from experiments.record.record import RunRecord, read_run
from experiments.record.whole_files import read_png
from tests.fixtures.tiny.tiny_families import save_pipeline

pytest.importorskip("diffusers")
pytestmark = pytest.mark.slow
FAMILIES = ("sd3", "flux1_dev", "flux2_klein", "z_image")
"""Names of PIPELINES of tests/fixtures/tiny/tiny_families.py."""
PROMPTS = 'the word "ABC" in red\nthe word "DE" on a wall\na red fox\n'
SIZE = ("--size", "64", "96")
SMALL = (
    "--engine", "local", "--algorithm.steps", "3", "--algorithm.prompts", "2", "--algorithm.group", "2",
    "--algorithm.micro", "4", "--algorithm.sampler.steps", "6", "--lora.rank", "2", "--save-every", "1",
    "--reward", "brisque", *SIZE,
)  # fmt: skip


def glyphlab(*arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command says that ends with status 2."""
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module", params=FAMILIES)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, a file of prompts, and a run of GRPO with an adapter."""
    home = tmp_path_factory.mktemp(request.param)
    save_pipeline(request.param, home / "base")
    (home / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    glyphlab(*train_line(home, "run"))
    return home


def train_line(home: Path, name: str, *options: object) -> list[str]:
    """The command that trains a run of that name."""
    prompts = ("--prompts.file", home / "prompts.txt", "--prompts.count", 3)
    line = ("train", "sd35m_grpo_lora", "--base", home / "base", *prompts, "--out", home / name, *SMALL, *options)
    return [str(argument) for argument in line]


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "adapter.safetensors")


def test_a_run_keeps_what_it_learned_and_nothing_else(home: Path) -> None:
    run = home / "run"
    assert not list((run / "model").glob("diffusion*")) and any(v.any() for n, v in adapter(run).items() if "_B." in n)
    assert [line["ratio_gap_first"] for line in read_run(run).metrics] == [0.0] * 3
    assert json.loads((run / "model" / "base.json").read_text())["picture"] == [64, 96]
    assert len(list((run / "embeddings").rglob("*.safetensors"))) == 4, "three prompts, and none"
    own, usual = run / "evaluation" / "own_prompts", load_model(run / "model").sampler
    settings = json.loads((own / "settings.json").read_text())
    assert settings["sampler"] == {"steps": usual.steps, "guidance": usual.guidance}
    for image in [*(run / "samples").glob("*.png"), *own.rglob("*.png")]:
        assert read_png(image).shape == (3, 64, 96)
    assert len(list((own / "images").glob("*.png"))) == len(list((own / "against" / "images").glob("*.png"))) == 3
    assert [each.caption for each in read_run(run).samples[:3]] == PROMPTS.splitlines()
    for file in (run / "checkpoints").rglob("module.safetensors"):
        assert all(".lora_" in name for name in load_file(file))


def test_a_run_that_was_cut_goes_on_bit_by_bit(home: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        log, seen = RunRecord.log, []

        def cut(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
            if seen:
                raise KeyboardInterrupt
            seen.append(step)
            log(self, step, metrics)

        patch.setattr(RunRecord, "log", cut)
        assert cli.main(train_line(home, "cut")) != 0
    assert len(read_run(home / "cut").metrics) == 1
    glyphlab("resume", home / "cut")
    whole, cut_run = adapter(home / "run"), adapter(home / "cut")
    assert all(torch.equal(whole[name], cut_run[name]) for name in whole)


def test_it_is_sampled_and_evaluated(home: Path, tmp_path: Path) -> None:
    glyphlab("sample", "--base", home / "base", "a red fox", "--steps", 2, *SIZE, "-o", tmp_path / "base.png")
    glyphlab("sample", "--base", home / "run", "a red fox", "--steps", 2, "-o", tmp_path / "run.png", "--seed", 3)
    glyphlab("sample", home / "run", "a red fox", "--steps", 2, "-o", tmp_path / "again.png", "--seed", 3)
    model = load_model(home / "run" / "model")
    expected = sample_prompt(model, "a red fox", 1, 3, Sampler(2, model.sampler.guidance))
    assert np.array_equal(read_png(tmp_path / "run.png"), expected[0])
    assert np.array_equal(read_png(tmp_path / "again.png"), expected[0])
    assert read_png(tmp_path / "base.png").shape == (3, 64, 96)
    for name in ("run", "base"):
        line = ("evaluate", home / name, "--prompts", home / "prompts.txt", "--rewards", "brisque", "--steps", 2)
        glyphlab(*line, *(SIZE if name == "base" else ()), "-o", tmp_path / name)
        assert len(list((tmp_path / name / "images").glob("*.png"))) == 3
    glyphlab("doctor", home / "run")


def test_it_goes_back_to_diffusers_and_a_lora_comes_in(home: Path, tmp_path: Path) -> None:
    import diffusers

    glyphlab("export", home / "run", tmp_path / "whole")
    model = load_derived(home / "run" / "model")
    index = json.loads((tmp_path / "whole" / "model_index.json").read_text())
    nulls = {name: None for name, part in index.items() if isinstance(part, list) and part[0] is None}
    pipe = getattr(diffusers, index["_class_name"]).from_pretrained(tmp_path / "whole", **nulls)
    theirs, x = pipe.transformer.state_dict(), model.noise(1, torch.Generator().manual_seed(0))
    model_again = load_model(home / "run" / "model")
    model_again.network = model_again.trainable = pipe.transformer.float()
    cond, sigma = model.encode_text(["a red fox"]), torch.tensor([0.5])
    assert theirs and torch.allclose(model.velocity(x, sigma, cond), model_again.velocity(x, sigma, cond), atol=1e-4)
    glyphlab("export", home / "run", tmp_path / "lora", "--only-lora")
    file = tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    glyphlab("import-lora", file, "--base", home / "base", "-o", tmp_path / "imported")
    theirs, own = adapter(tmp_path / "imported"), adapter(home / "run")
    assert all(torch.equal(theirs[name], own[name]) for name in own)


def test_people_compare_its_images(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = ("--prompts", home / "prompts.txt", "--models", home / "run", home / "base")
    glyphlab("campaign", "create", "first", *prompts, "--store", tmp_path / "store")
    images = [read_png(file) for file in (tmp_path / "store").rglob("*.png")]
    assert len(images) > 3 and {image.shape for image in images} == {(3, 64, 96)}, "all in the size of the first model"
    monkeypatch.setattr(os, "execv", lambda *_: None)  # the server, which has tests of its own
    monkeypatch.setattr("experiments.commands.annotating.require_free", lambda *_: None)
    cli.main(["annotate", "--run-folder", str(home / "run"), "--store", str(tmp_path / "own")])
    images = [read_png(file) for file in (tmp_path / "own").rglob("*.png")]
    assert len(images) == 6 and {image.shape for image in images} == {(3, 64, 96)}, "three prompts, before and after"


def test_preferences_teach_it(home: Path, tmp_path: Path) -> None:
    options = (
        "--engine", "local", "--algorithm.steps", 2, "--algorithm.batch", 2, "--algorithm.micro", 2, "--lora.rank", 2,
        "--pairs.prompts.file", home / "prompts.txt", "--pairs.prompts.count", 3, "--pairs.group", 2,
        "--pairs.sampler.steps", 6, "--reward", "brisque", *SIZE,
    )  # fmt: skip
    glyphlab("train", "qwen_dpo_lora", "--base", home / "base", "--out", tmp_path / "dpo", *options)
    assert read_run(tmp_path / "dpo").metrics[0]["loss"] == pytest.approx(np.log(2.0), abs=1e-5)


def test_a_stage_goes_on_with_its_parents_adapter(home: Path) -> None:
    """The reference is the parent, so the KL begins at 0, and the adapter does not."""
    prompts = ("--prompts.file", home / "prompts.txt", "--prompts.count", 3)
    line = ("train", "sd35m_grpo_lora", "--parent", home / "run", *prompts, "--out", home / "child", *SMALL)
    glyphlab(*line, "--algorithm.steps", 2)
    first, own, theirs = read_run(home / "child").metrics[0], adapter(home / "child"), adapter(home / "run")
    assert first["ratio_gap_first"] == first["kl"] == 0.0
    assert own.keys() == theirs.keys() and any(not torch.equal(own[name], theirs[name]) for name in own)


def test_all_weights_learn(home: Path, tmp_path: Path) -> None:
    glyphlab(*train_line(home, "full", "--lora.rank", 0, "--algorithm.steps", 2))
    model, base = load_model(home / "full" / "model"), load_model(home / "run" / "model")
    x, cond, uncond = model.noise(1, torch.Generator().manual_seed(0)), model.encode_text(["a"]), model.unconditional(1)
    assert torch.isfinite(sample(model, x, cond, uncond, Sampler(2, 4.5), model.levels(Sampler(2)))).all()
    own, theirs = model.network.state_dict(), base.network.state_dict()
    assert any(not torch.equal(own[name], theirs[name]) for name in own if name in theirs)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_processes_train_it(home: Path, stage: int) -> None:
    whole = () if stage else ("--memory.no-bf16",)  # stage 0 keeps one set of weights
    line = train_line(
        home, f"ranks{stage}", "--engine", "deepspeed", "--zero-stage", stage, "--algorithm.steps", 2, *whole
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*launcher, "-m", "experiments.cli", *line], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = read_run(home / f"ranks{stage}").metrics
    assert [each["ratio_gap_first"] for each in metrics] == [0.0, 0.0] and metrics[0]["kl"] == 0.0
    assert adapter(home / f"ranks{stage}").keys() == adapter(home / "run").keys()


def test_what_it_cannot_do_is_refused(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = refused(capsys, "train", "nano_sft", "--base", home / "base", "--out", tmp_path / "sft")
    assert "autoencoder" in out
    index = json.loads((home / "base" / "model_index.json").read_text())
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "model_index.json").write_text(json.dumps(index | {"_class_name": "OddPipeline"}))
    out = refused(capsys, "sample", "--base", tmp_path / "odd", "a red fox", "-o", tmp_path / "x.png")
    assert "OddPipeline" in out and "StableDiffusion3Pipeline" in out and "QwenImagePipeline" in out
    assert "docs/how-to/your-own-model.md" in out
