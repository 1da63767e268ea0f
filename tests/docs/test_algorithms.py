"""The page of algorithms names every file of alignment/ with its equations, and each algorithm's page repeats them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "explanation" / "algorithms"
ROW = re.compile(
    r"^\| (?:\[[^\]]+\]\((?P<page>\w+\.md)\) \| )?\[`(?P<file>[\w/]+\.py)`\]\([^)]+\) \| (?P<tags>[^|]*?) ?\|"
)
DEFINED = re.compile(r"^ +\(([A-Z])(\d+)\)", re.MULTILINE)


def defined(text: str) -> list[str]:
    """Return the tags of the equations that a text sets out, each once, in order."""
    return list(dict.fromkeys(letter + number for letter, number in DEFINED.findall(text)))


def equations(file: Path) -> list[str]:
    """Return the tags of the equations at the head of a source file."""
    source = ast.parse(file.read_text(encoding="utf-8"))
    return defined("\n" + (ast.get_docstring(source, clean=False) or ""))


def in_words(tags: list[str]) -> str:
    """Return tags as the page writes them: "G1 to G5", or "R1, R2"."""
    return f"{tags[0]} to {tags[-1]}" if len(tags) > 2 else ", ".join(tags)


def rows(page: str) -> dict[str, tuple[str, str]]:
    """Return file -> (its page, its equations) of the tables."""
    found = [match for line in page.splitlines() if (match := ROW.match(line))]
    return {match["file"]: (match["page"] or "", match["tags"]) for match in found}


FILES = {
    file.relative_to(ROOT / "alignment").as_posix(): equations(file)
    for file in (ROOT / "alignment").rglob("*.py")
    if file.name != "__init__.py"
}
LISTED = rows((PAGES / "README.md").read_text(encoding="utf-8"))
EXPLAINED_HERE = sorted(name for name in LISTED if "/" not in name)
"""Without alignment/monitoring, which docs/explanation/monitors.md explains."""


def test_every_file_stands_in_the_tables_with_its_equations() -> None:
    wanted = {name: in_words(tags) for name, tags in FILES.items() if tags or name in LISTED}
    assert {name: tags for name, (_, tags) in LISTED.items()} == wanted
    assert set(LISTED) >= {name for name in FILES if "/" not in name}, "a file of alignment/ is missing in the tables"


def test_a_letter_belongs_to_one_file_and_numbers_leave_nothing_out() -> None:
    owners: dict[str, set[str]] = {}
    for name, tags in FILES.items():
        assert [int(tag[1:]) for tag in tags] == list(range(1, len(tags) + 1)), (name, tags)
        for tag in tags:
            owners.setdefault(tag[0], set()).add(name)
    assert not {letter: names for letter, names in owners.items() if len(names) > 1}


@pytest.mark.parametrize("name", EXPLAINED_HERE)
def test_an_algorithms_page_repeats_its_equations(name: str) -> None:
    written = defined((PAGES / (LISTED[name][0] or "README.md")).read_text(encoding="utf-8"))
    assert [tag for tag in FILES[name] if tag not in written] == []


def test_every_page_of_an_algorithm_is_reached_from_the_table() -> None:
    assert {page for page, _ in LISTED.values() if page} == {page.name for page in PAGES.glob("*.md")} - {"README.md"}
