"""The whole model, so small that a forward pass takes milliseconds. Shapes: B samples, 3HW pixels."""

from __future__ import annotations

import math

import torch

from base_model import conditioner
from base_model.interface import Conditioning
from base_model.mmdit import MMDiTConfig
from base_model.qwen_image import QwenImage, build
from base_model.vae import QwenImageVAE, VAEConfig

PICTURE = (32, 96)
NETWORK = MMDiTConfig(
    num_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=conditioner.WIDTH,
    in_channels=16, out_channels=4, axes_dims_rope=(4, 6, 6),
)  # fmt: skip
AUTOENCODER = VAEConfig(4, 4, (1, 2, 2, 2), 1, (0.0,) * 4, (1.0,) * 4)


def tiny_vae(seed: int = 0) -> QwenImageVAE:
    """An untrained autoencoder of 4 to 8 channels, loud enough for the latent to be seen in the picture."""
    vae, random = QwenImageVAE.seeded(AUTOENCODER, seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in vae.parameters():
            if weight.ndim == 4:
                weight.normal_(std=1.2 / math.sqrt(weight[0].numel()), generator=random)
    return vae


def tiny_model(seed: int = 0, fresh: bool = False) -> QwenImage:
    """Two blocks of width 32 over 2 x 6 latent tokens, with the reference frozen where it begins.

    A fresh network answers 0 whatever it is asked, because its output begins at zero, and its modulations do not depend
    on sigma. Both get random weights here unless `fresh`, so that sigma, text and latent all reach the answer.
    """
    model = build(NETWORK, tiny_vae(seed), PICTURE, seed)
    if not fresh:
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in model.network.parameters():
                if weight.ndim == 2 and not weight.any():
                    weight.normal_(std=0.1, generator=random)
    model.freeze_reference()
    return model


class Spy:
    """Records every call of the network while a model is used. Use as a context manager."""

    def __init__(self, model: QwenImage) -> None:
        self.model = model
        self.x: list[torch.Tensor] = []
        self.sigma: list[torch.Tensor] = []
        self.cond: list[Conditioning] = []

    def __enter__(self) -> Spy:
        asked = self.model.velocity

        def velocity(x_BSC: torch.Tensor, sigma_B: torch.Tensor, cond: Conditioning) -> torch.Tensor:
            self.x.append(x_BSC.detach().clone())
            self.sigma.append(sigma_B.clone())
            self.cond.append(cond)
            return asked(x_BSC, sigma_B, cond)

        self.model.velocity = velocity  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        del self.model.velocity

    @property
    def rows(self) -> int:
        """Network evaluations, counted in samples."""
        return sum(len(x) for x in self.x)


def weights(model: QwenImage) -> dict[str, torch.Tensor]:
    """A copy of what the network knows."""
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Bit-identical."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def gradient(model: QwenImage) -> dict[str, torch.Tensor]:
    """A copy of the gradients, parameters without one left out."""
    return {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}
