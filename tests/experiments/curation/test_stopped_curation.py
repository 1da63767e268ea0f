"""A curation that is killed, or done by several processes, leaves the bytes of one that was not."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.experiments.curation.images_to_curate import write_images_to_curate

ROOT = Path(__file__).parents[3]
SMALL = (
    "from experiments.curation import curated_folder as c; c.SHARD = 4; from experiments.cli import main; import sys; "
)


def command(source: Path, out: Path, processes: int = 1) -> list[str]:
    line = ["curate", str(source), "-o", str(out), "--processes", str(processes), "--set", "reading=no"]
    return [sys.executable, "-c", f"{SMALL}\nif __name__ == '__main__': sys.exit(main({line!r}))"]


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_killed_anywhere_and_run_again_it_leaves_the_same_bytes(tmp_path: Path) -> None:
    write_images_to_curate(tmp_path / "images")
    done = subprocess.run(command(tmp_path / "images", tmp_path / "whole"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = content(tmp_path / "whole")
    stages = (".curation/entries/00002.parquet", ".curation/quality/00001.json", ".curation/quality/00006.parquet",
              "images/00001", ".curation/codes/00004.parquet", ".curation/decisions.parquet")  # fmt: skip
    for number, sign in enumerate(stages):
        out = tmp_path / f"killed{number}"
        process = subprocess.Popen(command(tmp_path / "images", out), cwd=ROOT, stderr=subprocess.DEVNULL)
        while not (out / sign).exists() and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert ((out / sign).exists() and "captions.jsonl" not in content(out)) or sign == stages[-1], sign
        done = subprocess.run(command(tmp_path / "images", out), cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and content(out) == whole, (sign, done.stderr)
        shutil.rmtree(out)


@pytest.mark.slow
def test_any_number_of_processes_leaves_the_same_bytes(tmp_path: Path) -> None:
    write_images_to_curate(tmp_path / "images")
    for processes in (1, 3):
        line = command(tmp_path / "images", tmp_path / f"by{processes}", processes)
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert content(tmp_path / "by1") == content(tmp_path / "by3")
