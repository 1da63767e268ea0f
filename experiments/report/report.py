"""A run folder as one page that needs nothing else: report.html, with its charts and pictures inside it.

`write_report` tells one run, of one stage or of several. `write_comparison` puts runs beside each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from experiments.record.intervals import welch_ci
from experiments.record.results import MAIN, Interval, Paired, Result, Stage, compare, read_result
from experiments.record.whole_files import write_bytes
from experiments.report import image_grids, markdown, over_optimisation, tables
from experiments.report.charts import Curve, line_chart, short
from experiments.report.page_style import document, swatch
from experiments.report.page_words import (
    METRICS,
    duration,
    grouped,
    in_sentence,
    inks,
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


def write_report(run: Path) -> Path:
    """Write `run`/report.html and return its path. Raises FileNotFoundError when `run` is no run folder."""
    result = read_result(run)
    sections = [
        ("Results by stage", tables.stage_table(result)),
        ("Paired differences", tables.paired_table(result)),
        ("Notes", markdown.render(result.notes) if result.notes.strip() else ""),
        ("Pictures", image_grids.wall(result)),
        ("Samples during training", image_grids.samples(result.stages)),
        ("Over-optimisation", over_optimisation.section(result)),
        ("Learning curves", curves(result)),
        ("Time and memory", tables.timing_table(result)),
        ("Command and environment", tables.environment(result.run, result.stages)),
    ]
    target = run / REPORT
    page = document(f"Glyphlab: {result.name}", header(result) + image_grids.strip(result), sections, footer(result))
    write_bytes(target, page.encode())
    return target


def refresh(run: Path) -> list[Path]:
    """Write the report of a run anew and, where it is a stage of a run that has one, that run's; their paths."""
    whole = run.parent
    there = all((whole / name).exists() for name in ("run.json", REPORT))
    return [write_report(run), *([write_report(whole)] if there else [])]


def header(result: Result) -> str:
    """Which run, and the answer."""
    run = result.run
    how = "" if run.status == "finished" else f" · {escape(run.status)}{f': {escape(run.error)}' if run.error else ''}"
    meta = f"{escape(run.started[:10])} · {duration(result.total_seconds)} on {escape(machine(result))}{how}"
    first, rest = answer(result)
    return f'<h1>{escape(result.name)}</h1><div class="meta">{meta}</div><p class="answer">{first}</p>{rest}'


def machine(result: Result) -> str:
    env = result.run.environment
    return f"{env.get('processor', 'an unknown processor')}, {env.get('cpus', '?')} CPUs"


def footer(result: Result) -> str:
    version = result.run.environment.get("packages", {}).get("glyphlab", "")
    return f"Made by glyphlab {escape(version)} from the folder {escape(result.name)}. Every number is in its files."


def answer(result: Result) -> tuple[str, str]:
    """One sentence first, then what qualifies it. HTML, from numbers and stage names alone."""
    gains = [p for p in result.paired if p.before == "sft" and p.after in {"dpo", "grpo", "nft"}]
    if gains and result.evaluated:
        return chain_answer(result, gains)
    if result.evaluated:
        stage = result.evaluated[-1]
        e = stage.evaluations[0]
        sentence = (
            f"{escape(title(stage.name))} writes {percent(e.exact.value)} of {e.prompts} held-out words exactly"
            f"{within(e.exact)}, {setting(e.setting).lower()}."
        )
        return sentence, f"<p>{training(stage)}</p>"
    if result.stages:
        return training(result.stages[-1]) or f"{escape(result.name)} has not made an update yet.", ""
    return f"{escape(result.name)} has not begun.", ""


def chain_answer(result: Result, gains: Sequence[Paired]) -> tuple[str, str]:
    """What alignment gained over fine-tuning, whether the control gained as much, and whether the judge agrees."""
    best = max(gains, key=lambda p: p.measures["ned"].value)
    exact = {s.name: e.exact.value for s in result.evaluated if (e := s.evaluation(MAIN))}
    count = max(e.prompts for s in result.evaluated for e in s.evaluations)
    main = best.measures["ned"]
    first = (
        f"The fine-tuned model writes {percent(exact.get('sft', math.nan))} of {count} held-out words exactly; "
        f"{escape(title(best.after))} writes {percent(exact.get(best.after, math.nan))}, a change of "
        f"{signed(main.value)} in the share of letters that are right, 1&nbsp;−&nbsp;NED (95&nbsp;% interval "
        f"{span(main.low, main.high)}" + ("" if main.excludes_zero else ", which holds 0") + ")."
    )
    known = {(p.after, p.before): p.measures["ned"] for p in result.paired}
    if control := known.get((best.after, "control")):
        first += (
            f" {escape(title(best.after))} over control, which went on with fine-tuning alone: {in_words(control)}."
        )
    points = [
        (f"{title(after)} over {in_sentence(before)}", interval)
        for (after, before), interval in known.items()
        if before in ("sft", "control") and (after, before) not in ((best.after, best.before), (best.after, "control"))
    ]
    if "judge" in best.measures:
        points.append(
            (
                f"{title(best.after)} over {in_sentence(best.before)}, read by the judge, on which nothing was trained",
                best.measures["judge"],
            )
        )
    return first, "<ul>" + "".join(f"<li>{escape(name)}: {in_words(i)}</li>" for name, i in points) + "</ul>"


def in_words(interval: Interval) -> str:
    return f"{signed(interval.value)}, {span(interval.low, interval.high)} ({verdict(interval)})"


def within(interval: Interval) -> str:
    if not math.isfinite(interval.low):
        return ""
    return f" (95&nbsp;% interval {percent(interval.low)} to {percent(interval.high)})"


def training(stage: Stage) -> str:
    """How far training came, from its first tenth to its last, at least `FEWEST` updates each."""
    lines = stage.run.metrics
    if not lines:
        return ""
    text = f"{escape(title(stage.name))} made {len(lines):,} updates in {duration(stage.run.seconds)}"
    for name in ("reward", "psnr", "loss"):
        values = [v for line in lines if (v := line.get(name)) is not None]
        if len(values) >= 10:
            few = max(len(values) // 10, FEWEST)
            first, last = values[:few], values[-few:]
            start, end = sum(first) / few, sum(last) / few
            change = Interval(end - start, *welch_ci(first, last))
            return (
                f"{text}; {name} went from {short(start)} to {short(end)}, means of the first and the last {few} "
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
    return f": a change of {value} (95&nbsp;% interval {low} to {high}{holds}; updates as if independent)"


def curves(result: Result) -> str:
    """The metrics of every stage as small charts; what never changed is said in a sentence."""
    colours, parts = inks(result), []
    for stage in result.stages:
        lines = stage.run.metrics
        names = [n for n in dict.fromkeys(name for line in lines for name in line) if n not in ("step", "seconds")]
        if not names:
            continue
        heading = f"<h3>{swatch(colours[stage.name])}{escape(title(stage.name))}</h3>"
        parts.append(heading + stage_curves(stage, names, colours[stage.name]))
    if not parts:
        return ""
    note = (
        "Every update is measured; strong lines are moving averages over 6 % of the run. The axis below is the update."
    )
    return f'<p class="note">{note}</p>' + "".join(parts)


def stage_curves(stage: Stage, names: list[str], ink: str) -> str:
    constant, shown, folded = [], [], []
    drawn: dict[tuple[float, ...], str] = {}
    for group, members in grouped(names):
        figures = []
        for name in members:
            points = series(stage, name)
            values = {y for _, y in points if math.isfinite(y)}
            if len(values) == 1:
                constant.append(f"<code>{escape(name)}</code> was {short(values.pop())}")
            elif (same := drawn.setdefault(tuple(y for _, y in points), name)) != name:
                constant.append(f"<code>{escape(name)}</code> was equal to <code>{escape(same)}</code>")
            elif values:
                figures.append(figure(name, points, ink))
        if group in OPEN_GROUPS:
            shown += figures
        elif figures:
            charts = f'<div class="charts">{"".join(figures)}</div>'
            folded.append(f"<details><summary>{group}</summary>{charts}</details>")
    return f'<div class="charts">{"".join(shown)}</div>{throughout(constant)}{"".join(folded)}'


def throughout(constant: Sequence[str]) -> str:
    """The line about the metrics that never changed."""
    return f'<p class="note">Throughout, {", ".join(constant)}.</p>' if constant else ""


def unchanged(metric: str, lines: Sequence[Curve]) -> str:
    """What a metric was that never changed in any of the runs; "" when it changed in one."""
    values = [{y for _, y in line.points if math.isfinite(y)} for line in lines]
    if not lines or any(len(found) != 1 for found in values):
        return ""
    (first, *others) = [short(found.pop()) for found in values]
    if all(other == first for other in others):
        return f"<code>{escape(metric)}</code> was {first}"
    each = ", ".join(f"{v} ({escape(line.name)})" for v, line in zip((first, *others), lines, strict=True))
    return f"<code>{escape(metric)}</code> was {each}"


def series(stage: Stage, name: str) -> tuple[tuple[float, float], ...]:
    """(update, value), NaN where the value is unknown; lines that do not have the metric are left out."""
    nan = math.nan
    return tuple(
        (line["step"] or 0.0, nan if (y := line[name]) is None else y) for line in stage.run.metrics if name in line
    )


def figure(name: str, points: tuple[tuple[float, float], ...], ink: str) -> str:
    last = next((short(round(y, 4)) for _, y in reversed(points) if math.isfinite(y)), "–")
    what = METRICS.get(name, "")
    chart = line_chart(f"{name} by update", [Curve(name, points, ink)])
    caption = f'<span class="last">{last}</span><b>{escape(name)}</b> {escape(what)}'
    return f"<figure><figcaption>{caption}</figcaption>{chart}</figure>"


def write_comparison(runs: Sequence[Path], target: Path | None = None) -> Path:
    """Put several runs on one page, by default comparison.html beside the first. Raises as `write_report`."""
    results = [read_result(run) for run in runs]
    target = target or runs[0].resolve().parent / COMPARISON
    colours = [f"ink-{(i + 2) % 7}" for i in range(len(results))]
    names = unique_names(results)
    sections = [
        ("Results", comparison_table(results, names, colours)),
        ("Paired differences", comparison_pairs(results, names)),
        ("Learning curves", comparison_curves(results, names, colours)),
    ]
    listed = ", ".join(escape(name) for name in names)
    head = f'<h1>Comparison</h1><p class="answer">{len(results)} runs: {listed}.</p>'
    write_bytes(target, document("Glyphlab: comparison", head, sections, "Made by glyphlab.").encode())
    return target


def unique_names(results: Sequence[Result]) -> list[str]:
    """The folders' names, with the parent's where two are called the same."""
    plain = [r.name for r in results]
    return [f"{r.folder.resolve().parent.name}/{r.name}" if plain.count(r.name) > 1 else r.name for r in results]


def comparison_table(results: Sequence[Result], names: Sequence[str], colours: Sequence[str]) -> str:
    body = []
    for result, name, ink in zip(results, names, colours, strict=True):
        for stage in result.stages:
            label = escape(name if len(result.stages) == 1 else f"{name}: {in_sentence(stage.name)}")
            measured = [tables.evaluation_cells(e) for e in stage.evaluations if e.setting == MAIN]
            cells = measured[0] if measured else '<td class="n">–</td>' * 5
            body.append(
                f'<tr><th scope="row">{swatch(ink)}{label}</th>{cells}<td class="n">{len(stage.run.metrics):,}</td>'
                f'<td class="n">{duration(stage.run.seconds)}</td></tr>'
            )
    heads = ("Exact", "1 − NED", "Judge exact", "Judge 1 − NED", "Diversity", "Updates", "Time")
    head = '<th scope="col">Run</th>' + "".join(f'<th class="n" scope="col">{text}</th>' for text in heads)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll">{table}</div>{tables.TABLE_NOTE}'


def comparison_pairs(results: Sequence[Result], names: Sequence[str]) -> str:
    """Every later run against the first, where both were evaluated on the same prompts."""
    rows = []
    for other, name in zip(results[1:], names[1:], strict=True):
        for stage in other.evaluated:
            base = next((s for s in results[0].evaluated if s.name == stage.name), None)
            if base is None and len(other.stages) == len(results[0].stages) == 1:
                base = results[0].stages[0]
            before, after = (base and base.evaluation(MAIN)), stage.evaluation(MAIN)
            if before and after and (measures := compare(before, after)):
                label = name if len(other.stages) == 1 else f"{name}: {in_sentence(stage.name)}"
                main = measures["ned"]
                cells = "".join(tables.difference(m) for m in measures.values())
                rows.append(f'<tr><th scope="row">{escape(label)}</th>{cells}<td>{verdict(main)}</td></tr>')
    if not rows:
        return ""
    head = f'<th scope="col">Over {escape(names[0])}</th>' + "".join(
        f'<th class="n" scope="col">{text}</th>' for text in ("1 − NED", "Exact", "Judge 1 − NED")
    )
    table = f"<table><thead><tr>{head}<th></th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def comparison_curves(results: Sequence[Result], names: Sequence[str], colours: Sequence[str]) -> str:
    """Metrics that at least two runs share, for stages of the same name."""
    parts = []
    single = all(len(result.stages) == 1 for result in results)
    for stage_name in dict.fromkeys("" if single else stage.name for result in results for stage in result.stages):
        held = [
            (stage, name, ink)
            for result, name, ink in zip(results, names, colours, strict=True)
            for stage in result.stages if single or stage.name == stage_name
        ]  # fmt: skip
        metrics = [n for n in METRICS if sum(any(n in line for line in s.run.metrics) for s, _, _ in held) > 1]
        figures = []
        constant = []
        for metric in metrics:
            lines = [Curve(name, points, ink) for s, name, ink in held if (points := series(s, metric))]
            if said := unchanged(metric, lines):
                constant.append(said)
                continue
            caption = f"<figcaption><b>{metric}</b> {escape(METRICS[metric])}</figcaption>"
            figures.append(f"<figure>{caption}{line_chart(f'{metric} by update', lines)}</figure>")
        if figures or constant:
            heading = f"<h3>{escape(title(stage_name))}</h3>" if stage_name else ""
            charts = f'<div class="charts">{"".join(figures)}</div>' if figures else ""
            parts.append(heading + charts + throughout(constant))
    legend = " ".join(f"{swatch(ink)}{escape(name)}&nbsp;" for name, ink in zip(names, colours, strict=True))
    return f'<p class="note">{legend}</p>{"".join(parts)}' if parts else ""
