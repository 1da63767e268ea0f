"""What a vision language model is asked: a rubric is a text file with one question for each way of reading the answer.

    # Title
    Source: shown            only where the images that were edited are shown first
    ## yes                   a question to answer with Yes or No
    ## rating                a question to answer with one of ``RATINGS``
    ## json                  a question to answer with {"reason": ..., "score": 0 to 10}
    ## pair                  a question to answer with A or B

``{prompt}`` in a question becomes the prompt's text and ``{spans}`` the texts it must show, each in quotes. Where
source images are shown, ``{one text|another text}`` becomes the first for one source image and the second for several.
A rubric may leave ways out. Ours are in ``rewards/rubrics``; a path names any other.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from preference_data.line_files import read_text
from preference_data.records import Prompt
from preference_data.spelling import nearest

FOLDER = Path(__file__).parent / "rubrics"
RATINGS = {"excellent": 5.0, "good": 4.0, "fair": 3.0, "poor": 2.0, "bad": 1.0}
"""The words of Q-Align (Wu et al. 2023) and DeQA-Score (You et al. 2025), with DeQA's values."""
WAYS = ("yes", "rating", "json", "pair")
_SLOT = re.compile(r"\{(prompt|spans)\}")
_NUMBER = re.compile(r"\{([^{}|]*)\|([^{}|]*)\}")
_NEEDS = {"prompt": "text", "spans": "spans"}


@dataclass(frozen=True)
class Rubric:
    """name and questions by way; shows_source: the question is about source images too; digest: of the file."""

    name: str
    questions: dict[str, str]
    shows_source: bool
    digest: str

    def question(self, way: str, prompt: Prompt) -> str:
        """The question about an image of ``prompt``. Slots are filled once: a prompt with braces stays text."""
        spans = ", ".join(f'"{span}"' for span in prompt.spans)
        question = self.questions[way]
        if self.shows_source:
            question = _NUMBER.sub(lambda texts: texts[2 if len(prompt.sources) > 1 else 1], question)
        return _SLOT.sub(lambda slot: prompt.text if slot[1] == "prompt" else spans, question)

    def needs(self, way: str, folder: str = "") -> tuple[str, ...]:
        """The fields of a prompt that the question is made of; a `folder` of source images spares it its own."""
        slots = tuple(_NEEDS[slot] for slot in dict.fromkeys(_SLOT.findall(self.questions[way])))
        return (*slots, "sources") if self.shows_source and not folder else slots

    def check(self, way: str) -> None:
        """ValueError when it has no question for that way of reading."""
        if way not in self.questions:
            raise ValueError(f"rubric {self.name} has no '## {way}'; it has {', '.join(self.questions)}")


def rubric_path(name: str) -> Path:
    """The file of one of ours by name, or of any other by its path. FileNotFoundError names what is near."""
    path = FOLDER / f"{name}.md"
    if not re.fullmatch(r"\w+", name) or not path.is_file():
        path = Path(name).expanduser()
    if not path.is_file():
        ours = sorted(file.stem for file in FOLDER.glob("*.md"))
        near = nearest(name, ours)
        meant = f" Did you mean {near}?" if near else ""
        raise FileNotFoundError(f"there is no rubric {name!r}, nor such a file.{meant} There are {', '.join(ours)}")
    return path


def read_rubric(name: str) -> Rubric:
    """One of ours by name, or a file by its path. FileNotFoundError as `rubric_path`, ValueError for what is wrong."""
    path = rubric_path(name)
    text = read_text(path)
    head, *sections = re.split(r"^## +", text, flags=re.MULTILINE)
    questions = {}
    for section in sections:
        way, _, question = section.partition("\n")
        if way.strip() not in WAYS or not question.strip():
            raise ValueError(f"{path}: '## {way.strip()}' must be one of {', '.join(WAYS)} and hold a question")
        questions[way.strip()] = question.strip()
    if not questions:
        raise ValueError(f"{path} asks nothing; it needs at least one of {', '.join('## ' + way for way in WAYS)}")
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Rubric(path.stem, questions, bool(re.search(r"^Source: shown$", head, re.MULTILINE)), digest)
