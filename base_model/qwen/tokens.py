"""Latent images to tokens and back: the layout that the released network reads."""

from __future__ import annotations

from torch import Tensor


def patchify(latent_BChw: Tensor, patch: int = 2) -> Tensor:
    """[B, C, h, w] to tokens [B, (h/p)(w/p), C p p], channels ordered (C, row, column) as in the released model."""
    B, C, H, W = latent_BChw.shape
    x = latent_BChw.view(B, C, H // patch, patch, W // patch, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(B, (H // patch) * (W // patch), C * patch * patch)


def unpatchify(tokens_BSC: Tensor, grid: tuple[int, int], patch: int = 2) -> Tensor:
    """The inverse of `patchify`; `grid` is (rows, columns) of tokens."""
    B, _, C = tokens_BSC.shape
    x = tokens_BSC.view(B, *grid, C // patch**2, patch, patch)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(B, C // patch**2, grid[0] * patch, grid[1] * patch)
