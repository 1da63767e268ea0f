"""The first run on a laptop: two languages from nothing, and alignment with a taste that nobody put into words.

Pretraining's captions leave things open. Simulated people answer "left or right?" about 600 pairs of the model's own
images; a reward is trained on the answers, and DiffusionNFT learns from it and from OCR. Beside it, from the same start
and the same answers: OCR alone, DPO, fine-tuning on the preferred images, and the reward alone.

Every stage is an experiment in its own folder; whatever is finished is skipped, whatever was interrupted goes on. The
numbers of a run depend on the settings alone, not on where it was interrupted. Two processes share the work, one for
each core: this one trains `MAIN_LINE`, the other the decoder meanwhile, and then `SIDE_LINE`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from base_model.data.rendered_text import render
from base_model.devices import best_device
from base_model.files.checkpoint import MANIFEST, save_atomically, verify
from base_model.files.weights import load_model
from experiments.configs import nano_taste
from experiments.evaluation.evaluate import evaluate, is_judged, row
from experiments.evaluation.prompts_of_plan import make_scenes
from experiments.experiment import THREADS, AnswerPlan, EvaluationPlan, Experiment, laid_out
from experiments.preferences.from_people import install
from experiments.preferences.from_scores import PAIRS
from experiments.preferences.own_answers import ANSWERS, CHOSEN, collect_answers
from experiments.preferences.simulated_people import appearance, people
from experiments.progress import Progress
from experiments.quickstart import taste_summary
from experiments.quickstart.peak_memory import PeakMemory
from experiments.quickstart.side_process import SideProcess
from experiments.quickstart.stages import is_finished, train_stage, wait_for, wait_for_files
from experiments.quickstart.taste_notes import headline, write_notes
from experiments.record.record import RUN, RunRecord, write_json
from experiments.record.whole_files import model_identity, write_bytes
from experiments.report.report import write_report
from experiments.reward_models.train_reward import train_reward
from experiments.training.runner import open_record, run
from preference_data.records import Prompt
from rewards.learned.reward import CONTENT, learned_at
from rewards.learned.reward_settings import TrainReward
from rewards.parse import named_reward
from rewards.scores import Reward
from rewards.serving.workers import ScorerPool
from rewards.text.ocr import Ocr, OcrGold

MAIN_LINE, SIDE_LINE = ("nft", "nft_taste"), ("dpo", "chosen", "nft_ocr")
"""Who trains and evaluates which of the stages that begin from the pretrained model."""
ANSWERED, REWARD = "answers", "reward"
"""The folders of the answers and of the reward."""
FURTHER = 1000
"""From one seed of a whole run to the next: far enough apart that no two stages of two runs share one."""
VAE = "vae.safetensors"
REST_SECONDS = 40.0
"""Expected between the last stage's end and the last evaluation's; only for the remaining-time estimate."""


@dataclass(frozen=True)
class TasteChain:
    """The stages, the answers and the evaluations."""

    decoder: Experiment = nano_taste.decoder
    pretrain: Experiment = nano_taste.pretrain
    nft: Experiment = nano_taste.nft
    nft_ocr: Experiment = nano_taste.ocr
    nft_taste: Experiment = nano_taste.alone
    dpo: Experiment = nano_taste.dpo
    chosen: Experiment = nano_taste.chosen
    answers: AnswerPlan = nano_taste.answers
    voters: int = nano_taste.VOTERS
    captions: EvaluationPlan = nano_taste.captions
    """full captions"""
    left_open: EvaluationPlan = nano_taste.left_open
    """prompts that leave the look open"""
    reward: TrainReward = field(default_factory=TrainReward)
    seed: int = 0
    """of all training together, as `with_seed` sets it"""

    def with_seed(self, seed: int) -> TasteChain:
        """The same settings on other weights, images, prompts, noise and answers; what evaluates them stays.

        Raises ValueError for a seed below 0.
        """
        if seed < 0:
            raise ValueError(f"seed={seed} must be at least 0")
        chain: TasteChain = moved(self, FURTHER * (seed - self.seed))
        return replace(chain, seed=seed, captions=self.captions, left_open=self.left_open)

    def stage(self, name: str) -> Experiment:
        """The experiment of a stage, by the stage's name."""
        stages = {
            "decoder": self.decoder, "pretrain": self.pretrain, "nft": self.nft, "nft_ocr": self.nft_ocr,
            "nft_taste": self.nft_taste, "dpo": self.dpo, "chosen": self.chosen,
        }  # fmt: skip
        return replace(stages[name], name=name)

    def settings(self) -> dict[str, object]:
        """Everything, as a run records it."""
        all_of = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: laid_out(x) if isinstance(x, Experiment) else x for name, x in all_of.items()}

    def plans(self, name: str) -> dict[str, EvaluationPlan]:
        """How a stage is evaluated, by the folder it leaves: guided too where alignment begins and where it ends."""
        samplers = slice(None) if name in ("pretrain", "nft") else slice(1)
        plans = {"evaluation": self.left_open, "captions": self.captions}
        return {folder: replace(plan, samplers=plan.samplers[samplers]) for folder, plan in plans.items()}


def moved(settings: Any, by: int) -> Any:
    """A dataclass with `by` added to every seed in it and in the dataclasses inside it."""
    inside = {each.name: getattr(settings, each.name) for each in fields(settings)}
    changed = {
        name: value + by if name == "seed" else moved(value, by)
        for name, value in inside.items()
        if name == "seed" or (is_dataclass(value) and not isinstance(value, type))
    }
    return replace(settings, **changed)


def quickstart(folder: Path, chain: TasteChain | None = None, seed: int = 0) -> Path:
    """Run what is not done yet, of the chain with that seed; the path of the report.

    Raises ValueError when the folder is something else, and as `TasteChain.with_seed`.
    """
    chain = (chain or TasteChain()).with_seed(seed)
    torch.set_num_threads(THREADS)
    overall = RunRecord.open(folder, {"quickstart": chain.settings()})
    if not overall.finished:
        with overall.running(), PeakMemory(folder / "memory.json"):
            run_chain(folder, chain)
            result = taste_summary.summary(folder, chain.voters, overall.seconds)
            write_json(folder / "summary.json", result | {"headline": headline(result)})
            write_notes(folder)
    result = json.loads((folder / "summary.json").read_text())
    print(*taste_summary.table_rows(result), sep="\n")
    return write_report(folder)


def run_chain(folder: Path, chain: TasteChain) -> None:
    """The main line, while the other process does what is beside it."""
    left = [name for name in SIDE_LINE if not judged(folder / name, chain.plans(name))]
    expected = {name: chain.stage(name).minutes * 60.0 for name in ("pretrain", *MAIN_LINE)}
    bar = Progress({**expected, "what runs beside": REST_SECONDS})
    with SideProcess(partial(side_work, chain), folder) as side:
        train_stage(chain.stage("pretrain"), folder / "pretrain", None, bar)
        while not is_finished(folder / "decoder"):
            side.wait(0.2)
        adopt_decoder(folder)
        answer(folder, chain, bar)
        with scorers() as pools:
            for name in MAIN_LINE:
                train_stage(
                    chain.stage(name), folder / name, folder / "pretrain", bar, reward_of(chain, name, folder), 1
                )
                side.check()
                evaluate_stage(folder / name, chain.plans(name), *pools, bar)
        with bar.stage("what runs beside", len(left)):
            while not side.wait(1.0):
                bar.advance(0, {})


def answer(folder: Path, chain: TasteChain, bar: Progress) -> None:
    """Collect the answers about images of the pretrained model, and train the reward on them."""
    if not (folder / ANSWERED / ANSWERS).exists():
        model = load_model(folder / "pretrain" / "model", best_device())
        annotators = people(chain.answers.people, chain.answers.seed)
        with bar.stage("answers", 1):
            collect_answers(model, chain.answers, annotators, folder / ANSWERED, bar)
    if not (folder / REWARD / CONTENT).exists():
        lines = train_reward(folder / ANSWERED / ANSWERS, folder / REWARD, "pixels", chain.reward)
        write_bytes(folder / "reward.txt", "\n".join(lines).encode())


def adopt_decoder(folder: Path) -> None:
    """Put the refined autoencoder beside the pretrained network, whose latents are the same: that is the run's model
    from now on."""
    refined, model = folder / "decoder" / "model" / VAE, folder / "pretrain" / "model"
    record = model.parent / RUN

    def write(unfinished: Path) -> None:
        shutil.copytree(model, unfinished, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        shutil.copyfile(refined, unfinished / VAE)

    try:
        verify(model)
        is_done = refined.read_bytes() == (model / VAE).read_bytes()
    except (ValueError, OSError):  # an older version put it there alone, or a process died here
        is_done = False
    if not is_done:
        save_atomically(model, write)
    state = json.loads(record.read_text(encoding="utf-8"))
    write_json(record, state | {"model": model_identity(model.parent)})


def reward_of(chain: TasteChain, name: str, folder: Path) -> Reward:
    """The reward that a stage's settings name, with the trained part from this run's folder."""
    reward: Reward = learned_at(named_reward(chain.stage(name).reward), folder / REWARD)
    return reward


def side_work(chain: TasteChain, folder: Path) -> None:
    """The decoder; then, when there are answers, what is compared with the main line."""
    torch.set_num_threads(THREADS)
    with open(os.devnull, "w") as nowhere:
        silent = Progress({}, nowhere)
        run(chain.stage("decoder"), folder / "decoder", None, None, silent)
        wait_for(folder / "pretrain")
        wait_for_files([folder / ANSWERED / ANSWERS])  # the decoder is in its place then
        with scorers() as pools:
            evaluate_stage(folder / "pretrain", chain.plans("pretrain"), *pools, silent)
            evaluate_stated(folder, chain, *pools, silent)
            read_renderings(folder / "pretrain", chain.captions, *pools)
            for name in SIDE_LINE:
                if not is_finished(folder / name):  # what it read may have moved with the folder since
                    train_sidecar(chain.stage(name), folder, name, silent, reward_of(chain, name, folder))
                evaluate_stage(folder / name, chain.plans(name), *pools, silent)


def train_sidecar(experiment: Experiment, folder: Path, name: str, bar: Progress, reward: Reward) -> None:
    """A stage with what it reads of the answers put into its place."""
    if experiment.algorithm.learns_from == "pairs":
        open_record(laid_out(experiment), folder / name, folder / "pretrain")  # before anything is put there
        install(experiment, [str(folder / ANSWERED / PAIRS)], "", folder / name)
    if experiment.algorithm.learns_from == "images":
        experiment = replace(experiment, data=replace(experiment.data, folder=(str(folder / ANSWERED / CHOSEN),)))
    train_stage(experiment, folder / name, folder / "pretrain", bar, reward, 1)


@contextmanager
def scorers() -> Iterator[tuple[ScorerPool, ScorerPool]]:
    """The engine of the reward, and the one that nothing is trained on."""
    with ScorerPool(Ocr(), 1) as reward, ScorerPool(OcrGold(), 1) as gold:
        yield reward, gold


def judged(stage: Path, plans: dict[str, EvaluationPlan]) -> bool:
    """Whether all evaluations of a stage are there."""
    return all(is_judged(stage, plan, inside) for inside, plan in plans.items())


def evaluate_stage(
    stage: Path, plans: dict[str, EvaluationPlan], reward: ScorerPool, gold: ScorerPool, bar: Progress
) -> None:  # fmt: skip
    """Evaluate a finished stage in all ways that are not done yet."""
    if not judged(stage, plans):
        model = load_model(stage / "model", best_device())
        for inside, plan in plans.items():
            evaluate(model, plan, stage / inside, reward, gold, bar, measure=appearance)


def evaluate_stated(folder: Path, chain: TasteChain, reward: ScorerPool, gold: ScorerPool, bar: Progress) -> None:
    """The pretrained model on prompts that say the taste in words: who can do that needs no alignment."""
    plan = chain.plans("stated")["evaluation"]
    if not is_judged(folder / "pretrain", plan, taste_summary.STATED_FOLDER):
        model = load_model(folder / "pretrain" / "model", best_device())
        stated = taste_summary.stated_prompts(plan.prompts)
        evaluate(model, plan, folder / "pretrain" / taste_summary.STATED_FOLDER, reward, gold, bar, stated, appearance)


def read_renderings(stage: Path, plan: EvaluationPlan, reward: ScorerPool, gold: ScorerPool) -> None:
    """What both engines read of clean renderings of what full captions ask for: no model can be read better."""
    file = stage / taste_summary.RENDERED_FOLDER / "unguided.json"
    if not file.exists():
        scenes = make_scenes(plan.prompts)
        prompts, images = (
            [Prompt.from_text(each.caption) for each in scenes],
            np.stack([render(each) for each in scenes]),
        )
        scores = [engine.submit(prompts, images).result() for engine in (reward, gold)]
        write_json(file, {"rows": [row(prompt, *scores, i) for i, prompt in enumerate(prompts)]})
