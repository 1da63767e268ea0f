"""The command that lists what has a name. Experiments are read from their files' headers, so nothing imports torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

ROOT = Path(__file__).parents[1]
CONFIGS, BENCHMARKS = ROOT / "configs", ROOT / "benchmarks"
ROW = re.compile(r"^ {4}(?P<name>[a-z][a-z0-9_]*) {2,}(?P<text>\S.*(?:\n {12,}\S.*)*)$", re.MULTILINE)
"""A line of the table in a header: a name, and what it is, which may go on in lines that are indented further."""


def header(file: Path) -> str:
    """What a file says about itself, without running it."""
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def first_line(text: str | None) -> str:
    """The first sentence or two of a docstring, which stand on its first line."""
    return (text or "").strip().split("\n")[0].strip()


def experiments() -> dict[str, str]:
    """name -> what it trains, from the tables in the headers of experiments/configs."""
    files = sorted(CONFIGS.glob("*.py"), key=lambda file: (file.stem.startswith("large"), file.stem))  # laptops first
    headers = [header(file) for file in files]
    return {row["name"]: " ".join(row["text"].split()) for text in headers for row in ROW.finditer(text)}


def rewards() -> dict[str, str]:
    """name -> what it measures, and its range."""
    from rewards.reward_table import REWARDS

    return {name: first_line(kind.__doc__) for name, kind in REWARDS.items()}


def formats() -> dict[str, str]:
    """name -> what `glyphlab pairs import` and `export` read and write under it."""
    from preference_data.exchange.formats.table import FORMATS

    return {name: kind.about for name, kind in FORMATS.items()}


def benchmarks() -> dict[str, str]:
    """name -> what `python -m experiments.benchmarks.NAME` measures."""
    headers = {file.stem: header(file) for file in sorted(BENCHMARKS.glob("*.py"))}
    return {name: first_line(text) for name, text in headers.items() if "python -m" in text}


def filters() -> dict[str, str]:
    """name -> thresholds by default, and what `glyphlab curate` drops by them."""
    from experiments.curation.thresholds import Filters, in_order

    rows = {}
    for name, each in in_order(Filters()).items():
        bounds = [f"{key}={value:g}" for key, value in each.bounds().items()] or ["no threshold"]
        bounds += [f"{key}={value}" for key, value in each.choices().items()]
        rows[name] = f"{first_line(type(each).__doc__)} [{', '.join(bounds)}; {each.unit}]"
    return rows


KINDS: Mapping[str, tuple[str, Callable[[], dict[str, str]]]] = {
    "experiments": ("glyphlab train NAME", experiments),
    "rewards": ("--reward NAME, or glyphlab score FOLDER --reward NAME", rewards),
    "filters": ("glyphlab curate SET --set NAME.THRESHOLD=VALUE", filters),
    "formats": ("glyphlab pairs import FILE CAMPAIGN --format NAME, and export", formats),
    "benchmarks": ("python -m experiments.benchmarks.NAME", benchmarks),
}
"""kind -> (how its names are used, what makes the list)."""


def listed(kinds: tuple[str, ...]) -> list[str]:
    """The lists of those kinds, a line a name. Raises ValueError naming the nearest for a kind that there is not."""
    from preference_data.spelling import unknown

    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(unknown("kind of name", kind, KINDS))
    lines = []
    for kind in kinds or tuple(KINDS):
        use, rows = KINDS[kind][0], KINDS[kind][1]()
        width = max(map(len, rows))
        lines += ["", f"{kind} ({use})", *(f"  {name:{width}}  {text}" for name, text in rows.items())]
    return lines[1:]


@dataclass(frozen=True)
class ListNames:
    """List experiments, rewards, filters of images, formats of preferences and benchmarks, a line each.

    Example: glyphlab list experiments
    """

    kinds: Annotated[Positional[tuple[str, ...]], arg(metavar="[KIND ...]")] = ()
    """experiments, rewards, filters, formats or benchmarks; all of them when none is named"""

    def run(self) -> int:
        print("\n".join(listed(self.kinds)))
        return 0
