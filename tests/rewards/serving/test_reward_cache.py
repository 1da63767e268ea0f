from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from preference_data.pixels import pixel_hash, to_float, to_uint8
from rewards.serving.cache import ScoreFile, identity
from rewards.text.ocr import Ocr


@dataclass(frozen=True)
class Mean:
    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ()
    strength: float = 1.0

    def load(self, device: str = "cpu") -> Any:
        raise NotImplementedError


def test_the_hash_depends_on_pixels_and_shape() -> None:
    image = to_float(np.random.default_rng(0).integers(0, 256, (3, 8, 12), dtype=np.uint8))
    assert pixel_hash(image) == pixel_hash(to_uint8(image))
    assert pixel_hash(image) != pixel_hash(image.transpose(0, 2, 1))
    assert pixel_hash(np.zeros((3, 2, 6))) != pixel_hash(np.zeros((3, 6, 2)))


def test_name_version_and_settings_keep_scores_apart(tmp_path: Path) -> None:
    class Newer(Mean):
        version: ClassVar[int] = 2

    names = [identity("mean", reward) for reward in (Mean(), Newer(), Mean(0.5))] + [identity("other", Mean())]
    assert len(set(names)) == 4 and identity("mean", Mean()) == names[0]
    assert identity("ocr", Ocr()) != identity("ocr", Ocr(ignore_case=False))
    with ScoreFile(tmp_path / "scores.sqlite") as file:
        for value, name in enumerate(names):
            file.keep(name, [("key", float(value), 1.0, 1)])
        assert [file.known(name) for name in names] == [{"key": float(value)} for value in range(4)]


def test_the_file_gives_the_same_bits_to_another_run(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scores.sqlite"
    with ScoreFile(path) as first, ScoreFile(path) as second:  # while the first is still open
        first.keep("mean v1", [("a", 1 / 3, 4.0, 1), ("b", 5e-324, 2.0, 8)])
        assert second.known("mean v1") == {"a": 1 / 3, "b": 5e-324}
        assert second.times("mean v1") == ([4.0], [2.0])


def test_all_rows_of_a_call_are_kept_or_none(tmp_path: Path) -> None:
    with ScoreFile(tmp_path / "scores.sqlite") as file:
        with pytest.raises(TypeError):
            file.keep("mean v1", [("a", 1.0, 1.0, 1), ("b", object(), 1.0, 1)])  # type: ignore[list-item]
        assert file.known("mean v1") == {}


def test_scores_that_were_kept_with_their_parts_are_known(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    with ScoreFile(path) as file:
        file.keep("mean v1", [("b", 0.25, 0.0, 1)])
    with closing(sqlite3.connect(path)) as old, old:
        row = ("mean v1", "a", json.dumps({"": 0.5, "double": 1.0}), 2.0, 1)
        old.execute("INSERT INTO judged VALUES (?, ?, ?, ?, ?)", row)
    with ScoreFile(path) as file:
        assert file.known("mean v1") == {"a": 0.5, "b": 0.25}


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    path.write_text("this is a note, not a database, and it is long enough to be looked at")
    with pytest.raises(ValueError, match=r"scores\.sqlite is not a readable score cache"):
        ScoreFile(path)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as file:
        file.execute("CREATE TABLE judged (something TEXT)")
    with pytest.raises(ValueError, match=r"other\.sqlite"):
        ScoreFile(other)
