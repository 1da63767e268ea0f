"""Randomness as a function of (seed, step, rank, purpose)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from base_model import seeding
from base_model.seeding import generator, numpy_generator

ADDRESSES = list(itertools.product((0, 1), (0, 1, 10), (0, 1), ("noise", "data")))
TORCH_GOLDEN = [511, 776, 748, 98, 480]
NUMPY_GOLDEN = [982, 682, 89, 308, 778]


def draw(address: tuple[int, int, int, str], size: int = 4000) -> torch.Tensor:
    return torch.randn(size, generator=generator(*address))


def test_one_address_is_one_stream() -> None:
    for address in ADDRESSES:
        assert torch.equal(draw(address), draw(address))
        assert numpy_generator(*address).random() == numpy_generator(*address).random()


def test_streams_stay_the_same_between_versions() -> None:
    """A run resumed with a newer checkout must go on with the same noise."""
    random = generator(3, 14, 1, "noise")
    assert torch.randint(0, 1000, (5,), generator=random).tolist() == TORCH_GOLDEN
    assert numpy_generator(3, 14, 1, "noise").integers(0, 1000, 5).tolist() == NUMPY_GOLDEN


def test_streams_are_independent_normal_draws() -> None:
    draws = torch.stack([draw(address) for address in ADDRESSES])
    correlation = torch.corrcoef(draws) - torch.eye(len(ADDRESSES))
    assert correlation.abs().max() < 5 / 4000**0.5  # five standard errors
    assert draws.mean().abs() < 5 / draws.numel() ** 0.5
    assert abs(draws.std() - 1) < 0.02


def test_the_parts_of_an_address_do_not_run_together() -> None:
    pairs = [((1, 11, 0, "a"), (11, 1, 0, "a")), ((0, 1, 2, "a"), (0, 12, 0, "a")), ((0, 0, 1, "a"), (0, 0, 0, "1a"))]
    for one, other in pairs:
        assert not torch.equal(draw(one), draw(other))


def test_numpy_integers_are_the_same_address() -> None:
    """Step counters arrive as numpy integers too, whose repr differs."""
    assert torch.equal(draw((1, 2, 0, "a")), draw((np.int64(1), np.int32(2), np.int64(0), "a")))


def test_more_than_32_bits_reach_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.Generator.manual_seed` gives equal CPU streams for seeds that agree in their low 32 bits."""
    same = [torch.rand(1, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1 + 2**32)]
    assert same[0] == same[1]
    draws = []
    for high in range(3):
        monkeypatch.setattr(seeding, "_digest", lambda *_, high=high: bytes([high] + [0] * 27 + [1, 2, 3, 4]))
        draws.append(float(torch.rand(1, generator=generator(0, 0, 0, "a"))))
    assert len(set(draws)) == 3


def test_the_whole_state_is_used() -> None:
    """Long draws neither repeat nor degenerate: the state was laid out as torch reads it."""
    x = torch.rand(200_000, generator=generator(0, 0, 0, "long"), dtype=torch.float64)
    assert len(x.unique()) > 199_990
    assert abs(x.mean() - 0.5) < 0.004
    counts = torch.histc(x, 100, 0, 1)
    assert ((counts - 2000).square() / 2000).sum() < 160  # chi-squared, 99 degrees of freedom


def test_every_test_begins_with_the_same_random_numbers():
    assert torch.initial_seed() == 0 and int(np.random.get_state()[1][0]) == 0
