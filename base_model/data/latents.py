"""Pictures drawn and encoded ahead of the trainer, in other processes, in the trainer's order.

The encoder is frozen, so a batch of latents is a pure function of (step, size) like the pictures themselves: producers
may run any number of batches ahead, die and start again, and the trainer sees the same numbers. The producers compute
on one thread each whatever the trainer uses, because sums depend on the number of threads.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from base_model.data.stream import TextStream
from base_model.tokens import patchify
from base_model.vae import QwenImageVAE
from base_model.weights import load_vae


@torch.no_grad()
def encode_pictures(vae: QwenImageVAE, images_B3HW: Tensor) -> Tensor:
    """uint8 pictures to clean latent tokens [B, S, C]."""
    return patchify(vae.encode(images_B3HW.float() / 127.5 - 1.0))


@dataclass(frozen=True)
class LatentStream:
    """A stream of pictures seen through an autoencoder file."""

    stream: TextStream
    vae_file: Path

    def batch(self, step: int, size: int) -> tuple[Tensor, list[str]]:
        """Clean latents [size, S, C] and captions."""
        images, captions = self.stream.batch(step, size)
        return encode_pictures(load_vae(self.vae_file), images), captions


class KeptLatents:
    """A finite stream whose pictures are all encoded once. Raises ValueError when the stream is endless or changes."""

    def __init__(self, data: LatentStream) -> None:
        stream = data.stream
        if not stream.limit or len(stream.stages) > 1:
            raise ValueError(f"only a finite stream of one stage can be kept, this has limit={stream.limit}")
        vae = load_vae(data.vae_file)
        everything = replace(stream, limit=0)  # picture i of an endless stream is picture i of the finite one
        batches = [everything.batch(i, 1) for i in range(stream.limit)]
        images = torch.cat([image for image, _ in batches]).split(64)
        self._stream = stream
        self._latents = torch.cat([encode_pictures(vae, few) for few in images])
        self._captions = [caption for _, captions in batches for caption in captions]

    def batch(self, step: int, size: int) -> tuple[Tensor, list[str]]:
        """Clean latents [size, S, C] and captions."""
        rows = self._stream.rows(step, size)
        return self._latents[torch.from_numpy(rows)], [self._captions[i] for i in rows]


_producer: tuple[TextStream, QwenImageVAE]


def _end_with_parent() -> None:
    """A trainer that was killed cannot stop its producers; each waits for that and goes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _begin(data: LatentStream) -> None:
    global _producer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _producer = data.stream, load_vae(data.vae_file)


def _produce(step: int, size: int) -> tuple[object, list[str]]:
    stream, vae = _producer
    images, captions = stream.batch(step, size)
    return encode_pictures(vae, images).numpy(), captions


class Producers:
    """`LatentStream.batch` from `workers` processes that stay `ahead` batches in front. Use as a context manager.

    A rank that reads every `stride`-th batch says so, and only those are made.
    """

    def __init__(self, data: LatentStream, workers: int = 1, ahead: int = 8, stride: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(data,))
        self._ahead, self._stride = ahead, stride
        self._futures: dict[tuple[int, int], Future[tuple[object, list[str]]]] = {}

    def __enter__(self) -> Producers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def batch(self, step: int, size: int) -> tuple[Tensor, Sequence[str]]:
        """Batch `step`; asks for the following ones at once. Raises RuntimeError when a producer died."""
        try:
            for later in range(step, step + self._ahead * self._stride + 1, self._stride):
                if (later, size) not in self._futures:
                    self._futures[later, size] = self._pool.submit(_produce, later, size)
            latents, captions = self._futures.pop((step, size)).result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a data producer process died (killed, or out of memory); resume the run to go on from its checkpoint"
            ) from error
        return torch.as_tensor(latents), captions
