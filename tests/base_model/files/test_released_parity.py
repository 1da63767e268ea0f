"""Our images against those of diffusers' pipelines, from the same noise, on checkpoints that diffusers wrote.

Shapes: B samples, S latent tokens, C channels.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from base_model.files.released import Released, load_base, read_base
from base_model.qwen import language_encoder
from base_model.sample import Sampler, sample
from experiments.evaluation.sample_released import read_condition_image
from tests.fixtures.tiny.tiny_released import EDIT, PLUS, open_pipeline, tell_picture_tokens

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

STEPS, GUIDANCE = 4, 4.0
AREA, SEEN_AREA = 128 * 128, 96 * 96
"""instead of 1024 x 1024 and 384 x 384, on both sides"""
PROMPT = "a red word 'AB' on a white wall, photographed at night"


@pytest.fixture(autouse=True)
def smaller(monkeypatch) -> None:
    """diffusers' editing pipelines have their areas in the code."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus

    for module in (pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus):
        real = module.calculate_dimensions
        monkeypatch.setattr(
            module, "calculate_dimensions",
            lambda area, ratio, real=real: real(AREA if area == 1024 * 1024 else SEEN_AREA, ratio),
        )  # fmt: skip


def drawn(path: Path, size: tuple[int, int], seed: int) -> Path:
    """An image file of (height, width)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((size[1], size[0])).save(path)
    return path


def editor(folder: Path) -> Released:
    model = load_base(read_base(folder)).for_area(AREA)
    if model.base.task.seen_area:
        model.text.task = replace(model.text.task, seen_area=SEEN_AREA)
    return model


def ours(model: Released, prompt: str, noise: torch.Tensor, pictures: list[torch.Tensor]) -> torch.Tensor:
    shown = [pictures] if pictures else []
    sampler = Sampler(STEPS, GUIDANCE)
    cond, uncond = model.encode_text([prompt], shown), model.unconditional(1, shown)
    return model.decode(sample(model, noise, cond, uncond, sampler, model.levels(sampler)))


def theirs(pipe: Any, noise: torch.Tensor, **more: Any) -> torch.Tensor:
    return pipe(
        negative_prompt=" ", true_cfg_scale=GUIDANCE, num_inference_steps=STEPS, latents=noise, output_type="pt", **more
    ).images


def noise_for(size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.randn(1, size[0] * size[1] // 256, 16, generator=torch.Generator().manual_seed(seed))


def assert_equal_pictures(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.shape == b.shape and float(b.std()) > 0.03, "an image without content proves nothing"
    assert (a - b).abs().max() < 1e-4


def test_text_to_image_is_the_pipelines_at_two_aspect_ratios_with_guidance(t2i):
    pipe, base = open_pipeline(t2i), read_base(t2i)
    for size in ((64, 96), (144, 48)):
        noise = noise_for(size)
        made = theirs(pipe, noise, prompt=PROMPT, height=size[0], width=size[1])
        model = load_base(base, size)
        assert_equal_pictures(ours(model, PROMPT, noise, []), made)
    plain = model.decode(sample(model, noise, model.encode_text([PROMPT]), model.unconditional(1), Sampler(STEPS),
                                model.levels(Sampler(STEPS))))  # fmt: skip
    assert (plain - made).abs().max() > 1e-3, "guidance shows"


def test_prompts_of_different_lengths_are_the_pipelines_and_the_same_alone(t2i):
    """Batch 1 and batch N agree, and both with diffusers; also for the empty prompt, which is a space."""
    pipe, model = open_pipeline(t2i), load_base(read_base(t2i))
    texts = [PROMPT, "cat", " ", "寫字 'GLYPH'"]
    their_text, their_mask = pipe.encode_prompt(texts)
    cond = model.encode_text(texts)
    assert torch.equal(cond.mask_BL, their_mask.bool())
    assert (cond.text_BLD - their_text).abs().max() < 1e-5
    for i, text in enumerate(texts):
        alone = model.encode_text([text]).text_BLD[0]
        assert (alone - cond.text_BLD[i, : len(alone)]).abs().max() < 1e-5
        assert not cond.text_BLD[i, len(alone) :].any()
    nothing = model.unconditional(2)
    assert torch.equal(nothing.text_BLD, model.encode_text([" ", " "]).text_BLD)
    assert nothing.mask_BL.sum(1).tolist() == [6, 6], "a space and the end of the template"


def test_editing_one_picture_is_the_pipelines(edit, tmp_path):
    pipe, model = open_pipeline(edit, EDIT), editor(edit)
    tell_picture_tokens(pipe)
    path = drawn(tmp_path / "a.png", (70, 110), 1)
    picture = read_condition_image(path)
    size = model.base.task.made_size([picture])
    noise = noise_for(size)
    made = theirs(pipe, noise, prompt="make it blue", image=Image.open(path))
    assert_equal_pictures(ours(model.sized(size), "make it blue", noise, [picture]), made)


def test_editing_two_pictures_is_the_pipelines(plus, tmp_path):
    pipe, model = open_pipeline(plus, PLUS), editor(plus)
    tell_picture_tokens(pipe)
    paths = [drawn(tmp_path / "a.png", (70, 110), 1), drawn(tmp_path / "b.png", (90, 50), 2)]
    pictures = [read_condition_image(path) for path in paths]
    size = model.base.task.made_size(pictures)
    assert size[0] > size[1], "the last image's shape"
    noise = noise_for(size)
    made = theirs(pipe, noise, prompt="put a on b", image=[Image.open(path) for path in paths])
    result = ours(model.sized(size), "put a on b", noise, pictures)
    assert_equal_pictures(result, made)
    swapped = ours(model.sized(size), "put a on b", noise, pictures[::-1])
    assert (swapped - made).abs().max() > 1e-3


def test_where_diffusers_forgets_which_tokens_are_pictures_we_follow_the_training(edit, tmp_path, monkeypatch):
    """Untold, its pipeline numbers image tokens in one line (issue 14194): then, and only then, so do we."""
    pipe, model = open_pipeline(edit, EDIT), editor(edit)
    picture = read_condition_image(drawn(tmp_path / "a.png", (128, 128), 1))
    from base_model.qwen.prompt_templates import to_pil

    flat, _ = pipe.encode_prompt("make it blue", image=to_pil(model.base.task.seen(picture)))
    right = model.encode_text(["make it blue"], [[picture]]).text_BLD
    assert (right - flat).abs().max() > 1e-3
    monkeypatch.setattr(language_encoder, "token_types", lambda _: None)
    assert (model.encode_text(["make it blue"], [[picture]]).text_BLD - flat).abs().max() < 1e-5
    tell_picture_tokens(pipe)
    told, _ = pipe.encode_prompt("make it blue", image=to_pil(model.base.task.seen(picture)))
    assert (right - told).abs().max() < 1e-5


def test_a_batch_of_edits_is_its_edits_alone(plus):
    """Different images, sizes, numbers of images and texts."""
    model, random = editor(plus), torch.Generator().manual_seed(4)
    sizes = [[(70, 110)], [(90, 50), (64, 64)], [(40, 200), (128, 128), (100, 90)]]
    pictures = [[torch.rand(3, *size, generator=random) for size in own] for own in sizes]
    texts = ["a", "write 'GLYPH' on the wall", "both"]
    together = model.encode_text(texts, pictures)
    for i in range(3):
        alone, row = model.encode_text(texts[i : i + 1], pictures[i : i + 1]), together.take([i])
        assert alone.image_grids == row.image_grids and len(row.image_grids[0]) == i + 1
        length = alone.mask_BL.shape[1]
        assert row.mask_BL[0].sum() == length
        assert (alone.text_BLD[0] - row.text_BLD[0, :length]).abs().max() < 1e-5
        assert (alone.images_BRC - row.images_BRC).abs().max() < 1e-5
