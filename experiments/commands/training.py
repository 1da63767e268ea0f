"""Commands that train."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from experiments.commands.arguments import RUNS, MaybeOut, Out, RunFolder, tell
from experiments.rewriting.rewriter_plan import RewriterPlan
from experiments.tracking.trackers import TrackerName


@dataclass(frozen=True)
class Quickstart:
    """Train an image model that writes English and Chinese, align it with a taste, and report every stage.

    About 14 minutes on two idle cores without a GPU. Run again, it goes on where it was interrupted.

    Example: glyphlab quickstart
    """

    out: Out = RUNS / "quickstart"
    """the run's folder"""
    seed: int = 0
    """other weights, images, prompts, noise and answers, evaluated on the same held-out prompts; 0, 1, 2, ..."""

    def run(self) -> int:
        from experiments.evaluation.outcome import already_finished
        from experiments.quickstart.quickstart import quickstart
        from experiments.record.leftovers import removed_on_error

        before = already_finished(self.out)
        with removed_on_error(self.out):
            report = quickstart(self.out, None, self.seed)
        return tell([*before, f"report: {report}"])


@dataclass(frozen=True)
class Train:
    """Run one experiment by its name, and tell what came out; `glyphlab train NAME --help` lists all of its settings.

    Example: glyphlab train nano_sft --parent runs/quickstart/pretrain --algorithm.steps 200
    """

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """an experiment, such as nano_pretrain; `glyphlab list experiments` names them all"""
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
class TrainRewriter(RewriterPlan):
    """Teach a small language model to rewrite short prompts so that an image model scores better; resumable.

    Fine-tuned on examples, then GRPO over groups of rewrites; `glyphlab sample --rewriter` uses the result.

    Example: glyphlab train-rewriter runs/quickstart --base HuggingFaceTB/SmolLM2-135M-Instruct -o runs/rewriter

    Example: glyphlab train-rewriter Qwen/Qwen-Image --base Qwen/Qwen2.5-0.5B-Instruct --prompts short.txt --examples
    rewrites.jsonl --reward 0.7*ocr_page+0.3*brisque
    """

    def run(self) -> int:
        from experiments.rewriting.train_rewriter import train_rewriter

        return tell(train_rewriter(self, partial(print, flush=True)))


@dataclass(frozen=True)
class Sweep:
    """Run an experiment with every combination of some settings and seeds, and compare them in one table.

    A setting is written as for `train`, with its values behind it; a tuple's parts are joined by |, and settings that
    change together by /, as in algorithm.group/algorithm.micro=8/32,12/48. Run again, it goes on where it stopped.

    Several experiments are compared with one another: glyphlab sweep nano_grpo,nano_nft --over algorithm.steps=60 ...
    Prompts in two languages are told together and apart.

    Example: glyphlab sweep nano_grpo --over optim.adamw_lr=1e-4,5e-5 algorithm.beta=0,0.01 --parent
    runs/quickstart/pretrain
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
    """folder of the finished run whose model every run starts from; {seed} in it stands for the run's seed, so that
    runs/{seed}/pretrain gives every seed a start of its own"""
    start: bool = False
    """evaluate what the runs start from as well, without guidance and with it (2.0), and compare all with it"""
    prompts: int | None = None
    """held-out prompts that every run is evaluated on; 192 when not given"""
    steps: int | None = None
    """steps from noise to image in evaluation; 10 when not given"""

    def run(self) -> int:
        from experiments.evaluation.outcome import already_finished
        from experiments.record.leftovers import removed_on_error
        from experiments.studies.sweep import planned, sweep

        out = self.out or RUNS / f"sweep_{self.name}"
        before = already_finished(out)
        with removed_on_error(out):
            plan = planned(self.prompts, self.steps)
            report = sweep(self.name, self.over, self.seeds, out, self.parent, plan, self.start)
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
        from experiments.tracking.mirror import failures, start_sidecars
        from experiments.training.launch import conclude

        before = already_finished(self.run_folder)
        if self.track and not before:
            start_sidecars(self.run_folder, self.track)
        tell(before)
        report = resume(self.run_folder, self.set) if self.set else resume(self.run_folder)
        return tell([*conclude(self.run_folder, report, self.evaluate), *failures(self.run_folder, self.track)])


@dataclass(frozen=True)
class Mix:
    """Change what the images of a run are mixed of, or add images, while it goes on or before it is resumed.

    Parts are the folders of own images, the tasks of a mixture, or the levels of rendered words; one that is not named
    has no weight. The run takes it up within 16 updates and notes it in mix.jsonl, or generations.jsonl for images.
    Without any of them, it shows the parts and what was changed.

    Example: glyphlab mix runs/sft photographs=3 written=1

    Example: glyphlab mix runs/sft --grow /data/more
    """

    run_folder: RunFolder
    """folder of a run that learns from images and is not finished"""
    weights: Annotated[Positional[tuple[str, ...]], arg(metavar="PART=WEIGHT")] = ()
    """shares, of any sum"""
    grow: Annotated[tuple[str, ...] | None, arg(metavar="[PART=]FOLDER ...")] = None
    """add the images of these folders to a part of own images; without a folder, list those of the run again"""
    replace: Annotated[tuple[str, ...], arg(metavar="[PART=]FOLDER ...")] = ()
    """images of these folders take the place of all of their part, which must stay on disk until then"""
    from_update: Annotated[int | None, arg(metavar="UPDATE")] = None
    """a multiple of 8 that was not read yet, from which on it holds; the next one that can be if not given"""

    def run(self) -> int:
        from experiments.training.other_images import Wanted, ask_for

        return tell(ask_for(self.run_folder, Wanted(self.weights, self.grow, self.replace, self.from_update)))


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
