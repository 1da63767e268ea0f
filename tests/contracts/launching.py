"""A story that several processes tell, started as one command."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def launch(arguments: Sequence[str], folder: Path, seconds: float) -> Path:
    """Run `python ... FOLDER` to its end; the folder. Fails with the end of its log, and leaves no process behind."""
    if importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed: `pip install deepspeed` to test the engines of several processes")
    command = [sys.executable, *arguments, str(folder)]
    quiet = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    log = folder / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | quiet, stdout=out, stderr=out, start_new_session=True
        )
        try:
            code: int | str = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = f"still running after {seconds} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    assert code == 0, f"the processes ended with {code}:\n{log.read_text()[-6000:]}"
    return folder
