"""What producers gain: training beside the encoding against training from shards, random batches, a pool against Ray.

`speedup` is of the wall's time and means something on two free cores alone: `load_before` should be below 0.2. On any
machine a run without producers takes the processor time of its loop, and one with a producer, on free cores, that of
the longer of both processes: `speedup_on_free_cores`, which does not depend on what else the machine does.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from base_model import pretrain
from base_model.data.encoded_shards import Shard, sealed
from base_model.data.latents import LatentStream
from base_model.files.weights import save_vae
from base_model.pretrain import Batch, Latents
from experiments.configs import nano
from experiments.experiment import laid_out
from experiments.images.part_pool import Pool, parts_done
from experiments.producers.batch_sources import RenderedSource
from experiments.producers.producing import Job, produced
from experiments.producers.ring import BATCHES, Contents, Ring
from experiments.training.runner import equip_engine
from experiments.training.start_from import open_model

WARM = BATCHES
"""updates that are not timed"""
SAMPLES, TOKENS, CHANNELS = 4096, 256, 64
"""of the shard that random batches are read from: latents of 32 KB in 16 bits, those of 512 x 512 pixels are four times
as large"""


def trained(data: Latents, updates: int, cpu: Callable[[], float] = lambda: 0.0) -> tuple[float, float, float]:
    """Processor seconds of this process, of `cpu` and of the wall, for one update of nano pretraining."""
    cfg = laid_out(replace(nano.pretrain, algorithm=replace(nano.pretrain.algorithm, steps=updates + WARM)))
    model = open_model(cfg, None, device="cpu")
    engine = equip_engine(cfg, model)
    loop = pretrain.train(model, engine, data, cfg.algorithm)  # type: ignore[arg-type]
    for _ in range(WARM):
        next(loop)
    began = time.process_time(), cpu(), time.perf_counter()
    for _ in loop:
        pass
    ended = time.process_time(), cpu(), time.perf_counter()
    own, theirs, elapsed = ((b - a) / updates for a, b in zip(began, ended, strict=True))
    return own, theirs, elapsed


def children_cpu() -> float:
    """Processor seconds of the processes that this one began."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(each.user + each.system for each in times)


def job_of(folder: Path, updates: int) -> Job:
    """The shards of nano pretraining, made by one producer."""
    cfg = nano.pretrain
    save_vae(open_model(cfg, None, device="cpu").vae, folder / "encoder.safetensors")
    source = RenderedSource(LatentStream(cfg.data, folder / "encoder.safetensors"))  # type: ignore[arg-type]
    contents = Contents(*source.fingerprints(), cfg.algorithm.batch, 1)  # type: ignore[attr-defined]
    return Job(source, Ring(folder / "ring", contents, 10**9), -(-(updates + WARM) // BATCHES), 1)


def loop_or_producers(updates: int) -> dict[str, float]:
    """The time of an update beside the encoding and with a producer, and how much shorter it is on two free cores."""
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        job = job_of(Path(folder), updates)
        loop, _, loop_elapsed = trained(job.source.data, updates)  # type: ignore[attr-defined]
        with produced(job.source, job.ring, range(updates + WARM), 1) as reader:
            own, theirs, elapsed = trained(reader, updates, children_cpu)
    print(f"an update: {loop:.3f} CPU s in the loop ({loop_elapsed:.3f} s of the wall); with a producer {own:.3f} "
          f"CPU s, its own {theirs:.3f} ({elapsed:.3f} s of the wall)")  # fmt: skip
    return {
        "loop_cpu_s": round(loop, 4), "trainer_cpu_s": round(own, 4), "producer_cpu_s": round(theirs, 4),
        "speedup_on_free_cores": round(loop / max(own, theirs), 3),
        "speedup": round(loop_elapsed / elapsed, 3), "load_before": round(load, 2),
    }  # fmt: skip


def random_batches(batches: int = 60, size: int = 64) -> dict[str, float]:
    """CPU milliseconds of reading random rows of a shard, and of opening it, which checks its SHA-256."""
    rng = np.random.default_rng(0)
    random = torch.Generator().manual_seed(0)
    latents = torch.randn(SAMPLES, TOKENS, CHANNELS, generator=random).to(torch.float16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.safetensors"
        path.write_bytes(sealed([Batch(latents, [""] * SAMPLES)], {}))
        began = time.process_time()
        shard = Shard(path)
        opened = time.process_time() - began
        began = time.process_time()
        for _ in range(batches):
            rows = rng.integers(0, SAMPLES, size)
            read = shard.rows([(0, int(row)) for row in rows])
        taken = (time.process_time() - began) / batches
    if not torch.equal(read, latents[rows]):
        raise RuntimeError("rows of a shard are not those that were sealed")
    print(f"a random batch of {size} of {SAMPLES} rows: {taken * 1e3:.2f} CPU ms; opening the shard {opened:.2f} s")
    return {"random_batch_ms": round(taken * 1e3, 3), "open_s": round(opened, 3)}


def made(job: Job, folder: Path, shard: int) -> str:
    """Make a shard and put it into a folder; its SHA-256."""
    torch.set_num_threads(1)
    with job.source.open(1) as data:
        content = job.make(data, shard)
    folder.mkdir(exist_ok=True)
    (folder / f"{shard}").write_bytes(content)
    return sha256(content).hexdigest()


def pool_or_ray(shards: int = 6) -> dict[str, Any]:
    """Whether a pool of two processes and a Ray cluster that begins here make the same shards, and their times."""
    results: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp())
    try:
        job = job_of(folder, shards * BATCHES)
        hashes = {}
        for name, pool in (("pool", Pool(2)), ("ray", Pool(2, "local"))):
            if name == "ray" and find_spec("ray") is None:
                print("Ray is not installed: pip install 'glyphlab[ray]'")
                return results
            began = time.perf_counter()
            hashes[name] = sorted(parts_done(functools.partial(made, job, folder / name), range(shards), pool))
            results[f"{name}_s"] = round(time.perf_counter() - began, 1)
        results["pool_equals_ray"] = hashes["pool"] == hashes["ray"]
        print(f"{shards} shards: pool {results['pool_s']} s, Ray {results['ray_s']} s with its start, the same bytes: "
              f"{results['pool_equals_ray']}")  # fmt: skip
    finally:
        shutil.rmtree(folder)
    return results


def measure(updates: int) -> dict[str, Any]:
    """All of it."""
    return {**loop_or_producers(updates), **random_batches(), **pool_or_ray()}
