"""An experiment is a value: what is learned, from what, with which settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Union

from alignment import awm, best_of_n, dpo, dppo, grpo, guard, kto, nft, online_dpo, rwr, tied_dpo
from alignment.awm import Awm
from alignment.best_of_n import BestOfN
from alignment.dpo import Dpo
from alignment.dppo import Dppo
from alignment.grpo import Grpo
from alignment.guard import Guard
from alignment.kto import Kto
from alignment.nft import Nft
from alignment.online_dpo import OnlineDpo
from alignment.rwr import Rwr
from alignment.tied_dpo import TiedDpo
from alignment.trajectory import Exploration
from base_model import pretrain, sft, train_vae
from base_model.data.mixture import TaskStream
from base_model.data.rendered_pages import PageStream
from base_model.data.rendered_text import ENGLISH, LEVELS
from base_model.data.stream import TextStream
from base_model.engine.bounds import require_at_least, require_finite
from base_model.engine.engine import OptimConfig
from base_model.engine.mixed_precision import Memory
from base_model.engine.step import Step
from base_model.lora import Lora
from base_model.pretrain import Pretrain
from base_model.qwen.coarse_encoder import CoarseEncoder
from base_model.qwen.model import TextEncoder
from base_model.qwen.positions import Scheme, msrope
from base_model.qwen.vae import QwenImageVAE
from base_model.sample import Sampler
from base_model.sft import Sft
from base_model.train_vae import TrainVAE
from experiments.images.image_sources import ImageSources

LOOPS: Mapping[type, Callable[..., Iterator[Step]]] = {
    TrainVAE: train_vae.train, Pretrain: pretrain.train, Sft: sft.train, Dpo: dpo.train, TiedDpo: tied_dpo.train,
    Kto: kto.train, Grpo: grpo.train, Guard: guard.train, Dppo: dppo.train, Nft: nft.train, Awm: awm.train,
    Rwr: rwr.train, BestOfN: best_of_n.train, OnlineDpo: online_dpo.train,
}  # fmt: skip
"""The training loop of each kind of settings: the only table that a new algorithm has to be in."""

Algorithm = Union[tuple(LOOPS)]  # noqa: UP007 a union made of the table
"""Settings of a training loop."""

THREADS = 1
"""Of torch, in each process that trains or evaluates: two were slower at nano's size, and sums depend on the number."""


@dataclass(frozen=True)
class PromptPlan:
    """Prompts without images: captions of scenes that are never rendered."""

    count: int
    """distinct prompts; 0 = all of the file"""
    seed: int
    """of the scenes, or of the order of the file"""
    heldout: bool = False
    """take words from the held-out tenth; only evaluation may"""
    levels: tuple[int, ...] = (ENGLISH,)
    """kinds of scene (base_model/data/rendered_text.py), in turns: 4 English words, 6 Chinese strings, both in all
    faces and places and in dark inks on light paper"""
    bare: float = 0.0
    """share of prompts that name a word and its place alone, and leave ink, ground, face and size open; their
    category is open"""
    file: str = ""
    """a text file with a prompt a line, or a .jsonl of prompts: its first `count` are used, in an order that `seed`
    says"""
    sources: int = 0
    """source images that plans count for a prompt; what a file of prompts names is read whatever this says"""

    def __post_init__(self) -> None:
        if not 0.0 <= self.bare <= 1.0:
            raise ValueError(f"bare={self.bare} is a share of prompts: it must be in [0, 1]")
        require_at_least(self, 0 if self.file else 1, "count")
        if not self.levels or not all(0 <= level < LEVELS for level in self.levels):
            raise ValueError(f"levels={self.levels} must be kinds of scene, each in 0 to {LEVELS - 1}")


@dataclass(frozen=True)
class PairPlan:
    """Machine-made preferences: sample `group` images a prompt, score them, keep the best and the worst.

    A group is sampled as GRPO samples one. When it shares its first noise, its images differ only by what happened in
    the window, so a pair says what was better there and not which noise was luckier: with the same number of images
    DPO then gained more than twice as much (experiments/reports).
    """

    prompts: PromptPlan
    """what images are generated for"""
    group: int = 8
    """images a prompt"""
    sampler: Sampler = field(default_factory=lambda: Sampler(steps=8))
    """steps and guidance of the images"""
    exploration: Exploration = field(default_factory=Exploration)
    """exploration settings of the images"""
    min_margin: float = 0.0
    """least difference of scores for a pair; 0 keeps every pair that is no tie"""
    per_prompt: int = 1
    """pairs a prompt at most: best and worst, then second best and second worst, ..."""
    seed: int = 0
    """of the noise"""

    def __post_init__(self) -> None:
        require_at_least(self, 2, "group")
        require_at_least(self, 1, "per_prompt")
        require_at_least(self, 0.0, "min_margin")


@dataclass(frozen=True)
class AnswerPlan:
    """What is shown, how it is sampled, and how many simulated people share the work."""

    prompts: PromptPlan
    """one answer each"""
    sampler: Sampler = field(default_factory=lambda: Sampler(steps=10))
    people: int = 4
    """who answer in turns"""
    seed: int = 0
    """of the noise and of the answers"""


@dataclass(frozen=True)
class MonitorPlan:
    """How a run is watched for over-optimisation: held-out prompts at fixed noise, every so many updates.

    The rules, their thresholds and reasons are `rules` of alignment/monitoring/monitors.py. Raises ValueError for
    settings that cannot work.
    """

    every: int = 25
    """updates between looks; there is one before the first update, and one after the last"""
    prompts: PromptPlan = field(default_factory=lambda: PromptPlan(count=48, seed=91, heldout=True))
    """what is sampled every time: held-out words; in a run with prompts of its own so many of these, from behind those
    that it learns from where there are any; or those of a file"""
    copies: int = 2
    """images a prompt, from different noise"""
    seed: int = 93
    """of the noise"""
    sampler: Sampler | None = None
    """steps and guidance of the images; None: as the model samples when nobody says otherwise"""
    readers: tuple[str, str] = ("ocr", "ocr_judge")
    """two rewards that read: one with the engine of the trained reward, and one that nothing is trained on, whose
    1 - NED is the first gold reward"""
    gold: tuple[str, ...] = ()
    """further held-out rewards, as texts"""
    text_boxes: bool = False
    """find text by a detector, for images of more than one line on a plain ground"""
    on_alarm: Literal["report", "stop", "raise_beta"] = "report"
    """go on and say so; end training there; or hold the policy closer to its start (GRPO and DPO)"""
    patience: int = 0
    """end training where the first gold reward has not risen for so many looks; 0 = go on to the end"""
    beta_first: float = 0.01
    """what beta is raised to from 0"""
    beta_factor: float = 2.0
    """by how much it is multiplied afterwards"""
    evidence: int = 6
    """images kept for an alarm, those that changed most, each beside its start"""

    def __post_init__(self) -> None:
        if self.every < 1 or self.copies < 2:
            raise ValueError(f"every={self.every} must be at least 1, and copies={self.copies} 2: diversity needs two")
        if self.patience < 0:
            raise ValueError(f"patience={self.patience} must be at least 0")
        if self.beta_first <= 0.0 or self.beta_factor <= 1.0:
            raise ValueError(f"beta_first={self.beta_first} must be above 0, beta_factor={self.beta_factor} above 1")


@dataclass(frozen=True)
class Experiment:
    """One training run. `algorithm` says which loop; the fields a loop does not need stay None."""

    name: str
    """what `glyphlab train` calls it"""
    algorithm: Algorithm
    """the loop and its settings; their class says which"""
    optim: OptimConfig
    """the optimizers, their rates and schedule, and the weight average"""
    preset: str = "nano"
    """size of the model, a name of base_model/qwen/presets.py"""
    size: tuple[int, int] = (0, 0)
    """height and width in pixels of what alignment samples and learns from, (0, 0) = the model's own; checkpoint
    samples, monitors and evaluation always use the model's own"""
    base: str = ""
    """released checkpoint to start from, a folder or a name on the hub; the preset then says only how large images
    are"""
    embedded_guidance: float = 0.0
    """what a network that reads its guidance as a number (FLUX.1-dev) is given in losses; 0 = the guidance of the
    sampler that makes the run's images or pairs, or, where it learns from images of others, its authors'"""
    lora: Lora = field(default_factory=Lora)
    """adapter that learns instead of the weights"""
    memory: Memory = field(default_factory=Memory)
    """what is traded for memory"""
    data: TextStream | PageStream | TaskStream | ImageSources | None = None
    """images, for autoencoder training, pretraining and fine-tuning; `--data.folder IMAGES` takes your own, with the
    settings of experiments/images/image_sources.py"""
    prompts: PromptPlan | None = None
    """prompts, for algorithms that sample their own images"""
    pairs: PairPlan | None = None
    """how preferences are made, for DPO"""
    reward: str = "ocr"
    """what sampled images are scored by, as a text: ocr, or a mixture such as 1.0*ocr+0.1*learned:runs/reward"""
    monitors: MonitorPlan | None = None
    """how over-optimisation is watched for; None: not at all"""
    producers: int = 0
    """processes that render and encode the images ahead of training, which may die and are begun again; 0: none, all of
    it happens beside the training"""
    producers_on: str = ""
    """where they are: "" = on this machine; the address of a Ray cluster, or local or auto, needs glyphlab[ray]"""
    ring_gigabytes: float = 1.0
    """the most that the images which they have made ahead may take in the run's folder, in 10^9 bytes"""
    save_every: int = 100
    """updates between checkpoints"""
    compile: bool = False
    """compile the transformer's block with torch.compile, once for all layers; rollout and update are then different
    kernels, so that the ratio before the first update is 1 only as far as they round alike"""
    engine: Literal["local", "deepspeed"] = "local"
    """local: one process; deepspeed: as many as the launcher starts, through ZeRO"""
    zero_stage: int = 2
    """what deepspeed splits among processes: 0 nothing, 1 optimizer state, 2 gradients as well, 3 weights as well"""
    scorer_minutes: float = 15.0
    """the most that a scorer may take for its images before it is replaced"""
    wait_minutes: float = 60.0
    """the most that ranks wait for one another, e.g. while one checks a checkpoint; more than `scorer_minutes`, or a
    scorer that stalls on one rank ends the run of all"""
    seed: int = 0
    """of the initial weights"""
    sight: Callable[[QwenImageVAE], TextEncoder] = CoarseEncoder
    """what the text encoder of a small preset sees of condition images: a class or function of
    base_model/qwen/coarse_encoder.py
    """
    positions: Scheme = msrope
    """where tokens stand: a function of base_model/qwen/positions.py"""
    peak_tflops: float = 0.0
    """peak of one card in 10^12 operations a second, for `mfu` among the metrics; 0: that of a card whose name is in
    experiments/planning/accelerators.py"""
    minutes: float = 1.0
    """expected duration on two laptop cores, 0 = not measured; only for the remaining-time estimate"""

    def __post_init__(self) -> None:
        if (kind := type(self.algorithm)) not in LOOPS:
            raise ValueError(f"{self.name}: no loop is known for {kind.__name__}; add it to LOOPS of experiment.py")
        if self.engine not in ("local", "deepspeed"):
            raise ValueError(f"engine={self.engine!r} must be local or deepspeed")
        require_finite(self)
        require_at_least(self.algorithm, 0.0, *(each for each in ("clip", "beta") if hasattr(self.algorithm, each)))
        if self.algorithm.steps < 1:
            raise ValueError(f"algorithm.steps={self.algorithm.steps} must be at least 1")
        require_at_least(self, 1, "save_every")
        require_at_least(self, 0, "minutes", "producers", "peak_tflops", "embedded_guidance")
        if min(self.size) < 0:
            raise ValueError(f"size={self.size} must be at least (0, 0), which stands for the model's own")
        if self.zero_stage not in range(4):
            raise ValueError(f"zero_stage={self.zero_stage} must be 0, 1, 2 or 3")
        if self.producers and self.algorithm.learns_from != "images":
            raise ValueError(
                f"producers={self.producers} make images ahead, and {self.name} learns from "
                f"{self.algorithm.learns_from}: leave them out"
            )
        if not self.ring_gigabytes > 0 or (self.producers_on and not self.producers):
            raise ValueError(
                f"ring_gigabytes={self.ring_gigabytes} must be above 0, and producers_on={self.producers_on!r} needs "
                "at least one of --producers"
            )
        if not 0.0 < self.scorer_minutes < self.wait_minutes:
            raise ValueError(
                f"scorer_minutes={self.scorer_minutes} must be above 0 and below wait_minutes={self.wait_minutes}: a "
                "rank whose scorer stalls must be able to replace it while the others wait"
            )


def taking_own_images(experiment: Experiment) -> Experiment:
    """The experiment with images of one's own as its data, whose folder is yet to be set.

    Raises ValueError when it does not learn from images.
    """
    if isinstance(experiment.data, ImageSources):
        return experiment
    if experiment.algorithm.learns_from != "images":
        raise ValueError(
            f"{experiment.name} learns from {experiment.algorithm.learns_from}, not from images: --data.folder is for "
            "pretraining, fine-tuning and autoencoders, such as nano_pretrain, nano_sft and nano_decoder"
        )
    return replace(experiment, data=ImageSources(folder=("FOLDER",)))


def require_one_guidance(experiment: Experiment) -> None:
    """Raises ValueError for an update without guidance of a network that reads its guidance as a number.

    It is another network for every number: what it learned at one would not serve the other.
    """
    if not getattr(experiment.algorithm, "guide_update", True):
        raise ValueError(
            f"{experiment.name} asks for guide_update=False, and its model reads its guidance as a number: samples and "
            "updates need the same one. Leave guide_update on"
        )
    sampler = getattr(experiment.algorithm, "sampler", None)
    if sampler is not None and experiment.embedded_guidance not in (0.0, sampler.guidance):
        raise ValueError(
            f"{experiment.name} samples at guidance {sampler.guidance:g} and would learn at embedded_guidance="
            f"{experiment.embedded_guidance:g}: samples and updates need the same one. Leave embedded_guidance at 0"
        )


def learning_guidance(experiment: Experiment) -> float:
    """Return what a network that reads its guidance as a number is given in losses, 0 = as its authors sample it."""
    sampler = getattr(experiment.algorithm, "sampler", None)
    if sampler is None and experiment.pairs is not None:
        sampler = experiment.pairs.sampler
    return (
        sampler.guidance if sampler is not None and not experiment.embedded_guidance else experiment.embedded_guidance
    )


def laid_out(experiment: Experiment) -> Experiment:
    """The experiment with its schedule laid out over all of its updates, unless `optim.steps` says otherwise."""
    if experiment.optim.steps:
        return experiment
    updates = experiment.algorithm.steps * getattr(experiment.algorithm, "updates", 1)
    return replace(experiment, optim=replace(experiment.optim, steps=updates))


@dataclass(frozen=True)
class EvaluationPlan:
    """Held-out prompts at fixed noise, sampled with and without guidance and read by two engines."""

    prompts: PromptPlan
    samplers: tuple[tuple[str, Sampler], ...]
    """(name, sampler): every stage is sampled in each of these ways"""
    seed: int
    diversity_prompts: int = 24
    diversity_copies: int = 2
    grid_images: int = 12
    """prompts whose images are kept for the report"""


@dataclass(frozen=True)
class EditPlan:
    """Held-out edits at fixed noise, a third of every kind: a word, its ink, its place."""

    count: int
    seed: int
    """of the edits"""
    noise_seed: int
    sampler: Sampler
    grid_images: int = 12
    """edits whose images are kept to be looked at"""


@dataclass(frozen=True)
class SizePlan:
    """Held-out prompts at several sizes of the image, at fixed noise."""

    prompts: PromptPlan
    sizes: tuple[tuple[int, int], ...]
    """(height, width) in pixels"""
    levels: tuple[float, ...]
    """noise levels at which the flow error is measured"""
    noise_seed: int
    sampler: Sampler
