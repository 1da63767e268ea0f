"""Rewards that are the cosine of an image and a prompt in CLIP's space: CLIPScore, PickScore and HPSv2.1.

    (1)  c = cos(image, text)
    (2)  CLIPScore = 2.5 max(c', 0)         c': text "A photo depicts " + prompt. Hessel et al. 2021
    (3)  PickScore = exp(logit scale) c     Kirstain et al. 2023; about 17 to 25
    (4)  HPSv2.1   = c                      Wu et al. 2023; about 0.2 to 0.35, printed x 100 in the papers

Each as published: its own framing, its own text. Three scales of (2) are in use, so compare like with like:
torchmetrics gives 100 max(c, 0) of the bare prompt, which here is ``prefix=""`` and 40 times the value. Only
differences within a prompt mean anything.

All three look at 224 pixels: a 1328-pixel image is shrunk 6 times, and words in it can hardly be judged. Every reward
has ``view``: "published", or "letterbox" or "tiles" (``rewards.published.framing``), whose scores are no longer the
published ones. Part ``text_share`` says how much of the prompt was read: CLIP's context is 77 tokens.

Shapes: V squares of an image, 3SS pixels, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from preference_data.records import Prompt
from rewards.image_scorer import ImageScorer
from rewards.published.clip_models import ClipModel, load_clip
from rewards.published.framing import CENTRE_CROP, CENTRE_CROP_FLOOR, PAD_LONGEST, Framing, choose
from rewards.scores import View

if TYPE_CHECKING:
    import torch


def cosines(model: ClipModel, texts: Sequence[str], images: Sequence[np.ndarray], framing: Framing) -> list[float]:
    """Eq. (1) of image i (uint8, (H, W, 3)) and text i, averaged over the image's squares."""
    squares = [framing.frame(image, model.size) for image in images]
    images_ND = unit(model.embed_squares(np.concatenate(squares)))
    texts_BD = unit(model.embed_texts(list(texts)))
    counts = [len(some) for some in squares]
    per_image = images_ND.split(counts)
    return [float((some @ text_D).double().mean()) for some, text_D in zip(per_image, texts_BD, strict=True)]


def unit(x_ND: torch.Tensor) -> torch.Tensor:
    """Scales rows to length 1."""
    return x_ND / x_ND.norm(dim=-1, keepdim=True)


def cosine_scorer(
    name: str, model: ClipModel, framing: Framing, value: Callable[[float], float], prefix: str, batch_size: int
) -> ImageScorer:
    """Parts: the ``value`` of the cosine, the ``cosine`` itself, ``text_share`` of the prompt that was read."""

    def scorer(prompts: Sequence[Prompt], images: Sequence[np.ndarray]) -> list[Mapping[str, float]]:
        texts = [prefix + prompt.text for prompt in prompts]
        values = cosines(model, texts, images, framing)
        return [
            {"value": value(c), "cosine": c, "text_share": model.share_read(text)}
            for c, text in zip(values, texts, strict=True)
        ]

    return ImageScorer(f"{name}:{model.name}", scorer, ("value", "cosine", "text_share"), batch_size)


@dataclass(frozen=True)
class ClipScore:
    """CLIPScore: how near image and prompt are in CLIP's space, eq. (2); range [0, 2.5], in practice 0.5 to 0.9.

    The paper's model is OpenAI's ViT-B/32: ``weights`` is its folder or hub name (openai/clip-vit-base-patch32), or a
    checkpoint for open_clip's ``architecture``. size: pixels of the model's input.
    """

    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (0.0, 2.5)
    needs: ClassVar[tuple[str, ...]] = ("text",)

    weights: str = ""
    architecture: str = "ViT-B-32-quickgelu"
    size: int = 224
    view: str = "published"
    prefix: str = "A photo depicts "
    batch_size: int = 1

    def sees(self, height: int, width: int) -> View:
        return choose(self.view, CENTRE_CROP).sees(height, width, self.size)

    def load(self, device: str = "cpu") -> ImageScorer:
        advice = (
            "clipscore needs CLIP ViT-B/32: a folder, or a hub name: --reward "
            "clipscore:weights=openai/clip-vit-base-patch32"
        )
        model = load_clip(self.weights, self.architecture, self.size, device, advice)
        framing = choose(self.view, CENTRE_CROP)
        return cosine_scorer(
            "clipscore", model, framing, lambda c: 2.5 * max(c, 0.0), self.prefix, self.batch_size
        )  # (2)


@dataclass(frozen=True)
class PickScore:
    """PickScore v1: a CLIP trained on people's choices, eq. (3); range [-100, 100], in practice 17 to 25.

    ``weights``: folder or hub name yuvalkirstain/PickScore_v1; ``tokenizer``: where its tokenizer is, when not in the
    same place (hub name laion/CLIP-ViT-H-14-laion2B-s32B-b79K). size: pixels of the model's input.
    """

    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (-100.0, 100.0)
    needs: ClassVar[tuple[str, ...]] = ("text",)

    weights: str = ""
    tokenizer: str = ""
    size: int = 224
    view: str = "published"
    batch_size: int = 1

    def sees(self, height: int, width: int) -> View:
        return choose(self.view, CENTRE_CROP_FLOOR).sees(height, width, self.size)

    def load(self, device: str = "cpu") -> ImageScorer:
        advice = (
            "pickscore needs a folder, or a hub name: --reward pickscore:weights=yuvalkirstain/PickScore_v1,"
            "tokenizer=laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
        )
        model = load_clip(self.weights, "ViT-H-14", self.size, device, advice, self.tokenizer)
        scale = min(model.scale, 100.0)  # CLIP's training keeps it there
        framing = choose(self.view, CENTRE_CROP_FLOOR)
        return cosine_scorer("pickscore", model, framing, lambda c: scale * c, "", self.batch_size)  # (3)


@dataclass(frozen=True)
class HpsV21:
    """HPSv2.1: a CLIP trained on people's preferences, eq. (4); range [-1, 1], in practice 0.2 to 0.35.

    Scores of v2.0 weights are not comparable with it.

    ``weights``: the file HPS_v2.1_compressed.pt of hub repository xswu/HPSv2, run by open_clip as ``architecture``. The
    package that published it resizes float pixels, with antialiasing from torchvision 0.17 on, which is done here;
    older ones did without, and the same package then gives other scores. size: pixels of the model's input.
    """

    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ("text",)

    weights: str = ""
    architecture: str = "ViT-H-14"
    size: int = 224
    view: str = "published"
    batch_size: int = 1

    def sees(self, height: int, width: int) -> View:
        return choose(self.view, PAD_LONGEST).sees(height, width, self.size)

    def load(self, device: str = "cpu") -> ImageScorer:
        advice = (
            "hpsv2 needs the file HPS_v2.1_compressed.pt, from hub repository xswu/HPSv2: --reward hpsv2:weights=FILE"
        )
        model = load_clip(self.weights, self.architecture, self.size, device, advice)
        framing = choose(self.view, PAD_LONGEST)
        return cosine_scorer("hpsv2", model, framing, lambda c: min(max(c, -1.0), 1.0), "", self.batch_size)  # (4)
