"""Released checkpoints: diffusers folders in, models out, and back.

    model_index.json    which pipeline the weights are for
    transformer/        the MMDiT                          vae/         the autoencoder, with its video path
    text_encoder/       Qwen2.5-VL                         tokenizer/   its own; processor/ prepares images for edits
    scheduler/          the noise levels

Only what training changes is written on export; all else is copied as it was, the autoencoder's video path included.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from base_model.engine.schedule import Schedule, read_schedule
from base_model.files.hub import INDEX, read_json, released_folder
from base_model.files.shards import load_into, weight_files, write_shards
from base_model.frozen_linear import AS_IT_IS, BaseStorage, store_frozen
from base_model.interface import ConditionImages
from base_model.lora import linear_layers, merged_weights
from base_model.qwen.language_encoder import VisionLanguageEncoder
from base_model.qwen.mmdit import MMDiT, MMDiTConfig
from base_model.qwen.model import QwenImage
from base_model.qwen.prompt_templates import TASKS, Task
from base_model.qwen.vae import QwenImageVAE, VAEConfig
from base_model.sample import Sampler

TRANSFORMER, VAE = "QwenImageTransformer2DModel", "AutoencoderKLQwenImage"
DEFAULT_SIZE = (1024, 1024)
"""(height, width) of what is made when nobody says otherwise"""
REFUSED = {
    "guidance_embeds": "a guidance-distilled transformer, which no released checkpoint is",
    "use_additional_t_cond": "Qwen-Image-Layered, which makes several RGBA layers at once",
    "use_layer3d_rope": "Qwen-Image-Layered, which makes several RGBA layers at once",
    "quantization_config": "quantised weights: take the bfloat16 checkpoint",
}
"""settings of transformer/config.json that must be off, and what they mean"""


@dataclass(frozen=True)
class Base:
    """What a released folder says about itself before any weight is read."""

    name: str
    """as it was asked for: a path or a name on the hub"""
    folder: Path
    task: Task
    transformer: MMDiTConfig
    vae: VAEConfig
    schedule: Schedule


def read_base(name: str | Path) -> Base:
    """Settings of a checkpoint on disk or on the hub. Raises ValueError saying what is missing or not understood."""
    folder = released_folder(name)
    pipeline = read_json(folder / INDEX).get("_class_name")
    if pipeline not in TASKS:
        raise ValueError(f"{folder} is a {pipeline}; Glyphlab reads {', '.join(TASKS)}")
    transformer = transformer_config(folder / "transformer", pipeline)
    vae = vae_config(folder / "vae")
    schedule = read_schedule(folder / "scheduler")
    return Base(str(name), folder, TASKS[pipeline], transformer, vae, schedule)


def transformer_config(folder: Path, pipeline: str) -> MMDiTConfig:
    """Raises ValueError for another architecture; warns when the file cannot say which edit model it is."""
    config = read_json(folder / "config.json")
    if config.get("_class_name") != TRANSFORMER:
        raise ValueError(f"{folder} holds a {config.get('_class_name')}, not a {TRANSFORMER}")
    for name, meaning in REFUSED.items():
        if config.get(name):
            raise ValueError(f"{folder}/config.json has {name}={config[name]}: {meaning}")
    if "zero_cond_t" not in config and TASKS[pipeline].most_images > 1:
        warnings.warn(
            f"{folder}/config.json does not say zero_cond_t: right for Qwen-Image-Edit-2509, but Edit-2511 needs "
            '"zero_cond_t": true, and no weight tells them apart',
            stacklevel=2,
        )
    return MMDiTConfig(**known(config, MMDiTConfig, folder))


def vae_config(folder: Path) -> VAEConfig:
    """Raises ValueError for another architecture."""
    config = read_json(folder / "config.json")
    if config.get("_class_name") != VAE:
        raise ValueError(f"{folder} holds a {config.get('_class_name')}, not an {VAE}")
    if config.get("attn_scales") or config.get("input_channels", 3) != 3:
        raise ValueError(
            f"{folder}/config.json has attn_scales={config.get('attn_scales')} and "
            f"input_channels={config.get('input_channels')}; the image autoencoder has [] and 3 (4: Qwen-Image-Layered)"
        )
    return VAEConfig(**known(config, VAEConfig, folder))


def known(config: Mapping[str, Any], kind: type, folder: Path) -> dict[str, Any]:
    """The settings that a configuration of ours has. Raises ValueError when one without a default is missing."""
    fields = dataclasses.fields(kind)
    needed = [f.name for f in fields if f.default is dataclasses.MISSING]
    if lost := [name for name in needed if name not in config]:
        raise ValueError(f"{folder}/config.json lacks {', '.join(lost)}; fetch it again")
    chosen = {f.name: config[f.name] for f in fields if f.name in config}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()}


# --- reading ------------------------------------------------------------------------------------------------------


class Released(QwenImage):
    """The model of a released checkpoint, or one that was trained from it."""

    def __init__(
        self, network: MMDiT, base: Base, image: tuple[int, int], device: str, text: VisionLanguageEncoder,
        vae: QwenImageVAE,
    ) -> None:  # fmt: skip
        super().__init__(network, vae, image, device, text)
        self.base = base
        self.checkpoint, self.needs_images = base.name, base.task.fewest_images > 0
        self.most_images = base.task.most_images

    text: VisionLanguageEncoder
    keeps_base = True
    sampler = Sampler(steps=50, guidance=4.0)
    """as Qwen-Image's authors sample"""

    def fit_images(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the images as they are: each encoder makes a copy of its own size, as the pipelines do."""
        return list(images)

    def encode_ahead(self, texts: Sequence[str], images: ConditionImages = ()) -> None:
        if any(images):
            self.text.encode_ahead(list(texts), images)
            self.text.encode_ahead([self.text.nothing] * len(texts), images)
        else:
            self.text.encode_ahead([*texts, self.text.nothing])

    def release_encoders(self) -> None:
        self.text.close()

    def for_area(self, pixels: int) -> Released:
        """The same model for edits of about this many pixels."""
        other = copy.copy(self)
        other.base = dataclasses.replace(self.base, task=dataclasses.replace(self.base.task, area=pixels))
        other.text = copy.copy(self.text)
        other.text.task = other.base.task
        return other

    def sized_for_run(self, image: tuple[int, int]) -> Released:
        return self.for_area(image[0] * image[1]).sized(image)

    def levels(self, sampler: Sampler) -> list[float]:
        """The released schedule for the image's size; the sampler's own shift plays no part."""
        return self.base.schedule.levels(sampler.steps, self.grid[0] * self.grid[1])


def load_base(
    base: Base, image: tuple[int, int] = DEFAULT_SIZE, device: str = "cpu", dtype: torch.dtype | None = None,
    cache: Path | None = None, storage: BaseStorage = AS_IT_IS,
) -> Released:  # fmt: skip
    """The model of a checkpoint, its transformer in `dtype` (None: as stored), its autoencoder in float32.

    The text encoder is read when a prompt is first encoded that is not in `cache`, a folder of embeddings.
    """
    text = VisionLanguageEncoder(base.folder, base.task, device, dtype, cache)
    network = load_transformer(base, "cpu" if storage else device, dtype)
    store_frozen(network, linear_layers(network), storage, device)
    model = Released(network, base, image, device, text, load_vae(base))
    model.base_storage = storage
    return model


def load_transformer(base: Base, device: str = "cpu", dtype: torch.dtype | None = None) -> MMDiT:
    """Never more in memory than the network and one tensor. Raises ValueError as `load_into`."""
    with torch.device("meta"):
        network = MMDiT(base.transformer)
    load_into(network, base.folder / "transformer", device, dtype, explain=explain)
    return network


def load_vae(base: Base) -> QwenImageVAE:
    """The image path of the released video autoencoder, in float32 as it was measured (arXiv:2508.02324, Table 2)."""
    vae = QwenImageVAE(base.vae)
    load_into(vae, base.folder / "vae", translate=image_slice)
    return vae


def image_slice(name: str, value: Tensor) -> Tensor | None:
    """One tensor of the autoencoder's image path: see `vae.image_weights`."""
    if ".time_conv." in name:
        return None
    return value.flatten() if name.endswith(".gamma") else value[:, :, -1] if value.ndim == 5 else value


def explain(missing: list[str], unexpected: list[str]) -> str:
    """What transformer weights that do not fit their config.json usually are."""
    names = " ".join(unexpected)
    if ".lora_" in names:
        return "These are a LoRA's: use `glyphlab import-lora` with the checkpoint that it was trained on"
    if "addition_t_embedding" in names:
        return "time_text_embed.addition_t_embedding is Qwen-Image-Layered's, which makes several RGBA layers at once"
    if "scale_weight" in names or "weight_scale" in names or ".absmax" in names:
        return "These are quantised (fp8 or nf4): take the bfloat16 checkpoint"
    if names.startswith(("model.", "transformer.", "module.")):
        return "All names carry a prefix, as in single-file checkpoints: take the diffusers folder"
    if all(name.startswith("transformer_blocks.") for name in (*missing, *unexpected)):
        return "Whole blocks differ: num_layers in config.json is another checkpoint's"
    return (
        "config.json and weights are of different models. Edit-2509 and Edit-2511 have the same names and differ only "
        "in zero_cond_t of config.json"
    )


# --- writing ------------------------------------------------------------------------------------------------------


def export(network: MMDiT, base: Base, folder: Path) -> None:
    """Write a released folder with the network's weights, adapters merged, and everything else of `base`.

    `folder` appears whole or not at all. Raises ValueError when there is something at `folder`.
    """
    with new_folder(folder) as unfinished:
        shutil.copytree(base.folder, unfinished, ignore=shutil.ignore_patterns("transformer", ".*"), dirs_exist_ok=True)
        write_transformer(network, base, unfinished / "transformer")


def write_transformer(network: MMDiT, base: Base, folder: Path) -> None:
    """config.json and weights, in the types and with the shards' size that diffusers would choose."""
    folder.mkdir()
    config = read_json(base.folder / "transformer" / "config.json") | {"zero_cond_t": network.cfg.zero_cond_t}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    largest = max(path.stat().st_size for path in weight_files(base.folder / "transformer"))
    write_shards(merged_weights(network), folder, most=largest)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that becomes `folder` when all went well, and goes when not.

    Raises ValueError when `folder` is there already and not empty: it could be anything.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already; name a new folder")
    path = folder.parent / f".{folder.name}.writing"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
        if folder.exists():
            folder.rmdir()
        path.rename(folder)
    finally:
        shutil.rmtree(path, ignore_errors=True)
