"""Images a second, the share of a card's peak, and memory: by closed form, and left out where they are not known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from base_model import pretrain
from base_model.engine.step import Step
from base_model.sample import Sampler
from experiments.configs import nano, nano_algorithms, nano_edit
from experiments.experiment import Experiment
from experiments.planning.accelerators import CARDS, card_of_device
from experiments.record.metric_table import MEASURED
from experiments.record.record import read_run
from experiments.training import throughput
from experiments.training.own_prompts import checkpoint_prompts
from experiments.training.runner import run
from experiments.training.start_from import open_model
from experiments.training.throughput import Throughput, images_of, main_type, model_flops, open_throughput, peak_tflops
from preference_data.records import Prompt, SourceImage
from tests.fixtures.tiny.tiny_chain import short
from tests.fixtures.tiny.tiny_model import tiny_model

CPU = torch.device("cpu")
TEXTS = ["the word AB in red"] * 3
PROMPTS = [Prompt.from_text(TEXTS[0])]


class Clock:
    """Stands in for the time that passes."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def steps(self, speed: Throughput, seconds: float, *metrics: dict[str, float]) -> Iterator[Step]:
        """Steps that take so long each, measured as the runner measures them; a checkpoint is saved after each."""
        for i, one in enumerate(metrics):
            speed.begin()
            self.now += seconds
            yield speed.measured(Step(i, one))
            self.now += 20.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    return clock


def test_each_update_is_timed_by_itself_and_what_happens_between_is_left_out(clock: Clock) -> None:
    steps = clock.steps(Throughput(24, 3e9, CPU), 0.5, {"loss": 1.0}, {"loss": 2.0})
    speeds = [step.metrics for step in steps]
    assert [step["loss"] for step in speeds] == [1.0, 2.0]
    for one in speeds:
        assert one["images_per_second"] == pytest.approx(48.0) and one["mfu"] == pytest.approx(6e9)
        assert 0.05 < one["memory_gb"] < 64.0


def test_rollouts_that_are_tried_again_and_updates_without_a_loss_have_no_mfu(clock: Clock) -> None:
    metrics = ({"loss": 1.0, "tries": 3.0}, {"groups_without_spread": 1.0}, {"loss": 1.0, "tries": 1.0})
    (tried, nothing, known) = clock.steps(Throughput(4, 1.0, CPU), 2.0, *metrics)
    assert "mfu" not in tried.metrics and "mfu" not in nothing.metrics and known.metrics["mfu"] == 0.5
    assert tried.metrics["images_per_second"] == 6.0 and known.metrics["images_per_second"] == 2.0


@pytest.mark.parametrize(
    ("experiment", "images"),
    [(nano.pretrain, 64), (nano.grpo, 48), (nano_algorithms.nft, 48), (nano.dpo, 64), (nano_algorithms.tied_dpo, 64),
     (nano_algorithms.kto, 64), (nano.decoder, 16)],
)  # fmt: skip
def test_images_of_an_update(experiment: Experiment, images: int) -> None:
    assert images_of(experiment.algorithm) == images


@pytest.mark.parametrize(
    ("device", "card"),
    [("NVIDIA H200", "h200-141gb"), ("NVIDIA A100-SXM4-80GB", "a100-80gb"), ("NVIDIA H100 80GB HBM3", "h100-80gb"),
     ("NVIDIA GeForce RTX 4090", "rtx4090-24gb"), ("NVIDIA GeForce RTX 4090 D", None), ("NVIDIA H100 PCIe", None),
     ("NVIDIA GeForce RTX 4090 Laptop GPU", None), ("", None)],
)  # fmt: skip
def test_a_card_is_known_by_its_whole_name_or_not_at_all(device: str, card: str | None) -> None:
    assert card_of_device(device) is (CARDS[card] if card else None)


def test_no_name_is_that_of_two_cards() -> None:
    names = [name for card in CARDS.values() for name in card.devices]
    assert len(set(names)) == len(names) >= len(CARDS)


def test_the_peak_is_that_of_the_type_of_most_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    network, cuda = torch.nn.Linear(8, 8), torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert peak_tflops(nano.grpo, network, cuda) == CARDS["h200-141gb"].fp32_tflops
    network.weight.data = network.weight.data.bfloat16()
    assert main_type(network) is torch.bfloat16
    assert peak_tflops(nano.grpo, network, cuda) == CARDS["h200-141gb"].bf16_tflops
    assert peak_tflops(replace(nano.grpo, peak_tflops=70.0), network, cuda) == 70.0
    assert peak_tflops(nano.grpo, network.half(), cuda) == 0.0, "the table has no peak of float16"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Something New")
    assert peak_tflops(nano.grpo, network, cuda) == peak_tflops(nano.grpo, network, CPU) == 0.0


def test_flops_are_those_that_torch_counts() -> None:
    """Of a backward pass over a batch; attention, which torch does not count on a CPU, is little at this size."""
    experiment = replace(nano.pretrain, algorithm=replace(nano.pretrain.algorithm, batch=4, micro=2))
    model = open_model(experiment, None)
    cond = model.encode_text(TEXTS[:1] * 4)
    x0 = torch.randn(4, model.grid[0] * model.grid[1], model.channels)
    micro = pretrain.Micro(x0, torch.randn_like(x0), torch.full((4,), 0.5), cond)
    with FlopCounterMode(display=False) as counter:
        pretrain.loss(model, micro)[0].backward()
    counted = model_flops(experiment, model, TEXTS)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.06)
    more = replace(experiment, algorithm=replace(experiment.algorithm, batch=8))
    assert model_flops(more, model, TEXTS) == pytest.approx(2 * counted)


def test_flops_are_unknown_where_no_plan_fits() -> None:
    model = open_model(nano.pretrain, None)
    assert model_flops(nano.grpo, model, TEXTS) > 0.0
    assert model_flops(nano.grpo, tiny_model(), TEXTS) == 0.0, "another network than the preset's"
    assert model_flops(nano_edit.config, model, TEXTS) == 0.0
    assert model_flops(replace(nano_algorithms.nft, algorithm=replace(nano_algorithms.nft.algorithm, updates=2)), model,
                       TEXTS) == 0.0  # fmt: skip
    once, twice = (model_flops(replace(nano.grpo, algorithm=replace(nano.grpo.algorithm, updates=n, beta=0.1)), model,
                               TEXTS) for n in (1, 2))  # fmt: skip
    sampler = Sampler(nano.grpo.algorithm.sampler.steps, 1.0)
    free = replace(nano.grpo, algorithm=replace(nano.grpo.algorithm, sampler=sampler))
    assert once < twice < 2 * once and model_flops(free, model, TEXTS) < once


def test_a_run_logs_them_for_all_ranks_together(tmp_path: Path) -> None:
    experiment = short(replace(nano.pretrain, algorithm=replace(nano.pretrain.algorithm, batch=4, micro=4)), 2)
    run(replace(experiment, peak_tflops=0.5), tmp_path / "run")
    texts = [prompt.text for prompt in checkpoint_prompts(experiment, tmp_path)]
    flops = model_flops(experiment, open_model(experiment, None), texts)
    for line in read_run(tmp_path / "run").metrics:
        assert set(MEASURED) <= set(line)
        seconds = 4 / float(line["images_per_second"] or 0.0)
        assert line["mfu"] == pytest.approx(flops / (0.5e12 * seconds))
    engine = SimpleNamespace(world_size=8, device=CPU)
    assert open_throughput(experiment, tiny_model(), engine, PROMPTS)._images == 32  # type: ignore[arg-type]


def test_nothing_is_counted_where_no_peak_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "model_flops", lambda *_: pytest.fail("it costs seconds"))
    engine = SimpleNamespace(world_size=1, device=CPU)
    assert open_throughput(nano.grpo, tiny_model(), engine, PROMPTS)._flops == 0.0  # type: ignore[arg-type]
    image = SourceImage("a" * 64, 8, 8)
    edits = [replace(PROMPTS[0], sources=(image,))]
    known = replace(nano.grpo, peak_tflops=1.0)
    assert open_throughput(known, tiny_model(), engine, edits)._flops == 0.0  # type: ignore[arg-type]
