"""An evaluation asks each engine once about each image, and takes what it read from the same answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest

from base_model import generate as generating
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.progress import Progress
from experiments.record.whole_files import read_png
from preference_data.pixels import pixel_hash
from preference_data.records import Prompt
from rewards.scores import Scores
from rewards.text.ocr import Ocr, OcrGold
from tests.fixtures.tiny.tiny_chain import tiny_plan
from tests.fixtures.tiny.tiny_model import tiny_model


class Engine:
    """Reads the hash of an image, with a sign of its own in front."""

    def __init__(self, sign: str) -> None:
        self.sign, self.requests = sign, 0

    def submit(self, prompts: Sequence[Prompt], images: np.ndarray) -> Future[Scores]:
        numbers = np.arange(self.requests, self.requests + len(prompts), dtype=np.float64)
        self.requests += len(prompts)
        read = tuple(self.sign + pixel_hash(image) for image in images)
        future: Future[Scores] = Future()
        future.set_result(Scores(numbers, {"ned_score": numbers, "exact": numbers + 0.5}, read=read))
        return future


def test_what_was_read_comes_from_the_answers(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for kind in (Ocr, OcrGold):
        monkeypatch.setattr(kind, "load", lambda *_: pytest.fail("an engine was loaded beside the pools"))
    monkeypatch.setattr(generating, "CHUNK", 2)
    plan, mine, theirs = tiny_plan(), Engine("a"), Engine("b")
    plan = replace(plan, samplers=plan.samplers[:1])
    evaluate(tiny_model(), plan, tmp_path, mine, theirs, Progress({}))  # type: ignore[arg-type]
    name, prompts = plan.samplers[0][0], make_prompts(plan.prompts)
    rows = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    assert mine.requests == theirs.requests == len(rows) == len(prompts) > 4
    assert [row["prompt"] for row in rows] == [prompt.text for prompt in prompts]
    assert [row["ned"] for row in rows] == list(range(len(rows)))
    assert [row["judge_exact"] for row in rows] == [i + 0.5 for i in range(len(rows))]
    assert ["picture" in row for row in rows] == [i < plan.grid_images for i in range(len(rows))]
    for row in rows[: plan.grid_images]:
        sha = pixel_hash(read_png(tmp_path / row["picture"]))
        assert (row["read"], row["judge_read"]) == ("a" + sha, "b" + sha)
