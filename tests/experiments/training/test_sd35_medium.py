"""Stable Diffusion 3.5 medium with its real weights, where GLYPHLAB_SD35M names its folder and a GPU is there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from base_model.devices import best_device, has_gpu
from base_model.families.diffusers_model import DiffusersModel
from base_model.families.open_checkpoint import open_checkpoint, open_pipeline
from base_model.qwen.tokens import unpatchify
from base_model.sample import Sampler, sample
from experiments import cli
from experiments.record.record import read_run

FOLDER = os.environ.get("GLYPHLAB_SD35M", "")
TEXTS = ["a red fox in the snow", 'a shop sign that says "GLYPH"']
WORDS = ("OPEN", "SALE", "EXIT", "MENU", "CAFE", "TAXI", "BANK", "ZOO")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="GLYPHLAB_SD35M names no folder of stable-diffusion-3.5-medium"),
]


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(-10.0 * torch.log10((one.float() - other.float()).square().mean()))


@torch.no_grad()
def test_its_images_are_its_pipelines() -> None:
    model = open_checkpoint(FOLDER, (512, 512), best_device(), torch.bfloat16)
    x = model.noise(2, torch.Generator().manual_seed(0))
    sampler = Sampler(28, 4.5)
    cond, uncond = model.encode_text(TEXTS), model.unconditional(2)
    ours = model.decode(sample(model, x, cond, uncond, sampler, model.levels(sampler))).cpu()
    theirs = images_of_the_pipeline(model, x)
    assert psnr(ours, theirs) > 40.0
    assert ours.std() > 0.05


def images_of_the_pipeline(model: DiffusersModel, x: torch.Tensor) -> torch.Tensor:
    pipe = open_pipeline(model.family, torch.bfloat16, {"transformer": model.network, "vae": model.vae})
    pipe.to(model.device)
    images = pipe(
        prompt=TEXTS, num_inference_steps=28, height=512, width=512, guidance_scale=4.5, output_type="latent",
        latents=unpatchify(x, model.grid, model.family.patch),
    ).images  # fmt: skip
    decoded = model.vae.decode(model.family.raw(model.vae, images.float()), return_dict=False)[0]
    return (decoded * 0.5 + 0.5).clamp(0.0, 1.0).cpu()


@pytest.mark.skipif(not has_gpu(), reason="30 updates take days without a GPU")
def test_thirty_updates_raise_the_reward(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("".join(f'a shop sign that says "{word}"\n' for word in WORDS))
    line = ("train", "sd35m_grpo_lora", "--base", FOLDER, "--prompts.file", tmp_path / "prompts.txt",
            "--prompts.count", len(WORDS), "--engine", "local", "--algorithm.steps", 30, "--reward", "ocr",
            "--out", tmp_path / "run", "--no-evaluate")  # fmt: skip
    assert cli.main([str(argument) for argument in line]) == 0
    metrics = read_run(tmp_path / "run").metrics
    reward = np.array([each["reward"] for each in metrics], dtype=np.float64)
    assert all(each["ratio_gap_first"] == 0.0 for each in metrics)
    assert reward[-10:].mean() > reward[:10].mean()
