"""The engine contract over many processes, through DeepSpeed's ZeRO (Rajbhandari et al., arXiv:1910.02054).

    stage 0   every process holds everything; gradients are averaged
    stage 1   optimizer state is split among processes
    stage 2   and gradients
    stage 3   and weights: each process stores a slice of every parameter and gathers it while a layer runs

All stages reach the weights of `LocalEngine` given the micro-batches of all ranks. Two differences remain: from stage 1
on, a parameter that gets a gradient only now and then sees a zero gradient in between instead of being left alone, and
Muon, which needs whole matrices, exists at stage 0 only. Start with `torchrun --nproc_per_node N`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
import torch.distributed as dist
from torch import Tensor, nn

from base_model.engine.broadcasting import load_on_all, read_on_all
from base_model.engine.ema import Ema, whole
from base_model.engine.engine import (
    NO_GRADIENT,
    Loss,
    Micro,
    OptimConfig,
    averages,
    checked_report,
    make_optimizer,
    meta,
    require_own_weights,
    require_updatable,
    set_lr,
    to_floats,
)
from base_model.engine.engine_files import (
    AVERAGE_FILE,
    MODULE_FILE,
    OPTIMIZER_FILE,
    frozen_checksum,
    group_names,
    like,
    read_meta,
    require_same_tensors,
    saved_state,
    shapes,
    write_meta,
    write_object,
    write_one_by_one,
    write_tensors,
)
from base_model.engine.mixed_precision import Memory, in_float32, rounded_in_bf16, trains_16_bits
from base_model.engine.skipped_updates import Skips
from base_model.engine.zero_state import ZeroState, cut, stored

BUCKET = 200_000_000
"""gradients that ZeRO collects at most before it sends them"""


class DeepSpeedEngine:
    """Many processes, one model. `module` is DeepSpeed's wrapper; models must call their network through it."""

    def __init__(
        self,
        module: nn.Module,
        optim: OptimConfig,
        zero_stage: int = 2,
        memory: Memory | None = None,
        keep_frozen: bool = True,
    ) -> None:
        """Called on every rank; rank 0's weights are everyone's.

        Without `keep_frozen` checkpoints hold no frozen weights. Raises ValueError for settings ZeRO cannot honour.
        """
        memory = memory or Memory()
        require_possible(zero_stage, memory)
        require_masters(module, memory)
        optimizer = make_optimizer(dict(module.named_parameters()), optim)
        if zero_stage and any(group["muon"] for group in optimizer.param_groups):
            raise ValueError(
                f"muon_lr={optim.muon_lr} with zero_stage={zero_stage}: DeepSpeed cuts matrices into flat slices, and "
                "that breaks Muon's orthogonalisation. Use muon_lr=0 (AdamW for everything) or zero_stage=0."
            )
        start_processes()
        import deepspeed  # seconds to import, and only needed here

        self.optim = optim
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.updates = 0
        self._stage = zero_stage
        self._inner, self._optimizer = module, optimizer
        checksum = 0 if keep_frozen else frozen_checksum(module)  # before the weights are cut
        self._groups = group_names(module.named_parameters(), optimizer)
        self._shapes = shapes(saved_state(module, keep_frozen))
        self._keep_frozen = keep_frozen
        self._interrupted = False
        self._touched = _watch_gradients(module)
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        rounded = rounded_in_bf16(module) if memory.bf16 else []
        full = in_float32(module, rounded) if self.rank == 0 else {}  # the other ranks take them from rank 0
        self._ds = deepspeed.initialize(
            model=module,
            optimizer=optimizer,
            config=_config(zero_stage, optim.clip, memory, trained),
            dist_init_required=False,
        )[0]
        self.module: nn.Module = self._ds
        self.device = torch.device(self._ds.device)
        self._frozen = None if keep_frozen else _of_rank_0(checksum, self.device)
        self._zero = ZeroState(self._ds, module, zero_stage, self._shapes) if zero_stage else None
        if self._zero:
            self._zero.start_from(full, rounded)
        self._forwards = 0
        self.module.register_forward_pre_hook(self._count_forward)
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)
        storage = stored if zero_stage == 3 else whole
        self.rounded = memory.bf16
        self._skips = Skips()
        master = self._zero.master if self._zero and self.rounded else None
        self._ema = Ema(module, optim.ema_decay, storage, master) if optim.ema_decay else None

    def update(self, micros: Sequence[Micro], loss: Loss[Micro]) -> dict[str, float]:
        """See `Engine.update`. Every rank brings as many micro-batches and reports the same metrics."""
        require_updatable(micros, self._ema)
        if self._interrupted:
            raise ValueError(
                "an error cut an earlier update short, and DeepSpeed cannot drop its partial gradient; "
                "make a new engine and load the last checkpoint"
            )
        self._require_agreement(len(micros), "the number of micro-batches")
        self._interrupted = True
        lr = self.optim.adamw_lr * self.optim.lr_share(self.updates)
        metrics = self._step(self._accumulate(micros, loss)) | {"lr": lr}
        self._interrupted = False  # a non-finite update was dropped properly
        if self._skips.skip(self.updates, metrics):  # on all ranks: metrics and norm are those of all
            return {**metrics, "skipped": 1.0}
        self.updates += 1
        if self._ema:
            self._ema.update()
        return {**metrics, "skipped": 0.0}

    def _accumulate(self, micros: Sequence[Micro], loss: Loss[Micro]) -> dict[str, Tensor]:
        """All backward passes (U1); metrics averaged over micro-batches and ranks."""
        self._touched.clear()
        reports: list[dict[str, Tensor]] = []
        for micro in micros:
            last = len(reports) == len(micros) - 1
            self._ds.set_gradient_accumulation_boundary(last)
            self._forwards = 0
            value, metrics = loss(micro)
            self._require_forward()
            reports.append(checked_report(value, metrics))
            share = value / len(micros)  # (U1); DeepSpeed is told of no accumulation and averages over ranks only
            if last:
                means = self._mean_over_ranks(averages(reports))
                if not all(torch.isfinite(mean) for mean in means.values()):
                    # DeepSpeed drops a gradient that it has partly reduced only if its norm is not finite
                    share = share * torch.nan
            self._ds.backward(share, scale_wrt_gas=False)
        return means

    def _step(self, means: dict[str, Tensor]) -> dict[str, float]:
        """(U2) to (U4) if everything is finite; the metrics with the norm either way."""
        untouched = self._untouched()
        set_lr(self._optimizer, self.optim.lr_share(self.updates))  # (U3)
        norm = self._step_whole(means, untouched) if self._stage == 0 else self._step_split(untouched)
        return to_floats({**means, "grad_norm": norm})

    def _step_whole(self, means: Mapping[str, Tensor], untouched: set[str]) -> Tensor:
        """Stage 0: gradients are whole and already averaged; DeepSpeed itself would step on NaN."""
        for name, parameter in self._inner.named_parameters():
            if name in untouched:
                parameter.grad = None  # DeepSpeed filled in zeros
        moved = [p for p in self._inner.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in moved if p.grad is not None])
        if all(torch.isfinite(x) for x in (*means.values(), norm)):
            if self.optim.clip:
                torch.nn.utils.clip_grads_with_norm_(moved, self.optim.clip, norm)  # (U2)
            self._ds.step()  # (U4)
        self._ds.zero_grad()
        return norm.double()

    def _step_split(self, untouched: set[str]) -> Tensor:
        """Stages 1 to 3: norm, clipping and the finite check are DeepSpeed's, over all ranks (U2), (U4)."""
        if untouched and self.optim.weight_decay:
            raise ValueError(
                f"{len(untouched)} parameters got no gradient, first {sorted(untouched)[:4]}: ZeRO hands the optimizer "
                "zeros for them and weight decay would shrink them. Freeze them (requires_grad_(False)) or set "
                "weight_decay=0."
            )
        self._ds.step()
        norm = self._ds.get_global_grad_norm() if self._ds.was_step_applied() else torch.nan
        return torch.as_tensor(norm, dtype=torch.float64, device=self.device)

    def gather(self, x_B: Tensor) -> Tensor:
        """See `Engine.gather`."""
        mine = x_B.to(self.device).contiguous()  # a process group of GPUs takes no tensor of the host
        parts = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(parts, mine)
        return torch.cat(parts).to(x_B.device)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """See `Engine.averaged`."""
        if self._ema is None:
            yield
            return
        self._forget_gathered()
        with self._ema.swapped_in():
            try:
                yield
            finally:
                self._forget_gathered()

    def save(self, folder: Path) -> dict[str, str]:
        """See `Engine.save`. All tensors are written whole, so that any number of processes can go on from them."""
        require_own_weights(self._ema)
        dist.barrier()
        folder.mkdir(parents=True, exist_ok=True)
        hashes: dict[str, str] = {}
        if self._zero:
            hashes = self._zero.save(folder, writes=self.rank == 0)
        elif self.rank == 0:
            state = self._optimizer.state_dict()["state"]
            hashes[MODULE_FILE] = write_tensors(folder / MODULE_FILE, saved_state(self._inner, self._keep_frozen))
            hashes[OPTIMIZER_FILE] = write_object(folder / OPTIMIZER_FILE, state)
        if self._ema:
            layout = {name: like(self._shapes[name]) for name in self._ema.shadow}
            sha256 = write_one_by_one(folder / AVERAGE_FILE, layout, self._average, writes=self.rank == 0)
            hashes[AVERAGE_FILE] = sha256
        if self.rank == 0:
            write_meta(folder, self._meta())
        dist.barrier()
        return hashes

    def load(self, folder: Path) -> None:
        """See `Engine.load`. Rank 0 reads, and all take from it what is theirs.

        Rates, betas and decay are those of this engine's settings, not of the saved run.
        """
        require_own_weights(self._ema)
        dist.barrier()
        saved = read_meta(folder, self._meta())
        if self._ema:
            require_same_tensors(folder / AVERAGE_FILE, {name: self._shapes[name] for name in self._ema.shadow})
        if self._zero:
            self._zero.require_fitting(folder)
            self._forget_gathered()
            self._zero.load(folder)
        else:
            require_same_tensors(folder / MODULE_FILE, self._shapes)
            state = load_on_all(folder / OPTIMIZER_FILE, self.device)
            for name, tensor in read_on_all(folder / MODULE_FILE, self.device):
                self._inner.load_state_dict({name: tensor}, strict=False)  # the names are known to be right
            own = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": state, "param_groups": own})
        if self._ema:
            wholes = read_on_all(folder / AVERAGE_FILE, self.device)
            self._ema.load(((n, self._mine(x, self._ema.shadow[n])) for n, x in wholes), saved["ema_updates"])
        self.updates, self._skips.in_a_row = saved["updates"], saved.get("skipped", 0)
        dist.barrier()

    def _meta(self) -> dict[str, Any]:
        # at stage 0 each parameter has its own count of steps, above it all share one
        kind = f"DeepSpeedEngine ({'ZeRO-1 to 3' if self._zero else 'ZeRO-0'})"
        return meta(kind, self, self._groups, self._ema, self._frozen, self._skips)

    def _average(self, name: str) -> Tensor:
        """The float32 average itself, whole: through the module's weights it would be rounded to bfloat16."""
        assert self._ema
        part, shape = self._ema.shadow[name], self._shapes[name]
        return self.gather(part.flatten())[: math.prod(shape)].view(shape) if self._stage == 3 else part

    def _mine(self, whole: Tensor, part: Tensor) -> Tensor:
        """What this process keeps of an average."""
        return cut(whole, part) if self._stage == 3 else whole

    def _forget_gathered(self) -> None:
        """Stage 3: drop gathered copies, which outlive a forward pass, so that the next one reads the slices."""
        if self._stage == 3:
            self._ds.empty_partition_cache()

    def _count_forward(self, *_: object) -> None:
        self._forwards += torch.is_grad_enabled()

    def _require_forward(self) -> None:
        """Raises ValueError when a loss went behind the wrapper, after which ZeRO-3 forgets all but one micro-batch."""
        if self._stage == 3 and not self._forwards:
            raise ValueError(
                "the loss did not call engine.module, only something inside it: under ZeRO-3 gradients of several "
                "micro-batches would silently not add up. Give the model engine.module to call."
            )

    def _untouched(self) -> set[str]:
        """Trainable parameters that no rank's loss reached. Raises ValueError when that is all of them."""
        names = [name for group in self._groups for name in group]
        mask = torch.tensor([name in self._touched for name in names], dtype=torch.int32, device=self.device)
        dist.all_reduce(mask, op=dist.ReduceOp.MAX)
        if not mask.any():
            raise ValueError(NO_GRADIENT)
        return {name for name, touched in zip(names, mask.tolist(), strict=True) if not touched}

    def _mean_over_ranks(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        names = sorted(means)
        self._require_agreement(crc32("\n".join(names).encode()), f"the names of the metrics, here {names}")
        values = torch.stack([means[name] for name in names]).to(self.device)
        dist.all_reduce(values)
        return dict(zip(names, (values / self.world_size).unbind(), strict=True))

    def _require_agreement(self, value: int, what: str) -> None:
        """Raises ValueError on every rank when ranks differ: going on would wait for each other forever."""
        bounds = torch.tensor([value, -value], dtype=torch.int64, device=self.device)
        dist.all_reduce(bounds, op=dist.ReduceOp.MAX)
        if bounds[0] != -bounds[1]:
            raise ValueError(f"ranks disagree on {what} (rank {self.rank}: {value}); every rank must bring the same")


def require_possible(stage: int, memory: Memory) -> None:
    """Raises ValueError for a stage that does not exist or cannot do what is asked of it."""
    if stage not in (0, 1, 2, 3):
        raise ValueError(f"zero_stage={stage} must be 0, 1, 2 or 3")
    if stage == 0 and (memory.bf16 or memory.offload):
        raise ValueError(
            "zero_stage=0 keeps one set of weights, in float32 on the device: for bf16 with float32 masters, or for "
            "optimizer state in host memory, use zero_stage=1, which is the same with less memory"
        )


def require_masters(module: nn.Module, memory: Memory) -> None:
    """Raises ValueError when weights that are trained have 16 bits and nothing keeps the digits that they learn."""
    if trains_16_bits(module) and not memory.bf16:
        raise ValueError(
            "the weights that are trained are stored in 16 bits, which alone forget most of what they are taught: "
            "use memory.bf16 (and zero_stage 1 to 3), which keeps float32 masters of them"
        )


def _config(stage: int, clip: float, memory: Memory, trained: int) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": min(trained, BUCKET)}
    if memory.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    sums: dict[str, Any] = {"data_types": {"grad_accum_dtype": "fp32"}} if memory.bf16 else {}
    if memory.bf16 and stage == 1:
        sums["communication_data_type"] = "fp32"  # else stage 1 rounds the float32 sums again on their way
    return sums | {
        "bf16": {"enabled": memory.bf16},
        "zero_force_ds_cpu_optimizer": False,  # torch's AdamW is fused on CPU too, and needs no compiler
        "train_micro_batch_size_per_gpu": 1,  # only used for DeepSpeed's own throughput report
        "gradient_accumulation_steps": 1,  # boundaries are set by hand: the number of micro-batches may change
        "gradient_clipping": clip if stage else 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
    }


def start_processes(minutes: float = 60.0) -> None:
    """Join the process group of the launcher, in which ranks wait for one another for `minutes` at most.

    The first call says how long. Raises ValueError when there is no launcher.
    """
    if not dist.is_initialized() and "RANK" not in os.environ:
        raise ValueError("DeepSpeedEngine needs its processes started: use `torchrun --nproc_per_node N ...`")
    import deepspeed

    # DeepSpeed compiles a shared-memory all-reduce on every CPU machine, a minute and a C++ compiler for nothing that
    # gloo cannot do; declaring it incompatible is the only switch
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(verbose=False, timeout=timedelta(minutes=minutes))


def _of_rank_0(value: int, device: torch.device) -> int:
    shared = torch.tensor([value], dtype=torch.int64, device=device)
    dist.broadcast(shared, 0)
    return int(shared)


def _watch_gradients(module: nn.Module) -> set[str]:
    """A set that collects the names of parameters as backward passes reach them."""
    touched: set[str] = set()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda _, name=name: touched.add(name))
    return touched
