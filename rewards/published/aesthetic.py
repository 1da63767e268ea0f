"""Aesthetic predictors: a linear reading of an image's embedding, trained on people's ratings from 1 to 10.

    (1)  value = w5 (w4 (w3 (w2 (w1 e + b1) + b2) + b3) + b4) + b5      e: the embedding, of length 1

The published heads have five layers and no activation between them, so the whole of (1) is one direction in the space
of e: cheap, easy to read, and as easy to exploit. They see no prompt.

- LAION aesthetic v2 (Schuhmann 2022): e of OpenAI's CLIP ViT-L/14, 224 pixels, centre crop; trained on SAC, LOGOS, AVA
- aesthetic v2.5 (discus0434 2024): e of SigLIP so400m at 384 pixels, the image squashed to a square

``view`` as in ``rewards.published.clip``. Shapes: V squares of an image, 3SS pixels, D width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from preference_data.records import Prompt
from rewards.image_scorer import ImageScorer
from rewards.published.clip import unit
from rewards.published.clip_models import load_clip, pixels
from rewards.published.framing import CENTRE_CROP, SQUASH, Framing, choose
from rewards.published.open_clip_import import declare_operators
from rewards.published.published_weights import existing_file, existing_or_hub, read_state
from rewards.scores import View

if TYPE_CHECKING:
    import torch

_LAYER = re.compile(r"(?:.*\.)?(\d+)\.(weight|bias)")
SIGLIP_MEAN = SIGLIP_STD = (0.5, 0.5, 0.5)


class AffineLayers:
    """Eq. (1): a chain of affine layers, read from a file whose tensors are named ``...N.weight`` and ``...N.bias``."""

    def __init__(self, path: Path, width: int) -> None:
        layers: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in read_state(path).items():
            match = _LAYER.fullmatch(name)
            if match is None:
                raise ValueError(f"{path} holds {name!r}, not a layer of an aesthetic head; is it another file?")
            layers.setdefault(int(match[1]), {})[match[2]] = tensor.float()
        self._layers = [(layers[n]["weight"], layers[n]["bias"]) for n in sorted(layers) if len(layers[n]) == 2]
        sizes = [width, *(len(weight) for weight, _ in self._layers)]
        expected = [(after, before) for before, after in pairwise(sizes)]
        results = [tuple(weight.shape) for weight, _ in self._layers]
        if len(self._layers) != len(layers) or not results or results != expected or sizes[-1] != 1:
            raise ValueError(f"{path} has layers of shapes {results}; a head on {width} features chains them to 1")

    def __call__(self, e_ND: torch.Tensor) -> torch.Tensor:
        for weight, bias in self._layers:
            e_ND = e_ND @ weight.T + bias
        return e_ND[:, 0]


def head_scorer(
    name: str, embed: Callable[[np.ndarray], torch.Tensor], head: AffineLayers, framing: Framing, size: int, batch: int
) -> ImageScorer:
    """Part ``value``: eq. (1), averaged over the image's squares."""

    def scorer(prompts: Sequence[Prompt], images: Sequence[np.ndarray]) -> list[Mapping[str, float]]:
        squares = [framing.frame(image, size) for image in images]
        scores_N = head(unit(embed(np.concatenate(squares)))).double()
        return [{"value": float(some.mean())} for some in scores_N.split([len(s) for s in squares])]

    return ImageScorer(name, scorer, ("value",), batch)


@dataclass(frozen=True)
class LaionAesthetic:
    """LAION aesthetic v2, eq. (1); range [-inf, inf], in practice 4 to 7. Reads no prompt.

    ``weights``: CLIP ViT-L/14 of OpenAI, a folder or hub name (openai/clip-vit-large-patch14), or a checkpoint that
    open_clip loads as ``architecture``. ``head``: sac+logos+ava1-l14-linearMSE.pth. size: pixels of the model's input.
    """

    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (float("-inf"), float("inf"))
    needs: ClassVar[tuple[str, ...]] = ()

    weights: str = ""
    head: str = ""
    architecture: str = "ViT-L-14-quickgelu"
    size: int = 224
    view: str = "published"
    batch_size: int = 1

    def sees(self, height: int, width: int) -> View:
        return choose(self.view, CENTRE_CROP).sees(height, width, self.size)

    def load(self, device: str = "cpu") -> ImageScorer:
        advice = "laion_aesthetic needs CLIP ViT-L/14: a folder, or hub name openai/clip-vit-large-patch14"
        model = load_clip(self.weights, self.architecture, self.size, device, advice)
        path = existing_file(
            self.head, "head", "the head is sac+logos+ava1-l14-linearMSE.pth of improved-aesthetic-predictor"
        )
        width = model.embed_squares(np.zeros((1, 3, self.size, self.size), dtype=np.float32)).shape[1]
        head, framing = AffineLayers(path, width), choose(self.view, CENTRE_CROP)
        name = f"laion_aesthetic:{model.name}/{path.name}"
        return head_scorer(name, model.embed_squares, head, framing, self.size, self.batch_size)


@dataclass(frozen=True)
class AestheticV25:
    """Aesthetic predictor v2.5, eq. (1); range [-inf, inf], in practice 3 to 7, 5.5 and more is very good. No prompt.

    ``weights``: folder or hub name google/siglip-so400m-patch14-384; ``head``: aesthetic_predictor_v2_5.pth. size:
    pixels of the model's input.
    """

    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (float("-inf"), float("inf"))
    needs: ClassVar[tuple[str, ...]] = ()

    weights: str = ""
    head: str = ""
    size: int = 384
    view: str = "published"
    batch_size: int = 1

    def sees(self, height: int, width: int) -> View:
        return choose(self.view, SQUASH).sees(height, width, self.size)

    def load(self, device: str = "cpu") -> ImageScorer:
        advice = "aesthetic_v25 needs SigLIP: a folder, or hub name google/siglip-so400m-patch14-384"
        embed, width, name = _siglip(existing_or_hub(self.weights, "weights", advice), self.size, device)
        path = existing_file(self.head, "head", "the head is aesthetic_predictor_v2_5.pth of aesthetic-predictor-v2-5")
        head, framing = AffineLayers(path, width), choose(self.view, SQUASH)
        return head_scorer(f"aesthetic_v25:{name}/{path.name}", embed, head, framing, self.size, self.batch_size)


def _siglip(weights: Path | str, size: int, device: str) -> tuple[Callable[[np.ndarray], torch.Tensor], int, str]:
    """SigLIP's vision tower as a function of squares, its width, its name. Zhai et al. 2023."""
    import torch

    declare_operators()
    from transformers import SiglipVisionModel

    model: Any = SiglipVisionModel.from_pretrained(weights, local_files_only=isinstance(weights, Path)).float()
    model.to(device).eval()
    if model.config.image_size != size:
        raise ValueError(f"{weights} takes images of {model.config.image_size} pixels, not {size}; set size")

    def embed(squares_N3SS: np.ndarray) -> torch.Tensor:
        with torch.inference_mode():
            x = pixels(squares_N3SS, device, SIGLIP_MEAN, SIGLIP_STD)
            return model(pixel_values=x).pooler_output.float().cpu()

    return embed, int(model.config.hidden_size), f"transformers/{Path(weights).name}"
