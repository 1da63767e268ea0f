"""Tables of how rewards behave: probes, what they see, bias, best-of-N, cost, and whether the data are sound."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from experiments.report.charts import Curve, line_chart
from experiments.report.page import swatch
from experiments.report.page_words import number, signed
from experiments.report.reward_charts import axis, forest, grid, heat, known
from experiments.report.reward_tables import named, percent, spread, table

Report = Mapping[str, Any]
NOT_RUN = "<p>No probe was run: the rewards were not loaded, or --probe-images was 0.</p>"


def between(estimate: Mapping[str, Any]) -> str:
    """The interval of an estimate that has no bounds; says so where the prompts are too few for one."""
    low, high = known(estimate["low"]), known(estimate["high"])
    return f"{signed(low, 2)} to {signed(high, 2)}" if math.isfinite(low + high) else "too few prompts"


def probes(report: Report) -> str:
    """A row a probe, a cell a reward: how often the score did what it must."""
    measured = {r["reward"]: {row["probe"]: row for row in r["rows"]} for r in report["probes"]}
    if not measured:
        return NOT_RUN
    body = []
    for name, first in next(iter(measured.values())).items():
        cells = ""
        for rows in measured.values():
            r = rows[name]
            change = signed(known(r["change"]), 2)
            text = percent(r["pass"], 0) if r["n"] else "not judged"
            cells += heat(
                known(r["pass"]),
                0.5,
                0.5,
                text,
                (f"{change} sd · " if math.isfinite(known(r["change"])) else "") + f"n {r['n']}" if r["n"] else "",
            )
        body.append(
            f"<tr>{named(name)}<td>{escape(first['what'])}</td><td class='word'>{first['required']}</td>{cells}</tr>"
        )
    head = [("", "Probe"), ("", "What is changed"), ("", "The score"), *(("top", escape(n)) for n in measured)]
    note = (
        "Share of images on which the score did what it must; a change counts from a twentieth of the spread of the "
        "unchanged scores. Small: mean change in standard deviations, and images. A reward need not pass all: one "
        "that "
        "reads no prompt cannot notice another caption, and one that reads only text need not mind a tint. What it "
        "does "
        "not notice, training against it will not keep."
    )
    return f'{table(head, body)}<p class="note">{note}</p>'


def sight(report: Report, inks: Mapping[str, str]) -> str:
    """Which cells of a wide image move the score, and how small letters may be."""
    grids = []
    says = {r["reward"]: r for r in report["cost"]}
    for r in report["sight"]:
        name = r["reward"]
        own = (
            f"; it is given {percent(says[name]['says_it_sees'], 0)} of it ({escape(says[name]['view'])})"
            if name in says
            else ""
        )
        words = f"{name} sees {percent(r['seen'], 0)} of a wide image"
        grids.append(
            f"<figure><figcaption><b>{escape(name)}</b> reacts to {percent(r['seen'], 0)} of the image{own}"
            "</figcaption>"
            f"{grid(r['cells'], words)}</figure>"
        )
    curves, sizes = [], []
    for r in report["legibility"]:
        points = tuple((float(p["height"]), known(p["share"])) for p in r["points"])
        curves.append(Curve(r["reward"], points, inks[r["reward"]]))
        smallest = known(r["smallest"])
        low = f"{smallest:.0f} px" if math.isfinite(smallest) else "none of these heights"
        sizes.append(f"{swatch(inks[r['reward']])}{escape(r['reward'])}: {low}")
    parts = [f'<div class="charts">{"".join(grids)}</div>'] if grids else []
    if grids:
        parts.append(
            '<p class="note">A wide image in cells; each was covered with static. The darker a cell, the more the '
            "score "
            "moved; an empty cell is not seen at all.</p>"
        )
    if curves:
        high, wide = report["legibility"][0]["canvas"]
        chart = line_chart("share of words told apart, by height of the capitals in pixels", curves, 620, 220)
        parts.append(
            f"<h3>How small may letters be</h3><figure style='margin:0;max-width:44rem'>{chart}</figure>"
            f'<p class="legend">{" &nbsp; ".join(sizes)}</p><p class="note">Share of words that score higher with '
            f"their own "
            f"prompt than with one that asks for another word, by the height of the capitals on a {wide} x {high} "
            f"canvas; "
            "50 % = cannot read. Listed: the least height from which on the share stays above 85 %. Pale lines are the "
            "measured values, strong ones their moving average.</p>"
        )
    return "".join(parts)


def bias(report: Report, inks: Mapping[str, str]) -> str:
    rows = report["bias"].get("rows", [])
    if not rows:
        return ""
    finite = [known(r["excess"][k]) for r in rows for k in ("low", "high") if math.isfinite(known(r["excess"][k]))]
    low, high = min([-0.05, *finite]) * 1.05, max([0.05, *finite]) * 1.05
    shown, folded = [], []
    for r in sorted(rows, key=lambda r: -abs(known(r["excess"]["value"]))):
        e = r["excess"]
        points = f"{100 * known(e['value']):+.0f}{spread(e)}".replace("-", "−")
        beta = r.get("coefficient")
        fitted = (
            f"{signed(known(beta['value']), 2)}<small class='ci'>{between(beta)}</small>" if beta else "–"
        )  # fmt: skip
        (shown if r["leans"] else folded).append(
            f"<tr>{named(r['reward'], inks[r['reward']])}<td>{escape(r['covariate'])}</td>"
            f'<td class="n">{percent(r["reward_share"]["value"], 0)}</td><td '
            f'class="n">{percent(r["people_share"]["value"], 0)}'
            f'</td><td class="n">{points}</td>'
            f'<td class="plot" style="width:280px">{forest(e, low, high, inks[r["reward"]], 0.0)}</td>'
            f'<td class="n">{fitted}</td></tr>'
        )
    end = f'<tr class="axis"><td colspan="5"></td><td class="plot">{axis(low, high)}</td></tr>'
    head = [("", "Reward"), ("", "goes for more"), ("n", "Reward"), ("n", "People"), ("n", "Points more"), ("", ""),
            ("n", "People’s coefficient<br>given its verdict")]  # fmt: skip
    first = table(head, [*shown, end]) if shown else "<p>No covariate sets a reward apart from people by 10 points.</p>"
    rest = (
        f"<details><summary>All others ({len(folded)})</summary>{table(head, [*folded, end])}</details>"
        if folded
        else ""
    )
    length = "".join(
        f'<tr>{named(r["reward"], inks[r["reward"]])}<td class="n">{signed(known(r["prompt_length"]["value"]), 2)}'
        f'<small class="ci">{between(r["prompt_length"])}</small></td></tr>'
        for r in report["bias"].get("between_prompts", [])
    )
    long = (
        f"<h3>Length of the prompt</h3>{table([('', 'Reward'), ('n', 'Rank correlation with mean score')], [length])}"
        '<p class="note">Within a prompt this cannot matter; a filter or a mean over prompts inherits it.</p>'
        if length else ""
    )  # fmt: skip
    note = (
        "Share of decided pairs in which the image with more of the covariate is preferred, by the reward and by "
        "people. "
        "<b>Coefficient</b>: contextual Bradley-Terry; below 0, people like less of it than the reward’s verdict lets "
        "expect. Detail is the compressed size in bits a pixel; border the share of edges of a flat colour."
    )
    return f'{first}{rest}<p class="note">{note}</p>{long}'


def best_of_n(report: Report, inks: Mapping[str, str]) -> str:
    rows = report["best_of_n"]
    if not rows:
        return "<p>No prompt has two images with a gold value, so nothing can be chosen.</p>"
    figures, notes = [], []
    for r in rows["rewards"]:
        points = r["points"]
        gold = tuple((known(p["distance"]), known(p["gold"]["value"])) for p in points)
        proxy = tuple((known(p["distance"]), known(p["proxy"])) for p in points)
        last = points[-1]
        caption = (
            f"<span class='last'>{signed(known(last['gold']['value']), 2)}</span><b>{escape(r['reward'])}</b> best of "
            f"{last['n']}: gold {between(last['gold'])}, the best possible {signed(known(r['oracle']), 2)}"
        )
        curves = [Curve("gold", gold, inks[r["reward"]]), Curve("proxy", proxy, "ink-1")]
        figures.append(
            f"<figure><figcaption>{caption}</figcaption>{line_chart('gold and proxy by distance', curves)}</figure>"
        )
        if r.get("peak_distance"):
            notes.append(f"{escape(r['reward'])} peaks at a distance of {known(r['peak_distance']):.1f}")
    bent = f" {'; '.join(notes)}." if notes else " No curve bends down beyond its interval."
    size = rows["rewards"][0]["points"][-1]["n"]
    note = (
        f"What choosing by a reward gains, in standard deviations of the gold reward (<b>{escape(rows['gold'])}</b>, "
        f"coloured) "
        f"and of the reward itself (grey), by the distance from not choosing, the root of KL = ln n − (n − 1)/n; up "
        f"to n = "
        f"{size}, as many images as a prompt has. Where grey rises and colour does not, the reward is being "
        f"exploited.{bent}"
    )
    return f'<div class="charts">{"".join(figures)}</div><p class="note">{note}</p>'


def cost(report: Report) -> str:
    if not report["cost"]:
        return ""
    body = []
    for r in report["cost"]:
        causes = ", ".join(f"{count} {cause}" for cause, count in r["causes"].items())
        rate = 1000 / known(r["ms_batched"]) if known(r["ms_batched"]) > 0 else math.nan
        body.append(
            f'<tr>{named(r["reward"])}<td class="n">{number(known(r["ms_p50"]), 1)}</td>'
            f'<td class="n">{number(known(r["ms_p95"]), 1)}</td><td class="n">{number(rate, 0)}</td>'
            f'<td class="n">{number(known(r["load_seconds"]), 1)}</td><td class="n">{r["not_judged"]:,} of '
            f"{r['of']:,}</td>"
            f"<td>{escape(causes)}</td><td>{escape(r['view'])}</td><td>{escape(r['scorer'])}</td></tr>"
        )
    head = [("", "Reward"), ("n", "ms, median"), ("n", "ms, 95 %"), ("n", "Pictures/s"), ("n", "Loads in s"),
            ("n", "Not judged"), ("", "Why"), ("", "Sees"), ("", "Exactly")]  # fmt: skip
    note = "Single images: median and 95th percentile; images a second in batches of 32, as first judged here."
    return f'{table(head, body)}<p class="note">{note}</p>'


def hygiene(report: Report) -> str:
    clean = report["hygiene"]
    leaks = "".join(
        f"<li>{escape(r['reward'])} was trained on {r['prompts']:,} of these {r['of_prompts']:,} prompts and "
        f"{r['pictures']:,} of these {r['of_pictures']:,} "
        f"images{': its numbers here are void' if r['pictures'] else ''}.</li>"
        for r in clean["leaks"]
    )
    leaks = (
        leaks or "<li>None of the rewards says what it was trained on; of public weights, only their makers know.</li>"
    )
    facts = {
        "Answers by a machine": clean["machine_answers"],
        "Answers given with what a machine read in view": clean["readings"]["shown"],
        "Answers of which that is not known": clean["readings"]["unknown"],
        "Answers of a person to a pair that the same person had answered": clean["same_person_twice"],
        "Images under several prompts": clean["pictures_under_several_prompts"],
        "Prompts that differ only in capitals or spaces": clean["prompts_alike"],
        "Triples preferred in a circle": clean["circles"],
    }
    listed = "".join(f"<dt>{name}</dt><dd>{value:,}</dd>" for name, value in facts.items())
    return f'<h3>Leakage</h3><ul>{leaks}</ul><h3>Answers</h3><dl class="facts">{listed}</dl>'
