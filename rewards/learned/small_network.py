"""A small network trained whole on the answers, where no frozen backbone knows what people look at.

    x -> three strided convolutions -> mean and spread over the image -> 128 features -> r

It is trained on its own part of the answers (`rewards.learned.train`, eq. 1, by AdamW on minibatches); the head, the
temperature and the annotators' reliability are then learned on answers that it has not seen, as for any frozen
backbone. Without that split its features would know the answers they are tested on, and the temperature would be too
sure.

Shapes: P images, N answers, F features, 3HW pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from preference_data.records import Prompt
from rewards.learned.backbones import Opened, squared
from rewards.learned.reward_settings import TrainReward
from rewards.learned.train import Answers, Likelihood

FILE = "network.safetensors"
SIDE = 48
FEATURES = 128


class SmallNet(nn.Module):
    """75,000 parameters; `features` is what the head is trained on later, `forward` the value it is trained with."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((3, 24, 5), (24, 48, 3), (48, 64, 3))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, k, stride=2, padding=k // 2) for a, b, k in sizes)
        self.value = nn.Linear(FEATURES, 1, bias=False)
        nn.init.zeros_(self.value.weight)

    def features(self, x_P3HW: Tensor) -> Tensor:
        for conv in self.convs:
            x_P3HW = gelu(conv(x_P3HW))
        return torch.cat([x_P3HW.mean((2, 3)), x_P3HW.std((2, 3))], 1)

    def forward(self, x_P3HW: Tensor) -> Tensor:
        values: Tensor = self.value(self.features(x_P3HW)).squeeze(-1)
        return values


def tensor(images: Iterable[np.ndarray]) -> Tensor:
    """float32 [P, 3, SIDE, SIDE] around 0, squashed, nothing cut off."""
    stacked = np.stack([squared(image, SIDE) for image in images]).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(stacked)).float() / 127.5 - 1.0


def train_network(
    images: Sequence[Opened], answers: Answers, cfg: TrainReward, steps: int = 600, batch: int = 64
) -> dict[str, np.ndarray]:
    """Weights by name. AdamW, 1e-3 down to 0 by a cosine; annotators and ties are learned beside it."""
    torch.manual_seed(cfg.seed)
    net, likelihood, x = SmallNet(), Likelihood(answers, cfg), tensor(opened() for opened in images)
    optimizer = torch.optim.AdamW([
        {"params": list(net.parameters()), "lr": 1e-3, "weight_decay": 0.05},
        {"params": likelihood.parameters, "lr": 1e-2, "weight_decay": 0.0},
    ])  # fmt: skip
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    random = np.random.default_rng(cfg.seed)
    for _ in range(steps):
        rows = torch.from_numpy(random.integers(len(answers.left_N), size=batch))
        sides = np.concatenate([answers.left_N[rows.numpy()], answers.right_N[rows.numpy()]])
        shown = torch.from_numpy(np.unique(sides))
        value_P = torch.zeros(len(x), dtype=torch.float64).index_put((shown,), net(x[shown]).double())
        loss = likelihood(value_P, rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {name: weight.detach().numpy().copy() for name, weight in net.state_dict().items()}


@dataclass(frozen=True)
class Network:
    """The features of a network that `train_network` made."""

    version: ClassVar[int] = 1
    view: ClassVar[str] = "squashed"
    side: ClassVar[int] = SIDE
    learns: ClassVar[bool] = True

    def load(self, device: str = "cpu") -> NetworkFeatures:
        """Raises FileNotFoundError: a network comes with the reward that it was trained for."""
        raise FileNotFoundError(f"the reward has no {FILE}; train it again with --backbone network")

    def fit(
        self, prompts: Sequence[Prompt], images: Sequence[Opened], answers: Answers, cfg: TrainReward, work: Path,
        device: str,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """Weights by name; it takes seconds on the host, and starts anew after a stop."""
        return train_network(images, answers, cfg)

    def with_weights(self, weights: dict[str, np.ndarray], device: str) -> NetworkFeatures:
        """Features by these weights."""
        return NetworkFeatures(weights, device)


class NetworkFeatures:
    """The loaded form of `Network`."""

    names = tuple(f"feature_{i}" for i in range(FEATURES))

    def __init__(self, weights: dict[str, np.ndarray], device: str = "cpu") -> None:
        self._net, self._device = SmallNet(), device
        self._net.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
        self._net.eval().to(device)

    def __call__(self, prompts: Sequence[Prompt], images: Sequence[np.ndarray]) -> np.ndarray:
        rows = []
        for image in images:  # one by one: a row does not depend on its neighbours, bit for bit
            with torch.inference_mode():
                rows.append(self._net.features(tensor([image]).to(self._device))[0].double().cpu().numpy())
        return np.array(rows, dtype=np.float64).reshape(len(rows), FEATURES)
