"""Does the image show the texts its prompt quotes, and no others? The whole image is read.

``OcrPage`` finds all lines, assigns them to the quoted spans and scores precision, recall, order and repetition
(rewards/text/reading/matching.py has the equations). ``OcrFlowGrpo`` reads the same way and scores by the rule of
Flow-GRPO, for comparison with papers and not for training.

Shapes: B samples, 3HW pixels (H rows, W columns).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from rapidfuzz.distance import Levenshtein

from preference_data.pixels import to_uint8
from preference_data.records import Prompt, visible
from preference_data.texts.normalised_text import Policy
from rewards.scores import Read, Row, Scores, View, score_each
from rewards.text.reading.alphabet import MOST, SCRIPT, alphabet_of
from rewards.text.reading.detector import Detector
from rewards.text.reading.matching import PARTS, Line, score_reading
from rewards.text.reading.read_page import OnnxPage, PaddlePage, PageReader
from rewards.text.recognisers import V4, V4_DETECTION, V6, V6_DETECTION, OnnxRecogniser, find_weights

ENGINES = ("onnxruntime", "onnxruntime_v4", "paddleocr", "tesseract")
Rule = Callable[[Prompt, Sequence[Line]], Mapping[str, float] | str]
"""The parts of an image, the value first; or the cause why it has none."""
BETWEEN_LINES = " / "
"""What stands between the lines of an image in the text that was read in it."""


def page_reader(engine: str, models: Sequence[str], least_confidence: float) -> PageReader:
    """Open an engine by its name. Errors say what to install."""
    if engine == "tesseract":
        from rewards.text.reading.tesseract import TesseractPage

        return TesseractPage(least_confidence)
    if engine == "paddleocr":
        return PaddlePage((find_weights(V6_DETECTION), find_weights(V6)), models, least_confidence)
    detection, recognition = (V4_DETECTION, V4) if engine == "onnxruntime_v4" else (V6_DETECTION, V6)
    return OnnxPage(Detector(find_weights(detection)), OnnxRecogniser(find_weights(recognition)), least_confidence)


def check_engine(engine: str, models: Sequence[str]) -> None:
    """ValueError for an engine that is unknown, or for models that it does not take."""
    if engine not in ENGINES:
        raise ValueError(f"OCR engine is {engine!r}; choose one of {', '.join(ENGINES)}")
    if models and engine != "paddleocr":
        raise ValueError(f"models={tuple(models)} are for the engine 'paddleocr'; {engine!r} has its own")


class PageScorer:
    """A loaded engine and a rule that turns lines into parts. ``name`` says reward, engine and weights.

    ``asked``: the texts that a prompt asks for. The rule is given the prompt with those parts of them as its spans that
    the engine can write; a part named ``unwritable`` is the share of the rest.
    """

    def __init__(
        self, reader: PageReader, reward: str, rule: Rule, parts: Sequence[str], needs: Sequence[str],
        requested: Callable[[Prompt], Sequence[str]] = lambda prompt: prompt.spans, policy: Policy | None = None,
    ) -> None:  # fmt: skip
        self._reader = reader
        self._rule = rule
        self._parts = parts
        self._needs = needs
        self._requested_text = requested
        self._alphabet = alphabet_of(reader, policy)
        self.name = f"{reward}:{reader.name}"

    def texts(self, images_B3HW: np.ndarray) -> list[str]:
        """What each image says, its lines apart by " / "; an engine failure is raised here."""
        images = to_uint8(images_B3HW).transpose(0, 2, 3, 1)
        return [_as_text(self._reader.read(image)) for image in images]

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """``unjudged``: "no_spans", "script" (the engine has no characters for half of the text or more), "shape",
        "not_finite", "engine" (it raised; the log says what)."""
        return score_each(self.name, self._score, prompts, images_B3HW, self._needs, self._parts)

    def can_write(self, prompt: Prompt) -> bool:
        """Whether the engine has every character of the texts that a prompt asks for."""
        return self._alphabet.known_part(self._requested_text(prompt))[1] == 0.0

    def _score(self, prompt: Prompt, image_HW3: np.ndarray) -> Row:
        texts, unwritable = self._alphabet.known_part(self._requested_text(prompt))
        if unwritable >= MOST:
            return SCRIPT
        spans = tuple(text for text in texts if visible(text).strip())
        lines = self._reader.read(image_HW3)
        row = self._rule(replace(prompt, spans=spans), lines)
        if isinstance(row, str):
            return row
        return Read({**row, "unwritable": unwritable} if "unwritable" in self._parts else row, _as_text(lines))


def _as_text(lines: Sequence[Line]) -> str:
    return BETWEEN_LINES.join(line.text for line in lines)


@dataclass(frozen=True)
class OcrPage:
    """Reads the whole image and compares its lines with all quoted spans; range [0, 1], 1 = just those, in order.

    engine: "onnxruntime" (PP-OCRv6_small, the fastest), "onnxruntime_v4" (PP-OCRv4), "paddleocr" (the weights of the
    first through PaddleX, or ``models``), "tesseract" (another family, for judging). models: official names of a
    detection and a recognition model for paddleocr, such as PP-OCRv5_server_det and PP-OCRv5_server_rec; it downloads
    them. least_confidence: lines read with less are taken for decoration. policy: what is no fault.

    Parts: value, exact (0 or 1), ned_score (1 - normalised edit distance), precision and recall of characters, order of
    the spans, duplicates and extra (characters per character asked for), confidence of the engine, unwritable (share
    of the characters asked for that the engine does not have; only the others are compared, and of a letter with an
    accent that it lacks the bare letter: E for an E with a tilde is then no fault).
    """

    version: ClassVar[int] = 3
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ("spans",)
    reads: ClassVar[bool] = True

    engine: str = "onnxruntime"
    models: tuple[str, ...] = ()
    least_confidence: float = 0.5
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        check_engine(self.engine, self.models)

    def sees(self, height: int, width: int) -> View:
        return View(1.0, height, width, "all of it; lines are found and read at 48 pixels high")

    def load(self, device: str = "cpu") -> PageScorer:
        """Open the engine, on the CPU whatever ``device`` says. FileNotFoundError or ImportError: what to install."""
        reader = page_reader(self.engine, self.models, self.least_confidence)
        return PageScorer(reader, "ocr_page", self._rule, (*PARTS, "unwritable"), self.needs, policy=self.policy)

    def _rule(self, prompt: Prompt, results: Sequence[Line]) -> Mapping[str, float]:
        return score_reading(prompt.spans, results, self.policy)


@dataclass(frozen=True)
class OcrFlowGrpo:
    """The OCR rule of Flow-GRPO (Liu et al. 2025), inherited by its followers; range [0, 1]. For comparison only.

        score = 1 - min(d, |t|) / |t|      d = 0 where everything read contains t, else the Levenshtein distance

    t stands between the first pair of ASCII quotes; spaces are dropped, case is ignored, lines are joined in order.
    Known defects: repeating the text, or any garbage around it, scores 1; later spans are ignored; other quotes are not
    seen. One thing differs: where theirs takes an engine failure for the worst score, here it is NaN ("engine"), and a
    prompt without ASCII quotes, on which theirs fails, is NaN too ("no_quotes").
    """

    version: ClassVar[int] = 3
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ("text",)
    reads: ClassVar[bool] = True

    engine: str = "onnxruntime"

    def __post_init__(self) -> None:
        check_engine(self.engine, ())

    def sees(self, height: int, width: int) -> View:
        return View(1.0, height, width, "all of it; lines are found and read at 48 pixels high")

    def load(self, device: str = "cpu") -> PageScorer:
        """Opens the readers as ``OcrPage.load`` does."""
        reader = page_reader(self.engine, (), 0.0)
        return PageScorer(reader, "ocr_flow_grpo", _flow_grpo, ("score",), self.needs, lambda p: (_flow_target(p),))


def _flow_target(prompt: Prompt) -> str:
    """What stands between the first two ASCII quotes, without spaces and in small letters; "" without."""
    pieces = prompt.text.split('"')
    return pieces[1].replace(" ", "").lower() if len(pieces) > 2 else ""


def _flow_grpo(prompt: Prompt, results: Sequence[Line]) -> Mapping[str, float] | str:
    target = _flow_target(prompt)
    if not target:
        return "no_quotes"
    return {"score": flow_grpo_score(target, [line.text for line in results])}


def flow_grpo_score(target: str, texts: Sequence[str]) -> float:
    """The rule of ``OcrFlowGrpo`` on what was read. ``target`` is not empty."""
    wanted = target.replace(" ", "").lower()
    read = "".join(texts).replace(" ", "").lower()
    distance = 0 if wanted in read else Levenshtein.distance(read, wanted)
    return 1.0 - min(distance, len(wanted)) / len(wanted)
