"""Every check of the doctor is shown to pass on a sound run and to fail on one that is broken in that way."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alignment.trajectory import Exploration
from base_model import flow
from base_model.files.checkpoint import save_atomically
from base_model.flow import Gaussian
from experiments.configs import CONFIGS, nano, nano_taste
from experiments.evaluation import doctor
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import PromptPlan
from experiments.record.record import read_run
from experiments.training.runner import open_record
from experiments.training.start_from import open_model
from preference_data.records import Prompt


@pytest.fixture
def model():
    return open_model(nano.pretrain, None)


PROMPTS = doctor.prompts_of(replace(nano.grpo, prompts=PromptPlan(count=4, seed=1)))


def recorded(folder: Path, rewards: list[float | None], name: str = "reward") -> Path:
    open_record(nano.grpo, folder, None)
    lines = [json.dumps({"step": i, "seconds": 1.0, "loss": 0.1, name: x}) for i, x in enumerate(rewards)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("name", list(CONFIGS))
def test_rates_of_the_shipped_experiments_are_real(name):
    assert doctor.rate_moves(CONFIGS[name]).passed


STEPS, WARMUP = "leave out `--optim.steps`", "only 200 updates, but the rate rises for"


@pytest.mark.parametrize(
    ("optim", "says", "silent"),
    [
        ({"steps": 40}, "ends after 40 of them (`optim.steps`): leave out `--optim.steps`", WARMUP),
        ({"warmup": 5000}, f"{WARMUP} 5000 (`optim.warmup`)", STEPS),
        ({"warmup": 500}, "train more updates or pass `--optim.warmup 1`", STEPS),
        ({"warmup": 500, "steps": 200}, WARMUP, STEPS),  # as run.json has a schedule that was laid out
    ],
)
def test_a_rate_at_its_floor_or_never_reached_fails(optim, says, silent):
    long = replace(nano.sft, algorithm=replace(nano.sft.algorithm, steps=200), optim=replace(nano.sft.optim, **optim))
    check = doctor.rate_moves(long)
    assert not check.passed and says in check.detail and silent not in check.detail


def test_a_rate_is_looked_at_over_all_updates_of_every_rollout():
    """Two updates a rollout: a schedule of 4/5 of the rollouts leaves 3/5 of the updates at its end."""
    guard = CONFIGS["nano_guard"]
    optim = replace(guard.optim, steps=guard.algorithm.steps * 4 // 5, decay_from=0.5, final_lr=0.02)
    two = replace(guard, optim=optim)
    assert guard.algorithm.updates == 2 and not doctor.rate_moves(two).passed
    assert doctor.rate_moves(replace(two, algorithm=replace(guard.algorithm, updates=1))).passed


def test_prompts_unlike_the_training_captions_fail():
    assert doctor.prompts_are_known(nano.grpo, PROMPTS).passed
    assert doctor.prompts_are_known(nano_taste.nft, make_prompts(replace(nano_taste.nft.prompts, count=60))).passed
    natural = [Prompt.from_text(f'a photo of a shop sign that says "WORD{i}"') for i in range(4)]
    check = doctor.prompts_are_known(nano.grpo, natural)
    assert not check.passed and "a photo of a shop sign" in check.detail


def test_an_engine_without_the_script_fails():
    found = doctor.reward_can_read(replace(nano.grpo, reward="ocr"), PROMPTS, Path("none"))
    assert found and found.passed
    foreign = [Prompt.from_text('the word "\u0635\u0628\u0627\u062d" in red')] * 4
    check = doctor.reward_can_read(replace(nano.grpo, reward="ocr"), foreign, Path("none"))
    assert check and not check.passed


def test_a_falling_reward_fails(tmp_path):
    falling = doctor.reward_rises(recorded(tmp_path / "a", [0.30, 0.24, 0.18, 0.11]))
    rising = doctor.reward_rises(recorded(tmp_path / "b", [0.1, 0.2, 0.25, 0.31, 0.38]))  # surely
    noisy = doctor.reward_rises(recorded(tmp_path / "c", [0.3, 0.2, 0.31, 0.22, 0.29, 0.23]))
    assert falling and not falling.passed and rising and rising.passed and noisy and noisy.passed
    assert doctor.reward_rises(recorded(tmp_path / "d", [0.3, 0.1])) is None


def test_a_loss_that_is_not_finite_fails(tmp_path):
    assert doctor.is_finite(recorded(tmp_path / "a", [0.3] * 4)).passed
    assert not doctor.is_finite(recorded(tmp_path / "b", [0.3, None], "grad_norm")).passed


def test_a_model_that_answers_otherwise_in_replay_fails(model, monkeypatch):
    cfg = nano.grpo.algorithm
    assert doctor.on_policy_ratio(model, cfg, PROMPTS).passed
    plain = model.velocity

    def restless(x: torch.Tensor, sigma: torch.Tensor, cond: object) -> torch.Tensor:
        return plain(x, sigma, cond) + 1e-3 * torch.randn_like(x)

    monkeypatch.setattr(model, "velocity", restless)
    assert not doctor.on_policy_ratio(model, cfg, PROMPTS).passed


def crooked(x: torch.Tensor, v: torch.Tensor, sigma: float, sigma_next: float, noise: float) -> Gaussian:
    step = flow.ddim(x, v, sigma, sigma_next, noise)
    return Gaussian(step.mean_BSC + 0.01, step.std)


def test_a_step_that_is_no_ode_without_noise_fails(model):
    cfg = nano.grpo.algorithm
    assert all(check.passed for check in doctor.steps_are_sound(model, cfg, PROMPTS))
    ode, spread = doctor.steps_are_sound(model, replace(cfg, exploration=Exploration(crooked)), PROMPTS)
    assert not ode.passed and spread.passed


def test_a_step_that_drowns_the_latents_fails(model, monkeypatch):
    cfg = replace(nano.grpo.algorithm, exploration=Exploration(flow.flow_sde, noise=1.2))
    assert doctor.steps_are_sound(model, cfg, PROMPTS)[1].passed
    levels = model.levels(cfg.sampler)
    monkeypatch.setattr(model, "levels", lambda sampler: [1 - 2e-6, *levels[1:]])
    assert not doctor.steps_are_sound(model, cfg, PROMPTS)[1].passed


def test_an_autoencoder_that_loses_the_letters_fails(model, monkeypatch):
    assert doctor.autoencoder_keeps_letters(model).passed
    plain = model.decode
    monkeypatch.setattr(model, "decode", lambda x: plain(x).mean((2, 3), keepdim=True).expand(-1, -1, 32, 96))
    assert not doctor.autoencoder_keeps_letters(model).passed


def test_a_reference_that_is_another_network_fails(model, monkeypatch):
    cfg = nano.dpo.algorithm
    assert doctor.dpo_at_reference(model, cfg, PROMPTS).passed

    def elsewhere() -> None:
        type(model).freeze_reference(model)
        with torch.no_grad():
            for p in model._frozen.parameters():
                p += 0.05 * torch.randn_like(p)

    monkeypatch.setattr(model, "freeze_reference", elsewhere)
    assert not doctor.dpo_at_reference(model, cfg, PROMPTS).passed


def test_the_run_s_own_settings_are_read(tmp_path):
    late = replace(nano.sft, algorithm=replace(nano.sft.algorithm, steps=200), optim=replace(nano.sft.optim, steps=40))
    open_record(late, tmp_path / "run", None)
    checks = doctor.doctor(tmp_path / "run")
    assert [check.name for check in checks if not check.passed] == ["the learning rate is high enough"]


def finished(folder: Path, steps: int = 3) -> Path:
    """A finished run of three updates with a model of one small file."""
    short = replace(nano.grpo, algorithm=replace(nano.grpo.algorithm, steps=steps))
    record = open_record(short, folder, None)
    with record.running():
        for step in range(steps):
            record.log(step, {"loss": 1.0})
        save_atomically(folder / "model", lambda new: (new / "weights").write_text(folder.name) and None)
    return folder


def checked(folder: Path) -> dict[str, doctor.Check]:
    """What is said of record and model."""
    run = read_run(folder)
    experiment = replace(nano.grpo, algorithm=replace(nano.grpo.algorithm, steps=3))
    return {"record": doctor.record_is_whole(experiment, run), "model": doctor.model_is_its_own(run)}


@pytest.mark.parametrize(
    ("spoil", "failed", "says"),
    [
        (lambda run, _: None, "", ""),
        (lambda run, _: (run / "metrics.jsonl").write_text(""), "record", "3 of 3 are missing, first 0"),
        (lambda run, _: os.truncate(run / "metrics.jsonl", 60), "record", "missing, first 1"),
        (lambda run, _: (run / "metrics.jsonl").open("a").write('{"step": 1, "seconds": 1}\n'), "record", "1 lines"),
        (lambda run, _: shutil.rmtree(run / "model"), "model", "manifest.json is missing"),
        (lambda run, _: (run / "model" / "weights").write_text("own!"), "model", "bytes instead of|has changed since"),
        (lambda run, other: shutil.copytree(other, run / "model", dirs_exist_ok=True), "model", "another one than the"),
    ],
)  # fmt: skip
def test_a_record_or_a_model_that_is_not_the_runs_is_noticed(spoil, failed, says, tmp_path):
    run, other = finished(tmp_path / "own"), finished(tmp_path / "other")
    spoil(run, other / "model")
    for name, check in checked(run).items():
        assert check.passed == (name != failed)
        assert name != failed or re.search(says, check.detail)


def test_of_a_large_model_sizes_alone_are_compared(tmp_path, monkeypatch):
    run = finished(tmp_path / "own")
    (run / "model" / "weights").write_text("OWN")
    assert "has changed since" in checked(run)["model"].detail
    monkeypatch.setattr(doctor, "READ_BYTES", 0)
    assert checked(run)["model"].passed
