"""Whatever can be evaluated, by its name: a run, a stage of a chain, a released checkpoint."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from base_model.devices import best_device
from base_model.files.delta import base_of, is_derived, trained_size
from base_model.files.hub import INDEX
from base_model.files.open_base import open_base, read_any, require_prompt, usual_sampler
from base_model.files.released import DEFAULT_SIZE, Base
from base_model.files.weights import load_model
from base_model.policy_model import PolicyModel
from base_model.qwen.model import QwenImage
from base_model.sample import Sampler
from experiments.evaluation.sample_run import model_folder
from experiments.record.record import RUN

EDGE = 2**20
"""Bytes of each end of a file that tell it from others."""
WEIGHTS = (".safetensors", ".json")


@dataclass(frozen=True)
class ResultModel:
    """A model on disk that was not loaded yet."""

    name: str
    """a checkpoint as it was asked for; the folder of a run, or of the stage of a chain that was chosen"""
    folder: Path
    """of its weights"""
    home: Path
    """where what is found out about it is kept when nobody names a folder"""
    sampler: Sampler
    """how it samples when nobody says otherwise"""
    size: tuple[int, int] | None = None
    """(height, width) of its images when nobody says otherwise; None: those that it is for"""

    def load(self, device: str = "", size: tuple[int, int] | None = None) -> PolicyModel:
        """The model, for images of `size` (height, width). Raises ValueError when it cannot be read."""
        if (self.folder / INDEX).is_file():
            model = open_base(self.name, size or self.size, best_device(device))
            return model.sized_for_run(model.native)
        model = load_model(self.folder, best_device(device))
        return model.sized_for_run(size or self.size or model.native)


def find_model(
    name: str, stage: str = "", size: tuple[int, int] | None = None, prompt: str = "a", images: Iterable[int] = (0,)
) -> ResultModel:
    """The model of a run's folder (`stage`: of a run with several), or of a released checkpoint (folder or hub name).

    Reads no weights. Raises ValueError when there is none, it does not sample from prompts about any of these numbers
    of source `images`, or it cannot have that size.
    """
    path = Path(name)
    if path.is_dir() and (
        (path / RUN).exists() or (path / "model").is_dir() or (stage and not (path / INDEX).exists())
    ):
        folder = model_folder(path, stage)
        base = base_of(folder) if is_derived(folder) else None
        name, home = os.path.normpath(folder.parent), folder.parent / "evaluation"
    else:
        if stage:
            raise ValueError(f"--stage {stage}: {name} is not a run with stages; leave --stage out, or name a run")
        base = read_any(name)
        folder, home = base.folder, Path("runs") / "evaluation" / path.resolve().name
    if base is not None:
        for count in sorted(set(images)):
            require_prompt(base, prompt, count)
    elif size:
        raise ValueError(
            f"--size {size[0]} {size[1]}: a run samples in the size it was trained on; leave --size out, or name a "
            "released checkpoint"
        )
    sampler = QwenImage.sampler if base is None else usual_sampler(base)
    if is_derived(folder):
        size = trained_size(folder)
    else:
        size = DEFAULT_SIZE if isinstance(base, Base) else base.native if base else None
    return ResultModel(name, folder, home, sampler, size)


def fingerprint(folder: Path) -> str:
    """A digest that other weights change: of names, sizes and both ends of the files of weights and settings."""
    digest = hashlib.sha256()
    inside = [folder] if folder.is_file() else [path for path in folder.rglob("*") if path.suffix in WEIGHTS]
    for path in sorted(path for path in inside if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(EDGE))
            file.seek(max(size - EDGE, 0))
            digest.update(file.read(EDGE))
    return digest.hexdigest()[:16]
