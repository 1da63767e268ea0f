"""The benchmark of GRPO iterations: both sides do what they say, and its command ends with one line of JSON."""

from __future__ import annotations

import json
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from base_model.families.open_checkpoint import open_checkpoint
from base_model.lora import Lora
from base_model.sample import Sampler
from base_model.seeding import generator
from experiments.benchmarks import rollout
from experiments.benchmarks.card.random_weights import random_model
from experiments.benchmarks.rollout import Benchmark, TimedEngine, common_iteration, common_loss, common_rollout
from preference_data.prompts import PromptSet
from rewards.scores import Scores
from tests.fixtures.tiny.tiny_families import save_pipeline
from tests.fixtures.tiny.tiny_model import Spy, same, tiny_model, weights

TINY = Benchmark(prompts=2, group=2, micro=2, steps=4, window=1, within=2, guidance=2.0, workers=1, repeats=1)
TEXTS = ('the word "AB" in red', 'the word "AB" in red')


def test_the_common_recipe_shares_nothing_and_guides_by_two_passes() -> None:
    model = tiny_model()
    with Spy(model) as spy:
        kept, x0 = common_rollout(model, TEXTS, TINY, generator(0, 0, 0, "test"), slice(0, 2))
    assert len(kept) == 3, "every step but the last"
    assert [len(x) for x in spy.x] == [2] * 8, "two passes a step, of an image each"
    assert not torch.equal(kept[0].x_BSC[0], kept[0].x_BSC[1]), "own noise"
    assert x0.shape == kept[0].x_BSC.shape


def test_its_ratio_is_one_before_the_first_update_and_it_learns() -> None:
    model = tiny_model()
    kept, _ = common_rollout(model, TEXTS, TINY, generator(0, 0, 0, "test"), slice(0, 2))
    loss, metrics = common_loss(model, kept[1]._replace(advantage_B=torch.tensor([1.0, -1.0])), TINY)
    assert metrics["ratio_gap"] == 0 and loss == 0 and loss.requires_grad
    prompts = PromptSet.from_texts(['the word "AB" in red', 'the word "C" in blue'])
    before, engine = weights(model), TimedEngine(model)
    scorer = lambda prompts, images: Scores(images.mean((1, 2, 3)).astype(np.float64), {})  # noqa: E731
    common_iteration(model, engine, prompts, scorer, TINY, 0)  # type: ignore[arg-type]
    assert not same(before, weights(model)) and min(engine.clock.seconds.values()) > 0
    images, steps, both = 4, TINY.steps, 2
    assert engine.clock.forward == images * both * (steps + steps - 1), (
        "sampled, and every step but the last learned from"
    )
    assert engine.clock.learned == images * both * (steps - 1)


def test_the_command_at_a_tiny_size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(rollout, "measure", lambda cfg, whole=rollout.measure: whole(cfg, tiny_model()))
    options = ["--prompts", "2", "--group", "2", "--micro", "2", "--steps", "4", "--window", "1", "--within", "2",
               "--workers", "1", "--repeats", "1", "--reward", "brisque"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["rollout", *options])
    rollout.main()
    lines = capsys.readouterr().out.splitlines()
    numbers = json.loads(lines[-1])
    assert numbers["ratio"] == pytest.approx(numbers["common_seconds"] / numbers["ours_seconds"], rel=0.02)
    assert numbers["common_forward"] - numbers["common_learned"] == 4 * 4 * 2, "four images, four steps, guidance"
    assert numbers["hybrid_learned"] == numbers["ours_learned"] / 2, "without guidance"
    assert numbers["hybrid_short_learned"] == numbers["hybrid_learned"]
    assert numbers["hybrid_short_forward"] < numbers["hybrid_forward"], "fewer steps after the window"
    for side in rollout.SIDES:
        assert 0.0 < numbers[f"{side}_cpu_seconds"] < 10 * numbers[f"{side}_seconds"]
        parts = sum(numbers[f"{side}_{part}_seconds"] for part in rollout.PARTS)
        assert parts == pytest.approx(numbers[f"{side}_seconds"], rel=0.01)
        assert numbers[f"{side}_pictures_per_second"] == pytest.approx(4 / numbers[f"{side}_seconds"], rel=0.01)
    for side in ("hybrid", "hybrid_short"):
        ratio = numbers["common_seconds"] / numbers[f"{side}_seconds"]
        assert numbers[f"{side}_ratio"] == pytest.approx(ratio, rel=0.02)
    assert [line.split()[0] for line in lines[1:5]] == ["ours", "hybrid", "hybrid_short", "common"]


class Brightness:
    """Scores at once, in place of other processes."""

    def __init__(self, *_: object) -> None:
        self.name = "brightness"

    def __enter__(self) -> Brightness:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __call__(self, prompts: object, images: np.ndarray) -> Scores:
        return Scores(images.reshape(len(images), -1).mean(1).astype(np.float64), {})

    def submit(self, prompts: object, images: np.ndarray) -> Future[Scores]:
        answer: Future[Scores] = Future()
        answer.set_result(self(prompts, images))
        return answer


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are scored in this process."""
    monkeypatch.setattr(rollout, "ScorerPool", Brightness)
    monkeypatch.setattr(rollout, "named_reward", lambda _: SimpleNamespace(load=Brightness))


def test_a_reward_that_tells_no_image_from_another_measures_nothing(
    here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Brightness, "__call__", lambda self, prompts, images: Scores(np.zeros(len(images)), {}))
    with pytest.raises(ValueError, match="'ocr' scores all images of every prompt alike"):
        rollout.measure(TINY, tiny_model())


@pytest.mark.slow
def test_a_base_is_measured_beside_the_bare_product(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny folder stands for stable-diffusion-3.5-medium: the same line, and its network without its weights."""
    pytest.importorskip("diffusers")
    folder, cfg = save_pipeline("sd3", tmp_path / "sd3"), replace(TINY, size=(64, 96), rank=2, product=64)
    monkeypatch.setattr(rollout, "best_device", lambda: "cpu")
    numbers = rollout.measure(replace(cfg, base=str(folder), recompute=True))
    for side in rollout.SIDES:
        assert numbers[f"{side}_share"] > 0.0 and numbers[f"{side}_pictures_per_second"] > 0.0
    with pytest.raises(ValueError, match=r"neither a folder nor one of .*stable-diffusion-3\.5-medium"):
        rollout.measure(replace(cfg, base="sd4"))


def test_random_weights_are_those_of_a_run_with_an_adapter(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    folder = save_pipeline("sd3", tmp_path / "sd3")
    model, released = random_model(str(folder), (64, 96), Lora(2)), open_checkpoint(folder, (64, 96))
    names = {name: p.shape for name, p in model.network.named_parameters() if ".lora_" not in name}
    assert {name.replace(".base_layer", ""): shape for name, shape in names.items()} == {
        name: p.shape for name, p in released.network.named_parameters()
    }
    assert {p.dtype for name, p in model.network.named_parameters() if ".lora_" not in name} == {torch.bfloat16}
    assert all((".lora_" in name) == p.requires_grad for name, p in model.network.named_parameters())
    one, other = model.encode_text(["a red fox", "a blue fox"]).text_BLD
    assert one.shape == released.family.hollow_row()["text"].shape and not torch.equal(one, other)
    assert torch.equal(one, model.encode_text(["a red fox"]).text_BLD[0])
    sampler = Sampler(4)
    assert model.levels(sampler) == released.levels(sampler)


def test_sizes_that_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="repeats=0"):
        Benchmark(repeats=0)
    with pytest.raises(ValueError, match="micro=3"):
        Benchmark(micro=3).grpo(1)
