"""Runs on prompts with source images, as typed: on our own preset, Qwen-Image-Edit(-Plus) and Kontext."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from base_model.files.open_base import open_base
from experiments import cli
from experiments.record.record import RunRecord, read_run
from experiments.training import runner
from preference_data.image_files import read_image
from preference_data.pairs import load
from tests.fixtures.edit_prompts import write_edits, write_image
from tests.fixtures.tiny.tiny_families import save_pipeline
from tests.fixtures.tiny.tiny_released import EDIT, PLUS, T2I, make

pytest.importorskip("diffusers")
SIZE = ("--size", "64", "96")
SMALL = (
    "--engine", "local", "--algorithm.steps", "3", "--algorithm.prompts", "2", "--algorithm.group", "2",
    "--algorithm.micro", "4", "--algorithm.sampler.steps", "6", "--lora.rank", "2", "--save-every", "1",
    "--reward", "brisque", "--no-evaluate",
)  # fmt: skip
MAKERS = {
    "edit": lambda folder: make(folder, EDIT), "plus": lambda folder: make(folder, PLUS),
    "t2i": lambda folder: make(folder, T2I), "flux1_kontext": lambda folder: save_pipeline("flux1_kontext", folder),
    "sd3": lambda folder: save_pipeline("sd3", folder),
}  # fmt: skip
INSTRUCTIONS = ("make it blue", "make it red", "make it blue")


def glyphlab(*arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


def train_line(base: Path, file: Path, run: Path, *options: object) -> list[str]:
    line = ("train", "sd35m_grpo_lora", "--base", base, "--prompts.file", file, "--out", run, *SMALL, *SIZE, *options)
    return [str(argument) for argument in line]


def learned(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "adapter.safetensors")


@pytest.fixture(scope="module", params=["edit", "plus", "flux1_kontext"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an editing checkpoint, prompts with sources of three sizes, and a run of GRPO with an adapter."""
    home = tmp_path_factory.mktemp(request.param)
    MAKERS[request.param](home / "base")
    counts = (2, 3, 1) if request.param == "plus" else (1,)
    write_edits(home, INSTRUCTIONS, counts, sizes=((64, 96), (200, 100), (50, 70)))
    glyphlab(*train_line(home / "base", home / "edits.jsonl", home / "run"))
    return home


@pytest.mark.slow
def test_a_run_learns_from_edits_and_shows_them(home: Path) -> None:
    run = home / "run"
    assert [line["ratio_gap_first"] for line in read_run(run).metrics] == [0.0] * 3
    assert any(value.any() for name, value in learned(run).items() if "_B." in name)
    rows = json.loads((run / "samples" / "index.json").read_text())
    assert [row["caption"] for row in rows[:3]] == list(INSTRUCTIONS), "also of a model that only edits"
    one, three = (read_image(run / "samples" / rows[i]["picture"]) for i in (0, 2))
    assert not np.array_equal(one, three), "the same instruction about another image"
    config = read_run(run).config["experiment"]
    assert config["prompts"]["count"] == 3


@pytest.mark.slow
def test_a_run_of_edits_that_was_cut_goes_on_bit_by_bit(home: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        log, seen = RunRecord.log, []

        def cut(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
            if seen:
                raise KeyboardInterrupt
            seen.append(step)
            log(self, step, metrics)

        patch.setattr(RunRecord, "log", cut)
        assert cli.main(train_line(home / "base", home / "edits.jsonl", home / "cut")) != 0
    assert len(read_run(home / "cut").metrics) == 1
    glyphlab("resume", home / "cut")
    whole, again = learned(home / "run"), learned(home / "cut")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["guard", "nft"])
def test_other_algorithms_by_their_recipes(home: Path, algorithm: str, tmp_path: Path) -> None:
    name = {"guard": "nano_guard", "nft": "nano_nft"}[algorithm]
    options = [option for option in SMALL if option != "--no-evaluate"]
    line = ("train", name, "--base", home / "base", "--prompts.file", home / "edits.jsonl", "--out", tmp_path / "run")
    glyphlab(*line, *options, "--no-evaluate", *SIZE, "--algorithm.steps", 1)
    assert read_run(tmp_path / "run").metrics[0].get("ratio_gap_first", 0.0) == 0.0


@pytest.mark.slow
def test_dpo_makes_pairs_of_edits_and_keeps_their_sources(home: Path, tmp_path: Path) -> None:
    options = (
        "--engine", "local", "--algorithm.steps", 2, "--algorithm.batch", 2, "--algorithm.micro", 2, "--lora.rank", 2,
        "--pairs.prompts.file", home / "edits.jsonl", "--pairs.group", 2, "--pairs.sampler.steps", 6,
        "--reward", "brisque", "--no-evaluate", *SIZE,
    )  # fmt: skip
    run = tmp_path / "dpo"
    glyphlab("train", "qwen_dpo_lora", "--base", home / "base", "--out", run, *options)
    assert read_run(run).metrics[0]["loss"] == pytest.approx(np.log(2.0), abs=1e-5)
    pairs = load(run / "pairs.jsonl")
    assert pairs and all(pair.prompt.sources for pair in pairs)
    for source in (source for pair in pairs for source in pair.prompt.sources):
        assert source.path == f"pictures/{source.sha256}.png"
        assert read_image(run / source.path).shape == (source.height, source.width, 3)
    # and the pairs teach another run by themselves
    line = ("train", "qwen_dpo_lora", "--base", home / "base", "--out", tmp_path / "again", *options)
    glyphlab(*line, "--pairs", run / "pairs.jsonl")
    assert read_run(tmp_path / "again").metrics[0]["loss"] == pytest.approx(np.log(2.0), abs=1e-5)
    kept = load(tmp_path / "again" / "pairs.jsonl")
    assert [pair.prompt for pair in kept] == [pair.prompt for pair in pairs]
    assert all((tmp_path / "again" / source.path).is_file() for pair in kept for source in pair.prompt.sources)


@pytest.mark.slow
def test_an_edit_model_is_evaluated_on_edits(home: Path, tmp_path: Path) -> None:
    for name, size in (("run", ()), ("base", SIZE)):
        line = ("evaluate", home / name, "--prompts", home / "edits.jsonl", "--rewards", "brisque", "--steps", 2)
        glyphlab(*line, *size, "-o", tmp_path / name)
        images = [read_image(path) for path in sorted((tmp_path / name / "images").glob("*.png"))]
        assert len(images) == 3 and not np.array_equal(images[0], images[2])
        means = (tmp_path / name / "means.csv").read_text("utf-8").splitlines()
        assert means[1].split(",")[3:5] == ["3", "3"], "the same words about other images are another prompt"


def checkpoint(name: str, folder: Path) -> Path:
    return folder / name if (folder / name).exists() else MAKERS[name](folder / name)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bases")


@pytest.mark.parametrize(
    ("name", "count", "says"),
    [
        ("sd3", 1, "1 source image, and a StableDiffusion3Pipeline checkpoint takes none"),
        ("t2i", 1, "1 source image, and a QwenImagePipeline checkpoint takes none"),
        ("flux1_kontext", 2, "2 source images, and a FluxKontextPipeline checkpoint takes 0 to 1"),
        ("edit", 2, "2 source images, and a QwenImageEditPipeline checkpoint takes 1"),
        ("edit", 0, "no source images, and a QwenImageEditPipeline checkpoint takes 1"),
        ("plus", 4, "4 source images, and a QwenImageEditPlusPipeline checkpoint takes 1 to 3"),
    ],
)
def test_what_a_model_does_not_take_is_refused_before_it_is_opened(
    bases: Path, tmp_path: Path, name: str, count: int, says: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    base = checkpoint(name, bases)
    monkeypatch.setattr(runner, "open_either", lambda *_: pytest.fail("a model was opened"))
    file = write_edits(tmp_path, ["make it blue"], (count,))
    text = refused(capsys, *train_line(base, file, tmp_path / "run"))
    assert says in text and "make it blue" in text and "prompts: " in text


def test_a_missing_image_is_named_before_a_model_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "open_either", lambda *_: pytest.fail("a model was opened"))
    file = write_edits(tmp_path, ["make it blue", "make it red"])
    (tmp_path / "images" / "1.png").unlink()
    text = refused(capsys, *train_line(tmp_path, file, tmp_path / "run"))
    assert "edits.jsonl line 2" in text and "there is no image" in text and "1.png" in text


def test_monitors_need_sources_too(bases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_edits(tmp_path, ["make it blue"])
    (tmp_path / "words.txt").write_text("a red fox\n", encoding="utf-8")
    line = ("train", "nano_hacking", "--base", checkpoint("edit", bases), "--prompts.file", file)
    watched = ("--monitors.prompts.file", tmp_path / "words.txt", "--monitors.prompts.count", 1)
    text = refused(capsys, *line, *watched, "--out", tmp_path / "run", "--lora.rank", 2)
    assert "monitors.prompts: the prompt" in text and "no source images, and a QwenImageEditPipeline" in text


@pytest.mark.slow
def test_our_own_preset_learns_from_edits_and_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = ("--algorithm.steps", 1, "--algorithm.batch", 2, "--algorithm.micro", 2, "--no-evaluate")
    glyphlab("train", "nano_pretrain", "--out", tmp_path / "parent", *tiny)
    file = write_edits(tmp_path, INSTRUCTIONS, (1, 0, 2), sizes=((32, 96), (64, 48)))
    line = [
        "train", "nano_grpo", "--parent", tmp_path / "parent", "--prompts.file", file, *SMALL, "--lora.rank", 0,
        "--algorithm.steps", 2,
    ]  # fmt: skip
    glyphlab(*line, "--out", tmp_path / "run")
    assert [m["ratio_gap_first"] for m in read_run(tmp_path / "run").metrics] == [0.0, 0.0]
    whole, save = RunRecord.log, []

    def cut(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
        if save:
            raise KeyboardInterrupt
        save.append(step)
        whole(self, step, metrics)

    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "log", cut)
        assert cli.main([str(argument) for argument in (*line, "--out", tmp_path / "cut")]) != 0
    glyphlab("resume", tmp_path / "cut", "--no-evaluate")
    (one,), (two,) = (sorted((tmp_path / run / "model").glob("*.safetensors"))[:1] for run in ("run", "cut"))
    a, b = load_file(one), load_file(two)
    assert one.name == two.name and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_opens_a_released_edit_model_for_its_own_size(bases: Path) -> None:
    from dataclasses import replace

    from experiments.configs import CONFIGS
    from experiments.training.start_from import open_model

    experiment = replace(CONFIGS["qwen_grpo_lora"], base=str(checkpoint("edit", bases)), size=(64, 96))
    model = open_model(experiment, None)
    cond = model.encode_text(["a"], [[torch.zeros(3, 640, 960)]])
    assert cond.image_grids == (((4, 6),),) and cond.grids == ((4, 6),), "no condition image of 1024 x 1024"
    assert open_base(checkpoint("edit", bases)).base.task.area == 1024 * 1024


def test_sources_of_several_sizes_are_refused_where_ranks_would_wait_for_each_other(
    bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from experiments.configs import CONFIGS
    from experiments.experiment import PromptPlan
    from experiments.training import run_prompts

    monkeypatch.setattr(run_prompts, "ranks_of", lambda _: 2)
    kontext = CONFIGS["kontext_grpo_lora"]
    model = open_base(checkpoint("flux1_kontext", bases), (64, 96))
    for number, (sizes, refused) in enumerate([(((64, 96), (96, 64)), True), (((64, 96), (128, 192)), False)]):
        file = write_edits(tmp_path / str(number), ["a", "b"], sizes=sizes)
        split = replace(kontext, zero_stage=3, prompts=PromptPlan(2, 0, file=str(file)))
        for experiment in (replace(split, zero_stage=2), replace(split, engine="local")):
            run_prompts.check_layouts(model, experiment, tmp_path)
        if not refused:  # twice as large is shown in one size
            run_prompts.check_layouts(model, split, tmp_path)
            continue
        with pytest.raises(ValueError, match=r"'a' and 'b' .* \(\(64, 96\),\), \(\(96, 64\),\), and zero_stage=3"):
            run_prompts.check_layouts(model, split, tmp_path)
    own = open_base(checkpoint("edit", bases), (64, 96))
    run_prompts.check_layouts(
        own, replace(split, prompts=PromptPlan(2, 0, file=str(tmp_path / "0" / "edits.jsonl"))), tmp_path
    )


def test_images_that_changed_between_two_starts_are_seen(tmp_path: Path) -> None:
    from experiments.evaluation.prompts_of_plan import read_prompts

    file = write_edits(tmp_path, ["make it blue"])
    (before,) = read_prompts(file, 0)
    write_image(tmp_path / "images" / "0.png", 99)
    (after,) = read_prompts(file, 0)
    assert before.id != after.id
