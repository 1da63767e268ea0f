"""Image files with colour profiles are the colours that a viewer shows; sRGB and broken profiles change no pixel."""

from __future__ import annotations

import io
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from preference_data.image_files import decode_image, read_image
from preference_data.pixels import pixel_hash
from preference_data.store.image_store import ImageFolder
from tests.fixtures.tiny.tiny_profiles import DISPLAY_P3, SRGB, cmyk_profile, grey_profile, rgb_profile
from tests.preference_data.test_image_files import RANDOM, chunk, png, saved

P3 = rgb_profile(DISPLAY_P3, 2.2)


def encoded(light: np.ndarray) -> np.ndarray:
    """Levels of sRGB of linear light in [0, 1] (IEC 61966-2-1)."""
    light = light.clip(0.0, 1.0)
    return 255.0 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def in_srgb(pixels: np.ndarray, primaries: tuple[tuple[float, ...], ...], gamma: float) -> np.ndarray:
    xyz = (pixels / 255.0) ** gamma @ np.array(primaries)
    return encoded(xyz @ np.linalg.inv(np.array(SRGB)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(("primaries", "gamma"), [(DISPLAY_P3, 2.2), (SRGB, 1.8), (SRGB, 1.0)])
def test_colours_are_those_of_the_profile(primaries: tuple[tuple[float, ...], ...], gamma: float, kind: str) -> None:
    blocks = np.repeat(np.repeat(np.random.default_rng(1).integers(40, 216, (4, 5, 3), dtype=np.uint8), 16, 0), 16, 1)
    more = {"PNG": {}, "JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}[kind]
    plain = decode_image(saved(Image.fromarray(blocks), kind, **more), "a")
    shown = decode_image(saved(Image.fromarray(blocks), kind, icc_profile=rgb_profile(primaries, gamma), **more), "a")
    expected = in_srgb(plain, primaries, gamma)
    assert np.abs(expected - plain).max() > 8  # the profile matters
    assert np.abs(shown - expected).max() <= 2


def test_an_srgb_profile_changes_no_pixel(caplog: pytest.LogCaptureFixture) -> None:
    exact = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for image in (Image.fromarray(RANDOM), Image.fromarray(RANDOM[..., 0])):
        plain = decode_image(saved(image, "PNG"), "a")
        np.testing.assert_array_equal(decode_image(saved(image, "PNG", icc_profile=exact), "a"), plain)
    assert not caplog.records


@pytest.mark.parametrize(
    "broken", [b"no profile", P3[:200], P3[:128] + bytes(len(P3) - 128), P3.replace(b"acsp", b"xxxx"),
               P3.replace(b"RGB ", b"Lab ", 1), grey_profile(1.0), cmyk_profile(lambda *_: 50.0)],
    ids=["text", "cut", "zeros", "signature", "lab", "grey", "cmyk"],
)  # fmt: skip
def test_a_profile_that_is_none_of_these_pixels_is_ignored_and_said(
    broken: bytes, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(saved(Image.fromarray(RANDOM), "PNG", icc_profile=broken))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(read_image(path), RANDOM)
    assert f"{path}: its colour profile is ignored" in caplog.text
    assert ImageFolder(tmp_path / "s").add(path.read_bytes())[0] == pixel_hash(RANDOM.transpose(2, 0, 1))


def test_a_damaged_profile_chunk_of_a_png_changes_nothing(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in RANDOM)
    content = png(struct.pack(">IIBBBBB", 40, 20, 8, 2, 0, 0, 0), rows, chunk(b"iCCP", b"name\0\0nonsense"))
    folder = ImageFolder(tmp_path)
    sha = folder.add(content)[0]
    assert sha == pixel_hash(RANDOM.transpose(2, 0, 1)) == pixel_hash(read_image(folder.path(sha)).transpose(2, 0, 1))


def test_greys_follow_their_profile_at_8_and_16_bits_and_with_alpha() -> None:
    greys = np.array([[0, 10, 55, 128, 200, 255]], np.uint8)
    expected = encoded(greys / 255.0)[..., None]
    profile = grey_profile(1.0)
    alpha = Image.fromarray(np.full_like(greys, 255))
    for image in (
        Image.fromarray(greys), Image.merge("LA", (Image.fromarray(greys), alpha)),
        Image.fromarray(greys.astype(np.uint16) << 8),
    ):  # fmt: skip
        shown = decode_image(saved(image, "PNG", icc_profile=profile), "a")
        assert shown.shape == (1, 6, 3) and np.abs(shown - expected).max() <= 2, image.mode
    shown = decode_image(saved(Image.fromarray(greys), "PNG", icc_profile=rgb_profile(SRGB, 1.0)), "a")
    assert np.abs(shown - expected).max() <= 2  # grey pixels, a profile for RGB: equal parts
    bits = Image.fromarray(greys > 100)
    assert bits.mode == "1"
    assert decode_image(saved(bits, "PNG", icc_profile=profile), "a")[0, :, 0].tolist() == [0, 0, 0, 255, 255, 255]


def test_inks_follow_their_profile() -> None:
    """A profile in which half of cyan is left as grey: without it the inks are subtracted from white."""
    profile = cmyk_profile(lambda c, m, y, k: 0.0 if k else 100.0 - 50.0 * c)
    inks = np.zeros((16, 48, 4), np.uint8)
    inks[:, 16:32, 0], inks[:, 32:, 3] = 255, 255
    image = Image.fromarray(inks, "CMYK")
    shown = decode_image(saved(image, "JPEG", quality=100, icc_profile=profile), "a")
    assert np.abs(shown[8, [8, 24, 40]].astype(int) - [[255] * 3, [119] * 3, [0] * 3]).max() <= 3  # L* 50 is 119
    assert decode_image(saved(image, "JPEG", quality=100), "a")[8, 24].tolist() == [0, 255, 255]


def test_transparent_pixels_are_composed_over_a_ground_in_srgb() -> None:
    """The ground is no colour of the file's profile; the colours over it are."""
    rgba = np.full((8, 8, 4), 255, np.uint8)
    rgba[..., :3] = (120, 60, 60)
    rgba[:4, :, 3], rgba[4:6, :, 3] = 0, 128
    shown = decode_image(saved(Image.fromarray(rgba), "PNG", icc_profile=P3), "a", ground=(10, 200, 30))
    colour = in_srgb(np.array([120.0, 60.0, 60.0]), DISPLAY_P3, 2.2)
    assert shown[0, 0].tolist() == [10, 200, 30] and np.abs(shown[7, 0] - colour).max() <= 2
    assert np.abs(shown[4, 0] - (colour * 128 + np.array([10, 200, 30]) * 127) / 255).max() <= 2


def test_palettes_and_orientations_go_with_a_profile() -> None:
    palette = Image.fromarray(np.repeat(RANDOM[:4, :4], 4, 0)).quantize(16)
    plain = np.asarray(palette.convert("RGB"))
    shown = decode_image(saved(palette, "PNG", icc_profile=P3), "a")
    assert np.abs(shown - in_srgb(plain, DISPLAY_P3, 2.2)).max() <= 2
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode_image(saved(Image.fromarray(RANDOM), "PNG", icc_profile=P3, exif=exif), "a")
    straight = decode_image(saved(Image.fromarray(RANDOM), "PNG", icc_profile=P3), "a")
    np.testing.assert_array_equal(turned, np.rot90(straight, -1))


def test_the_store_keeps_the_colours_that_are_shown(tmp_path: Path) -> None:
    """The profile is left out with all metadata, so pixels of another than sRGB cannot be taken over as they are."""
    folder = ImageFolder(tmp_path)
    exact = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (P3, exact):
        content = saved(Image.fromarray(RANDOM), "PNG", icc_profile=profile)
        sha = folder.add(content)[0]
        kept = folder.path(sha).read_bytes()
        assert b"iCCP" not in kept and pixel_hash(read_image(folder.path(sha)).transpose(2, 0, 1)) == sha
        with Image.open(io.BytesIO(content)) as first, Image.open(folder.path(sha)) as again:
            taken_over = first.tobytes() == again.tobytes()
        assert taken_over == (profile is exact)
