"""What the quickstart came to, in numbers: spelling by both engines in both languages, and the taste.

Win is the share of (prompt, voter) in which a stage's image is preferred to the pretrained model's from the same noise,
by simulated people other than those who answered, without noise. Intervals are over prompts.

Shapes: P prompts, F facts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from base_model.data.rendered_chinese import is_chinese
from base_model.data.rendered_text import read_short
from experiments.evaluation.evaluate import column, compare, summarise
from experiments.evaluation.prompts_of_plan import make_scenes
from experiments.experiment import PromptPlan
from experiments.preferences.simulated_people import GROUND, INK, STATED, people, utility, wins
from experiments.record.intervals import bootstrap_ci
from experiments.record.record import RunRecord
from preference_data.records import Prompt

STAGES = ("pretrain", "nft", "nft_ocr", "dpo", "chosen", "nft_taste")
"""In the order of the report."""
VOTERS_SEED = 5
STATED_FOLDER = "stated"
"""The pretrained model on prompts that say the taste."""
RENDERED_FOLDER = "rendered"
"""What the engines read of the renderings themselves."""
LANGUAGES = ("english", "chinese")
PAIRED = (
    ("nft", "pretrain"), ("nft_ocr", "pretrain"), ("dpo", "pretrain"), ("chosen", "pretrain"), ("nft", "nft_ocr"),
)  # fmt: skip

Rows = dict[str, Any]
"""The content of an evaluation's file."""


def stated_prompts(plan: PromptPlan) -> list[Prompt]:
    """The plan's words and places in prompts that say the taste in words."""
    scenes = (replace(each, ink=INK, background=GROUND, face="sans", size="large") for each in make_scenes(plan))
    return [Prompt.from_text(scene.caption) for scene in scenes]


def read(folder: Path, inside: str, sampler: str = "unguided") -> Rows | None:
    """The evaluation of a stage, None where there is none."""
    file = folder / inside / f"{sampler}.json"
    return json.loads(file.read_text()) if file.exists() else None


def of_language(rows: Rows, language: str) -> Rows:
    """The rows of one language."""
    chinese = language == "chinese"
    return rows | {"rows": [row for row in rows["rows"] if is_chinese(row["target"]) == chinese]}


def facts_of(rows: Rows) -> np.ndarray:
    """[P, F]"""
    return np.array([row["facts"] for row in rows["rows"]], dtype=np.float64)


def spelling(rows: Rows) -> dict[str, object]:
    """Exact spelling by both engines, with intervals."""
    exact, gold = column(rows, "exact"), column(rows, "judge_exact")
    return {
        "exact": float(np.nanmean(exact)), "exact_ci": list(bootstrap_ci(exact, seed=0)),
        "gold_exact": float(np.nanmean(gold)), "gold_exact_ci": list(bootstrap_ci(gold, seed=0)),
        "ned_score": float(np.nanmean(column(rows, "ned"))),
        "gold_ned_score": float(np.nanmean(column(rows, "judge_ned"))), "prompts": len(exact),
    }  # fmt: skip


def named_obeyed(rows: Rows, part: str) -> list[bool]:
    """Of each full caption, whether the `ink` or the `ground` that it names is in the image."""
    name = {"ink": "ink", "ground": "background"}[part]
    requests = ((row, read_short(row["prompt"])) for row in rows["rows"])
    return [row[part] == request.named.get(name) for row, request in requests if request]


def obeyed(rows: Rows) -> dict[str, float]:
    """Shares of full captions whose named ink and named ground the image has."""
    return {part: float(np.mean(named_obeyed(rows, part))) for part in ("ink", "ground")}


def taste(rows: Rows, start: Rows, voters: int) -> dict[str, object]:
    """Wins over the start, and the mean taste as a share of the most possible."""
    after_PF, before_PF = facts_of(rows), facts_of(start)
    win_P = wins(after_PF, before_PF, people(voters, VOTERS_SEED))
    utility_P = np.array([utility(facts_F) for facts_F in after_PF])
    return {
        "win": float(win_P.mean()), "win_ci": list(bootstrap_ci(win_P, seed=0)),
        "utility": float(utility_P.mean()), "utility_ci": list(bootstrap_ci(utility_P, seed=0)),
    }  # fmt: skip


def entry(folder: Path, start: Path, seconds: float, voters: int) -> dict[str, object]:
    """A stage's row of the summary; numbers of open prompts in both languages at its top."""
    opened, captions, begun = read(folder, "evaluation"), read(folder, "captions"), read(start, "evaluation")
    assert captions is not None and opened is not None and begun is not None
    row = summarise(opened, seconds) | taste(opened, begun, voters) | {"obeyed": obeyed(captions)}
    kinds = {
        "open": opened, "open_guided": read(folder, "evaluation", "guided"),
        "captions": captions, "captions_guided": read(folder, "captions", "guided"),
    }  # fmt: skip
    there = {name: rows for name, rows in kinds.items() if rows is not None}
    for language in LANGUAGES:
        own = {name: spelling(of_language(rows, language)) for name, rows in there.items()}
        own["open"] |= taste(of_language(opened, language), of_language(begun, language), voters)
        row[language] = own
    if "open_guided" in there:
        row["guided"] = summarise(there["open_guided"], seconds)
    return row


def summary(folder: Path, voters: int, seconds: float) -> dict[str, object]:
    """The content of summary.json."""
    took = {name: RunRecord.read(folder / name).seconds for name in ("decoder", *STAGES)}
    start = folder / "pretrain"
    opened = {name: rows for name in STAGES if (rows := read(folder / name, "evaluation")) is not None}
    rendered = read(start, RENDERED_FOLDER)
    assert rendered is not None
    without = {"guidance": read(start, "evaluation", "guided"), "saying it": read(start, STATED_FOLDER)}
    return {
        "stages": {name: entry(folder / name, start, took[name], voters) for name in STAGES},
        "without_training": {
            name: spelling(rows) | taste(rows, opened["pretrain"], voters)
            for name, rows in without.items()
            if rows is not None
        },
        "paired": {
            f"{a}_vs_{b}": {
                **compare(opened[b], opened[a]),
                "exact": compare(opened[b], opened[a], "exact"),
                "judge": compare(opened[b], opened[a], "judge_ned"),
            }
            for a, b in PAIRED
        },
        "renderings": {each: spelling(of_language(rendered, each)) for each in LANGUAGES},
        "confirmed": confirmed(start, folder / "nft"),
        "taste": STATED,
        "decoder_seconds": took["decoder"],
        "total_seconds": seconds,
        "peak_memory_mb": json.loads((folder / "memory.json").read_text())["peak_mb"],
    }


def confirmed(before: Path, after: Path) -> dict[str, float]:
    """The share of the gain in exact spelling that the gold engine sees too, by language and kind of prompt."""
    shares = {}
    for inside, kind in (("evaluation", "open"), ("captions", "captions")):
        for language in LANGUAGES:
            a, b = (of_language(read(stage, inside) or {"rows": []}, language) for stage in (before, after))
            gain, gold = (float(compare(a, b, name)["delta"]) for name in ("exact", "judge_exact"))  # type: ignore[arg-type]
            shares[f"{language}_{kind}"] = gold / gain if gain > 0 else float("nan")
    return {name: (share if np.isfinite(share) else 0.0) for name, share in shares.items()}


def table_rows(result: dict[str, Any]) -> Iterator[str]:
    """The table as lines of text."""
    heads = ("taste", "English", "gold", "Chinese", "gold", "varied", "ink obeyed")
    yield f"{'':12}{'win':>7}{'95 %':>14}" + "".join(f"{head:>{max(9, len(head) + 2)}}" for head in heads)
    for name, row in result["stages"].items():
        low, high = row["win_ci"]
        english, chinese = (row[language]["open"] for language in LANGUAGES)
        yield (
            f"{name:12}{row['win']:7.3f}{f'{low:.3f}-{high:.3f}':>14}{row['utility']:9.3f}{english['exact']:9.3f}"
            f"{english['gold_exact']:9.3f}{chinese['exact']:9.3f}{chinese['gold_exact']:9.3f}{row['diversity']:9.3f}"
            f"{row['obeyed']['ink']:12.3f}"
        )
    for name, row in result["without_training"].items():
        low, high = row["win_ci"]
        yield f"{name:12}{row['win']:7.3f}{f'{low:.3f}-{high:.3f}':>14}{row['utility']:9.3f}{row['exact']:9.3f} (both)"
    yield "full captions, exact (gold), English and Chinese:"
    for name, row in result["stages"].items():
        cells = [
            f"{row[language][kind]['exact']:.3f} ({row[language][kind]['gold_exact']:.3f})"
            for kind in ("captions", "captions_guided") for language in LANGUAGES if kind in row[language]
        ]  # fmt: skip
        yield f"{name:12}{'   '.join(cells)}"
    yield f"{result['total_seconds']:.0f} s in all, {result['peak_memory_mb']:.0f} MB at most"
