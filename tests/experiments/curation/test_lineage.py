"""From an update of a run to the seed, the index and the file of each of its samples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from base_model.data.mixture import Mix, TaskStream
from base_model.data.stream import TextStream
from experiments.cli import main
from experiments.configs import nano
from experiments.experiment import Experiment
from experiments.images.image_sources import ImageSources, OwnImages
from experiments.producers.changing_images import stream_at
from experiments.training import own_images
from experiments.training.runner import open_record

SMALL = replace(nano.pretrain, algorithm=replace(nano.pretrain.algorithm, steps=40, batch=4, micro=4))


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    capsys.readouterr()
    assert main(["lineage", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def test_rendered_samples_have_a_seed_and_an_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    open_record(SMALL, run, None)
    stream = SMALL.data
    assert isinstance(stream, TextStream)
    lines = shown(capsys, run, 20)
    assert [line for line in lines if line.startswith("sample")] == [
        f"sample {i}: {caption!r}" for i, caption in enumerate(stream.scenes(20, 4)[1])
    ]
    assert "index 83, update 20" in lines[-1] and f"seed {stream.seed}" in lines[-1]
    (run / "mix.jsonl").write_text('{"from_step": 16, "weights": {"level0": 1, "level1": 0}}\n')
    changed = stream_at(run, stream, 20, 4)
    assert shown(capsys, run, 20, 2)[0] == f"sample 2: {changed.scenes(20, 4)[1][2]!r}" != lines[6]
    (run / "generations.jsonl").write_text('{"from_step": 0, "data": "abc", "encoder": "def", "batches": 8}\n')
    assert shown(capsys, run, 20)[0] == "shard 2, made ahead of data abc by encoder def"
    assert shown(capsys, run, 20, 7, "--ranks", 2)[-1].split("index ")[1].startswith("167,"), "the second rank's last"


def test_tasks_say_what_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(SMALL.data, TextStream)
    tasks = TaskStream(SMALL.data, (Mix(0, t2i=0.0, ink=1.0),))
    open_record(replace(SMALL, data=tasks), tmp_path / "run", None)
    lines = shown(capsys, tmp_path / "run", 1)
    assert [line.split(": ", 1)[1] for line in lines[::2]] == [repr(each.text) for each in tasks.examples(1, 4)]


def own(folder: Path, run: Path) -> OwnImages:
    """A run on a folder that looks like a written one."""
    images = folder / "images" / "00000"
    images.mkdir(parents=True)
    rows = []
    for i in range(3):
        Image.new("RGB", (64, 64), (i, 0, 0)).save(images / f"{i}.png")
        rows.append({"file_name": f"images/00000/{i}.png", "text": [f"a page {i}"], "kind": "pure", "language": "en",
                     "seed": 5, "index": i, "license": "mine" if i else "CC0"})  # fmt: skip
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "writing.json").write_text("{}")
    experiment: Experiment = replace(SMALL, base="somewhere", data=ImageSources((str(folder),)))
    opened = own_images.usable_images(experiment, None)
    open_record(experiment, run, None, own_images.facts(opened, run))
    return opened


def test_written_images_have_their_seed_and_index_and_own_ones_their_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    images = own(tmp_path / "written", run)
    lines = shown(capsys, run, 2)
    assert len(lines) == 12 and all("written by seed 5, index " in line for line in lines[2::3])
    entry = next(images.candidates(10))
    in_full = "\n".join(shown(capsys, run, 2, 2))
    assert entry.captions[0] in in_full and f"index {entry.name[-5]}" in in_full and "writing.json" in in_full
    assert ("licence CC0" in in_full) == entry.name.endswith("0.png")
    (tmp_path / "written" / "captions.jsonl").unlink()
    for i in range(3):
        (tmp_path / "written" / "images" / "00000" / f"{i}.txt").write_text("other")
    assert main(["lineage", str(run), "2"]) == 2
    assert "changed since" in capsys.readouterr().err
    for arguments, message in (([run, 40], "update=40 must be from 0 to 39"), ([run, 2, 4], "sample=4 must be from 0")):
        assert main(["lineage", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
