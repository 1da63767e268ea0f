"""Wraps an engine and records the metrics of a loss for each denoising step by itself.

Ratios and clip shares differ by orders of magnitude between steps, and a mean over the window hides the one that runs
away. A loss reports means over one micro-batch, and the micro-batches of GRPO and its variants hold one step each, so
nothing in a loss needs to know of this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from base_model.engine.engine import Engine, Loss, Micro
from rewards.serving.metering import Sums, means

NOTED = ("ratio", "clip_share")


class ByStep:
    """`engine`, and the means of `NOTED` by denoising step; `levels` are the sampler's noise levels, which number them.

    It answers what loops ask; the engine itself saves and loads. Micro-batches without a `transition`, and losses
    without these metrics, leave nothing.
    """

    def __init__(self, engine: Engine, levels: Sequence[float]) -> None:
        self._engine = engine
        self._step = {level: i for i, level in enumerate(levels)}
        self._seen: dict[str, list[Tensor]] = {}
        self.rank, self.world_size, self.device = engine.rank, engine.world_size, engine.device
        self.module: nn.Module = engine.module

    @property
    def updates(self) -> int:
        return self._engine.updates

    def update(self, micros: Sequence[Micro], loss: Loss[Micro]) -> dict[str, float]:
        """Updates as `Engine.update` says, and records the metrics of each denoising step."""

        def noting(micro: Micro) -> tuple[Tensor, Mapping[str, Tensor | float]]:
            value, metrics = loss(micro)
            self._note(getattr(micro, "transition", None), metrics)
            return value, metrics

        return self._engine.update(micros, noting)

    def _note(self, transition: Any, metrics: Mapping[str, Tensor | float]) -> None:
        step = self._step.get(getattr(transition, "sigma", -1.0))
        for name in NOTED if step is not None else ():
            if name in metrics:
                self._seen.setdefault(f"{name}/step_{step}", []).append(torch.as_tensor(metrics[name]).detach())

    def drain(self) -> dict[str, float]:
        """Means since the last time, as metrics such as "clip_share/step_2", and start again from nothing."""
        return means([self.sums()])

    def sums(self) -> Sums:
        """What `drain` gives, before it is divided, so that the sums of several ranks can be added up."""
        seen, self._seen = self._seen, {}
        return {
            name: (float(torch.stack(values).double().sum()), float(len(values)))
            for name, values in sorted(seen.items())
        }

    def gather(self, x_B: Tensor) -> Tensor:
        """See `Engine.gather`."""
        return self._engine.gather(x_B)

    def averaged(self) -> AbstractContextManager[None]:
        """See `Engine.averaged`."""
        return self._engine.averaged()


def rewards_of(reward_BK: Tensor, weights: Sequence[float]) -> Tensor:
    """[B] what each image is worth: the value, or the weighted sum of its parts."""
    return reward_BK[:, 0] if not weights else (reward_BK * reward_BK.new_tensor(weights)).sum(1)


def group_means(reward_BK: Tensor, weights: Sequence[float], group: int) -> Tensor:
    """[P] mean reward of each group's judged images; NaN where none was."""
    return rewards_of(reward_BK, weights).view(-1, group).nanmean(1)


def rollout_metrics(reward_BK: Tensor, weights: Sequence[float], teaches_PG: Tensor) -> dict[str, float]:
    """Returns the metrics of all sampled images: the rewards of the groups that teach alone would flatter."""
    value_B = rewards_of(reward_BK, weights)
    return {
        "reward": float(value_B.view(len(teaches_PG), -1).nanmean()),
        "unjudged": float(value_B.isnan().float().mean()),
        "groups_without_spread": float((~teaches_PG.any(1)).float().mean()),
    }
