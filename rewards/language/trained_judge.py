"""A judge of pairs that learned from people's answers: a whole Qwen-VL model, and beside it what it was trained on.

    FOLDER/judge.json         by which rubric it was asked, whether it may answer "neither", temperature, numbers
    FOLDER/rubric.md          that rubric, so that the folder can be moved, and is asked what it learned
    FOLDER/trained_on.txt     the prompts and images that it has seen, as hashes: no evaluation may use them
    FOLDER/held_out.jsonl     the answers that it has not seen: what it may be compared on
    FOLDER/judged.jsonl       its own answers about those, in both orders
    FOLDER/model_card.md

    (1)  p = s(logit(P(first)) / T),   P(first) = (P("A") + P("C") / 2) / (P("A") + P("B") + P("C"))

"C" is the answer of a judge that was trained with ties; the others answer A or B.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from preference_data.records import Prompt
from rewards.language.read_answer import PAIR_WORDS
from rewards.language.rubric import Rubric, read_rubric

JUDGE, RUBRIC = "judge.json", "rubric.md"
NEITHER = "C"
TIE = f" If neither is better, answer {NEITHER}."
"""What is added to a rubric's question for a judge that knows ties."""
FORMAT = 1


@dataclass(frozen=True)
class TrainedJudge:
    """How a trained judge is asked and read."""

    rubric: str
    """name of the rubric whose "## pair" it learned to answer"""
    digest: str
    """of that rubric's file"""
    ties: bool
    """whether it may say that neither image is better"""
    temperature: float
    """T of (1): fitted on answers that it did not learn from"""
    least_pixels: int = 0
    """smaller images were enlarged to this area in training; 0 = not known"""
    most_pixels: int = 0
    """larger images were scaled down to this area in training; 0 = not known"""

    @property
    def words(self) -> tuple[str, ...]:
        """The answers that it may give."""
        return (*PAIR_WORDS, NEITHER) if self.ties else PAIR_WORDS

    def question(self, rubric: Rubric, prompt: Prompt) -> str:
        """What it is asked about two images of a prompt."""
        return rubric.question("pair", prompt) + (TIE if self.ties else "")

    def calibrated(self, p: float) -> float:
        """(1), from P(first)."""
        if not 0.0 < p < 1.0:
            return p
        return 1.0 / (1.0 + math.exp(-math.log(p / (1.0 - p)) / self.temperature))

    def to_json(self, training: Mapping[str, Any] | None = None) -> str:
        """The text of `JUDGE`, with what else is known about the training."""
        return json.dumps({"format": FORMAT, **asdict(self), **(training or {})}, indent=1, ensure_ascii=False) + "\n"


UNTRAINED = TrainedJudge("", "", False, 1.0)
"""How any other model is asked and read."""


def read_judge(weights: Path | str) -> TrainedJudge:
    """How the model of a folder is asked and read. ValueError when its `JUDGE` is damaged or of another version."""
    path = Path(weights) / JUDGE
    if not path.is_file():
        return UNTRAINED
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        judge = TrainedJudge(
            *(content[name] for name in ("rubric", "digest", "ties", "temperature")),
            *(int(content.get(name, 0)) for name in ("least_pixels", "most_pixels")),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): train the judge again") from error
    if content.get("format") != FORMAT or not judge.temperature > 0:
        raise ValueError(f"{path} is of format {content.get('format')}, and this is {FORMAT}: train the judge again")
    return judge


def rubric_of(weights: Path | str, name: str) -> Rubric:
    """The rubric that a model is asked by: the named one, else the one that it was trained by, else alignment.

    Errors as `read_rubric` and `read_judge`."""
    judge, own = read_judge(weights), Path(weights) / RUBRIC
    if not name and judge.rubric and own.is_file():
        return replace(read_rubric(str(own)), name=judge.rubric)
    return read_rubric(name or judge.rubric or "alignment")
