"""Evaluates and samples a file of prompts by names, as `glyphlab evaluate` and `glyphlab sample` do with --prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from base_model.sample import Sampler
from experiments.evaluation.found_model import ResultModel, find_model, fingerprint
from experiments.evaluation.prompt_files import PromptRewriter, read_prompt_file
from experiments.evaluation.prompt_page import write_page
from experiments.evaluation.prompt_table import (
    benchmark_lines,
    differences_table,
    lines,
    means_table,
    score_table,
    write_tables,
)
from experiments.evaluation.score_prompts import ALONE, Requested, Share, evaluate_prompts
from experiments.evaluation.scored_images import BEFORE, IMAGES
from rewards.parse import named_rewards
from rewards.reward_table import REWARDS
from rewards.scores import Reward
from rewards.text.benchmark_metrics import require_benchmark


@dataclass(frozen=True)
class Request:
    """What a command line asks for; None: what suits the model."""

    prompts: Path
    seeds: int = 1
    first_seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    size: tuple[int, int] | None = None
    device: str = ""
    rewriter: PromptRewriter | None = None
    benchmark: str = ""
    """whose published metrics are reported as well, by what the rewards read"""

    def model(self, name: str, stage: str) -> ResultModel:
        """The model of that name. Raises ValueError as `find_model`, also where it does not take a prompt's images."""
        prompts = [each.prompt for each in read_prompt_file(self.prompts)]
        return find_model(name, stage, self.size, prompts[0].text, [len(prompt.sources) for prompt in prompts])

    def requests(self, model: ResultModel) -> Requested:
        """The prompts of the file, and how the model samples them. Raises ValueError for what cannot be."""
        if self.seeds < 1:
            raise ValueError(f"--seeds {self.seeds}: at least one image a prompt is needed")
        sampler = self.sampler(model)
        seeds = tuple(range(self.first_seed, self.first_seed + self.seeds))
        prompts, rewriter = read_prompt_file(self.prompts), self.rewriter
        if self.benchmark:
            require_benchmark(self.benchmark, [each.prompt for each in prompts])
        if rewriter:
            prompts = rewriter.of(prompts)
        return Requested(
            tuple(prompts), seeds, sampler, self.size, self.device, fingerprint(rewriter.folder) if rewriter else ""
        )

    def sampler(self, model: ResultModel) -> Sampler:
        """How the model samples. Raises ValueError without a step."""
        steps = model.sampler.steps if self.steps is None else self.steps
        guidance = model.sampler.guidance if self.guidance is None else self.guidance
        if steps < 1:
            raise ValueError(f"--steps {steps}: at least one step is needed")
        return Sampler(steps, guidance)


def evaluate_file(
    name: str, request: Request, rewards: str, out: Path | None, stage: str = "", against: str = "",
    share: Share = ALONE,
) -> Iterator[str]:  # fmt: skip
    """Evaluate a model, and another one to compare it with, on a file of prompts; what came out, as lines.

    Of several ranks, each does its share, and the first one tells what came out. `rewards` may be empty: the images are
    then shown and not scored. The other model samples in the size of the first.
    Files, rewards and folders are looked at before anything is loaded. Raises ValueError as they do.
    """
    named = named_rewards(rewards) if rewards else {}
    read_by = reading(named, request.benchmark) if request.benchmark else []
    model = request.model(name, stage)
    other = request.model(against, "") if against else None
    if other and other.folder.resolve() == model.folder.resolve():
        raise ValueError(f"--against {against}: that is the model itself; name another one")
    requested = request.requests(model)
    folder = out or model.home / request.prompts.stem
    differences = None
    images, notes = evaluate_prompts(model, requested, named, folder, share=share)
    if other:
        sidecar = out / BEFORE if out else other.home / request.prompts.stem
        theirs_requested = replace(
            requested, sampler=request.sampler(other), size=request.size or common_size(model, other)
        )
        theirs, _ = evaluate_prompts(other, theirs_requested, named, sidecar, share=share)
    if share.rank:
        return
    table = score_table(images, list(named))
    if other:
        differences = differences_table(table, score_table(theirs, list(named)), list(named))
    means = means_table(table, list(named))
    files = write_tables(folder, table, means)
    before = other.name if other else ""
    page = write_page(folder, model.name, request.prompts, table, means, list(named), notes, differences, before)
    yield f"model:   {model.name}"
    yield from notes
    yield from lines(means)
    if request.benchmark:
        yield from benchmark_lines(images, read_by, request.benchmark)
    if differences is not None:
        differences.to_csv(folder / "differences.csv", index=False)
        yield f"{model.name} above {before}:"
        yield from lines(differences, "difference", "+.3f")
    yield f"images:  {folder / IMAGES}"
    yield f"tables:  {', '.join(str(file) for file in files)}"
    yield f"page:    {page}"


def reading(named: Mapping[str, Reward], benchmark: str) -> list[str]:
    """Those of the rewards that say what they read in an image, which a benchmark measures. Raises ValueError where
    none does."""
    read_by = [name for name, reward in named.items() if getattr(reward, "reads", False)]
    if not read_by:
        readers = ", ".join(name for name, kind in REWARDS.items() if getattr(kind, "reads", False))
        raise ValueError(
            f"--benchmark {benchmark} measures what a reward reads in the images, and {', '.join(named)} reads no "
            f"text; add to --rewards one that does, such as ocr_page ({readers})"
        )
    return read_by


def common_size(model: ResultModel, other: ResultModel) -> tuple[int, int] | None:
    """The size in which `other` samples to be compared with `model`; None where its own is that one."""
    return None if model.size == other.size else model.size


def sample_file(name: str, request: Request, out: Path, stage: str = "", share: Share = ALONE) -> Iterator[str]:
    """Sample a file of prompts into a folder, each rank its share; what came out, as lines of the first one."""
    model = request.model(name, stage)
    requested = request.requests(model)
    images, notes = evaluate_prompts(model, requested, {}, out, {}, share)
    if share.rank:
        return
    yield f"model:  {model.name}"
    yield from notes
    yield f"{len(images.points)} images of {len(requested.prompts)} prompts: {out / IMAGES}"
    yield f"to score them: glyphlab score {out / IMAGES} --reward ocr"
