"""What ranks send one another lies on the engine's device: a process group of GPUs takes nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

pytest.importorskip("deepspeed")

from base_model.engine.engine import OptimConfig
from base_model.engine.engine_deepspeed import DeepSpeedEngine, _of_rank_0, require_masters
from base_model.engine.mixed_precision import Memory

CARD = torch.device("meta")
"""stands for a GPU: a tensor of the host is told from one of it"""


class Sent(Exception):
    """Something was sent; nothing needs to come back."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Devices of everything that is given to a collective operation."""
    devices: list[torch.device] = []

    def collective(*arguments: Any, **_: Any) -> None:
        given = [x for a in arguments for x in (a if isinstance(a, list) else [a]) if isinstance(x, torch.Tensor)]
        devices.extend(x.device for x in given)
        raise Sent

    for name in ("broadcast", "all_reduce", "all_gather", "all_gather_into_tensor", "reduce_scatter_tensor"):
        monkeypatch.setattr(dist, name, collective)
    return devices


def engine_on_the_card() -> DeepSpeedEngine:
    engine = DeepSpeedEngine.__new__(DeepSpeedEngine)
    engine.device, engine.rank, engine.world_size = CARD, 0, 2
    engine._groups, engine._touched = [["weight"]], {"weight"}
    return engine


def means(engine: DeepSpeedEngine) -> object:
    engine._require_agreement = lambda *_: None  # type: ignore[method-assign]
    return engine._mean_over_ranks({"of the host": torch.tensor(1.0)})


@pytest.mark.parametrize(
    "send",
    [
        lambda engine: _of_rank_0(5, engine.device),
        lambda engine: engine.gather(torch.zeros(3)),
        lambda engine: engine.gather(torch.zeros(3, 2, device=CARD)),
        lambda engine: engine._untouched(),
        lambda engine: engine._require_agreement(3, "a number"),
        means,
    ],
)
def test_nothing_is_sent_from_the_host(send: Callable[[DeepSpeedEngine], object], sent: list[torch.device]) -> None:
    with pytest.raises(Sent):
        send(engine_on_the_card())
    assert sent and set(sent) == {CARD}


def test_16_bit_weights_are_trained_with_masters_or_not_at_all() -> None:
    """Before a process is started: alone they forget most of what they are taught."""
    half = torch.nn.Linear(2, 2).to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"stored in 16 bits.*use memory\.bf16"):
        DeepSpeedEngine(half, OptimConfig(steps=1, muon_lr=0.0))
    require_masters(half, Memory(bf16=True))
    require_masters(half.requires_grad_(False), Memory())
