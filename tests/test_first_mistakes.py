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


def test_help_of_no_command_names_the_nearest(capsys):
    assert "did you mean train?" in refused(capsys, "trian", "--help")
    assert "There are quickstart" in refused(capsys, "nonsense", "-h")


@pytest.mark.parametrize(("wrong", "right"), [("nano_stf", "nano_sft"), ("nano_grop", "nano_grpo")])
def test_a_misspelt_experiment_names_the_nearest(wrong, right, capsys):
    assert f"did you mean {right}?" in refused(capsys, "train", wrong)


def test_a_size_is_refused_where_a_run_draws(tmp_path, capsys):
    text = refused(capsys, "sample", tmp_path, "the word A", "--size", 512, 256)
    assert "--size 512 256" in text and "leave --size out" in text


def test_a_prompt_unlike_the_captions_is_told(tmp_path, capsys, monkeypatch):
    from experiments import sampling

    monkeypatch.setattr(sampling, "model_folder", lambda run, stage: run)
    monkeypatch.setattr(sampling, "load_model", lambda folder: object())
    monkeypatch.setattr(sampling, "draw", lambda model, prompt, *rest: prompt)
    monkeypatch.setattr(sampling, "write_pictures", lambda pictures, out: pictures)
    for prompt, unlike in (("an elephant on a bike", True), ("the word GLYPH", False)):
        drawn = sampling.draw_to_file(tmp_path, prompt, 0, tmp_path / "x.png", 1.0, 2, 1)
        told = capsys.readouterr().err
        assert f"drawn as: {drawn}" in told and ("unlike the captions" in told) is unlike


def test_an_early_ctrl_c_names_the_same_command_again(tmp_path, capsys, monkeypatch):
    from experiments import launch

    def stop(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "train", stop)
    folder = tmp_path / "run"
    line = ["train", "nano_pretrain", "-o", str(folder)]
    assert main(line) == 130
    assert f"go on with: glyphlab {' '.join(line)}" in capsys.readouterr().err
    folder.mkdir()
    (folder / "run.json").write_text('{"status": "running"}')
    assert main(line) == 130
    assert f"go on with: glyphlab resume {folder}" in capsys.readouterr().err


def test_fields_are_named_only_where_there_are_some():
    from preference_data.comparisons import comparison_from_json
    from preference_data.records import prompt_from_json

    with pytest.raises(ValueError, match="lacks") as lacking:
        comparison_from_json({"prompt": {}, "left": {}})
    with pytest.raises(ValueError, match="has the unknown colour") as unknown:
        prompt_from_json({"id": "a", "text": "b", "spans": [], "colour": 1})
    assert "nothing" not in f"{lacking.value}{unknown.value}" and "lacks" not in str(unknown.value).split(";")[0]


def test_a_misspelt_backbone_ends_its_sentence():
    from rewards.backbones import parse

    with pytest.raises(ValueError, match=r"no backbone 'resnet'\. There are"):
        parse("resnet")


def test_a_sweep_counts_in_words():
    from experiments.sweep import counted

    assert (counted(1, "seed"), counted(3, "seed"), counted(0, "seed")) == ("1 seed", "3 seeds", "0 seeds")
