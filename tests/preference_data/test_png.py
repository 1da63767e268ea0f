"""Plain PNG files: their pixels by the quick decoder are Pillow's, and what it cannot decode is left to Pillow."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from preference_data.image_files import MAX_PIXELS, decode_image
from preference_data.png import only_pixels, plain_pixels

pytest.importorskip("imagecodecs")


def png(height: int, width: int) -> bytes:
    """A plain file of smooth colours with noise, so that rows are filtered in several ways."""
    noise = np.random.default_rng(height * width).integers(0, 3, (height, width, 3))
    content = io.BytesIO()
    smooth = np.add.outer(np.arange(height), 3 * np.arange(width))[..., None] % 250
    Image.fromarray((smooth + noise).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (33, 7), (64, 64), (150, 211)])
def test_pixels_are_those_that_pillow_shows(height: int, width: int) -> None:
    content = png(height, width)
    found = plain_pixels(only_pixels(content) or b"")
    assert found is not None and found.dtype == np.uint8
    np.testing.assert_array_equal(found, decode_image(content, "x"))


def test_what_pillow_refuses_is_not_taken_in_by_the_quick_way() -> None:
    """Bytes changed at random, the checksums of the chunks put right half of the time, and files cut off."""
    chance, whole = random.Random(0), [png(8, 8), png(20, 13)]
    for _ in range(400):
        changed = bytearray(chance.choice(whole))
        for _ in range(chance.choice((1, 2))):
            changed[chance.randrange(24, len(changed))] = chance.randrange(256)
        content = bytes(changed) if chance.random() < 0.5 else _checksums_right(changed)
        if (plain := only_pixels(content)) is None or (found := plain_pixels(plain)) is None:
            continue
        np.testing.assert_array_equal(found, decode_image(content, "x"))


def test_a_size_that_is_too_large_is_seen_in_the_header() -> None:
    changed = bytearray(png(8, 8))
    changed[16:24] = struct.pack(">II", MAX_PIXELS, 2)
    plain = only_pixels(_checksums_right(changed))
    assert plain is not None and plain_pixels(plain) is None
    with pytest.raises(ValueError, match="at most"):
        decode_image(plain, "x")


def _checksums_right(content: bytearray) -> bytes:
    index = 8
    while index + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, index)
        if (end := index + 12 + length) > len(content):
            break
        struct.pack_into(">I", content, end - 4, zlib.crc32(bytes(content[index + 4 : end - 4])))
        index = end
    return bytes(content)
