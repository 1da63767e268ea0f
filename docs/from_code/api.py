"""Makes the pages of the Python interface: mkdocstrings reads each module of the library floors and the run folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from from_code.markdown import page, table

FLOORS = ("preference_data", "base_model", "rewards", "alignment", "experiments.record")
"""What may be called from a notebook; the rest of `experiments` is there for the command line."""
LEFT_OUT = ("preference_data.migrations", "preference_data.store.migrations")


def modules(package: ModuleType) -> list[str]:
    """Return the names of the package's modules, of all folders, without those that are private."""
    found = [each.name for each in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{package.__name__}.")]
    return [n for n in found if not n.startswith(LEFT_OUT) and not any(part.startswith("_") for part in n.split("."))]


def pages() -> Iterator[tuple[str, str]]:
    """Yield (file, Markdown): a list of folders, and a page for each folder of modules."""
    folders: dict[str, list[str]] = {}
    for floor in FLOORS:
        package = importlib.import_module(floor)
        folders.setdefault(floor, []).append(floor)
        for name in modules(package):
            folders.setdefault(name.rpartition(".")[0], []).append(name)
    rows = ((f"[`{folder}`]({folder}.md)", str(len(names))) for folder, names in folders.items())
    yield "python/index.md", page("Python", table(("package", "modules"), rows))
    for folder, names in folders.items():
        yield f"python/{folder}.md", page(folder, *(f"::: {name}" for name in names))
