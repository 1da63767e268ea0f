"""Measures how fast a run is: images a second, peak memory, and the share of a card's peak that the model uses.

    (S1)  images_per_second = images of an update, over all ranks / seconds of the update
    (S2)  mfu = FLOPs that the update's passes need / (seconds x peak of the card)

The time of an update is what the loop takes for it: sampling, scoring, learning. Checkpoints, their images and monitors
are left out. FLOPs are counted on the meta device, as `glyphlab plan` counts them, for one rank; what is computed again
to save memory is none of them (PaLM, arXiv:2204.02311, appendix B). Where the peak or the passes are not known, there
is no mfu. None of it is a function of the settings, so two runs that are otherwise equal differ in it (`MEASURED`).
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn

from base_model.data.mixture import TaskStream
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.frozen_linear import FrozenLinear
from base_model.policy_model import PolicyModel
from base_model.train_vae import Autoencoder
from experiments.experiment import Algorithm, Experiment
from experiments.images.image_sources import OwnImages
from experiments.planning.accelerators import CARDS, card_of_device
from experiments.planning.estimate import Setup, flops
from experiments.planning.from_experiment import CommandLine, network_of, work_of
from preference_data.records import Prompt

GB = 1e9
TEXTS = 16
"""Prompts whose length stands for that of all."""


class Throughput:
    """Measures the updates of a loop, each from `begin` to `measured`."""

    def __init__(self, images: int, flops_per_update: float, device: torch.device) -> None:
        """`images` of an update, over all ranks; `flops_per_update` as a share of a card's peak in a second, 0 where
        that is not known."""
        self._images, self._flops, self._device = images, flops_per_update, device
        self._began = 0.0

    def begin(self) -> None:
        """Start the clock of an update."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._began = time.perf_counter()

    def measured(self, step: Step) -> Step:
        """The step with (S1), (S2) and the peak of memory since `begin` among its metrics."""
        seconds = time.perf_counter() - self._began
        tries = step.metrics.get("tries", 1.0)
        result = {"images_per_second": self._images * tries / seconds, "memory_gb": peak_gb(self._device)}
        if self._flops and tries == 1.0 and "loss" in step.metrics:  # else its passes are others
            result["mfu"] = self._flops / seconds
        return replace(step, metrics=step.metrics | result)


def peak_gb(device: torch.device) -> float:
    """The most memory in 10^9 bytes: that torch held on the card since it was reset; else of the process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GB


def open_throughput(
    experiment: Experiment, model: PolicyModel | Autoencoder, engine: Engine, prompts: Sequence[Prompt]
) -> Throughput:
    """What measures a run. `prompts` are some of its own, on whose length the FLOPs depend."""
    images = images_of(experiment.algorithm) * engine.world_size
    network = model.network if isinstance(model, PolicyModel) else model
    peak = peak_tflops(experiment, network, engine.device) * 1e12
    needed = 0.0
    if peak and isinstance(model, PolicyModel) and not any(prompt.sources for prompt in prompts):
        needed = model_flops(experiment, model, [prompt.text for prompt in prompts])
    return Throughput(images, needed / peak if peak else 0.0, engine.device)


def images_of(cfg: Algorithm) -> int:
    """Images that one rank samples or learns from in an update."""
    if cfg.learns_from == "rollouts":
        return int(cfg.prompts * cfg.group)
    sides = 2 if cfg.learns_from == "pairs" and cfg.reads != "verdicts" else 1
    return int(cfg.batch * sides)


def peak_tflops(experiment: Experiment, network: nn.Module, device: torch.device) -> float:
    """The peak of the device in 10^12 FLOPs a second, for the type of most weights: as the experiment says, or of a
    card that is known by its name; 0 where neither is."""
    if experiment.peak_tflops or device.type != "cuda":
        return experiment.peak_tflops
    card = card_of_device(torch.cuda.get_device_name(device))
    if card is None:
        return 0.0
    return {torch.bfloat16: card.bf16_tflops, torch.float32: card.fp32_tflops}.get(main_type(network), 0.0)


def main_type(network: nn.Module) -> torch.dtype:
    """The type that most weights have."""
    counts: dict[torch.dtype, int] = {}
    for dtype, size in weights_of(network):
        counts[dtype] = counts.get(dtype, 0) + size
    return max(counts, key=lambda dtype: counts[dtype])


def weights_of(network: nn.Module) -> Iterator[tuple[torch.dtype, int]]:
    """Type and count of all weights, those of a frozen base in the type in which they are multiplied."""
    for p in network.parameters():
        yield p.dtype, size_of(p)
    for layer in network.modules():
        if isinstance(layer, FrozenLinear):
            yield layer.dtype, layer.in_features * layer.out_features


def size_of(weight: nn.Parameter) -> int:
    """Numbers in a weight, also where ZeRO's stage 3 keeps it elsewhere."""
    return int(getattr(weight, "ds_numel", weight.numel()))


def model_flops(experiment: Experiment, model: PolicyModel, texts: Sequence[str]) -> float:
    """FLOPs of one rank's update; 0 where no plan is known for it, or it is one of another network or other images."""
    cfg, data = experiment.algorithm, experiment.data
    if isinstance(data, TaskStream) or (isinstance(data, OwnImages) and data.edits):
        return 0.0  # images to be edited are not in the plan; those of other aspects have about as many pixels
    if cfg.learns_from == "rollouts" and cfg.updates > 1 and cfg.learns_at == "images":
        return 0.0  # the plan of the others is of one update a rollout
    bf16 = main_type(model.network) is torch.bfloat16
    setup = Setup(next(iter(CARDS)), 1, -1, bf16, False, False, experiment.lora.rank, 1.0, False, False, 0.0)
    requested = CommandLine(experiment.name, setup, None, None, None, 0, 0, model.picture, text_length(model, texts), 0,
                        model.checkpoint)  # fmt: skip
    try:
        work = work_of(experiment, requested)
        micro, _, count = network_of(experiment, experiment.preset, requested, work)
        need = count(setup.rank, micro, bf16)
    except ValueError:  # no plan is known for such a run
        return 0.0
    own = sum(size for _, size in weights_of(model.network))
    if own != need.parameters and own + sum(b.numel() for b in model.network.buffers()) != need.parameters:
        return 0.0
    return flops(need, setup, work)


def text_length(model: PolicyModel, texts: Sequence[str]) -> int:
    """Text tokens of a prompt, as a mean over some."""
    cond = model.encode_text(list(texts[:TEXTS]))
    return round(sum(cond.lengths) / len(cond)) if cond.lengths else cond.text_BLD.shape[1]
