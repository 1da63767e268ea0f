"""Batches of several sizes for a network that takes one size a call: the same mean and gradient, on every rank."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from alignment import dpo, kto, tied_dpo
from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.interface import Grid, token_count
from base_model.micro_batches import split
from base_model.pretrain import Batch, Pretrain, train
from base_model.qwen.model import QwenImage
from tests.fixtures.tiny.tiny_model import Spy, gradient, tiny_model
from tests.fixtures.toy_alignment import Watching

OPTIM = OptimConfig(steps=9, muon_lr=0.0, adamw_lr=1e-3, clip=0.0, warmup=0, decay_from=1.0)
GRIDS: tuple[Grid, ...] = ((2, 6), (6, 2), (2, 6), (3, 3), (2, 6), (2, 6))
TEXTS = ("a", "bc", "d", "ef", "g", "h")


def latents(seed: int) -> torch.Tensor:
    """[6, 12, 16], zeros behind the shorter ones."""
    x = torch.randn(6, 12, 16, generator=torch.Generator().manual_seed(seed))
    for row, grid in zip(x, GRIDS, strict=True):
        row[token_count([grid]) :] = 0.0
    return x


class Data:
    """One batch of three sizes, whatever the step."""

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        return Batch(latents(0)[:size], TEXTS[:size], GRIDS[:size])


def model_of(one_size: bool) -> QwenImage:
    """Nano's network takes any sizes; here it may pretend that it takes one size a call."""
    model = tiny_model()
    model.one_size_a_call = one_size
    return model


PAIRS = dpo.Pairs(latents(1), latents(2), TEXTS, grids=GRIDS)
ANSWERS = tied_dpo.Answers(
    latents(1), latents(2), TEXTS, torch.tensor([False, True] * 3), torch.tensor([0.5, 0.2, 1, 1, 0.1, 2]), grids=GRIDS
)
VERDICTS = kto.Verdicts(latents(1), torch.tensor([True, False, True, True, False, False]), TEXTS, grids=GRIDS)
SETTINGS = {
    "pretrain": (train, Data(), Pretrain(steps=2, batch=6, micro=6)),
    "dpo": (dpo.train, PAIRS, dpo.Dpo(steps=2, batch=6, micro=6)),
    "tied_dpo": (tied_dpo.train, ANSWERS, tied_dpo.TiedDpo(steps=2, batch=6, micro=6, weigh_by_margin=True)),
    "kto": (kto.train, VERDICTS, kto.Kto(steps=2, batch=6, micro=6)),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_groups_of_unequal_sizes_give_the_mean_of_all_samples(name: str) -> None:
    """Losses, metrics and gradients of two updates are those of the batch at once, and of other micro-batches."""
    loop, data, cfg = SETTINGS[name]
    results = []
    for one_size, micro in ((False, 6), (True, 6), (True, 2), (True, 1)):
        model = model_of(one_size)
        engine = LocalEngine(model.network, OPTIM)
        model.trainable = engine.module
        results.append([step.metrics for step in loop(model, engine, data, replace(cfg, micro=micro))])
    assert results[0][0]["grad_norm"] > 1e-3
    assert results[0][0]["loss"] != pytest.approx(results[0][1]["loss"], rel=1e-4)
    for other in results[1:]:
        for theirs, own in zip(other, results[0], strict=True):
            if name == "kto":  # shares of the good ones among a micro-batch, which depend on how it is split
                theirs, own = ({k: v for k, v in m.items() if not k.endswith("_reward")} for m in (theirs, own))
            assert theirs == pytest.approx(own, rel=2e-4, abs=1e-6)


def test_a_mixed_batch_is_the_sum_of_its_sizes_weighed_by_their_samples() -> None:
    cfg = Pretrain(steps=1, batch=6, micro=6, dropout=0.0)
    model = model_of(True)
    engine = Watching(model)
    list(train(model, engine, Data(), cfg))
    counted = [(len(micro.x0_BSC), {*micro.cond.grids}) for micro in engine.micros]
    assert counted == [(4, {(2, 6)}), (1, {(6, 2)}), (1, {(3, 3)})]
    assert [micro.share for micro in engine.micros] == [2.0, 0.5, 0.5]
    together, parts = gradient(model), []
    for micro in engine.micros:
        model.network.zero_grad()
        from base_model.pretrain import loss

        loss(model, micro._replace(share=1.0))[0].backward()
        parts.append((len(micro.x0_BSC) / 6, gradient(model)))
    for name, value in together.items():
        torch.testing.assert_close(sum(share * own[name] for share, own in parts), value, rtol=1e-4, atol=1e-6)
    assert max(float(value.abs().max()) for value in together.values()) > 1e-2


@pytest.mark.parametrize("most", [1, 3, 4, 5, 6])
def test_a_rank_with_fewer_sizes_makes_as_many_micro_batches_as_the_others(most: int) -> None:
    model = model_of(True)
    engine = Watching(model, others=torch.tensor([most]))
    engine.world_size = 2
    cond = replace(model.encode_text(TEXTS), grids=GRIDS)
    parts = split(model, engine, cond, 4)
    assert len(parts) == max(most, 3)
    assert sorted(row for part in parts for row in part.rows) == list(range(6))
    assert all(len({GRIDS[row] for row in part.rows}) == 1 for part in parts)
    assert [part.share for part in parts] == [len(part.rows) * len(parts) / 6 for part in parts]
    assert sum(part.share for part in parts) == pytest.approx(len(parts))


def test_sizes_of_condition_images_are_kept_apart_too() -> None:
    model = model_of(True)
    images = [[torch.rand(3, 32, 96)], [torch.rand(3, 32, 32)], [], [torch.rand(3, 32, 96)]]
    parts = split(model, Watching(model), model.encode_text(TEXTS[:4], images), 4)
    assert [part.rows for part in parts] == [[0, 3], [1], [2]]


def test_a_network_that_takes_any_sizes_is_asked_in_order() -> None:
    model = model_of(False)
    with Spy(model) as spy:
        engine = LocalEngine(model.network, OPTIM)
        list(train(model, engine, Data(), Pretrain(steps=1, batch=6, micro=2)))
    assert [cond.grids for cond in spy.cond] == [GRIDS[:2], GRIDS[2:4], GRIDS[4:]]
