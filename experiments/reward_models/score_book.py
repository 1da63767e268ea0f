"""Scores of a comparison by the hash of an image, so that it need not open 20,000 files to find what it knows already.

The file (rewards/serving/cache.py) also has how long each score took, facts about pixels, and results of probes.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from experiments.record.whole_files import read_png
from preference_data.pixels import to_float
from rewards.comparison.checks.bias import covariates
from rewards.comparison.score_table import PromptImage
from rewards.scores import Scorer
from rewards.serving.cache import ScoreFile, score_key

BATCH = 32
SINGLE = 24
"""Images scored one by one first, whose times are latencies; the rest goes in batches, whose times are throughput."""
FACTS = "facts v1"

BOOK = "scores.sqlite"
"""The file's name in a comparison's folder."""

Find = Callable[[PromptImage], Path]


def is_anything_judged(path: Path) -> bool:
    """Whether a reward's score stands in the file at `path`; True also of a file that cannot be read."""
    if not path.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(path)) as file:
            there = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            scored = "SELECT 1 FROM judged WHERE identity != ? LIMIT 1"
            return "judged" in there and file.execute(scored, (FACTS,)).fetchone() is not None
    except sqlite3.DatabaseError:
        return True


def key_of(image: PromptImage) -> str:
    """Of an image and everything a reward may read of its prompt."""
    return score_key(image.image.sha256, image.prompt)


def score(
    book: ScoreFile, identity: str, scorer: Scorer, prompt_images: Sequence[PromptImage], find: Find
) -> tuple[np.ndarray, dict[str, int]]:
    """Values [P], from the book where it knows them; and why images were not judged, counted."""
    known = book.known(identity)
    keys = [key_of(p) for p in prompt_images]
    new = [i for i, key in enumerate(keys) if key not in known]
    causes: dict[str, int] = {}
    single, rest = new[:SINGLE], new[SINGLE:]
    by_size = sorted(rest, key=lambda i: (prompt_images[i].image.height, prompt_images[i].image.width))
    chunks: list[list[int]] = [[i] for i in single]
    for _, group in groupby(by_size, key=lambda i: (prompt_images[i].image.height, prompt_images[i].image.width)):
        some = list(group)
        chunks += [some[k : k + BATCH] for k in range(0, len(some), BATCH)]
    for some in chunks:
        images = to_float(np.stack([read_png(find(prompt_images[i])) for i in some]))
        start = time.perf_counter()
        scores = scorer([prompt_images[i].prompt for i in some], images)
        ms = 1000.0 * (time.perf_counter() - start) / len(some)
        for cause, count in scores.unjudged.items():
            causes[cause] = causes.get(cause, 0) + count
        values = np.asarray(scores.value_B, dtype=np.float64).tolist()
        judged = {keys[i]: value for i, value in zip(some, values, strict=True) if not math.isnan(value)}
        book.keep(identity, ((key, value, ms, len(some)) for key, value in judged.items()))
        known.update(judged)
    return np.array([known.get(key, math.nan) for key in keys], dtype=np.float64), causes


def facts(book: ScoreFile, images: Sequence[PromptImage], find: Find) -> dict[str, np.ndarray]:
    """Covariates of the pixels [P], from the book where it knows them."""
    known = book.known(FACTS)
    results: list[Mapping[str, float]] = []
    names: list[str] = []
    for first in range(0, len(images), 256):
        rows = []
        for image in images[first : first + 256]:
            names = names or sorted(covariates(np.zeros((3, 8, 8), np.uint8)))
            keys = [f"{image.image.sha256}:{name}" for name in names]
            if any(key not in known for key in keys):
                made = covariates(read_png(find(image)))
                rows += [(f"{image.image.sha256}:{name}", value, 0.0, 0) for name, value in made.items()]
                known.update({f"{image.image.sha256}:{name}": value for name, value in made.items()})
            results.append({name: known[key] for name, key in zip(names, keys, strict=True)})
        if rows:
            book.keep(FACTS, rows)
    return {name: np.array([row[name] for row in results], dtype=np.float64) for name in names}
