"""Where a GPU is, everything runs on it: here on a card that is none, which refuses what lies partly on the host."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from base_model import devices
from base_model.files.weights import load_model, load_vae, save_model
from base_model.sample import Sampler
from experiments.benchmarks.card.recipe import IndexScorer
from experiments.configs import nano, nano_vae
from experiments.evaluation import doctor
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.sample_run import sample_to_file
from experiments.experiment import EvaluationPlan, PromptPlan
from experiments.planning.card import Card
from experiments.planning.torch_patches import opened
from experiments.progress import Progress
from experiments.training.runner import open_record, run
from experiments.training.start_from import open_model
from preference_data.records import Prompt
from rewards.scores import Scores


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a GRPO run with a finished model."""
    folder = tmp_path_factory.mktemp("devices") / "run"
    walk, sampler = nano.grpo.algorithm.exploration, replace(nano.grpo.algorithm.sampler, steps=4)
    short = replace(
        nano.grpo.algorithm, group=2, micro=4, sampler=sampler, exploration=replace(walk, within=walk.window + 1)
    )
    short = replace(nano.grpo, algorithm=short, prompts=PromptPlan(count=4, seed=1))
    open_record(short, folder, None)
    save_model(open_model(nano.pretrain, None, device="cpu"), folder / "model")
    return folder


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    monkeypatch.setattr(devices, "GPU", "meta")
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    with opened() as card:
        yield card


@pytest.mark.parametrize("there", [True, False])
def test_a_device_that_is_asked_for_is_taken_and_a_gpu_otherwise(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert devices.best_device() == devices.best_device("") == ("cuda" if there else "cpu")
    assert devices.best_device("cpu") == "cpu"


class Blind:
    """An engine that reads the same everywhere, for what is not about reading."""

    name = "blind"

    def load(self) -> Blind:
        return self

    def __call__(self, prompts: Sequence[Prompt], images: np.ndarray) -> Scores:
        assert len(images) == len(prompts)
        return Scores(np.ones(len(prompts)), {})


def test_the_doctor_looks_where_the_gpu_is(finished: Path, card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "Ocr", Blind)
    found = {check.name for check in doctor.doctor(finished)}
    assert {"on-policy ratio is exactly 1", "the autoencoder keeps the letters"} <= found
    assert card.peaks["start"] > 10_000_000


def test_samples_are_made_where_the_gpu_is(finished: Path, tmp_path: Path, card: Card) -> None:
    assert sample_to_file(finished, "the word RUN in red", 0, tmp_path / "a.png", 2.0, 2, 1).exists()
    assert card.peaks["start"] > 10_000_000


class Reader(IndexScorer):
    """Scores of nothing, with the parts that an evaluation keeps."""

    def submit(self, prompts: Sequence[Prompt], images_uint8_B3HW: np.ndarray) -> Future[Scores]:
        value = super().submit(prompts, images_uint8_B3HW).result().value_B
        answer: Future[Scores] = Future()
        answer.set_result(Scores(value, {"ned_score": value, "exact": value}))
        return answer


def test_evaluations_run_where_the_gpu_is(finished: Path, tmp_path: Path, card: Card) -> None:
    plan = EvaluationPlan(PromptPlan(2, 5, heldout=True), (("guided", Sampler(2, 2.0)),), 3, 2, 2, grid_images=1)
    pool: Any = Reader()
    model = load_model(finished / "model", devices.best_device())
    evaluate(model, plan, tmp_path, pool, pool, Progress({}, io.StringIO()))
    assert (tmp_path / "guided.json").exists() and card.peaks["start"] > 10_000_000


@pytest.mark.parametrize("frozen", [False, True])
def test_autoencoder_stages_train_where_the_gpu_is(frozen: bool, tmp_path: Path, card: Card) -> None:
    cfg = replace(nano_vae.config.algorithm, steps=2, batch=2, frozen_encoder=frozen)
    short = replace(nano_vae.config, algorithm=cfg, save_every=1)
    run(short, tmp_path / "run", progress=Progress({short.name: 1.0}, io.StringIO()))
    assert card.peaks["start"] > 1_000_000
    assert load_vae(tmp_path / "run" / "model" / "vae.safetensors").cfg.z_dim == 16
