"""The mixture changes from an update that nobody has read yet, is logged, and is the same again after a resume."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from base_model.data.curriculum import Curriculum
from base_model.data.mixture import Mix, TaskStream
from base_model.data.stream import Stage, TextStream
from experiments.images.image_readers import Entry
from experiments.images.image_sources import ImageSources, OwnImages
from experiments.producers.changing_images import ChangingImages
from experiments.producers.mix import parts_of, weights_of, with_change
from experiments.producers.run_logs import MIX, Line

WORDS = TextStream(3, (Stage(0, (0.0, 1.0)), Stage(20, (1.0,))))


def change(step: int, *weights: float) -> Line:
    """A line of the log."""
    return {"from_step": step, "weights": {str(i): weight for i, weight in enumerate(weights)}}


def own(*sizes: int) -> OwnImages:
    """Folders of so many images, of which nothing is ever decoded."""
    folders = tuple(f"somewhere/{chr(97 + i)}" for i in range(len(sizes)))
    sources = tuple(
        tuple(Entry(f"{folder}/{i}", ("x",), Path("x"), "file") for i in range(count))
        for folder, count in zip(folders, sizes, strict=True)
    )
    return OwnImages(ImageSources(folders, weights=(1.0,) * len(sizes)), sources, (), 0, "f")


def shown(images: OwnImages, first: int, count: int) -> list[str]:
    return [next(images.candidates(index)).name for index in range(first, first + count)]


def test_parts_have_the_names_that_settings_give_them() -> None:
    assert parts_of(own(3, 4)) == ("somewhere/a", "somewhere/b") == parts_of(own(3, 4).settings)
    assert parts_of(own(3)) == () == parts_of(None)
    assert parts_of(TaskStream(WORDS)) == ("t2i", "i2i", "word", "ink", "place")
    assert parts_of(WORDS)[:2] == ("level0", "level1")


def test_weights_are_read_by_name_and_mistakes_are_named() -> None:
    parts = parts_of(own(1, 1))
    assert weights_of({"b": "3"}, parts) == (0.0, 3.0) == weights_of({"somewhere/b": 3}, parts)
    for wanted, message in (
        ({"c": 1}, "part of the mix 'c'"), ({"a": "many"}, "must be a number"), ({"a": -1, "b": 1}, "at least 0"),
        ({"a": 0}, "one above 0"), ([1, 2], "a weight for each of"), ({"a": "nan"}, "at least 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            weights_of(wanted, parts)


def test_own_images_change_their_weights_and_go_on_where_each_source_was() -> None:
    images = own(7, 30, 11)
    changed = with_change(with_change(images, change(100, 8.0, 2.0, 0.0), 16), change(170, 0.0, 1.0, 1.0), 16)
    assert changed.mixes == ((1600, (8.0, 2.0, 0.0)), (2720, (0.0, 1.0, 1.0)))
    assert shown(changed, 0, 1600) == shown(images, 0, 1600), "nothing changes before"
    counts = Counter(name.split("/")[1] for name in shown(changed, 1600, 1000))
    assert counts == {"a": 800, "b": 200}
    assert Counter(name.split("/")[1] for name in shown(changed, 2720, 1000)) == {"b": 500, "c": 500}
    every = shown(changed, 0, 5000)
    for source, size in zip("abc", (7, 30, 11), strict=True):
        names = [name for name in every if name.split("/")[1] == source]
        passes = [names[i : i + size] for i in range(0, len(names) - size, size)]
        assert all(len(set(one)) == size for one in passes), "each pass shows every image once, across changes"
    assert with_change(changed, change(100, 1.0, 0.0, 0.0), 16).mixes == ((1600, (1.0, 0.0, 0.0)),)


def test_streams_change_their_weights() -> None:
    changed = with_change(WORDS, change(8, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0), 16)
    assert [changed.scenes(7, 4), WORDS.scenes(7, 4)][0] == WORDS.scenes(7, 4)
    assert {len(scene.word) > 1 for scene in changed.scenes(8, 8)[0]} == {True} and changed.scenes(30, 2)[0][0].word
    progress = Curriculum(text=WORDS.progress.text, balance=((0, 0.0), (10, 1.0)), synthetic=((0, 0.0), (10, 0.5)))
    orders = TextStream(3, curriculum=progress)
    mixed = with_change(with_change(orders, change(8, 0.0, 0.0, 1.0), 16), change(16, 0.0, 0.0, 0.0, 0.0, 1.0), 16)
    assert mixed.progress.text == ((0, (0.0, 1.0)), (8, (0.0, 0.0, 1.0)), (16, (0.0, 0.0, 0.0, 0.0, 1.0)))
    assert replace(mixed.curriculum, text=()) == replace(progress, text=()), "all else goes on as it was"
    assert mixed.scenes(7, 4) == orders.scenes(7, 4) and mixed.scenes(8, 4) != orders.scenes(8, 4)
    tasks = with_change(TaskStream(WORDS, (Mix(0), Mix(40, ink=1.0))), change(8, 0.0, 1.0, 0.0, 0.0, 0.0), 16)
    assert tasks.mixes == (Mix(0), Mix(8, t2i=0.0, i2i=1.0))


def test_a_later_line_replaces_what_earlier_ones_said_of_its_updates(tmp_path: Path) -> None:
    log = [change(8, 1.0), change(40, 2.0), change(24, 3.0), change(32, 4.0)]
    for line in log:
        MIX.note(tmp_path, line)
    assert MIX.lines(tmp_path) == log
    at = {step: MIX.in_force(tmp_path, step) for step in (7, 8, 23, 24, 50)}
    assert at[7] == [] and at[8] == log[:1] == at[23]
    assert at[24] == [log[0], log[2]] and at[50] == [log[0], log[2], log[3]]


class Read:
    """Opens streams as they are, and notes which."""

    def __init__(self) -> None:
        self.opened: list[tuple[int, Any]] = []

    @contextlib.contextmanager
    def __call__(self, stream: Any, step: int) -> Iterator[Any]:
        self.opened.append((step, stream))
        yield stream


def images_of(folder: Path, steps: range, stream: Any = WORDS, is_first: bool = True, read: Any = None) -> list[Any]:
    with ChangingImages(folder, stream, read or Read(), is_first) as data:
        return [data.images(step, 2) for step in steps]


def test_a_file_edited_while_a_run_goes_on_holds_from_an_update_that_was_not_read(tmp_path: Path) -> None:
    read = Read()
    with ChangingImages(tmp_path, WORDS, read) as data:
        whole = [data.images(step, 2) for step in range(3)]
        (tmp_path / "mix.json").write_text('{"level2": 1}')
        whole += [data.images(step, 2) for step in range(3, 24)]
    (line,) = [json.loads(line) for line in (tmp_path / "mix.jsonl").read_text().splitlines()]
    assert line["from_step"] == 16 and line["weights"]["level2"] == 1.0, "found at 8, and 8 was read already"
    assert [step for step, _ in read.opened] == [0, 16]
    changed = with_change(WORDS, change(16, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0), 2)
    assert all(torch.equal(whole[step], changed.images(step, 2)) for step in range(24))
    assert not torch.equal(whole[16], WORDS.images(16, 2))
    for start in (5, 15, 16, 20):  # a run that goes on from there, also on a rank that writes no log
        for is_first in (True, False):
            again = images_of(tmp_path, range(start, 24), is_first=is_first)
            assert all(torch.equal(*pair) for pair in zip(again, whole[start:], strict=True)), start
    assert len(MIX.lines(tmp_path)) == 1, "what is wanted holds already"


def test_only_the_first_rank_writes_and_what_cannot_be_is_said_once(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mix.json").write_text('{"level2": 1}')
    images_of(tmp_path, range(9), is_first=False)
    assert not (tmp_path / "mix.jsonl").exists()
    for wrong in ('{"level2"', '{"level9": 1}'):
        (tmp_path / "mix.json").write_text(wrong)
        images_of(tmp_path, range(20))
        assert capsys.readouterr().err.count("is not followed") == 1
    assert not (tmp_path / "mix.jsonl").exists()
    assert replace(WORDS).images(19, 2).shape  # and the run went on
