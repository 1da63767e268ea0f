"""Weights in safetensors files, one or many with an index, read and written one tensor at a time.

Reading fills a module that was built on the meta device, so the most memory ever used is the module and one tensor:
two copies of 20 billion parameters would not fit where one does. Nothing is read before every file has opened and all
names and shapes are known to fit.

A component's folder holds STEM.safetensors, or STEM-00001-of-0000N.safetensors with STEM.safetensors.index.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

STEM = "diffusion_pytorch_model"
MAX_SHARD = 10 * 10**9
"""bytes of a shard, as diffusers writes them"""

KINDS = ("F64", "F32", "BF16", "F16")
"""Types of weights that are read, as safetensors calls them."""

Translate = Callable[[str, Tensor], Tensor | None]
"""(released name, released tensor) -> ours, or None when the module has no use for it"""


def weight_map(folder: Path, stem: str = STEM) -> dict[str, str]:
    """The file of every tensor, as the index has it; {} without one. Raises ValueError when it is damaged."""
    index = folder / f"{stem}.safetensors.index.json"
    if not index.exists():
        return {}
    try:
        by_key: dict[str, str] = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        if not by_key or not all(isinstance(file, str) and file == Path(file).name for file in by_key.values()):
            raise ValueError("weight_map must name a file of this folder for every tensor")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{index} is damaged ({error!r}); fetch it again") from error
    return by_key


def weight_files(folder: Path, stem: str = STEM) -> list[Path]:
    """The weight files of a component. Raises ValueError naming the one that is missing."""
    names = sorted(set(weight_map(folder, stem).values())) or [f"{stem}.safetensors"]
    if lost := [name for name in names if not (folder / name).is_file()]:
        raise ValueError(
            f"{folder} lacks {', '.join(lost)}, {len(lost)} of its {len(names)} weight files; fetch it again"
        )
    return [folder / name for name in names]


@dataclass(frozen=True)
class Shards:
    """Open weight files, and which of them holds what."""

    readers: Mapping[str, Any]
    """the open file of every tensor"""

    def get(self, name: str) -> Tensor:
        """Reads one tensor."""
        return self.readers[name].get_tensor(name)

    def kind(self, name: str) -> str:
        """The type in which it is stored, as safetensors calls it."""
        return str(self.readers[name].get_slice(name).get_dtype())

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns a tensor's shape without reading it."""
        return tuple(self.readers[name].get_slice(name).get_shape())


def open_shards(folder: Path, stack: ExitStack, stem: str = STEM) -> Shards:
    """Open a component's files until `stack` closes; a tensor that is in two is read from the one that the index names.

    Raises ValueError as `weight_files`, or naming a file that is cut short or damaged, or lacks one of its tensors.
    """
    index: dict[str, Any] = {}
    named = weight_map(folder, stem)
    for path in weight_files(folder, stem):
        try:
            file = stack.enter_context(safe_open(path, framework="pt"))
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"{path} ({path.stat().st_size:,} bytes) is cut short or damaged: {error}; fetch this file again"
            ) from error
        there = list(file.keys())
        if lost := sorted({name for name, own in named.items() if own == path.name}.difference(there)):
            raise ValueError(f"{path} lacks {lost[0]}, which the index beside it says is there; fetch it again")
        index.update({name: file for name in there if named.get(name, path.name) == path.name})
    return Shards(index)


def read_all(folder: Path, stem: str = STEM) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a component. Raises ValueError as `weight_files` and `open_shards`."""
    with ExitStack() as stack:
        shards = open_shards(folder, stack, stem)
        for name in shards.readers:
            yield name, shards.get(name)


@torch.no_grad()
def load_into(
    module: nn.Module,
    folder: Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    translate: Translate = lambda _, tensor: tensor,
    explain: Callable[[list[str], list[str]], str] | None = None,
) -> None:
    """Give the module the component's weights, on `device`, in `dtype` (None: as they are stored).

    Parameters on the meta device come into being here; others are overwritten. `explain` says what missing and
    unexpected names usually mean. Raises ValueError, with the module as it was, when files, names or types do not fit;
    and when a weight is not finite.
    """
    with ExitStack() as stack:
        shards = open_shards(folder, stack)
        check_fit(module, shards, folder, translate, explain)
        for name, parameter in list(module.named_parameters()):
            value = translate(name, shards.get(name))
            assert value is not None
            if not is_finite(value):
                raise ValueError(f"{folder}: {name} holds numbers that are not finite; fetch the checkpoint again")
            if parameter.is_meta:
                fresh = torch.empty(value.shape, dtype=dtype or value.dtype, device=device)
                parent, _, leaf = name.rpartition(".")
                holder = module.get_submodule(parent)
                setattr(holder, leaf, nn.Parameter(fresh.copy_(value), requires_grad=parameter.requires_grad))
            else:
                parameter.copy_(value)


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are; a piece at a time, because torch makes copies of what it is asked about."""
    return all(bool(torch.isfinite(piece).all()) for piece in tensor.flatten().split(2**18))


def check_fit(
    module: nn.Module,
    shards: Shards,
    folder: Path,
    translate: Translate,
    explain: Callable[[list[str], list[str]], str] | None,
) -> None:
    """Raises ValueError when the files do not hold exactly the module's parameters, in floating point."""
    own = {name: tuple(p.shape) for name, p in module.named_parameters()}
    seen = {name: translate(name, torch.empty(shards.shape(name), device="meta")) for name in shards.readers}
    table = {name: tuple(value.shape) for name, value in seen.items() if value is not None}
    missing, unexpected = sorted(own.keys() - table.keys()), sorted(table.keys() - own.keys())
    if missing or unexpected:
        listed = "; ".join(
            f"{len(names)} {what}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            for what, names in (("missing", missing), ("unexpected", unexpected))
            if names
        )
        meaning = explain(missing, unexpected) if explain else ""
        raise ValueError(f"the weights in {folder} do not fit its config.json ({listed}). {meaning}".strip())
    for name, shape in own.items():
        if shards.kind(name) not in KINDS:
            raise ValueError(
                f"{folder}: {name} is stored as {shards.kind(name)}: these are quantised weights, which are not "
                "supported; take the bfloat16 checkpoint"
            )
        if table[name] != shape:
            raise ValueError(
                f"{folder}: {name} has shape {table[name]}, but config.json asks for {shape}: config.json and weights "
                "are not of one checkpoint"
            )


def write_shards(tensors: Mapping[str, Tensor], folder: Path, stem: str = STEM, most: int = MAX_SHARD) -> list[Path]:
    """Write a component's weights as diffusers lays them out; the files. `folder` must exist and be the caller's."""
    from huggingface_hub import split_torch_state_dict_into_shards

    plan = split_torch_state_dict_into_shards(
        dict(tensors), filename_pattern=f"{stem}{{suffix}}.safetensors", max_shard_size=most
    )
    for file, names in plan.filename_to_tensors.items():
        save_file({n: tensors[n].detach().cpu().contiguous() for n in names}, folder / file, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / f"{stem}.safetensors.index.json").write_text(text, encoding="utf-8")
    return [folder / file for file in plan.filename_to_tensors]
