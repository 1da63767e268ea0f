"""A run's model is on one device: network, autoencoder and what they are given."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from experiments.benchmarks.card.recipe import IndexScorer, without_numbers
from experiments.experiment import Experiment
from experiments.planning.torch_patches import opened
from experiments.progress import Progress
from experiments.training.runner import run
from experiments.training.start_from import open_model
from tests.experiments.training.test_faults import tiny_grpo
from tests.experiments.training.test_runner import tiny_pretrain


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places") / "parent"
    run(tiny_pretrain(steps=1), folder)
    return folder


@pytest.mark.parametrize("fresh", [True, False])
def test_a_preset_goes_where_it_is_told(parent: Path, fresh: bool) -> None:
    model = open_model(tiny_pretrain() if fresh else tiny_grpo(), None if fresh else parent, device="meta")
    parts = [*model.network.parameters(), *model.vae.parameters(), *model.text.vae.parameters()]
    assert {p.device.type for p in parts} == {"meta"} and model.device.type == "meta"


def test_a_gpu_is_used_where_there_is_one(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("experiments.training.start_from.load_model", lambda folder, device, *_: told.append(device))
    monkeypatch.setattr("experiments.training.start_from.build", lambda *rest: told.append(rest[-1]))
    monkeypatch.setattr("experiments.training.start_from.equip", lambda *_: None)
    for start in (parent, None):
        with pytest.raises(AttributeError):
            open_model(tiny_pretrain(), start)
    assert told == ["cuda", "cuda"]


@pytest.mark.slow  # all of a run on a card that is none
@pytest.mark.parametrize("experiment", [tiny_pretrain(steps=2), tiny_grpo(2)], ids=["pretrain", "grpo"])
def test_nothing_of_a_run_is_left_on_the_host(experiment: Experiment, parent: Path, tmp_path: Path) -> None:
    """On a card that is none: mixing raises."""
    start = None if experiment.name == tiny_pretrain().name else parent
    with opened() as card, without_numbers(card):
        run(
            experiment, tmp_path / "run", start, IndexScorer(), Progress({experiment.name: 60.0}, io.StringIO()), "meta"
        )  # type: ignore[arg-type]
    assert (tmp_path / "run" / "model" / "transformer.safetensors").exists()
