"""Several ranks evaluate as one does: the same images and scores, each once, also after some were killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import psutil
import pytest
import torch

from base_model.generate import generate
from base_model.seeding import generator
from experiments import cli
from experiments.evaluation import score_prompts
from experiments.evaluation.evaluate_file import Request, common_size, evaluate_file
from experiments.evaluation.found_model import find_model
from experiments.evaluation.prompt_files import read_prompt_file
from experiments.evaluation.prompt_table import differences_table, means_table, score_table
from experiments.evaluation.score_prompts import ALONE, Requested, Share, evaluate_prompts, share_of_launcher
from experiments.evaluation.scored_images import Point, ScoredImages
from experiments.record.whole_files import read_png
from tests.experiments.evaluation.test_evaluating_prompts import SAMPLER, Brightness, asked, evaluated, runs
from tests.fixtures.processes.launching import ROOT
from tests.fixtures.tiny.tiny_model import tiny_model

__all__ = ["runs"]


def shares(ranks: int) -> list[Share]:
    """Ranks that are threads of this process."""
    meeting, first = threading.Barrier(ranks, timeout=300.0), []

    class Thread(Share):
        def of_first(self, value: object) -> object:
            if not self.rank:
                first.append(value)
            meeting.wait()
            shared = first[-1]
            meeting.wait()
            return shared

    return [Thread(rank, ranks) for rank in range(ranks)]


def together(run: Callable[[Share], object], ranks: int) -> list[object]:
    """What each rank gives, or the error that ended it."""
    results: list[object] = [None] * ranks

    def one(share: Share) -> None:
        try:
            results[share.rank] = run(share)
        except BaseException as error:
            results[share.rank] = error

    threads = [threading.Thread(target=one, args=(share,)) for share in shares(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120.0)
    return results


@pytest.mark.parametrize("ranks", [2, 3, 6])
def test_ranks_make_the_table_that_one_makes_and_each_does_its_share(ranks, runs, monkeypatch):
    """Six ranks have four batches of two images between them: some have nothing to do."""
    monkeypatch.setattr(score_prompts, "CHUNK", 2)
    found, rewards = find_model(str(runs / "one")), [Brightness() for _ in range(ranks)]
    run = lambda share: evaluate_prompts(  # noqa: E731
        found, asked(runs), {"r": Brightness()}, runs / "ranks", {"r": rewards[share.rank]}, share
    )[0]
    first = together(run, ranks)[0]
    assert isinstance(first, ScoredImages)
    assert score_table(first, ["r"]).equals(score_table(evaluated(runs, "one", Brightness()), ["r"]))
    assert [len(reward.requests) for reward in rewards] == [2 * len(range(rank, 4, ranks)) for rank in range(ranks)]
    folder = runs / "ranks"
    assert not list(folder.glob("scores_*")) and len((folder / "scores.jsonl").read_text().splitlines()) == 8
    captions = [(path / "images" / "captions.jsonl").read_text() for path in (folder, runs / "one_out")]
    assert captions[0] == captions[1]


def test_what_a_killed_rank_scored_is_not_scored_again_by_however_many(runs, monkeypatch):
    monkeypatch.setattr(score_prompts, "CHUNK", 2)
    found, rewards = find_model(str(runs / "one")), [Brightness(), Brightness()]
    rewards[1].dies_after = 1
    assert (ALONE.of_first(3), ALONE.of_first(None)) == (3, None)

    def run(share: Share) -> object:
        try:
            return evaluate_prompts(
                found, asked(runs), {"r": rewards[0]}, runs / "o", {"r": rewards[share.rank]}, share
            )
        except KeyboardInterrupt:
            share.of_first(None)  # the launcher would end the other one, which here waits
            raise

    assert isinstance(together(run, 2)[1], KeyboardInterrupt)
    (left,) = (runs / "o").glob("scores_*.jsonl") if list((runs / "o").glob("scores_*.jsonl")) else [None]
    if left is None:  # rank 0 took it in when it came to its end
        left = runs / "o" / "scores_1.jsonl"
    with left.open("a", encoding="utf-8") as file:
        file.write((runs / "o" / "scores.jsonl").read_text().splitlines()[0] + '\n{"prompt_index": 3, "se')
    scored = set((runs / "o" / "scores.jsonl").read_text().splitlines())
    again = Brightness()
    images, _ = evaluate_prompts(found, asked(runs), {"r": again}, runs / "o", {"r": again}, ALONE)
    lines = (runs / "o" / "scores.jsonl").read_text().splitlines()
    assert len(lines) == 8 == len(set(lines)) and scored <= set(lines) and not left.exists()
    assert 0 < len(again.requests) == 8 - len(scored) < 8
    assert score_table(images, ["r"]).equals(score_table(evaluated(runs, "one", Brightness()), ["r"]))


def in_sizes(runs: Path) -> Requested:
    """Four prompts: two in a size of their own, of which one is the model's, and two that name none."""
    rows = [{"prompt": f'the word "{word}"'} for word in ("AB", "CD", "EF", "GH")]
    rows[1] |= {"height": 32, "width": 48}
    rows[3] |= {"height": "32", "width": "48"}
    (runs / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return replace(asked(runs), prompts=tuple(read_prompt_file(runs / "s.jsonl")))


@pytest.mark.parametrize("ranks", [1, 3])
def test_prompts_are_sampled_in_their_own_size_and_cut_by_it(ranks, runs):
    found, requested = find_model(str(runs / "one")), in_sizes(runs)
    run = lambda share: evaluate_prompts(  # noqa: E731
        found, requested, {"r": Brightness()}, runs / "o", {"r": Brightness()}, share
    )[0]
    images = together(run, ranks)[0]
    assert isinstance(images, ScoredImages)
    model = tiny_model(0)
    sizes = [read_png(images.path(point)).shape[1:] for point in images.points]
    assert sizes == [model.picture] * 2 + [(32, 48)] * 2 + [model.picture] * 2 + [(32, 48)] * 2
    noise = model.sized((32, 48)).noise(1, generator(1, 3, 0, "evaluation"))
    expected = generate(model.sized((32, 48)), ['the word "GH"'], noise, SAMPLER)[0]
    assert np.abs(read_png(images.path(Point(3, 1))).astype(int) - expected).max() <= 1
    means = means_table(score_table(images, ["r"]), ["r"])
    assert means["slice"].tolist() == ["", "32x48"] and means["images"].tolist() == [8, 4]
    settings = json.loads((runs / "o" / "settings.json").read_text())
    plain = replace(requested, prompts=tuple(replace(each, size=None) for each in requested.prompts))
    assert settings["prompts"] != plain.settings(found)["prompts"], "other sizes are other images"


@pytest.mark.parametrize(
    ("row", "says"),
    [({"height": 32}, "both must be"), ({"height": "a", "width": 3}, "both must be"),
     ({"height": 0, "width": 3}, "both must be"), ({"height": 33, "width": 48}, "33")],
)  # fmt: skip
def test_sizes_that_cannot_be_are_named(row, says, runs):
    (runs / "s.jsonl").write_text(json.dumps({"prompt": "the word A"} | row) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        requested = replace(asked(runs), prompts=tuple(read_prompt_file(runs / "s.jsonl")))
        evaluate_prompts(find_model(str(runs / "one")), requested, {}, runs / "o", {})


def test_a_difference_of_one_prompt_is_told_without_an_interval():
    columns = {"prompt_index": [0], "seed": [0], "prompt": ["a"], "category": ["x"]}
    one, two = (pandas.DataFrame({**columns, "r": [value]}) for value in (0.75, 0.5))
    row = differences_table(one, two, ["r"]).iloc[0]
    assert row["difference"] == 0.25 and np.isnan(row["low"]) and np.isnan(row["high"])


def test_two_models_are_compared_in_the_size_of_the_first(runs):
    one, two = (
        replace(find_model(str(runs / name)), size=size) for name, size in (("one", (64, 96)), ("two", (64, 64)))
    )
    assert common_size(one, two) == (64, 96) and common_size(two, one) == (64, 64) and common_size(one, one) is None


def test_the_first_rank_alone_tells_what_came_out(runs):
    request = Request(runs / "p.jsonl", 1, steps=1)
    run = lambda share: list(  # noqa: E731
        evaluate_file(str(runs / "one"), request, "", runs / "o", against=str(runs / "two"), share=share)
    )
    first, second = together(run, 2)
    assert isinstance(first, list) and any("page:" in line for line in first) and second == []


def test_a_share_is_what_the_launcher_says(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert share_of_launcher() is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    assert share_of_launcher() == Share(1, 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert Share(11, 16).device() == "cuda:3" and ALONE.device() == ""


@pytest.mark.slow
def test_torchrun_killed_and_started_again_gives_the_table_of_one_process(runs):
    line = ["evaluate", str(runs / "one"), "--prompts", str(runs / "p.jsonl"), "--rewards", "ocr_page", "--seeds", "24",
            "--steps", "10"]  # fmt: skip
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m",
           "experiments.cli", *line, "-o", str(runs / "ranks")]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(two, cwd=ROOT, env=environment, start_new_session=True)
    last = time.monotonic() + 1200.0
    while len(list((runs / "ranks" / "images").glob("*.png"))) < 8 and process.poll() is None:
        assert time.monotonic() < last
        time.sleep(0.05)
    for each in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        each.kill()
    process.wait()
    subprocess.run(two, cwd=ROOT, env=environment, check=True, timeout=1800)
    assert cli.main([*line, "-o", str(runs / "alone")]) == 0
    one, several = (pandas.read_csv(runs / name / "scores.csv") for name in ("alone", "ranks"))
    assert one.equals(several) and len((runs / "ranks" / "scores.jsonl").read_text().splitlines()) == len(one) == 96
