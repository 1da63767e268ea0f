"""Colour profiles (ICC, version 2) written tag by tag, so that what they say is known to the digit."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable

SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
"""XYZ of red, green and blue, adapted to D50."""
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
D50 = (0.96420, 1.0, 0.82491)


def rgb_profile(primaries: tuple[tuple[float, ...], ...], gamma: float) -> bytes:
    """Of RGB pixels whose values are powers of the light."""
    colours = {f"{name}XYZ".encode(): _xyz(value) for name, value in zip("rgb", primaries, strict=True)}
    curves = {f"{name}TRC".encode(): _curve(gamma) for name in "rgb"}
    return _profile(b"RGB ", b"XYZ ", colours | curves)


def grey_profile(gamma: float) -> bytes:
    """Of grey pixels."""
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def cmyk_profile(lightness: Callable[[int, int, int, int], float]) -> bytes:
    """Of CMYK pixels that all are greys; `lightness` (0 to 100) of no or full ink each, linear between them."""
    straight = bytes(range(256))
    corners = b"".join(
        bytes([round(lightness(*inks) * 2.55), 128, 128]) for inks in itertools.product((0, 1), repeat=4)
    )
    matrix = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + straight * 4 + corners + straight * 3
    return _profile(b"CMYK", b"Lab ", {b"A2B0": table}, b"prtr")


def _profile(space: bytes, between: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    tags = {b"desc": _text(b"tiny"), b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(D50), **tags}
    place = 128 + 4 + 12 * len(tags)
    index, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        index += name + struct.pack(">II", place + len(body), len(content))
        body += padded
    head = struct.pack(">I4sI4s4s4s12s4s", place + len(body), b"none", 0x02400000, kind, space, between,
                       struct.pack(">6H", 2026, 1, 1, 0, 0, 0), b"acsp")  # fmt: skip
    return (head.ljust(68, b"\0") + _fixed(*D50)).ljust(128, b"\0") + index + body


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _text(content: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(content) + 1) + content + b"\0" + bytes(12 + 67)
