"""ImageRewardDB (Xu et al., arXiv:2304.05977): a prompt, its pictures, and their ranks; equal ranks are a tie.

Three layouts are read: an entry a prompt with lists of `generations` and of their `ranking`, and the two of the hub.
Its subsets have a row a picture with `prompt_id`, `prompt`, `rank` and the picture as `image_path` or, in Parquet, as
`image`; those called `group` have a row a prompt, with lists of both. 1 is the best rank. Nobody is named, so two
rankings of one prompt are those of two people.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from preference_data.exchange.formats.containers import Problems
from preference_data.exchange.formats.preference_format import (
    Format,
    Row,
    Said,
    carried,
    either,
    extra,
    place,
    reason_of,
    renamed,
    said,
)
from preference_data.exchange.formats.values import whole
from preference_data.exchange.judgements import Judgement
from preference_data.records import ImageRef

RANKS = {"first": [1, 2], "second": [2, 1]}
PICTURES = ("image", "image_path", "img_path", "path")
"""Names of a row's picture, the first one that is there."""


def encode(judgements: Sequence[Judgement], _: Callable[[ImageRef], bytes]) -> list[dict[str, Any]]:
    """Write two generations an entry, 1 as the better rank."""
    return [
        {"id": j.prompt.id, "prompt": j.prompt.text, "generations": [place(j.first), place(j.second)],
         "ranking": RANKS.get(j.outcome, [1, 1]), "glyphlab": carried(j)}
        for j in judgements
    ]  # fmt: skip


def decode(row: Row) -> Said | None:
    """Read an entry of two pictures, as `spread` makes them."""
    pictures, ranks = row["generations"], row["ranking"]
    outcome = "tie" if ranks[0] == ranks[1] else "first" if ranks[0] < ranks[1] else "second"
    return said(row["prompt"], either(pictures[0], "a generation"), either(pictures[1], "a generation"), outcome,
                extra(row))  # fmt: skip


def spread(
    rows: Iterable[tuple[int, Any]], problems: Problems, fields: Mapping[str, str]
) -> Iterator[tuple[int, Row]]:  # fmt: skip
    """Make a row of each of the K (K - 1) / 2 pairs of a ranking, whichever layout it has."""
    waiting: dict[str, list[tuple[int, Row]]] = defaultdict(list)
    done: set[str] = set()
    for number, row in rows:
        try:
            row = _grouped(renamed(row, fields))
            if "generations" in row or "rank" not in row:
                for pair in pairs(row):
                    yield number, pair
                continue
            group = str(row["prompt_id"])
            if group in done:
                raise ValueError(f"the rows of prompt_id {group} do not stand together, and they hold their pictures: "
                                 "sort the file by prompt_id")  # fmt: skip
            if _holds_picture(row):  # pictures of one prompt at a time
                for before in [name for name in waiting if name != group]:
                    done.add(before)
                    yield from _ranked(waiting.pop(before), problems)
            waiting[group].append((number, row))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problems.append((number, reason_of(error)))
    for members in waiting.values():
        yield from _ranked(members, problems)


def pairs(row: Row) -> list[dict[str, Any]]:
    """An entry of K pictures as its pairs; one of two as itself. Raises ValueError when ranks and pictures differ."""
    pictures, ranks = list(row["generations"]), row["ranking"]
    if isinstance(ranks, str) or len(pictures) != len(ranks) or len(pictures) < 2:
        raise ValueError(
            f"{len(pictures)} generations and the ranks {ranks!r}; there is one rank for each, two at least"
        )
    ranks = [whole(rank, "a rank") for rank in ranks]
    if len(pictures) == 2:
        return [{**row, "generations": pictures, "ranking": ranks}]
    return [
        {"prompt": row["prompt"], "generations": [pictures[i], pictures[j]], "ranking": [ranks[i], ranks[j]]}
        for i in range(len(pictures))
        for j in range(i + 1, len(pictures))
    ]


def _ranked(members: Sequence[tuple[int, Row]], problems: Problems) -> Iterator[tuple[int, Row]]:
    """The pairs of one prompt's rows; each has the number of the later of its two rows."""
    good: list[tuple[int, Row, int]] = []
    for number, row in members:
        try:
            if row["prompt"] != members[0][1]["prompt"]:
                raise ValueError(f"prompt_id {row['prompt_id']} has another prompt in row {members[0][0]}")
            if not any(row.get(name) for name in PICTURES):
                raise ValueError(f"it has no picture; it must be called one of {', '.join(PICTURES)}, and is mapped "
                                 "with --fields image=NAME")  # fmt: skip
            good.append((number, row, whole(row["rank"], "rank")))
        except (ValueError, KeyError) as error:
            problems.append((number, reason_of(error)))
    if len(members) == 1:
        problems.append(
            (members[0][0], f"prompt_id {members[0][1]['prompt_id']} has one picture only; a rank compares")
        )
    for place_, (_, one, rank) in enumerate(good):
        for number, other, below in good[place_ + 1 :]:
            pictures = [next(r[n] for n in PICTURES if r.get(n)) for r in (one, other)]
            yield number, {"prompt": one["prompt"], "generations": pictures, "ranking": [rank, below]}


def _grouped(row: Row) -> Row:
    """A row of a subset called `group` under the names of an entry; any other as it is."""
    if not isinstance(row.get("rank"), list) or "generations" in row:
        return row
    lists = [row[name] for name in PICTURES if isinstance(row.get(name), list)]
    if not lists:
        raise ValueError(f"its rank is a list, and none of {', '.join(PICTURES)} is one")
    return {**row, "generations": lists[0], "ranking": row["rank"]}


def _holds_picture(row: Row) -> bool:
    return any(not isinstance(row.get(name), str | None) for name in PICTURES)


IMAGEREWARD = Format(
    "imagereward", "json", True, encode, decode, "ImageRewardDB's rankings; equal ranks are ties", spread
)
