"""Answers to "which of these two images?": every outcome, who gave it, and how strongly. Ties stay ties.

A `PreferencePair` is what training on winners needs and cannot hold a tie; a `Comparison` is what was answered. A file
of either kind, or of judgements exported from a store, or of all of them, reads as comparisons.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from preference_data.line_files import read_json_lines
from preference_data.records import (
    OUTCOMES,
    ImageRef,
    PreferencePair,
    Prompt,
    image_from_json,
    pair_from_json,
    prompt_from_json,
    prompt_id,
    to_json,
    wrong_fields,
)

MACHINE = "machine:"
"""What the names of annotators begin with that are rewards or other programs."""
EVERYBODY = "human:everybody"
"""Whom answers of nobody named belong to; several about one pair are of different people."""
TIES = ("tie", "both_good", "both_bad")
SHARES = ("left", "tie", "right")
"""The order of the three shares of a soft label."""
SIDES = {"first": "left", "second": "right"}
"""What a judgement's outcomes are called here."""
JUDGED = (
    "prompt", "first", "second", "outcome", "annotator", "strength", "axes", "tags", "rationale", "at", "propensity",
    "votes", "decided_by", "reading_shown", "seconds",
)  # fmt: skip
"""Fields of an exported judgement; the first five are always there."""

OPTIONAL = ("strength", "shares", "reading_shown")
"""Fields of a comparison that a line may leave out."""


@dataclass(frozen=True)
class Comparison:
    """One answer about two images of one prompt.

    annotator: who answered, such as ``human:ada`` or ``machine:ocr``. strength: how much better, at least 0 and in the
    annotator's own units, None when it was not asked. shares: of left, tie and right answers, where only an aggregate
    is known; they sum to 1, and ``outcome`` is then the most frequent one.
    """

    prompt: Prompt
    left: ImageRef
    right: ImageRef
    outcome: str
    annotator: str
    strength: float | None = None
    shares: tuple[float, float, float] | None = None
    reading_shown: bool | None = None
    """what a machine read in the images had been shown to who answered; None where that is not known"""

    def __post_init__(self) -> None:
        where = f"comparison of prompt {self.prompt.id}"
        if self.outcome not in OUTCOMES:
            raise ValueError(f"{where}: outcome is {self.outcome!r}; choose one of {', '.join(OUTCOMES)}")
        if self.annotator is not None and not isinstance(self.annotator, str):
            raise ValueError(f"{where}: annotator is {self.annotator!r}; it must be a text such as 'human:ada'")
        if not self.annotator:
            raise ValueError(f"{where}: nobody is named as its annotator; say who answered, e.g. 'human:ada'")
        if self.left.sha256 == self.right.sha256:
            raise ValueError(f"{where}: both images are {self.left.sha256[:12]}; there was nothing to compare")
        if self.strength is not None and not (math.isfinite(self.strength) and self.strength >= 0):
            raise ValueError(f"{where}: strength is {self.strength}; it must be finite and not negative, or None")
        if self.shares is not None and not (
            len(self.shares) == 3 and min(self.shares) >= 0 and abs(sum(self.shares) - 1) < 1e-6
        ):
            raise ValueError(f"{where}: shares are {self.shares}; left, tie and right must sum to 1, none negative")

    @property
    def label(self) -> tuple[float, float, float]:
        """Shares of left, tie and right: the aggregate where there is one, else 1 for the outcome."""
        if self.shares is not None:
            return self.shares
        index = 1 if self.outcome in TIES else SHARES.index(self.outcome)
        return (float(index == 0), float(index == 1), float(index == 2))


def named(person: Any, field: str) -> Any:
    """Who answered, as text: other tools number people. ValueError for what names nobody, such as true or a list."""
    if isinstance(person, int) and not isinstance(person, bool):
        return str(person)
    if person is not None and not isinstance(person, str):
        raise ValueError(f"{field} is {person!r}; it must be a text or a whole number that says who answered")
    return person


def by_machine(annotator: str) -> bool:
    """Whether a reward or another program answered. It is nobody, however well it agrees."""
    return annotator.startswith(MACHINE)


def people_only(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """What people answered; everything when no person did, so that two machines can be compared."""
    return [c for c in comparisons if not by_machine(c.annotator)] or list(comparisons)


def from_pair(pair: PreferencePair) -> Comparison:
    """A training pair as the answer it came from; ``outcome`` says on which side the better image stood."""
    left, right = (pair.chosen, pair.rejected) if pair.outcome == "left" else (pair.rejected, pair.chosen)
    return Comparison(pair.prompt, left, right, pair.outcome, pair.source, pair.margin)


def from_judgement(data: Mapping[str, Any]) -> Comparison:
    """An exported judgement (preference_data/exchange/judgements.py): of one person, or an item's, which has its votes
    instead.

    ValueError naming missing or unknown fields.
    """
    missing = [name for name in JUDGED[:5] if name not in data]
    unknown = sorted(set(data) - set(JUDGED))
    if missing or unknown:
        raise ValueError(f"judgement {wrong_fields(missing, unknown)}; the fields are {', '.join(JUDGED)}")
    outcome = SIDES.get(data["outcome"], data["outcome"])
    first, second = image_from_json(data["first"]), image_from_json(data["second"])
    strength, shares = data.get("strength"), None
    cast: Sequence[int] = data.get("votes") or (0, 0, 0)
    total = sum(cast)
    settled = data.get("decided_by") == "adjudication"  # whoever adjudicated saw the votes and decided
    if outcome in ("left", "right"):
        settled = settled or cast[outcome == "right"] < cast[outcome == "left"]
    person = named(data["annotator"], "annotator")
    if not person and total and not settled:
        shares = (cast[0] / total, cast[2] / total, cast[1] / total)
    annotator = EVERYBODY if not person else person if by_machine(person) else f"human:{person}"
    return Comparison(
        prompt_from_json(data["prompt"]), first, second, outcome, annotator,
        None if strength is None else float(strength), shares, data.get("reading_shown"),
    )  # fmt: skip


def comparison_from_json(data: Mapping[str, Any]) -> Comparison:
    """A line of a file: a comparison, a training pair or a judgement. ValueError naming missing or unknown fields."""
    if not isinstance(data, Mapping):
        raise ValueError(f"expected an object with named fields, found {data!r}")
    if "chosen" in data:
        return from_pair(
            pair_from_json({**data, "source": named(data["source"], "source")} if "source" in data else data)
        )
    if "first" in data:
        return from_judgement(data)
    allowed = [field.name for field in fields(Comparison)]
    missing = [name for name in allowed if name not in data and name not in OPTIONAL]
    unknown = sorted(set(data) - set(allowed))
    if missing or unknown:
        raise ValueError(f"Comparison {wrong_fields(missing, unknown)}; the fields are {', '.join(allowed)}")
    shares = data.get("shares")
    return Comparison(
        prompt_from_json(data["prompt"]), image_from_json(data["left"]), image_from_json(data["right"]),
        data["outcome"], named(data["annotator"], "annotator"), data.get("strength"),
        None if shares is None else tuple(shares), data.get("reading_shown"),
    )  # fmt: skip


def load(path: Path) -> list[Comparison]:
    """Read a file of one comparison, pair or judgement a line. ValueError with the line number when one is neither.

    Paths of source images are absolute; those of the images that are compared are as they stand there. An id that
    stands for one prompt already, as in files that were put together, is replaced where it comes with another text."""
    results = []
    texts: dict[str, str] = {}
    for number, row in read_json_lines(path):
        try:
            one = comparison_from_json(row)
            prompt = one.prompt.located(path.parent) if one.prompt.sources else one.prompt
            if texts.setdefault(prompt.id, prompt.text) != prompt.text:
                prompt = replace(prompt, id=prompt_id(prompt.text, prompt.sources))
            results.append(replace(one, prompt=prompt) if prompt is not one.prompt else one)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} line {number}: {error}") from error
    if not results:
        raise ValueError(f"{path} holds no comparison; export answers or make pairs first")
    return results


def to_jsonl(comparisons: Iterable[Comparison | PreferencePair]) -> str:
    """Write one JSON object a line, which ``load`` reads back."""
    rows = (to_json(comparison) for comparison in comparisons)
    known = ({k: v for k, v in row.items() if (k, v) != ("reading_shown", None)} for row in rows)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in known)


def plain_words(text: str) -> str:
    """A prompt's text without what does not make it another prompt: case, punctuation, spaces, invisible characters.

    The text itself where nothing else is in it.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    left = "".join(" " if (kind := unicodedata.category(c))[0] in "PZ" or kind == "Cc" else c
                   for c in folded if unicodedata.category(c) != "Cf")  # fmt: skip
    return " ".join(left.split()) or text


def connected(comparisons: Sequence[Comparison]) -> list[str]:
    """For every comparison the name of its island: comparisons that share a prompt or an image have the same one.

    A prompt is its id and its words (`plain_words`). Splitting by island keeps a prompt, and an image that stands
    under several prompts, on one side of a split.
    """
    return islands(
        [f"prompt:{c.prompt.id}", f"words:{plain_words(c.prompt.text)}", c.left.sha256, c.right.sha256]
        for c in comparisons
    )


def islands(names: Iterable[Sequence[str]]) -> list[str]:
    """For every item, given by its names, the least name of its island: items that share a name are on the same one."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    firsts = []
    for own in names:
        firsts.append(own[0])
        for other in own[1:]:
            low, high = sorted((root(own[0]), root(other)))
            parent[high] = low
    return [root(first) for first in firsts]


SLACK, EXCESS = 0.05, 0.2
"""Of all comparisons: by how much an island may overfill a part of a split, and from where on a split is refused."""


def split(comparisons: Sequence[Comparison], shares: Sequence[float], seed: int) -> list[int]:
    """The part (0, 1, ...) of every comparison; parts have about the given shares and no prompt or image in common.

    Islands are dealt out in the order of a hash of (seed, island), so a file that grows keeps most of its split; one
    that is far too large for the part whose turn it is goes to the part with most room. Raises ValueError when a part
    would stay empty, or get `EXCESS` more than its share, because too much hangs together.
    """
    islands = connected(comparisons)
    sizes: dict[str, int] = {}
    for island in islands:
        sizes[island] = sizes.get(island, 0) + 1
    order = sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    requested = [share / sum(shares) * len(comparisons) for share in shares]
    slack = max(SLACK * len(comparisons), sorted(sizes.values())[len(sizes) // 2])
    filled, part, where = [0] * len(shares), 0, {}
    for name in order:
        while part < len(shares) - 1 and filled[part] >= requested[part] - 1e-9:
            part += 1
        index = part
        if filled[part] + sizes[name] > requested[part] + slack:
            index = max(range(len(shares)), key=lambda k: requested[k] - filled[k])
        where[name] = index
        filled[index] += sizes[name]
    if 0 in filled or any(f > a + EXCESS * len(comparisons) for f, a in zip(filled, requested, strict=True)):
        empty = f"part {filled.index(0)} of the split is empty: " if 0 in filled else ""
        raise ValueError(empty + _unsplittable(comparisons, islands, sizes, shares))
    return [where[island] for island in islands]


def _unsplittable(
    comparisons: Sequence[Comparison], islands: Sequence[str], sizes: Mapping[str, int], shares: Sequence[float]
) -> str:
    """Why no split into these shares is possible, and what would help."""
    largest = max(sizes, key=lambda name: sizes[name])
    inside = [c for c, island in zip(comparisons, islands, strict=True) if island == largest]
    words = {plain_words(c.prompt.text) for c in inside}
    under: dict[str, set[str]] = {}
    for c in inside:
        for image in (c.left, c.right):
            under.setdefault(image.sha256, set()).add(plain_words(c.prompt.text))
    shared = max(under, key=lambda sha: len(under[sha]))
    parts = " and ".join(f"{share / sum(shares):.0%}" for share in shares)
    reason = (
        f"{len(comparisons)} comparisons cannot be split into {parts}: they form {len(sizes)} groups that share a "
        f"prompt or an image, and the largest has {sizes[largest]}"
    )
    if len(words) > 1 and sizes[largest] * 2 > len(comparisons):
        return (
            f"{reason}, because the image {shared[:12]} stands under {len(under[shared])} of its {len(words)} prompts"
            "; more prompts cannot help while they share images: leave out the answers about it"
        )
    if sizes[largest] * 2 > len(comparisons):
        return f"{reason}, all about one prompt; collect answers on other prompts, or leave some of these out"
    return f"{reason}; collect answers on more prompts"
