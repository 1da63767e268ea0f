"""What a run that learns from images reads: encoded beside the training, or ahead of it by producers."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from base_model.data.latents import EncodedStream, LatentStream, Producers
from base_model.engine.engine import Engine
from base_model.files.weights import save_vae
from base_model.policy_model import PolicyModel
from base_model.train_vae import Autoencoder
from experiments.experiment import Experiment
from experiments.images.image_sources import OwnImages
from experiments.producers.batch_sources import (
    OwnSource,
    PixelSource,
    RenderedSource,
    Source,
    hash_of_weights,
    is_finite,
)
from experiments.producers.changing_images import ChangingImages
from experiments.producers.producing import produced
from experiments.producers.ring import Contents, Ring
from experiments.record.whole_files import write_bytes
from experiments.training import own_images
from experiments.training.ranks import barrier, ranks_of
from preference_data.line_files import read_json_lines

ENCODER, RING, SHARDS = "encoder.safetensors", ".ring", "shards.jsonl"


@contextlib.contextmanager
def image_data(
    experiment: Experiment, model: PolicyModel | Autoencoder, engine: Engine, folder: Path, stream: Any
) -> Iterator[ChangingImages]:
    """Open what the experiment's loop reads, with `stream` as where images are from."""
    if isinstance(model, PolicyModel) and not isinstance(stream, OwnImages):
        if engine.rank == 0:
            save_vae(model.vae, folder / ENCODER)
        barrier(experiment)
    encoder = ""
    if isinstance(stream, OwnImages):
        encoder = encoder_of(model)
        stream = own_images.as_logged(stream, experiment, folder, encoder)
    opened = ahead(experiment, model, engine.rank, folder) if experiment.producers else in_process(model, folder)
    encode = encodes(stream, model, folder)
    with ChangingImages(folder, stream, opened, engine.rank == 0, encoder, encode) as data:
        yield data


def encoder_of(model: PolicyModel | Autoencoder) -> str:
    """The SHA-256 of what encodes images; "" where nothing does, or there are no weights (on the meta device)."""
    if isinstance(model, Autoencoder):
        return ""
    weights = model.vae.state_dict()
    return "" if any(weight.is_meta for weight in weights.values()) else hash_of_weights(weights)


def encodes(stream: Any, model: PolicyModel | Autoencoder, folder: Path) -> Callable[[Sequence[str]], None]:
    """What makes captions ready that come while the run goes on, or raises ValueError where nothing can any more."""

    def encode(captions: Sequence[str]) -> None:
        if isinstance(model, Autoencoder) or stream.edits:  # an instruction is encoded with its images
            return
        if min(len(stream.captions), len(captions)) > own_images.MOST_TEXTS:  # the encoders are there still
            return
        try:
            model.encode_ahead(captions)
        except ValueError as error:
            raise ValueError(
                f"{len(captions)} captions are new, and the text encoder was let go to free its memory: stop the "
                f"run, and go on with glyphlab resume {folder}, which encodes them first ({error})"
            ) from error

    return encode


def in_process(
    model: PolicyModel | Autoencoder, folder: Path
) -> Callable[[Any, int], AbstractContextManager[Any]]:  # fmt: skip
    """Opens a stream in this process, or with one process that renders and encodes a few batches ahead."""

    def opened(stream: Any, step: int) -> AbstractContextManager[Any]:
        if isinstance(model, Autoencoder):
            return contextlib.nullcontext(stream)
        if isinstance(stream, OwnImages):
            return own_images.latents(stream, model)
        data = LatentStream(stream, folder / ENCODER)
        return contextlib.nullcontext(EncodedStream(data)) if is_finite(data) else Producers(data)

    return opened


def ahead(
    experiment: Experiment, model: PolicyModel | Autoencoder, rank: int, folder: Path
) -> Callable[[Any, int], AbstractContextManager[Any]]:
    """Opens a stream through a ring of shards, which the experiment's producers fill."""
    folder, cfg = folder.absolute(), experiment.algorithm

    def opened(stream: Any, step: int) -> AbstractContextManager[Any]:
        source: Source
        if isinstance(model, Autoencoder):
            source = PixelSource(stream)
        elif isinstance(stream, OwnImages):
            source = OwnSource(own_images.sized_for(stream, model), model.pixel_encoder())
        else:
            source = RenderedSource(LatentStream(stream, folder / ENCODER))
        contents = Contents(*source.fingerprints(), cfg.batch, ranks_of(experiment))
        if rank == 0:
            note_contents(folder, step, contents)
        ring = Ring(folder / RING, contents, int(experiment.ring_gigabytes * 1e9))
        return produced(
            source, ring, range(step, cfg.steps), experiment.producers, experiment.producers_on, rank
        )  # fmt: skip

    return opened


def note_contents(folder: Path, step: int, contents: Contents) -> None:
    """Note from which update on a run reads shards of other contents than before."""
    path = folder / SHARDS
    lines = [line for _, line in read_json_lines(path)] if path.exists() else []
    new = contents.about(0) | {"shard": None}
    if not lines or {**lines[-1], "from_step": None} != {**new, "from_step": None}:
        lines.append({"from_step": step, **new})
        write_bytes(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def remove_ring(folder: Path) -> None:
    """Take away what producers made ahead, which nobody reads any more."""
    shutil.rmtree(folder / RING, ignore_errors=True)
