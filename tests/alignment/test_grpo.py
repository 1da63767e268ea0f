"""Flow-GRPO: advantages and loss by hand, what an update does seen from outside, and that it learns.

Shapes: P prompts, G samples of each, B = P x G; S latent tokens, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from alignment.advantages import advantages
from alignment.grpo import Grpo, Micro, loss, train
from alignment.trajectory import Exploration, Trajectory, Transition, policy, rollout
from base_model import flow
from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.interface import Conditioning
from base_model.qwen.model import QwenImage
from base_model.sample import Sampler
from tests.fixtures.tiny.tiny_model import gradient, same, tiny_model, weights
from tests.fixtures.toy_alignment import GENTLE, PROMPTS, SPREAD, G, Judged, Line, Watching, listed, moved, redness

KERNELS = [(flow.ddim, 1.0), (flow.flow_sde, 0.7), (flow.cps, 0.8), (flow.dance, 0.3)]
TINY = Grpo(steps=1, prompts=3, group=G, micro=3 * G, sampler=Sampler(steps=6))


def watched(cfg: Grpo, judge: Judged, model: QwenImage | None = None) -> tuple[QwenImage, Watching, dict[str, float]]:
    """The gradient of one rollout's first update."""
    model = model or tiny_model()
    engine = Watching(model)
    (step,) = train(model, engine, PROMPTS, judge, cfg)
    return model, engine, step.metrics


def rolled(model: QwenImage, cfg: Grpo, step: int = 0) -> Trajectory:
    """The rollout that `train` makes, its parts put together."""
    texts, few = [p.text for p in PROMPTS.batch(step, cfg.prompts)], cfg.micro // cfg.group
    parts = [
        rollout(model, texts[i : i + few], cfg.group, cfg.sampler, cfg.exploration, cfg.seed, step, 0, i)
        for i in range(0, len(texts), few)
    ]
    transitions = []
    for steps in zip(*(one.transitions for one in parts), strict=True):
        x, after, log_prob = (
            torch.cat([getattr(t, name) for t in steps]) for name in ("x_BSC", "next_BSC", "log_prob_B")
        )
        transitions.append(replace(steps[0], x_BSC=x, next_BSC=after, log_prob_B=log_prob))
    cond, uncond = (Conditioning.stack([getattr(one, name) for one in parts]) for name in ("cond", "uncond"))
    return Trajectory(cond, uncond, tuple(transitions), torch.cat([one.x0_BSC for one in parts]))


def policies(model: QwenImage, seen: Trajectory, cfg: Grpo) -> list[flow.Gaussian]:
    """The distributions of the rollout's stochastic steps under the model as it is now."""
    found = []
    for t in seen.transitions:
        cond, uncond = (c.take(slice(None, None, t.copies)) for c in (seen.cond, seen.uncond))
        found.append(policy(model, t, cond, uncond, cfg.sampler, cfg.exploration))
    return found


def log_probs(model: QwenImage, seen: Trajectory, cfg: Grpo) -> Tensor:
    """[T, B] of the rollout's actions under the model as it is now."""
    now = policies(model, seen, cfg)
    return torch.stack([p.log_prob(t.next_BSC) for p, t in zip(now, seen.transitions, strict=True)])


def close(a: dict[str, Tensor], b: dict[str, Tensor], scale: float = 1e-4) -> None:
    """Gradients equal up to `scale` of the largest entry, which is not 0."""
    assert a.keys() == b.keys()
    largest = max(float(value.abs().max()) for value in b.values())
    assert largest > 1e-6
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], atol=scale * largest, rtol=scale, msg=lambda m, n=name: f"{n}: {m}")


# --- (G2) to (G4) by hand -----------------------------------------------------------------------------------------


# dance from 0.5 to 0.25 with eta 1 at x = 0: mean = -v dt - s^2 dt / (2 sigma) (1 - sigma) v = -v dt (1 + s^2 / 2).
SIGMA, NEXT = 0.5, 0.25
SLOPE, STD = -0.25 * 1.5, 0.5


def on_paper(
    ratio: Sequence[float], advantage: Sequence[float], weight: Sequence[float], beta: float = 0.0,
    value: float = 0.4, before: float = 0.4, actions: Sequence[float] | None = None, clip: float = 0.1,
) -> tuple[float, float, dict[str, float]]:  # fmt: skip
    """Loss, its derivative by the velocity, and metrics, of actions whose old log-probabilities give these ratios."""
    model, B = Line(value, before), len(ratio)
    action = torch.tensor(actions or [0.1 * i for i in range(B)]).view(B, 1, 1)
    now = flow.Gaussian(torch.full((B, 1, 1), SLOPE * value), STD).log_prob(action)
    t = Transition(torch.zeros(B, 1, 1), action, SIGMA, NEXT, 1, now - torch.tensor(ratio).log(), action)
    cond = Conditioning(torch.zeros(B, 1, 1), torch.ones(B, 1, dtype=torch.bool), ((1, 1),) * B)
    trajectory = Trajectory(cond, cond, (t,), torch.zeros(B, 1, 1))
    micro = Micro(trajectory, t, torch.tensor(advantage), torch.tensor(weight))
    cfg = replace(TINY, clip=clip, beta=beta, exploration=Exploration(flow.dance, 1.0))
    total, metrics = loss(model, micro, cfg)
    (slope,) = torch.autograd.grad(total, model.trainable.value)
    return float(total.detach()), float(slope), {name: float(x) for name, x in metrics.items()}


def test_loss_by_hand():
    """min(rho A, clip(rho) A): what has moved too far the good way teaches nothing, what moved the bad way does."""
    total, slope, metrics = on_paper([1.2, 1.2, 0.8, 0.8, 1.05], [1.0, -1.0, 2.0, -2.0, 3.0], [1.0, 2.0, 1.0, 1.0, 0.0])
    terms = [1.1 * 1.0, 2.0 * -1.2, 0.8 * 2.0, 0.9 * -2.0, 0.0]
    assert total == pytest.approx(-sum(terms) / 5, rel=1e-5)
    # d rho / d v = rho * (action - mean) / std^2 * d mean / d v, for the second and the third alone.
    score = [(0.1 * i - SLOPE * 0.4) / STD**2 * SLOPE for i in range(5)]
    assert slope == pytest.approx(-(2.0 * -1.2 * score[1] + 0.8 * 2.0 * score[2]) / 5, rel=1e-4)
    assert metrics["ratio"] == pytest.approx((1.2 + 1.2 + 0.8 + 0.8 + 1.05) / 5, rel=1e-5)
    assert metrics["ratio_gap"] == pytest.approx(0.2, rel=1e-4) and metrics["clip_share"] == pytest.approx(0.8)
    assert "kl" not in metrics


def test_unclipped_loss_is_policy_gradient():
    total, slope, _ = on_paper([1.0, 1.0], [1.0, -0.5], [1.0, 1.0], actions=[0.3, -0.2])
    score = [(a - SLOPE * 0.4) / STD**2 * SLOPE for a in (0.3, -0.2)]
    assert total == pytest.approx(-(1.0 - 0.5) / 2, rel=1e-5)
    assert slope == pytest.approx(-(1.0 * score[0] - 0.5 * score[1]) / 2, rel=1e-4)


def test_kl_by_hand():
    """(SLOPE (v - v_ref))^2 / (2 std^2), weighed like the objective, pointing back to the reference."""
    for value in (0.9, -0.1):
        total, slope, metrics = on_paper([1.0, 1.0], [0.0, 0.0], [1.0, 0.5], beta=2.0, value=value)
        kl = (SLOPE * (value - 0.4)) ** 2 / (2 * STD**2)
        assert metrics["kl"] == pytest.approx(0.75 * kl, rel=1e-4)
        rate = 1.0 / (SIGMA - NEXT)  # (G5): per unit of noise level
        assert metrics["kl_rate"] == pytest.approx(0.75 * kl * rate, rel=1e-4)
        assert total == pytest.approx(2.0 * 0.75 * kl * rate, rel=1e-4)
        assert slope == pytest.approx(2.0 * 0.75 * rate * SLOPE**2 * (value - 0.4) / STD**2, rel=1e-4)
    total, slope, metrics = on_paper([1.0, 1.0], [0.0, 0.0], [1.0, 1.0], beta=2.0)
    assert metrics["kl"] == 0.0 and slope == 0.0


# --- the first update ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "noise"), KERNELS)
@pytest.mark.parametrize("shared", [True, False])
def test_ratio_is_exactly_one_at_the_first_update(kernel, noise, shared):
    """As the training loop sees it, through its own parts."""
    walk = Exploration(kernel, noise, shared_noise=shared)
    for micro in (G, 3 * G):
        for guidance in (1.0, 2.0):
            cfg = replace(TINY, exploration=walk, micro=micro, sampler=Sampler(steps=6, guidance=guidance))
            _, engine, metrics = watched(cfg, listed(*SPREAD))
            assert metrics["ratio_first"] == 1.0 and metrics["ratio_gap_first"] == 0.0
            assert len(engine.micros) == 2 * (3 * G // micro)


@pytest.mark.parametrize("beta", [0.0, 30.0])
@pytest.mark.parametrize("micro", [G, 3 * G])
def test_gradient_is_that_of_the_mean_over_taught_samples(micro, beta):
    """One group without spread, one image that could not be judged: as if they had never been drawn.

    The expectation is computed in one pass over the rollout, without `Micro`, weights, slices or clipping.
    """
    judge = listed(SPREAD[0], [0.7] * G, [1.0, math.nan, 0.0, 0.0])
    taught = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 1, 1], dtype=torch.bool)
    r = torch.tensor([0.0, 1.0, 0.5, 0.25, 1.0, 0.0, 0.0]).split([4, 3])
    centred = torch.cat([group - group.mean() for group in r])
    # The group without spread counts in the update's spread, with 0.
    advantage = centred / ((centred.square().sum() / 11).sqrt() + 1e-4)
    cfg, model = replace(TINY, micro=micro, beta=beta), moved()
    model, _, metrics = watched(cfg, judge, model)
    got = gradient(model)
    model.network.zero_grad()
    seen = rolled(model, cfg)
    now = log_probs(model, seen, cfg)
    objective = (torch.exp(now - now.detach())[:, taught] * advantage).mean()
    with torch.no_grad(), model.reference() as reference:
        before = policies(reference, seen, cfg)
    gaps = [
        (a.mean_BSC - b.mean_BSC).square().mean((1, 2)) / (2 * a.std**2)
        for a, b in zip(policies(model, seen, cfg), before, strict=True)
    ]
    kl = torch.stack(gaps)[:, taught].mean()
    levels, first = cfg.sampler.levels(), cfg.exploration.start(0, 0)
    rate = cfg.exploration.window / (levels[first] - levels[first + cfg.exploration.window])
    (beta * rate * kl - objective).backward()
    close(got, gradient(model))
    assert metrics["unjudged"] == pytest.approx(1 / 12)
    assert metrics["groups_without_spread"] == pytest.approx(1 / 3)
    assert metrics["reward"] == pytest.approx((1.75 + 2.8 + 1.0) / 11)
    assert float(kl.detach()) > 1e-4 and (not beta or metrics["kl"] == pytest.approx(float(kl.detach()), rel=1e-3))


@pytest.mark.parametrize("step", [0, 1])
def test_rewards_reach_the_pictures_they_are_for(step):
    """Prompts, conditionings, images, rewards and advantages of one sample stay together, group beside group."""
    judge, model, cfg = listed(*SPREAD), tiny_model(), replace(TINY, micro=G, steps=step + 1)
    engine = Watching(model)
    (done,) = train(model, engine, PROMPTS, judge, cfg, start=step)
    assert done.index == step
    chosen = PROMPTS.batch(step, 3)
    assert [prompts for prompts, _ in judge.requests] == [(p,) * G for p in chosen]
    seen = rolled(model, cfg, step)
    assert torch.equal(seen.cond.text_BLD, model.encode_text([p.text for p in chosen for _ in range(G)]).text_BLD)
    pictures = torch.cat([torch.from_numpy(images) for _, images in judge.requests])
    expected = model.decode(seen.x0_BSC) * 255.0
    assert pictures.dtype == torch.uint8 and float((pictures.float() - expected).abs().max()) < 0.51
    advantage, _ = advantages(torch.tensor(SPREAD), False, 5.0)
    assert len(engine.micros) == 2 * 3
    for i, micro in enumerate(engine.micros):
        t, group = seen.transitions[i % 2], i // 2
        rows = slice(group * G, group * G + G)
        assert torch.equal(micro.advantage_B, advantage[group]) and micro.weight_B.tolist() == [1.0] * G
        assert torch.equal(micro.transition.next_BSC, t.next_BSC[rows])
        assert torch.equal(micro.transition.x_BSC, t.x_BSC[rows.start // t.copies : rows.stop // t.copies])
        text = micro.trajectory.cond.text_BLD
        assert (
            torch.equal(text, seen.cond.text_BLD[rows, : text.shape[1]])
            and not seen.cond.mask_BL[rows, text.shape[1] :].any()
        )


def test_ranks_share_the_spread_and_keep_their_own_samples():
    model = tiny_model()
    elsewhere = torch.tensor(SPREAD[::-1]).flatten() * 9.0
    engine = Watching(model, rank=1, others=elsewhere)
    judge = listed(*SPREAD)
    list(train(model, engine, PROMPTS, judge, TINY))
    everyone, _ = advantages(torch.cat([elsewhere, torch.tensor(SPREAD).flatten()]).view(-1, G), False, 5.0)
    assert torch.equal(engine.micros[0].advantage_B, everyone[3:].flatten())
    assert [prompts[0] for prompts, _ in judge.requests] == PROMPTS.batch(1, 3), "rank 1 of 2 reads the second batch"


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_an_update_raises_what_was_better(guidance):
    """Measured from outside: log-probabilities of the rollout's actions before and after a few small updates."""
    model, cfg = tiny_model(), replace(TINY, sampler=Sampler(steps=6, guidance=guidance), clip=10.0)
    seen = rolled(model, cfg)
    before = log_probs(model, seen, cfg)
    list(train(model, LocalEngine(model.network, GENTLE), PROMPTS, listed(*SPREAD), cfg))
    gain_B = (log_probs(model, seen, cfg) - before).detach().sum(0)
    advantage, _ = advantages(torch.tensor(SPREAD), False, 5.0)
    assert float((gain_B * advantage.flatten()).mean()) > 1e-4
    assert float(gain_B[advantage.flatten() > 0].mean()) > float(gain_B[advantage.flatten() < 0].mean()) + 1e-4


# --- what must not happen -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rewards", [([0.7] * G, [0.1] * G, [0.0] * G), ([math.nan] * G,), ([math.nan, 1.0, math.nan, math.nan],)]
)
def test_nothing_to_learn_moves_nothing(rewards):
    model, judge = tiny_model(), listed(*rewards)
    engine, before = LocalEngine(model.network, GENTLE), weights(model)
    steps = list(train(model, engine, PROMPTS, judge, replace(TINY, steps=2)))
    assert [s.index for s in steps] == [0, 1] and engine.updates == 0
    assert same(weights(model), before)
    assert steps[0].metrics["groups_without_spread"] == 1.0 and "loss" not in steps[0].metrics


def test_kl_pulls_back_to_the_reference():
    """0 where training begins; after the policy has moved, positive, and following its gradient lowers it."""
    cfg = replace(TINY, beta=1e5, exploration=Exploration(window=2, within=2))
    _, _, metrics = watched(cfg, listed(*SPREAD))
    assert metrics["kl"] == 0.0
    model = moved()
    engine = LocalEngine(model.network, replace(GENTLE, adamw_lr=1e-3))
    kl = [s.metrics["kl"] for s in train(model, engine, PROMPTS, listed(*SPREAD), replace(cfg, steps=12))]
    assert kl[0] > 1e-6
    assert kl[-1] < 0.5 * kl[0]


def test_kl_needs_its_reference_only_when_it_counts():
    model = tiny_model()
    model._frozen = None
    watched(TINY, listed(*SPREAD), model)
    with pytest.raises(ValueError, match="freeze_reference"):
        watched(replace(TINY, beta=0.1), listed(*SPREAD), model)


def test_the_reference_never_learns():
    model = tiny_model()
    assert model._frozen is not None
    before = {name: value.clone() for name, value in model._frozen.state_dict().items()}
    fast = replace(GENTLE, adamw_lr=1e-2)
    list(train(model, LocalEngine(model.network, fast), PROMPTS, listed(*SPREAD), replace(TINY, steps=2, beta=0.1)))
    assert same(dict(model._frozen.state_dict()), before)
    assert not same(weights(model), before)


# --- over several updates -----------------------------------------------------------------------------------------


def test_later_updates_of_a_rollout_use_the_ratio():
    gaps: list[list[float]] = []

    def listening(model: QwenImage, m: Micro, cfg: Grpo) -> tuple[Tensor, dict[str, Tensor]]:
        total, metrics = loss(model, m, cfg)
        gaps.append([float(metrics["ratio_gap"]), float(metrics["ratio"])])
        return total, metrics

    model = tiny_model()
    engine = LocalEngine(model.network, replace(GENTLE, adamw_lr=1e-3))
    (step,) = train(model, engine, PROMPTS, listed(*SPREAD), replace(TINY, updates=2), loss=listening)
    assert engine.updates == 2
    assert len(gaps) == 4
    assert gaps[:2] == [[0.0, 1.0]] * 2 and min(gap for gap, _ in gaps[2:]) > 1e-5
    assert step.metrics["ratio_gap_first"] == 0.0 and step.metrics["ratio_gap"] > 1e-5


def test_training_goes_on_where_it_stopped(tmp_path):
    cfg = replace(TINY, steps=4, micro=G)

    def run(model: QwenImage, engine: LocalEngine, start: int, stop: int) -> list[dict[str, float]]:
        return [s.metrics for s in train(model, engine, PROMPTS, Judged(redness), replace(cfg, steps=stop), start)]

    whole = tiny_model()
    expected = run(whole, LocalEngine(whole.network, GENTLE), 0, 4)
    first, second = tiny_model(), tiny_model(seed=0)
    engine = LocalEngine(first.network, GENTLE)
    begun = run(first, engine, 0, 2)
    engine.save(tmp_path)
    engine = LocalEngine(second.network, GENTLE)
    engine.load(tmp_path)
    assert begun + run(second, engine, 2, 4) == expected
    assert same(weights(second), weights(whole))
    assert len({metrics["reward"] for metrics in expected}) == 4
    assert [metrics["window"] for metrics in expected] == [cfg.exploration.start(0, step) for step in range(4)]


def test_learns_to_paint_red():
    model = tiny_model(fresh=True)
    cfg = Grpo(steps=40, prompts=2, group=12, micro=24, sampler=Sampler(steps=6), clip=1e-2)
    optim = OptimConfig(steps=40, muon_lr=0.0, adamw_lr=3e-3, warmup=0, decay_from=1.0)
    engine = LocalEngine(model.network, optim)
    reward = [s.metrics["reward"] for s in train(model, engine, PROMPTS, Judged(redness), cfg)]
    with torch.no_grad():
        alone = redness(0, (), (model.decode(model.noise(200, torch.Generator().manual_seed(0))) * 255).numpy())
    assert np.mean(reward[-5:]) > np.mean(reward[:5]) + 5.0 * alone.std()


# --- settings -----------------------------------------------------------------------------------------------------


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="group=1: a group needs at least 2"):
        Grpo(steps=1, group=1, micro=1)
    for micro in (G + 1, 2 * G):
        with pytest.raises(ValueError, match=f"micro={micro} must be a multiple of group={G}"):
            replace(TINY, micro=micro)
    for steps in (3, 4):
        with pytest.raises(ValueError, match=f"within=4 must be below sampler.steps={steps}"):
            replace(TINY, sampler=Sampler(steps=steps))


# --- walks and the unit of beta -----------------------------------------------------------------------------------

WALKS = [
    Exploration(window=2, within=4),
    Exploration(window=5, within=5),
    Exploration(window=2, within=4, stay=2, in_order=True),
]


@pytest.mark.parametrize(("kernel", "noise"), KERNELS)
@pytest.mark.parametrize("walk", WALKS, ids=["moving", "full", "sliding"])
def test_every_kernel_learns_along_every_walk(kernel, noise, walk):
    cfg = replace(TINY, exploration=replace(walk, kernel=kernel, noise=noise), clip=10.0)
    model = tiny_model()
    seen = rolled(model, cfg)
    before = log_probs(model, seen, cfg)
    assert len(before) == walk.window
    (step,) = train(model, LocalEngine(model.network, GENTLE), PROMPTS, listed(*SPREAD), cfg)
    assert step.metrics["ratio_gap_first"] == 0.0
    gain_B = (log_probs(model, seen, cfg) - before).detach().mean(0)
    advantage, _ = advantages(torch.tensor(SPREAD), False, 5.0)
    assert float((gain_B * advantage.flatten()).mean()) > 0.0


@pytest.mark.parametrize("storage", ["bfloat16", "float16"])
def test_ratio_is_exactly_one_whatever_latents_are_stored_in(storage):
    _, _, metrics = watched(
        replace(TINY, exploration=Exploration(window=5, within=5, storage=storage)), listed(*SPREAD)
    )
    assert metrics["ratio_first"] == 1.0 and metrics["ratio_gap_first"] == 0.0


def kl_metrics(steps: int, paper: bool = False) -> dict[str, float]:
    """Of a network that answers a constant other than the reference's, from sigma 1 to 0.3."""
    noisy = round(0.7 * steps)
    walk = Exploration(flow.dance, 0.5, window=noisy, within=noisy, shared_noise=False)
    sampler = Sampler(steps=steps, mu=0.0)
    levels = sampler.levels()
    model, B, reports = Line(0.6, 0.4), 2, []
    cond = Conditioning(torch.zeros(B, 1, 1), torch.ones(B, 1, dtype=torch.bool), ((1, 1),) * B)
    zero = torch.zeros(B, 1, 1)
    path = tuple(Transition(zero, zero, levels[i], levels[i + 1], 1, zero[:, 0, 0], zero) for i in range(noisy))
    cfg = Grpo(steps=1, prompts=1, group=2, micro=2, sampler=sampler, exploration=walk, beta=1.0, paper_compat=paper)
    for t in path:
        one = torch.ones(B)
        reports.append(loss(model, Micro(Trajectory(cond, cond, path, zero), t, one, one), cfg)[1])
    return {name: float(torch.stack([r[name] for r in reports]).mean()) for name in ("kl", "kl_rate")}


def test_beta_does_not_depend_on_the_number_of_steps():
    """(G5) tends to the integral of (s (1 - sigma) / (2 sigma) + 1 / s)^2 / 2 |v - v_ref|^2; KL_t itself halves."""
    few, many = kl_metrics(100), kl_metrics(200)
    assert many["kl_rate"] == pytest.approx(few["kl_rate"], rel=0.02)
    assert many["kl"] == pytest.approx(few["kl"] / 2, rel=0.03)
    sigma = np.linspace(0.3, 1.0, 10001)
    rate = 0.5 * (0.5 * (1 - sigma) / (2 * sigma) + 1 / 0.5) ** 2 * 0.2**2
    assert many["kl_rate"] == pytest.approx(float(rate.mean()), rel=0.02)


def test_paper_compat_leaves_the_step_size_out():
    """mean (mu - mu_ref)^2 / (2 s^2) of one step, s without the root of the step size."""
    steps, eta = 50, 0.5
    levels = np.linspace(1, 0, steps + 1)[: round(0.7 * steps)]
    slope = (1 / steps) * (1 + eta**2 * (1 - levels) / (2 * levels))
    assert kl_metrics(steps, paper=True)["kl_rate"] == pytest.approx(
        float(((slope * 0.2) ** 2 / (2 * eta**2)).mean()), rel=1e-3
    )
    with pytest.raises(ValueError, match=r"paper_compat is for exploration.kernel flow.flow_sde or flow.dance"):
        replace(TINY, paper_compat=True)


def test_kl_is_zero_at_the_start_and_has_a_gradient():
    """A divergence that is cut off from the policy is 0 too: a step away it must pull, in proportion."""
    for away in (0.0, 1e-3, 2e-3):
        total, slope, metrics = on_paper([1.0], [0.0], [1.0], beta=1.0, value=0.4 + away)
        assert (metrics["kl"] == 0.0) == (away == 0.0)
        assert slope == pytest.approx(SLOPE**2 * away / STD**2 / (SIGMA - NEXT), rel=1e-3)
        assert total == pytest.approx(0.5 * slope * away, abs=1e-9)


def test_without_a_stochastic_step_nothing_can_be_reinforced():
    with pytest.raises(ValueError, match=r"exploration.window=0"):
        replace(TINY, exploration=Exploration(window=0, shared_noise=False))
