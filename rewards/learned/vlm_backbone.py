"""A vision-language model as the backbone of a reward: what it holds in mind when it is about to answer.

    (1)  h = the last hidden state behind the question about (prompt, image), where the answer would begin
    (2)  value = w . h                    w by our likelihood with ties and annotators (`rewards.learned.train`, eq. 1)

Of a frozen model, images are described once and their features kept. With ``rank`` above 0 an adapter on the language
model (Hu et al. 2021) is learned first, by the same likelihood on its own part of the answers, and (2) is fitted on the
rest, as for a network that is trained whole. A judge of the same model answers in words
(`rewards.language.local_judge`); `glyphlab compare-rewards` says which is better. HPSv3 (Ma et al. 2025) is a model of
this kind.

Shapes: P images, N answers, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from preference_data.records import Prompt
from rewards.image_scorer import Unjudged
from rewards.language.local_judge import ADVICE, source_images
from rewards.language.qwen_vl import LANGUAGE_LAYERS, QwenVl, float_kind, sees
from rewards.language.rubric import Rubric
from rewards.language.trained_judge import rubric_of
from rewards.learned.backbones import Opened
from rewards.learned.reward_settings import TrainReward
from rewards.learned.train import Answers, Likelihood
from rewards.published.published_weights import existing_or_hub, weights_digest
from rewards.scores import View, obstacles

WAY = "yes"
"""Which of a rubric's questions is asked."""
CHECKPOINT = "adapter.pt"
SAVE_EVERY = 50
"""updates between checkpoints"""
PARTS = "rank", "rate", "updates", "batch"


@dataclass(frozen=True)
class VlmBackbone:
    """The hidden state (1) of a Qwen-VL model, by folder or hub name; frozen, or adapted to the answers.

    ``rubric``: whose question about one image is asked; when empty, the one that the judge of the folder was trained
    by, or alignment. ``rank``: of the adapter, 0 = frozen.
    """

    version: ClassVar[int] = 1
    view: ClassVar[str] = "whole"
    side: ClassVar[int] = 0
    sees_sources: ClassVar[bool] = True
    """what a prompt asks to edit is shown too, where the rubric asks about it"""

    weights: str = ""
    rubric: str = ""
    rank: int = 0
    rate: float = 1e-4
    """learning rate of the adapter; its head learns ten times as fast"""
    updates: int = 300
    batch: int = 16
    """answers an update"""
    dtype: str = "float32"
    least_pixels: int = 56 * 56
    most_pixels: int = 1024 * 28 * 28

    def __post_init__(self) -> None:
        float_kind(self.dtype)
        if self.rank < 0 or not 0 < self.rate < 1 or min(self.updates, self.batch) < 1:
            numbers = ", ".join(f"{name}={getattr(self, name)}" for name in PARTS)
            raise ValueError(f"vlm:{numbers}: rank at least 0, rate between 0 and 1, the others above 0")

    @property
    def learns(self) -> bool:
        """Whether an adapter is trained."""
        return self.rank > 0

    def sees(self, height: int, width: int) -> View:
        """The whole image, scaled to the area that the model is shown."""
        return sees(height, width, self.least_pixels, self.most_pixels)

    def load(self, device: str = "cpu") -> HiddenStates:
        """Open the model as it is. FileNotFoundError for missing weights or rubric, ValueError for another model."""
        return HiddenStates(self, device)

    def fit(
        self, prompts: Sequence[Prompt], images: Sequence[Opened], answers: Answers, cfg: TrainReward, work: Path,
        device: str,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """The adapter's weights by name. A training that was stopped goes on from its last checkpoint in `work`."""
        return train_adapter(self, self.load(device), prompts, images, answers, cfg, work)

    def with_weights(self, weights: dict[str, np.ndarray], device: str) -> HiddenStates:
        """The model with a trained adapter. ValueError when it belongs to another one."""
        states = self.load(device)
        states.set_adapter({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
        return states

    def read_rubric(self) -> Rubric:
        """The rubric that is asked. Errors as `rewards.language.trained_judge.rubric_of`."""
        rubric = rubric_of(self.weights, self.rubric)
        rubric.check(WAY)
        return rubric


class HiddenStates:
    """The loaded form of `VlmBackbone`."""

    def __init__(self, settings: VlmBackbone, device: str) -> None:
        folder = existing_or_hub(settings.weights, "weights", ADVICE)
        self._rubric = settings.read_rubric()
        self._needs = self._rubric.needs(WAY)
        self._vlm = QwenVl(folder, device, settings.dtype, settings.least_pixels, settings.most_pixels)
        self.digest = f"{weights_digest(folder)}/{self._rubric.digest}"
        self.width = int(self._vlm.model.config.get_text_config().hidden_size)
        self.names = tuple(f"hidden_{i}" for i in range(self.width))
        self.adapter: dict[str, nn.Parameter] = add_adapter(self._vlm.model, settings.rank) if settings.rank else {}

    def __call__(self, prompts: Sequence[Prompt], images: Sequence[np.ndarray]) -> np.ndarray:
        rows = np.full((len(images), self.width), np.nan)
        for i, (prompt, image) in enumerate(zip(prompts, images, strict=True)):  # one by one: no padding, same bits
            try:
                with torch.inference_mode():
                    rows[i] = self.hidden(prompt, image).double().cpu().numpy()
            except Unjudged:
                pass
        return rows

    def hidden(self, prompt: Prompt, image_3HW: np.ndarray) -> Tensor:
        """(1): float32 [D]. ``Unjudged`` where the prompt or image cannot be put to the model."""
        if cause := obstacles([prompt], image_3HW[None], self._needs)[0]:
            raise Unjudged(cause, f"prompt {prompt.id} lacks what rubric {self._rubric.name} asks about")
        shown = [*source_images(self._rubric, "", prompt), image_3HW.transpose(1, 2, 0)]
        return self._vlm.hidden(self._rubric.question(WAY, prompt), shown)

    def set_adapter(self, weights: dict[str, Tensor]) -> None:
        """Put a trained adapter's weights in place. ValueError when names or shapes are others."""
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        if shapes != {name: tuple(p.shape) for name, p in self.adapter.items()}:
            raise ValueError("the adapter of this reward belongs to another model than its backbone names; train again")
        with torch.no_grad():
            for name, tensor in weights.items():
                self.adapter[name].copy_(tensor)


def add_adapter(model: Any, rank: int) -> dict[str, nn.Parameter]:
    """Put a LoRA of float32 weights into a model, whose own weights then learn nothing; the adapter's by name."""
    from peft import LoraConfig, inject_adapter_in_model

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    config: Any = LoraConfig
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inject_adapter_in_model(config(r=rank, lora_alpha=2 * rank, target_modules=LANGUAGE_LAYERS), model)
    adapter = {name: p for name, p in model.named_parameters() if "lora_" in name}
    for p in adapter.values():
        p.data = p.data.float()
        p.requires_grad_(True)
    return adapter


def train_adapter(
    settings: VlmBackbone, states: HiddenStates, prompts: Sequence[Prompt], images: Sequence[Opened], answers: Answers,
    cfg: TrainReward, work: Path,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The adapter's weights after AdamW on (1) of `rewards.learned.train`, whose rate falls to 0 in a straight line."""
    head = nn.Linear(states.width, 1, bias=False)
    nn.init.zeros_(head.weight)
    likelihood = Likelihood(answers, cfg)
    optimizer = torch.optim.AdamW([
        {"params": list(states.adapter.values()), "lr": settings.rate, "weight_decay": 0.0},
        {"params": list(head.parameters()), "lr": 10 * settings.rate, "weight_decay": 0.0},
        {"params": likelihood.parameters, "lr": 1e-2, "weight_decay": 0.0},
    ])  # fmt: skip
    start = [float(group["lr"]) for group in optimizer.param_groups]
    learned = [*states.adapter.values(), *head.parameters(), *likelihood.parameters]
    first = resumed(work / CHECKPOINT, learned, optimizer)

    def value_of(i: int) -> Tensor:
        value: Tensor = head(states.hidden(prompts[i], images[i]()).cpu()).squeeze()
        return value

    for update in range(first, settings.updates):
        rows = np.random.default_rng((cfg.seed, update)).integers(len(answers.left_N), size=settings.batch)
        shown: list[int] = np.unique(np.concatenate([answers.left_N[rows], answers.right_N[rows]])).tolist()
        for group, rate in zip(optimizer.param_groups, start, strict=True):
            group["lr"] = rate * (1 - update / settings.updates)
        optimizer.zero_grad()
        with torch.no_grad():
            seen = torch.stack([value_of(i) for i in shown])
        seen.requires_grad_(True)
        value_P = torch.zeros(len(images), dtype=torch.float64).index_put((torch.tensor(shown),), seen.double())
        likelihood(value_P, torch.from_numpy(rows)).backward()
        assert seen.grad is not None
        for i, slope in zip(shown, seen.grad, strict=True):  # the graph of one image at a time (Gao et al. 2021)
            (slope * value_of(i)).backward()
        optimizer.step()
        if (update + 1) % SAVE_EVERY == 0:
            save(work / CHECKPOINT, learned, optimizer, update + 1)
    return {name: p.detach().cpu().numpy().copy() for name, p in states.adapter.items()}


def save(path: Path, learned: Sequence[Tensor], optimizer: torch.optim.Optimizer, update: int) -> None:
    """Write what a stopped training goes on from, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    state = {"learned": [t.detach() for t in learned], "optimizer": optimizer.state_dict(), "update": update}
    torch.save(state, fresh)
    fresh.replace(path)


def resumed(path: Path, learned: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Set what is learned to the checkpoint's; the number of updates that it has, 0 where there is none."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for tensor, stored in zip(learned, state["learned"], strict=True):
            tensor.copy_(stored)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["update"])
