"""What is compared: images with the scores of every reward, pairs of them, and what people answered.

Shapes: R rewards, P images, N pairs, A answers. An image under two prompts is two images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from preference_data.comparisons import Comparison, people_only
from preference_data.records import ImageRef, Prompt

LONG, WIDE, SMALL_TEXT = 200, 1.4, 12
"""A long prompt has more characters than LONG, a wide image is WIDE times as wide as high or the reverse, and a long
text to be drawn has more than SMALL_TEXT characters."""


@dataclass(frozen=True)
class PromptImage:
    """An image of a prompt."""

    prompt: Prompt
    image: ImageRef


@dataclass(frozen=True)
class Pairwise:
    """What a judge of pairs said: P(the left one is better), asked with the left one first and with it second. NaN =
    no answer. Both arrays have one entry a pair."""

    left_first_N: np.ndarray
    left_second_N: np.ndarray

    @property
    def gap_N(self) -> np.ndarray:
        """Log-odds of the mean over both orders; of one where the other is missing."""
        both = np.stack([self.left_first_N, self.left_second_N])
        known = ~np.isnan(both)
        mean = np.where(known.any(0), np.where(known, both, 0.0).sum(0) / np.maximum(known.sum(0), 1), np.nan)
        p = np.clip(mean, 1e-6, 1 - 1e-6)
        gap: np.ndarray = np.log(p) - np.log1p(-p)
        return gap


@dataclass(frozen=True)
class Table:
    """Everything that the sections of a comparison read.

    score_RP: NaN = not judged; a whole row of NaN for a judge of pairs. gap_RN: how much better the left image is.
    vote_N3: answers for left, tie, right. both_bad_N: those of the ties that said "both bad".
    """

    rewards: tuple[str, ...]
    images: tuple[PromptImage, ...]
    left_N: np.ndarray
    right_N: np.ndarray
    vote_N3: np.ndarray
    both_bad_N: np.ndarray
    prompt_N: np.ndarray
    answer_pair_A: np.ndarray
    answer_A3: np.ndarray
    answer_person_A: np.ndarray
    annotators: tuple[str, ...]
    score_RP: np.ndarray
    gap_RN: np.ndarray
    pairwise: Mapping[str, Pairwise] = field(default_factory=dict)

    @property
    def label_N(self) -> np.ndarray:
        """1 = the left one is better, -1 = the right one, 0 = a tie or no plurality."""
        left, tie, right = self.vote_N3.T
        label: np.ndarray = np.where((left > right) & (left > tie), 1, np.where((right > left) & (right > tie), -1, 0))
        return label

    @property
    def share_N(self) -> np.ndarray:
        """Share of the decided answers that prefer the left one; 0.5 without any."""
        left, _, right = self.vote_N3.T
        share: np.ndarray = np.where(left + right > 0, left / np.maximum(left + right, 1e-12), 0.5)
        return share

    @property
    def decided_N(self) -> np.ndarray:
        """Share of a pair's answers that are decided: its weight where only decided answers count."""
        decided: np.ndarray = (self.vote_N3[:, 0] + self.vote_N3[:, 2]) / np.maximum(self.vote_N3.sum(1), 1e-12)
        return decided


def build(
    comparisons: Sequence[Comparison], scores: Mapping[str, np.ndarray], pairwise: Mapping[str, Pairwise] | None = None
) -> Table:
    """Gather people's answers into pairs, whichever side an image stood on; machines' only where no person answered.

    `scores`: reward -> [P] in the order of `pictures`.
    `pairwise`: further judges, over the pairs in the order of `pairs_of`. ValueError when a length does not fit.
    """
    shown = images_of(comparisons)
    index = {(p.prompt.id, p.image.sha256): i for i, p in enumerate(shown)}
    pairs = pairs_of(comparisons)
    number = {key: i for i, key in enumerate(pairs)}
    vote_N3, bad_N = np.zeros((len(pairs), 3)), np.zeros(len(pairs))
    answer = people_only(comparisons)
    names = tuple(sorted({c.annotator for c in answer}))
    person = {name: i for i, name in enumerate(names)}
    pair_A, answer_A3, person_A = [], [], []
    for c in answer:
        left, right = index[c.prompt.id, c.left.sha256], index[c.prompt.id, c.right.sha256]
        turned = (left, right) not in number
        row = number[(right, left) if turned else (left, right)]
        label = c.label[::-1] if turned else c.label
        vote_N3[row] += label
        bad_N[row] += c.outcome == "both_bad"
        pair_A.append(row)
        answer_A3.append(label)
        person_A.append(person[c.annotator])
    left_N, right_N = np.array([k[0] for k in pairs]), np.array([k[1] for k in pairs])
    ids = {prompt: i for i, prompt in enumerate(dict.fromkeys(p.prompt.id for p in shown))}
    prompt_N = np.array([ids[shown[i].prompt.id] for i in left_N])
    pairwise = pairwise or {}
    rewards = (*scores, *pairwise)
    score_RP = np.array([scores[r] if r in scores else np.full(len(shown), np.nan) for r in rewards])
    if score_RP.shape != (len(rewards), len(shown)):
        raise ValueError(f"scores are {score_RP.shape}; there are {len(rewards)} rewards and {len(shown)} images")
    gap_RN = np.array([
        pairwise[r].gap_N if r in pairwise else score_RP[k, left_N] - score_RP[k, right_N]
        for k, r in enumerate(rewards)
    ])  # fmt: skip
    return Table(
        rewards, tuple(shown), left_N, right_N, vote_N3, bad_N, prompt_N, np.array(pair_A), np.array(answer_A3),
        np.array(person_A), names, score_RP, gap_RN, pairwise,
    )  # fmt: skip


def images_of(comparisons: Sequence[Comparison]) -> list[PromptImage]:
    """The different images, in the order they first come."""
    table: dict[tuple[str, str], PromptImage] = {}
    for c in comparisons:
        for image in (c.left, c.right):
            table.setdefault((c.prompt.id, image.sha256), PromptImage(c.prompt, image))
    return list(table.values())


def pairs_of(comparisons: Sequence[Comparison]) -> list[tuple[int, int]]:
    """The different pairs as places in `pictures_of`, each once, sides as they first came."""
    index = {(p.prompt.id, p.image.sha256): i for i, p in enumerate(images_of(comparisons))}
    table: dict[tuple[int, int], tuple[int, int]] = {}
    for c in comparisons:
        key = index[c.prompt.id, c.left.sha256], index[c.prompt.id, c.right.sha256]
        low, high = sorted(key)
        table.setdefault((low, high), key)
    return list(table.values())


def slices(table: Table) -> dict[str, np.ndarray]:
    """Which pairs belong to which slice: the prompts' categories and languages, and what can be told from the prompt
    and the sizes. A slice that holds all pairs or none tells nothing and is left out."""
    entries: dict[str, np.ndarray] = {}
    prompts = [table.images[i].prompt for i in table.left_N]
    for name in sorted({c for p in prompts for c in p.category}):
        entries[name] = np.array([name in p.category for p in prompts])
    for language in sorted({p.language for p in prompts}):
        entries[f"language {language}"] = np.array([p.language == language for p in prompts])
    entries["asks for text"] = np.array([bool(p.spans) for p in prompts])
    entries["asks for no text"] = ~entries["asks for text"]
    entries["several texts"] = np.array([len(p.spans) > 1 for p in prompts])
    entries["long text"] = np.array([sum(map(len, p.spans)) > SMALL_TEXT for p in prompts])
    entries["long prompt"] = np.array([len(p.text) > LONG for p in prompts])
    aspect = np.array([table.images[i].image.width / table.images[i].image.height for i in table.left_N])
    entries["wide or tall"] = np.maximum(aspect, 1 / aspect) > WIDE
    entries["people disagree"] = (table.share_N > 0) & (table.share_N < 1)
    return {name: rows for name, rows in entries.items() if rows.any() and not rows.all()}
