"""bfloat16 weights beside float32 masters, host memory, recomputation: what stays the same, what they are for."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from base_model.engine.ema import Ema
from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.engine.engine_files import AVERAGE_FILE, MODULE_FILE
from base_model.engine.mixed_precision import Masters, Memory
from base_model.lora import Lora, add_adapter
from tests.fixtures.tiny.tiny_model import tiny_model

SMALL = OptimConfig(steps=300, muon_lr=0.0, adamw_lr=1e-4, clip=0.0, warmup=0, decay_from=1.0)
"""A step of AdamW moves a weight by its rate, here 1e-4: far below the spacing of bfloat16 around 1, which is 1/128."""


class Line(nn.Module):
    def __init__(self, start: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), start))

    def forward(self) -> Tensor:
        return (self.weight - 2.0).square().sum()


def pull(engine: LocalEngine, updates: int) -> float:
    for _ in range(updates):
        engine.update([0], lambda _: (engine.module().float(), {}))
    return float(next(iter(engine._weights.values())).detach().mean())


def test_small_updates_are_not_lost() -> None:
    """Weights that are stored in 16 bits get masters as well, whatever is asked of memory; alone they would stand."""
    exact = pull(LocalEngine(Line(), SMALL), 300)
    assert exact == pytest.approx(1.03, abs=1e-3)
    assert pull(LocalEngine(Line(), SMALL, memory=Memory(bf16=True)), 300) == pytest.approx(exact, abs=1e-6)
    for stored in (torch.bfloat16, torch.float16):
        engine = LocalEngine(Line().to(stored), SMALL)
        assert pull(engine, 300) == pytest.approx(exact, abs=1e-6)
        assert engine.module.weight.dtype == stored and engine.rounded
        assert all(x.dtype == torch.float32 for s in engine._optimizer.state.values() for x in s.values())
    assert not LocalEngine(Line(), SMALL).rounded


def test_averages_are_those_of_the_masters(tmp_path: Path) -> None:
    """An average of 16-bit weights would not move here: a hundred steps are below their spacing."""
    for line, memory in ((Line(), Memory(bf16=True)), (Line().to(torch.bfloat16), Memory()), (Line(), Memory())):
        engine = LocalEngine(line, replace(SMALL, ema_decay=0.9), memory=memory)
        average = torch.ones(3)
        for i in range(20):
            pull(engine, 1)
            decay = min(0.9, (1 + i) / (10 + i))
            average = decay * average + (1 - decay) * next(iter(engine._weights.values())).detach()
        engine.save(tmp_path)
        saved = load_file(tmp_path / AVERAGE_FILE)["weight"]
        assert float(average[0]) > 1.0005 and saved.dtype == torch.float32
        torch.testing.assert_close(saved, average, rtol=0, atol=1e-6)


def test_averaging_copies_one_tensor_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(*[nn.Linear(8, 8) for _ in range(6)]).to(torch.bfloat16)
    ema, alive, most = Ema(net, 0.9), [], [0]
    widened = Tensor.float

    def counted(self: Tensor) -> Tensor:
        wide = widened(self)
        alive.append(weakref.ref(wide))
        most[0] = max(most[0], sum(ref() is not None for ref in alive))
        return wide

    monkeypatch.setattr(Tensor, "float", counted)
    ema.update()
    assert len(alive) == 12 and most[0] <= 2


def test_the_network_computes_with_rounded_masters() -> None:
    engine = LocalEngine(Line(), SMALL, memory=Memory(bf16=True))
    pull(engine, 100)
    assert engine.module.weight.dtype == torch.bfloat16
    master = engine._weights["weight"]
    assert master.dtype == torch.float32 and torch.equal(engine.module.weight, master.bfloat16())
    assert float(master[0].detach()) != float(engine.module.weight[0].detach())


def test_gradients_of_micro_batches_add_up_in_float32() -> None:
    """257 gradients of 1 are 256 in bfloat16, which has no 257."""
    line = Line()
    masters = Masters(line, torch.device("cpu"), bf16=True)
    for _ in range(257):
        line.weight.sum().backward()
    grad = masters.weights["weight"].grad
    assert grad is not None and grad.tolist() == [257.0] * 3
    assert line.weight.grad is None, "the 16-bit gradient must not stay"


def losses(memory: Memory, lora: Lora | None = None, updates: int = 3) -> tuple[list[float], dict[str, Tensor]]:
    """Loss and norm of every update of the tiny model, and its trained weights."""
    model = tiny_model()
    if lora:
        add_adapter(model.network, lora)
    model.network.recompute = memory.recompute
    optim = OptimConfig(steps=9, adamw_lr=1e-2, warmup=0, clip=0.5, ema_decay=0.5)
    engine = LocalEngine(model.network, optim, memory=memory)
    told = []
    for update in range(updates):
        random = torch.Generator().manual_seed(update)
        x, target = (model.noise(3, random) for _ in range(2))
        sigma, cond = torch.rand(3, generator=random), model.encode_text(["one", "two words", ""])
        metrics = engine.update(
            [slice(0, 2), slice(1, 3)],
            lambda r, x=x, s=sigma, c=cond, y=target: (
                (model.velocity(x[r], s[r], c.take(r)) - y[r]).square().mean(), {}
            ),
        )  # fmt: skip
        told += [metrics["loss"], metrics["grad_norm"]]
    assert engine._ema is not None
    weights = {name: p.detach() for name, p in engine._weights.items()}
    return told, weights | {f"average {name}": x for name, x in engine._ema.shadow.items()}


@pytest.mark.parametrize("lora", [None, Lora(rank=2)], ids=["full", "lora"])
@pytest.mark.parametrize("bf16", [False, True])
def test_recomputing_and_offloading_change_no_bit(lora: Lora | None, bf16: bool) -> None:
    plain = losses(Memory(bf16=bf16), lora)
    for thrift in (Memory(recompute=True), Memory(offload=True), Memory(offload=True, recompute=True)):
        other = losses(replace(thrift, bf16=bf16), lora)
        assert other[0] == plain[0]
        learned = [name for name in other[1] if name in plain[1]]
        assert len(learned) > 10 and all(torch.equal(plain[1][name], other[1][name]) for name in learned)


@pytest.mark.parametrize("frozen", [False, True])
def test_recomputation_keeps_less_and_gives_the_same_gradients(frozen: bool) -> None:
    """Every gradient bit for bit, that of the image included; what autograd keeps shrinks to a fraction."""
    kept, gradients = [], []
    for recompute in (False, True):
        model = tiny_model()
        if frozen:
            add_adapter(model.network, Lora(rank=2))
        model.network.recompute = recompute
        x, sigma = model.noise(2, torch.Generator().manual_seed(1)).requires_grad_(), torch.tensor([0.2, 0.7])
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: (s.append(t.numel()), t)[1], lambda t: t):
            v = model.velocity(x, sigma, model.encode_text(["one", "two"]))
        v.square().sum().backward()
        kept.append(sum(sizes))
        gradients.append([x.grad, *(p.grad for p in model.network.parameters() if p.grad is not None)])
    assert kept[1] < 0.3 * kept[0]
    assert len(gradients[0]) == len(gradients[1]) > 10
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_no_recomputation_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampling pays nothing for it: blocks are recomputed where gradients are wanted, and nowhere else."""
    model, recomputed = tiny_model(), []
    model.network.recompute = True
    monkeypatch.setattr(
        "base_model.qwen.mmdit.checkpoint", lambda block, *given, **_: (recomputed.append(block), block(*given))[1]
    )
    x, sigma, cond = model.noise(1, torch.Generator().manual_seed(0)), torch.tensor([0.5]), model.encode_text(["one"])
    with torch.no_grad():
        model.velocity(x, sigma, cond)
    assert recomputed == []
    model.velocity(x, sigma, cond)
    assert recomputed == list(model.network.transformer_blocks)


@pytest.mark.parametrize("memory", [Memory(bf16=True), Memory(bf16=True, offload=True), Memory(offload=True)])
@pytest.mark.parametrize("lora", [None, Lora(rank=2)], ids=["full", "lora"])
def test_resumed_equals_uninterrupted(memory: Memory, lora: Lora | None, tmp_path: Path) -> None:
    """Masters, optimizer and average come back to the bit; an adapter's checkpoint is as small as the adapter."""
    optim = OptimConfig(steps=9, muon_lr=0.0 if lora else 0.02, adamw_lr=1e-2, warmup=0, ema_decay=0.5)

    def make(seed: int):  # type: ignore[no-untyped-def]
        model = tiny_model()
        if lora:
            add_adapter(model.network, lora, seed)
        return model, LocalEngine(model.network, optim, memory=memory, keep_frozen=not lora)

    def go(model, engine, updates: range) -> list[dict[str, float]]:  # type: ignore[no-untyped-def]
        told = []
        for update in updates:
            x = model.noise(2, torch.Generator().manual_seed(update))
            cond, sigma = model.encode_text(["one", "two"]), torch.tensor([0.2, 0.7])
            told.append(engine.update([x], lambda x, c=cond, s=sigma: (model.velocity(x, s, c).square().mean(), {})))
        return told

    first, engine = make(0)
    go(first, engine, range(2))
    engine.save(tmp_path)
    expected = go(first, engine, range(2, 4))
    second, other = make(1)
    other.load(tmp_path)
    assert go(second, other, range(2, 4)) == expected
    for (name, a), b in zip(engine._weights.items(), other._weights.values(), strict=True):
        assert torch.equal(a, b), name
    saved = load_file(tmp_path / MODULE_FILE)
    assert all(x.dtype == torch.float32 for name, x in saved.items() if name in engine._weights)
    if lora:
        assert saved and all(".lora_" in name for name in saved)
        with torch.no_grad():
            second.network.img_in.weight.add_(1)
        changed = LocalEngine(second.network, optim, memory=memory, keep_frozen=False)
        with pytest.raises(ValueError, match=r"was trained on other ones \(checksum"):
            changed.load(tmp_path)
