"""Curating images: what measuring costs one core, group by group, and how fast stored numbers are cut anew.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.curation

Images are crops of scikit-image's photographs, saved as JPEG 90. Time is CPU time of the process, one thread, which
waiting for other work on the machine does not lengthen. `decode` is the time of reading and decoding alone, and each
group is timed on images that are decoded. `all` is what is done for every image; `codes`, `nudity` and `text`
look only at those that are left. Two images of the cut share a caption each.

Prints a table, then one JSON line; `images_per_cpu_second` is for `all`, `recut_seconds` the CPU time of deciding over
`rows` images from numbers in memory.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.curation.deciding import decide
from experiments.curation.edit_links import with_pairs
from experiments.curation.measures.caption_facts import SCRIPTS
from experiments.curation.measures.measure_groups import CHEAP, CODES, NUDITY, TEXT, measures_of
from experiments.curation.measuring import measured
from experiments.curation.opened_image import OpenedImage
from experiments.curation.thresholds import Filters
from experiments.images.image_readers import Entry

PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "rocket")


@dataclass(frozen=True)
class Benchmark:
    """Sizes of the measurement."""

    images: int = 48
    size: int = 512
    """pixels of an image's sides"""
    rows: int = 200_000
    """images whose stored numbers are cut"""
    reading: int = 8
    """images that the OCR engine reads"""

    def __post_init__(self) -> None:
        if min(self.images, self.reading, self.rows) < 1 or self.size < 64:
            raise ValueError(f"{self}: at least one image of each kind, and 64 pixels")


def entries(folder: Path, bench: Benchmark) -> list[Entry]:
    """Files to measure."""
    import skimage.data

    rng = np.random.default_rng(0)
    results = []
    for i in range(bench.images):
        photo = Image.fromarray(getattr(skimage.data, PHOTOGRAPHS[i % len(PHOTOGRAPHS)])()).convert("RGB")
        scale = 1.3 * bench.size / min(photo.size)
        photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
        left, top = (int(rng.integers(side - bench.size + 1)) for side in photo.size)
        buffer = io.BytesIO()
        photo.crop((left, top, left + bench.size, top + bench.size)).save(buffer, "JPEG", quality=90)
        path = folder / f"{i:04d}.jpg"
        path.write_bytes(buffer.getvalue())
        results.append(Entry(str(path), ("a photograph",), path, "file"))
    return results


def milliseconds(work: Callable[[], object], count: int) -> float:
    """CPU milliseconds an image of some work over `count` images."""
    began = time.process_time()
    work()
    return 1000.0 * (time.process_time() - began) / count


def group_times(bench: Benchmark) -> dict[str, float]:
    """CPU milliseconds an image by what is done."""
    import cv2

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        listed = entries(Path(folder), bench)
        list(measured(listed[:1], CHEAP))  # what is loaded at the first call
        times = {"all": milliseconds(lambda: list(measured(listed, CHEAP)), bench.images)}
        opened = [OpenedImage(entry) for entry in listed]
        times["decode"] = milliseconds(lambda: [image.rgb for image in opened], bench.images)
        for image in opened:
            assert image.reduced_grey.size and image.grey.size
        for each in (*CHEAP, CODES, *([] if NUDITY.lacking() else [NUDITY])):
            each.measure(opened[0])
            times[each.name] = milliseconds(lambda each=each: [each.measure(image) for image in opened], bench.images)  # type: ignore[misc]
        read = opened[: bench.reading]
        TEXT.measure(read[0])
        times["text"] = milliseconds(lambda: [TEXT.measure(image) for image in read], len(read))
    return times


def recut(rows: int) -> float:
    """CPU seconds of deciding over so many images."""
    rng = np.random.default_rng(0)
    filters = Filters()
    text = np.array([f"{i:064x}" for i in range(rows)], dtype=object)
    images: dict[str, np.ndarray] = {
        "name": text, "facts": np.full(rows, "", object), "rendered": np.zeros(rows, bool),
        "duplicate_of": np.full(rows, -1), "category": np.full(rows, "general", object),
    }  # fmt: skip
    for group in measures_of(filters):
        for column, kind in group.columns.items():
            images[column] = rng.normal(size=rows) if kind == "number" else np.full(rows, "", object)
    images |= {
        "id": text, "broken": np.zeros(rows), "misnamed": np.zeros(rows), "bytes": np.full(rows, 1e5),
        "short_side": np.full(rows, 512.0), "aspect": np.ones(rows), "height": np.full(rows, 512.0),
        "width": np.full(rows, 512.0), "hashed": np.ones(rows, bool), "colours": np.full(rows, "80" * 48, object),
        "phash": rng.integers(0, 2**64, rows, dtype=np.uint64), "dhash": rng.integers(0, 2**64, rows, dtype=np.uint64),
        "luma": np.full(rows, 128.0), "entropy": np.full(rows, 7.0),
        **{name: np.zeros(rows) for name in NUDITY.columns},
        "texts": np.array([f"{i // 2:x}" for i in range(rows)], dtype=object),
    }  # fmt: skip
    with_pairs(images, [()] * rows)
    captions: dict[str, np.ndarray] = {"row": np.arange(rows), "words": np.full(rows, 9.0), "garbage": np.zeros(rows)}
    captions |= {f"letters_{script}": np.ones(rows) for script in sorted({*SCRIPTS.values()})}
    began = time.process_time()
    decide(images, captions, filters)
    return time.process_time() - began


def main() -> None:
    """Print the table and the JSON line."""
    import tyro

    bench = tyro.cli(Benchmark, description=__doc__)
    times = group_times(bench)
    print(f"{'group':10} CPU ms an image of {bench.size} x {bench.size}")
    for name, value in times.items():
        print(f"{name:10} {value:8.2f}")
    seconds = recut(bench.rows)
    print(f"deciding over {bench.rows:,} images: {seconds:.1f} CPU s")
    line = {"milliseconds": {name: round(value, 2) for name, value in times.items()}, **asdict(bench)}
    print(
        json.dumps({**line, "images_per_cpu_second": round(1000 / times["all"], 1), "recut_seconds": round(seconds, 2)})
    )


if __name__ == "__main__":
    main()
