"""JSON and PNG files, written whole or not at all.

Shapes: 3HW pixels.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from preference_data.atomic_files import replacing
from preference_data.image_files import read_image
from preference_data.pixels import to_uint8


def plain(value: Any) -> Any:
    """`value` as JSON can hold it. Dataclasses become objects with their "class"; NaN becomes null, and inf a text.

    Raises ValueError for what has no honest JSON form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": f"{kind.__module__}.{kind.__qualname__}", **fields}
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | np.floating):
        number = float(value)
        return number if math.isfinite(number) else None if math.isnan(number) else str(number)
    if isinstance(value, np.integer | np.bool_):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, type) or callable(value):
        return f"{value.__module__}.{value.__qualname__}"
    raise ValueError(f"a {type(value).__name__} cannot be written as JSON: {value!r}")


def require_folder(folder: Path) -> None:
    """Raises ValueError where no file could be written into a folder: asked before anything that takes long."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise ValueError(f"{folder} cannot be a folder, because {there} is a file; name another place")
    if not os.access(there, os.W_OK):
        raise ValueError(f"{folder} cannot be written to, because {there} is not yours to write to; name another place")


def write_bytes(path: Path, content: bytes) -> None:
    """Put a file in place, whole or not at all; its folder is made."""
    with replacing(path) as file:
        file.write(content)


def write_json(path: Path, data: Any) -> None:
    """Write `plain(data)`, indented, whole or not at all."""
    write_bytes(path, (json.dumps(plain(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_png(path: Path, image_3HW: np.ndarray) -> None:
    """Write an image: uint8, or float in [0, 1]. Raises ValueError when the shape is not 3 x H x W."""
    if image_3HW.ndim != 3 or image_3HW.shape[0] != 3:
        raise ValueError(f"{path}: an image has shape 3 x height x width, this has {image_3HW.shape}")
    pixels = np.ascontiguousarray(to_uint8(image_3HW).transpose(1, 2, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}")
    Image.fromarray(pixels).save(fresh, format="PNG")
    os.replace(fresh, path)


def read_png(path: Path) -> np.ndarray:
    """uint8 [3, H, W], as `read_image` shows it. Raises FileNotFoundError, or ValueError when it is no image."""
    return read_image(path).transpose(2, 0, 1).copy()


def model_identity(run: Path) -> str:
    """The SHA-256 of the manifest of a run's finished model, which has those of its files; "" where there is none."""
    manifest = run / "model" / "manifest.json"
    return hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else ""
