"""Pictures with what was read in them, as data URIs: the wall of all stages, and what a run sampled on its way."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from html import escape
from pathlib import Path

from experiments.record.record import Sample
from experiments.record.results import Evaluation, Result, Row, Stage
from experiments.report.page_style import swatch
from experiments.report.page_words import inks, setting, title
from rewards.text.reading.normalised_text import RIGHT, UNKNOWN, WRONG

WIDTH = 192
"""Pixels a picture is shown wide, at most; small ones are doubled, so that every pixel stays a square."""
MARKS = {"right": ("✓", f"{RIGHT}: "), "wrong": ("✗", f"{WRONG}: "), "unknown": ("?", UNKNOWN)}
STEPS = 6
"""Columns of the sample table."""


def image(path: Path | None, alt: str) -> str:
    """A picture inside the page; a note where the file is missing."""
    if path is None or not path.exists():
        return '<span class="unknown">no picture</span>'
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])  # of a PNG, whose header chunk is always first
    scale = max(WIDTH // width, 1)
    data = base64.b64encode(content).decode()
    shown = f'width="{width * scale}" height="{height * scale}"'
    return f'<img {shown} loading="lazy" decoding="async" alt="{escape(alt)}" src="data:image/png;base64,{data}">'


def reading(read: str, exact: float) -> str:
    """What an engine read, marked right or wrong by a sign, by words and by colour."""
    kind = "unknown" if math.isnan(exact) else "right" if exact >= 1.0 else "wrong"
    sign, words = MARKS[kind]
    text = f'<span class="was">{escape(read)}</span>' if read else "(nothing)"
    if kind == "unknown":
        return f'<span class="{kind}">{sign} {words}</span>'
    return f'<span class="{kind}"><span aria-hidden="true">{sign}</span><span class="sr">{words}</span> {text}</span>'


def cell(row: Row | None) -> str:
    """A picture of the wall with both readings."""
    if row is None:
        return "<td></td>"
    judge = f'<br><span class="judge">judge {reading(row.judge_read, row.judge_exact)}</span>'
    alt = f"{row.prompt}; read as {row.read or 'nothing'}"
    return f'<td>{image(row.picture, alt)}<span class="read">{reading(row.read, row.exact)}{judge}</span></td>'


def pictured(stages: Sequence[Stage], name: str) -> list[tuple[Stage, Evaluation]]:
    """The stages that kept pictures of a setting."""
    found = [(stage, stage.evaluation(name)) for stage in stages]
    return [(stage, e) for stage, e in found if e is not None and any(row.picture for row in e.rows)]


def wall(result: Result) -> str:
    """Fixed prompts and noise by stage: a table for every setting, all but the first folded away."""
    parts = []
    for name in result.settings:
        columns = pictured(result.stages, name)
        if not columns:
            continue
        table = wall_table(columns, inks(result))
        heading = escape(setting(name))
        folded = f"<details><summary>{heading}</summary>{table}</details>"
        parts.append(folded if parts else f"<h3>{heading}</h3>{table}")
    if not parts:
        return ""
    note = (
        "The first held-out prompts, unselected. A row shares its prompt and its starting noise, so what changes along "
        "it is the model. Under each picture: what the engine behind the reward read, then what the judge read, which "
        "nothing was trained on."
    )
    return f'<p class="note">{note}</p>' + "".join(parts)


def wall_table(columns: list[tuple[Stage, Evaluation]], colours: dict[str, str]) -> str:
    head = "".join(f'<th scope="col">{swatch(colours[s.name])}{escape(title(s.name))}</th>' for s, _ in columns)
    by_prompt = [{row.prompt: row for row in e.rows} for _, e in columns]
    body = []
    for row in (row for row in columns[0][1].rows if row.picture):
        label = f"<b>{escape(row.target)}</b> &nbsp;{escape(row.prompt)}"
        body.append(f'<tr class="prompt"><th scope="rowgroup" colspan="{len(columns)}">{label}</th></tr>')
        body.append(f"<tr>{''.join(cell(rows.get(row.prompt)) for rows in by_prompt)}</tr>")
    table = f'<table class="wall"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def strip(result: Result) -> str:
    """One held-out prompt through all stages, for the top of the page: the first on which they differ."""
    columns = pictured(result.stages, result.settings[0]) if result.settings else []
    if len(columns) < 2:
        return ""
    pictured_rows = [row for row in columns[0][1].rows if row.picture]
    telling = [row for row in pictured_rows if differs(row.prompt, columns)]
    first = (telling or pictured_rows)[0]
    colours, figures = inks(result), []
    for stage, evaluation in columns:
        row = next((r for r in evaluation.rows if r.prompt == first.prompt), None)
        if row is None:
            continue
        read = f'<span class="read">{reading(row.read, row.exact)}</span>'
        caption = f"<figcaption>{swatch(colours[stage.name])}{escape(title(stage.name))}</figcaption>"
        figures.append(f"<figure>{caption}{image(row.picture, row.prompt)}{read}</figure>")
    prompt = escape(first.prompt)
    which = (
        f"The first of {len(pictured_rows)} held-out prompts that stages did not all write right or all wrong"
        if telling else "The first held-out prompt"
    )  # fmt: skip
    note = f"{which}, “{prompt}”, from the same noise at every stage; below, what OCR read."
    return f'<div class="strip">{"".join(figures)}</div><p class="note">{note}</p>'


def differs(prompt: str, columns: Sequence[tuple[Stage, Evaluation]]) -> bool:
    """Whether some stage wrote the word of a prompt right and another one wrong."""
    judged = {row.exact >= 1.0 for _, e in columns for row in e.rows
              if row.prompt == prompt and not math.isnan(row.exact)}  # fmt: skip
    return len(judged) == 2


def samples(stages: Sequence[Stage]) -> str:
    """What runs drew on their way: captions by update."""
    parts = []
    for stage in stages:
        if not stage.run.samples:
            continue
        steps = sorted({sample.step for sample in stage.run.samples})
        shown = (
            [steps[round(i * (len(steps) - 1) / (STEPS - 1))] for i in range(STEPS)] if len(steps) > STEPS else steps
        )
        at = {(sample.caption, sample.step): sample for sample in stage.run.samples}
        captions = list(dict.fromkeys(s.caption for s in stage.run.samples if s.step == shown[-1]))
        head = "".join(f'<th scope="col">update {step}</th>' for step in shown)
        body = []
        for caption in captions:
            body.append(f'<tr class="prompt"><th scope="rowgroup" colspan="{len(shown)}">{escape(caption)}</th></tr>')
            body.append(f"<tr>{''.join(sample_cell(at.get((caption, step))) for step in shown)}</tr>")
        name = f"<h3>{escape(title(stage.name))}</h3>" if len(stages) > 1 else ""
        table = f'<table class="wall"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
        parts.append(f'{name}<div class="scroll">{table}</div>')
    return "".join(parts)


def sample_cell(sample: Sample | None) -> str:
    if sample is None:
        return "<td></td>"
    read = f'<span class="read">{escape(sample.reading) or "(nothing)"}</span>' if sample.reading is not None else ""
    return f"<td>{image(sample.picture, sample.caption)}{read}</td>"
