"""The command line. A command is a frozen dataclass; what it needs is imported when it runs, so `--help` is quick.

Mistakes of the user (ValueError, FileNotFoundError) are one line on stderr and exit status 2; `--traceback` anywhere in
the command shows where they arose. Ctrl-C ends with status 130 and says how to go on.
"""

from __future__ import annotations

import itertools
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import ConsolidateSubcommandArgs, OmitSubcommandPrefixes, Positional, arg, subcommand

RUNS = Path("runs")
RunFolder = Annotated[Positional[Path], arg(name="run", metavar="RUN")]
Out = Annotated[Path, arg(aliases=["-o"])]
MaybeOut = Annotated[Path | None, arg(aliases=["-o"], metavar="PATH")]


@dataclass(frozen=True)
class Quickstart:
    """Train an image model that writes words, align it, judge every stage, and write the report.

    About a quarter of an hour on two cores without a GPU. Run again, it goes on where it was interrupted.

    Example: glyphlab quickstart
    """

    out: Out = RUNS / "quickstart"
    """the run's folder"""

    def run(self) -> int:
        from experiments.quickstart import quickstart

        return finish(quickstart(self.out))


@dataclass(frozen=True)
class Train:
    """Run one experiment by its name; `glyphlab train NAME --help` lists all of its settings.

    Example: glyphlab train nano_sft --parent runs/quickstart/pretrain --algorithm.steps 200
    """

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """an experiment of experiments/configs, such as nano_pretrain"""
    out: MaybeOut = None
    """the run's folder; runs/NAME when not given"""
    parent: Annotated[Path | None, arg(metavar="PATH")] = None
    """folder of the finished run whose model this one starts from"""

    def run(self) -> int:
        raise AssertionError("`main` hands this command to `train`, which knows the experiment's settings")


@dataclass(frozen=True)
class Resume:
    """Go on with an interrupted run, with the settings it was started with.

    Example: glyphlab resume runs/quickstart
    """

    run_folder: RunFolder
    """a folder that `quickstart` or `train` made"""

    def run(self) -> int:
        from experiments.launch import resume

        return finish(resume(self.run_folder))


@dataclass(frozen=True)
class Sample:
    """Draw pictures of a prompt with the model of a run.

    Example: glyphlab sample runs/quickstart "the word GLYPH in red on white" --seed 7 -o out.png
    """

    run_folder: RunFolder
    """folder of a finished run"""
    prompt: Annotated[Positional[str], arg(metavar="PROMPT")]
    """what the picture should show, in words like those of the training captions"""
    out: Out = Path("sample.png")
    """the picture's file (PNG)"""
    seed: int = 0
    """of the starting noise: the same seed draws the same picture"""
    guidance: float = 2.0
    """weight of the prompt: 1 = as trained, more follows the prompt more closely at twice the time"""
    steps: int = 10
    """steps from noise to picture; more are finer and slower"""
    count: int = 1
    """pictures, from different noise, one below the other"""
    stage: str = ""
    """of a run with several stages, the one whose model draws, such as sft; the last aligned one when not given"""

    def run(self) -> int:
        from experiments.sampling import draw_to_file

        print(
            draw_to_file(
                self.run_folder, self.prompt, self.seed, self.out, self.guidance, self.steps, self.count, self.stage
            )
        )
        return 0


@dataclass(frozen=True)
class Evaluate:
    """Judge the model of a run on held-out prompts at fixed noise, with and without guidance, by two OCR engines.

    Example: glyphlab evaluate runs/nano_sft
    """

    run_folder: RunFolder
    """folder of a finished run"""

    def run(self) -> int:
        from experiments.launch import evaluate_run
        from experiments.results import evaluation_lines, read_stage

        files = evaluate_run(self.run_folder)
        for line in evaluation_lines(read_stage(files[0].parents[1], {})):
            print(line)
        return 0


@dataclass(frozen=True)
class Report:
    """Write the report of a run as one page, report.html; of several runs, also a page that compares them.

    Example: glyphlab report runs/nano_sft runs/nano_control -o comparison.html
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)")]
    """folders of runs, finished or not"""
    out: MaybeOut = None
    """the comparison's file; comparison.html beside the first run when not given"""

    def run(self) -> int:
        from experiments.report import write_comparison, write_report

        if not self.runs:
            raise ValueError("name at least one run folder, e.g. glyphlab report runs/quickstart")
        for folder in self.runs:
            print(write_report(folder))
        if len(self.runs) > 1:
            print(write_comparison(self.runs, self.out))
        return 0


@dataclass(frozen=True)
class Score:
    """Score a folder of pictures with a reward; prints a table and writes scores.csv and scores.json.

    A picture's prompt is in captions.jsonl, {"picture": "a.png", "prompt": "..."} a line, or in a.txt beside a.png.

    Example: glyphlab score pictures --reward ocr
    """

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """holds the pictures: png, jpg, webp"""
    reward: str = "ocr"
    """name of a reward in rewards.REWARDS"""
    out: MaybeOut = None
    """folder for scores.csv and scores.json; the pictures' folder when not given"""

    def run(self) -> int:
        from experiments.scoring import score_folder

        for line in score_folder(self.folder, self.reward, self.out or self.folder):
            print(line)
        return 0


@dataclass(frozen=True)
class FromScores:
    """Make preferences by machine: draw several pictures a prompt, score them, keep the best and the worst.

    Example: glyphlab pairs from-scores runs/nano_sft -o runs/pairs --count 240
    """

    run_folder: RunFolder
    """folder of the finished run whose model draws"""
    out: Out = RUNS / "pairs"
    """folder for pairs.jsonl and the pictures"""
    reward: str = "ocr"
    """name of a reward in rewards.REWARDS"""
    count: int = 240
    """prompts; each gives one pair at most"""
    group: int = 8
    """pictures a prompt"""
    min_margin: float = 0.0
    """least difference of scores, in the reward's units; 0 keeps every pair that is no tie"""
    seed: int = 0
    """of the prompts and of the noise"""

    def run(self) -> int:
        from experiments.scoring import pairs_from_run, pairs_lines

        file = pairs_from_run(
            self.run_folder, self.out, self.reward, self.count, self.group, self.min_margin, self.seed
        )
        for line in pairs_lines(file):
            print(line)
        return 0


@dataclass(frozen=True)
class Show:
    """Say what is in a file of preference pairs: how many, who decided, how far apart, and a few of them.

    Example: glyphlab pairs show runs/quickstart/dpo/pairs.jsonl
    """

    file: Annotated[Positional[Path], arg(metavar="FILE")]
    """a pairs.jsonl"""
    count: int = 5
    """pairs to print"""

    def run(self) -> int:
        from experiments.scoring import pairs_lines

        for line in pairs_lines(self.file, self.count):
            print(line)
        return 0


@dataclass(frozen=True)
class Pairs:
    """Make preference pairs, or look at them."""

    action: Annotated[FromScores, subcommand("from-scores")] | Annotated[Show, subcommand("show")]

    def run(self) -> int:
        return self.action.run()


@dataclass(frozen=True)
class Doctor:
    """Check a run for what would make its numbers wrong; exit status 1 when a check fails.

    Example: glyphlab doctor runs/quickstart
    """

    run_folder: RunFolder
    """folder of a finished run"""

    def run(self) -> int:
        from experiments.doctor import doctor

        checks = doctor(self.run_folder)
        for check in checks:
            print(f"{'ok    ' if check.passed else 'FAILED'}  {check.name}: {check.detail}")
        failed = sum(not check.passed for check in checks)
        print(f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed")
        return 1 if failed else 0


Command = (
    Annotated[Quickstart, subcommand("quickstart")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Resume, subcommand("resume")]
    | Annotated[Sample, subcommand("sample")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Score, subcommand("score")]
    | Annotated[Pairs, subcommand("pairs")]
    | Annotated[Doctor, subcommand("doctor")]
)


def finish(report: Path) -> int:
    """Tell where the report is."""
    print(f"report: {report}")
    return 0


def train(arguments: Sequence[str]) -> int:
    """`glyphlab train NAME ...`: the settings of the named experiment are options, with its values as defaults."""
    from experiments.launch import find
    from experiments.launch import train as launch
    from experiments.settings import parse

    name, *options = arguments
    chosen = parse(find(name), RUNS / name, options)
    return finish(launch(chosen.experiment, chosen.out, chosen.parent))


def run_folder(arguments: Sequence[str]) -> str:
    """The folder to resume after Ctrl-C, as well as it can be told from the command line."""
    for option, value in itertools.pairwise(arguments):
        if option in ("--out", "-o"):
            return value
    if arguments and arguments[0] == "train":
        return str(RUNS / arguments[1])
    named = [a for a in arguments[1:] if not a.startswith("-")]
    return named[0] if named else str(RUNS / "quickstart")


def execute(arguments: Sequence[str]) -> int:
    """Parse and run a command; its exit status. A wrong command line exits by itself, naming what is near."""
    if arguments[:1] == ["train"] and arguments[1:] and not arguments[1].startswith("-"):
        return train(arguments[1:])
    command = tyro.cli(
        OmitSubcommandPrefixes[ConsolidateSubcommandArgs[Command]],  # type: ignore[valid-type]
        args=arguments, prog="glyphlab",
        description="Train image models that write, and align them with preferences and rewards.",
    )  # fmt: skip
    return command.run()


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of `glyphlab`; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in given
    given = [a for a in given if a != "--traceback"]
    try:
        return execute(given)
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with: {hint(given)}", file=sys.stderr)
        return 130
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        if traceback:
            raise
        print(f"glyphlab: {error}", file=sys.stderr)
        return 1 if isinstance(error, FloatingPointError) else 2
    except ModuleNotFoundError as error:
        if traceback:
            raise
        print(f"glyphlab: {error}; the command needs it: pip install 'glyphlab[train]'", file=sys.stderr)
        return 2


def hint(arguments: Sequence[str]) -> str:
    """The command that goes on after Ctrl-C."""
    if arguments[:1] and arguments[0] in ("quickstart", "train", "resume"):
        return f"glyphlab resume {shlex.quote(run_folder(arguments))}"
    return shlex.join(["glyphlab", *arguments])


if __name__ == "__main__":
    sys.exit(main())
