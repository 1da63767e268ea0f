"""What a producer can make batches from, in any process and always the same: rendered images, images of one's own, and
pixels for an autoencoder.

A source is sent to the processes that produce, so it holds settings and the encoder, and opens what it reads there.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from typing import Any, ClassVar, Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor

from base_model.data.latents import EncodedStream, LatentStream
from base_model.data.rendered_pages import PageStream
from base_model.data.stream import TextStream
from base_model.policy_model import PolicyModel
from base_model.pretrain import Batch, Latents
from base_model.train_vae import ImageStream
from experiments.images.image_sources import OwnImages
from experiments.images.own_latents import KEEP_BYTES, OwnLatents
from experiments.record.whole_files import plain

LIBRARIES = ("torch", "numpy", "pillow")
"""whose versions the bytes of a batch depend on"""


class Source(Protocol):
    """What can be sent to a process and opened there."""

    @property
    def on_gpu(self) -> bool:
        """Whether it encodes on a graphics card."""
        ...

    def open(self, producers: int) -> AbstractContextManager[Latents]:
        """What gives the batches, in one of so many processes."""
        ...

    def fingerprints(self) -> tuple[str, str]:
        """Of the data, and the SHA-256 of the encoder."""
        ...


@dataclass(frozen=True)
class RenderedSource:
    """Rendered images through an autoencoder file."""

    data: LatentStream
    on_gpu: ClassVar[bool] = False

    @contextlib.contextmanager
    def open(self, producers: int) -> Iterator[Latents]:
        """The stream; all of it encoded at once where it is finite, as a run without producers does."""
        yield EncodedStream(self.data) if is_finite(self.data) else self.data

    def fingerprints(self) -> tuple[str, str]:
        """See `Source`."""
        return fingerprint(plain(self.data.stream)), hash_of_weights(load_file(self.data.vae_file))


def is_finite(data: LatentStream) -> bool:
    """Whether a stream shows few images again and again, which are better encoded once."""
    return isinstance(data.stream, TextStream) and data.stream.limit > 0 and data.stream.is_constant


@dataclass(frozen=True)
class OwnSource:
    """Images of one's own, sized for a model, and what is left of it when it only encodes."""

    images: OwnImages
    encoder: PolicyModel

    @property
    def on_gpu(self) -> bool:
        """See `Source`."""
        return self.encoder.device.type == "cuda"

    def open(self, producers: int) -> OwnLatents:
        """Every process keeps its share of the latents, and decodes the images of its own batches."""
        return OwnLatents(
            self.images, self.encoder.encode_pixels, self.encoder.side, ahead=0, keep_bytes=KEEP_BYTES // producers
        )

    def fingerprints(self) -> tuple[str, str]:
        """See `Source`."""
        return fingerprint(described(self.images)), hash_of_weights(self.encoder.vae.state_dict())


@dataclass(frozen=True)
class PixelSource:
    """Images as they are, for an autoencoder."""

    stream: TextStream | PageStream | OwnImages
    on_gpu: ClassVar[bool] = False

    @contextlib.contextmanager
    def open(self, producers: int) -> Iterator[Latents]:
        """The images as batches without captions."""
        yield PixelBatches(self.stream)

    def fingerprints(self) -> tuple[str, str]:
        """See `Source`."""
        own = isinstance(self.stream, OwnImages)
        return fingerprint(described(self.stream) if own else plain(self.stream)), ""


@dataclass(frozen=True)
class PixelBatches:
    """Images in the place of latents."""

    stream: ImageStream

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        """uint8 [size, 3, H, W]"""
        return Batch(self.stream.images(step, size, rank, ranks), [""] * size)


def described(images: OwnImages) -> dict[str, Any]:
    """What a stream of one's own images follows from, wherever its folders are."""
    settings = plain(images.settings) | {"folder": len(images.sources), "sources": [], "max_bad": 0.0}
    return {
        "images": images.fingerprint, "settings": settings, "size": images.size, "side": images.side,
        "aspects": images.aspects, "mixes": plain(images.mixes),
        "later": [[each.start, each.fingerprint] for each in images.later],
    }  # fmt: skip


def fingerprint(settings: Any) -> str:
    """Of settings that JSON can hold, and of the libraries that read and encode."""
    libraries = {name: metadata.version(name) for name in LIBRARIES}
    return sha256(json.dumps([settings, libraries], sort_keys=True).encode()).hexdigest()


def hash_of_weights(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of names and weights."""
    digest = sha256()
    for name, tensor in sorted(tensors.items()):
        content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode() + content.numpy().tobytes())
    return digest.hexdigest()
