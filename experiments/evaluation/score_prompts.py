"""Samples every prompt of a file with every seed, and scores the images with any rewards.

The noise of an image is a function of (seed, index of its prompt), so two models get the same noise, and their scores
can be paired. What was sampled or scored before is not done again. Of several ranks each takes some of the prompts.

Shapes: B samples, S latent tokens, C channels, 3HW pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from base_model.generate import CHUNK, at_once, generate
from base_model.interface import FlowModel
from base_model.policy_model import PolicyModel
from base_model.sample import Sampler
from base_model.seeding import generator
from experiments.evaluation.found_model import ResultModel, fingerprint
from experiments.evaluation.prompt_files import RequestedPrompt
from experiments.evaluation.scored_images import Point, ScoredImages
from experiments.experiment import THREADS
from experiments.progress import Progress
from experiments.record.record import exclusive
from experiments.record.whole_files import read_png, require_folder, write_png
from preference_data.image_files import source_readers
from preference_data.records import Prompt
from rewards.scores import Reward, Scores
from rewards.serving.cache import identity
from rewards.serving.workers import ScorerPool

ASKING = frozenset(
    ("timeout", "workers", "batch", "connections", "tries", "attempts", "pause", "seconds", "key_file", "token_file")
)
"""settings of a reward that say how it is asked, and not what it answers"""
RESTARTS = 2
"""Workers of a reward that are replaced when they die."""
LONGEST_HOURS = 72
"""What ranks wait for one another, at most: one may sample long prompts, or score slowly."""
PIECE = 16
"""Images that a reward is given at once: as many are scored again, at most, when the process was killed meanwhile."""
NAMED = 3
"""Prompts that a model cannot read of which a message gives the reasons."""
T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Which rank of how many this process is."""

    rank: int = 0
    ranks: int = 1

    def of_first(self, value: T) -> T:
        """What the first rank brings; all ranks wait for one another here."""
        if self.ranks == 1:
            return value
        shared = [value]
        torch.distributed.broadcast_object_list(shared, 0)
        torch.distributed.barrier()
        return shared[0]

    def device(self) -> str:
        """This rank's own GPU; "" where there is one rank, or no GPU."""
        if self.ranks == 1 or not torch.cuda.is_available():
            return ""
        return f"cuda:{int(os.environ.get('LOCAL_RANK', self.rank)) % torch.cuda.device_count()}"


ALONE = Share()


def share_of_launcher() -> Share:
    """This process's share, as torchrun says; `ALONE` without one."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        return ALONE
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", timeout=timedelta(hours=LONGEST_HOURS))
    return Share(torch.distributed.get_rank(), ranks)


class Pool(Protocol):
    """What scores images elsewhere, as `ScorerPool` does."""

    def submit(self, prompts: Sequence[Prompt], images_uint8_B3HW: np.ndarray) -> Future[Scores]:
        """The scores to come."""
        ...


@dataclass(frozen=True)
class Requested:
    """What is sampled: a file's prompts, in which way, and how often each."""

    prompts: tuple[RequestedPrompt, ...]
    seeds: tuple[int, ...]
    sampler: Sampler
    size: tuple[int, int] | None = None
    """height and width of images whose prompt names none; None: what the model is for"""
    device: str = ""
    rewriter: str = ""
    """fingerprint of what rewrote the prompts; "" where nothing did"""

    def settings(self, model: ResultModel) -> dict[str, Any]:
        """What images depend on, beside their prompt's index and seed."""
        named = [(p.text, [source.sha256 for source in p.sources]) for p in (each.prompt for each in self.prompts)]
        texts = json.dumps([(text, of) if of else text for text, of in named], ensure_ascii=False)
        if any(sizes := [each.size for each in self.prompts]):
            texts += json.dumps(sizes)
        if any(rewrites := [each.rewrite for each in self.prompts]):
            texts += json.dumps(rewrites, ensure_ascii=False)
        sampler = {"steps": self.sampler.steps, "guidance": self.sampler.guidance}
        return {
            "model": fingerprint(model.folder), "sampler": sampler, "size": self.size,
            "prompts": {"count": len(self.prompts), "sha256": hashlib.sha256(texts.encode()).hexdigest()},
            **({"rewriter": self.rewriter} if self.rewriter else {}),
        }  # fmt: skip


def check_needs(rewards: Mapping[str, Reward], requested: Sequence[RequestedPrompt]) -> list[str]:
    """What to tell of prompts that a reward cannot judge. Raises ValueError where it can judge none."""
    notes = []
    for name, reward in rewards.items():
        for need in reward.needs:
            lacking = [each for each in requested if not getattr(each.prompt, need)]
            what = "text in quotation marks to be read" if need == "spans" else need
            if len(lacking) == len(requested):
                raise ValueError(f"no prompt has the {what} that the reward {name} needs; leave that reward out")
            if lacking:
                notes.append(
                    f"{name}: {len(lacking)} of {len(requested)} prompts have no {what}, so they are not judged"
                )
    return notes


def reward_state(name: str, reward: Reward) -> str:
    """What a reward's scores depend on beside image and prompt: its settings and the weights that these name."""
    settings = re.sub(r" at 0x[0-9a-f]+", "", identity(name, reward, ASKING))
    return settings + "".join(fingerprint(path) for path in _named_files(reward))


def _named_files(value: Any) -> Iterator[Path]:
    """The files and folders that the settings of a reward name, also of one inside another."""
    if is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from _named_files(None if each.name in ASKING else getattr(value, each.name))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _named_files(one)
    elif isinstance(value, Path | str) and str(value).strip("./") and os.path.exists(value):
        yield Path(value)


def readable(model: PolicyModel, requested: Sequence[RequestedPrompt]) -> tuple[set[int], list[str]]:
    """The indices of the prompts that the model can read, and what to tell of the others.

    A small preset knows few characters, and a language model may refuse what is too long. Raises ValueError where it
    can read none.
    """
    reasons: dict[int, str] = {}
    for index, each in enumerate(requested):
        try:
            model.check_text(each.sampled, len(each.prompt.sources))
            if not model.keeps_base:  # which is quick, and takes few images
                model.encode_text([each.sampled], model.read_images(source_readers([each.prompt.sources]))[:])
        except ValueError as error:
            reasons[index] = str(error)
    first = "; ".join(list(reasons.values())[:NAMED])
    if len(reasons) == len(requested):
        raise ValueError(f"the model cannot read a single one of {len(requested)} prompts: {first}")
    left = set(range(len(requested))) - set(reasons)
    return left, [
        f"{len(reasons)} of {len(requested)} prompts are left out, the model cannot read them: {first}"
    ] * bool(reasons)


def noise_of(model: FlowModel, points: Iterable[Point]) -> Tensor:
    """[B, S, C]: row i depends on the seed and the prompt's index of point i alone, as in `fixed_noise`."""
    return torch.cat([model.noise(1, generator(point.seed, point.index, 0, "evaluation")) for point in points])


def sampled(model: FlowModel, requested: Requested, points: Sequence[Point]) -> np.ndarray:
    """uint8 [B, 3, H, W] of these points."""
    prompts = [requested.prompts[point.index].prompt for point in points]
    shown = model.read_images(source_readers(prompt.sources for prompt in prompts))
    texts = [requested.prompts[point.index].sampled for point in points]
    return generate(model, texts, noise_of(model, points), requested.sampler, shown)


def sample_missing(model: FlowModel, requested: Requested, points: Sequence[Point], images: ScoredImages) -> None:
    """Sample and keep those of the points that have no image yet.

    They come to their names when all are written: where some were left to be sampled again, with fewer batch mates, the
    last bit of their pixels could be another one.
    """
    missing = [point for point in points if not images.path(point).exists()]
    named = [(images.path(point).with_name(f".new_{point.image}"), images.path(point)) for point in missing]
    for (fresh, _), image in zip(named, sampled(model, requested, missing) if missing else (), strict=True):
        write_png(fresh, image)
    for fresh, path in named:
        os.replace(fresh, path)


def score_missing(pools: Mapping[str, Pool], points: Sequence[Point], images: ScoredImages) -> list[Future[None]]:
    """Send those of the points that a reward has not scored to it, in pieces. What comes back is kept at once, whatever
    this process does meanwhile, and each result says when it was."""
    waiting: list[Future[None]] = []
    pixels: dict[Point, np.ndarray] = {}
    for reward, pool in pools.items():
        missing = images.unscored(reward, points)
        for piece in (missing[i : i + PIECE] for i in range(0, len(missing), PIECE)):
            pixels |= {point: read_png(images.path(point)) for point in piece if point not in pixels}
            prompts = [images.requests[point.index].prompt for point in piece]
            stored: Future[None] = Future()
            scores = pool.submit(prompts, np.stack([pixels[point] for point in piece]))
            scores.add_done_callback(partial(keep, images, reward, piece, stored))
            waiting.append(stored)
    return waiting


def keep(
    images: ScoredImages, reward: str, points: Sequence[Point], stored: Future[None], scores: Future[Scores]
) -> None:
    """Keep what a reward gave; `stored` says that it is done, or what went wrong."""
    try:
        images.add(reward, points, scores.result())
    except Exception as error:
        stored.set_exception(error)
    else:
        stored.set_result(None)


Batch = tuple[PolicyModel | None, Sequence[Point]]
"""Images of one size that are made together, and the model for that size; None where they are all there."""


def in_batches(points: Sequence[Point], model: PolicyModel | None, requested: Requested) -> list[Batch]:
    """All points in batches, those of one size together. Raises ValueError for a size that the model cannot make."""
    sizes = list(dict.fromkeys(requested.prompts[point.index].size for point in points))
    models = {size: model.sized(size) if model and size else model for size in sizes}
    batches: list[Batch] = []
    for size, one in models.items():
        own = [point for point in points if requested.prompts[point.index].size == size]
        chunk = at_once(noise_of(one, own[:1]).shape[1], CHUNK) if one else CHUNK
        batches += [(one, own[i : i + chunk]) for i in range(0, len(own), chunk)]
    return batches


def fill(
    images: ScoredImages, batches: Sequence[Batch], requested: Requested, pools: Mapping[str, Pool], bar: Progress
) -> None:
    """Sample and score all that is missing; rewards score one batch while the next one is sampled."""
    waiting: list[Future[None]] = []
    with bar.stage("evaluate", sum(len(batch) for _, batch in batches)):
        for model, batch in batches:
            if model:
                sample_missing(model, requested, batch, images)
            coming = score_missing(pools, batch, images)
            wait_for(waiting)
            waiting = coming
            bar.advance(len(batch), {})
        wait_for(waiting)


def wait_for(results: Iterable[Future[None]]) -> None:
    """Wait until scores are kept. Raises what went wrong with them."""
    for each in results:
        each.result()


def evaluate_prompts(
    model_folder: ResultModel,
    requested: Requested,
    rewards: Mapping[str, Reward],
    folder: Path,
    pools: Mapping[str, Pool] | None = None,
    share: Share = ALONE,
) -> tuple[ScoredImages, list[str]]:  # fmt: skip
    """Sample and score in `folder` whatever is missing there; the images with their scores, and what to tell.

    Of several ranks each does its share, and the first one, which alone keeps the folder's records, has all in the end.
    `pools` stand in for processes of the rewards. Raises ValueError before anything is loaded where a reward cannot
    judge these prompts, or the folder holds the images of something else.
    """
    notes = check_needs(rewards, requested.prompts)
    settings = requested.settings(model_folder)
    depends_on = {name: reward_state(name, reward) for name, reward in rewards.items()}
    require_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        needs_model = False
        if not share.rank:
            stack.enter_context(exclusive(folder))
            images = ScoredImages(folder, requested.prompts, requested.seeds, settings, 0, depends_on)
            images.take_in()
            images.begin(settings)
            needs_model = not all(images.path(point).exists() for point in images.points)
        needs_model = share.of_first(needs_model)
        if share.rank:
            images = ScoredImages(folder, requested.prompts, requested.seeds, settings, share.rank, depends_on)
        every = images.points
        notes += fill_share(stack, images, model_folder if needs_model else None, requested, rewards, pools, share)
        share.of_first(None)  # all are done
        images.points = [point for point in every if images.path(point).exists()]
        if not share.rank:
            images.take_in()
            images.put_in_order()
            images.write_captions()
    return images, notes


def fill_share(
    stack: ExitStack, images: ScoredImages, model_folder: ResultModel | None, requested: Requested,
    rewards: Mapping[str, Reward], pools: Mapping[str, Pool] | None, share: Share,
) -> list[str]:  # fmt: skip
    """Sample and score this rank's share of what is missing; what to tell of prompts that were left out.

    A share is whole batches, so that an image has the same batch mates, and rounds alike, however many ranks there are.
    Without `model_folder` every image is there.
    """
    if not model_folder:
        images.points = [point for point in images.points if images.path(point).exists()]
    wanting = [name for name in rewards if images.unscored(name, images.points)]
    if pools is None:  # first, since a reward that cannot be loaded says so sooner than a large model is read
        pools = {name: stack.enter_context(ScorerPool(rewards[name], 1, restarts=RESTARTS)) for name in wanting}
    model, notes = None, []
    if model_folder:
        torch.set_num_threads(THREADS)
        model = model_folder.load(requested.device or share.device(), requested.size)
        can_read, notes = readable(model, requested.prompts)
        images.points = [point for point in images.points if point.index in can_read]
    batches = in_batches(images.points, model, requested)[share.rank :: share.ranks]
    images.points = [point for _, batch in batches for point in batch]
    audience = io.StringIO() if share.rank else None
    fill(images, batches, requested, pools, Progress({"evaluate": 60.0}, audience))
    return notes
