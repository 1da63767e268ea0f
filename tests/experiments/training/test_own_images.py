"""`--data.folder IMAGES`: as a user types it, for every kind of run that learns from images."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from base_model.files.weights import load_model
from experiments.cli import main
from experiments.configs import nano
from experiments.evaluation.evaluate import fixed_noise
from experiments.images.image_sources import ImageSources
from experiments.record.intervals import paired_ci
from experiments.record.record import RunRecord, read_run
from experiments.studies.ablations import flow_error
from experiments.training.runner import run
from experiments.training.start_from import open_model

SMALL = ["--algorithm.batch", "4", "--no-evaluate"]
LEARN = [*SMALL, "--algorithm.micro", "4"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i, colour in enumerate(("red", "green", "blue", "black", "white")):
        Image.new("RGB", (96, 64), colour).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"a {colour} ground")
    return folder


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on own images, from nothing."""
    folder = tmp_path_factory.mktemp("own")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    (folder / "images").mkdir()
    Image.fromarray(pixels).save(folder / "images" / "a.png")
    (folder / "images" / "a.txt").write_text("noise")
    line = ["train", "nano_pretrain", "--data.folder", str(folder / "images"), "-o", str(folder / "run")]
    assert main([*line, "--algorithm.steps", "2", *LEARN]) == 0
    return folder / "run"


def test_sft_on_own_images_as_typed(images: Path, parent: Path, tmp_path: Path, capsys) -> None:
    line = ["train", "nano_sft", "--parent", str(parent), "--data.folder", str(images), "--out", str(tmp_path / "sft")]
    assert (
        main([*line, "--algorithm.steps", "3", "--save-every", "2", "--algorithm.batch=4", "--algorithm.micro=4"]) == 0
    )
    shown = capsys.readouterr()
    assert "own images: 5 images with 5 captions" in shown.err and "evaluated on prompts of its own" in shown.out
    record = read_run(tmp_path / "sft")
    assert record.config["own_images"]["images"] == 5 and len(record.config["own_images"]["fingerprint"]) == 64
    assert [sample.caption for sample in record.samples] == [
        f"a {colour} ground" for colour in ("red", "green", "blue", "black", "white")
    ]
    shutil.rmtree(images)
    assert (
        main([*line, "--algorithm.steps", "3", "--save-every", "2", "--algorithm.batch=4", "--algorithm.micro=4"]) == 0
    )
    assert "already finished" in capsys.readouterr().out, "a finished run needs its images no more"


def test_an_autoencoder_learns_from_own_images(images: Path, tmp_path: Path) -> None:
    for file in images.glob("*.txt"):
        file.unlink()
    for name in ("nano_decoder", "nano_vae"):
        line = ["train", name, "--data.folder", str(images), "-o", str(tmp_path / name), "--algorithm.steps", "2"]
        assert main([*line, *SMALL]) == 0
        assert (tmp_path / name / "model" / "vae.safetensors").exists()


def test_a_released_checkpoint_learns_own_images_by_an_adapter(images: Path, t2i: Path, tmp_path: Path) -> None:
    line = ["train", "nano_sft", "--base", str(t2i), "--data.folder", str(images), "--lora.rank", "2"]
    line += ["--algorithm.steps", "2", "--save-every", "1", "-o", str(tmp_path / "run")]
    (images / "0.txt").write_text("50 % off: 赤い地")
    assert main([*line, *LEARN]) == 0
    assert (tmp_path / "run" / "model").is_dir()
    assert read_run(tmp_path / "run").samples[0].caption == "50 % off: 赤い地"


def stopped_and_resumed(line: list[str], folder: Path, monkeypatch) -> None:
    """A run that is interrupted after its third update, and goes on."""
    logged = RunRecord.log

    def log(self, step, metrics):
        logged(self, step, metrics)
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunRecord, "log", log)
    assert main([*line, "-o", str(folder)]) == 130
    monkeypatch.setattr(RunRecord, "log", logged)


def test_killed_and_resumed_is_bit_for_bit_the_same_and_changed_images_are_refused(
    images: Path, parent: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """With aspects, which makes batches ragged, and with two folders."""
    more = tmp_path / "more"
    shutil.copytree(images, more)
    Image.new("RGB", (64, 96), "yellow").save(more / "0.png")
    line = ["train", "nano_sft", "--parent", str(parent), "--data.folder", str(images), str(more), "--data.aspect"]
    line += ["--data.weights", "1", "2", "--algorithm.steps", "6", "--save-every", "2", *LEARN]
    assert main([*line, "-o", str(tmp_path / "whole")]) == 0
    stopped_and_resumed(line, tmp_path / "parts", monkeypatch)
    (red := images / "0.png").rename(tmp_path / "red.png")
    for instead, fault in ((None, "is not there"), ("rose", "0.png is another image now")):
        if instead:
            Image.new("RGB", (96, 64), (255, 0, 9)).save(red)
        capsys.readouterr()
        assert main(["resume", str(tmp_path / "parts")]) == 2
        error = capsys.readouterr().err
        assert "changed since the run" in error and fault in error
    (tmp_path / "red.png").rename(red)
    (images / "0.txt").write_text("a rose ground")  # captions are those of the list
    assert main(["resume", str(tmp_path / "parts"), "--no-evaluate"]) == 0
    told = capsys.readouterr().err
    assert "0 new images, 1 with other captions" in told and f"glyphlab mix {tmp_path / 'parts'} --grow" in told
    a, b = (load_model(tmp_path / name / "model").network.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    losses = [[line["loss"] for line in read_run(tmp_path / name).metrics] for name in ("whole", "parts")]
    assert losses[0] == losses[1] and len(losses[0]) == 6


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["nano_grpo", "--data.folder", "{}"], "learns from rollouts"),
        (["nano_pretrain", "--data.folder", "nowhere"], "there is no folder"),
        (["nano_pretrain", "--data.folder", "{}"], "cannot know the characters '5'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_opened(
    line: list[str], message: str, images: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("experiments.training.runner.open_either", lambda *_: pytest.fail("a model was opened"))
    (images / "0.txt").write_text("5 apples")
    assert main(["train", *(part.format(images) for part in line), "-o", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_edits_only_is_refused(images: Path, edit: Path) -> None:
    experiment = replace(nano.sft, base=str(edit), data=ImageSources((str(images),)))
    with pytest.raises(ValueError, match="only edits"):
        open_model(experiment, None)


def test_run_json_brings_the_settings_back(images: Path, parent: Path, tmp_path: Path) -> None:
    small = replace(nano.sft.algorithm, steps=1, batch=2, micro=2)
    experiment = replace(nano.sft, algorithm=small, data=ImageSources((str(images),), seed=5))
    run(experiment, tmp_path / "run", parent)
    saved = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert saved["experiment"]["data"]["folder"] == [str(images)] and saved["experiment"]["data"]["seed"] == 5
    run(experiment, tmp_path / "run", parent)


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("diffusers")
    from tests.fixtures.tiny.tiny_families import save_pipeline

    return save_pipeline("sd3", tmp_path_factory.mktemp("families") / "sd3")


@pytest.mark.slow
def test_another_family_learns_own_images_through_its_own_autoencoder(images: Path, sd3: Path, tmp_path: Path) -> None:
    line = ["train", "nano_sft", "--base", str(sd3), "--data.folder", str(images), "--lora.rank", "2", "--size", "32"]
    line += ["64", "--algorithm.steps", "2", "--save-every", "1", "-o", str(tmp_path / "run")]
    assert main([*line, *LEARN]) == 0
    assert len(read_run(tmp_path / "run").samples) == 5


def tiles(name: str, folder: Path) -> np.ndarray:
    """Two thirds of a photograph's 32 x 96 tiles into a folder of images, captioned; the others [P, 3, H, W]."""
    data = pytest.importorskip("skimage.data")
    pixels = getattr(data, name)()
    cut = [pixels[y : y + 32, x : x + 96] for y in range(0, 480, 32) for x in range(0, 480, 96)]
    for i, tile in enumerate(cut):
        if i % 3:
            Image.fromarray(tile).save(folder / f"{name}_{i}.png")
            (folder / f"{name}_{i}.txt").write_text(f"a ground of {name}")
    held_out = np.stack(cut[::3])
    return held_out[:, None].repeat(3, 1) if held_out.ndim == 3 else held_out.transpose(0, 3, 1, 2)


@pytest.mark.slow
def test_sft_on_own_images_makes_held_out_ones_of_their_kind_more_likely(tmp_path: Path) -> None:
    """Than its parent finds them, and than as many updates on rendered words make them, paired by image and noise."""
    (tmp_path / "own").mkdir()
    kinds = ("brick", "grass", "gravel")
    held_out = {kind: tiles(kind, tmp_path / "own") for kind in kinds}
    small = replace(nano.pretrain.algorithm, steps=30, batch=16, micro=16)
    run(replace(nano.pretrain, algorithm=small), tmp_path / "parent")
    sft = replace(nano.sft, algorithm=replace(nano.sft.algorithm, steps=30, batch=16, micro=16))
    run(sft, tmp_path / "control", tmp_path / "parent")
    run(replace(sft, data=ImageSources((str(tmp_path / "own"),))), tmp_path / "sft", tmp_path / "parent")
    images = np.concatenate([*held_out.values()])
    captions = [f"a ground of {kind}" for kind in kinds for _ in held_out[kind]]
    error = {}
    for name in ("parent", "control", "sft"):
        model = load_model(tmp_path / name / "model")
        noise = fixed_noise(model, len(captions), 5)
        error[name] = flow_error(model, captions, images, noise, (0.3, 0.6, 0.9))
    for before in ("parent", "control"):
        delta, low, high = paired_ci(error[before], error["sft"], seed=0)
        print(f"flow error on {len(captions)} held-out images, sft - {before}: {delta:+.4f} [{low:+.4f}, {high:+.4f}]")
        assert high < 0.0
