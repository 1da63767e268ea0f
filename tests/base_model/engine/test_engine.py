"""The one-process engine: what an update does to weights, and what it refuses to do.

Norms of gradients are compared wherever the scale of a gradient matters: Adam's steps look right at any scale.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from base_model.engine.ema import Ema
from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.engine.engine_files import META_FILE, MODULE_FILE, OPTIMIZER_FILE
from base_model.engine.skipped_updates import MOST

PLAIN = OptimConfig(steps=20, muon_lr=0.0, adamw_lr=0.01, clip=0.0, warmup=0, decay_from=1.0)
FULL = OptimConfig(steps=12, clip=0.3, warmup=3, ema_decay=0.8, weight_decay=0.1)


class Net(nn.Module):
    """A residual block for Muon, a head, a layer without gradient, a frozen one."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.transformer_blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.head = nn.Linear(width, 1)
        self.unused = nn.Linear(width, 2)
        self.frozen = nn.Linear(width, width).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.frozen(x)
        for block in self.transformer_blocks:
            x = x + torch.tanh(block(x))
        return self.head(x).squeeze(-1)


def make(optim: OptimConfig, seed: int = 0, width: int = 6) -> LocalEngine:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LocalEngine(Net(width), optim)


def batches(update: int, count: int = 3, size: int = 4) -> list[Tensor]:
    random = torch.Generator().manual_seed(update)
    return list(torch.randn(count, size, 6, generator=random))


def error(module: nn.Module, x: Tensor) -> Tensor:
    return (module(x) - 3 * x.sum(1)).square().mean()


def loss(engine: LocalEngine, x: Tensor) -> tuple[Tensor, dict[str, Tensor | float]]:
    return error(engine.module, x), {"size": x.abs().mean(), "rows": float(len(x))}


def train(engine: LocalEngine, start: int, stop: int) -> list[dict[str, float]]:
    return [engine.update(batches(i), lambda x: loss(engine, x)) for i in range(start, stop)]


def state(engine: LocalEngine) -> dict[str, Tensor]:
    """Everything that an update may change, copied."""
    tensors = {f"module {k}": v.clone() for k, v in engine.module.state_dict().items()}
    for i, entry in engine._optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer {i} {k}": v.clone() for k, v in entry.items()}
    if engine._ema:
        tensors |= {f"average {k}": v.clone() for k, v in engine._ema.shadow.items()}
        tensors["average updates"] = torch.tensor(engine._ema.updates)
    return tensors | {"updates": torch.tensor(engine.updates)}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --------------------------------------------------------------------------------------------- one update


def test_the_gradient_is_that_of_the_mean() -> None:
    engine, twin = make(PLAIN), make(PLAIN)
    error(twin.module, torch.cat(batches(0))).backward()
    expected = math.sqrt(sum(float(p.grad.square().sum()) for p in twin.module.parameters() if p.grad is not None))
    metrics = train(engine, 0, 1)[0]
    assert metrics["grad_norm"] == pytest.approx(expected, rel=1e-5)
    assert metrics["loss"] == pytest.approx(error(twin.module, torch.cat(batches(0))).item(), rel=1e-5)
    assert metrics["size"] == pytest.approx(float(torch.cat(batches(0)).abs().mean()), rel=1e-5)
    assert metrics["rows"] == 4
    assert metrics["lr"] == pytest.approx(0.01)
    assert set(metrics) == {"loss", "grad_norm", "lr", "size", "rows", "skipped"} and metrics["skipped"] == 0.0


def test_splitting_a_batch_changes_nothing() -> None:
    """Clipping is on and small, so that a gradient of another scale would be clipped to another direction of Adam."""
    whole, split = make(FULL), make(FULL)
    for i in range(5):
        one = whole.update([torch.cat(batches(i))], lambda x: loss(whole, x))
        many = split.update(batches(i), lambda x: loss(split, x))
        assert one["grad_norm"] == pytest.approx(many["grad_norm"], rel=1e-4)
    for a, b in zip(whole.module.parameters(), split.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_the_optimizer_gets_the_clipped_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every element, not only the norm: one factor for all parameters."""
    engine, twin = make(replace(PLAIN, clip=0.5)), make(PLAIN)
    error(twin.module, torch.cat(batches(0))).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in twin.module.parameters() if p.grad is not None])
    seen: dict[str, Tensor] = {}

    def look() -> None:
        seen.update({k: p.grad.clone() for k, p in engine.module.named_parameters() if p.grad is not None})

    monkeypatch.setattr(engine._optimizer, "step", look)
    train(engine, 0, 1)
    assert norm > 1
    for name, p in twin.module.named_parameters():
        assert (name in seen) == (p.grad is not None)
        if p.grad is not None:
            torch.testing.assert_close(seen[name], p.grad * 0.5 / norm, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("clip", [0.0, 1e6])
def test_a_small_gradient_is_not_scaled(clip: float, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make(replace(PLAIN, clip=clip))
    norms: list[Tensor] = []
    parameters = list(engine.module.parameters())

    def look() -> None:
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))

    monkeypatch.setattr(engine._optimizer, "step", look)
    metrics = train(engine, 0, 1)[0]
    assert float(norms[0]) == pytest.approx(metrics["grad_norm"], rel=1e-6)


def test_adamw_weights_after_three_updates() -> None:
    """Against torch's AdamW driven by hand."""
    engine, twin = make(replace(PLAIN, weight_decay=0.1)), make(PLAIN)
    trained = [p for p in twin.module.parameters() if p.requires_grad]
    theirs = torch.optim.AdamW(
        [{"params": [p for p in trained if p.ndim == n], "weight_decay": 0.1 * (n == 2)} for n in (1, 2)],
        lr=0.01,
        betas=PLAIN.betas,
        eps=PLAIN.eps,
    )
    for i in range(3):
        theirs.zero_grad()
        error(twin.module, torch.cat(batches(i))).backward()
        theirs.step()
    train(engine, 0, 3)
    for a, b in zip(engine.module.parameters(), twin.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_what_gets_no_gradient_keeps_its_value_and_state() -> None:
    engine = make(replace(FULL, weight_decay=0.5))
    before = {k: v.clone() for k, v in engine.module.state_dict().items()}
    train(engine, 0, 3)
    moved = {k for k, v in engine.module.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {k for k in before if k.startswith(("transformer_blocks", "head"))}
    with_state = {id(p) for p in engine._optimizer.state}
    assert with_state == {id(p) for k, p in engine.module.named_parameters() if k in moved}


def test_gradients_do_not_outlive_an_update() -> None:
    engine = make(PLAIN)
    train(engine, 0, 1)
    assert all(p.grad is None for p in engine.module.parameters())
    error(engine.module, 100 * batches(7)[0]).backward()  # somebody else's
    twin = make(PLAIN)
    train(twin, 0, 2)
    train(engine, 1, 2)
    assert same(state(engine), state(twin))


# --------------------------------------------------------------------------------------------- schedule and average


def test_schedule() -> None:
    cfg = OptimConfig(steps=100, warmup=10, decay_from=0.6, final_lr=0.2)
    shares = [cfg.lr_share(i) for i in range(120)]
    assert shares[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert shares[10:60] == [1.0] * 50
    assert shares[79] == pytest.approx(0.6)  # half of the way from 1 to 0.2
    assert shares[99:] == pytest.approx([0.2] * 21)
    assert all(a >= b for a, b in itertools.pairwise(shares[10:]))
    assert [OptimConfig(steps=9, warmup=0, decay_from=1.0).lr_share(i) for i in range(20)] == [1.0] * 20
    assert [OptimConfig(steps=9, warmup=0, final_lr=1.0).lr_share(i) for i in range(20)] == [1.0] * 20


def test_every_group_follows_the_schedule_from_its_own_rate() -> None:
    cfg = OptimConfig(steps=10, muon_lr=0.03, adamw_lr=0.004, warmup=2, decay_from=0.5, final_lr=0.0)
    engine = make(cfg)
    for i in range(10):
        metrics = train(engine, i, i + 1)[0]
        rates = {group["muon"]: group["lr"] for group in engine._optimizer.param_groups}
        assert rates == pytest.approx({True: 0.03 * cfg.lr_share(i), False: 0.004 * cfg.lr_share(i)})
        assert metrics["lr"] == pytest.approx(rates[False])
    last = state(engine)
    train(engine, 10, 11)  # the share is 0 from the last planned update on
    assert torch.equal(engine.module.state_dict()["head.weight"], last["module head.weight"])


def test_average_is_the_written_recursion() -> None:
    engine = make(replace(PLAIN, ema_decay=0.3))
    name = "head.weight"
    expected = engine.module.state_dict()[name].clone()
    for s in range(6):
        train(engine, s, s + 1)
        decay = min(0.3, (1 + s) / (10 + s))
        expected = decay * expected + (1 - decay) * engine.module.state_dict()[name]
    own = engine.module.state_dict()[name].clone()
    with engine.averaged():
        torch.testing.assert_close(engine.module.state_dict()[name], expected, rtol=0, atol=1e-6)
    assert not torch.allclose(expected, own, atol=1e-3)
    assert torch.equal(engine.module.state_dict()[name], own)


def test_the_ramp_reaches_its_end() -> None:
    """Ten updates in, (1 + s) / (10 + s) is above 0.5: the decay is then the one asked for."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    ema = Ema(net, 0.5)
    nn.init.ones_(net.weight)
    left = 1.0
    for s in range(12):
        ema.update()
        left *= min(0.5, (1 + s) / (10 + s))
        assert float(1 - ema.shadow["weight"]) == pytest.approx(left, rel=1e-3, abs=1e-7)


def test_own_weights_come_back_after_an_error() -> None:
    engine = make(FULL)
    train(engine, 0, 4)
    before = state(engine)
    with pytest.raises(RuntimeError, match="sampling failed"), engine.averaged():
        raise RuntimeError("sampling failed")
    assert same(state(engine), before)
    assert train(engine, 4, 5)


def test_averaged_is_off_without_a_decay_and_frozen_weights_are_never_averaged() -> None:
    engine = make(PLAIN)
    before = state(engine)
    with engine.averaged():
        assert same(state(engine), before)
    averaged = make(FULL)._ema
    assert averaged is not None
    assert not [name for name in averaged.shadow if name.startswith("frozen")]


@pytest.mark.parametrize("verb", ["update", "save", "load"])
def test_averaged_weights_are_neither_trained_nor_saved(verb: str, tmp_path: Path) -> None:
    engine = make(FULL)
    verbs = {
        "update": lambda: train(engine, 0, 1),
        "save": lambda: engine.save(tmp_path),
        "load": lambda: engine.load(tmp_path),
    }
    with pytest.raises(ValueError, match=r"leave engine\.averaged"), engine.averaged():
        verbs[verb]()


# --------------------------------------------------------------------------------------------- what is refused


def break_metric(engine: LocalEngine, x: Tensor) -> tuple[Tensor, dict[str, float]]:
    return error(engine.module, x), {"reward": math.nan}


def break_loss(engine: LocalEngine, x: Tensor) -> tuple[Tensor, dict[str, float]]:
    return error(engine.module, x) * math.inf, {}


def break_gradient(engine: LocalEngine, x: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Finite, with a gradient of 1 / 0."""
    return error(engine.module, x) + (engine.module.head.bias * 0).abs().sqrt().sum(), {}


@pytest.mark.parametrize(
    ("bad", "named"),
    [(break_metric, "reward = nan"), (break_loss, "loss = inf"), (break_gradient, "grad_norm = nan")],
)
def test_non_finite_updates_leave_everything_alone(bad, named: str) -> None:  # type: ignore[no-untyped-def]
    engine, twin = make(FULL), make(FULL)
    train(engine, 0, 3)
    before = state(engine)
    third = [0]

    def sometimes(x: Tensor) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        third[0] += 1
        good = error(engine.module, x), ({"reward": 1.0} if bad is break_metric else {})
        return bad(engine, x) if third[0] == 2 else good

    metrics = engine.update(batches(3), sometimes)
    name, value = named.split(" = ")
    assert metrics["skipped"] == 1.0 and str(metrics[name]) == value
    assert same(state(engine), before)
    assert [m["skipped"] for m in train(engine, 3, 6)] == [0.0] * 3
    train(twin, 0, 6)
    assert same(state(engine), state(twin))


def spoilt(engine: LocalEngine) -> dict[str, float]:
    return engine.update(batches(0), lambda x: break_loss(engine, x))


def test_several_non_finite_updates_in_a_row_end_training() -> None:
    engine = make(FULL)
    for _ in range(MOST - 1):
        assert spoilt(engine)["skipped"] == 1.0
    train(engine, 0, 1)  # a good one: counting begins again
    before = state(engine)
    for _ in range(MOST - 1):
        spoilt(engine)
    with pytest.raises(FloatingPointError, match=r"update 1: loss = inf.*not applied.*5 in a row.*lower learning rate"):
        spoilt(engine)
    assert same(state(engine), before)


def test_a_resumed_run_remembers_how_many_were_skipped(tmp_path: Path) -> None:
    engine, other = make(FULL), make(FULL, seed=1)
    train(engine, 0, 2)
    for _ in range(MOST - 2):
        spoilt(engine)
    engine.save(tmp_path)
    other.load(tmp_path)
    for each in (engine, other):
        assert spoilt(each)["skipped"] == 1.0
        with pytest.raises(FloatingPointError, match="in a row"):
            spoilt(each)
    assert same(state(engine), state(other))
    meta = json.loads((tmp_path / "engine.json").read_text())
    del meta["skipped"]  # checkpoints of older versions
    (tmp_path / "engine.json").write_text(json.dumps(meta))
    other.load(tmp_path)
    assert spoilt(other)["skipped"] == 1.0


def test_an_error_inside_the_loss_leaves_no_gradient_behind() -> None:
    engine, twin = make(FULL), make(FULL)
    calls = [0]

    def failing(x: Tensor) -> tuple[Tensor, dict[str, float]]:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyError("no such image")
        return error(engine.module, x), {}

    with pytest.raises(KeyError):
        engine.update(batches(0), failing)
    train(engine, 0, 2)
    train(twin, 0, 2)
    assert same(state(engine), state(twin))


def test_losses_that_cannot_be_minimised_are_explained() -> None:
    engine = make(PLAIN)
    other = make(PLAIN, seed=1).module

    def update(value, metrics=None) -> None:  # type: ignore[no-untyped-def]
        engine.update(batches(0), lambda x: (value(x), metrics or {}))

    before = state(engine)
    with pytest.raises(ValueError, match=r"must be a scalar, but its shape is \(4,\)"):
        update(engine.module)
    with pytest.raises(ValueError, match="no parameter of the engine's module got a gradient"):
        update(lambda x: error(engine.module, x).detach())
    with pytest.raises(ValueError, match="no parameter of the engine's module got a gradient"):
        update(lambda x: error(other, x))
    with pytest.raises(ValueError, match=r"metrics \['grad_norm', 'loss'\] are the engine's own names"):
        update(lambda x: error(engine.module, x), {"loss": 1.0, "grad_norm": 2.0, "mine": 3.0})
    with pytest.raises(ValueError, match="no micro-batches"):
        engine.update([], lambda x: loss(engine, x))
    names = iter("abc")
    with pytest.raises(ValueError, match=r"different metrics: \['a', 'b', 'c'\]"):
        engine.update(batches(0), lambda x: (error(engine.module, x), {next(names): 1.0}))
    assert same(state(engine), before)


def test_a_frozen_module_and_a_launcher_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="every parameter of the module is frozen"):
        LocalEngine(nn.Linear(2, 2).requires_grad_(False), PLAIN)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"the launcher started 2: .*Use DeepSpeedEngine"):
        make(PLAIN)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", -1), ("muon_lr", -0.1), ("muon_lr", math.nan), ("adamw_lr", 0.0), ("adamw_lr", math.inf),
        ("betas", (1.0, 0.9)), ("betas", (0.9, -0.1)), ("eps", 0.0), ("weight_decay", -1.0), ("muon_momentum", 1.0),
        ("clip", -1.0), ("warmup", -1), ("decay_from", 1.5), ("final_lr", 1.1), ("ema_decay", 1.0),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"OptimConfig\.{field}.*must be"):
        OptimConfig(**({"steps": 10} | {field: value}))  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------- save and load


@pytest.mark.parametrize("cfg", [FULL, PLAIN, replace(FULL, muon_lr=0.0)])
def test_resumed_equals_uninterrupted_bit_for_bit(cfg: OptimConfig, tmp_path: Path) -> None:
    straight, first, second = make(cfg), make(cfg), make(cfg, seed=9)
    expected = train(straight, 0, 9)
    train(first, 0, 4)
    saved = state(first)
    first.save(tmp_path)
    second.load(tmp_path)
    assert same(state(second), saved)
    assert train(second, 4, 9) == expected[4:]
    assert same(state(second), state(straight))


def test_saving_moves_nothing(tmp_path: Path) -> None:
    engine, twin = make(FULL), make(FULL)
    for i in range(4):
        train(engine, i, i + 1)
        engine.save(tmp_path)
    train(twin, 0, 4)
    assert same(state(engine), state(twin))


def test_settings_of_the_loading_engine_hold(tmp_path: Path) -> None:
    """A longer schedule or another rate may take over a run; the optimizer's memory is kept."""
    first = make(FULL)
    train(first, 0, 4)
    first.save(tmp_path)
    second = make(replace(FULL, adamw_lr=0.5, weight_decay=0.0, betas=(0.5, 0.6)))
    second.load(tmp_path)
    groups = [group for group in second._optimizer.param_groups if not group["muon"]]
    assert {(g["base_lr"], g["weight_decay"], g["betas"]) for g in groups} == {(0.5, 0.0, (0.5, 0.6))}
    assert train(second, 4, 5)[0]["lr"] == pytest.approx(0.5 * FULL.lr_share(4))


def test_the_files_can_be_read_without_the_engine(tmp_path: Path) -> None:
    engine = make(FULL)
    train(engine, 0, 2)
    engine.save(tmp_path)
    assert same(load_file(tmp_path / MODULE_FILE), engine.module.state_dict())
    torch.load(tmp_path / OPTIMIZER_FILE, weights_only=True)  # holds nothing that could run code
    meta = json.loads((tmp_path / META_FILE).read_text())
    assert (meta["engine"], meta["updates"], meta["optim"]["clip"]) == ("LocalEngine on 1 process(es)", 2, 0.3)


def test_mismatches_are_named_before_a_weight_is_touched(tmp_path: Path) -> None:
    saved = make(FULL)
    train(saved, 0, 2)
    saved.save(tmp_path / "full")

    def refused(engine: LocalEngine, folder: Path, message: str) -> None:
        before = state(engine)
        with pytest.raises(ValueError, match=message):
            engine.load(folder)
        assert same(state(engine), before)

    refused(make(FULL, width=8), tmp_path / "full", r"has shape \(6, 6\), this module needs \(8, 8\)")
    refused(make(replace(FULL, muon_lr=0.0)), tmp_path / "full", "others with Muon")
    refused(make(replace(FULL, ema_decay=0.0)), tmp_path / "full", "saved with a weight average, .* without one")
    make(replace(FULL, ema_decay=0.0)).save(tmp_path / "plain")
    refused(make(FULL), tmp_path / "plain", "saved without a weight average")
    refused(make(FULL), tmp_path, "not an engine.s checkpoint: it has no engine.json")
    thawed = make(FULL)
    thawed.module.frozen.requires_grad_(True)
    refused(LocalEngine(thawed.module, FULL), tmp_path / "full", "trains other parameters")
    renamed = make(FULL)
    renamed.module.register_buffer("extra", torch.zeros(1))
    refused(renamed, tmp_path / "full", r"1 names are only on one side, first \['extra'\]")
    meta = tmp_path / "full" / META_FILE
    meta.write_text(meta.read_text().replace("LocalEngine on 1", "DeepSpeedEngine (ZeRO-2) on 2"))
    refused(make(FULL), tmp_path / "full", r"written by DeepSpeedEngine \(ZeRO-2\) on 2 process")
