"""Scores by the hash of a picture, so that a comparison need not open 20,000 files to find what it knows already.

One SQLite file holds scores with the time they took, facts about pixels, and results of probes. A picture that could
not be judged is not remembered: the next call tries again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from experiments.record.whole_files import read_png
from preference_data.records import Prompt
from rewards.comparison.checks.bias import covariates
from rewards.comparison.score_table import Picture
from rewards.scores import Scorer, to_float

BATCH = 32
SINGLE = 24
"""Pictures judged one by one first, whose times are latencies; the rest goes in batches, whose times are throughput."""
FACTS = "facts v1"

BOOK = "scores.sqlite"
"""The file's name in a comparison's folder."""

Find = Callable[[Picture], Path]
Say = Callable[[str], None]


def is_anything_judged(path: Path) -> bool:
    """Whether a reward's score stands in the book at `path`; True also of a file that cannot be read."""
    if not path.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(path)) as file:
            return file.execute("SELECT 1 FROM score WHERE identity != ? LIMIT 1", (FACTS,)).fetchone() is not None
    except sqlite3.DatabaseError:
        return True


class ScoreBook:
    """The open file. ValueError when it is no score book; use `close` or a with statement."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(path, timeout=30.0)
        try:
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS score (identity TEXT, key TEXT, value REAL NOT NULL, ms REAL, batch "
                "INTEGER, "
                "PRIMARY KEY (identity, key)) WITHOUT ROWID"
            )
            self._file.execute("CREATE TABLE IF NOT EXISTS note (key TEXT PRIMARY KEY, content TEXT NOT NULL)")
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise ValueError(f"{path} is no score book ({error}); move it away and run again") from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> ScoreBook:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    def known(self, identity: str) -> dict[str, float]:
        """key -> value of everything remembered under an identity."""
        return dict(self._file.execute("SELECT key, value FROM score WHERE identity = ?", (identity,)))

    def keep(self, identity: str, rows: Iterable[tuple[str, float, float, int]]) -> None:
        """(key, value, ms a picture, pictures in the call) of judged pictures, in one transaction."""
        with self._file:
            lines = [(identity, *row) for row in rows]
            self._file.executemany("INSERT OR REPLACE INTO score VALUES (?, ?, ?, ?, ?)", lines)

    def times(self, identity: str) -> tuple[list[float], list[float]]:
        """(ms of single calls, ms a picture in batches)."""
        rows = self._file.execute("SELECT ms, batch FROM score WHERE identity = ? AND ms > 0", (identity,)).fetchall()
        return [ms for ms, batch in rows if batch == 1], [ms for ms, batch in rows if batch > 1]

    def note(self, what: object, make: Callable[[], Any]) -> Any:
        """What was noted about `what` (JSON), made and noted when it was not."""
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        found = self._file.execute("SELECT content FROM note WHERE key = ?", (key,)).fetchone()
        if found:
            return json.loads(found[0])
        made = make()
        with self._file:
            self._file.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (key, json.dumps(made)))
        return made


def key_of(picture: Picture) -> str:
    """Of a picture and everything a reward may read of its prompt."""
    p: Prompt = picture.prompt
    return hashlib.sha256(json.dumps([picture.image.sha256, p.id, p.text, p.spans]).encode()).hexdigest()[:32]


def score(
    book: ScoreBook, identity: str, scorer: Scorer, pictures: Sequence[Picture], find: Find
) -> tuple[np.ndarray, dict[str, int]]:
    """Values [P], from the book where it knows them; and why pictures were not judged, counted."""
    known = book.known(identity)
    keys = [key_of(p) for p in pictures]
    new = [i for i, key in enumerate(keys) if key not in known]
    causes: dict[str, int] = {}
    single, rest = new[:SINGLE], new[SINGLE:]
    by_size = sorted(rest, key=lambda i: (pictures[i].image.height, pictures[i].image.width))
    chunks: list[list[int]] = [[i] for i in single]
    for _, group in groupby(by_size, key=lambda i: (pictures[i].image.height, pictures[i].image.width)):
        some = list(group)
        chunks += [some[k : k + BATCH] for k in range(0, len(some), BATCH)]
    for some in chunks:
        images = to_float(np.stack([read_png(find(pictures[i])) for i in some]))
        start = time.perf_counter()
        scores = scorer([pictures[i].prompt for i in some], images)
        ms = 1000.0 * (time.perf_counter() - start) / len(some)
        for cause, count in scores.unjudged.items():
            causes[cause] = causes.get(cause, 0) + count
        judged = [(keys[i], float(v), ms, len(some)) for i, v in zip(some, scores.value_B, strict=True) if v == v]
        book.keep(identity, judged)
        known.update({key: value for key, value, _, _ in judged})
    return np.array([known.get(key, math.nan) for key in keys], dtype=np.float64), causes


def facts(book: ScoreBook, pictures: Sequence[Picture], find: Find) -> dict[str, np.ndarray]:
    """Covariates of the pixels [P], from the book where it knows them."""
    known = book.known(FACTS)
    found: list[Mapping[str, float]] = []
    names: list[str] = []
    for first in range(0, len(pictures), 256):
        rows = []
        for picture in pictures[first : first + 256]:
            names = names or sorted(covariates(np.zeros((3, 8, 8), np.uint8)))
            keys = [f"{picture.image.sha256}:{name}" for name in names]
            if any(key not in known for key in keys):
                made = covariates(read_png(find(picture)))
                rows += [(f"{picture.image.sha256}:{name}", value, 0.0, 0) for name, value in made.items()]
                known.update({f"{picture.image.sha256}:{name}": value for name, value in made.items()})
            found.append({name: known[key] for name, key in zip(names, keys, strict=True)})
        if rows:
            book.keep(FACTS, rows)
    return {name: np.array([row[name] for row in found], dtype=np.float64) for name in names}
