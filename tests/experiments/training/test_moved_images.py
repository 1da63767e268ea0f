"""A folder of images is a setting like others: a sweep sets it, and a run goes on where it moved to, if unchanged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from base_model.files.weights import read_network
from experiments.cli import main
from experiments.configs import nano
from experiments.images.image_sources import ImageSources
from experiments.overrides import override
from experiments.record.record import RunRecord

SHORT = ["--algorithm.steps", "4", "--algorithm.batch", "4", "--algorithm.micro", "4", "--save-every", "2"]


def write_images(folder: Path) -> Path:
    """Five grounds with captions, and one file that is no image."""
    folder.mkdir()
    for i in range(5):
        Image.new("RGB", (100, 40), (50 * i, 200 - 40 * i, 90)).save(folder / f"{i}.png")
    (folder / "5.png").write_bytes(b"no image")
    for i in range(6):
        (folder / f"{i}.txt").write_text(f"ground {'abcdef'[i]}")
    return folder


def test_a_run_goes_on_with_a_folder_that_moved_and_not_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_images(tmp_path / "images")
    line = ["train", "nano_pretrain", "--data.folder", str(images), "--data.max-bad", "0.2", *SHORT, "--no-evaluate"]
    assert main([*line, "-o", str(tmp_path / "whole")]) == 0
    log = RunRecord.log

    def killed(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
        log(self, step, metrics)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "log", killed)
        assert main([*line, "-o", str(tmp_path / "cut")]) == 130
    moved = images.rename(tmp_path / "moved")
    going_on = ["resume", str(tmp_path / "cut"), "--no-evaluate", "--set", f"data.folder={moved}"]
    content = (moved / "0.png").read_bytes()
    (moved / "0.png").write_bytes((moved / "1.png").read_bytes())
    assert main(going_on) == 2 and "changed since the run" in capsys.readouterr().err
    (moved / "0.png").write_bytes(content)
    assert main(going_on) == 0
    whole, cut = (read_network(tmp_path / name / "model") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_settings_as_texts_take_a_folder_too() -> None:
    changed = override(nano.sft, {"data.folder": "a|b", "data.seed": "3", "optim.adamw_lr": "1e-5"})
    assert changed.data == ImageSources(("a", "b"), seed=3) and changed.optim.adamw_lr == 1e-5
    assert override(changed, {"data.folder": "c"}).data == ImageSources(("c",), seed=3)
    with pytest.raises(ValueError, match="learns from pairs"):
        override(replace(nano.dpo), {"data.folder": "a"})
