"""The one reader of image files: pixels as a viewer shows them, whoever asks for them.

    turned        by the orientation that a camera wrote into the file
    composed      over a ground where pixels are transparent, white unless another colour is given
    in sRGB       by the colour profile that the file carries (preference_data/colour_profiles.py)
    8 bits        16 bits are scaled by keeping the upper eight, as Pillow does for colour
    one image     animations are refused; of a phone's JPEG with several images (MPO) the first is taken

Every error names the file. Shapes: HW3 pixels.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from preference_data.colour_profiles import in_srgb
from preference_data.pixels import pixel_hash
from preference_data.records import SourceImage

FORMATS = ("PNG", "JPEG", "WEBP")
"""Pillow reads a phone's MPO as a JPEG."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Of files in a folder that are taken for images, in small letters."""
MAX_PIXELS = 64 * 2**20
MAX_BYTES = 4 * MAX_PIXELS
"""Of a file, which is refused before it is read; what is no larger than the pixels that it may have fits."""
WHITE = (255, 255, 255)
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What undoes each value of the orientation tag; from 5 on width and height change places."""
UNSEEN = 8
"""Levels below which nobody sees a difference from the ground."""
_MARKS = {
    b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"BM": "BMP", b"%PDF": "PDF", b"\0\0\1\0": "an icon",
    b"<svg": "SVG", b"PK\3\4": "a ZIP archive", b"8BPS": "Photoshop",
}  # fmt: skip
"""How files of other formats begin."""
_BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, EOFError,
    RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's decoders raise on damaged files."""


def read_image(path: Path, ground: tuple[int, int, int] = WHITE) -> np.ndarray:
    """uint8 [H, W, 3]. Raises FileNotFoundError, or ValueError as `decode_image`."""
    return decode_image(_content(path), str(path), ground)


def decode_image(content: bytes, name: str, ground: tuple[int, int, int] = WHITE) -> np.ndarray:
    """uint8 [H, W, 3] of a file's bytes; `name` is what errors call it.

    Raises ValueError when it is no PNG, JPEG or WebP, is damaged, animated or too large, or when everything visible in
    it has the colour of the ground.
    """
    with warnings.catch_warnings(action="ignore"), _opened(content, name) as image:  # of metadata and sizes
        try:
            image.load()
            turn = TURNS.get(_orientation(image))
            pixels = _composed(image, name, ground)
        except _Refused as error:
            raise ValueError(str(error)) from None
        except _BROKEN as error:
            raise ValueError(f"{name} is not a readable image ({', '.join(FORMATS)}): {error}") from error
    return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) as shown, from the head of the file. Raises as `read_image`, not for damage behind the head."""
    return image_size_in(_content(path), str(path))


def image_size_in(content: bytes, name: str) -> tuple[int, int]:
    """`image_size` of a file's bytes; `name` is what errors call it. Raises as `decode_image`, from the head alone."""
    with warnings.catch_warnings(action="ignore"), _opened(content, name) as image:
        turned = _orientation_in(image, content) >= 5
        return (image.width, image.height) if turned else (image.height, image.width)


def format_and_orientation(content: bytes, name: str) -> tuple[str, int]:
    """The format of a file's bytes, one of `FORMATS` or MPO, and EXIF's orientation. Raises as `image_size_in`."""
    with warnings.catch_warnings(action="ignore"), _opened(content, name) as image:
        return str(image.format), _orientation_in(image, content)


def _orientation_in(image: Image.Image, content: bytes) -> int:
    """`_orientation`; Pillow decodes a whole PNG to look for one, so it is asked only where there can be one."""
    asks = image.format != "PNG" or any(mark in content for mark in (b"eXIf", b"exif", b"xmp"))
    return _orientation(image) if asks else 1


class _Refused(ValueError):
    """A message that is complete as it is."""


def _content(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise _Refused(f"{path} has {size} bytes; at most {MAX_BYTES} are taken")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} is not a readable image: {error}") from error


def _opened(content: bytes, name: str) -> Image.Image:
    if len(content) > MAX_BYTES:
        raise ValueError(f"{name} has {len(content)} bytes; at most {MAX_BYTES} are taken")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is too large; at most {MAX_PIXELS} pixels are taken: {error}") from error
    except _BROKEN as error:
        detail = content_kind(content) if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(f"{name} is not a readable image ({', '.join(FORMATS)}): {detail}") from error
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{name} is {image.width}x{image.height}; at most {MAX_PIXELS} pixels are taken")
    if getattr(image, "n_frames", 1) != 1 and image.format != "MPO":
        raise ValueError(f"{name} is animated; only still images are taken: save one of its frames")
    return image


def content_kind(content: bytes) -> str:
    """What the bytes of a file hold that is none of `FORMATS`, in words."""
    if not content:
        return "the file is empty"
    if content[4:8] == b"ftyp":
        return "it holds HEIC, AVIF or a film"
    if known := next((kind for mark, kind in _MARKS.items() if content.startswith(mark)), ""):
        return f"it holds {known}"
    head = content[:512]
    return "it holds text" if head.isascii() and b"\0" not in head else "its bytes are of none of these formats"


def _orientation(image: Image.Image) -> int:
    """1 (as stored) where the file does not say, or says nonsense."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except _BROKEN:
        return 1
    return value if isinstance(value, int) else 1


def _composed(image: Image.Image, name: str, ground: tuple[int, int, int]) -> np.ndarray:
    """uint8 [H, W, 3], as stored, over the ground."""
    colours, alpha = _colours(image, name)
    pixels = np.asarray(in_srgb(colours, image.info.get("icc_profile"), name))
    if alpha is None or alpha.min() == 255:
        return pixels
    # 32 bits: a product of two bytes does not fit into 8, and a sum of two such products not into 16.
    behind = np.asarray(ground, np.uint32)
    over = ((pixels * alpha.astype(np.uint32) + behind * (255 - alpha.astype(np.uint32)) + 127) // 255).astype(np.uint8)
    if np.abs(over.astype(np.int16) - behind.astype(np.int16)).max() <= UNSEEN:
        raise _Refused(
            f"{name} is transparent, and on the ground {ground} nothing of it can be seen; save it without "
            "transparency, on a ground of another colour"
        )
    return over


def _colours(image: Image.Image, name: str) -> tuple[Image.Image, np.ndarray | None]:
    """The colours as L, RGB or CMYK, and alpha [H, W, 1] of an image that has transparent pixels."""
    if image.mode.startswith(("I", "F")):
        return _deep(image, name)
    alpha = None
    if image.has_transparency_data:
        image = _eight_bit_key(image)
        with_alpha = image.convert("RGBA")
        alpha = np.asarray(with_alpha)[..., 3:]
        image = image if image.mode == "L" else image.getchannel("L") if image.mode == "LA" else with_alpha
    if image.mode == "1":
        return image.convert("L"), alpha
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB"), alpha


def _deep(image: Image.Image, name: str) -> tuple[Image.Image, np.ndarray | None]:
    """Grey of more than 8 bits: its upper eight and, where one value is declared transparent, alpha."""
    values = np.asarray(image)
    if image.mode.startswith("F") or values.min() < 0 or values.max() > 0xFFFF:
        raise _Refused(f"{name} has pixels of the kind {image.mode}, whose range is unknown; save it with 8 or 16 bits")
    key = image.info.get("transparency")
    alpha = None if not isinstance(key, int) else np.where(values == key, 0, 255).astype(np.uint8)[..., None]
    return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8)), alpha


def _eight_bit_key(image: Image.Image) -> Image.Image:
    """A colour declared transparent in 16 bits, in the 8 that its pixels have now."""
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        image.info["transparency"] = tuple(part >> 8 for part in key)
    return image


# --- images that prompts ask to edit


def source_image(path: Path) -> SourceImage:
    """The record of an image to be edited, read whole. Raises as `read_image`."""
    status = path.stat()
    return _source_image(path.absolute(), status.st_mtime_ns, status.st_size)


@functools.cache
def _source_image(path: Path, changed: int, size: int) -> SourceImage:
    """`source_image`, once for a file as it is; a run asks for its prompts several times."""
    return _record(read_image(path), str(path), b"")


def source_of(content: bytes, name: str) -> SourceImage:
    """The record of an image that has no file here. Raises as `decode_image`."""
    return _record(decode_image(content, name), "", content)


def _record(pixels_HW3: np.ndarray, path: str, content: bytes) -> SourceImage:
    height, width = pixels_HW3.shape[:2]
    return SourceImage(pixel_hash(pixels_HW3.transpose(2, 0, 1)), width, height, path, content)


@functools.lru_cache(maxsize=4)
def read_source(source: SourceImage) -> np.ndarray:
    """uint8 [H, W, 3], not to be written to. Raises ValueError when it is missing, or no longer the same image."""
    try:
        pixels = decode_image(source.content, source.sha256[:12]) if source.content else read_image(Path(source.path))
    except FileNotFoundError:
        raise ValueError(f"the source image {source.path} is gone; put it back") from None
    if (now := pixel_hash(pixels.transpose(2, 0, 1))) != source.sha256:
        raise ValueError(
            f"the source image {source.path} has other pixels than when its prompt was read ({now[:12]}, not "
            f"{source.sha256[:12]}); put the image back, or name the changed one under another name"
        )
    pixels.flags.writeable = False
    return pixels


def source_readers(sources: Iterable[Sequence[SourceImage]]) -> list[list[Callable[[], np.ndarray]]]:
    """For each prompt's source images, what reads each of them, as `read_source`; [] for a prompt without any."""
    return [[functools.partial(read_source, source) for source in own] for own in sources]
