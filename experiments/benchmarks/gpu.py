"""One training step of the MMDiT on a GPU: the full width in bfloat16, with as many blocks as fit.

Run:     python -m experiments.benchmarks.gpu

The depth is what experiments/planning/dry_run.py says the card's free memory holds: weights, gradients and activations.
The rate achieved is the step's work, counted there too, over the median of its times; the card's own rate is measured
beside it, with one square bfloat16 product. Nothing is compared with a data sheet. Raises ValueError without a GPU.

Prints one JSON line: TFLOP/s of the step, of the bare product, and their ratio. Whole iterations of GRPO, also of other
families, are experiments/benchmarks/rollout.py's.
"""

from __future__ import annotations

import bisect
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from base_model.lora import Lora, add_adapter
from base_model.qwen.mmdit import MMDiT
from base_model.qwen.presets import PRESETS
from experiments.benchmarks.clock import clock_of
from experiments.planning.dry_run import Footprint, Pass, footprint


@dataclass(frozen=True)
class Benchmark:
    """Sizes of the step."""

    batch: int = 1
    grid: tuple[int, int] = (64, 64)
    """rows and columns of latent tokens; 64 64 is an image of 1024 x 1024"""
    text: int = 512
    """text tokens"""
    layers: int = 0
    """blocks; as many as fit, up to 60, when 0"""
    rank: int = 0
    """of LoRA; 0 = all weights get gradients"""
    recompute: bool = True
    compile: bool = False
    """compile the blocks with torch.compile"""
    repeats: int = 10
    """timed steps, after two that are not"""
    product: int = 8192
    """side of the square matrices of the bare product"""
    share: float = 0.85
    """of the free memory to plan with"""


def needed(need: Footprint, recompute: bool) -> float:
    """Bytes of a step without an optimizer: 16-bit weights and gradients, and activations."""
    return 2.0 * need.parameters + 2.0 * need.trained + need.activations(recompute)


def depth(cfg: Benchmark, free: float) -> int:
    """Blocks that fit into `free` bytes. Raises ValueError when not even two do."""
    full, micro = PRESETS["qwen_image"], Pass(cfg.batch, cfg.grid, cfg.text)

    def bytes_at(layers: int) -> float:
        return needed(footprint(replace(full, num_layers=layers), Lora(cfg.rank), micro, True), cfg.recompute)

    fitting = bisect.bisect_right(range(2, full.num_layers + 1), cfg.share * free, key=bytes_at)
    if not fitting:
        raise ValueError(f"{free / 1e9:.1f} GB are free; two blocks of the full width need more: lower batch or grid")
    return 1 + fitting


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Median time by the card's own clock."""
    for _ in range(2):
        run()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def product_tflops(device: str, side: int, repeats: int) -> float:
    """10^12 FLOPs a second of a square bfloat16 product: the best that a device does."""
    now, times = clock_of(device, threads=2), []
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    for _ in range(repeats + 2):
        start = now()
        torch.mm(a, a)
        times.append(now() - start)
    return 2.0 * side**3 / statistics.median(times[2:]) / 1e12


def measure(cfg: Benchmark) -> dict[str, Any]:
    """The numbers. Raises ValueError without a GPU."""
    if not torch.cuda.is_available():
        raise ValueError("this benchmark needs a GPU, and torch sees none; experiments.benchmarks.mmdit runs on a CPU")
    free = float(torch.cuda.mem_get_info()[0])
    layers, micro = cfg.layers or depth(cfg, free), Pass(cfg.batch, cfg.grid, cfg.text)
    sizes = replace(PRESETS["qwen_image"], num_layers=layers)
    need = footprint(sizes, Lora(cfg.rank), micro, True)
    with torch.device("meta"):
        network = MMDiT(sizes)
    network = network.to(torch.bfloat16).to_empty(device="cuda")  # in this order no float32 copy ever exists
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(std=0.02)
    if cfg.rank:
        add_adapter(network, Lora(cfg.rank))
    network.recompute = cfg.recompute
    if cfg.compile:
        for block in network.transformer_blocks:
            block.compile()
    B, S = cfg.batch, cfg.grid[0] * cfg.grid[1]
    x = torch.randn(B, S, sizes.in_channels, device="cuda")
    sigma, text = torch.rand(B, device="cuda"), torch.randn(B, cfg.text, sizes.joint_attention_dim, device="cuda")

    def step() -> None:
        network.zero_grad(set_to_none=True)
        network(x, sigma, text, None, [cfg.grid] * B).square().mean().backward()

    took = milliseconds(step, cfg.repeats)
    work = need.forward + need.backward  # what recomputation repeats is not progress
    bare = product_tflops("cuda", cfg.product, cfg.repeats)
    return {
        "ratio": round(work / took / 1e9 / bare, 3),
        "step_tflops": round(work / took / 1e9, 1),
        "product_tflops": round(bare, 1),
        "step_ms": round(took, 1),
        "peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
        "planned_gb": round(needed(need, cfg.recompute) / 1e9, 2),
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        **asdict(replace(cfg, layers=layers)),
    }


def main() -> None:
    import tyro

    print(json.dumps(measure(tyro.cli(Benchmark, description=__doc__))))


if __name__ == "__main__":
    main()
