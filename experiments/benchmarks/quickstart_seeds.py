"""What is asked of the quickstart, on more prompts than it has time for and for several seeds together.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.quickstart_seeds --runs runs/quickstart runs/1 runs/2
         with the folders of `glyphlab quickstart` and `glyphlab quickstart --seed 1 -o runs/1`
Takes:   about 7 minutes a run on a core, for 1,024 open prompts and 1,024 full captions

Every stage is evaluated as in the quickstart, on the first of its held-out prompts and as many further ones, from noise
that depends on the prompt alone. Evaluations are kept in --out, so that an interrupted benchmark goes on.

    asked    a line for each demand: every run with its 95 % interval over prompts, then all runs pooled (of each prompt
             the mean over runs), and in how many runs the demand holds
    stages   means over runs

"Gold" is the engine that nothing is trained on. Its share of a gain is its own gain divided by that of the reward's
engine, with the interval of the ratio by resampling prompts; a share says little where the gain is near 0. `--third
ocr_page:engine=tesseract` asks an engine of another family too, about English, and first about renderings of the
captions, through no model. Prints the tables, then one JSON line.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro

from base_model.data.rendered_chinese import is_chinese
from base_model.data.rendered_text import read_short, render
from base_model.devices import best_device
from base_model.files.weights import load_model
from base_model.generate import generate_chunks, prompted
from base_model.interface import FlowModel
from experiments.evaluation.evaluate import column, evaluate, fixed_noise, is_judged
from experiments.evaluation.found_model import fingerprint
from experiments.evaluation.prompts_of_plan import make_prompts, make_scenes
from experiments.experiment import THREADS, EvaluationPlan
from experiments.preferences.simulated_people import appearance, people, wins
from experiments.progress import Progress
from experiments.quickstart.quickstart import TasteChain, scorers
from experiments.quickstart.taste_summary import LANGUAGES, VOTERS_SEED, Rows, facts_of, of_language, read
from experiments.record.intervals import bootstrap_ci, in_brackets
from experiments.record.whole_files import write_bytes, write_json
from preference_data.records import Prompt
from rewards.parse import named_reward

KINDS = {"evaluation": "open prompts", "captions": "full captions"}
RESAMPLES = 2000
THIRD, STAGES_OF_GAIN = "third", ("pretrain", "nft")
NOTE = "model.txt"
"""Beside a stage's evaluations: whose they are."""

Values = Callable[[Path], np.ndarray]
"""From the folder of a run's evaluations to one number a prompt."""


@dataclass(frozen=True)
class Benchmark:
    """Which runs, and on how many prompts."""

    runs: tuple[Path, ...]
    """folders of finished quickstarts, one for each seed"""
    out: Path = Path("runs/seeds")
    prompts: int = 1024
    """of each kind, half in each language"""
    extras: tuple[str, ...] = ("nft_ocr", "dpo", "chosen", "nft_taste")
    """stages to evaluate beside the start and the aligned model"""
    third: str = ""
    """a reward that reads as well, such as ocr_page:engine=tesseract: its share of the gain in English"""

    def __post_init__(self) -> None:
        if not self.runs or self.prompts < 2:
            raise ValueError(f"runs={self.runs}, prompts={self.prompts}: at least one run and 2 prompts are needed")
        for run, stage in ((run, stage) for run in self.runs for stage in self.stages):
            if not (run / stage / "model").is_dir():
                raise ValueError(f"{run / stage} has no model; finish it with `glyphlab quickstart -o {run}`")

    @property
    def stages(self) -> tuple[str, ...]:
        """All that is evaluated, the start first."""
        return "pretrain", "nft", *self.extras

    def folder(self, index: int) -> Path:
        """Where a run's evaluations are kept."""
        return self.out / f"{index}-{self.runs[index].name}-{self.prompts}"


@dataclass(frozen=True)
class Demand:
    """One line of what is asked: a mean over prompts, or the ratio of two, and the bounds that it is held to."""

    name: str
    values: Values
    of: Values | None = None
    """the ratio's lower part"""
    least: float | None = None
    """of the mean or the ratio"""
    low: float | None = None
    """of the interval's lower end"""
    high: float | None = None
    """of the interval's upper end"""

    def measured(self, folders: Sequence[Path]) -> tuple[float, float, float]:
        """(value, low, high) of the runs pooled."""
        top_P = np.mean([self.values(each) for each in folders], axis=0)
        if self.of is None:
            return (float(np.nanmean(top_P)), *bootstrap_ci(top_P, seed=0))
        return ratio(top_P, np.mean([self.of(each) for each in folders], axis=0))

    def holds(self, value: float, low: float, high: float) -> bool:
        """Whether all bounds are kept."""
        return (
            (self.least is None or value >= self.least)
            and (self.low is None or low > self.low)
            and (self.high is None or high < self.high)
        )

    @property
    def bounds(self) -> str:
        """What is asked, in words."""
        words = {"at least {:g}": self.least, "lower end above {:g}": self.low, "upper end below {:g}": self.high}
        return ", ".join(form.format(bound) for form, bound in words.items() if bound is not None)


def ratio(top_P: np.ndarray, of_P: np.ndarray) -> tuple[float, float, float]:
    """The ratio of two means over the same prompts, and its interval by resampling them; NaN without a gain."""
    chosen = np.random.default_rng(0).integers(0, len(top_P), size=(RESAMPLES, len(top_P)))
    tops, bottoms = np.nanmean(top_P[chosen], 1), np.nanmean(of_P[chosen], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(bottoms > 0, tops / bottoms, np.inf)
        low, high = np.quantile(ratios, (0.025, 0.975), method="closest_observation")
        value = np.nanmean(top_P) / np.nanmean(of_P) if np.nanmean(of_P) > 0 else np.nan
    return float(value), float(low), float(high)


def rows_of(folder: Path, stage: str, inside: str, language: str = "", sampler: str = "unguided") -> Rows:
    """An evaluation that was made before."""
    rows = read(folder / stage, inside, sampler)
    if rows is None:
        raise FileNotFoundError(f"{folder / stage / inside / sampler}.json is missing; run the benchmark again")
    return of_language(rows, language) if language else rows


def spelt(stage: str, inside: str, language: str, engine: str = "exact", sampler: str = "unguided") -> Values:
    """Which texts an engine reads right."""
    return lambda folder: column(rows_of(folder, stage, inside, language, sampler), engine)


def less(a: Values, b: Values) -> Values:
    """The difference by prompt."""
    return lambda folder: a(folder) - b(folder)


def won(stage: str) -> Values:
    """The share of other people who prefer the stage's image to the start's from the same noise."""
    voters = people(TasteChain().voters, VOTERS_SEED)

    def values(folder: Path) -> np.ndarray:
        after_PF, before_PF = (facts_of(rows_of(folder, each, "evaluation")) for each in (stage, "pretrain"))
        return wins(after_PF, before_PF, voters)

    return values


def obeyed(stage: str, row: str, named: str) -> Values:
    """Whether what a full caption names is in the image."""

    def values(folder: Path) -> np.ndarray:
        rows = rows_of(folder, stage, "captions")["rows"]
        requests = [(each, read_short(each["prompt"])) for each in rows]
        return np.array([each[row] == want.named.get(named) for each, want in requests if want], dtype=np.float64)

    return values


def demands(stages: Sequence[str], third: bool = False) -> Iterator[Demand]:
    """All lines, of the stages that were evaluated, and with those of a third engine where there is one."""
    each = [(inside, kind, language) for inside, kind in KINDS.items() for language in LANGUAGES]
    for inside, kind, language in each:
        least = 0.95 if language == "english" else 0.90
        yield Demand(f"{language.title()} exact, {kind}", spelt("nft", inside, language), least=least)
    for inside, kind, language in each:
        gold, own = (
            less(spelt("nft", inside, language, engine), spelt("pretrain", inside, language, engine))
            for engine in ("judge_exact", "exact")
        )
        yield Demand(f"gold's share of the gain, {language.title()}, {kind}", gold, of=own, least=0.8)
    for inside, kind in KINDS.items() if third else ():
        other, own = (
            less(spelt("nft", inside, "english", sampler=engine), spelt("pretrain", inside, "english", sampler=engine))
            for engine in (THIRD, "unguided")
        )
        yield Demand(f"the third engine's share of the gain, English, {kind}", other, of=own, least=0.8)
    for inside, kind, language in each:
        start = spelt("pretrain", inside, language, sampler="guided")
        own = less(spelt("nft", inside, language), start)
        yield Demand(f"aligned less the start with guidance, {language.title()}, {kind}", own, least=0.0)
    yield Demand("NFT on both wins", won("nft"), least=0.85, low=0.80)
    for language in LANGUAGES:
        gain = less(spelt("nft", "evaluation", language), spelt("pretrain", "evaluation", language))
        yield Demand(f"its spelling, open prompts, less the start's, {language.title()}", gain, least=0.15)
    if "dpo" in stages:
        yield Demand("DPO wins", won("dpo"), least=0.65, low=0.58)
        for inside, kind, language in each:
            own = less(spelt("dpo", inside, language), spelt("pretrain", inside, language))
            yield Demand(f"DPO's spelling less the start's, {language.title()}, {kind}", own, least=-0.05)
    if "chosen" in stages:
        yield Demand("fine-tuning on preferred images wins", won("chosen"), high=0.60)
    yield Demand("named ink kept", obeyed("nft", "ink", "ink"), least=0.95)
    yield Demand("named ground kept", obeyed("nft", "ground", "background"), least=0.95)


def note_models(benchmark: Benchmark) -> None:
    """Note which models the evaluations are of.

    Raises ValueError where there are evaluations of other ones, such as of a run that was trained again since.
    """
    for (index, run), stage in itertools.product(enumerate(benchmark.runs), benchmark.stages):
        note, model = benchmark.folder(index) / stage / NOTE, fingerprint(run / stage / "model")
        if note.exists() and note.read_text() != model:
            raise ValueError(
                f"{note.parent} has evaluations of another model than {run / stage}; delete it, or choose another --out"
            )
        write_bytes(note, model.encode())


def make_evaluations(benchmark: Benchmark) -> None:
    """Evaluate what is not yet evaluated."""
    note_models(benchmark)
    chain = TasteChain()
    bar = Progress({"stages": 1.0})
    with scorers() as pools, bar.stage("stages", len(benchmark.runs) * len(benchmark.stages)):
        for index, run in enumerate(benchmark.runs):
            for stage in benchmark.stages:
                target = benchmark.folder(index) / stage
                plans = {
                    inside: replace(plan, prompts=replace(plan.prompts, count=benchmark.prompts))
                    for inside, plan in chain.plans(stage).items()
                }
                if not all(is_judged(target, plan, inside) for inside, plan in plans.items()):
                    model = load_model(run / stage / "model", best_device())
                    for inside, plan in plans.items():
                        evaluate(model, plan, target / inside, *pools, Progress({}), measure=appearance)
                bar.advance(1, {})


def ask_third(benchmark: Benchmark) -> None:
    """Have the third engine read the English images of the start and of the aligned model, and clean renderings."""
    pool = named_reward(benchmark.third).load("cpu")
    bar = Progress({"third engine": 1.0})
    with bar.stage("third engine", 4 * len(benchmark.runs)):
        for index, run in enumerate(benchmark.runs):
            for (inside, plan), stage in itertools.product(TasteChain().plans("dpo").items(), STAGES_OF_GAIN):
                target = benchmark.folder(index) / stage / inside / f"{THIRD}.json"
                if not target.exists():
                    plan = replace(plan, prompts=replace(plan.prompts, count=benchmark.prompts))
                    prompts, images = english_images(load_model(run / stage / "model", best_device()), plan)
                    exact = pool(prompts, images).parts["exact"]
                    lines = [{"target": p.spans[0], "exact": float(own)} for p, own in zip(prompts, exact, strict=True)]
                    write_json(target, {"rows": lines})
                bar.advance(1, {})


def rendered_exact(benchmark: Benchmark) -> float:
    """The share of clean renderings of the English full captions that the third engine reads."""
    scenes = [each for each in make_scenes(TasteChain().captions.prompts) if not is_chinese(each.word)]
    prompts = [Prompt.from_text(scene.caption) for scene in scenes]
    read_by = named_reward(benchmark.third).load("cpu")
    return float(np.nanmean(read_by(prompts, np.stack([render(scene) for scene in scenes])).parts["exact"]))


def english_images(model: FlowModel, plan: EvaluationPlan) -> tuple[list[Prompt], np.ndarray]:
    """The plan's English prompts, and what `evaluate` shows the engines for them, unguided."""
    prompts = make_prompts(plan.prompts)
    rows = [i for i, prompt in enumerate(prompts) if not is_chinese(prompt.spans[0])]
    noise = fixed_noise(model, len(prompts), plan.seed)[rows]
    sampler = dict(plan.samplers)["unguided"]
    requested = prompted(model, [prompts[i].text for i in rows], sampler.guidance)
    images = np.concatenate([made for _, _, made in generate_chunks(model, requested, noise, sampler)])
    return [prompts[i] for i in rows], images


def demand_rows(benchmark: Benchmark) -> Iterator[dict[str, object]]:
    """Every demand: its value and interval in each run, pooled, and in how many runs it holds."""
    folders = [benchmark.folder(index) for index in range(len(benchmark.runs))]
    for demand in demands(benchmark.stages, bool(benchmark.third)):
        runs = [demand.measured([folder]) for folder in folders]
        yield {
            "demand": demand.name, "bounds": demand.bounds, "runs": runs, "pooled": demand.measured(folders),
            "holds": sum(demand.holds(*run) for run in runs),
        }  # fmt: skip


def stage_rows(benchmark: Benchmark) -> Iterator[str]:
    """Means over runs, as lines of a table."""
    folders = [benchmark.folder(index) for index in range(len(benchmark.runs))]
    heads = [f"{language.title()} {kind}" for kind in KINDS.values() for language in LANGUAGES]
    yield f"| exact (gold) | wins | {' | '.join(heads)} |"
    yield "|---" * (2 + len(heads)) + "|"
    for stage in benchmark.stages:
        for sampler in ("unguided", "guided"):
            if not all((folder / stage / "captions" / f"{sampler}.json").exists() for folder in folders):
                continue
            cells = [
                " ({:.3f})".join(("{:.3f}", "")).format(
                    *(
                        np.nanmean([spelt(stage, inside, language, engine, sampler)(folder) for folder in folders])
                        for engine in ("exact", "judge_exact")
                    )
                )
                for inside in KINDS
                for language in LANGUAGES
            ]
            win = f"{np.mean([won(stage)(folder) for folder in folders]):.3f}" if sampler == "unguided" else ""
            yield f"| {stage}, {sampler} | {win} | {' | '.join(cells)} |"


def written(measured: tuple[float, float, float]) -> str:
    """A value and its interval in a table."""
    return f"{measured[0]:.3f} {in_brackets(*measured[1:], '.3f')}"


def main(benchmark: Benchmark) -> None:
    """Evaluate, and print the tables."""
    torch.set_num_threads(THREADS)
    if benchmark.third:
        print(f"{benchmark.third} reads {rendered_exact(benchmark):.3f} of clean renderings of English captions")
    make_evaluations(benchmark)
    if benchmark.third:
        ask_third(benchmark)
    rows = list(demand_rows(benchmark))
    print(f"| what is asked | bounds | {' | '.join(str(run) for run in benchmark.runs)} | pooled | holds |")
    print("|---" * (4 + len(benchmark.runs)) + "|")
    for row in rows:
        cells = [written(run) for run in (*row["runs"], row["pooled"])]  # type: ignore[misc]
        print(f"| {row['demand']} | {row['bounds']} | {' | '.join(cells)} | {row['holds']} of {len(benchmark.runs)} |")
    print(*stage_rows(benchmark), sep="\n")
    print(json.dumps({"prompts": benchmark.prompts, "asked": rows}))


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
