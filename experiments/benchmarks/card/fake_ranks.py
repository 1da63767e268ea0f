"""Rank 0 of several in one process: torch's fake process group, which takes the card's tensors and sends nothing.

It refuses what NCCL refuses: tensors of the host. What comes back is what was given, as if all ranks had said the same;
what needs ranks that differ (agreement, deadlocks) is for real processes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_leaves

from experiments.planning.card import Mixed, site

COLLECTIVES = (
    "all_reduce", "broadcast", "all_gather", "all_gather_into_tensor", "reduce_scatter_tensor", "reduce", "gather",
    "scatter", "reduce_scatter", "all_to_all_single", "all_to_all", "send", "recv", "all_reduce_coalesced",
    "all_gather_coalesced",
)  # fmt: skip

MAKERS = {"FloatTensor": torch.float32, "DoubleTensor": torch.float64, "HalfTensor": torch.float16,
          "BFloat16Tensor": torch.bfloat16, "IntTensor": torch.int32, "LongTensor": torch.int64,
          "ByteTensor": torch.uint8}  # fmt: skip


def launched(ranks: int) -> dict[str, str]:
    """What a launcher would tell rank 0. DeepSpeed's CPU accelerator is the one that can be told another device."""
    return {"RANK": "0", "WORLD_SIZE": str(ranks), "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "29999", "DS_ACCELERATOR": "cpu"}  # fmt: skip


def heard(name: str, inner: Callable[..., Any], counter: Counter[str]) -> Callable[..., Any]:
    """A collective that refuses host tensors and fills in what gathering returns."""

    def outer(*args: Any, **kwargs: Any) -> Any:
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        line = f"{name} at {site()}"
        counter[line] += 1
        if any(not x.is_meta for x in tensors):
            raise Mixed(f"{line}: NCCL takes no tensor of the host")
        if kwargs.get("async_op"):
            return inner(*args, **kwargs)
        if name == "all_gather":
            for part in args[0]:
                part.copy_(args[1])
            return None
        if name == "all_gather_into_tensor":
            out, x = kwargs.get("output_tensor", *args[:1]), kwargs.get("input_tensor", *args[1:2])
            out.view(-1, x.numel()).copy_(x.reshape(1, -1))
            return None
        return inner(*args, **kwargs)

    return outer


@contextmanager
def joined(ranks: int) -> Iterator[Counter[str]]:
    """Inside, this process is rank 0 of `ranks` on cards; what is said to the others is counted by line."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    counter: Counter[str] = Counter()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, launched(ranks)))
        import deepspeed  # before the patches: it takes names from torch.distributed
        from deepspeed.accelerator import get_accelerator

        kind = type(get_accelerator())
        # DeepSpeed's stage 3 replaces it for the rest of the process
        stack.enter_context(mock.patch.object(torch.nn.functional, "linear", torch.nn.functional.linear))
        for module in (deepspeed.utils.groups, deepspeed.comm.comm):  # they remember the groups of a former entry
            stack.enter_context(mock.patch.dict(vars(module)))
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
        stack.callback(dist.destroy_process_group)
        for name in COLLECTIVES:
            inner = getattr(dist, name, None)
            for module in (dist, dist.distributed_c10d) if inner else ():
                stack.enter_context(mock.patch.object(module, name, heard(name, inner, counter)))
        for name, value in {
            "device_name": lambda self, index=None: "meta", "current_device_name": lambda self: "meta",
            "on_accelerator": lambda self, x: x.is_meta, "is_synchronized_device": lambda self: True,
        }.items():  # fmt: skip
            stack.enter_context(mock.patch.object(kind, name, value))
        for name, dtype in MAKERS.items():  # torch.cuda.FloatTensor([1.0]) is a tensor on the card
            make = property(lambda self, dtype=dtype: lambda data: torch.tensor(data, dtype=dtype, device="meta"))
            stack.enter_context(mock.patch.object(kind, name, make))
        for name in ("get_autocast_dtype", "is_autocast_enabled"):  # ZeRO-3's linear layers ask them for the device
            ask = getattr(torch, name)
            stack.enter_context(
                mock.patch.object(torch, name, lambda kind="cpu", ask=ask: ask("cpu" if kind == "meta" else kind))
            )
        stack.enter_context(mock.patch.object(torch, "autocast", autocast(torch.autocast)))
        yield counter


def autocast(real: Any) -> Callable[..., Any]:
    """`torch.autocast` that does nothing for the card."""

    def inside(device_type: str = "cpu", **kwargs: Any) -> Any:
        enabled = kwargs.pop("enabled", True) and device_type != "meta"
        return real("cpu" if device_type == "meta" else device_type, enabled=enabled, **kwargs)

    return inside
