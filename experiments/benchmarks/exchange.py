"""Importing pairs of 512-pixel PNG images from Parquet, as Pick-a-Pic has them.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.exchange --pairs 10000

A file of that many pairs, with two images of its own each, is written first (by a process of its own, so that its
memory does not count), then imported into a fresh store by `glyphlab pairs import`'s own functions. Images are
photograph-like: smooth colours with noise, about 350 KB each as PNG; `--distinct` of them are drawn, and copies are
made other images by their first row, so that every image is decoded, hashed and kept.

    ms_a_pair       CPU milliseconds of the import's process, system time included, a pair
    peak_mb         its peak memory; `quarter_peak_mb`: of an import of a quarter of the pairs in a process of its own
    decode_ms       CPU milliseconds to decode two of these images with Pillow and take the sha256 of their pixels.
                    It is measured between the import's own images, at every 50th of them, so that both see the same
                    load of the machine; its time is not the import's
    ratio           ms_a_pair / decode_ms, which a slower or busier machine hardly changes. Without imagecodecs it is
                    above 1; with it, which decodes in about half the time, it can be below

The last line is one JSON object.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import tyro
from PIL import Image

NOISE = 1.5
"""Standard deviation of the noise, in levels of 255: about that of a sharp generated image."""
BATCH = 50
"""Pairs in a row group, as in files of the hub."""
EVERY = 50
"""Images of an import for one that is decoded beside it."""
Add = Callable[[object, bytes, str], tuple[str, int, int]]


@dataclass(frozen=True)
class Benchmark:
    """Sizes of the import."""

    pairs: int = 10_000
    size: int = 512
    """pixels of an image's sides"""
    distinct: int = 40
    """images that are drawn"""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pairs < 4 or self.size < 8 or self.distinct < 2:
            raise ValueError(f"pairs={self.pairs}, size={self.size}, distinct={self.distinct}: at least 4, 8 and 2")


@dataclass(frozen=True)
class Measured:
    """What one import took."""

    pairs: int
    ms_a_pair: float
    elapsed_ms_a_pair: float
    peak_mb: float
    decode_ms: float
    stored: int
    """images in the store's folder afterwards"""


def photograph(size: int, seed: int) -> np.ndarray:
    """uint8 [size, size, 3]: smooth colours with the noise of a camera."""
    random = np.random.default_rng(seed)
    colours = random.integers(0, 256, size=(12, 12, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(colours).resize((size, size), Image.Resampling.BICUBIC), np.float32)
    return (smooth + random.normal(0.0, NOISE, smooth.shape)).clip(0, 255).astype(np.uint8)


def png(pixels_HW3: np.ndarray) -> bytes:
    """Encodes an image as PNG."""
    content = io.BytesIO()
    Image.fromarray(pixels_HW3).save(content, "PNG", compress_level=6)
    return content.getvalue()


def variants(pixels_HW3: np.ndarray, count: int) -> list[bytes]:
    """PNG files of different images that take as long to decode as the drawn one, for little more work than one.

    The first row differs. It is packed by itself, and what follows, which is packed once, refers to nothing in it.
    """
    first = png(pixels_HW3)
    body = first[first.index(b"IDAT") - 4 : first.rindex(b"IEND") - 4]
    rows = bytearray(zlib.decompress(_data(body)))
    head, end = first[: first.index(b"IDAT") - 4], first[first.rindex(b"IEND") - 4 :]
    row = 3 * pixels_HW3.shape[1] + 1
    rest = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_FILTERED)  # as Pillow packs it
    packed = rest.compress(rows[row:]) + rest.flush()
    made = []
    for number in range(count):
        rows[1:5] = number.to_bytes(4, "big")
        top = zlib.compressobj(6)
        data = top.compress(rows[:row]) + top.flush(zlib.Z_FULL_FLUSH) + packed
        made.append(head + _chunk(data + zlib.adler32(rows).to_bytes(4, "big")) + end)
    return made


def _data(chunks: bytes) -> bytes:
    """The pixel data of IDAT chunks."""
    content, index = b"", 0
    while index < len(chunks):
        length = int.from_bytes(chunks[index : index + 4], "big")
        content += chunks[index + 8 : index + 8 + length]
        index += 12 + length
    return content


def _chunk(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + b"IDAT" + data + zlib.crc32(b"IDAT" + data).to_bytes(4, "big")


def write_file(benchmark: Benchmark, pairs: int, path: Path) -> None:
    """A Parquet file in the columns of Pick-a-Pic, every image another one."""
    import pyarrow
    import pyarrow.parquet as parquet

    samples = [photograph(benchmark.size, benchmark.seed + n) for n in range(benchmark.distinct)]
    each = -(-2 * pairs // benchmark.distinct)
    stock: list[bytes] = []
    with parquet.ParquetWriter(path, _schema(pyarrow), compression="none") as file:
        number = 0
        for start in range(0, benchmark.distinct, 2):
            stock += [
                one for two in zip(*(variants(p, each) for p in samples[start : start + 2]), strict=True) for one in two
            ]
            while len(stock) >= 2 * BATCH or (start + 2 >= benchmark.distinct and stock):
                batch = min(BATCH, len(stock) // 2, pairs - number)
                if batch == 0:
                    return
                rows = [_row(number + i, stock[2 * i], stock[2 * i + 1]) for i in range(batch)]
                file.write_table(pyarrow.Table.from_pylist(rows, schema=_schema(pyarrow)))
                stock, number = stock[2 * batch :], number + batch


def _schema(pyarrow):  # type: ignore[no-untyped-def]
    text, real = pyarrow.string(), pyarrow.float64()
    return pyarrow.schema([
        ("caption", text), ("jpg_0", pyarrow.binary()), ("jpg_1", pyarrow.binary()), ("label_0", real),
        ("label_1", real), ("has_label", pyarrow.bool_()), ("user_id", pyarrow.int64()), ("model_0", text),
        ("model_1", text),
    ])  # fmt: skip


def _row(number: int, first: bytes, second: bytes) -> dict[str, object]:
    won = (number * 7) % 3
    return {"caption": f"a photograph of scene {number // 3}", "jpg_0": first, "jpg_1": second,
            "label_0": (1.0, 0.0, 0.5)[won], "label_1": (0.0, 1.0, 0.5)[won], "has_label": True,
            "user_id": number % 200, "model_0": "one", "model_1": "two"}  # fmt: skip


def imported(file: Path, folder: Path, pairs: int) -> Measured:
    """Import the file into a fresh store, in this process; what that took."""
    from experiments.preferences.run_campaigns import import_lines
    from preference_data.exchange.incoming import Options
    from preference_data.store.staging import Staged
    from preference_data.store.store import Store

    store = Store.open(folder / f"store{pairs}")
    check = PixelCheck()
    with mock.patch.object(Staged, "add", check.around(Staged.add)):
        began, cpu = time.perf_counter(), time.process_time()
        import_lines(store, file, "pickapic", "benchmark", Options())
        cpu, took = time.process_time() - cpu - sum(check.cpu), time.perf_counter() - began
    count = sum(1 for _ in store.images.root.iterdir())
    store.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    decode = 2e3 * statistics.mean(check.cpu)
    return Measured(pairs, 1e3 * cpu / pairs, 1e3 * took / pairs, peak, decode, count)


class PixelCheck:
    """Decodes and hashes every 50th image of an import beside it, with nothing but Pillow and hashlib."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self._seen = 0

    def around(self, add: Add) -> Add:
        """The import's own function that takes an image in, and now and then the same image beside it."""

        def both(staged: object, content: bytes, name: str) -> tuple[str, int, int]:
            self._seen += 1
            if self._seen % EVERY == 1:
                start = time.process_time()
                with Image.open(io.BytesIO(content)) as image:
                    hashlib.sha256(image.tobytes())
                self.cpu.append(time.process_time() - start)
            return add(staged, content, name)

        return both


def alone(work, *arguments):  # type: ignore[no-untyped-def]
    """What `work` returns in a fresh process, so that its peak of memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def run(benchmark: Benchmark, folder: Path) -> dict[str, object]:
    """Write, import, and say what it took."""
    quarter = benchmark.pairs // 4
    results: dict[int, Measured] = {}
    for pairs in (quarter, benchmark.pairs):
        file = folder / "pairs.parquet"
        alone(write_file, benchmark, pairs, file)
        results[pairs] = alone(imported, file, folder, pairs)
        if results[pairs].stored != 2 * pairs:
            raise ValueError(f"{results[pairs].stored} images were kept of {2 * pairs}")
        print(results[pairs])
    whole, kb = results[benchmark.pairs], file.stat().st_size / benchmark.pairs / 2048
    return {
        "pairs": benchmark.pairs, "size": benchmark.size, "picture_kb": kb, "ms_a_pair": whole.ms_a_pair,
        "elapsed_ms_a_pair": whole.elapsed_ms_a_pair, "peak_mb": whole.peak_mb,
        "quarter_peak_mb": results[quarter].peak_mb, "decode_ms": whole.decode_ms,
        "ratio": whole.ms_a_pair / whole.decode_ms,
    }  # fmt: skip


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(run(tyro.cli(Benchmark), Path(scratch))))
