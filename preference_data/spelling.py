"""The name that was meant where one is misspelt."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, whatever its capitals; None where none is like it."""
    by_small_letters = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_small_letters, 1)
    return by_small_letters[near[0]] if near else None


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence about a name that does not exist: what was given, what was perhaps meant, and what there is."""
    names = list(known)
    near = nearest(name, names)
    meant = f"; did you mean {near}?" if near else "."
    return f"there is no {kind} {name!r}{meant} There are {', '.join(names)}"
