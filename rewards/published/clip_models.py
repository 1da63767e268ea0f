"""CLIP from either of its two homes: a folder or hub name of transformers, or anything open_clip can load.

Both embed squares and texts; neither normalises, and preprocessing is ours (``rewards.published.framing``), so that a
score is the same whether torchvision is installed or not. Radford et al., "Learning Transferable Visual Models From
Natural Language Supervision", 2021.

Shapes: N squares or texts, 3SS pixels in [0, 1], D width of the shared space.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rewards.published.open_clip_import import declare_operators, open_clip
from rewards.published.published_weights import existing_or_hub

if TYPE_CHECKING:
    import torch

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class ClipModel(Protocol):
    """size: pixels of a side of its input. scale: exp of the learned logit scale. name: where it came from."""

    name: str
    size: int
    scale: float

    def embed_squares(self, squares_N3SS: np.ndarray) -> torch.Tensor:
        """(N, D) float32 on the CPU, not normalised."""
        ...

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        """(N, D) float32 on the CPU, not normalised. What does not fit the context is cut, as published."""
        ...

    def share_read(self, text: str) -> float:
        """Share of the text's tokens that fit into the context, in (0, 1]."""
        ...


def pixels(squares_N3SS: np.ndarray, device: str, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Any:
    """Squares in [0, 1] as the normalised tensor a vision model takes."""
    import torch

    x = torch.from_numpy(np.ascontiguousarray(squares_N3SS)).to(device)
    shape = (1, 3, 1, 1)
    return (x - torch.tensor(mean, device=device).view(shape)) / torch.tensor(std, device=device).view(shape)


def load_clip(weights: str, architecture: str, size: int, device: str, advice: str, tokenizer: str = "") -> ClipModel:
    """The model in float32. ``architecture`` is open_clip's name of it, read only when the weights are a file.

    ``weights``: a folder or hub name of transformers; a checkpoint file; ``hf-hub:NAME`` or ``local-dir:PATH`` of
    open_clip. FileNotFoundError with ``advice`` when absent; ValueError when its input is not ``size`` pixels.
    """
    model: ClipModel
    if weights.startswith(("hf-hub:", "local-dir:")):
        model = OpenClip(weights, None, device)
    else:
        location = existing_or_hub(weights, "weights", advice)
        if isinstance(location, Path) and location.is_file():
            model = OpenClip(architecture, location, device)
        else:
            model = TransformersClip(location, device, tokenizer)
    if model.size != size:
        raise ValueError(f"{weights} takes images of {model.size} pixels, the reward expects {size}; set size")
    return model


class TransformersClip:
    """Runs ``CLIPModel`` of transformers."""

    def __init__(self, weights: Path | str, device: str, tokenizer: str = "") -> None:
        declare_operators()
        from transformers import AutoTokenizer, CLIPModel

        self._model = CLIPModel.from_pretrained(weights, local_files_only=isinstance(weights, Path)).float()
        self._model.to(device).eval()
        words = existing_or_hub(tokenizer, "tokenizer", "give a folder or a hub name") if tokenizer else weights
        self._tokenizer = AutoTokenizer.from_pretrained(words, local_files_only=isinstance(words, Path))
        self._device = device
        self._context = int(self._model.config.text_config.max_position_embeddings)
        self.size = int(self._model.config.vision_config.image_size)
        self.scale = float(self._model.logit_scale.detach().exp())
        self.name = f"transformers/{Path(weights).name}"

    def embed_squares(self, squares_N3SS: np.ndarray) -> torch.Tensor:
        import torch

        with torch.inference_mode():
            seen = self._model.vision_model(pixel_values=pixels(squares_N3SS, self._device)).pooler_output
            return self._model.visual_projection(seen).float().cpu()

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        import torch

        tokens = self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=self._context, return_tensors="pt"
        ).to(self._device)
        with torch.inference_mode():
            read = self._model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
            return self._model.text_projection(read.pooler_output).float().cpu()

    def share_read(self, text: str) -> float:
        return min(1.0, self._context / len(self._tokenizer(text, verbose=False).input_ids))


class OpenClip:
    """A model of open_clip: a named architecture with a checkpoint file, or ``hf-hub:`` / ``local-dir:`` with neither.

    OpenAI's own weights were trained with QuickGELU: their architecture is the one that ends in ``-quickgelu``. With
    the plain one everything loads and every score is wrong.
    """

    def __init__(self, architecture: str, weights: Path | None, device: str) -> None:
        library = open_clip()
        location = None if weights is None else str(weights)
        self._model = library.create_model(architecture, pretrained=location, device=device).float().eval()
        self._tokenize = library.get_tokenizer(architecture)
        self._device = device
        side = self._model.visual.image_size
        self.size = int(side if isinstance(side, int) else side[0])
        self.scale = float(self._model.logit_scale.detach().exp())
        self.name = f"open_clip/{architecture}" + ("" if weights is None else f"/{weights.name}")

    def embed_squares(self, squares_N3SS: np.ndarray) -> torch.Tensor:
        import torch

        with torch.inference_mode():
            return self._model.encode_image(pixels(squares_N3SS, self._device)).float().cpu()

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        import torch

        with torch.inference_mode():
            return self._model.encode_text(self._tokenize(texts).to(self._device)).float().cpu()

    def share_read(self, text: str) -> float:
        context = int(self._tokenize.context_length)
        return min(1.0, context / (len(self._tokenize.encode(text)) + 2))  # start and end of the text take two
