"""Makes the page of settings: every class that an experiment is made of, with its fields, defaults and docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin, get_type_hints

from experiments.experiment import Experiment
from from_code.markdown import block, page, table


def classes() -> list[type]:
    """Return the settings classes that can be reached from `Experiment`, each once, in the order of its fields."""
    found: list[type] = []

    def visit(hint: Any) -> None:
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and hint not in found:
            found.append(hint)
            for each in get_type_hints(hint).values():
                visit(each)
        if get_origin(hint) is not Callable:  # what a function takes and returns is no setting
            for each in get_args(hint):
                visit(each)

    visit(Experiment)
    return found


def field_texts(kind: type) -> dict[str, str]:
    """Return field -> docstring below it, or the comment beside it; those of parents too."""
    texts: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if dataclasses.is_dataclass(each):
            texts |= {name: text for name, text in own_texts(each).items() if text or name not in texts}
    return texts


def own_texts(kind: type) -> dict[str, str]:
    """Return the texts of the fields that stand in the class itself."""
    source = textwrap.dedent(inspect.getsource(kind))
    lines, texts = source.splitlines(), {}
    body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            beside = lines[(node.end_lineno or 1) - 1][node.end_col_offset or 0 :].partition("#")[2]
            texts[node.target.id] = str(after.value.value) if is_text else beside.strip()  # type: ignore[union-attr]
    return texts


def default(field: dataclasses.Field[Any]) -> str:
    """Return a field's default as one would write it; "" where it must be given."""
    if field.default is not dataclasses.MISSING:
        return getattr(field.default, "__name__", None) or repr(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return "its defaults" if dataclasses.is_dataclass(field.default_factory()) else repr(field.default_factory())
    return ""


def type_name(field: dataclasses.Field[Any]) -> str:
    """Return a field's type as its annotation names it."""
    return field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))


def section(kind: type, title: str = "") -> str:
    """Return the part of a page about one class."""
    texts = field_texts(kind)
    rows = (
        (f"`{each.name}`", f"`{type_name(each)}`", f"`{default(each)}`" if default(each) else "", texts[each.name])
        for each in dataclasses.fields(kind)
    )
    parts = [f"## {title or kind.__name__}", block(inspect.getdoc(kind) or "")]
    return "\n\n".join([*parts, table(("setting", "type", "default", "meaning"), rows)] if texts else parts)


def pages() -> Iterator[tuple[str, str]]:
    """Yield the file and the Markdown of the page."""
    about = (
        "An experiment is one value of the class `Experiment`, and what stands in it. On the command line a setting is "
        "an option with its path: `glyphlab train nano_grpo --algorithm.group 8 --optim.adamw-lr 1e-5`."
    )
    yield "settings.md", page("Settings", about, *(section(kind) for kind in classes()))
