"""Tables of a reward comparison that hold it against people: accuracy, differences, slices, ties, calibration,
order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from experiments.report.page import swatch
from experiments.report.page_words import number, signed
from experiments.report.reward_charts import axis, forest, heat, known, reliability

Report = Mapping[str, Any]


def percent(value: Any, digits: int = 1) -> str:
    v = known(value)
    return f"{100 * v:.{digits}f} %" if math.isfinite(v) else "–"


def spread(e: Mapping[str, Any]) -> str:
    """An interval as small type."""
    low, high = known(e.get("low")), known(e.get("high"))
    return f'<small class="ci">{100 * low:.1f} to {100 * high:.1f}</small>' if math.isfinite(low) else ""


def table(head: Sequence[tuple[str, str]], rows: Sequence[str]) -> str:
    """`head`: (class, text) of every column; `rows`: their <tr>."""
    cells = "".join(f'<th class="{kind}" scope="col">{text}</th>' for kind, text in head)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def named(name: str, ink: str = "") -> str:
    return f'<th scope="row">{swatch(ink) if ink else ""}{escape(name)}</th>'


def agreement(report: Report, inks: Mapping[str, str]) -> str:
    """Accuracy of every reward, best first, over the band of one person against the others."""
    rows = sorted(report["accuracy"]["rewards"], key=lambda r: -known(r["accuracy"]["value"]))
    ceiling = report["ceiling"].get("person")
    everything = [known(r["accuracy"][k]) for r in rows for k in ("value", "low", "high")]
    everything += [known(ceiling[k]) for k in ("low", "high")] if ceiling else []
    finite = [v for v in (*everything, 0.5) if math.isfinite(v)]
    low, high = max(min(finite) - 0.04, 0.0), min(max(finite) + 0.04, 1.0)
    band = (known(ceiling["low"]), known(ceiling["high"])) if ceiling else None
    same = {r["reward"]: r for r in report["ceiling"].get("rewards", [])}
    body = []
    for r in rows:
        e, name = r["accuracy"], r["reward"]
        person = f"{100 * known(same[name]['minus_person']['value']):+.1f}".replace("-", "−") if name in same else "–"
        body.append(
            f'<tr>{named(name, inks[name])}<td class="n">{percent(e["value"])}{spread(e)}</td>'
            f'<td class="plot" style="width:280px">{forest(e, low, high, inks[name], 0.5, band)}</td>'
            f'<td class="n">{percent(r["best_share"], 0)}</td><td class="n">{person}</td>'
            f'<td class="n">{percent(r["equal_scores"])}</td><td class="n">{percent(r["judged"])}</td>'
            f'<td class="n">{e["n"]:,}</td></tr>'
        )
    body.append(f'<tr class="axis"><td colspan="2"></td><td class="plot">{axis(low, high)}</td></tr>')
    head = [("", "Reward"), ("n", "Right"), ("", ""), ("n", "Best of all<br>in resamples"),
            ("n", "Minus<br>one person"), ("n", "Equal<br>scores"), ("n", "Judged"), ("n", "Pairs")]  # fmt: skip
    people = ""
    if ceiling:
        each = ", ".join(
            f"{escape(p['annotator'])} {percent(p['value'], 0)} (n = {p['n']})"
            for p in report["ceiling"]["people"][:20]
        )
        people = (
            f"The shaded band is one person against the plurality of the others: {percent(ceiling['value'])} "
            f"({100 * known(ceiling['low']):.1f} to {100 * known(ceiling['high']):.1f}) over {ceiling['n']:,} answers. "
            f"<b>Minus one person</b> holds the reward to the same targets, in points. Each person: {each}."
        )
    else:
        people = "No pair was answered by two people, so there is no human ceiling: ask for an overlap of two."
    note = (
        "<b>Right</b>: share of decided pairs whose preferred image has the greater score, an equal score counting "
        "half; "
        f"the line is a coin. Intervals: bootstrap over prompts. {people}"
    )
    return f'{table(head, body)}<p class="note">{note}</p>{coefficients(report)}'


def coefficients(report: Report) -> str:
    """How well people agree with each other, beyond chance."""
    rows = []
    for c in report.get("agreement", []):
        value, low, high = (known(c[k]) for k in ("value", "low", "high"))
        shown = f"{value:.2f} ({low:.2f} to {high:.2f})" if math.isfinite(low) else str(c["why"])
        if math.isfinite(value) and not math.isfinite(low):
            shown = f"{value:.2f}, {shown}"
        rows.append(f"<dt>{escape(c['name'])}</dt><dd>{escape(shown)}, {c['units']:,} pairs</dd>")
    return f'<h3>Agreement between people</h3><dl class="facts">{"".join(rows)}</dl>' if rows else ""


def differences(report: Report) -> str:
    rows = report["accuracy"]["differences"]
    if not rows:
        return ""
    reach = max([abs(known(r["difference"][k])) for r in rows for k in ("low", "high")
                 if math.isfinite(known(r["difference"][k]))] or [0.1]) * 1.05 or 0.1  # fmt: skip
    low = (
        min([0.0, *(known(r["difference"]["low"]) for r in rows if math.isfinite(known(r["difference"]["low"])))])
        - 0.01
    )
    body = []
    for r in rows:
        e, p = r["difference"], known(r["p_holm"])
        points = f"{100 * known(e['value']):+.1f}{spread(e)}".replace("-", "−")
        sure = "differ" if p < 0.05 else "not told apart"
        body.append(
            f'<tr><th scope="row">{escape(r["better"])} <small>over {escape(r["worse"])}</small></th>'
            f'<td class="n">{points}</td><td class="plot" '
            f'style="width:280px">{forest(e, low, reach, "ink-2", 0.0)}</td>'
            f'<td class="n">{_p(known(r["p"]))}</td><td class="n">{_p(p)}</td><td class="word">{sure}</td></tr>'
        )
    body.append(f'<tr class="axis"><td colspan="2"></td><td class="plot">{axis(low, reach)}</td></tr>')
    head = [("", "Pair of rewards"), ("n", "Points"), ("", ""), ("n", "p"), ("n", "p, Holm"), ("", "")]
    note = "Over the pairs that both judged, on the same resamples. Holm's correction covers all rows of this table."
    return f'{table(head, body)}<p class="note">{note}</p>'


def _p(p: float) -> str:
    return "–" if not math.isfinite(p) else "&lt; 0.001" if p < 0.001 else f"{p:.3f}"


def slices(report: Report) -> str:
    if not report["slices"]:
        return ""
    body = []
    for s in sorted(report["slices"], key=lambda s: -s["pairs"]):
        cells = "".join(
            heat(known(e["value"]), 0.5, 0.4, percent(e["value"], 0),
                 f"{100 * known(e['low']):.0f}–{100 * known(e['high']):.0f}" if math.isfinite(known(e["low"])) else "",
                 s["few"])
            for e in s["accuracy"]
        )  # fmt: skip
        body.append(
            f'<tr>{named(s["slice"])}<td class="n">{s["pairs"]:,}</td><td class="n">{s["prompts"]:,}</td>{cells}</tr>'
        )
    head = [
        ("", "Pairs of prompts"),
        ("n", "Pairs"),
        ("n", "Prompts"),
        *(("top", escape(n)) for n in report["rewards"]),
    ]
    note = (
        "Share right, with its interval. Pale cells rest on fewer than 30 pairs or 10 prompts: do not decide by "
        "them. With "
        "many cells some stand out by chance."
    )
    return f'{table(head, body)}<p class="note">{note}</p>'


def calibration(report: Report, inks: Mapping[str, str]) -> str:
    rows = report["calibration"]
    if not rows:
        return ""
    body = [
        f'<tr>{named(r["reward"], inks[r["reward"]])}<td class="n">{_temperature(known(r["temperature"]))}</td>'
        f'<td class="n">{number(known(r["ece"]))}</td><td class="n">{number(known(r["ece_by_chance"]))}</td>'
        f'<td class="n">{number(known(r["brier"]["value"]))}<small class="ci">{number(known(r["brier"]["low"]))} to '
        f'{number(known(r["brier"]["high"]))}</small></td><td class="n">{number(known(r["log_loss"]))}</td>'
        f"<td>{_worst(r['slices'])}</td></tr>"
        for r in rows
    ]
    head = [("", "Reward"), ("n", "T"), ("n", "ECE"), ("n", "ECE by<br>chance"), ("n", "Brier"), ("n", "Log loss"),
            ("", "Worst slices")]  # fmt: skip
    plots = "".join(
        f"<figure><figcaption><b>{escape(r['reward'])}</b> {r['answers']:,} pairs</figcaption>"
        f"{reliability(r['reward'], r['bins'], inks[r['reward']])}</figure>"
        for r in rows
    )
    note = (
        "The logistic function of gap / T against the share of people who agreed; T was fitted on the other half of "
        "the "
        "prompts. <b>ECE</b>: mean distance of said from seen; <b>by chance</b>: what a perfectly calibrated judge "
        "would "
        "show with as many answers. A coin has a Brier score of 0.250 and a log loss of 0.693."
    )
    return f'{table(head, body)}<div class="charts" style="--w:190px">{plots}</div><p class="note">{note}</p>'


def _temperature(value: float) -> str:
    """A temperature that flattens everything stands for a reward whose gaps say nothing, or the opposite."""
    return f"{value:.3g}" if value < 1e4 else "none"


def _worst(rows: Sequence[Mapping[str, Any]]) -> str:
    worst = sorted(rows, key=lambda s: -known(s["ece"]))[:2]
    return ", ".join(f"{escape(s['slice'])} {number(known(s['ece']), 2)}" for s in worst) or "–"


def ties(report: Report) -> str:
    rows = report["ties"]
    if not rows:
        return "<p>Nobody answered with a tie, so nothing can be said about them.</p>"
    body = []
    for r in rows["rewards"]:
        three, size, bad = r["three_way"], r["tie_auc"], r["both_bad_auc"]
        body.append(
            f'<tr>{named(r["reward"])}<td class="n">{percent(three["value"])}{spread(three)}</td>'
            f'<td class="n">{number(known(r["threshold"]))}</td>'
            f'<td class="n">{number(known(size["value"]), 2)}<small class="ci">{number(known(size["low"]), 2)} to '
            f'{number(known(size["high"]), 2)}</small></td><td class="n">{number(known(bad["value"]), 2)}</td></tr>'
        )
    head = [("", "Reward"), ("n", "Left, tie or right"), ("n", "Threshold"), ("n", "Tie AUC"), ("n", "Both-bad AUC")]
    note = (
        f"{rows['ties']:,} of {rows['pairs']:,} pairs are ties, {rows['both_bad']:,} of all are both bad. Always "
        f"giving "
        f"the commonest answer is right in {percent(rows['always_the_same_answer'])}. The threshold below which a "
        f"gap is "
        "called a tie was tuned on the other half of the prompts (– : in a half, calling nothing a tie was best). "
        "<b>Tie "
        "AUC</b>: how often a decided pair has the larger gap, 0.5 = the size of a gap says nothing."
    )
    return f'{table(head, body)}<p class="note">{note}</p>'


def order(report: Report) -> str:
    if not report["order"]:
        return ""
    body = [
        f'<tr>{named(r["reward"])}'
        + "".join(f'<td class="n">{percent(r[k]["value"])}{spread(r[k])}</td>'
                  for k in ("consistent", "accuracy_when_consistent", "prefers_first"))
        + f'<td class="n">{r["pairs"]:,}</td></tr>'
        for r in report["order"]
    ]  # fmt: skip
    head = [("", "Judge of pairs"), ("n", "Same both ways"), ("n", "Right when the same"), ("n", "Prefers the first"),
            ("n", "Pairs asked both ways")]  # fmt: skip
    note = "Exact intervals (Clopper and Pearson). A judge without a preference for a place prefers the first in 50 %."
    return f'{table(head, body)}<p class="note">{note}</p>'


def correlation(report: Report) -> str:
    result = report["correlation"]
    names = result["names"]
    parts = []
    for key, title in (("within", "Within a prompt: Kendall’s tau-b"), ("pooled", "Over all images: Spearman’s rho")):
        body = []
        for i, name in enumerate(names):
            cells = ""
            for j in range(len(names)):
                value = known(result[key][i][j])
                low = known(result["within_low"][i][j]) if key == "within" and i != j else math.nan
                below = f"{low:.2f} to {known(result['within_high'][i][j]):.2f}" if math.isfinite(low) else ""
                cells += heat(value, 0.0, 1.0, signed(value, 2) if i != j else "1", below.replace("-", "−"))
            body.append(f"<tr>{named(name)}{cells}</tr>")
        parts.append(f"<h3>{title}</h3>{table([('', ''), *(('top', escape(n)) for n in names)], body)}")
    rows = [r for r in result["partial"] if math.isfinite(known(r["with_people"]))]
    listed = "".join(
        f"<tr>{named(r['reward'])}<td>{escape(r['given'])}</td><td "
        f'class="n">{signed(known(r["with_people"]), 2)}</td></tr>'
        for r in rows
    )
    partial = (
        '<details><summary>Partial correlation with people</summary><div '
        'class="scroll"><table><thead><tr><th>Reward</th>'
        f'<th>with this held fixed</th><th '
        f'class="n">rho</th></tr></thead><tbody>{listed}</tbody></table></div></details>'
        if listed else ""
    )  # fmt: skip
    note = (
        f"{result['pictures']:,} images of {result['prompts']:,} prompts; alike ones stand together. <b>people</b>: a "
        "image’s share of wins, which compares images of one prompt. – : a constant has no order."
    )
    return f'{"".join(parts)}<p class="note">{note}</p>{partial}'


def win_rates(report: Report) -> str:
    rows = report["win_rates"]
    if not rows:
        return ""
    models, parts = rows["models"], []
    for scorer, rates in rows["judges"].items():
        body = []
        for i, model in enumerate(models):
            cells = "".join(
                heat(known(rates["share"][i][j]), 0.5, 0.5, percent(rates["share"][i][j], 0),
                     f"n = {rates['pairs'][i][j]:.0f}")
                if i != j else "<td></td>"
                for j in range(len(models))
            )  # fmt: skip
            body.append(f"<tr>{named(model)}{cells}</tr>")
        shown = table([("", "wins against"), *(("top", escape(m)) for m in models)], body)
        parts.append(
            f"<details{' open' if scorer == 'people' else ''}><summary>{escape(scorer)}</summary>{shown}</details>"
        )
    return ranks(report) + "".join(parts)


def ranks(report: Report) -> str:
    """A row a model, a column a judge: rating with its interval, and the ranks that it can have."""
    board = report.get("leaderboard", {})
    if not board:
        return ""
    body = []
    for model in report["win_rates"]["models"]:
        cells = ""
        for scorer in board.values():
            r = next((x for x in scorer.get("ratings", []) if x["name"] == model), None)
            if r is None:
                cells += f'<td class="n" title="{escape(scorer.get("why", ""))}">no finite rating</td>'
                continue
            rank = str(r["rank_low"]) if r["rank_low"] == r["rank_high"] else f"{r['rank_low']} to {r['rank_high']}"
            span = f"{signed(known(r['low']), 2)} to {signed(known(r['high']), 2)}"
            cells += f'<td class="n">{signed(known(r["rating"]), 2)}<small class="ci">{span}; rank {rank}</small></td>'
        body.append(f"<tr>{named(model)}{cells}</tr>")
    head = [("", "Model"), *(("n", escape(scorer)) for scorer in board)]
    note = (
        "Ratings of Davidson’s model (Bradley and Terry’s where nothing ties), in log-odds around a mean of 0, "
        "clustered by prompt; ranks are those that a model can have at 95 %."
    )
    return f'{table(head, body)}<p class="note">{note}</p>'
