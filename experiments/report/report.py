"""A run folder as one page that needs nothing else: report.html, with its charts and images inside it.

`write_report` tells one run, of one stage or of several. `write_comparison` puts runs beside each other. The words and
tables are in `templates`; here is what they are filled with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from experiments.record.heldout import read_heldout
from experiments.record.intervals import welch_ci
from experiments.record.metric_table import METRICS
from experiments.record.record import RESERVED
from experiments.record.results import MAIN, Interval, Paired, Result, Stage, compare, read_result
from experiments.record.whole_files import write_bytes
from experiments.report import image_grids, markdown, over_optimisation, tables
from experiments.report.charts import Curve, Point, line_chart, short
from experiments.report.figures import Figure, figure
from experiments.report.page import render
from experiments.report.page_words import (
    duration,
    grouped,
    in_sentence,
    inks,
    meaning,
    percent,
    setting,
    signed,
    span,
    title,
    verdict,
)

REPORT = "report.html"
COMPARISON = "comparison.html"
FEWEST = 5
"""Updates of the least start or end that a mean is taken of: one update alone says little and has no interval."""
OPEN_GROUPS = ("What is learned", "Health")
"""Groups of curves that are not folded away."""
Named = tuple[Result, str, str]
"""A run, its name on the page, and its colour."""


def write_report(run: Path, target: Path | None = None) -> Path:
    """Write the report of a run, by default report.html in its folder; its path. Raises FileNotFoundError when `run` is
    not the folder of a run."""
    target = target or run / REPORT
    write_bytes(target, page_of(read_result(run)).encode())
    return target


def refresh(run: Path) -> list[Path]:
    """Write the report of a run anew and, where it is a stage of a run that has one, that run's; their paths."""
    whole = run.parent
    there = all((whole / name).exists() for name in ("run.json", REPORT))
    return [write_report(run), *([write_report(whole)] if there else [])]


def page_of(result: Result) -> str:
    """Renders the whole page."""
    return render("run.html", {
        "title": f"Glyphlab: {result.name}", "result": result, "inks": inks(result), "answer": answer(result),
        "notes": markdown.render(result.notes), "unknown": Interval(math.nan), "curves_of": curves,
        "scale": tables.scale, "judged": tables.judged, "further_measures": tables.further_measures,
        "facts": tables.facts, "pictured": image_grids.pictured, "sampled": image_grids.sampled,
        "telling": image_grids.telling, "heldout": lambda stage: read_heldout(stage.run.folder),
        "broken_rules": over_optimisation.broken_rules, "monitors_verdict": over_optimisation.verdict,
        "prompt_pages": sorted(result.folder.glob("evaluation/*/prompts.html")),
        "measures": over_optimisation.measures, "evidence_file": over_optimisation.evidence_file,
    })  # fmt: skip


BEGINNINGS = {"pretrain": "The pretrained model", "sft": "The fine-tuned model"}
"""stages that alignment begins from, as a sentence begins with them"""


class Answer(NamedTuple):
    """One sentence first, then what qualifies it."""

    sentence: str
    qualified: str = ""
    points: tuple[str, ...] = ()


def answer(result: Result) -> Answer:
    """What the run came to, from numbers and stage names alone where its summary has no sentence."""
    if result.headline:
        return Answer(result.headline)
    if (gains := alignment_gains(result)) and result.evaluated:
        return chain_answer(result, gains)
    if result.evaluated:
        stage = result.evaluated[-1]
        e = stage.evaluations[0]
        sentence = (
            f"{title(stage.name)} writes {percent(e.exact.value)} of {e.prompts} held-out words exactly"
            f"{within(e.exact)}, {setting(e.setting).lower()}."
        )
        return Answer(sentence, training(stage))
    if result.stages:
        return Answer(training(result.stages[-1]) or f"{result.name} has not made an update yet.")
    return Answer(f"{result.name} has not begun.")


def alignment_gains(result: Result) -> list[Paired]:
    """What alignment gained over the stage that it began from: the pretrained model, or in older runs the fine-tuned
    one."""
    gains = [p for p in result.paired if p.before in BEGINNINGS and p.after in {"dpo", "grpo", "nft"}]
    return [p for p in gains if p.before == min((each.before for each in gains), key=list(BEGINNINGS).index)]


def chain_answer(result: Result, gains: Sequence[Paired]) -> Answer:
    """What alignment gained, whether fine-tuning on clean images gained as much, and whether gold agrees."""
    best = max(gains, key=lambda p: p.measures["ned"].value)
    exact = {s.name: e.exact.value for s in result.evaluated if (e := s.evaluation(MAIN))}
    count = max(e.prompts for s in result.evaluated for e in s.evaluations)
    main = best.measures["ned"]
    began = percent(exact.get(best.before, math.nan))
    sentence = (
        f"{BEGINNINGS[best.before]} writes {began} of {count} held-out words exactly; "
        f"{title(best.after)} writes {percent(exact.get(best.after, math.nan))}, a change of "
        f"{signed(main.value)} in the share of letters that are right, 1\u00a0−\u00a0NED (95\u00a0% interval "
        f"{span(main.low, main.high)}" + ("" if main.excludes_zero else ", which holds 0") + ")."
    )
    known = {(p.after, p.before): p.measures["ned"] for p in result.paired}
    if control := known.get((best.after, "control")):
        sentence += f" {title(best.after)} over control, which went on with fine-tuning alone: {in_words(control)}."
    points = [
        (f"{title(after)} over {in_sentence(before)}", interval)
        for (after, before), interval in known.items()
        if before in (*BEGINNINGS, "control")
        and (after, before) not in ((best.after, best.before), (best.after, "control"))
    ]
    if "judge" in best.measures:
        name = f"{title(best.after)} over {in_sentence(best.before)}, by the gold engine, on which nothing was trained"
        points.append((name, best.measures["judge"]))
    return Answer(sentence, points=tuple(f"{name}: {in_words(interval)}" for name, interval in points))


def in_words(interval: Interval) -> str:
    return f"{signed(interval.value)}, {span(interval.low, interval.high)} ({verdict(interval)})"


def within(interval: Interval) -> str:
    if not math.isfinite(interval.low):
        return ""
    return f" (95\u00a0% interval {percent(interval.low)} to {percent(interval.high)})"


def training(stage: Stage) -> str:
    """How far training came, from its first tenth to its last, at least `FEWEST` updates each."""
    lines = stage.run.metrics
    if not lines:
        return ""
    text = f"{title(stage.name)} made {len(lines):,} updates in {duration(stage.run.seconds)}"
    for name in ("reward", "psnr", "loss"):
        values = [v for line in lines if (v := line.get(name)) is not None]
        if len(values) >= 10:
            batch = max(len(values) // 10, FEWEST)
            first, last = values[:batch], values[-batch:]
            start, end = sum(first) / batch, sum(last) / batch
            change = Interval(end - start, *welch_ci(first, last))
            return (
                f"{text}; {name} went from {short(start)} to {short(end)}, means of the first and the last {batch} "
                f"updates{moved(change)}."
            )
    return f"{text}."


def moved(change: Interval) -> str:
    """A change with its interval; "" for values that are all alike, which have none."""
    if not math.isfinite(change.low):
        return ""
    low, value, high = (
        ("+" if x > 0 else "") + short(float(f"{x:.3g}")) for x in (change.low, change.value, change.high)
    )
    holds = "" if change.excludes_zero else ", which holds 0"
    return f": a change of {value} (95\u00a0% interval {low} to {high}{holds}; updates as if independent)"


class StageCurves(NamedTuple):
    """The metrics of a stage: charts in sight, what never changed as (name, words, other metric), charts folded."""

    stage: Stage
    shown: list[Figure]
    constant: list[tuple[str, str, str]]
    folded: list[tuple[str, list[Figure]]]


def curves(result: Result, colours: dict[str, str]) -> Iterator[StageCurves]:
    """The metrics of every stage as small charts; what never changed is said in a sentence."""
    for stage in result.stages:
        lines = stage.run.metrics
        names = [n for n in dict.fromkeys(name for line in lines for name in line) if n not in RESERVED]
        if names:
            yield stage_curves(stage, names, colours[stage.name])


def stage_curves(stage: Stage, names: list[str], ink: str) -> StageCurves:
    result = StageCurves(stage, [], [], [])
    samples: dict[tuple[float, ...], str] = {}
    for group, members in grouped(names):
        figures = []
        for name in members:
            points = series(stage, name)
            values = {y for _, y in points if math.isfinite(y)}
            if len(values) == 1:
                result.constant.append((name, f"was {short(values.pop())}", ""))
            elif (same := samples.setdefault(tuple(y for _, y in points), name)) != name:
                result.constant.append((name, "was equal to", same))
            elif values:
                figures.append(figure(name, meaning(name), points, ink))
        if group in OPEN_GROUPS:
            result.shown.extend(figures)
        elif figures:
            result.folded.append((group, figures))
    return result


def unchanged(lines: Sequence[Curve]) -> str:
    """What a metric was that never changed in any of the runs; "" when it changed in one."""
    values = [{y for _, y in line.points if math.isfinite(y)} for line in lines]
    if not lines or any(len(result) != 1 for result in values):
        return ""
    (first, *others) = [short(result.pop()) for result in values]
    if all(other == first for other in others):
        return f"was {first}"
    each = ", ".join(f"{v} ({line.name})" for v, line in zip((first, *others), lines, strict=True))
    return f"was {each}"


def series(stage: Stage, name: str) -> tuple[Point, ...]:
    """(update, value), NaN where the value is unknown; lines that do not have the metric are left out."""
    nan = math.nan
    return tuple(
        (line["step"] or 0.0, nan if (y := line[name]) is None else y) for line in stage.run.metrics if name in line
    )


def write_comparison(runs: Sequence[Path], target: Path | None = None) -> Path:
    """Put several runs on one page, by default comparison.html beside the first. Raises as `write_report`."""
    results = [read_result(run) for run in runs]
    target = target or runs[0].resolve().parent / COMPARISON
    colours = [f"ink-{(i + 2) % 7}" for i in range(len(results))]
    names = unique_names(results)
    page = render("runs.html", {
        "title": "Glyphlab: comparison", "runs": list(zip(results, names, colours, strict=True)), "main": MAIN,
        "pairs_of": comparison_pairs, "curves": comparison_curves(results, names, colours),
    })  # fmt: skip
    write_bytes(target, page.encode())
    return target


def unique_names(results: Sequence[Result]) -> list[str]:
    """The folders' names, with the parent's where two are called the same."""
    plain = [r.name for r in results]
    return [f"{r.folder.resolve().parent.name}/{r.name}" if plain.count(r.name) > 1 else r.name for r in results]


def comparison_pairs(runs: Sequence[Named]) -> Iterator[tuple[str, dict[str, Interval]]]:
    """Every later run against the first, where both were evaluated on the same prompts."""
    first = runs[0][0]
    for other, name, _ in runs[1:]:
        for stage in other.evaluated:
            base = next((s for s in first.evaluated if s.name == stage.name), None)
            if base is None and len(other.stages) == len(first.stages) == 1:
                base = first.stages[0]
            before, after = (base and base.evaluation(MAIN)), stage.evaluation(MAIN)
            if before and after and (measures := compare(before, after)):
                yield name if len(other.stages) == 1 else f"{name}: {in_sentence(stage.name)}", measures


def comparison_curves(results: Sequence[Result], names: Sequence[str], colours: Sequence[str]) -> Markup:
    """Metrics that at least two runs share, for stages of the same name."""
    groups = []
    single = all(len(result.stages) == 1 for result in results)
    for stage_name in dict.fromkeys("" if single else stage.name for result in results for stage in result.stages):
        held = [
            (stage, name, ink)
            for result, name, ink in zip(results, names, colours, strict=True)
            for stage in result.stages if single or stage.name == stage_name
        ]  # fmt: skip
        logged = [name for name in METRICS if name not in RESERVED]
        shared = [n for n in logged if sum(any(n in line for line in s.run.metrics) for s, _, _ in held) > 1]
        figures, constant = [], []
        for metric in (name for _, members in grouped(shared) for name in members):
            lines = [Curve(name, points, ink) for s, name, ink in held if (points := series(s, metric))]
            if sentence := unchanged(lines):
                constant.append((metric, sentence, ""))
                continue
            chart = Markup(line_chart(f"{metric} by update", lines))
            figures.append(Figure(metric, meaning(metric), "", chart))
        if figures or constant:
            groups.append((stage_name, figures, constant))
    return render("shared_curves.html", {"groups": groups, "legend": list(zip(names, colours, strict=True))})
