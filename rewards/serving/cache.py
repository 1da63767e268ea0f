"""Scores remembered by what was judged: the pixels, the prompt, and the reward with its version and settings.

The same image of the same prompt is judged once, in this run or in the next. A remembered score is the same float64,
bit for bit; an image that could not be judged (NaN) is not remembered, so the next call tries again.

    ScoreFile      the scores of any number of rewards in one SQLite file, shared by runs and processes
    CachedScorer   a scorer that asks another one only about what it has not seen

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preference_data.pixels import pixel_hash
from preference_data.records import Prompt
from rewards.scores import Reward, Scorer, Scores

Row = Mapping[str, float]
"""`VALUE` and the parts by their names"""
VALUE = ""
"""the value's key: no part has this name"""
_TABLES = (
    "CREATE TABLE IF NOT EXISTS judged (identity TEXT, key TEXT, scores TEXT NOT NULL, ms REAL, batch INTEGER, "
    "PRIMARY KEY (identity, key)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS note (key TEXT PRIMARY KEY, content TEXT NOT NULL)",
)


def identity(name: str, reward: Reward) -> str:
    """The reward's name, version and settings as one text: rewards share remembered scores only when it is equal."""
    return f"{name} v{reward.version} {json.dumps(_described(reward), sort_keys=True, default=repr)}"


def _described(value: Any) -> Any:
    """Settings for JSON; a reward inside another keeps its kind and version, which its fields alone would lose."""
    if is_dataclass(value) and not isinstance(value, type):
        settings = {field.name: _described(getattr(value, field.name)) for field in fields(value)}
        return {**settings, "": [type(value).__qualname__, getattr(value, "version", 0)]}
    return [_described(each) for each in value] if isinstance(value, tuple | list) else value


def score_key(sha256: str, prompt: Prompt) -> str:
    """Of an image, by the hash of its pixels, and everything a reward may read of its prompt."""
    sources = [[source.sha256 for source in prompt.sources]] if prompt.sources else []
    what = json.dumps([sha256, prompt.id, prompt.text, prompt.spans, *sources])
    return hashlib.sha256(what.encode()).hexdigest()[:32]


def scores_as_rows(scores: Scores) -> list[dict[str, float]]:
    """Value and parts of each image."""
    parts = [(name, part_B.tolist()) for name, part_B in scores.parts.items()]
    values = np.asarray(scores.value_B, dtype=np.float64).tolist()
    return [{VALUE: value, **{name: float(part_B[i]) for name, part_B in parts}} for i, value in enumerate(values)]


class ScoreFile:
    """An open file of scores, of the milliseconds they took and of notes. Use `close` or a with statement.

    Raises ValueError for a file that is something else or damaged. Of a comparison's file of before, which had no
    parts, the values are taken over; what a ``CachedScorer`` wrote before is judged anew.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(path, timeout=30.0)  # seconds to wait for another process that is writing
        try:
            self._file.execute("PRAGMA journal_mode = WAL")
            with self._file:
                fresh = not self._columns("judged")
                for table in _TABLES:
                    self._file.execute(table)
                if fresh and {"identity", "key", "value", "ms", "batch"} <= self._columns("score"):
                    old = self._file.execute("SELECT identity, key, value, ms, batch FROM score").fetchall()
                    self._insert((person, key, value, ms, batch) for person, key, value, ms, batch in old)
            self._file.execute("SELECT identity, key, scores, ms, batch FROM judged LIMIT 1").fetchone()
            self._file.execute("SELECT key, content FROM note LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise ValueError(f"{path} is no readable score cache ({error}); move it away and run again") from error

    def close(self) -> None:
        """Close the file. What was kept is safe on disk, so forgetting this loses nothing."""
        self._file.close()

    def __enter__(self) -> ScoreFile:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    def find(self, identity: str, key: str) -> dict[str, float] | None:
        """The value and parts remembered under an identity and a key."""
        line = self._file.execute(
            "SELECT scores FROM judged WHERE identity = ? AND key = ?", (identity, key)
        ).fetchone()
        row = json.loads(line[0]) if line else None
        return row if isinstance(row, dict) else None  # a bare value, whose parts nobody knows, is asked for again

    def known(self, identity: str) -> dict[str, float]:
        """key -> value of everything remembered under an identity."""
        lines = self._file.execute("SELECT key, scores FROM judged WHERE identity = ?", (identity,))
        rows = ((key, json.loads(scores)) for key, scores in lines)
        return {key: row[VALUE] if isinstance(row, dict) else row for key, row in rows}

    def keep(self, identity: str, rows: Iterable[tuple[str, Row, float, int]]) -> None:
        """(key, value and parts, ms an image, images in the call) of judged images: all of them or none."""
        with self._file:
            self._insert((identity, *row) for row in rows)

    def times(self, identity: str) -> tuple[list[float], list[float]]:
        """(ms of single calls, ms an image in batches)."""
        rows = self._file.execute("SELECT ms, batch FROM judged WHERE identity = ? AND ms > 0", (identity,)).fetchall()
        return [ms for ms, batch in rows if batch == 1], [ms for ms, batch in rows if batch > 1]

    def note(self, what: object, make: Callable[[], Any]) -> Any:
        """What was noted about `what` (JSON), made and noted when it was not."""
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        row = self._file.execute("SELECT content FROM note WHERE key = ?", (key,)).fetchone()
        if row:
            return json.loads(row[0])
        made = make()
        with self._file:
            self._file.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (key, json.dumps(made)))
        return made

    def _insert(self, rows: Iterable[tuple[str, str, Row | float, float, int]]) -> None:
        lines = [(person, key, json.dumps(row), ms, batch) for person, key, row, ms, batch in rows]
        self._file.executemany("INSERT OR REPLACE INTO judged VALUES (?, ?, ?, ?, ?)", lines)

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self._file.execute(f"PRAGMA table_info({table})")}


class CachedScorer:
    """A scorer that asks ``scorer`` only about what it has not seen.

    ``identity`` comes from the function of that name. ``path`` is the file of a ``ScoreFile``; without it only memory
    is used. ``capacity`` bounds the memory, in scores (about 400 bytes each); the oldest go first. ``hits`` and
    ``misses`` count images.
    """

    def __init__(self, scorer: Scorer, identity: str, path: Path | None = None, capacity: int = 200_000) -> None:
        self._scorer = scorer
        self._identity = f"{identity} {scorer.name}"
        self._memory: dict[str, Row] = {}
        self._capacity = capacity
        self._file = None if path is None else ScoreFile(path)
        self.name = scorer.name
        self.hits = 0
        self.misses = 0

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """As the scorer's own call. ``unjudged`` counts this call's failures, which are never remembered."""
        if len(prompts) != len(images_B3HW):
            count = len(images_B3HW)
            raise ValueError(f"{len(prompts)} prompts but {count} images; image i is judged by prompt i")
        keys = [self._key(prompt, image) for prompt, image in zip(prompts, images_B3HW, strict=True)]
        rows = [None if key is None else self._find(key) for key in keys]
        new = [i for i, row in enumerate(rows) if row is None]
        self.hits += len(rows) - len(new)
        self.misses += len(new)
        fresh = self._scorer([prompts[i] for i in new], images_B3HW[new]) if new else Scores(np.zeros(0), {})
        for i, row in zip(new, scores_as_rows(fresh), strict=True):
            rows[i] = row
        results = [row for row in rows if row is not None]
        self._keep({key: results[i] for i in new if (key := keys[i]) and not math.isnan(results[i][VALUE])})
        names = [name for name in (results[0] if results else {}) if name != VALUE]
        parts_B = {name: np.array([row[name] for row in results], dtype=np.float64) for name in names}
        return Scores(np.array([row[VALUE] for row in results], dtype=np.float64), parts_B, fresh.unjudged, fresh.spent)

    def close(self) -> None:
        """Close the file. Scores are safe on disk after every call, so forgetting this loses nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _key(self, prompt: Prompt, image_3HW: np.ndarray) -> str | None:
        """None for an image with NaN or infinite pixels: as 8-bit pixels it would pass for another image."""
        if not np.isfinite(image_3HW).all():
            return None
        return score_key(pixel_hash(image_3HW), prompt)

    def _find(self, key: str) -> Row | None:
        row = self._memory.get(key)
        return self._file.find(self._identity, key) if row is None and self._file is not None else row

    def _keep(self, rows: dict[str, Row]) -> None:
        if self._file is not None and rows:
            self._file.keep(self._identity, ((key, row, 0.0, len(rows)) for key, row in rows.items()))
        self._memory.update(rows)
        while len(self._memory) > self._capacity:
            del self._memory[next(iter(self._memory))]
