"""Scores remembered by what was judged: the pixels, the prompt, and the reward with its version and settings.

The same picture of the same prompt is judged once, in this run or in the next. A remembered score is the same float64,
bit for bit; a picture that could not be judged (NaN) is not remembered, so the next call tries again.

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preference_data.records import Prompt
from rewards.scores import Reward, Scorer, Scores, to_uint8

_Row = dict[str, float]  # `VALUE` and the parts by their names
VALUE = ""  # the value's key: no part has this name
FORMAT = 2  # of a row in the file; rows of another are never found


def picture_hash(picture_3HW: np.ndarray) -> str:
    """sha256 (64 hex digits) of the 8-bit pixels and their shape."""
    pixels = np.ascontiguousarray(to_uint8(picture_3HW))
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def identity(name: str, reward: Reward) -> str:
    """The reward's name, version and settings as one text: rewards share remembered scores only when it is equal."""
    return f"{name} v{reward.version} {json.dumps(_described(reward), sort_keys=True, default=repr)}"


def _described(value: Any) -> Any:
    """Settings for JSON; a reward inside another keeps its kind and version, which its fields alone would lose."""
    if is_dataclass(value) and not isinstance(value, type):
        settings = {field.name: _described(getattr(value, field.name)) for field in fields(value)}
        return {**settings, "": [type(value).__qualname__, getattr(value, "version", 0)]}
    return [_described(each) for each in value] if isinstance(value, tuple | list) else value


class CachedScorer:
    """A scorer that asks ``scorer`` only about what it has not seen.

    ``identity`` comes from the function of that name. ``path`` is an SQLite file shared by runs and processes; without
    it only memory is used. ``capacity`` bounds the memory, in scores (about 400 bytes each); the oldest go first.
    ``hits`` and ``misses`` count pictures.
    """

    def __init__(self, scorer: Scorer, identity: str, path: Path | None = None, capacity: int = 200_000) -> None:
        self._scorer = scorer
        self._identity = f"{identity} {scorer.name}"
        self._memory: dict[str, _Row] = {}
        self._capacity = capacity
        self._file = None if path is None else _open(path)
        self.name = scorer.name
        self.hits = 0
        self.misses = 0

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """As the scorer's own call. ``unjudged`` counts this call's failures, which are never remembered."""
        if len(prompts) != len(images_B3HW):
            count = len(images_B3HW)
            raise ValueError(f"{len(prompts)} prompts but {count} pictures; picture i is judged by prompt i")
        keys = [self._key(prompt, picture) for prompt, picture in zip(prompts, images_B3HW, strict=True)]
        rows = [None if key is None else self._find(key) for key in keys]
        new = [i for i, row in enumerate(rows) if row is None]
        self.hits += len(rows) - len(new)
        self.misses += len(new)
        fresh = self._scorer([prompts[i] for i in new], images_B3HW[new]) if new else Scores(np.zeros(0), {})
        for place, i in enumerate(new):
            parts = {part: float(array[place]) for part, array in fresh.parts.items()}
            rows[i] = {VALUE: float(fresh.value_B[place]), **parts}
        found = [row for row in rows if row is not None]
        self._keep({key: found[i] for i in new if (key := keys[i]) and not math.isnan(found[i][VALUE])})
        names = [name for name in (found[0] if found else {}) if name != VALUE]
        parts_B = {name: np.array([row[name] for row in found], dtype=np.float64) for name in names}
        return Scores(np.array([row[VALUE] for row in found], dtype=np.float64), parts_B, fresh.unjudged, fresh.spent)

    def close(self) -> None:
        """Close the file. Scores are safe on disk after every call, so forgetting this loses nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _key(self, prompt: Prompt, picture_3HW: np.ndarray) -> str | None:
        """None for a picture with NaN or infinite pixels: as 8-bit pixels it would pass for another picture."""
        if not np.isfinite(picture_3HW).all():
            return None
        what = json.dumps([FORMAT, picture_hash(picture_3HW), prompt.id, prompt.text, prompt.spans, self._identity])
        return hashlib.sha256(what.encode()).hexdigest()

    def _find(self, key: str) -> _Row | None:
        row = self._memory.get(key)
        if row is None and self._file is not None:
            line = self._file.execute("SELECT scores FROM score WHERE key = ?", (key,)).fetchone()
            row = json.loads(line[0]) if line else None
        return row

    def _keep(self, rows: dict[str, _Row]) -> None:
        if self._file is not None and rows:
            with self._file:  # one transaction: all of the call's scores or none
                lines = [(key, json.dumps(row)) for key, row in rows.items()]
                self._file.executemany("INSERT OR IGNORE INTO score VALUES (?, ?)", lines)
        self._memory.update(rows)
        while len(self._memory) > self._capacity:
            del self._memory[next(iter(self._memory))]


def _open(path: Path) -> sqlite3.Connection:
    """The score file, made when it is missing. ValueError when it is something else or damaged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = sqlite3.connect(path, timeout=30.0)  # seconds to wait for another process that is writing
    try:
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("CREATE TABLE IF NOT EXISTS score (key TEXT PRIMARY KEY, scores TEXT NOT NULL) WITHOUT ROWID")
        file.execute("SELECT key, scores FROM score LIMIT 1").fetchone()
    except sqlite3.DatabaseError as error:
        file.close()
        raise ValueError(f"{path} is no readable score cache ({error}); move it away and run again") from error
    return file
