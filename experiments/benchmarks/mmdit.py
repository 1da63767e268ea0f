"""One training step of the MMDiT on a ragged batch: ours beside diffusers', same weights, same samples, same loss.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.mmdit

Half of the samples have one image size, half another; text lengths run from 8 to 512 tokens. Ours gets the whole batch
at once and computes no padding. diffusers' QwenImageTransformer2DModel uses the first sample's image positions for
every sample of a batch, so the largest batch that it answers correctly is one image size: it gets one sub-batch a size,
text padded to the longest of the sub-batch and masked, and accumulates gradients. Both sides minimise the mean squared
error over all image tokens of the batch; a step is forward and backward. The sides alternate within one process, and
who goes first alternates too. On a CPU, time is CPU time of the process, which waiting for other work on the machine
does not lengthen; on one thread it is what a clock shows on an idle machine. On a GPU it is the clock's, until the card
is done:

    python -m experiments.benchmarks.mmdit --device cuda --dtype bfloat16 --preset qwen_image --layers 4 \\
        --batch 8 --small 16 16 --large 32 32

Prints a table, then one JSON line; `ratio` is diffusers' median time over ours. Shapes: B samples, S image tokens,
L text tokens, C channels.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from base_model.qwen.mmdit import MMDiT, MMDiTConfig
from base_model.qwen.presets import PRESETS
from experiments.benchmarks.clock import clock_of

Grid = tuple[int, int]


@dataclass(frozen=True)
class Benchmark:
    """Sizes of the comparison."""

    layers: int = 4
    """blocks of the network"""
    width: int = 256
    """channels of the network, a multiple of 64"""
    preset: str = ""
    """take every size but `layers` from this preset, e.g. qwen_image, instead of `width`"""
    device: str = "cpu"
    """cpu or cuda"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    batch: int = 16
    """samples, half of each image size"""
    small: Grid = (4, 8)
    """rows and columns of latent tokens of one half"""
    large: Grid = (8, 16)
    """and of the other"""
    shortest: int = 8
    """text tokens"""
    longest: int = 512
    repeats: int = 7
    """timed steps of each side, after one that is not"""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width % 64 or self.width < 64:
            raise ValueError(f"width={self.width} must be a multiple of 64, the channels of a head")
        if self.preset and self.preset not in PRESETS:
            raise ValueError(f"preset={self.preset!r} must be one of {', '.join(PRESETS)}")
        if self.batch < 2 or self.repeats < 1:
            raise ValueError(f"batch={self.batch} must be at least 2 and repeats={self.repeats} at least 1")
        if not 1 <= self.shortest <= self.longest:
            raise ValueError(f"shortest={self.shortest} must be from 1 to longest={self.longest}")


@dataclass(frozen=True)
class Samples:
    """A ragged batch, padded: image tokens to the larger size, text to the longest."""

    x_BSC: Tensor
    target_BSC: Tensor
    sigma_B: Tensor
    text_BLD: Tensor
    mask_BL: Tensor
    grids: list[Grid]

    @property
    def tokens(self) -> int:
        """Counts the image tokens that are no padding."""
        return sum(h * w for h, w in self.grids)

    def on(self, device: str) -> Samples:
        """The same on a device."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "grids"}
        return replace(self, **moved)


def random_samples(cfg: Benchmark, network: MMDiTConfig) -> Samples:
    """Random latents, noise levels and text; text lengths spread evenly and shuffled."""
    random = torch.Generator().manual_seed(cfg.seed)
    B, S = cfg.batch, max(cfg.small[0] * cfg.small[1], cfg.large[0] * cfg.large[1])
    lengths = torch.linspace(cfg.shortest, cfg.longest, B).round().long()[torch.randperm(B, generator=random)]
    mask_BL = torch.arange(int(lengths.max())) < lengths[:, None]
    x, target = torch.randn(2, B, S, network.in_channels, generator=random)
    text = torch.randn(*mask_BL.shape, network.joint_attention_dim, generator=random) * mask_BL[..., None]
    grids = [cfg.small if i % 2 else cfg.large for i in range(B)]
    return Samples(x, target, torch.rand(B, generator=random), text, mask_BL, grids)


def our_step(model: nn.Module, batch: Samples) -> float:
    """The whole ragged batch at once."""
    model.zero_grad()
    v = model(batch.x_BSC, batch.sigma_B, batch.text_BLD, batch.mask_BL, batch.grids)
    sizes = torch.tensor([h * w for h, w in batch.grids])
    real_BS = (torch.arange(v.shape[1]) < sizes[:, None]).to(v.device)
    error_BS = (v - batch.target_BSC).square().mean(-1)
    loss = torch.where(real_BS, error_BS, 0.0).sum() / batch.tokens
    loss.backward()
    return loss.item()


def diffusers_step(model: nn.Module, batch: Samples) -> float:
    """One padded sub-batch an image size, gradients accumulated."""
    model.zero_grad()
    total, kind = 0.0, next(model.parameters()).dtype
    for grid in sorted(set(batch.grids)):
        rows = [i for i, other in enumerate(batch.grids) if other == grid]
        S, L = grid[0] * grid[1], int(batch.mask_BL[rows].sum(1).max())
        v = model(
            hidden_states=batch.x_BSC[rows, :S].to(kind),
            encoder_hidden_states=batch.text_BLD[rows, :L].to(kind),
            encoder_hidden_states_mask=batch.mask_BL[rows, :L],
            timestep=batch.sigma_B[rows].to(kind),
            img_shapes=[[(1, *grid)]] * len(rows),
        ).sample
        loss = (v.float() - batch.target_BSC[rows, :S]).square().mean(-1).sum() / batch.tokens
        loss.backward()
        total += loss.item()
    return total


def sizes(cfg: Benchmark) -> MMDiTConfig:
    """The network."""
    if cfg.preset:
        return replace(PRESETS[cfg.preset], num_layers=cfg.layers)
    return MMDiTConfig(
        num_layers=cfg.layers, attention_head_dim=64, num_attention_heads=cfg.width // 64, joint_attention_dim=192,
        in_channels=64, out_channels=16, patch_size=2, axes_dims_rope=(8, 28, 28),
    )  # fmt: skip


def models(network: MMDiTConfig, cfg: Benchmark) -> tuple[nn.Module, nn.Module]:
    """Ours and diffusers', with the same random weights: none zero, so that every gradient is compared."""
    from diffusers import QwenImageTransformer2DModel

    torch.manual_seed(cfg.seed)
    kind = getattr(torch, cfg.dtype)
    with torch.device(cfg.device):
        ours, theirs = MMDiT(network).to(kind), QwenImageTransformer2DModel(**asdict(network)).to(kind)
    with torch.no_grad():
        for weight in ours.parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.5 * weight.shape[1] ** -0.5)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours.train(), theirs.train()


def gradient_differences(ours: nn.Module, theirs: nn.Module) -> tuple[float, float]:
    """How far gradients are apart, relative to diffusers': the worst element of a tensor, and all of them by norm.

    The first is a share of the tensor's largest gradient. In 16 bits it is rounding wherever a whole tensor's gradient
    is, so there the second is what to read.
    """
    worst = off = total = 0.0
    peers = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        if weight.grad is not None and (other := peers[name].grad) is not None:
            distance, other = weight.grad.float() - other.float(), other.float()
            worst = max(worst, float(distance.abs().max() / other.abs().max().clamp(min=1e-4)))
            off += float(distance.square().sum())
            total += float(other.square().sum())
    return worst, (off / total) ** 0.5


def race(
    steps: dict[str, Callable[[], float]], repeats: int, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Milliseconds of every repeat of every side, and the losses. One untimed round first; the order alternates."""
    losses = {name: step() for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats):
        for name in sorted(steps, reverse=bool(repeat % 2)):
            start = clock()
            steps[name]()
            times[name].append(1e3 * (clock() - start))
    return times, losses


def measure(cfg: Benchmark) -> dict[str, Any]:
    """The comparison's numbers. Raises ValueError when there is no such device."""
    clock = clock_of(cfg.device)
    network = sizes(cfg)
    ours, theirs = models(network, cfg)
    batch = random_samples(cfg, network)
    padding = 1 - float(batch.mask_BL.float().mean())
    batch = batch.on(cfg.device)
    steps = {"ours": lambda: our_step(ours, batch), "diffusers": lambda: diffusers_step(theirs, batch)}
    times, losses = race(steps, cfg.repeats, clock)
    median = {name: statistics.median(values) for name, values in times.items()}
    worst, by_norm = gradient_differences(ours, theirs)
    return {
        "ratio": round(median["diffusers"] / median["ours"], 3),
        "ratio_of_minima": round(min(times["diffusers"]) / min(times["ours"]), 3),
        "ours_ms": round(median["ours"], 1),
        "diffusers_ms": round(median["diffusers"], 1),
        "ours_loss": losses["ours"],
        "diffusers_loss": losses["diffusers"],
        "loss_difference": abs(losses["ours"] - losses["diffusers"]),
        "gradient_difference": worst,
        "gradient_difference_by_norm": by_norm,
        "padded_text_share": round(padding, 3),
        "threads": torch.get_num_threads(),
        "card": "" if cfg.device == "cpu" else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        **asdict(cfg),
    }


def main() -> None:
    import tyro

    numbers = measure(tyro.cli(Benchmark, description=__doc__))
    print(f"{'':12}{'ms':>12}{'loss':>14}")
    for side in ("ours", "diffusers"):
        print(f"{side:12}{numbers[f'{side}_ms']:12.1f}{numbers[f'{side}_loss']:14.8f}")
    loss, worst, by_norm = (
        numbers[name] for name in ("loss_difference", "gradient_difference", "gradient_difference_by_norm")
    )
    print(f"losses differ by {loss:.1e}, gradients by {worst:.1e} at worst and {by_norm:.1e} by norm")
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
