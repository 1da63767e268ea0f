"""The line beside a bar: it says what it counts, and a loss of nothing has no sign."""

from __future__ import annotations

import io

from experiments.progress import Progress


def test_the_line_says_whose_time_is_left_and_knows_no_negative_zero() -> None:
    shown = io.StringIO()
    progress = Progress({"sft": 4.0, "grpo": 60.0}, shown)
    with progress.stage("sft", 2):
        progress.advance(1, {"loss": -0.0001, "reward": -0.25, "seconds": 1.0})
    line = shown.getvalue()
    assert "loss=0.000" in line and "reward=-0.250" in line and "-0.000" not in line and "seconds=" not in line
    assert "whole run=" in line and " left" in line and "all=" not in line
