"""What stands above torch's dispatcher and must know the card: the choice of attention, tensors from lists, optimizers.

Attention and tensors are patched and not caught by a TorchFunctionMode: `Tensor.backward` is a torch function itself, a
mode is off inside it, and blocks that are computed again would take another kernel than in the forward pass.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.planning.card import Card

OPTIMIZERS = ("torch.optim.adamw", "torch.optim.adam", "torch.optim.optimizer", "torch.utils._foreach_utils")
DEVICES = ["cuda", "cpu", "meta"]
"""where fused and grouped optimizer kernels are taken"""


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """What CUDA would choose: flash for 16 bits, memory-efficient for float32 or a mask."""
    q, k, v = query, key, value
    if enable_gqa and k.shape[-3] != q.shape[-3]:
        k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    if q.dtype in (torch.bfloat16, torch.float16) and attn_mask is None:
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, dropout_p, is_causal, scale=scale)[0]
    mask = attn_mask
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(mask.logical_not(), float("-inf"))
        mask = mask.expand(*q.shape[:-1], k.shape[-2])
    grad = any(x.requires_grad for x in (q, k, v)) and torch.is_grad_enabled()
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        q, k, v, mask, grad, dropout_p, is_causal, scale=scale
    )[0]


def on_card(device: Any) -> bool:
    return device is not None and torch.device(device).type == "meta"


@contextmanager
def opened(strict: bool = True, attended: Callable[[Tensor, Tensor], None] = lambda _, __: None) -> Iterator[Card]:
    """The card, with torch's own refusals of the meta device taken away.

    `attended` is called with query and key of every attention on the card.
    """
    real_attention, real_tensor, real_as = F.scaled_dot_product_attention, torch.tensor, torch.as_tensor

    def attention(query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not query.is_meta:
            return real_attention(query, *args, **kwargs)
        attended(query, args[0] if args else kwargs["key"])
        return fused_attention(query, *args, **kwargs)

    def tensor(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if on_card(device):  # torch itself would drop the numbers
            return real_tensor(data, *args, **kwargs).to("meta")
        return real_tensor(data, *args, device=device, **kwargs)

    def as_tensor(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if on_card(device) and not isinstance(data, Tensor):
            return real_as(data, *args, **kwargs).to("meta")
        return real_as(data, *args, device=device, **kwargs)

    card = Card(strict)
    with torch.device("meta"):
        torch.empty(0)  # torch notes once which functions make tensors; later, while one is patched, it would miss it
    with ExitStack() as stack:
        for module in map(importlib.import_module, OPTIMIZERS):
            for name in ("_get_fused_kernels_supported_devices", "_get_foreach_kernels_supported_devices"):
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name, lambda: DEVICES))
        stack.enter_context(mock.patch.object(F, "scaled_dot_product_attention", attention))
        stack.enter_context(mock.patch.object(torch, "tensor", tensor))
        stack.enter_context(mock.patch.object(torch, "as_tensor", as_tensor))
        stack.enter_context(card)
        yield card
