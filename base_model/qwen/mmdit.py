"""The Qwen-Image MMDiT (arXiv:2508.02324, section 2.3), a double-stream diffusion transformer.

Text and image keep weights of their own in every block and meet in one joint attention over [text, image]:

    (T1)  temb   = W2 silu(W1 sinusoid(1000 sigma))
    (T2)  shift1, scale1, gate1, shift2, scale2, gate2 = Linear(silu(temb))          a stream and block, adaLN
    (T3)  q, k, v = Linear(norm(x) (1 + scale1) + shift1);  q, k <- MSRoPE(RMSNorm(q), RMSNorm(k))
    (T4)  x <- x + gate1 * Linear(attention over [text, image])
    (T5)  x <- x + gate2 * MLP(norm(x) (1 + scale2) + shift2)
    (T6)  v = Linear(norm(x_target) (1 + scale) + shift)                             v = eps - x0
    (T7)  v = (x - x0^) / max(sigma, 0.05)  with `predicts_data`, and (T6) is x0^    Li & He, arXiv:2511.13720

As (T6) stands, noise has to pass through all blocks to the answer; of nano's 128 channels that takes up to 64. With
(T7) only the data has to.

To edit, the clean latents of one to three images follow the noisy latent, the *target*, in the image stream. They
share its weights and its modulation, or with `zero_cond_t` (Qwen-Image-Edit-2511) take that of sigma = 0, which is what
they are. Only the target is predicted.

Parameter names are those of the released checkpoints. Two things differ from other implementations of it: sigma stays
float32 up to the sinusoid, because in bfloat16 0.502 and 0.504 are one number; and samples of a batch may differ in
text length, image size and images, each with its own positions, computed without padding.

Nothing reads the text stream after the last block, so there `attn.to_add_out` and `txt_mlp` are dead: they exist for
the sake of the checkpoints, are not computed, and are frozen from the start, because optimizers that split weights
among processes do not tell "no gradient" from zero. So are the last text queries (`attn.add_q_proj`,
`attn.norm_added_q`), which are computed but reach nothing: their gradient is exactly zero.

Shapes: B samples, S target tokens, R tokens of condition images, L text tokens, N real tokens of the batch, C
channels, D width, H heads, E channels of a head, K = B, or 2B when there are vectors for sigma = 0, too. A stream is
[B, S + R or L, D] or, when its samples differ in length, [N, D]: see base_model/qwen/packing.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from base_model.qwen.layout import Grids, ImageGrids, Layout, check_images, lay_out
from base_model.qwen.packing import Stream
from base_model.qwen.positions import Scheme, msrope, rotate

EPS = 1e-6
TIME_CHANNELS = 256
MLP_RATIO = 4
LEAST_SIGMA = 0.05
"""divisor of (T7) below which rounding would grow"""
DEAD = ("attn.to_add_out", "txt_mlp", "attn.add_q_proj", "attn.norm_added_q")
"""parts of the last block that nothing reads"""


def sinusoid(sigma_B: Tensor) -> Tensor:
    """(T1) float32 [B, 256]: cosines, then sines, of 1000 sigma at periods from 2 pi to 20000 pi."""
    half = TIME_CHANNELS // 2
    rate = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=sigma_B.device) / half)
    angle = 1000.0 * (sigma_B.float()[:, None] * rate)
    return torch.cat([angle.cos(), angle.sin()], -1)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights, then (1 + scale) and shift."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=EPS), 1 + scale)


@dataclass(frozen=True)
class MMDiTConfig:
    """Sizes of the network. The width is `attention_head_dim * num_attention_heads`."""

    num_layers: int
    attention_head_dim: int
    num_attention_heads: int
    joint_attention_dim: int
    """width of the text encoder"""
    in_channels: int = 64
    """channels of a latent token: latent channels times patch_size squared"""
    out_channels: int = 16
    """latent channels"""
    patch_size: int = 2
    axes_dims_rope: tuple[int, int, int] = (16, 56, 56)
    """channels of a head that encode frame, row and column"""
    zero_cond_t: bool = False
    """condition images are modulated as sigma = 0; True for Qwen-Image-Edit-2511 alone. No weight tells"""
    predicts_data: bool = False
    """the last layer answers clean latents (T7); no released checkpoint does. No weight tells"""

    def __post_init__(self) -> None:
        if sum(self.axes_dims_rope) != self.attention_head_dim or any(dim % 2 for dim in self.axes_dims_rope):
            raise ValueError(
                f"axes_dims_rope={self.axes_dims_rope} must be even and sum to attention_head_dim="
                f"{self.attention_head_dim}: every pair of channels belongs to one axis"
            )
        if self.num_layers < 1:
            raise ValueError(f"num_layers={self.num_layers} must be at least 1")

    @property
    def width(self) -> int:
        """D"""
        return self.attention_head_dim * self.num_attention_heads


class TimestepEmbedder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(TIME_CHANNELS, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, waves: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(waves)))


class TimeEmbedding(nn.Module):
    """(T1). The name of its only child is the checkpoints'."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedder(width)

    def forward(self, sigma_B: Tensor, dtype: torch.dtype) -> Tensor:
        return self.timestep_embedder(sinusoid(sigma_B).to(dtype))


class GELUProjection(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")


class MLP(nn.Module):
    """Two linear layers around GELU. `net.1` is nothing: the checkpoints' numbering leaves room for a dropout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            GELUProjection(width, MLP_RATIO * width), nn.Identity(), nn.Linear(MLP_RATIO * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class JointAttention(nn.Module):
    """(T3) and the attention of (T4). `add_*` and `*_added_*` are the text stream's."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.norm_q, self.norm_k = (nn.RMSNorm(head_dim, eps=EPS) for _ in range(2))
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.add_q_proj, self.add_k_proj, self.add_v_proj = (nn.Linear(width, width) for _ in range(3))
        self.norm_added_q, self.norm_added_k = (nn.RMSNorm(head_dim, eps=EPS) for _ in range(2))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.to_add_out = nn.Linear(width, width)

    def heads(self, x: Tensor) -> Tensor:
        """[N, H, E] from a stream of either shape."""
        return x.reshape(-1, x.shape[-1] // self.head_dim, self.head_dim)

    def forward(self, img: Tensor, txt: Tensor, layout: Layout) -> Tensor:
        """Mixed rows [N, D]: all text rows, then all image rows."""
        txt_q, img_q = self.norm_added_q(self.heads(self.add_q_proj(txt))), self.norm_q(self.heads(self.to_q(img)))
        txt_k, img_k = self.norm_added_k(self.heads(self.add_k_proj(txt))), self.norm_k(self.heads(self.to_k(img)))
        txt_v, img_v = self.heads(self.add_v_proj(txt)), self.heads(self.to_v(img))
        joint = layout.joint
        q = rotate(joint.sorted(txt_q, img_q), layout.table_NE2)
        k = rotate(joint.sorted(txt_k, img_k), layout.table_NE2)
        return joint.unsorted(joint.attend(q, k, joint.sorted(txt_v, img_v)))


class Modulation(nn.Sequential):
    """(T2): shift, scale, gate for attention, then for the MLP. The checkpoints call its linear layer `1`."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, 6 * width))

    def reset_parameters(self) -> None:
        """No shift, no scale, open gates, whatever sigma."""
        linear = self[1]
        assert isinstance(linear, nn.Linear)
        nn.init.zeros_(linear.weight)
        with torch.no_grad():
            linear.bias.copy_(torch.tensor([0.0, 0.0, 1.0] * 2).repeat_interleave(linear.in_features))


class Block(nn.Module):
    """(T2) to (T5) for both streams; the last block's text stream ends in its keys and values."""

    def __init__(self, width: int, head_dim: int, is_last: bool) -> None:
        super().__init__()
        self.is_last = is_last
        self.img_mod = Modulation(width)
        self.attn = JointAttention(width, head_dim)
        self.img_mlp = MLP(width)
        self.txt_mod = Modulation(width)
        self.txt_mlp = MLP(width)
        if is_last:
            for part in DEAD:
                self.get_submodule(part).requires_grad_(False)

    def forward(self, img: Tensor, txt: Tensor, temb_KD: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Both streams, one block later."""
        temb_BD = layout.own(temb_KD)
        i_shift1, i_scale1, i_gate1, i_shift2, i_scale2, i_gate2 = layout.img.spread(self.img_mod(temb_KD)).chunk(6, -1)
        t_shift1, t_scale1, t_gate1, t_shift2, t_scale2, t_gate2 = layout.txt.spread(self.txt_mod(temb_BD)).chunk(6, -1)
        mixed = self.attn(modulated(img, i_shift1, i_scale1), modulated(txt, t_shift1, t_scale1), layout)
        txt_mixed, img_mixed = mixed.split([mixed.shape[0] - img.shape[:-1].numel(), img.shape[:-1].numel()])
        img = torch.addcmul(img, i_gate1, self.attn.to_out[0](img_mixed.view_as(img)))
        img = torch.addcmul(img, i_gate2, self.img_mlp(modulated(img, i_shift2, i_scale2)))
        if self.is_last:
            return img, txt
        txt = torch.addcmul(txt, t_gate1, self.attn.to_add_out(txt_mixed.view_as(txt)))
        txt = torch.addcmul(txt, t_gate2, self.txt_mlp(modulated(txt, t_shift2, t_scale2)))
        return img, txt


class ModulatedNorm(nn.Module):
    """The norm of (T6), whose linear gives scale before shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)

    def forward(self, img: Tensor, temb_BD: Tensor, stream: Stream) -> Tensor:
        scale, shift = stream.spread(self.linear(F.silu(temb_BD))).chunk(2, -1)
        return modulated(img, shift, scale)


class MMDiT(nn.Module):
    """The velocity network. Weights are drawn from torch's global generator; see `reset_parameters`."""

    def __init__(self, cfg: MMDiTConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.recompute = False
        """keep what enters each block and compute the rest again in the backward pass (arXiv:1604.06174)"""
        self.scheme: Scheme = msrope
        """where tokens stand; no weight depends on it"""
        D = cfg.width
        self.time_text_embed = TimeEmbedding(D)
        self.txt_norm = nn.RMSNorm(cfg.joint_attention_dim, eps=EPS)
        self.img_in = nn.Linear(cfg.in_channels, D)
        self.txt_in = nn.Linear(cfg.joint_attention_dim, D)
        last = cfg.num_layers - 1
        self.transformer_blocks = nn.ModuleList(
            [Block(D, cfg.attention_head_dim, index == last) for index in range(cfg.num_layers)]
        )
        self.dead_parts = tuple(f"transformer_blocks.{last}.{part}" for part in DEAD)
        self.norm_out = ModulatedNorm(D)
        self.proj_out = nn.Linear(D, cfg.patch_size**2 * cfg.out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small matrices, open gates, zero output.

        As in DiT (Peebles & Xie, arXiv:2212.09748, section 3.2) modulations do not depend on sigma at first and the
        output is zero. Unlike there the gates begin at 1, not 0, so that blocks learn from the first update, and
        matrices at a standard deviation of 1 / (4 sqrt(inputs)): Muon's steps do not scale with the weights and turn
        small ones sooner. In nano's pretraining the loss over updates 51-100 was 0.63 instead of 0.68, over 101-150
        0.44 instead of 0.47.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.25 * module.in_features**-0.5)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, Modulation):
                module.reset_parameters()
        nn.init.zeros_(self.norm_out.linear.weight)
        nn.init.zeros_(self.proj_out.weight)

    def forward(
        self,
        x_BSC: Tensor,
        sigma_B: Tensor,
        text_BLD: Tensor,
        mask_BL: Tensor | None,
        grids: Grids,
        images_BRC: Tensor | None = None,
        image_grids: ImageGrids = (),
        lengths: Sequence[int] = (),
    ) -> Tensor:
        """The velocity v = eps - x0, shaped and typed as `x_BSC`.

        x_BSC: noisy latent tokens, row by row; S is the largest grid's, smaller grids end in padding, which is never
        read and comes back as zeros. sigma_B: float32 noise level in [0, 1]. text_BLD, mask_BL: encoded text, bool True
        for a real token (None: all are); what stands where the mask is False is never read. grids: (rows, columns) of
        latent tokens of every sample. images_BRC, image_grids: clean latents of the condition images of every
        sample, one behind the other and then padding, and their (rows, columns); samples may have different numbers of
        them, or none. lengths: real text tokens of every sample, which then come first; () when only the mask knows.
        Raises ValueError when these do not fit together.
        """
        check_inputs(self.cfg, x_BSC, sigma_B, text_BLD, mask_BL, grids)
        check_images(x_BSC, images_BRC, image_grids)
        clean = self.cfg.zero_cond_t and images_BRC is not None
        axes = self.cfg.axes_dims_rope
        layout = lay_out(text_BLD, mask_BL, x_BSC, grids, image_grids, axes, clean, self.scheme, lengths)
        dtype = self.proj_out.weight.dtype
        latents = x_BSC if images_BRC is None else torch.cat([x_BSC, images_BRC.to(x_BSC.dtype)], 1)
        img = self.img_in(layout.img.pack(latents.to(dtype)))
        txt = self.txt_in(self.txt_norm(layout.txt.pack(text_BLD.to(dtype))))
        temb = self.time_text_embed(torch.cat([sigma_B, 0.0 * sigma_B]) if clean else sigma_B, dtype)
        recompute = self.recompute and torch.is_grad_enabled()
        for block in self.transformer_blocks:
            run = partial(checkpoint, block, use_reentrant=False, preserve_rng_state=False) if recompute else block
            img, txt = run(img, txt, temb, layout)
        v = self.proj_out(self.norm_out(layout.targets(img), layout.own(temb), layout.target))
        if self.cfg.predicts_data:
            least = layout.target.spread(sigma_B.float().clamp(min=LEAST_SIGMA)[:, None])
            v = (layout.target.pack(x_BSC).float() - v) / least  # (T7)
        return layout.target.unpack(v).to(x_BSC.dtype)


def check_inputs(
    cfg: MMDiTConfig, x_BSC: Tensor, sigma_B: Tensor, text_BLD: Tensor, mask_BL: Tensor | None, grids: Grids
) -> None:
    """Raises ValueError when the inputs of `MMDiT.forward` do not fit the network or one another."""
    if x_BSC.ndim != 3 or x_BSC.shape[0] == 0 or x_BSC.shape[2] != cfg.in_channels:
        raise ValueError(f"x must be [B, S, {cfg.in_channels}] with at least one sample, got {tuple(x_BSC.shape)}")
    B, S = x_BSC.shape[:2]
    if any(min(grid) < 1 for grid in grids):
        raise ValueError(f"grids {grids}: rows and columns must be at least 1")
    if len(grids) != B or max(h * w for h, w in grids) != S:
        raise ValueError(
            f"grids {grids} do not describe x of {B} samples of {S} tokens: give one (rows, columns) per sample, the "
            "largest with exactly as many tokens as x"
        )
    if sigma_B.shape != (B,) or sigma_B.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"sigma must be float32 of shape ({B},), got {sigma_B.dtype} of {tuple(sigma_B.shape)}: 16 bits merge "
            "neighbouring noise levels"
        )
    if text_BLD.ndim != 3 or text_BLD.shape[0] != B or text_BLD.shape[2] != cfg.joint_attention_dim:
        raise ValueError(f"text must be [{B}, L, {cfg.joint_attention_dim}], got {tuple(text_BLD.shape)}")
    if mask_BL is not None and (mask_BL.shape != text_BLD.shape[:2] or mask_BL.dtype != torch.bool):
        raise ValueError(
            f"the text mask must be bool of shape {tuple(text_BLD.shape[:2])}, got {mask_BL.dtype} of "
            f"{tuple(mask_BL.shape)}; True marks a real token"
        )
