"""A reward that was trained from answers: a folder that `glyphlab train-reward` wrote.

    FOLDER/reward.json        what it is: backbone, feature names, temperature, annotators, the card's numbers
    FOLDER/weights.safetensors   mean and spread of the features, the head, and the heads that measure its uncertainty
    FOLDER/network.safetensors   only where the backbone was trained too
    FOLDER/trained_on.txt     the prompts and images that it has seen, as hashes: no evaluation may use them
    FOLDER/trained_on_looks.npy   how those images look (rewards/comparison/checks/likeness.py), to know them
    re-encoded
    FOLDER/held_out.jsonl     the answers that it has not seen: what it may be compared on
    FOLDER/model_card.md, data_card.md

    (1)  value = (r - centre) / T        in log-odds: s(value gap) is the share of people who would choose the left one

Shapes: B samples, F features, 3HW pixels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from preference_data.pixels import to_uint8
from preference_data.records import Prompt
from rewards.comparison.checks.hygiene import Seen
from rewards.learned.backbones import Extractor, LearningBackbone, ScalingBackbone, parse
from rewards.scores import Scores, View, obstacles, tabulate

log = logging.getLogger(__name__)

CONTENT, WEIGHTS, TRAINED_ON = "reward.json", "weights.safetensors", "trained_on.txt"
HASHES, HELD_OUT = "trained_on_looks.npy", "held_out.jsonl"
NETWORK = "network.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class Learned:
    """A reward model of our own, by folder; range [-inf, inf], in log-odds against an average training image.

    Parts: ``learned`` (the value) and ``spread``, the standard deviation of the value over heads that were fitted on
    reweighted prompts: where it is large the answers did not reach, and the value should not be climbed.
    """

    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    needs: ClassVar[tuple[str, ...]] = ()

    path: Path
    category: str = ""
    """judge only images of prompts of this category, such as open; those of others all get 0, so that in a mixture of
    parts this one says nothing about them"""

    def sees(self, height: int, width: int) -> View:
        """The whole image, at its own size or squashed to the backbone's square; never a crop."""
        backbone = parse(_content(Path(self.path))["backbone"])
        if isinstance(backbone, ScalingBackbone):
            return backbone.sees(height, width)
        return View(1.0, backbone.side or height, backbone.side or width, f"{backbone.view} image")

    def load(self, device: str = "cpu") -> LearnedScorer:
        """Open the folder. FileNotFoundError when it is none, ValueError when it is damaged or of another version."""
        return read(Path(self.path), device, self.category)


@dataclass(frozen=True)
class Head:
    """A fitted function of standardised features, in plain float64: the same bits for every batch."""

    weights: dict[str, np.ndarray]

    def __call__(self, x_F: np.ndarray) -> float:
        if "weight" in self.weights:
            return float(np.sum(self.weights["weight"][0] * x_F))
        hidden = np.tanh((self.weights["0.weight"] * x_F).sum(1) + self.weights["0.bias"])
        return float(np.sum(self.weights["2.weight"][0] * hidden))


class LearnedScorer:
    """A loaded reward model. ``name`` has the hash of its weights, so that a retrained one shares no scores."""

    def __init__(
        self, name: str, extractor: Extractor, mean_F: np.ndarray, std_F: np.ndarray, heads: Sequence[Head],
        centre: float, temperature: float, category: str = "",
    ) -> None:  # fmt: skip
        self.name = f"{name},category={category}" if category else name
        self._category = category
        self._extractor = extractor
        self._mean_F, self._std_F = mean_F, std_F
        self._heads = list(heads)
        self._centre, self._temperature = centre, temperature

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """Eq. (1). NaN: as `obstacles`, "features" (the backbone could not describe it) and "engine" (it raised)."""
        rows: list[dict[str, float] | str] = []
        for i, cause in enumerate(obstacles(prompts, images_B3HW)):
            rows.append(cause or self._score(prompts[i], images_B3HW[i]))
        return tabulate(rows, ("learned", "spread"))

    def _score(self, prompt: Prompt, image_3HW: np.ndarray) -> dict[str, float] | str:
        if self._category and self._category not in prompt.category:
            return {"learned": 0.0, "spread": 0.0}
        try:
            features_F = self._extractor([prompt], [to_uint8(image_3HW)])[0]
        except Exception:
            log.exception("%s could not describe the image of prompt %s; it is not judged (NaN)", self.name, prompt.id)
            return "engine"
        if not np.isfinite(features_F).all():
            return "features"
        x_F = (features_F - self._mean_F) / self._std_F
        results = [head(x_F) for head in self._heads]
        spread = float(np.std(results[1:] or [0.0])) / self._temperature
        return {"learned": (results[0] - self._centre) / self._temperature, "spread": spread}


def _content(folder: Path) -> dict[str, Any]:
    """What reward.json says. FileNotFoundError when there is none, ValueError when it is damaged or of another
    format."""
    if not (folder / CONTENT).exists():
        raise FileNotFoundError(
            f"{folder} is not a reward model; make one with: glyphlab train-reward --pairs FILE -o {folder}"
        )
    try:
        content: dict[str, Any] = json.loads((folder / CONTENT).read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / CONTENT} is damaged ({error}); train the reward again") from error
    if content.get("format") != FORMAT:
        raise ValueError(f"{folder} has format {content.get('format')!r}, this version reads {FORMAT}; train it again")
    return content


def read(folder: Path, device: str = "cpu", category: str = "") -> LearnedScorer:
    """The scorer of a folder. Errors as `Learned.load`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = _content(folder)
    try:
        raw = (folder / WEIGHTS).read_bytes()
        arrays = load(raw)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged ({error}); train the reward again") from error
    # the spread of a feature that never varies is infinite
    if odd := next((name for name, a in arrays.items() if not np.isfinite(1 / a if name == "std" else a).all()), ""):
        raise ValueError(f"{folder / WEIGHTS}: {odd} holds numbers that are not finite; train the reward again")
    backbone, own = parse(content["backbone"]), folder / NETWORK
    if isinstance(backbone, LearningBackbone) and own.exists():
        extractor = backbone.with_weights(load(own.read_bytes()), device)
        raw += own.read_bytes()
    else:
        extractor = backbone.load(device)
    if digest_of(extractor) != content.get("digest", ""):
        raise ValueError(f"{content['backbone']} is another model than {folder} was trained on; train the reward again")
    heads = []
    for number in range(content["heads"]):
        start = f"head_{number}."
        heads.append(Head({name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}))
    digest = hashlib.sha256(raw).hexdigest()[:12]
    name = f"learned:{content['backbone']}:{digest}"
    return LearnedScorer(
        name, extractor, arrays["mean"], arrays["std"], heads, content["centre"], content["temperature"], category
    )


def digest_of(extractor: Extractor) -> str:
    """Of the weights that describe an image, where they can change without the backbone's name; "" for others."""
    return str(getattr(extractor, "digest", ""))


def as_files(backbone: str, names: Sequence[str], trained: Any, card: dict[str, Any]) -> dict[str, bytes]:
    """The files of a reward model, by name; `trained` is `rewards.learned.train.Trained`, `card` further facts to
    keep.
    """
    from safetensors.numpy import save

    heads = (trained.fitted, *trained.heads)
    arrays = {"mean": trained.mean_F, "std": trained.std_F}
    for number, head in enumerate(heads):
        arrays |= {f"head_{number}.{name}": np.ascontiguousarray(a) for name, a in head.weights.items()}
    content = {
        "format": FORMAT, "backbone": backbone, "features": list(names), "heads": len(heads), "centre": trained.centre,
        "temperature": trained.temperature, "decay": trained.decay, **card,
    }  # fmt: skip
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return {WEIGHTS: save(arrays), CONTENT: text.encode()}


def trained_on(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """(prompt ids, image hashes) that a reward model has seen in training; FileNotFoundError without the list."""
    lines = (folder / TRAINED_ON).read_text("utf-8").split()
    prompts = frozenset(line.removeprefix("prompt:") for line in lines if line.startswith("prompt:"))
    return prompts, frozenset(line for line in lines if ":" not in line)


def training_of(folder: Path) -> Seen:
    """Everything on record of what a reward model has seen; one of an older version has no words and no looks."""
    prompts, images = trained_on(folder)
    lines = (folder / TRAINED_ON).read_text("utf-8").split()
    words = frozenset(line.removeprefix("words:") for line in lines if line.startswith("words:"))
    checks = np.load(folder / HASHES, allow_pickle=False) if (folder / HASHES).exists() else None
    return Seen(prompts, images, words, checks)


def learned_in(reward: object) -> list[Learned]:
    """The reward models inside a reward, however deep in mixtures."""
    if isinstance(reward, Learned):
        return [reward]
    if isinstance(reward, tuple | list):
        return [one for part in reward for one in learned_in(part)]
    if is_dataclass(reward):
        return [one for field in fields(reward) for one in learned_in(getattr(reward, field.name))]
    return []


def trained_in(reward: object) -> list[Path]:
    """The folders inside a reward that say what they were trained on: reward models, and judges (`vlm:weights=`)."""
    if isinstance(reward, Learned):
        return [Path(reward.path)]
    if isinstance(reward, tuple | list):
        return [one for part in reward for one in trained_in(part)]
    if not is_dataclass(reward):
        return []
    weights = getattr(reward, "weights", "")
    folder = Path(weights).expanduser() if weights and isinstance(weights, str) else None
    own = [folder] if folder and (folder / TRAINED_ON).is_file() else []
    return own + [one for field in fields(reward) for one in trained_in(getattr(reward, field.name))]


def learned_at(reward: Any, path: Path) -> Any:
    """The reward, with the reward models inside it read from another folder; their names in a mixture stay."""
    if isinstance(reward, Learned):
        return replace(reward, path=path)
    if isinstance(reward, tuple):
        return tuple(learned_at(part, path) for part in reward)
    if is_dataclass(reward) and learned_in(reward):
        inner = {field.name: getattr(reward, field.name) for field in fields(reward) if field.init}
        return replace(reward, **{name: learned_at(value, path) for name, value in inner.items()})  # type: ignore[type-var]
    return reward
