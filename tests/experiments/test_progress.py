"""What progress says: in a terminal a bar, in a log lines that can be read; a loss of nothing has no sign."""

from __future__ import annotations

import io
import sys

import pytest
from tqdm import tqdm

from experiments.progress import Progress, bar_of


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that a bar sees, to be moved on."""
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_a_log_gets_a_line_for_every_tenth_and_one_at_the_end(clock: list[float]) -> None:
    log = io.StringIO()
    with bar_of(200, "measuring", " images", log) as bar:
        for _ in range(195):
            clock[0] += 1.0
            bar.update(1)
    lines = log.getvalue().split("\n")
    assert "\r" not in log.getvalue() and lines[-1] == ""
    assert [line.split()[1] for line in lines[:-1]] == [f"{each}%" for each in (*range(0, 100, 10), 98)]
    assert "20/200 [00:20<03:00,  1.00 images/s]" in lines[1]


def test_a_slow_bar_says_every_half_minute_that_it_goes_on(clock: list[float]) -> None:
    log = io.StringIO()
    with bar_of(1000, "pretrain", file=log) as bar:
        for _ in range(9):
            clock[0] += 10.0
            bar.update(1)
    lines = [line.split()[2] for line in log.getvalue().splitlines()]
    assert lines == [f"{n}/1000" for n in (0, 3, 6, 9)], "its end is no news"


def test_messages_between_lines_and_a_bar_that_is_full_write_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    show = Progress({"nft": 60.0})
    with show.stage("nft", 4):
        tqdm.write("starting the scorers", file=sys.stderr)
        show.advance(2)  # from an earlier run
        show.note("saving")
        show.advance(2, {"loss": 0.5})
    lines = log.getvalue().splitlines()
    assert [line.partition(" [")[0] for line in lines] == [
        "nft:   0% 0/4", "starting the scorers", "nft:  50% 2/4", "nft: 100% 4/4",
    ]  # fmt: skip
    assert "loss=0.500" in lines[-1] and "whole run" in lines[-1] and "\r" not in log.getvalue()


def test_a_terminal_keeps_its_bar() -> None:
    terminal = Terminal()
    with bar_of(3, "nft", file=terminal) as bar:
        bar.update(3)
    assert type(bar) is tqdm and "\r" in terminal.getvalue() and terminal.getvalue().endswith("\n")


def test_the_line_says_whose_time_is_left_and_knows_no_negative_zero() -> None:
    shown = io.StringIO()
    progress = Progress({"sft": 4.0, "grpo": 60.0}, shown)
    with progress.stage("sft", 2):
        progress.advance(1, {"loss": -0.0001, "reward": -0.25, "seconds": 1.0})
    line = shown.getvalue()
    assert "loss=0.000" in line and "reward=-0.250" in line and "-0.000" not in line and "seconds=" not in line
    assert "whole run=" in line and " left" in line and "all=" not in line


def test_what_is_left_counts_what_was_just_done(clock: list[float]) -> None:
    terminal = Terminal()
    show = Progress({"evaluate": 60.0}, terminal)
    with show.stage("evaluate", 4):
        clock[0] += 10.0
        show.advance(2, {})
        assert "whole run=0:10 left" in terminal.getvalue()
        clock[0] += 10.0
        show.advance(2, {})
    assert "whole run=0:00 left" in terminal.getvalue()
