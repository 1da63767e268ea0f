"""One experiment with every combination of some settings and seeds, compared on the same held-out prompts.

    FOLDER/run.json            the combinations; running the same sweep again goes on where it was
    FOLDER/VARIANT-seedN/      a run folder like any other, with its evaluation
    FOLDER/table.md            the comparison; sweep.html has the curves beside it

Runs that were watched (monitors) are also compared along the way, by time and by images scored.

A run that is finished is not trained again, one that was interrupted goes on. A run whose numbers are no longer finite
has failed: the table says so, and the others go on.

The parent's path may name the seed, runs/{seed}/pretrain, so that every seed has a start of its own.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from html import escape
from pathlib import Path

from tqdm import tqdm

from experiments.configs import nano
from experiments.evaluation.evaluate import is_judged
from experiments.evaluation.prompts_of_plan import fitted
from experiments.experiment import EvaluationPlan, Experiment, laid_out
from experiments.overrides import override
from experiments.record.record import RunRecord, read_run
from experiments.record.recorded_settings import rebuild
from experiments.record.results import read_result
from experiments.record.whole_files import write_bytes
from experiments.report import markdown
from experiments.report.page import document, swatch
from experiments.report.report import comparison_curves
from experiments.studies import watched_runs
from experiments.studies.sweep_table import arm, start_arms, tables
from experiments.training.launch import evaluate_run, find, train
from experiments.training.start_from import without_base

TABLE, PAGE = "table.md", "sweep.html"
UNGUIDED = replace(nano.evaluation, samplers=nano.evaluation.samplers[:1])
"""What runs are evaluated by: without guidance, which is all that the table tells of them."""
START, SEED = "start", "{seed}"
"""What the model that all runs of a seed begin from is called; what stands for the seed in the path of a parent."""


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


def parent_of(parent: Path | None, seed: int) -> Path | None:
    """What a run with that seed starts from."""
    return Path(str(parent).replace(SEED, str(seed))) if parent else None


def planned(prompts: int | None, steps: int | None) -> EvaluationPlan:
    """UNGUIDED with so many prompts and steps, where they are given. Raises ValueError for less than one."""
    (name, sampler), *_ = UNGUIDED.samplers
    count, steps = UNGUIDED.prompts.count if prompts is None else prompts, sampler.steps if steps is None else steps
    if min(count, steps) < 1:
        raise ValueError(f"--prompts {count} and --steps {steps} must be at least 1")
    prompt_plan = replace(UNGUIDED.prompts, count=count)
    return replace(UNGUIDED, prompts=prompt_plan, samplers=((name, replace(sampler, steps=steps)),))


def sweep(
    name: str, over: Sequence[str], seeds: str, out: Path, parent: Path | None, plan: EvaluationPlan = UNGUIDED,
    start: bool = False,
) -> Path:  # fmt: skip
    """Run what is not done yet of the grid around named experiments (`A` or `A,B`); the page of its table.

    With `start`, what the runs begin from is evaluated as well, without guidance and with it, and told first.
    Raises as `grids`, and ValueError where a parent is missing or is asked for and not named.
    """
    numbers = parse_seeds(seeds)
    if start and parent is None:
        raise ValueError("--start evaluates what the runs begin from: name it with --parent PATH")
    parents = [each for seed in numbers if (each := parent_of(parent, seed))]
    if missing := next((each for each in parents if not (each / "run.json").exists()), None):
        raise ValueError(f"--parent {parent}: {missing} is no folder of a run")
    experiments = [without_base(find(each), parent_of(parent, numbers[0])) for each in name.split(",")]
    return run_variants(grids(experiments, over), numbers, out, parent, plan, start)


def resume_sweep(out: Path) -> Path:
    """Go on with the sweep in a folder."""
    config = RunRecord.read(out).config
    parent = out / config["parent"] if config["parent"] else None
    plan, start = rebuild(config["evaluation"]), config.get(START, False)
    return run_variants(rebuild(config["variants"]), config["seeds"], out, parent, plan, start)


def run_variants(
    variants: Mapping[str, Experiment], seeds: Sequence[int], out: Path, parent: Path | None, plan: EvaluationPlan,
    start: bool = False,
) -> Path:  # fmt: skip
    """Train, evaluate and compare."""
    relative, settled = os.path.relpath(parent, out) if parent else "", {n: laid_out(e) for n, e in variants.items()}
    config = {"variants": settled, "seeds": list(seeds), "parent": relative, "evaluation": plan}
    record = RunRecord.open(out, config | ({START: True} if start else {}))
    if not record.finished:
        with record.running():
            for seed in seeds if start else ():
                evaluate_start(parent_of(parent, seed), run_folder(out, START, seed), plan)
            # all variants of a seed first: what else the machine does then slows all of them alike
            runs = list(itertools.product(seeds, variants.items()))
            for i, (seed, (name, experiment)) in enumerate(runs, 1):
                tqdm.write(f"{i} of {len(runs)}: {name}, seed {seed}", file=sys.stderr)
                run_one(seeded(experiment, seed), run_folder(out, name, seed), parent_of(parent, seed), plan)
    return write_table(variants, seeds, out)


def evaluate_start(parent: Path | None, folder: Path, plan: EvaluationPlan) -> None:
    """Evaluate what runs begin from as they are, and once more with guidance."""
    guided, strength = nano.evaluation.samplers[1][0], nano.evaluation.samplers[1][1].guidance
    (_, sampler), *_ = plan.samplers
    both = replace(plan, samplers=(*plan.samplers, (guided, replace(sampler, guidance=strength))))
    if parent is not None and not is_judged(folder, both):
        evaluate_run(parent, both, folder / "evaluation")


def run_one(experiment: Experiment, folder: Path, parent: Path | None, plan: EvaluationPlan) -> None:
    """Train and evaluate one run, as far as that is not done."""
    try:
        train(experiment, folder, parent)
    except FloatingPointError as error:
        tqdm.write(f"{folder.name} failed: {error}", file=sys.stderr)
        return
    if not is_judged(folder, plan):
        evaluate_run(folder, plan)


def write_table(variants: Mapping[str, Experiment], seeds: Sequence[int], out: Path) -> Path:
    """Write table.md and sweep.html; the path of the page."""
    folders = {name: [run_folder(out, name, seed) for seed in seeds] for name in variants}
    arms = [
        *start_arms(START, [run_folder(out, START, seed) for seed in seeds]),
        *(arm(name, of_name) for name, of_name in folders.items()),
    ]
    lines = tables(arms)
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
