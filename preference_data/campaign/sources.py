"""Where a campaign's items come from: folders of images, run folders, and a list of disagreements.

Nothing is drawn here and no model is loaded; images are checked, copied into the store's folder and named by their
pixels. A run's images are those of its finished model where it was evaluated, and labels say of which update they
are. Two sources are compared on the prompts that both have; one source is compared with itself where it has several
images of a prompt.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from re import compile as pattern
from typing import Any

from preference_data.campaign.campaigns import Item
from preference_data.captions import captioned_prompts, require_images_folder
from preference_data.exchange.formats.preference_format import UNKNOWN
from preference_data.image_files import source_image
from preference_data.line_files import existing, parse_json, read_json, read_json_lines, read_text, text_lines
from preference_data.records import ImageRef, Prompt, Provenance, SourceImage
from preference_data.store.image_store import ImageFolder, keep_sources

Request = tuple[str, tuple[SourceImage, ...]]
"""A prompt, and the images that it asks to edit."""
MAIN = "unguided"
"""The setting of an evaluation whose images are taken first, as everywhere its numbers stand first."""
_HALFWAY = pattern(r" \(update \d+ of \d+\)$")


@dataclass(frozen=True)
class MadeImage:
    """An image of a prompt, and where it came from. `label` names its maker in ratings."""

    prompt: str
    path: Path
    made: Provenance
    label: str
    sources: tuple[SourceImage, ...] = ()
    """what the prompt asks to edit"""
    spans: tuple[str, ...] | None = None
    """the texts that it must show, where the folder says them; None: the prompt's quotations"""

    @property
    def request(self) -> tuple[str, tuple[SourceImage, ...]]:
        """What images are compared by: the prompt, and what it is about."""
        return self.prompt, self.sources


def from_folders(
    folders: Sequence[Path], images: ImageFolder, per_prompt: int = 3, labels: Sequence[str] = ()
) -> list[Item]:
    """Items from folders of images or of runs, labelled with the folder's name and, of a run, the update; or as
    `labels` says.

    At most `per_prompt` items a prompt. Raises FileNotFoundError for a folder that is not there, ValueError when it has
    no images, an image has no prompt, or nothing can be compared.
    """
    if not folders:
        raise ValueError("name at least one folder")
    labels = labels or [folder.name or str(folder) for folder in folders]
    if len(set(labels)) != len(labels):
        labels = [str(folder) for folder in folders]
    sources = [list(images_of_folder(folder, name)) for folder, name in zip(folders, labels, strict=True)]
    by_prompt: list[dict[Request, list[MadeImage]]] = []
    for source in sources:
        grouped: dict[Request, list[MadeImage]] = defaultdict(list)
        for image in source:
            grouped[image.request].append(image)
        by_prompt.append(grouped)
    items = []
    requests = sorted(set().union(*by_prompt), key=lambda one: (one[0], [each.sha256 for each in one[1]]))
    for number, request in enumerate(requests):
        there = [grouped.get(request, []) for grouped in by_prompt]
        couples = _couples(there, number * per_prompt)[:per_prompt]
        items += [item for one, other in couples if (item := _item(one, other, images)) is not None]
    if not items:
        raise ValueError(f"{', '.join(map(str, folders))}: no prompt has two different images to compare")
    return items


def images_of_folder(folder: Path, name: str) -> Iterator[MadeImage]:
    """The images of a folder: of a run those of its finished model, else the files with their captions.

    A run that was never evaluated has samples from training only. The last of them are taken then, and their label says
    of which update they are.
    """
    require_images_folder(folder)
    if evaluated := list(_evaluated(folder, name)):
        return iter(evaluated)
    index = folder / "samples" / "index.json"
    return _sampled(folder, index, name) if index.exists() else _captioned(folder, name)


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, or of one of its stages, which kept images."""
    return (folder / "samples" / "index.json").exists() or any((folder / "evaluation").glob("*.json"))


def finished(name: str, last: int) -> str:
    """The label of what a run's finished model made; `last` is the run's last update."""
    return f"{name} (finished, update {last})"


def unfinished(labels: Iterable[str]) -> list[str]:
    """Those labels that are of a model in the middle of its training."""
    return [label for label in labels if _HALFWAY.search(label)]


def from_disagreements(path: Path, images: ImageFolder) -> list[Item]:
    """Items from JSON lines {"prompt": ..., "left": PATH, "right": PATH, "disagreement": NUMBER}.

    Paths are relative to the file; "labels", two names, is optional. The greater the number, the more often the policy
    reward_disagreement draws the item. Raises ValueError with the line number of what is wrong.
    """
    return from_lines(path, images, lambda item, row: replace(item, disagreement=float(row["disagreement"])))


def from_lines(path: Path, images: ImageFolder, finish: Callable[[Item, Mapping[str, Any]], Item]) -> list[Item]:
    """Pairs from JSON lines with prompt, left and right (paths relative to the file), and, where there are any, labels
    and the sources of edits, a list of paths.

    `finish` adds what else a line says. Raises ValueError with the line number of what is wrong.
    """
    items = []
    for number, row in read_json_lines(path):
        try:
            if not isinstance(row, Mapping):
                raise ValueError(f"found {str(row)[:40]!r} where an object with named fields should be")
            if wrong := [n for n in ("prompt", "left", "right") if not isinstance(row[n], str) or not row[n].strip()]:
                raise ValueError(f"{wrong[0]} is {row[wrong[0]]!r}; it must be a text that is not empty")
            labels = row.get("labels") or [Path(row[side]).parent.name or "unknown" for side in ("left", "right")]
            edited = tuple(source_image(existing(path.parent / name)) for name in row.get("sources", ()))
            sides = [
                MadeImage(
                    row["prompt"],
                    existing(path.parent / row[side]),
                    replace(UNKNOWN, model=name, run=str(path), step=number),
                    name,
                    edited,
                )
                for side, name in zip(("left", "right"), labels, strict=True)
            ]
            item = _item(sides[0], sides[1], images)
            if item is None:
                raise ValueError("both images are the same")
            items.append(finish(item, row))
        except KeyError as error:
            raise ValueError(f"{path} line {number}: the field {error} is missing") from error
        except (ValueError, TypeError, OSError, AttributeError) as error:
            raise ValueError(f"{path} line {number}: {error}") from error
    if not items:
        raise ValueError(f"{path} is empty")
    return items


def keep(image: MadeImage, images: ImageFolder) -> ImageRef:
    """Copy an image into the store's folder; its record."""
    sha, width, height = images.add(image.path.read_bytes(), str(image.path))
    return ImageRef(sha, str(image.path), width, height, image.made)


def _couples(there: Sequence[Sequence[MadeImage]], first: int) -> list[tuple[MadeImage, MadeImage]]:
    """What to compare of one prompt: sources with each other, or one source's images among themselves.

    Every two sources take turns, and `first` says whose turn it is, so that the few couples that are asked about of
    each prompt leave no source out.
    """
    if len(there) == 1:
        return list(itertools.combinations(there[0], 2))
    pairs = [(one, other) for one, other in itertools.combinations(there, 2) if one and other]
    turn = first % len(pairs) if pairs else 0
    rounds = itertools.zip_longest(*(zip(one, other, strict=False) for one, other in pairs[turn:] + pairs[:turn]))
    return [couple for each in rounds for couple in each if couple is not None]


def _item(one: MadeImage, other: MadeImage, images: ImageFolder) -> Item | None:
    """None when both are the same image."""
    refs = (keep(one, images), keep(other, images))
    if refs[0].sha256 == refs[1].sha256:
        return None
    prompt = keep_sources(Prompt.from_text(one.prompt, sources=one.sources), images)
    prompt = prompt if one.spans is None else replace(prompt, spans=one.spans)
    return Item(prompt, refs, labels=(one.label, other.label))


def _evaluated(folder: Path, name: str) -> Iterator[MadeImage]:
    """What the finished model made when it was evaluated, in the setting that counts, or in another one."""
    files = sorted((folder / "evaluation").glob("*.json"), key=lambda file: (file.stem != MAIN, file.name))
    for file in files:
        content = read_json(file)
        rows = content["rows"] if isinstance(content, Mapping) else content
        shown = [(index, row) for index, row in enumerate(rows) if row.get("picture")]
        if not shown:
            continue
        last = last_update(folder)
        for index, row in shown:
            image = file.parent / row["picture"]
            if not image.resolve().is_relative_to(file.parent.resolve()):
                raise ValueError(f"{file}: the image {row['picture']!r} lies outside of the evaluation's folder")
            if image.exists():
                made = Provenance(name, file.stem, index, 0, 0.0, str(folder), last)
                yield MadeImage(str(row["prompt"]), image, made, finished(name, last))
        return


def _sampled(folder: Path, index: Path, name: str) -> Iterator[MadeImage]:
    """The last samples that a run made while it trained."""
    rows = read_json(index)
    step = max((row["step"] for row in rows), default=0)
    last = last_update(folder)
    done = step >= last and (folder / "model").is_dir()
    label = finished(name, last) if done else f"{name} (update {step} of {max(step, last)})"
    for position, row in enumerate(row for row in rows if row["step"] == step):
        made = Provenance(name, f"update {step}", position, 0, 0.0, str(folder), step)
        edited = tuple(source_image(existing(index.parent / name)) for name in row.get("sources", ()))
        yield MadeImage(row["caption"], folder / "samples" / row["picture"], made, label, edited)


def last_update(folder: Path) -> int:
    """The last update that a run recorded; 0 without any."""
    file, last = folder / "metrics.jsonl", 0
    for _, line in text_lines(read_text(file)) if file.exists() else ():
        try:
            row = parse_json(line, str(file))
        except ValueError:
            continue  # a line that is being written
        if isinstance(row, Mapping) and isinstance(row.get("step"), int):
            last = max(last, row["step"])
    return last


def _captioned(folder: Path, name: str) -> Iterator[MadeImage]:
    """The files of a folder, see `preference_data.captions`."""
    for index, (file, prompt) in enumerate(captioned_prompts(folder)):
        made = replace(UNKNOWN, model=name, run=str(folder), step=index)
        yield MadeImage(prompt.text, file, made, name, prompt.sources, prompt.spans)
