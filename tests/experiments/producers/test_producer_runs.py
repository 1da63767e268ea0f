"""Runs with producers as typed: killed producers, a killed run and another mixture leave the numbers of one without."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from experiments.cli import main
from experiments.record.record import RunRecord, read_run

ROOT = Path(__file__).parents[3]
SMALL = ["--algorithm.batch", "4", "--no-evaluate"]
WORDS = ["train", "nano_pretrain", *SMALL, "--algorithm.micro", "4", "--algorithm.steps", "28", "--save-every", "4"]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_run(run).metrics]


def equal(a: Path, b: Path) -> None:
    for name in ("transformer.safetensors", "vae.safetensors"):
        if (a / "model" / name).exists():
            one, other = load_file(a / "model" / name), load_file(b / "model" / name)
            assert all(torch.equal(one[key], other[key]) for key in other)
    assert losses(a) == losses(b)


def updates(run: Path) -> int:
    return (run / "metrics.jsonl").read_bytes().count(b"\n") if (run / "metrics.jsonl").exists() else 0


def producers_of(process: psutil.Process) -> list[psutil.Process]:
    children = []
    for child in process.children():
        with contextlib.suppress(psutil.Error):
            children += [child] if "spawn_main" in " ".join(child.cmdline()) else []
    return children


def ring_bytes(run: Path) -> int:
    sizes = []
    for path in (run / ".ring").glob("*.safetensors"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sum(sizes)


def started(line: list[str]) -> psutil.Process:
    return psutil.Popen([sys.executable, "-m", "experiments.cli", *line], cwd=ROOT, env=os.environ)


@pytest.mark.slow
def test_whoever_is_killed_the_run_is_the_same_with_a_mix_change_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words: producers are killed, then the run itself; it goes on with another mixture."""
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    run = started([*WORDS, "--producers", "2", "-o", str(parts), "--ring-gigabytes", "0.001"])
    killed, most = set(), 0
    while updates(parts) < 10:
        assert run.poll() is None
        for producer in producers_of(run)[: 2 - len(killed)]:
            if updates(parts) >= 3 * (len(killed) + 1):
                producer.send_signal(signal.SIGKILL)
                killed.add(producer.pid)
        most = max(most, ring_bytes(parts))
        time.sleep(0.01)
    left = producers_of(run)
    run.kill()
    run.wait()
    assert len(killed) == 2 and 0 < most <= 10**6
    assert not [p for p in psutil.wait_procs(left, timeout=60)[1] if p.status() != psutil.STATUS_ZOMBIE]
    assert main(["mix", str(parts), "level5=1", "level9=2"]) == 2
    assert "part of the mix 'level9'" in capsys.readouterr().err
    assert main(["mix", str(parts), "level5=3", "level0=1"]) == 0
    assert "when it is resumed" in capsys.readouterr().out
    assert main(["resume", str(parts), "--no-evaluate"]) == 0
    assert not (parts / ".ring").exists(), "nobody reads what was made ahead"
    capsys.readouterr()
    assert main(["mix", str(parts)]) == 0
    change = capsys.readouterr().out.splitlines()[1]
    assert change.endswith("level0=1, level5=3") and change.startswith(("from update 16", "from update 8"))
    assert main(["mix", str(parts), "level5=1"]) == 2
    logged = RunRecord.log

    def log(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
        logged(self, step, metrics)
        if step == 0:
            for name in ("mix.json", "mix.jsonl"):
                shutil.copy(parts / name, whole / name)

    monkeypatch.setattr(RunRecord, "log", log)
    assert main([*WORDS, "-o", str(whole)]) == 0
    equal(parts, whole)
    monkeypatch.setattr(RunRecord, "log", logged)
    capsys.readouterr()
    assert main(["lineage", str(parts), "27", "2"]) == 0
    shown = capsys.readouterr().out
    assert "shard 3, made ahead of data" in shown and "rendered by seed" in shown and "index 110" in shown


def write_grounds(folder: Path, *numbers: int) -> None:
    folder.mkdir(exist_ok=True)
    for i in numbers:
        pixels = np.random.default_rng(i).integers(0, 255, (48 + 16 * (i % 3), 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"ground {chr(97 + i)}")


@pytest.mark.slow
@pytest.mark.parametrize(("producers", "killed_at"), [("0", -2), ("1", 3)])
def test_a_run_whose_images_grow_is_killed_and_goes_on_as_one_that_was_not(
    producers: str, killed_at: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed before the update from which the new list holds, and after it; images are then added again."""
    folder, parts, whole = tmp_path / "images", tmp_path / "parts", tmp_path / "whole"
    write_grounds(folder, *range(6))
    line = ["train", "nano_pretrain", "--data.folder", str(folder), *SMALL, "--algorithm.micro", "4", "--save-every"]
    line += ["4", "--algorithm.steps", "48", "--producers", producers]
    run = started([*line, "-o", str(parts)])
    while updates(parts) < 2:
        assert run.poll() is None
        time.sleep(0.01)
    write_grounds(folder, 6, 7)
    assert main(["mix", str(parts), "--grow", "--from-update", "24"]) == 0
    while updates(parts) < 24 + killed_at:
        assert run.poll() is None
        time.sleep(0.005)
    run.kill()
    run.wait()
    write_grounds(folder, 8)
    assert main(["mix", str(parts), "--grow", "--from-update", "24"]) == (2 if killed_at > 0 else 0)
    assert main(["mix", str(parts), "--grow", "--from-update", "40"]) == 0
    capsys.readouterr()
    assert main(["resume", str(parts), "--no-evaluate"]) == 0
    assert "have 1 new images beside what it reads" in capsys.readouterr().err
    log = [json.loads(text) for text in (parts / "generations.jsonl").read_text().splitlines()]
    assert [row["from_step"] for row in log] == [0, 24, 40] and len({row["manifest"] for row in log}) == 3
    whole.mkdir()
    shutil.copy(parts / "generations.jsonl", whole)
    shutil.copytree(parts / "generations", whole / "generations")
    write_grounds(folder, 9)
    assert main([*line[:-1], str(1 - int(producers)), "-o", str(whole)]) == 0
    equal(parts, whole)
    capsys.readouterr()
    for update, row in ((23, 0), (24, 1), (47, 2)):
        assert main(["lineage", str(parts), str(update)]) == 0
        shown = capsys.readouterr().out
        assert f"images of {log[row]['list']}, listed from update {log[row]['from_step']} on" in shown
        assert ("shard 2, made ahead" in shown) == (update == 23 and producers == "1")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nano_pretrain", "nano_decoder", "edits"])
def test_own_images_by_producers_are_those_without(name: str, tmp_path: Path, edit: Path) -> None:
    """For a network, for an autoencoder, and for a released checkpoint whose images are edits of others."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(5):
        for kind in ("source", "target") if name == "edits" else ("",):
            pixels = np.random.default_rng(i).integers(0, 255, (48 + 16 * i, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}{kind and f'_{kind}'}.png")
        (folder / f"{i}.txt").write_text("a ground")
    line = ["train", name, "--data.folder", str(folder), *SMALL, "--algorithm.steps", "10"]
    if name == "edits":
        line[1:2] = ["nano_sft", "--base", str(edit), "--lora.rank", "2", "--save-every", "10"]
    line += [] if name == "nano_decoder" else ["--algorithm.micro", "4"]
    assert main([*line, "-o", str(tmp_path / "beside")]) == 0
    assert main([*line, "-o", str(tmp_path / "ahead"), "--producers", "1"]) == 0
    if name == "edits":
        assert losses(tmp_path / "beside") == losses(tmp_path / "ahead")
    else:
        equal(tmp_path / "beside", tmp_path / "ahead")


@pytest.mark.slow
def test_what_a_producer_cannot_do_ends_the_run_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image whose bytes end early is noticed when it is decoded, which a producer does."""
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:6000])
    (folder / "a.txt").write_text("a ground")
    line = ["train", "nano_pretrain", "--data.folder", str(folder), *SMALL, "--algorithm.micro", "4"]
    assert main([*line, "--producers", "1", "-o", str(tmp_path / "run")]) == 2
    assert "a.png" in capsys.readouterr().err
    with pytest.raises(ValueError, match="learns from rollouts"):
        main(["train", "nano_grpo", "--producers", "1", "-o", str(tmp_path / "run"), "--traceback"])
