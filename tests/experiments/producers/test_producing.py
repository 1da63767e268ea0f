"""Training data from shards is that of the stream, bit for bit, whoever makes them, and whoever dies meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from base_model.data.edits import Size
from base_model.data.latents import EncodedStream, LatentStream
from base_model.data.mixture import Mix, TaskStream
from base_model.data.stream import Stage, TextStream, stream_indices
from base_model.files.weights import save_vae
from base_model.pretrain import Batch
from experiments.images.image_sources import ImageSources, open_images
from experiments.images.own_latents import OwnLatents
from experiments.producers import producing
from experiments.producers.batch_sources import OwnSource, PixelSource, RenderedSource, Source
from experiments.producers.producing import DEATHS, Job, RingReader, produce, produced
from experiments.producers.ring import Contents, Ring
from tests.base_model.data.test_encoded_shards import check_equal
from tests.fixtures.tiny.tiny_model import tiny_model, tiny_vae

STREAM = TextStream(3, (Stage(0, (0.0, 0.0, 0.0, 0.0, 1.0)),))
STEPS = range(5)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in a run: sums depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Threads:
    """Producers as threads of this process: `begin` is counted, and `deaths` are reported once each."""

    def __init__(self, job: Job) -> None:
        self.packed, self.ring, self.shards = job.packed(), job.ring, job.shards
        self.threads: list[threading.Thread] = []
        self.begun: list[int] = []
        self.deaths: list[int] = []
        self.errors: list[Exception] = []

    def begin(self, producer: int) -> None:
        self.begun.append(producer)
        self.threads.append(threading.Thread(target=self.produce, args=(producer,)))
        self.threads[-1].start()

    def produce(self, producer: int) -> None:
        try:
            produce(self.packed, producer)
        except Exception as error:
            self.errors.append(error)

    def ended(self) -> list[int]:
        for error in self.errors:
            raise error
        dead, self.deaths = self.deaths, []
        return dead

    def end(self) -> None:
        self.ring.read_from(self.shards)
        for thread in self.threads:
            thread.join()


def through_a_ring(source: Source, folder: Path, size: int, ranks: int, producers: int, monkeypatch) -> list[Batch]:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(producing, "ProcessesHere", Threads)
    ring = Ring(folder, Contents(*source.fingerprints(), size, ranks, batches=2), 10**8)
    with produced(source, ring, STEPS, producers) as reader:
        rows = [reader.batch(step, size, rank, ranks) for step in STEPS for rank in range(ranks)]
    return rows


@pytest.fixture
def vae_file(tmp_path: Path) -> Path:
    save_vae(tiny_vae(), tmp_path / "vae.safetensors")
    return tmp_path / "vae.safetensors"


CANVASES: tuple[Size, ...] = ((32, 96), (64, 96))
TASKS = TaskStream(STREAM, (Mix(0, t2i=1.0, ink=1.0, word=1.0),), CANVASES)


@pytest.mark.parametrize("stream", [STREAM, TASKS], ids=["words", "tasks"])
def test_shards_of_rendered_images_are_the_stream(stream, vae_file: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    data = LatentStream(stream, vae_file)
    shown = through_a_ring(RenderedSource(data), tmp_path / "ring", 3, 2, 2, monkeypatch)
    expected = [data.batch(step, 3, rank, 2) for step in STEPS for rank in range(2)]
    for one, other in zip(shown, expected, strict=True):
        check_equal(one, other)


def test_shards_of_a_finite_set_are_those_that_are_kept_without_producers(
    vae_file: Path, tmp_path: Path, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    data = LatentStream(replace(STREAM, limit=5), vae_file)
    shown = through_a_ring(RenderedSource(data), tmp_path / "ring", 4, 1, 1, monkeypatch)
    kept = EncodedStream(data)
    for step in STEPS:
        check_equal(shown[step], kept.batch(step, 4))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 255, (40 + 16 * i, 60, 3), dtype=np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
        (tmp_path / "images" / f"{i}.txt").write_text(f"image {i}\nanother")
    return tmp_path / "images"


def test_shards_of_own_images_are_the_latents_of_the_model(folder: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    model = tiny_model()
    images = open_images(ImageSources((str(folder),))).sized((32, 96), model.multiple)
    source = OwnSource(images, model.pixel_encoder())
    assert set(vars(source.encoder)) == {"vae", "device", "side"}, "nothing heavy travels"
    shown = through_a_ring(source, tmp_path / "ring", 3, 1, 2, monkeypatch)
    with OwnLatents(images, model.encode_pixels, model.side) as expected:
        for step in STEPS:
            check_equal(shown[step], expected.batch(step, 3))
    assert len({grid for batch in shown for grid in batch.grids}) > 1, "of several sizes"


def test_shards_of_pixels_are_the_images(folder: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    images = open_images(ImageSources((str(folder),), aspect=False), needs_captions=False).sized((32, 48), 16)
    for name, stream in (("own", images), ("words", STREAM)):
        shown = through_a_ring(PixelSource(stream), tmp_path / name, 2, 1, 1, monkeypatch)
        for step in STEPS:
            assert torch.equal(shown[step].x0_BSC, stream.images(step, 2))


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_any_number_of_ranks_sees_the_same_samples_a_step(
    ranks: int, vae_file: Path, tmp_path: Path, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    """Of an update of four samples: the same captions in the same order."""
    source = RenderedSource(LatentStream(STREAM, vae_file))
    shown = through_a_ring(source, tmp_path / "ring", 4 // ranks, ranks, 1, monkeypatch)
    texts = [text for batch in shown for text in batch.texts]
    assert texts == [STREAM.one(0, index)[1] for index in stream_indices(0, 4 * len(STEPS), 0, 1)]


def test_fingerprints_tell_what_changes_bytes(vae_file: Path, folder: Path, tmp_path: Path) -> None:
    rendered = RenderedSource(LatentStream(STREAM, vae_file))
    data, encoder = rendered.fingerprints()
    save_vae(tiny_vae(), tmp_path / "again.safetensors")
    assert RenderedSource(LatentStream(STREAM, tmp_path / "again.safetensors")).fingerprints() == (data, encoder)
    save_vae(tiny_vae(1), tmp_path / "other.safetensors")
    other = RenderedSource(LatentStream(replace(STREAM, seed=4), tmp_path / "other.safetensors")).fingerprints()
    assert other[0] != data and other[1] != encoder
    images = open_images(ImageSources((str(folder),)))
    encoder_of_model = tiny_model().pixel_encoder()
    own = {OwnSource(images.sized(size, 16), encoder_of_model).fingerprints()[0] for size in ((32, 96), (32, 64))}
    own |= {OwnSource(replace(images, mixes=((8, (1.0,)),)), encoder_of_model).fingerprints()[0]}
    assert len(own) == 3


def test_dead_producers_are_begun_again_until_they_only_die(vae_file: Path, tmp_path: Path) -> None:
    source = RenderedSource(LatentStream(STREAM, vae_file))
    ring = Ring(tmp_path / "ring", Contents(*source.fingerprints(), 2, 1, batches=1), 10**8)
    placed = Threads(Job(source, ring, 3, 1))
    placed.deaths = [0]
    reader = RingReader(ring, placed, True)
    check_equal(reader.batch(0, 2), LatentStream(STREAM, vae_file).batch(0, 2))
    assert placed.begun == [0] and reader._deaths == 0, "only deaths in a row count"
    with pytest.raises(ValueError, match="the shards are of 2 and 1"):
        reader.batch(1, 4)
    placed.end()

    class Dying(Threads):
        def begin(self, producer: int) -> None:
            self.begun.append(producer)
            self.deaths = [producer]

    dying = Dying(Job(source, replace(ring, folder=tmp_path / "empty"), 3, 1))
    dying.deaths = [0]
    with pytest.raises(RuntimeError, match="died 6 times without finishing a shard"):
        RingReader(replace(ring, folder=tmp_path / "empty"), dying, True).batch(0, 2)
    assert len(dying.begun) == DEATHS
