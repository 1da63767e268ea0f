"""What a newcomer types wrong is said in one line, before anything is written."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.configs import nano
from experiments.environment import revision
from experiments.starting import open_model


def refused(capsys: pytest.CaptureFixture[str], *line: object) -> str:
    assert main([str(part) for part in line]) == 2
    return capsys.readouterr().err


def test_sample_refuses_what_it_cannot_draw(tmp_path, capsys):
    assert "the prompt is empty" in refused(capsys, "sample", tmp_path, " ", "-o", tmp_path / "x.png")
    assert "name a .png file" in refused(capsys, "sample", tmp_path, "A", "-o", tmp_path / "x.jpg")
    assert "there is no run in" in (text := refused(capsys, "sample", tmp_path / "nope", "A")) and "resume" not in text


@pytest.mark.parametrize("preset", ["medium", "sd35_medium", "large", "qwen_image"])
def test_a_preset_without_its_text_encoder_is_refused_at_once(preset):
    with pytest.raises(ValueError, match=r"text encoder of Qwen2\.5-VL.*--base"):
        open_model(replace(nano.pretrain, preset=preset), None)


def test_an_image_in_the_clone_is_no_change_of_the_code(tmp_path):
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)

    (tmp_path / "code.py").write_text("a = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    (Path(tmp_path) / "out.png").write_bytes(b"image")
    assert (revision(tmp_path) or {})["dirty"] is False
    (tmp_path / "code.py").write_text("a = 2\n")
    assert (revision(tmp_path) or {})["dirty"] is True


def test_a_second_train_says_that_the_run_is_finished(tmp_path, capsys, monkeypatch):
    from experiments import launch
    from experiments.runner import open_record

    open_record(nano.pretrain, tmp_path / "run", None)
    state = (tmp_path / "run" / "run.json").read_text()
    (tmp_path / "run" / "run.json").write_text(state.replace('"created"', '"finished"'))
    monkeypatch.setattr(launch, "train", lambda experiment, folder, parent: folder / "report.html")
    assert main(["train", "nano_pretrain", "-o", str(tmp_path / "run")]) == 0
    assert "is finished already" in capsys.readouterr().out


def test_a_reader_that_has_enough_is_no_error():
    import sys

    line = f"{sys.executable} -m experiments.cli plan qwen_grpo_lora --gpus 8 | head -c 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True)
    assert "Broken pipe" not in done.stderr and done.returncode in (0, 120)
