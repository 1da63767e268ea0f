"""A folder of photographs in which each filter has a sinner and an innocent twin."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageFilter, ImageOps


@functools.cache
def photograph(name: str) -> Image.Image:
    """One of scikit-image's, at a short side of 300."""
    image = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    scale = 300 / min(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def as_jpeg(image: Image.Image, quality: int = 90, orientation: int = 1) -> bytes:
    """The bytes of a JPEG file."""
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    image.save(buffer, "JPEG", quality=quality, exif=exif)
    return buffer.getvalue()


def as_png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@functools.cache
def images_to_curate() -> dict[str, tuple[bytes, str, str]]:
    """file name -> (bytes, captions, the filter that drops it or "")."""
    coffee, cat, woman, rocket = (photograph(name) for name in ("coffee", "chelsea", "astronaut", "rocket"))
    cells, galaxies = photograph("immunohistochemistry"), photograph("hubble_deep_field")
    garish_twin = photograph("astronaut")
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    garish = np.zeros((300, 300, 3), np.uint8)
    garish[..., 0] = np.asarray(woman.convert("L")).clip(20)
    left = coffee.crop((0, 0, 280, 300)), coffee.crop((2, 0, 282, 300))
    return {
        "coffee.png": (as_png(coffee), "a cup\nof coffee", ""),
        "coffee_again.png": (as_png(coffee), "the same cup", "duplicates"),
        "broken.jpg": (as_jpeg(coffee)[:9000], "half a cup", "broken"),
        "text.jpg": (b"no image at all" * 100, "nothing", "broken"),
        "misnamed.jpg": (as_png(photograph("coins")), "old coins", ""),
        "tiny.png": (as_png(photograph("camera").resize((80, 80))), "a man", "resolution"),
        "camera.png": (as_png(photograph("camera")), "a man with a camera", ""),
        "camera_cut.png": (as_png(cut(photograph("camera"))), "a photographer", ""),
        "moon_cut.png": (as_png(cut(photograph("moon"))), "The moon!", "repeated_text"),
        "long.png": (as_png(photograph("grass").resize((1000, 260))), "grass", "aspect"),
        "gravel.png": (as_png(photograph("gravel").resize((700, 260))), "gravel", ""),
        "cat.png": (as_png(cat), "a cat", ""),
        "cat_jpeg.jpg": (as_jpeg(cat, 60), "a cat, saved again", "near_duplicates"),
        "cat_mirrored.png": (as_png(ImageOps.mirror(cat)), "a cat, mirrored", ""),
        "shifted.jpg": (as_jpeg(left[1]), "a cup, shifted", "near_duplicates"),
        "unshifted.jpg": (as_jpeg(left[0].resize((560, 600))), "a cup, cut", ""),
        "turned.jpg": (as_jpeg(photograph("brick").transpose(Image.Transpose.ROTATE_90), orientation=6), "bricks", ""),
        "turned_over.jpg": (as_jpeg(photograph("colorwheel"), orientation=2), "a wheel", "rotation"),
        "black.png": (as_png(Image.new("L", (300, 300), 3)), "black", "file_size"),
        "dark.png": (as_png(rocket.point(lambda level: level // 16)), "a rocket in the dark", "luma"),
        "white.png": (as_png(woman.point(lambda level: 248 + level // 40)), "a woman in snow", "luma"),
        "rocket.png": (as_png(rocket), "a rocket", ""),
        "garish.png": (as_png(Image.fromarray(garish)), "a red woman", "saturation"),
        "woman.png": (as_png(woman), "a woman", ""),
        "horse.png": (as_png(photograph("horse").point(lambda level: 255 * (level > 128))), "a horse", "entropy"),
        "moon.png": (as_png(photograph("moon")), "the moon", ""),
        "noise.png": (as_png(Image.fromarray(noise)), "noise", "texture"),
        "blurred.png": (as_png(cells.filter(ImageFilter.GaussianBlur(4))), "cells", "clarity"),
        "cells.png": (as_png(cells.crop((0, 0, 290, 270))), "sharp cells", ""),
        "no_caption.png": (as_png(photograph("retina")), "", "captioned"),
        "name.png": (as_png(galaxies), "IMG_2031.jpg\nhttps://example.org/a.png", "caption_garbage"),
        "galaxies.png": (as_png(galaxies.transpose(Image.Transpose.ROTATE_90)), "IMG_7.jpg\nsome galaxies", ""),
        "talkative.png": (as_png(photograph("logo")), "word " * 3 + " ".join(map(str, range(500))), "caption_length"),
        "blocks.jpg": (as_jpeg(garish_twin.rotate(180), 6), "a woman, saved badly", "blockiness"),
        "film.png": (as_png(letterboxed(cells.rotate(180).crop((0, 40, 290, 260)))), "a film about cells", "bands"),
        "burnt.png": (as_png(burnt(cat.rotate(180))), "a cat in hard light", "exposure"),
        "code.png": (as_png(with_code(photograph("brick").rotate(180))), "a wall with a code", "codes"),
    }  # fmt: skip


def cut(image: Image.Image) -> Image.Image:
    """An image without 4 % on each side, which changes 8 to 12 bits of its hash."""
    x, y = round(0.04 * image.width), round(0.04 * image.height)
    return image.crop((x, y, image.width - x, image.height - y))


def letterboxed(image: Image.Image) -> Image.Image:
    """An image between dark bands."""
    framed = Image.new("RGB", (image.width, image.height + 80), (6, 6, 6))
    framed.paste(image, (0, 40))
    return framed


def burnt(image: Image.Image) -> Image.Image:
    """An image of which three quarters are black or white."""
    levels = np.asarray(image).copy()
    grey = levels.mean(2)
    levels[grey < np.quantile(grey, 0.37)], levels[grey > np.quantile(grey, 0.63)] = 0, 255
    return Image.fromarray(levels)


def with_code(image: Image.Image) -> Image.Image:
    """An image with a QR code."""
    import cv2

    code = Image.fromarray(cv2.QRCodeEncoder.create().encode("https://example.org")).convert("RGB")
    code = code.resize((140, 140), Image.Resampling.NEAREST)
    image = image.copy()
    image.paste(Image.new("RGB", (180, 180), "white"), (40, 40))
    image.paste(code, (60, 60))
    return image


def write_images_to_curate(folder: Path) -> dict[str, str]:
    """Write them with their captions; what drops each."""
    folder.mkdir(parents=True)
    images = images_to_curate()
    for name, (content, captions, _) in images.items():
        (folder / name).write_bytes(content)
        if captions:
            (folder / name).with_suffix(".txt").write_text(captions)
    return {name: by for name, (_, _, by) in images.items()}
