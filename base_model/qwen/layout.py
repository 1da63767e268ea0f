"""Where every token of a batch stands: in its stream, in the joint attention, and on the axes of MSRoPE.

The image stream of a sample holds the image to be made, the *target*, and behind it the condition images, each on a
frame of its own. Only the target is predicted.

Shapes: B samples, S target tokens, R tokens of condition images, L text tokens, N real tokens of the batch, D width,
E channels of a head, K = B, or 2B when there are vectors for noise level 0, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from base_model.interface import Grid, token_count
from base_model.qwen.packing import (
    Joint,
    Stream,
    full_stream,
    image_stream,
    join,
    leading,
    leading_stream,
    masked_stream,
)
from base_model.qwen.positions import POSITIONS, Scheme, image_table, msrope, text_table

Grids = Sequence[Grid]
"""(rows, columns) of latent tokens, one a sample"""
ImageGrids = Sequence[Sequence[Grid]]
"""(rows, columns) of every condition image of every sample; empty when no sample has any"""


@dataclass(frozen=True)
class Layout:
    """The same for every block of a forward pass."""

    txt: Stream
    img: Stream
    """targets with their condition images"""
    target: Stream
    """targets alone"""
    target_N: Tensor | None
    """which real rows of `img` are the target's; None: all"""
    joint: Joint
    table_NE2: Tensor
    """rotations of the joint rows"""

    def targets(self, img: Tensor) -> Tensor:
        """The target's part of the image stream."""
        if self.target_N is None:
            return img
        rows = img.reshape(-1, img.shape[-1]).index_select(0, self.target_N)
        return rows.unflatten(0, (len(self.target.lengths), -1)) if self.target.even else rows

    def own(self, vector_KD: Tensor) -> Tensor:
        """The vectors of the samples' own noise levels."""
        return vector_KD if self.img.vector_N is None else vector_KD[: len(self.target.lengths)]


def lay_out(
    text_BLD: Tensor, mask_BL: Tensor | None, x_BSC: Tensor, grids: Grids, image_grids: ImageGrids,
    axes_dims: tuple[int, int, int], clean_images: bool, scheme: Scheme = msrope, lengths: Sequence[int] = (),
) -> Layout:  # fmt: skip
    """Order the real tokens and look their positions up.

    With `clean_pictures` the tokens of condition images take the vectors B .. 2B - 1 of `Stream.spread`, those of
    noise level 0, instead of their sample's. `lengths` are the real text tokens where they are known to come first:
    the mask is then not asked. Raises ValueError for text beyond the last position.
    """
    device, (B, L), S = x_BSC.device, text_BLD.shape[:2], x_BSC.shape[1]
    shown = image_grids or [()] * B
    if mask_BL is None:
        txt = full_stream(B, L, device)
    else:
        txt = leading_stream(lengths, L, device) if lengths else masked_stream(mask_BL)
    img = target = image_stream(tuple(h * w for h, w in grids), S, device)
    target_N = None
    if any(shown):
        img, target_N = with_images(target, [token_count(own) for own in shown])
        if clean_images:
            is_image_N = img.index_N >= S
            img = replace(img, vector_N=img.sample_N + B * is_image_N)
    samples = [(grid, *own) for grid, own in zip(grids, shown, strict=True)]
    indices = {sample: scheme(sample) for sample in set(samples)}
    origins = [indices[sample].origin for sample in samples]
    check_positions(origins, L, grids, shown)
    joint = join(txt, img)
    index = torch.tensor(origins).to(device, non_blocking=True)[txt.sample_N] + txt.index_N
    text = text_table(axes_dims, device, indices[samples[0]].line)
    table = torch.cat([text[index], *(image_table(scheme, sample, axes_dims, device) for sample in samples)])
    return Layout(txt, img, target, target_N, joint, table[joint.order_N])


def with_images(target: Stream, counts: Sequence[int]) -> tuple[Stream, Tensor]:
    """The stream of [B, S + R] tokens, the targets' and then this many of condition images, and its rows of targets.

    Both are worked out on the host, which would otherwise wait for all that the device has to do.
    """
    S, host = target.padded, torch.device("cpu")
    stream = masked_stream(torch.cat([leading(target.lengths, S, host), leading(counts, max(counts), host)], 1))
    target_N = (stream.index_N < S).nonzero()[:, 0]
    sample, index, target_N = (
        x.to(target.sample_N.device, non_blocking=True) for x in (stream.sample_N, stream.index_N, target_N)
    )
    return replace(stream, sample_N=sample, index_N=index), target_N


def check_positions(origins: Sequence[int], L: int, grids: Grids, shown: ImageGrids) -> None:
    """Raises ValueError when a text of L tokens goes beyond the last position of a sample."""
    farthest = max(range(len(origins)), key=origins.__getitem__)
    if origins[farthest] + L > POSITIONS:
        grid = ", ".join(map(str, (grids[farthest], *shown[farthest])))
        raise ValueError(
            f"{L} text tokens beside a grid of {grid} reach position {origins[farthest] + L - 1}, but positions end "
            f"at {POSITIONS - 1}: shorten the prompt"
        )


def check_images(x_BSC: Tensor, images_BRC: Tensor | None, image_grids: ImageGrids) -> None:
    """Raises ValueError when condition images do not fit their grids or the latents x."""
    counts = [token_count(own) for own in image_grids]
    if any(min(grid) < 1 for own in image_grids for grid in own):
        raise ValueError(f"image grids {image_grids}: rows and columns must be at least 1")
    if images_BRC is None:
        if any(counts):
            raise ValueError(f"there are image grids {image_grids}, but no images: give their latents, too")
        return
    B, _, C = x_BSC.shape
    if len(counts) != B or not any(counts) or images_BRC.shape != (B, max(counts), C):
        raise ValueError(
            f"images of {tuple(images_BRC.shape)} do not fit image grids {image_grids} of {B} samples of {C} "
            "channels: give one list of (rows, columns) per sample, and as many tokens as the longest has"
        )
