"""Made pairs are the same whoever draws them, and nothing is drawn twice."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from alignment import dpo
from alignment.trajectory import Exploration
from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.sample import Sampler, pixels
from experiments.configs import nano
from experiments.experiment import PairPlan, PromptPlan
from experiments.planning.torch_patches import opened
from experiments.preferences import from_scores
from experiments.preferences.from_scores import CHUNK, LATENTS, PAIRS, PARTS, latents_of, load_pairs, make_pairs
from experiments.record.record import read_png, write_png
from experiments.training.run_prompts import check_sizes
from preference_data import pairs as machine
from preference_data.records import Prompt
from tests.fixtures.tiny.tiny_model import tiny_model

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

    def draw(model, prompts, plan, first, row):
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
    gate, met = threading.Barrier(ranks, timeout=300), []

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


def test_prompts_get_images_in_the_sizes_they_name_and_dpo_learns_from_them(tmp_path):
    sizes = [None, (64, 32), None, (32, 64)]
    rows = [
        {"prompt": f'the word "{text}" in red'} | ({"height": size[0], "width": size[1]} if size else {})
        for text, size in zip("ABCD", sizes, strict=True)
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    exploration = Exploration(window=1, within=2)
    plan = PairPlan(PromptPlan(0, 5, file=str(tmp_path / "p.jsonl")), 2, Sampler(3), exploration, seed=5)
    model, judge = tiny_model(), Judge()
    make_pairs(model, plan, tmp_path / "run", judge, SimpleNamespace(note=lambda text: None))
    pairs = machine.load(tmp_path / "run" / PAIRS)
    by_text = dict(zip((row["prompt"] for row in rows), sizes, strict=True))
    expected = [by_text[pair.prompt.text] or model.picture for pair in pairs]
    assert len(pairs) > 2 and len(set(expected)) > 1
    for side in ("chosen", "rejected"):
        refs = [getattr(pair, side) for pair in pairs]
        assert [(ref.height, ref.width) for ref in refs] == expected
        assert [read_png(tmp_path / "run" / ref.path).shape[1:] for ref in refs] == expected
    for pair in pairs:
        better, worse = (read_png(tmp_path / "run" / ref.path)[0, 0, 0] for ref in (pair.chosen, pair.rejected))
        assert better > worse, "scored as the image of its own prompt"
        latent = load_file(tmp_path / "run" / LATENTS)[pair.chosen.sha256]
        made = pixels(model.sized((pair.chosen.height, pair.chosen.width)), latent[None])[0].astype(int)
        assert np.abs(made - read_png(tmp_path / "run" / pair.chosen.path)).max() <= 1, "the latent of its own image"
    learned_from = load_pairs(model, tmp_path / "run")
    assert learned_from.grids == tuple((height // model.side, width // model.side) for height, width in expected)
    stored = load_file(tmp_path / "run" / LATENTS)
    for row, (pair, grid) in enumerate(zip(pairs, learned_from.grids, strict=True)):
        tokens = grid[0] * grid[1]
        assert torch.equal(learned_from.chosen_NSC[row, :tokens], stored[pair.chosen.sha256])
        assert not learned_from.chosen_NSC[row, tokens:].any()
    model.freeze_reference()
    engine = LocalEngine(model.trainable, OptimConfig(steps=1, muon_lr=0.0))
    (step,) = dpo.train(model, engine, learned_from, dpo.Dpo(1, batch=4, micro=2))
    assert step.metrics["loss"] == pytest.approx(math.log(2.0), abs=1e-6)


def test_prompts_of_other_sizes_start_from_noise_of_their_own(monkeypatch):
    seen = []

    def noted(model, prompts, plan, first, row):
        seen.append((model, [prompt.text for prompt in prompts], row))
        return torch.zeros(4, 1, 1), np.zeros((4, 3, 4, 4), np.uint8)

    monkeypatch.setattr(from_scores, "sample_group", noted)
    prompts = [
        replace(Prompt.from_text(text), size=size) for text, size in zip("abcd", [(8, 4), None] * 2, strict=True)
    ]
    model = SimpleNamespace(sized_for_run=lambda size: size)
    chunk = from_scores.sample_chunk(model, prompts, replace(PLAN, group=2), Judge(), 16)
    assert seen == [((8, 4), ["a", "c"], 0), (model, ["b", "d"], 1)]
    assert [rows for rows, _ in chunk.scores] == [[0, 2], [1, 3]] and len(chunk.images) == 8
    monkeypatch.undo()
    tiny, few = tiny_model(), replace(PLAN, sampler=Sampler(3), exploration=Exploration(window=1, within=2))
    first, other = (from_scores.sample_group(tiny, prompts[1:2], few, 16, row)[0] for row in (0, 1))
    assert not torch.equal(first, other)


@pytest.mark.parametrize("height", [63, 40])
def test_a_size_that_cannot_be_made_is_told_before_anything_is_sampled(height, tmp_path):
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "a red word", "height": height, "width": 64}))
    cfg = replace(nano.dpo, pairs=PairPlan(PromptPlan(0, 0, file=str(tmp_path / "p.jsonl"))))
    with pytest.raises(ValueError, match=rf"'a red word' names the size \({height}, 64\)"):
        check_sizes(tiny_model(), cfg, tmp_path)


def test_latents_that_were_kept_meet_those_that_a_card_encodes(tmp_path):
    """On a card that is none, where putting tensors of both together raises."""
    images = np.stack([np.full((3, 4, 4), level, np.uint8) for level in (60, 200)])
    refs = [from_scores.reference(image, PLAN, tmp_path, i) for i, image in enumerate(images)]
    write_png(tmp_path / refs[1].path, images[1])
    save_file({refs[0].sha256: torch.zeros(4, 12)}, tmp_path / LATENTS)
    with opened():
        model = SimpleNamespace(
            picture=(4, 4), side=2, encode_pixels=lambda shown: torch.ones(len(shown), 4, 12, device="meta")
        )
        (kept, encoded), grids = latents_of(model, tmp_path, [refs])
    assert grids == ((2, 2),) and kept.device == encoded.device == torch.device("cpu")
    assert not kept.any() and encoded.all()
