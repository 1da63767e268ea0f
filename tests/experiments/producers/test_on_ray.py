"""What a Ray cluster does has the bytes of what processes of this machine do. Skipped where Ray is not installed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch

from base_model.data.latents import LatentStream
from base_model.data.stream import Stage, TextStream
from base_model.data.writing.written_image import Writing
from base_model.files.weights import save_vae
from experiments.curation import curated_folder
from experiments.curation.curated_folder import curate
from experiments.images.on_ray import connected
from experiments.images.written_folder import Request, write_folder
from experiments.producers.batch_sources import RenderedSource
from experiments.producers.producing import Job, produced
from experiments.producers.ring import Contents, Ring
from tests.experiments.curation.images_to_curate import write_images_to_curate
from tests.experiments.curation.test_stopped_curation import content
from tests.fixtures.tiny.tiny_model import tiny_vae

pytestmark = [pytest.mark.slow]


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that begins here has two cores, however many there are."""
    ray = pytest.importorskip("ray")
    begin, cores = ray.init, {"local": {"num_cpus": 2}}
    monkeypatch.setattr(ray, "init", lambda address, **more: begin(address, **cores.get(address, {}), **more))


@pytest.mark.usefixtures("two_cores")
def test_curation_and_writing_by_ray_leave_the_bytes_of_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curated_folder, "SHARD", 4)
    write_images_to_curate(tmp_path / "images")
    monkeypatch.chdir(tmp_path)  # relative paths mean the same in both
    for name, ray in (("pool", ""), ("ray", "local")):
        list(curate(["images"], Path(name), ["reading=no"], processes=2, ray=ray))
        list(write_folder(Request(Writing(size=(64, 64), length=(4, 8)), 70), Path(f"{name}_written"), 2, ray))
    assert content(tmp_path / "pool") == content(tmp_path / "ray")
    assert content(tmp_path / "pool_written") == content(tmp_path / "ray_written")


@pytest.mark.usefixtures("two_cores")
def test_producers_on_ray_may_be_killed_and_make_the_same_shards(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    save_vae(tiny_vae(), tmp_path / "vae.safetensors")
    source = RenderedSource(
        LatentStream(TextStream(3, (Stage(0, (0.0, 0.0, 0.0, 0.0, 1.0)),)), tmp_path / "vae.safetensors")
    )
    ring = Ring(tmp_path / "ring", Contents(*source.fingerprints(), 4, 1, batches=2), 10**8)
    job = Job(source, ring, 12, 2)
    before = {process.pid for process in psutil.process_iter()}
    with produced(source, ring, range(24), 2, "local") as reader:
        reader.batch(0, 4)
        workers = [
            process
            for process in psutil.process_iter(["pid", "cmdline"])
            if process.pid not in before and "placed" in " ".join(process.info["cmdline"] or ())
        ]
        assert workers, "Ray names the processes of its tasks after them"
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
        time.sleep(1.0)
        for step in range(24):
            reader.batch(step, 4)
    with source.open(1) as data:
        for shard in range(12):
            assert ring.path(shard).read_bytes() == job.make(data, shard)


@pytest.mark.usefixtures("two_cores")
def test_mistakes_are_said(tmp_path: Path) -> None:
    save_vae(tiny_vae(), tmp_path / "vae.safetensors")
    source = RenderedSource(LatentStream(TextStream(3, (Stage(0, (1.0,)),)), tmp_path / "vae.safetensors"))
    ring = Ring(tmp_path / "ring", Contents(*source.fingerprints(), 4, 1), 100)
    with (
        pytest.raises(ValueError, match="--producers 3 need a CPU each"),
        produced(source, ring, range(8), 3, "local"),
    ):
        pass
    with (
        pytest.raises(ValueError, match="allow more with --ring-gigabytes"),
        produced(source, ring, range(8), 1, "local") as reader,
    ):
        reader.batch(0, 4)
    with pytest.raises(ValueError, match=r"no Ray cluster answers at 127\.0\.0\.1:9"), connected("127.0.0.1:9"):
        pass


def test_where_ray_is_missing_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ValueError, match="pip install 'glyphlab\\[ray\\]'"), connected("local"):
        pass
