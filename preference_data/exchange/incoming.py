"""Preferences from a file of any of the formats: every row is read and checked before anything is kept.

A row is decoded, its images are decoded once, hashed, and wait in a folder of their own
(preference_data/store/staging.py); its judgement waits in a temporary file. So memory stays flat, whatever the size of
the file. What is wrong is reported with its line (or entry, or row) number, all of it; then nothing is kept, unless
malformed rows are to be left out.
"""

from __future__ import annotations

import pickle
import tempfile
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from preference_data.exchange.formats import containers
from preference_data.exchange.formats.plain import JSONL
from preference_data.exchange.formats.preference_format import UNKNOWN, Format, Incoming, RowAnswer, reason_of
from preference_data.exchange.formats.table import find
from preference_data.exchange.formats.values import check, details
from preference_data.exchange.importing import pair_key
from preference_data.exchange.judgements import Judgement
from preference_data.image_files import decode_image
from preference_data.line_files import existing
from preference_data.pixels import pixel_hash
from preference_data.records import ImageRef, Prompt, SourceImage, prompt_id, text_id
from preference_data.store.image_store import ImageFolder
from preference_data.store.staging import Staged

WORST = 20
"""Malformed rows whose reason a message gives."""
RECENT = 16
"""Images given by their bytes that are remembered: those of a ranking come again in each of its pairs."""
NAMED = 100_000
"""Images given by path that are remembered."""
ADDRESSES = ("http://", "https://", "s3://", "gs://", "azure-blob://")
WRONG = (ValueError, TypeError, KeyError, IndexError, AttributeError, OSError, OverflowError, RecursionError)


class Malformed(ValueError):
    """Rows that cannot be read; `problems` is (line, entry or row number, what is wrong), all of them."""

    def __init__(self, path: Path, problems: Sequence[tuple[int, str]], unit: str) -> None:
        self.problems = tuple(problems)
        message = "\n".join(f"  {line}" for line in problem_lines(problems, unit))
        count = len({number for number, _ in problems})
        super().__init__(f"{path}: {count} rows are malformed, and nothing was imported:\n{message}")


def problem_lines(problems: Sequence[tuple[int, str]], unit: str) -> list[str]:
    """The first problems with their reasons, the numbers of all others."""
    lines = [f"{unit} {number}: {what}" for number, what in problems[:WORST]]
    if more := sorted({number for number, _ in problems[WORST:]}):
        lines.append(f"and {len(problems) - WORST} more in {unit} {_ranges(more)}")
    return lines


def _ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 as "1-3, 7"."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


@dataclass(frozen=True)
class Options:
    """How a file is read. `fields` is {our name of a field: its name in the file}."""

    skip_malformed: bool = False
    """leave malformed rows out instead of refusing the file"""
    fields: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None
    """folder that the paths of images are relative to; that of the file when not given"""


class Judgements(Collection[Judgement]):
    """Judgements that lie in a temporary file, in the order in which they came."""

    CHUNK = 256

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  gone with this object
        self._line_starts: list[int] = []
        self._fresh: list[Judgement] = []
        self._count = 0

    def append(self, one: Judgement) -> None:
        """Add one at the end."""
        self._fresh.append(one)
        self._count += 1
        if len(self._fresh) == self.CHUNK:
            self._line_starts.append(self._file.seek(0, 2))
            pickle.dump(self._fresh, self._file)
            self._fresh = []

    def __iter__(self) -> Iterator[Judgement]:
        for index in self._line_starts:
            self._file.seek(index)
            yield from pickle.load(self._file)
        yield from self._fresh

    def __len__(self) -> int:
        return self._count

    def __contains__(self, one: object) -> bool:
        return any(one == other for other in self)


class Read:
    """What a file held. `unit` is what the numbers of `left_out` count; `passed` rows judge nothing, as skips do."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.judgements = Judgements()
        self.left_out: list[tuple[int, str]] = []
        self.passed = 0


def read(path: Path, kind: str, into: ImageFolder | None = None, options: Options | None = None) -> list[Judgement]:
    """The judgements of a file, checked whole, with its set-aside ties when they lie beside it.

    Images are decoded and, with `into`, kept there once everything was found right. Raises Malformed with every
    malformed row, FileNotFoundError without the file.
    """
    if into is None:
        return list(read_rows(path, kind, None, options or Options()).judgements)
    with Staged(into) as staged:
        results = list(read_rows(path, kind, staged, options or Options()).judgements)
        staged.publish()
    return results


def read_rows(path: Path, kind: str, staged: Staged | None, options: Options) -> Read:
    """Read and check a file; its images wait in `staged`. Raises as `read`, ValueError when no row is left."""
    chosen = find(kind)
    reading = Read(containers.unit(path, chosen.container))
    seen: dict[tuple[str, bytes], str] = {}
    _read_file(path, chosen, staged, options, reading, seen, reading.unit)
    side_path = path.with_name(f"{path.name}.ties.jsonl")
    if side_path.exists():
        _read_file(side_path, JSONL, staged, replace(options, fields={}), reading, seen, f"line of {side_path.name}")
    if not reading.judgements and reading.left_out:
        raise Malformed(path, reading.left_out, reading.unit)
    return reading


def _read_file(
    path: Path, chosen: Format, staged: Staged | None, options: Options, reading: Read,
    seen: dict[tuple[str, bytes], str], unit: str,
) -> None:  # fmt: skip
    problems: list[tuple[int, str]] = []
    images = _ImageReader(path, options.root or path.parent, staged)
    rows = chosen.spread(containers.rows(path, chosen.container, problems), problems, options.fields)
    for number, row in rows:
        try:
            answer = chosen.decode(row)
            if answer is None:
                reading.passed += 1
                continue
            one = _judgement(answer, images, number)
            _check_once(one, seen, f"{unit} {number}")
            reading.judgements.append(one)
        except WRONG as error:
            problems.append((number, reason_of(error)))
    if problems and not options.skip_malformed:
        raise Malformed(path, sorted(problems), unit)
    reading.left_out += sorted(problems)


def _judgement(answer: RowAnswer, images: _ImageReader, number: int) -> Judgement:
    """A judgement with its images looked at. Raises ValueError for what is wrong, the cheap checks first."""
    extras = details(answer.extra)
    first, second = images.read(answer.first, number), images.read(answer.second, number)
    one = Judgement(images.read_sources(answer), first, second, answer.outcome, **extras)
    check(one)
    return one


def _check_once(one: Judgement, seen: dict[tuple[str, bytes], str], where: str) -> None:
    """Raises ValueError when a named annotator judged the same images under the same text before."""
    if one.annotator:
        mark = (one.annotator, pair_key(one))
        if mark in seen:
            raise ValueError(f"{one.annotator} judged these two images before, in {seen[mark]}; keep one of the "
                             "answers")  # fmt: skip
        seen[mark] = where


class _ImageReader:
    """The images of a file, decoded once each while they are remembered."""

    def __init__(self, path: Path, root: Path, staged: Staged | None) -> None:
        self.path, self.root, self.staged = path, root, staged
        self.named: OrderedDict[Path, tuple[str, int, int]] = OrderedDict()
        self.recent: OrderedDict[int, tuple[bytes, tuple[str, int, int]]] = OrderedDict()

    def read(self, incoming: Incoming, number: int) -> ImageRef:
        """An image's record. Raises ValueError when it is not there, no image, or not the one that the row names."""
        sha, width, height = self._read(incoming)
        known = incoming.known
        if known is None:
            made = replace(UNKNOWN, model=incoming.model, run=f"import:{self.path.name}", step=number)
            return ImageRef(sha, incoming.path, width, height, made)
        if known.sha256 != sha:
            raise ValueError(f"{incoming.path} is another image than the row says: {sha[:12]}, not "
                             f"{known.sha256[:12]}")  # fmt: skip
        if (known.width, known.height) != (width, height):
            raise ValueError(f"{incoming.path} has the size {width}x{height}, and the row says "
                             f"{known.width}x{known.height}")  # fmt: skip
        return known

    def read_sources(self, answer: RowAnswer) -> Prompt:
        """The prompt with the images that it asks to edit. Raises ValueError for one that is not there, no image, or
        not the one that the row names."""
        prompt, named = answer.prompt, answer.prompt.sources
        if not (incoming := answer.sources or tuple(Incoming(None, source.path, None) for source in named)):
            return prompt
        results = []
        for one in incoming:
            sha, width, height = self._read(one)
            path = str(find_image(one.path, self.root)) if one.content is None else ""
            results.append(SourceImage(sha, width, height, path, one.content or b""))
        if named and list(named) != results:
            raise ValueError(f"the source images {', '.join(s.path for s in results)} are others than the row says")
        identity = prompt_id(prompt.text, results) if prompt.id == text_id(prompt.text) else prompt.id
        return replace(prompt, id=identity, sources=tuple(results))

    def _read(self, incoming: Incoming) -> tuple[str, int, int]:
        if incoming.content is None:
            path = find_image(incoming.path, self.root)
            if path not in self.named:
                self.named[path] = self._add(path.read_bytes(), incoming.path)
                while len(self.named) > NAMED:
                    self.named.popitem(last=False)
            return self.named[path]
        mark = id(incoming.content)  # kept with its content, so that it is nobody else's
        if mark not in self.recent:
            self.recent[mark] = (incoming.content, self._add(incoming.content, incoming.path))
            while len(self.recent) > RECENT:
                self.recent.popitem(last=False)
        return self.recent[mark][1]

    def _add(self, content: bytes, name: str) -> tuple[str, int, int]:
        if self.staged is not None:
            return self.staged.add(content, name)
        pixels = decode_image(content, name)
        return pixel_hash(pixels.transpose(2, 0, 1)), pixels.shape[1], pixels.shape[0]


def find_image(named: str, root: Path) -> Path:
    """Where an image is that a row names by path. Raises ValueError when it is an address, or not there.

    Label Studio's own paths, /data/upload/... and /data/local-files/?d=..., are looked for below the folder as well.
    """
    if named.lower().startswith(ADDRESSES):
        raise ValueError(f"the image {named} is an address; download the images and name their paths")
    names = [named]
    if "?d=" in named:
        names = [path.lstrip("/") for path in parse_qs(urlsplit(named).query).get("d", [])]
    elif named.startswith("/data/"):
        names += [named.removeprefix("/data/"), Path(named).name]
    for name in names:
        try:
            path = existing(root / name)
        except FileNotFoundError:
            continue
        if path.is_file():
            return path
    raise ValueError(f"the image {named} is not there; it was looked for in {root.resolve()}, and --root names "
                     "another folder")  # fmt: skip
