"""A vision language model as a judge, from its logits: one forward pass an image, nothing is sampled or parsed.

The question is a rubric's (``rewards.language.rubric``), the reading one of ``rewards.language.read_answer``: P("Yes")
or the expected value of five ratings. ``rewards.language.chat_judge`` asks a server the same questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from preference_data.image_files import read_image
from preference_data.records import Prompt
from rewards.image_scorer import ImageScorer, Unjudged
from rewards.language.pair_judges import PairJudge
from rewards.language.qwen_vl import QwenVl, sees
from rewards.language.read_answer import LEAST_MASS, PAIR_WORDS, READINGS, read_pair
from rewards.language.rubric import Rubric, read_rubric
from rewards.published.published_weights import existing_or_hub
from rewards.scores import View

ADVICE = "vlm needs the folder of a Qwen2.5-VL model, or a hub name such as Qwen/Qwen2.5-VL-7B-Instruct"


def source_image(folder: str, prompt: Prompt) -> np.ndarray:
    """The image that was edited, ``folder``/PROMPT_ID.png, as (H, W, 3) 8-bit; ``Unjudged`` "no_source" without."""
    path = Path(folder).expanduser() / f"{prompt.id}.png"
    try:
        return read_image(path)
    except (FileNotFoundError, ValueError) as error:
        raise Unjudged("no_source", f"the source picture {path} cannot be read: {error}") from error


def check_sources(rubric: Rubric, sources: str) -> None:
    """FileNotFoundError when the rubric shows a source image and there is no folder of them."""
    if rubric.shows_source and not (sources and Path(sources).expanduser().is_dir()):
        raise FileNotFoundError(
            f"rubric {rubric.name} shows the picture that was edited: sources is {sources!r}; it must be a folder that "
            "holds it as PROMPT_ID.png"
        )


@dataclass(frozen=True)
class Vlm:
    """A local Qwen2.5-VL class model; range [0, 1]. ``reading``: "yes" is P("Yes"), "rating" the mean of five words.

    ``weights``: folder or hub name. ``rubric``: alignment, text_correctness, aesthetics, edit_faithfulness, or a path.
    ``sources``: folder of the images that were edited. ``least_mass``: least probability of the answer words
    together; below it an image is not judged. least_pixels, most_pixels: bounds of the area the model is shown; the
    defaults show a 1664x928 image as it is.
    """

    version: ClassVar[int] = 2
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    weights: str = ""
    rubric: str = "alignment"
    reading: str = "yes"
    sources: str = ""
    dtype: str = "float32"
    least_mass: float = LEAST_MASS
    least_pixels: int = 56 * 56
    most_pixels: int = 2048 * 28 * 28

    def __post_init__(self) -> None:
        if self.reading not in READINGS:
            raise ValueError(f"reading is {self.reading!r}; choose one of {', '.join(READINGS)}")

    @property
    def needs(self) -> tuple[str, ...]:
        rubric = read_rubric(self.rubric)
        rubric.check(self.reading)
        return rubric.needs(self.reading)

    def sees(self, height: int, width: int) -> View:
        return sees(height, width, self.least_pixels, self.most_pixels)

    def load(self, device: str = "cpu") -> ImageScorer:
        """Open the model. FileNotFoundError for missing weights, sources or rubric; ValueError for another model."""
        rubric = read_rubric(self.rubric)
        rubric.check(self.reading)
        check_sources(rubric, self.sources)
        model = self._model(device)
        words, read, parts = READINGS[self.reading]
        tokens = model.tokens_of(words)

        def judge(prompts: Sequence[Prompt], images: Sequence[np.ndarray]) -> list[Mapping[str, float]]:
            rows: list[Mapping[str, float]] = []
            for prompt, image in zip(prompts, images, strict=True):
                shown = [source_image(self.sources, prompt), image] if rubric.shows_source else [image]
                odds = model.odds(rubric.question(self.reading, prompt), shown, tokens, self.least_mass)
                rows.append(read(odds, self.least_mass))
            return rows

        name = f"vlm:{model.name}/{rubric.name}-{rubric.digest}/{self.reading}"
        return ImageScorer(name, judge, parts, needs=rubric.needs(self.reading))

    def load_pairs(self, device: str = "cpu") -> PairJudge:
        """The same model and rubric as a judge of pairs: its "## pair" question in both orders."""
        rubric = read_rubric(self.rubric)
        rubric.check("pair")
        check_sources(rubric, self.sources)
        model = self._model(device)
        tokens = model.tokens_of(PAIR_WORDS)

        def ask(prompt: Prompt, first: np.ndarray, second: np.ndarray) -> float:
            shown = [first, second]
            if rubric.shows_source:
                shown.insert(0, source_image(self.sources, prompt))
            odds = model.odds(rubric.question("pair", prompt), shown, tokens, self.least_mass)
            return read_pair(odds, self.least_mass)

        name = f"vlm:{model.name}/{rubric.name}-{rubric.digest}/pair"
        return PairJudge(name, ask, needs=rubric.needs("pair"))

    def _model(self, device: str) -> QwenVl:
        weights = existing_or_hub(self.weights, "weights", ADVICE)
        return QwenVl(weights, device, self.dtype, self.least_pixels, self.most_pixels)
