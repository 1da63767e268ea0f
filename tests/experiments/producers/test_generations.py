"""The images of a run grow, or are replaced, from an update that nobody has read yet, and are the same ones again."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from base_model.data.stream import stream_indices
from experiments.cli import main
from experiments.configs import nano
from experiments.experiment import Experiment
from experiments.images.image_sources import ImageSources, OwnImages
from experiments.producers.batch_sources import described
from experiments.producers.changing_images import ChangingImages, stream_at
from experiments.producers.run_logs import GENERATIONS
from experiments.record.record import read_run
from experiments.training import own_images
from experiments.training.other_images import tell_changes
from experiments.training.runner import open_record

STEPS, SIZE = 64, 4
NANO = replace(nano.pretrain, algorithm=replace(nano.pretrain.algorithm, steps=STEPS, batch=SIZE, micro=SIZE))


def write(folder: Path, *numbers: int) -> Path:
    """Grounds of colours of their own, with captions."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        Image.new("RGB", (40, 40), (number, 0, 0)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"ground {chr(97 + number % 26)}")
    return folder


def begun(run: Path, *folders: Path, **settings: Any) -> tuple[Experiment, OwnImages]:
    """A run that was opened, on these folders, with an encoder of the name `mine`."""
    experiment = replace(NANO, data=ImageSources(tuple(map(str, folders)), **settings))
    images = own_images.opened(experiment, run, None)
    assert images is not None
    open_record(experiment, run, None, own_images.facts(images, run))
    return experiment, own_images.as_logged(images, experiment, run, "mine")


class Names:
    """Images by their names, in the place of latents."""

    def __init__(self, stream: OwnImages) -> None:
        self._stream = stream

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> list[str]:
        return [Path(next(self._stream.candidates(i)).name).stem for i in stream_indices(step, size, rank, ranks)]


@contextlib.contextmanager
def opened(stream: Any, step: int) -> Iterator[Names]:
    yield Names(stream)


def reading(run: Path, images: OwnImages, **more: Any) -> ChangingImages:
    return ChangingImages(run, images, opened, encoder="mine", **more)


def names(run: Path, images: OwnImages, steps: range, ranks: int = 1, is_first: bool = True) -> list[list[str]]:
    """What all ranks read at updates of `SIZE` samples, each with a reader of its own."""
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(reading(run, images, is_first=is_first and not rank)) for rank in range(ranks)]
        each: list[list[Any]] = [
            [reader.batch(step, SIZE // ranks, rank, ranks) for rank, reader in enumerate(readers)] for step in steps
        ]
    return [[name for part in parts for name in part] for parts in each]


def asked(capsys: pytest.CaptureFixture[str], code: int, *line: object) -> str:
    """What `glyphlab mix` says."""
    capsys.readouterr()
    assert main(["mix", *map(str, line)]) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


def test_images_added_while_a_run_goes_on_are_read_from_an_update_that_was_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder = tmp_path / "run", write(tmp_path / "images", *range(10))
    experiment, images = begun(run, folder)
    alone = names(run, images, range(40))
    with reading(run, images) as data:
        whole: list[Any] = [data.batch(step, SIZE) for step in range(3)]
        write(folder, 10, 11, 12)
        out = asked(capsys, 0, run, "--grow")
        assert "3 new images, 13 images with 13 captions in all" in out and "generations.jsonl" in out
        whole += [data.batch(step, SIZE) for step in range(3, 40)]
    line = GENERATIONS.lines(run)[1]
    assert line["from_step"] == 16 and line["encoder"] == "mine" and (run / line["list"]).is_file()
    assert whole[:16] == alone[:16] and {name for step in whole[16:] for name in step} == {*map(str, range(13))}
    flat = [name for step in whole for name in step]
    assert sorted(flat[64:73]) == sorted({*map(str, range(13))} - {*flat[60:64]}), "the pass is ended first"
    write(folder, 13)  # nobody asks for it
    for ranks in (1, 2, 4):
        for start in (0, 5, 15, 16, 20):
            assert names(run, images, range(start, 40), ranks, is_first=start > 5) == whole[start:], (ranks, start)
    assert asked(capsys, 0, run).splitlines() == [
        f"from update 0: 10 images with 10 captions, {GENERATIONS.lines(run)[0]['list']}",
        f"from update 16: 13 images with 13 captions, {line['list']}",
    ]
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(run / "generations.jsonl", again)
    shutil.copytree(run / "generations", again / "generations")
    assert names(again, begun(again, folder)[1], range(40)) == whole, "a run that begins with the logs of another"
    assert len(GENERATIONS.lines(again)) == 2 and read_run(again).config["own_images"]["images"] == 10
    capsys.readouterr()
    tell_changes(experiment, run, None)
    assert "have 1 new images beside what it reads" in capsys.readouterr().err
    stream = stream_at(run, images, 20, SIZE)
    assert Names(stream).batch(20, SIZE) == whole[20] and len(stream.captions) == 13
    assert described(stream) != described(stream_at(run, images, 15, SIZE)) == described(images), "other shards"


def test_folders_are_added_to_their_part_and_take_the_place_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, a, b = tmp_path / "run", write(tmp_path / "a", 0, 1), write(tmp_path / "b", 2, 3)
    _, images = begun(run, a, b, weights=(1.0, 1.0))
    d = write(tmp_path / "c", 4, 5) and write(tmp_path / "d", 1, 6)
    monkeypatch.chdir(tmp_path)
    assert "part of the run 'c'" in asked(capsys, 2, run, "--grow", "c")
    assert "2 new images" in asked(capsys, 0, run, "a=1", "b=3", "--grow", "b=c", "--from-update", "24")
    assert "3 new images" in asked(capsys, 0, run, "--grow", f"{a}={d}", "--from-update", "24"), "the first one stays"
    assert "nothing is new" in asked(capsys, 0, run, "--grow")
    assert len(asked(capsys, 0, run, "a=1", "b=3", "--grow", "--from-update", "24").splitlines()) == 2
    assert "from update 32 on" in asked(capsys, 0, run, "--grow", "--from-update", "32")
    assert "from update 24 on" in asked(capsys, 0, run, "--grow", "--from-update", "24")
    read = names(run, images, range(40))
    assert [line["from_step"] for line in GENERATIONS.lines(run)] == [0, 24]
    assert json.loads((run / "mix.jsonl").read_text())["from_step"] == 24
    by_part = [[name for step in read[24:] for name in step if name in part] for part in ("016", "2345")]
    assert {*by_part[0]} == {*"016"} and {*by_part[1]} == {*"2345"} and len(by_part[1]) > 1.5 * len(by_part[0])
    assert {name for step in read[:24] for name in step} == {*"0123"}
    assert "2 new images, 5 left out, 4 images" in asked(
        capsys, 0, run, "--replace", f"b={write(tmp_path / 'e', 7, 8)}", "a=c"
    )
    assert {name for step in names(run, images, range(30, 64))[10:] for name in step} == {*"4578"}
    assert "3 images with 3 captions" not in asked(capsys, 0, run).splitlines()[-1]


def test_what_cannot_be_is_named_and_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, folder = tmp_path / "run", write(tmp_path / "images", *range(6))
    experiment, images = begun(run, folder)
    for update, message in (("12", "such as 16"), ("0", "take 8 or a later"), ("64", "ends with update 63")):
        assert message in asked(capsys, 2, run, "--grow", "--from-update", update)
    assert "there is nothing to mix" in asked(capsys, 2, run, "images=1")
    (folder / "0.txt").unlink()
    assert "cannot be used" in asked(capsys, 2, run, "--grow")
    write(folder, 0)
    (folder / "1.png").rename(tmp_path / "1.png")
    assert "1 images of" in (error := asked(capsys, 2, run, "--grow")) and "1.png is not there" in error
    Image.new("RGB", (40, 40), "white").save(folder / "1.png")
    assert "1.png is another image now" in asked(capsys, 2, run, "--grow")
    with pytest.raises(ValueError, match=r"changed since the run .*1.png is another image now"):
        own_images.require_there(run, experiment.data, 0)  # type: ignore[arg-type]
    edits = write(tmp_path / "edits", 9, 10)
    (edits / "9.png").rename(edits / "10_source.png")
    (edits / "9.txt").unlink()
    (tmp_path / "1.png").replace(folder / "1.png")
    assert "the new ones are edits of others" in asked(capsys, 2, run, "--grow", edits)
    (folder / "1.png").rename(tmp_path / "1.png")
    Image.new("RGB", (40, 40), "white").save(folder / "1.png")
    more = write(tmp_path / "more", 7, 8)
    assert "images that are still due are gone" in (error := asked(capsys, 2, run, "--replace", more))
    assert "1.png is another image now" in error
    (tmp_path / "1.png").rename(folder / "1.png")
    asked(capsys, 0, run, "--replace", more)
    wanted = json.loads((run / "images.json").read_text())
    (folder / "2.png").rename(tmp_path / "2.png")
    assert "images that are still due are gone" in asked(capsys, 2, run, "--replace", more)
    changed = tmp_path / "changed.jsonl"
    changed.write_text((run / wanted["list"]).read_text().replace("ground", "place"))
    for what, message in (
        (wanted, "images that are still due are gone"), ({**wanted, "list": str(changed)}, "was changed: its SHA-256"),
        ({**wanted, "list": "generations/none.jsonl"}, "is not there; put it back"), ({}, "a manifest and a list"),
        ({**wanted, "encoder": "other"}, "encoded by other"), ({**wanted, "from_step": 24.5}, "must be a multiple"),
    ):  # fmt: skip
        if what is not wanted:
            write(folder, 2)
        (run / "images.json").write_text(json.dumps(what))
        assert {name for step in names(run, images, range(20)) for name in step} == {*"012345"}
        assert capsys.readouterr().err.count("is not followed") == 1 and len(GENERATIONS.lines(run)) == 1
        with reading(run, images) as data, contextlib.suppress(ValueError):
            data._take(8)
        assert message in capsys.readouterr().err
    (run / "images.json").write_text(json.dumps(wanted))
    (more / "7.png").unlink()
    names(run, images, range(9))
    assert "7.png is not there; put them back" in capsys.readouterr().err


def test_an_update_that_was_read_is_refused_whoever_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder = tmp_path / "run", write(tmp_path / "images", *range(6))
    _, images = begun(run, folder)
    write(folder, 6)
    asked(capsys, 0, run, "--grow", "--from-update", "8")
    names(run, images, range(16, 24))
    assert "updates before 24 read is decided" in capsys.readouterr().err and len(GENERATIONS.lines(run)) == 1
    for update in (4, 20):
        (run / "checkpoints" / f"update_{update:06d}").mkdir(parents=True)
    assert "take 24 or a later" in asked(capsys, 2, run, "--grow", "--from-update", "16")
    names(run, images, range(16))
    assert [line["from_step"] for line in GENERATIONS.lines(run)] == [0, 8]
    names(run, images, range(16, 40))
    assert capsys.readouterr().err == "", "what is noted is not asked for again"


def test_a_log_of_another_encoder_is_refused(tmp_path: Path) -> None:
    run, folder = tmp_path / "run", write(tmp_path / "images", 0, 1)
    experiment, images = begun(run, folder)
    assert own_images.as_logged(images, experiment, run, "other").fingerprint == images.fingerprint, "nothing was done"
    (run / "metrics.jsonl").write_text('{"step": 0, "loss": 1.0, "seconds": 1.0}\n')
    with pytest.raises(ValueError, match=r"encoded by other\.\.\., and this model's encoder is mine"):
        own_images.as_logged(images, experiment, run, "mine")


def test_captions_that_nothing_can_encode_any_more_wait_for_a_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder = tmp_path / "run", write(tmp_path / "images", *range(3))
    _, images = begun(run, folder)
    write(folder, 3)
    asked(capsys, 0, run, "--grow")

    def encode(captions: Any) -> None:
        assert list(captions) == ["ground d"]
        raise ValueError("let go")

    with reading(run, images, encode=encode) as data:
        for step in range(20):
            data.batch(step, SIZE)
    captions: list[Any] = []
    with reading(run, images, encode=lambda texts: captions.append(texts)) as data:
        (run / "images.json").rename(tmp_path / "images.json")
        data.batch(0, SIZE)
        (tmp_path / "images.json").rename(run / "images.json")
        data.batch(8, SIZE)
        (run / "generations.jsonl").write_text((run / "generations.jsonl").read_text().splitlines()[0] + "\n")
        for step in range(16, 40):
            data.batch(step, SIZE)
    assert captions == [["ground d"]], "what was taken is not looked at again"
    assert "is not followed: let go" in capsys.readouterr().err and len(GENERATIONS.lines(run)) == 1
    assert own_images.captions_ahead(images, run) == [f"ground {letter}" for letter in "abcd"]


def test_rendered_images_have_no_folder_to_add_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_record(NANO, tmp_path / "run", None)
    assert "learns from rendered images" in asked(capsys, 2, tmp_path / "run", "--grow", "somewhere")
    assert asked(capsys, 0, tmp_path / "run").startswith("parts: level0")
