"""Conditionings with rows that only some networks read."""

from __future__ import annotations

import pytest
import torch

from base_model.interface import Conditioning


def made(samples: int, **more: torch.Tensor) -> Conditioning:
    text = torch.randn(samples, 3, 4, generator=torch.Generator().manual_seed(samples))
    return Conditioning(text, torch.ones(samples, 3, dtype=torch.bool), ((1, 1),) * samples, more_B=more)


def test_rows_follow_their_samples() -> None:
    cond = made(4, pooled=torch.arange(4.0)[:, None])
    assert cond.take([3, 1]).more_B["pooled"].flatten().tolist() == [3.0, 1.0]
    assert cond.take([1]).repeat(2).more_B["pooled"].flatten().tolist() == [1.0, 1.0]
    assert Conditioning.stack([cond, cond.take([2])]).more_B["pooled"].flatten().tolist() == [0.0, 1.0, 2.0, 3.0, 2.0]
    assert cond.telling(3.5).take([0]).more_B["scale"].tolist() == [3.5]


def test_every_other_sample_is_no_view() -> None:
    few = made(4, pooled=torch.randn(4, 2)).take(slice(None, None, 2))
    assert few.text_BLD.is_contiguous() and few.mask_BL.is_contiguous() and few.more_B["pooled"].is_contiguous()


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="4 samples"):
        made(4, pooled=torch.zeros(3, 2))
    with pytest.raises(ValueError, match="pooled"):
        Conditioning.stack([made(2, pooled=torch.zeros(2, 2)), made(2)])
