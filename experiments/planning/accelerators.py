"""Accelerators by name, with the numbers of their makers' data sheets (dense, without sparsity)."""

from __future__ import annotations

from dataclasses import dataclass

from preference_data.spelling import unknown


@dataclass(frozen=True)
class Card:
    """One accelerator. Bandwidths count one direction."""

    memory_gb: float
    """in 10^9 bytes"""
    bf16_tflops: float
    """peak of bfloat16 matrix products with float32 sums"""
    fp32_tflops: float
    """peak of float32 without TF32, which torch leaves off"""
    link_gb_s: float
    """to the other cards of the machine"""
    host_gb_s: float
    """to host memory"""
    devices: tuple[str, ...] = ()
    """what its driver calls it, as `torch.cuda.get_device_name` says, without the maker: exactly these"""


CARDS: dict[str, Card] = {
    "a100-40gb": Card(40, 312, 19.5, 300, 32, ("A100-SXM4-40GB", "A100-PCIE-40GB")),
    "a100-80gb": Card(80, 312, 19.5, 300, 32, ("A100-SXM4-80GB", "A100 80GB PCIe")),
    "h100-80gb": Card(80, 989, 67, 450, 64, ("H100 80GB HBM3",)),
    "h200-141gb": Card(141, 989, 67, 450, 64, ("H200",)),
    "b200-180gb": Card(180, 2250, 75, 900, 64, ("B200",)),
    "l40s-48gb": Card(48, 362, 91.6, 32, 32, ("L40S",)),
    "rtx4090-24gb": Card(24, 165, 82.6, 32, 32, ("GeForce RTX 4090",)),
    "rtx5090-32gb": Card(32, 210, 104.8, 64, 64, ("GeForce RTX 5090",)),
}
"""A100, H100, H200, B200: SXM, NVLink; the others speak to one another over PCI Express."""


def find_card(name: str) -> Card:
    """Raises ValueError listing the cards there are."""
    if name not in CARDS:
        raise ValueError(unknown("card", name, CARDS))
    return CARDS[name]


def card_of_device(device: str) -> Card | None:
    """The card that a driver calls so; None where the table does not know it: a similar name is another peak."""
    name = device.removeprefix("NVIDIA ").strip()
    return next((card for card in CARDS.values() if name in card.devices), None)
