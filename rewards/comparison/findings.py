"""What is wrong with a reward, one sentence each, read off the sections of a comparison.

A finding names the section that shows it, so that a reader can look. "broken": not to be used; "warning": not for every
use; "note": good to know.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

LENGTH = 0.3
"""Rank correlation of score and prompt length from which on means over prompts are not to be compared."""
CALIBRATION = 0.03
"""ECE above what chance gives."""
MISSING = 0.05
TEXT_PROBES = ("typo asked", "typo drawn", "text twice", "text removed")

Report = Mapping[str, Any]


def row(section: Any, name: str) -> dict[str, Any]:
    """The row of a reward in a section that is a list or has "rewards"; {} when it has none."""
    rows = section.get("rewards", []) if isinstance(section, Mapping) else section or []
    return next((dict(r) for r in rows if r.get("reward") == name), {})


def points(value: float) -> str:
    """A difference of shares as points, signed, with a true minus."""
    return f"{round(100 * value) + 0:+d}".replace("-", "−") if math.isfinite(value) else "an unknown number of"


def share(value: float) -> str:
    return f"{100 * value:.0f} %" if math.isfinite(value) else "an unknown share"


def between(e: Mapping[str, float]) -> str:
    """The interval of an estimate of a share."""
    return f"{100 * e['low']:.0f} to {100 * e['high']:.0f} %" if math.isfinite(e["low"]) else "interval unknown"


Findings = Iterator[tuple[str, str]]
"""severity, and what is wrong"""


def findings(report: Report, name: str) -> list[dict[str, str]]:
    """Everything that the sections say against a reward, worst first."""
    hits = [
        {"severity": severity, "section": section, "text": text}
        for section, source in SOURCES for severity, text in source(report, name)
    ]  # fmt: skip
    rank = {"broken": 0, "warning": 1, "note": 2}
    return sorted(hits, key=lambda f: rank[f["severity"]])


def _order_of_images(report: Report, name: str) -> Findings:
    hits = row(report["accuracy"], name)
    if not hits:
        return
    e = hits["accuracy"]
    right = f"right in {share(e['value'])} of pairs ({between(e)})"
    if hits["equal_scores"] > 0.9:
        yield "broken", f"gives both images the same score in {share(hits['equal_scores'])} of pairs"
    elif e["high"] < 0.5:
        yield "broken", f"prefers what people reject: {right}; is its sign turned round?"
    elif not e["low"] > 0.5:
        yield "warning", f"cannot be told from a coin: {right}"


def _judged(report: Report, name: str) -> Findings:
    hits = row(report["accuracy"], name)
    if hits and hits["judged"] < 1 - MISSING:
        yield "warning", f"judges only {share(hits['judged'])} of the decided pairs"


def _sight(report: Report, name: str) -> Findings:
    hits = row(report["sight"], name)
    declared = row(report["cost"], name).get("says_it_sees", 0.0)
    if hits and hits["seen"] < 0.95:
        seen = share(hits["seen"])
        if declared >= 0.95:
            yield "note", f"is given the whole image, and {seen} of a wide one moves its score: it looks at a part"
        else:
            yield "warning", f"sees {seen} of a wide image: nothing that happens in the rest changes its score"


def _legibility(report: Report, name: str) -> Findings:
    read = row(report["legibility"], name)
    if read.get("points"):
        smallest = read["smallest"]
        if math.isfinite(smallest):
            height, _ = read["canvas"]
            yield "note", f"reads capitals from {smallest:.0f} px on an image {height} px high"
        elif not max(p["low"] for p in read["points"]) > 0.5:
            yield "note", "does not tell the word asked for from another one at any size"


def _probes(report: Report, name: str) -> Findings:
    rows = row(report["probes"], name).get("rows", [])
    missed = [r for r in rows if r["required"] == "falls" and r["n"] >= 6 and r["high"] < 0.6]
    blind = [r["probe"] for r in missed if r["unmoved"] > 0.9]
    text = [r["probe"] for r in missed if r["probe"] in TEXT_PROBES and r["probe"] not in blind]
    other = [r["probe"] for r in missed if r["probe"] not in TEXT_PROBES and r["probe"] not in blind]
    if "caption swap" in blind:
        yield "note", "does not read the prompt: another image's prompt gives the same score"
        blind = [b for b in blind if b not in ("caption swap", "typo asked")]
    if blind:
        yield "warning", f"does not notice: {', '.join(blind)}"
    if text:
        yield "warning", f"often does not punish: {', '.join(text)}"
    if other:
        yield "warning", f"often likes a damaged image as much: {', '.join(other)}"
    moved = [r["probe"] for r in rows if r["required"] == "stays" and r["n"] >= 6 and r["high"] < 0.6]
    if moved:
        yield "note", f"is moved by what should not matter: {', '.join(moved)}"


def _bias(report: Report, name: str) -> Findings:
    for r in report["bias"].get("rows", []):
        e = r["excess"]
        if r["reward"] == name and r["leans"]:
            more = "more" if e["value"] > 0 else "less"
            text = (
                f"goes for {more} {r['covariate']} than people do: in {share(r['reward_share']['value'])} of pairs, "
                f"people in {share(r['people_share']['value'])} ({points(e['value'])} points, {points(e['low'])} to "
                f"{points(e['high'])})"
            )
            yield "warning", text
    for r in report["bias"].get("between_prompts", []):
        e = r["prompt_length"]
        if r["reward"] == name and (e["low"] > LENGTH or e["high"] < -LENGTH):
            text = (
                f"scores long prompts {'higher' if e['value'] > 0 else 'lower'} (rank correlation {e['value']:.2f}, "
                f"{e['low']:.2f} to {e['high']:.2f}): never compare or average it over different prompts"
            )
            yield "warning", text


def _calibration(report: Report, name: str) -> Findings:
    hits = row(report["calibration"], name)
    if hits and hits["ece"] > hits["ece_by_chance"] + CALIBRATION:
        text = (
            f"its gap is no probability even after scaling: calibration error {hits['ece']:.3f}, chance gives "
            f"{hits['ece_by_chance']:.3f}"
        )
        yield "note", text


def _pairs(report: Report, name: str) -> Findings:
    hits = row(report["order"], name)
    if not hits:
        return
    if hits["consistent"]["high"] < 0.9:
        yield "warning", f"answers the same both ways round in {share(hits['consistent']['value'])} of pairs only"
    first = hits["prefers_first"]
    if first["low"] > 0.53 or first["high"] < 0.47:
        yield "warning", f"prefers the image shown first in {share(first['value'])} ({between(first)})"


def _climb(report: Report, name: str) -> Findings:
    hits = row(report["best_of_n"], name)
    if peak := hits.get("peak_distance"):
        yield "warning", f"pays less the harder it is climbed: the fitted gold value peaks at a distance of {peak:.1f}"
    last = hits.get("points", [])[-1:]
    if last and last[0]["n"] > 1 and last[0]["gold"]["high"] < 0:
        yield "broken", f"its best of {last[0]['n']} is worse than an image drawn at random"


def _leak(report: Report, name: str) -> Findings:
    hits = row({"rewards": report["hygiene"].get("leaks", [])}, name)
    if hits and (hits["pictures"] or hits["prompts"]):
        text = (
            f"was trained on {hits['prompts']} of the {hits['of_prompts']} prompts and {hits['pictures']} of the "
            f"{hits['of_pictures']} images: its numbers here are void"
        )
        yield "broken", text


def _own_answers(report: Report, name: str) -> Findings:
    scorer = row(report["cost"], name).get("scorer", name)
    count = report["hygiene"].get("machines", {}).get(scorer, 0)
    if count:
        answers = report["hygiene"]["answers"]
        yield "broken", f"gave {count} of the {answers} answers itself: that it agrees with them says nothing"


def _ceiling(report: Report, name: str) -> Findings:
    hits = row(report["ceiling"], name)
    if hits:
        e = hits["minus_person"]
        often = "more" if e["low"] > 0 else "less" if e["high"] < 0 else ""
        if often:
            gap = points(e["value"])
            yield "note", f"agrees with the majority {often} often than one person does ({gap} points)"


SOURCES = (
    ("accuracy", _order_of_images), ("accuracy", _judged), ("sight", _sight), ("legibility", _legibility),
    ("probes", _probes), ("bias", _bias), ("calibration", _calibration), ("order", _pairs), ("best_of_n", _climb),
    ("hygiene", _leak), ("hygiene", _own_answers), ("ceiling", _ceiling),
)  # fmt: skip
"""What finds faults in each section."""
