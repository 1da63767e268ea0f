"""A folder of written images with captions and boxes, made in parts of `PART` images by as many processes as one likes.

    FOLDER/images/00000/000007.png   the image of index 7
    FOLDER/captions.jsonl            a line an image: file_name, text (captions), lines with their boxes
    FOLDER/contact_sheet.html        the first of them with their boxes, to be looked at
    FOLDER/check.csv                 how the first of them are read back, where that was asked for
    FOLDER/writing.json              the settings, and what was discarded
    FOLDER/.parts/00000-64.json      the 64 lines of a part, put there when its images are

`--data.folder FOLDER` trains on it. A part that has its lines is never made again, so a run that was stopped goes on
where it was; the bytes do not depend on who made which part.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from base_model.data.writing.corpora import Corpus, own_corpus, standard_set
from base_model.data.writing.faces import SUFFIXES, Face, language_named, own_face, undrawable
from base_model.data.writing.writer import Sources, require_installed, write
from base_model.data.writing.written_image import Writing
from experiments.images.image_readers import Entry, list_entries
from experiments.images.part_pool import Pool, parts_done
from experiments.record.whole_files import plain, require_folder, write_bytes, write_json
from preference_data.atomic_files import replacing
from preference_data.image_files import decode_image, read_image
from preference_data.line_files import read_text, text_lines

PART = 64
"""images that are made together"""
SETTINGS, CAPTIONS, SHEET, CHECK = "writing.json", "captions.jsonl", "contact_sheet.html", "check.csv"
IMAGES, PARTS = "images", ".parts"
SHOWN = 60
"""images of the contact sheet"""
SHOWN_FILES = 5
"""files of a folder that an error names"""
KEEP = 48
"""decoded photographs that a process keeps"""
RENDERERS = {name: {"complex"} for name in ("typst", "pypdfium2", "faker")}
"""packages whose version the pixels of some kinds depend on, as those of all depend on Pillow's"""
COMPRESSION = 3
"""of PNG files, 0 to 9: more takes longer and saves little on photographs"""


@dataclass(frozen=True)
class Request:
    """A folder to be written: the images that it has, and what they are made of."""

    plan: Writing
    count: int
    """images"""
    photos: tuple[str, ...] = ()
    """folders, tables or archives of photographs that text is put into"""
    texts: str = ""
    """a folder of en.txt, zh-Hans.txt and so on with a paragraph a line; "" = the built-in vocabulary"""
    fonts: str = ""
    """a folder of en/, zh-Hans/ and so on with type faces; "" = the installed ones"""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count={self.count} must be at least 1 image")
        if "compositional" in self.plan.kinds and not self.photos:
            raise ValueError("compositional images put text into photographs: name a folder of them with --photos")


class FolderPhotographs:
    """Photographs of folders, tables and archives, decoded when they are needed and scaled to what an image needs."""

    def __init__(self, folders: Sequence[str], side: int) -> None:
        self._entries = [entry for folder in folders for entry in list_entries(folder) if not entry.problem]
        self._read = functools.lru_cache(maxsize=KEEP)(functools.partial(_photograph, self._entries, side))

    def __len__(self) -> int:
        return len(self._entries)

    def pixels(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]. Raises ValueError or OSError when the file is damaged."""
        return self._read(index)

    def caption(self, index: int) -> str:
        """What it shows, where the folder says so."""
        captions = self._entries[index].captions
        return captions[0] if captions else ""

    def fingerprint(self) -> str:
        """Of all names, bytes and captions."""
        digest = sha256()
        for entry in self._entries:
            digest.update(repr((entry.name, sha256(entry.content()).hexdigest(), entry.captions)).encode())
        return digest.hexdigest()


def _photograph(entries: Sequence[Entry], side: int, index: int) -> np.ndarray:
    """A photograph whose shorter side has at most `side` pixels."""
    entry = entries[index]
    pixels = decode_image(entry.content(), entry.name)
    scale = side / min(pixels.shape[:2])
    if scale >= 1.0:
        return pixels
    height, width = (max(side, round(each * scale)) for each in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0))


def own_texts(folder: str, languages: Iterable[str]) -> tuple[dict[str, Corpus], list[str]]:
    """The corpora of a folder's files, and a line for each file that had paragraphs in another language.

    Raises ValueError when a language has no file, or a file no paragraph in its language.
    """
    files = {path.stem.lower(): path for path in sorted(Path(folder).glob("*.txt"))}
    if not files:
        raise ValueError(f"{folder} has no .txt files; put a paragraph a line into en.txt, zh-Hans.txt, ja.txt ...")
    corpora, notes = {}, []
    for language in dict.fromkeys(languages):
        path = next((path for stem, path in files.items() if _is_language(stem, language)), None)
        if path is None:
            raise ValueError(f"{folder} has no {language}.txt with a paragraph a line; it has {', '.join(files)}")
        rows = [line for _, line in text_lines(read_text(path))]
        try:
            corpora[language], left_out = own_corpus(language, rows)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if left_out:
            notes.append(f"{path}: {len(left_out)} of {len(rows)} paragraphs are not in {language}: {left_out[0][:60]}")
    return corpora, notes


def own_faces(folder: str, languages: Iterable[str]) -> dict[str, tuple[Face, ...]]:
    """The faces of a folder's folders, by language.

    Raises ValueError when none of the languages has a folder with faces, or a file is no face of its language.
    """
    faces = {}
    for language in dict.fromkeys(languages):
        folders = [path for path in sorted(Path(folder).glob("*/")) if _is_language(path.name, language)]
        files = sorted(path for each in folders for path in each.iterdir() if path.suffix.lower() in SUFFIXES)
        if files:
            faces[language] = tuple(own_face(path, language) for path in files)
            for face in faces[language]:
                require_letters(face, language)
    if not faces:
        inside = ", ".join(path.name + "/" * path.is_dir() for path in sorted(Path(folder).glob("*"))[:SHOWN_FILES])
        raise ValueError(
            f"{folder} has no type faces for {', '.join(languages)}: put .ttf, .otf or .woff files into folders there "
            f"that are named after their language, such as en or zh-Hans; it has {inside or 'nothing'}"
        )
    return faces


def require_letters(face: Face, language: str) -> None:
    """Raises ValueError when a face has fewer than half of a language's characters, as a sample tells."""
    sample = standard_set(language)[:: max(1, len(standard_set(language)) // 60)]
    lost = [character for character in sample if undrawable(face, character)]
    if len(lost) > len(sample) / 2:
        raise ValueError(
            f"{face.file} cannot write {language}, as {len(lost)} of {len(sample)} of its characters show "
            f"({lost[0]!r}: {undrawable(face, lost[0])}); put faces into the folders of languages that they have"
        )


def _is_language(stem: str, language: str) -> bool:
    try:
        return language_named(stem) == language
    except ValueError:
        return False


@functools.lru_cache(maxsize=2)
def sources(request: Request) -> Sources:
    """What a process writes from, read once."""
    corpora = own_texts(request.texts, request.plan.languages)[0] if request.texts else {}
    photographs = FolderPhotographs(request.photos, 2 * max(request.plan.size)) if request.photos else None
    faces = own_faces(request.fonts, request.plan.languages) if request.fonts else {}
    return Sources(corpora, photographs, faces)


def write_part(request: Request, out: Path, part: int) -> None:
    """Write the images of a part, then its lines, which say that it is whole."""
    rows, discarded = [], Counter[str]()
    for index in range(part * PART, min(request.count, (part + 1) * PART)):
        image, reasons = write(request.plan, index, sources(request))
        discarded.update(f"{reason.face}: {reason.reason}" for reason in reasons)
        name = f"{IMAGES}/{part:05d}/{index:06d}.png"
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.pixels_HW3).save(path, compress_level=COMPRESSION)
        rows.append(image.record(name))
    content = json.dumps({"rows": rows, "discarded": dict(sorted(discarded.items()))}, ensure_ascii=False)
    path = part_file(request, out, part)
    write_bytes(path, content.encode())
    for shorter in path.parent.glob(f"{part:05d}-*.json"):
        if shorter != path:
            shorter.unlink()


def parts_of(count: int) -> range:
    """The numbers of the parts of so many images."""
    return range(-(-count // PART))


def part_file(request: Request, out: Path, part: int) -> Path:
    """Where the lines of a part lie. Its name says how many: a last part is made again when more are wanted."""
    rows = min(request.count, (part + 1) * PART) - part * PART
    return out / PARTS / f"{part:05d}-{rows}.json"


def write_folder(request: Request, out: Path, processes: int = 1, ray: str = "") -> Iterator[str]:
    """Write what is missing of a folder; lines that say how far it is and what came out.

    Raises ValueError when something needed is not installed or named, or the folder holds images of other settings.
    """
    if processes < 1:
        raise ValueError(f"processes={processes} must be at least 1")
    require_folder(out)
    require_installed(request.plan)
    if inside := next(
        (folder for folder in request.photos if out.resolve().is_relative_to(Path(folder).resolve())), ""
    ):
        raise ValueError(f"{out} is inside of {inside}, whose images are taken for photographs; name another folder")
    if request.texts:
        yield from own_texts(request.texts, request.plan.languages)[1]
    photographs = sources(request).photographs
    if photographs is not None and not len(photographs):
        raise ValueError(f"{', '.join(request.photos)} holds no photograph that can be used")
    require_same(out, _described(request), request.count)
    if not is_begun(out):
        shutil.rmtree(out / IMAGES, ignore_errors=True)
        write_json(out / SETTINGS, _described(request))
    missing = [part for part in parts_of(request.count) if not part_file(request, out, part).exists()]
    if len(missing) < len(parts_of(request.count)):
        yield f"{len(parts_of(request.count)) - len(missing)} of {len(parts_of(request.count))} parts are there already"
    work = functools.partial(write_part, request, out)
    for done, _ in enumerate(parts_done(work, missing, Pool(processes, ray)), 1):
        yield f"{min(request.count, done * PART):,} of {min(request.count, len(missing) * PART):,} images written"
    yield finish(request, out)


def _described(request: Request) -> dict[str, Any]:
    """What the bytes of the images depend on."""
    import cv2

    photographs, texts = sources(request).photographs, sources(request).corpora
    settings: dict[str, Any] = plain(dataclasses.asdict(request.plan))
    packages = ["pillow", "numpy", *(name for name, kinds in RENDERERS.items() if kinds & {*request.plan.kinds})]
    settings["versions"] = {"cv2": cv2.__version__, **{name: metadata.version(name) for name in packages}}
    if isinstance(photographs, FolderPhotographs):
        settings["photographs"] = {"folders": list(request.photos), "fingerprint": photographs.fingerprint()}
    if faces := sources(request).faces:
        content = repr([(language, face.name, sha256(face.path.read_bytes()).hexdigest())
                        for language, own in faces.items() for face in own])  # fmt: skip
        settings["fonts"] = {"folder": request.fonts, "fingerprint": sha256(content.encode()).hexdigest()}
    if texts:
        content = repr([(language, corpus.own) for language, corpus in texts.items()])
        settings["texts"] = {"folder": request.texts, "fingerprint": sha256(content.encode()).hexdigest()}
    return settings


def require_same(out: Path, settings: Mapping[str, Any], count: int) -> None:
    """Raises ValueError when a folder was begun with other settings, or holds other things."""
    path = out / SETTINGS
    if not path.exists():
        if out.exists() and any(out.iterdir()):
            raise ValueError(f"{out} holds other things and no {SETTINGS}; name a new folder")
        return
    if not is_begun(out):
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [
        name for name in {**settings, **before}
        if name not in ("discarded", "images") and comparable(settings.get(name)) != comparable(before.get(name))
    ]  # fmt: skip
    if changed:
        name = changed[0]
        raise ValueError(
            f"{out} was begun with {name}={before.get(name)}, not {settings.get(name)}; give the same settings to go "
            "on, or name a new folder"
        )
    if before.get("images", 0) > count:
        raise ValueError(f"{out} has {before['images']} images already; --count {count} would not take any away")


def is_begun(out: Path) -> bool:
    """Whether a part of a folder is whole; before that, nothing of it is worth keeping."""
    return any((out / PARTS).glob("*.json"))


def prune(out: Path, count: int) -> None:
    """Remove images behind the last one, which a run left that was to be longer and was stopped."""
    for folder in (out / IMAGES).iterdir():
        for path in folder.glob("*.png") if int(folder.name) >= count // PART else ():
            if int(path.stem) >= count:
                path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    for path in (out / PARTS).glob("*.json"):
        if int(path.stem.split("-")[0]) not in parts_of(count):
            path.unlink()


def comparable(value: Any) -> Any:
    """A setting as it is compared: files by what they hold, wherever they are."""
    return value["fingerprint"] if isinstance(value, Mapping) and "fingerprint" in value else value


def finish(request: Request, out: Path) -> str:
    """Put the lines of all parts together, and make the contact sheet; what came out, as a line."""
    shown: list[dict[str, Any]] = []
    discarded = Counter[str]()
    with replacing(out / CAPTIONS) as file:
        for part in parts_of(request.count):
            content = json.loads(part_file(request, out, part).read_text(encoding="utf-8"))
            discarded.update(content["discarded"])
            shown += content["rows"][: SHOWN - len(shown)]
            for row in content["rows"]:
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
    prune(out, request.count)
    write_bytes(out / SHEET, contact_sheet(shown, request.plan.size).encode())
    described = _described(request)
    write_json(out / SETTINGS, {**described, "images": request.count, "discarded": dict(discarded.most_common())})
    left_out = ""
    if discarded:
        reason, times = discarded.most_common(1)[0]
        left_out = f"; {discarded.total()} texts were discarded, {times} of them because of {reason}"
    return f"{request.count:,} images in {out}{left_out}; look at {out / SHEET}, train with --data.folder {out}"


def read_back(out: Path, images: int) -> list[str]:
    """How many lines of the first images of a folder an engine reads as they are labelled, as a table.

    The whole table is put into the folder as `CHECK`.
    """
    from experiments.images.label_check import as_csv, check_lines, summary, table

    with (out / CAPTIONS).open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in itertools.islice(file, images)]
    checked = [line for row in rows for line in check_lines(read_image(out / row["file_name"]), row)]
    checks = summary(checked)
    write_bytes(out / CHECK, as_csv(checks))
    return [*table(checks), f"all of it, with every face, script and size: {out / CHECK}"]


def contact_sheet(rows: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> str:
    """A page of images with the boxes of their lines and characters, and their captions."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(SHEET)
    return page.render(rows=rows, height=size[0], width=size[1])
