"""Writing images of text: how many a second one core makes, and whether an engine reads what they say.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.data --photos PHOTOGRAPHS

The rate is of images a second of CPU time of one process, which waiting for other work does not lengthen. Photographs
are made up where no folder of them is named. With `--check 40` the lines of 40 images of each kind and language are
read back, each straightened by its known corners (experiments/images/label_check.py). `--least` measures what the
faces' least sizes are set to: the em size from which 95 % of lines are read exactly, at that size and the next two.
`--coverage 100000` counts how often each character of the languages' standard sets appears in so many images. `--same
10000 --images 4` compares 4 images of each kind and language in a fresh process with those made after so many others.

`--producers 40` compares training beside the encoding with training from shards, and `--costs` counts what encoding
costs beside the 20-billion model: see the folder encoding.

Prints tables, then one JSON line.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from multiprocessing import get_context
from typing import Any

import numpy as np
from PIL import Image

from base_model.data.writing.corpora import Corpus, standard_set
from base_model.data.writing.faces import FACES, LANGUAGES, Face
from base_model.data.writing.text_lines import Type, placed, render_lines
from base_model.data.writing.writer import (
    Sources,
    chosen_face,
    in_face,
    lot,
    require_installed,
    text_of_pure,
    turn,
    write,
)
from base_model.data.writing.written_image import KINDS, Unwritable, Writing
from experiments.benchmarks.encoding import data_costs, data_producers
from experiments.images.label_check import Checked, check_lines, read_line, reads_korean, summary, table
from experiments.images.written_folder import FolderPhotographs

RATES = {"pure": 40.0, "compositional": 15.0, "complex": 50.0}
"""images a second and core that are expected at 512 pixels"""
EMS = (8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 26, 28, 32, 36)
"""em sizes in pixels at which faces are measured"""
LINE = (16, 32), (40, 72)
"""letters of a line that is read, and of a Korean one, which would be one of a few signs below"""
READ = 0.95
"""share of lines that has to be read exactly"""


@dataclass(frozen=True)
class Benchmark:
    """What is measured."""

    images: int = 60
    """timed images of each kind and language, after as many that are not; or of each, those whose bytes are compared"""
    size: int = 512
    """height and width in pixels"""
    photos: tuple[str, ...] = ()
    """folders of photographs; made up when none is named"""
    check: int = 0
    """images of each kind and language whose lines are read back"""
    least: bool = False
    """measure the least readable size of every face, with `images` lines a size"""
    coverage: int = 0
    """count the characters in the texts of so many pure images instead"""
    same: int = 0
    """compare the first images with those of a fresh process, after so many others, instead"""
    producers: int = 0
    """time so many updates of nano pretraining with a producer and without, random batches, and a pool against Ray"""
    costs: bool = False
    """count what images and captions of the 20-billion model cost beside its training, by resolution"""
    seed: int = 0

    def __post_init__(self) -> None:
        others = {"check": self.check, "coverage": self.coverage, "same": self.same,
                  "producers": self.producers}  # fmt: skip
        if self.images < 1 or min(others.values()) < 0:
            raise ValueError(f"images={self.images} must be at least 1, and {others} at least 0")


class MadeUp:
    """Photographs of nothing: rectangles of all colours, as large as a camera's after scaling."""

    def __init__(self, side: int, count: int = 4) -> None:
        rng = np.random.default_rng(0)
        self._pixels = [np.full((side, side, 3), 120, np.uint8) for _ in range(count)]
        for pixels in self._pixels:
            for _ in range(60):
                top, left, height, width = rng.integers(0, side, 4)
                pixels[top : top + height // 3, left : left + width // 3] = rng.integers(0, 255, 3)

    def __len__(self) -> int:
        return len(self._pixels)

    def pixels(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]"""
        return self._pixels[index]

    def caption(self, index: int) -> str:
        """Nothing is known of it."""
        return ""


def rate(cfg: Benchmark, kind: str, language: str, sources: Sources) -> tuple[float, Counter[str]]:
    """Images a CPU second, and what was discarded on the way."""
    plan = Writing(cfg.seed, (kind,), (language,), (cfg.size, cfg.size))
    for index in range(cfg.images, 2 * cfg.images):
        write(plan, index, sources)
    discarded, start = Counter[str](), time.process_time()
    for index in range(cfg.images):
        discarded.update(reason.reason for reason in write(plan, index, sources)[1])
    return cfg.images / (time.process_time() - start), discarded


def read_back(cfg: Benchmark, kind: str, language: str, sources: Sources) -> list[Checked]:
    """The lines of some images, as they are read."""
    plan = Writing(cfg.seed + 1, (kind,), (language,), (cfg.size, cfg.size))
    images = (write(plan, index, sources)[0] for index in range(cfg.check))
    return [line for image in images for line in check_lines(image.pixels_HW3, image.record(""))]


def shares_read(face: Face, lines: int, seed: int, sizes: Sequence[int] = EMS) -> dict[int, float]:
    """The share of lines that are read exactly in a face, at each em size."""
    language = face.languages[0]
    shares = {}
    for em in sizes:
        exact = tried = 0
        for index in range(lines):
            rng = lot(seed, index, em, face.name)
            try:
                text = in_face(face, Corpus(language).paragraph(rng, LINE[language == "ko"]), language)
            except Unwritable:
                continue
            kind = Type(face, int(rng.choice(face.weights)), em)
            (row,) = placed([text], kind, (10, 10, 0), 1.2, "left")
            image = Image.new("RGB", (round(kind.width(text)) + 20, 3 * em + 20), (245, 245, 245))
            render_lines(image, [row], (25, 25, 25))
            read = read_line(np.asarray(image), row.quad, language)
            exact, tried = exact + Checked(text, read, face.name, language, "pure", em).exact, tried + 1
        shares[em] = exact / max(1, tried)
    return shares


def least_size(shares: dict[int, float]) -> int:
    """The em size at which enough lines are read, as they are at the next two; the largest when there is none."""
    sizes = list(shares)
    for i, em in enumerate(sizes):
        if all(shares[larger] >= READ for larger in sizes[i : i + 3]):
            return em
    return sizes[-1]


def measure_least(cfg: Benchmark) -> dict[str, Any]:
    """Every face's least readable size beside the one that it is set to; of Korean ones where tesseract reads them."""
    numbers = {}
    for face in FACES.values():
        if face.languages == ("ko",) and not reads_korean():
            continue
        shares = shares_read(face, cfg.images, cfg.seed)
        numbers[face.name] = least_size(shares)
        row = " ".join(f"{em}:{share:.2f}" for em, share in shares.items())
        print(f"{face.name:20} least {numbers[face.name]:3} (set to {face.least})  {row}", flush=True)
    return {"least": numbers}


def coverage(cfg: Benchmark) -> dict[str, Any]:
    """How often the characters of the standard sets appear in the texts of so many pure images."""
    plan, numbers = Writing(cfg.seed, languages=LANGUAGES), {}
    counts = {language: Counter[str]() for language in LANGUAGES}
    for index in range(cfg.coverage):
        _, language, ordinal = turn(plan, index)
        rng = lot(cfg.seed, index, 0, "pure")
        face = chosen_face(rng, language, Sources())
        text = text_of_pure(plan, rng, language, ordinal, Sources())
        counts[language].update(text.upper() if face.capitals else text)
    for language, counted in counts.items():
        times = {character: counted[character] for character in standard_set(language)}
        rarest = sorted(times.items(), key=lambda item: item[1])[:10]
        never = sum(count == 0 for count in times.values())
        shown = " ".join(f"{character}:{count}" for character, count in rarest)
        print(f"{language:8} {len(times):5} characters, {never} of them never; the rarest {shown}")
        numbers[language] = {"characters": len(times), "never": never, "rarest": dict(rarest)}
    return numbers


def digest(seed: int, size: int, count: int) -> str:
    """Of the pixels and records of the first images of all kinds and languages in turn."""
    plan, sources = Writing(seed, KINDS, LANGUAGES, (size, size)), Sources(photographs=MadeUp(2 * size))
    content = sha256()
    for index in range(count):
        image = write(plan, index, sources)[0]
        content.update(image.pixels_HW3.tobytes() + json.dumps(image.record("")).encode())
    return content.hexdigest()


def same_bytes(cfg: Benchmark) -> dict[str, Any]:
    """Whether images are the same in a fresh process as in this one after many others."""
    count = cfg.images * len(KINDS) * len(LANGUAGES)
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        first = fresh.submit(digest, cfg.seed, cfg.size, count).result()
    plan, sources = Writing(cfg.seed, KINDS, LANGUAGES, (cfg.size, cfg.size)), Sources(photographs=MadeUp(2 * cfg.size))
    for index in range(count, count + cfg.same):
        write(plan, index, sources)
    same = first == digest(cfg.seed, cfg.size, count)
    print(f"{count} images in a fresh process and after {cfg.same} others in this one: {'the same' if same else 'NOT'}")
    return {"same_bytes": same, "digest": first}


def labels(checked: Sequence[Checked]) -> dict[str, Any]:
    """What is read of the lines of each kind, of those from 16 pixels on in printed and in all faces, and of Korean."""
    others = [line for line in checked if line.language != "ko"]
    groups = {kind: [line for line in others if line.kind.split("/")[0] == kind] for kind in KINDS}
    groups["from_16"] = [line for line in others if line.size >= 16]
    groups["printed_from_16"] = [line for line in groups["from_16"] if FACES[line.face].style in ("sans", "serif")]
    groups["korean"] = [line for line in checked if line.language == "ko"]
    numbers: dict[str, Any] = {}
    for name, own in groups.items():
        numbers[f"{name}_lines"] = len(own)
        if own:
            numbers[f"{name}_exact"] = round(sum(line.exact for line in own) / len(own), 4)
            numbers[f"{name}_likeness"] = round(sum(line.likeness for line in own) / len(own), 4)
    return numbers


def measure(cfg: Benchmark) -> dict[str, Any]:
    """Rates of every kind and language, and what is read back. Raises ValueError when something is not installed."""
    require_installed(Writing(0, KINDS, LANGUAGES))
    photographs = FolderPhotographs(cfg.photos, 2 * cfg.size) if cfg.photos else MadeUp(2 * cfg.size)
    sources, numbers, checked = Sources(photographs=photographs), {}, []
    for kind in KINDS:
        rates, discarded = {}, Counter[str]()
        for language in LANGUAGES:
            rates[language], reasons = rate(cfg, kind, language, sources)
            discarded.update(reasons)
            checked += read_back(cfg, kind, language, sources) if cfg.check else []
        mean = len(rates) / sum(1.0 / each for each in rates.values())
        row = "  ".join(f"{language} {each:6.1f}" for language, each in rates.items())
        print(f"{kind:14} {mean:6.1f} images a CPU second (expected {RATES[kind]:.0f}): {row}", flush=True)
        share = discarded.total() / (discarded.total() + cfg.images * len(LANGUAGES))
        print(f"{'':14} {share:.3f} of attempts discarded: {dict(discarded.most_common(3))}")
        numbers[f"{kind}_rate"], numbers[f"{kind}_discarded"] = round(mean, 1), round(share, 3)
    if checked:
        print(*table(summary(checked)), sep="\n")
        numbers |= labels(checked)
    return numbers


def chosen(cfg: Benchmark) -> dict[str, Any]:
    """The numbers of what is asked for."""
    if cfg.producers:
        return data_producers.measure(cfg.producers)
    if cfg.costs:
        return data_costs.measure()
    if cfg.same:
        return same_bytes(cfg)
    return coverage(cfg) if cfg.coverage else measure_least(cfg) if cfg.least else measure(cfg)


def main() -> None:
    import tyro

    cfg = tyro.cli(Benchmark, description=__doc__)
    print(json.dumps({**chosen(cfg), **asdict(cfg)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
