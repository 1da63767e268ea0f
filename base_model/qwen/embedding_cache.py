"""Encoded prompts on disk, so that training needs the language model once.

An entry is one small safetensors file named by the SHA-256 of everything its vectors depend on: the encoder (settings,
weights, tokenizer, type), the whole conversation, and the pixels of the images. It is written aside and renamed, so
several processes may share a folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SAMPLE = 1 << 20
"""bytes read at both ends of a weight file to tell it from others of its size"""


def encoder_identity(folders: Sequence[Path], dtype: str) -> str:
    """Tells encoders apart without reading all of their weights: names, sizes, both ends, and small files whole."""
    digest = sha256(dtype.encode())
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            size = path.stat().st_size
            digest.update(f"{folder.name}/{path.relative_to(folder)} {size}\n".encode())
            with path.open("rb") as file:
                digest.update(file.read(SAMPLE))
                file.seek(max(0, size - SAMPLE))
                digest.update(file.read(SAMPLE))
    return digest.hexdigest()


def entry_name(identity: str, conversation: str, images: Sequence[Tensor]) -> str:
    """The key of an entry."""
    digest = sha256(f"{identity}\n{conversation}\n".encode())
    for image in images:
        digest.update(repr((str(image.dtype), tuple(image.shape))).encode())
        digest.update(image.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class EmbeddingCache:
    """Keeps text embeddings in a folder, a file an entry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, key: str) -> Tensor | None:
        """The vectors [L, D], or None when they are not there. A damaged entry counts as not there."""
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                return file.get_tensor("text").clone()
        except (FileNotFoundError, SafetensorError):
            return None

    def write(self, key: str, text_LD: Tensor, conversation: str) -> None:
        """Whole or not at all."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        # drawn and not the process's number, which two containers that share the folder may have in common
        partial = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            save_file({"text": text_LD.detach().cpu().contiguous()}, partial, metadata={"conversation": conversation})
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"
