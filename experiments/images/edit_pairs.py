"""Which images of a folder or table belong together: what an edit begins from, and what was made of it.

    names       NAME_source.png and NAME_target.png, or NAME_before.jpg beside NAME.jpg; several sources by number
    folders     source/a.png and target/a.png, or control/a.png beside images/a.png: the folders of kohya and ai-toolkit
    columns     source_image, input_image, src_img, ... beside target_image, edited_image, ...: instruct-pix2pix,
                OmniEdit, MagicBrush and diffusers' training scripts

Masks and the images of ControlNet are no part of what is learned here: they are named, and left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from preference_data.image_files import SUFFIXES
from preference_data.spelling import not_there

Role = Literal["source", "target", "mask", "conditioning", ""]

SOURCE = r"source|src|input|before|original|control|cond"
TARGET = r"target|tgt|output|after|edited"
IN_NAME = re.compile(
    rf"^(?P<name>.+?)[_.-](?:(?P<source>{SOURCE})|(?P<target>{TARGET})|(?P<mask>mask|masklabel))[_-]?(?P<number>\d*)$",
    re.IGNORECASE,
)
IMAGES = r"(?:[_-]?(?:image|img|picture|file|path|file_name)s?)?"
AS_FOLDER = re.compile(
    rf"^(?:(?P<source>(?:{SOURCE})s?)|(?P<target>(?:{TARGET})s?)|(?P<mask>masks?)|(?P<conditioning>conditionings?))"
    rf"{IMAGES}[_-]?(?P<number>\d*)$",
    re.IGNORECASE,
)
AS_COLUMN = re.compile(
    rf"^(?:(?P<source>{SOURCE}|edit(?=[_-]))|(?P<target>{TARGET}|result)|(?P<mask>mask)|(?P<conditioning>conditioning)){IMAGES}"
    r"_?(?P<number>\d*)$",
    re.IGNORECASE,
)
TARGET_FOLDERS = ("", "images", "image", "train", "img")
"""folders beside one of sources that hold what was made, where none is called target"""
NUMBER_BEHIND = re.compile(r"^(?P<name>.+?)[_-](?P<number>\d{1,2})$")
INSTRUCTIONS = (
    "instruction", "edit_instruction", "editing_instruction", "edit_prompt", "edited_prompt_list", "instructions",
    "edit_prompts", "edit",
)  # fmt: skip
"""Columns of instructions, asked before those of captions where a row has an image to edit."""
REASONS = {
    "mask": "is a mask, and no loss here weighs pixels by masks",
    "conditioning": "is a conditioning image of ControlNet, which no model here reads; to train edits that begin from "
    "such, name its column or folder source",
}


def role_of(pattern: re.Pattern[str], name: str) -> tuple[Role, int]:
    """What a column or folder of that name holds, and its number among several; "" for none of these."""
    match = pattern.match(name)
    if not match:
        return "", 0
    role = next(key for key in ("source", "target", "mask", "conditioning") if match.groupdict().get(key))
    return role, int(match["number"] or 0)  # type: ignore[return-value]


def column_roles(names: Iterable[str]) -> tuple[list[str], list[str], dict[str, str]]:
    """The columns of sources in order, those of targets, and why others are left out, by their names."""
    roles = {name: role_of(AS_COLUMN, name) for name in names}
    sources = sorted((name for name, (role, _) in roles.items() if role == "source"), key=lambda name: roles[name][1])
    targets = [name for name, (role, _) in roles.items() if role == "target"]
    return sources, targets, {name: REASONS[role] for name, (role, _) in roles.items() if role in REASONS}


class Together:
    """The images of a folder by what they are: made by `grouped`."""

    def __init__(self) -> None:
        self.sources: dict[Path, list[Path]] = {}
        """of every target, in order"""
        self.stems: dict[Path, list[Path]] = {}
        """paths without a suffix at which captions of a target may lie, beside its own"""
        self.left_out: dict[Path, str] = {}
        """images that are not learned from, and why"""


def grouped(images: Sequence[Path], root: Path) -> Together:
    """Which image files are the sources of which, by their names and then by the folders that they are in."""
    result = Together()
    by_stem: dict[Path, Path] = {}
    for image in images:
        by_stem.setdefault(image.with_suffix(""), image)
    _by_name(images, by_stem, result)
    used = {*result.sources, *result.left_out, *(source for own in result.sources.values() for source in own)}
    _by_folder([image for image in images if image not in used], by_stem, root, result)
    return result


def _by_name(images: Sequence[Path], by_stem: dict[Path, Path], result: Together) -> None:
    groups: dict[Path, dict[str, list[tuple[int, Path]]]] = {}
    for image in images:
        if match := IN_NAME.match(image.stem):
            role = next(key for key in ("source", "target", "mask") if match[key])
            members = groups.setdefault(image.with_name(match["name"]), {})
            members.setdefault(role, []).append((int(match["number"] or 0), image))
    for stem, members in groups.items():
        targets = [image for _, image in members.get("target", [])]
        sources = [image for _, image in sorted(members.get("source", []))]
        if not targets and stem in by_stem:  # a NAME_original.png with a caption of its own is an image like any other
            targets, sources = [by_stem[stem]], [each for each in sources if not each.with_suffix(".txt").exists()]
        if targets and sources:
            for target in targets:
                result.sources[target] = sources
                result.stems[target] = [stem, *(source.with_suffix("") for source in sources)]
        if targets or sources:
            result.left_out |= {image: REASONS["mask"] for _, image in members.get("mask", [])}


def _by_folder(images: Sequence[Path], by_stem: dict[Path, Path], root: Path, result: Together) -> None:
    sources: dict[Path, list[tuple[int, int, Path]]] = {}
    folders = {stem.parent for stem in by_stem}
    for image in images:
        role, number = role_of(AS_FOLDER, image.parent.name) if image.parent != root else ("", 0)
        if role in ("source", "mask", "conditioning"):
            match = NUMBER_BEHIND.match(image.stem)
            for name, index in ((image.stem, 0), *([(match["name"], int(match["number"]))] if match else [])):
                target = _target(image, name, by_stem, folders)
                if target and role == "source":
                    sources.setdefault(target, []).append((number, index, image))
                    break
                if target:
                    result.left_out[image] = REASONS[role]
                    break
    for target, own in sources.items():
        result.sources[target] = [image for *_, image in sorted(own)]
        result.stems[target] = [image.with_suffix("") for image in result.sources[target]]


def _target(source: Path, name: str, by_stem: dict[Path, Path], folders: set[Path]) -> Path | None:
    """What was made of an image in a folder of sources: of that name in a folder beside it that holds such."""
    parent = source.parent.parent
    named = [each for each in sorted(folders) if each.parent == parent and role_of(AS_FOLDER, each.name)[0] == "target"]
    others = [parent / each for each in TARGET_FOLDERS]
    return next((by_stem[each / name] for each in (*named, *others) if each / name in by_stem), None)


def files_below(root: Path) -> Iterator[Path]:
    """Every file of a folder, also in folders that links lead to, each of which is read once: a link may lead back.

    A link to an image that is not there counts as a file, so that it can be named.
    """
    been: set[str] = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        inner.sort()
        if (real := os.path.realpath(folder)) in been:
            inner.clear()
            continue
        been.add(real)
        for path in (Path(folder, name) for name in names):
            if path.is_file() or (path.is_symlink() and path.suffix.lower() in SUFFIXES):
                yield path


class SourceFolders:
    """Folders of images under the names of what was made of them: NAME of any suffix, or NAME_1 and NAME_2."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Raises FileNotFoundError for a folder that is not there."""
        self.names = ", ".join(map(str, folders))
        self._images: list[dict[Path, list[Path]]] = []
        for folder in folders:
            if not folder.is_dir():
                raise FileNotFoundError(f"--data.sources: {not_there('folder', folder)}")
            exact: dict[Path, list[Path]] = {}
            numbered: dict[Path, list[tuple[int, Path]]] = {}
            for file in sorted(files_below(folder)):
                if file.suffix.lower() not in SUFFIXES:
                    continue
                stem = file.relative_to(folder).with_suffix("")
                exact.setdefault(stem, [file])
                if match := NUMBER_BEHIND.match(stem.name):
                    numbered.setdefault(stem.with_name(match["name"]), []).append((int(match["number"]), file))
            self._images.append({stem: [file for _, file in sorted(own)] for stem, own in numbered.items()} | exact)

    def of(self, target: Path) -> list[Path]:
        """The sources of a target by its path in its own folder; [] where it has none."""
        stem = target.with_suffix("")
        return [image for images in self._images for image in images.get(stem, [])]
