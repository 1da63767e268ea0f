"""What an engine writes into a checkpoint, and how it tells that a checkpoint is not its own.

MODULE_FILE holds the module's state whichever engine wrote it, trained weights in the precision they are trained in.
With `keep_frozen=False` frozen weights stay out: an adapter's checkpoint is then as small as the adapter, and a
checksum makes sure that it comes back to the weights it was trained on.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn

from base_model.frozen_linear import stored_tensors

MODULE_FILE = "module.safetensors"
AVERAGE_FILE = "ema.safetensors"
"""the averaged trainable weights; absent when averaging is off"""
OPTIMIZER_FILE = "optimizer.pt"
META_FILE = "engine.json"
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""names of types in a safetensors file"""


UNFLUSHED = 2**28
"""bytes that wait for the disk at most while a file is written"""


class HashingFile:
    """A file to write, whose SHA-256 is known when it is closed: a thread hashes each piece while the disk takes it.

    It is flushed to the disk as it grows. Other processes then wait for one piece at a time, and not at the end for
    hundreds of gigabytes that the system still holds in memory.
    """

    def __init__(self, path: Path) -> None:
        self._file, self._sha = path.open("wb"), hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._unflushed = 0

    def __enter__(self) -> HashingFile:
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        self._thread.shutdown()
        with self._file:
            if not failed:
                self._to_disk()

    def _to_disk(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unflushed = 0

    def write(self, piece: bytes | bytearray | memoryview) -> int:
        """Write and hash; the caller may change `piece` afterwards."""
        hashed = self._thread.submit(self._sha.update, piece)
        try:
            written = self._file.write(piece)
            self._unflushed += written
            if self._unflushed >= UNFLUSHED:
                self._to_disk()
            return written
        finally:
            hashed.result()

    def flush(self) -> None:
        self._file.flush()

    @property
    def sha256(self) -> str:
        """Of all that was written so far."""
        return self._sha.hexdigest()


def write_object(path: Path, value: Any) -> str:
    """A file of `torch.save`; its SHA-256."""
    with HashingFile(path) as file:
        torch.save(value, cast(IO[bytes], file))  # it writes from front to back and asks for no more
    return file.sha256


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """A safetensors file; its SHA-256."""
    return write_one_by_one(path, tensors, tensors.__getitem__, writes=True)


def like(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Stands for a tensor of this shape and type, and holds nothing."""
    return torch.empty(shape, dtype=dtype, device="meta")


def write_one_by_one(path: Path, layout: Mapping[str, Tensor], make: Callable[[str], Tensor], writes: bool) -> str:
    """A safetensors file of tensors that are made one after the other, so that never more than one is in memory.

    Returns its SHA-256; "" where not `writes`. Each tensor is hashed as it is written: processes that make them
    together then wait for one tensor at a time, and nobody reads a whole checkpoint again while the others wait.

    `make(name)` returns what `layout` says. Where not `writes` the tensors are made and dropped: processes that make
    them together all take part, and one writes.
    """
    # wide types first, as the format's own writer sorts them: then each tensor begins at a multiple of its type's size
    names = sorted(layout, key=lambda name: -layout[name].element_size())
    header, end = {}, 0
    for name in names:
        start, end = end, end + layout[name].nbytes
        kind = {"dtype": DTYPES[layout[name].dtype], "shape": list(layout[name].shape)}
        header[name] = kind | {"data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    def made() -> Iterator[Tensor]:
        for name in names:
            tensor = make(name)
            if (tensor.shape, tensor.dtype) != (layout[name].shape, layout[name].dtype):
                raise ValueError(f"{path}: {name} became {tensor.dtype} {tuple(tensor.shape)}, not as laid out")
            yield tensor

    if not writes:
        for _ in made():
            pass
        return ""
    with HashingFile(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in made():
            file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return file.sha256


def read_one_by_one(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor, each read when it is asked for."""
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118  it is no dictionary
            yield name, file.get_tensor(name)


def read_one(path: Path, name: str) -> Tensor:
    """One tensor of a safetensors file."""
    with safe_open(path, "pt") as file:
        return file.get_tensor(name)


def layout_of(path: Path) -> dict[str, Tensor]:
    """What a safetensors file holds, without its values, in the order of `read_one_by_one`."""
    types = {name: dtype for dtype, name in DTYPES.items()}
    with safe_open(path, "pt") as file:
        pieces = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
        return {name: like(tuple(piece.get_shape()), types[piece.get_dtype()]) for name, piece in pieces.items()}


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def saved_state(module: nn.Module, keep_frozen: bool) -> dict[str, Tensor]:
    """The module's state; without its frozen parameters and its buffers unless `keep_frozen`.

    Networks keep tables of positions in buffers: 0.9 GB in Stable Diffusion 3.5 medium.
    """
    frozen = set() if keep_frozen else {name for name, p in module.named_parameters() if not p.requires_grad}
    frozen |= set() if keep_frozen else {name for name, _ in module.named_buffers()}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def frozen_checksum(module: nn.Module) -> int:
    """CRC-32 of the bytes of every frozen parameter, in order, then of every buffer that files hold, then of what
    frozen layers store."""
    saved = module.state_dict().keys()
    buffers = [value for name, value in module.named_buffers() if name in saved]
    value = 0
    for p in (*(p for p in module.parameters() if not p.requires_grad), *buffers, *stored_tensors(module)):
        value = zlib.crc32(p.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes(), value)
    return value


def require_same_tensors(path: Path, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError when a safetensors file does not hold exactly these names and shapes."""
    with safe_open(path, "pt") as file:
        saved = {name: tuple(file.get_slice(name).get_shape()) for name in sorted(file.keys())}
    if odd := sorted(set(saved) ^ set(expected)):
        raise ValueError(f"{path} holds another module: {len(odd)} names are only on one side, first {odd[:4]}")
    for name, shape in expected.items():
        if saved[name] != shape:
            raise ValueError(f"{path}: {name} has shape {saved[name]}, this module needs {shape}")


def group_names(named: Iterable[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer) -> list[list[str]]:
    """Parameter names of every optimizer group, in its order."""
    names = {id(p): name for name, p in named}
    return [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]


def write_meta(folder: Path, meta: Mapping[str, Any]) -> None:
    """Written last, so that an engine folder without it is known to be unfinished."""
    (folder / META_FILE).write_text(json.dumps(meta, indent=1) + "\n")


def read_meta(folder: Path, own: Mapping[str, Any]) -> dict[str, Any]:
    """`META_FILE` of a folder that fits the engine described by `own`. Raises ValueError saying what differs."""
    path = folder / META_FILE
    if not path.exists():
        raise ValueError(
            f"{folder} is not an engine's checkpoint: it has no {META_FILE}; name a folder in checkpoints/ of a run"
        )
    saved = json.loads(path.read_text())
    if saved["engine"] != own["engine"]:
        raise ValueError(
            f"{folder} was written by {saved['engine']}, this is {own['engine']}: optimizer state cannot move between "
            f"them. To start anew from its weights, load {MODULE_FILE} into the module before making the engine."
        )
    if (saved["ema_updates"] is None) != (own["ema_updates"] is None):
        had, has = ("without", "with") if saved["ema_updates"] is None else ("with", "without")
        raise ValueError(f"{folder} was saved {had} a weight average, this engine is {has} one: match ema_decay")
    if saved["groups"] != own["groups"]:
        raise ValueError(
            f"{folder}: the saved optimizer trains other parameters, or others with Muon, than this engine; load with "
            "the module, the frozen parts and muon_lr (zero or not) of the saved run"
        )
    if saved["frozen"] != own["frozen"]:
        raise ValueError(
            f"{folder}: the checkpoint leaves frozen weights out or was trained on other ones (checksum "
            f"{saved['frozen']}, here {own['frozen']}): start from the model that the run started from"
        )
    return saved
