"""Trading time for memory: 16-bit weights beside float32 masters, optimizer state in host memory, recomputation.

In bfloat16 a weight of 1 cannot move by less than 1/256, so updates of a usual size are rounded away: 16-bit weights
alone forget most of what they are taught. Here the network computes with 16-bit weights, because memory.bf16 asks for
it or because a released checkpoint stores them so, and the optimizer moves float32 masters of them:

    (W1)  g_master += float32(g)           after every backward pass; the 16-bit gradient is dropped at once
    (W2)  optimizer step on the masters, (U2) to (U4) of base_model/engine/engine.py
    (W3)  w = master, rounded to the type of w

With masters, gradients and optimizer state in host memory (Ren et al., ZeRO-Offload, arXiv:2101.06840) the device keeps
16-bit weights and, for a moment, one gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from base_model.frozen_linear import BaseStorage


@dataclass(frozen=True)
class Memory:
    """What is traded for memory."""

    bf16: bool = False
    """weights and activations in bfloat16, beside float32 master weights that the optimizer moves"""
    offload: bool = False
    """masters, accumulated gradients and optimizer state in host memory; the optimizer steps there"""
    recompute: bool = False
    """keep what enters each block and compute the rest again in the backward pass (Chen et al., arXiv:1604.06174)"""
    base_bits: Literal[0, 4, 8] = 0
    """bits a weight of the frozen base beside an adapter: 8, 4 (Dettmers et al., arXiv:2305.14314), 0 = as it is"""
    base_on_host: bool = False
    """the frozen base beside an adapter in host memory; each layer goes to the card when it is needed"""

    @property
    def base_storage(self) -> BaseStorage:
        """How the layers of the frozen base are stored."""
        return BaseStorage(self.base_bits, self.base_on_host)


def trains_16_bits(module: nn.Module) -> bool:
    """Whether some weight that is trained is stored in less than float32, as those of released checkpoints are."""
    return any(p.requires_grad and p.dtype.itemsize < 4 for p in module.parameters())


def rounded_in_bf16(module: nn.Module) -> list[str]:
    """Names of the weights that are trained and lose digits when the network becomes bfloat16."""
    return [name for name, p in module.named_parameters() if p.requires_grad and p.dtype != torch.bfloat16]


def in_float32(module: nn.Module, names: Sequence[str]) -> dict[str, Tensor]:
    """Those parameters in float32 and host memory, also after the module has got other tensors in their place."""
    parameters = dict(module.named_parameters())
    return {name: parameters[name].detach().to("cpu", torch.float32) for name in names}


class Masters:
    """float32 copies of what a module trains; gradients gather in them."""

    def __init__(self, module: nn.Module, device: torch.device, bf16: bool) -> None:
        """Masters live on `device`. With `bf16` all parameters of `module` become bfloat16, frozen ones too."""
        self._trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.weights = {
            name: nn.Parameter(p.detach().to(device, torch.float32, copy=True)) for name, p in self._trained.items()
        }
        """by the module's names"""
        if bf16:
            for p in module.parameters():
                p.data = p.data.to(torch.bfloat16)
        for name, p in self._trained.items():
            p.register_post_accumulate_grad_hook(lambda p, master=self.weights[name]: collect(p, master))
        self.publish()

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Masters from saved ones, by name."""
        for name, master in self.weights.items():
            master.copy_(tensors[name])
        self.publish()

    @torch.no_grad()
    def publish(self) -> None:
        """(W3)"""
        for name, p in self._trained.items():
            p.copy_(self.weights[name])


def collect(p: nn.Parameter, master: nn.Parameter) -> None:
    """(W1)"""
    assert p.grad is not None
    grad = p.grad.to(master.device, torch.float32)
    if master.grad is None:
        # a copy: without a change of type or place `grad` is the network's own
        master.grad = grad.clone() if grad is p.grad else grad
    else:
        master.grad += grad
    p.grad = None
