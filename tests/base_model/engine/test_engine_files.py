"""Tensors written one at a time are a file that safetensors' own reader takes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from base_model.engine import engine_files
from base_model.engine.engine_files import (
    DTYPES,
    HashingFile,
    like,
    read_one_by_one,
    write_object,
    write_one_by_one,
    write_tensors,
)


def some_of_every_type() -> dict[str, torch.Tensor]:
    """Odd sizes, a number, nothing, a transposed view: what could shift all that follows."""
    random = torch.Generator().manual_seed(0)
    made = {str(dtype): (100 * torch.rand(3, 5, generator=random)).to(dtype) for dtype in DTYPES}
    turned = torch.rand(4, 3, generator=random).T
    return (
        {"flag": torch.ones(3, dtype=torch.bool)}
        | made
        | {"one": torch.tensor(2.5), "none": torch.zeros(0, 7), "turned": turned}
    )


def test_the_file_is_read_by_safetensors(tmp_path: Path) -> None:
    tensors = some_of_every_type()
    layout = {name: like(tuple(x.shape), x.dtype) for name, x in tensors.items()}
    write_one_by_one(tmp_path / "file", layout, tensors.__getitem__, writes=True)
    for read in (load_file(tmp_path / "file"), dict(read_one_by_one(tmp_path / "file"))):
        assert read.keys() == tensors.keys()
        assert all(read[name].dtype == x.dtype and torch.equal(read[name], x) for name, x in tensors.items())


def test_one_tensor_at_a_time_is_made_and_dropped_where_nothing_is_written(tmp_path: Path) -> None:
    made: list[str] = []
    layout = {"a": like((2,)), "b": like((3,))}
    write_one_by_one(
        tmp_path / "file", layout, lambda name: made.append(name) or torch.zeros(layout[name].shape), False
    )
    assert made == ["a", "b"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(2, dtype=torch.bfloat16)])
def test_what_is_not_as_laid_out_is_refused(wrong: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a became torch"):
        write_one_by_one(tmp_path / "file", {"a": like((2,))}, lambda _: wrong, writes=True)


@pytest.mark.parametrize("write", [write_tensors, write_object])
def test_the_hash_is_that_of_the_file(tmp_path: Path, write: Callable[[Path, dict[str, torch.Tensor]], str]) -> None:
    """Also of pieces so large that hashing runs beside writing, and of a caller that uses one buffer again."""
    tensors = {**some_of_every_type(), "large": torch.arange(3_000_000.0)}
    assert write(tmp_path / "file", tensors) == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()


def test_a_piece_may_be_changed_as_soon_as_it_is_written(tmp_path: Path) -> None:
    piece = bytearray(50_000_000)
    with HashingFile(tmp_path / "file") as file:
        for value in (1, 2):
            piece[-1] = value
            file.write(piece)
            piece[-1] = 0
    assert file.sha256 == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()


def test_nothing_is_hashed_where_nothing_is_written(tmp_path: Path) -> None:
    assert write_one_by_one(tmp_path / "file", {"a": like((2,))}, lambda _: torch.zeros(2), writes=False) == ""


def test_a_file_is_flushed_to_the_disk_as_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk does not have yet stays small, so that nobody waits long for its end."""
    on_disk: list[int] = []
    monkeypatch.setattr(engine_files, "UNFLUSHED", 1000)
    monkeypatch.setattr(os, "fsync", lambda number: on_disk.append(os.fstat(number).st_size))
    layout = {f"{i:02d}": like((100,)) for i in range(20)}
    write_one_by_one(tmp_path / "file", layout, lambda name: torch.zeros(100), writes=True)
    gaps = [after - before for before, after in pairwise([0, *on_disk])]
    assert on_disk[-1] == (tmp_path / "file").stat().st_size > 8000
    assert max(gaps) < 1000 + 2 * 400 + 2000 and len(gaps) >= 4
