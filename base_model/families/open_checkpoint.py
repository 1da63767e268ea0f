"""Opens a checkpoint in diffusers' layout as a `DiffusersModel`, and writes one back with what was learned.

model_index.json    which pipeline the weights are for       transformer/        the network
vae/                the autoencoder                          scheduler/          the noise levels
text_encoder*/, tokenizer*/    opened when a prompt is first encoded that is not stored yet
"""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from base_model.families.diffusers_model import DiffusersModel
from base_model.families.encoded_prompts import EncodedPrompts
from base_model.families.family import Family, class_of_diffusers
from base_model.families.known import family_of
from base_model.files.hub import read_json
from base_model.files.released import new_folder
from base_model.files.shards import KINDS, is_finite, read_all, weight_files, write_shards
from base_model.frozen_linear import AS_IT_IS, BaseStorage, store_frozen
from base_model.lora import linear_layers, merged_weights
from base_model.qwen.embedding_cache import encoder_identity

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""of files that are not read: weights in other formats, and variants of two dots such as .fp16.safetensors"""


def open_checkpoint(
    name: str | Path, image: tuple[int, int] | None = None, device: str = "cpu", dtype: torch.dtype | None = None,
    cache: Path | None = None, weights: Path | None = None, storage: BaseStorage = AS_IT_IS,
) -> DiffusersModel:  # fmt: skip
    """The model of a checkpoint on disk or on the hub, its network in `dtype` (None: as stored), its autoencoder in
    float32.

    `image` is the (height, width) of what is made (None: the checkpoint's own), `cache` a folder of encoded prompts,
    `weights` a folder with other weights of the network, `storage` how its layers are stored. Raises ValueError for a
    pipeline that is not known, and for a folder of which something is missing, cut off, quantised or not finite.
    """
    family = family_of(name)
    family.require_size(image or family.native)
    encoders = encoders_of(family)
    require_whole(family)
    bare = open_pipeline(family, dtype, dict.fromkeys(encoders))
    if weights is not None:
        bare.transformer.load_state_dict(dict(read_all(weights)), assign=True)
        bare.transformer.to(dtype or stored_dtype(weights))  # parts that never learned may be stored in another type

    def open_encoders() -> Any:
        whole = open_pipeline(family, dtype, {"transformer": bare.transformer, "vae": bare.vae})
        for encoder in encoders:
            getattr(whole, encoder).to(device).eval().requires_grad_(False)
        return whole

    identity = encoder_identity([*prompt_folders(family)], str(dtype)) if cache else ""
    prompts = EncodedPrompts(family, open_encoders, identity, cache)
    store_frozen(bare.transformer, linear_layers(bare.transformer), storage, device)
    model = DiffusersModel(
        family, bare.transformer, bare.vae, bare.scheduler, prompts, image or family.native, device, str(name)
    )
    model.base_storage = storage
    return model


def require_whole(family: Family) -> None:
    """Raises ValueError naming the first file of a checkpoint that is missing or cut off, before anything is loaded."""
    family.require_own_network()
    require_flow_matching(family)
    for name in ("scheduler", "vae", "transformer", *encoders_of(family)):
        folder = family.folder / name
        settings = folder / ("scheduler_config.json" if name == "scheduler" else "config.json")
        if not settings.is_file():
            raise ValueError(f"{settings} is missing; fetch the checkpoint again")
        for path in () if name == "scheduler" else plain_weights(folder):
            require_readable(path)


def require_flow_matching(family: Family) -> None:
    """Raises ValueError for a checkpoint whose scheduler has other noise levels than those of flow matching."""
    name, path = family.index["scheduler"][1], family.folder / "scheduler" / "scheduler_config.json"
    if "FlowMatch" not in name and not read_json(path).get("use_flow_sigmas"):
        raise ValueError(
            f"{family.folder} has a {name} whose noise levels are not those of flow matching: take the scheduler that "
            f'the checkpoint came with, or set "use_flow_sigmas": true in {path} where the solver knows it'
        )


def require_readable(path: Path) -> None:
    """Raises ValueError for a file of weights that is cut off, quantised or something else. Reads its header alone."""
    try:
        with safe_open(path, framework="pt") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  no dictionary
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is cut off or damaged ({error}); fetch it again") from error
    if odd := next((name for name, kind in kinds.items() if kind not in (*KINDS, "I64", "BOOL")), ""):
        raise ValueError(
            f"{path}: {odd} is stored as {kinds[odd]}: these are quantised weights, which are not supported; take the "
            "checkpoint in bfloat16"
        )


def require_sound(part: Any, folder: Path) -> None:
    """Raises ValueError for a part that was read from a folder and lacks a weight, or holds one that is not finite."""
    for name, weight in part.named_parameters():
        if weight.is_meta:
            raise ValueError(f"{folder} lacks the weight {name}; fetch the checkpoint again")
        if not is_finite(weight.detach()):
            raise ValueError(f"{folder}: {name} holds numbers that are not finite; fetch the checkpoint again")


def require_all_used(network: Any, folder: Path) -> None:
    """Raises ValueError for a file of the network's weights that holds others: what is left out makes another model."""
    own, ignored = set(network.state_dict()), network._keys_to_ignore_on_load_unexpected or ()
    for path in plain_weights(folder):
        with safe_open(path, framework="pt") as file:
            more = sorted(name for name in set(file.keys()) - own if not any(re.search(p, name) for p in ignored))
        if more:
            raise ValueError(
                f"{path} holds {len(more)} weights that {type(network).__name__} has no use for, first "
                f"{', '.join(more[:3])}: it is of another model than config.json says"
            )


def plain_weights(folder: Path) -> list[Path]:
    """The files of a part's weights, variants left out. Raises ValueError where there are none."""
    files = [path for path in sorted(folder.glob("*.safetensors")) if path.name.count(".") == 1]
    if not files:
        others = sorted(path.name for path in folder.glob("*.*") if path.suffix in WEIGHTS)
        remedy = (
            f"but {', '.join(others[:3])}: open the checkpoint with diffusers, variant= naming what stands between the "
            "dots, and write it with save_pretrained(FOLDER)"
        )
        raise ValueError(f"{folder} holds no *.safetensors; {remedy if others else 'fetch the checkpoint again'}")
    return files


def open_pipeline(family: Family, dtype: torch.dtype | None, parts: Mapping[str, Any]) -> Any:
    """The pipeline with `parts` as they are, None for one to do without, and the rest read from its folder.

    Raises ValueError as `read_encoder`, `require_sound` and `require_all_used`.
    """
    missing = {name: None for name, part in family.index.items() if isinstance(part, list) and part[0] is None}
    weighty = ["transformer", *encoders_of(family)]
    types = {name: dtype or stored_dtype(family.folder / name) for name in weighty if name not in parts}
    if types.get("transformer") == torch.float16:
        types["transformer"] = torch.bfloat16  # gradients in float16 overflow
    own = {**family.parts(), **missing, **parts}
    with without_progress_bars(), naming(family.folder):
        own |= {name: read_encoder(family, name, types[name]) for name in encoders_of(family) if name not in own}
        pipe = class_of_diffusers(family.pipeline).from_pretrained(
            family.folder, dtype={**types, "vae": torch.float32, "default": torch.float32}, local_files_only=True, **own
        )
    for name in (each for each in ("vae", *weighty) if each not in parts):
        require_sound(getattr(pipe, name), family.folder / name)
    if "transformer" not in parts:
        require_all_used(pipe.transformer, family.folder / "transformer")
    return pipe


def read_encoder(family: Family, name: str, dtype: torch.dtype) -> Any:
    """An encoder of prompts. Raises ValueError where a weight is missing, which transformers would draw by lot."""
    package, kind = family.index[name]
    encoder, facts = getattr(importlib.import_module(package), kind).from_pretrained(
        family.folder / name, dtype=dtype, local_files_only=True, output_loading_info=True
    )
    if lost := sorted(each for each in facts["missing_keys"] if not each.startswith("lm_head")):
        raise ValueError(
            f"{family.folder / name} lacks {len(lost)} weights of {kind}, first {lost[0]}; fetch the checkpoint again"
        )
    return encoder


def stored_dtype(folder: Path) -> torch.dtype:
    """The type in which a part's weights are stored: the widest of its first file."""
    with safe_open(plain_weights(folder)[0], framework="pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  it is no dictionary
    types = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    return next((types[kind] for kind in types if kind in kinds), torch.float32)


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Inside, what libraries say of files that are missing or do not fit becomes a ValueError that names the folder."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if str(folder) in str(error):
            raise
        reason = " ".join(str(error).split()).partition(" If you want")[0]
        raise ValueError(
            f"{folder} cannot be opened: {reason.rstrip('.!')}. Where files are missing or do not fit one another, "
            "fetch the checkpoint again"
        ) from error


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Inside, diffusers and transformers load quietly."""
    import diffusers.utils.logging as of_diffusers
    import transformers.utils.logging as of_transformers

    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()
    try:
        yield
    finally:
        of_diffusers.enable_progress_bar()
        of_transformers.enable_progress_bar()


def encoders_of(family: Family) -> list[str]:
    """The parts of the pipeline that encode prompts and have weights, by the names that model_index.json gives them."""
    parts = (name for name, part in family.index.items() if isinstance(part, list) and part[0])
    return [name for name in parts if name.startswith("text_encoder")]


def prompt_folders(family: Family) -> list[Path]:
    """Everything that an encoded prompt depends on: encoders, tokenizers, processors."""
    starts = ("text_encoder", "tokenizer", "processor")
    return sorted(path for path in family.folder.iterdir() if path.is_dir() and path.name.startswith(starts))


def export_checkpoint(model: DiffusersModel, folder: Path) -> None:
    """Write the checkpoint's folder with the network's weights, adapters merged, and everything else as it was.

    `folder` appears whole or not at all. Raises ValueError when there is something at `folder`.
    """
    origin = model.family.folder
    with new_folder(folder) as index:
        shutil.copytree(origin, index, ignore=shutil.ignore_patterns("transformer", ".*"), dirs_exist_ok=True)
        network = index / "transformer"
        network.mkdir()
        shutil.copy(origin / "transformer" / "config.json", network)
        largest = max(path.stat().st_size for path in weight_files(origin / "transformer"))
        write_shards(merged_weights(model.network), network, most=largest)
