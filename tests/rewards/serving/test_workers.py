from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from preference_data.pixels import to_float, to_uint8
from preference_data.records import Prompt
from rewards.scores import Scores
from rewards.serving.workers import ScorerPool, ScoringError
from rewards.text.ocr import Ocr
from tests.fixtures.writing import words_and_pictures

SILENT = Prompt.from_text("a cat")
PROMPT = Prompt.from_text('write "ONE"')
PATIENCE = 300
"""Seconds for what takes less than one on an idle machine."""


class MeanScorer:
    """The mean pixel. Full white: it raises; full black: its process is killed; ``seconds``: how long a call takes."""

    name = "mean"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        assert images_B3HW.dtype == np.float32 and len(prompts) == len(images_B3HW)
        time.sleep(self.seconds)
        value_B = images_B3HW.reshape(len(prompts), -1).mean(axis=1, dtype=np.float64)
        if (value_B == 0).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if (value_B == 1).any():
            raise ArithmeticError("too bright")
        value_B[[not prompt.spans for prompt in prompts]] = np.nan
        missing = int(np.isnan(value_B).sum())
        process, threads = float(os.getpid()), float(os.environ.get("OMP_NUM_THREADS", "nan"))
        parts = {"process": np.full(len(prompts), process), "threads": np.full(len(prompts), threads)}
        return Scores(value_B, parts, {"no_spans": missing} if missing else {})


@dataclass(frozen=True)
class Mean:
    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ()
    seconds: float = 0.0
    loading: str = ""

    def load(self, device: str = "cpu") -> MeanScorer:
        if self.loading == "raises":
            raise FileNotFoundError("weights.onnx is missing; run: pip install weights")
        if self.loading == "dies":
            os._exit(3)
        if self.loading == "hangs":
            time.sleep(60)
        return MeanScorer(self.seconds)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, (count, 3, 4, 6), dtype=np.uint8)


def alive(process: int) -> bool:
    """Whether a process runs (a zombie that nobody has collected does not)."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_results_keep_their_order_over_many_chunks_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with ScorerPool(Mean(), workers=2, chunk=3) as pool:
        assert os.environ["OMP_NUM_THREADS"] == "3" and pool.name == "mean"  # the trainer's own stays as it was
        batches = [pictures(count, seed=count) for count in (7, 1, 20, 0, 3)]
        futures = [pool.submit([PROMPT] * len(batch), batch) for batch in batches]
        for batch, future in zip(batches, futures, strict=True):
            scores = future.result(timeout=PATIENCE)
            expected = to_float(batch).reshape(len(batch), 3 * 4 * 6).mean(axis=1, dtype=np.float64)
            np.testing.assert_array_equal(scores.value_B, expected)
        assert (futures[2].result().parts["threads"] == 1).all()
        mixed = pool.submit([PROMPT, SILENT, PROMPT, SILENT, SILENT], pictures(5)).result(timeout=PATIENCE)
        np.testing.assert_array_equal(np.isnan(mixed.value_B), [False, True, False, True, True])
        assert mixed.unjudged == {"no_spans": 3}
        monkeypatch.setattr(pool.meter, "add", lambda scores: {}["unknown"])
        with pytest.raises(ScoringError, match=r"gave scores that do not fit: KeyError\('unknown'\)"):
            pool.submit([PROMPT], pictures(1)).result(timeout=PATIENCE)  # who waits hears of it, whatever it is


def test_scoring_overlaps_with_the_trainer_and_between_workers() -> None:
    with ScorerPool(Mean(seconds=1.0), workers=2) as pool:
        future = pool.submit([PROMPT] * 4, pictures(4))
        assert not future.done()  # the trainer goes on while they work
        processes = set(future.result(timeout=PATIENCE).parts["process"])
    assert len(processes) == 2 and float(os.getpid()) not in processes
    assert not any(alive(int(process)) for process in processes)


def test_the_pool_is_a_scorer_and_real_words_score_the_same_in_it() -> None:
    words, images = words_and_pictures(12, seed=21)
    prompts = [Prompt.from_text(f'"{word}"') for word in words]
    images[3, 0, 0, 0] = np.nan
    prompts[5] = SILENT
    expected = Ocr().load()(prompts, images)
    with ScorerPool(Ocr(), workers=2, chunk=4) as pool:
        found = pool(prompts, images)
        assert pool.name == "ocr:onnxruntime/PP-OCRv6_rec_small"
        rest = pool.submit(prompts[6:], to_uint8(images[6:])).result(timeout=PATIENCE)
    assert rest.value_B.tobytes() == expected.value_B[6:].tobytes()
    assert found.value_B.tobytes() == expected.value_B.tobytes()
    assert found.unjudged == expected.unjudged == {"not_finite": 1, "no_spans": 1}
    for name, part in expected.parts.items():
        np.testing.assert_array_equal(found.parts[name], part)


def test_a_worker_that_dies_is_named_and_nothing_hangs() -> None:
    black = pictures(1)
    black[:] = 0
    with ScorerPool(Mean(seconds=0.2), workers=2, chunk=1) as pool:
        killed = pool.submit([PROMPT], black)
        waiting = pool.submit([PROMPT] * 30, pictures(30))
        for future in (killed, waiting):
            with pytest.raises(RuntimeError, match=r"scorer worker \d of 2 \(process \d+\) died \(signal SIGKILL\)"):
                future.result(timeout=PATIENCE)
        with pytest.raises(RuntimeError, match="died"):
            pool.submit([PROMPT], pictures(1))


def test_a_worker_killed_while_idle_is_noticed_at_the_next_batch() -> None:
    with ScorerPool(Mean(), workers=1) as pool:
        process = int(pool.submit([PROMPT], pictures(1)).result(timeout=PATIENCE).parts["process"][0])
        os.kill(process, signal.SIGKILL)
        with pytest.raises(RuntimeError, match=rf"process {process}\) died \(signal SIGKILL\)"):
            pool.submit([PROMPT] * 2, pictures(2)).result(timeout=PATIENCE)


def test_ctrl_c_is_left_to_the_trainer() -> None:
    with ScorerPool(Mean(), workers=1) as pool:
        process = int(pool.submit([PROMPT], pictures(1)).result(timeout=PATIENCE).parts["process"][0])
        os.kill(process, signal.SIGINT)
        assert pool.submit([PROMPT] * 2, pictures(2)).result(timeout=PATIENCE).value_B.shape == (2,)


def test_a_scorer_that_raises_fails_its_batch_only() -> None:
    white = pictures(1)
    white[:] = 255
    with ScorerPool(Mean(), workers=1) as pool:
        with pytest.raises(RuntimeError, match=r"worker 1 of 1 .* could not judge[\s\S]*too bright"):
            pool.submit([PROMPT], white).result(timeout=PATIENCE)
        assert pool.submit([PROMPT], pictures(1)).result(timeout=PATIENCE).value_B.shape == (1,)


@pytest.mark.parametrize(
    ("loading", "message"),
    [
        ("raises", r"could not load Mean\(.*\):[\s\S]*pip install weights"),
        ("dies", r"worker 1 of 1 .* died \(exit code 3\)"),
        ("hangs", r"did not load in time; raise start_timeout"),
    ],
)
def test_a_worker_that_cannot_start_says_why(loading: str, message: str) -> None:
    timeout = 2.5 if loading == "hangs" else 60.0
    with pytest.raises(RuntimeError, match=message):
        ScorerPool(Mean(loading=loading), workers=1, start_timeout=timeout)


def test_closing_ends_waiting_batches_and_may_be_repeated() -> None:
    pool = ScorerPool(Mean(seconds=0.3), workers=1, chunk=1)
    future = pool.submit([PROMPT] * 5, pictures(5))
    pool.close()
    pool.close()
    with pytest.raises(RuntimeError, match="closed before"):
        future.result(timeout=PATIENCE)
    with pytest.raises(RuntimeError, match="the scorer pool is closed"):
        pool.submit([PROMPT], pictures(1))


def test_wrong_input_is_refused_at_once() -> None:
    with ScorerPool(Mean(), workers=1) as pool:
        with pytest.raises(ValueError, match="float32; workers take uint8"):
            pool.submit([PROMPT], to_float(pictures(1)))
        with pytest.raises(ValueError, match="2 prompts but 1 images"):
            pool.submit([PROMPT] * 2, pictures(1))
    with pytest.raises(ValueError, match="workers is 0"):
        ScorerPool(Mean(), workers=0)


def test_workers_leave_when_the_trainer_is_killed() -> None:
    code = """
import sys, time
import numpy as np
from tests.rewards.serving.test_workers import PROMPT, Mean, ScorerPool, pictures
if __name__ == "__main__":
    pool = ScorerPool(Mean(), workers=2, chunk=1)
    scores = pool.submit([PROMPT] * 8, pictures(8)).result()
    print(*[process.pid for process in pool._processes], flush=True)
    time.sleep(60)
"""
    trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    workers = [int(process) for process in trainer.stdout.readline().split()]
    assert len(workers) == 2 and all(alive(process) for process in workers)
    trainer.kill()
    trainer.wait()
    until = time.monotonic() + PATIENCE
    while any(alive(process) for process in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(alive(process) for process in workers)
    trainer.stdout.close()
