"""Checkpoints are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.files import checkpoint
from base_model.files.checkpoint import MANIFEST, keep_last, latest, save_atomically, verify


def writing(text: str) -> Callable[[Path], None]:
    """Writes a file and a file in a folder."""

    def write(folder: Path) -> None:
        (folder / "weights.bin").write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "state.bin").write_text(text * 100)

    return write


def save(parent: Path, name: str, text: str = "") -> Path:
    save_atomically(parent / name, writing(text or name))
    return parent / name


def names(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir())


def test_what_was_written_is_there_with_its_hashes(tmp_path: Path) -> None:
    folder = save(tmp_path / "new" / "checkpoints", "step_1", "abc")
    assert (folder / "weights.bin").read_text() == "abc"
    assert (folder / "deep" / "state.bin").read_text() == "abc" * 100
    files = json.loads((folder / MANIFEST).read_text())["files"]
    sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc", FIPS 180-2
    assert files["weights.bin"] == {"bytes": 3, "sha256": sha}
    assert sorted(files) == ["deep/state.bin", "weights.bin"]
    verify(folder)


def truncate(folder: Path) -> None:
    path = folder / "deep" / "state.bin"
    path.write_bytes(path.read_bytes()[:-1])


def flip(folder: Path) -> None:
    path = folder / "deep" / "state.bin"
    path.write_bytes(b"#" + path.read_bytes()[1:])


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (truncate, "deep/state.bin has 599 bytes instead of 600"),
    (flip, "the content of deep/state.bin has changed"),
    (lambda folder: (folder / "weights.bin").unlink(), "weights.bin is missing"),
    (lambda folder: (folder / MANIFEST).unlink(), "manifest.json is missing"),
    (lambda folder: (folder / MANIFEST).write_text('{"order": 2, "fi'), "manifest.json cannot be read"),
    (lambda folder: (folder / MANIFEST).write_text("[]"), "manifest.json cannot be read"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damage_is_named_and_the_previous_one_used(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    save(tmp_path, "step_1")
    good = save(tmp_path, "step_2")
    damage(save(tmp_path, "step_3"))
    with pytest.raises(ValueError, match=f"step_3: {message}"):
        verify(tmp_path / "step_3")
    with pytest.warns(UserWarning, match=f"step_3: {message}"):
        assert latest(tmp_path) == good


def test_an_intact_parent_gives_no_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert latest(tmp_path / "nowhere") is None
        assert latest(tmp_path) is None
        assert save(tmp_path, "step_1") == latest(tmp_path)


def test_newest_is_the_one_written_last(tmp_path: Path) -> None:
    """Neither names nor clocks decide: a run that went back to step 2 and on is newest there."""
    for step in (2, 10, 9):
        folder = save(tmp_path, f"step_{step}")
        os.utime(folder, (1000 - step, 1000 - step))
        assert latest(tmp_path) == folder
    assert save(tmp_path, "step_2") == latest(tmp_path)


def test_without_contents_only_sizes_are_read(tmp_path: Path) -> None:
    folder = save(tmp_path, "step_1")
    flip(folder)
    verify(folder, contents=False)
    truncate(folder)
    with pytest.raises(ValueError, match="bytes instead of"):
        verify(folder, contents=False)


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_nothing(tmp_path: Path, stop: type[BaseException]) -> None:
    folder = save(tmp_path, "step_1", "old")

    def write(place: Path) -> None:
        (place / "weights.bin").write_text("new")
        raise stop("disk full")

    with pytest.raises(stop, match="disk full"):
        save_atomically(folder, write)
    with pytest.raises(stop):
        save_atomically(tmp_path / "step_2", write)
    assert names(tmp_path) == ["step_1"]
    assert (folder / "weights.bin").read_text() == "old"


def test_writing_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing was written into the checkpoint"):
        save_atomically(tmp_path / "step_1", lambda folder: None)
    assert names(tmp_path) == []


KILLED = """
import os, sys
from pathlib import Path
from base_model.files import checkpoint
folder, moment = Path(sys.argv[1]), sys.argv[2]
calls = []
def dying_replace(source, target, real=os.replace):
    calls.append(source)
    if f"rename {len(calls)}" == moment:
        os._exit(9)
    real(source, target)
    if f"after rename {len(calls)}" == moment:
        os._exit(9)
checkpoint.os.replace = dying_replace
def write(place):
    (place / "weights.bin").write_text("half")
    if moment == "write":
        os._exit(9)
    (place / "weights.bin").write_text("new")
checkpoint.save_atomically(folder, write)
"""


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("write", "old"),
        ("rename 1", "old"),  # before the old folder steps aside
        ("after rename 1", "old"),  # nothing stands at the name
        ("rename 2", "old"),
        ("after rename 2", "new"),  # the old folder is still aside
    ],
)
def test_a_process_killed_at_any_moment(tmp_path: Path, moment: str, left: str) -> None:
    """`os._exit` runs no cleanup, as a kill would; the folder is being replaced, the harder case."""
    folder = save(tmp_path, "step_1", "old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), moment], cwd=Path(__file__).parents[3])
    assert done.returncode == 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = latest(tmp_path)
    assert found is not None
    assert (found / "weights.bin").read_text() == left
    save(tmp_path, "step_2")  # the next save tidies up
    assert names(tmp_path) == ["step_1", "step_2"]
    assert (folder / "weights.bin").read_text() == left
    verify(folder)


def test_the_manifest_is_written_after_all_files_reached_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = checkpoint._sync

    def recorded(path: Path) -> None:
        synced.append(path.name)
        real(path)

    monkeypatch.setattr(checkpoint, "_sync", recorded)
    save(tmp_path, "step_1")
    assert sorted(synced[:3]) == ["deep", "state.bin", "weights.bin"]
    assert synced[3:] == [MANIFEST, ".step_1.writing", tmp_path.name]


def test_keep_last_counts_only_whole_ones(tmp_path: Path) -> None:
    for step in range(1, 6):
        save(tmp_path, f"step_{step}")
    truncate(tmp_path / "step_5")
    keep_last(tmp_path, 2)
    assert names(tmp_path) == ["step_3", "step_4", "step_5"]
    keep_last(tmp_path, 7)
    assert names(tmp_path) == ["step_3", "step_4", "step_5"]
    with pytest.raises(ValueError, match="k=0 would delete every checkpoint"):
        keep_last(tmp_path, 0)


def test_order_goes_on_after_old_ones_are_deleted(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, f"step_{step}")
        keep_last(tmp_path, 1)
    assert latest(tmp_path) == tmp_path / "step_3"
    assert save(tmp_path, "step_0") == latest(tmp_path)


def test_other_ranks_only_write(tmp_path: Path) -> None:
    """Rank 1 writes its file into the place that rank 0 made, and rank 0 seals both files."""

    def write_other(place: Path) -> None:
        (place / "rank_1.bin").write_text("b")

    def write(place: Path) -> None:
        (place / "rank_0.bin").write_text("a")
        save_atomically(tmp_path / "step_1", write_other, rank=1)

    save_atomically(tmp_path / "step_1", write)
    verify(tmp_path / "step_1")
    assert names(tmp_path / "step_1") == [MANIFEST, "rank_0.bin", "rank_1.bin"]


def test_what_was_hashed_while_it_was_written_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = checkpoint._sha256

    def counted(path: Path) -> str:
        read.append(path.name)
        return real(path)

    def write(place: Path) -> dict[str, str]:
        writing("abc")(place)
        return {"deep/state.bin": hashlib.sha256(b"abc" * 100).hexdigest()}

    monkeypatch.setattr(checkpoint, "_sha256", counted)
    save_atomically(tmp_path / "step_1", write)
    assert read == ["weights.bin"], "the other one was hashed already"
    verify(tmp_path / "step_1")
    flip(tmp_path / "step_1")
    with pytest.raises(ValueError, match=r"the content of deep/state.bin has changed"):
        verify(tmp_path / "step_1")


def test_an_engine_hashes_its_large_files_while_it_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = checkpoint._sha256

    def counted(path: Path) -> str:
        read.append(path.name)
        return real(path)

    module = torch.nn.Linear(300, 300)
    engine = LocalEngine(module, OptimConfig(steps=2, ema_decay=0.5))
    engine.update([torch.ones(2, 300)], lambda x: (engine.module(x).square().mean(), {}))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_sha256", counted)
        save_atomically(tmp_path / "step_1", engine.save)
    assert read == ["engine.json"]
    verify(tmp_path / "step_1")
    assert len(names(tmp_path / "step_1")) == 5
    other = LocalEngine(torch.nn.Linear(300, 300), OptimConfig(steps=2, ema_decay=0.5))
    other.load(tmp_path / "step_1")
    assert torch.equal(other.module.weight, module.weight)
