"""ImageRewardDB (Xu et al., arXiv:2304.05977): a prompt, its images, and their ranks; equal ranks are a tie.

Three layouts are read: an entry a prompt with lists of `generations` and of their `ranking`, and the two of the hub.
Its subsets have a row an image with `prompt_id`, `prompt`, `rank` and the image as `image_path` or, in Parquet, as
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
    RowAnswer,
    carried,
    either,
    extra,
    png_path,
    reason_of,
    renamed,
    row_answer,
)
from preference_data.exchange.formats.values import whole
from preference_data.exchange.judgements import Judgement
from preference_data.records import ImageRef

RANKS = {"first": [1, 2], "second": [2, 1]}
IMAGES = ("image", "image_path", "img_path", "path")
"""Names of a row's image, the first one that is there."""


def encode(judgements: Sequence[Judgement], _: Callable[[ImageRef], bytes]) -> list[dict[str, Any]]:
    """Write two generations an entry, 1 as the better rank."""
    return [
        {"id": j.prompt.id, "prompt": j.prompt.text, "generations": [png_path(j.first), png_path(j.second)],
         "ranking": RANKS.get(j.outcome, [1, 1]), "glyphlab": carried(j)}
        for j in judgements
    ]  # fmt: skip


def decode(row: Row) -> RowAnswer | None:
    """Read an entry of two images, as `spread` makes them."""
    images, ranks = row["generations"], row["ranking"]
    outcome = "tie" if ranks[0] == ranks[1] else "first" if ranks[0] < ranks[1] else "second"
    return row_answer(row["prompt"], either(images[0], "a generation"), either(images[1], "a generation"), outcome,
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
                raise ValueError(f"the rows of prompt_id {group} do not stand together, and they hold their images: "
                                 "sort the file by prompt_id")  # fmt: skip
            if _holds_image(row):  # images of one prompt at a time
                for before in [name for name in waiting if name != group]:
                    done.add(before)
                    yield from _ranked(waiting.pop(before), problems)
            waiting[group].append((number, row))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problems.append((number, reason_of(error)))
    for members in waiting.values():
        yield from _ranked(members, problems)


def pairs(row: Row) -> list[dict[str, Any]]:
    """An entry of K images as its pairs; one of two as itself. Raises ValueError when ranks and images differ."""
    images, ranks = list(row["generations"]), row["ranking"]
    if isinstance(ranks, str) or len(images) != len(ranks) or len(images) < 2:
        raise ValueError(f"{len(images)} generations and the ranks {ranks!r}; there is one rank for each, two at least")
    ranks = [whole(rank, "a rank") for rank in ranks]
    if len(images) == 2:
        return [{**row, "generations": images, "ranking": ranks}]
    return [
        {"prompt": row["prompt"], "generations": [images[i], images[j]], "ranking": [ranks[i], ranks[j]]}
        for i in range(len(images))
        for j in range(i + 1, len(images))
    ]


def _ranked(members: Sequence[tuple[int, Row]], problems: Problems) -> Iterator[tuple[int, Row]]:
    """The pairs of one prompt's rows; each has the number of the later of its two rows."""
    good: list[tuple[int, Row, int]] = []
    for number, row in members:
        try:
            if row["prompt"] != members[0][1]["prompt"]:
                raise ValueError(f"prompt_id {row['prompt_id']} has another prompt in row {members[0][0]}")
            if not any(row.get(name) for name in IMAGES):
                raise ValueError(f"it has no image; it must be called one of {', '.join(IMAGES)}, and is mapped "
                                 "with --fields image=NAME")  # fmt: skip
            good.append((number, row, whole(row["rank"], "rank")))
        except (ValueError, KeyError) as error:
            problems.append((number, reason_of(error)))
    if len(members) == 1:
        problems.append((members[0][0], f"prompt_id {members[0][1]['prompt_id']} has one image only; a rank compares"))
    for index_, (_, one, rank) in enumerate(good):
        for number, other, below in good[index_ + 1 :]:
            images = [next(r[n] for n in IMAGES if r.get(n)) for r in (one, other)]
            yield number, {"prompt": one["prompt"], "generations": images, "ranking": [rank, below]}


def _grouped(row: Row) -> Row:
    """A row of a subset called `group` under the names of an entry; any other as it is."""
    if not isinstance(row.get("rank"), list) or "generations" in row:
        return row
    lists = [row[name] for name in IMAGES if isinstance(row.get(name), list)]
    if not lists:
        raise ValueError(f"its rank is a list, and none of {', '.join(IMAGES)} is one")
    return {**row, "generations": lists[0], "ranking": row["rank"]}


def _holds_image(row: Row) -> bool:
    return any(not isinstance(row.get(name), str | None) for name in IMAGES)


IMAGEREWARD = Format(
    "imagereward", "json", True, encode, decode, "ImageRewardDB's rankings; equal ranks are ties", spread
)
