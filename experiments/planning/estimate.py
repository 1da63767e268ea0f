"""What a training run would need, before anything is allocated: memory by part, work and time of an update.

    (A1)  weights     w P           w = 2 bytes in bfloat16, 4 in float32; P parameters
    (A2)  gradients   4 T           summed in float32; T trained parameters
    (A3)  optimizer   8 T, and 4 T of float32 masters beside bfloat16 weights; Muon has one moment, AdamW two
    (A4)  ZeRO over N processes: stage 1 divides (A3) by N, stage 2 also (A2), stage 3 also (A1)
    (A5)  time of products = FLOPs / (peak * share);   of ZeRO's exchange and of the host = bytes / bandwidth

    (A6)  peak = the most over phases of what stands and what the phase adds:
          encoding      weights whole, language model; before the engine is made, and gone after it
          sampling      what stands, and one forward pass; for pairs, weights whole instead of what stands
          decoding      the same, and `DECODE` bytes a pixel of the images that are decoded together
          update        what stands, the gradients' sum, and a forward and backward pass
          checkpoint samples   decoding of the model's own size; the average takes the weights' place, which wait aside

    (A7)  stage 3 gathers ahead up to `LIVE` weights, and keeps as many after a pass, when layers come in the order of
          the pass before. With an adapter as its own reference they do not: the reference's pass leaves the adapter's
          layers out, DeepSpeed forgets the order, and gathers and drops one layer after the other

A bucket of gradients is on its way at any moment. Float32 sums of gradients stand from the engine's making on at stage
1 (bfloat16) and 3. Host memory takes (A2) and (A3) with offload. Which parts overlap is not known beforehand, so an
update's time is a range: from the longest part alone to all of them one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from experiments.planning.accelerators import Card, find_card

if TYPE_CHECKING:
    from experiments.planning.dry_run import Footprint

GB = 1e9
LIVE = 1.05e9
"""weights that DeepSpeed's stage 3 holds gathered at most: stage3_max_live_parameters and one prefetch bucket"""
LAYER = 5e7
"""weights of a layer, roughly"""
RESERVE_GB = 2.0
"""driver, communication library and kernels' workspace"""
SPARE = 0.05
"""of the card, for fragments between tensors"""
PASSES_OF_ZERO_3 = 3
"""times a micro-batch moves all weights at stage 3: gathered forward, gathered backward, gradients scattered"""
CHECKPOINT_SAMPLES = 6
"""images that are sampled at a checkpoint, to be looked at"""
HOST_GB_S = 50.0
"""what an optimizer step in host memory reads and writes a second and process: a share of eight memory channels"""


BYTES = {8: 1 + 4 / 256, 4: 1 / 2 + 4 / 64}
"""bytes of a weight in so many bits, its share of a block's scale with it (base_model/frozen_linear.py)"""


@dataclass(frozen=True)
class Work:
    """What an update and process does."""

    name: str
    trained: int
    """samples that go forward and backward"""
    sampled: int
    """samples that only go forward: sampling, and the reference's answers"""
    micro: int
    """samples a backward pass"""
    reference: bool
    """whether full fine-tuning needs a frozen copy of the network"""
    arithmetic: tuple[str, ...]
    """where these numbers come from, a line each"""
    updates: int
    """of the whole run"""
    passes: float = 0.0
    """backward passes an update; 0 = `trained` / `micro`"""
    groups: bool = False
    """a pass holds whole groups of samples"""

    @property
    def backward_passes(self) -> float:
        return self.passes or self.trained / self.micro


@dataclass(frozen=True)
class Extras:
    """What a released checkpoint's run has on the card beside the network and its training, in 10^9 bytes."""

    autoencoder: float = 0.0
    language: float = 0.0
    """while texts are encoded"""
    sampling: float = 0.0
    """a forward pass of a rollout"""
    decoding: float = 0.0
    """of the images of a rollout that are decoded together"""
    samples: float = 0.0
    """decoding of checkpoint samples, or sampling of them where it takes more"""
    stays: bool = False
    """the language model is needed while training: the texts are not known beforehand"""
    before: bool = False
    """images are sampled for pairs before the engine is made: by the whole network, whatever the stage"""
    texts: float = 0.0
    """encoded prompts of a rollout, which stand until it is learned from"""


NOTHING = Extras()


@dataclass(frozen=True)
class Setup:
    """Describes the devices and how the training is split among them."""

    card: str
    gpus: int
    zero: int
    """0 to 3; -1 = one process without DeepSpeed"""
    bf16: bool
    offload: bool
    recompute: bool
    rank: int
    """of LoRA; 0 = full fine-tuning"""
    share: float
    """achieved part of the card's peak"""
    ema: bool
    muon: bool
    frozen_gb: float
    """reward models, text encoder and autoencoder on every card"""
    base_bits: int = 0
    """a weight of the frozen base beside an adapter; 0 = as it is"""
    base_on_host: bool = False
    """the frozen base beside an adapter is in host memory"""

    def __post_init__(self) -> None:
        find_card(self.card)
        if self.gpus < 1 or not 0 < self.share <= 1 or self.frozen_gb < 0:
            raise ValueError(
                f"gpus={self.gpus} must be at least 1, share={self.share} in (0, 1], frozen_gb={self.frozen_gb} >= 0"
            )

    @property
    def label(self) -> str:
        """As a row of the comparison."""
        stage = "one process" if self.zero < 0 else f"ZeRO-{self.zero}"
        return stage + (" + offload" if self.offload else "")


def refusal(setup: Setup) -> str:
    """Why the engines would refuse such a run; empty when they would not."""
    if setup.zero < 0 and setup.gpus > 1:
        return "one process uses one card"
    if setup.zero == 0 and (setup.bf16 or setup.offload):
        return "float32 on the device only"
    if setup.zero > 0 and setup.muon and not setup.rank:
        return "Muon needs whole matrices: muon_lr=0"
    return ""


def memory_gb(need: Footprint, setup: Setup, reference: bool) -> dict[str, float]:
    """(A1) to (A4), in 10^9 bytes of one card, by part."""
    N, w = setup.gpus, 2 if setup.bf16 else 4
    slices = [N if setup.zero >= stage else 1 for stage in (1, 2, 3)]
    divided = need.parameters - (need.frozen if stored_otherwise(setup) else 0.0)
    gathered = min(divided, LIVE) * w if setup.zero == 3 and N > 1 else 0.0
    bucket = min(bucket_size(need.trained), need.trained) * w if setup.zero > 0 else 0.0
    bucket = need.trained * w if sums_whole(setup) else bucket
    on_card = 0.0 if setup.offload else 1.0
    copy = need.parameters * w if reference and not setup.rank else 0.0
    summed = 1.0 if setup.zero in (1, 2) else on_card  # these stages sum on the card before they send to the host
    averaged_on_card = on_card if setup.zero < 0 else 1.0  # DeepSpeed's optimizer alone goes to host memory
    return {
        "weights": (divided * w / slices[2] + gathered + base_bytes(need, setup)) / GB,
        "gradients": (summed * 4.0 * need.trained / slices[1] + bucket) / GB,
        "optimizer": on_card * optimizer_bytes(need, setup) / slices[0] / GB,
        "weight average": 4.0 * need.trained / slices[2] * setup.ema * averaged_on_card / GB,
        "activations": need.activations(setup.recompute) / GB,
        "frozen copy": copy / GB,
        "other models": setup.frozen_gb,
    }


def stored_otherwise(setup: Setup) -> bool:
    """Whether the frozen base is in fewer bits or in host memory, where ZeRO does not divide it."""
    return bool(setup.rank and (setup.base_bits or setup.base_on_host))


def base_bytes(need: Footprint, setup: Setup) -> float:
    """Of a frozen base that is stored otherwise, and of its largest layer while it is read."""
    if not stored_otherwise(setup):
        return 0.0
    w = 2 if setup.bf16 else 4
    return need.widest * w + (0.0 if setup.base_on_host else need.frozen * BYTES[setup.base_bits])


def sums_whole(setup: Setup) -> bool:
    """Whether DeepSpeed takes its optimizer for bfloat16, which sums gradients as one flat float32 tensor.

    It keeps all 16-bit gradients of a backward pass beside it instead of a bucket.
    """
    return setup.zero == 1 and setup.bf16 and not setup.offload


def phases_gb(
    memory: dict[str, float], need: Footprint, setup: Setup, extras: Extras, reference: bool = False
) -> dict[str, float]:
    """(A6)"""
    N, w = setup.gpus, 2 if setup.bf16 else 4
    language = extras.language * extras.stays
    stands = sum(memory.values()) - memory["gradients"] - memory["activations"] + extras.autoencoder + language
    sums = 4.0 * need.trained / (N if setup.zero == 3 else 1) / GB  # made with the engine, and never given back
    sums_gb = sums if sums_whole(setup) or (setup.zero == 3 and not setup.offload) else 0.0
    stored = need.frozen * w - base_bytes(need, setup) if stored_otherwise(setup) else 0.0
    loaded = (need.parameters * w - stored) / GB + extras.autoencoder
    average = setup.ema * w * need.trained / (N if setup.zero == 3 else 1) / GB
    idle = 0.0
    if setup.zero == 3 and N > 1 and reference and setup.rank:  # (A7)
        idle = (min(need.parameters, LIVE) - min(need.parameters, LAYER)) * w / GB
    sampling, samples = (loaded, loaded) if extras.before else (stands + sums_gb, stands + sums_gb - idle)
    return {
        "encoding": (loaded + extras.language) * bool(extras.language),
        "sampling": sampling + extras.texts + extras.sampling,
        "decoding": samples + extras.texts + extras.decoding,
        "update": stands - idle + extras.texts + memory["gradients"] + memory["activations"],
        "checkpoint samples": (stands + sums_gb - idle + average + extras.samples) * bool(extras.samples),
    }


def bucket_size(trained: float) -> int:
    """Gradients that ZeRO collects before it sends them; base_model/engine/engine_deepspeed.py sets the same."""
    return max(1, int(min(trained, 2e8)))


def optimizer_bytes(need: Footprint, setup: Setup) -> float:
    """(A3) before it is divided."""
    masters = 4.0 * need.trained if setup.bf16 or setup.offload else 0.0
    return masters + 8.0 * need.trained - 4.0 * need.muon * setup.muon


def host_gb(need: Footprint, setup: Setup, extras: Extras = NOTHING) -> float:
    """Host memory of the whole machine: what passes through a process while a checkpoint loads, or what is offloaded.

    Weights come to the card tensor by tensor; the language model comes whole.
    """
    N, loading = setup.gpus, setup.gpus * extras.language * GB
    if not setup.offload:
        return loading / GB
    optimizer = 4.0 * need.trained + optimizer_bytes(need, setup)
    return max(loading, optimizer if setup.zero > 0 else optimizer * N) / GB


def limit_gb(card: Card) -> float:
    """Returns the memory that tensors may take, in GB."""
    return card.memory_gb * (1 - SPARE) - RESERVE_GB


def flops(need: Footprint, setup: Setup, work: Work) -> float:
    """Of an update and process."""
    again = need.in_blocks if setup.recompute else 0.0
    return (work.trained * (need.forward + need.backward + again) + work.sampled * need.forward) / work.micro


def seconds(need: Footprint, setup: Setup, work: Work) -> dict[str, float]:
    """(A5), by part, of an update."""
    card, N, w = find_card(setup.card), setup.gpus, 2 if setup.bf16 else 4
    peak = (card.bf16_tflops if setup.bf16 else card.fp32_tflops) * 1e12
    passes = work.backward_passes
    part = (N - 1) / N
    summed = 4 if setup.zero == 1 else w  # stage 1 exchanges float32 sums (base_model/engine/engine_deepspeed.py)
    moved = (summed + w) * need.trained * part if setup.zero < 3 else 0.0
    if setup.zero == 3:
        moved = passes * (PASSES_OF_ZERO_3 - 1 + setup.recompute) * w * need.parameters * part
        moved += passes * w * need.trained * part + work.sampled / work.micro * w * need.parameters * part
    here = need.trained / (N if setup.zero > 0 else 1)
    moves = optimizer_bytes(need, setup) * 2 / (N if setup.zero > 0 else 1)
    host = (here * (passes * w + w) / (card.host_gb_s * GB) + moves / (HOST_GB_S * GB)) if setup.offload else 0.0
    if stored_otherwise(setup) and setup.base_on_host:
        calls = (work.trained * (2 + setup.recompute) + work.sampled) / work.micro
        host += calls * need.frozen * BYTES.get(setup.base_bits, w) / (card.host_gb_s * GB)
    return {
        "products": flops(need, setup, work) / (peak * setup.share),
        "exchange": moved / (card.link_gb_s * GB),
        "host": host,
    }


@dataclass(frozen=True)
class Account:
    """Holds the estimate of one setup."""

    setup: Setup
    work: Work
    need: Footprint
    memory: dict[str, float]
    refused: str
    """why the engine would not do it"""
    phases: dict[str, float]
    """(A6)"""
    extras: Extras

    @property
    def total(self) -> float:
        """Returns the peak over all phases, in GB."""
        return max(self.phases.values())

    @property
    def fits(self) -> bool:
        return not self.refused and self.total <= limit_gb(find_card(self.setup.card))


def costed(need: Footprint, setup: Setup, work: Work, extras: Extras = NOTHING) -> Account:
    memory = memory_gb(need, setup, work.reference)
    phases = phases_gb(memory, need, setup, extras, work.reference)
    return Account(setup, work, need, memory, refusal(setup), phases, extras)


def alternatives(setup: Setup) -> Iterator[Setup]:
    """The same run in every way the engines know, cheapest in time first."""
    if setup.gpus == 1:
        yield from (replace(setup, zero=-1, offload=offload) for offload in (False, True))
        return
    for offload in (False, True):
        yield from (replace(setup, zero=zero, offload=offload) for zero in range(4))


def changes(done: Account, fits: Callable[[Setup, int], bool]) -> list[str]:
    """What would make it fit, smallest change first. `fits` works a setup and a number of samples a pass out."""
    setup, micro = done.setup, done.work.micro
    fewer = "algorithm.group and algorithm.micro" if done.work.groups else "--micro 1"
    ways = alternatives(setup)
    advice = [f"use {way.label}" for way in ways if costed(done.need, way, done.work, done.extras).fits][:1]
    tries = [
        ("keep less for the backward pass: --recompute", replace(setup, recompute=True), micro),
        ("bfloat16 weights with float32 masters: --bf16", replace(setup, bf16=True), micro),
        ("the frozen base in 8 bits: --base-bits 8", replace(setup, base_bits=8), micro),
        ("the frozen base in 4 bits: --base-bits 4", replace(setup, base_bits=4), micro),
        ("no weight average: --no-ema", replace(setup, ema=False), micro),
        (f"fewer samples a pass than {micro}: {fewer}", setup, 1),
        *((f"more cards: --gpus {n}", replace(setup, gpus=n), micro) for n in (2, 4, 8, 16, 32, 64) if n > setup.gpus),
        ("an adapter instead of all weights: --rank 64", replace(setup, rank=setup.rank or 64, muon=False), micro),
        ("all of these: --recompute --bf16 --no-ema --micro 1 --rank 64 --gpus 64",
         replace(setup, recompute=True, bf16=True, ema=False, rank=setup.rank or 64, muon=False, gpus=64), 1),
    ]  # fmt: skip
    for text, other, samples in tries:
        settled = text.startswith("more cards") and any(t.startswith("more cards") for t in advice)
        if text.startswith("the frozen base"):
            settled = bool(setup.base_bits) or not setup.rank or any("--base-bits" in t for t in advice)
        last_resort = text.startswith("all of these") and advice
        if (other, samples) != (setup, micro) and not settled and not last_resort and fits(other, samples):
            advice.append(text)
    return advice or ["a card with more memory, smaller images, or a smaller preset"]
