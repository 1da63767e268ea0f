"""From a name and options to an account: presets, experiments, and what an update of each algorithm does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from alignment.forward_process import Forward
from alignment.groups import Groups
from alignment.grpo import Grpo
from base_model.generate import at_once
from base_model.lora import Lora
from base_model.qwen.model import token_grid
from base_model.qwen.presets import IMAGE_SIZES, PRESETS, VAES
from experiments.configs import CONFIGS
from experiments.experiment import Experiment, require_one_guidance
from experiments.images.image_sources import ImageSources
from experiments.planning.dry_run import Footprint, Pass, footprint
from experiments.planning.estimate import (
    CHECKPOINT_SAMPLES,
    GB,
    NOTHING,
    Account,
    Extras,
    Setup,
    Work,
    alternatives,
    costed,
)
from experiments.planning.family_bytes import family_extras
from experiments.planning.family_plan import family_behind, family_footprint, grid_of, text_tokens
from experiments.planning.plan_text import lines, refused_lines
from preference_data.spelling import unknown


@dataclass(frozen=True)
class CommandLine:
    """What the command line says."""

    name: str
    setup: Setup
    rank: int | None
    """of LoRA; None = the experiment's"""
    ema: bool | None
    """an average of the weights; None = as the experiment has it"""
    stage: int | None
    """ZeRO stage; None compares all and takes the first that fits"""
    micro: int
    """samples a pass; 0 = the experiment's, or 1"""
    batch: int
    """samples an update and card; 0 = the experiment's, or one pass"""
    size: tuple[int, int]
    """height and width in pixels; (0, 0) = the preset's"""
    text: int
    """text tokens"""
    updates: int
    """of a preset's run"""
    base: str = ""
    """the checkpoint's folder; empty = the experiment's, or the preset alone"""


def plan(requested: CommandLine) -> tuple[int, list[str]]:
    """Returns the exit status (1 when nothing fits) and the report's lines. Raises ValueError for unknown names."""
    experiment, preset = find(requested.name)
    experiment = experiment and as_answered(experiment, requested.base)
    work = work_of(experiment, requested)
    setup = setup_of(experiment, requested)
    micro, extras, footprint_of = network_of(experiment, preset, requested, work)
    need = footprint_of(setup.rank, micro, setup.bf16)
    ways = [costed(need, way, work, extras) for way in alternatives(setup)]
    if requested.stage is not None:
        wanted = -1 if setup.gpus == 1 and requested.stage == 0 else requested.stage
        chosen = costed(need, replace(setup, zero=wanted), work, extras)
        ways = [chosen if way.setup == chosen.setup else way for way in ways]
    else:
        chosen = next((way for way in ways if way.fits), min(ways, key=lambda way: (bool(way.refused), way.total)))
    report = [*lines(requested.name, micro, ways, chosen), *curriculum_lines(experiment)]
    if chosen.fits:
        return 0, report

    def fits(other: Setup, samples: int) -> bool:
        """Whether any way of the changed run fits."""
        changed = footprint_of(other.rank, replace(micro, samples=samples), other.bf16)
        smaller = replace(work, micro=samples)
        return any(costed(changed, way, smaller, extras).fits for way in alternatives(other))

    return 1, [*report, "", *refused_lines(chosen, fits)]


def curriculum_lines(experiment: Experiment | None) -> list[str]:
    """What the experiment's data shows from which update on; [] where it stays as it is."""
    progress = getattr(experiment and experiment.data, "progress", None)
    return ["", "curriculum", *progress.lines()] if progress and len(progress.changes) > 1 else []


def accounts(experiment: Experiment, requested: CommandLine) -> list[Account]:
    """Every way to train the experiment on so many cards, worked out."""
    experiment = as_answered(experiment, requested.base)
    work, setup = work_of(experiment, requested), setup_of(experiment, requested)
    micro, extras, footprint_of = network_of(experiment, experiment.preset, requested, work)
    need = footprint_of(setup.rank, micro, setup.bf16)
    return [costed(need, way, work, extras) for way in alternatives(setup)]


def as_answered(experiment: Experiment, base: str = "") -> Experiment:
    """The experiment as its checkpoint answers it: a network that reads its guidance as a number is never asked twice.

    Raises ValueError for an update without guidance of such a network.
    """
    family = family_behind(base or experiment.base)
    if family is None or family.guidance_embedded is None:
        return experiment
    require_one_guidance(experiment)
    changed: dict[str, Any] = {}
    if experiment.algorithm.learns_from == "rollouts":
        cfg = experiment.algorithm
        changed["algorithm"] = replace(cfg, sampler=replace(cfg.sampler, guidance=1.0))
    if experiment.pairs:
        changed["pairs"] = replace(experiment.pairs, sampler=replace(experiment.pairs.sampler, guidance=1.0))
    return replace(experiment, **changed)


Counted = Callable[[int, Pass, bool], Footprint]
"""(rank of an adapter, pass, whether in bfloat16) -> what it needs"""


def network_of(
    experiment: Experiment | None, preset: str, requested: CommandLine, work: Work
) -> tuple[Pass, Extras, Counted]:
    """A pass of the network that is trained, what stands beside it, and what counts it: of a checkpoint or a preset."""
    size = requested.size if any(requested.size) or experiment is None else experiment.size
    family = family_behind(requested.base or (experiment.base if experiment else ""))
    if family is None:
        micro = Pass(work.micro, grid(preset, size), text_of(experiment, requested.text), images_of(experiment))
        count = lambda rank, one, bf16: footprint(PRESETS[preset], Lora(rank), one, bf16)  # noqa: E731
        return micro, extras_of(experiment, preset, size), count
    images = min(images_of(experiment), family.most_images)
    micro = Pass(work.micro, grid_of(family, size), text_tokens(family, requested.text), images)
    setup = setup_of(experiment, requested)
    extras = family_extras(family, experiment, micro, setup.rank, setup.bf16)
    return micro, extras, lambda rank, one, bf16: family_footprint(family, rank, one, bf16)


def find(name: str) -> tuple[Experiment | None, str]:
    """The experiment of that name, if it is one, and the preset."""
    if name in PRESETS:
        return None, name
    if name not in CONFIGS:
        named = unknown("preset and no experiment", name, [*PRESETS, *CONFIGS], "glyphlab list experiments")
        raise ValueError(f"{named}; presets are {', '.join(PRESETS)}")
    return CONFIGS[name], CONFIGS[name].preset


def setup_of(experiment: Experiment | None, requested: CommandLine) -> Setup:
    """Where and how, with what the experiment says where the command line is silent."""
    rank = requested.rank if requested.rank is not None else experiment.lora.rank if experiment else 0
    ema = requested.ema if requested.ema is not None else bool(experiment and experiment.optim.ema_decay)
    if (requested.setup.base_bits or requested.setup.base_on_host) and not rank:
        raise ValueError("the base is frozen beside an adapter only, and all weights learn here: add --rank 32")
    return replace(requested.setup, rank=rank, ema=ema, muon=bool(experiment and experiment.optim.muon_lr) and not rank)


def grid(preset: str, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of latent tokens. Raises ValueError when the image does not divide into them."""
    height, width = size if any(size) else IMAGE_SIZES[preset]
    return token_grid((height, width), VAES[preset].factor * PRESETS[preset].patch_size)


def guided(experiment: Experiment | None) -> bool:
    """Whether a pass holds every sample twice, with its prompt and with none."""
    cfg = experiment and experiment.algorithm
    return bool(cfg and getattr(cfg, "guide_update", False) and cfg.sampler.guidance != 1.0)


def text_of(experiment: Experiment | None, text: int) -> int:
    """Text tokens of a sample of a backward pass: with guidance half of them are of no prompt."""
    seen = images_of(experiment) * SEEN
    return seen + ((text + NO_PROMPT + 1) // 2 if guided(experiment) else text)


def images_of(experiment: Experiment | None) -> int:
    """Source images of a prompt."""
    plan = experiment and (experiment.prompts or (experiment.pairs and experiment.pairs.prompts))
    return plan.sources if plan else 0


def extras_of(experiment: Experiment | None, preset: str, size: tuple[int, int]) -> Extras:
    """What a run of a released checkpoint has on the card beside what learns; nothing for a preset or a small model."""
    if experiment is None or not (experiment.base or PRESETS[preset].joint_attention_dim == LANGUAGE_WIDTH):
        return NOTHING
    cfg, width = experiment.algorithm, 2.0 * PRESETS[preset].width
    shown = images_of(experiment)
    rows, drawer = 0, experiment.pairs or (cfg if cfg.learns_from == "rollouts" else None)
    image, native = (tokens(preset, one) for one in (size, (0, 0)))
    if drawer is not None:
        G = drawer.group
        own = cfg.micro if cfg.learns_from == "rollouts" else max(1, at_once(image, PROMPTS_AT_ONCE * G) // G) * G
        rows = own * (2 if drawer.sampler.guidance != 1.0 else 1)
    decoded = at_once(image, drawer.group if cfg.learns_from == "rollouts" else own) if drawer else 0
    side = (VAES[preset].factor * PRESETS[preset].patch_size) ** 2
    looked = at_once(native, CHECKPOINT_SAMPLES)
    return Extras(
        AUTOENCODER_GB, LANGUAGE_GB, rows * (image * (1 + shown) + NO_PROMPT + shown * SEEN) * FORWARD * width / GB,
        decoded * image * side * DECODE / GB, looked * native * side * DECODE / GB, texts_unknown(experiment),
        experiment.pairs is not None,
    )  # fmt: skip


def tokens(preset: str, size: tuple[int, int]) -> int:
    """Latent tokens of an image."""
    rows, columns = grid(preset, size)
    return rows * columns


def texts_unknown(experiment: Experiment) -> bool:
    """Whether the language model stays, because captions are sampled without end (see `encode_ahead` of the runner)."""
    if isinstance(experiment.data, ImageSources):
        return False
    return experiment.data is not None and not getattr(experiment.data, "limit", 0)


def work_of(experiment: Experiment | None, requested: CommandLine) -> Work:
    """What an update does. Raises ValueError for the autoencoder's experiments, which have another network."""
    if experiment is None:
        micro = max(1, requested.micro)
        batch = requested.batch or micro
        words = (f"{requested.name} is a preset: {batch} samples an update and card, {micro} a pass",)
        return checked(Work("training", batch, 0, micro, False, words, requested.updates))
    cfg = experiment.algorithm
    if requested.micro and cfg.learns_from == "rollouts":
        cfg, requested = replace(cfg, micro=requested.micro), replace(requested, micro=0)  # refuses parts of groups
    if cfg.learns_from == "images" and cfg.trains == "transformer":
        words = (f"{experiment.name}: {cfg.batch} images an update and card, {cfg.micro} a pass",)
        made = Work("flow matching", cfg.batch, 0, cfg.micro, False, words, cfg.steps)
    elif cfg.learns_from == "images":
        raise ValueError(
            f"{experiment.name} trains an autoencoder of at most 45 million weights; plans are made for the transformer"
        )
    elif cfg.learns_from == "pairs" and cfg.reads == "verdicts":
        words = (f"{experiment.name}: {cfg.batch} images, each also asked twice without learning",)
        made = Work("KTO", cfg.batch, 2 * cfg.batch, cfg.micro, True, words, cfg.steps)
    elif cfg.learns_from == "pairs":
        words = (f"{experiment.name}: {cfg.batch} pairs = {2 * cfg.batch} images, each also asked of the reference",)
        made = Work("DPO", 2 * cfg.batch, 2 * cfg.batch, 2 * cfg.micro, True, words, cfg.steps)
    else:
        made = (grpo_work if cfg.learns_at == "steps" else forward_work)(experiment.name, cfg)
    if requested.micro or requested.batch:
        made = replace(made, micro=requested.micro or made.micro, trained=requested.batch or made.trained, passes=0.0)
    return checked(made)


def checked(work: Work) -> Work:
    if not work.passes and work.trained % work.micro:
        raise ValueError(f"{work.micro} samples a pass must divide the {work.trained} of an update and card")
    return work


PROMPTS_AT_ONCE = 16
"""of made pairs"""
LANGUAGE_WIDTH = 3584
"""of Qwen2.5-VL's vectors"""
LANGUAGE_GB = 17.1
"""Qwen2.5-VL-7B in bfloat16, and a pass over a chunk of prompts"""
AUTOENCODER_GB = 0.18
SEEN = 196
"""text tokens of an image that the language model sees, of 384 x 384 pixels"""
NO_PROMPT = 6
"""text tokens of no prompt"""
FORWARD = 12.0
"""activations of a forward pass without gradients that are alive at once, in widths of a token"""
DECODE = 1900.0
"""bytes of float32 activations that the decoder holds at once for a pixel"""


def steps_of(cfg: Groups) -> float:
    """Steps of a trajectory, the mean over the window's places."""
    exploration, levels = cfg.exploration, range(cfg.sampler.steps + 1)
    ends = [first + exploration.window for first in range(exploration.starts)]
    return sum(end + len(exploration.shortened(levels[end:])) - 1 for end in ends) / len(ends)


def grpo_work(name: str, cfg: Grpo) -> Work:
    """Flow-GRPO samples whole trajectories and learns from the stochastic steps of each."""
    images, guided = cfg.prompts * cfg.group, 2 if cfg.sampler.guidance != 1.0 else 1
    exploration, updated = cfg.exploration, guided if cfg.guide_update else 1
    first = cfg.prompts if exploration.shared_noise else images  # rows up to the window's first step, it included
    learned = (first + images * (exploration.window - 1)) * updated
    requested = learned * ((cfg.beta > 0.0) + (updated != guided))  # of the reference, and of the unguided policy
    before = (exploration.within - exploration.window) / 2 + 1  # steps, the mean over the window's places
    steps = steps_of(cfg)
    samples = round((first * before + images * (steps - before)) * guided)
    shared = f", of the first one a group, as they share it: {learned // updated}" if exploration.shared_noise else ""
    words = (
        f"{name}: {cfg.prompts} prompts x {cfg.group} images = {images} a rollout and card; drawn in "
        f"{steps:g} steps{' with guidance (twice the work)' if guided == 2 else ''}",
        f"learned from: {exploration.window} stochastic steps of each = {images * exploration.window}{shared}"
        + (" rows, and as many without a prompt" if updated == 2 else "")
        + (", each also asked of the reference" if cfg.beta > 0.0 else "")
        + (", without guidance, and each asked once before" if updated != guided else ""),
    )
    passes = exploration.window * images / cfg.micro * cfg.updates
    micro, learned = cfg.micro * updated, learned * cfg.updates
    samples += requested * cfg.updates
    return Work("Flow-GRPO", learned, samples, micro, cfg.beta > 0.0, words, cfg.steps, passes, groups=True)


def forward_work(name: str, cfg: Forward) -> Work:
    """Algorithms on finished images sample whole trajectories and learn from images at a few noise levels."""
    images, guided = cfg.prompts * cfg.group, 2 if cfg.sampler.guidance != 1.0 else 1
    each, requested, with_kl = cfg.passes()
    steps = steps_of(cfg)
    learned, micro = cfg.prompts * each * cfg.levels, cfg.micro // cfg.group * each
    words = (
        f"{name}: {cfg.prompts} prompts x {cfg.group} images = {images} a rollout and card; drawn in "
        f"{steps:g} steps{' with guidance (twice the work)' if guided == 2 else ''}",
        f"learned from: {each} of a prompt at {cfg.levels} noise level(s) = {learned}"
        + (f", asked {requested} time(s) without learning" if requested else ""),
    )
    samples = round(images * steps * guided)
    samples += requested * learned
    return Work(type(cfg).__name__, learned, samples, micro, with_kl, words, cfg.steps, groups=True)
