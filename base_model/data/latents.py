"""Images rendered and encoded ahead of the trainer, in other processes, in the trainer's order.

The encoder is frozen, so a batch of latents is a pure function of its address like the images themselves: producers
may run any number of batches ahead, die and start again, and the trainer sees the same numbers. The producers compute
on one thread each whatever the trainer uses, because sums depend on the number of threads.
"""

from __future__ import annotations

import functools
import multiprocessing
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from base_model.child_process import end_with_parent
from base_model.data.mixture import TaskStream
from base_model.data.rendered_text import render
from base_model.data.stream import CaptionedImages, TextStream
from base_model.files.weights import load_vae
from base_model.interface import Grid, padded_together
from base_model.pretrain import Batch
from base_model.qwen.tokens import patchify
from base_model.qwen.vae import QwenImageVAE

Stream = TextStream | TaskStream


@torch.no_grad()
def encode_images(vae: QwenImageVAE, images_B3HW: Tensor) -> Tensor:
    """uint8 images of one size to clean latent tokens [B, S, C]."""
    return patchify(vae.encode(images_B3HW.float() / 127.5 - 1.0))


def encode_sizes(vae: QwenImageVAE, images: Sequence[Tensor] | Tensor) -> tuple[Tensor, tuple[Grid, ...]]:
    """uint8 images [3, H, W] of any sizes to tokens [B, S, C], zeros behind the shorter ones, and their grids."""
    shapes = [(image.shape[1], image.shape[2]) for image in images]
    rows: dict[int, Tensor] = {}
    for shape in dict.fromkeys(shapes):
        chosen = [i for i, own in enumerate(shapes) if own == shape]
        rows |= zip(chosen, encode_images(vae, torch.stack([images[i] for i in chosen])).split(1), strict=True)
    side = vae.cfg.factor * 2
    return padded_together([rows[i] for i in range(len(images))]), tuple((h // side, w // side) for h, w in shapes)


def encoded(vae: QwenImageVAE, samples: CaptionedImages) -> Batch:
    """What the trainer reads. Sources stay pixels: the model encodes them in its own ways."""
    latents, grids = encode_sizes(vae, samples.images)
    return Batch(latents, samples.texts, grids, samples.sources)


@dataclass(frozen=True)
class LatentStream:
    """A stream of images seen through an autoencoder file."""

    stream: Stream
    vae_file: Path

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        """Clean latents with captions, their grids and the images that they are made from."""
        vae = _loaded(self.vae_file, self.vae_file.stat().st_mtime_ns)
        return encoded(vae, CaptionedImages(*self.stream.batch(step, size, rank, ranks)))


@functools.lru_cache(maxsize=1)
def _loaded(vae_file: Path, written: int) -> QwenImageVAE:
    """The autoencoder of a file, read again when it was written again."""
    return load_vae(vae_file)


class EncodedStream:
    """A finite stream whose images are all encoded once. Raises ValueError when the stream is endless or changes."""

    def __init__(self, data: LatentStream) -> None:
        stream = data.stream
        if not isinstance(stream, TextStream) or not stream.limit or not stream.is_constant:
            raise ValueError(f"only a finite TextStream that stays as it is can be kept, not {stream}")
        samples = [stream.one(0, index) for index in range(stream.limit)]
        self._stream = stream
        self._captions = [caption for _, caption in samples]
        batch = [samples[i : i + 64] for i in range(0, len(samples), 64)]
        rendered = (torch.from_numpy(np.stack([render(scene, stream.size) for scene, _ in part])) for part in batch)
        vae = load_vae(data.vae_file)
        side = vae.cfg.factor * 2
        self._grid: Grid = (stream.size[0] // side, stream.size[1] // side)
        self._latents = torch.cat([encode_images(vae, images) for images in rendered])

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        """Clean latents [size, S, C], captions and grids."""
        rows = [index for _, index in self._stream.indices(step, size, rank, ranks)]
        return Batch(self._latents[rows], [self._captions[i] for i in rows], (self._grid,) * size)


_producer: tuple[Stream, QwenImageVAE]


def _begin(data: LatentStream) -> None:
    global _producer
    end_with_parent()
    torch.set_num_threads(1)
    _producer = data.stream, load_vae(data.vae_file)


Sent = tuple[Any, Sequence[str], tuple[Grid, ...], list[list[Any]]]
"""a `Batch` with arrays for tensors, which would travel as open files"""


def _produce(step: int, size: int, rank: int, ranks: int) -> Sent:
    stream, vae = _producer
    batch = encoded(vae, CaptionedImages(*stream.batch(step, size, rank, ranks)))
    sources = [[source.numpy() for source in own] for own in batch.sources]
    return batch.x0_BSC.numpy(), batch.texts, batch.grids, sources


class Producers:
    """`LatentStream.batch` from `workers` processes that stay `ahead` batches in front. Use as a context manager.

    Where one of them dies, all are started again, at most `restarts` times: a batch is a function of its step.
    """

    def __init__(self, data: LatentStream, workers: int = 1, ahead: int = 8, restarts: int = 3) -> None:
        self._data, self._workers, self._ahead, self._restarts = data, workers, ahead, restarts
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self._workers, mp_context=context, initializer=_begin, initargs=(self._data,))
        self._futures: dict[tuple[int, int, int, int], Future[Sent]] = {}

    def __enter__(self) -> Producers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        """A rank's batch of `step`; asks for its following ones at once. Raises RuntimeError when producers died
        more often than they are started again."""
        try:
            for later in range(step, step + self._ahead + 1):
                if (address := (later, size, rank, ranks)) not in self._futures:
                    self._futures[address] = self._pool.submit(_produce, *address)
            latents, texts, grids, sources = self._futures.pop((step, size, rank, ranks)).result()
        except BrokenProcessPool as error:
            died = "a data producer process died (killed, or out of memory)"
            if not self._restarts:
                raise RuntimeError(f"{died}; resume the run to go on from its checkpoint") from error
            warnings.warn(f"{died}, and is started again", stacklevel=2)
            self._restarts -= 1
            self._pool.shutdown()
            self._start()
            return self.batch(step, size, rank, ranks)
        shown = [[torch.as_tensor(source) for source in own] for own in sources]
        return Batch(torch.as_tensor(latents), texts, grids, shown)
