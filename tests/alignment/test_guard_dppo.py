"""GRPO-Guard and Flow-DPPO: centred ratios, exact divergences and their masks, on a model that paper can follow.

Shapes: B samples, S latent tokens, C channels.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from alignment import dppo, grpo, guard
from alignment.dppo import Dppo
from alignment.grpo import Grpo, Micro
from alignment.guard import Guard
from alignment.trajectory import Exploration, Trajectory, Transition
from base_model import flow
from base_model.engine.engine import LocalEngine
from base_model.interface import Conditioning
from base_model.sample import Sampler
from tests.fixtures.tiny.tiny_model import tiny_model
from tests.fixtures.toy_alignment import GENTLE, PROMPTS, SPREAD, G, Line, listed

KERNELS = [(flow.ddim, 1.0), (flow.flow_sde, 0.7), (flow.cps, 0.8), (flow.dance, 0.3)]
LEVELS = Sampler(steps=4, mu=1.0).levels()
SETTINGS = {"steps": 1, "prompts": 3, "group": G, "micro": 3 * G, "sampler": Sampler(steps=6)}


def micro(
    old: float, kernel=flow.ddim, noise: float = 1.0, B: int = 4, S: int = 1, i: int = 1,
    advantage: Tensor | None = None, actions: Tensor | None = None,
) -> Micro:  # fmt: skip
    """Step `i` of actions (noise of unit variance) that a model with velocity `old` took."""
    random = torch.Generator().manual_seed(0)
    shape = (B, S, 1)
    x, z = torch.randn(shape, generator=random), torch.randn(shape, generator=random) if actions is None else actions
    path = []
    for sigma, after in itertools.pairwise(LEVELS[:4]):
        step = kernel(x, torch.full(shape, old), sigma, after, noise)
        path.append(Transition(x, step.sample(z), sigma, after, 1, step.log_prob(step.sample(z)), step.mean_BSC))
    cond = Conditioning(torch.zeros(B, 1, 1), torch.ones(B, 1, dtype=torch.bool), ((1, S),) * B)
    given = torch.ones(B) if advantage is None else advantage
    return Micro(Trajectory(cond, cond, tuple(path), x), path[i], given, torch.ones(B))


def settings(kind: type[Grpo], kernel=flow.ddim, noise: float = 1.0, clip: float = 1e9) -> Grpo:
    return kind(**SETTINGS, exploration=Exploration(kernel, noise), clip=clip)


# --- Guard --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "noise"), KERNELS)
def test_guards_log_ratio_is_zero_on_policy(kernel, noise):
    """Exactly where nothing has moved; and as a mean over actions after a move, where GRPO's own is far below 0."""
    still = guard.loss(Line(0.4, 0.4), micro(0.4, kernel, noise), settings(Guard, kernel, noise))[1]
    assert still["log_ratio"] == 0.0 and still["ratio"] == 1.0 and still["ratio_gap"] == 0.0
    B = 40_000
    for i in (0, 1, 2):
        m = micro(0.4, kernel, noise, B=B, i=i)
        cfg = settings(Guard, kernel, noise)
        now = grpo.policy_now(Line(1.4, 0.4), m, cfg)
        delta = float((now.mean_BSC - m.transition.mean_BSC).detach().mean())
        centred = guard.log_ratio(now, m.transition).detach()
        plain = (now.log_prob(m.transition.next_BSC) - m.transition.log_prob_B).detach()
        assert float(centred.mean()) == pytest.approx(0.0, abs=4 * abs(delta) / math.sqrt(B))
        assert float(centred.std()) == pytest.approx(abs(delta), rel=0.02), "mean(z delta): no step's std left in it"
        below = -(delta**2) / (2 * now.std**2)
        assert float(plain.mean()) == pytest.approx(below, abs=4 * abs(delta) / now.std / math.sqrt(B)) and below < 0


def test_guards_loss_by_hand():
    """Four actions of one number each: z delta, and the step's weight 1 / dt over the mean of 1 / dt."""
    z, old, new = [0.5, -1.0, 2.0, 0.1], 0.4, 0.9
    advantage = torch.tensor([1.0, -0.5, 2.0, -1.0])
    m = micro(old, flow.dance, 0.5, advantage=advantage, actions=torch.tensor(z).view(4, 1, 1))
    model = Line(new, old)
    total, metrics = guard.loss(model, m, settings(Guard, flow.dance, 0.5, clip=0.05))
    t = m.transition
    dt = [LEVELS[k] - LEVELS[k + 1] for k in range(3)]
    slope = -dt[1] * (1 + 0.5**2 * (1 - t.sigma) / (2 * t.sigma))  # d mean / d v
    delta = slope * (new - old)
    rho = [math.exp(one * delta) for one in z]
    terms = [min(r * a, min(max(r, 0.95), 1.05) * a) for r, a in zip(rho, advantage.tolist(), strict=True)]
    weight = (1 / dt[1]) / (sum(1 / d for d in dt) / 3)
    assert float(total.detach()) == pytest.approx(-weight * sum(terms) / 4, rel=1e-4)
    assert float(metrics["log_ratio"]) == pytest.approx(delta * sum(z) / 4, rel=1e-3)
    assert float(metrics["clip_share"]) == sum(abs(r - 1) > 0.05 for r in rho) / 4
    (gradient,) = torch.autograd.grad(total, model.trainable.value)
    open_ = [r * a * one for r, a, one, term in zip(rho, advantage.tolist(), z, terms, strict=True) if term == r * a]
    assert float(gradient) == pytest.approx(-weight * slope * sum(open_) / 4, rel=1e-3)


def test_step_weights_have_mean_one():
    found = [guard.step_weight(micro(0.4, i=i)) for i in range(3)]
    assert sum(found) / 3 == pytest.approx(1.0) and len(set(found)) == 3
    dt = [LEVELS[k] - LEVELS[k + 1] for k in range(3)]
    assert [w * d / (found[0] * dt[0]) for w, d in zip(found, dt, strict=True)] == pytest.approx([1.0] * 3)


# --- DPPO ---------------------------------------------------------------------------------------------------------


def test_a_term_is_masked_where_it_would_go_on_and_the_policy_has_moved():
    ratio = torch.tensor([1.2, 1.2, 0.8, 0.8, 1.0, 1.2])
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, 1.0])
    divergence = torch.tensor([2.0, 2.0, 2.0, 2.0, 2.0, 0.5])
    assert dppo.open_terms(ratio, advantage, divergence, 1.0).tolist() == [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]


def test_dppo_by_hand():
    z, old, new = torch.tensor([0.5, -1.0, 2.0, 0.1]).view(4, 1, 1), 0.4, 0.9
    advantage = torch.tensor([1.0, 0.5, 2.0, -1.0])
    m = micro(old, flow.dance, 0.5, advantage=advantage, actions=z)
    model = Line(new, old)
    t, std = m.transition, 0.5 * math.sqrt(LEVELS[1] - LEVELS[2])
    delta = -(t.sigma - t.sigma_next) * (1 + 0.5**2 * (1 - t.sigma) / (2 * t.sigma)) * (new - old)
    d = delta**2 / (2 * std**2)
    rho = [math.exp(float(one) * delta / std - d) for one in z]
    for clip, masked in ((1.01 * d, False), (0.99 * d, True)):
        total, metrics = dppo.loss(model, m, settings(Dppo, flow.dance, 0.5, clip=clip))
        terms = [
            r * a * (not (masked and ((r > 1 and a > 0) or (r < 1 and a < 0))))
            for r, a in zip(rho, advantage.tolist(), strict=True)
        ]
        assert float(total.detach()) == pytest.approx(-sum(terms) / 4, rel=1e-3)
        assert float(metrics["divergence"]) == pytest.approx(d, rel=1e-3)
        assert (float(metrics["clip_share"]) > 0.0) == masked
    assert [t == 0 for t in terms].count(True) == 2, "two terms would go on and two come back"


def test_without_a_mask_dppo_is_the_policy_gradient():
    """And so is unclipped GRPO: the same loss and the same derivative."""
    m, found = micro(0.4, advantage=torch.tensor([1.0, -1.0, 0.5, 2.0])), []
    for kind, loss in ((Dppo, dppo.loss), (Grpo, grpo.loss)):
        model = Line(0.8, 0.4)
        total, _ = loss(model, m, settings(kind))
        found.append([float(total.detach()), float(torch.autograd.grad(total, model.trainable.value)[0])])
    assert found[0] == pytest.approx(found[1], rel=1e-6) and abs(found[0][1]) > 1e-2


# --- both, in training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "variant"), [(Guard, guard), (Dppo, dppo)])
def test_variants_start_at_one_keep_their_anchor_and_learn(kind, variant):
    model = tiny_model()
    cfg = kind(**SETTINGS, updates=2, clip=1e-9, beta=1.0)
    engine = LocalEngine(model.network, replace(GENTLE, adamw_lr=1e-3))
    (step,) = variant.train(model, engine, PROMPTS, listed(*SPREAD), cfg)
    assert step.metrics["ratio_first"] == 1.0 and step.metrics["ratio_gap_first"] == 0.0
    assert step.metrics["kl"] > 0.0 and step.metrics["clip_share"] > 0.2 and engine.updates == 2


@pytest.mark.parametrize(("kind", "variant"), [(Guard, guard), (Dppo, dppo)])
def test_nothing_to_learn_moves_nothing(kind, variant):
    model = tiny_model()
    engine = LocalEngine(model.network, GENTLE)
    (step,) = variant.train(model, engine, PROMPTS, listed([0.5] * G, [math.nan] * G), kind(**SETTINGS))
    assert engine.updates == 0 and step.metrics["groups_without_spread"] == 1.0
