"""Scores remembered by what was judged: the pixels, the prompt, and the reward with its version and settings.

The same image of the same prompt is judged once, in this run or in the next. A remembered score is the same float64,
bit for bit. The file is SQLite; several comparisons may write to it at once.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from preference_data.records import Prompt
from rewards.scores import Reward

_TABLES = (
    "CREATE TABLE IF NOT EXISTS judged (identity TEXT, key TEXT, scores TEXT NOT NULL, ms REAL, batch INTEGER, "
    "PRIMARY KEY (identity, key)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS note (key TEXT PRIMARY KEY, content TEXT NOT NULL)",
)


def identity(name: str, reward: Reward, without: Collection[str] = ()) -> str:
    """The reward's name, version and settings as one text: rewards share remembered scores only when it is equal.

    `without` are names of settings that are left out, in the reward and in those inside it.
    """
    return f"{name} v{reward.version} {json.dumps(_described(reward, without), sort_keys=True, default=repr)}"


def _described(value: Any, without: Collection[str]) -> Any:
    """Settings for JSON; a reward inside another keeps its kind and version, which its fields alone would lose."""
    if is_dataclass(value) and not isinstance(value, type):
        named = [field.name for field in fields(value) if field.name not in without]
        settings = {name: _described(getattr(value, name), without) for name in named}
        return {**settings, "": [type(value).__qualname__, getattr(value, "version", 0)]}
    return [_described(each, without) for each in value] if isinstance(value, tuple | list) else value


def score_key(sha256: str, prompt: Prompt) -> str:
    """Of an image, by the hash of its pixels, and everything a reward may read of its prompt."""
    sources = [[source.sha256 for source in prompt.sources]] if prompt.sources else []
    what = json.dumps([sha256, prompt.id, prompt.text, prompt.spans, *sources])
    return hashlib.sha256(what.encode()).hexdigest()[:32]


class ScoreFile:
    """An open file of scores, of the milliseconds they took and of notes. Use `close` or a with statement.

    Raises ValueError for a file that is something else or damaged.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(path, timeout=30.0)  # seconds to wait for another process that is writing
        try:
            self._file.execute("PRAGMA journal_mode = WAL")
            with self._file:
                for table in _TABLES:
                    self._file.execute(table)
            self._file.execute("SELECT identity, key, scores, ms, batch FROM judged LIMIT 1").fetchone()
            self._file.execute("SELECT key, content FROM note LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise ValueError(f"{path} is not a readable score cache ({error}); move it away and run again") from error

    def close(self) -> None:
        """Close the file. What was kept is safe on disk, so forgetting this loses nothing."""
        self._file.close()

    def __enter__(self) -> ScoreFile:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    def known(self, identity: str) -> dict[str, float]:
        """key -> value of everything remembered under an identity."""
        lines = self._file.execute("SELECT key, scores FROM judged WHERE identity = ?", (identity,))
        rows = ((key, json.loads(scores)) for key, scores in lines)
        return {key: row[""] if isinstance(row, dict) else row for key, row in rows}  # once, parts were kept, too

    def keep(self, identity: str, rows: Iterable[tuple[str, float, float, int]]) -> None:
        """Keep (key, value, ms an image, images in the call) of scored images: all of them or none."""
        lines = [(identity, key, json.dumps(value), ms, batch) for key, value, ms, batch in rows]
        with self._file:
            self._file.executemany("INSERT OR REPLACE INTO judged VALUES (?, ?, ?, ?, ?)", lines)

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
