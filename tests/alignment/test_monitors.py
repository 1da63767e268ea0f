"""Rules: each is broken by what it is about and by nothing else; a run is watched, resumed and stopped exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignment.awm import Awm
from alignment.best_of_n import BestOfN
from alignment.dpo import Dpo
from alignment.grpo import Grpo, train
from alignment.guard import Guard
from alignment.kto import Kto
from alignment.monitoring.monitors import (
    Rule,
    alarms,
    departure,
    gold_rules,
    mean,
    of_clip,
    reaches,
    rises,
    rules,
    spread,
)
from alignment.monitoring.step_metrics import ByStep
from alignment.nft import Nft
from alignment.online_dpo import OnlineDpo
from base_model.engine.engine import LocalEngine
from base_model.files.weights import load_model
from base_model.sample import Sampler
from experiments.configs import nano, nano_hacking
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import Experiment, MonitorPlan, PromptPlan
from experiments.record.record import RunRecord, read_metrics, read_monitors, read_run
from experiments.report.report import write_report
from experiments.training.ranks import Onlooker, of_rank_0
from experiments.training.runner import run
from experiments.training.watch import Watch, after_alarm, check, in_force, stalled
from rewards.parse import named_reward
from rewards.scores import Scores
from rewards.serving.flat_groups import SpreadMeter
from rewards.serving.workers import ScorerPool
from tests.alignment.test_grpo import GENTLE, PROMPTS, SPREAD, TINY, listed, moved
from tests.experiments.training.test_runner import tiny_pretrain
from tests.fixtures.tiny.tiny_chain import short
from tests.fixtures.tiny.tiny_model import Spy, tiny_model

P = 48
GOLD = "gold/ocr_judge"
LOOP = ("loop/ratio_gap_first", "loop/clip_share", "loop/groups_without_spread")
LEVEL = {"trained": 0.7, GOLD: 0.7, "disagreement": 0.1, "duplicate_text": 0.0, "extra_text": 0.0, "text_area": 0.4,
         "dark": 0.2, "edges": 0.12, "colour_entropy": 0.8, "saturation": 0.45, "diversity": 0.07, "unjudged": 0.0,
         "drift": 0.0, "velocity_norm": 1.0}  # fmt: skip


def seen(seed: int = 0, **shifts: float) -> dict[str, np.ndarray]:
    """Measures of 48 prompts around their usual level, some shifted."""
    random = np.random.default_rng(seed)
    spreads = {name: 0.25 if name in ("trained", GOLD) else 0.05 * level for name, level in LEVEL.items()}
    found = {name: level + spreads[name] * random.normal(size=P) for name, level in LEVEL.items()}
    return {name: values + shifts.get(name, 0.0) for name, values in found.items()}


def names(now: dict[str, np.ndarray]) -> set[str]:
    return {alarm.rule.name for alarm in alarms(rules([GOLD]), seen(), now)}


# --- rules --------------------------------------------------------------------------------------------------------


def test_nothing_is_broken_where_nothing_changed() -> None:
    assert names(seen()) == set()


@pytest.mark.parametrize(
    ("measure", "shift", "rule"),
    [
        (GOLD, -0.04, f"{GOLD} falls"),
        ("disagreement", 0.08, "engines disagree"),
        ("extra_text", 0.08, "more text than asked for"),
        ("duplicate_text", 0.04, "text repeated"),
        ("text_area", 0.08, "text grows"),
        ("dark", 0.2, "dark"),
        ("edges", -0.05, "edges vanish"),
        ("edges", 0.05, "edges multiply"),
        ("colour_entropy", -0.4, "colours vanish"),
        ("colour_entropy", 0.4, "colours multiply"),
        ("saturation", 0.1, "saturation moves"),
        ("saturation", -0.1, "saturation moves"),
        ("diversity", -0.05, "images become one"),
        ("unjudged", 0.2, "not judged"),
        ("drift", 0.9, "far from the start"),
        ("velocity_norm", 0.2, "velocities grow"),
    ],
)
def test_every_rule_is_broken_by_its_own_measure_alone(measure: str, shift: float, rule: str) -> None:
    assert names(seen(**{measure: shift})) == {rule}
    assert names(seen(**{measure: -shift})).isdisjoint({rule} - {"saturation moves"})


@pytest.mark.parametrize("name", LOOP)
def test_rules_about_the_loop_take_one_number_an_update(name: str) -> None:
    high = {name: np.array([0.95, 0.95, math.nan])}
    (alarm,) = alarms(rules([GOLD]), seen(), {**seen(), **high})
    assert alarm.error == 0 and alarm.worst == () and alarm.change == pytest.approx(0.95)
    assert not alarms(rules([GOLD]), seen(), {**seen(), name: np.zeros(3)})


def test_the_trained_reward_alone_gaining_is_an_alarm_and_both_gaining_is_none() -> None:
    assert names(seen(trained=0.1)) == {f"trained reward outruns {GOLD}"}
    assert names(seen(**{"trained": 0.1, GOLD: 0.1})) == set()
    assert names(seen(**{GOLD: 0.1})) == set(), "gaining more than what was trained on is no fault"


def test_gains_are_compared_in_their_own_deviations() -> None:
    """A trained reward on another scale, of the same relative gain, is no alarm."""
    start, now = seen(), seen(**{GOLD: 0.1})
    start["trained"], now["trained"] = 40.0 * start[GOLD] + 7.0, 40.0 * now[GOLD] + 7.0
    assert not alarms(gold_rules(GOLD), start, now)


def test_a_change_that_is_not_sure_is_no_alarm() -> None:
    rule = Rule("dark", rises("dark"), 0.1, "", "")
    few = {"dark": np.zeros(8)}
    unsure = {"dark": np.array([1.0, 1.0, 1.0, 0, 0, 0, 0, 0])}  # 0.375 with an error of 0.18
    assert not alarms([rule], few, unsure)
    assert alarms([rule], few, {"dark": np.full(8, 0.375)})


def test_unjudged_prompts_do_not_count_and_the_worst_come_first() -> None:
    rule = Rule("dark", rises("dark"), 0.1, "", "")
    start, now = {"dark": np.zeros(5)}, {"dark": np.array([0.2, math.nan, 0.4, 0.3, 0.35])}
    (alarm,) = alarms([rule], start, now)
    assert alarm.worst == (2, 4, 3, 0) and alarm.change == pytest.approx(0.3125)
    assert alarm.error == pytest.approx(np.std([0.2, 0.4, 0.3, 0.35], ddof=1) / 2)
    assert not alarms([rule], start, {"dark": np.full(5, math.nan)})


def test_measures_that_are_not_there_break_nothing() -> None:
    assert not alarms(rules(["gold/none"]), {"other": np.zeros(3)}, {"other": np.ones(3)})
    assert reaches("none")({}, {}).size == 0 and math.isnan(mean(np.array([math.nan]))) and spread(np.ones(1)) == 0


@pytest.mark.parametrize(("clip", "most"), [(1e-3, 1e-4), (1e-4, 1e-5), (1e-5, 1e-6), (1e-9, 1e-6)])
def test_the_alarm_of_the_first_ratio_follows_the_clip_range(clip: float, most: float) -> None:
    table = of_clip(rules([GOLD]), clip)
    for gap, raised in ((2.0 * most, True), (0.5 * most, False)):
        broken = alarms(table, seen(), {**seen(), "loop/ratio_gap_first": np.array([gap])})
        assert bool(broken) == raised, f"clip {clip}, gap {gap}"


def test_every_rule_says_why() -> None:
    for rule in rules([GOLD]):
        assert rule.reason and rule.unit and rule.threshold > 0


# --- drift --------------------------------------------------------------------------------------------------------


def test_drift_is_zero_at_the_start_and_the_squared_difference_after() -> None:
    model, random = tiny_model(), torch.Generator().manual_seed(0)
    x0, eps = model.noise(3, random), model.noise(3, random)
    cond = model.encode_text(['the word "AB" in red'] * 3)
    at_start = departure(model, x0, eps, cond)
    assert (at_start["drift"] == 0).all() and (at_start["velocity_norm"] == 1).all()
    away = moved()
    expected = torch.zeros(3)
    for level in (0.5, 1.0):
        sigma = torch.full((3,), level)
        x = (1 - level) * x0 + level * eps
        with torch.no_grad():
            expected += (away.velocity(x, sigma, cond) - model.velocity(x, sigma, cond)).square().mean((1, 2)) / 2
    there = departure(away, x0, eps, cond, (0.5, 1.0))
    torch.testing.assert_close(torch.from_numpy(there["drift"]).float(), expected)


def test_a_model_whose_velocities_grew_is_an_alarm_and_one_that_was_turned_is_none() -> None:
    """(M4) does not ask for the direction: a third more of every velocity, against the same length another way."""
    model, random = tiny_model(), torch.Generator().manual_seed(0)
    model.freeze_reference()
    x0, eps = model.noise(8, random), model.noise(8, random)
    cond = model.encode_text(['the word "AB" in red'] * 8)
    velocity, start = type(model).velocity, {"velocity_norm": np.ones(8)}

    class Changed(type(model)):  # type: ignore[misc]
        def velocity(self, x_PSC: torch.Tensor, sigma_P: torch.Tensor, cond: Any) -> torch.Tensor:
            return self.change(velocity(self, x_PSC, sigma_P, cond))

        def reference(self) -> Any:
            return nullcontext(model)

    changed = Changed.__new__(Changed)
    changed.__dict__ = model.__dict__
    for change, factor, raised in (
        (lambda v: 1.3 * v, 1.3, ["velocities grow"]),
        (lambda v: 0.7 * v, 0.7, []),
        (lambda v: v.flip(1), 1.0, []),
    ):
        object.__setattr__(changed, "change", change)
        now = departure(changed, x0, eps, cond)
        np.testing.assert_allclose(now["velocity_norm"], factor, rtol=1e-5)
        del now["drift"]
        assert [alarm.rule.name for alarm in alarms(rules([GOLD]), start, now)] == raised


# --- what the loop shows ------------------------------------------------------------------------------------------


def test_ratios_by_denoising_step_average_to_those_of_the_update() -> None:
    cfg = replace(TINY, steps=3, updates=2)
    model = tiny_model()
    engine = ByStep(LocalEngine(model.network, replace(GENTLE, adamw_lr=1e-3)), cfg.sampler.levels())
    for step in train(model, engine, PROMPTS, listed(*SPREAD), cfg):
        noted = engine.drain()
        first = int(step.metrics["window"])
        assert set(noted) == {f"{name}/step_{i}" for name in ("ratio", "clip_share") for i in (first, first + 1)}
        ratios = [noted[f"ratio/step_{i}"] for i in (first, first + 1)]
        both = (step.metrics["ratio_first"] + step.metrics["ratio"]) / 2
        assert sum(ratios) / 2 == pytest.approx(both) and ratios[0] != ratios[1]
    assert engine.drain() == {} and engine.updates == 6


class Pool:
    """Answers at once."""

    def __init__(self, *groups: Scores) -> None:
        self.groups = list(groups)

    def submit(self, prompts: object, images: object) -> Future[Scores]:
        future: Future[Scores] = Future()
        future.set_result(self.groups.pop(0))
        return future


def test_a_part_without_spread_is_seen_behind_the_mixture() -> None:
    flat, nan = np.full(3, 0.5), np.full(3, math.nan)
    meter = SpreadMeter(Pool(  # type: ignore[arg-type]
        Scores(np.array([0.0, 1.0, 2.0]), {"ocr": flat, "clip": np.array([0.0, 1.0, 2.0])}),
        Scores(np.array([0.0, math.nan, 2.0]), {"ocr": np.array([0.0, math.nan, 1.0]), "clip": nan}),
        Scores(nan, {"ocr": nan, "clip": nan}),
    ))  # fmt: skip
    for _ in range(3):
        meter.submit([], np.zeros(0))
    assert meter.drain() == {"zero_spread/clip": 0.0, "zero_spread/ocr": 0.5, "zero_spread/reward": 0.0}
    assert meter.drain() == {}


# --- a run --------------------------------------------------------------------------------------------------------

PLAN = MonitorPlan(every=2, prompts=PromptPlan(4, seed=5, heldout=True), sampler=Sampler(steps=3), evidence=2)


def tiny_hacking(steps: int = 5, plan: MonitorPlan = PLAN) -> Experiment:
    config = nano_hacking.config
    small = replace(config.algorithm, prompts=2, group=4, micro=8, sampler=Sampler(steps=6))
    assert config.prompts is not None
    few = replace(config, algorithm=small, prompts=replace(config.prompts, count=20), monitors=plan)
    return replace(short(few, steps), optim=replace(config.optim, steps=steps, warmup=0))


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("monitors") / "pretrain"
    run(tiny_pretrain(steps=3), folder)
    return folder


@pytest.fixture(scope="module")
def pool() -> Iterator[ScorerPool]:
    with ScorerPool(named_reward("ocr_contains"), workers=1) as pool:
        yield pool


@pytest.fixture(scope="module")
def whole(parent: Path, pool: ScorerPool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "hacking"
    run(tiny_hacking(), folder, parent, pool)
    return folder


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that any movement breaks, instead of the table."""
    table = (Rule("moved <at all>", rises("drift"), 0.0, "squared velocity", "to see an alarm"),)
    monkeypatch.setattr("experiments.training.watch.rules", lambda gold: table)
    monkeypatch.setattr("alignment.monitoring.monitors.SURE", 0.0)


def lines(folder: Path) -> list[dict]:
    return [{name: x for name, x in line.items() if name != "seconds"} for line in read_monitors(folder)]


def test_a_run_is_looked_at_before_during_and_after(whole: Path) -> None:
    looks = read_monitors(whole)
    assert [look["step"] for look in looks] == [-1, 1, 3, 4]
    assert {"trained", GOLD, "read/ocr", *LEVEL} <= set(looks[0]) and looks[0]["drift"] == 0 < looks[1]["drift"]
    assert {"loop/clip_share", "loop/ratio_gap_first"} & set(looks[1]) or all(
        "clip_share" not in line for line in read_metrics(whole)
    )
    assert any(name.startswith("zero_spread/") for name in read_metrics(whole)[0])
    assert read_run(whole).monitors == tuple(looks)


def cut_after(updates: int, patch: pytest.MonkeyPatch) -> None:
    log, left = RunRecord.log, [updates]

    def cut(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        log(self, step, metrics)

    patch.setattr(RunRecord, "log", cut)


@pytest.mark.slow
@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("on_alarm", ["report", "raise_beta"])
def test_interrupted_anywhere_it_sees_the_same(on_alarm: str, parent: Path, pool: ScorerPool, tmp_path: Path) -> None:
    experiment = tiny_hacking(plan=replace(PLAN, on_alarm=on_alarm, evidence=1))  # type: ignore[arg-type]
    run(experiment, tmp_path / "whole", parent, pool)
    for updates in (1, 3):
        with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
            cut_after(updates, patch)
            run(experiment, tmp_path / "cut", parent, pool)
    run(experiment, tmp_path / "cut", parent, pool)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    a, b = (load_model(tmp_path / name / "model").network.state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    pictures = [sorted(p.name for p in (tmp_path / name / "monitors").iterdir()) for name in ("whole", "cut")]
    assert pictures[0] == pictures[1] and len(pictures[0]) == 2 * sum(
        bool(x["alarms"]) for x in lines(tmp_path / "cut")
    )
    if on_alarm == "raise_beta":
        betas = [look["beta"] for look in lines(tmp_path / "whole")[1:]]
        assert betas == [0.01, 0.02, 0.04]
        kl = ["kl" in line for line in read_metrics(tmp_path / "whole") if "ratio" in line]
        assert kl and kl == sorted(kl) and kl[-1], "the KL counts from the first alarm on"


@pytest.mark.usefixtures("always")
def test_an_alarm_stops_a_run_where_it_is_told_to(parent: Path, pool: ScorerPool, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    run(tiny_hacking(plan=replace(PLAN, on_alarm="stop")), folder, parent, pool)
    result = read_run(folder)
    assert result.status == "finished" and [line["step"] for line in result.metrics] == [0, 1]
    assert result.monitors[-1]["stopped"] and (folder / "model").exists()
    assert (folder / "checkpoints" / "update_000002").exists()
    page = write_report(folder).read_text()
    assert "First broken after update 1: “moved &lt;at all&gt;”" in page and "Training was stopped there" in page
    assert page.count("data:image/png") >= 4 and "to see an alarm" in page


def test_a_silent_run_says_so_in_its_report(whole: Path) -> None:
    page = write_report(whole).read_text()
    assert "Over-optimisation" in page and "colour_entropy" in page
    if not any(look["alarms"] for look in read_monitors(whole)):
        assert "No rule was broken in 3 looks" in page


@pytest.mark.parametrize(
    ("gold", "patience", "best"),
    [
        ([0.5, 0.6, 0.6, 0.55], 2, [2]),
        ([0.5, 0.6, 0.6, 0.55], 3, []),
        ([0.5, 0.6, 0.61, 0.55], 2, []),
        ([0.5, 0.4, math.nan], 2, [0]),
        ([math.nan, math.nan, math.nan], 1, []),
        ([math.nan, math.nan, 0.3], 1, []),
        ([0.5, 0.4, 0.3], 0, []),
    ],
)
def test_patience_counts_looks_since_the_highest(gold: list[float], patience: int, best: list[int]) -> None:
    assert stalled(gold, [0, 2, 4, 6], replace(PLAN, patience=patience)) == best


def test_a_run_ends_where_its_gold_reward_stopped_rising(
    parent: Path, pool: ScorerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold, measure = iter((0.5, 0.6, 0.6, 0.6)), Watch._measure

    def measured(self: Watch, model: Any) -> Any:
        now, *rest = measure(self, model)
        return {**now, GOLD: np.full(len(now[GOLD]), next(gold))}, *rest

    monkeypatch.setattr(Watch, "_measure", measured)
    monkeypatch.setattr("experiments.training.watch.rules", lambda gold: ())
    folder = tmp_path / "patient"
    experiment = tiny_hacking(plan=replace(PLAN, every=1, patience=2))
    run(experiment, folder, parent, pool)
    result = read_run(folder)
    assert result.status == "finished" and [line["step"] for line in result.metrics] == [0, 1, 2]
    assert result.monitors[-1]["not_risen_since"] == 0 and result.monitors[-1]["stopped"]
    assert in_force(experiment, RunRecord.read(folder)) is None
    assert "the gold reward had not risen since update 0" in write_report(folder).read_text()


def test_alarms_change_settings_once_each() -> None:
    experiment = tiny_hacking(plan=replace(PLAN, on_alarm="raise_beta"))
    assert experiment.monitors is not None
    once = after_alarm(experiment, experiment.monitors)
    assert once is not None and isinstance(once.algorithm, Grpo) and once.algorithm.beta == 0.01
    twice = after_alarm(once, experiment.monitors)
    assert twice is not None and twice.algorithm == replace(experiment.algorithm, beta=0.02)
    assert (
        after_alarm(experiment, PLAN) is experiment and after_alarm(experiment, replace(PLAN, on_alarm="stop")) is None
    )


ONE: Any = {"prompts": 1, "group": 4, "micro": 4}
"""a group an update"""


@pytest.mark.parametrize(
    "cfg",
    [Nft(4, **ONE), Nft(4, **ONE, beta=0.5), OnlineDpo(4, **ONE), Dpo(4), Kto(4), Guard(4, **ONE, beta=0.5)],
    ids=lambda cfg: type(cfg).__name__,
)
def test_an_alarm_raises_whatever_weighs_the_reference(cfg: Any) -> None:
    plan = replace(PLAN, on_alarm="raise_beta", beta_factor=3.0, beta_first=0.25)
    experiment = replace(nano.grpo, algorithm=cfg)
    check(experiment, plan)
    raised = after_alarm(experiment, plan)
    assert raised is not None
    assert raised.algorithm == replace(cfg, beta=3.0 * cfg.beta if cfg.beta else 0.25)


@pytest.mark.parametrize("cfg", [Awm(4, **ONE, beta=0.5), BestOfN(4, **ONE)], ids=lambda cfg: type(cfg).__name__)
def test_what_weighs_no_reference_cannot_be_raised(cfg: Any) -> None:
    """AWM's weight is on the distance to its own average, which moves along."""
    with pytest.raises(ValueError, match=f"{type(cfg).__name__} has no KL weight"):
        check(replace(nano.grpo, algorithm=cfg), replace(PLAN, on_alarm="raise_beta"))


def test_plans_that_cannot_be_followed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Sft has no KL weight"):
        check(nano.sft, replace(PLAN, on_alarm="raise_beta"))
    with pytest.raises(ValueError, match="'ocr_judge' is what is trained on"):
        check(replace(nano.grpo, reward="0.5*ocr+0.5*ocr_judge"), PLAN)
    with pytest.raises(ValueError, match="which an autoencoder does not sample"):
        run(replace(short(nano.decoder, 1), monitors=PLAN), tmp_path / "vae")
    with pytest.raises(ValueError, match="cannot say what it reads"):
        Watch(nano.grpo, replace(PLAN, readers=("brisque", "ocr_judge")), [], tiny_model(), None, None)  # type: ignore
    for wrong in ({"every": 0}, {"patience": -1}, {"copies": 1}, {"beta_factor": 1.0}, {"beta_first": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(PLAN, **wrong)


def test_what_was_seen_is_forgotten_where_work_goes_back(tmp_path: Path) -> None:
    record = RunRecord.open(tmp_path / "run", {"a": 1})
    with record.running():
        for step in (-1, 1, 3):
            record.check(step, {"dark": math.nan, "alarms": [{"rule": "ü"}]})
        (tmp_path / "run" / "monitors").mkdir()
        for name in ("step_000001_dark_00.png", "step_000003_dark_00.png"):
            (tmp_path / "run" / "monitors" / name).touch()
        record.rewind(2)
        record.check(3, {"dark": 0.5, "alarms": []})
    assert [(x["step"], x["dark"]) for x in read_monitors(tmp_path / "run")] == [(-1, None), (1, None), (3, 0.5)]
    assert [p.name for p in (tmp_path / "run" / "monitors").iterdir()] == ["step_000001_dark_00.png"]
    text = (tmp_path / "run" / "monitors.jsonl").read_text()
    assert json.loads(text.splitlines()[1])["alarms"] == [{"rule": "ü"}]
    assert in_force(nano.grpo, record) is nano.grpo


# --- several ranks ------------------------------------------------------------------------------------------------


class Ranks:
    """One of two ranks. Rank 0 comes first and leaves what it sent, which rank 1 then finds."""

    device = torch.device("cpu")

    def __init__(self, rank: int, sent: list[torch.Tensor]) -> None:
        self.rank, self.world_size, self.sent = rank, 2, sent

    def gather(self, x_B: torch.Tensor) -> torch.Tensor:
        if self.rank == 0:
            self.sent.append(x_B)
            return torch.cat([x_B, torch.zeros_like(x_B)])
        first = self.sent.pop(0)
        assert first.shape == x_B.shape, "ranks must bring tensors of one shape"
        return torch.cat([first, x_B])


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("on_alarm", ["report", "stop", "raise_beta"])
def test_other_ranks_follow_the_alarms_of_rank_0(
    on_alarm: str, parent: Path, pool: ScorerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(PLAN, on_alarm=on_alarm, evidence=1)  # type: ignore[arg-type]
    experiment, sent, asked = tiny_hacking(plan=plan), [], []
    RunRecord.open(tmp_path, {"experiment": experiment, "parent": ""})
    after = []
    for rank in (0, 1):
        record = Onlooker.read(tmp_path) if rank else RunRecord.read(tmp_path)
        model = load_model(parent / "model")
        model.freeze_reference()
        if rank:
            monkeypatch.setattr(
                "experiments.training.watch.named_reward", lambda name: pytest.fail("rank 1 judges nothing")
            )
        with Spy(model) as spy:
            watch = Watch(
                experiment,
                plan,
                make_prompts(plan.prompts),
                model,
                record,
                pool if rank == 0 else None,
                Ranks(rank, sent),
            )
            watch.begin()
            with torch.no_grad():
                for p in model.network.parameters():
                    p.add_(0.01)
            after.append(watch.check(1, experiment))
        asked.append(len(spy.x))
    assert after[0] == after[1] and (after[0] is None) == (on_alarm == "stop")
    assert asked[0] == asked[1], "a network that is cut among ranks is asked by all of them together"
    assert not sent, "rank 1 took part in everything that rank 0 sent"
    (_, line) = read_monitors(tmp_path)
    assert [alarm["rule"] for alarm in line["alarms"]] == ["moved <at all>"]
    assert len(list((tmp_path / "monitors").iterdir())) == 2, "the image and its start, written once"


def test_what_rank_0_brings_reaches_all_ranks() -> None:
    for value in ([], [[1, 2], []], {"a": "ä" * 300, "b": 1.5}, None):
        sent: list[torch.Tensor] = []
        assert of_rank_0(Ranks(0, sent), value) == value
        assert of_rank_0(Ranks(1, sent), "something else") == value
