"""Settings given as texts, such as `optim.adamw_lr=1e-4`, put into an experiment: typed, and checked together.

What is misspelt or of the wrong kind is a ValueError that names it and lists what there is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from experiments.experiment import Experiment, taking_own_images
from experiments.record.moved_names import current_setting
from experiments.record.recorded_settings import FUNCTIONS, named
from preference_data.spelling import nearest, not_a_number

T = TypeVar("T")
YES, NO = ("true", "yes"), ("false", "no")


def override(value: T, settings: Mapping[str, str]) -> T:
    """`value`, a dataclass, with the settings of dotted paths. Those of one dataclass are set together, so that what
    belongs together (a group and its micro-batch) can change together.

    Raises ValueError for what does not exist, has the wrong kind, or is refused by the dataclass.
    """
    tree: dict[str, Any] = {}
    for path, text in settings.items():
        *inner, last = current_setting(path).split(".")
        branch = tree
        for name in inner:
            branch = branch.setdefault(name, {})
            if not isinstance(branch, dict):
                raise ValueError(f"{path} and a part of it are both set; set one of them")
        if last in branch:
            raise ValueError(f"{path} and a part of it are both set; set one of them")
        branch[last] = text
    if isinstance(value, Experiment) and "folder" in tree.get("data", ()):
        value = cast(T, taking_own_images(value))
    return _applied(with_groups(value, map(current_setting, settings)), tree, "")


def with_groups(value: T, paths: Iterable[str]) -> T:
    """`value` with the groups of settings that are None and that one of the dotted paths leads into, at their defaults:
    naming `monitors.every` asks for monitors."""
    inner: dict[str, list[str]] = {}
    for first, dot, rest in (path.partition(".") for path in paths):
        if dot:
            inner.setdefault(first, []).append(rest)
    hints, new = get_type_hints(type(value)), {}
    for name in inner.keys() & hints.keys():
        before = getattr(value, name)
        group = default_group(hints[name]) if before is None else before
        if dataclasses.is_dataclass(group) and (after := with_groups(group, inner[name])) is not before:
            new[name] = after
    return cast(T, dataclasses.replace(cast(Any, value), **new)) if new else value


def default_group(kind: Any) -> Any:
    """What an annotation such as `MonitorPlan | None` holds by default; None where that is not one group alone, or it
    has settings without a default."""
    groups = [each for each in get_args(kind) if dataclasses.is_dataclass(each)]
    if len(groups) != 1 or any(
        field.default is field.default_factory is dataclasses.MISSING for field in dataclasses.fields(groups[0])
    ):
        return None
    return cast(Any, groups[0])()


def _applied(value: Any, tree: Mapping[str, Any], where: str) -> Any:
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise ValueError(f"{where[:-1]} is {value!r}, which has no settings inside; {where}{next(iter(tree))} is none")
    known = [field.name for field in dataclasses.fields(value) if field.init]
    hints = get_type_hints(type(value))
    new = {}
    for name, content in tree.items():
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near}? " if near else ""
            raise ValueError(f"there is no setting {where}{name}; {hint}{type(value).__name__} has {', '.join(known)}")
        if isinstance(content, Mapping):
            new[name] = _applied(getattr(value, name), content, f"{where}{name}.")
        else:
            new[name] = convert(hints[name], content, f"{where}{name}")
    try:
        return dataclasses.replace(value, **new)
    except ValueError as error:
        shown = ", ".join(
            f"{where}{name}={content}" for name, content in tree.items() if not isinstance(content, Mapping)
        )
        raise ValueError(f"{shown}: {error}" if shown else str(error)) from error


def convert(kind: Any, text: str, where: str) -> Any:
    """`text` as a value of an annotation: a text, number, path, yes or no, one of some texts, a tuple (`a|b`), a
    function by its dotted path, or none. Raises ValueError naming `where`."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        choices = [each for each in get_args(kind) if each is not NoneType]
        if len(choices) < len(get_args(kind)) and text.lower() in ("", "none"):
            return None
        if len(choices) > 1 or dataclasses.is_dataclass(choices[0]):
            raise ValueError(f"{where} is a group of settings; set those inside it, such as {where}.NAME")
        return convert(choices[0], text, where)
    if origin is Literal:
        if text not in get_args(kind):
            raise ValueError(f"{where} is {text!r}; it must be one of {', '.join(get_args(kind))}")
        return text
    if origin is tuple:
        parts, kinds = text.split("|") if text else [], get_args(kind)
        if kinds[-1] is not Ellipsis and len(parts) != len(kinds):
            raise ValueError(f"{where} is {text!r}; it must be {len(kinds)} values joined by |")
        each = [kinds[0]] * len(parts) if kinds[-1] is Ellipsis else kinds
        return tuple(convert(one, part, where) for one, part in zip(each, parts, strict=True))
    if kind is bool:
        if text.lower() not in YES + NO:
            raise ValueError(f"{where} is {text!r}; it must be true or false")
        return text.lower() in YES
    if kind is Callable or origin is Callable or getattr(origin, "__name__", "") == "Callable":
        if not text.startswith(FUNCTIONS):
            raise ValueError(f"{where} is {text!r}; it must be a function by its path, in {', '.join(FUNCTIONS)}")
        return named(text)
    if kind not in (str, int, float, Path):
        raise ValueError(f"{where} is a group of settings; set those inside it, such as {where}.NAME")
    try:
        value = kind(text)
        if value != value:  # NaN: every comparison with a limit would let it pass
            raise ValueError(text)
    except ValueError as error:
        raise ValueError(f"{where}: {not_a_number(kind, text)}") from error
    return value
