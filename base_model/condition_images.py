"""The images that prompts ask to edit, as a run shows them to a model: read when they are needed, and not too large."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

from base_model.qwen.prompt_templates import resized

Readers = Sequence[Sequence[Callable[[], np.ndarray]]]
"""for every sample, what reads each of its condition images: uint8 [H, W, 3]"""


class ReadWhenIndexed(Sequence[Sequence[Tensor]]):
    """Condition images of many samples, of which only those are in memory that somebody indexes."""

    def __init__(self, readers: Readers, fit: Callable[[Sequence[Tensor]], list[Tensor]]) -> None:
        """`fit` makes images [3, H, W] in [0, 1] as large as the model should see them."""
        self._readers, self._fit = readers, fit

    def __len__(self) -> int:
        return len(self._readers)

    @overload
    def __getitem__(self, index: int) -> Sequence[Tensor]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sequence[Tensor]]: ...

    def __getitem__(self, index: int | slice) -> Sequence[Tensor] | Sequence[Sequence[Tensor]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        pixels = (torch.from_numpy(read().copy()) for read in self._readers[index])
        return self._fit([image.permute(2, 0, 1).float() / 255.0 for image in pixels])


def fitted(image_3HW: Tensor, most: tuple[int, int], side: int) -> Tensor:
    """The image in the size of `shown_size`."""
    height, width = image_3HW.shape[1:]
    size = shown_size((height, width), most, side)
    return image_3HW if size == (height, width) else resized(image_3HW, size)


def shown_size(size: tuple[int, int], most: tuple[int, int], side: int) -> tuple[int, int]:
    """A (height, width) scaled down to the area of `most`, sides in proportion, in tokens of `side` pixels.

    One that is no larger and divides into tokens stays as it is.
    """
    scale = min(1.0, math.sqrt(most[0] * most[1] / (size[0] * size[1])))
    height, width = (max(1, round(pixels * scale / side)) * side for pixels in size)
    return height, width
