"""What a rewrite is worth: images of it by the image model, scored by a reward against the prompt as it was asked.

    (1)  r(prompt, rewrite) = mean_k reward(prompt, image_k),   image_k from the noise of (seed, step, prompt, k)

All rewrites of a prompt get the same noise, so what differs between them is the rewrite. One that breaks a rule is
never sampled and gets the lowest reward. NaN: not judged; it teaches nothing and counts in no mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from base_model.generate import generate
from base_model.policy_model import PolicyModel
from base_model.sample import Sampler
from base_model.seeding import generator
from preference_data.records import Prompt
from rewards.scores import Reward, Scores
from rewards.serving.workers import ScorerPool


def readable(model: PolicyModel, text: str) -> str:
    """Why an image model cannot read a text; "" where it can."""
    try:
        model.check_text(text, 0)
        if not model.keeps_base:  # which is quick
            model.encode_text([text])
    except ValueError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class RewriteScorer:
    """An image model and the pool that scores its images."""

    model: PolicyModel
    sampler: Sampler
    pool: ScorerPool
    reward: Reward
    seed: int
    images: int = 1
    """of each rewrite"""

    def values(self, prompts: Sequence[Prompt], texts: Sequence[str], numbers: Sequence[int], step: int) -> np.ndarray:
        """(1) of each text for its prompt; `numbers` address the prompts' noise. What was asked twice is made once."""
        keys = list(zip(numbers, texts, strict=True))
        unique = {key: i for i, key in reversed(list(enumerate(keys)))}
        rows = sorted(unique.values())
        wanted = [(i, k) for i in rows for k in range(self.images)]
        if not wanted:
            return np.zeros(0)
        noise = torch.cat([
            self.model.noise(1, generator(self.seed, step, numbers[i], f"rewriter image {k}")) for i, k in wanted
        ])  # fmt: skip
        images = generate(self.model, [texts[i] for i, _ in wanted], noise, self.sampler)
        scores: Scores = self.pool.submit([prompts[i] for i, _ in wanted], images).result()
        each = scores.value_B.reshape(len(rows), self.images)
        judged = ~np.isnan(each)
        mean = np.where(judged.any(1), np.where(judged, each, 0.0).sum(1) / np.maximum(judged.sum(1), 1), np.nan)
        by_row = dict(zip(rows, mean.tolist(), strict=True))
        return np.array([by_row[unique[key]] for key in keys])

    def ruled(
        self, prompts: Sequence[Prompt], texts: Sequence[str], numbers: Sequence[int], faults: Sequence[str], step: int
    ) -> np.ndarray:
        """(1) of each text, and the lowest reward where there is a fault."""
        good = [i for i, fault in enumerate(faults) if not fault]
        values = self.values(*([each[i] for i in good] for each in (prompts, texts, numbers)), step)  # type: ignore[misc]
        results = np.full(len(texts), lowest(self.reward, values))
        results[good] = values
        return results


def lowest(reward: Reward, values: np.ndarray) -> float:
    """The end of the reward's range; where it has none, below all that was judged."""
    if math.isfinite(reward.range[0]):
        return reward.range[0]
    judged = values[~np.isnan(values)]
    return float(judged.min() - max(1.0, np.ptp(judged))) if len(judged) else 0.0
