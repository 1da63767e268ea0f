"""What a training pass of a network of diffusers needs, counted on the meta device through the family's own call.

The network is run once as deep as it is, because its blocks need not be alike (Stable Diffusion 3.5 medium's first 13
have a second attention). What a folder's JSON files say is enough: no weight is read. Folders of checkpoints that
recipes name are in `published/`, so that a plan needs no network.

Shapes: B samples, S latent tokens, L text tokens.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from base_model.engine.muon import is_muon_weight
from base_model.families.encoded_prompts import conditioning
from base_model.families.family import Family
from base_model.families.known import family_of, is_known
from base_model.families.open_checkpoint import plain_weights
from base_model.interface import Conditioning
from base_model.lora import Lora, add_adapter, block_lists
from experiments.experiment import Experiment
from experiments.planning.dry_run import Footprint, Pass, frozen_layers, hold, storing
from experiments.planning.estimate import GB, Extras

PUBLISHED = Path(__file__).parent / "published"
FORWARD = 12.0
"""activations of a forward pass without gradients that are alive at once, in widths of a token"""
DECODE = 4200.0
"""bytes of float32 activations that diffusers' decoder holds at once for a pixel; images are decoded one by one"""


def family_behind(base: str) -> Family | None:
    """The family of a checkpoint, by its folder or by what is known of its name; None for Qwen-Image and presets."""
    published = PUBLISHED / base.rpartition("/")[2]
    if base and published.is_dir():
        return family_of(published)
    return family_of(base) if Path(base).is_dir() and base and is_known(base) else None


def grid_of(family: Family, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of latent tokens. Raises ValueError when the image does not divide into them."""
    height, width = size if any(size) else family.native
    side = family.factor * family.patch
    if height < side or width < side or height % side or width % side:
        raise ValueError(f"an image of {height}x{width} does not divide into tokens of {side} pixels a side")
    return height // side, width // side


def text_tokens(family: Family) -> int:
    """Text tokens of a long prompt."""
    return len(family.hollow_row()["text"])


@lru_cache(maxsize=16)  # a plan asks again for every number of cards and stage
def family_footprint(family: Family, rank: int, micro: Pass, bf16: bool) -> Footprint:
    """Counts for the network of a checkpoint, with an adapter where `rank` is above 0."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    with torch.device("meta"), storing(dtype):
        network = nn.Module.to(family.hollow_network(), "meta", dtype)  # diffusers' own warns of mixed types
        if rank:
            add_adapter(network, Lora(rank, targets=family.lora_targets))
        layers = frozen_layers(network, Lora(rank))
        counts = Counts(network)
        with FusedAttention(counts):
            forward = Forward(family, network, micro, dtype)
            whole = forward.saved_by(counts)
            products, attention = counts.forward, counts.attention
            in_blocks, backward = counts.in_blocks, counts.backward
            network.enable_gradient_checkpointing()
            # what enters a block is kept by the checkpoint itself, which autograd's hooks do not see
            again = forward.saved_by(counts)
            entering = counts.entering()
            outside = sum(size for index, size in again.items() if index not in entering)
    named = [(name, p.numel(), p.requires_grad, is_muon_weight(name, p)) for name, p in network.named_parameters()]
    return Footprint(
        parameters=sum(n for _, n, _, _ in named) + sum(buffer.numel() for buffer in network.buffers()),
        trained=sum(n for _, n, learns, _ in named if learns),
        muon=sum(n for _, n, learns, muon in named if learns and muon),
        saved=float(sum(whole.values())),
        outside=float(outside),
        entering=float(sum(entering.values())),
        forward=products + attention,
        in_blocks=in_blocks + attention,
        backward=backward + 2 * attention,
        largest=float(max(whole.values())),
        block=float(counts.largest_block),
        frozen=float(sum(layers)),
        widest=float(max(layers)),
    )


class Counts:
    """What is counted in a pass: FLOPs of linear layers and attention, and bytes that blocks keep."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.forward = self.in_blocks = self.backward = self.attention = self.largest_block = 0.0
        self._entering: dict[int, Any] = {}
        self._in_block: dict[int, int] = {}
        self._inside = False
        blocks = block_lists(self.network)
        for name, module in self.network.named_modules():
            if isinstance(module, nn.Linear):
                inside = name.startswith(blocks)
                module.register_forward_pre_hook(lambda layer, x, inside=inside: self._called(layer, x, inside))
        for beginning in blocks:
            for block in self.network.get_submodule(beginning[:-1]):  # type: ignore[union-attr]
                block.register_forward_pre_hook(self._enters, with_kwargs=True)
                block.register_forward_hook(self._leaves)

    def reset(self) -> None:
        """Begin another pass."""
        self.forward = self.in_blocks = self.backward = self.attention = 0.0
        self._entering.clear()

    def entering(self) -> dict[int, int]:
        """Bytes of what enters blocks, by storage."""
        return {index: storage.nbytes() for index, storage in self._entering.items()}

    def keep(self, index: int, size: int) -> None:
        """Note that autograd keeps a storage."""
        if self._inside:
            self._in_block[index] = size

    def _called(self, layer: nn.Linear, inputs: tuple[Tensor, ...], inside: bool) -> None:
        products = 2.0 * inputs[0].numel() * layer.out_features
        self.forward += products
        self.in_blocks += products * inside
        self.backward += products * (inputs[0].requires_grad + layer.weight.requires_grad)

    def _enters(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.ndim > 2]
        hold(self._entering, *tensors)
        self._in_block, self._inside = {}, True

    def _leaves(self, *_: Any) -> None:
        self.largest_block = max(self.largest_block, sum(self._in_block.values()))
        self._inside = False


class Forward:
    """A forward pass without numbers."""

    def __init__(self, family: Family, network: nn.Module, micro: Pass, dtype: torch.dtype) -> None:
        self.family, self.network, self.micro = family, network, micro
        B, (rows, columns) = micro.samples, micro.grid
        row = self.family.hollow_row()
        self.x = torch.randn(B, rows * columns, self.family.channels, dtype=dtype)
        self.cond: Conditioning = conditioning([row] * B, self.micro.grid, dtype, torch.device("meta"))
        if self.family.guidance_embedded is not None:
            self.cond = self.cond.telling(self.family.guidance_embedded)

    def saved_by(self, counts: Counts) -> Mapping[int, int]:
        """Bytes of every storage that autograd keeps, without the network's own."""
        own = {p.untyped_storage()._cdata for p in (*self.network.parameters(), *self.network.buffers())}
        saved: dict[int, Any] = {}
        counts.reset()

        def keep(x: Tensor) -> Tensor:
            storage = x.untyped_storage()
            if storage._cdata not in own:
                hold(saved, x)
                counts.keep(storage._cdata, storage.nbytes())
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            v = self.family.velocity(self.network, self.x, torch.rand(self.micro.samples), self.cond)
            (v.float() - torch.zeros_like(v)).square().mean()
        return MappingProxyType({index: storage.nbytes() for index, storage in saved.items()})


class FusedAttention(TorchFunctionMode):
    """Makes torch take the fused attention of real devices, which keeps no scores, and counts its products."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        named = dict(zip(("query", "key", "value"), args[:3], strict=False)) | kwargs
        q, k, v = (named[name] for name in ("query", "key", "value"))
        if k.shape[1] != q.shape[1]:  # grouped queries: the fused kernels repeat nothing, and this one would refuse
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        self.counts.attention += 4.0 * math.prod(q.shape) * k.shape[-2]
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0]


def family_extras(family: Family, experiment: Experiment | None, size: tuple[int, int]) -> Extras:
    """What a run of a checkpoint has on the card beside what learns."""
    sizes = sizes_of(family.folder)
    if experiment is None:
        return Extras(2 * sizes["vae"] / GB, sizes["text_encoders"] / GB)
    cfg: Any = experiment.algorithm
    source: Any = experiment.pairs or (cfg if cfg.learns_from == "rollouts" else None)
    rows, columns = grid_of(family, size)
    pixels = rows * columns * (family.factor * family.patch) ** 2
    sampled = 0
    if source is not None:
        two = source.sampler.guidance != 1.0 and family.guidance_embedded is None
        sampled = (cfg.micro if cfg.learns_from == "rollouts" else source.group) * (2 if two else 1)
    width = family.network_config.get("num_attention_heads", 24) * family.network_config.get("attention_head_dim", 128)
    sampling = sampled * (rows * columns + text_tokens(family)) * FORWARD * 2.0 * width / GB
    decoding = pixels * DECODE / GB
    return Extras(
        2 * sizes["vae"] / GB, sizes["text_encoders"] / GB, sampling, decoding * bool(sampled), decoding, False,
        experiment.pairs is not None,
    )  # fmt: skip


def sizes_of(folder: Path) -> dict[str, float]:
    """Bytes of the text encoders as they are stored, and of the autoencoder in 16 bits."""
    named = folder / "sizes.json"
    if named.is_file():
        return dict(json.loads(named.read_text(encoding="utf-8")))
    text = sum(file.stat().st_size for part in folder.glob("text_encoder*") for file in plain_weights(part))
    return {
        "text_encoders": float(text),
        "vae": float(sum(file.stat().st_size for file in plain_weights(folder / "vae"))),
    }
