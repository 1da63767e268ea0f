"""A second story that every engine must tell with the same numbers: an adapter, and what is traded for memory.

The tiny model learns through an adapter beside its own base as the reference, and in full with bfloat16 weights,
float32 masters, host memory and recomputation. `engine_story` tells it in the processes that it has started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from base_model import broadcasting
from base_model import engine as engines
from base_model.engine import Engine, LocalEngine, OptimConfig
from base_model.engine_files import AVERAGE_FILE, MODULE_FILE
from base_model.lora import Lora, add_adapter
from base_model.masters import Memory
from base_model.qwen_image import QwenImage
from base_model.seeding import generator
from tests.tiny_model import tiny_model

LORA = Lora(rank=2, alpha=8.0)
OPTIM = OptimConfig(
    steps=4, muon_lr=0.0, adamw_lr=1e-2, clip=0.5, warmup=0, decay_from=1.0, ema_decay=0.5, weight_decay=0.1
)
UPDATES, SAVED_AFTER, MICROS = 3, 1, 2
LEAN = Memory(bf16=True, offload=True, recompute=True)
Making = Callable[[torch.nn.Module, Memory, bool], Engine]


def micros(model: QwenImage, update: int, ranks: range) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Noisy latents, noise levels and targets of some ranks."""
    made = []
    for rank in ranks:
        random = generator(0, update, rank, "adapter story")
        for _ in range(MICROS):
            x, target = model.noise(2, random), model.noise(2, random)
            made.append((x, torch.rand(2, generator=random), target))
    return made


def train(model: QwenImage, engine: Engine, ranks: range, updates: range, anchored: bool) -> list[dict[str, float]]:
    """Squared error to a target, and to the reference, which is asked between forward and backward."""
    cond = model.encode_text(["one", "two words"])

    def loss(micro: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, sigma, target = micro
        v = model.velocity(x, sigma, cond)
        value = (v - target).square().mean()
        if not anchored:
            return value, {}
        with torch.no_grad(), model.reference() as reference:
            away = (v - reference.velocity(x, sigma, cond)).square().mean()
        return value + 0.1 * away, {"away": away.detach()}

    return [engine.update(micros(model, i, ranks), loss) for i in updates]


def untrained(lora: bool, seed: int = 0, base: int = 0) -> QwenImage:
    """The model as every engine gets it."""
    model = tiny_model(base)
    model._frozen = None
    if lora:
        add_adapter(model.network, LORA, seed)
        model.freeze_reference()
    return model


def open_model(make: Making, memory: Memory, lora: bool, seed: int = 0, base: int = 0) -> tuple[QwenImage, Engine]:
    model = untrained(lora, seed, base)
    model.network.recompute = memory.recompute
    engine = make(model.network, memory, not lora)
    model.trainable = engine.module
    return model, engine


@contextmanager
def reading() -> Iterator[list[str]]:
    """The names of the files whose tensors this process reads meanwhile."""
    read: list[str] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, *more: Any, **named: Any) -> Any:
            read.append(path.name)
            return function(path, *more, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", counted(torch.load))
        for module in (engines, broadcasting):
            for name in ("read_one_by_one", "load_file"):
                if hasattr(module, name):
                    patch.setattr(module, name, counted(getattr(module, name)))
        yield read


def weights(engine: Engine, folder: Path) -> dict[str, dict[str, Tensor]]:
    engine.save(folder)
    return {"module": load_file(folder / MODULE_FILE), "average": load_file(folder / AVERAGE_FILE)}


def tell_one(make: Making, ranks: range, folder: Path, memory: Memory, lora: bool) -> dict[str, Any]:
    """Train, save half-way, go on; then load into a new engine and go on from there."""
    model, engine = open_model(make, memory, lora)
    x, sigma, _ = micros(model, 99, range(1))[0]
    cond = model.encode_text(["one", "two words"])
    told: dict[str, Any] = {}
    with torch.no_grad():
        told["before"] = model.velocity(x, sigma, cond).clone()
    told["start"] = weights(engine, folder / "start")
    told["metrics"] = train(model, engine, ranks, range(SAVED_AFTER), lora)
    told["saved"] = weights(engine, folder / "saved")
    told["metrics"] += train(model, engine, ranks, range(SAVED_AFTER, UPDATES), lora)
    told["end"] = weights(engine, folder / "end")
    with torch.no_grad():
        told["after"] = model.velocity(x, sigma, cond).clone()
        if lora:
            with model.reference() as reference:
                told["reference"] = reference.velocity(x, sigma, cond).clone()
    other, second = open_model(make, memory, lora, seed=5)
    with reading() as read:
        second.load(folder / "saved")
    told["read"] = read
    told["resumed_metrics"] = train(other, second, ranks, range(SAVED_AFTER, UPDATES), lora)
    told["resumed"] = weights(second, folder / "resumed")
    if lora:
        try:
            open_model(make, memory, lora, base=1)[1].load(folder / "saved")
        except ValueError as error:
            told["other_base"] = str(error)
        told["bytes"] = sum(path.stat().st_size for path in (folder / "saved").rglob("*") if path.is_file())
    return told


def tell(make: Making, ranks: range, folder: Path, lean: bool = True) -> dict[str, Any]:
    """The adapter in float32, and lean; then all weights, lean. ZeRO's stage 0 has no lean form."""
    told = {"adapter": tell_one(make, ranks, folder / "adapter", Memory(), True)}
    if lean:
        told["adapter_lean"] = tell_one(make, ranks, folder / "adapter_lean", LEAN, True)
        told["lean"] = tell_one(make, ranks, folder / "lean", LEAN, False)
        return told
    try:
        open_model(make, LEAN, False)
    except ValueError as error:
        told["refused"] = {"error": str(error)}
    return told


def local(ranks: range, folder: Path) -> dict[str, Any]:
    def make(module: torch.nn.Module, memory: Memory, keep_frozen: bool) -> Engine:
        return LocalEngine(module, OPTIM, memory=memory, keep_frozen=keep_frozen)

    return tell(make, ranks, folder)


def deepspeed(stage: int, ranks: range, folder: Path) -> dict[str, Any]:
    from base_model.engine_deepspeed import DeepSpeedEngine

    def make(module: torch.nn.Module, memory: Memory, keep_frozen: bool) -> Engine:
        return DeepSpeedEngine(module, OPTIM, zero_stage=stage, memory=memory, keep_frozen=keep_frozen)

    return tell(make, ranks, folder, stage > 0)
