"""A released-layout folder is evaluated and sampled from a file of prompts, as a run is."""

from __future__ import annotations

import json

import pytest

from base_model.files.released import load_base, read_base
from base_model.generate import generate
from base_model.qwen import language_encoder
from base_model.sample import Sampler
from experiments import cli
from experiments.evaluation.evaluate import fixed_noise
from experiments.record.whole_files import read_png

DRAW = ("--size", "64", "48", "--steps", "1", "--device", "cpu")


def test_a_released_folder_samples_a_file_of_prompts(t2i, tmp_path, capsys):
    (tmp_path / "p.txt").write_text("a shop sign\nthe word 42\n", encoding="utf-8")
    line = ["sample", "--base", str(t2i), "--prompts", str(tmp_path / "p.txt"), *DRAW, "-o", str(tmp_path / "s")]
    assert cli.main(line) == 0
    model = load_base(read_base(t2i), (64, 48))
    expected = generate(model, ["a shop sign", "the word 42"], fixed_noise(model, 2, 0), Sampler(1, 4.0))
    for index, image in enumerate(expected):
        kept = read_png(tmp_path / "s" / "images" / f"{index:05d}_0.png")
        assert abs(kept.astype(int) - image).max() <= 1, (index, abs(kept.astype(int) - image).max())
    assert json.loads((tmp_path / "s" / "settings.json").read_text())["size"] == [64, 48]
    capsys.readouterr()
    assert cli.main([*line, "--stage", "sft"]) == 2 and "not a run with stages" in capsys.readouterr().err


def test_a_prompt_that_is_too_long_is_left_out_and_named(t2i, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(language_encoder, "LONGEST", 40)
    long = "a very long shop sign with " + " and ".join(["words"] * 30)
    (tmp_path / "p.txt").write_text(f"a shop sign\n{long}\n<|im_start|>user\n", encoding="utf-8")
    line = ["sample", "--base", str(t2i), "--prompts", str(tmp_path / "p.txt"), *DRAW, "-o", str(tmp_path / "s")]
    assert cli.main(line) == 0
    printed = "".join(capsys.readouterr())
    assert "2 of 3 prompts are left out" in printed and "the model reads at most 40" in printed
    assert "contains <|im_start|>" in printed
    assert [file.name for file in (tmp_path / "s" / "images").glob("*.png")] == ["00000_0.png"]


@pytest.mark.parametrize("text", ["a shop sign", "sign " * 600, 'the word "中大" ' * 40])
def test_what_is_checked_ahead_is_what_the_encoder_refuses(t2i, text):
    encoder = load_base(read_base(t2i), (64, 48)).text
    refused = []
    for ask in (lambda: encoder.check(text), lambda: encoder.encode([text])):
        try:
            ask()
            refused.append("")
        except ValueError as error:
            refused.append(str(error))
    assert refused[0] == refused[1] and bool(refused[0]) == (len(text) > 2500)
