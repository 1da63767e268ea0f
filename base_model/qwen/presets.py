"""Every size of every network, spelled out.

A preset is three entries of one name: the transformer in `PRESETS`, its autoencoder in `VAES`, and in `PICTURES` the
(height, width) in pixels that it is trained on. Sizes below `qwen_image` keep its shape (four times the width in the
MLP, a head's channels split about 1 : 3.5 : 3.5 over frame, row and column) and shrink depth and width. `nano` is the
size our reports are about; `qwen_image` loads the released weights; those between are for scaling studies.
"""

from __future__ import annotations

from base_model.qwen.mmdit import MMDiTConfig
from base_model.qwen.vae import QWEN_IMAGE_VAE, VAEConfig

NANO_VAE = VAEConfig(
    base_dim=8, z_dim=16, dim_mult=(1, 4, 8, 8), num_res_blocks=1, latents_mean=(0.0,) * 16, latents_std=(1.0,) * 16
)
"""Same 8 x 8 pixels and 16 channels a latent position as the released one; training fills in mean and spread."""

PRESETS: dict[str, MMDiTConfig] = {
    # width 128; reads the byte-level text encoder
    "nano": MMDiTConfig(
        num_layers=6,
        attention_head_dim=64,
        num_attention_heads=2,
        joint_attention_dim=147,
        in_channels=64,
        out_channels=16,
        patch_size=2,
        axes_dims_rope=(8, 28, 28),
    ),
    # width 256; byte-level text encoder
    "micro": MMDiTConfig(
        num_layers=8,
        attention_head_dim=64,
        num_attention_heads=4,
        joint_attention_dim=147,
        in_channels=64,
        out_channels=16,
        patch_size=2,
        axes_dims_rope=(8, 28, 28),
    ),
    # width 512; byte-level text encoder
    "small": MMDiTConfig(
        num_layers=12,
        attention_head_dim=64,
        num_attention_heads=8,
        joint_attention_dim=147,
        in_channels=64,
        out_channels=16,
        patch_size=2,
        axes_dims_rope=(8, 28, 28),
    ),
    # width 1024, from here on the Qwen2.5-VL text encoder
    "medium": MMDiTConfig(
        num_layers=24,
        attention_head_dim=128,
        num_attention_heads=8,
        joint_attention_dim=3584,
        in_channels=64,
        out_channels=16,
        patch_size=2,
        axes_dims_rope=(16, 56, 56),
    ),
    # width 1536, the size of Stable Diffusion 3.5 medium: 2,392,660,544 parameters
    "sd35_medium": MMDiTConfig(
        num_layers=28,
        attention_head_dim=128,
        num_attention_heads=12,
        joint_attention_dim=3584,
        in_channels=64,
        out_channels=16,
        patch_size=2,
        axes_dims_rope=(16, 56, 56),
    ),
    # width 2048
    "large": MMDiTConfig(
        num_layers=36,
        attention_head_dim=128,
        num_attention_heads=16,
        joint_attention_dim=3584,
        in_channels=64,
        out_channels=16,
        patch_size=2,
        axes_dims_rope=(16, 56, 56),
    ),
    # width 3072, the released model: 20,430,401,088 parameters
    "qwen_image": MMDiTConfig(
        num_layers=60,
        attention_head_dim=128,
        num_attention_heads=24,
        joint_attention_dim=3584,
        in_channels=64,
        out_channels=16,
        patch_size=2,
        axes_dims_rope=(16, 56, 56),
    ),
}

VAES: dict[str, VAEConfig] = {
    "nano": NANO_VAE,
    "micro": NANO_VAE,
    "small": NANO_VAE,
    "medium": QWEN_IMAGE_VAE,
    "sd35_medium": QWEN_IMAGE_VAE,
    "large": QWEN_IMAGE_VAE,
    "qwen_image": QWEN_IMAGE_VAE,
}

IMAGE_SIZES: dict[str, tuple[int, int]] = {
    "nano": (32, 96),
    "micro": (64, 192),
    "small": (128, 256),
    "medium": (256, 256),
    "sd35_medium": (512, 512),
    "large": (512, 512),
    "qwen_image": (1024, 1024),
}
