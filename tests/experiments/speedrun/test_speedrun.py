"""The speedrun's clock, seeds, judgement and files, on attempts of two updates."""

from __future__ import annotations

import itertools
import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from base_model import train_vae
from base_model.data import latents
from base_model.data.stream import Stage
from base_model.files.weights import load_model, load_vae
from experiments.speedrun import __main__ as command
from experiments.speedrun import race
from experiments.speedrun.entries import ENTRIES
from experiments.speedrun.tasks import TASKS
from tests.fixtures.tiny.tiny_model import tiny_model


def short(experiment, steps: int = 2):
    sizes = {name: 2 for name in ("batch", "micro") if hasattr(experiment.algorithm, name)}
    data = replace(experiment.data, limit=min(experiment.data.limit, 4))
    return replace(experiment, data=data, algorithm=replace(experiment.algorithm, steps=steps, **sizes))


@pytest.fixture
def few(monkeypatch) -> None:
    """Attempts are judged on few texts."""
    whole = race.evaluate

    def on_few(model, plan, *more):
        plan = replace(plan, prompts=replace(plan.prompts, count=4), diversity_prompts=2)
        whole(model, plan, *more)

    monkeypatch.setattr(race, "evaluate", on_few)


RESULT = {"exact": 0.5, "exact_ci": (0.0, 1.0), "judge_exact": 0.5}
STAGES = tuple(short(stage) for stage in ENTRIES["ZH-300"])


def test_an_attempt_trains_its_stages_on_one_another_and_counts_what_each_took(tmp_path, few):
    ticks = itertools.count()
    attempt = race.run_attempt(TASKS["ZH-300"], STAGES, 0, tmp_path, lambda: float(next(ticks)))
    assert attempt.stage_seconds == {"decoder": 1.0, "chinese": 1.0} and attempt.cpu_seconds == 2.0
    assert attempt.updates == 2 and not attempt.passed and attempt.exact == 0.0, "two updates write nothing"
    model, vae = load_model(tmp_path / "chinese" / "model"), load_vae(tmp_path / "decoder/model/vae.safetensors")
    for a, b in zip(model.vae.parameters(), vae.parameters(), strict=True):
        assert torch.equal(a, b), "the network learned in another autoencoder"
    again = race.run_attempt(TASKS["ZH-300"], STAGES, 0, tmp_path, lambda: pytest.fail("it is there"))
    assert again == attempt
    with pytest.raises(ValueError, match="an attempt with other settings"):
        race.run_attempt(TASKS["ZH-300"], STAGES[1:], 0, tmp_path)


def test_seeds_change_weights_images_and_noise_and_nothing_else():
    (english,) = ENTRIES["EN"]
    zero, one = race.seeded(english, 0), race.seeded(english, 1)
    assert zero.data == english.data and zero.algorithm == english.algorithm and zero.seed == english.seed
    assert len({each.seed for each in (zero, one)}) == len({each.data.seed for each in (zero, one)}) == 2
    assert one.algorithm == replace(english.algorithm, seed=race.SEED_STEP)
    assert replace(one, seed=0, data=english.data, algorithm=english.algorithm) == replace(zero, seed=0)


@pytest.mark.parametrize(("exact", "gold", "passed"), [(0.95, 0.93, True), (0.94, 1.0, False), (1.0, 0.92, False)])
def test_both_engines_decide(tmp_path, monkeypatch, exact, gold, passed):
    result = {"exact": exact, "exact_ci": (0.0, 1.0), "judge_exact": gold}
    monkeypatch.setattr(race, "judged", lambda *_: result)
    attempt = race.run_attempt(TASKS["EN"], (short(ENTRIES["EN"][0], 1),), 0, tmp_path)
    assert attempt.passed is passed


def test_a_record_is_three_seeds_that_passed(tmp_path, monkeypatch, capsys):
    made = race.Attempt("EN", 0, 5, 100.0, {"english": 100.0}, 0.97, (0.94, 0.99), 0.96, True)
    three = [replace(made, seed=seed, cpu_seconds=100.0 + seed) for seed in range(3)]
    assert command.record(TASKS["EN"], three)["passed"] and command.record(TASKS["EN"], three)["cpu_seconds"] == 101.0
    assert not command.record(TASKS["EN"], three[:2])["passed"]
    assert not command.record(TASKS["EN"], [*three, replace(made, passed=False)])["passed"]
    monkeypatch.setattr(
        command, "run_attempt", lambda task, stages, seed, folder: replace(made, seed=seed, passed=seed < 1)
    )
    assert command.main(["EN", "--seeds", "0", "-o", str(tmp_path)]) == 0
    assert command.main(["EN", "--seeds", "0", "1", "-o", str(tmp_path)]) == 1
    assert json.loads((tmp_path / "EN" / "record.json").read_text())["command"].endswith("EN --seeds 0 1")
    assert "seed 1:  100.0 CPU s, 5 updates, exact 0.970 (0.940 to 0.990)" in capsys.readouterr().out


def test_committed_records_are_of_three_seeds_above_the_thresholds(capsys):
    files = sorted(command.RECORDS.glob("*.json"))
    for file in files:
        known = json.loads(file.read_text())
        task = TASKS[known["task"]]
        assert known["passed"] and len({each["seed"] for each in known["attempts"]}) >= 3
        assert all(e["exact"] >= task.exact and e["gold_exact"] >= task.gold_exact for e in known["attempts"])
    assert command.main(["--records"]) == 0
    assert capsys.readouterr().out.count("passed") == sum(len(json.loads(f.read_text())["attempts"]) for f in files)


def test_an_attempt_of_ones_own_is_a_module_with_stages(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("from experiments.speedrun.entries import english\nSTAGES = (english,)\n")
    (tmp_path / "none.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert command.stages_of(TASKS["EN"], "mine") == ENTRIES["EN"]
    with pytest.raises(ValueError, match="none has no STAGES"):
        command.stages_of(TASKS["EN"], "none")


def test_what_is_judged_are_the_averaged_weights(tmp_path, monkeypatch):
    (english,) = ENTRIES["EN"]
    judged = {}
    monkeypatch.setattr(race, "judged", lambda task, model, folder: judged.setdefault(folder.name, model) and RESULT)
    for name, decay in (("own", 0.0), ("averaged", 0.5)):
        stage = replace(short(english, 3), optim=replace(english.optim, ema_decay=decay))
        race.run_attempt(TASKS["EN"], (stage,), 0, tmp_path / name)
    own, averaged = (judged[name].network.state_dict() for name in ("own", "averaged"))
    assert any(not torch.equal(own[name], averaged[name]) for name in own)


def test_a_finite_set_is_encoded_once(tmp_path, monkeypatch):
    encoded = []
    whole = latents.encode_images
    monkeypatch.setattr(latents, "encode_images", lambda vae, images: encoded.append(len(images)) or whole(vae, images))
    monkeypatch.setattr(race, "judged", lambda *_: RESULT)
    race.run_attempt(TASKS["EN"], (short(ENTRIES["EN"][0], 5),), 0, tmp_path)
    assert encoded == [4], "five updates of two images from a set of four"


def test_entries_learn_what_their_tasks_ask_on_canvases_of_that_size():
    assert ENTRIES.keys() == TASKS.keys()
    for name, stages in ENTRIES.items():
        data, task = stages[-1].data, TASKS[name]
        assert data.progress.text[-1][1][task.level] > 0 and data.size == task.size
        assert stages[-1].size in ((0, 0), task.size)
        assert race.is_finite(latents.LatentStream(data, latents.Path("unread"))), "encoded once"


def test_a_wider_task_is_sampled_on_its_own_canvas(tmp_path, monkeypatch):
    sampled = []
    monkeypatch.setattr(race, "ScorerPool", lambda *_: nullcontext())
    monkeypatch.setattr(race, "summarise", lambda *_: RESULT)

    def sample(model, plan, folder, *more):
        sampled.append((model.picture, model.noise(1, torch.Generator()).shape[1]))
        folder.mkdir()
        (folder / "unguided.json").write_text("{}")

    monkeypatch.setattr(race, "evaluate", sample)
    assert race.judged(TASKS["ANY"], tiny_model(), tmp_path) == RESULT
    assert sampled == [((32, 160), 20)]


def test_a_new_encoder_is_saved_with_the_scale_of_its_latents_which_the_clock_counts(tmp_path, monkeypatch):
    asked, decoder, whole = [], STAGES[0], race.standardised
    decoder = replace(decoder, data=replace(decoder.data, stages=(Stage(0, (1,)),), limit=0))
    monkeypatch.setattr(race, "SCALE_BATCHES", 1)
    monkeypatch.setattr(race, "standardised", lambda *given: asked.append(next(ticks)) or whole(*given))
    for frozen in (True, False):
        ticks = itertools.count()
        stage = replace(decoder, algorithm=replace(decoder.algorithm, frozen_encoder=frozen, fine_tune=not frozen))
        (tmp_path / str(frozen)).mkdir()
        took = race.train(race.seeded(stage, 0), tmp_path / str(frozen), None, lambda: float(next(ticks)))  # noqa: B023
        assert took == (1.0 if frozen else 2.0)
    kept, new = (load_vae(tmp_path / str(frozen) / "model/vae.safetensors") for frozen in (True, False))
    assert len(asked) == 1 and torch.equal(kept.mean, load_vae(race.NANO_VAE).mean)
    with torch.no_grad():
        modes = new.moments(train_vae.to_signed(stage.data.images(0, 64)))[0]
    assert torch.allclose(modes.mean((0, 2, 3)), new.mean.flatten(), atol=1e-4)
