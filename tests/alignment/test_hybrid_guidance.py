"""Hybrid guidance: guided rollouts, and a policy that learns without guidance.

Shapes: P prompts, G samples of each, B = P x G.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from alignment import dppo, grpo, guard, nft, rwr
from alignment.dppo import Dppo
from alignment.grpo import Grpo, Micro, of_learner, policy_now, update_sampler
from alignment.guard import Guard
from alignment.nft import Nft
from alignment.rwr import Rwr
from alignment.trajectory import Exploration, rollout
from base_model.engine.engine import LocalEngine
from base_model.sample import Sampler
from tests.fixtures.tiny.tiny_model import Spy, same, tiny_model, weights
from tests.fixtures.toy_alignment import GENTLE, PROMPTS, SPREAD, G, Watching, listed

SETTINGS = {"steps": 1, "prompts": 3, "group": G, "micro": 3 * G, "sampler": Sampler(steps=6, guidance=3.0)}
KINDS = [(Grpo, grpo.train), (Guard, guard.train), (Dppo, dppo.train)]
B = 3 * G


@pytest.mark.parametrize("guide_update", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("kind", "train"), KINDS)
def test_the_ratio_is_exactly_one_at_the_first_update(kind, train, shared, guide_update):
    cfg = kind(**SETTINGS, exploration=Exploration(shared_noise=shared), guide_update=guide_update)
    model = tiny_model()
    (step,) = train(model, Watching(model), PROMPTS, listed(*SPREAD), cfg)
    assert step.metrics["ratio_first"] == 1.0 and step.metrics["ratio_gap_first"] == 0.0
    assert step.metrics.get("divergence", 0.0) == 0.0


def test_actions_are_of_the_guided_rollout_and_the_old_policy_is_unguided():
    cfg, model = Grpo(**SETTINGS, guide_update=False), tiny_model()
    texts = [p.text for p in PROMPTS.batch(0, 3)]
    path = rollout(model, texts, G, cfg.sampler, cfg.exploration, 0, 0, 0)
    one = torch.ones(B)
    for t, learned in zip(path.transitions, of_learner(model, path, cfg).transitions, strict=True):
        m = Micro(path, learned, one, one)
        guided, plain = (policy_now(model, m, replace(cfg, guide_update=on)) for on in (True, False))
        assert torch.equal(m.transition.next_BSC, t.next_BSC)
        assert torch.equal(t.mean_BSC, guided.mean_BSC) and not torch.equal(t.mean_BSC, plain.mean_BSC)
        assert torch.equal(m.transition.mean_BSC, plain.mean_BSC)
        assert torch.equal(m.transition.log_prob_B, plain.log_prob(t.next_BSC).detach())
        assert not m.transition.log_prob_B.requires_grad and not torch.equal(m.transition.log_prob_B, t.log_prob_B)


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_no_rows_without_a_prompt_pass_through_the_network_in_the_update(beta):
    rows = {}
    for guide_update in (True, False):
        cfg, model = Grpo(**SETTINGS, beta=beta, guide_update=guide_update), tiny_model()
        engine, seen = Watching(model), []
        whole = engine.update

        def update(micros, loss, whole=whole, seen=seen, model=model):
            with Spy(model) as spy:
                report = whole(micros, loss)
            seen += [len(x) for x in spy.x]
            return report

        engine.update = update
        list(grpo.train(model, engine, PROMPTS, listed(*SPREAD), cfg))
        rows[guide_update] = seen
    assert rows[False] and rows[True] == [2 * n for n in rows[False]]
    # the window's first step is shared: a row a group; its second has a row an image
    assert rows[False][: 1 + (beta == 0.0)] == ([3, B] if beta == 0.0 else [3])


def test_without_guidance_both_modes_are_one_bit_for_bit():
    results = []
    for guide_update in (True, False):
        cfg = Grpo(**{**SETTINGS, "steps": 2, "sampler": Sampler(steps=6)}, updates=2, guide_update=guide_update)
        model = tiny_model()
        with Spy(model) as spy:
            steps = grpo.train(model, LocalEngine(model.network, GENTLE), PROMPTS, listed(*SPREAD), cfg)
            metrics = [step.metrics for step in steps]
        results.append((weights(model), metrics, spy.rows))
    assert same(results[0][0], results[1][0]) and results[0][1:] == results[1][1:]


def test_a_guidance_that_the_network_reads_is_one_value_in_rollout_and_update():
    cfg = Grpo(**SETTINGS, guide_update=False)
    cond = tiny_model().encode_text(["a word"])
    assert update_sampler(cfg, cond).guidance == 1.0
    assert update_sampler(cfg, cond.telling(3.5)) == cfg.sampler
    assert cond.telling(3.5).take([0]).repeat(2).reads_guidance and not cond.reads_guidance


@pytest.mark.parametrize(("kind", "train"), [(Nft, nft.train), (Rwr, rwr.train)])
def test_losses_on_finished_images_never_read_a_row_without_a_prompt(kind, train):
    model = tiny_model()
    cfg, engine = kind(**SETTINGS, exploration=Exploration(window=0, within=0, shared_noise=False)), Watching(model)
    whole, seen = engine.update, []

    def update(micros, loss):
        with Spy(model) as spy:
            report = whole(micros, loss)
        seen.extend(spy.cond)
        return report

    engine.update = update
    list(train(model, engine, PROMPTS, listed(*SPREAD), cfg))
    lengths = {tuple(int(n) for n in cond.mask_BL.sum(1)) for cond in seen}
    empty = int(model.unconditional(1).mask_BL.sum())
    assert seen and all(n > empty for row in lengths for n in row)
