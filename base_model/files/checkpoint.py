"""Checkpoints that are whole or not there.

A checkpoint is a folder. It is written under a hidden name beside its place, every file is flushed to the disk, a
manifest with the SHA-256 of every file is written last, and one rename puts it in place. A process that dies at any
moment leaves the previous checkpoints as they were. With several processes, all write and rank 0 does the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

MANIFEST = "manifest.json"
_WRITING = ".writing"
_REPLACED = ".replaced"


def save_atomically(folder: Path, write: Callable[[Path], Mapping[str, str] | None], rank: int = 0) -> None:
    """Call `write` with an empty folder and put the result at `folder`, replacing what was there.

    `write` may return the SHA-256 of files that it hashed while it wrote them, by their paths in the folder; the others
    are read again for theirs. Large files should be hashed so: the other processes wait meanwhile.
    With several processes call it on every rank: `write` must then meet a barrier at its start and its end, as
    `Engine.save` does, so that rank 0 clears the place before and publishes it after all have written. A folder must
    have one writer. Raises ValueError if nothing was written; whatever `write` raises passes through.
    """
    parent, target = folder.parent, _hidden(folder, _WRITING)
    if rank:
        write(target)
        return
    parent.mkdir(parents=True, exist_ok=True)
    _recover(parent)
    target.mkdir()
    try:
        known = write(target) or {}
        _seal(target, known, order=1 + max((_order(path) or 0 for path in _folders(parent)), default=0))
        _publish(target, folder)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def verify(folder: Path, contents: bool = True) -> None:
    """Raises ValueError saying what is wrong. Without `contents` only presence and sizes are compared."""
    for name, entry in _read_manifest(folder)["files"].items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{folder}: {name} is missing")
        if path.stat().st_size != entry["bytes"]:
            raise ValueError(f"{folder}: {name} has {path.stat().st_size} bytes instead of {entry['bytes']}")
        if contents and _sha256(path) != entry["sha256"]:
            raise ValueError(f"{folder}: the content of {name} has changed since it was written (SHA-256 differs)")


def latest(parent: Path) -> Path | None:
    """The checkpoint written last among the intact ones. Warns about every damaged one that it passes over."""
    for folder in sorted(_folders(parent), key=_age, reverse=True):
        try:
            verify(folder)
        except (ValueError, OSError) as error:
            warnings.warn(f"damaged checkpoint skipped: {error}", stacklevel=2)
        else:
            return folder
    return None


def keep_last(parent: Path, k: int) -> None:
    """Delete all but the `k` checkpoints written last. Damaged ones do not count and are left to be looked at."""
    if k < 1:
        raise ValueError(f"keep_last: k={k} would delete every checkpoint; it must be at least 1")
    whole = []
    for folder in _folders(parent):
        try:
            verify(folder, contents=False)
        except (ValueError, OSError):
            continue
        whole.append(folder)
    for folder in sorted(whole, key=_age)[:-k]:
        # the manifest goes first: a deletion cut short leaves a folder that no reader takes for a checkpoint
        (folder / MANIFEST).unlink()
        shutil.rmtree(folder)


def _seal(folder: Path, known: Mapping[str, str], order: int) -> None:
    """Flush every file, then write the manifest. `known` are hashes by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise ValueError(f"nothing was written into the checkpoint {folder}")
    entries = {}
    for path in files:
        _sync(path)
        name = path.relative_to(folder).as_posix()
        entries[name] = {"bytes": path.stat().st_size, "sha256": known.get(name) or _sha256(path)}
    for path in folder.rglob("*"):
        if path.is_dir():
            _sync(path)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"order": order, "files": entries}, indent=1) + "\n")
    _sync(manifest)
    _sync(folder)


def _publish(path: Path, folder: Path) -> None:
    """One rename; an older folder of that name steps aside first and is deleted after."""
    side_path = _hidden(folder, _REPLACED)
    if folder.exists():
        os.replace(folder, side_path)
    os.replace(path, folder)
    _sync(folder.parent)
    shutil.rmtree(side_path, ignore_errors=True)


def _recover(parent: Path) -> None:
    """Undo what a process that died here left behind."""
    for path in parent.glob(f".*{_REPLACED}"):
        folder = parent / path.name[1 : -len(_REPLACED)]
        if folder.exists():
            shutil.rmtree(path)
        else:  # died between the two renames of `_publish`
            os.replace(path, folder)
    for path in parent.glob(f".*{_WRITING}"):
        shutil.rmtree(path)


def _hidden(folder: Path, ending: str) -> Path:
    return folder.parent / f".{folder.name}{ending}"


def _folders(parent: Path) -> Iterator[Path]:
    """Every published folder, and one that `_publish` had moved aside when it died."""
    if not parent.is_dir():
        return
    for path in parent.iterdir():
        is_replaced = path.name.endswith(_REPLACED) and not (parent / path.name[1 : -len(_REPLACED)]).exists()
        if path.is_dir() and (is_replaced or not path.name.startswith(".")):
            yield path


def _read_manifest(folder: Path) -> dict:
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder}: {MANIFEST} is missing, so the checkpoint was never finished")
    try:
        manifest = json.loads(path.read_text())
        return {"order": int(manifest["order"]), "files": dict(manifest["files"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: {MANIFEST} cannot be read ({error})") from error


def _order(folder: Path) -> int | None:
    """How many checkpoints of its parent came before it; None if it cannot be told. Clocks and names play no part."""
    try:
        return _read_manifest(folder)["order"]
    except (ValueError, OSError):
        return None


def _age(folder: Path) -> tuple[bool, int, str]:
    """Sorts old to new; what has no readable manifest counts as newest, so that `latest` meets it and warns."""
    order = _order(folder)
    return order is None, order or 0, folder.name


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
