"""A reward as a text, as it is written on a command line.

    ocr                                   its defaults
    ocr:engine=paddleocr,ignore_case=no   with settings
    learned:runs/reward                   the first setting may go without its name
    0.7*ocr+0.3*learned:path=models/ours  a weighted mixture
    ocr*glyph:weights=runs/glyph          a product of rewards from 0 to 1, alone or as a term of a mixture
    ocr,brisque,vlm:model=a,rubric=b      several: a comma not followed by ``key=`` separates them

A setting is read as its field in the reward's dataclass is annotated. What is misspelt is an error that names what is
near.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from preference_data.spelling import nearest, not_a_number, unknown
from rewards.scores import Reward

_SETTING = re.compile(r"[a-z_][a-z0-9_]*=")
_PLUS = re.compile(r"\+(?=[0-9.]+\*)")
_TIMES = re.compile(r"\*(?=[a-z_]\w*(?:[:*]|$))")
_WEIGHTED = re.compile(r"([0-9.]+)\*(.+)", re.DOTALL)
_YES, _NO = ("yes", "true", "1", "on"), ("no", "false", "0", "off")


def named_rewards(text: str) -> dict[str, Reward]:
    """The rewards of a list such as ``ocr,brisque``, by the text that names each. ValueError as ``named_reward``."""
    texts: list[str] = []
    for piece in text.split(","):
        if texts and _SETTING.match(piece) and ":" in texts[-1]:
            texts[-1] += f",{piece}"
        else:
            texts.append(piece.strip())
    twice = [each for each in texts if texts.count(each) > 1]
    if twice:
        raise ValueError(f"the reward {twice[0]!r} is named twice in {text!r}; name each once")
    return {each: named_reward(each) for each in texts}


def named_reward(text: str) -> Reward:
    """The reward that ``text`` names. ValueError says what there is and what is near."""
    if text.strip()[-1:] in ("+", "*"):
        raise ValueError(f"nothing stands after the {text.strip()[-1]} in {text!r}; write 0.7*ocr+0.3*brisque")
    pieces = _PLUS.split(text.strip())
    if len(pieces) == 1 and not _WEIGHTED.fullmatch(pieces[0]):
        return _term(pieces[0])
    from rewards.weighted import Part, Weighted

    parts = []
    for piece in pieces:
        match = _WEIGHTED.fullmatch(piece)
        if not match:
            raise ValueError(f"{piece!r} in {text!r} has no weight; write 0.7*ocr+0.3*brisque")
        parts.append(Part(match[2], _term(match[2]), _convert(float, match[1], f"the weight of {match[2]}")))
    return Weighted(tuple(parts))


def single_rewards(text: str) -> list[str]:
    """The texts of the rewards that a mixture is made of; one alone is its own."""
    return [each for term in _PLUS.split(text.strip()) for each in _TIMES.split(_unweighted(term))]


def _unweighted(term: str) -> str:
    match = _WEIGHTED.fullmatch(term)
    return match[2] if match else term


def _term(text: str) -> Reward:
    """A reward, or a product of several."""
    factors = _TIMES.split(text)
    if len(factors) == 1:
        return _one(text)
    from rewards.weighted import Product

    return Product(tuple((factor, _one(factor)) for factor in factors))


def _one(text: str) -> Reward:
    from rewards.reward_table import REWARDS

    name, _, rest = text.partition(":")
    if name not in REWARDS:
        raise ValueError(unknown("reward", name, REWARDS, "glyphlab list rewards"))
    reward: Reward = with_settings(REWARDS[name], rest, "reward", name)
    return reward


def with_settings(kind: Any, text: str, what: str, name: str) -> Any:
    """A dataclass with the fields that a text sets, such as ``a=1,b=2``; `what` and `name` are for errors.

    Raises ValueError for a field that is unknown, missing or written wrong."""
    known = {field.name: field for field in fields(kind)} if is_dataclass(kind) else {}
    hints = get_type_hints(kind)
    settings: dict[str, Any] = {}
    for number, piece in enumerate(_pieces(text)):
        key, equals, value = piece.partition("=")
        if number == 0 and known and not _SETTING.match(piece):  # the first setting may go without its name
            key, equals, value = next(iter(known)), "=", piece
        if not equals or key not in known:
            has = ", ".join(known) or "none"
            near = nearest(key, known)
            meant = f"; did you mean {near}?" if near else "."
            raise ValueError(f"the {what} {name} has no setting {key!r}{meant} It has {has}")
        settings[key] = _convert(hints[key], value, f"{name}:{key}")
    empty = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING and n not in settings]
    if empty:
        raise ValueError(f"the {what} {name} must be told {empty[0]}; write {name}:{empty[0]}=...")
    return kind(**settings)


def _pieces(text: str) -> list[str]:
    """``a=1,b=2,3`` -> ["a=1", "b=2,3"]: only a comma before ``key=`` separates."""
    results: list[str] = []
    for piece in text.split(",") if text else []:
        if results and not _SETTING.match(piece):
            results[-1] += f",{piece}"
        else:
            results.append(piece)
    return results


def _convert(kind: Any, text: str, where: str) -> Any:
    """``text`` as a value of an annotation: str, int, float, bool, Path, a tuple (``a|b|c``), or ``... | None``."""
    if get_origin(kind) in (Union, UnionType):
        choices = [each for each in get_args(kind) if each is not NoneType]
        return (
            None if text.lower() in ("", "none") and NoneType in get_args(kind) else _convert(choices[0], text, where)
        )
    if get_origin(kind) is tuple:
        return tuple(_convert(get_args(kind)[0], each, where) for each in text.split("|"))
    if kind is bool:
        if text.lower() not in _YES + _NO:
            raise ValueError(f"{where} is {text!r}; it must be yes or no")
        return text.lower() in _YES
    if kind not in (str, int, float, Path):
        raise ValueError(f"{where} is not a text, number, path or yes/no; set it from Python")
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"{where}: {not_a_number(kind, text)}") from error
