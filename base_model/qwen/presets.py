"""Every size of every network.

A preset is three entries of one name: the transformer in `PRESETS`, its autoencoder in `VAES`, and in `IMAGE_SIZES` the
(height, width) in pixels that it is trained on. Sizes below `qwen_image` keep its shape (four times the width in the
MLP, a head's channels split about 1 : 3.5 : 3.5 over frame, row and column) and shrink depth and width. `nano` is the
size our reports are about, and `nano_data` the same with (T7) of mmdit.py; `qwen_image` loads the released weights;
those between are for scaling studies.
"""

from __future__ import annotations

from dataclasses import replace

from base_model.qwen.mmdit import MMDiTConfig
from base_model.qwen.vae import QWEN_IMAGE_VAE, VAEConfig

NANO_VAE = VAEConfig(
    base_dim=8, z_dim=16, dim_mult=(1, 4, 8, 8), num_res_blocks=1, latents_mean=(0.0,) * 16, latents_std=(1.0,) * 16
)
"""Same 8 x 8 pixels and 16 channels a latent position as the released one; training fills in mean and spread."""


def _reading_bytes(num_layers: int, heads: int) -> MMDiTConfig:
    """A network of 64 channels a head for the byte-level text encoder."""
    return MMDiTConfig(num_layers, 64, heads, joint_attention_dim=147, axes_dims_rope=(8, 28, 28))


def _reading_qwen(num_layers: int, heads: int) -> MMDiTConfig:
    """A network of 128 channels a head for the Qwen2.5-VL text encoder."""
    return MMDiTConfig(num_layers, 128, heads, joint_attention_dim=3584)


PRESETS: dict[str, MMDiTConfig] = {
    "nano": _reading_bytes(6, 2),  # width 128
    "nano_data": replace(_reading_bytes(6, 2), predicts_data=True),
    "micro": _reading_bytes(8, 4),  # width 256
    "small": _reading_bytes(12, 8),  # width 512
    "medium": _reading_qwen(24, 8),  # width 1024
    "sd35_medium": _reading_qwen(28, 12),  # width 1536, as Stable Diffusion 3.5 medium: 2,392,660,544 parameters
    "large": _reading_qwen(36, 16),  # width 2048
    "qwen_image": _reading_qwen(60, 24),  # width 3072, the released model: 20,430,401,088 parameters
}

VAES: dict[str, VAEConfig] = {
    "nano": NANO_VAE,
    "nano_data": NANO_VAE,
    "micro": NANO_VAE,
    "small": NANO_VAE,
    "medium": QWEN_IMAGE_VAE,
    "sd35_medium": QWEN_IMAGE_VAE,
    "large": QWEN_IMAGE_VAE,
    "qwen_image": QWEN_IMAGE_VAE,
}

IMAGE_SIZES: dict[str, tuple[int, int]] = {
    "nano": (32, 96),
    "nano_data": (32, 96),
    "micro": (64, 192),
    "small": (128, 256),
    "medium": (256, 256),
    "sd35_medium": (512, 512),
    "large": (512, 512),
    "qwen_image": (1024, 1024),
}
