"""Drops images by the codes in them that can be decoded."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost


class Codes(AtMost):
    """Images with a QR code or a barcode."""

    stage = 5
    column = "codes"
    unit = "codes that can be decoded"
    group = "codes"
    reason = "no caption says what is in a code, and a painted one leads nowhere"
    source = f"{REPORT}: Abnormal Element, QR and barcode"
    most: float = 0.0
