"""Typed facts about prompts, images and taste.

Nothing here knows about training: a prompt, an image named by the hash of its pixels, and an answer that compares two
images. Plain Python, so that a dashboard or a converter can import it in milliseconds.
"""

from __future__ import annotations

import hashlib
import math
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from preference_data.texts.quotations import quoted_spans as quoted_spans  # a prompt's spans are part of its facts
from preference_data.texts.visible import visible as visible

OUTCOMES = ("left", "right", "tie", "both_good", "both_bad")
DECIDED = ("left", "right")

_HEX = frozenset(string.hexdigits.lower())


def text_id(text: str) -> str:
    """The id that a prompt of this text has unless it was given another: equal texts have equal ones."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


@dataclass(frozen=True)
class SourceImage:
    """An image that a prompt asks to edit, named by the sha256 of its 8-bit pixels; it is read when it is needed.

    Size in pixels. ``path`` says where its file is, and ``content`` is that file where it came without a path; neither
    tells two images apart. ``preference_data.image_files`` makes and reads it.
    """

    sha256: str
    width: int
    height: int
    path: str = field(default="", compare=False)
    content: bytes = field(default=b"", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.sha256, str) or len(self.sha256) != 64 or not set(self.sha256) <= _HEX:
            raise ValueError(
                f"source image {self.path}: sha256 is {self.sha256!r}; it must be 64 lower-case hex digits"
            )
        if not all(isinstance(side, int) and side >= 1 for side in (self.width, self.height)):
            raise ValueError(f"source image {self.path} is {self.width!r} x {self.height!r}; both must be at least 1")


def prompt_id(text: str, sources: Sequence[SourceImage] = ()) -> str:
    """The id that a prompt has unless it was given another: of its text and, for an edit, of its source images."""
    return text_id("\n".join([text, *(source.sha256 for source in sources)]))


@dataclass(frozen=True)
class Prompt:
    """A text to draw, or an instruction to edit the images ``sources``, in the order in which it speaks of them.

    ``spans`` are the texts that must be readable in the image, in order; () when none must. ``size`` is the (height,
    width) in pixels in which it is to be made; None when it does not matter, and no part of what tells prompts apart.
    """

    id: str
    text: str
    spans: tuple[str, ...]
    language: str = "en"
    category: tuple[str, ...] = ()
    sources: tuple[SourceImage, ...] = ()
    size: tuple[int, int] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.size is not None and (len(self.size) != 2 or not all(isinstance(x, int) and x > 0 for x in self.size)):
            raise ValueError(f"prompt {self.id}: size is {self.size!r}; it must be a height and a width in pixels")
        for name in ("id", "text"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise ValueError(f"prompt {name} is {getattr(self, name)!r}; it must be a text that is not empty")
        for name in ("spans", "category"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(
                isinstance(item, str) and visible(item).strip() for item in value
            ):
                raise ValueError(
                    f"prompt {self.id}: {name} is {value!r}; it must be a tuple of texts, none empty or invisible"
                )
        if not isinstance(self.sources, tuple) or not all(isinstance(each, SourceImage) for each in self.sources):
            raise ValueError(f"prompt {self.id}: sources is {self.sources!r}; it must be a tuple of source images")

    def located(self, folder: Path) -> Prompt:
        """The same prompt, with absolute paths of its source images instead of such that are relative to ``folder``."""
        if not self.sources:
            return self
        paths = [str((folder / each.path).absolute()) for each in self.sources]
        return replace(self, sources=tuple(replace(s, path=p) for s, p in zip(self.sources, paths, strict=True)))

    @classmethod
    def from_text(
        cls, text: str, language: str = "en", category: Iterable[str] = (), sources: Sequence[SourceImage] = ()
    ) -> Prompt:
        """Parse the spans out of ``text``; the id is that of `prompt_id`, so equal texts about equal images are one."""
        spans = quoted_spans(text)
        return cls(prompt_id(text, sources), text, spans, language, tuple(category), tuple(sources))


@dataclass(frozen=True)
class Provenance:
    """Where an image came from: enough to draw it again. ``step`` is the update of ``run`` its weights had."""

    model: str
    revision: str
    seed: int
    steps: int
    guidance: float
    run: str
    step: int


@dataclass(frozen=True)
class ImageRef:
    """An image, named by the sha256 (64 hex digits) of its 8-bit pixels; ``path`` says where it is. Size in pixels."""

    sha256: str
    path: str
    width: int
    height: int
    provenance: Provenance

    def __post_init__(self) -> None:
        if len(self.sha256) != 64 or not set(self.sha256) <= _HEX:
            raise ValueError(f"image {self.path}: sha256 is {self.sha256!r}; it must be 64 lower-case hex digits")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"image {self.path}: its size is {self.width}x{self.height}; both must be at least 1")
        if not isinstance(self.provenance, Provenance):
            raise ValueError(f"image {self.path} has no provenance; a preference about it could never be traced back")


@dataclass(frozen=True)
class PreferencePair:
    """Two images of one prompt, the better one first.

    ``source`` says who decided, such as ``machine:ocr`` or ``human:ada``. ``margin`` is how far apart the two were, in
    the units of the source, None when it gave none. ``outcome`` is the answer as it was given: only "left" and "right"
    decide, so only they make a pair; a tie is an answer too, but it has no better image and cannot be one of these.
    """

    prompt: Prompt
    chosen: ImageRef
    rejected: ImageRef
    source: str
    margin: float | None
    outcome: str

    def __post_init__(self) -> None:
        where = f"pair of prompt {self.prompt.id}"
        if self.outcome not in OUTCOMES:
            raise ValueError(f"{where}: outcome is {self.outcome!r}; choose one of {', '.join(OUTCOMES)}")
        if self.outcome not in DECIDED:
            raise ValueError(f"{where}: outcome {self.outcome!r} names no better image, so it makes no training pair")
        if not self.source:
            raise ValueError(f"{where}: it has no source; say who decided, for example 'machine:ocr'")
        if self.chosen.sha256 == self.rejected.sha256:
            raise ValueError(f"{where}: both images are {self.chosen.sha256[:12]}; an image cannot beat itself")
        if self.margin is not None and not (math.isfinite(self.margin) and self.margin >= 0):
            raise ValueError(f"{where}: margin is {self.margin}; it must be finite and not negative, or None")

    @property
    def machine_made(self) -> bool:
        """True when a scorer decided and no person did."""
        return self.source.startswith("machine:")


def to_json(record: Any) -> dict[str, Any]:
    """A record as an object for JSON. A prompt without source images says nothing of them, as before there were any."""
    return asdict(record, dict_factory=_named_values)


def _named_values(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Fields of a record; source images go by their path, and without their bytes."""
    return {name: value for name, value in items if name != "content" and (name not in ("sources", "size") or value)}


def source_from_json(data: object) -> SourceImage:
    """The source image that ``to_json`` wrote. Missing or unknown fields -> ValueError naming them."""
    known = _fields(SourceImage, data)
    if not isinstance(known.get("path", ""), str):
        raise ValueError(f"SourceImage: path is {known['path']!r}; it must be a text")
    return SourceImage(**known)


def prompt_from_json(data: Mapping[str, Any]) -> Prompt:
    """The prompt that ``to_json`` wrote. Missing or unknown fields -> ValueError naming them."""
    known = _fields(Prompt, data)
    if not isinstance(known.get("sources", ()), list | tuple):
        raise ValueError(f"Prompt: sources is {known['sources']!r}; it must be a list of source images")
    for name in ("spans", "category"):
        if not isinstance(known.get(name, ()), list | tuple):
            raise ValueError(f"Prompt: {name} is {known[name]!r}; it must be a list of texts")
    sources = tuple(source_from_json(each) for each in known.get("sources", ()))
    lists = {"spans": tuple(known["spans"]), "category": tuple(known.get("category", ())), "sources": sources}
    if isinstance(size := known.get("size"), list | tuple):
        lists["size"] = tuple(size)
    return Prompt(**{**known, **lists})


def image_from_json(data: Mapping[str, Any]) -> ImageRef:
    """The image reference that ``to_json`` wrote. Missing or unknown fields -> ValueError naming them."""
    known = _fields(ImageRef, data)
    return ImageRef(**{**known, "provenance": Provenance(**_fields(Provenance, known["provenance"]))})


def pair_from_json(data: Mapping[str, Any]) -> PreferencePair:
    """The pair that ``to_json`` wrote. Missing or unknown fields -> ValueError naming them."""
    known = dict(_fields(PreferencePair, data))
    known["prompt"] = prompt_from_json(known["prompt"])
    known["chosen"], known["rejected"] = image_from_json(known["chosen"]), image_from_json(known["rejected"])
    return PreferencePair(**known)


def wrong_fields(missing: Sequence[str], unknown: Sequence[str]) -> str:
    """Say which fields are missing and which ones nobody knows, naming only what there is to name."""
    answer = [
        f"{verb} {', '.join(names)}" for verb, names in (("lacks", missing), ("has the unknown", unknown)) if names
    ]
    return " and ".join(answer)


def _fields(kind: type, data: object) -> dict[str, Any]:
    """``data`` as keyword arguments of the dataclass ``kind``, checked both ways: nothing missing, nothing unknown."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{kind.__name__}: expected an object with named fields, found {data!r}")
    allowed = [field.name for field in fields(kind) if field.name != "content"]
    optional = (
        {"language", "category", "sources", "size"} if kind is Prompt else {"path"} if kind is SourceImage else set()
    )
    missing = [name for name in allowed if name not in data and name not in optional]
    unknown = sorted(set(data) - set(allowed))
    if missing or unknown:
        raise ValueError(f"{kind.__name__} {wrong_fields(missing, unknown)}; the fields are {', '.join(allowed)}")
    return dict(data)
