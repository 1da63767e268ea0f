"""What one family of released flow models says about itself; everything else is `diffusers_model.DiffusersModel`.

A family is one small file: how its pipeline encodes prompts, how its network is called, and where it differs from the
defaults below. Networks, autoencoders and encoders are diffusers' and transformers'. Ours is one convention: tokens
[B, S, C], sigma in [0, 1] with 1 = noise, v = eps - x0. Networks that read images [B, C, h, w] get them from tokens and
back by a permutation of channels, so noise, likelihoods and norms are the same in both.

A family is made from a checkpoint's folder: what its JSON files decide, such as whether the network reads its guidance,
is read there and is no property of the class.

Shapes: B samples, S latent tokens, C channels, L text tokens, D width, chw an image in the autoencoder's latent space.
"""

from __future__ import annotations

import copy
import importlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

from base_model import flow
from base_model.files.hub import INDEX, read_json
from base_model.interface import ConditionImages, Conditioning, Grid
from base_model.lora import ATTENTION, mark_dead
from base_model.qwen.model import require_multiple
from base_model.qwen.prompt_templates import added_tokens
from base_model.qwen.tokens import patchify, unpatchify
from base_model.sample import Sampler

Row = Mapping[str, Tensor]
"""one encoded prompt: `text` [L, D], its real tokens only, and what else the network reads, by name"""
Pipe = Any
"""a diffusers pipeline: its encoders, tokenizers and settings are asked for, its sampling loop never is"""


class Settings(dict[str, Any]):
    """Settings of a JSON file. One that is asked for and is not there is a ValueError that names it."""

    def __init__(self, path: Path) -> None:
        super().__init__(read_json(path))
        self.path = path

    def __missing__(self, name: str) -> Any:
        raise ValueError(f"{self.path} has no {name!r}: it is damaged or of another model; fetch the checkpoint again")


class Family:
    """Holds the defaults of most: 2 x 2 latents a token, guidance by two answers, no rescaling, uniform levels."""

    pipeline: ClassVar[str]
    """diffusers' class, which model_index.json names"""
    nothing = ""
    """the prompt that says nothing"""
    patch = 2
    """a latent token covers patch x patch of the autoencoder's latent"""
    rescale = False
    """guided velocities keep every token's norm, as Qwen-Image's pipelines do"""
    guidance_embedded: float | None = None
    """guidance is a number that the network reads, and this is what losses that sample nothing tell it; None: guidance
    is made of two answers"""
    sampler = Sampler(steps=28, guidance=4.0)
    """as the authors sample it, in our guidance: 1 = none"""
    distilled_sampler = Sampler(steps=4, guidance=1.0)
    """as the authors sample a checkpoint that was distilled to a few steps"""
    lora_targets: tuple[str, ...] = ATTENTION
    """ends of the names of the layers that an adapter goes to when nobody says otherwise"""
    dead: tuple[str, ...] = ()
    """parts of the last of the `transformer_blocks` that nothing reads: see `lora.mark_dead`"""
    longest_text = 0
    """tokens of a long prompt, which plans count with"""
    reads_padding = True
    """whether rows of text are as long as `longest_text` whatever the prompt is; else they hold its own tokens"""
    text_width = "joint_attention_dim"
    """what the network's config.json calls the width of encoded text"""
    most_images = 0
    """condition images that an instruction may have"""
    calls_depend_on_prompts = False
    """whether rows of text differ in length and the network reads what fills them up: it is then called once for every
    length in a batch, and ranks that share weights (ZeRO 3) are refused, which would wait for one another for ever"""
    has_posterior = True
    """whether its autoencoder gives a distribution of latents, and not one latent"""
    is_distilled = False
    """whether the checkpoint was distilled to a few steps: training moves it away from what makes them enough"""

    def __init__(self, folder: Path) -> None:
        """Read the settings of a checkpoint's folder; families set here what the checkpoint decides."""
        self.folder = folder
        self.index = read_json(folder / INDEX)
        self.network_config = Settings(folder / "transformer" / "config.json")
        self.vae_config = Settings(folder / "vae" / "config.json")

    # --- every family has these two

    def encode(self, pipe: Pipe, texts: Sequence[str], images: ConditionImages = ()) -> list[Row]:
        """Encode prompts, one row each, whatever the other prompts are."""
        raise NotImplementedError

    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        """Return v [B, S, C] by one call of `network`, which may be an engine's wrapper: ask it only for its forward.

        x and what is floating in `cond` have the network's type; sigma_B and `cond.more_B["scale"]` are float32.
        """
        raise NotImplementedError

    # --- and changes these where it differs

    def combine(self, v_cond: Tensor, v_uncond: Tensor, scale: float, cond: Conditioning) -> Tensor:
        """Combine two answers [B, S, C] to a guided one; `cond` is the prompts'."""
        return flow.guided(v_cond, v_uncond, scale, self.rescale)

    def encode_nothing(self, pipe: Pipe, images: ConditionImages = ()) -> Row:
        """Encode no prompt; `images` holds those of one sample, or nothing."""
        return self.encode(pipe, [self.nothing], images)[0]

    @property
    def factor(self) -> int:
        """Pixels of a latent position on each side."""
        return int(2 ** (len(self.vae_config["block_out_channels"]) - 1))

    @property
    def channels(self) -> int:
        """Numbers in a latent token: C."""
        return int(self.vae_config["latent_channels"]) * self.patch**2

    @property
    def native(self) -> tuple[int, int]:
        """(height, width) in pixels of what is made when nobody says otherwise."""
        side = int(self.network_config.get("sample_size") or 128) * self.factor
        return side, side

    @property
    def multiple(self) -> int:
        """Height and width of an image are multiples of so many pixels."""
        return self.factor * self.patch

    @property
    def longest_side(self) -> int:
        """Tokens of a side that the network has positions for at most, 0 = any number."""
        config = self.network_config
        limits = [config.get("pos_embed_max_size"), config.get("rope_max_seq_len"), *config.get("axes_lens", ())[1:]]
        return min((limit for limit in limits if limit), default=0)

    def require_size(self, image: tuple[int, int]) -> None:
        """Raises ValueError, naming what is possible, for a (height, width) in which nothing can be made."""
        require_multiple(image, self.multiple)
        longest = self.longest_side * self.factor * self.patch
        if longest and max(image) > longest:
            raise ValueError(
                f"an image of {image[0]}x{image[1]} is too large for {self.folder}: its network has positions for "
                f"{longest} pixels a side"
            )

    def set_levels(self, scheduler: Any, steps: int, tokens: int) -> None:
        """Put `steps` noise levels for an image of so many tokens into the pipeline's scheduler."""
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps), mu=dynamic_mu(scheduler, tokens))

    def normal(self, vae: Any, latent_BChw: Tensor) -> Tensor:
        """Turn raw latents into those that the flow ends in."""
        return (latent_BChw - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor

    def raw(self, vae: Any, latent_BChw: Tensor) -> Tensor:
        """Undo `normal`."""
        return latent_BChw / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)

    def latents(self, vae: Any, images_B3HW: Tensor) -> Tensor:
        """Encode images in [-1, 1] to tokens: the posterior's mode."""
        return self.latent_tokens(vae, self.posterior(vae, images_B3HW)[0])

    def posterior(self, vae: Any, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance, each [B, C, h, w], of the raw latents of images in [-1, 1]."""
        latent = vae.encode(images_B3HW).latent_dist
        return latent.mean, latent.logvar

    def latent_tokens(self, vae: Any, latent_BChw: Tensor) -> Tensor:
        """Turn raw latents into tokens."""
        return patchify(self.normal(vae, latent_BChw), self.patch)

    def pixels(self, vae: Any, x_BSC: Tensor, grid: Grid) -> Tensor:
        """Decode tokens to images in [-1, 1]."""
        return vae.decode(self.raw(vae, unpatchify(x_BSC, grid, self.patch)), return_dict=False)[0]

    def parts(self) -> dict[str, Any]:
        """Build parts of the pipeline that diffusers cannot read here, by their names in model_index.json."""
        return {}

    # --- what families share

    @cached_property
    def own_tokens(self) -> list[str]:
        """What a tokenizer of the checkpoint takes for the end of a text and the like, wherever it stands.

        Single characters are left out: one of Stable Diffusion 3's pads with "!".
        """
        folders = (path for start in ("tokenizer*", "processor*") for path in self.folder.glob(start))
        return sorted(t for t in set().union(*(added_tokens(each, special=True) for each in folders)) if len(t) > 1)

    def hollow_row(self, tokens: int = 0) -> Row:
        """Return the row of a prompt without values, for plans: of so many tokens at most, 0 = of a long prompt.

        Raises ValueError where the family does not say how long prompts are.
        """
        if not self.longest_text:
            raise ValueError(f"no plan is made for {self.pipeline}: its family does not say how long its prompts are")
        length = self.longest_text if self.reads_padding or not tokens else min(tokens, self.longest_text)
        return {"text": torch.empty(length, self.network_config[self.text_width], device="meta")}

    def require_own_network(self) -> None:
        """Raises ValueError for a checkpoint whose network is not of the class that its pipeline calls.

        Chroma's layers have the names of FLUX.1's, and answer otherwise.
        """
        hint = get_type_hints(class_of_diffusers(self.pipeline).__init__)["transformer"]
        called = {kind.__name__ for kind in get_args(hint) or (hint,)}
        for file, named in (
            (INDEX, self.index["transformer"][1]),
            (self.network_config.path, self.network_config["_class_name"]),
        ):
            if named not in called:
                raise ValueError(
                    f"{self.folder / file} names {named} as the network, and {self.pipeline} calls "
                    f"{' or '.join(sorted(called - {'NoneType'}))}: the checkpoint is of another family"
                )

    def hollow_network(self) -> nn.Module:
        """Build the network without values, on the meta device."""
        self.require_own_network()
        with torch.device("meta"):
            network: nn.Module = class_of_diffusers(self.network_config["_class_name"]).from_config(self.network_config)
        mark_dead(network, self.dead)
        return network

    def levels(self, scheduler: Any, steps: int, tokens: int) -> list[float]:
        """Return `steps` + 1 noise levels, exactly those of the pipeline's scheduler, which stays as it is."""
        scheduler = copy.deepcopy(scheduler)
        self.set_levels(scheduler, steps, tokens)
        return scheduler.sigmas.double().tolist()

    def latent_image(self, x_BSC: Tensor, cond: Conditioning) -> Tensor:
        """Return tokens as [B, C, h, w], for networks that read images."""
        return unpatchify(x_BSC, one_grid(cond), self.patch)

    def tokens(self, v_BChw: Tensor) -> Tensor:
        """Undo `latent_image`."""
        return patchify(v_BChw, self.patch)


def class_of_diffusers(name: str) -> Any:
    """Return a class of diffusers. Raises ValueError when it is not installed, or too old to have it."""
    try:
        with without_advice("transformers"):
            import diffusers

            getattr(diffusers, name, None)  # it imports what the class needs
    except ModuleNotFoundError as error:
        raise ValueError(f"{name} needs diffusers: pip install 'glyphlab[families]'") from error
    if not hasattr(diffusers, name):
        raise ValueError(f"diffusers {diffusers.__version__} has no {name}; install a newer one")
    return getattr(diffusers, name)


@contextmanager
def without_advice(library: str) -> Iterator[None]:
    """Inside, a library does not warn: transformers of packages that nobody needs, diffusers of what is refused."""
    importlib.import_module(library)  # which sets its level
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def one_grid(cond: Conditioning) -> Grid:
    """Return the grid of all samples. Raises ValueError when they differ: diffusers' networks take one size a batch."""
    if len(set(cond.grids)) > 1:
        raise ValueError(f"images of different sizes {sorted(set(cond.grids))} in one batch; group them by size")
    return cond.grids[0]


def one_layout(cond: Conditioning) -> tuple[Grid, ...]:
    """Return the grids of every sample's condition images. Raises ValueError when they differ between samples."""
    if len(set(cond.image_grids)) > 1:
        raise ValueError("samples with condition images of different sizes in one batch; group them by size")
    return cond.image_grids[0]


def dynamic_mu(scheduler: Any, tokens: int) -> float | None:
    """Return the shift that diffusers' pipelines hand to their scheduler; None where its shift is fixed."""
    config = scheduler.config
    if not config.use_dynamic_shifting:
        return None
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    return float(config.base_shift + slope * (tokens - config.base_image_seq_len))


def channel_statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and spread of latent channels [C, 1, 1], of autoencoders that name them in their config."""
    mean, std = (torch.tensor(vae.config[name]).view(-1, 1, 1).to(like) for name in ("latents_mean", "latents_std"))
    return mean, std


class OneFrame(Family):
    """Holds the defaults of those whose autoencoder is of videos and names mean and spread of latents in its config."""

    def posterior(self, vae: Any, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """See `Family`."""
        latent = vae.encode(images_B3HW.unsqueeze(2)).latent_dist
        return latent.mean[:, :, 0], latent.logvar[:, :, 0]

    def normal(self, vae: Any, latent_BChw: Tensor) -> Tensor:
        """See `Family`."""
        mean, std = channel_statistics(vae, latent_BChw)
        return (latent_BChw - mean) / std

    def raw(self, vae: Any, latent_BChw: Tensor) -> Tensor:
        """See `Family`."""
        mean, std = channel_statistics(vae, latent_BChw)
        return latent_BChw * std + mean


def scheduled_levels(scheduler: Any, steps: int) -> None:
    """Let the scheduler choose levels by its own shift; the first becomes exactly 1, where solvers stop just below."""
    scheduler.set_timesteps(steps)
    scheduler.sigmas[0] = 1.0


def positions(rows: int, columns: int, first: int = 0, axes: int = 3) -> Tensor:
    """Return [rows * columns, axes]: (first, row, column, 0, ...) of every token, row by row."""
    index = torch.zeros(rows, columns, axes)
    index[..., 0] = first
    index[..., 1] = torch.arange(rows)[:, None]
    index[..., 2] = torch.arange(columns)
    return index.flatten(0, 1)
