"""The command that serves the annotation pages: one process, and no address that nothing can listen on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from experiments.commands.annotating import Annotate, require_free

ROOT = Path(__file__).parents[2]


def test_a_port_that_is_taken_is_said_before_anything_is_made(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"127.0.0.1:{port}"):
            Annotate(store=str(tmp_path / "store"), port=port).run()
    assert not (tmp_path / "store").exists() and "open http" not in capsys.readouterr().out
    for port in (0, -1, 65536):
        with pytest.raises(ValueError, match="between 1 and 65535"):
            require_free("127.0.0.1", port)
    with pytest.raises(ValueError, match="another with --port or --address"):
        require_free("203.0.113.7", 8501)  # no address of this machine


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_the_command_ends_its_server(tmp_path: Path, how: signal.Signals) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "experiments.cli", "annotate", "--run-folder", str(tmp_path / "none"), "--store",
               str(tmp_path / "store"), "--port", str(port), "--base-path", "/annotate"]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ})
    address = f"http://127.0.0.1:{port}/annotate/health"
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=5):
                break
        except OSError:
            assert process.poll() is None, process.communicate()
            time.sleep(0.5)
    process.send_signal(how)
    said, _ = process.communicate(timeout=60)
    assert f"open http://127.0.0.1:{port}/annotate" in said
    require_free("127.0.0.1", port)
