"""DPO from answers with ties, weights and margins, and learning from good and bad images: by hand, and as limits.

Shapes: N answers or images, B of a batch, S latent tokens, C channels.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from alignment import dpo, kto, tied_dpo
from alignment.dpo import Dpo
from alignment.kto import Kto, Verdicts
from alignment.tied_dpo import Answers, Micro, TiedDpo, davidson, rao_kupper, weights
from base_model.engine.engine import LocalEngine
from base_model.interface import Conditioning
from preference_data.statistics.ranking import _davidson, _rao_kupper
from tests.fixtures.tiny.tiny_model import same, tiny_model
from tests.fixtures.tiny.tiny_model import weights as weights_of
from tests.fixtures.toy_alignment import GENTLE, Line, Watching, moved

N = 6
TEXTS = tuple(f'the word "{word}" in red sans' for word in ("A", "BC", "DEF", "GHIJ", "KL", "M"))
TINY = TiedDpo(steps=1, batch=4, micro=4, beta=20.0)
BOTH = pytest.mark.parametrize("likelihood", [rao_kupper, davidson])


def answers(ties: tuple[int, ...] = (1, 4), margins: tuple[float, ...] = (math.nan,) * N) -> Answers:
    random = torch.Generator().manual_seed(0)
    x0 = torch.randn(2, N, 12, 16, generator=random)
    tie = torch.tensor([i in ties for i in range(N)])
    return Answers(x0[0], x0[1], TEXTS, tie, torch.tensor(margins))


def probabilities(likelihood, D: float, knob: float) -> tuple[float, float, float]:
    """(first, tie, second)"""
    d = torch.tensor([D, D, -D], dtype=torch.float64)
    first, tie, second = likelihood(d, torch.tensor([False, True, False]), knob).exp().tolist()
    return first, tie, second


# --- likelihoods --------------------------------------------------------------------------------------------------


@BOTH
def test_the_three_answers_are_all_there_are(likelihood):
    for D in (-3.0, 0.0, 0.7, 12.0):
        for knob in (0.1, 0.5, 2.0):
            first, tie, second = probabilities(likelihood, D, knob)
            assert first + tie + second == pytest.approx(1.0, rel=1e-9) and min(first, tie, second) > 0.0
            turned = probabilities(likelihood, -D, knob)
            assert turned == pytest.approx((second, tie, first))


@BOTH
def test_without_room_for_ties_it_is_bradley_terry(likelihood):
    for D in (-2.0, 0.0, 3.0):
        assert probabilities(likelihood, D, 1e-9)[0] == pytest.approx(1 / (1 + math.exp(-D)), rel=1e-6)


def test_likelihoods_are_those_that_rank_models():
    """The formulas of preference_data/statistics/ranking.py, whose parameters are log nu and log kappa."""
    import numpy as np

    D = np.array([-2.0, 0.3, 1.5])
    for ours, theirs, knob in ((davidson, _davidson, 0.7), (rao_kupper, _rao_kupper, 0.7)):
        for outcome, tie in ((1, False), (0, True)):
            value = theirs(D, np.full(3, outcome), math.log(knob))[0]
            mine = ours(torch.tensor(D), torch.tensor([tie] * 3), knob)
            assert mine.tolist() == pytest.approx(np.asarray(value).tolist(), rel=1e-9)


@BOTH
def test_a_tie_pulls_together_and_a_win_apart(likelihood):
    for value in (-2.0, -0.1, 0.1, 2.0):
        D = torch.tensor([value, value], requires_grad=True)
        likelihood(D, torch.tensor([True, False]), 0.5).sum().backward()
        assert D.grad[0] * value < 0.0, "towards D = 0"
        assert D.grad[1] > 0.0
    D = torch.zeros(1, requires_grad=True)
    likelihood(D, torch.tensor([True]), 0.5).sum().backward()
    assert float(D.grad) == pytest.approx(0.0, abs=1e-7)


# --- the loss -----------------------------------------------------------------------------------------------------


def micro(tie: list[bool], margin: list[float], weight: list[float]) -> Micro:
    """First images 1.0, second -0.5, noise 0.25: the targets eps - x0 are -0.75 and 0.75."""
    B = len(tie)
    cond = Conditioning(torch.zeros(2 * B, 1, 1), torch.ones(2 * B, 1, dtype=torch.bool), ((1, 1),) * 2 * B)
    x0 = torch.tensor([1.0] * B + [-0.5] * B).view(-1, 1, 1)
    pairs = dpo.Micro(x0, torch.full((2 * B, 1, 1), 0.25), torch.full((2 * B,), 0.2), cond)
    return Micro(pairs, torch.tensor(tie), torch.tensor(margin), torch.tensor(weight))


def test_loss_by_hand():
    beta, kappa, c = 3.0, 0.4, 2.0
    inside = ((0.4 + 0.75) ** 2 - (0.1 + 0.75) ** 2) - ((0.4 - 0.75) ** 2 - (0.1 - 0.75) ** 2)
    D, s = -0.5 * beta * inside, lambda x: 1 / (1 + math.exp(-x))
    tie = math.log(math.exp(2 * kappa) - 1) + math.log(s(D - kappa)) + math.log(s(-D - kappa))
    expected = -(1.5 * math.log(s(D - c * 0.5 - kappa)) + 0.5 * tie + 1.0 * math.log(s(D - kappa))) / 3
    cfg = replace(TINY, beta=beta, ties=kappa, margin=c)
    m = micro([False, True, False], [0.5, 0.9, math.nan], [1.5, 0.5, 1.0])
    total, metrics = tied_dpo.loss(Line(0.4, 0.1), m, cfg)
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["implicit_accuracy"]) == pytest.approx(0.5 / 3), "the model moved the wrong way"
    assert float(metrics["margin"]) == pytest.approx(2 * D / 3, rel=1e-5)
    assert float(metrics["tie_gap"]) == pytest.approx(abs(D) / 3, rel=1e-5)
    assert float(metrics["ties"]) == pytest.approx(1 / 3)


@BOTH
def test_without_ties_it_is_dpo(likelihood):
    """Loss, derivative and metrics, in the limit of no room for ties."""
    m, cfg = micro([False] * 2, [math.nan] * 2, [1.0] * 2), replace(TINY, likelihood=likelihood, ties=1e-8)
    model, other = Line(0.4, 0.1), Line(0.4, 0.1)
    total, metrics = tied_dpo.loss(model, m, cfg)
    expected, known = dpo.loss(other, m.pairs, Dpo(steps=1, beta=20.0))
    total.backward()
    expected.backward()
    assert float(total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(model.trainable.value.grad) == pytest.approx(float(other.trainable.value.grad), rel=1e-5)
    for name, value in known.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-5), name


def test_training_without_ties_is_training_by_dpo():
    given = answers(ties=())
    models = tiny_model(), tiny_model()
    cfg = replace(TINY, steps=3, micro=2, ties=1e-8)
    ours = tied_dpo.train(models[0], LocalEngine(models[0].network, GENTLE), given, cfg)
    pairs = dpo.Pairs(given.first_NSC, given.second_NSC, TEXTS)
    theirs = dpo.train(
        models[1], LocalEngine(models[1].network, GENTLE), pairs, Dpo(steps=3, batch=4, micro=2, beta=20.0)
    )
    for a, b in zip(ours, theirs, strict=True):
        assert a.metrics["loss"] == pytest.approx(b.metrics["loss"], rel=1e-5)
        assert a.metrics["grad_norm"] == pytest.approx(b.metrics["grad_norm"], rel=1e-3)


# --- weights ------------------------------------------------------------------------------------------------------


def test_weights_have_mean_one_and_ties_their_own():
    some = answers(margins=(0.2, 0.5, math.nan, 1.0, math.nan, 0.4))
    plain = weights(some, TINY)
    assert plain.tolist() == [1.0] * N
    raw = torch.tensor([0.2, 0.5, 1.0, 1.0, 0.5, 0.4])
    torch.testing.assert_close(weights(some, replace(TINY, weigh_by_margin=True, tie_weight=0.5)), raw / raw.mean())
    left_out = weights(some, replace(TINY, tie_weight=0.0))
    torch.testing.assert_close(left_out, torch.tensor([1.5, 0, 1.5, 1.5, 0, 1.5]))
    with pytest.raises(ValueError, match="all 6 answers weigh 0"):
        weights(answers(ties=tuple(range(N))), replace(TINY, tie_weight=0.0))


def test_ties_that_are_left_out_teach_nothing():
    """Whatever they show, the gradient is that of the decided answers."""
    found = []
    for shift in (0.0, 5.0):
        given, model = answers(), moved()
        first = given.first_NSC + shift * given.tie_N.view(-1, 1, 1)
        engine = Watching(model)
        cfg = replace(TINY, batch=N, micro=N, tie_weight=0.0)
        list(tied_dpo.train(model, engine, replace(given, first_NSC=first), cfg))
        found.append(torch.cat([p.grad.flatten() for p in model.network.parameters() if p.grad is not None]))
    assert float(found[0].abs().max()) > 1e-6
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-7)


def test_micro_batches_give_the_same_update():
    given, results = answers(margins=(0.2, 0.5, math.nan, 1.0, math.nan, 0.4)), []
    for size in (4, 2, 1):
        model = moved()
        cfg = replace(TINY, micro=size, weigh_by_margin=True)
        (step,) = tied_dpo.train(model, LocalEngine(model.network, GENTLE), given, cfg)
        results.append(step.metrics)
    for metrics in results[1:]:
        for name, value in results[0].items():
            assert metrics[name] == pytest.approx(value, rel=1e-3, abs=1e-6), name


@BOTH
def test_ties_draw_together_what_was_driven_apart(likelihood):
    """D is 0 where the model is its reference: whichever side it has strayed to, the derivative points back."""
    for value, sign in ((0.3, 1), (-0.1, -1), (0.1, 0)):
        model = Line(value, 0.1)
        total, _ = tied_dpo.loss(model, micro([True] * 2, [0.7] * 2, [1.0] * 2), replace(TINY, likelihood=likelihood))
        (found,) = torch.autograd.grad(total, model.trainable.value)
        assert float(found) * sign > 0.1 if sign else abs(float(found)) < 1e-6


# --- good and bad -------------------------------------------------------------------------------------------------


def verdicts(good: tuple[int, ...]) -> Verdicts:
    x0 = torch.randn(N, 12, 16, generator=torch.Generator().manual_seed(0))
    return Verdicts(x0, torch.tensor([i in good for i in range(N)]), TEXTS)


def kto_micro(good: list[bool], baseline: float) -> kto.Micro:
    B = len(good)
    cond = Conditioning(torch.zeros(B, 1, 1), torch.ones(B, 1, dtype=torch.bool), ((1, 1),) * B)
    x0, eps, sigma = torch.full((B, 1, 1), 1.0), torch.full((B, 1, 1), 0.25), torch.full((B,), 0.2)
    before = torch.full((B,), (0.1 + 0.75) ** 2)
    return kto.Micro(dpo.Micro(x0, eps, sigma, cond), before, torch.tensor(good), torch.tensor(baseline))


def test_kto_by_hand():
    cfg = Kto(steps=1, beta=3.0, good_weight=1.0, bad_weight=2.0)
    r, z = -1.5 * ((0.4 + 0.75) ** 2 - (0.1 + 0.75) ** 2), 0.3

    def s(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    model = Line(0.4, 0.1)
    total, metrics = kto.loss(model, kto_micro([True, False], z), cfg)
    assert float(total.detach()) == pytest.approx((1 - s(r - z) + 2 * (1 - s(z - r))) / 2, rel=1e-5)
    assert float(metrics["good_reward"]) == pytest.approx(r, rel=1e-5)
    (found,) = torch.autograd.grad(total, model.trainable.value)
    slope = s(r - z) * (1 - s(r - z)) * -1.5 * 2 * (0.4 + 0.75)
    assert float(found) == pytest.approx((-slope + 2 * slope) / 2, rel=1e-4)


def test_ktos_baseline_by_hand():
    """(K1): what the model gained over the reference, over all micro-batches, never below 0. The target is -0.75."""
    cfg, engine = Kto(steps=1, beta=3.0), Watching(tiny_model())
    batches = [(m.images, m.good_B) for m in (kto_micro([True, False], 0.0), kto_micro([False, True], 0.0))]
    for now, before in ((0.4, 0.1), (-0.5, 0.1)):
        away = (now + 0.75) ** 2 - (before + 0.75) ** 2
        for m in kto.prepared(Line(now, before), engine, batches, cfg):
            assert float(m.baseline) == pytest.approx(max(-1.5 * away, 0.0), rel=1e-5)
            assert m.before_B.tolist() == pytest.approx([(before + 0.75) ** 2] * 2, rel=1e-5)


def test_ktos_baseline_is_that_of_all_ranks():
    """The other rank's images gained nothing, or lost as much: half of this rank's gain, or none."""
    batches = [(m.images, m.good_B) for m in (kto_micro([True, False], 0.0),)]
    cfg = Kto(steps=1, batch=2, micro=2, beta=2.0)
    (alone,) = kto.prepared(Line(-0.5, 0.1), Watching(tiny_model()), batches, cfg)
    mine, gained = alone.baseline, -alone.baseline / (0.5 * cfg.beta)
    for share, expected in ((0.0, mine / 2), (1.0, mine), (-1.0, 0.0 * mine)):
        engine = Watching(tiny_model(), 1, gained.expand(2) * share)
        (both,) = kto.prepared(Line(-0.5, 0.1), engine, batches, cfg)
        assert float(both.baseline) == pytest.approx(float(expected), abs=1e-6)
    assert float(mine) > 0.0, "a sign that this line gains, or nothing above is tested"


def test_kto_starts_at_one_half_and_moves_good_and_bad_apart():
    model = tiny_model()
    engine = LocalEngine(model.network, replace(GENTLE, adamw_lr=1e-3))
    cfg = Kto(steps=25, batch=N, micro=N, beta=50.0)
    steps = [step.metrics for step in kto.train(model, engine, verdicts((0, 2, 4)), cfg)]
    assert steps[0]["loss"] == pytest.approx(0.5, abs=1e-6) and steps[0]["baseline"] == 0.0
    assert steps[-1]["good_reward"] > steps[-1]["bad_reward"] + 0.1 and steps[-1]["loss"] < 0.49


def test_both_bad_alone_teaches_to_leave_them():
    model = tiny_model()
    engine = LocalEngine(model.network, replace(GENTLE, adamw_lr=1e-3))
    steps = [s.metrics for s in kto.train(model, engine, verdicts(()), Kto(steps=15, batch=N, micro=3, beta=50.0))]
    assert steps[-1]["bad_reward"] < -0.05 and steps[-1]["drift"] > 0.0


def test_how_an_update_is_split_changes_nothing():
    """(K1) is of the whole update: a baseline of each micro-batch would differ."""
    results = []
    for size in (6, 3, 1):
        model = moved()
        cfg = Kto(steps=1, batch=N, micro=size, beta=2000.0)
        (step,) = kto.train(model, LocalEngine(model.network, GENTLE), verdicts((0, 2, 4)), cfg)
        results.append([step.metrics[name] for name in ("loss", "grad_norm", "baseline", "drift")])
    assert results[1] == pytest.approx(results[0], rel=1e-3) and results[2] == pytest.approx(results[0], rel=1e-3)


@pytest.mark.parametrize("which", ["tied", "kto"])
def test_training_goes_on_where_it_stopped(which, tmp_path):
    def run(model, engine, start: int, stop: int) -> list[dict[str, float]]:
        if which == "kto":
            cfg = Kto(steps=stop, batch=4, micro=2)
            return [s.metrics for s in kto.train(model, engine, verdicts((1, 2)), cfg, start)]
        return [s.metrics for s in tied_dpo.train(model, engine, answers(), replace(TINY, steps=stop), start)]

    whole, first, second = tiny_model(), tiny_model(), tiny_model()
    expected = run(whole, LocalEngine(whole.network, GENTLE), 0, 4)
    engine = LocalEngine(first.network, GENTLE)
    begun = run(first, engine, 0, 2)
    engine.save(tmp_path)
    engine = LocalEngine(second.network, GENTLE)
    engine.load(tmp_path)
    assert begun + run(second, engine, 2, 4) == expected and same(weights_of(second), weights_of(whole))


def test_data_and_settings_that_cannot_work_are_refused():
    one: Tensor = torch.zeros(2, 12, 16)
    with pytest.raises(ValueError, match="one of each"):
        Answers(one, one, TEXTS, torch.zeros(2, dtype=torch.bool), torch.zeros(2))
    with pytest.raises(ValueError, match="2 latents, 1 verdicts and 2 texts"):
        Verdicts(one, torch.zeros(1, dtype=torch.bool), TEXTS[:2])
    with pytest.raises(ValueError, match=r"ties=0.0 must be positive"):
        replace(TINY, ties=0.0)
    with pytest.raises(ValueError, match="must be at least 0, and not both 0"):
        Kto(steps=1, good_weight=0.0, bad_weight=0.0)
