"""Several tasks and sizes in one update: a ragged batch is its samples one by one, and nothing reads padding.

Shapes: B samples, S latent tokens, R tokens of condition images, C channels.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from base_model.data.edits import change_ink
from base_model.data.latents import LatentStream, Producers
from base_model.data.mixture import Mix, TaskStream
from base_model.data.rendered_text import Scene
from base_model.data.stream import Stage, TextStream
from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.files.weights import save_vae
from base_model.flow import dynamic_mu, logit_normal
from base_model.interface import token_count
from base_model.pretrain import Batch, Micro, Pretrain, condition, loss, micro_batch, train
from base_model.qwen.model import QwenImage
from base_model.sample import Sampler, sample
from base_model.seeding import generator
from tests.fixtures.tiny.tiny_model import Spy, gradient, same, tiny_model, tiny_vae, weights

SIZES = ((32, 96), (32, 80), (48, 112))
STREAM = TaskStream(
    TextStream(5, (Stage(0, (0.0, 0.0, 0.0, 0.0, 1.0)),)), (Mix(0, 0.3, 0.1, 0.2, 0.2, 0.2),), SIZES
)  # fmt: skip
CFG = Pretrain(steps=1, batch=8, micro=8, dropout=0.3)
OPTIM = OptimConfig(steps=100, muon_lr=0.0, adamw_lr=1e-3, clip=0.0, warmup=0, decay_from=1.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LatentStream:
    file = tmp_path_factory.mktemp("vae") / "vae.safetensors"
    save_vae(tiny_vae(), file)
    return LatentStream(STREAM, file)


def micro_of(model: QwenImage, batch: Batch, dropped: torch.Tensor) -> Micro:
    """A batch with noise, NaN for whatever is padding."""
    random = torch.Generator().manual_seed(3)
    cond = condition(model, batch, dropped)
    x0, eps = batch.x0_BSC.clone(), torch.randn(batch.x0_BSC.shape, generator=random)
    for i, grid in enumerate(cond.grids):
        x0[i, token_count([grid]) :] = eps[i, token_count([grid]) :] = 0.0
    return Micro(x0, eps, torch.rand(len(x0), generator=random), cond)


def test_the_loss_of_a_ragged_batch_and_its_gradients_are_the_mean_of_its_samples(data):
    """Mixed tasks, sizes, texts; with and without sources; some texts dropped. Every sample weighs the same."""
    model, batch = tiny_model(), data.batch(2, 8)
    assert len(set(batch.grids)) == 3 and {len(own) for own in batch.sources} == {0, 1}
    micro = micro_of(model, batch, torch.tensor([False, True] * 4))
    total, _ = loss(model, micro)
    total.backward()
    together = gradient(model)
    model.network.zero_grad()
    alone = []
    for i in range(8):
        one = micro_batch(*micro[:4], slice(i, i + 1))
        assert one.x0_BSC.shape[1] == token_count([batch.grids[i]])
        value, _ = loss(model, one)
        (value / 8).backward()
        alone.append(value.detach())
    assert float(torch.stack(alone).std()) > 1e-3
    assert abs(float(total.detach() - torch.stack(alone).mean())) < 1e-5
    separate = gradient(model)
    assert together.keys() == separate.keys()
    assert max(float((together[name] - separate[name]).abs().max()) for name in together) < 1e-5
    assert max(float(value.abs().max()) for value in together.values()) > 1e-2


def test_only_what_is_to_be_made_is_learned_from():
    """The same target costs the same whatever its source weighs: condition tokens are in no mean."""
    model = tiny_model()
    x0 = torch.randn(2, 12, 16, generator=torch.Generator().manual_seed(0))
    large, small = torch.rand(3, 96, 96) * 255, torch.rand(3, 16, 16) * 255
    micro = micro_of(model, Batch(x0, ["a", "b"], ((2, 6),) * 2, [[large], [small]]), torch.zeros(2, dtype=torch.bool))
    with torch.no_grad():
        v = model.velocity(
            (1 - micro.sigma_B.view(-1, 1, 1)) * x0 + micro.sigma_B.view(-1, 1, 1) * micro.eps_BSC,
            micro.sigma_B, micro.cond,
        )  # fmt: skip
        assert v.shape == x0.shape
        expected = (v - (micro.eps_BSC - x0)).square().mean()
        torch.testing.assert_close(loss(model, micro)[0], expected)


def test_padding_has_no_noise_and_micro_batches_have_no_more_padding_than_they_need(data):
    model, engine = tiny_model(), LocalEngine(tiny_model().network, replace(OPTIM, adamw_lr=1e-12))
    model.trainable = engine.module
    with Spy(model) as spy:
        list(train(model, engine, data, replace(CFG, micro=2)))
    assert len(spy.x) == 4
    for x, cond in zip(spy.x, spy.cond, strict=True):
        counts = [token_count([grid]) for grid in cond.grids]
        assert x.shape[1] == max(counts)
        for row, count in zip(x, counts, strict=True):
            assert row[:count].all() and not row[count:].any()


def test_micro_batches_of_a_ragged_batch_give_the_same_update(data):
    results = []
    for micro in (8, 2):
        model = tiny_model()
        (step,) = train(model, LocalEngine(model.network, OPTIM), data, replace(CFG, micro=micro))
        results.append(step.metrics)
    assert results[0]["grad_norm"] > 1e-2
    assert results[1] == pytest.approx(results[0], rel=1e-3)


def test_a_dropped_text_keeps_its_pictures_and_becomes_what_guidance_asks(data):
    model, batch = tiny_model(), data.batch(0, 8)
    dropped = torch.tensor([True, False] * 4)
    cond, whole = condition(model, batch, dropped), model.encode_text(batch.texts, batch.images())
    assert cond.image_grids == whole.image_grids and cond.grids == batch.grids
    torch.testing.assert_close(cond.images_BRC, whole.images_BRC, atol=1e-5, rtol=1e-5)
    for i in range(8):
        asked = model.unconditional(1, [batch.images()[i]]) if dropped[i] else whole.take([i])
        L = int(asked.mask_BL.sum())
        assert int(cond.mask_BL[i].sum()) == L
        torch.testing.assert_close(cond.text_BLD[i, :L], asked.text_BLD[0, :L], atol=1e-5, rtol=1e-5)
    plain = condition(model, batch._replace(sources=()), dropped)
    nothing = model.unconditional(1)
    assert torch.equal(plain.text_BLD[0, :1], nothing.text_BLD[0]) and plain.images_BRC is None


@pytest.mark.parametrize("line", [dynamic_mu, lambda tokens: 0.1 * tokens], ids=["ours", "another"])
def test_noise_is_shifted_by_the_number_of_tokens_and_not_at_the_models_own_size(data, line, monkeypatch):
    """logit(sigma) of a sample is what it would be at the own size, plus mu(S) - mu(S0) of the model's own schedule."""
    model, engine = tiny_model(), LocalEngine(tiny_model().network, replace(OPTIM, adamw_lr=1e-12))
    if line is not dynamic_mu:
        monkeypatch.setattr(model, "shift", line)
    model.trainable = engine.module
    with Spy(model) as spy:
        list(train(model, engine, data, CFG))
    random = generator(CFG.seed, 0, 0, "flow")
    batch = data.batch(0, 8)
    torch.randn(batch.x0_BSC.shape, generator=random)
    own = logit_normal(8, CFG.sigma_mean, CFG.sigma_std, random)
    shift = torch.tensor([line(h * w) - line(12) for h, w in batch.grids])
    assert len(set(shift.tolist())) == 3 and (shift == 0).any()
    torch.testing.assert_close(torch.logit(spy.sigma[0].double()), torch.logit(own.double()) + shift, atol=1e-5, rtol=0)
    same_size = shift == 0
    assert torch.equal(spy.sigma[0][same_size], own[same_size])


def test_producers_give_the_mixed_stream_and_training_on_it_resumes_exactly(tmp_path: Path, data):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as producers do: sums depend on it
    cfg = replace(CFG, steps=4, batch=6, micro=3)
    try:
        whole, first, second = tiny_model(), tiny_model(), tiny_model(seed=3)
        second.vae, second.text = first.vae, first.text  # sources are encoded by the model; no checkpoint holds these
        with Producers(data, workers=1, ahead=2) as producers:
            there, here = producers.batch(3, 6), data.batch(3, 6)
            assert torch.equal(there.x0_BSC, here.x0_BSC) and there[1:3] == here[1:3]
            pairs = [zip(a, b, strict=True) for a, b in zip(there.sources, here.sources, strict=True)]
            assert all(torch.equal(a, b) for own in pairs for a, b in own)
            expected = [s.metrics for s in train(whole, LocalEngine(whole.network, OPTIM), producers, cfg)]
        engine = LocalEngine(first.network, OPTIM)
        begun = [s.metrics for s in train(first, engine, data, replace(cfg, steps=2))]
        engine.save(tmp_path)
        engine = LocalEngine(second.network, OPTIM)
        engine.load(tmp_path)
        ended = [s.metrics for s in train(second, engine, data, cfg, start=2)]
        assert begun + ended == expected and same(weights(second), weights(whole))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_circle_of_an_edit():
    """Learn one edit, apply it: the result is the target, not the source, and without the instruction it is neither."""
    model = tiny_model(fresh=True)
    before = Scene("ABC", "", "sans", "large", "black", "white", "middle", "centre")
    example = change_ink(before, "", (32, 96), np.random.default_rng(3), False)
    assert example.source
    source, target = (torch.from_numpy(s.render().copy()) for s in (example.source, example.target))
    both = model.encode_pixels(torch.stack([source, target]) / 255.0)
    x0 = (both - both.mean()) / both.std()
    other = "keep the picture as it is"

    class Two:
        """The edit and the reconstruction of one source: only the instruction tells them apart."""

        def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
            texts = [example.text, other] * (size // 2)
            return Batch(x0.flip(0).repeat(size // 2, 1, 1), texts, ((2, 6),) * size, [[source.float()]] * size)

    optim = OptimConfig(steps=300, muon_lr=0.02, adamw_lr=5e-3, warmup=5)
    cfg = Pretrain(steps=300, batch=16, micro=16, dropout=0.0, sigma_mean=0.0)
    list(train(model, LocalEngine(model.network, optim), Two(), cfg))
    sampler = Sampler(steps=20)
    for text, wanted, unwanted in ((example.text, x0[1], x0[0]), (other, x0[0], x0[1])):
        cond = model.encode_text([text] * 4, [[source / 255.0]] * 4)
        start = model.noise(4, torch.Generator().manual_seed(9))
        drawn = sample(model, start, cond, cond, sampler, sampler.levels())
        right, wrong = ((drawn - x).square().mean((1, 2)).sqrt() for x in (wanted, unwanted))
        assert float(right.max()) < 0.15 and float(wrong.min()) > 2 * float(right.max())
