"""`--data.heldout SHARE`: images that a run does not learn from, and what it ends with on them, as a user types it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from base_model.files.weights import load_model
from base_model.pretrain import Batch, Micro, condition, loss
from base_model.seeding import generator
from experiments.cli import main
from experiments.images.image_sources import ImageSources, is_heldout, open_images
from experiments.record.heldout import read_heldout, read_reconstructions
from experiments.record.record import read_run
from experiments.training.heldout_images import LEVELS, SEED, flow_error
from experiments.training.own_images import sized_for

FEW = ["--algorithm.batch", "4", "--algorithm.micro", "4", "--algorithm.steps", "2"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "images"
    folder.mkdir()
    for i in range(12):
        Image.new("RGB", (96, 48 + 16 * (i % 2)), (20 * i, 255 - 20 * i, 128)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"a ground of kind {'ABCDEFGHIJKL'[i]}")
    shutil.copy(folder / "0.png", folder / "copy.png")
    (folder / "copy.txt").write_text("a copy")
    return folder


@pytest.fixture(scope="module")
def runs(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parent, and a run of fine-tuning with a third of the images held out."""
    home = tmp_path_factory.mktemp("runs")
    assert main(["train", "nano_pretrain", "--data.folder", str(images), "-o", str(home / "parent"), *FEW]) == 0
    line = [
        "train",
        "nano_sft",
        "--parent",
        str(home / "parent"),
        "--data.folder",
        str(images),
        "--data.heldout",
        "0.3",
    ]
    assert main([*line, "-o", str(home / "sft"), *FEW]) == 0
    return home


def test_nothing_is_learned_from_a_share_that_their_bytes_choose(images):
    whole, split, more = (open_images(ImageSources((str(images),), heldout=share)) for share in (0.0, 0.3, 0.6))
    names = lambda entries: {entry.name for entry in entries}  # noqa: E731
    assert names(split.heldout) and not names(split.heldout) & names(split.sources[0])
    assert names(split.heldout) | names(split.sources[0]) == names(whole.sources[0]), (
        "a copy is on the side of its twin"
    )
    assert names(split.heldout) < names(more.heldout) and not whole.heldout
    assert {text for entry in split.heldout for text in entry.captions}.isdisjoint(split.captions)
    hashes = [hashlib.sha256(entry.content()).hexdigest() for entry in more.heldout]
    assert hashes == sorted(hashes), "the first ones are of all kinds"
    assert whole.fingerprint == split.fingerprint and "more are held out" in split.summary()
    keys = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(5000)]
    shares = [np.mean([is_heldout(key, share) for key in keys]) for share in (0.1, 0.5)]
    assert shares == pytest.approx([0.1, 0.5], abs=0.02)


@pytest.mark.parametrize(
    ("share", "message"),
    [("0.0001", "raise --data.heldout"), ("0.9999", "lower --data.heldout")],
)
def test_a_share_that_leaves_one_side_empty_is_refused(images, tmp_path, capsys, share, message):
    with pytest.raises(ValueError, match=r"heldout=1\.0 must be a share"):
        ImageSources((str(images),), heldout=1.0)
    line = ["train", "nano_pretrain", "--data.folder", str(images), "--data.heldout", share, "-o", str(tmp_path / "r")]
    assert main(line) == 2 and message in capsys.readouterr().err


def test_a_run_of_an_autoencoder_ends_with_what_it_leaves_of_them_before_and_after(images, tmp_path, capsys):
    line = ["train", "nano_decoder", "--data.folder", str(images), "--data.heldout", "0.3", "-o", str(tmp_path / "r")]
    assert main([*line, "--size", "32", "96", "--algorithm.steps", "1", "--algorithm.batch", "2"]) == 0
    compared = read_reconstructions(tmp_path / "r")
    assert "PSNR of held-out images: " in capsys.readouterr().out
    rows = json.loads((tmp_path / "r" / "evaluation" / "heldout_images" / "reconstructions.json").read_text())["rows"]
    for name in ("psnr", "ssim"):
        gaps = [row[f"{name}_after"] - row[f"{name}_before"] for row in rows]
        assert compared[name]["difference"].value == pytest.approx(np.mean(gaps)) and any(gaps)


def test_a_run_ends_with_the_loss_on_them_before_and_after_and_shows_samples(runs, images, tmp_path, capsys):
    compared = read_heldout(runs / "sft")
    split = open_images(ImageSources((str(images),), heldout=0.3))
    assert compared.count == len(split.heldout) == read_run(runs / "sft").config["own_images"]["held_out"]
    rows = json.loads((compared.folder / "errors.json").read_text())["rows"]
    gaps = [row["after"] - row["before"] for row in rows]
    assert compared.difference.value == pytest.approx(np.mean(gaps)) and len(set(gaps)) == len(gaps)
    assert compared.difference.low < compared.difference.value < compared.difference.high
    for i, caption in enumerate(compared.captions):
        shapes = [np.asarray(Image.open(compared.image(i, what))).shape for what in compared.sides]
        assert compared.sides == ["image", "autoencoder", "before", "after"]
        assert all(len(shape) == 3 for shape in shapes) and caption == rows[i]["caption"]
    shown = [np.asarray(Image.open(compared.image(0, what))) for what in ("before", "after")]
    assert not np.array_equal(*shown), "two updates change a sample from the same noise"
    page = (runs / "sft" / "report.html").read_text()
    assert (
        "Held-out images" in page and f"{compared.difference.value:+.3g}" in page and page.count("before: a ground") > 0
    )
    assert {json.loads(line)["text"] for line in (runs / "sft" / "own_prompts.jsonl").read_text().splitlines()} == {
        text for entry in split.heldout for text in entry.captions[:1]
    }
    first = read_heldout(runs / "parent")
    assert first is None, "nothing was held out there"
    moved = tmp_path / "moved"
    shutil.copytree(runs, moved)
    capsys.readouterr()
    line = ["train", "nano_sft", "--parent", str(moved / "parent"), "--data.folder", str(images)]
    assert main([*line, "--data.heldout", "0.3", "-o", str(moved / "sft"), *FEW]) == 0
    told = capsys.readouterr().out
    assert f"flow-matching loss on {compared.count} held-out images" in told and compared.verdict in told


def test_images_that_are_gone_are_no_failure_of_the_training(images, runs, tmp_path, capsys):
    copy, run = tmp_path / "images", tmp_path / "run"
    shutil.copytree(images, copy)
    line = ["train", "nano_sft", "--parent", str(runs / "parent"), "--data.folder", str(copy), "--data.heldout", "0.3"]
    assert main([*line, "-o", str(run), "--no-evaluate", *FEW]) == 0 and read_heldout(run) is None
    open_images(ImageSources((str(copy),), heldout=0.3)).heldout[0].file.unlink()
    capsys.readouterr()
    assert main([*line, "-o", str(run), *FEW]) == 0
    assert "not compared on held-out images" in capsys.readouterr().out and read_heldout(run) is None


def test_the_loss_is_that_of_training(images, runs):
    """At given noise, on an image of its own aspect."""
    model = load_model(runs / "sft" / "model")
    with torch.no_grad():  # after two updates it hardly looks at where a token stands
        for i, weight in enumerate(model.network.parameters()):
            weight += 0.05 * torch.randn(weight.shape, generator=generator(0, i, 0, "weights"))
    stream = sized_for(open_images(ImageSources((str(images),), heldout=0.6)), model)
    shapes = [stream.pixels(entry).shape[1:] for entry in stream.heldout]
    index = next(i for i, shape in enumerate(shapes) if shape != model.picture)
    entry = stream.heldout[index]
    pixels = torch.from_numpy(stream.pixels(entry))
    x0 = model.encode_pixels(pixels[None].float() / 255.0)
    grid = (pixels.shape[1] // model.side, pixels.shape[2] // model.side)
    eps = torch.randn(x0.shape, generator=generator(SEED, index, 0, "held out"))
    losses = []
    for level in LEVELS:
        batch = Batch(x0, [stream.caption(index, entry)], (grid,))
        cond = condition(model, batch, torch.zeros(1, dtype=torch.bool))
        with torch.no_grad():
            losses.append(float(loss(model, Micro(x0, eps, torch.tensor([level]), cond))[0]))
    assert grid != (model.picture[0] // model.side, model.picture[1] // model.side), "an aspect that is not the model's"
    assert flow_error(model, stream, index) == pytest.approx(np.mean(losses), rel=1e-4)
    zero = replace(stream, settings=replace(stream.settings, aspect=False))
    assert flow_error(model, zero, index) != pytest.approx(np.mean(losses), rel=1e-4)
