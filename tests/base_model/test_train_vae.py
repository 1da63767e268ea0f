"""Weights of errors in the loss of the autoencoder, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from base_model.train_vae import LEAST_CONTRAST, LUMA, TrainVAE, contrast_weights, loss

STILL, NO_KL = torch.zeros(2, 1, 1, 1), {"edge": 0.0, "kl": 0.0}


class Answers(nn.Module):
    """A stand-in whose reconstruction of each image is off by a constant."""

    def __init__(self, *off: float) -> None:
        super().__init__()
        self.off = torch.tensor(off).view(-1, 1, 1, 1)

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return pixels + self.off, noise, noise


def two_tones(*differences: tuple[float, float, float]) -> Tensor:
    """Images that are black on the left, and lighter by so much of red, green and blue on the right."""
    pixels = torch.full((len(differences), 3, 8, 8), -1.0)
    pixels[..., 4:] += torch.tensor(differences)[:, :, None, None]
    return pixels


def test_an_error_weighs_by_what_it_is_of_the_range_of_lightness():
    pixels = two_tones((2.0, 2.0, 2.0), (1.0, 1.0, 1.0), (0.0, 0.0, 2.0), (0.0, 0.0, 0.0))
    least = max(2.0 * LUMA[2], LEAST_CONTRAST)
    for power in (1.0, 0.5):
        weights = contrast_weights(pixels, power)
        assert weights.shape == (4, 1, 1, 1) and float(weights.mean()) == pytest.approx(1.0)
        raw = torch.tensor([2.0, 1.0, least, LEAST_CONTRAST]) ** -power
        assert weights.flatten().tolist() == pytest.approx((raw / raw.mean()).tolist())
    assert contrast_weights(pixels, 0.0).flatten().tolist() == [1.0] * 4


@pytest.mark.parametrize(("power", "weight"), [(1.0, 2 / 3), (0.0, 1.0)])
def test_weights_reach_every_part_of_the_loss(power, weight):
    pixels = two_tones((2.0, 2.0, 2.0), (1.0, 1.0, 1.0))  # the second weighs twice as much at power 1
    _, parts = loss(Answers(0.3, 0.0), pixels, STILL, TrainVAE(1, contrast=power))
    error = weight * 0.3
    for name, expected in (("reconstruction", error / 2), ("edge", error / 2), ("square", error**2 / 2)):
        assert float(parts[name]) == pytest.approx(expected)


def test_the_squared_error_is_added_with_its_weight():
    total, _ = loss(Answers(0.5), two_tones((1.0, 1.0, 1.0)), STILL, TrainVAE(1, square=8.0, **NO_KL))
    assert float(total) == pytest.approx(0.5 + 8.0 * 0.25)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("setting", ["edge", "edge_end", "square", "contrast", "kl"])
def test_weights_that_weigh_nothing_sensible_are_refused(setting, value):
    with pytest.raises(ValueError, match=f"{setting}={value}"):
        TrainVAE(1, **{setting: value})
