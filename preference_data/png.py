"""Plain PNG files: what of a file is pixels, and nothing else, and these pixels in half the time."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from preference_data.colour_profiles import conversion
from preference_data.image_files import MAX_PIXELS

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PLAIN = bytes([8, 2, 0, 0])
"""Of the header: 8 bits, red green blue, and the only compression and filter methods there are."""
CHANGES_PIXELS = (b"tRNS", b"eXIf", b"iTXt", b"zTXt", b"tEXt", b"acTL", b"CgBI", b"iCCP")
"""Chunks that can make the shown pixels others than the stored ones: transparency, orientation, animation, profile."""


def only_pixels(content: bytes) -> bytes | None:
    """The file with its header and its pixel data only; None when it must be decoded and written anew for that.

    Pixel data is taken over only from plain files of 8-bit RGB whose chunks cannot turn or compose what is stored.
    """
    if not content.startswith(SIGNATURE):
        return None
    chunks, index = [SIGNATURE], len(SIGNATURE)
    while index + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, index)
        kind, end = content[index + 4 : index + 8], index + 12 + length
        if end > len(content):
            return None
        if kind == b"IHDR" and content[index + 16 : index + 20] != PLAIN:
            return None
        if kind in CHANGES_PIXELS and _turns(kind, content[index + 8 : end - 4]):
            return None
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            chunks.append(content[index:end])
        if kind == b"IEND":
            return b"".join(chunks)
        index = end
    return None


def plain_pixels(plain: bytes) -> np.ndarray | None:
    """uint8 [H, W, 3] of what `only_pixels` returned, by imagecodecs, which takes half of Pillow's time.

    None where imagecodecs is not installed, cannot decode the file or would need more than `MAX_PIXELS`: then it is
    for `decode_image` to read the file or to say why not.
    """
    try:
        import imagecodecs
    except ImportError:
        return None
    width, height = struct.unpack_from(">II", plain, len(SIGNATURE) + 8)
    if width * height > MAX_PIXELS:
        return None
    try:
        pixels: np.ndarray = imagecodecs.spng_decode(plain)
    except imagecodecs.SpngError:
        return None
    return pixels


def _turns(kind: bytes, body: bytes) -> bool:
    """Whether a chunk may change what is shown; texts do only when they carry a camera's metadata."""
    if kind == b"iCCP":
        return _recolours(body)
    if kind not in (b"iTXt", b"zTXt", b"tEXt"):
        return True
    name = body.split(b"\0", 1)[0].lower()
    return b"exif" in name or b"xmp" in name


def _recolours(body: bytes) -> bool:
    """Whether an embedded profile is another than sRGB; one that cannot be read changes nothing."""
    _, _, packed = body.partition(b"\0")
    try:
        return conversion(zlib.decompress(packed[1:]), "RGB") is not None
    except (ValueError, zlib.error):
        return False
