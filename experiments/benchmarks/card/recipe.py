"""One experiment through the runner on a card that is none: open, encode, rollout, score, update, checkpoint, finish.

Everything is the project's own; what is replaced is named in `without_numbers`. Two updates are made, because the
optimizer's moments come into being with the first.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from alignment.groups import Groups
from alignment.trajectory import Exploration
from base_model.families.encoded_prompts import EncodedPrompts
from base_model.families.family import Family
from base_model.generate import at_once
from base_model.qwen.language_encoder import PAD
from base_model.sample import Sampler
from experiments.benchmarks.card.fake_ranks import joined
from experiments.benchmarks.card.release import LANGUAGE, language_model, make_release, read_hollow, write_hollow
from experiments.experiment import Experiment
from experiments.planning.card import Card
from experiments.planning.family_plan import PUBLISHED, family_behind, grid_of
from experiments.planning.from_experiment import SEEN, tokens
from experiments.planning.hollow_pipeline import depth_of, make_pipeline, with_depth
from experiments.planning.torch_patches import opened
from preference_data.records import Prompt
from rewards.scores import Scores
from rewards.serving.metering import Meter

LETTERS = 96
"""of a made-up prompt: as many tokens, since the tokenizer here knows bytes alone"""


class IndexScorer:
    """Scores that differ by place: nothing to look at, and no group without a spread."""

    name = "places"

    def __init__(self) -> None:
        self.meter = Meter()

    def submit(self, prompts: Sequence[Prompt], images_uint8_B3HW: np.ndarray) -> Future[Scores]:
        """Raises AssertionError when images are not 8-bit arrays of the host, one a prompt."""
        assert images_uint8_B3HW.dtype == np.uint8 and len(images_uint8_B3HW) == len(prompts)
        answer: Future[Scores] = Future()
        answer.set_result(Scores(np.arange(len(prompts), dtype=np.float64) / len(prompts), {}))
        return answer


@dataclass(frozen=True)
class Counted:
    """What a run took."""

    peaks: Mapping[str, int]
    """most bytes alive on the card, by phase"""
    at_peak: Mapping[str, Counter[str]]
    """what they were, by line"""
    syncs: Mapping[tuple[str, str], int]
    """(phase, line) -> how often the host waited for the card"""
    mixings: Mapping[str, int]
    text_tokens: int
    """of the longest prompt"""

    @property
    def peak(self) -> int:
        return max(self.peaks.values())


def prompts_file(path: Path, count: int) -> Path:
    """Prompts of `LETTERS` letters that ask for a text in quotes."""
    path.write_text(
        "".join(f'A page of plain paper with the word "N{i:05d}"'.ljust(LETTERS, "x") + "\n" for i in range(count))
    )
    return path


def edits_file(folder: Path, count: int, sources: int, size: tuple[int, int]) -> Path:
    """The same prompts, each with so many images of one colour to be edited, as large as what is made."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, text in enumerate(prompts_file(folder / "prompts.txt", count).read_text().splitlines()):
        names = [f"{i}_{j}.png" for j in range(sources)]
        for j, name in enumerate(names):
            Image.new("RGB", size[::-1], (i % 256, j, i // 256)).save(folder / name)
        rows.append({"prompt": text, "images": names})
    file = folder / "edits.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def shrunk(experiment: Experiment, folder: Path, prompts: int) -> Experiment:
    """The experiment with made-up prompts, as few as `prompts`, and two updates, a checkpoint between them.

    Counts that change no peak are small: an update learns from two micro-batches or one rollout of one, and a
    trajectory has one step behind the window's farthest place.
    """
    cfg: Any = experiment.algorithm
    cfg = replace(cfg, steps=2)
    if isinstance(cfg, Groups):
        sampler = replace(cfg.sampler, steps=cfg.exploration.within + 1)
        cfg = replace(cfg, prompts=cfg.micro // cfg.group, sampler=sampler)
    else:
        cfg = replace(cfg, batch=min(cfg.batch, 2 * cfg.micro))
    changed: dict[str, Any] = {"algorithm": cfg, "save_every": 1}
    file = str(prompts_file(folder / "prompts.txt", prompts))
    if experiment.prompts and experiment.prompts.sources:
        file = str(edits_file(folder / "edits", prompts, experiment.prompts.sources, experiment.size))
    if experiment.prompts:
        changed["prompts"] = replace(experiment.prompts, count=prompts, file=file)
    if experiment.pairs:
        plan = experiment.pairs
        requested = replace(plan.prompts, count=prompts, file=file)
        changed["pairs"] = replace(
            plan, prompts=requested, sampler=replace(plan.sampler, steps=plan.exploration.within + 1)
        )
    if getattr(experiment.data, "limit", 0):
        changed["data"] = replace(experiment.data, limit=prompts)  # type: ignore[type-var]
    return replace(experiment, **changed)


def count_recipe(
    experiment: Experiment, folder: Path, layers: int = 0, ranks: int = 8, prompts: int = 16, whole: bool = True
) -> Counted:
    """Run the experiment in `folder` as rank 0 of `ranks`, with so many blocks (0: all).

    Without `whole` nothing is run but opening, rollouts and updates: what depends on the engine. The language model is
    then never there, a rollout has no steps but those that are learned from, and nothing is saved. Raises `Mixed` for
    what CUDA or NCCL would refuse.
    """
    from experiments.progress import Progress
    from experiments.training import own_prompts, runner

    folder.mkdir(parents=True, exist_ok=True)
    family = family_behind(experiment.base)
    if family is None:
        base = make_release(folder / "base", experiment.preset, layers, "Image-Edit" in experiment.base)
        native = tokens(experiment.preset, (0, 0))
    else:
        base = make_family(folder / "base", experiment.base, layers)
        native = math.prod(grid_of(family, experiment.size))
    own = shrunk(replace(experiment, base=str(base)), folder, prompts)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        card = stack.enter_context(opened())
        if experiment.engine == "deepspeed":
            stack.enter_context(joined(ranks))
        lengths = stack.enter_context(without_numbers(card))
        batch = replace(own_prompts.FIXED_PROMPTS, count=at_once(native, own_prompts.FIXED_PROMPTS.count))
        stack.enter_context(mock.patch.object(own_prompts, "FIXED_PROMPTS", batch))
        stack.enter_context(two_steps())
        if not whole:
            own = only_updates(own, stack)
        scorer: Any = IndexScorer()
        runner.run(own, folder / "run", None, scorer, Progress({own.name: 60.0}, io.StringIO()), "meta")
    return Counted(card.peaks, card.at_peak, card.syncs, card.mixings, max(lengths, default=0))


def two_steps() -> Any:
    """Checkpoint samples of two steps while it is open: further ones change no peak."""
    from base_model.files.released import Released

    return mock.patch.object(Released, "sampler", replace(Released.sampler, steps=2))


def make_family(folder: Path, base: str, depth: int = 0) -> Path:
    """The published folder of a checkpoint, with so many blocks (0: all)."""
    shutil.copytree(PUBLISHED / base.rpartition("/")[2], folder)
    config = folder / "transformer" / "config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(with_depth(settings, depth or depth_of(settings))))
    return folder


def shown_quickly(family: Family, dtype: torch.dtype | None, parts: Mapping[str, Any]) -> Any:
    """`open_checkpoint.open_pipeline`; checkpoint samples take two steps, whose number changes no peak."""
    family.sampler = replace(family.sampler, steps=2)
    return make_pipeline(family, dtype, parts)


def only_updates(experiment: Experiment, stack: ExitStack) -> Experiment:
    """The experiment without what is the same whatever the engine."""
    from base_model.qwen.language_encoder import VisionLanguageEncoder
    from experiments.training import runner

    def run(self: Any, prompts: Sequence[str], shown: Any) -> list[Tensor]:
        self._load_tokenizer()
        counts = [len(self._tokenizer(prompt).input_ids) - self.task.dropped for prompt in prompts]
        return [torch.zeros(count, LANGUAGE["hidden_size"], dtype=torch.bfloat16) for count in counts]

    stack.enter_context(mock.patch.object(VisionLanguageEncoder, "_run", run))
    stack.enter_context(mock.patch.object(EncodedPrompts, "_encode", unread))
    stack.enter_context(mock.patch.object(VisionLanguageEncoder, "_load_tokenizer", load_tokenizer, create=True))
    stack.enter_context(mock.patch.object(runner, "finish", lambda *_: None))
    cfg: Any = experiment.algorithm
    if isinstance(cfg, Groups):
        exploration, sampler = short(cfg.exploration, cfg.sampler)
        return replace(experiment, save_every=9, algorithm=replace(cfg, exploration=exploration, sampler=sampler))
    if experiment.pairs:
        exploration, sampler = short(experiment.pairs.exploration, experiment.pairs.sampler)
        return replace(
            experiment, save_every=9, pairs=replace(experiment.pairs, exploration=exploration, sampler=sampler)
        )
    return replace(experiment, save_every=9)


def unread(self: EncodedPrompts, requests: Sequence[Any]) -> list[Mapping[str, Tensor]]:
    """`EncodedPrompts._encode`: rows of as many tokens as a prompt has letters, or of all where padding is read."""
    row = {name: torch.zeros(()).expand(x.shape) for name, x in self.family.hollow_row(LETTERS).items()}
    return [row] * len(requests)


def short(exploration: Exploration, sampler: Sampler) -> tuple[Exploration, Sampler]:
    """The window alone, and one step behind it."""
    return replace(exploration, within=exploration.window), replace(sampler, steps=exploration.window + 1)


@contextmanager
def without_numbers(card: Card) -> Iterator[list[int]]:
    """Weights are read as zeros and written as holes, what stands for nothing is not counted, phases have names.

    Yields the token counts of the prompts that are encoded.
    """
    from base_model import lora
    from base_model.engine import engine, engine_deepspeed, engine_files, zero_state
    from base_model.families import encoded_prompts, open_checkpoint
    from base_model.files import checkpoint, released, shards, weights
    from base_model.qwen import language_encoder
    from experiments.training import finish, ranks

    lengths: list[int] = []
    with ExitStack() as stack:
        swap = lambda owner, name, value: stack.enter_context(mock.patch.object(owner, name, value))  # noqa: E731
        swap(torch.cuda, "is_available", lambda: False)
        for module, name in ((released, "MMDiT"), (shards, "check_fit"), (engine_files, "like"), (zero_state, "like"),
                             (engine_deepspeed, "like")):  # fmt: skip
            swap(module, name, card.placeholders(getattr(module, name)))
        swap(shards.Shards, "get", hollow_tensor)
        swap(language_encoder.VisionLanguageEncoder, "_load", load_language_model)
        run = language_encoder.VisionLanguageEncoder._run
        swap(language_encoder.VisionLanguageEncoder, "_run", images_as_text(run))
        for module in (engine, engine_deepspeed):
            swap(module, "frozen_checksum", lambda _: 0)
        for module in (engine_files, shards, lora, weights):
            if hasattr(module, "save_file"):
                swap(module, "save_file", write_hollow)
        for module in (engine, engine_deepspeed, ranks, finish, encoded_prompts):
            if hasattr(module, "load_file"):
                swap(module, "load_file", read_hollow)
        swap(encoded_prompts, "save_file", write_hollow)
        swap(open_checkpoint, "open_pipeline", shown_quickly)
        swap(open_checkpoint, "require_whole", lambda _: None)
        swap(Family, "hollow_network", card.placeholders(Family.hollow_network))
        for module in (engine_files, engine_deepspeed, zero_state):
            swap(module, "write_one_by_one", write_hollow_one_by_one)
        swap(checkpoint, "_sha256", lambda path: f"{path.stat().st_size}")
        heard = language_encoder.padded

        def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            lengths.extend(len(row) for row in rows)
            return heard(rows)

        swap(language_encoder, "padded", padded)
        store = EncodedPrompts._store

        def stored(self: EncodedPrompts, key: str, row: Mapping[str, Tensor]) -> None:
            lengths.append(len(row["text"]))
            store(self, key, row)

        swap(EncodedPrompts, "_store", stored)
        for owner, name, phase in phases():
            swap(owner, name, phased(card, getattr(owner, name), phase))
        yield lengths


def phases() -> Iterator[tuple[Any, str, str]]:
    """Functions of the project, and what their time is called."""
    from alignment import groups
    from base_model.engine.engine import LocalEngine
    from base_model.engine.engine_deepspeed import DeepSpeedEngine
    from base_model.families.diffusers_model import DiffusersModel
    from base_model.qwen.language_encoder import VisionLanguageEncoder
    from base_model.qwen.model import QwenImage
    from experiments.preferences import from_scores
    from experiments.training import runner

    yield runner, "open_either", "open"
    yield runner, "encode_ahead", "encode"
    yield VisionLanguageEncoder, "_run", "encode"
    yield EncodedPrompts, "_encode", "encode"
    yield runner, "equip_engine", "equip"
    yield groups, "rollout", "rollout"
    yield from_scores, "explore", "rollout"
    yield QwenImage, "decode", "decode"
    yield DiffusersModel, "decode", "decode"
    yield runner, "sample_checkpoint", "look"
    yield LocalEngine, "update", "update"
    yield DeepSpeedEngine, "update", "update"
    yield LocalEngine, "save", "checkpoint"
    yield DeepSpeedEngine, "save", "checkpoint"
    yield runner, "finish", "finish"


def phased(card: Card, inner: Any, phase: str) -> Any:
    def outer(*args: Any, **kwargs: Any) -> Any:
        with card.phase(phase if card.name != "look" else "look"):
            return inner(*args, **kwargs)

    return outer


def hollow_tensor(self: Any, name: str) -> Tensor:
    """`Shards.get`."""
    from experiments.benchmarks.card.release import TYPES

    return torch.zeros((), dtype=TYPES[self.readers[name].get_slice(name).get_dtype()]).expand(self.shape(name))


def load_tokenizer(self: Any) -> None:
    from transformers import Qwen2Tokenizer

    self._tokenizer = Qwen2Tokenizer.from_pretrained(self.folder / "tokenizer", local_files_only=True)


def load_language_model(self: Any) -> None:
    """`VisionLanguageEncoder._load`."""
    load_tokenizer(self)
    self._model = language_model()


def images_as_text(run: Any) -> Any:
    """`VisionLanguageEncoder._run` with as many tokens of text as an image has: where those stand, the language model
    reads in numbers, which are not known here."""
    return lambda self, prompts, shown: run(
        self, [prompt.replace(PAD, "x" * SEEN) for prompt in prompts], [()] * len(prompts)
    )


def write_hollow_one_by_one(path: Path, layout: Mapping[str, Tensor], make: Any, writes: bool) -> str:
    """`engine_files.write_one_by_one`: every tensor is made, as ranks do together, and a hole is written, unhashed."""
    for name in layout:
        tensor = make(name)
        assert (tensor.shape, tensor.dtype) == (layout[name].shape, layout[name].dtype), name
        del tensor
    if writes:
        write_hollow(layout, path)
    return ""
