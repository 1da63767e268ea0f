"""A folder of sampled images and their scores, written as they come, so that work goes on where it was interrupted.

    settings.json          the model, the prompts and how they are sampled: another one needs another folder
    images/                one PNG for each prompt and seed; captions.jsonl says what each should show
    scores.jsonl           a line for each score: prompt, seed, image, reward, value, parts; null = not judged. Written
                           as they come, and in order in the end. "by" is a hash of the reward and of the texts to be
                           shown: the score of another reward of that name, or of other texts, is made again
    scores_RANK.jsonl      the same of another rank while it works; rank 0 puts them into scores.jsonl

An image is written whole or not at all, and a line that a killed process left unfinished is removed, so nothing is
sampled or scored twice. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.evaluation.prompt_files import RequestedPrompt
from experiments.record.record import drop_unfinished_line
from experiments.record.whole_files import plain, require_folder, write_bytes, write_json
from preference_data.captions import CAPTIONS
from preference_data.records import quoted_spans
from rewards.scores import Scores

SETTINGS, IMAGES, SCORES = "settings.json", "images", "scores.jsonl"
BEFORE = "against"
"""Folder inside, with the same of the model that is compared with."""


class Point(NamedTuple):
    """One image: the prompt's index in its file, and the seed of its noise."""

    index: int
    seed: int

    @property
    def image(self) -> str:
        """The image's file name."""
        return f"{self.index:05d}_{self.seed}.png"


class ScoredImages:
    """The writing side of such a folder. Raises ValueError when it holds the images of something else."""

    def __init__(
        self, folder: Path, requested: Sequence[RequestedPrompt], seeds: Sequence[int], settings: Mapping[str, Any],
        rank: int = 0, rewards: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """`rewards` says of each reward what its scores depend on beside image and prompt."""
        self.folder, self.requests, self._rewards = folder, requested, rewards or {}
        self._file, self._adding = folder / (f"scores_{rank}.jsonl" if rank else SCORES), threading.Lock()
        self.points = [Point(index, seed) for index in range(len(requested)) for seed in seeds]
        require_folder(folder)
        self._check(plain(settings))
        if not rank:
            drop_unfinished_line(folder / SCORES)
        self.scores: dict[tuple[Point, str], dict[str, Any]] = dict(_read(folder / SCORES))

    def _check(self, settings: Mapping[str, Any]) -> None:
        target = self.folder / SETTINGS
        if not target.exists():
            if self.folder.exists() and any(not path.name.startswith(".") for path in self.folder.iterdir()):
                raise ValueError(f"{self.folder} holds something else than scored images; name another folder with -o")
            return
        before = json.loads(target.read_text(encoding="utf-8"))
        for name in {**before, **settings}:
            if before.get(name) != settings.get(name):
                was, now = (json.dumps(each.get(name), ensure_ascii=False) for each in (before, settings))
                raise ValueError(
                    f"{self.folder} holds images of another {name}: {was}, not {now}; name another folder with -o"
                )

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write the settings, by which the folder is known again, and then what each image will show."""
        write_json(self.folder / SETTINGS, settings)
        (self.folder / IMAGES).mkdir(exist_ok=True)
        self.write_captions()

    def write_captions(self) -> None:
        """Say what each image that is there shows, as `glyphlab score` reads it; earlier seeds stay."""
        folder = self.folder / IMAGES
        there = sorted(path.name for path in folder.glob("*.png") if not path.name.startswith("."))
        rows = []
        for name in there:
            index, seed = (int(part) for part in name.removesuffix(".png").split("_"))
            prompt = self.requests[index].prompt
            rows.append({"picture": name, "prompt": prompt.text, "prompt_index": index, "seed": seed})
            if prompt.spans != quoted_spans(prompt.text):
                rows[-1]["spans"] = list(prompt.spans)
            if self.requests[index].rewrite:
                rows[-1]["rewrite"] = self.requests[index].rewrite
            if prompt.sources:
                rows[-1]["sources"] = [str(Path(source.path).absolute()) for source in prompt.sources]
        write_bytes(folder / CAPTIONS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())

    def path(self, point: Point) -> Path:
        """The image's file."""
        return self.folder / IMAGES / point.image

    def unscored(self, reward: str, points: Iterable[Point]) -> list[Point]:
        """Those of the images that the reward has not scored."""
        return [point for point in points if not self._is_current((point, reward))]

    def _is_current(self, key: tuple[Point, str]) -> bool:
        """Whether a score is there and of this reward and these texts; older folders do not say of which it is."""
        return key in self.scores and self.scores[key].get("by") in (None, self._by(*key))

    def _by(self, point: Point, reward: str) -> str:
        """What a score is of, beside its image."""
        spans = self.requests[point.index].prompt.spans
        return hashlib.sha256(json.dumps([self._rewards.get(reward, ""), spans]).encode()).hexdigest()[:12]

    def add(self, reward: str, points: Sequence[Point], scores: Scores) -> None:
        """Append a line for each score, which a killed process cannot lose. Several threads may do so at once."""
        rows: dict[tuple[Point, str], dict[str, Any]] = {}
        for i, point in enumerate(points):
            row = plain({
                "prompt_index": point.index, "seed": point.seed, "prompt": self.requests[point.index].prompt.text,
                "image": f"{IMAGES}/{point.image}", "reward": reward, "value": scores.value_B[i],
                "parts": {name: values[i] for name, values in scores.parts.items()},
                **({"read": scores.read[i]} if scores.read else {}), "by": self._by(point, reward),
            })  # fmt: skip
            rows[point, reward] = row
        with self._adding, self._file.open("a", encoding="utf-8") as file:
            file.write("".join(map(_line, rows.values())))
            self.scores |= rows

    def take_in(self) -> None:
        """Put what other ranks scored into scores.jsonl, also what they left when they were killed."""
        for path in sorted(self.folder.glob("scores_*.jsonl")):
            drop_unfinished_line(path)
            new = {key: row for key, row in _read(path) if not self._is_current(key)}
            with self._file.open("a", encoding="utf-8") as file:
                file.write("".join(map(_line, new.values())))
            self.scores |= new
            path.unlink()

    def put_in_order(self) -> None:
        """Sort the lines by reward, prompt and seed, so that the file does not depend on who was quicker."""
        rows = (self.scores[key] for key in sorted(self.scores, key=lambda key: (key[1], key[0])))
        if self.scores:
            write_bytes(self._file, "".join(map(_line, rows)).encode())


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _read(path: Path) -> Iterator[tuple[tuple[Point, str], dict[str, Any]]]:
    if not path.exists():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
        try:
            row = json.loads(line)
            yield (Point(row["prompt_index"], row["seed"]), row["reward"]), row
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path} line {number} is damaged ({error}); remove it to go on") from error


def number(value: float | None) -> float:
    """null in the file is NaN here."""
    return float("nan") if value is None else float(np.float64(value))
