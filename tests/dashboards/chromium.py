"""A real browser and a real server, for tests that press keys. Debian's Chromium, driven by playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-proxy-server"]  # fmt: skip
PATIENCE = 900_000
"""Milliseconds for anything to appear: a crowded machine needs minutes for what takes a second."""

# the viewer lives in a shadow root; its list of panes says which assignment is painted
PANES = """() => { for (const e of document.querySelectorAll('*')) { const p = e.shadowRoot
  && e.shadowRoot.querySelector('.panes'); if (p) return p; } return null; }"""
NEXT = f"""before => {{ const p = ({PANES})(); return p && p.dataset.painted && p.dataset.painted !== before
  ? [p.dataset.painted, Number(p.dataset.paintedAt)] : false; }}"""


def executable() -> str:
    """The browser; installed with apt when it is missing and this is root. Skips the test when there is none."""
    found = next((path for path in BROWSERS if Path(path).exists()), None)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=False, capture_output=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=False, capture_output=True)
        found = next((path for path in BROWSERS if Path(path).exists()), None)
    if found is None:
        pytest.skip("there is no Chromium, and it could not be installed")
    return found


@contextlib.contextmanager
def server(store: Path, *more: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """The pages of a store in a process of their own: (address, process). Ended, however the test ends."""
    port = free_port()
    process = start(store, port, *more)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        for found in {process, *_restarted}:
            found.send_signal(signal.SIGKILL)
            found.wait()
        _restarted.clear()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_restarted: list[subprocess.Popen] = []


def start(store: Path, port: int, *more: str, module: str = "dashboards.annotate") -> subprocess.Popen:
    """Start the server and wait until it answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--store", str(store), "--port", str(port), *more], cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(PATIENCE // 500):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return process
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        time.sleep(0.5)
    raise TimeoutError("the server did not answer")


def restart(store: Path, address: str) -> None:
    """Start the server again where it was."""
    _restarted.append(start(store, int(address.rsplit(":", 1)[1])))


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A browser; a context of it is one person."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=executable(), args=FLAGS, timeout=PATIENCE)
        try:
            yield found
        finally:
            found.close()


def sign_in(context: Any, address: str, name: str, password: str, language: str = "en") -> Any:
    """A page with the first pair painted, signed in by keyboard."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address, wait_until="commit")
    page.locator("input[type=password]").wait_for()
    page.locator("input[autocomplete=username]").focus()
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(password)
    page.keyboard.press("Enter")
    painted(page)
    return page


def painted(page: Any, before: str = "") -> str:
    """Wait until another assignment than `before` is painted; which."""
    # at every frame, which is playwright's default, looking would keep a core busy
    return str(page.wait_for_function(NEXT, arg=before, timeout=PATIENCE, polling=100).json_value()[0])


def sides(page: Any) -> list[str]:
    """The addresses of the pictures, from left to right."""
    return page.evaluate(f"() => [...({PANES})().querySelectorAll('img')].map(i => i.getAttribute('src'))")
