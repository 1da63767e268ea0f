"""Reads anybody's file of prompts, with what it says about each: category, language, length.

    .txt                  a prompt a line
    .jsonl                an object a line: "prompt", "text" or "caption" is the prompt
    .json                 a list of prompts or of such objects
    .csv, .tsv            a row a prompt, the columns named as in .jsonl; a list is written as JSON or Python does

The columns of prompt, category and language may be named in any case; "prompts" (DrawBench), "prompt_en" and
"prompt_cn" (OneIG) hold prompts as well.
"category" or "tag" (GenEval) is a prompt's category, "language" or "lang" its language, and a word under "length"
(LongText-Bench) its length. "height" and "width" are its image's size in pixels. "spans", or "text" beside "prompt",
are the texts that the image must show; where a file does not name them they are the prompt's quotations. An instruction
to edit names the images that it is about, one path or a list of them, relative to the file: under "image" or "images"
as flow_grpo's files for Kontext do, or under one of the other names of `SOURCES`, beside which "image" is what was made
of them. Other columns are passed over. The captions.jsonl of `glyphlab write` is a file of prompts as well, sliced by
the face, script and em size of its lines. Imports no torch.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from experiments.images.label_check import SCRIPTS, size_group
from preference_data.image_files import source_image
from preference_data.line_files import existing, read_csv, read_json, read_json_lines, read_lines
from preference_data.records import Prompt, SourceImage, prompt_id, quoted_spans, source_from_json
from preference_data.spelling import not_there

PROMPT = (
    "prompt", "text", "caption", "instruction", "edit_prompt", "edit_instruction", "prompts", "prompt_en", "prompt_cn",
    "prompt_zh",
)  # fmt: skip
SOURCES = (
    "sources", "source_images", "source_image", "input_images", "input_image", "edit_images", "edit_image",
    "original_image", "control_images", "control_image", "images", "image",
)  # fmt: skip
"""Columns of the images to be edited: the first of these that a row has."""
SIDES = ("height", "width")
CATEGORY, LANGUAGE = ("category", "tag"), ("language", "lang")
KINDS = {
    ".txt": "a prompt a line", ".jsonl": "an object a line", ".json": "a list of prompts or objects",
    ".csv": "a row a prompt", ".tsv": "a row a prompt",
}  # fmt: skip
LENGTHS = ((10, "1-10"), (20, "11-20"), (50, "21-50"), (100, "51-100"))
"""Characters that an image must show, at most, and the name of that slice."""


@dataclass(frozen=True)
class RequestedPrompt:
    """A prompt of a file, and the slices of the file that it belongs to."""

    prompt: Prompt
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """by what is sliced: "category", "language", "length", "text_length", "size", "face", "script", "em"; what the file
    does not say is missing"""
    size: tuple[int, int] | None = None
    """(height, width) of the image in pixels, where the file says it"""
    rewrite: str = ""
    """what is sampled in the prompt's place; scores are of what was asked for"""

    @property
    def sampled(self) -> str:
        """The text that an image model is given."""
        return self.rewrite or self.prompt.text

    def of(self, name: str) -> str:
        """A slice as one text, "" where the file does not say it."""
        return ", ".join(self.slices.get(name, ()))


@dataclass(frozen=True)
class PromptRewriter:
    """What puts prompts in other words."""

    folder: Path
    rewrites: Callable[[Sequence[Prompt]], Sequence[str]]

    def of(self, requested: Sequence[RequestedPrompt]) -> list[RequestedPrompt]:
        """The prompts with what is sampled in their place. Raises ValueError as `rewrites` does."""
        texts = self.rewrites([each.prompt for each in requested])
        return [replace(each, rewrite=text) for each, text in zip(requested, texts, strict=True)]


def read_prompt_file(path: Path, count: int = 0) -> list[RequestedPrompt]:
    """The first `count` prompts of a file, 0 = all, in its order. Raises ValueError for a file that cannot be read, is
    empty or is none, with the line that is wrong, or whose source image is missing or broken."""
    kind = path.suffix.lower()
    if kind not in KINDS:
        known = ", ".join(f"{ending} ({what})" for ending, what in KINDS.items())
        raise ValueError(f"{path} is not a file of prompts by its name; give it one that ends in {known}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file of prompts in it")
    try:
        requested = _with_own_ids(
            [_located(path, number, row) for number, row in islice(_rows(path, kind), count or None)]
        )
    except FileNotFoundError:
        raise ValueError(not_there("file of prompts", path)) from None
    if not requested:
        raise ValueError(f"{path} holds no prompts; write {KINDS[kind]}")
    return requested


def _with_own_ids(requested: Sequence[RequestedPrompt]) -> list[RequestedPrompt]:
    """The prompts; one whose id an earlier prompt of another text has gets that of its text. OneIG counts its ids anew
    in every category."""
    first: dict[str, Prompt] = {}
    results = []
    for each in requested:
        prompt = each.prompt
        known = first.setdefault(prompt.id, prompt)
        if (known.text, known.sources) != (prompt.text, prompt.sources):
            each = replace(each, prompt=replace(prompt, id=prompt_id(prompt.text, prompt.sources)))
        results.append(each)
    return results


def _rows(path: Path, kind: str) -> Iterable[tuple[int, Any]]:
    if kind == ".txt":
        return ((number, {"prompt": line}) for number, line in read_lines(path))
    if kind == ".jsonl":
        return read_json_lines(path)
    if kind == ".json":
        rows = read_json(path)
        if not isinstance(rows, list):
            raise ValueError(f"{path} holds one {type(rows).__name__}; write {KINDS[kind]}")
        return enumerate(rows, 1)
    header, rows = read_csv(path)
    if not {name.lower() for name in header} & set(PROMPT):
        raise ValueError(
            f"{path} has the columns {', '.join(header)}; the one of the prompts must be called {' or '.join(PROMPT)}"
        )
    return rows


def _located(path: Path, number: int, row: Any) -> RequestedPrompt:
    try:
        return as_requested(row, path.parent)
    except ValueError as error:
        raise ValueError(f"{path} line {number}: {error}") from error


def as_requested(row: Any, folder: Path = Path()) -> RequestedPrompt:
    """The prompt of a row of a file in `folder`. Raises ValueError saying what is wrong with it."""
    if isinstance(row, str):
        row = {"prompt": row}
    elif isinstance(row, Mapping):
        lower = {str(name).strip().lower(): value for name, value in row.items()}
        prompt = next((name for name in PROMPT if name in lower), "")  # "Text" beside a prompt is often a remark
        row = {name: lower[name] for name in (prompt, *CATEGORY, *LANGUAGE) if name in lower} | dict(row)
    else:
        raise ValueError(f'a {type(row).__name__} is not a prompt; write an object such as {{"prompt": "a red bus"}}')
    name = next((each for each in PROMPT if each in row), None)
    if name is None:
        raise ValueError(
            f"it has no {', '.join(PROMPT[:-1])} or {PROMPT[-1]}; it has {', '.join(map(str, row)) or 'nothing'}"
        )
    text, lines = row[name], _written_lines(row)
    if lines and isinstance(text, list) and text:
        text = text[0]  # of the captions of a written image
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name} is {text!r}; it must be a text that is not empty")
    text = text.strip()
    spans = _spans(row, name)
    categories = _words(row, CATEGORY)
    language = _words(row, LANGUAGE)
    spans = quoted_spans(text) if spans is None else spans
    sources = _sources(row, folder)
    named = isinstance(row.get("id"), str) and str(row.get("id")).strip()
    identity = str(row.get("id")) if named else prompt_id(text, sources)
    prompt = Prompt(identity, text, spans, language[0] if language else "en", categories, sources)
    slices = {"category": _each(categories), "language": language, "length": _words(row, ("length",))}
    if shown := sum(map(len, spans)):
        slices["text_length"] = (length_slice(shown),)
    if lines:
        slices |= {"face": _each(str(line["face"]) for line in lines),
                   "script": _each(SCRIPTS.get(each, each) for each in language),
                   "em": _each(size_group(float(line["size"])) for line in lines)}  # fmt: skip
    if size := _size(row):
        slices["size"] = (f"{size[0]}x{size[1]}",)
    return RequestedPrompt(prompt, {key: value for key, value in slices.items() if value}, size)


def _written_lines(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The lines of a written image, in a row of `glyphlab write`; [] in any other."""
    lines = row.get("lines")
    known = isinstance(lines, list) and all(
        isinstance(each, Mapping) and {"face", "size"} <= set(each) for each in lines
    )
    return list(lines) if known and isinstance(lines, list) else []


def _each(texts: Iterable[str]) -> tuple[str, ...]:
    """Each text once, without the commas that part slices."""
    return tuple(dict.fromkeys(text.replace(",", "") for text in texts))


def _size(row: Mapping[str, Any]) -> tuple[int, int] | None:
    """The height and width that a row names. Raises ValueError where one is missing, or is no number of pixels."""
    own = row.get("size")  # as our own files of prompts have it
    named = list(own) if isinstance(own, list) and len(own) == 2 else [row.get(name) for name in SIDES]
    if all(value in (None, "") for value in named):
        return None
    try:
        height, width = (int(str(value)) for value in named)
    except ValueError:
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(f"height is {named[0]!r} and width {named[1]!r}; both must be numbers of pixels")
    return height, width


def _sources(row: Mapping[str, Any], folder: Path) -> tuple[SourceImage, ...]:
    """The images that a row asks to edit, read whole. Raises ValueError naming one that is missing or broken."""
    name = next((each for each in SOURCES if row.get(each) not in (None, "", [])), None)
    value = () if name is None else row[name]
    return tuple(_source(str(name), each, folder) for each in (value if isinstance(value, list | tuple) else [value]))


def _source(name: str, value: Any, folder: Path) -> SourceImage:
    """A source image by its path, or as our own files of prompts have it."""
    record = source_from_json(value) if isinstance(value, Mapping) else None
    path = record.path if record else value
    if not isinstance(path, str) or not path.strip():
        raise ValueError(f"{name} is {value!r}; it must be the path of an image, or a list of such paths")
    try:
        image = source_image(existing(folder / path))
    except FileNotFoundError:
        raise ValueError(
            f"there is no image {folder / path}, which {name} names; paths are relative to the file of prompts"
        ) from None
    if record and record != image:
        raise ValueError(f"{folder / path} is another image than the one that {name} names by its hash")
    return image


def length_slice(characters: int) -> str:
    """The slice of prompts whose images must show so many characters."""
    return next((name for most, name in LENGTHS if characters <= most), f"over {LENGTHS[-1][0]}")


def _spans(row: Mapping[str, Any], prompt: str) -> tuple[str, ...] | None:
    """The texts that a row says the image must show; None where it does not say it."""
    name = "spans" if "spans" in row else "text" if prompt == "prompt" and "text" in row else ""
    value = row.get(name)
    if not name or value is None or value == "":
        return None
    values = _as_list(value) if isinstance(value, str) else value
    if not isinstance(values, Sequence) or not all(isinstance(each, str) and each.strip() for each in values):
        raise ValueError(f"{name} is {value!r}; it must be a text or a list of texts, none empty")
    return tuple(values)


def _as_list(text: str) -> list[Any]:
    """The texts of a cell of a table, which holds a list as JSON or Python writes it, or one text."""
    if text.startswith("["):
        for read in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError):
                values = read(text)
                if isinstance(values, list) and values and all(isinstance(each, str) for each in values):
                    return values
    return [text]


def _words(row: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """What a row says under the first of these names that it has: one word, or several."""
    value = next((row[name] for name in names if row.get(name) not in (None, "", [])), ())
    values = value if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(each, str | int | float) for each in values):
        raise ValueError(f"{names[0]} is {value!r}; it must be a word, or a list of words")
    return tuple(str(each).strip() for each in values if str(each).strip())
