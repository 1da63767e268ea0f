"""A vision language model as a judge, from its logits: one forward pass an image, nothing is sampled or parsed.

The question is a rubric's (``rewards.language.rubric``), the reading one of ``rewards.language.read_answer``: P("Yes")
or the expected value of five ratings. ``rewards.language.chat_judge`` asks a server the same questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from preference_data.image_files import read_image, read_source
from preference_data.records import Prompt
from rewards.image_scorer import ImageScorer, Unjudged, one_by_one
from rewards.language.pair_judges import PairJudge
from rewards.language.qwen_vl import QwenVl, sees
from rewards.language.read_answer import LEAST_MASS, READINGS, read_pair
from rewards.language.rubric import Rubric
from rewards.language.trained_judge import read_judge, rubric_of
from rewards.published.published_weights import existing_or_hub
from rewards.scores import View

LEAST_PIXELS, MOST_PIXELS = 56 * 56, 2048 * 28 * 28
ADVICE = "vlm needs the folder of a Qwen2.5-VL model, or a hub name such as Qwen/Qwen2.5-VL-7B-Instruct"


def source_images(rubric: Rubric, folder: str, prompt: Prompt) -> list[np.ndarray]:
    """The images that were edited, as (H, W, 3) 8-bit, where the rubric shows them: the prompt's own, or else
    ``folder``/PROMPT_ID.png. ``Unjudged`` "no_source" where one cannot be read."""
    if not rubric.shows_source:
        return []
    try:
        if prompt.sources:
            return [read_source(source) for source in prompt.sources]
        return [read_image(Path(folder).expanduser() / f"{prompt.id}.png")]
    except (FileNotFoundError, ValueError) as error:
        raise Unjudged("no_source", f"a source image of prompt {prompt.id} cannot be read: {error}") from error


def check_sources(rubric: Rubric, sources: str) -> None:
    """FileNotFoundError when a folder of source images is named and not there."""
    if rubric.shows_source and sources and not Path(sources).expanduser().is_dir():
        raise FileNotFoundError(
            f"rubric {rubric.name} shows the images that were edited: sources is {sources!r}; it must be a folder that "
            "holds them as PROMPT_ID.png, or be left out where prompts carry their source images"
        )


@dataclass(frozen=True)
class Vlm:
    """A local Qwen2.5-VL class model; range [0, 1]. ``reading``: "yes" is P("Yes"), "rating" the mean of five words.

    ``weights``: folder or hub name, or a judge of `glyphlab train-judge`. ``rubric``: alignment, text_correctness,
    aesthetics, edit_faithfulness, or a path; when empty, the one that the judge was trained by, or alignment.
    ``sources``: folder of the images that were edited, for prompts that do not carry their own. ``least_mass``: least
    probability of the answer words together; below it an image is not judged. least_pixels, most_pixels: bounds of the
    area the model is shown; 0 = those that the judge was trained with, or else such as show a 1664x928 image as it is.
    """

    version: ClassVar[int] = 2
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    weights: str = ""
    rubric: str = ""
    reading: str = "yes"
    sources: str = ""
    dtype: str = "float32"
    least_mass: float = LEAST_MASS
    least_pixels: int = 0
    most_pixels: int = 0

    def __post_init__(self) -> None:
        if self.reading not in READINGS:
            raise ValueError(f"reading is {self.reading!r}; choose one of {', '.join(READINGS)}")

    @property
    def needs(self) -> tuple[str, ...]:
        rubric = self._rubric()
        rubric.check(self.reading)
        return rubric.needs(self.reading, self.sources)

    def sees(self, height: int, width: int) -> View:
        return sees(height, width, *self._pixels())

    def load(self, device: str = "cpu") -> ImageScorer:
        """Open the model. FileNotFoundError for missing weights, sources or rubric; ValueError for another model."""
        rubric = self._rubric()
        rubric.check(self.reading)
        check_sources(rubric, self.sources)
        model = self._model(device)
        words, read, parts = READINGS[self.reading]
        tokens = model.tokens_of(words)

        def judge(prompt: Prompt, image: np.ndarray) -> Mapping[str, float]:
            shown = [*source_images(rubric, self.sources, prompt), image]
            odds = model.odds(rubric.question(self.reading, prompt), shown, tokens, self.least_mass)
            return read(odds, self.least_mass)

        name = f"vlm:{model.name}/{rubric.name}-{rubric.digest}/{self.reading}"
        return ImageScorer(name, one_by_one(judge), parts, needs=rubric.needs(self.reading, self.sources))

    def load_pairs(self, device: str = "cpu") -> PairJudge:
        """The same model and rubric as a judge of pairs: its "## pair" question in both orders.

        A judge that was trained is asked and read as it was in training (`trained_judge`).
        """
        rubric, trained = self._rubric(), read_judge(self.weights)
        rubric.check("pair")
        check_sources(rubric, self.sources)
        model = self._model(device)
        tokens = model.tokens_of(trained.words)

        def ask(prompt: Prompt, first: np.ndarray, second: np.ndarray) -> float:
            shown = [*source_images(rubric, self.sources, prompt), first, second]
            odds = model.odds(trained.question(rubric, prompt), shown, tokens, self.least_mass)
            return trained.calibrated(read_pair(odds, self.least_mass))

        name = f"vlm:{model.name}/{rubric.name}-{rubric.digest}/pair"
        return PairJudge(name, ask, needs=rubric.needs("pair", self.sources))

    def _rubric(self) -> Rubric:
        return rubric_of(self.weights, self.rubric)

    def _pixels(self) -> tuple[int, int]:
        """Least and most area that is shown."""
        trained = read_judge(self.weights)
        return (
            self.least_pixels or trained.least_pixels or LEAST_PIXELS,
            self.most_pixels or trained.most_pixels or MOST_PIXELS,
        )

    def _model(self, device: str) -> QwenVl:
        weights = existing_or_hub(self.weights, "weights", ADVICE)
        return QwenVl(weights, device, self.dtype, *self._pixels())
