"""Images of one's own seen through a model's autoencoder, decoded ahead by threads and encoded once.

The autoencoder is frozen, so an image's latent never changes: it is kept in memory, up to a bound, from the first time
that it is needed. Images are encoded one by one, because a sum may depend on what else is in a batch, and a run that
was resumed must see the same numbers. Any model will do that encodes pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from base_model.data.stream import stream_indices
from base_model.interface import Grid, padded_together
from base_model.pretrain import Batch
from experiments.images.examined_images import READERS
from experiments.images.image_readers import Entry
from experiments.images.image_sources import OwnImages

KEEP_BYTES = 2 * 2**30
"""Of latents in memory; those beyond are encoded again in every pass."""

Decoded = tuple[np.ndarray | None, list[np.ndarray]]
"""an image, and those that it was made from"""


class OwnLatents:
    """`batch` for the trainer, with coming images decoded meanwhile. Use as a context manager.

    `encode` is `FlowModel.encode_pixels`, `side` the pixels that a latent token covers on each side (0: the side that
    canvases are multiples of); `ahead` counts batches.
    """

    def __init__(
        self,
        stream: OwnImages,
        encode: Callable[[Tensor], Tensor],
        side: int = 0,
        ahead: int = 2,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        self._stream, self._encode, self._ahead, self._room = stream, encode, ahead, keep_bytes
        self._side = side or stream.side
        self._pool = ThreadPoolExecutor(READERS)
        self._pixels: dict[str, Future[Decoded]] = {}
        self._latents: dict[str, tuple[Tensor, Grid]] = {}

    def __enter__(self) -> OwnLatents:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        """Clean latents and captions. Raises ValueError when too many images are damaged."""
        for later in range(step, step + self._ahead + 1):
            for index in stream_indices(later, size, rank, ranks):
                self._begin(next(self._stream.candidates(index)))
        rows = [self._stream.sample(index, self._latent) for index in stream_indices(step, size, rank, ranks)]
        grids = tuple(grid for (_, grid, _), _ in rows)
        latents = padded_together([latent for (latent, _, _), _ in rows])
        sources = [[torch.from_numpy(source) for source in own] for (_, _, own), _ in rows]
        texts = [text for _, text in rows]
        return Batch(
            latents, texts, grids if self._stream.settings.aspect else (), sources if self._stream.edits else ()
        )

    def _begin(self, entry: Entry) -> None:
        known = entry.name in self._latents and not entry.sources
        if not (known or entry.name in self._pixels or entry.name in self._stream.broken):
            self._pixels[entry.name] = self._pool.submit(self._decoded, entry, entry.name in self._latents)

    def _decoded(self, entry: Entry, known: bool) -> Decoded:
        """The image, where its latent is not `known`, and what it was made from."""
        return None if known else self._stream.pixels(entry), self._stream.pixels_of_sources(entry)

    def _latent(self, entry: Entry) -> tuple[Tensor, Grid, list[np.ndarray]]:
        """[1, S, C], the grid, and pixels of what the image was made from. Raises as `OwnImages.pixels`."""
        if entry.name in self._latents and not entry.sources:
            return *self._latents[entry.name], []
        self._begin(entry)
        image, sources = self._pixels.pop(entry.name).result()
        if entry.name in self._latents:
            return *self._latents[entry.name], sources
        pixels = torch.from_numpy(self._stream.pixels(entry) if image is None else image)
        latent = self._encode(pixels[None].float() / 255.0).float().cpu()
        encoded = latent, (pixels.shape[1] // self._side, pixels.shape[2] // self._side)
        if (room := self._room - latent.numel() * latent.element_size()) >= 0:
            self._latents[entry.name], self._room = encoded, room
        return *encoded, sources
