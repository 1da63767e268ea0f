"""MSRoPE: where image and text tokens stand, and the rotation that tells attention so.

Three axes (frame, row, column) share the channels of a head: `axes_dims` channels each, in pairs. A pair of an axis of
d channels turns by `position * 10000^(-2j/d)`, j = 0 .. d/2 - 1 (Su et al., arXiv:2104.09864). Positions are those of
Qwen-Image (arXiv:2508.02324, section 3.2 and figure 8):

- image token (row i, column j) of an h x w grid: (k, i - ceil(h/2), j - ceil(w/2)), so the origin is the centre and
  another resolution keeps the middle of the picture where it was. k is 0 for the picture to be made, 1, 2, ... for the
  pictures that it is made from;
- text token i: (p, p, p) with p = M + i, M = max(h // 2, w // 2) over all pictures of the sample: the diagonal that
  begins just outside the largest.

Tables are float32, built once per grid and device, never inside autograd. Shapes: S image tokens, N tokens,
E channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


Scheme = Callable[[Sequence[tuple[int, int]], int], tuple[Tensor, list[Tensor]]]
"""(grids of what is made and of its condition pictures, L) -> int64 positions of L text tokens [L, 3] and of the tokens
of every picture [S, 3]"""


def msrope(grids: Sequence[tuple[int, int]], length: int) -> tuple[Tensor, list[Tensor]]:
    """Text on the diagonal that begins just outside of the largest picture; pictures centred, one a frame."""
    text = text_origin(*grids) + torch.arange(length)
    return text[:, None].expand(-1, 3), [image_positions(grid, frame) for frame, grid in enumerate(grids)]


def row_text(grids: Sequence[tuple[int, int]], length: int) -> tuple[Tensor, list[Tensor]]:
    """Plain 2-D RoPE: pictures as in `msrope`, text a picture of one row, 0, beginning right of the widest.

    Row 0 is the middle row of every picture, so text and that row look alike to the row axis; so in Seedream 2.0
    (arXiv:2503.07703).
    """
    text = torch.zeros(length, 3, dtype=torch.int64)
    text[:, 2] = max(w // 2 for _, w in grids) + torch.arange(length)
    return text, [image_positions(grid, frame) for frame, grid in enumerate(grids)]


def flat(grids: Sequence[tuple[int, int]], length: int) -> tuple[Tensor, list[Tensor]]:
    """One sequence: pictures row by row, one behind the other, then text; token n at (n, n, n).

    Where a picture's token stands depends on the width of its grid, and where the text begins on all sizes.
    """
    counts = [h * w for h, w in grids]
    line = torch.arange(sum(counts) + length)[:, None].expand(-1, 3)
    *pictures, text = line.split([*counts, length])
    return text, pictures


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
def image_table(grid: tuple[int, int], axes_dims: tuple[int, int, int], device: torch.device, frame: int = 0) -> Tensor:
    """float32 [S, E/2, 2]: the rotations of an image's tokens. Do not write into it: it is shared."""
    return rotations(image_positions(grid, frame), axes_dims).to(device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def text_table(axes_dims: tuple[int, int, int], device: torch.device) -> Tensor:
    """float32 [POSITIONS, E/2, 2]: row p holds the rotations of the diagonal position (p, p, p)."""
    return rotations(torch.arange(POSITIONS)[:, None].expand(-1, 3), axes_dims).to(device)


def rotate(x_NHE: Tensor, table_NE2: Tensor) -> Tensor:
    """Turn the channel pairs of every head; computed in float32, returned in the dtype of `x_NHE`.

    A pair (a, b) turned by an angle is the complex product (a + ib)(cos + i sin), which eager kernels do in one pass.
    """
    pairs = torch.view_as_complex(x_NHE.float().unflatten(-1, (-1, 2)))
    turned = pairs * torch.view_as_complex(table_NE2)[:, None]
    return torch.view_as_real(turned).flatten(-2).to(x_NHE.dtype)
