"""A reward that means nothing: even, repeatable, and unrelated between images that are nearly alike."""

from __future__ import annotations

import numpy as np
import pytest

from rewards.chance import chance


def test_it_is_even_and_repeatable_and_one_pixel_makes_it_another() -> None:
    images = np.zeros((400, 4, 6, 3), dtype=np.uint8)
    images[:, 3, 5, 1], images[:, 3, 5, 2] = np.arange(400) % 256, np.arange(400) // 256
    values = np.array([chance(image, 0) for image in images])
    assert values.tolist() == [chance(image.copy(), 0) for image in images]
    assert np.histogram(values, bins=4, range=(0.0, 1.0))[0] == pytest.approx([100] * 4, abs=30)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.15
    assert abs(np.corrcoef(values, [chance(image, 1) for image in images])[0, 1]) < 0.15, "another seed, another coin"
