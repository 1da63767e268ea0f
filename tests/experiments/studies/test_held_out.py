"""Runs along their way: time without looks, images, mean and band of seeds, and what the first one's score costs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from experiments.record.record import RunRecord
from experiments.studies import watched_runs
from experiments.studies.watched_runs import Course, Variant, at, at_pace, course, reached, table, variant


def watched_run(folder: Path, scores: list[float], clock: list[float], looking: float = 10.0) -> Path:
    """A finished run of two updates of 3 x 4 images; a look before it and after each, of `looking` seconds."""
    record = RunRecord.open(folder, {"experiment": {"algorithm": {"prompts": 3, "group": 4}}, "parent": ""})
    with record.running():
        now = 5.0 + looking
        record._append("monitors.jsonl", {"step": -1, "seconds": now, "read/ocr": scores[0], "alarms": []})
        for step, (took, score) in enumerate(zip(clock, scores[1:], strict=True)):
            now += took
            record._append("metrics.jsonl", {"step": step, "seconds": now, "loss": 1.0})
            now += looking
            record._append("monitors.jsonl", {"step": step, "seconds": now, "read/ocr": score, "alarms": []})
    return folder


def test_time_is_trainings_own(tmp_path: Path) -> None:
    """Neither opening the model nor looking counts."""
    found = course(watched_run(tmp_path / "a", [0.5, 0.6, 0.8], [2.0, 3.0]))
    assert found == Course((0.0, 1.0, 2.0), pytest.approx((0.0, 2.0, 5.0)), (0.0, 12.0, 24.0), (0.5, 0.6, 0.8))
    assert course(watched_run(tmp_path / "b", [0.5, 0.6, 0.8], [2.0, 3.0], looking=99.0)).seconds == found.seconds


def test_runs_that_were_not_watched_or_not_finished_are_left_out(tmp_path: Path) -> None:
    record = RunRecord.open(tmp_path / "plain", {"experiment": {"algorithm": {}}, "parent": ""})
    assert course(tmp_path / "plain") is None
    with record.running():
        record.log(0, {"loss": 1.0})
    assert course(tmp_path / "plain") is None and variant("plain", [tmp_path / "plain"]) is None


def test_seeds_are_followed_by_their_mean_and_band(tmp_path: Path) -> None:
    folders = [watched_run(tmp_path / str(i), [0.5, 0.6 + i / 10, 0.8], [2.0 + i, 3.0]) for i in range(2)]
    found = variant("both", folders)
    assert found is not None
    assert found.mean.scores == pytest.approx((0.5, 0.65, 0.8)) and found.mean.seconds == pytest.approx((0, 2.5, 5.5))
    assert found.low == pytest.approx((0.5, 0.6, 0.8)) and found.high == pytest.approx((0.5, 0.7, 0.8))


def test_scores_between_looks_are_on_a_straight_line() -> None:
    assert at([0.0, 10.0, 20.0], [0.5, 0.6, 0.8], 15.0) == pytest.approx(0.7)
    assert math.isnan(at([0.0, 10.0], [0.5, 0.6], 11.0))
    assert reached([0.0, 10.0, 20.0], [0.5, 0.6, 0.8], 0.65) == pytest.approx(12.5)
    assert reached([0.0, 10.0, 20.0], [0.5, 0.7, 0.6], 0.7) == 10.0, "the first time"
    assert math.isnan(reached([0.0, 10.0], [0.5, 0.6], 0.7))


def test_everything_is_measured_against_the_first() -> None:
    def one(name: str, seconds: tuple[float, ...], scores: tuple[float, ...], drawn: float = 10.0) -> Variant:
        return Variant(name, Course((0.0, 1.0, 2.0), seconds, (0.0, drawn, 2 * drawn), scores), scores, scores)

    lines = table(
        [
            one("slow", (0.0, 50.0, 100.0), (0.5, 0.55, 0.6)),
            one("quick", (0.0, 20.0, 40.0), (0.5, 0.6, 0.7)),
            one("never", (0.0, 40.0, 80.0), (0.5, 0.5, 0.52), 0.0),
        ]
    )
    slow, quick, never = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:])
    assert quick[6] == "5.00" and "not reached" in never[5] and slow[6] == "1.00"
    assert quick[3] == "+0.200" and slow[3] == "+0.040", "at 40 s, the shortest run"
    assert quick[4] == "+0.200" and slow[4] == "+0.100" and never[4] == "–", "at 20 images"
    early = one("early", (0.0, 50.0, 100.0), (0.5, 0.7, 0.6))
    assert [line.split("|")[7].strip() for line in table([early, early])[2:]] == ["1.00", "1.00"], "its own first time"
    paced = at_pace(early, 3.0)
    assert paced.mean.seconds == (0.0, 3.0, 6.0) and paced.mean.scores == early.mean.scores
    page = watched_runs.charts([one("a", (0.0, 1.0, 2.0), (0.1, 0.2, 0.3), 0.0)], {"a": "ink-3"})
    assert page.count("<svg") == 1 and 'class="band ink-3"' in page, "nothing to say by images"
