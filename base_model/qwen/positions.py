"""MSRoPE: where image and text tokens stand, and the rotation that tells attention so.

Three axes (frame, row, column) share the channels of a head: `axes_dims` channels each, in pairs. A pair of an axis of
d channels turns by `position * 10000^(-2j/d)`, j = 0 .. d/2 - 1 (Su et al., arXiv:2104.09864). Positions are those of
Qwen-Image (arXiv:2508.02324, section 3.2 and figure 8):

- image token (row i, column j) of an h x w grid: (k, i - ceil(h/2), j - ceil(w/2)), so the origin is the centre and
  another resolution keeps the middle of the image where it was. k is 0 for the image to be made, 1, 2, ... for the
  images that it is made from;
- text token i: (p, p, p) with p = M + i, M = max(h // 2, w // 2) over all images of the sample: the diagonal that
  begins just outside the largest.

That is the scheme `msrope`. A scheme is a function from the grids of a sample to the places of its tokens; the others
here are what it is compared with (experiments/reports/2026-11-26-positions.md).

Tables are float32, built once per grids and device, never inside autograd. Shapes: S image tokens, R tokens of
condition images, N tokens, E channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

THETA = 10000.0
POSITIONS = 4096
"""Released weights know the positions -4096 .. 4095 of every axis."""


def text_origin(*grids: tuple[int, int]) -> int:
    """M: the position of text token 0 beside images of these grids."""
    return max(side // 2 for grid in grids for side in grid)


def image_positions(grid: tuple[int, int], frame: int = 0) -> Tensor:
    """int64 [S, 3]: frame, row and column of every token of the grid, row by row."""
    rows, columns = (torch.arange(side) - (side - side // 2) for side in grid)
    return torch.stack(torch.meshgrid(torch.tensor([frame]), rows, columns, indexing="ij"), -1).flatten(0, 2)


@dataclass(frozen=True)
class TokenGrids:
    """Where the tokens of one sample stand."""

    images: tuple[Tensor, ...]
    """int64 [S, 3] for what is made and for every condition image"""
    origin: int
    """place of text token 0 on its line; token i is at origin + i"""
    line: tuple[int, int, int] = (1, 1, 1)
    """0 or 1 an axis: place p of the line is at p times this"""


Scheme = Callable[[Sequence[tuple[int, int]]], TokenGrids]
"""grids of what is made and of its condition images -> where the tokens stand"""


def msrope(grids: Sequence[tuple[int, int]]) -> TokenGrids:
    """Text on the diagonal that begins just outside of the largest image; images centred, one a frame."""
    return TokenGrids(centred(grids), text_origin(*grids))


def row_text(grids: Sequence[tuple[int, int]]) -> TokenGrids:
    """Plain 2-D RoPE: images as in `msrope`, text an image of one row that begins right of the widest.

    That row is row 0, the middle one of every image, and text is told from an image by its columns alone (Seedream
    2.0, arXiv:2503.07703).
    """
    return TokenGrids(centred(grids), max(w // 2 for _, w in grids), (0, 0, 1))


def flat(grids: Sequence[tuple[int, int]]) -> TokenGrids:
    """One sequence: images row by row, one behind the other, then text; token n at (n, n, n).

    Which place an image's token has depends on the width of its grid, and where text begins on all sizes.
    """
    counts = [h * w for h, w in grids]
    line = torch.arange(sum(counts))[:, None].expand(-1, 3)
    return TokenGrids(line.split(counts), sum(counts))


def centred(grids: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
    """Positions of images whose middles are the origin, each on a frame of its own."""
    return tuple(image_positions(grid, frame) for frame, grid in enumerate(grids))


def rotations(positions_N3: Tensor, axes_dims: tuple[int, int, int]) -> Tensor:
    """float32 [N, E/2, 2]: cosine and sine of the angle of every channel pair."""
    angles = [
        torch.outer(positions_N3[:, axis], 1.0 / THETA ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))
        for axis, dim in enumerate(axes_dims)
    ]
    angle = torch.cat(angles, -1)
    return torch.stack([angle.cos(), angle.sin()], -1)


# A table first asked for inside torch.inference_mode() would be refused by a later training step, hence the decorator.
@lru_cache(maxsize=256)
@torch.inference_mode(False)
def image_table(
    scheme: Scheme, grids: tuple[tuple[int, int], ...], axes_dims: tuple[int, int, int], device: torch.device
) -> Tensor:
    """float32 [S + R, E/2, 2]: rotations of the tokens of what is made and of its condition images.

    Do not write into it: it is shared.
    """
    return torch.cat([rotations(positions, axes_dims) for positions in scheme(grids).images]).to(device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def text_table(axes_dims: tuple[int, int, int], device: torch.device, line: tuple[int, int, int] = (1, 1, 1)) -> Tensor:
    """float32 [POSITIONS, E/2, 2]: row p holds the rotations of place p of a line of text, the diagonal by default."""
    return rotations(torch.arange(POSITIONS)[:, None] * torch.tensor(line), axes_dims).to(device)


def rotate(x_NHE: Tensor, table_NE2: Tensor) -> Tensor:
    """Turn the channel pairs of every head; computed in float32, returned in the dtype of `x_NHE`.

    A pair (a, b) turned by an angle is the complex product (a + ib)(cos + i sin), which eager kernels do in one pass.
    """
    pairs = torch.view_as_complex(x_NHE.float().unflatten(-1, (-1, 2)))
    turned = pairs * torch.view_as_complex(table_NE2)[:, None]
    return torch.view_as_real(turned).flatten(-2).to(x_NHE.dtype)
