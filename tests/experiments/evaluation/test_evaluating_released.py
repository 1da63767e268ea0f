"""A released-layout folder is evaluated and sampled from a file of prompts, as a run is."""

from __future__ import annotations

import json

from base_model.files.released import load_base, read_base
from base_model.sample import Sampler, generate
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
    assert cli.main([*line, "--stage", "sft"]) == 2 and "no run with stages" in capsys.readouterr().err
