"""Encoded prompts of a diffusers pipeline: encoded once, stored as rows on disk, after which the encoders can go.

A row's key is made of everything that its numbers depend on: the encoders (weights, tokenizers, type), the family, the
prompt, and the pixels of its condition images. Models of one checkpoint in several sizes share one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from base_model.devices import has_gpu
from base_model.families.family import Family, Pipe, Row
from base_model.interface import Conditioning, Grid, padded_together
from base_model.qwen.embedding_cache import entry_name

AT_ONCE = 16
"""prompts that go through the encoders together"""
Request = tuple[str | None, tuple[Tensor, ...]]
"""a prompt, None for no prompt, and its condition images"""


class EncodedPrompts:
    """Answers with the row of a prompt: from memory, from a folder, or from encoders that are opened when needed.

    `open_encoders` returns a pipeline that has its encoders.
    """

    def __init__(
        self, family: Family, open_encoders: Callable[[], Pipe], identity: str = "", folder: Path | None = None
    ) -> None:
        """`folder` is where rows are stored, which several processes may share; `identity` tells encoders apart."""
        self.family, self.identity, self.folder = family, identity, folder
        self._open, self._pipe, self._memory = open_encoders, None, dict[str, Row]()
        self.is_released = False
        """the encoders were let go for good"""

    def rows(self, requests: Sequence[Request]) -> list[Row]:
        """Return a row for every request. Raises ValueError for one that is new when the encoders are gone."""
        keys = [self._key(*request) for request in requests]
        known: dict[str, Row | None] = {key: self._stored(key) for key in dict.fromkeys(keys)}
        new = {key: request for key, request in zip(keys, requests, strict=True) if known[key] is None}
        for key, encoded in zip(new, self._encode(list(new.values())) if new else (), strict=True):
            known[key] = encoded
            self._store(key, encoded)
        return [row for row in map(known.get, keys) if row is not None]

    def encode_ahead(self, requests: Sequence[Request]) -> None:
        """Encode what is new, and remember it even without a folder."""
        for first in range(0, len(requests), AT_ONCE):
            part = requests[first : first + AT_ONCE]
            for request, row in zip(part, self.rows(part), strict=True):
                if self.folder is None:
                    self._memory[self._key(*request)] = {name: value.cpu() for name, value in row.items()}

    def release(self) -> None:
        """Let the encoders go: what was not encoded is unknown from now on."""
        self._pipe, self.is_released = None, True
        if has_gpu():
            torch.cuda.empty_cache()

    def _encode(self, requests: Sequence[Request]) -> list[Row]:
        if self.is_released:
            names = ", ".join("no prompt (for guidance)" if text is None else repr(text) for text, _ in requests[:3])
            raise ValueError(
                f"{len(requests)} prompts were not encoded before the text encoders were let go, first {names}: a run "
                "knows its own prompts, its checkpoint samples' and its monitors'. Put it into the run's file of "
                "prompts, or sample it with `glyphlab sample` from the finished run"
            )
        if self._pipe is None:
            self._pipe = self._open()
        rows: dict[int, Row] = {}
        with_text = [i for i, (text, _) in enumerate(requests) if text is not None]
        if with_text:
            images = [requests[i][1] for i in with_text]
            texts = [text for text, _ in requests if text is not None]
            rows |= zip(with_text, self.family.encode(self._pipe, texts, images if any(images) else ()), strict=True)
        for i, (text, images_of_one) in enumerate(requests):
            if text is None:
                rows[i] = self.family.encode_nothing(self._pipe, [images_of_one] if images_of_one else ())
        return [rows[i] for i in range(len(requests))]

    def _key(self, text: str | None, images: Sequence[Tensor]) -> str:
        return entry_name(f"{self.identity}\n{self.family.pipeline}", repr(text), images)

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key}.safetensors"

    def _stored(self, key: str) -> Row | None:
        """The row, or None when there is none. A damaged file counts as none."""
        if key in self._memory or self.folder is None:
            return self._memory.get(key)
        try:
            return load_file(self._path(key))
        except (FileNotFoundError, SafetensorError):
            return None

    def _store(self, key: str, row: Row) -> None:
        """Write it to the folder, whole or not at all."""
        if self.folder is None:
            return
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            save_file({name: value.detach().cpu().contiguous().clone() for name, value in row.items()}, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def conditioning(
    rows: Sequence[Row], grid: Grid, dtype: torch.dtype, device: torch.device, images_BRC: Tensor | None = None,
    image_grids: tuple[tuple[Grid, ...], ...] = (),
) -> Conditioning:  # fmt: skip
    """Put rows into one batch, floating values in the network's type, shorter sequences filled up with zeros."""
    text = pad_sequence([row["text"].to(device, dtype) for row in rows], batch_first=True)
    lengths = tuple(len(row["text"]) for row in rows)
    mask = torch.arange(text.shape[1], device=device)[None] < torch.tensor(lengths, device=device)[:, None]
    more = {}
    for name in rows[0].keys() - {"text"}:
        values = [row[name][None].to(device) for row in rows]
        value = padded_together(values) if values[0].ndim == 3 else torch.cat(values)
        more[name] = value.to(dtype) if value.is_floating_point() else value
    return Conditioning(text, mask, (grid,) * len(rows), images_BRC, image_grids, lengths, more)


def in_dtype(cond: Conditioning, dtype: torch.dtype) -> Conditioning:
    """The same with floating values in the network's type; the guidance scale stays in float32."""
    if cond.text_BLD.dtype == dtype:
        return cond
    more = {
        name: value.to(dtype) if value.is_floating_point() and name != "scale" else value
        for name, value in cond.more_B.items()
    }
    return replace(cond, text_BLD=cond.text_BLD.to(dtype), more_B=more)
