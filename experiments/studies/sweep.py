"""One experiment with every combination of some settings and seeds, compared on the same held-out prompts.

    FOLDER/run.json            the combinations; running the same sweep again goes on where it was
    FOLDER/VARIANT-seedN/      a run folder like any other, with its evaluation
    FOLDER/table.md            the comparison; sweep.html has the curves beside it

Runs that were watched (monitors) are also compared along the way, by time and by images scored.

A run that is finished is not trained again, one that was interrupted goes on. A run whose numbers are no longer finite
has failed: the table says so, and the others go on.

Intervals are by prompt: the seeds of a variant are averaged prompt by prompt first, and variants are paired by prompt.
What seeds do is told beside it, as the least and the greatest mean.

Shapes: P prompts.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from html import escape
from pathlib import Path

import numpy as np
from tqdm import tqdm

from experiments.configs import nano
from experiments.evaluation.evaluate import is_judged
from experiments.evaluation.prompts_of_plan import fitted
from experiments.experiment import EvaluationPlan, Experiment, laid_out
from experiments.overrides import override
from experiments.record.intervals import bootstrap_ci, paired_ci
from experiments.record.record import RunRecord, read_run
from experiments.record.recorded_settings import rebuild
from experiments.record.results import MAIN, column, read_result, read_stage
from experiments.record.whole_files import write_bytes
from experiments.report import markdown
from experiments.report.page import document, swatch
from experiments.report.page_words import duration, number, signed
from experiments.report.report import comparison_curves
from experiments.studies import watched_runs
from experiments.training.launch import evaluate_run, find, train
from experiments.training.start_from import without_base

TABLE, PAGE = "table.md", "sweep.html"
UNGUIDED = replace(nano.evaluation, samplers=nano.evaluation.samplers[:1])
"""What runs are evaluated by: without guidance, which is all that the table tells."""


@dataclass(frozen=True)
class Arm:
    """What the runs of one variant gave on the evaluation prompts, averaged over seeds prompt by prompt."""

    name: str
    seeds: int
    """that finished"""
    ned_P: np.ndarray
    exact_P: np.ndarray
    judge_P: np.ndarray
    means: tuple[float, ...]
    """mean 1 - NED of every seed"""
    seconds: float
    """of training, mean over seeds"""
    failed: tuple[str, ...]
    """what went wrong, for every run that failed"""


def axis(text: str) -> list[dict[str, str]]:
    """The choices of one `--over`: `SETTING=A,B`, or settings that change together, `SETTING/OTHER=A/X,B/Y`.

    Raises ValueError for what is written otherwise.
    """
    names, equals, values = text.partition("=")
    if not equals or not values:
        raise ValueError(f"--over {text!r} has no values; write SETTING=A,B, such as optim.adamw_lr=1e-4,5e-5")
    paths = names.split("/")
    choices = [value.split("/") if len(paths) > 1 else [value] for value in values.split(",")]
    if odd := next((choice for choice in choices if len(choice) != len(paths)), None):
        raise ValueError(f"--over {text!r}: {'/'.join(odd)} is {len(odd)} values for the {len(paths)} settings {names}")
    return [dict(zip(paths, choice, strict=True)) for choice in choices]


def grid(experiment: Experiment, over: Sequence[str]) -> dict[str, Experiment]:
    """Every combination of the settings, by name. Without settings, the experiment alone.

    Raises ValueError for a setting that does not exist or a value that is refused, before anything runs.
    """
    axes = [axis(text) for text in over]
    paths = [path for choices in axes for path in choices[0]]
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise ValueError(f"{twice[0]} is given twice; write all of its values behind one name")
    last = [path.rpartition(".")[2] for path in paths]
    entries: dict[str, Experiment] = {}
    for combination in itertools.product(*axes):
        chosen = {path: value for choice in combination for path, value in choice.items()}
        shown = [end if last.count(end) == 1 else path for path, end in zip(paths, last, strict=True)]
        name = " ".join(f"{end}={chosen[path]}" for end, path in zip(shown, paths, strict=True)) or experiment.name
        if name in entries:
            raise ValueError(f"{name} comes twice; give every value once")
        entries[name] = fitted(override(experiment, chosen), chosen)[0]
    return entries


def grids(experiments: Sequence[Experiment], over: Sequence[str]) -> dict[str, Experiment]:
    """The combinations of every experiment; of several, with the experiment's name before its settings.

    Raises as `grid`, and ValueError for an experiment that comes twice.
    """
    if len(experiments) == 1:
        return grid(experiments[0], over)
    names = [experiment.name for experiment in experiments]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice} is given twice; name every experiment once")
    return {
        name if name == experiment.name else f"{experiment.name} {name}": variant
        for experiment in experiments
        for name, variant in grid(experiment, over).items()
    }


def seeded(experiment: Experiment, seed: int) -> Experiment:
    """The experiment with the seed of its weights and of its loop."""
    cfg = experiment.algorithm
    if any(field.name == "seed" for field in fields(cfg)):
        cfg = replace(cfg, seed=seed)
    return replace(experiment, seed=seed, algorithm=cfg)


def parse_seeds(text: str) -> list[int]:
    """`0,1,2`. Raises ValueError for what is no number, or comes twice."""
    try:
        seeds = [int(each) for each in text.split(",")]
    except ValueError:
        raise ValueError(f"--seeds {text!r}: write whole numbers with commas between them, such as 0,1,2") from None
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds {text!r}: a seed comes twice, which would be the same run twice")
    return seeds


def run_folder(out: Path, name: str, seed: int) -> Path:
    """The folder of a run."""
    return out / f"{re.sub(r'[^A-Za-z0-9._=+-]', '+', name)}-seed{seed}"


def sweep(
    name: str, over: Sequence[str], seeds: str, out: Path, parent: Path | None, plan: EvaluationPlan = UNGUIDED
) -> Path:
    """Run what is not done yet of the grid around named experiments (`A` or `A,B`); the page of its table.

    Raises as `grids`.
    """
    return run_variants(
        grids([without_base(find(each), parent) for each in name.split(",")], over),
        parse_seeds(seeds),
        out,
        parent,
        plan,
    )


def resume_sweep(out: Path) -> Path:
    """Go on with the sweep in a folder."""
    config = RunRecord.read(out).config
    parent = out / config["parent"] if config["parent"] else None
    return run_variants(rebuild(config["variants"]), config["seeds"], out, parent, rebuild(config["evaluation"]))


def run_variants(
    variants: Mapping[str, Experiment], seeds: Sequence[int], out: Path, parent: Path | None, plan: EvaluationPlan
) -> Path:
    """Train, evaluate and compare."""
    relative, settled = os.path.relpath(parent, out) if parent else "", {n: laid_out(e) for n, e in variants.items()}
    record = RunRecord.open(out, {"variants": settled, "seeds": list(seeds), "parent": relative, "evaluation": plan})
    if not record.finished:
        with record.running():
            # all variants of a seed first: what else the machine does then slows all of them alike
            runs = list(itertools.product(seeds, variants.items()))
            for i, (seed, (name, experiment)) in enumerate(runs, 1):
                tqdm.write(f"{i} of {len(runs)}: {name}, seed {seed}", file=sys.stderr)
                run_one(seeded(experiment, seed), run_folder(out, name, seed), parent, plan)
    return write_table(variants, seeds, out)


def run_one(experiment: Experiment, folder: Path, parent: Path | None, plan: EvaluationPlan) -> None:
    """Train and evaluate one run, as far as that is not done."""
    try:
        train(experiment, folder, parent)
    except FloatingPointError as error:
        tqdm.write(f"{folder.name} failed: {error}", file=sys.stderr)
        return
    if not is_judged(folder, plan):
        evaluate_run(folder, plan)


def arm(name: str, folders: Sequence[Path]) -> Arm:
    """The runs of one variant, read from their folders. Prompts that no seed could judge are NaN."""
    entries: dict[str, list[np.ndarray]] = {"ned": [], "exact": [], "judge_ned": []}
    seconds, failed = [], []
    for folder in folders:
        stage = read_stage(folder, {})
        evaluation = stage.evaluation(MAIN) if stage.run.status == "finished" else None
        if evaluation is None:
            failed.append(stage.run.error or stage.run.status)
            continue
        seconds.append(stage.run.seconds)
        for part, values in entries.items():
            values.append(column(evaluation.rows, part))
    ned, exact, scorer = (over_seeds(values) for values in entries.values())
    means = tuple(float(np.nanmean(values)) if len(values) else math.nan for values in entries["ned"])
    return Arm(
        name, len(means), ned, exact, scorer, means, float(np.mean(seconds)) if seconds else math.nan, tuple(failed)
    )


def over_seeds(values: Sequence[np.ndarray]) -> np.ndarray:
    """[P] mean over the seeds that could be judged; [] without one."""
    if not values:
        return np.zeros(0)
    stacked = np.stack(values)
    known = (~np.isnan(stacked)).sum(0)
    mean: np.ndarray = np.where(known > 0, np.nansum(stacked, axis=0) / np.maximum(known, 1), np.nan)
    return mean


def table(arms: Sequence[Arm]) -> list[str]:
    """The comparison as a Markdown table. Differences are to the first variant that has a finished run."""
    first = next((each for each in arms if each.seeds), None)
    heads = [
        "variant", "seeds", "1 - NED", "minus the first", "exact", "minus the first", "gold", "seeds from", "to",
        "time",
    ]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for each in arms:
        if not each.seeds or first is None:
            lines.append(f"| {each.name} | 0 |" + " – |" * (len(heads) - 2))
            continue
        measured = [
            cell
            for own, base in ((each.ned_P, first.ned_P), (each.exact_P, first.exact_P))
            for cell in (with_interval(own), "" if each is first else difference(base, own))
        ]
        cells = [
            each.name, str(each.seeds), *measured, number(mean(each.judge_P)), number(min(each.means)),
            number(max(each.means)), duration(each.seconds),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    notes = [f"- {each.name}: a run failed: {reason}" for each in arms for reason in each.failed]
    return [*lines, *(["", *notes] if notes else [])]


def with_interval(values_P: np.ndarray) -> str:
    """The mean over prompts with its interval."""
    low, high = bootstrap_ci(values_P, seed=0)
    return f"{number(mean(values_P))} ({number(low)} to {number(high)})"


def difference(before_P: np.ndarray, after_P: np.ndarray) -> str:
    """after - before over the same prompts, with its interval."""
    delta, low, high = paired_ci(before_P, after_P, seed=0)
    return f"{signed(delta)} ({signed(low)} to {signed(high)})"


def mean(values_P: np.ndarray) -> float:
    return math.nan if np.isnan(values_P).all() else float(np.nanmean(values_P))


def write_table(variants: Mapping[str, Experiment], seeds: Sequence[int], out: Path) -> Path:
    """Write table.md and sweep.html; the path of the page."""
    folders = {name: [run_folder(out, name, seed) for seed in seeds] for name in variants}
    lines = table([arm(name, of_name) for name, of_name in folders.items()])
    inks = watched_runs.ink_of(variants)
    watched = [result for name in variants if (result := watched_runs.variant(name, folders[name]))]
    course = watched_runs.table(watched)
    write_bytes(out / TABLE, "\n".join([*lines, "", *course, *([""] if course else [])]).encode())
    runs = [(name, seed, run_folder(out, name, seed)) for name in variants for seed in seeds]
    measured = [(name, seed, folder) for name, seed, folder in runs if read_run(folder).metrics]
    curves = comparison_curves(
        [read_result(folder) for _, _, folder in measured], [f"{name}, seed {seed}" for name, seed, _ in measured],
        [inks[name] for name, _, _ in measured],
    )  # fmt: skip
    note = (
        "1 − NED on held-out words, without guidance, with 95 % intervals by prompt; differences are paired by prompt, "
        "after averaging over seeds."
    )
    legend = " ".join(f"{swatch(inks[each.name])}{escape(each.name)}&nbsp;" for each in watched)
    along = f'{watched_runs.charts(watched, inks)}<p class="note">{legend}</p>{shown(course)}' if watched else ""
    sections = [
        ("Results", f'{shown(lines)}<p class="note">{note}</p>'),
        ("While training", along),
        ("Learning curves", curves),
    ]
    size = f"{counted(len(variants), 'variant')}, {counted(len(seeds), 'seed')} each"
    head = f'<h1>Sweep</h1><p class="answer">{size}: {escape(out.name)}.</p>'
    target = out / PAGE
    write_bytes(target, document("Glyphlab: sweep", head, sections, "Made by glyphlab.").encode())
    return target


def counted(number: int, what: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def shown(lines: Sequence[str]) -> str:
    """A Markdown table as HTML."""
    return markdown.render("\n".join(lines))
