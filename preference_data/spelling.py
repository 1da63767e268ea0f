"""What to say where a name is misspelt or a path leads nowhere: what was given, what was meant, what there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, whatever its capitals; None where none is like it."""
    by_small_letters = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_small_letters, 1)
    return by_small_letters[near[0]] if near else None


def unknown(kind: str, name: str, known: Iterable[str], command: str = "") -> str:
    """The sentence about a name that does not exist: what was given, what was perhaps meant, and what there is.

    `command` is the one that lists what there is, where that is too much for a sentence.
    """
    names = list(known)
    near = nearest(name, names)
    meant = f"; did you mean {near}?" if near else "."
    there = f"`{command}` lists what there is" if command else f"There are {', '.join(names)}"
    return f"there is no {kind} {name!r}{meant} {there}"


def not_there(kind: str, path: object) -> str:
    """The sentence about a path at which there is nothing; `kind` is what was looked for, such as "folder"."""
    return f"there is no {kind} {path}; check how it is spelt and where the command runs"


def not_a_number(kind: type, text: str) -> str:
    """The words about a text that is no number where `kind`, int or float, is wanted."""
    example = "a whole number is wanted, such as 48" if kind is int else "a number is wanted, such as 0.5"
    return f"{example}; {text!r} is not one"
