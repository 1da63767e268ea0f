"""8-bit pixels: one rounding rule and one hash, so that an image has one name and one score however it travels.

Shapes: B images, 3HW pixels.
"""

from __future__ import annotations

import hashlib

import numpy as np


def to_uint8(images_B3HW: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as the nearest 8-bit pixels; uint8 passes through. Values outside are clipped, NaN becomes 0."""
    if images_B3HW.dtype == np.uint8:
        return images_B3HW
    finite = np.nan_to_num(images_B3HW, nan=0.0, posinf=1.0, neginf=0.0)
    pixels: np.ndarray = np.rint(np.clip(finite, 0.0, 1.0) * 255.0).astype(np.uint8)
    return pixels


def to_float(images_uint8_B3HW: np.ndarray) -> np.ndarray:
    """8-bit pixels as float32 in [0, 1]; `to_uint8` gives them back exactly."""
    return images_uint8_B3HW.astype(np.float32) / np.float32(255.0)


def pixel_hash(image_3HW: np.ndarray) -> str:
    """sha256 (64 hex digits) of the 8-bit pixels and their shape."""
    pixels = to_uint8(image_3HW)
    digest = hashlib.sha256(repr(pixels.shape).encode())
    for channel in pixels:  # each by itself, so that no more than one is copied at a time
        digest.update(np.ascontiguousarray(channel).data)
    return digest.hexdigest()
