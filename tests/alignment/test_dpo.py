"""Diffusion-DPO: the loss by hand, what a pair shares, and what training does to errors measured from outside.

Shapes: N pairs, B pairs of a batch, S latent tokens, C channels.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from alignment.dpo import AT_REFERENCE, Dpo, Micro, Pairs, loss, shuffled_rows, train
from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.interface import Conditioning
from base_model.qwen.model import QwenImage
from tests.fixtures.tiny.tiny_model import Spy, same, tiny_model, weights

N = 7
TEXTS = tuple(f'the word "{word}" in red sans' for word in ("A", "BC", "DEF", "GHIJ", "KL", "M", "NOPQR"))
OPTIM = OptimConfig(steps=100, muon_lr=0.0, adamw_lr=1e-3, clip=0.0, warmup=0, decay_from=1.0)
TINY = Dpo(steps=1, batch=4, micro=4, beta=20.0)


def pairs(seed: int = 0) -> Pairs:
    random = torch.Generator().manual_seed(seed)
    return Pairs(torch.randn(N, 12, 16, generator=random), torch.randn(N, 12, 16, generator=random), TEXTS)


def engine_of(model: QwenImage, optim: OptimConfig = OPTIM) -> LocalEngine:
    return LocalEngine(model.network, optim)


def moved(seed: int = 0) -> QwenImage:
    """A model that is no longer at its reference."""
    model = tiny_model()
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
    return model


def micro_of(model: QwenImage, chosen: Tensor, rejected: Tensor) -> Micro:
    random = torch.Generator().manual_seed(3)
    eps, sigma = torch.randn(chosen.shape, generator=random), torch.rand(len(chosen), generator=random)
    cond = model.encode_text(TEXTS[: len(chosen)])
    both = torch.cat([chosen, rejected]), eps.repeat(2, 1, 1), sigma.repeat(2)
    return Micro(*both, Conditioning.stack([cond, cond]))


def floats(result: tuple[Tensor, dict[str, Tensor]]) -> tuple[float, dict[str, float]]:
    return float(result[0].detach()), {name: float(x) for name, x in result[1].items()}


# --- by hand ------------------------------------------------------------------------------------------------------


class Line:
    """A model whose velocity is one number."""

    def __init__(self, value: float, before: float) -> None:
        self.trainable = nn.Module()
        self.trainable.value = nn.Parameter(torch.tensor(value))
        self.before = before
        self.read: list[Tensor] = []

    def velocity(self, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        self.read.append(x_BSC)
        return self.trainable.value.expand(x_BSC.shape)

    @contextlib.contextmanager
    def reference(self) -> Iterator[Line]:
        self.then = Line(self.before, self.before)
        yield self.then


def test_loss_by_hand():
    """One latent number: chosen 1.0, rejected -0.5, noise 0.25, so the targets eps - x0 are -0.75 and 0.75."""
    model = Line(0.4, before=0.1)
    cond = Conditioning(torch.zeros(2, 1, 1), torch.ones(2, 1, dtype=torch.bool), ((1, 1),) * 2)
    x0, eps, sigma = torch.tensor([1.0, -0.5]), torch.full((2, 1, 1), 0.25), torch.full((2,), 0.2)
    total, metrics = loss(model, Micro(x0.view(2, 1, 1), eps, sigma, cond), replace(TINY, beta=3.0))
    gain_chosen = (0.4 + 0.75) ** 2 - (0.1 + 0.75) ** 2
    gain_rejected = (0.4 - 0.5 - 0.25) ** 2 - (0.1 - 0.75) ** 2
    inside = gain_chosen - gain_rejected
    assert inside > 0, "the model moved the wrong way"
    expected = math.log1p(math.exp(1.5 * inside))
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["margin"]) == pytest.approx(-1.5 * inside, rel=1e-5)
    assert float(metrics["chosen_drift"]) == pytest.approx(gain_chosen, rel=1e-5)
    assert float(metrics["rejected_drift"]) == pytest.approx(gain_rejected, rel=1e-5)
    assert float(metrics["implicit_accuracy"]) == 0.0
    for x in model.read + model.then.read:
        assert x.flatten().tolist() == pytest.approx([0.8 * 1.0 + 0.2 * 0.25, 0.8 * -0.5 + 0.2 * 0.25])
    total.backward()
    # d total / d v = sigmoid(beta inside / 2) beta / 2 (2 (v - target_w) - 2 (v - target_l))
    slope = 1.5 / (1.0 + math.exp(-1.5 * inside)) * 2.0 * ((0.4 + 0.75) - (0.4 - 0.75))
    assert float(model.trainable.value.grad) == pytest.approx(slope, rel=1e-5)


def test_loss_is_a_mean_over_pairs_and_dimensions():
    """Images twice as large, of the same content, and every pair twice, give the same loss."""
    model = Line(0.4, before=0.1)
    totals = []
    for copies, size in [(1, 1), (2, 1), (1, 6)]:
        mask = torch.ones(2 * copies, 1, dtype=torch.bool)
        cond = Conditioning(torch.zeros(2 * copies, 1, 1), mask, ((1, size),) * 2 * copies)
        x0 = torch.tensor([1.0, -0.5]).repeat_interleave(copies).view(-1, 1, 1).expand(-1, size, 1)
        micro = Micro(x0, torch.full_like(x0, 0.25), torch.full((2 * copies,), 0.2), cond)
        totals.append(float(loss(model, micro, TINY)[0].detach()))
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-6)


def test_log_2_at_the_reference():
    model, some = tiny_model(), pairs()
    total, metrics = floats(loss(model, micro_of(model, some.chosen_NSC, some.rejected_NSC), TINY))
    assert total == pytest.approx(math.log(2.0), abs=1e-6) and math.log(2.0) == AT_REFERENCE
    assert metrics["margin"] == metrics["chosen_drift"] == metrics["rejected_drift"] == 0.0
    model, data = tiny_model(), pairs()
    first, second = train(model, engine_of(model), data, replace(TINY, steps=2))
    assert first.metrics["loss"] == pytest.approx(AT_REFERENCE, abs=1e-6)
    assert abs(second.metrics["loss"] - AT_REFERENCE) > 1e-4


def test_swapping_the_pictures_flips_the_inside():
    model, some = moved(), pairs()
    total, metrics = floats(loss(model, micro_of(model, some.chosen_NSC[:1], some.rejected_NSC[:1]), TINY))
    swapped, flipped = floats(loss(model, micro_of(model, some.rejected_NSC[:1], some.chosen_NSC[:1]), TINY))
    assert abs(metrics["margin"]) > 1e-3
    assert flipped["margin"] == pytest.approx(-metrics["margin"], rel=1e-4)
    assert swapped == pytest.approx(total + metrics["margin"], rel=1e-4)
    assert flipped["chosen_drift"] == pytest.approx(metrics["rejected_drift"], rel=1e-4)
    assert {metrics["implicit_accuracy"], flipped["implicit_accuracy"]} == {0.0, 1.0}


# --- what a pair shares -------------------------------------------------------------------------------------------


def latents_at(data: Pairs, step: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    rows = shuffled_rows(len(data.texts), step, size, seed)
    return data.chosen_NSC[rows], data.rejected_NSC[rows], [data.texts[int(i)] for i in rows]


def test_a_pair_shares_its_noise_and_its_noise_level_and_nobody_else_does():
    model, data, cfg = tiny_model(), pairs(), replace(TINY, steps=3, micro=2)
    with Spy(model) as spy:
        list(train(model, engine_of(model), data, cfg))
    # Every micro-batch asks the reference, then the model, for the same 2 x 2 rows.
    assert [len(x) for x in spy.x] == [4] * (2 * 2 * 3)
    every_eps, every_sigma = [], []
    for call in range(0, len(spy.x), 2):
        assert torch.equal(spy.x[call], spy.x[call + 1]) and torch.equal(spy.sigma[call], spy.sigma[call + 1])
        step, half = divmod(call // 2, 2)
        chosen, rejected, texts = latents_at(data, step, 4, cfg.seed)
        rows = slice(2 * half, 2 * half + 2)
        x_w, x_l = spy.x[call].chunk(2)
        sigma_w, sigma_l = spy.sigma[call].chunk(2)
        assert torch.equal(sigma_w, sigma_l)
        sigma = sigma_w.view(-1, 1, 1)
        eps_w, eps_l = (x_w - (1 - sigma) * chosen[rows]) / sigma, (x_l - (1 - sigma) * rejected[rows]) / sigma
        torch.testing.assert_close(eps_w, eps_l, atol=1e-4, rtol=1e-4)
        every_eps.append(eps_w)
        every_sigma.append(sigma_w)
        expected = model.encode_text(texts).take(rows)
        for part in (slice(0, 2), slice(2, 4)):
            assert torch.equal(spy.cond[call].take(part).text_BLD, expected.text_BLD)
            assert torch.equal(spy.cond[call].take(part).mask_BL, expected.mask_BL)
    eps, sigma = torch.cat(every_eps).flatten(1), torch.cat(every_sigma)
    assert len(eps) == 12 and torch.pdist(eps).min() > 0.8 * math.sqrt(2 * 192)
    assert abs(float(eps.std()) - 1.0) < 0.1
    assert len(set(sigma.tolist())) == 12


def test_noise_levels_follow_the_settings():
    model = tiny_model()
    for mean, std in ((0.0, 1.0), (1.5, 0.3)):
        with Spy(model) as spy:
            cfg = Dpo(steps=4, batch=64, micro=64, sigma_mean=mean, sigma_std=std)
            list(train(model, engine_of(model), pairs(), cfg))
        drawn = torch.logit(torch.cat([s[:64] for s in spy.sigma[::2]]))
        assert float(drawn.mean()) == pytest.approx(mean, abs=4 * std / math.sqrt(256))
        assert float(drawn.std()) == pytest.approx(std, rel=0.2)


# --- training -----------------------------------------------------------------------------------------------------


def test_training_prefers_the_chosen_pictures():
    """Errors measured here, with noise of our own: the chosen one's must fall relative to the rejected one's."""
    model, data = tiny_model(), pairs()
    cond = model.encode_text(TEXTS)

    @torch.no_grad()
    def errors(x0: Tensor) -> Tensor:
        random, total = torch.Generator().manual_seed(11), torch.zeros(N)
        for level in (0.2, 0.5, 0.8):
            eps = torch.randn(x0.shape, generator=random)
            x = x0 + level * (eps - x0)
            total += (model.velocity(x, torch.full((N,), level), cond) - eps + x0).square().mean((1, 2))
        return total / 3

    before = errors(data.chosen_NSC) - errors(data.rejected_NSC)
    steps = list(train(model, engine_of(model), data, replace(TINY, steps=25, batch=7, micro=7)))
    after = errors(data.chosen_NSC) - errors(data.rejected_NSC)
    assert ((after - before) < -0.01).all(), "every pair's preferred image must gain on the other"
    assert steps[-1].metrics["loss"] < 0.9 * AT_REFERENCE


def test_the_reference_is_frozen():
    model = tiny_model()
    assert model._frozen is not None
    before, started = {k: v.clone() for k, v in model._frozen.state_dict().items()}, weights(model)
    list(train(model, engine_of(model), pairs(), replace(TINY, steps=3)))
    assert same(dict(model._frozen.state_dict()), before) and not same(weights(model), started)
    assert model.trainable is model.network, "reference() must give the model back"
    model._frozen = None
    with pytest.raises(ValueError, match="freeze_reference"):
        list(train(model, engine_of(model), pairs(), TINY))


def test_micro_batches_give_the_same_update():
    """One update of 4 pairs in one, two and four pieces; gradient norms, because Adam hides a scale."""
    results = []
    for micro in (4, 2, 1):
        model = moved()
        (step,) = train(model, engine_of(model), pairs(), replace(TINY, micro=micro))
        results.append((step.metrics, weights(model)))
    (whole, _), *others = results
    assert whole["grad_norm"] > 1e-3
    for metrics, _ in others:
        for name in whole:
            assert metrics[name] == pytest.approx(whole[name], rel=1e-3, abs=1e-6), name


def test_training_goes_on_where_it_stopped(tmp_path):
    cfg, data = replace(TINY, steps=4, micro=2), pairs()
    whole, first, second = tiny_model(), tiny_model(), tiny_model()
    expected = [s.metrics for s in train(whole, engine_of(whole), data, cfg)]
    engine = engine_of(first)
    begun = [s.metrics for s in train(first, engine, data, replace(cfg, steps=2))]
    engine.save(tmp_path)
    engine = engine_of(second)
    engine.load(tmp_path)
    ended = list(train(second, engine, data, cfg, start=2))
    assert [s.index for s in ended] == [2, 3]
    assert begun + [s.metrics for s in ended] == expected
    assert same(weights(second), weights(whole))


def test_ranks_read_different_pairs_and_draw_different_noise():
    model, data, seen = tiny_model(), pairs(), []
    for rank in (0, 1):
        engine = engine_of(model, replace(OPTIM, adamw_lr=1e-12))
        engine.rank, engine.world_size = rank, 2
        with Spy(model) as spy:
            list(train(model, engine, data, TINY))
        chosen, _, _ = latents_at(data, rank, 4, TINY.seed)
        sigma = spy.sigma[0][:4].view(-1, 1, 1)
        seen.append((spy.x[0][:4] - (1 - sigma) * chosen) / sigma)
        assert abs(float(seen[-1].std()) - 1.0) < 0.1
    assert float((seen[0] - seen[1]).std()) > 1.0


# --- pairs and settings -------------------------------------------------------------------------------------------


def test_every_pass_covers_every_pair_once():
    data = pairs()
    drawn = [latents_at(data, step, 3, seed=0) for step in range(14)]
    texts = [text for _, _, batch in drawn for text in batch]
    passes = [texts[i : i + N] for i in range(0, len(texts), N)]
    assert len(passes) == 6 and all(sorted(p) == sorted(TEXTS) for p in passes)
    assert len({tuple(p) for p in passes}) > 3, "every pass has its own order"
    for chosen, rejected, batch in drawn:
        rows = [TEXTS.index(text) for text in batch]
        assert torch.equal(chosen, data.chosen_NSC[rows]) and torch.equal(rejected, data.rejected_NSC[rows])


def test_a_batch_is_a_function_of_its_address():
    data = pairs()
    backwards = {step: latents_at(data, step, 3, seed=0)[2] for step in reversed(range(10))}
    assert all(latents_at(data, step, 3, seed=0)[2] == backwards[step] for step in range(10))
    assert [backwards[step] for step in range(10)] != [latents_at(data, step, 3, seed=1)[2] for step in range(10)]
    large = latents_at(data, 0, 3 * N, seed=0)[2]
    assert large == [text for step in range(N) for text in latents_at(data, step, 3, seed=0)[2]]


def test_pairs_that_do_not_match_are_refused():
    one = torch.zeros(2, 12, 16)
    for chosen, rejected, texts in ((one, one[:1], ("a", "b")), (one, one, ("a",)), (one[:0], one[:0], ())):
        counted = f"{len(chosen)} preferred and {len(rejected)} rejected latents for {len(texts)} texts"
        with pytest.raises(ValueError, match=counted):
            Pairs(chosen, rejected, texts)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="micro=3 must divide batch=4"):
        replace(TINY, micro=3)
    for beta in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"beta={beta} must be positive"):
            replace(TINY, beta=beta)
