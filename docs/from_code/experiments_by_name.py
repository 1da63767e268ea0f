"""Makes a page for every named experiment: the header of its file, and its settings where they are no defaults."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

from experiments import configs
from experiments.commands import listing
from from_code.markdown import block, page, table


def headers() -> dict[str, str]:
    """Return, for every named experiment, the docstring of the file that defines it."""
    found = {}
    for module in (each for each in vars(configs).values() if inspect.ismodule(each)):
        text = inspect.getdoc(module) or ""
        found.update({row["name"]: text for row in listing.ROW.finditer(text)})
    return {name: found.get(name, "") for name in configs.CONFIGS}


def changed(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (setting, value) of what differs from the defaults of a settings class, nested settings by their parts."""
    for field in dataclasses.fields(value):
        name, now = f"{prefix}{field.name}", getattr(value, field.name)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if now == default:
            continue
        if dataclasses.is_dataclass(now) and not isinstance(now, type):
            yield name, type(now).__name__
            yield from changed(now, f"{name}.")
        else:
            yield name, getattr(now, "__name__", None) or repr(now)


def experiment_page(name: str, header: str, about: str) -> str:
    """Return the page of one experiment."""
    rows = ((f"`{setting}`", f"`{value}`") for setting, value in changed(configs.CONFIGS[name]))
    return page(
        name, about, block(f"glyphlab train {name}", "sh"),
        "## The header of its file", block(header),
        "## Settings that are not defaults", table(("setting", "value"), rows),
        "[All settings](../settings.md) says what each of them means.",
    )  # fmt: skip


def pages() -> Iterator[tuple[str, str]]:
    """Yield (file, Markdown) of the list of experiments and of every experiment."""
    about, texts = listing.experiments(), headers()
    rows = ((f"[`{name}`]({name}.md)", about.get(name, "")) for name in texts)
    yield "experiments/index.md", page("Experiments", table(("`glyphlab train NAME`", "what it trains"), rows))
    for name, header in texts.items():
        yield f"experiments/{name}.md", experiment_page(name, header, about.get(name, ""))
