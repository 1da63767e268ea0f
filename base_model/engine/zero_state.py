"""Weights and optimizer state that ZeRO has cut into slices, whole again and by the module's names.

Slices fit one number of processes. A checkpoint holds whole tensors instead: each is gathered, written and dropped
before the next, and in loading each process keeps its own slice of it. So any number of processes, at any stage that
cuts, goes on from it (DeepSpeed calls the idea a universal checkpoint: Lian et al., arXiv:2406.18820).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from base_model.engine.broadcasting import of_rank_0, read_on_all
from base_model.engine.engine_files import MODULE_FILE, like, require_same_tensors, shapes, write_one_by_one

MOMENTS_FILE = "optimizer.safetensors"
"""AdamW's state: "step", and every moment of every trained weight as "MOMENT.NAME" """
MOMENTS = ("exp_avg", "exp_avg_sq")
STEP = "step"


class ZeroState:
    """What DeepSpeed trains at one of the stages 1 to 3. All processes call every method together."""

    def __init__(self, wrapper: Any, module: nn.Module, stage: int, shape_of: Mapping[str, tuple[int, ...]]) -> None:
        """`wrapper` is DeepSpeed's, around `module`; `shape_of` are the whole tensors that a checkpoint keeps."""
        self._wrapper, self._stage, self._shape_of = wrapper, stage, shape_of
        self._device = torch.device(wrapper.device)
        parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
        self._trained = {name: p for name, p in parameters.items() if p.requires_grad}
        self._frozen = {name: p for name, p in parameters.items() if name in shape_of and not p.requires_grad}
        self._buffers = {name: buffer for name, buffer in buffers.items() if name in shape_of}

    def save(self, folder: Path, writes: bool) -> dict[str, str]:
        """Write `MODULE_FILE`, trained weights in float32, and `MOMENTS_FILE`, in the one process that `writes`.

        Returns their SHA-256 by name; "" where nothing was written.
        """
        self._make_moments()
        weights = write_one_by_one(folder / MODULE_FILE, self._weights_layout(), self._weight, writes)
        moments = write_one_by_one(folder / MOMENTS_FILE, self._moments_layout(), self._moment, writes)
        return {MODULE_FILE: weights, MOMENTS_FILE: moments}

    def master(self, name: str) -> Tensor:
        """The float32 master of a trained weight: whole, or at stage 3 this process's slice of it."""
        import deepspeed

        if self._stage == 3:
            master = deepspeed.utils.safe_get_local_fp32_param(self._trained[name])
            return master.view_as(stored(self._trained[name]))
        return deepspeed.utils.safe_get_full_fp32_param(self._trained[name])

    def require_fitting(self, folder: Path) -> None:
        """Raises ValueError when a checkpoint holds other tensors."""
        require_same_tensors(folder / MODULE_FILE, self._shape_of)
        require_same_tensors(folder / MOMENTS_FILE, shapes(self._moments_layout()))

    def start_from(self, weights: Mapping[str, Tensor], names: Iterable[str]) -> None:
        """Give the masters of `names` the digits that `weights` of rank 0 hold; the others bring none.

        DeepSpeed makes masters of the 16-bit weights that the network computes with.
        """
        for name in names:
            tensor = of_rank_0(weights.get(name), like(self._shape_of[name]), self._device)
            self._set_sliced(self._trained[name], tensor)

    def load(self, folder: Path) -> None:
        """Take this process's slices from what `save` wrote, which rank 0 reads."""
        self._make_moments()
        for name, tensor in read_on_all(folder / MODULE_FILE, self._device):
            if name in self._buffers:
                self._buffers[name].copy_(tensor)
            elif name in self._frozen:
                self._set_weight(self._frozen[name], tensor)
            else:
                self._set_weight(self._trained[name], tensor)
                self._set_sliced(self._trained[name], tensor)
        for name, tensor in read_on_all(folder / MOMENTS_FILE, self._device):
            if name == STEP:
                for flat in self._flats():
                    self._states[flat][STEP].copy_(tensor)
            else:
                moment, name = name.split(".", 1)
                self._set_sliced(self._trained[name], tensor, moment)

    def _weights_layout(self) -> dict[str, Tensor]:
        dtypes = dict.fromkeys(self._trained, torch.float32)
        dtypes |= {name: x.dtype for name, x in (self._frozen | self._buffers).items()}
        return {name: like(shape, dtypes[name]) for name, shape in self._shape_of.items()}

    def _moments_layout(self) -> dict[str, Tensor]:
        whole = {f"{moment}.{name}": like(self._shape_of[name]) for name in self._trained for moment in MOMENTS}
        return {STEP: like(()), **whole}

    def _weight(self, name: str) -> Tensor:
        """Of a trained weight the float32 master, whether the network computes with it or with a 16-bit copy."""
        import deepspeed

        if name in self._buffers:
            return self._buffers[name]
        if name in self._trained:
            return deepspeed.utils.safe_get_full_fp32_param(self._trained[name])
        frozen = self._frozen[name]
        with deepspeed.zero.GatheredParameters([frozen], enabled=self._stage == 3):
            return frozen.detach().clone()

    def _moment(self, name: str) -> Tensor:
        from deepspeed.utils import safe_get_full_optimizer_state

        if name == STEP:
            (step,) = {float(self._states[flat][STEP]) for flat in self._flats()}  # ZeRO steps with all or with none
            return torch.tensor(step)
        moment, name = name.split(".", 1)
        return safe_get_full_optimizer_state(self._trained[name], moment)

    @torch.no_grad()
    def _set_weight(self, parameter: nn.Parameter, tensor: Tensor) -> None:
        """What the network computes with."""
        if self._stage == 3:
            mine = stored(parameter)
            mine.copy_(cut(tensor, mine))
        else:
            parameter.copy_(tensor)

    def _set_sliced(self, parameter: nn.Parameter, tensor: Tensor, moment: str | None = None) -> None:
        """The optimizer's float32 master, or a moment of it."""
        from deepspeed import utils

        if self._stage == 3:  # slice by slice: DeepSpeed's setters of whole tensors do not know of the padding
            mine = cut(tensor, stored(parameter))
            if moment is None:
                utils.safe_set_local_fp32_param(parameter, mine)
            else:
                utils.safe_set_local_optimizer_state(parameter, mine, moment)
        elif moment is None:
            utils.safe_set_full_fp32_param(parameter, tensor)
        else:
            utils.safe_set_full_optimizer_state(parameter, tensor, moment)

    @property
    def _states(self) -> Any:
        return self._wrapper.optimizer.optimizer.state

    def _flats(self) -> list[Tensor]:
        """The float32 tensors that AdamW steps on in this process, each made of slices of many weights."""
        zero = self._wrapper.optimizer
        if self._stage == 3:
            return list(zero.fp32_partitioned_groups_flat)
        return [flat for group in zero.optimizer.param_groups for flat in group["params"]]

    def _make_moments(self) -> None:
        """AdamW makes its state in its first step; before that it is all zeros, and can be saved and loaded as such."""
        for flat in self._flats():
            if not self._states[flat]:
                zeros = {moment: torch.zeros_like(flat) for moment in MOMENTS}
                self._states[flat] = {STEP: torch.zeros((), device=flat.device), **zeros}
        if self._stage < 3:
            # DeepSpeed finds moments by parameter only once linked, and links when just the first group has stepped
            zero = self._wrapper.optimizer
            zero._hp_optimizer_states_linked = False
            zero._lazy_init_hp_params_optimizer_state()


def stored(parameter: nn.Parameter) -> Tensor:
    """What this process stores of a parameter under ZeRO-3."""
    return parameter.ds_tensor.data  # type: ignore[attr-defined]


def cut(tensor: Tensor, part: Tensor) -> Tensor:
    """This process's slice of a whole tensor, padded as ZeRO-3 pads it: flat, equal lengths, zeros at the end."""
    start = torch.distributed.get_rank() * part.numel()
    mine = tensor.flatten()[start : start + part.numel()]
    return nn.functional.pad(mine, (0, part.numel() - mine.numel())).view_as(part)
