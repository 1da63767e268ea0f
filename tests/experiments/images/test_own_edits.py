"""Own images of several sizes, edits and pairs of one's own, as typed: by plain names, on nano and tiny checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from alignment.dpo import AT_REFERENCE
from experiments.cli import main
from experiments.record.record import read_run
from tests.fixtures.edit_prompts import write_image
from tests.fixtures.tiny.tiny_released import EDIT, PLUS, make

ROOT = Path(__file__).parents[3]
SHAPES = ((64, 96), (96, 64), (64, 64), (64, 98), (100, 50))
LEARN = ["--algorithm.steps", "4", "--algorithm.batch", "4", "--algorithm.micro", "2", "--save-every", "1",
         "--no-evaluate"]  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five captioned images of several aspects."""
    folder = tmp_path_factory.mktemp("mixed") / "images"
    for i, shape in enumerate(SHAPES):
        write_image(folder / f"{i}.png", i, shape)
        (folder / f"{i}.txt").write_text(f"image {'abcde'[i]}")
    return folder


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three edits: a red one becomes blue."""
    folder = tmp_path_factory.mktemp("edits") / "edits"
    for i, (height, width) in enumerate(SHAPES[:3]):
        write_image(folder / "source" / f"{i}.png", i, (height, width))
        write_image(folder / "target" / f"{i}.png", 10 + i, (height, width))
        (folder / "target" / f"{i}.txt").write_text("make it blue")
    return folder


def losses(folder: Path) -> list[float | None]:
    return [line["loss"] for line in read_run(folder).metrics]


def test_nano_learns_edits_and_pairs_of_ones_own(edits: Path, images: Path, tmp_path: Path, capsys) -> None:
    begin = ["train", "pretrain", "--data.folder", str(images), "-o", str(tmp_path / "parent"), *LEARN, "--size", "48"]
    assert main([*begin, "48"]) == 0
    line = ["train", "sft", "--parent", str(tmp_path / "parent"), "--data.folder", str(edits)]
    assert main([*line, "-o", str(tmp_path / "run"), *LEARN]) == 0
    assert "3 of them are edits of other images" in capsys.readouterr().err
    run = read_run(tmp_path / "run")
    assert [sample.caption for sample in run.samples][:3] == ["make it blue"] * 3
    assert len(list((tmp_path / "run" / "pictures").glob("*.png"))) == 3, "what was edited lies in the run's folder"
    assert all(row["sources"] for row in json.loads((tmp_path / "run" / "samples" / "index.json").read_text()))
    pairs = ["train", "dpo", "--parent", str(tmp_path / "parent"), "--pairs", *two_folders(tmp_path), *LEARN]
    assert main([*pairs, "-o", str(tmp_path / "dpo")]) == 0
    assert losses(tmp_path / "dpo")[0] == pytest.approx(AT_REFERENCE, abs=1e-6)
    assert read_run(tmp_path / "dpo").samples[0].caption == "image a"
    for name in ("source", "target"):  # other sources are other numbers: the model sees them
        shutil.copytree(edits / name, tmp_path / "other" / name)
    for file in (tmp_path / "other" / "source").glob("*.png"):
        write_image(file, 77, Image.open(file).size[::-1])
    line[line.index(str(edits))] = str(tmp_path / "other")
    assert main([*line, "-o", str(tmp_path / "blind"), *LEARN]) == 0
    assert losses(tmp_path / "blind")[1:] != losses(tmp_path / "run")[1:]


def two_folders(home: Path) -> list[str]:
    """Preferred and rejected images of three aspects, the rejected ones in other sizes."""
    for i, (height, width) in enumerate(SHAPES[:3]):
        write_image(home / "good" / f"{i}.png", i, (height, width))
        write_image(home / "bad" / f"{i}.png", 10 + i, (width, height))
        (home / "good" / f"{i}.txt").write_text(f"image {'abc'[i]}")
    return [str(home / "good"), str(home / "bad")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["sft", "--parent", "x"], "name yours with --data.folder"),
        (["pretrain"], "name yours with --data.folder"),
        (["train_vae"], "name yours with --data.folder"),
        (["dpo", "--parent", "x"], "--pairs PREFERRED REJECTED"),
        (["sft", "--data.folder", "{}"], "a released checkpoint with --base"),
    ],
)
def test_plain_names_say_what_they_need(line: list[str], message: str, images: Path, tmp_path: Path, capsys) -> None:
    assert main(["train", *(part.format(images) for part in line), "-o", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def glyphlab(*line: object) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "experiments.cli", *map(str, line)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def killed_after(updates: int, folder: Path, *line: object) -> None:
    """SIGKILL when that many updates are logged."""
    process = glyphlab(*line)
    try:
        while process.poll() is None and len(losses(folder) if (folder / "run.json").exists() else []) < updates:
            time.sleep(0.02)
        assert process.poll() is None, ((process.stderr and process.stderr.read()) or b"").decode()[-2000:]
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "adapter.safetensors")


@pytest.mark.slow
def test_a_family_learns_images_of_several_aspects_and_a_killed_run_goes_on_bit_for_bit(
    images: Path, tmp_path: Path
) -> None:
    pytest.importorskip("diffusers")
    from tests.fixtures.tiny.tiny_families import save_pipeline

    base = save_pipeline("sd3", tmp_path / "sd3")
    line = ["train", "sft", "--base", base, "--data.folder", images, "--lora.rank", "2", *LEARN]
    line[line.index("--algorithm.steps") + 1] = "8"
    assert main([*map(str, line), "-o", str(tmp_path / "whole")]) == 0
    killed_after(3, tmp_path / "parts", *line, "-o", tmp_path / "parts")
    assert main(["resume", str(tmp_path / "parts"), "--no-evaluate"]) == 0
    whole, parts = adapter(tmp_path / "whole"), adapter(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts") and len(losses(tmp_path / "whole")) == 8
    assert any(value.any() for name, value in whole.items() if ".lora_B." in name)
    pairs = ["train", "dpo", "--base", str(base), "--lora.rank", "2", "--pairs", *two_folders(tmp_path), *LEARN]
    assert main([*pairs, "--size", "64", "64", "-o", str(tmp_path / "dpo")]) == 0
    assert losses(tmp_path / "dpo")[0] == pytest.approx(AT_REFERENCE, abs=1e-5)
    assert losses(tmp_path / "dpo")[3] != pytest.approx(AT_REFERENCE, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edit", "plus", "flux1_kontext"])
def test_editing_checkpoints_learn_edits_of_ones_own(name: str, edits: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("diffusers")
    from tests.fixtures.tiny.tiny_families import save_pipeline

    base = tmp_path / name
    {"edit": lambda: make(base, EDIT), "plus": lambda: make(base, PLUS)}.get(name, lambda: save_pipeline(name, base))()
    line = ["train", "sft", "--base", str(base), "--data.folder", str(edits), "--lora.rank", "2", *LEARN]
    assert main([*line, "--size", "64", "64", "-o", str(tmp_path / "run")]) == 0
    assert any(value.any() for key, value in adapter(tmp_path / "run").items() if ".lora_B." in key)
    assert len(read_run(tmp_path / "run").samples) == 9
    if name == "edit":  # it takes one image, and these have two
        for i in range(3):
            write_image(tmp_path / "two" / f"{i}_source1.png", i), write_image(tmp_path / "two" / f"{i}_source2.png", i)
            write_image(tmp_path / "two" / f"{i}_target.png", i + 5)
            (tmp_path / "two" / f"{i}.txt").write_text("join them")
        line[line.index(str(edits))] = str(tmp_path / "two")
        assert main([*line, "-o", str(tmp_path / "refused")]) == 2
        assert "has 2 source images, and a QwenImageEditPipeline checkpoint takes 1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_two_ranks_with_other_sizes_each_wait_for_nobody_for_ever(stage: int, images: Path, tmp_path: Path) -> None:
    """Also where they share weights, so that every call of one needs a call of the other."""
    pytest.importorskip("diffusers")
    from tests.fixtures.tiny.tiny_families import save_pipeline

    base = save_pipeline("sd3", tmp_path / "sd3")
    learn = ["--lora.rank", "2", "--algorithm.steps", "3", "--algorithm.micro", "2", "--no-evaluate"]
    line = ["train", "sft", "--base", base, "--data.folder", images, *learn, "--algorithm.batch", "4"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m",
              "experiments.cli"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = ["--engine", "deepspeed", "--zero-stage", stage, "-o", tmp_path / "two"]
    done = subprocess.run([*launch, *map(str, [*line, *options])], cwd=ROOT, env=environment, capture_output=True,
                          timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    counted = losses(tmp_path / "two")
    assert len(counted) == 3 and all(loss is not None and np.isfinite(loss) for loss in counted)
    assert any(value.any() for key, value in adapter(tmp_path / "two").items() if ".lora_B." in key)
