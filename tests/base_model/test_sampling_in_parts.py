"""What is sampled a part at a time, so that it fits a card, is what would be sampled at once, bit for bit.

A real network rounds its products differently in batches of other sizes, so here it answers row by row: whatever else
differs between parts and the whole then shows.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from alignment.trajectory import Exploration
from base_model import generate
from base_model.generate import AT_ONCE, at_once, generate_chunks, prompted
from base_model.interface import Conditioning
from base_model.qwen.model import QwenImage
from base_model.sample import Sampler
from experiments.evaluation.evaluate import fixed_noise
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import MonitorPlan, PairPlan, PromptPlan
from experiments.preferences.from_scores import sample_group
from experiments.training.watch import Watch
from tests.fixtures.tiny.tiny_model import tiny_model

COUNT, GROUP, TOKENS = 7, 3, 12
PROMPTS = PromptPlan(COUNT, 5)


class RowByRow:
    """The tiny model, one sample at a time; remembers how many it was given together."""

    def __init__(self, model: QwenImage) -> None:
        self.most = 0
        asked, decoded = model.velocity, model.vae.decode

        def velocity(x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
            self.most = max(self.most, len(x_BSC))
            one = [slice(i, i + 1) for i in range(len(x_BSC))]
            return torch.cat([asked(x_BSC[row], sigma_B[row], cond.take(row)) for row in one])

        def decode(z: Tensor) -> Tensor:
            self.most = max(self.most, len(z))
            return torch.cat([decoded(row) for row in z.split(1)])

        model.velocity, model.vae.decode = velocity, decode  # type: ignore[method-assign, assignment]


Made = list[np.ndarray]


def evaluated(model: QwenImage, guidance: float) -> Made:
    noise = fixed_noise(model, COUNT, 4)
    texts = [prompt.text for prompt in make_prompts(PROMPTS)]
    chunks = list(generate_chunks(model, prompted(model, texts, guidance), noise, Sampler(2, guidance)))
    assert [row for rows, _, _ in chunks for row in range(COUNT)[rows]] == list(range(COUNT))
    return [np.concatenate([images for _, _, images in chunks])]


def watched(model: QwenImage, guidance: float) -> Made:
    """The images of a monitor, of chosen prompts, and how far the model has gone."""
    plan = MonitorPlan(prompts=PROMPTS, sampler=Sampler(2, guidance))
    watch = SimpleNamespace(_model=model, _plan=plan, _sampler=plan.sampler, _prompts=make_prompts(PROMPTS))
    latents, images = Watch._sample(watch, model, [6, 0, 3, 5], 1)  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.mul_(1.01)
    return [latents.numpy(), images, *Watch._departure(watch, fixed_noise(model, COUNT, 9)).values()]  # type: ignore[arg-type]


def paired(shared: bool) -> Callable[[QwenImage, float], Made]:
    def drawn(model: QwenImage, guidance: float) -> Made:
        walk = Exploration(window=1, within=2, shared_noise=shared)
        plan = PairPlan(PROMPTS, group=GROUP, sampler=Sampler(3, guidance), exploration=walk, seed=5)
        latents, images = sample_group(model, make_prompts(PROMPTS), plan, 32)
        return [latents.numpy(), images]

    return drawn


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize(
    "make", [evaluated, watched, paired(True), paired(False)], ids=["evaluation", "monitor", "pairs", "pairs apart"]
)
def test_parts_are_the_whole(
    make: Callable[[QwenImage, float], Made], guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for images in (99, 1, 3, 5):
        model = tiny_model(3)
        spy = RowByRow(model)
        monkeypatch.setattr(generate, "AT_ONCE", images * TOKENS)
        found.append(make(model, guidance))
        together = max(images, GROUP) * (2 if guidance > 1.0 else 1)
        assert spy.most <= together or images == 99, "a part is no larger than what fits"
        assert images != 99 or spy.most >= COUNT - 3, "and the whole is whole"
    for other in found[1:]:
        for whole, parts in zip(found[0], other, strict=True):
            assert np.array_equal(whole, parts)
    for made in found[0]:
        assert len({row.tobytes() for row in made}) == len(made), "no two are alike"


def test_as_many_go_together_as_there_is_room_for() -> None:
    assert AT_ONCE == 16 * 32 * 32, "16 images of 512 pixels a side"
    assert [at_once(tokens, 64) for tokens in (1, 256, 1024, 4096, AT_ONCE, AT_ONCE + 1, 99 * AT_ONCE)] == [
        64, 64, 16, 4, 1, 1, 1,
    ]  # fmt: skip
    assert at_once(1024, 6) == 6 and at_once(1024, 1) == 1


def test_the_autoencoder_goes_through_its_parts_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = tiny_model(1), torch.rand(7, 3, 32, 96, generator=torch.Generator().manual_seed(0))
    latents = model.encode_pixels(images)
    whole = model.decode(latents)
    monkeypatch.setattr(generate, "AT_ONCE", 2 * TOKENS)
    sizes: list[int] = []
    for name in ("encode", "decode"):
        inner = getattr(model.vae, name)
        monkeypatch.setattr(model.vae, name, lambda x, inner=inner: sizes.append(len(x)) or inner(x))
    torch.testing.assert_close(model.encode_pixels(images), latents)
    torch.testing.assert_close(model.decode(latents), whole)
    assert sizes == [2, 2, 2, 1] * 2
