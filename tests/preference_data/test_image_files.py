"""Image files as a viewer shows them: turned, composed, scaled, still; and every error names its file."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from experiments.evaluation.sample_released import read_condition_image
from experiments.record.whole_files import read_png
from preference_data import image_files
from preference_data.image_files import MAX_BYTES, decode_image, image_size, read_image
from preference_data.pixels import pixel_hash
from preference_data.store.image_store import ImageFolder

CASES = Path(__file__).parents[1] / "fixtures" / "cases" / "score"
RANDOM = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)


def saved(image: Image.Image, kind: str, **more: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **more)
    return file.getvalue()


def turned(value: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    more = {"lossless": True} if kind == "WEBP" else {}
    return saved(Image.fromarray(RANDOM), kind, exif=exif, **more)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(head: bytes, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG chunk by chunk, of kinds that Pillow does not write."""
    parts = [chunk(b"IHDR", head), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("value", range(1, 9))
def test_an_orientation_is_undone_by_every_reader(value: int, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(turned(value, kind))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert expected.shape == ((40, 20, 3) if value >= 5 else (20, 40, 3))
    np.testing.assert_array_equal(read_image(path), expected)
    np.testing.assert_array_equal(read_png(path), expected.transpose(2, 0, 1))
    np.testing.assert_array_equal((read_condition_image(path) * 255).round().numpy(), expected.transpose(2, 0, 1))
    assert image_size(path) == expected.shape[:2]
    stored = ImageFolder(tmp_path / "store").add(path.read_bytes())
    assert stored == (pixel_hash(expected.transpose(2, 0, 1)), expected.shape[1], expected.shape[0])


def test_an_orientation_that_cannot_be_read_changes_nothing() -> None:
    for exif in (b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x01ab\0\0"):
        np.testing.assert_array_equal(decode_image(saved(Image.fromarray(RANDOM), "PNG", exif=exif), "a"), RANDOM)
    np.testing.assert_array_equal(decode_image(turned(9, "PNG"), "a"), RANDOM)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_is_composed_over_the_ground(mode: str) -> None:
    """Black letters whose hidden pixels are black too: without the ground nothing but black is left."""
    rgba = np.zeros((20, 40, 4), np.uint8)
    rgba[5:15, 10:30, 3] = 255
    rgba[5:15, 30:33, 3] = 51
    image = Image.fromarray(rgba)
    if mode == "P":
        image = image.quantize(8)
        assert image.mode == "P"
    elif mode == "PA":
        alpha = image.getchannel("A")
        image = image.convert("P").convert("PA")
        image.putalpha(alpha)
        image = image.convert("RGBA")  # no format keeps PA
    else:
        image = image.convert(mode)
    shown = decode_image(saved(image, "PNG"), "a")
    assert (shown[0, 0] == 255).all() and (shown[10, 20] == 0).all()
    assert abs(int(shown[10, 31, 0]) - 204) <= 1  # a fifth of black
    assert (decode_image(saved(image, "PNG"), "a", ground=(10, 20, 200))[0, 0] == (10, 20, 200)).all()


def test_a_colour_declared_transparent_is_transparent() -> None:
    grey = np.full((6, 6), 77, np.uint8)
    grey[2:4] = 10
    assert decode_image(saved(Image.fromarray(grey), "PNG", transparency=77), "a")[0, 0].tolist() == [255] * 3
    colour = np.repeat(grey[..., None], 3, -1)
    shown = decode_image(saved(Image.fromarray(colour), "PNG", transparency=(77, 77, 77)), "a")
    assert shown[0, 0].tolist() == [255] * 3 and shown[2, 0].tolist() == [10] * 3
    deep = np.full((6, 6), 5000, np.uint16)
    deep[2:4] = 30000
    head = struct.pack(">IIBBBBB", 6, 6, 16, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    shown = decode_image(png(head, rows, chunk(b"tRNS", struct.pack(">H", 5000))), "a")
    assert shown[0, 0].tolist() == [255] * 3 and shown[2, 0].tolist() == [117] * 3
    rows = b"".join(b"\0" + np.repeat(row[:, None], 3, 1).astype(">u2").tobytes() for row in deep)
    head = struct.pack(">IIBBBBB", 6, 6, 16, 2, 0, 0, 0)
    shown = decode_image(png(head, rows, chunk(b"tRNS", struct.pack(">HHH", 5000, 5000, 5000))), "a")
    assert shown[0, 0].tolist() == [255] * 3 and shown[2, 0].tolist() == [117] * 3


def test_what_cannot_be_seen_on_the_ground_is_refused_and_not_blank() -> None:
    rgba = np.full((20, 40, 4), 255, np.uint8)
    rgba[..., 3] = 0
    with pytest.raises(ValueError, match=r"b\.png is transparent, and on the ground \(255, 255, 255\) nothing"):
        decode_image(saved(Image.fromarray(rgba), "PNG"), "b.png")
    rgba[5:15, 10:30, 3] = 200  # white letters
    with pytest.raises(ValueError, match=r"b\.png is transparent"):
        decode_image(saved(Image.fromarray(rgba), "PNG"), "b.png")
    assert decode_image(saved(Image.fromarray(rgba), "PNG"), "b.png", ground=(0, 0, 0)).max() == 200
    rgba[..., 3] = 255
    assert (decode_image(saved(Image.fromarray(rgba), "PNG"), "a") == 255).all()  # plain white is an image


def test_opaque_alpha_changes_no_pixel() -> None:
    rgba = np.concatenate([RANDOM, np.full((20, 40, 1), 255, np.uint8)], -1)
    for kind, more in (("PNG", {}), ("WEBP", {"lossless": True})):
        np.testing.assert_array_equal(decode_image(saved(Image.fromarray(rgba), kind, **more), "a"), RANDOM)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    values = np.array([[0, 255, 256, 32767], [32768, 40000, 65279, 65535]], np.uint16)
    for content in (
        saved(Image.fromarray(values), "PNG"),
        png(struct.pack(">IIBBBBB", 4, 2, 16, 0, 0, 0, 0), b"".join(b"\0" + r.astype(">u2").tobytes() for r in values)),
        png(struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0),
            b"".join(b"\0" + np.repeat(r[:, None], 3, 1).astype(">u2").tobytes() for r in values)),
    ):  # fmt: skip
        shown = decode_image(content, "a")
        assert shown.shape == (2, 4, 3) and shown.dtype == np.uint8
        assert shown[..., 0].tolist() == [[0, 0, 1, 127], [128, 156, 254, 255]] and (shown[..., :1] == shown).all()


@pytest.mark.parametrize("kind", ["1", "L", "P", "CMYK", "LA"])
def test_other_kinds_of_pixels_are_shown_as_pillow_shows_them(kind: str) -> None:
    image = Image.fromarray(RANDOM).convert(kind)
    content = saved(image, "JPEG" if kind == "CMYK" else "PNG")
    with Image.open(io.BytesIO(content)) as again:
        np.testing.assert_array_equal(decode_image(content, "a"), np.asarray(again.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused_by_every_reader(kind: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(np.roll(RANDOM, i, 0)) for i in range(3)]
    path = tmp_path / "moving.png"
    path.write_bytes(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
    for read in (
        read_image,
        read_png,
        read_condition_image,
        image_size,
        lambda p: ImageFolder(tmp_path).add(p.read_bytes()),
    ):
        with pytest.raises(ValueError, match="is animated; only still"):
            read(path)


def test_a_phones_jpeg_of_several_images_is_its_first(tmp_path: Path) -> None:
    first, second = (Image.fromarray(np.full((16, 24, 3), v, np.uint8)) for v in (60, 200))
    path = tmp_path / "phone.jpg"
    path.write_bytes(saved(first, "MPO", save_all=True, append_images=[second]))
    with Image.open(path) as image:
        assert image.format == "MPO" and image.n_frames == 2
    assert abs(read_image(path).astype(int) - 60).max() <= 2 and image_size(path) == (16, 24)
    assert ImageFolder(tmp_path / "s").add(path.read_bytes())[1:] == (24, 16)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in (9000, 13000, 20000, 100000):  # below, at and above where Pillow warns and refuses
        path = tmp_path / f"{side}.png"
        path.write_bytes(png(struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0), b""))
        for read in (read_image, image_size, read_png, read_condition_image):
            with pytest.raises(ValueError, match=rf"{side}\.png is .*at most 67108864 pixels"):
                read(path)
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES + 1)  # a hole, which takes no room on the disk
    with pytest.raises(ValueError, match=r"\.png has \d+ bytes; at most"):
        read_image(path)
    monkeypatch.setattr(image_files, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="a has 101 bytes; at most"):
        decode_image(b"\0" * 101, "a")


def test_damage_names_the_file_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "bad.bin"
    for kind in ("PNG", "JPEG", "WEBP"):
        whole = saved(Image.fromarray(RANDOM), kind)
        for content in (b"", b"text", whole[:5], whole[:20], whole[: len(whole) // 2]):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=r"bad\.bin is not a readable image"):
                read_image(path)
    with pytest.raises(ValueError, match="is not a readable image"):
        decode_image(saved(Image.fromarray(RANDOM), "GIF"), "a")
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.png")
    with pytest.raises(ValueError, match="is not a readable image"):
        read_image(tmp_path)


def test_black_letters_on_transparency_stand_on_white() -> None:
    for name in ("b_rgba_clear_black_under", "h_p_clear"):
        shown = read_image(CASES / "modes" / f"{name}.png")
        assert shown.min() <= 1 and (shown == 255).mean() > 0.9
    image = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((10, 5, 20, 15), (255, 0, 0, 255))
    shown = decode_image(saved(image, "WEBP", lossless=True), "a")
    assert shown[0, 0].tolist() == [255] * 3 and shown[10, 15].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "the file is empty"), (b"a caption\n", "it holds text"), (b"GIF89a" + bytes(20), "it holds GIF"),
        (bytes(4) + b"ftypheic" + bytes(9), "HEIC"), (b"\xff\x00\x17" * 9, "of none of these formats"),
    ],
)  # fmt: skip
def test_what_a_file_holds_instead_of_an_image_is_said(content: bytes, found: str) -> None:
    with pytest.raises(ValueError, match=rf"^a\.png is not a readable image \(PNG, JPEG, WEBP\): .*{found}"):
        decode_image(content, "a.png")
