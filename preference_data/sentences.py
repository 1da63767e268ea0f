"""English sentences that remember what they were made of, so that a page can say them in another language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Sentence(str):
    """`pattern` with `values` in its fields (as `str.format` knows them); to everybody else an ordinary text."""

    pattern: str
    values: Mapping[str, Any]

    def __new__(cls, pattern: str, values: Mapping[str, Any] | None = None) -> Sentence:
        made = super().__new__(cls, pattern.format_map(values or {}))
        made.pattern, made.values = pattern, values or {}
        return made

    def __getnewargs__(self) -> tuple[str, Mapping[str, Any]]:  # type: ignore[override]
        return self.pattern, self.values
