"""What the monitors of a run saw: which rule was broken, when, the pictures that show it, and every measure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from experiments.record.record import EVIDENCE
from experiments.record.results import Result, Stage
from experiments.report.charts import Curve, line_chart, short
from experiments.report.image_grids import image
from experiments.report.page_style import swatch
from experiments.report.page_words import inks, number, signed, title

MEASURES = {
    "trained": "the trained reward on held-out prompts",
    "read": "1 − NED by the engine of the trained reward",
    "gold": "a held-out reward: nothing is trained on it",
    "disagreement": "share of letters that two engines read differently",
    "duplicate_text": "share of runs of letters that come again, beyond the word's own",
    "extra_text": "letters read beyond those asked for, a share of them",
    "text_area": "share of the picture that text covers",
    "dark": "share of dark pixels",
    "edges": "share of pixels at an edge",
    "colour_entropy": "bits, of colours told apart in 64 classes",
    "saturation": "mean, of HSV",
    "diversity": "root mean square distance of two pictures of one prompt",
    "drift": "mean squared velocity difference to the start",
    "unjudged": "share of pictures that could not be judged",
}
"""Measures in the order in which they are shown; a name may go on after a slash."""


def section(result: Result) -> str:
    """The watched stages; "" when none was."""
    colours, parts = inks(result), []
    for stage in (s for s in result.stages if s.run.monitors):
        looks = stage.run.monitors
        heading = f"<h3>{swatch(colours[stage.name])}{escape(title(stage.name))}</h3>"
        parts.append(
            heading + verdict(looks) + alarm_table(looks) + evidence(stage) + charts(looks, colours[stage.name])
        )
    if not parts:
        return ""
    note = (
        "The same held-out prompts from the same noise, before training and every so many updates. A rule is broken "
        "when the mean change since the start exceeds its threshold, and three of its standard errors over prompts."
    )
    return f'<p class="note">{note}</p>' + "".join(parts)


def verdict(looks: Sequence[Mapping[str, Any]]) -> str:
    """One sentence: the first alarm, and what the gold reward had lost by then; or that there was none."""
    first = next((look for look in looks if look["alarms"]), None)
    count = len(looks) - 1
    if first is None:
        return f"<p>No rule was broken in {count} look{'s' if count != 1 else ''}.</p>"
    named = ", ".join(f"“{escape(alarm['rule'])}”" for alarm in first["alarms"])
    lost = [
        f"{escape(name)} had changed by {signed(value - looks[0][name])}"
        for name, value in first.items()
        if name.startswith("gold/") and value is not None and looks[0].get(name) is not None
    ]
    ended = " Training was stopped there." if first.get("stopped") else ""
    ended += f" Beta was raised to {short(first['beta'])}." if "beta" in first else ""
    return f"<p>First broken after update {first['step']}: {named}; {', '.join(lost)}.{ended}</p>"


def alarm_table(looks: Sequence[Mapping[str, Any]]) -> str:
    """Every rule that was broken: when first, how often, how far at most, and why there is a limit."""
    broken: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for look in looks:
        for alarm in look["alarms"]:
            broken.setdefault(alarm["rule"], []).append((look["step"], alarm))
    if not broken:
        return ""
    body = []
    for rule, times in broken.items():
        most = max((alarm for _, alarm in times), key=lambda alarm: alarm["change"])
        body.append(
            f'<tr><th scope="row">{escape(rule)}</th><td class="n">{times[0][0]}</td><td class="n">{len(times)}</td>'
            f'<td class="n">{signed(most["change"])}<small class="ci">± {number(most["error"])}</small></td>'
            f'<td class="n">{short(most["threshold"])}</td><td>{escape(most["unit"])}: '
            f"{escape(most['reason'])}</td></tr>"
        )
    heads = ("First update", "Looks", "Most", "Threshold")
    head = '<th scope="col">Rule</th>' + "".join(f'<th class="n" scope="col">{text}</th>' for text in heads)
    return (
        f'<div class="scroll"><table><thead><tr>{head}<th scope="col">Unit and reason</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def evidence(stage: Stage) -> str:
    """For every rule, at the last look that broke it: the pictures that changed most, beside their start."""
    last: dict[str, tuple[int, Mapping[str, Any]]] = {}
    for look in stage.run.monitors:
        last |= {alarm["rule"]: (look["step"], alarm) for alarm in look["alarms"] if alarm["pictures"]}
    parts = []
    for rule, (step, alarm) in last.items():
        rows = []
        for kept in alarm["pictures"]:
            cells = [
                picture(stage.run.folder, kept["start"], "start"),
                picture(stage.run.folder, kept["picture"], "now"),
            ]
            read = f'<span class="read">{escape(kept["reading"]) or "(nothing)"}</span>'
            rows.append(f'<tr class="prompt"><th scope="rowgroup" colspan="2">{escape(kept["caption"])}</th></tr>')
            rows.append(f"<tr><td>{cells[0]}</td><td>{cells[1]}{read}</td></tr>")
        head = f'<thead><tr><th scope="col">At the start</th><th scope="col">After update {step}</th></tr></thead>'
        parts.append(
            f"<details><summary>{escape(rule)}: the pictures that changed most</summary>"
            f'<div class="scroll"><table class="wall">{head}<tbody>{"".join(rows)}</tbody></table></div></details>'
        )
    return "".join(parts)


def picture(folder: Path, name: str, alt: str) -> str:
    return image(folder / EVIDENCE / Path(name).name, alt)


def charts(looks: Sequence[Mapping[str, Any]], ink: str) -> str:
    """Every measure by update; -1 is before the first."""
    present = [name for name in dict.fromkeys(n for look in looks for n in look) if name.partition("/")[0] in MEASURES]
    order = list(MEASURES)
    figures = []
    for name in sorted(present, key=lambda name: order.index(name.partition("/")[0])):
        points = tuple(
            (float(look["step"]), math.nan if look[name] is None else look[name]) for look in looks if name in look
        )
        chart = line_chart(f"{name} by update", [Curve(name, points, ink)])
        if chart:
            last = next(short(round(y, 4)) for _, y in reversed(points) if math.isfinite(y))
            words = MEASURES[name.partition("/")[0]]
            caption = f'<span class="last">{last}</span><b>{escape(name)}</b> {escape(words)}'
            figures.append(f"<figure><figcaption>{caption}</figcaption>{chart}</figure>")
    return f'<div class="charts">{"".join(figures)}</div>'
