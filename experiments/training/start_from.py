"""What a run starts from: a released checkpoint, the model of a finished run, or fresh weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shlex import quote

from torch import Tensor, nn

from base_model import train_vae
from base_model.data.mixture import TaskStream
from base_model.devices import best_device
from base_model.families.diffusers_model import DiffusersModel
from base_model.families.family import Family
from base_model.files import released
from base_model.files.delta import base_of, is_derived
from base_model.files.family_vae import (
    FOLDER,
    FamilyVae,
    holds_family_vae,
    open_family_vae,
    open_saved_vae,
    require_vae,
)
from base_model.files.open_base import open_base, read_any
from base_model.files.released import Released
from base_model.files.weights import NANO_VAE, holds_model, load_model, load_vae, read_network
from base_model.lora import ATTENTION, Lora, adapter_settings, add_adapter, has_adapter
from base_model.policy_model import PolicyModel
from base_model.qwen.model import QwenImage, build, fresh_network, require_multiple
from base_model.qwen.presets import IMAGE_SIZES, PRESETS, VAES
from base_model.qwen.vae import QwenImageVAE
from base_model.train_vae import Autoencoder
from experiments.evaluation.sample_run import ALONE
from experiments.experiment import Experiment, learning_guidance, require_one_guidance
from experiments.images.image_sources import ImageSources, OwnImages
from experiments.record.record import RUN, RunRecord
from experiments.record.whole_files import model_identity


def vae_file(parent: Path | None) -> Path:
    """The autoencoder of a finished stage, or the one that ships with the project.

    Raises ValueError for a stage with that of a released checkpoint, whose latents are for the checkpoint's network.
    """
    if parent and holds_family_vae(parent / "model"):
        raise ValueError(f"{parent} {ALONE.format(quote(str(parent)))}")
    own = parent / "model" / "vae.safetensors" if parent else NANO_VAE
    return own if own.exists() else NANO_VAE


def open_model(
    experiment: Experiment, parent: Path | None, cache: Path | None = None, device: str | None = None
) -> PolicyModel:
    """The model a stage starts from, with the adapter that is to learn.

    That is a released checkpoint, or the parent's, or fresh weights on the parent's (or the shipped) autoencoder.
    `device` is where the model goes; None: a GPU where there is one. Raises ValueError when a stage that needs
    a trained model has none, or two.
    """
    if experiment.base and parent is not None:
        raise ValueError(f"{experiment.name} can start from base {experiment.base} or from parent {parent}, not both")
    model = starting_model(experiment, parent, cache, device)
    require_fitting_tasks(experiment, model)
    if isinstance(model, DiffusersModel) and model.guidance_embedded is not None:
        require_one_guidance(experiment)
        model.guidance_embedded = learning_guidance(experiment) or model.guidance_embedded
    if isinstance(model, QwenImage) and not model.keeps_base:
        equip(model, experiment)
    lora = adapter_of(experiment, model)
    if has_adapter(model.network):
        require_same_adapter(experiment.name, lora, model.network, parent)
    elif lora.rank:
        add_adapter(model.network, lora, experiment.seed)
    return model.sized_for_run(experiment.size) if any(experiment.size) else model


def without_base(experiment: Experiment, parent: Path | None) -> Experiment:
    """The experiment that starts from its parent alone, where that has a released checkpoint behind it already."""
    if experiment.base and parent is not None and is_derived(parent / "model"):
        return replace(experiment, base="")
    return experiment


def require_startable(experiment: Experiment, parent: Path | None, ranks: int) -> None:
    """Raises ValueError, before anything is loaded, for a size or a ZeRO stage that the checkpoint does not take, and
    for an autoencoder that is to start from two."""
    if learns_autoencoder(experiment) and experiment.base and parent is not None:
        raise ValueError(f"{experiment.name} can start from base {experiment.base} or from parent {parent}, not both")
    if experiment.base and parent is None:
        base = read_any(experiment.base)
    elif not experiment.base and parent is not None and is_derived(parent / "model"):
        base = base_of(parent / "model")
    else:
        return
    if not isinstance(base, Family):
        if any(experiment.size):
            require_multiple(experiment.size, base.vae.factor * base.transformer.patch_size)
        return
    if learns_autoencoder(experiment):
        require_trainable_vae(experiment, base)
        return
    if any(experiment.size):
        base.require_size(experiment.size)
    if base.calls_depend_on_prompts and experiment.engine == "deepspeed" and experiment.zero_stage == 3 and ranks > 1:
        raise ValueError(
            f"{experiment.name}: at zero_stage=3 the {ranks} ranks gather weights together, and {base.pipeline} is "
            "asked as often as a batch has prompts of different lengths, so that ranks would wait for one another for "
            "ever: use --zero-stage 2"
        )


def learns_autoencoder(experiment: Experiment) -> bool:
    """Whether it trains an autoencoder, and no network."""
    return getattr(experiment.algorithm, "trains", "") == "autoencoder"


def require_trainable_vae(experiment: Experiment, base: Family) -> None:
    """Raises ValueError, before anything is loaded, for an autoencoder that cannot be trained as is asked."""
    if any(experiment.size):
        require_multiple(experiment.size, base.multiple)
    if not experiment.algorithm.frozen_encoder and not base.has_posterior:
        raise ValueError(
            f"{experiment.name}: the autoencoder of {base.pipeline} gives one latent and no distribution of them, "
            "which training its encoder needs: leave algorithm.frozen_encoder on"
        )
    require_vae(base.folder / FOLDER)


def require_frozen_base(experiment: Experiment, parent: Path | None) -> None:
    """Raises ValueError for a base that is stored otherwise and is to learn, or is none of a released checkpoint."""
    name, memory = experiment.name, experiment.memory
    setting = f"memory.base_bits={memory.base_bits}" if memory.base_bits else "memory.base_on_host"
    if not experiment.lora.rank:
        raise ValueError(f"{name}: {setting} is for a frozen base, and all weights learn here: set lora.rank")
    if not experiment.base and not (parent and is_derived(parent / "model")):
        raise ValueError(f"{name}: {setting} is for the base of a released checkpoint: name one with --base")


def adapter_of(experiment: Experiment, model: PolicyModel) -> Lora:
    """The experiment's adapter; where it does not name layers, on those that the model's family says."""
    lora = experiment.lora
    return replace(lora, targets=model.lora_targets) if lora.targets == ATTENTION else lora


def require_fitting_tasks(experiment: Experiment, model: PolicyModel) -> None:
    """Raises ValueError for images where the model cannot learn from them.

    That is a mixture with images from captions alone where the model only edits, and any stream where the autoencoder
    is not ours, unless they are images of one's own.
    """
    own = isinstance(experiment.data, ImageSources | OwnImages)
    if own and model.needs_images and not getattr(experiment.data, "edits", 0):
        raise ValueError(
            f"{experiment.base or 'the parent'} only edits, and images with captions show nothing to edit: name a "
            "text-to-image checkpoint, or give what the images were made from (docs/how-to/image_folders.md)"
        )
    if not own and isinstance(model, DiffusersModel) and experiment.algorithm.learns_from == "images":
        raise ValueError(
            f"{experiment.name} learns from a stream of images, which goes through Qwen-Image's autoencoder, and "
            f"{experiment.base or 'its parent'} is for {model.family.pipeline}: take an experiment that learns from "
            "rollouts or preferences, or name images of your own with --data.folder"
        )
    if not (model.needs_images and isinstance(experiment.data, TaskStream)):
        return
    assert isinstance(model, Released)
    for i, mix in enumerate(experiment.data.mixes):
        if mix.t2i:
            raise ValueError(
                f"{experiment.name}: data.mixes[{i}].t2i={mix.t2i:g} asks for images from their captions alone, and "
                f"{model.base.task.takes()}; set t2i to 0"
            )


def require_same_adapter(name: str, lora: Lora, network: nn.Module, parent: Path | None) -> None:
    """Raises ValueError unless the experiment `name` goes on with the adapter that its parent learned."""
    own = adapter_settings(network)
    if (lora.rank, lora.alpha, set(lora.targets)) == (own.rank, own.alpha, set(own.targets)):
        return
    requested = (
        f"lora.rank={lora.rank}, alpha={lora.alpha:g}, targets {', '.join(lora.targets)}" if lora.rank else "no adapter"
    )
    raise ValueError(
        f"{parent} learned an adapter (rank {own.rank}, alpha {own.alpha:g}, targets {', '.join(own.targets)}), "
        f"which the next stage goes on with, and {name} asks for {requested}. Set lora.rank, lora.alpha and "
        f"lora.targets to those; or merge it first, with `glyphlab export {parent} FOLDER`, and start from it"
    )


def equip(model: QwenImage, experiment: Experiment) -> QwenImage:
    """The model with the sight and the positions of the experiment, which no weight file tells."""
    model.text, model.network.scheme = experiment.sight(model.vae), experiment.positions
    return model


def starting_model(
    experiment: Experiment, parent: Path | None, cache: Path | None, device: str | None = None
) -> PolicyModel:
    """See `open_model`. Network, autoencoder and what feeds them are on one device: engines train where a GPU is."""
    device, storage = best_device(device), experiment.memory.base_storage
    if storage:
        require_frozen_base(experiment, parent)
    if experiment.base:
        return open_base(experiment.base, base_size(experiment), device, cache=cache, storage=storage)
    if parent is not None and holds_model(parent / "model"):
        return load_model(parent / "model", device, cache, storage)
    require_model(experiment, parent)
    vae = load_vae(vae_file(parent))
    reads = experiment.sight(vae).encode(["a"])[0].shape[-1]
    if (needs := PRESETS[experiment.preset].joint_attention_dim) != reads:
        raise ValueError(
            f"preset={experiment.preset} reads the text encoder of Qwen2.5-VL ({needs} wide), and there is "
            f"only the byte-level one ({reads} wide): name a released folder with such an encoder by --base, or choose "
            "preset nano, micro or small"
        )
    return build(PRESETS[experiment.preset], vae, IMAGE_SIZES[experiment.preset], experiment.seed, device)


def require_model(experiment: Experiment, parent: Path | None) -> None:
    """Raises ValueError where a stage starts from a trained model and there is none."""
    if experiment.base or learns_autoencoder(experiment) or getattr(experiment.algorithm, "begins_anew", False):
        return
    if parent is None or not holds_model(parent / "model"):
        raise ValueError(
            f"{experiment.name} starts from a trained model, and {missing(parent)}; name a finished run with --parent, "
            "e.g. one that `glyphlab train nano_pretrain` made, or a released checkpoint with --base"
        )


def base_size(experiment: Experiment) -> tuple[int, int] | None:
    """The (height, width) for which a released checkpoint is opened; None: what the checkpoint is for.

    One of our own layout says nothing of it: it is that of the preset with the same network, if there is one.
    """
    base = read_any(experiment.base)
    if isinstance(base, Family):
        return experiment.size if any(experiment.size) else None
    own = replace(base.transformer, zero_cond_t=False)  # which the edit model of 2511 alone has
    alike = [name for name, network in PRESETS.items() if network == own]
    return IMAGE_SIZES[alike[0] if alike else experiment.preset]


def starting_weights(experiment: Experiment, parent: Path | None) -> Mapping[str, Tensor]:
    """The weights of the network of one of our presets before training, in host memory; no model is opened for them.

    Those of a parent are views of its file, which the system reads as they are used.
    """
    if parent is not None and holds_model(parent / "model"):
        return read_network(parent / "model")
    return fresh_network(PRESETS[experiment.preset], experiment.seed).state_dict()


def model_begun_from(folder: Path, parent: Path | None) -> dict[str, str]:
    """What the settings of the run in `folder` say of its parent's model, so that it goes on from no other: reference
    and autoencoder are read from there each time. {} where nothing tells it, as in runs of older versions."""
    now = model_identity(parent) if parent else ""
    if not (folder / RUN).exists():
        return {"parent_model": now} if now else {}
    record = RunRecord.read(folder)
    before = record.config.get("parent_model")
    return {"parent_model": before if record.finished else now or before} if before else {}


def missing(parent: Path | None) -> str:
    """Why there is no model to start from."""
    if parent is None:
        return "none is named"
    if not parent.exists():
        return f"there is no folder {parent}"
    if not (parent / RUN).exists():
        return f"{parent} is not a run"
    if holds_family_vae(parent / "model"):
        return f"{parent} {ALONE.format(quote(str(parent)))}"
    return (
        f"the run in {parent} is not finished. Its checkpoints hold half-trained weights with their optimizer, and the "
        f"average that a stage starts from is made at the end: finish it with `glyphlab resume {parent}`"
    )


def open_vae(experiment: Experiment, parent: Path | None, device: str | None = None) -> Autoencoder:
    """The autoencoder a stage starts from, with what is to learn.

    Raises ValueError for what is traded for memory in transformers only. Warns where latents will change that a
    released network knows.
    """
    cfg, lean = experiment.algorithm, experiment.memory
    if experiment.lora.rank or lean.bf16 or lean.recompute or lean.base_storage:
        raise ValueError(f"{experiment.name}: lora and memory's bf16, recompute and base are the transformer's alone")
    vae = starting_vae(experiment, parent)
    if vae is None:
        return QwenImageVAE.seeded(VAES[experiment.preset], experiment.seed).to(best_device(device))
    if cfg.frozen_encoder:
        train_vae.freeze_encoder(vae)
    elif known := vae.checkpoint if isinstance(vae, FamilyVae) else experiment.base:
        warnings.warn(
            f"{experiment.name}: the encoder learns as well, so latents change, and the network of {known} no longer "
            "fits them: train it on them afterwards, or leave algorithm.frozen_encoder on",
            stacklevel=2,
        )
    return vae.train().to(best_device(device))


def starting_vae(experiment: Experiment, parent: Path | None) -> Autoencoder | None:
    """The weights of a released checkpoint, the parent's, or the shipped ones; None for fresh ones."""
    if experiment.base:
        base = read_any(experiment.base)
        return open_family_vae(experiment.base) if isinstance(base, Family) else released.load_vae(base)
    if parent and holds_family_vae(parent / "model"):
        return open_saved_vae(parent / "model")
    return load_vae(vae_file(parent)) if experiment.algorithm.frozen_encoder or experiment.algorithm.fine_tune else None


def open_either(
    experiment: Experiment, parent: Path | None, folder: Path, device: str | None = None
) -> PolicyModel | Autoencoder:
    """What is to be trained: a diffusion model or an autoencoder. `device`: see `open_model`."""
    if learns_autoencoder(experiment):
        return open_vae(experiment, parent, device)
    model = open_model(experiment, parent, folder / "embeddings", device)
    model.recompute(experiment.memory.recompute)
    if experiment.compile:
        model.compile_blocks()
    return model
