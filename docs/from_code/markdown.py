"""Writes the few pieces of Markdown that the reference pages consist of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def block(text: str, language: str = "text") -> str:
    """Fence `text`, with as many backticks as it needs."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def cell(text: str) -> str:
    """Make one cell of a table of `text`: one line, no bar that would end the cell."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out `rows` under `head`."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell(each) for each in line) + " |\n" for line in lines)


def page(title: str, *parts: str) -> str:
    """Put a title and its parts on a page."""
    return "\n\n".join([f"# {title}", *(part.strip("\n") for part in parts if part.strip())]) + "\n"
