"""Fewer steps after the window: which levels are kept, that nothing before them moves, and who counts them.

Shapes: P prompts, G samples of each, B = P x G.
"""

from __future__ import annotations

import itertools
import math
from concurrent.futures import Future
from dataclasses import replace

import pytest
import torch

from alignment import grpo, nft
from alignment.grpo import Grpo
from alignment.nft import Nft
from alignment.trajectory import Exploration, rollout
from base_model import flow
from base_model.interface import Conditioning
from base_model.sample import Sampler, sample
from experiments.planning.from_experiment import forward_work, grpo_work
from tests.base_model.test_flow import dpm_solver
from tests.fixtures.tiny.tiny_model import Spy, tiny_model
from tests.fixtures.toy_alignment import PROMPTS, SPREAD, G, Judged, Watching, listed

TEXTS = tuple(prompt.text for prompt in PROMPTS.batch(0, 3))
STEPS, SHORT = 9, Exploration(window=2, within=5, after_window=0.5)
HYBRID = Grpo(1, 3, G, Sampler(STEPS, 3.0), SHORT, micro=3 * G, guide_update=False)
FINISHED = Exploration(window=0, within=3, shared_noise=False, after_window=0.5)


@pytest.mark.parametrize("share", [1.0, 0.8, 0.5, 0.4, 0.28, 0.01])
def test_kept_levels_run_from_end_to_end_and_are_as_many_as_the_share_says(share):
    for steps in range(1, 41):
        levels = flow.schedule(steps, 0.7, terminal=0.02)
        kept = Exploration(after_window=share).shortened(levels)
        assert len(kept) - 1 == max(1, math.ceil(round(share * steps, 6)))
        assert kept[0] == levels[0] and kept[-1] == 0.0 and set(kept) <= set(levels)
        assert all(a > b for a, b in itertools.pairwise(kept))
        gaps = [levels.index(b) - levels.index(a) for a, b in itertools.pairwise(kept)]
        assert max(gaps) - min(gaps) <= 1, "as even as they go"
    assert Exploration().shortened(levels) == levels


@pytest.mark.parametrize("share", [0.0, -0.5, 1.1, math.nan, math.inf])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=f"after_window={share}, a share of steps"):
        Exploration(after_window=share)


@pytest.mark.parametrize(("shared", "step"), [(True, 0), (True, 1), (True, 2), (False, 3)])
def test_the_window_is_untouched_and_what_follows_is_the_multistep_solver(monkeypatch, shared, step):
    """At the model's own levels, guided; the first step after the window has no history."""
    model, cfg = tiny_model(), replace(SHORT, shared_noise=shared)
    own = flow.schedule(STEPS, 1.1, terminal=0.02)
    monkeypatch.setattr(model, "levels", lambda sampler: own)
    whole = rollout(model, TEXTS, G, Sampler(STEPS, 3.0), replace(cfg, after_window=1.0), 0, step, 0)
    with Spy(model) as spy:
        short = rollout(model, TEXTS, G, Sampler(STEPS, 3.0), cfg, 0, step, 0)
    for a, b in zip(whole.transitions, short.transitions, strict=True):
        assert torch.equal(a.next_BSC, b.next_BSC) and torch.equal(a.log_prob_B, b.log_prob_B)
    levels, first = cfg.shortened(own[cfg.start(0, step) + 2 :]), cfg.start(0, step)
    assert [float(sigma[0]) for sigma in spy.sigma] == pytest.approx([*own[: first + 2], *levels[:-1]])
    B = 3 * G
    before = 3 * (first + 1) + B if shared else B * (first + 2)
    assert spy.rows == 2 * (before + B * (len(levels) - 1)), "of a prompt and of none"

    def velocity(x, sigma):
        return model.guided(x, torch.full((B,), sigma), short.cond, short.uncond, 3.0)

    with torch.no_grad():
        expected = dpm_solver(velocity, short.transitions[-1].next_BSC, levels)
    torch.testing.assert_close(short.x0_BSC, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(short.x0_BSC, whole.x0_BSC, atol=1e-5)


def test_without_a_window_the_whole_path_is_of_second_order_whatever_the_update():
    model = tiny_model()
    levels = FINISHED.shortened(flow.schedule(STEPS, 0.5))
    for step in range(3):
        with Spy(model) as spy:
            seen = rollout(model, TEXTS, G, Sampler(STEPS), FINISHED, 0, step, 0)
        assert [float(sigma[0]) for sigma in spy.sigma] == pytest.approx(levels[:-1])
        expected = sample(model, spy.x[0], seen.cond, seen.cond, Sampler(STEPS), levels, second_order=True)
        assert torch.equal(seen.x0_BSC, expected)


@pytest.mark.parametrize("guide_update", [True, False])
def test_the_ratio_begins_at_one_and_the_update_asks_for_as_much(guide_update):
    rows = {}
    for share in (1.0, 0.5):
        model = tiny_model()
        engine = Watching(model)
        cfg = replace(HYBRID, exploration=replace(SHORT, after_window=share), guide_update=guide_update)
        (step,) = grpo.train(model, engine, PROMPTS, listed(*SPREAD), cfg)
        assert step.metrics["ratio_first"] == 1.0 and step.metrics["ratio_gap_first"] == 0.0
        rows[share] = [(len(m.transition.x_BSC), m.transition.sigma) for m in engine.micros]
    assert rows[1.0] == rows[0.5]


def test_the_learner_is_asked_while_the_images_are_scored():
    """Hybrid guidance asks it once more before the first update, and nothing of that needs a reward."""
    model, rows = tiny_model(), []

    class Slow(Judged):
        def submit(self, prompts, images_B3HW):
            scores, spy = super().submit(prompts, images_B3HW).result(), self.spy
            sent = spy.rows

            class Waiting(Future):
                def result(self, timeout=None):
                    rows.append(spy.rows - sent)
                    return scores

            return Waiting()

    pool = Slow(listed(*SPREAD).reward)
    with Spy(model) as pool.spy:
        list(grpo.train(model, Watching(model), PROMPTS, pool, HYBRID))
    assert rows == [3 + 3 * G] * 3, "a row a group at the window's first step, and one an image at its second"


@pytest.mark.parametrize(("share", "shared"), [(1.0, True), (0.5, True), (0.25, False)])
def test_a_plan_of_grpo_counts_what_rollouts_ask_for(share, shared):
    cfg = replace(HYBRID, exploration=replace(SHORT, after_window=share, shared_noise=shared), steps=4)
    model = tiny_model()
    with Spy(model) as spy:
        list(grpo.train(model, Watching(model), PROMPTS, listed(*SPREAD), cfg))
    work = grpo_work("one", cfg)
    assert spy.rows / 4 == pytest.approx(work.sampled + work.trained, abs=0.5)
    assert ("drawn in 9 steps" in work.arithmetic[0]) == (share == 1.0)


@pytest.mark.parametrize("exploration", [FINISHED, replace(FINISHED, after_window=1.0)])
def test_a_plan_of_nft_counts_what_rollouts_ask_for(exploration):
    cfg = Nft(2, 3, G, Sampler(STEPS), exploration, micro=3 * G)
    model = tiny_model()
    with Spy(model) as spy:
        list(nft.train(model, Watching(model), PROMPTS, listed(*SPREAD), cfg))
    work = forward_work("one", cfg)
    assert spy.rows / 2 == work.sampled + work.trained


def test_edits_take_fewer_steps_too():
    """Condition images stay what every step is about."""
    model = tiny_model()
    images = [[torch.rand(3, 32, 32)] for _ in TEXTS]
    with Spy(model) as spy:
        rollout(model, TEXTS, G, Sampler(STEPS, 3.0), SHORT, 0, 0, 0, images=images)
    last: Conditioning = spy.cond[-1]
    assert len(last.image_grids) == 2 * 3 * G and last.images_BRC is not None
