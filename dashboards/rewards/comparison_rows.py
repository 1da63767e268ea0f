"""A comparison folder as rows for a screen, and the pairs of it that a person chose. No Streamlit here.

Everything comes from comparison.json; null there is NaN here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preference_data.comparisons import Comparison, to_jsonl
from preference_data.line_files import existing
from preference_data.records import ImageRef, Prompt, SourceImage, image_from_json, prompt_from_json

REPORT = "comparison.json"
SORTS = ("most against people", "rewards most apart", "fewest answers", "prompt")
UNANSWERED = "nobody:asked"
"""The annotator of a pair that is only to be asked about."""


@dataclass(frozen=True)
class Disagreement:
    """A pair on which rewards oppose people or each other. gap: reward -> how much better it finds the left image."""

    prompt: Prompt
    left: ImageRef
    right: ImageRef
    why: str
    votes: tuple[float, float, float]
    people: int
    gap: Mapping[str, float]

    @property
    def name(self) -> str:
        """One name for the pair, whatever the order."""
        return "-".join([self.prompt.id, *sorted((self.left.sha256[:16], self.right.sha256[:16]))])

    @property
    def answers(self) -> float:
        return sum(self.votes)

    @property
    def distance(self) -> float:
        """How far the rewards are from each other."""
        known = [g for g in self.gap.values() if math.isfinite(g)]
        return max(known) - min(known) if len(known) > 1 else 0.0

    def against(self, reward: str = "") -> float:
        """How firmly a reward, or the firmest of all, says the opposite of people; 0 when nobody decided."""
        gaps = [self.gap[reward]] if reward else list(self.gap.values())
        known = [-g * self.people for g in gaps if math.isfinite(g)]
        return max(known, default=0.0) if self.people else 0.0


def read(folder: Path) -> dict[str, Any]:
    """The report. FileNotFoundError when the folder has none, ValueError when it is damaged."""
    path = folder / REPORT
    if not path.exists():
        raise FileNotFoundError(
            f"{folder} has no {REPORT}; make it with: glyphlab compare-rewards --pairs FILE -o {folder}"
        )
    try:
        report = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); compare again") from error
    if not isinstance(report, dict) or not {"rewards", "gallery", "advice"} <= set(report):
        raise ValueError(f"{path} is not a comparison of rewards; make one with: glyphlab compare-rewards")
    return report


def disagreements(report: Mapping[str, Any]) -> list[Disagreement]:
    """Returns the gallery's pairs as records."""
    results = []
    for item in report["gallery"]:
        record = item["record"]
        gap = {name: number(r["gap"]) for name, r in item["rewards"].items()}
        votes = tuple(float(v) for v in item["votes"])
        results.append(Disagreement(
            prompt_from_json(record["prompt"]), image_from_json(record["left"]), image_from_json(record["right"]),
            item["why"], (votes[0], votes[1], votes[2]), int(item["people"]), gap,
        ))  # fmt: skip
    return results


def number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def chosen(
    rows: Sequence[Disagreement], reward: str = "", category: str = "", words: str = "", sort: str = SORTS[0]
) -> list[Disagreement]:
    """Those that fit, in order. `reward`: only pairs on which it opposes people; `words`: parts of the prompt."""
    wanted = words.lower().split()
    selection = [
        row for row in rows
        if (not reward or row.against(reward) > 0) and (not category or category in row.prompt.category)
        and all(word in row.prompt.text.lower() for word in wanted)
    ]  # fmt: skip
    keys: dict[str, Any] = {
        SORTS[0]: lambda r: -r.against(reward), SORTS[1]: lambda r: -r.distance, SORTS[2]: lambda r: r.answers,
        SORTS[3]: lambda r: r.prompt.text,
    }  # fmt: skip
    return sorted(selection, key=keys[sort])


def file_of(folder: Path, image: ImageRef | SourceImage) -> Path | None:
    """The image's file below the folder of the answers, None when it is not there (or would lie outside)."""
    root = folder.resolve()
    for named in (root / image.path, root / "pictures" / f"{image.sha256}.png"):
        with suppress(FileNotFoundError):
            path = existing(named)
            if path.is_file() and path.resolve().is_relative_to(root):
                return path
    return None


def as_jsonl(rows: Sequence[Disagreement]) -> str:
    """The pairs as a file, to be asked about: undecided comparisons of nobody."""
    return to_jsonl(Comparison(r.prompt, r.left, r.right, "tie", UNANSWERED) for r in rows)


def accuracy_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The main table, a row a reward."""
    rows = []
    for r in report["accuracy"]["rewards"]:
        e = r["accuracy"]
        worst = next((x for x in report["advice"]["rewards"] if x["reward"] == r["reward"]), {"findings": []})[
            "findings"
        ]
        rows.append({
            "reward": r["reward"], "right": number(e["value"]), "low": number(e["low"]), "high": number(e["high"]),
            "pairs": e["n"], "judged": number(r["judged"]), "equal scores": number(r["equal_scores"]),
            "broken": sum(f["severity"] == "broken" for f in worst),
            "warnings": sum(f["severity"] == "warning" for f in worst),
        })  # fmt: skip
    return rows


def slice_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Accuracy by slice, a row a slice and a column a reward."""
    return [
        {"slice": s["slice"], "pairs": s["pairs"], "few": s["few"],
         **{name: number(e["value"]) for name, e in zip(report["rewards"], s["accuracy"], strict=True)}}
        for s in report["slices"]
    ]  # fmt: skip
