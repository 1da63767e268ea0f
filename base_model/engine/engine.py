"""One verb trains everything: `engine.update(micros, loss)`.

    (U1)  g = mean over micro-batches and ranks of grad loss(micro)
    (U2)  g <- g min(1, clip / ||g||)              one norm over all parameters that have a gradient
    (U3)  lr_s = lr_0 w(s) d(s): warm-up, flat, then linear decay; the same share for AdamW and Muon
    (U4)  one optimizer step, then one step of the weight average

Nothing is touched unless every metric and the gradient norm are finite: else an update is skipped and says so, and
after several in a row training stops (skipped_updates.py). A parameter that got no gradient keeps its value and its
optimizer state.

Where a trained weight is stored in 16 bits the optimizer moves a float32 master of it (mixed_precision.py). Averages
and checkpoints hold what the masters hold, never its roundings.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from base_model.engine.ema import Ema
from base_model.engine.engine_files import (
    AVERAGE_FILE,
    MODULE_FILE,
    OPTIMIZER_FILE,
    frozen_checksum,
    group_names,
    read_meta,
    require_same_tensors,
    saved_state,
    shapes,
    write_meta,
    write_object,
    write_tensors,
)
from base_model.engine.mixed_precision import Masters, Memory, trains_16_bits
from base_model.engine.muon import MuonAdamW, is_muon_weight
from base_model.engine.skipped_updates import Skips

OWN_METRICS = ("grad_norm", "loss", "lr", "skipped")

Micro = TypeVar("Micro")
Loss = Callable[[Micro], tuple[Tensor, Mapping[str, "Tensor | float"]]]


@dataclass(frozen=True)
class OptimConfig:
    """Settings of the optimizers, their schedule and the weight average."""

    steps: int = 0
    """updates the schedule is laid out for; later updates stay at its end. 0 = all updates of the run"""
    muon_lr: float = 0.02
    """peak rate of Muon for matrices inside transformer blocks; 0 = AdamW for everything"""
    adamw_lr: float = 2e-3
    """peak rate of AdamW for everything else"""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay of the first and second moment"""
    eps: float = 1e-8
    """AdamW's divisor floor"""
    weight_decay: float = 0.0
    """decoupled, times the rate; matrices and kernels only, never vectors"""
    muon_momentum: float = 0.95
    """momentum of Muon, of Nesterov's kind"""
    muon_bf16: bool = False
    """orthogonalise in bfloat16: quicker where the processor has products of it (muon.py)"""
    clip: float = 1.0
    """largest norm of the whole gradient (U2); 0 = no clipping"""
    warmup: int = 50
    """updates of linear warm-up"""
    decay_from: float = 0.5
    """share of `steps` after which the rate falls linearly; 1 = never"""
    final_lr: float = 0.02
    """share of the peak rate at the last update; 1 = constant"""
    ema_decay: float = 0.0
    """decay of the weight average; 0 = no average"""

    def __post_init__(self) -> None:
        ranges: list[tuple[str, float, bool, str]] = [
            ("steps", self.steps, self.steps >= 0, "at least 0 (0 = all updates of the run)"),
            ("muon_lr", self.muon_lr, 0 <= self.muon_lr < math.inf, "finite and >= 0 (0 = AdamW for everything)"),
            ("adamw_lr", self.adamw_lr, 0 < self.adamw_lr < math.inf, "finite and > 0"),
            ("betas[0]", self.betas[0], 0 <= self.betas[0] < 1, "in [0, 1)"),
            ("betas[1]", self.betas[1], 0 <= self.betas[1] < 1, "in [0, 1)"),
            ("eps", self.eps, 0 < self.eps < math.inf, "finite and > 0"),
            ("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "finite and >= 0"),
            ("muon_momentum", self.muon_momentum, 0 <= self.muon_momentum < 1, "in [0, 1)"),
            ("clip", self.clip, 0 <= self.clip < math.inf, "finite and >= 0 (0 = no clipping)"),
            ("warmup", self.warmup, self.warmup >= 0, "at least 0 (0 = no warm-up)"),
            ("decay_from", self.decay_from, 0 <= self.decay_from <= 1, "a share of the run, in [0, 1]"),
            ("final_lr", self.final_lr, 0 <= self.final_lr <= 1, "a share of the peak rate, in [0, 1]"),
            ("ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "in [0, 1) (0 = no average)"),
        ]
        for name, value, good, expected in ranges:
            if not good:  # NaN fails every comparison and lands here too
                raise ValueError(f"OptimConfig.{name}={value} must be {expected}")

    def lr_share(self, update: int) -> float:
        """(U3): the share of the peak rate at an update, counted from 0. Raises ValueError without a length."""
        if not self.steps and self.decay_from < 1.0:
            raise ValueError("OptimConfig.steps=0 leaves the length of the schedule to a run; set it to use it alone")
        warm = min(1.0, (update + 1) / self.warmup) if self.warmup else 1.0
        flat = self.decay_from * self.steps
        fallen = min(1.0, max(0.0, (update + 1 - flat) / (self.steps - flat))) if flat < self.steps else 0.0
        return warm * (1.0 - fallen * (1.0 - self.final_lr))


class Engine(Protocol):
    """Training machinery, whatever it runs on. Models must call their network through `module`."""

    rank: int
    world_size: int
    device: torch.device
    module: nn.Module
    updates: int
    """updates done, also across save and load, without skipped ones; the schedule follows it"""
    rounded: bool
    """whether the module holds roundings of the weights that are trained, which a checkpoint has in full"""

    def update(self, micros: Sequence[Micro], loss: Loss[Micro]) -> dict[str, float]:
        """Minimise the mean of `loss(micro)` over micro-batches and ranks by one step (U1-U4).

        Micro-batches are weighed equally, so make them equally large. `loss` returns a scalar and metrics; the answer
        is those metrics averaged, plus "loss", "grad_norm" (before clipping), "lr" (of AdamW) and "skipped".
        When any of them is not finite on any rank, "skipped" is 1 and weights and optimizer are untouched on all.
        Raises FloatingPointError after several such updates in a row (skipped_updates.py).
        """
        ...

    def gather(self, x_B: Tensor) -> Tensor:
        """The rows of all ranks in rank order; every rank brings as many."""
        ...

    def save(self, folder: Path) -> dict[str, str]:
        """Write weights, optimizer, average and update count; called on every rank.

        Returns the SHA-256 of the files that this rank hashed while it wrote them, by name.
        """
        ...

    def load(self, folder: Path) -> None:
        """Continue exactly where `save` was called; called on every rank. Raises ValueError on any mismatch."""
        ...

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the module holds the averaged weights; outside, its own. Does nothing when averaging is off."""
        ...


class LocalEngine:
    """Trains in one process on one device."""

    rank = 0
    world_size = 1

    def __init__(
        self,
        module: nn.Module,
        optim: OptimConfig,
        device: str | torch.device = "cpu",
        memory: Memory | None = None,
        keep_frozen: bool = True,
    ) -> None:
        """Moves `module` to `device` in place. Without `keep_frozen` checkpoints hold no frozen weights.

        Raises ValueError under a launcher with several processes.
        """
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world > 1:
            raise ValueError(
                f"LocalEngine trains in one process, but the launcher started {world}: each would train its own copy. "
                "Use DeepSpeedEngine, or start without torchrun."
            )
        self.device = torch.device(device)
        self.module = module.to(self.device)
        self.optim = optim
        self.updates = 0
        self._frozen = None if keep_frozen else frozen_checksum(module)
        self._masters: Masters | None = None
        memory = memory or Memory()
        if memory.bf16 or memory.offload or trains_16_bits(module):
            self._masters = Masters(module, torch.device("cpu") if memory.offload else self.device, memory.bf16)
        self.rounded = memory.bf16 or trains_16_bits(module)
        self._skips = Skips()
        self._weights = self._masters.weights if self._masters else dict(module.named_parameters())
        self._optimizer = make_optimizer(self._weights, optim)
        self._ema = Ema(module, optim.ema_decay, master=self._weights.__getitem__) if optim.ema_decay else None

    def update(self, micros: Sequence[Micro], loss: Loss[Micro]) -> dict[str, float]:
        """Does one update as `Engine.update` says."""
        require_updatable(micros, self._ema)
        self._optimizer.zero_grad(set_to_none=True)
        try:
            reports = []
            for micro in micros:
                value, metrics = loss(micro)
                reports.append(checked_report(value, metrics))
                (value / len(micros)).backward()  # (U1)
            return self._finish(averages(reports))
        finally:  # also after an error: half a gradient must not leak into the next update
            self._optimizer.zero_grad(set_to_none=True)

    def _finish(self, means: dict[str, Tensor]) -> dict[str, float]:
        moved = [p for group in self._optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not moved:
            raise ValueError(NO_GRADIENT)
        norm = torch.nn.utils.get_total_norm([p.grad for p in moved])
        share = self.optim.lr_share(self.updates)
        metrics = to_floats({**means, "grad_norm": norm.to(self.device)})  # that of offloaded gradients is on the host
        metrics["lr"] = self.optim.adamw_lr * share
        if self._skips.skip(self.updates, metrics):
            return {**metrics, "skipped": 1.0}
        if self.optim.clip:
            torch.nn.utils.clip_grads_with_norm_(moved, self.optim.clip, norm)  # (U2)
        set_lr(self._optimizer, share)  # (U3)
        self._optimizer.step()  # (U4)
        if self._masters:
            self._masters.publish()
        self.updates += 1
        if self._ema:
            self._ema.update()
        return {**metrics, "skipped": 0.0}

    def gather(self, x_B: Tensor) -> Tensor:
        """Gathers as `Engine.gather` says: there is one rank."""
        return x_B

    def averaged(self) -> AbstractContextManager[None]:
        """See `Engine.averaged`."""
        return self._ema.swapped_in() if self._ema else nullcontext()

    def save(self, folder: Path) -> dict[str, str]:
        """See `Engine.save`."""
        require_own_weights(self._ema)
        folder.mkdir(parents=True, exist_ok=True)
        hashes = {MODULE_FILE: write_tensors(folder / MODULE_FILE, self._state())}
        if self._ema:
            hashes[AVERAGE_FILE] = write_tensors(folder / AVERAGE_FILE, self._ema.shadow)
        hashes[OPTIMIZER_FILE] = write_object(folder / OPTIMIZER_FILE, self._optimizer.state_dict()["state"])
        write_meta(folder, self._meta())
        return hashes

    def load(self, folder: Path) -> None:
        """See `Engine.load`. Rates, betas and decay are those of this engine's settings, not of the saved run."""
        require_own_weights(self._ema)
        saved = read_meta(folder, self._meta())
        state = torch.load(folder / OPTIMIZER_FILE, map_location=self.device, weights_only=True)
        require_same_tensors(folder / MODULE_FILE, shapes(self._state()))
        tensors = load_file(folder / MODULE_FILE)
        self.module.load_state_dict(tensors, strict=False)  # the names are known to be right
        if self._masters:
            self._masters.load(tensors)
        if self._ema:
            require_same_tensors(folder / AVERAGE_FILE, shapes(self._ema.shadow))
            self._ema.load(load_file(folder / AVERAGE_FILE).items(), saved["ema_updates"])
        own = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": own})
        self.updates, self._skips.in_a_row = saved["updates"], saved.get("skipped", 0)

    def _state(self) -> dict[str, Tensor]:
        """What is saved of the module: masters where there are any."""
        return {name: self._weights.get(name, x) for name, x in saved_state(self.module, self._frozen is None).items()}

    def _meta(self) -> dict[str, Any]:
        groups = group_names(self._weights.items(), self._optimizer)
        return meta("LocalEngine on 1 process(es)", self, groups, self._ema, self._frozen, self._skips)


# ------------------------------------------------------------------------------------- shared by all engines

NO_GRADIENT = (
    "no parameter of the engine's module got a gradient: the loss must be computed through engine.module, "
    "outside torch.no_grad()"
)


def make_optimizer(weights: Mapping[str, nn.Parameter], optim: OptimConfig) -> torch.optim.AdamW:
    """Muon for matrices inside blocks, AdamW for the rest; one group a kind. Raises ValueError if all is frozen."""
    optim.lr_share(0)  # a schedule without a length is refused before the first batch
    trainable = [(name, p) for name, p in weights.items() if p.requires_grad]
    if not trainable:
        raise ValueError("every parameter of the module is frozen (requires_grad is False): nothing can be trained")
    muon = [p for name, p in trainable if optim.muon_lr and is_muon_weight(name, p)]
    chosen = {id(p) for p in muon}
    matrices = [p for _, p in trainable if p.ndim >= 2 and id(p) not in chosen]
    vectors = [p for _, p in trainable if p.ndim < 2]
    kinds = [
        (muon, optim.muon_lr, optim.weight_decay, True),
        (matrices, optim.adamw_lr, optim.weight_decay, False),
        (vectors, optim.adamw_lr, 0.0, False),
    ]
    groups: list[dict[str, Any]] = [
        {"params": params, "lr": lr, "base_lr": lr, "weight_decay": decay, "muon": is_muon}
        for params, lr, decay, is_muon in kinds
        if params
    ]
    if muon:
        return MuonAdamW(groups, optim.betas, optim.eps, optim.muon_momentum, optim.muon_bf16)
    return torch.optim.AdamW(groups, betas=optim.betas, eps=optim.eps, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, share: float) -> None:
    """(U3) for every group, relative to its own peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * share


def checked_report(value: Tensor, metrics: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
    """What one call of a loss reports, as float64 scalars. Raises ValueError for a loss that cannot be minimised."""
    if value.ndim:
        raise ValueError(f"the loss of a micro-batch must be a scalar, but its shape is {tuple(value.shape)}")
    if not value.requires_grad:
        raise ValueError(NO_GRADIENT)
    if taken := sorted(set(metrics) & set(OWN_METRICS)):
        raise ValueError(f"metrics {taken} are the engine's own names; report yours under other names")
    return {
        name: torch.as_tensor(x, dtype=torch.float64, device=value.device).detach()
        for name, x in {"loss": value.detach(), **metrics}.items()
    }


def averages(reports: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Means over micro-batches. Raises ValueError when they do not report the same metrics."""
    if odd := sorted({name for r in reports for name in set(r) ^ set(reports[0])}):
        raise ValueError(f"micro-batches report different metrics: {odd} are missing from some, so no mean exists")
    return {name: torch.stack([r[name] for r in reports]).mean() for name in reports[0]}


def to_floats(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """All metrics with one transfer from the device."""
    return dict(zip(metrics, torch.stack([m.double() for m in metrics.values()]).tolist(), strict=True))


def meta(
    kind: str, engine: Any, names: list[list[str]], ema: Ema | None, frozen: int | None, skips: Skips
) -> dict[str, Any]:
    """`META_FILE`: what a reader needs to know before loading the rest. `frozen`: checksum of what is left out.

    Engines of one `kind` can load each other's checkpoints.
    """
    return {
        "engine": kind,
        "processes": engine.world_size,
        "updates": engine.updates,
        "ema_updates": ema.updates if ema else None,
        "skipped": skips.in_a_row,
        "groups": names,
        "frozen": frozen,
        "optim": asdict(engine.optim),
    }


def require_updatable(micros: Sequence[Any], ema: Ema | None) -> None:
    """Raises ValueError when there is nothing to learn from, or averaged weights would be trained."""
    if not micros:
        raise ValueError("update() was given no micro-batches, so there is nothing to learn from")
    require_own_weights(ema)


def require_own_weights(ema: Ema | None) -> None:
    """Raises ValueError inside `averaged()`, whose weights are not the ones that are trained and saved."""
    if ema and ema.inside:
        raise ValueError("update, save and load work on the trained weights; leave engine.averaged() first")
