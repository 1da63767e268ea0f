"""Qwen-Image-VAE for single images: the exact two-dimensional path of the released video autoencoder.

The released network (Wan-2.1 topology, Qwen-Image arXiv:2508.02324, Table 1) is made of causal 3-D convolutions that
pad time with zeros *before* the frame. An image is one frame, so every 3x3x3 kernel meets zeros at its first two
temporal taps and the image at its last one: the 3-D convolution **equals** the 2-D convolution with the last temporal
slice. This module stores only those slices (19.3M + 25.3M of the released 53.6M + 73.3M parameters) under the
released names; `image_weights` and `released_weights` translate, the latter leaving the video taps as they were.

Shapes: B samples, 3HW pixels in [-1, 1], C = z_dim latent channels, h = H / 8, w = W / 8 for four levels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RELEASED_MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632,
                 -0.1922, -0.9497, 0.2503, -0.2921)  # fmt: skip
RELEASED_STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579,
                1.6382, 1.1253, 2.8251, 1.9160)  # fmt: skip


@dataclass(frozen=True)
class VAEConfig:
    """Every size of the autoencoder. `dim_mult` has one entry a level; the image shrinks by 2 between levels."""

    base_dim: int
    """channels at full resolution"""
    z_dim: int
    """latent channels"""
    dim_mult: tuple[int, ...]
    """channel multiplier of each level, finest first"""
    num_res_blocks: int
    """residual blocks a level in the encoder; the decoder has one more"""
    latents_mean: tuple[float, ...]
    """per-channel mean of the latents over the training data, subtracted by `encode`"""
    latents_std: tuple[float, ...]
    """per-channel spread of the latents, divided out by `encode`"""

    def __post_init__(self) -> None:
        if not len(self.latents_mean) == len(self.latents_std) == self.z_dim:
            raise ValueError(
                f"latents_mean and latents_std need z_dim={self.z_dim} numbers each, "
                f"got {len(self.latents_mean)} and {len(self.latents_std)}"
            )

    @property
    def factor(self) -> int:
        """Pixels a latent position covers on each side."""
        return 2 ** (len(self.dim_mult) - 1)


class ChannelNorm(nn.Module):
    """x / rms(x over channels) * gamma, at every pixel. Written over the last axis: channels-last makes it one pass."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        # The released norm is x / max(|x|, 1e-12) * sqrt(C): the same number, with the floor inside the root.
        return F.rms_norm(x_BCHW.permute(0, 2, 3, 1), self.gamma.shape, self.gamma, 1e-24).permute(0, 3, 1, 2)


def conv3(in_dim: int, out_dim: int) -> nn.Conv2d:
    return nn.Conv2d(in_dim, out_dim, 3, padding=1)


class ResidualBlock(nn.Module):
    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = ChannelNorm(in_dim), conv3(in_dim, out_dim)
        self.norm2, self.conv2 = ChannelNorm(out_dim), conv3(out_dim, out_dim)
        self.conv_shortcut = nn.Conv2d(in_dim, out_dim, 1) if in_dim != out_dim else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + self.conv_shortcut(x)


class AttentionBlock(nn.Module):
    """Single-head attention over all positions of the coarsest level."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(dim)
        self.to_qkv, self.proj = nn.Conv2d(dim, dim * 3, 1), nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        q, k, v = self.to_qkv(self.norm(x)).permute(0, 2, 3, 1).reshape(B, 1, H * W, 3 * C).chunk(3, dim=-1)
        h = F.scaled_dot_product_attention(q, k, v)
        return self.proj(h.reshape(B, H, W, C).permute(0, 3, 1, 2)) + x


class MidBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResidualBlock(dim, dim), ResidualBlock(dim, dim)])
        self.attentions = nn.ModuleList([AttentionBlock(dim)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Downsample(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(dim, dim, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        return self.resample(x)


class Upsample(nn.Module):
    """Nearest upsampling by 2 and a 3x3 convolution, computed at the coarse resolution.

    Each fine pixel sees only 2x2 distinct coarse pixels, so the pair equals four 2x2 convolutions, one for each phase
    (even/odd row, even/odd column), whose taps are sums of the 3x3 taps: 4 multiplications a tap instead of 9.
    """

    # Rows of the 3-tap kernel that fall on the two coarse rows seen by an even and by an odd fine row.
    PHASES = (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)))

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), conv3(dim, dim // 2))

    def forward(self, x: Tensor) -> Tensor:
        conv = self.resample[1]
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None
        B, _, H, W = x.shape
        fold = torch.tensor(self.PHASES, dtype=conv.weight.dtype, device=x.device)
        # p, q: phase of the row and of the column; a, b: coarse taps; m, n: fine taps.
        weight = torch.einsum("pam,qbn,oimn->pqoiab", fold, fold, conv.weight).reshape(-1, x.shape[1], 2, 2)
        y = F.conv2d(x, weight, conv.bias.repeat(4), padding=1).view(B, 2, 2, -1, H + 1, W + 1)
        rows = [torch.stack([y[:, p, q, :, p : p + H, q : q + W] for q in (0, 1)], dim=-1) for p in (0, 1)]
        return torch.stack(rows, dim=-3).reshape(B, -1, 2 * H, 2 * W).contiguous(memory_format=torch.channels_last)


class Encoder(nn.Module):
    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__()
        dims = [cfg.base_dim * m for m in (1, *cfg.dim_mult)]
        self.conv_in = conv3(3, dims[0])
        blocks: list[nn.Module] = []
        for level, (in_dim, out_dim) in enumerate(itertools.pairwise(dims)):
            for i in range(cfg.num_res_blocks):
                blocks.append(ResidualBlock(in_dim if i == 0 else out_dim, out_dim))
            if level < len(cfg.dim_mult) - 1:
                blocks.append(Downsample(out_dim))
        self.down_blocks = nn.ModuleList(blocks)
        self.mid_block = MidBlock(dims[-1])
        self.norm_out, self.conv_out = ChannelNorm(dims[-1]), conv3(dims[-1], 2 * cfg.z_dim)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for block in self.down_blocks:
            h = block(h)
        return self.conv_out(F.silu(self.norm_out(self.mid_block(h))))


class UpBlock(nn.Module):
    def __init__(self, in_dim: int, out_dim: int, num_res_blocks: int, upsample: bool) -> None:
        super().__init__()
        dims = [in_dim] + [out_dim] * num_res_blocks
        self.resnets = nn.ModuleList(ResidualBlock(d, out_dim) for d in dims)
        self.upsamplers = nn.ModuleList([Upsample(out_dim)] if upsample else [])

    def forward(self, x: Tensor) -> Tensor:
        for block in (*self.resnets, *self.upsamplers):
            x = block(x)
        return x


class Decoder(nn.Module):
    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__()
        dims = [cfg.base_dim * m for m in (cfg.dim_mult[-1], *reversed(cfg.dim_mult))]
        last = len(cfg.dim_mult) - 1
        self.conv_in, self.mid_block = conv3(cfg.z_dim, dims[0]), MidBlock(dims[0])
        self.up_blocks = nn.ModuleList(
            UpBlock(dims[i] if i == 0 else dims[i] // 2, dims[i + 1], cfg.num_res_blocks, upsample=i < last)
            for i in range(last + 1)
        )
        self.norm_out, self.conv_out = ChannelNorm(dims[-1]), conv3(dims[-1], 3)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            h = block(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class QwenImageVAE(nn.Module):
    """pixels [-1, 1] <-> standardised latents. Stateless and re-entrant: no feature caches as a video needs them."""

    mean: Tensor
    std: Tensor

    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.encoder, self.decoder = Encoder(cfg), Decoder(cfg)
        self.quant_conv = nn.Conv2d(2 * cfg.z_dim, 2 * cfg.z_dim, 1)
        self.post_quant_conv = nn.Conv2d(cfg.z_dim, cfg.z_dim, 1)
        shape = (1, cfg.z_dim, 1, 1)
        self.register_buffer("mean", torch.tensor(cfg.latents_mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(cfg.latents_std).view(shape), persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def seeded(cls, cfg: VAEConfig, seed: int) -> QwenImageVAE:
        """Freshly drawn weights, the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(cfg)

    @property
    def multiple(self) -> int:
        """Height and width of an image are multiples of so many pixels."""
        return self.cfg.factor

    @property
    def encoder_parts(self) -> list[nn.Module]:
        """What makes latents of pixels."""
        return [self.encoder, self.quant_conv]

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """[C, h, w] of the latents of an image."""
        return self.cfg.z_dim, height // self.cfg.factor, width // self.cfg.factor

    def hollow(self) -> QwenImageVAE:
        """One of the same sizes and scale of latents, whose weights have no values yet."""
        with torch.device("meta"):
            made = QwenImageVAE(self.cfg)
        made.mean, made.std = self.mean.cpu(), self.std.cpu()  # which no file holds: they are in the configuration
        return made

    def moments(self, pixels_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | pixels), each [B, C, h, w], not standardised.

        Raises ValueError when a side is not a multiple of the downsampling factor.
        """
        H, W = pixels_B3HW.shape[-2:]
        if H % self.cfg.factor or W % self.cfg.factor:
            raise ValueError(
                f"image of {H}x{W} pixels: its sides must be multiples of {self.cfg.factor}; pad or resize it"
            )
        x = pixels_B3HW.contiguous(memory_format=torch.channels_last)
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, logvar.clamp(-30.0, 20.0)

    def forward(self, pixels_B3HW: Tensor, noise_BChw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One pass of training: unclamped reconstruction from z = mean + std * noise, and the posterior's moments."""
        mean, logvar = self.moments(pixels_B3HW)
        return self.decode_raw(mean + torch.exp(0.5 * logvar) * noise_BChw), mean, logvar

    def encode(self, pixels_B3HW: Tensor) -> Tensor:
        """Standardised posterior mode [B, C, h, w] of images in [-1, 1]."""
        return (self.moments(pixels_B3HW)[0] - self.mean) / self.std

    def decode_raw(self, z_BChw: Tensor) -> Tensor:
        """Decoder output for *raw* (not standardised) latents, unclamped: what a training loss must look at, because
        clamping to [-1, 1] has no gradient outside."""
        z = z_BChw.contiguous(memory_format=torch.channels_last)
        return self.decoder(self.post_quant_conv(z))

    def decode(self, latents_BChw: Tensor) -> Tensor:
        """Images in [-1, 1] (clamped) from standardised latents."""
        return self.decode_raw(latents_BChw * self.std + self.mean).clamp(-1.0, 1.0)


# --- the released layout ------------------------------------------------------------------------------------------


def image_weights(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image path of a released (3-D) state dict: last temporal slices; temporal convolutions are left out."""
    out: dict[str, Tensor] = {}
    for name, value in released.items():
        if ".time_conv." in name:
            continue
        out[name] = value.flatten() if name.endswith(".gamma") else value[:, :, -1] if value.ndim == 5 else value
    return out


def released_weights(image: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`base` (a released state dict, e.g. the one training began from) with its image path replaced by ours.

    The video taps and the temporal convolutions keep the values of `base`. Raises ValueError when names disagree.
    """
    expected = image_weights(base).keys()
    if expected != image.keys():
        odd: Sequence[str] = sorted(expected ^ image.keys())
        raise ValueError(f"not the same autoencoder: {len(odd)} names are in one state dict only, e.g. {odd[0]!r}")
    out = {name: value.clone() for name, value in base.items()}
    for name, value in image.items():
        if out[name].ndim == 5:
            out[name][:, :, -1] = value
        else:
            out[name] = value.reshape(out[name].shape).clone()
    return out


QWEN_IMAGE_VAE = VAEConfig(96, 16, (1, 2, 4, 4), 2, RELEASED_MEAN, RELEASED_STD)
