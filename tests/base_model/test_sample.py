"""Images of prompts are made in one place: in chunks, through the levels that the model goes through."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from base_model import generate as generating
from base_model.flow import schedule
from base_model.generate import generate, generate_chunks, prompted
from base_model.sample import Sampler, pixels, sample
from tests.fixtures.tiny.tiny_model import tiny_model

TEXTS = [f'the word "{word}" in red sans' for word in ("ABC", "DE", "F", "GHI", "JK")]
GUIDED = Sampler(steps=2, guidance=3.0)


def by_hand(model, noise, levels):
    """Every image alone: text, no text, the path, the decoder, the nearest 8-bit value."""
    images = []
    for text, x in zip(TEXTS, noise, strict=True):
        x0 = sample(model, x[None], model.encode_text([text]), model.unconditional(1), GUIDED, levels)
        images.append(np.rint(model.decode(x0)[0].double().numpy() * 255.0).astype(np.uint8))
    return np.stack(images)


def test_chunks_give_what_images_alone_give(monkeypatch):
    model = tiny_model()
    noise = model.noise(len(TEXTS), torch.Generator().manual_seed(1))
    alone = by_hand(model, noise, GUIDED.levels())
    monkeypatch.setattr(generating, "CHUNK", 2)
    rows, latents, images = zip(
        *generate_chunks(model, prompted(model, TEXTS, GUIDED.guidance), noise, GUIDED), strict=True
    )
    assert [(part.start, part.stop) for part in rows] == [(0, 2), (2, 4), (4, 5)]
    assert [len(x) for x in latents] == [2, 2, 1] == [len(part) for part in images]
    together = generate(model, TEXTS, noise, GUIDED)
    assert together.dtype == np.uint8 and (np.concatenate(images) == together).all()
    assert np.abs(together.astype(int) - alone).max() <= 1, "batch mates change rounding at most"
    assert len(np.unique(together.reshape(len(TEXTS), -1), axis=0)) == len(TEXTS), "every text has its own noise"


def test_a_model_that_was_released_with_levels_is_sampled_through_those(monkeypatch):
    model = tiny_model()
    noise = model.noise(len(TEXTS), torch.Generator().manual_seed(1))
    plain = generate(model, TEXTS, noise, GUIDED)
    own = schedule(2, 2.0)
    monkeypatch.setattr(model, "levels", lambda sampler: own, raising=False)
    shifted = generate(model, TEXTS, noise, GUIDED)
    assert (shifted != plain).any()
    assert np.abs(shifted.astype(int) - by_hand(model, noise, own)).max() <= 1


def test_large_images_are_fewer_at_a_time(monkeypatch):
    model = tiny_model()
    noise = model.noise(len(TEXTS), torch.Generator().manual_seed(1))
    monkeypatch.setattr(generating, "AT_ONCE", noise.shape[1] * 3)
    assert [len(x) for _, x, _ in generate_chunks(model, prompted(model, TEXTS, GUIDED.guidance), noise, GUIDED)] == [
        3,
        2,
    ]


def test_pixels_are_the_nearest_of_256() -> None:
    decoder = SimpleNamespace(decode=lambda x: x)
    shares = torch.tensor([0.0, 0.4, 0.6, 127.4, 127.6, 254.6, 255.0]) / 255.0
    assert pixels(decoder, shares).tolist() == [0, 0, 1, 127, 128, 255, 255]  # type: ignore[arg-type]
