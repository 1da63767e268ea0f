"""Which comparison this process shows. Set once, before the first page is asked for."""

from __future__ import annotations

from pathlib import Path

_folder: list[Path] = []


def use(folder: Path) -> None:
    """Show this comparison from here on."""
    _folder[:] = [folder]


def folder() -> Path | None:
    """The comparison; None before `use`."""
    return _folder[0] if _folder else None
