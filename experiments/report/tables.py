"""The tables of a report: stages, paired differences, times, environment."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape

from experiments.record.record import Run
from experiments.record.results import Evaluation, Interval, Result, Stage
from experiments.report.charts import interval_axis, interval_row, share_bar, short
from experiments.report.page_style import swatch
from experiments.report.page_words import duration, in_sentence, inks, number, setting, signed, span, title, verdict

MEASURES = {"exact": "Exact", "judge": "Judge 1 − NED", "guided": "Guided 1 − NED"}
"""Further measures of a paired difference and their column heads."""
TABLE_NOTE = """<div class="note"><p><b>Exact</b>: share of held-out prompts whose word the OCR engine of the reward
read right; capitals, spaces inside a word, and 0 and 1 for O and I are no errors. <b>1 − NED</b>: one minus the edit
distance between the word asked for and the word read, divided by the longer of the two. <b>Judge</b>: the same from a
second engine that nothing was trained on. <b>Diversity</b>: mean root-mean-square pixel distance between pictures of
one prompt. Small figures are 95 % intervals: percentile bootstrap over prompts, 2,000 resamples.</p></div>"""


def stage_name(name: str, ink: str) -> str:
    return f'<th scope="row">{swatch(ink)}{escape(title(name))}</th>'


def with_interval(interval: Interval) -> str:
    """A value over its interval."""
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    below = f'<small class="ci">{number(interval.low)}–{number(interval.high)}</small>' if known else ""
    return f'<td class="n">{number(interval.value)}{below}</td>'


def scale(intervals: Sequence[Interval], zero: bool) -> tuple[float, float]:
    """A common axis for rows of intervals; with `zero` it holds 0."""
    known = [x for i in intervals for x in (i.value, i.low, i.high) if math.isfinite(x)] or [0.0, 1.0]
    low, high = min(known + [0.0] * zero), max(known + [0.0] * zero)
    air = max((high - low) * 0.08, 0.01)
    return low - air, high + air


def stage_table(result: Result) -> str:
    """All evaluations, a group of rows for every setting."""
    if not result.evaluated:
        return ""
    low, high = scale([e.ned for stage in result.evaluated for e in stage.evaluations], zero=False)
    low, high = max(low, -0.02), min(high, 1.02)
    colours, body = inks(result), []
    for name in result.settings:
        found = [(stage, stage.evaluation(name)) for stage in result.evaluated]
        rows = [(stage, e) for stage, e in found if e is not None]
        body.append(f'<tr class="group"><th scope="rowgroup" colspan="7">{escape(setting(name))}</th></tr>')
        for stage, evaluation in rows:
            ink = colours[stage.name]
            plot = f'<td class="plot">{interval_row(evaluation.ned, low, high, ink, zero=False)}</td>'
            body.append(f"<tr>{stage_name(stage.name, ink)}{evaluation_cells(evaluation, plot)}</tr>")
    axis = f'<tr class="axis"><td colspan="3"></td><td class="plot">{interval_axis(low, high, sign=False)}</td></tr>'
    head = (
        '<th scope="col">Stage</th><th class="n" scope="col">Exact</th><th class="n" scope="col">1 − NED</th>'
        '<th scope="col"><span class="sr">1 − NED, drawn</span></th><th class="n" scope="col">Judge exact</th>'
        '<th class="n" scope="col">Judge 1 − NED</th><th class="n" scope="col">Diversity</th>'
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}{axis}</tbody></table>"
    return f'<div class="scroll">{table}</div>{TABLE_NOTE}{unjudged_note(result)}'


def evaluation_cells(e: Evaluation, plot: str = "") -> str:
    rest = "".join(f'<td class="n">{number(x)}</td>' for x in (e.judge_exact, e.judge_ned, e.diversity))
    return f"{with_interval(e.exact)}{with_interval(e.ned)}{plot}{rest}"


def unjudged_note(result: Result) -> str:
    """How many prompts, and which could not be judged."""
    counts = {e.prompts for stage in result.evaluated for e in stage.evaluations}
    prompts = " or ".join(str(count) for count in sorted(counts))
    missing = [
        f"{title(stage.name)}, {setting(e.setting).lower()}: {e.unjudged}"
        for stage in result.evaluated for e in stage.evaluations if e.unjudged
    ]  # fmt: skip
    what = f"could not be judged and count nowhere: {'; '.join(missing)}" if missing else "could all be judged"
    return f'<p class="note">{prompts} prompts a row, the same everywhere; they {what}.</p>'


def paired_table(result: Result) -> str:
    """Differences prompt by prompt, with a forest plot of the main one."""
    if not result.paired:
        return ""
    low, high = scale([p.measures["ned"] for p in result.paired], zero=True)
    extra = [name for name in MEASURES if any(name in p.measures for p in result.paired)]
    colours, body = inks(result), []
    for pair in result.paired:
        main, ink = pair.measures["ned"], colours.get(pair.after, "ink-2")
        name = f"{escape(title(pair.after))} <small>over {escape(in_sentence(pair.before))}</small>"
        cells = "".join(difference(pair.measures.get(m, Interval(math.nan))) for m in extra)
        body.append(
            f'<tr><th scope="row">{swatch(ink)}{name}</th>'
            f'<td class="plot">{interval_row(main, low, high, ink, zero=True)}</td>'
            f'{difference(main)}<td class="word">{verdict(main)}</td>{cells}</tr>'
        )
    axis = f'<tr class="axis"><td></td><td class="plot">{interval_axis(low, high)}</td></tr>'
    head = (
        '<th scope="col">Comparison</th><th scope="col">Difference of 1 − NED</th><th class="n"></th><th></th>'
        + "".join(f'<th class="n" scope="col">{MEASURES[name]}</th>' for name in extra)
    )
    note = (
        '<p class="note">Mean difference over the same prompts and the same starting noise, with its 95 % interval by '
        "prompt. Pairing takes out how hard a prompt is, so these intervals say more than the overlap of those above. "
        "Undecided: the interval holds 0, which shows no difference and no equality either.</p>"
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}{axis}</tbody></table>"
    return f'<div class="scroll">{table}</div>{note}'


def difference(interval: Interval) -> str:
    below = span(interval.low, interval.high)
    small = f'<small class="ci">{below}</small>' if below else ""
    return f'<td class="n">{signed(interval.value)}{small}</td>'


def timing_table(result: Result) -> str:
    """Where the time went."""
    colours, body, trained = inks(result), [], 0.0
    whole = max(result.total_seconds, 1e-9)
    told = any(sessions(stage.run) for stage in result.stages)  # a column without a word in it is none
    for stage in result.stages:
        run, ink = stage.run, colours[stage.name]
        trained += run.seconds
        updates = len(run.metrics)
        each = f"{short(1000 * run.seconds / updates)} ms" if updates else "–"
        body.append(
            f'<tr>{stage_name(stage.name, ink)}<td class="n">{updates:,}</td><td class="n">{duration(run.seconds)}</td>'
            f'<td class="n">{each}</td><td>{share_bar(run.seconds / whole, ink)}</td>'
            f'<td class="n">{100 * run.seconds / whole:.0f} %</td>'
            + (f"<td>{escape(sessions(run))}</td></tr>" if told else "</tr>")
        )
    rest = result.total_seconds - trained
    if len(result.stages) > 1 and rest > 0.5:
        body.append(
            f'<tr><th scope="row">Evaluation, start, report</th><td></td><td class="n">{duration(rest)}</td>'
            '<td class="n"></td>'
            f'<td>{share_bar(rest / whole, "ink-1")}</td><td class="n">{100 * rest / whole:.0f} %</td>'
            + ("<td></td></tr>" if told else "</tr>")
        )
    memory = f"{result.peak_memory_mb:,.0f} MB" if math.isfinite(result.peak_memory_mb) else "not measured"
    head = (
        '<th scope="col">Stage</th><th class="n" scope="col">Updates</th><th class="n" scope="col">Time</th>'
        '<th class="n" scope="col">An update</th><th scope="col" colspan="2">Share of the whole</th>'
        + ('<th scope="col">Sessions</th>' if told else "")
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    overlap = " Stages ran beside one another, so the shares add up to more than 100 %." if trained > whole else ""
    facts = f"<p>{duration(result.total_seconds)} in all; most memory in use at once: {memory}.{overlap}</p>"
    return f'{facts}<div class="scroll">{table}</div>'


def sessions(run: Run) -> str:
    """How often a run was started, and how it fared."""
    if len(run.sessions) < 2:
        return "" if run.status == "finished" else run.status
    breaks = sum(s.get("status") != "finished" for s in run.sessions)
    return (
        f"{len(run.sessions)}, interrupted {breaks} times" if breaks != 1 else f"{len(run.sessions)}, interrupted once"
    )


def environment(run: Run, stages: Sequence[Stage]) -> str:
    """The exact command, and everything a number may depend on."""
    env, git = run.environment, run.git or {}
    packages = ", ".join(f"{name} {version}" for name, version in env.get("packages", {}).items())
    threads = ", ".join(f"{name}={value}" for name, value in env.get("threads", {}).items())
    revision = git.get("revision", "unknown") + (", with uncommitted changes" if git.get("dirty") else "")
    facts = {
        "Started": run.started, "Finished": run.finished or run.status, "Git revision": revision,
        "Processor": f"{env.get('processor', 'unknown')}, {env.get('cpus', '?')} logical CPUs",
        "System": env.get("platform", "unknown"), "Python": env.get("python", "unknown"), "Packages": packages,
        "Thread settings": threads or "none in the environment",
    }  # fmt: skip
    listed = "".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    settings = "".join(
        f"<details><summary>Settings of {escape(title(s.name))}</summary>"
        f"<pre>{escape(json.dumps(s.run.config, indent=1, ensure_ascii=False))}</pre></details>"
        for s in stages
    )
    return f'<pre>{escape(run.command)}</pre><dl class="facts">{listed}</dl>{settings}'
