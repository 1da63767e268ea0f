"""HPDv3 (Ma et al., arXiv:2508.03789): one entry a pair of images, the better one first as path1, with vote counts.

The better image always comes first: shuffle the sides before any judge that sees both. There is no place for a tie.
Both a JSON list and JSON lines are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from preference_data.campaign.campaigns import label
from preference_data.exchange.formats.preference_format import (
    Format,
    Row,
    RowAnswer,
    carried,
    extra,
    file,
    png_path,
    row_answer,
)
from preference_data.exchange.formats.values import counts, number
from preference_data.exchange.judgements import Judgement
from preference_data.records import ImageRef


def encode(judgements: Sequence[Judgement], _: Callable[[ImageRef], bytes]) -> list[dict[str, Any]]:
    """`choice_dist` counts votes for path1 and path2, `confidence` is path1's share; 1 and 0 votes without any."""
    rows = []
    for j in judgements:
        won = j.outcome == "first"
        better, worse = (j.first, j.second) if won else (j.second, j.first)
        votes = [j.votes[0], j.votes[1]] if won else [j.votes[1], j.votes[0]]
        votes = votes if sum(votes) else [1, 0]
        rows.append({
            "path1": png_path(better), "path2": png_path(worse), "prompt": j.prompt.text, "choice_dist": votes,
            "confidence": votes[0] / sum(votes), "model1": label(better), "model2": label(worse),
            "glyphlab": carried(j),
        })  # fmt: skip
    return rows


def decode(row: Row) -> RowAnswer | None:
    """Read path1 as the better one; equal counts are a tie. Raises ValueError when the counts prefer path2."""
    extras = extra(row)
    better = file(row, "path1", row.get("model1") or "unknown")
    worse = file(row, "path2", row.get("model2") or "unknown")
    if extras.get("outcome") == "second":
        return row_answer(row["prompt"], worse, better, "second", extras)
    if extras:
        return row_answer(row["prompt"], better, worse, "first", extras)
    votes = _votes(row)
    if votes[0] < votes[1]:
        raise ValueError(f"choice_dist is {list(votes)}: it counts more votes for path2, and path1 is the better one")
    outcome = "tie" if sum(votes) and votes[0] == votes[1] else "first"
    decoded = row_answer(row["prompt"], better, worse, outcome, extras)
    return RowAnswer(
        decoded.prompt, decoded.first, decoded.second, outcome, {"votes": (*votes, 0), "decided_by": "majority"}
    )


def _votes(row: Row) -> tuple[int, ...]:
    """Votes for path1 and path2; none where only a share is known. Raises ValueError when they disagree."""
    share = row.get("confidence")
    share = None if share is None else number(share, "confidence", 0.0, 1.0)
    votes = (0, 0) if row.get("choice_dist") is None else counts(row["choice_dist"], "choice_dist", 2)
    if not sum(votes) and share is not None and share < 0.5:
        raise ValueError(f"confidence is {share}: it is path1's share of the votes, and path1 is the better one")
    return votes


HPDV3 = Format("hpdv3", "json", False, encode, decode, "HPDv3; the better image first, no ties")
