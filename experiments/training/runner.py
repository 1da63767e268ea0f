"""Runs one experiment in one folder: resume, log, save, stop. What is learned is in the loops; when to look is here.

A stage folder holds run.json, metrics.jsonl, checkpoints/ (written whole or not at all) and, when finished, model/.
Running it again goes on from the newest intact checkpoint, or does nothing when it is finished.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO, TypeVar

import numpy as np
from safetensors import SafetensorError

from alignment.monitoring.step_metrics import ByStep
from base_model import train_vae
from base_model.data.mixture import TaskStream
from base_model.data.rendered_pages import PageStream
from base_model.data.stream import TextStream
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.files.checkpoint import keep_last, latest, save_atomically
from base_model.files.family_vae import FamilyVae, save_family_vae
from base_model.files.weights import save_model, save_vae
from base_model.generate import generate
from base_model.lora import has_adapter
from base_model.policy_model import PolicyModel
from base_model.sample import Sampler
from base_model.train_vae import Autoencoder
from experiments.evaluation.evaluate import fixed_noise
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import LOOPS, Experiment, laid_out
from experiments.images.image_sources import OwnImages
from experiments.preferences.from_scores import load_pairs, make_pairs
from experiments.preferences.load_answers import has_answers, load_answers, load_verdicts
from experiments.progress import Progress
from experiments.record.changed_settings import CHANGEABLE
from experiments.record.record import RunRecord
from experiments.record.recorded_settings import rebuild
from experiments.record.whole_files import plain
from experiments.training import own_images
from experiments.training.finish import agreed_checkpoint, finished_model
from experiments.training.image_data import image_data, remove_ring
from experiments.training.judged import Judged
from experiments.training.other_images import tell_changes
from experiments.training.own_prompts import FIXED_PROMPTS, checkpoint_prompts, keep_judged, monitored_prompts, readable
from experiments.training.ranks import (
    Onlooker,
    Termination,
    barrier,
    make_engine,
    of_all_ranks,
    rank_of,
    ranks_of,
    require_same_settings,
    torch_as_it_was,
)
from experiments.training.run_prompts import (
    check_layouts,
    check_prompts,
    check_sizes,
    check_sources,
    chosen_prompts,
    encode_ahead,
)
from experiments.training.start_from import model_begun_from, open_either, require_model, starting_weights
from experiments.training.throughput import Throughput, open_throughput
from experiments.training.watch import Watch, in_force
from preference_data.image_files import source_readers
from preference_data.prompts import PromptSet
from preference_data.records import Prompt
from rewards.serving.flat_groups import SpreadMeter
from rewards.serving.metering import Sums, means
from rewards.serving.workers import ScorerPool

CHECKPOINTS = 2
"""Newest checkpoints kept."""

LOADERS: Mapping[str, Callable[..., Any]] = {
    "pairs": load_pairs, "answers": load_answers, "verdicts": load_verdicts
}  # fmt: skip
"""What reads the answers in a folder, by what the settings say they read."""

T = TypeVar("T")


def required(experiment: Experiment, value: T | None, what: str) -> T:
    """The value. Raises ValueError when the experiment lacks something that its algorithm needs."""
    if value is None:
        raise ValueError(f"the experiment {experiment.name} has no {what}, and its algorithm needs it")
    return value


def image_stream(experiment: Experiment, vae: Autoencoder) -> TextStream | PageStream | OwnImages:
    """The experiment's stream of images, own ones in a size that the autoencoder takes.

    Raises ValueError when it has none, or one of tasks.
    """
    data = required(experiment, experiment.data, "data")
    if isinstance(data, TaskStream):
        raise ValueError(f"{experiment.name}: an autoencoder learns from images, not from a {type(data).__name__}")
    return own_images.for_autoencoder(data, experiment, vae.multiple) if isinstance(data, OwnImages) else data


@contextlib.contextmanager
def updates(
    experiment: Experiment, model: PolicyModel | Autoencoder, engine: Engine, folder: Path, start: int,
    pool: ScorerPool | None, note: Callable[[int, Mapping[str, float]], None] = lambda step, success: None,
) -> Iterator[Iterator[Step]]:  # fmt: skip
    """The experiment's training loop as an iterator of updates, with what it reads from held open.

    `note` keeps what the choice of prompts needs when the run goes on later.
    """
    cfg = experiment.algorithm
    loop = LOOPS[type(cfg)]
    if cfg.learns_from == "rollouts":
        plan = required(experiment, experiment.prompts, "prompts")
        prompts = chosen_prompts(experiment, PromptSet(make_prompts(plan), plan.seed), folder, start, engine, note)
        yield loop(model, engine, prompts, required(experiment, pool, "judge"), cfg, start)
    elif cfg.learns_from == "pairs":
        yield loop(model, engine, LOADERS[cfg.reads](model, folder), cfg, start)
    else:
        stream = required(experiment, experiment.data, "data") if isinstance(model, PolicyModel) else image_stream(
            experiment, model
        )  # fmt: skip
        with image_data(experiment, model, engine, folder, stream) as data:
            yield loop(model, engine, data, cfg, start)


def open_record(
    experiment: Experiment, folder: Path, parent: Path | None, more: Mapping[str, Any] | None = None
) -> RunRecord:
    """The run of these settings in `folder`, made when it is new: before anything else is put there.

    `more` is recorded beside the settings and must stay like them. Rank 0 makes it; the others wait and only read.
    Raises ValueError where ranks have other settings.
    """
    settings = {"experiment": laid_out(experiment), "parent": os.path.relpath(parent, folder) if parent else ""}
    settings |= (more or {}) | model_begun_from(folder, parent)
    require_same_settings(experiment, plain(settings))
    if rank_of(experiment):
        barrier(experiment)
        return Onlooker.read(folder)
    record = RunRecord.open(folder, settings, CHANGEABLE, lambda config: plain(rebuild(config)))
    barrier(experiment)
    return record


def run(
    experiment: Experiment, folder: Path, parent: Path | None = None, pool: ScorerPool | None = None,
    progress: Progress | None = None, device: str | None = None,
) -> None:  # fmt: skip
    """Train in `folder` until the experiment's last update, from wherever the folder says it is.

    `parent` is a finished stage to start from, `pool` scores made pairs and images that are sampled while training,
    `device` is where a diffusion model goes (None: a GPU where there is one).
    """
    experiment = laid_out(experiment)
    images = own_images.opened(experiment, folder, parent)
    record = open_record(experiment, folder, parent, own_images.facts(images, folder))
    if record.finished:
        if progress:
            progress.skip(experiment.name)
        return
    check_prompts(experiment, folder, parent)
    if images and experiment.algorithm.trains == "transformer":
        check_sources(images, experiment, parent)
    if images:
        tell_changes(experiment, folder, parent)
        experiment = replace(experiment, data=images)
    bar = progress or Progress({experiment.name: experiment.minutes * 60.0}, audience(experiment))
    if pool:
        pool.meter.drain()  # what was judged before this run is none of its cost
    with torch_as_it_was(), Termination() as termination, record.running(), contextlib.ExitStack() as shown:
        require_model(experiment, parent)  # before there is a bar
        shown.enter_context(bar.stage(experiment.name, experiment.algorithm.steps))
        model, engine = prepare(experiment, folder, parent, pool, bar, device)
        start = resume(engine, folder, record, bar)
        begun = begin(experiment, model, engine, record, bar, pool, termination)
        now: Experiment | None = in_force(experiment, record) if begun.watch else experiment
        while now is not None and start < experiment.algorithm.steps:
            # where a monitor changes the settings, a loop with the new ones goes on from there
            current, learner, scorer = now, begun.by_step or engine, begun.spread or pool
            bar.note("reading what it learns from")  # and encoding it, which may take half a minute
            with updates(current, model, learner, folder, start, scorer, record.success) as loop:
                begun.speed.begin()
                for step in loop:
                    start, now = step.index + 1, after_update(begun.speed.measured(step), current, begun)
                    if now is not current:
                        break
                    begun.speed.begin()
                else:
                    start = experiment.algorithm.steps
        if engine.rank == 0:
            keep_judged(experiment, folder)
            remove_ring(folder)
        finish(experiment, model, engine, folder, parent)


def prepare(
    experiment: Experiment, folder: Path, parent: Path | None, pool: ScorerPool | None, bar: Progress,
    device: str | None,
) -> tuple[PolicyModel | Autoencoder, Engine]:  # fmt: skip
    """The model, with what it reads and learns from checked and in place, and the engine around what learns."""
    model = open_either(experiment, parent, folder, device)
    if isinstance(experiment.data, OwnImages) and isinstance(model, PolicyModel) and not model.keeps_base:
        model.native = model.picture  # what it is for from now on, so that it samples what it learned
    check_layouts(model, experiment, folder)
    check_sizes(model, experiment, folder)
    encode_ahead(model, experiment, folder)
    if experiment.algorithm.learns_from == "pairs":
        answered = has_answers(folder)
        barrier(experiment)  # rank 0 may write the pairs only when all have looked
        if not answered:
            plan, scorer = required(experiment, experiment.pairs, "pairs"), required(experiment, pool, "judge")
            ranks = rank_of(experiment), ranks_of(experiment)
            make_pairs(model, plan, folder, scorer, bar, "", *ranks, lambda: barrier(experiment))
    return model, equip_engine(experiment, model)


def audience(experiment: Experiment) -> TextIO | None:
    """Returns where progress is written: to the terminal on one rank, nowhere on the others."""
    return io.StringIO() if rank_of(experiment) else None


def equip_engine(experiment: Experiment, model: PolicyModel | Autoencoder) -> Engine:
    """The engine around what learns; the model calls its network through it."""
    if not isinstance(model, PolicyModel):
        return make_engine(experiment, model, next(model.parameters()).device, keep_frozen=True)
    if experiment.monitors or ((cfg := experiment.algorithm).learns_from != "images" and cfg.needs_reference):
        model.freeze_reference()
    engine = make_engine(experiment, model.trainable, model.device, keep_frozen=not has_adapter(model.network))
    model.trainable = engine.module
    model.match_reference()
    return engine


def finish(
    experiment: Experiment, model: PolicyModel | Autoencoder, engine: Engine, folder: Path, parent: Path | None
) -> None:
    """Save the finished model. Weights that are split among ranks are put together in a last checkpoint first."""
    if experiment.engine == "local" and not engine.rounded:  # else the checkpoint alone has all digits
        with engine.averaged():
            save_atomically(folder / "model", lambda unfinished: save(model, experiment, unfinished))
        return
    last = folder / "checkpoints" / f"update_{experiment.algorithm.steps:06d}"  # the loop's step: some make no update
    save_checkpoint(engine, last)
    if engine.rank == 0:
        whole = finished_model(model, last, lambda: starting_weights(experiment, parent))
        save_atomically(folder / "model", lambda unfinished: save(whole, experiment, unfinished))
    barrier(experiment)


def resume(engine: Engine, folder: Path, record: RunRecord, bar: Progress) -> int:
    """Load the newest intact checkpoint; the next update's index. Metrics logged after it are dropped."""
    newest = agreed_checkpoint(engine, folder / "checkpoints")
    start = int(newest.name.removeprefix("update_")) if newest else 0
    if newest:
        engine.load(newest)
    record.rewind(start)
    record.adopt(start)
    bar.advance(start)
    return start


class Begun(NamedTuple):
    """What a run has open from its first update to its last."""

    model: PolicyModel | Autoencoder
    engine: Engine
    record: RunRecord
    bar: Progress
    termination: Termination
    speed: Throughput
    shown: Sequence[Prompt]
    """prompts that are sampled at every checkpoint"""
    watch: Watch | None
    by_step: ByStep | None
    spread: SpreadMeter | None
    meters: Sequence[Callable[[], Sums]]
    """what this rank measured since the last update"""
    judged: Judged


def begin(
    experiment: Experiment, model: PolicyModel | Autoencoder, engine: Engine, record: RunRecord, bar: Progress,
    pool: ScorerPool | None, termination: Termination,
) -> Begun:  # fmt: skip
    """Open what looks at the run while it trains."""
    watch = open_watch(experiment, model, record, pool, engine)
    shown = checkpoint_prompts(experiment, record.folder)
    sampler = getattr(experiment.algorithm, "sampler", None)  # of algorithms that learn from steps of their rollouts
    by_step = ByStep(engine, model.levels(sampler)) if watch and isinstance(sampler, Sampler) else None
    spread = SpreadMeter(pool) if watch and pool else None
    speed = open_throughput(experiment, model, engine, shown)
    meters = [meter.sums for meter in (by_step, spread, pool and pool.meter) if meter]
    judged = Judged(experiment.reward)
    return Begun(model, engine, record, bar, termination, speed, shown, watch, by_step, spread, meters, judged)


def open_watch(
    experiment: Experiment,
    model: PolicyModel | Autoencoder,
    record: RunRecord,
    pool: ScorerPool | None,
    engine: Engine,
) -> Watch | None:
    """What the experiment's monitors see, begun. Raises ValueError for an autoencoder, which samples no prompts."""
    if experiment.monitors is None:
        return None
    if not isinstance(model, PolicyModel):
        raise ValueError(f"{experiment.name}: monitors look at images of prompts, which an autoencoder does not sample")
    prompts = readable(monitored_prompts(experiment, experiment.monitors, record.folder), model)
    watch = Watch(experiment, experiment.monitors, prompts, model.sized(model.native), record, pool, engine)
    watch.begin()
    return watch


def after_update(step: Step, experiment: Experiment, begun: Begun) -> Experiment | None:
    """Log an update, with what all ranks metered meanwhile; every now and then look, sample the prompts that are shown
    from the same noise, and save. The settings to go on with: others, or None, where an alarm says so.

    Raises KeyboardInterrupt, with a checkpoint saved, where the run is to end early, and as `Judged`.
    """
    model, engine, record = begun.model, begun.engine, begun.record
    mine = {name: each for sums in begun.meters for name, each in sums().items()}
    metrics = dict(step.metrics) | (means(of_all_ranks(engine, mine)) if begun.meters else {})
    record.log(step.index, metrics)
    begun.judged.check(step.index, metrics)
    begun.bar.advance(1, step.metrics)
    done, steps = step.index + 1, experiment.algorithm.steps
    after: Experiment | None = experiment
    if begun.watch and begun.watch.due(step.index):
        begun.bar.note("looking at held-out prompts")
        with engine.averaged():
            after = begun.watch.check(step.index, experiment)
    is_requested = begun.termination.requested(engine) and done < steps
    if (done % experiment.save_every == 0 and done < steps) or after is None or is_requested:
        if isinstance(model, PolicyModel) and (prompts := samplable(model, begun.shown)):
            with engine.averaged():
                sized = model if isinstance(experiment.data, OwnImages) else model.sized(model.native)
                samples = sample_checkpoint(sized, prompts)
            record.samples(
                step.index, samples, [prompt.text for prompt in prompts],
                sources=[[source.path for source in prompt.sources] for prompt in prompts],
            )  # fmt: skip
        save_checkpoint(engine, record.folder / "checkpoints" / f"update_{done:06d}")
    if is_requested:
        raise KeyboardInterrupt(f"terminated after update {step.index}; its checkpoint is saved")
    return after


def save_checkpoint(engine: Engine, folder: Path) -> None:
    """Write a checkpoint and delete those that are too old. Raises OSError when it does not fit."""
    try:
        save_atomically(folder, engine.save, engine.rank)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own for a full disk
        before = latest(folder.parent)
        remedy = f"the one before, {before.name}, is whole" if before else "there is none before it"
        raise OSError(
            f"the checkpoint {folder} could not be written ({error}); {remedy}. Make room on the disk and run it again: "  # noqa: E501
            "it goes on from there"
        ) from error
    if engine.rank == 0:
        keep_last(folder.parent, CHECKPOINTS)


def samplable(model: PolicyModel, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Those of the prompts that the model can be sampled from: one that only edits needs their source images."""
    return [prompt for prompt in prompts if prompt.sources or not model.needs_images]


def sample_checkpoint(model: PolicyModel, prompts: Sequence[Prompt]) -> np.ndarray:
    """Images of a few prompts as the model samples when nobody says otherwise, always from the same noise."""
    images = model.read_images(source_readers(prompt.sources for prompt in prompts))
    texts = [prompt.text for prompt in prompts]
    return generate(model, texts, fixed_noise(model, len(texts), FIXED_PROMPTS.seed), model.sampler, images)


def save(model: PolicyModel | Autoencoder, experiment: Experiment, path: Path) -> None:
    """The finished model, weights and configuration in one file each."""
    if isinstance(model, PolicyModel):
        save_model(model, path)
        return
    if isinstance(model, FamilyVae):
        save_family_vae(model, path)
        return
    if not experiment.algorithm.frozen_encoder:
        model = train_vae.standardised(model, image_stream(experiment, model))
    save_vae(model, path / "vae.safetensors")
