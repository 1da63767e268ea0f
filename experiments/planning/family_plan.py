"""What a training pass of a network of diffusers needs, counted on the meta device through the family's own call.

The network is run once as deep as it is, because its blocks need not be alike (Stable Diffusion 3.5 medium's first 13
have a second attention), and so is the autoencoder. It runs on `card.Card`, which keeps the numbers of small tensors:
some networks ask their masks. What a folder's JSON files say is enough: no weight is read. Folders of checkpoints that
recipes name are in `published/`, so that a plan needs no network.

Shapes: B samples, S latent tokens, L text tokens.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from base_model.families.encoded_prompts import conditioning
from base_model.families.family import Family
from base_model.families.known import family_of, is_known
from base_model.interface import Conditioning
from base_model.lora import Lora, add_adapter, block_lists
from base_model.qwen.model import token_grid
from experiments.planning.card import Card
from experiments.planning.dry_run import Footprint, Pass, Products, hold, numbers_of, saved_by, storing
from experiments.planning.torch_patches import opened

PUBLISHED = Path(__file__).parent / "published"


def family_behind(base: str) -> Family | None:
    """The family of a checkpoint, by its folder or by what is known of its name; None for Qwen-Image and presets."""
    published = PUBLISHED / base.rpartition("/")[2]
    if base and published.is_dir():
        return family_of(published)
    return family_of(base) if Path(base).is_dir() and base and is_known(base) else None


def grid_of(family: Family, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of latent tokens. Raises ValueError when the image does not divide into them."""
    height, width = size if any(size) else family.native
    family.require_size((height, width))
    return token_grid((height, width), family.factor * family.patch)


def text_tokens(family: Family, longest: int = 0) -> int:
    """Text tokens of a prompt of at most `longest` tokens (0: a long one); where padding is read, of any."""
    return len(family.hollow_row(longest)["text"])


@lru_cache(maxsize=16)  # a plan asks again for every number of cards and stage
def family_footprint(family: Family, rank: int, micro: Pass, bf16: bool) -> Footprint:
    """Counts for the network of a checkpoint, with an adapter where `rank` is above 0."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    counts = Counts()
    with opened(strict=False, attended=counts.attended) as card, storing(dtype):
        network = hollow(family, rank, dtype)
        forward = Forward(family, network, micro, dtype)
        peaks = [forward.peak(card)]
        network.enable_gradient_checkpointing()
        peaks.append(forward.peak(card))
        network.disable_gradient_checkpointing()
        counts.begin(network)
        whole = saved_by(forward.loss, network, counts.keep)
        flops = {
            "forward": counts.forward + counts.attention, "in_blocks": counts.in_blocks + counts.attention,
            "backward": counts.backward + 2 * counts.attention,
        }  # fmt: skip
        network.enable_gradient_checkpointing()
        counts.entering.clear()
        # what enters a block is kept by the checkpoint itself, which autograd's hooks do not see
        again = saved_by(forward.loss, network, counts.keep)
    return Footprint(
        saved=float(sum(whole.values())),
        outside=float(sum(size for index, size in again.items() if index not in counts.entering)),
        entering=float(sum(storage.nbytes() for storage in counts.entering.values())),
        largest=float(max(whole.values())),
        block=float(counts.largest_block),
        peaks=(peaks[0], peaks[1]),
        **flops,
        **numbers_of(network, Lora(rank)),
    )


def hollow(family: Family, rank: int, dtype: torch.dtype) -> nn.Module:
    """The network on the card, with an adapter where `rank` is above 0."""
    network = nn.Module.to(family.hollow_network(), "meta", dtype)  # diffusers' own warns of mixed types
    if rank:
        add_adapter(network, Lora(rank, targets=family.lora_targets))
    return network


class Counts(Products):
    """What is counted in a pass: FLOPs of linear layers and attention, and bytes that blocks keep."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = self.largest_block = 0.0
        self.entering: dict[int, Any] = {}
        """storages of what enters blocks"""
        self._in_block: dict[int, int] = {}
        self._inside = False

    def begin(self, network: nn.Module) -> None:
        """Begin with what this network does."""
        self.attention, blocks = 0.0, block_lists(network)
        self.watch(network, blocks)
        for beginning in blocks:
            for block in network.get_submodule(beginning[:-1]):  # type: ignore[union-attr]
                block.register_forward_pre_hook(self._enters, with_kwargs=True)
                block.register_forward_hook(self._leaves)

    def attended(self, query: Tensor, key: Tensor) -> None:
        """Count the products of an attention."""
        self.attention += 4.0 * math.prod(query.shape) * key.shape[-2]

    def keep(self, index: int, size: int) -> None:
        """Note that autograd keeps a storage."""
        if self._inside:
            self._in_block[index] = size

    def _enters(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.ndim > 2]
        hold(self.entering, *tensors)
        self._in_block, self._inside = {}, True

    def _leaves(self, *_: Any) -> None:
        self.largest_block = max(self.largest_block, sum(self._in_block.values()))
        self._inside = False


class Forward:
    """A forward pass without numbers."""

    def __init__(self, family: Family, network: nn.Module, micro: Pass, dtype: torch.dtype) -> None:
        self.family, self.network, self.micro = family, network, micro
        B, (rows, columns) = micro.samples, micro.grid
        row = self.family.hollow_row(micro.text)
        self.x = torch.empty(B, rows * columns, self.family.channels, dtype=dtype, device="meta")
        shown = micro.conditions(self.family.channels, dtype)
        self.cond: Conditioning = conditioning([row] * B, self.micro.grid, dtype, torch.device("meta"), *shown)
        if self.family.guidance_embedded is not None:
            self.cond = self.cond.telling(self.family.guidance_embedded)

    def velocity(self) -> Tensor:
        """A velocity for every sample."""
        sigma_B = torch.rand(self.micro.samples, device="meta")
        return self.family.velocity(self.network, self.x, sigma_B, self.cond)

    def loss(self) -> Tensor:
        """A loss of them."""
        v = self.velocity()
        return (v.float() - torch.zeros_like(v)).square().mean()

    def peak(self, card: Card) -> float:
        """Most bytes that a forward and a backward pass hold, without the weights' gradients."""
        learns = [p for p in self.network.parameters() if p.requires_grad]
        hooks = [p.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None)) for p in learns]
        before = card.now
        card.peaks["pass"] = 0
        with card.phase("pass"):
            self.loss().backward()
        for hook in hooks:
            hook.remove()
        return float(card.peaks["pass"] - before)
