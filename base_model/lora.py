"""Low-rank adapters (Hu et al., arXiv:2106.09685) on the MMDiT, through peft.

    (L1)  y = W x + b + (alpha / rank) B A x,   A [rank, in] Gaussian at first, B [out, rank] zero; only A and B learn

`add_adapter` puts them into a network in place and freezes the rest. The network as it was is one switch away
(`adapter_off`), so alignment's reference needs no copy of 20 billion weights. Names of adapter weights are those of
diffusers' LoRA files: `transformer_blocks.0.attn.to_q.lora_A.weight`, in a file behind the prefix `transformer.`, with
the settings as JSON in its header.

Layers that the network never computes (`mmdit.py`: dead) get no adapter: it would learn nothing. Merging computes
W + (alpha / rank) B A in float32 and rounds once.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from base_model.files.lora_files import HEADER, PREFIX, Translate, as_they_are, read_factors
from base_model.frozen_linear import require_full_weights

ATTENTION = (
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out",
)  # fmt: skip
"""Every linear map of the joint attention, both streams."""
NAME, START = "default", "start"
"""what peft calls the adapter that learns, and a frozen copy of it as it was when a stage began"""


@dataclass(frozen=True)
class Lora:
    """Settings of a low-rank adapter."""

    rank: int = 0
    """inner dimension of (L1); 0 = no adapter, all weights learn"""
    alpha: float = 64.0
    """strength of (L1), relative to the rank"""
    targets: tuple[str, ...] = ATTENTION
    """ends of the names of the linear layers that get one, e.g. img_mlp.net.2"""

    def __post_init__(self) -> None:
        if self.rank < 0 or not 0 < self.alpha < float("inf") or not self.targets:
            raise ValueError(
                f"Lora(rank={self.rank}, alpha={self.alpha}, targets={self.targets}): rank must be at least 0 (0 = no "
                "adapter), alpha finite and > 0, and targets must name at least one layer"
            )


def adapted_layers(network: nn.Module, targets: Sequence[str] = ATTENTION) -> list[str]:
    """Names of the linear layers that an adapter goes to: inside blocks, read by something, ending in one of `targets`.

    Raises ValueError for a target that no such layer answers to.
    """
    alive = [name for name in linear_layers(network) if not is_dead(network, name)]
    if lost := [end for end in targets if not any(name.endswith(f".{end}") for name in alive)]:
        ends = sorted({name.split(".", 2)[2] for name in alive})
        raise ValueError(f"no layer of the network ends in {lost}; LoRA can go to {', '.join(ends)}")
    return [name for name in alive if any(name.endswith(f".{end}") for end in targets)]


def block_lists(network: nn.Module) -> tuple[str, ...]:
    """Beginnings of the names of what is inside blocks: `transformer_blocks.`, `single_transformer_blocks.`, ..."""
    return tuple(f"{name}." for name, child in network.named_children() if isinstance(child, nn.ModuleList))


def linear_layers(network: nn.Module) -> list[str]:
    """Names of all linear layers inside blocks."""
    inside = block_lists(network)
    return [n for n, module in network.named_modules() if isinstance(module, nn.Linear) and n.startswith(inside)]


def is_dead(network: nn.Module, name: str) -> bool:
    """Whether nothing reads this part of the network, so that nothing in it can learn: see `mark_dead`."""
    return name.startswith(getattr(network, "dead_parts", ()))


def mark_dead(network: Any, parts: Sequence[str]) -> None:
    """Say which parts of the last of the `transformer_blocks` nothing reads, and freeze them."""
    network.dead_parts = tuple(f"transformer_blocks.{len(network.transformer_blocks) - 1}.{part}" for part in parts)
    for name, p in network.named_parameters():
        if is_dead(network, name):
            p.requires_grad_(False)


def add_adapter(network: nn.Module, lora: Lora, seed: int = 0) -> None:
    """Give the layers adapters that change nothing yet, and freeze all else; the same ones for the same seed.

    Raises ValueError when the network has adapters already, or for a target that is not there.
    """
    require_no_adapter(network)
    inject(network, lora.rank, lora.alpha, adapted_layers(network, lora.targets), seed)


def inject(network: nn.Module, rank: int, alpha: float, layers: Sequence[str], seed: int = 0) -> None:
    """Adapters at exactly these layers. Dead layers' exist for the sake of files that have them, and are frozen."""
    from peft import LoraConfig, inject_adapter_in_model

    if rank < 1:
        raise ValueError(f"an adapter of rank {rank} would learn nothing: set rank to 1 or more")
    require_layers(network, layers)
    settings = LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=list(layers))  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(settings, network, NAME)
    for name, p in network.named_parameters():
        p.requires_grad_(f".{NAME}." in name and not is_dead(network, name))


def require_no_adapter(network: nn.Module) -> None:
    """Raises ValueError when there is one: a second would change what the first one's weights mean."""
    if has_adapter(network):
        raise ValueError("the network has an adapter already: merge it first, or go on training that one")


def has_adapter(network: nn.Module) -> bool:
    return any(".lora_A." in name for name, _ in network.named_parameters())


def adapter_layers(network: nn.Module) -> dict[str, Any]:
    """peft's layers by the name of the linear layer that they stand for."""
    return {name: module for name, module in network.named_modules() if hasattr(module, "lora_A")}


@contextlib.contextmanager
def adapter_off(network: nn.Module) -> Iterator[None]:
    """Inside, the network answers as it did before `add_adapter`. Can be nested."""
    layers = [layer for layer in adapter_layers(network).values() if not layer.disable_adapters]
    learning = [p for layer in layers for p in layer.parameters() if p.requires_grad]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
            layer.requires_grad_(False)
        for p in learning:
            p.requires_grad_(True)


def keep_adapter(network: nn.Module) -> None:
    """Keep a frozen copy of the adapter as it is now, for `adapter_as_kept`; a copy kept before is replaced."""
    from peft import LoraConfig, inject_adapter_in_model

    layers = adapter_layers(network)
    lora = adapter_settings(network)
    if not any(START in layer.lora_A for layer in layers.values()):
        settings = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(layers))  # type: ignore[arg-type]
        learning = {name for name, p in network.named_parameters() if p.requires_grad}
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # the second one is meant
            inject_adapter_in_model(settings, network, START)
        for name, p in network.named_parameters():
            p.requires_grad_(name in learning)
    for layer in layers.values():
        layer._active_adapter = [NAME]
        for part in (layer.lora_A, layer.lora_B):
            part[START].to(part[NAME].weight.device, part[NAME].weight.dtype)
            part[START].load_state_dict(part[NAME].state_dict())


@contextlib.contextmanager
def with_reference_adapter(network: nn.Module) -> Iterator[None]:
    """Inside, the network answers as it did at `keep_adapter`. Can be nested."""
    layers = list(adapter_layers(network).values())
    before = [layer._active_adapter for layer in layers]
    try:
        for layer in layers:  # peft's own setter would also change what learns
            layer._active_adapter = [START]
        yield
    finally:
        for layer, active in zip(layers, before, strict=True):
            layer._active_adapter = active


def has_reference_adapter(network: nn.Module) -> bool:
    """Whether `keep_adapter` has been called."""
    return any(START in layer.lora_A for layer in adapter_layers(network).values())


def adapter_settings(network: nn.Module) -> Lora:
    """What `add_adapter` was given, its targets sorted. Raises ValueError when there is no adapter."""
    layers = adapter_layers(network)
    if not layers:
        raise ValueError("the network has no adapter")
    ranks = {(layer.r[NAME], float(layer.lora_alpha[NAME])) for layer in layers.values()}
    assert len(ranks) == 1, "add_adapter gives all layers one rank"
    return Lora(*ranks.pop(), targets=tuple(sorted({name.split(".", 2)[2] for name in layers})))


def adapter_weights(network: nn.Module) -> dict[str, Tensor]:
    """The adapter's weights under diffusers' names (without the prefix of files)."""
    return {name.replace(f".{NAME}.", "."): p.detach() for name, p in network.named_parameters() if f".{NAME}." in name}


def load_adapter_weights(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill the adapter. Raises ValueError, with nothing changed, when names or shapes differ."""
    own = adapter_weights(network)
    if odd := sorted(own.keys() ^ tensors.keys()):
        raise ValueError(f"not this network's adapter: {len(odd)} names are only on one side, first {odd[:4]}")
    for name, value in own.items():
        if value.shape != tensors[name].shape:
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, this adapter {tuple(value.shape)}")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])


def load_adapter(network: nn.Module, path: Path) -> None:
    """Give the network the adapter of a LoRA file. Raises ValueError as `read_adapter`, or when it does not fit."""
    put_adapter(network, *read_adapter(path))


def put_adapter(network: nn.Module, lora: Lora, tensors: Mapping[str, Tensor]) -> None:
    """Give the network the adapter that `read_adapter` returned. Raises ValueError when it does not fit."""
    require_no_adapter(network)
    check_adapter(network, tensors)
    inject(network, lora.rank, lora.alpha, sorted({name.rsplit(".lora_", 1)[0] for name in tensors}))
    load_adapter_weights(network, tensors)


def merged_weights(network: nn.Module) -> dict[str, Tensor]:
    """The state of a network without adapters that answers as this one does; the network keeps its own.

    Raises ValueError where the network's own weights are stored in fewer bits.
    """
    require_full_weights(network, "merging the adapter")
    layers = adapter_layers(network)
    state = {
        name.replace(".base_layer.", "."): value
        for name, value in network.state_dict().items()
        if ".lora_A." not in name and ".lora_B." not in name
    }
    for name, layer in layers.items():
        weight = state[f"{name}.weight"]
        A, B = (part[NAME].weight.detach().float() for part in (layer.lora_A, layer.lora_B))
        state[f"{name}.weight"] = torch.addmm(weight.float(), B, A, alpha=layer.scaling[NAME]).to(weight.dtype)  # (L1)
    return state


def save_adapter(network: nn.Module, path: Path) -> None:
    """Write the adapter as one file that diffusers' `load_lora_weights` takes, whole or not at all."""
    lora = adapter_settings(network)
    settings = {"r": lora.rank, "lora_alpha": lora.alpha, "target_modules": sorted(adapter_layers(network))}
    header = json.dumps({PREFIX + name: value for name, value in settings.items()}, sort_keys=True)
    tensors = {PREFIX + name: value.cpu().contiguous() for name, value in adapter_weights(network).items()}
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={HEADER: header, "format": "pt"})
    partial.replace(path)


def read_adapter(path: Path, translate: Translate = as_they_are) -> tuple[Lora, dict[str, Tensor]]:
    """Settings and weights of a LoRA file, in the layout of any trainer (`lora_files`; `translate`: other names).

    Layers of one rank and alpha keep their weights as they are. Otherwise a layer's strength goes into its B, in
    float32, and smaller ranks are filled up with zeros, which change nothing and learn nothing: one rank and one alpha
    are what the network's adapter has. Raises ValueError as `read_factors`.
    """
    factors = read_factors(path, translate)
    rank = max(f.rank for f in factors.values())
    alphas = {(f.rank, f.alpha) for f in factors.values()}
    alpha = next(iter(alphas))[1] if len(alphas) == 1 else 0.0
    tensors: dict[str, Tensor] = {}
    for layer, f in factors.items():
        A, B = f.A, f.B
        if alpha <= 0:
            more = rank - f.rank
            A = torch.nn.functional.pad(A.float(), (0, 0, 0, more))
            B = torch.nn.functional.pad(B.float() * (f.alpha / f.rank), (0, more))
        tensors |= {f"{layer}.lora_A.weight": A, f"{layer}.lora_B.weight": B}
    targets = tuple(sorted({layer.split(".", 2)[2] for layer in factors}))
    return Lora(rank, alpha if alpha > 0 else float(rank), targets), tensors


def check_adapter(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError when weights of `read_adapter` do not fit the network, which may be on the meta device."""
    layers = {name.rsplit(".lora_", 1)[0] for name in tensors}
    require_layers(network, layers)
    for layer in sorted(layers):
        A, B = (tensors[f"{layer}.lora_{part}.weight"] for part in "AB")
        high, wide = network.get_submodule(layer).weight.shape  # type: ignore[misc]
        if (B.shape[0], A.shape[1]) != (high, wide):
            raise ValueError(
                f"the adapter's {layer} is for a layer of {A.shape[1]} inputs and {B.shape[0]} outputs, and this has "
                f"{wide} and {high}: it is for another checkpoint"
            )


def require_layers(network: nn.Module, layers: Collection[str]) -> None:
    """Raises ValueError when an adapter is for layers that the network does not have."""
    if lost := sorted(set(layers) - set(linear_layers(network))):
        raise ValueError(
            f"{len(lost)} of the adapter's {len(set(layers))} layers are not in the network, first "
            f"{', '.join(lost[:3])}: it was made for another checkpoint"
        )
