"""DiffusionNFT, AWM, RWR, best of n and online DPO: by hand, where they stand still, and that they learn.

Shapes: B samples, S latent tokens, C channels; P prompts, G samples of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from alignment import awm, best_of_n, dpo, nft, online_dpo, rwr
from alignment.awm import Awm
from alignment.best_of_n import BestOfN, best_rows
from alignment.forward_process import FinishedImages, Forward, Point, noised
from alignment.groups import Rollouts, sample_groups
from alignment.nft import Nft
from alignment.online_dpo import OnlineDpo
from alignment.rwr import Rwr, regression_weights
from alignment.trajectory import Exploration
from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.interface import Conditioning
from base_model.qwen.model import QwenImage
from base_model.sample import Sampler
from tests.fixtures.tiny.tiny_model import gradient, same, tiny_model, weights
from tests.fixtures.toy_alignment import GENTLE, PROMPTS, SPREAD, G, Judged, Line, Watching, listed, moved, redness

ODE = Exploration(window=0, within=2, shared_noise=False)
SETTINGS = {"steps": 1, "prompts": 3, "group": G, "micro": 3 * G, "sampler": Sampler(steps=3), "exploration": ODE}
ALL = [(Nft, nft), (Awm, awm), (Rwr, rwr), (BestOfN, best_of_n), (OnlineDpo, online_dpo)]


def cond_of(B: int, S: int = 1) -> Conditioning:
    return Conditioning(torch.zeros(B, 1, 1), torch.ones(B, 1, dtype=torch.bool), ((1, S),) * B)


def point(x0: list[float], eps: list[float], sigma: list[float], advantage: list[float]) -> Point:
    """Images of one number."""
    B = len(x0)
    a, b, s = (torch.tensor(values) for values in (x0, eps, sigma))
    x = ((1 - s) * a + s * b).view(B, 1, 1)
    return Point(x, s, (b - a).view(B, 1, 1), cond_of(B), torch.tensor(advantage), torch.ones(B))


def slope(total: Tensor, model: Line) -> float:
    return float(torch.autograd.grad(total, model.trainable.value)[0])


X0, EPS, SIGMA = [1.0, -0.5, 0.3], [0.25, 0.75, -1.0], [0.2, 0.5, 0.9]


# --- DiffusionNFT -------------------------------------------------------------------------------------------------


def test_nft_by_hand():
    old, new, mix, advantage = 0.1, 0.4, 0.5, [2.0, -1.0, 9.0]
    m = nft.Micro(point(X0, EPS, SIGMA, advantage), torch.full((3, 1, 1), old))
    total, metrics = nft.loss(Line(new, 0.3), m, Nft(**SETTINGS, mix=mix, beta=0.7))
    found = 0.0
    for x0, eps, sigma, a in zip(X0, EPS, SIGMA, advantage, strict=True):
        r = 0.5 + 0.5 * min(max(a / 5.0, -1.0), 1.0)
        x = (1 - sigma) * x0 + sigma * eps
        for share, v in ((r, mix * new + (1 - mix) * old), (1 - r, (1 + mix) * old - mix * new)):
            missed = x - sigma * v - x0
            found += share * missed**2 / abs(missed) / mix / 3
    assert float(total.detach()) == pytest.approx(found + 0.7 * (new - 0.3) ** 2, rel=1e-5)
    assert float(metrics["moved"]) == pytest.approx((new - old) ** 2, rel=1e-5)
    assert float(metrics["drift"]) == pytest.approx((new - 0.3) ** 2, rel=1e-5)


def test_nft_is_held_to_the_guided_start():
    """v_ref is what guidance makes of the start: at the start already there is a pull, by as much as guidance adds."""
    model = tiny_model()
    cond = model.encode_text(['the word "CAT" in red on white'] * 2)
    random = torch.Generator().manual_seed(0)
    x, sigma = model.noise(2, random), torch.tensor([0.4, 0.8])
    p = Point(x, sigma, model.noise(2, random), cond, torch.zeros(2), torch.ones(2))
    model.freeze_reference()
    with torch.no_grad():
        old = model.velocity(x, sigma, cond)
        guided = model.guided(x, sigma, cond, model.unconditional(2), 3.0)
    m = nft.Micro(p, old)
    drifts = [
        float(nft.loss(model, m, Nft(**SETTINGS, beta=0.5, reference_guidance=g))[1]["drift"]) for g in (1.0, 3.0)
    ]
    added = float((old - guided).square().mean())
    assert added > 0.0 and drifts == [0.0, pytest.approx(added, rel=1e-5)]
    with pytest.raises(ValueError, match=r"reference_guidance=2\.0 .* set beta"):
        Nft(**SETTINGS, reference_guidance=2.0)
    image = replace(cond, images_BRC=torch.zeros(2, 1, 4), image_grids=(((1, 1),), ((1, 1),)))
    with pytest.raises(ValueError, match="without source images"):
        nft.reference_velocity(model, p._replace(cond=image), 2.0)


def test_nfts_fixed_point_at_zero_advantage():
    """Good and bad pull equally: the old policy is stationary, and who strays across the error is pulled back."""
    target = torch.randn(2, 500, 1, generator=torch.Generator().manual_seed(0))
    target += 0.1 - target.mean(1, keepdim=True)  # no error along the only direction that the model can move in
    sigma = torch.tensor([0.3, 0.8])
    p = Point(torch.zeros_like(target), sigma, target, cond_of(2, 500), torch.zeros(2), torch.ones(2))
    m = nft.Micro(p, torch.full_like(target, 0.1))
    for mix in (0.1, 1.0):
        cfg = Nft(**SETTINGS, mix=mix)
        for new, sign in ((0.1, 0), (0.101, 1), (0.099, -1), (0.3, 1), (-0.2, -1)):
            model = Line(new, 0.1)
            found = slope(nft.loss(model, m, cfg)[0], model)
            assert found == pytest.approx(0.0, abs=1e-6) if sign == 0 else found * sign > 1e-5


def test_nft_at_the_old_policy_follows_the_flow_error_by_how_good_it_was():
    """(2 r - 1) times the gradient of the image's error: towards good images, away from bad ones, whatever b."""
    for mix in (0.1, 1.0):
        for a, factor in ((5.0, 1.0), (2.5, 0.5), (-5.0, -1.0)):
            one = point(X0[:1], EPS[:1], SIGMA[:1], [a])
            model = Line(0.1, 0.1)
            total, _ = nft.loss(model, nft.Micro(one, torch.full((1, 1, 1), 0.1)), Nft(**SETTINGS, mix=mix))
            missed = SIGMA[0] * ((EPS[0] - X0[0]) - 0.1)
            assert slope(total, model) == pytest.approx(factor * -2 * SIGMA[0] * missed / abs(missed), rel=1e-4)


def noting(model: QwenImage, average: Callable[[Any], Tensor], decay: float = 0.9) -> tuple[LocalEngine, list[bool]]:
    """An engine that learns, and whether what every micro-batch holds is what the weight average answers there."""
    engine, seen = LocalEngine(model.network, replace(GENTLE, adamw_lr=1e-2, ema_decay=decay)), []
    original = engine.update

    def update(micros, loss):
        with torch.no_grad(), engine.averaged():
            seen.extend(torch.equal(average(m), model.velocity(*m.point[:2], m.point.cond)) for m in micros)
        return original(micros, loss)

    engine.update = update
    return engine, seen


def test_nfts_old_policy_is_the_average_and_draws_the_pictures():
    """Without an average it is the present one; with one, the average of the updates so far."""
    model = tiny_model()
    engine, seen = noting(model, lambda m: m.old_BSC)
    steps = list(nft.train(model, engine, PROMPTS, listed(*SPREAD), Nft(**{**SETTINGS, "steps": 3})))
    assert seen == [True] * 3
    assert steps[0].metrics["moved"] == 0.0 and steps[2].metrics["moved"] > 1e-6, "the average lags behind"


def test_awm_is_held_to_the_average():
    model = tiny_model()
    engine, seen = noting(model, lambda m: m.slow_BSC)
    steps = list(awm.train(model, engine, PROMPTS, listed(*SPREAD), Awm(**{**SETTINGS, "steps": 3})))
    assert seen == [True] * 3
    assert steps[0].metrics["moved"] == 0.0 and steps[2].metrics["moved"] > 1e-6, "the average lags behind"


# --- AWM ----------------------------------------------------------------------------------------------------------


def test_awm_by_hand():
    old, new, slow, power, advantage = 0.1, 0.4, 0.2, 2.0, [2.0, -1.0, 0.5]
    p = point(X0, EPS, SIGMA, advantage)
    then = awm.log_prob(torch.full((3, 1, 1), old), p, power)
    model = Line(new, 0.0)
    total, metrics = awm.loss(
        model, awm.Micro(p, then, torch.full((3, 1, 1), slow)), Awm(**SETTINGS, power=power, clip=0.05, beta=0.3)
    )
    terms, ratios, open_ = [], [], 0.0
    for x0, eps, sigma, a in zip(X0, EPS, SIGMA, advantage, strict=True):
        target = eps - x0
        rho = math.exp(-(sigma**power) * ((new - target) ** 2 - (old - target) ** 2))
        ratios.append(rho)
        terms.append(min(rho * a, min(max(rho, 0.95), 1.05) * a))
        if terms[-1] == rho * a:
            open_ += rho * a * -(sigma**power) * 2 * (new - target)
    assert float(total.detach()) == pytest.approx(-sum(terms) / 3 + 0.3 * (new - slow) ** 2, rel=1e-5)
    assert float(metrics["clip_share"]) == pytest.approx(sum(abs(r - 1) > 0.05 for r in ratios) / 3)
    assert slope(total, model) == pytest.approx(-open_ / 3 + 0.6 * (new - slow), rel=1e-4)


def test_awms_first_gradient_is_pretrainings_weighed_by_the_advantage():
    advantage = [2.0, -1.0, 0.5]
    p = point(X0, EPS, SIGMA, advantage)
    model = Line(0.1, 0.1)
    then = awm.log_prob(torch.full((3, 1, 1), 0.1), p, 0.0)
    total, metrics = awm.loss(model, awm.Micro(p, then, torch.full((3, 1, 1), 0.1)), Awm(**SETTINGS))
    expected = sum(a * 2 * (0.1 - (e - x)) for a, e, x in zip(advantage, EPS, X0, strict=True)) / 3
    assert slope(total, model) == pytest.approx(expected, rel=1e-4)
    assert metrics["ratio"] == 1.0 and metrics["ratio_gap"] == 0.0


def test_awms_ratio_is_exactly_one_before_the_first_update():
    for micro in (G, 3 * G):
        model = tiny_model()
        cfg = Awm(**{**SETTINGS, "micro": micro}, updates=2, levels=2, clip=1e-9)
        engine = LocalEngine(model.network, replace(GENTLE, adamw_lr=1e-3))
        (step,) = awm.train(model, engine, PROMPTS, listed(*SPREAD), cfg)
        assert step.metrics["ratio_first"] == 1.0 and step.metrics["ratio_gap_first"] == 0.0
        assert step.metrics["clip_share"] == 1.0 and engine.updates == 2


# --- RWR and best of n --------------------------------------------------------------------------------------------


def test_regression_weights_by_hand():
    advantage = torch.tensor([[0.0, math.log(3.0), 5.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    judged = torch.tensor([[True, True, False, False], [False] * 4])
    torch.testing.assert_close(
        regression_weights(advantage, judged, 1.0), torch.tensor([[0.5, 1.5, 0.0, 0.0], [0.0] * 4])
    )
    half = regression_weights(advantage, judged, 0.5)[0]
    torch.testing.assert_close(half, torch.tensor([0.2, 1.8, 0.0, 0.0]))
    all_of_them = torch.ones(1, 4, dtype=torch.bool)
    torch.testing.assert_close(regression_weights(advantage[:1], all_of_them, 1e6), torch.ones(1, 4))
    cold = regression_weights(advantage[:1], all_of_them, 1e-3)
    torch.testing.assert_close(cold, torch.tensor([[0.0, 0.0, 4.0, 0.0]]))


def test_weighted_flow_error_by_hand():
    p = point(X0, EPS, SIGMA, [0.0] * 3)._replace(weight_B=torch.tensor([2.0, 0.0, 1.0]))
    total, metrics = rwr.loss(Line(0.4, 0.0), p)
    errors = [(0.4 - (e - x)) ** 2 for x, e in zip(X0, EPS, strict=True)]
    assert float(total.detach()) == pytest.approx((2 * errors[0] + errors[2]) / 3, rel=1e-5)
    assert float(metrics["flow_error"]) == pytest.approx(sum(errors) / 3, rel=1e-5)


def test_the_best_is_the_first_of_the_best_that_were_judged():
    advantage = torch.tensor([0.0, 2.0, 2.0, 9.0, -1.0, -2.0, -3.0, -1.0, 0.0, 0.0, 0.0, 0.0])
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    assert best_rows(advantage, weight, 4).tolist()[:2] == [1, 4]
    assert best_rows(-advantage, weight, 4).tolist()[:2] == [0, 6]
    assert 8 <= int(best_rows(advantage, weight, 4)[2]) < 12


def drawn_by(cfg: Forward, judge: Judged) -> Rollouts:
    model = tiny_model()
    return sample_groups(model, Watching(model), PROMPTS, judge, cfg, 0)


def test_only_the_best_of_each_group_is_fitted():
    cfg = BestOfN(**SETTINGS, levels=2)
    model = tiny_model()
    engine = Watching(model)
    list(best_of_n.train(model, engine, PROMPTS, listed(SPREAD[0], [0.5] * G, SPREAD[2]), cfg))
    (part,) = drawn_by(cfg, listed(SPREAD[0], [0.5] * G, SPREAD[2])).parts
    assert len(engine.micros) == 2
    for p in engine.micros:
        x0 = p.x_BSC - p.sigma_B.view(-1, 1, 1) * p.target_BSC
        torch.testing.assert_close(x0[[0, 2]], part.trajectory.x0_BSC[[1, 11]], atol=1e-5, rtol=1e-5)
        assert p.weight_B.tolist() == pytest.approx([1.5, 0.0, 1.5])
        expected = model.encode_text([prompt.text for prompt in PROMPTS.batch(0, 3)])
        assert torch.equal(p.cond.text_BLD, expected.text_BLD)
    assert float((engine.micros[0].sigma_B - engine.micros[1].sigma_B).abs().min()) > 0.0


# --- online DPO ---------------------------------------------------------------------------------------------------


def test_online_dpo_is_dpo_on_the_best_and_the_worst():
    cfg = OnlineDpo(**SETTINGS, levels=2, beta=20.0)
    model = moved()
    engine = Watching(model)
    (step,) = online_dpo.train(model, engine, PROMPTS, listed(SPREAD[0], SPREAD[1], [1.0, math.nan, 0.0, 2.0]), cfg)
    model = moved()
    (part,) = sample_groups(
        model, Watching(model), PROMPTS, listed(SPREAD[0], SPREAD[1], [1.0, math.nan, 0.0, 2.0]), cfg, 0
    ).parts
    assert len(engine.micros) == 2
    for m in engine.micros:
        torch.testing.assert_close(m.pairs.x0_2BSC, part.trajectory.x0_BSC[[1, 4, 11, 0, 5, 10]], atol=1e-6, rtol=1e-6)
        assert torch.equal(m.pairs.eps_2BSC[:3], m.pairs.eps_2BSC[3:])
        assert torch.equal(m.pairs.sigma_2B[:3], m.pairs.sigma_2B[3:])
        total, metrics = online_dpo.loss(model, m._replace(weight_B=torch.ones(3)), cfg)
        expected, known = dpo.loss(model, m.pairs, dpo.Dpo(steps=1, beta=20.0))
        torch.testing.assert_close(total, expected)
        for name, value in known.items():
            torch.testing.assert_close(metrics[name], value, msg=name)
    assert "implicit_accuracy" in step.metrics


def test_online_dpo_starts_at_log_2_and_leaves_out_what_has_no_spread():
    cfg = OnlineDpo(**SETTINGS)
    for follow in (False, True):
        model = tiny_model()
        engine = LocalEngine(model.network, replace(GENTLE, ema_decay=0.9))
        judge = listed(SPREAD[0], [0.5] * G, SPREAD[2])
        (step,) = online_dpo.train(model, engine, PROMPTS, judge, replace(cfg, follow=follow))
        assert step.metrics["loss"] == pytest.approx(math.log(2.0), abs=1e-5)
        assert step.metrics["margin"] == 0.0


def test_following_needs_no_frozen_reference():
    model = tiny_model()
    model._frozen = None
    cfg = OnlineDpo(**{**SETTINGS, "steps": 3}, follow=True)
    engine = LocalEngine(model.network, replace(GENTLE, adamw_lr=1e-3, ema_decay=0.9))
    steps = list(online_dpo.train(model, engine, PROMPTS, listed(*SPREAD), cfg))
    assert abs(steps[-1].metrics["loss"] - math.log(2.0)) > 1e-6
    with pytest.raises(ValueError, match="freeze_reference"):
        list(online_dpo.train(model, engine, PROMPTS, listed(*SPREAD), replace(cfg, follow=False)))


# --- all of them --------------------------------------------------------------------------------------------------


def test_noise_and_levels_are_functions_of_their_address():
    few = [FinishedImages(torch.zeros(G, 12, 16), cond_of(G, 12), torch.zeros(G), torch.ones(G))]
    cfg = Forward(**SETTINGS, levels=2, sigma_mean=1.0, sigma_std=0.5)
    drawn = {a: [p.target_BSC for p in noised(few, cfg, *a)] for a in ((0, 0), (1, 0), (0, 1))}
    flat = torch.cat([torch.cat(points) for points in drawn.values()]).flatten(1)
    assert torch.pdist(flat).min() > 0.8 * math.sqrt(2 * 192)
    assert torch.equal(noised(few, cfg, 0, 0)[1].target_BSC, drawn[0, 0][1])
    many = FinishedImages(torch.zeros(4000, 1, 1), cond_of(4000), torch.zeros(4000), torch.ones(4000))
    logits = torch.logit(noised([many], cfg, 0, 0)[0].sigma_B)
    assert float(logits.mean()) == pytest.approx(1.0, abs=0.05) and float(logits.std()) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(("kind", "algorithm"), ALL)
@pytest.mark.parametrize("rewards", [([0.7] * G,), ([math.nan] * G,), ([math.nan, 1.0, math.nan, math.nan],)])
def test_nothing_to_learn_moves_nothing(kind, algorithm, rewards):
    model = tiny_model()
    engine, before = LocalEngine(model.network, GENTLE), weights(model)
    (step,) = algorithm.train(model, engine, PROMPTS, listed(*rewards), kind(**SETTINGS))
    assert engine.updates == 0 and same(weights(model), before) and "loss" not in step.metrics


@pytest.mark.parametrize(("kind", "algorithm"), ALL)
def test_what_could_not_be_judged_teaches_nothing(kind, algorithm):
    """The gradient is that of the rest, whatever the unjudged image shows."""
    found = []
    for loud in (False, True):
        model = moved()
        engine = Watching(model)
        judge = listed([0.0, 1.0, 0.5, math.nan], [0.7] * G, [1.0, math.nan, 0.0, 0.25])
        original = engine.update

        def update(micros, loss, original=original, loud=loud):
            if loud:
                micros = [blown(micro) for micro in micros]
            return original(micros, loss)

        engine.update = update
        list(algorithm.train(model, engine, PROMPTS, judge, kind(**SETTINGS)))
        found.append(gradient(model))
    largest = max(float(value.abs().max()) for value in found[0].values())
    assert largest > 1e-6
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-5 * largest, rtol=1e-4, msg=name)


def blown(micro):
    """The same micro-batch with other targets for whatever weighs nothing."""
    if isinstance(micro, online_dpo.Micro):
        off = (micro.weight_B == 0.0).repeat(2).view(-1, 1, 1)
        return micro._replace(pairs=micro.pairs._replace(x0_2BSC=micro.pairs.x0_2BSC + 3.0 * off))
    if isinstance(micro, Point):
        return micro._replace(target_BSC=micro.target_BSC + 3.0 * (micro.weight_B == 0.0).view(-1, 1, 1))
    return micro._replace(point=blown(micro.point))


@pytest.mark.parametrize(("kind", "algorithm"), ALL)
def test_training_goes_on_where_it_stopped(kind, algorithm, tmp_path):
    cfg = kind(**{**SETTINGS, "steps": 3, "prompts": 2, "micro": G})
    optim = replace(GENTLE, ema_decay=0.9, adamw_lr=1e-3)

    def run(model, engine, start: int, stop: int) -> list[dict[str, float]]:
        return [
            s.metrics for s in algorithm.train(model, engine, PROMPTS, Judged(redness), replace(cfg, steps=stop), start)
        ]

    whole, first, second = tiny_model(), tiny_model(), tiny_model()
    expected = run(whole, LocalEngine(whole.network, optim), 0, 3)
    engine = LocalEngine(first.network, optim)
    begun = run(first, engine, 0, 2)
    engine.save(tmp_path)
    engine = LocalEngine(second.network, optim)
    engine.load(tmp_path)
    assert begun + run(second, engine, 2, 3) == expected and same(weights(second), weights(whole))


@pytest.mark.parametrize(("kind", "algorithm", "rate", "more"), [
    (Nft, nft, 1e-3, {"mix": 0.5}), (Awm, awm, 1e-3, {}), (Rwr, rwr, 5e-3, {"temperature": 0.3}),
    (OnlineDpo, online_dpo, 1e-3, {"beta": 20.0}),
    pytest.param(BestOfN, best_of_n, 2e-3, {"steps": 40, "group": 12, "micro": 24}, marks=pytest.mark.slow),
])  # fmt: skip
def test_learns_to_paint_red(kind, algorithm, rate, more):
    model = tiny_model(fresh=True)
    cfg = kind(**{
        "steps": 20, "prompts": 2, "group": 8, "micro": 16, "sampler": Sampler(steps=3), "exploration": ODE, "sigma_mean": 1.0,  # noqa: E501
        **more,
    })  # fmt: skip
    optim = OptimConfig(steps=cfg.steps, muon_lr=0.0, adamw_lr=rate, warmup=0, decay_from=1.0)
    engine = LocalEngine(model.network, optim)
    reward = [s.metrics["reward"] for s in algorithm.train(model, engine, PROMPTS, Judged(redness), cfg)]
    with torch.no_grad():
        alone = redness(0, (), (model.decode(model.noise(200, torch.Generator().manual_seed(0))) * 255).numpy())
    gain = (np.mean(reward[-5:]) - np.mean(reward[:5])) / alone.std()
    assert gain > 0.25, gain


def test_settings_that_cannot_work_are_refused():
    for mix in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"mix={mix} must be in"):
            Nft(**SETTINGS, mix=mix)
    with pytest.raises(ValueError, match=r"temperature=0.0 must be positive"):
        Rwr(**SETTINGS, temperature=0.0)
    with pytest.raises(ValueError, match=r"beta=-1.0 must be positive"):
        OnlineDpo(**SETTINGS, beta=-1.0)
    with pytest.raises(ValueError, match="levels=0 must be at least 1"):
        Forward(**SETTINGS, levels=0)
