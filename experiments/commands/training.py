"""Commands that train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from experiments.commands.arguments import RUNS, MaybeOut, Out, RunFolder
from experiments.tracking.trackers import TrackerName


@dataclass(frozen=True)
class Quickstart:
    """Train an image model that writes words, align it, evaluate every stage, and write the report.

    Ten minutes to a quarter of an hour on two cores without a GPU. Run again, it goes on where it was interrupted.

    Example: glyphlab quickstart
    """

    out: Out = RUNS / "quickstart"
    """the run's folder"""

    def run(self) -> int:
        from experiments.evaluation.outcome import already_finished
        from experiments.quickstart.quickstart import quickstart
        from experiments.record.leftovers import removed_on_error

        before = already_finished(self.out)
        with removed_on_error(self.out):
            report = quickstart(self.out)
        return tell([*before, f"report: {report}"])


@dataclass(frozen=True)
class Train:
    """Run one experiment by its name, and tell what came out; `glyphlab train NAME --help` lists all of its settings.

    Example: glyphlab train nano_sft --parent runs/quickstart/pretrain --algorithm.steps 200
    """

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """an experiment of experiments/configs, such as nano_pretrain"""
    out: MaybeOut = None
    """the run's folder; runs/NAME when not given"""
    parent: Annotated[Path | None, arg(metavar="PATH")] = None
    """folder of the finished run whose model this one starts from"""
    track: Annotated[tuple[str, ...], arg(metavar="TRACKER [TRACKER ...]")] = ()
    """trackers to show the run in, from processes of their own: tensorboard, wandb, trackio, mlflow"""
    evaluate: bool = True
    """evaluate the finished model: on prompts of the run's own where it has such, beside what it began from, else on
    held-out words, beside its parent's"""

    def run(self) -> int:
        raise AssertionError("`main` hands this command to `train`, which knows the experiment's settings")


@dataclass(frozen=True)
class TrainRewriter:
    """Teach a small language model to rewrite short prompts so that an image model scores better; resumable.

    Fine-tuned on examples, then GRPO over groups of rewrites; `glyphlab sample --rewriter` uses the result.

    Example: glyphlab train-rewriter runs/quickstart --base HuggingFaceTB/SmolLM2-135M-Instruct -o runs/rewriter

    Example: glyphlab train-rewriter Qwen/Qwen-Image --base Qwen/Qwen2.5-0.5B-Instruct --prompts short.txt --examples
    rewrites.jsonl --reward 0.7*ocr_page+0.3*brisque
    """

    model: Annotated[Positional[str], arg(metavar="RUN_OR_CHECKPOINT")]
    """folder of a finished run, or a released checkpoint: whose images are scored"""
    base: str
    """folder or hub name of a causal language model"""
    out: Out = RUNS / "rewriter"
    """the rewriter's folder; a training that was stopped goes on there"""
    reward: str = "ocr"
    """what the images are worth: a reward, or a mixture such as 0.7*ocr+0.3*brisque"""
    stage: str = ""
    """of a run with several stages, the one whose model samples; the last aligned one when not given"""
    prompts: Annotated[Path | None, arg(metavar="FILE")] = None
    """short prompts, .txt, .jsonl or .csv; built-in ones for the small presets when not given"""
    count: int = 1000
    """built-in prompts"""
    examples: Annotated[Path | None, arg(metavar="FILE")] = None
    """prompts with their rewrites, {"prompt": ..., "rewrite": ...} a line; completions by rule when not given"""
    varied: int = 4
    """without --examples: rewrites of each prompt beside its completion by rule, with what it leaves open drawn by
    lot"""
    by_rule: bool = True
    """the completion by rule is among these; --no-by-rule leaves it to the reward to say which rewrites are good"""
    images: int = 1
    """of each rewrite in training"""
    steps: int | None = None
    """from noise to image; what suits the model when not given"""
    guidance: float | None = None
    """weight of the prompt; what suits the model when not given"""
    size: tuple[int, int] | None = None
    """of a released checkpoint: height and width in pixels; what it is for when not given"""
    workers: int = 1
    """processes that score"""
    instruction: str | None = None
    """what is put before a prompt; one sentence when not given"""
    longest: int = 400
    """characters of a rewrite"""
    most_tokens: int = 96
    """tokens of a rewrite"""
    rank: int = 32
    """of LoRA; 0 = all weights learn"""
    epochs: float = 2.0
    """over the examples; 0 = no fine-tuning"""
    sft_batch: int = 32
    """examples an update of fine-tuning, over all processes"""
    sft_rate: float = 2e-4
    """learning rate of fine-tuning"""
    updates: int = 200
    """of GRPO; 0 = fine-tuning alone"""
    group: int = 8
    """rewrites of a prompt"""
    batch: int = 8
    """prompts an update of GRPO, over all processes"""
    micro: int = 16
    """texts a pass and process"""
    rate: float = 2e-5
    """learning rate of GRPO"""
    beta: float = 0.0
    """weight of the KL divergence from the fine-tuned model"""
    save_every: int = 50
    """updates between checkpoints"""
    held_out: float = 0.1
    """share of the prompts that it is measured on; none of their texts is learned from"""
    seeds: int = 2
    """images of each held-out prompt"""
    seed: int = 0
    """of prompts, order and noise"""

    def run(self) -> int:
        from experiments.rewriting.rewriter import INSTRUCTION, Rules
        from experiments.rewriting.rewriter_trainer import RewriterSettings
        from experiments.rewriting.train_rewriter import RewriterPlan, train_rewriter

        settings = RewriterSettings(
            rank=self.rank, epochs=self.epochs, sft_batch=self.sft_batch, sft_rate=self.sft_rate,
            updates=self.updates, prompts=self.batch, group=self.group, micro=self.micro, rate=self.rate,
            beta=self.beta, save_every=self.save_every, seed=self.seed,
        )  # fmt: skip
        plan = RewriterPlan(
            self.model, self.base, self.out, self.reward, self.stage, self.prompts, self.count, self.examples,
            self.varied, self.by_rule, self.images, self.held_out, self.seeds, self.steps, self.guidance, self.size,
            self.workers, INSTRUCTION if self.instruction is None else self.instruction,
            Rules(self.longest, self.most_tokens), settings,
        )  # fmt: skip
        return tell(train_rewriter(plan, partial(print, flush=True)))


@dataclass(frozen=True)
class Sweep:
    """Run an experiment with every combination of some settings and seeds, and compare them in one table.

    A setting is written as for `train`, with its values behind it; a tuple's parts are joined by |, and settings that
    change together by /, as in algorithm.group/algorithm.micro=8/32,12/48. Run again, it goes on where it stopped.

    Several experiments are compared with one another: glyphlab sweep nano_grpo,nano_nft --over algorithm.steps=60 ...

    Example: glyphlab sweep nano_grpo --over optim.adamw_lr=1e-4,5e-5 algorithm.beta=0,0.01 --parent runs/quickstart/sft
    """

    name: Annotated[Positional[str], arg(metavar="NAME,NAME")]
    """experiments of experiments/configs, such as nano_grpo"""
    over: Annotated[tuple[str, ...], arg(metavar="SETTING=A,B")] = ()
    """settings and their values"""
    seeds: Annotated[str, arg(metavar="A,B")] = "0"
    """every combination is run with each of them"""
    out: MaybeOut = None
    """the sweep's folder; runs/sweep_NAME when not given"""
    parent: Annotated[Path | None, arg(metavar="PATH")] = None
    """folder of the finished run whose model every run starts from"""

    def run(self) -> int:
        from experiments.evaluation.outcome import already_finished
        from experiments.record.leftovers import removed_on_error
        from experiments.studies.sweep import sweep

        out = self.out or RUNS / f"sweep_{self.name}"
        before = already_finished(out)
        with removed_on_error(out):
            report = sweep(self.name, self.over, self.seeds, out, self.parent)
        return tell([*before, f"report: {report}"])


@dataclass(frozen=True)
class Resume:
    """Go on with an interrupted run, with the settings it was started with.

    Example: glyphlab resume runs/quickstart

    Example: glyphlab resume runs/nano_grpo --set optim.adamw_lr=1e-5 save_every=10
    """

    run_folder: RunFolder
    """a folder that `quickstart` or `train` made"""
    set: Annotated[tuple[str, ...], arg(metavar="SETTING=VALUE")] = ()
    """settings that hold from here on: rates, clipping, how often it saves and looks; run.json keeps what was before"""
    track: Annotated[tuple[TrackerName, ...], arg(metavar="TRACKER [TRACKER ...]")] = ()
    """trackers to show the run in, as `train` does; they go on where they stopped"""
    evaluate: bool = True
    """of a run that `train` made: evaluate the finished model, as `train` does"""

    def run(self) -> int:
        from experiments.evaluation.outcome import already_finished
        from experiments.resume import resume
        from experiments.training.launch import conclude

        before = already_finished(self.run_folder)
        if self.track and not before:
            from experiments.tracking.mirror import start_sidecars

            start_sidecars(self.run_folder, self.track)
        report = resume(self.run_folder, self.set) if self.set else resume(self.run_folder)
        return tell([*before, *conclude(self.run_folder, report, self.evaluate)])


@dataclass(frozen=True)
class Track:
    """Mirror a run's metrics, settings, images and alarms into a tracker, while it runs or afterwards.

    Only the run's folder is read, so nothing that a tracker does can slow or end a run. Run again, it adds
    what is new.

    Example: glyphlab track runs/nano_grpo --to tensorboard
    """

    run_folder: RunFolder
    """folder of a run, finished or not; of a chain, all of its stages are mirrored"""
    to: Annotated[tuple[TrackerName, ...], arg(metavar="TRACKER [TRACKER ...]")] = ("tensorboard",)
    """the trackers: tensorboard, wandb, trackio, mlflow"""
    follow: bool = False
    """stay until the run ends"""
    online: bool = False
    """send to the tracker's server, where it has one; else everything stays in the run's tracking folder"""

    def run(self) -> int:
        from experiments.tracking.mirror import TRACKING, follow, mirror, runs_in

        for name in self.to:
            for folder in runs_in(self.run_folder):
                metrics = (follow if self.follow else mirror)(folder, name, self.online)
                print(f"{name}: {metrics} new things of {folder}: {folder / TRACKING / name}")
        return 0


def tell(lines: Sequence[str]) -> int:
    """Print what came out; the exit status."""
    print(*lines, sep="\n", end="\n" if lines else "")
    return 0
