"""A reward comparison as one page that needs nothing else. The first screen is what a lead decides from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from experiments.report import reward_behaviour, reward_tables
from experiments.report.page import document, swatch
from experiments.report.page_style import INKS
from experiments.report.reward_charts import CSS
from experiments.report.reward_pairs import gallery

SURE = {"certain": "certain", "likely": "likely", "open": "open"}
SECTIONS = {
    "accuracy": "Agreement with people", "sight": "What it sees", "legibility": "What it sees", "probes": "Probes",
    "bias": "Bias", "calibration": "Calibration", "order": "Order", "best_of_n": "Best of N", "hygiene": "Data",
    "ceiling": "Agreement with people",
}  # fmt: skip


def page(report: Mapping[str, Any], folder: Path) -> str:
    """The whole document. `folder` is where relative paths of images start; a missing image leaves a note."""
    inks = {name: f"ink-{(i + 2) % INKS}" for i, name in enumerate(report["rewards"])}
    sections = [
        ("Which reward for what", uses(report)),
        ("What is wrong with each", findings(report, inks)),
        ("Agreement with people", reward_tables.agreement(report, inks)),
        ("Against each other", reward_tables.differences(report)),
        ("By category", reward_tables.slices(report)),
        ("Probes", reward_behaviour.probes(report)),
        ("What it sees", reward_behaviour.sight(report, inks)),
        ("Bias", reward_behaviour.bias(report, inks)),
        ("Best of N, and how far to climb", reward_behaviour.best_of_n(report, inks)),
        ("Calibration", reward_tables.calibration(report, inks)),
        ("Ties", reward_tables.ties(report)),
        ("Order of judges of pairs", reward_tables.order(report)),
        ("Do they order alike", reward_tables.correlation(report)),
        ("Models under every judge", reward_tables.win_rates(report)),
        ("Cost", reward_behaviour.cost(report)),
        ("Where they disagree", gallery(report, folder)),
        ("Data and leakage", reward_behaviour.hygiene(report)),
        ("How to make this again", again(report)),
    ]
    return document("Glyphlab: reward comparison", header(report, inks), sections, footer(report), CSS)


def header(report: Mapping[str, Any], inks: Mapping[str, str]) -> str:
    about, clean = report["about"], report["hygiene"]
    names = " ".join(f"{swatch(inks[n])}{escape(n)}&nbsp;&nbsp;" for n in report["rewards"])
    people = "annotator" if clean["annotators"] == 1 else "annotators"
    meta = (
        f"{escape(about['made'])} · {clean['answers']:,} answers of {clean['annotators']} {people} on "
        f"{clean['pairs']:,} "
        f"pairs, {clean['prompts']:,} prompts, {clean['pictures']:,} images"
    )
    machine = ""
    if clean["machine_answers"]:
        machine = f"<p><strong>{clean['machine_answers']:,} of the answers came from a machine.</strong> " + (
            "They count for nobody: everything here is about people's answers.</p>"
            if clean["people_answered"]
            else "Agreement with them says how alike two judges are, not how people see it.</p>"
        )
    shown, people_gave = clean["readings"]["shown"], sum(clean["readings"].values())
    seen = (
        f"<p><strong>{shown:,} of the {people_gave:,} answers were given by people who had been shown what a machine "
        "read in these images.</strong> They may have followed it, so that a reward which reads agrees with them more "
        "than it would otherwise.</p>"
        if shown else ""
    )  # fmt: skip
    return (
        f'<h1>Reward comparison</h1><div class="meta">{meta}</div>'
        f'<p class="answer">{escape(report["advice"]["answer"])}</p>{machine}{seen}<p class="legend">{names}</p>'
    )


def uses(report: Mapping[str, Any]) -> str:
    rows = []
    for use in report["advice"]["uses"]:
        sure = use["certainty"]
        rows.append(
            f"<tr><td>{escape(use['use'])}</td><td>{escape(use['reward'] or 'none')}</td>"
            f'<td class="sure sure-{sure}">{SURE[sure]}</td><td>{escape(use["text"])}</td></tr>'
        )
    head = '<th scope="col">To</th><th scope="col">use</th><th scope="col">This is</th><th scope="col">because</th>'
    note = (
        '<p class="note"><b>certain</b>: it beats a coin and every other candidate after correction for all '
        "comparisons, on 30 pairs of 10 prompts or more. <b>likely</b>: best in at least four of five resamples of the "
        "prompts. <b>open</b>: more answers may change "
        "it. "
        "Intervals are 95 %, over prompts.</p>"
    )
    table = f'<table class="use"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="scroll">{table}</div>{note}'


def findings(report: Mapping[str, Any], inks: Mapping[str, str]) -> str:
    parts = []
    for reward in report["advice"]["rewards"]:
        name = reward["reward"]
        items = "".join(
            f'<li class="{"note-line" if f["severity"] == "note" else f["severity"]}"><b>{f["severity"]}</b> '
            f'{escape(f["text"])} <span class="legend">({SECTIONS.get(f["section"], f["section"])})</span></li>'
            for f in reward["findings"]
        ) or "<li>nothing found</li>"  # fmt: skip
        parts.append(f'<div><h3>{swatch(inks[name])}{escape(name)}</h3><ul class="found">{items}</ul></div>')
    return f'<div class="each">{"".join(parts)}</div>'


def again(report: Mapping[str, Any]) -> str:
    about = report["about"]
    environment = json.dumps(about["environment"], indent=1, ensure_ascii=False, default=str)
    facts = {
        "Answers": f"{about['pairs']}, sha256 {about['pairs_sha256']}", "Gold reward of best-of-N": about["gold"],
        "Seed": report["seed"], "Resamples of the prompts": report["resamples"],
    }  # fmt: skip
    listed = "".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    return (
        f'<pre>{escape(about["command"])}</pre><dl class="facts">{listed}</dl>'
        f"<details><summary>Environment</summary><pre>{escape(environment)}</pre></details>"
    )


def footer(report: Mapping[str, Any]) -> str:
    seconds = report["about"]["seconds"]
    return (
        f"Made by glyphlab in {seconds:.0f} s. Every number is in comparison.json and comparison.csv beside this page."
    )
