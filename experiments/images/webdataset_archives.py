"""Reads which files of a webdataset archive belong together: those of one key, which ends at a name's first dot.

A file name that comes again begins another sample of its key, as where archives were put together. Where it is captions
alone that come again, they take the place of the earlier ones, as they do when the archive is unpacked.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath

from experiments.images.columnar_files import COLUMNS
from experiments.images.edit_pairs import AS_COLUMN, INSTRUCTIONS
from preference_data.image_files import SUFFIXES

Member = tuple[str, int, int]
"""name, offset and length of a file of an archive"""


@dataclass(frozen=True)
class TarSample:
    """The files of one key of a webdataset archive."""

    images: dict[str, Member] = field(default_factory=dict)
    """by what stands between key and suffix"""
    passed: dict[str, tuple[Member, str]] = field(default_factory=dict)
    """images that are not learned from by their names, and why"""
    texts: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """suffix and content by the files' names"""

    def holds(self, name: str) -> bool:
        """Whether a file of that name is there already."""
        return name in self.texts or name in self.passed or any(name == own for own, *_ in self.images.values())


def read_samples(path: Path, text_suffixes: Sequence[str]) -> Iterable[list[TarSample]]:
    """The samples of each key, nearly always one; the archive is read once. Raises ValueError when it is damaged."""
    samples: dict[str, list[TarSample]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                base = PurePosixPath(member.name).name
                if not member.isfile() or base.startswith("."):
                    continue
                stem, _, ending = base.partition(".")
                between, _, suffix = ending.lower().rpartition(".")
                is_text = f".{suffix}" in (*text_suffixes, ".json") and between in ("", *INSTRUCTIONS)
                if not is_text and f".{suffix}" not in SUFFIXES:
                    continue
                own = samples.setdefault(member.name[: -len(base)] + stem, [TarSample()])
                if own[-1].holds(member.name):
                    own.append(TarSample())
                if is_text:
                    file = archive.extractfile(member)
                    assert file is not None
                    own[-1].texts[member.name] = (suffix, file.read())
                else:
                    add_image(own[-1], between, (member.name, member.offset_data, member.size))
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path} is not a whole .tar file: {error}; copy it again") from error
    for own in samples.values():
        for before, sample in pairwise(own):
            if not sample.images:
                before.texts.update(sample.texts)
    return samples.values()


def add_image(sample: TarSample, between: str, member: Member) -> None:
    """Add an image to a sample under its field, or say why it is passed over."""
    if between in sample.images:
        sample.passed[member[0]] = (member, f"is of the same key as {sample.images[between][0]}; one of them is read")
    elif is_read(between):
        sample.images[between] = member
    else:
        reason = f"has {between!r} between its key, which ends at the first dot of a name, and its suffix; if it is an "
        sample.passed[member[0]] = (member, reason + "image of its own, put no dot into its key")


def is_read(field: str) -> bool:
    """Whether images of archives may have a name such as `source` in front of their suffix; "" is no name."""
    return field in ("", *COLUMNS) or bool(AS_COLUMN.match(field))
