"""The prompt of nothing is encoded only where guidance reads it."""

from __future__ import annotations

import pytest
import torch

from alignment.trajectory import Exploration, rollout
from base_model.generate import generate
from base_model.interface import Conditioning
from base_model.sample import Sampler
from base_model.seeding import generator
from tests.fixtures.tiny.tiny_model import tiny_model

TEXTS = ('the word "ABC" in red sans', 'the word "HELLO" in blue mono')


@pytest.mark.parametrize(
    ("guidance", "reads_number", "calls"), [(1.0, False, 0), (3.0, False, 1), (3.0, True, 0), (1.0, True, 0)]
)
@pytest.mark.parametrize("shared", [True, False])
def test_calls_of_the_encoder(monkeypatch, guidance, reads_number, calls, shared):
    model, seen = tiny_model(), []
    nothing, encode, guided = model.unconditional, model.encode_text, model.guided

    def unconditional(size, images=()):
        seen.append(size)
        return nothing(size, images)

    def number_read(x, sigma, cond, uncond, scale) -> torch.Tensor:
        return guided(x, sigma, Conditioning(cond.text_BLD, cond.mask_BL, cond.grids), uncond, 1.0)

    monkeypatch.setattr(model, "unconditional", unconditional)
    if reads_number:
        monkeypatch.setattr(model, "encode_text", lambda texts, images=(): encode(texts, images).telling(guidance))
        monkeypatch.setattr(model, "guided", number_read)
    sampler = Sampler(steps=6, guidance=guidance)
    path = rollout(model, TEXTS, 3, sampler, Exploration(shared_noise=shared), 0, 0, 0)
    assert len(seen) == calls and len(path.uncond) == len(path.cond) == 6
    assert (path.uncond is path.cond) == (calls == 0), "nor repeated"
    seen.clear()
    generate(model, TEXTS, model.noise(2, generator(0, 0, 0, "test")), sampler)
    assert len(seen) == calls
