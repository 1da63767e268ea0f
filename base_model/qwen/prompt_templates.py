"""What each released pipeline asks the language model, and in which sizes it shows images.

The first tokens of a template say the same for every prompt, so their vectors are dropped; how many is fixed by the
template's words. The words are the released code's: figure 7 of arXiv:2508.02324 has them in another order. Editing
models of 2509 and later number their images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

IMAGE_TOKENS = "<|vision_start|><|image_pad|><|vision_end|>"
DESCRIBE = (
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the "
    "objects and background:"
)
ALTER = (
    "Describe the key features of the input image (color, shape, size, texture, objects, background), then explain how "
    "the user's text instruction should alter or modify the image. Generate a new image that meets the user's "
    "requirements while maintaining consistency with the original input where appropriate."
)
MARKERS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
)  # fmt: skip
"""What Qwen2.5-VL's tokenizer takes for one of its own tokens wherever it stands."""
STEP = 32
"""sides of resized images are multiples of this many pixels"""


@dataclass(frozen=True)
class Task:
    """What a released checkpoint is for."""

    pipeline: str
    """diffusers' class, which model_index.json names"""
    system: str
    """what the language model is told to do"""
    dropped: int
    """tokens in front of the user's turn"""
    fewest_images: int
    most_images: int
    numbered: bool = False
    """images are announced as `Picture 1: ` and so on"""
    seen_area: int | None = None
    """pixels of the copy that the language model sees; None: it sees the autoencoder's"""
    area: int = 1024 * 1024
    """pixels of the copy that the autoencoder sees, and of the image that is made"""

    def prompt(self, text: str, images: int) -> str:
        """The whole conversation. Raises ValueError as `check_text`, or for more or fewer images than it takes."""
        if not self.fewest_images <= images <= self.most_images:
            raise ValueError(f"{images} images given, but {self.takes()}")
        check_text(text, MARKERS)
        indices = [f"Picture {i + 1}: {IMAGE_TOKENS}" if self.numbered else IMAGE_TOKENS for i in range(images)]
        shown = "".join(indices)
        return (
            f"<|im_start|>system\n{self.system}<|im_end|>\n<|im_start|>user\n{shown}{text}<|im_end|>\n"
            "<|im_start|>assistant\n"
        )

    def takes(self) -> str:
        """Which images the checkpoint takes, in words."""
        if not self.most_images:
            return f"a {self.pipeline} checkpoint samples from text alone; images need Qwen-Image-Edit"
        most = f" to {self.most_images}" if self.most_images > self.fewest_images else ""
        return f"a {self.pipeline} checkpoint takes {self.fewest_images}{most}"

    def fitted(self, image_3HW: Tensor) -> Tensor:
        """The copy for the autoencoder."""
        return resized(image_3HW, fitted_size(self.area, tuple(image_3HW.shape[1:])))

    def seen(self, image_3HW: Tensor) -> Tensor:
        """The copy for the language model."""
        if self.seen_area is None:
            return self.fitted(image_3HW)
        return resized(image_3HW, fitted_size(self.seen_area, tuple(image_3HW.shape[1:])))

    def made_size(self, images: Sequence[Tensor]) -> tuple[int, int]:
        """(height, width) of an edit: the shape of the last image."""
        return fitted_size(self.area, tuple(images[-1].shape[1:]))


TASKS = {
    task.pipeline: task
    for task in (
        Task("QwenImagePipeline", DESCRIBE, 34, 0, 0),
        Task("QwenImageEditPipeline", ALTER, 64, 1, 1),
        Task("QwenImageEditPlusPipeline", ALTER, 64, 1, 3, numbered=True, seen_area=384 * 384),
    )
}


def check_text(text: str, markers: Iterable[str]) -> None:
    """Raises ValueError when a prompt is no text, or contains a token of the tokenizer's own."""
    if not isinstance(text, str):
        raise ValueError(f"the prompt is {text!r}; it must be a text")
    if half := next((c for c in text if "\ud800" <= c <= "\udfff"), ""):
        raise ValueError(f"the prompt contains \\u{ord(half):04x}, one half of a character of two; write both halves")
    for marker in markers:
        if marker in text:
            raise ValueError(
                f"the prompt contains {marker}, which the tokenizer takes for one of its own tokens; remove it"
            )


def added_tokens(folder: Path, special: bool = False) -> set[str]:
    """What the tokenizer of a folder takes for tokens of its own; with `special` only those that no text is made of.

    Raises ValueError when a file of it is damaged.
    """
    results: set[str] = set()
    for name in ("tokenizer.json", "tokenizer_config.json", "added_tokens.json"):
        path = folder / name
        try:
            content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            listed = content.get("added_tokens") or list((content.get("added_tokens_decoder") or {}).values())
            results |= {token["content"] for token in listed if token.get("special") or not special}
            results |= set(content) if name == "added_tokens.json" and not special else set()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"cannot read {path}: {error!r}; fetch the checkpoint again") from error
    return {token for token in results if token.strip()}


def fitted_size(area: int, size: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of about `area` pixels with the sides of `size` in proportion, in multiples of `STEP`."""
    ratio = size[1] / size[0]
    width = math.sqrt(area * ratio)
    height = width / ratio
    return max(1, round(height / STEP)) * STEP, max(1, round(width / STEP)) * STEP


def to_pil(image_3HW: Tensor) -> Image.Image:
    """Of values in [0, 1]."""
    return Image.fromarray((image_3HW.clamp(0, 1) * 255.0).round().byte().permute(1, 2, 0).cpu().numpy())


def resized(image_3HW: Tensor, size: tuple[int, int]) -> Tensor:
    """In 8 bits by Lanczos, as the pipelines resize."""
    image = to_pil(image_3HW).resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255.0).permute(2, 0, 1)
