"""The account of experiments/planning/estimate.py in lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from experiments.planning.accelerators import find_card
from experiments.planning.estimate import RESERVE_GB, SPARE, Account, Setup, changes, flops, host_gb, limit_gb, seconds

if TYPE_CHECKING:
    from experiments.planning.dry_run import Pass


def lines(name: str, micro: Pass, accounts: Sequence[Account], chosen: Account) -> Iterator[str]:
    """All of it: the network, the batch, the ways compared, the chosen one by part."""
    setup, need, work, card = chosen.setup, chosen.need, chosen.work, find_card(chosen.setup.card)
    learns = f"LoRA of rank {setup.rank}" if setup.rank else "all weights"
    yield f"{name}: {need.parameters:,.0f} parameters; {learns}: {need.trained:,.0f} learn"
    precision = "bfloat16 + float32 masters" if setup.bf16 else "float32"
    yield f"on {setup.gpus} x {setup.card} ({card.memory_gb:.0f} GB), {precision}"
    yield ""
    yield from batch_lines(micro, chosen)
    yield ""
    yield f"{'':24}{'GB a card':>10}{'fits':>6}{'GB of host':>12}{'seconds an update':>24}"
    for one in accounts:
        if one.refused:
            yield f"{one.setup.label:24}{'':>10}{'no':>6}  ({one.refused})"
            continue
        times = seconds(one.need, one.setup, work)
        mark = " <" if one is chosen else ""
        between = f"{max(times.values()):.3g} to {sum(times.values()):.3g}"
        fits, host = "yes" if one.fits else "no", host_gb(one.need, one.setup, one.extras)
        yield f"{one.setup.label:24}{one.total:10.3g}{fits:>6}{host:12.3g}{between:>24}{mark}"
    yield ""
    yield from part_lines(chosen)


def batch_lines(micro: Pass, chosen: Account) -> Iterator[str]:
    setup, work = chosen.setup, chosen.work
    yield from work.arithmetic
    h, w = micro.grid
    shown = f" + {micro.images} x {h * w} of source images" if micro.images else ""
    yield f"a sample: {h} x {w} = {h * w} latent tokens{shown} + {micro.text} text tokens = {micro.tokens}"
    passes = work.backward_passes
    yield (
        f"an update: {setup.gpus} cards x {passes:.4g} passes of at most {work.micro} samples = "
        f"{setup.gpus * work.trained} samples, {setup.gpus * work.trained * micro.tokens:,} tokens that are learned "
        "from"
    )
    if work.sampled:
        yield f"           and {setup.gpus * work.sampled} samples that only go forward"
    yield f"the run:   {work.updates:,} updates, {work.updates * setup.gpus * work.trained:,} samples"


def part_lines(chosen: Account) -> Iterator[str]:
    """The chosen way by part, and where its time goes."""
    setup, work, card = chosen.setup, chosen.work, find_card(chosen.setup.card)
    yield f"{chosen.setup.label}, a card"
    for part, gb in chosen.memory.items():
        if gb:
            yield f"  {part:22}{gb:10.4g} GB"
    for phase, gb in chosen.phases.items():
        if gb:
            yield f"  {phase + ', in all':22}{gb:10.4g} GB"
    yield f"  {'peak':22}{chosen.total:10.4g} GB of {limit_gb(card):.4g}"
    yield f"  ({card.memory_gb:.0f} GB less {SPARE:.0%} for fragments and {RESERVE_GB:.0f} GB for driver and workspace)"
    peak = card.bf16_tflops if setup.bf16 else card.fp32_tflops
    yield f"  {'work of an update':22}{flops(chosen.need, setup, work) / 1e12:10.4g} TFLOP a card"
    times = seconds(chosen.need, setup, work)
    texts = {
        "products": f"at {setup.share:.0%} of {peak:g} TFLOP/s (data sheet)",
        "exchange": f"between cards at {card.link_gb_s:g} GB/s",
        "host": f"to and in host memory at {card.host_gb_s:g} GB/s",
    }
    for part, value in times.items():
        if value:
            yield f"  {part:22}{value:10.4g} s, {texts[part]}"
    low, high = max(times.values()), sum(times.values())
    yield f"  {'an update':22}{low:10.4g} s if all overlaps, {high:.4g} s if nothing does"
    yield f"  {'the run':22}{low * work.updates / 3600:10.4g} to {high * work.updates / 3600:.4g} hours"


def refused_lines(chosen: Account, fits: Callable[[Setup, int], bool]) -> Iterator[str]:
    """Why it cannot be, and what to change."""
    card = find_card(chosen.setup.card)
    if chosen.refused:
        yield f"{chosen.setup.label} is not possible: {chosen.refused}"
    else:
        phase, part = (max(gb, key=gb.__getitem__) for gb in (chosen.phases, chosen.memory))
        peak = f"the largest part is {part}" if phase == "update" else f"the peak is in the phase '{phase}'"
        yield (
            f"does not fit: {chosen.setup.label} needs {chosen.total:.4g} GB a card, and {chosen.setup.card} has "
            f"{limit_gb(card):.4g} for tensors; {peak}"
        )
    yield "change one of these:"
    yield from (f"  {change}" for change in changes(chosen, fits))
