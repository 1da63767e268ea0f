"""What one training pass of a network needs, counted on its own modules without allocating any of it.

The network is built and run on torch's meta device, whose tensors have shapes and no memory: parameters, what
autograd keeps for the backward pass, and the products of linear layers are counted where they happen, so the counts
follow the code. Deep networks are counted at two and at three blocks and continued in a straight line, which is exact,
because all blocks but the last are alike.

Shapes: B samples, S image tokens, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from base_model.engine.muon import is_muon_weight
from base_model.lora import Lora, add_adapter, linear_layers
from base_model.qwen.mmdit import MMDiT, MMDiTConfig

Layouts = tuple[tuple[tuple[int, int], ...], ...]
"""grids of the condition images of every sample"""


@dataclass(frozen=True)
class Pass:
    """Describes a micro-batch."""

    samples: int
    grid: tuple[int, int]
    """rows and columns of latent tokens"""
    text: int
    """text tokens of a sample"""
    images: int = 0
    """condition images of a sample, each as large as what is made"""

    @property
    def tokens(self) -> int:
        """Image and text tokens of a sample."""
        return self.grid[0] * self.grid[1] * (1 + self.images) + self.text

    def conditions(self, channels: int, dtype: torch.dtype | None = None) -> tuple[Tensor | None, Layouts]:
        """Condition images without values, and their grids, as `Conditioning` has them."""
        if not self.images:
            return None, ()
        size = (self.samples, self.images * self.grid[0] * self.grid[1], channels)
        return torch.empty(size, device="meta", dtype=dtype), ((self.grid,) * self.images,) * self.samples


@dataclass(frozen=True)
class Footprint:
    """Of one network and one micro-batch. Bytes where not said otherwise."""

    parameters: float
    """number of all weights"""
    trained: float
    """number of those that learn"""
    muon: float
    """number of those that Muon trains when it is on"""
    saved: float
    """by autograd for the backward pass"""
    outside: float
    """of these, before and behind the blocks"""
    entering: float
    """what enters all blocks"""
    forward: float
    """FLOPs"""
    in_blocks: float
    """FLOPs of these in blocks: what recomputation repeats"""
    backward: float
    """FLOPs"""
    largest: float
    """largest tensor kept"""
    block: float
    """kept in one block"""
    frozen: float = 0.0
    """number of the weights that `memory.base_bits` stores otherwise: of linear layers in blocks, beside an adapter"""
    widest: float = 0.0
    """number of those of the largest such layer"""
    peaks: tuple[float, float] | None = None
    """peak over a pass, with everything kept and with blocks recomputed, where both were counted"""

    def activations(self, recompute: bool) -> float:
        """Peak over a pass: what is kept, and the gradients of the widest layer on their way back."""
        if self.peaks:
            return self.peaks[recompute]
        saved = self.outside + self.entering + self.block if recompute else self.saved
        return saved + 2 * self.largest


@lru_cache(maxsize=64)  # a plan asks again for every number of cards and stage
def footprint(cfg: MMDiTConfig, lora: Lora, micro: Pass, bf16: bool) -> Footprint:
    """Counts for a network of any depth."""
    if cfg.num_layers <= 3:
        return trace(cfg, lora, micro, bf16)
    two, three = (trace(replace(cfg, num_layers=n), lora, micro, bf16) for n in (2, 3))
    line = [b + (b - a) * (cfg.num_layers - 3) for a, b in zip(astuple(two)[:-1], astuple(three)[:-1], strict=True)]
    return replace(
        Footprint(*line), largest=three.largest, widest=three.widest, block=three.saved - two.saved, outside=two.outside
    )


def trace(cfg: MMDiTConfig, lora: Lora, micro: Pass, bf16: bool) -> Footprint:
    """Counts for a network as deep as `cfg` says, by running it without memory.

    Tokens of condition images are counted as such of a larger image: they go through the same layers, all but the last.
    """
    micro = replace(micro, grid=(micro.grid[0] * (1 + micro.images), micro.grid[1]), images=0)
    with torch.device("meta"), FlashAttention():
        with storing(torch.bfloat16 if bf16 else torch.float32):
            network = MMDiT(cfg)
            if lora.rank:
                add_adapter(network, lora)
        products = Products()
        products.watch(network, "transformer_blocks.")
        entering: dict[int, Any] = {}
        for block in network.transformer_blocks:
            block.register_forward_pre_hook(lambda _, x: hold(entering, x[0], x[1]))
        B, S = micro.samples, micro.grid[0] * micro.grid[1]
        attention = cfg.num_layers * 4.0 * cfg.width * B * micro.tokens**2  # q k^T and p v
        inputs = (
            torch.randn(B, S, cfg.in_channels),
            torch.rand(B),
            torch.randn(B, micro.text, cfg.joint_attention_dim),
        )

        def loss() -> None:
            v = network(*inputs, None, [micro.grid] * B)
            (v - torch.zeros_like(v)).square().mean()

        inside = saved_by(loss, network)
        network.recompute = True
        entering.clear()
        again = saved_by(loss, network)
    saved = float(sum(inside.values()))
    return Footprint(
        saved=saved,
        # torch's checkpoint keeps what enters a block through the same hooks as layers do
        outside=float(sum(size for index, size in again.items() if index not in entering)),
        entering=float(sum(storage.nbytes() for storage in entering.values())),
        forward=products.forward / 2 + attention,
        in_blocks=products.in_blocks / 2 + attention,
        backward=products.backward / 2 + 2 * attention,
        largest=float(max(inside.values())),
        block=saved / cfg.num_layers,
        **numbers_of(network, lora),
    )


def numbers_of(network: nn.Module, lora: Lora) -> dict[str, float]:
    """Counts of the numbers in a network, by the fields of `Footprint`."""
    named = [(name, p.numel(), p.requires_grad, is_muon_weight(name, p)) for name, p in network.named_parameters()]
    adapted: Any = (network.get_submodule(name) for name in linear_layers(network)) if lora.rank else ()
    layers = [layer.weight.numel() for layer in adapted if not layer.weight.requires_grad] or [0]
    return {
        "parameters": sum(n for _, n, _, _ in named) + sum(buffer.numel() for buffer in network.buffers()),
        "trained": sum(n for _, n, learns, _ in named if learns),
        "muon": sum(n for _, n, learns, muon in named if learns and muon),
        "frozen": float(sum(layers)),
        "widest": float(max(layers)),
    }


class FlashAttention(TorchFunctionMode):
    """Makes torch take the fused attention of real devices; a device without memory would write out all products."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args)[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def storing(dtype: torch.dtype) -> Iterator[None]:
    """New weights have this type inside."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def hold(held: dict[int, Any], *tensors: Tensor) -> None:
    """Collect storages by their address; held, so that it is not given to another."""
    for tensor in tensors:
        storage = tensor.untyped_storage()
        held[storage._cdata] = storage


def saved_by(
    loss: Callable[[], object], network: nn.Module, note: Callable[[int, int], None] = lambda index, size: None
) -> dict[int, int]:
    """Bytes of every storage that autograd keeps for a loss, without those of the network itself; `note` sees each."""
    own = {p.untyped_storage()._cdata for p in (*network.parameters(), *network.buffers())}
    saved: dict[int, Any] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in own:
            hold(saved, x)
            note(storage._cdata, storage.nbytes())
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss()
    return {index: storage.nbytes() for index, storage in saved.items()}


class Products:
    """FLOPs of linear layers, counted whenever one is called; 2 for a multiplication and an addition."""

    def __init__(self) -> None:
        self.forward = self.in_blocks = self.backward = 0.0

    def watch(self, network: nn.Module, blocks: str | tuple[str, ...]) -> None:
        """Count what the layers of a network multiply from now on; names of those in blocks begin with `blocks`."""
        for name, module in network.named_modules():
            if isinstance(module, nn.Linear):
                inside = name.startswith(blocks)
                module.register_forward_pre_hook(lambda layer, x, inside=inside: self._called(layer, x, inside))

    def _called(self, layer: nn.Linear, inputs: tuple[Tensor, ...], inside: bool) -> None:
        products = 2.0 * inputs[0].numel() * layer.out_features
        self.forward += products
        self.in_blocks += products * inside
        self.backward += products * (inputs[0].requires_grad + layer.weight.requires_grad)
