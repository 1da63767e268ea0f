"""Where the weights of a model are: a path, or the name of a repository on the Hugging Face hub.

Nothing is fetched unless a hub name was given, and an empty setting says what is missing and where to get it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def existing_or_hub(name: str, setting: str, advice: str) -> Path | str:
    """The existing path, or the hub name as it is. FileNotFoundError with ``advice`` when ``given`` is neither.

    A path that exists wins over a hub name, and a name with more or fewer than one slash can only be a path.
    """
    if not name:
        raise FileNotFoundError(f"{setting} is not set, and nothing is downloaded by itself; {advice}")
    path = Path(name).expanduser()
    if path.exists():
        return path
    if _HUB_NAME.fullmatch(name) and path.suffix not in (".pt", ".pth", ".bin", ".safetensors"):
        return name
    raise FileNotFoundError(f"{setting} is {name!r}: there is no such file or folder; {advice}")


def weights_digest(folder: Path | str) -> str:
    """16 hex digits of a folder's weights, so that one trained anew is another; a hub name stands for itself."""
    if not isinstance(folder, Path):
        return folder
    hashed = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            hashed.update(hashlib.file_digest(file, "sha256").digest())
    return hashed.hexdigest()[:16]


def existing_file(name: str, setting: str, advice: str) -> Path:
    """The existing file. FileNotFoundError with ``advice`` for anything else; a hub name is no file."""
    path = existing_or_hub(name, setting, advice)
    if not isinstance(path, Path) or not path.is_file():
        raise FileNotFoundError(f"{setting} is {name!r}, which is not a file; {advice}")
    return path


def read_state(path: Path) -> dict[str, Any]:
    """The tensors of a .safetensors file or of a torch one; a nested "state_dict" or "model" is unwrapped.

    Only tensors are read, so that a file cannot run code. ValueError when it holds something else.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} is not a file of tensors that can be read safely: {error}; fetch it again, as .safetensors where "
            "there is one"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}; expected tensors by name (a state dict)")
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
