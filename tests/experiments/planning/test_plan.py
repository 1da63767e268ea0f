"""Plans against reality: parameters, memory that a step really takes, work that it really does; and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from base_model.engine.engine import LocalEngine, OptimConfig
from base_model.engine.mixed_precision import Memory
from base_model.lora import Lora, add_adapter
from base_model.qwen.mmdit import MMDiT, MMDiTConfig
from base_model.qwen.presets import PRESETS
from experiments import cli
from experiments.planning.accelerators import CARDS, find_card
from experiments.planning.dry_run import Pass, footprint, trace
from experiments.planning.estimate import (
    Extras,
    Setup,
    Work,
    changes,
    costed,
    flops,
    host_gb,
    limit_gb,
    memory_gb,
    seconds,
)
from experiments.planning.from_experiment import CommandLine, extras_of, plan, work_of

ADAM = OptimConfig(steps=9, muon_lr=0.0)
SETUP = Setup("h100-80gb", 8, 2, True, False, True, 0, 0.4, False, False, 0.0)
ALONE = replace(SETUP, gpus=1, zero=-1, recompute=False)
WORK = Work("training", 1, 0, 1, False, (), 10)
WITHIN = 0.15


def network(cfg: MMDiTConfig, lora: Lora) -> MMDiT:
    """With no weight at zero, so that all gradients are there."""
    torch.manual_seed(0)
    made = MMDiT(cfg)
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(std=0.02)
    if lora.rank:
        add_adapter(made, lora)
    return made


def step(made: nn.Module, cfg: MMDiTConfig, micro: Pass) -> Tensor:
    B, S = micro.samples, micro.grid[0] * micro.grid[1]
    x, sigma = torch.randn(B, S, cfg.in_channels), torch.rand(B)
    text = torch.randn(B, micro.text, cfg.joint_attention_dim)
    return (made(x, sigma, text, None, [micro.grid] * B) - torch.randn_like(x)).square().mean()


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Every storage once."""
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(held.values())


def test_released_sizes_are_exact() -> None:
    need = footprint(PRESETS["qwen_image"], Lora(), Pass(1, (64, 64), 512), True)
    assert need.parameters == 20_430_401_088
    D = 3072
    dead = 2 * (D * D + D) + 128 + (8 * D * D + 5 * D)  # two projections, the queries' norm, the text MLP
    assert need.trained == need.parameters - dead
    adapter = footprint(PRESETS["qwen_image"], Lora(rank=16), Pass(1, (2, 2), 8), True)
    assert adapter.trained == (8 * 60 - 2) * 2 * D * 16


@pytest.mark.parametrize("lora", [Lora(), Lora(rank=4)], ids=["full", "lora"])
@pytest.mark.parametrize("bf16", [False, True])
def test_deep_networks_follow_the_straight_line(lora: Lora, bf16: bool) -> None:
    cfg, micro = replace(PRESETS["nano"], num_layers=5), Pass(3, (2, 6), 20)
    straight, traced = footprint(cfg, lora, micro, bf16), trace(cfg, lora, micro, bf16)
    for name in ("parameters", "trained", "muon", "saved", "entering", "forward", "in_blocks", "backward", "largest"):
        assert getattr(straight, name) == getattr(traced, name), name
    assert straight.outside == traced.outside


def real_peak(made: MMDiT, cfg: MMDiTConfig, micro: Pass) -> int:
    """Most bytes that the allocator gave out during a forward and a backward pass, inputs and gradients included."""
    from torch.profiler import profile

    with profile(profile_memory=True) as watched:
        step(made, cfg, micro).backward()
    assert watched.profiler is not None and watched.profiler.kineto_results is not None
    events = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("rank", [0, 8])
@pytest.mark.parametrize("preset", ["nano", "micro"])
def test_activations_are_those_of_a_real_step(preset: str, rank: int, recompute: bool) -> None:
    cfg, micro = PRESETS[preset], Pass(8, (4, 12), 40)
    made = network(cfg, Lora(rank=rank))
    made.recompute = recompute
    need = footprint(cfg, Lora(rank=rank), micro, False)
    first = real_peak(made, cfg, micro)  # gradients come into being
    again = real_peak(made, cfg, micro)  # and are there
    assert again <= first
    assert need.activations(recompute) == pytest.approx(again, rel=WITHIN)


@pytest.mark.parametrize("preset", ["nano", "micro", pytest.param("small", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("memory", "rank", "optim"),
    [
        (Memory(), 0, ADAM),
        (Memory(), 0, OptimConfig(steps=9)),
        (Memory(bf16=True), 0, replace(ADAM, ema_decay=0.9)),
        (Memory(bf16=True), 8, ADAM),
        (Memory(bf16=True, offload=True), 0, ADAM),
    ],
    ids=["float32", "muon", "bf16", "lora", "offload"],
)
def test_memory_by_part_is_that_of_a_real_update(preset: str, memory: Memory, rank: int, optim: OptimConfig) -> None:
    cfg, micro = PRESETS[preset], Pass(1, (2, 2), 8)
    engine = LocalEngine(network(cfg, Lora(rank=rank)), optim, memory=memory)
    seen: dict[str, float] = {}
    stepped = engine._optimizer.step

    def look() -> None:
        seen["gradients"] = bytes_of(p.grad for p in engine._weights.values() if p.grad is not None)
        stepped()

    engine._optimizer.step = look  # type: ignore[assignment, method-assign]
    engine.update([0], lambda _: (step(engine.module, cfg, micro), {}))
    seen["weights"] = bytes_of(engine.module.parameters())
    seen["optimizer"] = bytes_of(x for state in engine._optimizer.state.values() for x in state.values())
    if engine._masters:
        seen["optimizer"] += bytes_of(engine._masters.weights.values())
    if engine._ema:
        seen["weight average"] = bytes_of(engine._ema.shadow.values())

    need = footprint(cfg, Lora(rank=rank), micro, memory.bf16)
    setup = replace(
        ALONE, bf16=memory.bf16, offload=memory.offload, rank=rank, ema=bool(optim.ema_decay), muon=bool(optim.muon_lr)
    )
    told = memory_gb(need, replace(setup, offload=False), False)
    masters = 4.0 * need.trained / 1e9 if memory.offload and not memory.bf16 else 0.0
    for part, real in seen.items():
        assert told[part] + masters * (part == "optimizer") == pytest.approx(real / 1e9, rel=WITHIN), part
    if memory.offload:
        spared = memory_gb(need, setup, False)
        assert spared["optimizer"] == 0.0 and spared["gradients"] == 0.0
        assert host_gb(need, setup) == pytest.approx((seen["optimizer"] + seen["gradients"]) / 1e9, rel=WITHIN)


@pytest.mark.parametrize("rank", [0, 4])
def test_work_is_what_torch_counts(rank: int) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    cfg, micro = PRESETS["nano"], Pass(2, (4, 6), 16)
    made = network(cfg, Lora(rank=rank))
    need = footprint(cfg, Lora(rank=rank), micro, False)
    attention = cfg.num_layers * 4 * cfg.width * micro.samples * micro.tokens**2
    with FlopCounterMode(display=False) as forward:
        loss = step(made, cfg, micro)
    with FlopCounterMode(display=False) as backward:
        loss.backward()

    def products(counted: FlopCounterMode) -> int:
        return sum(n for op, n in counted.get_flop_counts()["Global"].items() if "attention" not in str(op))

    assert need.forward - attention == products(forward)
    assert need.backward - 2 * attention == products(backward)


def test_zero_divides_what_it_says() -> None:
    need = footprint(PRESETS["nano"], Lora(), Pass(1, (2, 6), 20), True)
    P, T, N = need.parameters, need.trained, 8
    by = [memory_gb(need, replace(SETUP, zero=stage), False) for stage in (1, 2, 3)]
    assert [m["optimizer"] * 1e9 for m in by] == pytest.approx([12 * T / N] * 3)
    assert [m["gradients"] * 1e9 for m in by] == pytest.approx([4 * T + 2 * T, 4 * T / N + 2 * T, 4 * T / N + 2 * T])
    assert [m["weights"] * 1e9 for m in by] == pytest.approx([2 * P, 2 * P, 2 * P / N + 2 * P])
    lean = memory_gb(need, replace(SETUP, offload=True), False)
    assert lean["optimizer"] == 0.0 and lean["gradients"] * 1e9 == pytest.approx(4 * T / N + 2 * T), (
        "summed on the card"
    )
    lean = memory_gb(need, replace(SETUP, zero=3, offload=True), False)
    assert lean["gradients"] * 1e9 == pytest.approx(2 * T)
    averaged = replace(SETUP, offload=True, ema=True)  # DeepSpeed's optimizer goes to the host, the average stays
    for stage, slices in ((1, 1), (2, 1), (3, N)):
        told = memory_gb(need, replace(averaged, zero=stage), False)["weight average"]
        assert told * 1e9 == pytest.approx(4 * T / slices), stage
    assert memory_gb(need, replace(averaged, gpus=1, zero=-1), False)["weight average"] == 0.0, "ours goes with it"
    assert memory_gb(need, SETUP, True)["frozen copy"] * 1e9 == pytest.approx(2 * P)
    assert memory_gb(need, replace(SETUP, rank=4), True)["frozen copy"] == 0.0, "an adapter is its own reference"


def test_sums_of_gradients_stand_where_deepspeed_makes_them_with_the_engine() -> None:
    """Counted on a card that is none: at stage 1 all of them beside all 16-bit gradients, at stage 3 a slice."""
    need = footprint(PRESETS["qwen_image"], Lora(), Pass(16, (32, 32), 101), True)
    T, P, N = need.trained, need.parameters, 8
    masters = {1: 12 * T / N + 2 * P, 2: 12 * T / N + 2 * P, 3: 12 * T / N + 2 * P / N + 2 * 1.05e9}
    for stage, sums in ((1, 4 * T), (2, 0.0), (3, 4 * T / N)):
        phases = costed(need, replace(SETUP, zero=stage), WORK).phases
        assert phases["decoding"] * 1e9 == pytest.approx(masters[stage] + sums), stage
        sums, sent = (4 * T, 2 * T) if stage == 1 else (4 * T / N, 2 * 2e8)
        assert phases["update"] * 1e9 == pytest.approx(masters[stage] + sums + sent + need.activations(True)), stage
        assert costed(need, replace(SETUP, zero=stage, offload=True), WORK).phases["decoding"] * 1e9 == pytest.approx(
            masters[stage] - 12 * T / N
        ), stage


def test_stage_3_gathers_ahead_only_where_passes_are_alike() -> None:
    """An adapter that is switched off for its reference makes DeepSpeed forget the order of layers."""
    need = footprint(PRESETS["qwen_image"], Lora(rank=64), Pass(2, (32, 32), 101), True)
    setup, asking = replace(SETUP, zero=3, rank=64), replace(WORK, reference=True)
    alike, switched = (costed(need, setup, work).phases for work in (WORK, asking))
    assert switched["sampling"] == alike["sampling"], "a rollout's passes are alike"
    for phase in ("decoding", "update"):
        assert alike[phase] - switched[phase] == pytest.approx(2 * (1.05 - 0.05))
    alone = replace(setup, gpus=1)
    assert costed(need, alone, asking).phases["update"] == costed(need, alone, WORK).phases["update"]
    full = replace(setup, rank=0)
    copy = 2 * need.parameters / 1e9
    assert costed(need, full, asking).phases["update"] - costed(need, full, WORK).phases["update"] == pytest.approx(
        copy
    )


@pytest.mark.parametrize("zero", [2, 3])
def test_images_of_pairs_are_sampled_by_the_whole_network(zero: int) -> None:
    """They are made before there is an engine that could cut it."""
    from experiments.configs import CONFIGS
    from experiments.planning.from_experiment import accounts

    setup = replace(SETUP, zero=zero, rank=64)
    ways = accounts(CONFIGS["qwen_dpo_lora"], asked("qwen_dpo_lora", setup=setup, text=101))
    phases = next(way for way in ways if way.setup.zero == zero and not way.setup.offload).phases
    whole = 2 * (20_430_401_088 + 187_957_248) / 1e9
    assert phases["sampling"] == pytest.approx(44.16, rel=0.02), "counted on a card that is none"
    assert phases["decoding"] == pytest.approx(49.58, rel=0.02)
    assert whole < phases["sampling"] < phases["decoding"] < phases["encoding"]


def test_checkpoint_samples_keep_the_weights_beside_their_average() -> None:
    """The average takes their place while it is looked at; at stage 3 both are cut."""
    need, beside = footprint(PRESETS["nano"], Lora(), Pass(1, (2, 6), 20), True), Extras(decoding=1.0, samples=3.0)
    for stage, slices in ((-1, 1), (1, 1), (2, 1), (3, 8)):
        setup = replace(SETUP, zero=stage)
        for ema, aside in ((False, 0.0), (True, 2 * need.trained / slices)):
            phases = costed(need, replace(setup, ema=ema), WORK, beside).phases
            assert (phases["checkpoint samples"] - phases["decoding"] - 2.0) * 1e9 == pytest.approx(aside), stage
    assert costed(need, SETUP, WORK).phases["checkpoint samples"] == 0.0, "where none are sampled"


def test_what_stands_beside_a_released_network_follows_the_experiment() -> None:
    from experiments.configs import CONFIGS

    online = CONFIGS["qwen_grpo_lora"]
    cfg: Any = online.algorithm
    guided = extras_of(online, "qwen_image", (512, 512))
    plain = replace(online, algorithm=replace(cfg, sampler=replace(cfg.sampler, guidance=1.0)))
    assert guided.sampling == 2 * extras_of(plain, "qwen_image", (512, 512)).sampling, (
        "each row with and without a prompt"
    )
    assert guided.samples * 1e9 == pytest.approx(4 * 1024 * 1024 * 1900), "four at a time of the preset's own size"
    small = extras_of(CONFIGS["medium_grpo_lora"], "sd35_medium", (512, 512))
    assert small.samples * 1e9 == pytest.approx(6 * 512 * 512 * 1900), "all six"
    assert (
        not guided.stays and not guided.before and extras_of(CONFIGS["qwen_dpo_lora"], "qwen_image", (512, 512)).before
    )
    tuned = CONFIGS["qwen_sft_lora"]
    endless = replace(tuned, data=replace(tuned.data, limit=0))  # type: ignore[type-var]
    known, unknown = (extras_of(one, "qwen_image", (512, 512)) for one in (tuned, endless))
    assert not known.stays and unknown.stays and known.sampling == known.decoding == 0.0
    need = footprint(PRESETS["nano"], Lora(), Pass(1, (2, 6), 20), True)
    left = [costed(need, SETUP, WORK, beside).phases["update"] for beside in (known, unknown)]
    assert left[1] - left[0] == pytest.approx(17.1), "the language model stays where captions have no end"


def test_time_is_work_over_speed() -> None:
    need = footprint(PRESETS["qwen_image"], Lora(), Pass(1, (64, 64), 512), True)
    tokens, P = 4608, 60 * (339_831_296 - 2 * 6 * 3072 * 3073)  # blocks without modulation, half of them a stream
    rough = 2 * P / 2 * tokens + 60 * 4 * 3072 * tokens**2
    assert need.forward == pytest.approx(rough, rel=0.02)
    again = replace(SETUP, recompute=False)
    assert flops(need, again, WORK) == pytest.approx(3 * need.forward, rel=0.01)
    assert flops(need, SETUP, WORK) == pytest.approx(4 * need.forward, rel=0.01)
    times = seconds(need, SETUP, WORK)
    assert times["products"] == pytest.approx(flops(need, SETUP, WORK) / (989e12 * 0.4))
    assert seconds(need, SETUP, replace(WORK, trained=6))["products"] == pytest.approx(6 * times["products"])
    assert seconds(need, SETUP, replace(WORK, sampled=4))["products"] > times["products"]
    assert seconds(need, replace(SETUP, gpus=1), WORK)["exchange"] == 0.0
    sent = {zero: seconds(need, replace(SETUP, zero=zero), WORK)["exchange"] for zero in (1, 2)}
    assert sent[1] == pytest.approx(1.5 * sent[2])  # float32 sums there and 16-bit weights back; 16 bits both ways


def asked(name: str, **changed: object) -> CommandLine:
    made = CommandLine(name, replace(SETUP, zero=-1), None, None, None, 0, 0, (0, 0), 512, 1000)
    return replace(made, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("card", ["h100-80gb", "h200-141gb"])
def test_the_20b_model_on_eight_cards(card: str) -> None:
    setup = replace(SETUP, card=card, zero=-1)
    status, told = plan(asked("qwen_image", setup=setup))
    chosen = next(line for line in told if line.endswith("<"))
    assert status == 0 and chosen.startswith("ZeRO-3" if card == "h100-80gb" else "ZeRO-2"), told
    assert any(line.startswith("ZeRO-1 ") and " no " in line for line in told)
    status, told = plan(asked("qwen_image", setup=setup, rank=64))
    assert status == 0 and next(line for line in told if line.endswith("<")).startswith("ZeRO-1")


def test_what_cannot_fit_is_refused_with_changes_that_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Every change that is offered is tried."""
    small = ["plan", "qwen_image", "--card", "rtx4090-24gb", "--gpus", "1"]
    assert cli.main(small) == 1
    out = capsys.readouterr().out
    assert "does not fit" in out and "--rank 64" not in out, "an adapter's base alone is larger than the card"
    more = out.split("more cards: --gpus ")[1].split()[0]
    assert cli.main([*small[:-1], more]) == 0
    assert cli.main([*small[:-1], str(int(more) // 2)]) == 1
    capsys.readouterr()
    assert cli.main(["plan", "qwen_image", "--zero", "2"]) == 1
    out = capsys.readouterr().out
    assert "use ZeRO-3" in out and "--rank 64" in out
    assert cli.main(["plan", "qwen_image", "--zero", "3"]) == 0
    assert cli.main(["plan", "qwen_image", "--zero", "2", "--rank", "64"]) == 0
    assert cli.main(["plan", "qwen_image", "--zero", "0"]) == 1
    assert "float32 on the device only" in capsys.readouterr().out
    assert cli.main(["plan", "qwen_image", "--gpus", "1"]) == 0, "one card with all but the weights in host memory"
    assert "one process + offload" in next(line for line in capsys.readouterr().out.splitlines() if line.endswith("<"))


def test_only_changes_that_fit_are_offered() -> None:
    need = footprint(PRESETS["qwen_image"], Lora(), Pass(4, (64, 64), 512), True)
    done = costed(need, replace(SETUP, gpus=4, zero=3, recompute=False, ema=True), replace(WORK, trained=4, micro=4))
    assert not done.fits
    assert changes(done, lambda setup, micro: micro == 1)[-1] == "fewer samples a pass than 4: --micro 1"
    small = footprint(PRESETS["nano"], Lora(), Pass(1, (2, 6), 20), True)
    encoding = costed(small, SETUP, WORK, Extras(language=99.0))
    assert not encoding.fits and not any("ZeRO" in text for text in changes(encoding, lambda setup, micro: False))
    cards = [text for text in changes(done, lambda setup, micro: setup.gpus >= 16) if "cards" in text]
    assert cards == ["more cards: --gpus 16"]
    assert changes(done, lambda setup, micro: False)[-1].startswith("a card with more memory")
    assert changes(done, lambda setup, micro: setup.gpus == 64 and setup.rank == 64)[-1].startswith("all of these")


@pytest.mark.parametrize("name", ["nano_pretrain", "nano_sft", "nano_dpo", "nano_grpo"])
def test_experiments_explain_their_batches(name: str) -> None:
    setup = replace(SETUP, gpus=1, zero=-1, bf16=False)
    status, told = plan(asked(name, setup=setup, text=24))
    assert status == 0
    text = "\n".join(told)
    assert "12 latent tokens" in text and name in text
    if name == "nano_grpo":
        assert "4 prompts x 12 images = 48 a rollout" in text and "2 stochastic steps of each = 96" in text
        assert "as they share it: 52" in text, "the window's first step is one row a group"
        assert "296 samples that only go forward" in text
    if name == "nano_dpo":
        assert "64 samples that only go forward" in text and "frozen copy" in text


def test_bad_requests_are_named() -> None:
    assert limit_gb(find_card("h200-141gb")) < 141 and set(CARDS)
    with pytest.raises(ValueError, match="no preset and no experiment 'qwen'"):
        plan(asked("qwen"))
    with pytest.raises(ValueError, match="there is no card 'h1000'"):
        replace(SETUP, card="h1000")
    with pytest.raises(ValueError, match="gpus=0 must be at least 1"):
        replace(SETUP, gpus=0)
    with pytest.raises(ValueError, match="does not divide into tokens of 16 pixels"):
        plan(asked("qwen_image", size=(1000, 1024)))
    with pytest.raises(ValueError, match="3 samples a pass must divide the 4"):
        work_of(None, asked("qwen_image", micro=3, batch=4))
    with pytest.raises(ValueError, match="plans are made for the transformer"):
        plan(asked("nano_vae"))


def test_an_experiment_plans_with_its_own_settings() -> None:
    """Adapter, size and weight average are the experiment's where the command line is silent."""
    _, told = plan(asked("qwen_grpo_lora"))
    assert "LoRA of rank 64" in told[0] and any("32 x 32 = 1024 latent tokens" in line for line in told), told
    assert any("weight average" in line for line in told)
    _, told = plan(asked("qwen_grpo_lora", rank=16, size=(256, 256), ema=False))
    assert "LoRA of rank 16" in told[0] and any("16 x 16 = 256 latent tokens" in line for line in told), told
    assert not any("weight average" in line for line in told)


def test_a_plan_shows_what_changes_with_the_update() -> None:
    _, told = plan(asked("nano_pretrain"))
    assert told[told.index("curriculum") + 1 :][:2] == [
        "from update 0: text 1:2:6:1:0",
        "from update 87: text 1:1:2:4:2",
    ]
    assert "curriculum" not in plan(asked("nano_sft"))[1]
