"""Flow-matching training: the loss by hand, what a batch is made of, and the circle from an image back to it.

Shapes: B samples, S latent tokens, C channels.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from base_model import sft
from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.interface import Conditioning
from base_model.pretrain import Batch, Micro, Pretrain, drop_text, loss, train
from base_model.qwen.model import QwenImage
from base_model.sample import Sampler, sample
from base_model.seeding import generator
from tests.fixtures.tiny.tiny_model import Spy, same, tiny_model, weights

WORDS = ("A", "BC", "DEF", "GHIJ", "KL", "M", "NOPQR", "STU")
OPTIM = OptimConfig(steps=100, muon_lr=0.0, adamw_lr=1e-3, clip=0.0, warmup=0, decay_from=1.0)
TINY = Pretrain(steps=1, batch=8, micro=8, dropout=0.25)


class Random:
    """Random latents with captions of different lengths, addressable as any data."""

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        x0 = torch.randn(size, 12, 16, generator=generator(0, step, rank, "latents"))
        return Batch(x0, [f'the word "{WORDS[(3 * step + rank + i) % len(WORDS)]}" in red' for i in range(size)])


def engine_of(model: QwenImage, optim: OptimConfig = OPTIM) -> LocalEngine:
    return LocalEngine(model.network, optim)


def spied(cfg: Pretrain, rank: int = 0, world_size: int = 1) -> Spy:
    """What the network was asked, call by call; its weights hardly move."""
    model = tiny_model()
    engine = engine_of(model, replace(OPTIM, adamw_lr=1e-12))
    engine.rank, engine.world_size = rank, world_size
    with Spy(model) as spy:
        list(train(model, engine, Random(), cfg))
    return spy


def noise_of(spy: Spy, call: int, x0: Tensor) -> Tensor:
    """The noise that turned x0 into what the network read."""
    sigma = spy.sigma[call].view(-1, 1, 1)
    return (spy.x[call] - (1 - sigma) * x0) / sigma


# --- by hand ------------------------------------------------------------------------------------------------------


class Line:
    """A model that answers a number; keeps what it read."""

    def __init__(self, value: float) -> None:
        self.trainable = nn.Module()
        self.trainable.value = nn.Parameter(torch.tensor(value))
        self.read: list[Tensor] = []

    def velocity(self, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        self.read += [x_BSC, sigma_B]
        return self.trainable.value.expand(x_BSC.shape)


def test_loss_by_hand():
    """x0 = (1, -2), eps = (0.5, 3): targets eps - x0 are -0.5 and 5; the answer is 0.25."""
    model = Line(0.25)
    cond = Conditioning(torch.zeros(2, 1, 1), torch.ones(2, 1, dtype=torch.bool), ((1, 1),) * 2)
    x0, eps = torch.tensor([1.0, -2.0]).view(2, 1, 1), torch.tensor([0.5, 3.0]).view(2, 1, 1)
    total, metrics = loss(model, Micro(x0, eps, torch.tensor([0.2, 0.9]), cond))
    assert float(total.detach()) == pytest.approx((0.75**2 + 4.75**2) / 2)
    assert float(metrics["flow_error"]) == pytest.approx((0.75**2 + 4.75**2) / 2)
    total.backward()
    assert float(model.trainable.value.grad) == pytest.approx((2 * 0.75 - 2 * 4.75) / 2)
    x, sigma = model.read
    assert x.flatten().tolist() == pytest.approx([0.8 * 1.0 + 0.2 * 0.5, 0.1 * -2.0 + 0.9 * 3.0])
    assert sigma.tolist() == pytest.approx([0.2, 0.9])


def test_the_weight_of_noise_levels_by_hand():
    """k = 2 is the error of the data that (x, v) point at; the logged error is unweighted."""
    model = Line(0.25)
    cond = Conditioning(torch.zeros(2, 1, 1), torch.ones(2, 1, dtype=torch.bool), ((1, 1),) * 2)
    x0, eps = torch.tensor([1.0, -2.0]).view(2, 1, 1), torch.tensor([0.5, 3.0]).view(2, 1, 1)
    sigma = torch.tensor([0.2, 0.9])
    total, metrics = loss(model, Micro(x0, eps, sigma, cond), sigma_power=2.0)
    pointed_at = model.read[0] - sigma.view(2, 1, 1) * 0.25
    assert float(total.detach()) == pytest.approx(float((pointed_at - x0).square().mean()))
    assert float(total.detach()) == pytest.approx((0.04 * 0.75**2 + 0.81 * 4.75**2) / 2)
    assert float(metrics["flow_error"]) == pytest.approx((0.75**2 + 4.75**2) / 2)


def test_training_minimises_the_weighted_error():
    model = tiny_model()
    (step,) = train(model, engine_of(model), Random(), replace(TINY, sigma_power=2.0))
    other = tiny_model()
    (plain,) = train(other, engine_of(other), Random(), TINY)
    assert (
        step.metrics["loss"] < 0.9 * step.metrics["flow_error"] and plain.metrics["loss"] == plain.metrics["flow_error"]
    )


def test_loss_is_a_mean():
    """Wider images of the same content cost the same."""
    totals = []
    for size in (1, 6):
        cond = Conditioning(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool), ((1, size),))
        x0 = torch.ones(1, size, 2)
        totals.append(float(loss(Line(0.25), Micro(x0, 0.5 * x0, torch.tensor([0.5]), cond))[0].detach()))
    assert totals[0] == pytest.approx(totals[1]) == pytest.approx(0.75**2)


def test_dropped_text_by_hand():
    model = tiny_model()
    cond, uncond = model.encode_text(["a red word", 'the word "AB"', "blue"]), model.unconditional(1)
    mixed = drop_text(cond, uncond, torch.tensor([False, True, False]))
    assert len(mixed) == 3 and mixed.grids == cond.grids
    assert torch.equal(mixed.text_BLD[[0, 2]], cond.text_BLD[[0, 2]])
    assert torch.equal(mixed.mask_BL[[0, 2]], cond.mask_BL[[0, 2]])
    assert mixed.mask_BL[1].tolist() == [True] + [False] * (mixed.mask_BL.shape[1] - 1)
    assert torch.equal(mixed.text_BLD[1, :1], uncond.text_BLD[0]) and not mixed.text_BLD[1, 1:].any()


# --- what a batch is made of --------------------------------------------------------------------------------------


def test_captions_reach_the_model_in_order_with_their_latents():
    """Also cut into micro-batches. The noise that explains each row by its own latent is standard normal."""
    cfg = replace(TINY, steps=3, micro=2, dropout=0.0)
    spy, model = spied(cfg), tiny_model()
    assert [len(x) for x in spy.x] == [2] * 12
    drawn = []
    for call, cond in enumerate(spy.cond):
        x0, captions, *_ = Random().batch(call // 4, 8)
        rows = slice(2 * (call % 4), 2 * (call % 4) + 2)
        expected = model.encode_text(captions).take(rows)
        assert torch.equal(cond.text_BLD, expected.text_BLD) and torch.equal(cond.mask_BL, expected.mask_BL)
        drawn.append(noise_of(spy, call, x0[rows]))
    eps = torch.cat(drawn).flatten(1)
    assert (eps.std(1) - 1.0).abs().max() < 0.25 and eps.mean(1).abs().max() < 0.35
    assert torch.pdist(eps).min() > 0.8 * math.sqrt(2 * 192), "noise is new for every row and step"


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_dropout_gives_the_unconditional_conditioning(share):
    spy, model = spied(replace(TINY, steps=12, batch=64, micro=64, dropout=share)), tiny_model()
    nothing, dropped = model.unconditional(1), []
    for step, cond in enumerate(spy.cond):
        expected = model.encode_text(Random().batch(step, 64)[1])
        alone = cond.mask_BL.sum(1) == 1
        dropped.append(alone)
        assert torch.equal(cond.text_BLD[~alone], expected.text_BLD[~alone])
        assert torch.equal(cond.text_BLD[alone][:, :1], nothing.text_BLD.expand(int(alone.sum()), 1, -1))
    count, total = int(torch.stack(dropped).sum()), 12 * 64
    assert abs(count - share * total) <= 4 * math.sqrt(total * share * (1 - share))
    if share:
        assert len({tuple(row.tolist()) for row in torch.stack(dropped)}) == 12
        places = torch.stack(dropped).float().mean(0)
        assert (places[:32].mean() - places[32:].mean()).abs() < 0.2, "anywhere in the batch"


@pytest.mark.parametrize(("mean", "std"), [(1.0, 1.0), (-0.5, 0.4)])
def test_noise_levels_follow_the_settings(mean, std):
    sigma = torch.cat(spied(replace(TINY, steps=8, batch=64, micro=64, sigma_mean=mean, sigma_std=std)).sigma)
    assert sigma.dtype == torch.float32 and len(set(sigma.tolist())) == 8 * 64
    drawn = torch.logit(sigma)
    assert float(drawn.mean()) == pytest.approx(mean, abs=4 * std / math.sqrt(512))
    assert float(drawn.std()) == pytest.approx(std, rel=0.15)


def test_ranks_and_seeds_have_their_own_data_and_noise():
    cfg = replace(TINY, dropout=0.0)
    seen = []
    for rank, seed in ((0, 0), (1, 0), (0, 1)):
        spy = spied(replace(cfg, seed=seed), rank, world_size=2)
        seen.append(noise_of(spy, 0, Random().batch(0, 8, rank, 2)[0]))
        assert abs(float(seen[-1].std()) - 1.0) < 0.1, "rank r reads its own batch"
    assert all(float((seen[i] - seen[j]).std()) > 1.0 for i, j in ((0, 1), (0, 2), (1, 2)))


class Elsewhere:
    """An engine on another device that only looks."""

    rank, world_size, device = 0, 1, torch.device("meta")

    def update(self, micros, loss):
        self.micros = micros
        return {}


def test_what_the_network_reads_is_on_its_device():
    engine = Elsewhere()
    list(train(tiny_model(), engine, Random(), TINY))
    (micro,) = engine.micros
    assert {x.device.type for x in micro[:3]} == {"meta"}


# --- training -----------------------------------------------------------------------------------------------------


def test_circle():
    """Learn one image, draw from noise, get that image: sign of v, direction of sigma and sampler agree."""
    model = tiny_model(fresh=True)
    picture = torch.rand(1, 3, 32, 96, generator=torch.Generator().manual_seed(5))
    x0 = model.encode_pixels(picture)
    x0 = (x0 - x0.mean()) / x0.std()

    class One:
        def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
            return Batch(x0.expand(size, -1, -1), ['the word "ABC" in red'] * size)

    optim = OptimConfig(steps=250, muon_lr=0.02, adamw_lr=5e-3, warmup=5)
    cfg = Pretrain(steps=250, batch=16, micro=16, dropout=0.0, sigma_mean=0.0)
    steps = list(train(model, LocalEngine(model.network, optim), One(), cfg))
    assert steps[0].metrics["flow_error"] == pytest.approx(2.0, rel=0.1), "|eps - x0|^2 of two unit variances"
    cond, uncond = model.encode_text(['the word "ABC" in red'] * 8), model.unconditional(8)
    start = model.noise(8, torch.Generator().manual_seed(9))
    sampler = Sampler(steps=20)
    drawn = sample(model, start, cond, uncond, sampler, sampler.levels())
    error = (drawn - x0).square().mean((1, 2)).sqrt().max()
    assert float(error) < 0.1, "relative to an image of unit spread; noise is 1.4 away"


def test_micro_batches_give_the_same_update():
    """Gradient norms, because Adam hides a scale."""
    results = []
    for micro in (8, 4, 1):
        model = tiny_model()
        (step,) = train(model, engine_of(model), Random(), replace(TINY, micro=micro))
        results.append(step.metrics)
    assert results[0]["grad_norm"] > 1e-2
    for metrics in results[1:]:
        assert metrics == pytest.approx(results[0], rel=1e-3)


@pytest.mark.parametrize("optim", [OPTIM, replace(OPTIM, muon_lr=0.02, ema_decay=0.9)])
def test_training_goes_on_where_it_stopped(tmp_path, optim):
    cfg = replace(TINY, steps=6, micro=4)
    whole, first, second = tiny_model(), tiny_model(), tiny_model(seed=3)
    full = engine_of(whole, optim)
    expected = [s.metrics for s in train(whole, full, Random(), cfg)]
    engine = engine_of(first, optim)
    begun = [s.metrics for s in train(first, engine, Random(), replace(cfg, steps=3))]
    engine.save(tmp_path)
    engine = engine_of(second, optim)
    engine.load(tmp_path)
    ended = list(train(second, engine, Random(), cfg, start=3))
    assert [s.index for s in ended] == [3, 4, 5]
    assert begun + [s.metrics for s in ended] == expected
    assert same(weights(second), weights(whole))
    with full.averaged(), engine.averaged():
        assert same(weights(second), weights(whole))


def test_fine_tuning_is_the_same_loop_with_other_settings():
    """Its defaults differ, its loss does not: with equal settings the two give equal weights."""
    assert sft.Sft(steps=1).sigma_mean == 0.0 and Pretrain(steps=1).sigma_mean > 0.0
    a, b = tiny_model(), tiny_model()
    cfg = sft.Sft(steps=3, batch=8, micro=4, dropout=0.25, seed=4)
    tuned = [s.metrics for s in sft.train(a, engine_of(a), Random(), cfg)]
    equal = Pretrain(steps=3, batch=8, micro=4, dropout=0.25, sigma_mean=0.0, seed=4)
    assert tuned == [s.metrics for s in train(b, engine_of(b), Random(), equal)]
    assert same(weights(a), weights(b))
    resumed = list(sft.train(a, engine_of(a), Random(), replace(cfg, steps=5), start=3))
    assert [s.index for s in resumed] == [3, 4]


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="micro=3 must divide batch=8"):
        replace(TINY, micro=3)
    for dropout in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"dropout={dropout} must be in"):
            replace(TINY, dropout=dropout)
