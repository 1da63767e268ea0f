"""Linear layers of a frozen base that take less of a card: in 8 or 4 bits, or in host memory until they are needed.

    (Q1)  y = W' x + b,   W' = what is stored of W, brought to the card and back to x's type for this one product

`W'` is made anew in the forward and in the backward pass and kept in neither, so a card holds one layer's weights at a
time beside what is stored. Only the weights are rounded: inputs and the product are not, so an answer does not depend
on the other samples of a batch, and samples and updates compute the same numbers. That is why this is not
bitsandbytes' own 8-bit layer, which rounds inputs too (Dettmers et al., LLM.int8(), arXiv:2208.07339), nor its 4-bit
one, which has other kernels where no gradient is asked for. The stored numbers are bitsandbytes': 4-bit NormalFloat in
blocks of 64 (Dettmers et al., QLoRA, arXiv:2305.14314), or 8 bits in blocks of 256 (arXiv:2110.02861).

An adapter beside such a layer stays exact, and is trained as beside any other.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

# peft imports it where it is installed, and it then warns of kernels that nothing here uses
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@dataclass(frozen=True)
class BaseStorage:
    """How the linear layers of a frozen base are stored."""

    bits: int = 0
    """a weight: 8, 4, or 0 = as the checkpoint has it"""
    on_host: bool = False
    """in host memory: each layer goes to the card when it is needed"""

    def __post_init__(self) -> None:
        if self.bits not in (0, 4, 8):
            raise ValueError(f"{self.bits} bits for the weights of a frozen base: 8, 4, or 0 for as they are")

    def __bool__(self) -> bool:
        return self != BaseStorage()


AS_IT_IS = BaseStorage()


class FrozenLinear(nn.Linear):
    """(Q1) in the place of a linear layer. Its weights are no parameters: no engine moves, casts or divides them."""

    def __init__(self, layer: nn.Linear, storage: BaseStorage, device: str | torch.device) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.storage = layer.in_features, layer.out_features, storage
        self.device = torch.device(device)
        """where products are made"""
        bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)
        self.register_parameter("bias", bias)
        weight = layer.weight.detach().to(self.device)
        self.dtype = weight.dtype
        self.stored, self._scales = pack(weight, storage.bits)
        if storage.on_host:
            self.stored = tuple(in_host_memory(part, self.device) for part in self.stored)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """What is stored as numbers [out, in] of the layer's own type, on the card."""
        stored = [part.to(self.device, non_blocking=True) for part in self.stored]
        return unpack(stored, self._scales, self.storage.bits)

    def forward(self, input: Tensor) -> Tensor:
        """(Q1)"""
        return cast(Tensor, FrozenProduct.apply(input, self))

    def extra_repr(self) -> str:
        bits = f", bits={self.storage.bits}" if self.storage.bits else ""
        return f"{super().extra_repr()}{bits}{', on_host=True' if self.storage.on_host else ''}"


class FrozenProduct(torch.autograd.Function):
    """(Q1) with a gradient for x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FrozenLinear) -> Tensor:
        ctx.layer = layer
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        return nn.functional.linear(x, layer.weight.to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient @ ctx.layer.weight.to(gradient.dtype), None


def pack(weight: Tensor, bits: int) -> tuple[tuple[Tensor, ...], Any]:
    """What is stored of a weight, as tensors, and what else is needed to read it."""
    if not bits:
        return (weight,), None
    functions = quantizer()
    if bits == 8:
        stored, state = functions.quantize_blockwise(weight, code=codes().to(weight.device), blocksize=256)
    else:
        stored, state = functions.quantize_4bit(weight, quant_type="nf4", blocksize=64)
    scales, state.absmax = state.absmax, None  # among the tensors, so that they can be stored elsewhere
    return (stored, scales), state


def unpack(stored: list[Tensor], state: Any, bits: int) -> Tensor:
    """Undo `pack`, but for what was rounded."""
    if not bits:
        return stored[0]
    state = copy.copy(state)
    packed, state.absmax = stored
    read = quantizer().dequantize_blockwise if bits == 8 else quantizer().dequantize_4bit
    return cast(Tensor, read(packed, state))


@lru_cache
def codes() -> Tensor:
    """The 256 numbers that 8 bits stand for, in host memory. bitsandbytes' own copy stays on the device of its first
    use."""
    with torch.device("cpu"):
        return cast(Tensor, quantizer().create_dynamic_map())


def quantizer() -> Any:
    """bitsandbytes' functions. Raises ValueError when it is not installed."""
    try:
        import bitsandbytes.functional as functions
    except ModuleNotFoundError as error:
        raise ValueError("a base in 8 or 4 bits needs bitsandbytes: pip install 'glyphlab[quantized]'") from error
    return functions


def in_host_memory(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor in host memory, in pages from which a GPU reads without the processor's help."""
    host = tensor.cpu()
    return host.pin_memory() if device.type == "cuda" else host


def store_frozen(network: nn.Module, layers: Collection[str], storage: BaseStorage, device: str | torch.device) -> None:
    """Put a `FrozenLinear` in the place of each of the linear `layers`, one after the other: a card never holds two as
    they were."""
    if not storage:
        return
    for name in layers:
        network.set_submodule(name, FrozenLinear(cast(nn.Linear, network.get_submodule(name)), storage, device))


def stored_tensors(network: nn.Module) -> list[Tensor]:
    """All that the network's frozen layers store, in the order of its modules."""
    return [part for module in network.modules() if isinstance(module, FrozenLinear) for part in module.stored]


def require_full_weights(network: nn.Module, purpose: str) -> None:
    """Raises ValueError where weights are stored in fewer bits, and `purpose` would write them rounded."""
    rounded = [m.storage.bits for m in network.modules() if isinstance(m, FrozenLinear) and m.storage.bits]
    if rounded:
        raise ValueError(
            f"{purpose} would write weights that are rounded to {rounded[0]} bits: open the checkpoint as it is, "
            "and load the adapter into that"
        )
