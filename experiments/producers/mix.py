"""The mixture of a run's images: what it is mixed of, and other weights while it goes on (run_logs.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from base_model.data.mixture import Mix, TaskStream
from base_model.data.rendered_pages import PageStream
from base_model.data.rendered_text import LEVELS
from base_model.data.stream import TextStream
from experiments.images.image_sources import ImageSources, OwnImages
from experiments.producers.run_logs import FROM, Line
from preference_data.spelling import unknown

Data = TextStream | TaskStream | PageStream | ImageSources | OwnImages
Stream = TypeVar("Stream", bound=Data)


def parts_of(data: Data | None) -> tuple[str, ...]:
    """What the images of a run are mixed of; () where it is one thing."""
    if isinstance(data, OwnImages):
        return parts_of(data.settings)
    if isinstance(data, ImageSources):
        return data.folder if len(data.folder) > 1 else ()
    if isinstance(data, TaskStream):
        return tuple(field.name for field in fields(Mix) if field.name != "start")
    return tuple(f"level{level}" for level in range(LEVELS)) if isinstance(data, TextStream) else ()


def with_change(stream: Stream, line: Line, samples: int) -> Stream:
    """The stream whose weights change by a line of the log; `samples` is how many an update reads, of all ranks."""
    step, new = line[FROM], tuple(line["weights"].values())
    if isinstance(stream, OwnImages):
        before = tuple(mix for mix in stream.mixes if mix[0] < step * samples)
        return replace(stream, mixes=(*before, (step * samples, new)))
    if isinstance(stream, TaskStream):
        return replace(stream, mixes=(*(mix for mix in stream.mixes if mix.start < step), Mix(step, *new)))
    if isinstance(stream, TextStream):
        text = (*(each for each in stream.progress.text if each[0] < step), (step, new))
        return replace(stream, stages=(), curriculum=replace(stream.curriculum, text=text))
    raise ValueError(f"a {type(stream).__name__} has no parts to be mixed")


def weights_of(wanted: Any, parts: Sequence[str]) -> tuple[float, ...]:
    """Weights of parts by their names, or the last piece of a path; a part that is not named has none.

    Raises ValueError for names that there are not, and weights that cannot be.
    """
    if not isinstance(wanted, Mapping):
        raise ValueError(f"a mix is a weight for each of {', '.join(parts)}, not {wanted!r}")
    chosen = dict.fromkeys(parts, 0.0)
    for name, weight in wanted.items():
        named = [part for part in parts if name in (part, Path(part).name)]
        if len(named) != 1:
            raise ValueError(unknown("part of the mix", name, parts))
        try:
            chosen[named[0]] = float(weight)
        except (TypeError, ValueError):
            raise ValueError(f"the weight of {name} must be a number, not {weight!r}") from None
    weights = tuple(chosen.values())
    if not (min(weights) >= 0.0 and 0.0 < sum(weights) < float("inf")):
        raise ValueError(f"weights must be at least 0, and one above 0, not {', '.join(map(str, weights))}")
    return weights


def named_weights(parts: Sequence[str], wanted: Any) -> dict[str, dict[str, float]]:
    """What a line of the log says of weights that are wanted. Raises ValueError as `weights_of`."""
    return {"weights": dict(zip(parts, weights_of(wanted, parts), strict=True))}


def weights_of_texts(texts: Sequence[str], parts: Sequence[str]) -> dict[str, float]:
    """The weights of texts such as photographs=3. Raises ValueError for one without a weight, and as `weights_of`."""
    if wrong := [text for text in texts if "=" not in text]:
        raise ValueError(f"{wrong[0]!r} names no weight; write a part and its weight, such as {parts[0]}=1")
    return named_weights(parts, dict(text.rsplit("=", 1) for text in texts))["weights"]


def listed(weights: Mapping[str, float]) -> str:
    """Parts with their weights, without those that have none."""
    return ", ".join(f"{part}={weight:g}" for part, weight in weights.items() if weight)
