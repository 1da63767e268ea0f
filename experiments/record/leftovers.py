"""What a command leaves that failed before it did anything: nothing that would be in the way of the next try.

Work that is worth keeping is never removed: a run with an update in its metrics, sampled pairs, encoded texts.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from preference_data.spelling import not_there

RUN, METRICS, LOCK = "run.json", "metrics.jsonl", ".lock"
EMBEDDINGS = "embeddings"
"""Encoded texts: a run makes them before its first update, which may take long, and again where they are missing."""
LOGS = ("mix.jsonl", "generations.jsonl", "generations")
"""What says which images a run reads: a new run may begin with those of another one."""
SCAFFOLD = (RUN, "report.html", "memory.json", "encoder.safetensors", "shards.jsonl", "mix.json", "images.json", *LOGS)
"""What is quickly made before the first update."""
INSTALLED = ("pairs.jsonl", "comparisons.jsonl", "pictures", "latents.safetensors")
"""What `train --pairs` copies into a run's folder. A run that makes its pairs itself has them under the same names."""


def not_a_run(folder: Path) -> str:
    """The words about a folder that is not a run's: it is not there, or has no record."""
    if not folder.exists():
        return not_there("folder", folder)
    return f"{folder} is not a run: it has no {RUN}; name the folder of a run, such as runs/quickstart"


def is_foreign(path: Path) -> bool:
    """Whether a file would make its folder something else than that of a new run."""
    return not path.name.startswith(".") and path.name not in LOGS


def is_locked(folder: Path) -> bool:
    """Whether a process is working in the folder."""
    try:
        with (folder / LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def nothing_recorded(folder: Path, also: Collection[str] = ()) -> bool:
    """Whether nobody works in the folder and it holds no work, nor do the runs inside it.

    `also` are names of files and folders that count as no work either.
    """
    if is_locked(folder):
        return False
    return all(_is_no_work(path, also) for path in folder.iterdir())


def _is_no_work(path: Path, also: Collection[str]) -> bool:
    if path.name.startswith(".") or path.name in SCAFFOLD or path.name in also:
        return True
    if path.name == METRICS:
        return b"\n" not in path.read_bytes()
    return path.is_dir() and ((path / RUN).exists() or not any(path.iterdir())) and nothing_recorded(path, also)


@contextlib.contextmanager
def removed_on_error(folder: Path, holds_no_work: Callable[[Path], bool] = nothing_recorded) -> Iterator[None]:
    """Remove `folder` again where the work in it fails, if it was not there before and holds no work; the folders
    around it too, where they were made for it.

    A folder that was there and empty stays, empty. After Ctrl-C all stays, for whoever wants to go on.
    """
    there = folder.exists()
    around = [each for each in folder.parents if not each.exists()]
    began_empty = not there or (folder.is_dir() and not any(folder.iterdir()))
    try:
        yield
    except Exception:
        if began_empty and folder.is_dir() and holds_no_work(folder):
            _remove(folder, there)
        with contextlib.suppress(OSError):  # one that holds something stays
            for each in around:
                each.rmdir()
        raise


def _remove(folder: Path, inside_only: bool) -> None:
    for path in folder.iterdir() if inside_only else (folder,):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
