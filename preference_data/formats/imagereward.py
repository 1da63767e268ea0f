"""ImageRewardDB (Xu et al., arXiv:2304.05977): a prompt, its pictures, and their ranks; equal ranks are a tie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from preference_data.formats.interface import Format, Row, Said, carried, extra, file, place, said
from preference_data.judgements import Judgement
from preference_data.records import ImageRef

RANKS = {"first": [1, 2], "second": [2, 1]}


def encode(judgements: Sequence[Judgement], _: Callable[[ImageRef], bytes]) -> list[dict[str, Any]]:
    """Two generations an entry, 1 is the better rank."""
    return [
        {"id": j.prompt.id, "prompt": j.prompt.text, "generations": [place(j.first), place(j.second)],
         "ranking": RANKS.get(j.outcome, [1, 1]), "glyphlab": carried(j)}
        for j in judgements
    ]  # fmt: skip


def decode(row: Row) -> Said | None:
    """Entries of two pictures; longer rankings are split by the exchange."""
    pictures, ranks = row["generations"], row["ranking"]
    if len(pictures) != 2 or len(ranks) != 2:
        raise ValueError(f"{len(pictures)} generations and {len(ranks)} ranks; there is one rank for each of two")
    outcome = "tie" if ranks[0] == ranks[1] else "first" if ranks[0] < ranks[1] else "second"
    sides = {"0": pictures[0], "1": pictures[1]}
    return said(row["prompt"], file(sides, "0"), file(sides, "1"), outcome, extra(row))


def pairs(row: Row) -> list[dict[str, Any]]:
    """An entry of K pictures as its K (K - 1) / 2 pairs; one of two as itself."""
    pictures, ranks = list(row["generations"]), list(row["ranking"])
    if len(pictures) != len(ranks) or len(pictures) < 2:
        raise ValueError(
            f"{len(pictures)} generations and {len(ranks)} ranks; there is one rank for each, two at least"
        )
    if len(pictures) == 2:
        return [dict(row)]
    return [
        {"prompt": row["prompt"], "generations": [pictures[i], pictures[j]], "ranking": [ranks[i], ranks[j]]}
        for i in range(len(pictures))
        for j in range(i + 1, len(pictures))
    ]


IMAGEREWARD = Format("imagereward", "json", True, encode, decode, "ImageRewardDB's rankings; equal ranks are ties")
