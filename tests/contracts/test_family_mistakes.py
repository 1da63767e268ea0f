"""Typical mistakes of who writes a family: each must fail what the contract holds, or the contract is worth nothing.

Shapes: B samples, S latent tokens, C channels, L text tokens, D width of the text encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from base_model.families.family import Family, Row
from base_model.families.flux1 import Flux1
from base_model.families.flux2 import Flux2Klein
from base_model.families.known import FAMILIES
from base_model.families.lumina2 import Lumina2
from base_model.families.qwen_image_21 import QwenImage21
from base_model.families.sana import Sana
from base_model.families.sd3 import StableDiffusion3
from base_model.families.wan import Wan
from base_model.families.z_image import ZImage
from base_model.interface import ConditionImages, Conditioning, Grid
from base_model.qwen.tokens import patchify, unpatchify
from tests.contracts import test_flow_models as contract

pytest.importorskip("diffusers")
pytestmark = pytest.mark.slow


class UniformLevels(StableDiffusion3):
    def set_levels(self, scheduler: Any, steps: int, tokens: int) -> None:
        Family.set_levels(self, scheduler, steps, tokens)


class NoPooled(StableDiffusion3):
    def encode(self, pipe: Any, texts: Sequence[str], images: ConditionImages = ()) -> list[Row]:
        return [{**row, "pooled": torch.zeros_like(row["pooled"])} for row in super().encode(pipe, texts, images)]


class TimeWithoutThousand(StableDiffusion3):
    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        return super().velocity(network, x_BSC, sigma_B / 1000.0, cond)


class Rescaled(StableDiffusion3):
    rescale = True


class NoShift(StableDiffusion3):
    def raw(self, vae: Any, latent_BChw: Tensor) -> Tensor:
        return latent_BChw / vae.config.scaling_factor


class GuidanceIsOne(Flux1):
    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        return super().velocity(network, x_BSC, sigma_B, cond.telling(1.0))


class SignForgotten(ZImage):
    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        return -super().velocity(network, x_BSC, sigma_B, cond)


class TimeForwards(ZImage):
    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        return super().velocity(network, x_BSC, 1.0 - sigma_B, cond)


class GuidanceOffByOne(ZImage):
    def combine(self, v_cond: Tensor, v_uncond: Tensor, scale: float, cond: Conditioning) -> Tensor:
        return super().combine(v_cond, v_uncond, scale + 1.0, cond)


class ShiftOfFlux1(Flux2Klein):
    def set_levels(self, scheduler: Any, steps: int, tokens: int) -> None:
        Family.set_levels(self, scheduler, steps, tokens)


class NoStatistics(Flux2Klein):
    def pixels(self, vae: Any, x_BSC: Tensor, grid: Grid) -> Tensor:
        return vae.decode(unpatchify(x_BSC, grid), return_dict=False)[0]


class InstructionOnNothing(Sana):
    def encode_nothing(self, pipe: Any, images: ConditionImages = ()) -> Row:
        return self.encode(pipe, [self.nothing], images)[0]


class NoMask(Sana):
    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        whole = Conditioning(cond.text_BLD, torch.ones_like(cond.mask_BL), cond.grids)
        return super().velocity(network, x_BSC, sigma_B, whole)


class NormOfTokens(Lumina2):
    rescale = True

    def combine(self, v_cond: Tensor, v_uncond: Tensor, scale: float, cond: Conditioning) -> Tensor:
        return Family.combine(self, v_cond, v_uncond, scale, cond)


class NoStatisticsOfWan(Wan):
    def pixels(self, vae: Any, x_BSC: Tensor, grid: Grid) -> Tensor:
        return vae.decode(unpatchify(x_BSC, grid, self.patch).unsqueeze(2), return_dict=False)[0][:, :, 0]


class MeanAndSpreadSwapped(Wan):
    def latents(self, vae: Any, images_B3HW: Tensor) -> Tensor:
        mean, std = (torch.tensor(vae.config[name]).view(-1, 1, 1) for name in ("latents_std", "latents_mean"))
        return patchify((vae.encode(images_B3HW.unsqueeze(2)).latent_dist.mode()[:, :, 0] - mean) / std, self.patch)


class OneLayout(QwenImage21):
    """Gives the network all samples in one call, so that an image stands behind the longest prompt."""

    calls_depend_on_prompts = False


class OtherPatches(StableDiffusion3):
    """Takes and gives tokens whose channels stand in another order than its autoencoder's do."""

    def latents(self, vae: Any, images_B3HW: Tensor) -> Tensor:
        return super().latents(vae, images_B3HW).flip(2)


class PartsThatLearnNothing(StableDiffusion3):
    dead = ()


class PartsThatLearn(StableDiffusion3):
    dead = ("attn.to_q",)


@dataclass(frozen=True)
class FreshPrompts(contract.Checkpoints):
    """Encodes prompts anew: a mistake must not find what the right family stored."""

    own: Path = Path()

    def model(self, name: str, rank: int = 0, cache: Path | None = None) -> contract.PolicyModel:
        return super().model(name, rank, cache or self.own)


def images(checkpoints: contract.Checkpoints, name: str, path: Path) -> None:
    contract.test_it_makes_what_its_pipeline_makes(checkpoints, name, 4.5)


def batch(checkpoints: contract.Checkpoints, name: str, path: Path) -> None:
    contract.test_an_answer_does_not_depend_on_its_batch(checkpoints, name, path)


def pixels(checkpoints: contract.Checkpoints, name: str, path: Path) -> None:
    contract.test_encode_pixels_undoes_the_scale_of_decode(checkpoints, name)


def learns(checkpoints: contract.Checkpoints, name: str, path: Path) -> None:
    contract.test_only_dead_parts_learn_nothing(checkpoints, name)


Holds = Callable[[contract.Checkpoints, str, Path], None]
MISTAKES: list[tuple[str, type[Family], Holds]] = [
    ("sd3", UniformLevels, images),
    ("sd3", NoPooled, images),
    ("sd3", TimeWithoutThousand, images),
    ("sd3", Rescaled, images),
    ("sd3", NoShift, images),
    ("flux1_dev", GuidanceIsOne, images),
    ("z_image", SignForgotten, images),
    ("z_image", TimeForwards, images),
    ("z_image", GuidanceOffByOne, images),
    ("flux2_klein", ShiftOfFlux1, images),
    ("flux2_klein", NoStatistics, images),
    ("sana", InstructionOnNothing, images),
    ("sana", NoMask, batch),
    ("lumina2", NormOfTokens, images),
    ("wan", NoStatisticsOfWan, images),
    ("wan", MeanAndSpreadSwapped, pixels),
    ("qwen_image_21", OneLayout, batch),
    ("sd3", OtherPatches, pixels),
    ("sd3", PartsThatLearnNothing, learns),
    ("sd3", PartsThatLearn, learns),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.mark.parametrize(("name", "mistake", "holds"), MISTAKES, ids=[kind.__name__ for _, kind, _ in MISTAKES])
def test_the_contract_notices(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mistake: type[Family], holds: Holds
) -> None:
    checkpoints = FreshPrompts(root, tmp_path / "right")
    holds(checkpoints, name, tmp_path / "right")
    monkeypatch.setitem(FAMILIES, mistake.pipeline, mistake)
    with pytest.raises(AssertionError):
        holds(FreshPrompts(root, tmp_path / "wrong"), name, tmp_path / "wrong")
