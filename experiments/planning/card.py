"""Torch's meta device plays the GPU, so that whole recipes run at full size on a laptop.

Three things make it more than `device="meta"`:

1. *Twins.* A tensor of at most `KEEP` elements that came from the host, and all that is computed from such alone, has a
   twin on the host with its numbers. Masks, lengths, orders, rewards, advantages and noise levels are therefore true:
   `nonzero`, boolean indexing, `.item()`, `.tolist()` and control flow work as they would. Twins belong to *storages*,
   so views and writes in place need no care, and autograd's copies find them again. What has no twin reads as zeros on
   the host; a shape that would depend on it is an error (`Unknown`).
2. *Mixing.* An operation with tensors of both places is an error (`Mixed`) with the project's file and line, except
   where CUDA allows it: 0-dim host tensors in pointwise operations, host indices into card tensors, copies.
3. *The host's weights.* Host tensors of floats above `HOLLOW` elements are made and never written: masters and moments
   that are kept on the host take no memory, and no time, of this machine.
4. *Bytes.* Every storage on the card is counted from birth to death, in blocks of 512 bytes as CUDA's allocator does,
   by the project's line that made it. `phase("decode")` gives peaks by phase.

Not seen: numbers, kernels' workspace, fragmentation, time, streams, and which types a CUDA kernel takes.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from experiments.planning.meta_operations import call, name_of, written_arguments

KEEP = 1 << 16
"""elements of a tensor whose numbers are kept"""
HOLLOW = 1 << 20
"""elements from which on a host tensor of floats is never written: its numbers are those of weights, i.e. unknown"""
COPIES = {"aten::clone", "aten::_to_copy", "aten::zeros_like", "aten::ones_like", "aten::empty_like"}
BLOCK = 512
ROOT = Path(__file__).parents[2]
OWN = (
    *(
        str(Path(__file__).parent / name)
        for name in ("card.py", "meta_operations.py", "torch_patches.py", "hollow_pipeline.py")
    ),
    str(ROOT / "experiments" / "benchmarks" / "card"),
)
HOST_INDICES = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
POINTWISE = {"aten::where", "aten::fill_", "aten::fill", "aten::lerp", "aten::masked_fill", "aten::masked_fill_"}
"""take 0-dim host tensors although torch does not tag them as pointwise"""
UNSET = ("aten::empty", "aten::new_empty", "aten::rand", "aten::normal", "aten::bernoulli")
"""make tensors whose numbers nobody knows"""

F = TypeVar("F", bound=Callable[..., Any])


class Mixed(RuntimeError):
    """Tensors of the host and of the card in one operation."""


class Unknown(RuntimeError):
    """A shape or a decision depends on numbers that the card does not have."""


def site() -> str:
    """file:line of the innermost frame of the project outside of the card's own files."""
    frame, root = sys._getframe(1), str(ROOT) + "/"
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(root) and not name.startswith(OWN) and ".venv" not in name:
            return f"{name[len(root) :]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"


def deepspeed_placeholder() -> bool:
    """DeepSpeed remembers the shapes of its flat weights by tensors on the meta device, which are no memory."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.endswith("runtime/zero/stage_1_and_2.py"):
        frame = frame.f_back
    return frame is not None and "meta_tensors" in frame.f_locals


def tensors_in(args: Any, kwargs: Any) -> list[Tensor]:
    """All tensors of a call, in lists too; torch's own walk of trees takes a fifth of a run's time."""
    results: list[Tensor] = []
    for x in (*args, *kwargs.values()):
        if isinstance(x, Tensor):
            results.append(x)
        elif isinstance(x, list | tuple):
            results += tensors_in(x, {})
    return results


def large(func: Any, args: Any) -> bool:
    """Whether an operation on tensors of the host alone makes or writes large ones, of floats."""
    name = func._schema.name
    if name == "aten::zeros":
        return math.prod(args[0]) > HOLLOW
    tensors = args[0] if args and isinstance(args[0], list | tuple) else args[:1]
    return any(map(big, tensors)) and (func._schema.is_mutable or name in COPIES)


def big(x: Any) -> bool:
    """Whether it is a tensor of floats above `HOLLOW`."""
    return isinstance(x, Tensor) and x.is_floating_point() and x.numel() > HOLLOW


def hollow(func: Any, args: Any, kwargs: Any) -> Any:
    """What such an operation gives: memory that nobody has written to, which the host does not take."""
    if func._schema.is_mutable:
        return args[0] if func._schema.returns else None
    shape, dtype = (
        (args[0].shape, args[0].dtype) if isinstance(args[0], Tensor) else (args[0], torch.get_default_dtype())
    )
    return hollow_host(shape, kwargs.get("dtype") or dtype)


def hollow_host(shape: Any, dtype: torch.dtype) -> Tensor:
    """Zeros that take no memory until somebody writes to them."""
    return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(tuple(shape))


def whole(x: Tensor) -> bool:
    """It fills its storage."""
    return x.storage_offset() == 0 and x.untyped_storage().nbytes() == x.numel() * x.element_size()


class Card(TorchDispatchMode):
    """The card, while it is entered. `strict` raises `Mixed`; without it mixings are counted in `mixings`."""

    def __init__(self, strict: bool = True) -> None:
        super().__init__()
        self.strict = strict
        self.live: dict[int, tuple[int, str]] = {}
        """storage -> (bytes, line that made it)"""
        self.now = 0
        """bytes alive"""
        self.name = "start"
        """of the phase"""
        self.blind = False
        """what is made now stands for nothing and is not counted"""
        self.peaks: dict[str, int] = {}
        """most bytes alive, by phase"""
        self.at_peak: dict[str, Counter[str]] = {}
        """what they were, by line"""
        self._images = 0
        self._snapped: dict[str, int] = {}
        self.mixings: Counter[str] = Counter()
        self.syncs: Counter[tuple[str, str]] = Counter()
        """(phase, line) -> how often the host asked for numbers of the card, and waited for it"""
        self.fetched: Counter[str] = Counter()
        """bytes that went to the host, by line"""
        self.guessed: Counter[str] = Counter()
        """reads of numbers that were not there, by line"""
        self._twin: dict[int, Tensor] = {}
        """storage -> 1-D uint8 host tensor of as many bytes"""

    # ------------------------------------------------------------------------------------------------ twins

    def twin(self, x: Tensor) -> Tensor | None:
        """The numbers of a card tensor, sharing memory among views; None: not known."""
        raw = self._twin.get(x.untyped_storage()._cdata)
        if raw is None:
            return None if x.numel() else torch.empty(x.shape, dtype=x.dtype)
        return torch.empty(0, dtype=x.dtype).set_(raw.untyped_storage(), x.storage_offset(), x.shape, x.stride())

    def give(self, x: Tensor, value: Tensor) -> None:
        """Give the storage of a fresh card tensor its numbers."""
        self.count(x)  # first: a storage without a finalizer would leave its numbers to the next at its address
        size = x.untyped_storage().nbytes()
        if size == 0 or size > KEEP * 16:
            return
        self._twin[x.untyped_storage()._cdata] = torch.zeros(size, dtype=torch.uint8)
        twin = self.twin(x)
        assert twin is not None
        twin.copy_(value)

    def forget(self, x: Tensor) -> None:
        """The numbers of this storage are no longer known."""
        self._twin.pop(x.untyped_storage()._cdata, None)

    def known(self, x: Any) -> Any:
        """A card tensor's twin, anything else as it is. Raises KeyError without a twin."""
        if isinstance(x, Tensor) and x.is_meta:
            twin = self.twin(x)
            if twin is None:
                raise KeyError
            return twin
        return x

    def over(self, x: Any) -> Any:
        """A host tensor copied to the card with its numbers, anything else as it is."""
        if not isinstance(x, Tensor) or x.is_meta:
            return x
        made = torch.empty_like(x, device="meta")
        self.count(made)
        if x.numel() <= KEEP:
            self.give(made, x)
        return made

    # ------------------------------------------------------------------------------------------------ bytes

    def count(self, x: Tensor) -> None:
        """Count a storage once, until it dies."""
        storage = x.untyped_storage()
        index = storage._cdata
        if index in self.live:
            return
        size = 0 if self.blind else -(-storage.nbytes() // BLOCK) * BLOCK
        self.live[index] = (size, site() if size else "")
        self.now += size
        weakref.finalize(storage, self._gone, index).atexit = False
        if self.now > self.peaks.get(self.name, 0):
            self.peaks[self.name] = self.now
            if self.now > 1.002 * self._snapped.get(self.name, 0):
                self._snapped[self.name] = self.now
                held: Counter[str] = Counter()
                for size, line in self.live.values():
                    held[line] += size
                self.at_peak[self.name] = held

    def _gone(self, index: int) -> None:
        self.now -= self.live.pop(index, (0, ""))[0]
        self._twin.pop(index, None)

    def placeholders(self, function: F) -> F:
        """The function, with what it makes on the meta device not counted: the project uses meta for "nothing" too."""

        def inside(*args: Any, **kwargs: Any) -> Any:
            before, self.blind = self.blind, True
            try:
                return function(*args, **kwargs)
            finally:
                self.blind = before

        return inside  # type: ignore[return-value]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What is done inside is counted under this name."""
        before, self.name = self.name, name
        self.peaks[name] = max(self.peaks.get(name, 0), self.now)
        try:
            yield
        finally:
            self.name = before

    # ------------------------------------------------------------------------------------------------ dispatch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        tensors = tensors_in(args, kwargs)
        card = [x for x in tensors if x.is_meta]
        to = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None
        if not card and to != "meta":  # the host's own business
            return hollow(func, args, kwargs) if large(func, args) else func(*args, **kwargs)
        host = [x for x in tensors if not x.is_meta]
        if name == "aten::_local_scalar_dense":
            return self.read(card[0]).item()
        if name == "aten::equal" and not host:
            return self.equal(*card)
        if name == "aten::_to_copy" and card and to == "cpu":
            value, dtype = self.read(args[0]), kwargs.get("dtype") or args[0].dtype
            return hollow_host(value.shape, dtype) if big(value) else value.to(dtype, copy=True)
        if name == "aten::copy_":
            return self.copy(*args[:2])
        if name == "aten::_to_copy" and not card:
            return self.over(args[0].to(kwargs.get("dtype") or args[0].dtype))
        if host and card:
            self.refuse_mixed(func, name, host, args)
            args, kwargs = tree_map(self.over, args), tree_map(self.over, kwargs)
        if name in HOST_INDICES:
            args = self.without_masks(name, args)
        elif torch.Tag.dynamic_output_shape in func.tags:
            return self.dynamic(func, name, args, kwargs)
        before, self.blind = self.blind, self.blind or (name == "aten::zeros_like" and deepspeed_placeholder())
        out = call(func, args, kwargs)
        outs = [x for x in tensors_in((out,), {}) if x.is_meta]
        for x in outs:
            self.count(x)
        self.blind = before
        self.follow(func, name, args, kwargs, outs)
        return out

    def synced(self, line: str, nbytes: int = 0) -> None:
        self.syncs[self.name, line] += 1
        self.fetched[line] += nbytes

    def read(self, x: Tensor) -> Tensor:
        """The numbers on the host: the twin's, or zeros."""
        line = site()
        self.synced(line, x.nbytes)
        twin = self.twin(x)
        if twin is None:
            self.guessed[line] += 1
            return self.blank(x)
        return twin.detach()

    def blank(self, x: Tensor) -> Tensor:
        """What unknown numbers read as: zeros, but images in bytes that all differ, as a record of them must."""
        if x.dtype != torch.uint8 or x.ndim != 4 or not x.numel():
            return torch.zeros((), dtype=x.dtype).expand(x.shape)
        images = torch.zeros(x.shape, dtype=torch.uint8)
        for image in images:
            self._images += 1
            image.view(-1)[:8] = torch.frombuffer(bytearray(self._images.to_bytes(8, "little")), dtype=torch.uint8)
        return images

    def equal(self, a: Tensor, b: Tensor) -> bool:
        self.synced(site())
        known = self.twin(a), self.twin(b)
        return torch.equal(*known) if known[0] is not None and known[1] is not None else a.shape == b.shape

    def copy(self, target: Tensor, source: Tensor) -> Tensor:
        """`target.copy_(source)` between or within places."""
        if not target.is_meta:
            value = self.read(source)
            return target if big(target) else target.copy_(value)
        self.count(target)
        value, twin = source if not source.is_meta else self.twin(source), self.twin(target)
        if value is None:
            self.forget(target)
        elif twin is not None:
            twin.copy_(value)
        elif target.numel() <= KEEP and whole(target):
            self.give(target, value.expand(target.shape))
        return target

    def refuse_mixed(self, func: Any, name: str, host: list[Tensor], args: Any) -> None:
        """Raises `Mixed` where CUDA would refuse."""
        if name in HOST_INDICES and args[0].is_meta:  # indices of the host are taken, and copied
            values = args[2] if len(args) > 2 else None
            bad = [values] if isinstance(values, Tensor) and not values.is_meta and values.dim() else []
        elif torch.Tag.pointwise in func.tags or name in POINTWISE or name.startswith("aten::_foreach"):
            bad = [x for x in host if x.dim()]
        else:
            bad = host
        if bad:
            answer = f"{name} at {site()}: tensors of the host {[tuple(x.shape) for x in bad]} and of the card"
            self.mixings[answer] += 1
            if self.strict:
                raise Mixed(answer)

    def without_masks(self, name: str, args: Any) -> Any:
        """Indexing by masks as indexing by places."""
        indices: list[Tensor | None] = []
        for index in args[1]:
            if index is None or index.dtype not in (torch.bool, torch.uint8):
                indices.append(index)
                continue
            twin = self.twin(index)
            if twin is None:
                raise Unknown(f"{name} by a mask of unknown numbers at {site()}")
            self.synced(site())
            indices.extend(self.over(positions) for positions in twin.nonzero(as_tuple=True))
        return (args[0], indices, *args[2:])

    def dynamic(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Operations whose result's shape depends on numbers, done with the twins."""
        self.synced(site())
        try:
            result = func(*tree_map(self.known, args), **tree_map(self.known, kwargs))
        except KeyError:
            raise Unknown(f"{name} of unknown numbers at {site()}: its shape would depend on them") from None
        return tree_map(self.over, result)

    def follow(self, func: Any, name: str, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
        """Compute the twins of what was made or written, or forget them."""
        written = [
            x
            for i in written_arguments(func)
            if i < len(args)
            for x in (args[i] if isinstance(args[i], list | tuple) else [args[i]])
            if isinstance(x, Tensor) and x.is_meta
        ]
        fresh = [x for x in outs if x.untyped_storage()._cdata not in self._twin]
        if (not written and not fresh) or name.startswith(UNSET):
            return  # views of what is known, or nothing to know
        try:
            if torch.Tag.nondeterministic_seeded in func.tags or any(x.numel() > KEEP for x in (*outs, *written)):
                raise KeyError
            own = {k: "cpu" if k == "device" else self.known(v) for k, v in kwargs.items()}
            made = func(*tree_map(self.known, args), **own)
        except (KeyError, NotImplementedError):
            for x in written:
                self.forget(x)
            return
        values = [x for x in tree_leaves(made) if isinstance(x, Tensor)]
        for x, value in zip(outs, values, strict=True):
            if x.untyped_storage()._cdata not in self._twin and whole(x):
                self.give(x, value)
