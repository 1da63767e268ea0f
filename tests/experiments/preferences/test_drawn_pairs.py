"""Made pairs are the same whoever draws them, and nothing is drawn twice."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from experiments.experiment import PairPlan, PromptPlan
from experiments.preferences import from_scores
from experiments.preferences.from_scores import CHUNK, LATENTS, PAIRS, PARTS, make_pairs

PLAN = PairPlan(PromptPlan(CHUNK * 4 + 3, 5), group=2, seed=5)


class Judge:
    """Scores an image by its first byte."""

    name = "first byte"

    def submit(self, prompts, images):
        done = Future()
        done.set_result(SimpleNamespace(value_B=images[:, 0, 0, 0] / 255.0))
        return done


@pytest.fixture
def drawn(monkeypatch):
    """The chunks that were drawn, in order; after `drawn.left` of them drawing fails."""
    log = SimpleNamespace(chunks=[], left=99)

    def draw(model, prompts, plan, first):
        if not log.left:
            raise KeyboardInterrupt
        log.left -= 1
        log.chunks.append(first)
        rng = np.random.default_rng(first)
        images = rng.integers(0, 256, (len(prompts) * plan.group, 3, 4, 4), dtype=np.uint8)
        return torch.from_numpy(images.reshape(len(images), 4, -1)).float(), images

    monkeypatch.setattr(from_scores, "sample_group", draw)
    return log


def draw(folder: Path, plan: PairPlan = PLAN, **ranks) -> None:
    make_pairs(None, plan, folder, Judge(), SimpleNamespace(note=lambda text: None), **ranks)


def same(a: Path, b: Path) -> bool:
    one, two = load_file(a / LATENTS), load_file(b / LATENTS)
    texts = [(f / PAIRS).read_text().replace(f.name, "run").replace(str(f.parent), "") for f in (a, b)]
    return texts[0] == texts[1] and one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def draw_together(folder: Path, ranks: int) -> int:
    """Every rank a thread; how often they met."""
    gate, met = threading.Barrier(ranks, timeout=20), []

    def barrier():
        met.append(gate.wait())

    threads = [
        threading.Thread(target=draw, args=(folder,), kwargs={"rank": rank, "ranks": ranks, "barrier": barrier})
        for rank in range(ranks)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(met) // ranks


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_any_number_of_ranks_draws_the_pairs_of_one_and_no_chunk_twice(drawn, tmp_path, ranks):
    draw(tmp_path / "one")
    assert drawn.chunks == [0, 16, 32, 48, 64]
    drawn.chunks.clear()
    draw_together(tmp_path / "many", ranks)
    assert sorted(drawn.chunks) == [0, 16, 32, 48, 64]
    assert same(tmp_path / "one", tmp_path / "many")
    assert not (tmp_path / "many" / PARTS).exists()


def test_ranks_meet_after_every_chunk(drawn, tmp_path):
    assert draw_together(tmp_path / "two", 2) >= 3 + 2, "three turns of two ranks, a meeting before and one after"


def test_what_was_drawn_before_a_run_died_is_not_drawn_again(drawn, tmp_path):
    draw(tmp_path / "whole")
    drawn.chunks.clear()
    drawn.left = 3
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "cut")
    assert not (tmp_path / "cut" / PAIRS).exists()
    drawn.left = 99
    drawn.chunks.clear()
    draw_together(tmp_path / "cut", 2)
    assert sorted(drawn.chunks) == [32, 48, 64], "the chunk that was with the judge is lost, the two before it are kept"
    assert same(tmp_path / "whole", tmp_path / "cut")
    drawn.chunks.clear()
    draw(tmp_path / "cut")
    assert not drawn.chunks


@pytest.mark.parametrize("other", [{"plan": replace(PLAN, min_margin=0.1)}, {"origin": "another model"}])
def test_parts_of_other_pairs_are_not_taken(drawn, tmp_path, other):
    drawn.left = 3
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "cut")
    drawn.left = 99
    drawn.chunks.clear()
    draw(tmp_path / "cut", **other)
    assert drawn.chunks == [0, 16, 32, 48, 64]


def test_a_part_whose_scores_were_cut_short_is_drawn_again(drawn, tmp_path):
    drawn.left = 3
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "cut")
    drawn.left = 99
    drawn.chunks.clear()
    scores = tmp_path / "cut" / PARTS / "000000" / from_scores.SCORES
    scores.write_text(scores.read_text()[:40])
    draw(tmp_path / "cut")
    assert drawn.chunks == [0, 32, 48, 64]
