"""The prompts of a run: their source images checked before any weight is read, and all encoded once before training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from base_model.condition_images import shown_size
from base_model.data.stream import TextStream
from base_model.engine.engine import Engine
from base_model.families.diffusers_model import DiffusersModel
from base_model.families.family import Family
from base_model.files.delta import base_of, is_derived
from base_model.files.open_base import read_any
from base_model.files.released import Base
from base_model.policy_model import PolicyModel
from base_model.train_vae import Autoencoder
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import Experiment
from experiments.images.image_sources import OwnImages
from experiments.preferences.load_answers import has_answers
from experiments.preferences.load_answers import load as load_comparisons
from experiments.record.record import read_success
from experiments.training import own_images
from experiments.training.own_prompts import checkpoint_prompts, monitored_prompts
from experiments.training.ranks import barrier, rank_of, ranks_of
from preference_data.image_files import read_source, source_readers
from preference_data.learnable_prompts import LearnablePrompts, check_bounds
from preference_data.prompts import PromptSet
from preference_data.records import Prompt, SourceImage
from rewards.parse import named_reward

ENCODED_AT_ONCE = 64
"""Prompts that are encoded together before training, with their source images."""
Request = tuple[str, tuple[SourceImage, ...]]
"""A prompt, and the images that it asks to edit."""


def check_prompts(experiment: Experiment, folder: Path, parent: Path | None) -> None:
    """Raises ValueError naming the prompt whose source images are missing or broken, or that the model does not take;
    or where prompts are to be chosen by a reward whose mean is no success.

    Reads no weights.
    """
    cfg = experiment.algorithm
    if cfg.learns_from == "rollouts" and cfg.success is not None:
        check_bounds(cfg.success)
        low, high = named_reward(experiment.reward).range
        if cfg.parts or not 0.0 <= low <= high <= 1.0:
            raise ValueError(
                f"algorithm.success={cfg.success} is for a reward from 0 to 1 without parts; {experiment.reward} "
                f"{'has parts' if cfg.parts else f'ranges from {low:g} to {high:g}'}: leave it out"
            )
    plans = (experiment.prompts, experiment.pairs, experiment.monitors)
    if not any(plans) or (experiment.base and parent):  # which opening the model refuses
        return
    base = starting_base(experiment, parent)
    for setting, prompts in prompts_of_run(experiment, folder, every=base is not None).items():
        for prompt in prompts:
            if refusal := refused(base, len(prompt.sources)):
                raise ValueError(f"{setting}: the prompt {prompt.text!r} has {refusal}")
        if setting == "pairs":  # a file of prompts was read with its images
            for source in (source for prompt in prompts for source in prompt.sources):
                read_source(source)


def chosen_prompts(
    experiment: Experiment, prompts: PromptSet, folder: Path, start: int, engine: Engine,
    note: Callable[[int, Mapping[str, float]], None],
) -> PromptSet | LearnablePrompts:  # fmt: skip
    """What rollouts from update `start` on ask for prompts: all in turns, or those that can still be learned from."""
    cfg = experiment.algorithm
    if cfg.learns_from != "rollouts" or cfg.success is None:
        return prompts
    slots = engine.world_size * cfg.tries
    return LearnablePrompts(prompts, cfg.success, slots, cfg.prompts, note, read_success(folder, start))


def check_sources(data: OwnImages, experiment: Experiment, parent: Path | None) -> None:
    """Raises ValueError naming the first of one's own images that was made from more or fewer images than the model
    takes. Reads no weights."""
    if experiment.base and parent:  # which opening the model refuses
        return
    base = starting_base(experiment, parent)
    for entry in (entry for source in data.sources for entry in source) if data.edits else ():
        if refusal := refused(base, len(entry.sources)):
            raise ValueError(f"{entry.name} has {refusal}")


def check_sizes(model: object, experiment: Experiment, folder: Path) -> None:
    """Raises ValueError naming the first prompt to learn from whose image cannot be made in the size that it names."""
    if not isinstance(model, PolicyModel):
        return
    by_setting = prompts_of_run(experiment, folder, every=False)
    for prompt in (prompt for name in ("prompts", "pairs.prompts") for prompt in by_setting.get(name, ())):
        try:
            if prompt.size:
                model.sized(prompt.size)
        except ValueError as error:
            raise ValueError(f"the prompt {prompt.text!r} names the size {prompt.size}: {error}") from error


def check_layouts(model: object, experiment: Experiment, folder: Path) -> None:
    """Raises ValueError where ranks would call the network differently often, and wait for each other for ever.

    Networks of diffusers are called once for every layout of source images in a batch, and with ZeRO's stage 3 the
    ranks put the weights together in every call.
    """
    split = experiment.engine == "deepspeed" and experiment.zero_stage == 3 and ranks_of(experiment) > 1
    if not (split and isinstance(model, DiffusersModel)):
        return
    layouts: dict[tuple[tuple[int, int], ...], Prompt] = {}
    for prompt in (prompt for prompts in prompts_of_run(experiment, folder, every=True).values() for prompt in prompts):
        sizes = (shown_size((source.height, source.width), model.picture, model.side) for source in prompt.sources)
        layouts.setdefault(tuple(sizes), prompt)
    if len(layouts) > 1:
        one, two, *_ = layouts.values()
        raise ValueError(
            f"the source images of {one.text!r} and {two.text!r} are shown to the model in different numbers or sizes, "
            f"{', '.join(map(str, list(layouts)[:2]))}, and zero_stage=3 needs the same of all prompts: bring the "
            "images to one size, or use --zero-stage 2"
        )


def starting_base(experiment: Experiment, parent: Path | None) -> Base | Family | None:
    """What the checkpoint that a run starts from says of itself; None of our own presets."""
    if experiment.base:
        return read_any(experiment.base)
    return base_of(parent / "model") if parent and is_derived(parent / "model") else None


def prompts_of_run(experiment: Experiment, folder: Path, every: bool) -> dict[str, Sequence[Prompt]]:
    """The prompts of a run by the setting that names them; those of answers that were brought along as `pairs`.

    Captions of scenes, which show no source image, only where `every` prompt is asked for.
    """
    pairs = experiment.pairs
    answered = experiment.algorithm.learns_from == "pairs" and has_answers(folder)
    plans = {
        "prompts": experiment.prompts,
        "pairs.prompts": pairs.prompts if pairs and not answered else None,
    }
    used = {name: plan for name, plan in plans.items() if plan and (plan.file or every)}
    made: dict[str, Sequence[Prompt]] = {name: make_prompts(plan) for name, plan in used.items()}
    if experiment.monitors and (every or experiment.monitors.prompts.file):
        made["monitors.prompts"] = monitored_prompts(experiment, experiment.monitors, folder)
    return made | ({"pairs": [answer.prompt for answer in load_comparisons(folder)]} if answered else {})


def refused(base: Base | Family | None, images: int) -> str:
    """Why a model does not take so many source images, naming it; "" where it does."""
    if isinstance(base, Base):
        fewest, most, name = base.task.fewest_images, base.task.most_images, base.task.pipeline
    else:
        fewest, most, name = 0, base.most_images if base else PolicyModel.most_images, base.pipeline if base else ""
    if fewest <= images <= most:
        return ""
    name = f"a {name} checkpoint" if name else "a model of ours"
    takes = (
        f"takes {fewest} to {most}" if fewest < most else f"takes {most}" if most else "takes none: it does not edit"
    )
    return f"{images or 'no'} source image{'s' if images != 1 else ''}, and {name} {takes}"


def encode_ahead(model: PolicyModel | Autoencoder, experiment: Experiment, folder: Path) -> None:
    """Encode every prompt of a run once, where all are known before it begins, and let the text encoders go.

    Their memory is then free for training. An endless stream keeps them, and meets the cache where captions repeat.
    Each rank encodes its part; where the ranks share no folder, each then encodes the rest as well.
    """
    if isinstance(model, Autoencoder) or not model.keeps_base or (known := requests_of(experiment, folder)) is None:
        return
    shown = checkpoint_prompts(experiment, folder)
    if experiment.monitors:
        shown += monitored_prompts(experiment, experiment.monitors, folder)
    requests = [*dict.fromkeys([*known, *((prompt.text, prompt.sources) for prompt in shown)])]
    if model.needs_images:  # checkpoint samples without any are left out there
        requests = [request for request in requests if request[1]]
    if experiment.engine == "deepspeed":
        encode_in_parts(model, requests[rank_of(experiment) :: ranks_of(experiment)])
        barrier(experiment)
    encode_in_parts(model, requests)
    model.release_encoders()


def encode_in_parts(model: PolicyModel, requests: Sequence[Request]) -> None:
    """Encode prompts ahead, so that the source images of few are in memory at a time."""
    for part in (requests[i : i + ENCODED_AT_ONCE] for i in range(0, len(requests), ENCODED_AT_ONCE)):
        model.encode_ahead(
            [text for text, _ in part], model.read_images(source_readers(sources for _, sources in part))[:]
        )


def requests_of(experiment: Experiment, folder: Path) -> list[Request] | None:
    """The captions or prompts that a run learns from; None when they are not known before it begins."""
    captions: Sequence[str] | None = None
    if isinstance(data := experiment.data, OwnImages):
        captions = own_images.captions_ahead(data, folder)
    elif isinstance(data, TextStream):
        captions = data.scenes(0, data.limit)[1] if data.limit and data.is_constant else None
    if data is not None:
        return None if captions is None else [(text, ()) for text in captions]
    if experiment.algorithm.learns_from == "pairs" and has_answers(folder):
        return [(answer.prompt.text, answer.prompt.sources) for answer in load_comparisons(folder)]
    plan = experiment.prompts or (experiment.pairs and experiment.pairs.prompts)
    return [(prompt.text, prompt.sources) for prompt in make_prompts(plan)] if plan else None
