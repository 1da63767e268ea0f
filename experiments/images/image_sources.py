"""Images and captions of one's own as a stream: folders, tables and archives, behind one door.

`ImageSources` are the settings, `open_images` reads what they name once (every byte, but only the heads are decoded)
and leaves out what cannot be learned from, with a reason, and `OwnImages` is the stream. A sample is a function of its
index in the stream and of the settings, so a batch is a function of (step, size, rank, ranks) and resuming needs a step
number. Which image a sample shows is said by sample_order.py, also where images are added on the way. In a pass every
image of a source is shown once, or as often as a column `repeats` says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from base_model.data.stream import CaptionedImages, stream_indices
from base_model.seeding import numpy_generator
from experiments.images.canvases import Size, canvas, cover
from experiments.images.examined_images import examined
from experiments.images.image_readers import Entry, list_entries
from experiments.images.sample_order import SampleOrder
from preference_data.image_files import decode_image

SHOWN = 3
"""images that an error names"""
Prepared = TypeVar("Prepared")
Images = tuple[tuple[Entry, ...], ...]
"""the usable images of each source, as often as each is shown in a pass"""


@dataclass(frozen=True)
class ImageSources:
    """Images of one's own. Raises ValueError for settings that cannot work."""

    folder: tuple[str, ...] = ()
    """folders of images with captions, or .parquet, .tar, .csv or .jsonl files"""
    weights: tuple[float, ...] = ()
    """share of each of them, in their order; () = as many samples of each as it has images"""
    repeats: tuple[int, ...] = ()
    """how often each of them shows every image in a pass, in their order; () = once; instead of weights"""
    column: str = ""
    """column of the captions in tables; "" takes text, caption, captions or prompt"""
    sources: tuple[str, ...] = ()
    """folders of what the images were made from, under the same names, for training edits whose captions are
    instructions; () finds them by the names of files, folders and columns"""
    aspect: bool = True
    """keep the aspect of every image, with about as many pixels as the run's size has; otherwise the middle is cut out
    in the run's size, as it always is for an autoencoder"""
    min_side: int = 32
    """pixels; an image whose shorter side has fewer is left out"""
    max_bad: float = 0.05
    """largest share of images that may be left out because they cannot be read or have no caption"""
    seed: int = 0
    """of the order of images and of the choice among several captions"""
    heldout: float = 0.0
    """share of images that nothing is learned from, chosen by the hash of their bytes: the finished model is compared
    on them with what it began from"""

    def __post_init__(self) -> None:
        if not self.folder or "" in self.folder:
            raise ValueError("own images need a folder: name one, or several, with --data.folder")
        if self.weights and len(self.weights) != len(self.folder):
            raise ValueError(f"{len(self.weights)} weights for {len(self.folder)} folders; give one for each, or none")
        if self.weights and (min(self.weights) < 0 or sum(self.weights) <= 0):
            raise ValueError(f"weights={self.weights} must be shares >= 0, one above 0")
        if self.repeats and len(self.repeats) != len(self.folder):
            raise ValueError(f"{len(self.repeats)} repeats for {len(self.folder)} folders; give one for each, or none")
        if self.repeats and min(self.repeats) < 1:
            raise ValueError(f"repeats={self.repeats} must be at least 1; leave a folder out to show none of it")
        if self.repeats and self.weights:
            raise ValueError(
                f"repeats={self.repeats} and weights={self.weights} say the same in two ways; give one of them"
            )
        if not 0.0 <= self.max_bad < 1.0:
            raise ValueError(f"max_bad={self.max_bad} must be a share of at least 0 and below 1")
        if not 0.0 <= self.heldout < 1.0:
            raise ValueError(f"heldout={self.heldout} must be a share of at least 0 and below 1")
        if self.min_side < 1:
            raise ValueError(f"min_side={self.min_side} must be at least 1 pixel")


@dataclass(frozen=True)
class Bad:
    """An image that cannot be learned from."""

    name: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.reason.startswith(self.name) else f"{self.name} {self.reason}"


@dataclass(frozen=True)
class Later:
    """Images that are learned from beginning with a sample, in place of those before."""

    start: int
    """the first sample"""
    sources: Images
    fingerprint: str
    """of all usable bytes and captions"""


@dataclass(frozen=True)
class OwnImages:
    """The stream. Made by `open_images`; give it the size of its samples with `sized`."""

    settings: ImageSources
    sources: Images
    bad: tuple[Bad, ...]
    """what was left out when the sources were listed"""
    duplicates: int
    """files that are another one's copy, byte for byte; their captions count for it"""
    fingerprint: str
    """of all usable bytes and captions"""
    size: Size = (0, 0)
    side: int = 16
    """what height and width of a canvas are multiples of"""
    aspects: tuple[float, ...] = ()
    """height by width of the canvases that there are; () = that of every image, as near as `side` allows"""
    listed: Images = ()
    """all usable images of each source, the held-out ones among them"""
    heldout: tuple[Entry, ...] = ()
    """usable images that nothing is learned from, in the order of their hashes: the first ones are of all kinds"""
    by_design: tuple[Bad, ...] = ()
    """what was never meant to be learned from, such as masks"""
    mixes: tuple[tuple[int, tuple[float, ...]], ...] = ()
    """weights of the sources that hold from a sample on, in place of those of the settings; later ones last"""
    later: tuple[Later, ...] = ()
    """images that hold from a sample on, in place of `sources`; later ones last"""
    broken: dict[str, str] = field(default_factory=dict)
    """images that turned out to be damaged when they were decoded, and why"""

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    @property
    def edits(self) -> int:
        """How many images were made from others."""
        return len({entry.name for entry in self.entries if entry.sources})

    @property
    def count(self) -> int:
        """How many images a pass shows, those that it repeats once."""
        return sum(len({entry.name for entry in source}) for source in self.sources)

    @property
    def entries(self) -> list[Entry]:
        """All images that are ever learned from, in the order of the sources; one that stays is there again."""
        return [entry for images in self.lists for source in images for entry in source]

    @property
    def lists(self) -> list[Images]:
        """The images at the beginning, and each time that they change."""
        return [self.sources, *(each.sources for each in self.later)]

    @property
    def captions(self) -> list[str]:
        """All captions, each once, in the order of the sources."""
        return list(dict.fromkeys(text for entry in self.entries for text in entry.captions))

    def sized(self, size: Size, side: int, aspects: tuple[float, ...] = ()) -> OwnImages:
        """The same images at another size. Raises ValueError when it is no multiple of `side`."""
        if size[0] % side or size[1] % side:
            raise ValueError(f"size={size} must be multiples of {side} pixels, which one latent token covers")
        return replace(self, size=size, side=side, aspects=aspects)

    def summary(self) -> str:
        """One line about what was read and what was left out."""
        sizes = f"{self.count} images with {len(self.captions)} captions from {', '.join(self.settings.folder)}"
        notes = [f"a pass shows {len(self)}, because some are repeated"] if len(self) > self.count else []
        notes += [f"{self.edits} of them are edits of other images"] if self.edits else []
        notes += [f"{len(self.heldout)} more are held out"] if self.heldout else []
        notes += [f"{self.duplicates} copies are used once"] if self.duplicates else []
        for some in (self.bad, self.by_design):
            if some:
                more = f" and {len(some) - SHOWN} more" if len(some) > SHOWN else ""
                notes.append(f"{len(some)} left out: {'; '.join(map(str, some[:SHOWN]))}{more}")
        return "; ".join([sizes, *notes])

    # --- which image, with which caption

    def candidates(self, index: int) -> Iterator[Entry]:
        """The image at an index of the stream, then those that stand in for it where it turns out to be damaged."""
        generation, source, row = self._order.locate(index)
        entries = self.lists[generation][source]
        yield from (entries[(row + step) % len(entries)] for step in range(len(entries)))

    @cached_property
    def _order(self) -> SampleOrder:
        names = [[[entry.sha256 or entry.name for entry in own] for own in images] for images in self.lists]
        starts = (0, *(each.start for each in self.later))
        settings = self.settings
        return SampleOrder(
            settings.seed, list(zip(starts, names, strict=True)), self.mixes, settings.weights, settings.repeats
        )

    def caption(self, index: int, entry: Entry) -> str:
        """One of the image's captions; "" where it has none."""
        if not entry.captions:
            return ""
        rng = numpy_generator(self.settings.seed, index, 0, "caption")
        return entry.captions[int(rng.integers(len(entry.captions)))]

    def sample(self, index: int, prepare: Callable[[Entry], Prepared]) -> tuple[Prepared, str]:
        """What `prepare` makes of the first undamaged candidate, and a caption.

        Raises ValueError when `prepare` refused too many images so far, as `require_usable` says, or all of a source.
        """
        for entry in self.candidates(index):
            if entry.name in self.broken:
                continue
            try:
                return prepare(entry), self.caption(index, entry)
            except (ValueError, OSError) as error:
                self.broken[entry.name] = str(error)
                print(f"glyphlab: {entry.name} is left out from here on: {error}", file=sys.stderr)
                bad = [*self.bad, *(Bad(name, reason) for name, reason in self.broken.items())]
                require_usable(bad, len(self) + len(self.bad), self.settings)
        raise ValueError(f"no image of {', '.join(self.settings.folder)} can be decoded")

    # --- pixels

    def canvas(self, shape: Size) -> Size:
        """The (height, width) that an image of a shape is given."""
        return canvas(shape, self.size, self.side, self.aspects) if self.settings.aspect else self.size

    def pixels(self, entry: Entry) -> np.ndarray:
        """uint8 [3, H, W], filling its canvas. Raises ValueError or OSError when it is damaged."""
        pixels = decode_image(entry.content(), entry.name)
        return cover(pixels, self.canvas((pixels.shape[0], pixels.shape[1]))).transpose(2, 0, 1).copy()

    def pixels_of_sources(self, entry: Entry) -> list[np.ndarray]:
        """Those that the image was made from, as `pixels`: of the same shape, they are cut as the image is."""
        return [self.pixels(source) for source in entry.sources]

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> CaptionedImages:
        """uint8 images [3, H, W], their captions and what they were made from: a pure function of its arguments."""
        rows = [
            self.sample(index, lambda entry: (self.pixels(entry), self.pixels_of_sources(entry)))
            for index in stream_indices(step, size, rank, ranks)
        ]
        sources = [[torch.from_numpy(source) for source in own] for (_, own), _ in rows]
        images = [torch.from_numpy(pixels) for (pixels, _), _ in rows]
        return CaptionedImages(images, [text for _, text in rows], sources if any(sources) else ())

    def images(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Tensor:
        """uint8 [size, 3, H, W] for an autoencoder, which wants one size."""
        return torch.stack(list(self.batch(step, size, rank, ranks).images))


def is_heldout(key: str, share: float) -> bool:
    """Whether an image with that SHA-256 is among the held-out share; among a larger share it is as well."""
    return int(key[:16], 16) < share * 2**64


def open_images(
    settings: ImageSources, needs_captions: bool = True, refused: Callable[[str], str] = lambda text: "",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> OwnImages:  # fmt: skip
    """List what the settings name, and leave out what cannot be learned from.

    `refused` says why the model cannot read a caption ("" = it can); `report` hears how many of how many images are
    listed. Raises FileNotFoundError for a path that is not there, and ValueError when more than `settings.max_bad` of
    the images are bad, or none is left.
    """
    usable = list_usable(settings, needs_captions, refused, report)
    return arranged(settings, usable.parts, usable.bad, usable.copies, usable.by_design)


class Usable(NamedTuple):
    """What the sources hold."""

    parts: list[list[Entry]]
    """images that can be learned from, or be held out, of each source"""
    bad: tuple[Bad, ...]
    copies: int
    by_design: tuple[Bad, ...]


def list_usable(
    settings: ImageSources, needs_captions: bool, refused: Callable[[str], str], report: Callable[[int, int], None]
) -> Usable:
    """List what the settings name. Raises as `open_images`."""
    listed = [list_entries(source, settings.column, settings.sources) for source in settings.folder]
    by_design = [Bad(each.name, each.problem) for entries in listed for each in entries if each.by_design]
    listed = [[each for each in entries if not each.by_design] for entries in listed]
    total, bad, parts, copies, done = sum(map(len, listed)), [], [], 0, 0
    for source, entries in zip(settings.folder, listed, strict=True):
        usable: dict[str, Entry] = {}
        for entry, key in examined(entries, settings.min_side, Path(source)):
            done += 1
            report(done, total)
            checked = with_readable_captions(entry, refused) if needs_captions and not entry.problem else entry
            if checked.problem:
                bad.append(Bad(checked.name, checked.problem))
            elif key in usable:
                copies += 1
                first = usable[key]
                texts = tuple(dict.fromkeys((*first.captions, *checked.captions)))
                usable[key] = replace(first, captions=texts, repeats=max(first.repeats, checked.repeats))
            else:
                usable[key] = replace(checked, sha256=key)
        parts.append([*usable.values()])
    require_usable(bad, total, settings)
    return Usable(parts, tuple(bad), copies, tuple(by_design))


def arranged(
    settings: ImageSources, parts: Sequence[Sequence[Entry]], bad: tuple[Bad, ...] = (), copies: int = 0,
    by_design: tuple[Bad, ...] = (),
) -> OwnImages:  # fmt: skip
    """The stream of usable images of each source. Raises ValueError where one has nothing to learn from."""
    digest, heldout = sha256(), dict[str, Entry]()
    for entries in parts:
        for entry in entries:
            often = (entry.repeats,) if entry.repeats > 1 else ()
            digest.update(repr((entry.sha256, entry.captions, *often)).encode())
        heldout |= {each.sha256: each for each in entries if is_heldout(each.sha256, settings.heldout)}
    learned = [[entry for entry in entries if entry.sha256 not in heldout] for entries in parts]
    sources = tuple(tuple(entry for entry in entries for _ in range(entry.repeats)) for entries in learned)
    require_both(settings, sources, len(heldout))
    return OwnImages(
        settings, sources, bad, copies, digest.hexdigest(), listed=tuple(map(tuple, parts)),
        heldout=tuple(heldout[key] for key in sorted(heldout)), by_design=by_design,
    )  # fmt: skip


def require_both(settings: ImageSources, sources: Sequence[Sequence[Entry]], heldout: int) -> None:
    """Raises ValueError where a source has nothing to learn from, or nothing is held out although it should be."""
    learned = sum(map(len, sources))
    for source, usable in zip(settings.folder, sources, strict=True):
        if not usable and not settings.heldout:
            raise ValueError(f"{source} holds no image that can be used")
        if not usable:
            raise ValueError(
                f"{source} holds no image that can be used beside the held-out ones; lower --data.heldout "
                f"{settings.heldout:g}"
            )
    if settings.heldout and not heldout:
        raise ValueError(
            f"none of {learned} images falls into a held-out share of {settings.heldout:g}: raise --data.heldout, to "
            f"{min(0.5, 3 / learned):.2g} say, or give more images"
        )


def with_readable_captions(entry: Entry, refused: Callable[[str], str]) -> Entry:
    """The entry with the captions that the model can read; a problem where it has none."""
    if not entry.captions:
        return replace(
            entry,
            problem=f"has no caption that can be read: {entry.caption_problem}"
            if entry.caption_problem
            else "has no caption: put a .txt file of the same name beside it, or a line in a table, whose column of "
            "captions --data.column names where it is not text, caption, captions or prompt",
        )
    reasons = [refused(text) for text in entry.captions]
    captions = tuple(text for text, reason in zip(entry.captions, reasons, strict=True) if not reason)
    return replace(
        entry, captions=captions, problem="" if captions else f"has no caption that can be read: {reasons[0]}"
    )


def require_usable(bad: Sequence[Bad], total: int, settings: ImageSources) -> None:
    """Raises ValueError, naming the first of them, when too large a share of images is bad."""
    if len(bad) <= settings.max_bad * total:
        return
    more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    percent = -(-100 * len(bad) // total)
    allow = f", or allow more with --data.max-bad {percent / 100:.2f}" if percent < 100 else ""
    left = "" if allow else f"; {total - len(bad) or 'none'} would be left to learn from"
    raise ValueError(
        f"{len(bad)} of {total} images of {', '.join(settings.folder)} cannot be used, and at most "
        f"{settings.max_bad:.0%} may be left out: {'; '.join(map(str, bad[:SHOWN]))}{more}. Mend them or "
        f"remove them{allow}{left}"
    )
