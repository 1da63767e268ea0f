"""What operations on the meta device give and write to, which torch works out anew in Python at every call.

A step of a recipe asks for the same operations on the same shapes as the step before, thousands of times. The answer
to one of them is a shape, strides and a type; `call` keeps it by the operation and by all that it may depend on.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

MOST = 50_000
"""answers kept before all are dropped"""
PLAIN = (int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)
"""arguments that stand for themselves"""
Fresh = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
"""shape, strides and type of a tensor with a storage of its own"""

_answers: dict[Any, tuple[Fresh, ...] | None] = {}


def call(func: Any, args: Any, kwargs: Any) -> Any:
    """`func(*args, **kwargs)` for an operation whose tensors are all on the meta device."""
    kind, single = kind_of(func)
    if kind == "other":
        return func(*args, **kwargs)
    try:
        key = (func, torch.get_default_dtype(), described(args), *((k, described(v)) for k, v in kwargs.items()))
    except TypeError:
        return func(*args, **kwargs)
    if key in _answers:
        answer = _answers[key]
        if kind == "in place":
            return args[0]
        if answer is not None:
            made = [torch.empty_strided(shape, strides, dtype=dtype, device="meta") for shape, strides, dtype in answer]
            return made[0] if single else tuple(made)
        return func(*args, **kwargs)
    result = func(*args, **kwargs)
    if len(_answers) >= MOST:
        _answers.clear()
    _answers[key] = fresh(result, args) if kind == "makes" else ()
    return result


@cache
def name_of(func: Any) -> str:
    """The operation's name; torch makes its whole schema anew whenever it is asked for it."""
    return str(func._schema.name)


@cache
def written_arguments(func: Any) -> tuple[int, ...]:
    """Which of an operation's arguments it writes to, by position."""
    infos = [argument.alias_info for argument in func._schema.arguments]
    return tuple(i for i, info in enumerate(infos) if info is not None and info.is_write)


@cache
def kind_of(func: Any) -> tuple[str, bool]:
    """ "makes" tensors with storages of their own, writes "in place" without a change of shape, or "other"; and whether
    it returns one tensor."""
    schema = func._schema
    aliased = [x for x in (*schema.arguments, *schema.returns) if x.alias_info is not None]
    if not schema.returns or any(str(x.type) != "Tensor" for x in schema.returns):
        return "other", False
    if not aliased:
        return "makes", len(schema.returns) == 1
    own = schema.arguments[0].alias_info
    pointwise = torch.Tag.pointwise in func.tags and len(aliased) == 2 and len(schema.returns) == 1
    return ("in place", True) if pointwise and own is not None and own.is_write else ("other", False)


def described(x: Any) -> Any:
    """All of an argument that a shape may depend on. Raises TypeError for what is unknown here."""
    if isinstance(x, Tensor):
        if not x.is_meta or x.is_complex() or x.layout is not torch.strided:
            raise TypeError
        return x.shape, x.stride(), x.dtype
    if isinstance(x, list | tuple):
        return tuple(map(described, x))
    if isinstance(x, PLAIN):
        return type(x), x  # 1, 1.0 and True are equal, and promote types differently
    raise TypeError


def fresh(result: Any, args: Any) -> tuple[Fresh, ...] | None:
    """What to remember of a result; None where a tensor made from shape, strides and type is not the same."""
    tensors = result if isinstance(result, list | tuple) else (result,)
    storages = [x.untyped_storage()._cdata for x in args if isinstance(x, Tensor)]
    answer: list[Fresh] = []
    for x in tensors:
        if not isinstance(x, Tensor) or not x.is_meta or x.is_complex() or x.layout is not torch.strided:
            return None
        again = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
        same = x.storage_offset() == 0 and x.untyped_storage().nbytes() == again.untyped_storage().nbytes()
        if not same or x.untyped_storage()._cdata in storages:
            return None
        storages.append(x.untyped_storage()._cdata)
        answer.append((tuple(x.shape), x.stride(), x.dtype))
    return tuple(answer)
