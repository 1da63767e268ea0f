"""The command line. A command is a frozen dataclass in `experiments/commands`; what it needs is imported when it runs,
so `--help` is quick. Adding one is a class there and a line in `Command`.

Mistakes of the user (ValueError, FileNotFoundError) are one line on stderr and exit status 2; a full disk or a failing
reward one line and exit status 1; `--traceback` anywhere in the command shows where they arose. Ctrl-C ends with status
130 and says how to go on.
"""

from __future__ import annotations

import errno
import itertools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, get_args, get_type_hints

import tyro
from tyro.conf import ConsolidateSubcommandArgs, OmitSubcommandPrefixes, subcommand

from experiments.commands.ablating import Ablate, EvaluateEdits, Study
from experiments.commands.accounts import Accounts
from experiments.commands.annotating import Annotate
from experiments.commands.arguments import RUNS, in_plain_words, tell, with_current_options
from experiments.commands.autoencoders import EvaluateVae, ExportVae
from experiments.commands.campaigns import Campaign
from experiments.commands.evaluating import Doctor, Evaluate, Report, Score
from experiments.commands.listing import ListNames
from experiments.commands.pairs import Pairs
from experiments.commands.planning import Plan
from experiments.commands.released import Edit, Export, ImportLora
from experiments.commands.reward_models import CompareRewards, TrainGlyph, TrainJudge, TrainReward
from experiments.commands.sampling import Curate, Lineage, Sample, Write
from experiments.commands.serving import ServeRewards
from experiments.commands.training import Mix, Quickstart, Resume, Sweep, Track, Train, TrainRewriter
from preference_data.spelling import unknown

Command = (
    Annotated[Quickstart, subcommand("quickstart")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Sweep, subcommand("sweep")]
    | Annotated[Resume, subcommand("resume")]
    | Annotated[Mix, subcommand("mix")]
    | Annotated[Sample, subcommand("sample")]
    | Annotated[Write, subcommand("write")]
    | Annotated[Curate, subcommand("curate")]
    | Annotated[Lineage, subcommand("lineage")]
    | Annotated[Edit, subcommand("edit")]
    | Annotated[Export, subcommand("export")]
    | Annotated[ImportLora, subcommand("import-lora")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[EvaluateVae, subcommand("evaluate-vae")]
    | Annotated[ExportVae, subcommand("export-vae")]
    | Annotated[Plan, subcommand("plan")]
    | Annotated[EvaluateEdits, subcommand("evaluate-edits")]
    | Annotated[Ablate, subcommand("ablate")]
    | Annotated[Study, subcommand("study")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Track, subcommand("track")]
    | Annotated[Score, subcommand("score")]
    | Annotated[ServeRewards, subcommand("serve-rewards")]
    | Annotated[Pairs, subcommand("pairs")]
    | Annotated[Doctor, subcommand("doctor")]
    | Annotated[TrainReward, subcommand("train-reward")]
    | Annotated[TrainJudge, subcommand("train-judge")]
    | Annotated[TrainRewriter, subcommand("train-rewriter")]
    | Annotated[TrainGlyph, subcommand("train-glyph")]
    | Annotated[CompareRewards, subcommand("compare-rewards")]
    | Annotated[Campaign, subcommand("campaign")]
    | Annotated[Annotate, subcommand("annotate")]
    | Annotated[Accounts, subcommand("account")]
    | Annotated[ListNames, subcommand("list")]
)


COMMANDS = {get_args(each)[1].name: get_args(each)[0] for each in get_args(Command)}
"""What a command line may begin with."""


def inner_commands(command: type) -> tuple[str, ...]:
    """What may follow a command that has commands of its own, such as `campaign create`; () for the others."""
    for hint in get_type_hints(command, include_extras=True).values():
        names = [get_args(each)[1].name for each in get_args(hint) if hasattr(each, "__metadata__")]
        if names:
            return tuple(names)
    return ()


def train(arguments: Sequence[str]) -> int:
    """`glyphlab train NAME ...`: the settings of the named experiment are options, with its values as defaults."""
    from experiments.evaluation.outcome import already_finished
    from experiments.evaluation.prompts_of_plan import fitted
    from experiments.record.leftovers import INSTALLED, nothing_recorded, removed_on_error
    from experiments.settings import parse
    from experiments.tracking.mirror import failures, start_sidecars
    from experiments.training.launch import conclude, find
    from experiments.training.launch import train as launch
    from experiments.training.start_from import without_base

    name, *options = arguments
    with in_plain_words(f"train {name}"):
        chosen = parse(find(name), RUNS / name, options)
    named = {o.split("=")[0].lstrip("-").replace("_", "-") for o in options}
    experiment, answer = fitted(chosen.experiment, named)
    if not named & {"base", "experiment.base"}:
        experiment = without_base(experiment, chosen.parent)
    print(*answer, sep="\n", end="\n" if answer else "")
    before = already_finished(chosen.out)
    tell(before)
    if chosen.track and not before:
        start_sidecars(chosen.out, chosen.track)
    with removed_on_error(chosen.out, partial(nothing_recorded, also=INSTALLED if chosen.pairs else ())):
        if chosen.pairs:
            from experiments.preferences.from_people import install
            from experiments.training.runner import open_record

            open_record(experiment, chosen.out, chosen.parent)
            print(f"pairs: {install(experiment, chosen.pairs, chosen.store, chosen.out)}")
        report = launch(experiment, chosen.out, chosen.parent)
    return tell([*conclude(chosen.out, report, chosen.evaluate), *failures(chosen.out, chosen.track)])


def run_folder(arguments: Sequence[str]) -> str:
    """The folder to resume after Ctrl-C, as well as it can be told from the command line."""
    for option, value in itertools.pairwise(arguments):
        if option in ("--out", "-o"):
            return value
    if arguments and arguments[0] == "train":
        return str(RUNS / arguments[1])
    named = [a for a in arguments[1:] if not a.startswith("-")]
    return named[0] if named else str(RUNS / "quickstart")


def parsed(arguments: Sequence[str]) -> Callable[[], int]:
    """What runs a command and returns its exit status. A wrong command line exits by itself, naming what is near."""
    if arguments[:1] in (["--version"], ["-V"]):
        return partial(tell, [version()])
    require_command(arguments)  # before a `--help`, tyro would show the general help and call it a success
    if arguments[:1] == ["train"] and arguments[1:] and not arguments[1].startswith("-"):
        return partial(train, arguments[1:])
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    inner = inner_commands(COMMANDS[words[0]]) if words else ()
    with in_plain_words(" ".join(words[: 2 if inner else 1])):
        command = tyro.cli(
            OmitSubcommandPrefixes[ConsolidateSubcommandArgs[Command]],  # type: ignore[valid-type]
            args=arguments, prog="glyphlab",
            description="Train image models that write, and align them with preferences and rewards.",
        )  # fmt: skip
    return command.run  # type: ignore[no-any-return]


def require_command(arguments: Sequence[str]) -> None:
    """Raises ValueError naming what is near where there is no such command."""
    if not arguments or arguments[0].startswith("-"):
        return
    name, *rest = arguments
    if name not in COMMANDS:
        raise ValueError(unknown("command", name, COMMANDS, "glyphlab --help"))
    inner = inner_commands(COMMANDS[name])
    if inner and rest and not rest[0].startswith("-") and rest[0] not in inner:
        raise ValueError(unknown(f"{name} command", rest[0], inner))


def version() -> str:
    """Name and version of the installed package, and the git revision where it runs from a checkout."""
    from experiments.record.environment import revision

    try:
        number = metadata.version("glyphlab")
    except metadata.PackageNotFoundError:
        number = "(not installed)"
    checkout = revision()
    return f"glyphlab {number}" + (f" at {str(checkout['revision'])[:7]}" if checkout else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of `glyphlab`; the exit status."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    traceback = "--traceback" in argv
    argv = with_current_options([a for a in argv if a != "--traceback"])
    try:
        return parsed(argv)()
    except KeyboardInterrupt:
        print(f"\ninterrupted; go on with: {hint(argv)}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        if traceback or is_bug(error):
            raise
        print(f"glyphlab: {sentence(error)}", file=sys.stderr)
        return 2 if isinstance(error, ValueError | FileNotFoundError) else 1
    except ModuleNotFoundError as error:
        if traceback:
            raise
        print(f"glyphlab: {error}; the command needs it: pip install 'glyphlab[train]'", file=sys.stderr)
        return 2


REMEDIES = (
    (FileNotFoundError, "there is no file or folder {path}; check how it is spelt and where the command runs"),
    (FileExistsError, "{path} exists already and is in the way; name another place, or move it away"),
    (NotADirectoryError, "{path} cannot be reached: a part of it is a file, not a folder; name another place"),
    (IsADirectoryError, "{path} is a folder and a file is needed; name the file"),
    (PermissionError, "you may not read or write {path}; change its permissions, or name another place"),
)
"""What the system refused, in words."""
FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "your share of the disk is full"}


def sentence(error: Exception) -> str:
    """An error as a sentence with the path and the remedy, where the system gave only a number and a word."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    path = next((str(each) for each in (error.filename2, error.filename) if each not in (None, "")), "")
    if error.errno in FULL:
        return f"{FULL[error.errno]}{path and f', so {path} cannot be written'}; make room and run the command again"
    if path:
        for kind, text in REMEDIES:
            if isinstance(error, kind):
                return text.format(path=error.filename if kind is FileNotFoundError else path)
    return f"{path}: {error.strerror}" if path else str(error.strerror)


def is_bug(error: Exception) -> bool:
    """A RuntimeError that no reward is to blame for deserves its traceback."""
    if not isinstance(error, RuntimeError):
        return False
    from rewards.serving.workers import ScoringError

    return not isinstance(error, ScoringError)


def hint(arguments: Sequence[str]) -> str:
    """The command that goes on after Ctrl-C."""
    if arguments[:1] and arguments[0] in ("quickstart", "train", "resume"):
        from experiments.record.record import RUN

        folder = run_folder(arguments)
        if (Path(folder) / RUN).exists():  # interrupted before that, there is nothing to resume
            return f"glyphlab resume {shlex.quote(folder)}"
    return shlex.join(["glyphlab", *arguments])


if __name__ == "__main__":
    sys.exit(main())
