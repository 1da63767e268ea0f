"""What came out of a training run, as lines for a terminal: held-out words beside its parent's, and where things are.

Reads the run's folder alone, so it tells the same of a run that was finished long ago. Imports no torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from experiments.evaluation.prompt_page import PAGE
from experiments.evaluation.prompt_table import lines
from experiments.record.heldout import AFTER, BEFORE, read_heldout, read_reconstructions
from experiments.record.intervals import in_brackets
from experiments.record.record import RUN, SAMPLES, read_run
from experiments.record.results import Evaluation, Interval, Stage, compare, read_stage
from experiments.report.page_words import duration
from experiments.report.report import REPORT

EVALUATION = "evaluation"
JUDGED = "own_prompts.jsonl"
"""The file of a run's folder with the own prompts that its model is evaluated on."""
WIDTH = 28
"""Of a column with a number and its interval."""


def outcome_lines(folder: Path) -> list[str]:
    """What came out of the finished run in `folder`. Raises as `read_run`."""
    stage = read_stage(folder, {})
    steps = len(stage.run.metrics)
    updates = f"{steps:,} update{'' if steps == 1 else 's'}"
    report = [f"{name_of(stage)} is finished: {updates} in {duration(stage.run.seconds)}"]
    report += skipped_updates(stage) + silent_updates(stage)
    if stage.evaluations:
        report += ["", *numbers(stage, parent_of(stage)), ""]
    report += heldout_lines(folder)
    report += reconstruction_lines(folder)
    report += own_numbers(folder)
    for what, path in (("images", folder / EVALUATION), ("samples", folder / SAMPLES), ("model", folder / "model")):
        if path.is_dir():
            report.append(f"{what + ':':9}{path}")
    return [*report, f"report:  {folder / REPORT}"]


def heldout_lines(folder: Path) -> list[str]:
    """How likely a run finds held-out images of its own, beside what it began from; [] where it has none."""
    if (compared := read_heldout(folder)) is None:
        return []
    own, gap = compared.after, compared.difference
    text = f"flow-matching loss on {compared.count} held-out images: {own.value:.4f}"
    if compared.before is None or gap is None:
        return ["", f"{text} {in_brackets(own.low, own.high, '.4f')}"]
    ends = in_brackets(gap.low, gap.high, "+.3g")
    return ["", f"{text}, {compared.before.value:.4f} before: {gap.value:+.3g} {ends}, {compared.verdict}"]


def reconstruction_lines(folder: Path) -> list[str]:
    """How well an autoencoder's run keeps held-out images, beside what it began from; [] where it has none."""
    lines = []
    for name, read in (read_reconstructions(folder) or {}).items():
        form, unit = (".2f", " dB") if name == "psnr" else (".4f", "")
        own, gap = read[AFTER], read.get("difference")
        text = f"{name.upper()} of held-out images: {own.value:{form}}{unit}"
        if gap is None:
            lines.append(f"{text} {in_brackets(own.low, own.high, form)}")
        else:
            ends = in_brackets(gap.low, gap.high, f"+{form}")
            lines.append(f"{text}, {read[BEFORE].value:{form}} before: {gap.value:+{form}} {ends}")
    return ["", *lines] if lines else []


def own_evaluation(folder: Path) -> Path:
    """The folder of a run's evaluation on prompts of its own."""
    return folder / EVALUATION / Path(JUDGED).stem


def own_numbers(folder: Path) -> list[str]:
    """What a run's evaluation on its own prompts gave, and by how much it is above what it began from; [] without."""
    own = own_evaluation(folder)
    if not (own / PAGE).exists():
        return []
    import pandas

    answer = ["", f"evaluated on prompts of its own: {own / PAGE}"]
    for file, value, form in (("means.csv", "mean", ".3f"), ("differences.csv", "difference", "+.3f")):
        if (own / file).exists():
            answer += ["above what it began from:"] * (value == "difference")
            empty = {name: [""] for name in (value, "low", "high")}  # a slice may be called NA
            answer += lines(pandas.read_csv(own / file, keep_default_na=False, na_values=empty), value, form)
    return [*answer, ""]


def skipped_updates(stage: Stage) -> list[str]:
    """A warning where updates were left out because something in them was not finite."""
    skipped = [row["step"] for row in stage.run.metrics if row.get("skipped")]
    if not skipped:
        return []
    return [
        f"warning: {len(skipped):,} of {len(stage.run.metrics):,} updates were left out, the first of them update "
        f"{skipped[0]:.0f}, because",
        "         something in them was not finite; lower the learning rate, or look at their images and rewards",
    ]


def silent_updates(stage: Stage) -> list[str]:
    """A warning where half of the updates or more taught nothing, because the reward was the same in every group."""
    shares = [row["groups_without_spread"] for row in stage.run.metrics if "groups_without_spread" in row]
    silent = sum(share == 1.0 for share in shares)
    if not silent or silent < len(shares) / 2:
        return []
    rewards = [row["reward"] for row in stage.run.metrics if row.get("reward") is not None]
    mean = f", {sum(rewards) / len(rewards):.3g} on average" if rewards else ""
    return [
        f"warning: {silent:,} of {len(shares):,} updates changed nothing, because images of one prompt never differed",
        f"         in their reward{mean}; take a reward that tells them apart, easier prompts or larger groups",
    ]


def name_of(stage: Stage) -> str:
    """The experiment's name, or the folder's where it is no experiment."""
    return str(stage.run.config.get("experiment", {}).get("name") or stage.name)


def parent_of(stage: Stage) -> Stage | None:
    """The run that it began from; None without one, and where its folder is gone or is no run."""
    parent = stage.run.config.get("parent")
    folder = Path(os.path.normpath(stage.run.folder / parent)) if parent else None
    return read_stage(folder, {}) if folder and (folder / RUN).exists() else None


def numbers(stage: Stage, parent: Stage | None) -> Iterator[str]:
    """A table: every evaluation, the parent's of the same name below it, and by how much it is above it."""
    count = max(evaluation.prompts for evaluation in stage.evaluations)
    yield f"{f'{count} held-out words':24}{'written exactly (95 %)':{WIDTH}}1 - NED (95 %)"
    for evaluation in stage.evaluations:
        yield row(evaluation.setting, evaluation.exact, evaluation.ned)
        before = parent and parent.evaluation(evaluation.setting)
        if before:
            yield row(f"  its parent {parent.name}" if parent else "", before.exact, before.ned)
            yield from difference(before, evaluation)
    if parent and not parent.evaluations:
        yield f"its parent was not evaluated; for numbers to compare with: glyphlab evaluate {parent.run.folder}"


def difference(before: Evaluation, after: Evaluation) -> Iterator[str]:
    """The row of paired differences; a note where the prompts were others."""
    if measures := compare(before, after):
        yield row("  difference", measures["exact"], measures["ned"], "+.3f")
    else:
        yield "  other prompts than its parent's, so there is no difference to tell"


def row(label: str, exact: Interval, ned: Interval, form: str = ".3f") -> str:
    """A line of the table."""
    cells = [f"{each.value:{form}} {in_brackets(each.low, each.high, form)}" for each in (exact, ned)]
    return f"{label:24}{cells[0]:{WIDTH}}{cells[1]}"


def already_finished(folder: Path) -> list[str]:
    """What to tell who starts a finished run again: that nothing is done, and how to go on or start anew.

    [] where the run is not finished, or there is none.
    """
    file = folder / RUN
    if not file.exists() or json.loads(file.read_text(encoding="utf-8")).get("status") != "finished":
        return []
    run = read_run(folder)
    when = f" since {run.finished[:10]}" if run.finished else ""
    lines = [f"already finished{when}: {folder}; nothing is trained again"]
    if name := run.config.get("experiment", {}).get("name"):
        lines.append(f"to go on from its model: glyphlab train {name} --parent {folder} --out NEW_FOLDER")
    return [*lines, f"to start anew: name another folder with --out, or remove {folder} first"]
