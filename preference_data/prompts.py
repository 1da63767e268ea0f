"""Prompt sets, and batches of them that are a pure function of (seed, step, size)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

from preference_data.line_files import decode_text, json_lines, read_json_lines, read_lines, text_lines
from preference_data.records import Prompt, prompt_from_json, quoted_spans, to_json

__all__ = ["PromptSet", "quoted_spans"]


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    """A permutation of 0..count-1, the same on every machine and Python version: sorted by sha256."""
    return tuple(sorted(range(count), key=lambda i: hashlib.sha256(f"{seed}:{epoch}:{i}".encode()).digest()))


class PromptSet(Sequence[Prompt]):
    """Different prompts in a fixed order, and seeded batches of them.

    ValueError when it is empty or the same id comes twice (which would weigh that prompt double in silence).
    """

    def __init__(self, prompts: Iterable[Prompt], seed: int = 0) -> None:
        self._prompts = tuple(prompts)
        self.seed = seed
        if not self._prompts:
            raise ValueError("a prompt set needs at least one prompt; this one is empty")
        seen: set[str] = set()
        for prompt in self._prompts:
            if prompt.id in seen:
                raise ValueError(f"prompt {prompt.id} ({prompt.text!r}) is in the set twice; keep one of them")
            seen.add(prompt.id)

    @classmethod
    def from_texts(cls, texts: Iterable[str], seed: int = 0) -> PromptSet:
        return cls((Prompt.from_text(text) for text in texts), seed)

    @classmethod
    def load(cls, path: Path, seed: int = 0) -> PromptSet:
        """Read one prompt a line: plain text, or JSON objects in a file named ``*.jsonl``. Empty lines are skipped.

        ValueError with the line number when a line is not a prompt."""
        is_json = path.suffix.lower() == ".jsonl"
        return cls._of_rows(read_json_lines(path) if is_json else read_lines(path), is_json, str(path), seed)

    @classmethod
    def decode(cls, content: bytes, name: str, seed: int = 0) -> PromptSet:
        """``load`` of a file's bytes, called ``name``."""
        is_json = name.lower().endswith(".jsonl")
        rows = json_lines(content, name) if is_json else text_lines(decode_text(content, name))
        return cls._of_rows(rows, is_json, name, seed)

    @classmethod
    def _of_rows(cls, rows: Iterable[tuple[int, Any]], is_json: bool, name: str, seed: int) -> PromptSet:
        prompts = []
        for number, row in rows:
            try:
                prompts.append(prompt_from_json(row) if is_json else Prompt.from_text(row.strip()))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{name} line {number}: {error}") from error
        return cls(prompts, seed)

    @property
    def has_sizes(self) -> bool:
        """Whether any prompt says in which size its image is to be made."""
        return any(prompt.size for prompt in self._prompts)

    def to_jsonl(self) -> str:
        """One JSON object a line, which ``load`` reads back."""
        return "".join(json.dumps(to_json(prompt), ensure_ascii=False) + "\n" for prompt in self._prompts)

    def __len__(self) -> int:
        return len(self._prompts)

    @overload
    def __getitem__(self, index: int) -> Prompt: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Prompt, ...]: ...

    def __getitem__(self, index: int | slice) -> Prompt | tuple[Prompt, ...]:
        return self._prompts[index]

    def batch(self, step: int, size: int) -> list[Prompt]:
        """The ``size`` prompts of ``step``: a pure function of (seed, step, size), so resuming needs only the step.

        Every epoch has its own permutation, of which it uses as many whole batches as fit: prompts within a batch are
        different whenever ``size <= len(self)``, and the few left over change from epoch to epoch. A larger batch holds
        every prompt equally often, give or take one.
        """
        if step < 0 or size < 1:
            raise ValueError(f"batch(step={step}, size={size}): step counts from 0 and size from 1")
        rounds = -(-size // len(self))  # permutations one batch draws on
        per_epoch = max(len(self) // size, 1)
        epoch, index = divmod(step, per_epoch)
        chosen = [i for r in range(rounds) for i in _order(self.seed, epoch * rounds + r, len(self))]
        return [self._prompts[i] for i in chosen[index * size : (index + 1) * size]]
