"""How sound a character is, and where it is not: a small convolutional network over a crop and two references.

    (1)  h = conv(x, a, b)                     crop x, and a, b of what it should be: 8 x 8 cells
    (2)  where = s(w h)                        s the logistic function; of each cell, that its shape is wrong
    (3)  score = s(v [mean g, max g] + c)      g = conv(h); that the character is sound

The references say which strokes belong to the character: without them another legal glyph looks sound, and a network
that learns the characters themselves cannot judge one that it has not seen.

Shapes: B crops, ZZ the square of ink_frame.py, MM the cells of the map.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rewards.glyph.ink_frame import SIDE

CELLS = 8


class GlyphNetwork(nn.Module):
    """Logits of (3) [B] and of (2) [B, M, M] for crops and references as float32 [B, 3, Z, Z] in [0, 1].

    ``width`` is the number of channels of the first layer; 16 gives 0.3 million weights.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(_layer(3, w), _layer(w, 2 * w, 2), _layer(2 * w, 2 * w), _layer(2 * w, 4 * w, 2),
                                  _layer(4 * w, 4 * w))  # fmt: skip
        self.where = nn.Conv2d(4 * w, 1, 1)
        self.deep = nn.Sequential(_layer(4 * w, 8 * w, 2), _layer(8 * w, 8 * w))
        self.score = nn.Linear(16 * w, 1)

    def forward(self, x_B3ZZ: Tensor) -> tuple[Tensor, Tensor]:
        h = self.stem(x_B3ZZ - 0.5)
        g = self.deep(h)
        pooled = torch.cat([g.mean((2, 3)), g.amax((2, 3))], 1)
        return self.score(pooled)[:, 0], self.where(h)[:, 0]


def folded(network: GlyphNetwork) -> GlyphNetwork:
    """A network in evaluation with every normalisation as part of its convolution: the same but for rounding, and
    faster by a tenth."""
    result = copy.deepcopy(network).eval()
    result.stem, result.deep = _fused(result.stem), _fused(result.deep)
    return result


def _fused(layers: nn.Sequential) -> nn.Sequential:
    flat: list[nn.Module] = []
    for layer in layers:
        assert isinstance(layer, nn.Sequential)
        assert isinstance(layer[0], nn.Conv2d) and isinstance(layer[1], nn.BatchNorm2d)
        flat += [fuse_conv_bn_eval(layer[0], layer[1]), layer[2]]
    return nn.Sequential(*flat)


def _layer(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def as_input(crop_BZZ: Tensor, references_B2ZZ: Tensor) -> Tensor:
    """Crops and references in 8 bits -> float32 [B, 3, Z, Z]. Raises ValueError for another size."""
    if crop_BZZ.shape[-2:] != (SIDE, SIDE) or references_B2ZZ.shape[-3:] != (2, SIDE, SIDE):
        raise ValueError(
            f"crops are {tuple(crop_BZZ.shape)} and references {tuple(references_B2ZZ.shape)}; they must be "
            f"[B, {SIDE}, {SIDE}] and [B, 2, {SIDE}, {SIDE}]"
        )
    return torch.cat([crop_BZZ[:, None], references_B2ZZ], 1).float() / 255.0
