"""A vision language model on a server as a judge: any with OpenAI's chat interface, such as vLLM or SGLang.

``reading`` "yes" and "rating" ask for one token and read its log-probabilities, so the server must give them (up to 20
at a place); "json" asks for a sentence and a number, for servers that do not, and depends on what was sampled. The
questions are a rubric's (``rewards.language.rubric``), the readings those of ``rewards.language.read_answer``.

    vllm serve Qwen/Qwen2.5-VL-7B-Instruct
    glyphlab score pictures/ --reward server:url=http://localhost:8000/v1,model=Qwen/Qwen2.5-VL-7B-Instruct
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from preference_data.records import Prompt
from rewards.image_scorer import ImageScorer, Unjudged, one_by_one
from rewards.language.chat_client import Client, message, read_key, token_odds
from rewards.language.local_judge import check_sources, source_images
from rewards.language.pair_judges import PairJudge
from rewards.language.read_answer import JSON_PARTS, LEAST_MASS, PAIR_WORDS, READINGS, read_json, read_pair
from rewards.language.rubric import Rubric, read_rubric
from rewards.scores import Scores, View, concatenate

TOP = 20  # log-probabilities asked for at a place: the most that OpenAI's interface and vLLM's default allow
JSON_TOKENS = 300  # of an answer in JSON; a longer one is cut and not judged
WAYS = (*READINGS, "json")


class ServerScorer:
    """Asks ``inner`` about ``workers`` images at a time, and adds up what the answers cost."""

    def __init__(self, inner: ImageScorer, client: Client, workers: int) -> None:
        self._inner = inner
        self._client = client
        self._workers = workers
        self.name = inner.name

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """As ``Scorer`` says; the causes are those of ``PictureScorer``, ``chat_client`` and ``answers``."""
        if len(prompts) < 2 or len(prompts) != len(images_B3HW):
            scores = self._inner(prompts, images_B3HW)
        else:
            singles = [[prompt] for prompt in prompts]
            with ThreadPoolExecutor(self._workers) as pool:
                scores = concatenate(list(pool.map(self._inner, singles, images_B3HW[:, None])))
        return replace(scores, spent=self._client.drain())


@dataclass(frozen=True)
class ServerJudge:
    """A model behind an OpenAI-compatible server; range [0, 1]. ``reading``: "yes", "rating" or "json".

    url: the server's base, such as http://localhost:8000/v1. model: its name there. key_file: a file that holds the
    key. rubric, sources, least_mass: as ``rewards.language.local_judge.Vlm``. workers: questions asked at a time.
    timeout: seconds for one request; attempts, pause: of what may pass by itself, see ``rewards.language.chat_client``.
    """

    version: ClassVar[int] = 2
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    url: str = ""
    model: str = ""
    key_file: str = ""
    rubric: str = "alignment"
    reading: str = "yes"
    sources: str = ""
    least_mass: float = LEAST_MASS
    workers: int = 8
    timeout: float = 60.0
    attempts: int = 3
    pause: float = 1.0

    def __post_init__(self) -> None:
        if self.reading not in WAYS:
            raise ValueError(f"reading is {self.reading!r}; choose one of {', '.join(WAYS)}")
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}; at least one question must be asked at a time")

    @property
    def needs(self) -> tuple[str, ...]:
        rubric = read_rubric(self.rubric)
        rubric.check(self.reading)
        return rubric.needs(self.reading, self.sources)

    def sees(self, height: int, width: int) -> View:
        return View(1.0, height, width, "all of it is sent; how finely the served model looks is its own matter")

    def load(self, device: str = "cpu") -> ServerScorer:
        """Ask the server what it serves. ConnectionError when nobody answers, PermissionError for a refused key,
        ValueError for a model it does not have, FileNotFoundError for a missing rubric, key or folder of sources."""
        rubric, client = self._open(self.reading)
        words, read, parts = READINGS.get(self.reading, ((), None, JSON_PARTS))

        def judge(prompt: Prompt, image: np.ndarray) -> Mapping[str, float]:
            shown = self._shown(rubric, prompt, [image])
            question = rubric.question(self.reading, prompt)
            if read is None:
                return read_json(_text(client.ask(self._request(question, shown, JSON_TOKENS))))
            choice = client.ask(self._request(question, shown, 1))
            return read(token_odds(choice, words, self.least_mass), self.least_mass)

        inner = ImageScorer(
            self._name(rubric, self.reading), one_by_one(judge), parts, needs=rubric.needs(self.reading, self.sources)
        )
        return ServerScorer(inner, client, self.workers)

    def load_pairs(self, device: str = "cpu") -> PairJudge:
        """The same server and rubric as a judge of pairs: its "## pair" question in both orders. Errors as ``load``."""
        rubric, client = self._open("pair")

        def ask(prompt: Prompt, first: np.ndarray, second: np.ndarray) -> float:
            shown = self._shown(rubric, prompt, [first, second])
            choice = client.ask(self._request(rubric.question("pair", prompt), shown, 1))
            return read_pair(token_odds(choice, PAIR_WORDS, self.least_mass), self.least_mass)

        return PairJudge(self._name(rubric, "pair"), ask, rubric.needs("pair", self.sources), self.workers)

    def _open(self, way: str) -> tuple[Rubric, Client]:
        rubric = read_rubric(self.rubric)
        rubric.check(way)
        check_sources(rubric, self.sources)
        if not self.url or not self.model:
            raise ValueError(
                f"url is {self.url!r} and model {self.model!r}; name a server and a model it serves, such as "
                "url=http://localhost:8000/v1,model=Qwen/Qwen2.5-VL-7B-Instruct"
            )
        client = Client(self.url, read_key(self.key_file), self.timeout, self.attempts, self.pause)
        served = client.models()
        if served and self.model not in served:
            raise ValueError(f"{self.url} does not serve {self.model!r}; it serves {', '.join(served[:10])}")
        return rubric, client

    def _name(self, rubric: Rubric, way: str) -> str:
        return f"server:{self.model}/{rubric.name}-{rubric.digest}/{way}"

    def _shown(self, rubric: Rubric, prompt: Prompt, images: list[np.ndarray]) -> list[np.ndarray]:
        return [*source_images(rubric, self.sources, prompt), *images]

    def _request(self, question: str, shown: Sequence[np.ndarray], tokens: int) -> dict[str, Any]:
        request = {"model": self.model, "messages": message(question, shown), "max_tokens": tokens, "temperature": 0.0}
        return {**request, "logprobs": True, "top_logprobs": TOP} if tokens == 1 else request


def _text(choice: Mapping[str, Any]) -> str:
    """What was written. ``Unjudged``: "truncated" when it was cut, "no_json" when it is no text."""
    if choice.get("finish_reason") == "length":
        raise Unjudged("truncated", f"the answer is longer than {JSON_TOKENS} tokens")
    answer = choice.get("message")
    text = answer.get("content") if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise Unjudged("no_json", f"the answer is not a text: {answer!r}")
    return text
