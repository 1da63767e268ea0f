"""Stable Diffusion 3.5 medium with its real weights, where GLYPHLAB_SD35M names its folder.

A tiny checkpoint goes through the same code, and shows that the test itself works.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from base_model.devices import best_device, has_gpu
from base_model.families.diffusers_model import DiffusersModel
from base_model.families.open_checkpoint import open_checkpoint, open_pipeline
from base_model.qwen.tokens import unpatchify
from base_model.sample import Sampler, sample
from experiments import cli
from experiments.record.record import read_run
from tests.fixtures.tiny.tiny_families import save_pipeline

pytest.importorskip("diffusers")
pytestmark = pytest.mark.slow
TEXTS = ["a red fox in the snow", 'a shop sign that says "GLYPH"']
WORDS = ("OPEN", "SALE", "EXIT", "MENU", "CAFE", "TAXI", "BANK", "ZOO")


@dataclass(frozen=True)
class Checkpoint:
    """A folder, and how much is made with it."""

    folder: Path
    size: tuple[int, int] = (512, 512)
    sampler: Sampler = field(default_factory=lambda: Sampler(28, 4.5))
    updates: int = 30
    options: tuple[object, ...] = ()
    """of `glyphlab train`"""
    is_real: bool = True


@pytest.fixture(scope="module", params=["real", "tiny"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    if request.param == "tiny":
        folder = save_pipeline("sd3", tmp_path_factory.mktemp("tiny") / "stable-diffusion-3.5-medium")
        few = ("--algorithm.prompts", 2, "--algorithm.group", 2, "--algorithm.micro", 4, "--algorithm.sampler.steps", 6)
        options = (*few, "--lora.rank", 2, "--reward", "brisque")  # a random network writes nothing
        return Checkpoint(folder, (64, 96), Sampler(6, 4.5), 2, options, is_real=False)
    if not (folder := os.environ.get("GLYPHLAB_SD35M", "")):
        pytest.skip("GLYPHLAB_SD35M names no folder of stable-diffusion-3.5-medium")
    return Checkpoint(Path(folder))


def psnr(one: Tensor, other: Tensor) -> float:
    return float(-10.0 * torch.log10((one.float() - other.float()).square().mean()))


@torch.no_grad()
def test_its_images_are_its_pipelines(checkpoint: Checkpoint) -> None:
    model = open_checkpoint(checkpoint.folder, checkpoint.size, best_device(), torch.bfloat16)
    x = model.noise(2, torch.Generator().manual_seed(0))
    cond, uncond, sampler = model.encode_text(TEXTS), model.unconditional(2), checkpoint.sampler
    ours = model.decode(sample(model, x, cond, uncond, sampler, model.levels(sampler))).cpu()
    theirs = images_of_the_pipeline(model, x, checkpoint)
    assert psnr(ours, theirs) > 40.0
    assert psnr(ours, theirs.flip(0)) < 40.0 and ours.std() > 0.05, "images that could be told apart"


def images_of_the_pipeline(model: DiffusersModel, x: Tensor, checkpoint: Checkpoint) -> Tensor:
    """In bfloat16 as its authors run it, but for the autoencoder, which is in float32 on both sides."""
    pipe = open_pipeline(model.family, torch.bfloat16, {"transformer": model.network, "vae": model.vae})
    pipe.to(model.device)
    pipe.set_progress_bar_config(disable=True)
    latents = pipe(
        prompt=TEXTS, num_inference_steps=checkpoint.sampler.steps, height=checkpoint.size[0],
        width=checkpoint.size[1], guidance_scale=checkpoint.sampler.guidance, output_type="latent",
        latents=unpatchify(x, model.grid, model.family.patch),
    ).images  # fmt: skip
    decoded = model.vae.decode(model.family.raw(model.vae, latents.float()), return_dict=False)[0]
    return (decoded * 0.5 + 0.5).clamp(0.0, 1.0).cpu()


def test_updates_raise_the_reward_of_reading(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The recipe and its reward as they are, on eight words: an update sees three of them."""
    if checkpoint.is_real and not has_gpu():
        pytest.skip("30 updates take days without a GPU")
    (tmp_path / "prompts.txt").write_text("".join(f'a shop sign that says "{word}"\n' for word in WORDS))
    line = ("train", "sd35m_grpo_lora", "--base", checkpoint.folder, "--prompts.file", tmp_path / "prompts.txt",
            "--prompts.count", len(WORDS), "--engine", "local", "--algorithm.steps", checkpoint.updates, "--size",
            *checkpoint.size, "--out", tmp_path / "run", "--no-evaluate", *checkpoint.options)  # fmt: skip
    assert cli.main([str(argument) for argument in line]) == 0
    metrics = read_run(tmp_path / "run").metrics
    reward = np.array([each["reward"] for each in metrics], dtype=np.float64)
    gaps = [each["ratio_gap_first"] for each in metrics if "ratio_gap_first" in each]  # else all were read alike
    assert len(reward) == checkpoint.updates and gaps and not any(gaps)
    if checkpoint.is_real:
        assert reward[-10:].mean() > reward[:10].mean()
