"""Every algorithm as `glyphlab train` runs it: from its named settings to a finished folder, with answers and judges.

Shapes: G samples of a prompt, 3HW pixels.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alignment.dpo import Dpo
from alignment.forward_process import Forward
from alignment.groups import Groups
from alignment.trajectory import Exploration
from base_model.files.weights import load_model, load_vae, save_model
from base_model.qwen.model import build
from base_model.qwen.presets import IMAGE_SIZES, PRESETS
from base_model.sample import Sampler
from experiments.cli import main
from experiments.configs import CONFIGS, nano_algorithms
from experiments.experiment import LOOPS, Experiment
from experiments.planning.estimate import Setup
from experiments.planning.from_experiment import CommandLine, plan
from experiments.preferences.from_people import install
from experiments.preferences.load_answers import load_answers, load_verdicts
from experiments.record.metric_table import MEASURED, METRICS, explained
from experiments.record.record import read_png, read_run
from experiments.record.recorded_settings import rebuild
from experiments.record.whole_files import plain, write_png
from experiments.training.runner import open_record, run
from preference_data.comparisons import Comparison, to_jsonl
from preference_data.exchange import judgements
from preference_data.exchange.judgements import Judgement
from preference_data.pixels import pixel_hash
from preference_data.records import ImageRef, Prompt, Provenance
from rewards.scores import Scores
from rewards.serving.metering import Meter
from rewards.serving.workers import ScoringError
from tests.fixtures.toy_alignment import Judged, redness

PAGES = Path(__file__).parents[3] / "docs" / "explanation" / "algorithms"
DRAWING = [c for c in nano_algorithms.configs if isinstance(c.algorithm, Groups)]
ANSWERING = [c for c in nano_algorithms.configs if isinstance(c.algorithm, Dpo)]
ONE_CARD = Setup("h100-80gb", 1, -1, True, False, False, 0, 0.4, False, False, 0.0)
MADE = Provenance("nano", "", 0, 8, 1.0, "somewhere", 0)


class Pool(Judged):
    """A judge as the runner wants one."""

    name = "machine:redness"

    def __init__(self) -> None:
        super().__init__(redness)
        self.meter = Meter()


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nano preset with random weights, as a finished run."""
    folder = tmp_path_factory.mktemp("algorithms") / "parent"
    model = build(PRESETS["nano"], load_vae(), IMAGE_SIZES["nano"], seed=0)
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.network.parameters():
            if weight.ndim == 2 and not weight.any():
                weight.normal_(std=0.05, generator=chance)
    (folder / "model").mkdir(parents=True)
    save_model(model, folder / "model")
    return folder


def small(experiment: Experiment) -> Experiment:
    """Two updates of a few images."""
    cfg = experiment.algorithm
    if isinstance(cfg, Groups):
        window = 2 if cfg.exploration.window > 2 else 1
        walk = replace(cfg.exploration, window=window, within=2)
        cfg = replace(cfg, steps=2, prompts=1, group=3, micro=3, sampler=Sampler(steps=3), exploration=walk)
        if isinstance(cfg, Forward):
            cfg = replace(cfg, levels=1)
    else:
        cfg = replace(cfg, steps=2, batch=2, micro=2)
    prompts = replace(experiment.prompts, count=3) if experiment.prompts else None
    optim = replace(experiment.optim, steps=2, warmup=0)
    return replace(experiment, algorithm=cfg, optim=optim, prompts=prompts, save_every=100)


def answered(folder: Path, outcomes: Sequence[str]) -> list[Comparison]:
    """Images of random pixels beside a file of comparisons."""
    random, found = np.random.default_rng(0), []
    for i, outcome in enumerate(outcomes):
        refs = []
        for _ in range(2):
            image = random.integers(0, 256, (3, *IMAGE_SIZES["nano"]), dtype=np.uint8)
            sha = pixel_hash(image)
            write_png(folder / f"{sha}.png", image)
            refs.append(ImageRef(sha, f"{sha}.png", image.shape[2], image.shape[1], MADE))
        prompt = Prompt.from_text(f'the word "{"ABCDEFGH"[i]}" in red sans')
        found.append(Comparison(prompt, *refs, outcome, "human:c", 0.25 if outcome == "left" else None))
    (folder / "answers.jsonl").write_text(to_jsonl(found), encoding="utf-8")
    return found


@pytest.mark.parametrize("config", DRAWING, ids=[c.name for c in DRAWING])
def test_an_algorithm_runs_from_its_name(config, parent, tmp_path):
    experiment = small(CONFIGS[config.name])
    run(experiment, tmp_path / "run", parent, Pool())
    done = read_run(tmp_path / "run")
    assert done.status == "finished" and [line["step"] for line in done.metrics] == [0, 1]
    for line in done.metrics:
        assert math.isfinite(line["loss"]) and line["grad_norm"] >= 0.0 and line["groups_without_spread"] == 0.0
        assert line.get("ratio_gap_first", 0.0) == 0.0
    page = (PAGES / f"{Path(inspect.getfile(type(experiment.algorithm))).stem}.md").read_text(encoding="utf-8")
    unexplained = [name for name in done.metrics[0] if name not in ("step", *MEASURED) and f"`{name}`" not in page]
    assert not unexplained, unexplained
    assert not [name for name in done.metrics[0] if explained(name, METRICS) is None]
    before, after = (load_model(place / "model").network.state_dict() for place in (parent, tmp_path / "run"))
    assert any(not torch.equal(before[name], after[name]) for name in before)


class Gone(Pool):
    """A reward that judges nothing any more."""

    def submit(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Future[Scores]:
        future: Future[Scores] = Future()
        future.set_result(Scores(np.full(len(prompts), math.nan), {}, {"remote": len(prompts)}))
        self.meter.add(future.result())
        return future


def test_a_run_whose_reward_is_gone_ends_and_does_not_call_itself_finished(parent, tmp_path, monkeypatch):
    """What was counted on another rank, here a copy of the first, is in the record as well."""
    monkeypatch.setattr("experiments.training.judged.MOST", 2)
    monkeypatch.setattr("experiments.training.runner.of_all_ranks", lambda engine, value: [value, value])
    with pytest.raises(ScoringError, match=r"judged none of its images \(remote\), nor any of the 1 updates before"):
        run(small(CONFIGS["nano_grpo"]), tmp_path / "run", parent, Gone())
    failed = read_run(tmp_path / "run")
    assert failed.status == "failed" and [line["unjudged/remote"] for line in failed.metrics] == [6.0, 6.0]


def test_every_online_algorithm_has_a_name():
    assert {type(c.algorithm) for c in DRAWING} == {kind for kind in LOOPS if kind.learns_from == "rollouts"}


@pytest.mark.parametrize("config", ANSWERING, ids=[c.name for c in ANSWERING])
def test_answers_of_people_reach_training(config, parent, tmp_path):
    (tmp_path / "people").mkdir()
    said = answered(tmp_path / "people", ["left", "right", "tie", "both_bad", "both_good"])
    experiment, folder = small(CONFIGS[config.name]), tmp_path / "run"
    open_record(experiment, folder, parent)
    assert install(experiment, [str(tmp_path / "people" / "answers.jsonl")], "", folder).name == "comparisons.jsonl"
    run(experiment, folder, parent)
    done = read_run(folder)
    assert done.status == "finished"
    page = (PAGES / f"{Path(inspect.getfile(type(experiment.algorithm))).stem}.md").read_text(encoding="utf-8")
    unexplained = [name for name in done.metrics[0] if name not in ("step", *MEASURED) and f"`{name}`" not in page]
    assert not unexplained, unexplained
    assert not [name for name in done.metrics[0] if explained(name, METRICS) is None]
    model = load_model(parent / "model")
    given, verdicts = load_answers(model, folder), load_verdicts(model, folder)
    assert given.tie_N.tolist() == [False, False, True, True, True]
    assert given.texts == tuple(c.prompt.text for c in said)
    assert given.margin_N[0] == 0.25 and bool(given.margin_N[1:].isnan().all())
    winner = {0: said[0].left, 1: said[1].right}
    for i, ref in winner.items():
        pixels = torch.from_numpy(read_png(tmp_path / "people" / ref.path)).float()[None] / 255.0
        torch.testing.assert_close(given.first_NSC[i], model.encode_pixels(pixels)[0], atol=1e-4, rtol=1e-4)
    assert verdicts.good_N.tolist() == [True, False, False, True, False, False, True, True], "a tie says neither"
    torch.testing.assert_close(verdicts.x0_NSC[0], given.first_NSC[0])
    torch.testing.assert_close(verdicts.x0_NSC[3], given.first_NSC[1])


def test_plain_ties_call_nothing_good(parent, tmp_path):
    (tmp_path / "people").mkdir()
    answered(tmp_path / "people", ["tie"])
    install(CONFIGS["nano_kto"], [str(tmp_path / "people" / "answers.jsonl")], "", tmp_path / "run")
    with pytest.raises(ValueError, match="only plain ties"):
        load_verdicts(load_model(parent / "model"), tmp_path / "run")


def test_judgements_keep_their_ties_and_their_margins():
    refs = [ImageRef(c * 64, f"{c}.png", 96, 32, MADE) for c in "ab"]
    prompt = Prompt.from_text("a word")
    said = [
        Judgement(prompt, *refs, "second", votes=(1, 3, 0)), Judgement(prompt, *refs, "both_bad", votes=(1, 1, 2)),
        Judgement(prompt, *refs, "first"),
    ]  # fmt: skip
    found = judgements.compared(said, "human:c")
    assert [(c.outcome, c.strength) for c in found] == [("right", 0.5), ("both_bad", None), ("left", None)]
    assert found[0].left is refs[0] and found[0].annotator == "human:c"


def test_settings_that_are_functions_come_back():
    experiment = CONFIGS["nano_tied_dpo"]
    assert plain(experiment)["algorithm"]["likelihood"] == "alignment.tied_dpo.rao_kupper"
    assert rebuild(plain(experiment)) == experiment


@pytest.mark.parametrize("config", nano_algorithms.configs, ids=[c.name for c in nano_algorithms.configs])
def test_a_plan_counts_its_work(config):
    asked = CommandLine(config.name, ONE_CARD, None, None, None, 0, 0, (0, 0), 64, 100)
    status, lines = plan(asked)
    assert status == 0 and any(config.name in line for line in lines)


def test_a_walk_without_a_window_draws_for_algorithms_on_pictures(parent, tmp_path):
    experiment = small(CONFIGS["nano_nft"])
    walk = Exploration(window=0, within=2, shared_noise=False)
    run(
        replace(experiment, algorithm=replace(experiment.algorithm, exploration=walk)), tmp_path / "run", parent, Pool()
    )
    assert read_run(tmp_path / "run").status == "finished"


def test_answers_start_a_run_from_the_command_line(parent, tmp_path):
    """In a new folder: what is installed there beforehand must not make it look like something else."""
    (tmp_path / "people").mkdir()
    answered(tmp_path / "people", ["left", "tie"])
    asked = ["--pairs", str(tmp_path / "people" / "answers.jsonl"), "--parent", str(parent)]
    few = ["--algorithm.steps", "2", "--algorithm.batch", "2", "--algorithm.micro", "2", "--optim.steps", "2"]
    assert main(["train", "nano_tied_dpo", "--out", str(tmp_path / "run"), *asked, *few, "--no-evaluate"]) == 0
    assert [line["ties"] for line in read_run(tmp_path / "run").metrics] == [0.5, 0.5]
