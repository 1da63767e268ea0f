"""Is the comparison itself sound? Leaks from training, images and pairs that are there twice, answers that
contradict.

A reward that was trained on a prompt or an image of the comparison has seen the answers; its accuracy here says
nothing about new ones. What a reward of our own has seen is on record; of others' weights only they know.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from preference_data.comparisons import MACHINE, Comparison, by_machine, plain_words
from preference_data.records import to_json
from rewards.comparison.checks.likeness import CHANCE, alike
from rewards.comparison.score_table import Table


class Seen(NamedTuple):
    """What a reward saw in training: prompts by id and by the hash of their words, images by hash and by look."""

    prompts: frozenset[str]
    images: frozenset[str]
    words: frozenset[str] = frozenset()
    perceptual_hashes: np.ndarray | None = None


def words_hash(text: str) -> str:
    """Of a prompt's words, the same for another id, other capitals, punctuation or spaces."""
    return hashlib.sha256(plain_words(text).encode()).hexdigest()[:32]


def hygiene(
    comparisons: Sequence[Comparison], table: Table, seen: Mapping[str, tuple[frozenset[str], frozenset[str]] | Seen],
    checks: Mapping[str, np.ndarray],
) -> dict[str, Any]:  # fmt: skip
    """Counts. `seen`: reward -> its training. `looks`: image hash -> `likeness.look`, of those that were opened."""
    prompts = {p.prompt.id for p in table.images}
    hashes = {p.image.sha256 for p in table.images}
    leaks = []
    texts_of = {p.prompt.id: words_hash(p.prompt.text) for p in table.images}
    known = sorted(checks)
    check_PK = np.array([checks[sha] for sha in known])
    for name, values in seen.items():
        trained = Seen(*values)
        same = hashes & trained.images
        near = (
            np.zeros(len(known), bool)
            if trained.perceptual_hashes is None
            else alike(check_PK, trained.perceptual_hashes)
        )
        alike_only = {sha for sha, is_near in zip(known, near, strict=True) if is_near} - same
        leaks.append({
            "reward": name, "of_prompts": len(prompts), "of_pictures": len(hashes), "alike": len(alike_only),
            # an id alone may be that of another prompt in another file: "0", "1", ...
            "prompts": sum(w in trained.words if trained.words else i in trained.prompts for i, w in texts_of.items()),
            "pictures": len(same) + (len(alike_only) if len(alike_only) > CHANCE * len(hashes) else 0),
        })  # fmt: skip
    requested: dict[tuple[str, frozenset[str], str], int] = {}
    for c in comparisons:
        key = (c.prompt.id, frozenset((c.left.sha256, c.right.sha256)), c.annotator)
        requested[key] = requested.get(key, 0) + 1
    under: dict[str, set[str]] = {}
    for p in table.images:
        under.setdefault(p.image.sha256, set()).add(p.prompt.id)
    texts: dict[str, set[str]] = {}
    for p in table.images:
        texts.setdefault(plain_words(p.prompt.text), set()).add(p.prompt.id)
    machines = Counter(c.annotator.removeprefix(MACHINE) for c in comparisons if by_machine(c.annotator))
    return {
        "leaks": leaks, "answers": len(comparisons), "pairs": len(table.left_N), "prompts": len(prompts),
        "pictures": len(hashes), "annotators": len(table.annotators),
        "same_person_twice": sum(count - 1 for count in requested.values()),
        "pictures_under_several_prompts": sum(len(ids) > 1 for ids in under.values()),
        "prompts_alike": sum(len(ids) - 1 for ids in texts.values()),
        "circles": circles(table),
        "people_answered": any(not by_machine(c.annotator) for c in comparisons),
        "machine_answers": sum(machines.values()), "machines": machines,
        "readings": {str(k): sum(c.reading_shown is v for c in comparisons if not by_machine(c.annotator))
                     for k, v in (("shown", True), ("not_shown", False), ("unknown", None))},
    }  # fmt: skip


def circles(table: Table) -> int:
    """Triples of images of a prompt that people prefer in a circle (a over b over c over a)."""
    better: dict[int, set[int]] = {}
    for left, right, label in zip(table.left_N.tolist(), table.right_N.tolist(), table.label_N.tolist(), strict=True):
        if label:
            winner, loser = (left, right) if label > 0 else (right, left)
            better.setdefault(winner, set()).add(loser)
    count = 0
    for a, below in better.items():
        for b in below:
            count += sum(a in better.get(c, ()) for c in better.get(b, ()))
    return count // 3


def gallery(table: Table, most: int = 120) -> list[dict[str, Any]]:
    """Pairs to look at: where a reward most firmly says the opposite of people, and where rewards split.

    Firmness is the gap in units of the reward's own spread of gaps. Rewards take turns, so that each has its worst.
    """
    size_R = np.array([_spread(gap_N) for gap_N in table.gap_RN])
    scaled_RN = table.gap_RN / size_R[:, None]
    label_N = table.label_N
    against_RN = np.where(label_N != 0, -scaled_RN * label_N, -np.inf)
    known_RN = ~np.isnan(scaled_RN)
    split_N = np.where(
        known_RN.sum(0) > 1,
        np.where(known_RN, scaled_RN, -np.inf).max(0) - np.where(known_RN, scaled_RN, np.inf).min(0), -np.inf,
    )  # fmt: skip
    queues = [(name, np.nan_to_num(against_RN[r], nan=-np.inf)) for r, name in enumerate(table.rewards)]
    queues.append(("", split_N))
    chosen: dict[int, str] = {}
    for rank in range(most):
        for name, value_N in queues:
            if len(chosen) >= most or rank >= len(value_N):
                break
            order = np.argsort(-value_N, kind="stable")
            n = int(order[rank])
            if value_N[n] > 0 and np.isfinite(value_N[n]) and n not in chosen:
                chosen[n] = f"{name} against people" if name else "rewards split"
    return [_item(table, n, why, scaled_RN) for n, why in chosen.items()]


def _item(table: Table, n: int, why: str, scaled_RN: np.ndarray) -> dict[str, Any]:
    left, right = table.images[table.left_N[n]], table.images[table.right_N[n]]
    return {
        "record": {"prompt": to_json(left.prompt), "left": to_json(left.image), "right": to_json(right.image)},
        "why": why, "prompt": left.prompt.text, "prompt_id": left.prompt.id, "spans": list(left.prompt.spans),
        "category": list(left.prompt.category), "left": left.image.sha256, "right": right.image.sha256,
        "left_path": left.image.path, "right_path": right.image.path, "votes": table.vote_N3[n].tolist(),
        "people": int(table.label_N[n]),
        "rewards": {
            name: {
                "left": float(table.score_RP[r, table.left_N[n]]), "right": float(table.score_RP[r, table.right_N[n]]),
                "gap": float(scaled_RN[r, n]),
            }
            for r, name in enumerate(table.rewards)
        },
    }  # fmt: skip


def _spread(gap_N: np.ndarray) -> float:
    known = gap_N[~np.isnan(gap_N)]
    return float(np.sqrt((known**2).mean())) or 1.0 if len(known) else 1.0


def win_rates(table: Table) -> dict[str, Any]:
    """Model against model: the share of people's answers, and of every reward's verdicts, that the row's model wins.

    A tie, or an equal score, is half a win for each. {} when the images come from one model, or no pair compares two.
    """
    model_P = [p.image.provenance.model for p in table.images]
    names = sorted(set(model_P))
    if not 1 < len(names) <= 12:
        return {}
    where = {name: i for i, name in enumerate(names)}
    index_P = np.array([where[m] for m in model_P])
    votes = {"people": table.vote_N3}
    for r, name in enumerate(table.rewards):
        votes[name] = np.stack([table.gap_RN[r] > 0, table.gap_RN[r] == 0, table.gap_RN[r] < 0], 1).astype(float)
    entries = {}
    for name, vote_N3 in votes.items():
        won, count = np.zeros((len(names),) * 2), np.zeros((len(names),) * 2)
        known = (vote_N3.sum(1) > 0) & (index_P[table.left_N] != index_P[table.right_N])
        a, b, vote = index_P[table.left_N[known]], index_P[table.right_N[known]], vote_N3[known]
        np.add.at(won, (a, b), vote[:, 0] + vote[:, 1] / 2)
        np.add.at(won, (b, a), vote[:, 2] + vote[:, 1] / 2)
        np.add.at(count, (a, b), vote.sum(1))
        np.add.at(count, (b, a), vote.sum(1))
        with np.errstate(invalid="ignore"):
            entries[name] = {"share": (won / count).tolist(), "pairs": count.tolist()}
    return {"models": names, "judges": entries} if np.array(entries["people"]["pairs"]).any() else {}
