"""Compositional images: what is measured on a photograph, and that what is put into it is like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from base_model.data.writing import surfaces
from base_model.data.writing.faces import FACES, LANGUAGES
from base_model.data.writing.photographs import MOST_BLUR, blur_of, cut_out, measured, noise_of
from base_model.data.writing.surfaces import (
    LEGIBLE,
    SURFACES,
    homography,
    inks_of,
    legibility,
    put_into,
    rendered_flat,
    seen,
    shadow,
)
from base_model.data.writing.text_lines import Type, as_line, placed
from base_model.data.writing.writer import Sources, lot, write
from base_model.data.writing.written_image import Unwritable, Writing, bounds

SIZE = (256, 256)
SIZE_WORDS = ("tiny", "small", "medium", "large", "huge")
PLAN = Writing(seed=3, kinds=("compositional",), languages=LANGUAGES, size=SIZE, length=(6, 30))


class Scenes:
    """Made-up photographs: rectangles of many greys with a known blur and a known noise."""

    def __init__(self, count: int = 3, blur: float = 0.0, noise: float = 0.0, captions: Sequence[str] = ()) -> None:
        self._count, self._blur, self._noise, self._captions = count, blur, noise, captions

    def __len__(self) -> int:
        return self._count

    def pixels(self, index: int) -> np.ndarray:
        rng = np.random.default_rng([7, index])
        levels = np.full((384, 384), 120.0, np.float32)
        for _ in range(40):
            top, left, height, width = rng.integers(0, 384, 4)
            levels[top : top + height // 4, left : left + width // 4] = rng.integers(20, 230)
        if self._blur:
            levels = cv2.GaussianBlur(levels, (0, 0), self._blur)
        levels = levels[..., None] + self._noise * rng.standard_normal((384, 384, 1), dtype=np.float32)
        return np.repeat(np.clip(levels, 0, 255).astype(np.uint8), 3, axis=2)

    def caption(self, index: int) -> str:
        return self._captions[index] if self._captions else ""


SHARP = Sources(photographs=Scenes())


@pytest.mark.parametrize("blur", [0.8, 1.2, 2.0, 3.0])
def test_the_blur_of_a_photograph_is_measured(blur: float) -> None:
    level = Scenes(blur=blur).pixels(0)[..., 0].astype(np.float32)
    assert blur_of(level) == pytest.approx(blur, rel=0.2)


def test_the_sharpest_photograph_is_sharper_than_any_and_a_flat_one_has_no_edge() -> None:
    assert blur_of(Scenes().pixels(0)[..., 0].astype(np.float32)) < 0.7
    assert blur_of(np.full((64, 64), 90.0, np.float32)) == MOST_BLUR


@pytest.mark.parametrize("sigma", [1.5, 4.0, 8.0])
def test_the_noise_of_a_photograph_is_measured_beside_its_edges(sigma: float) -> None:
    level = Scenes(noise=sigma).pixels(1)[..., 0].astype(np.float32)
    assert noise_of(level) == pytest.approx(sigma, rel=0.25)
    assert noise_of(Scenes().pixels(1)[..., 0].astype(np.float32)) < 0.5


def composed(blur: float, noise: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The photograph's part, the finished image, where the ink is, and where the whole thing is."""
    rng = lot(seed, 0, 0, "composed")
    sign = next(surface for surface in SURFACES if surface.name == "sign")
    pixels, _ = cut_out(Scenes(blur=blur, noise=noise), rng, SIZE)
    flat = rendered_flat(rng, replace(sign, texture="plain", grounds=("blue",)), "OPEN", FACES["Inter"], (330, 330))
    camera = homography(rng, flat.pixels_HW3.shape[:2], SIZE, 0.9)
    finished, ink = put_into(rng, measured(pixels), flat, camera, sign)
    shape = cv2.warpPerspective(flat.shape_HW, camera, SIZE[::-1])
    return pixels, finished, ink, shape


@pytest.mark.parametrize("blur", [0.9, 1.6, 2.4])
def test_what_is_put_in_is_as_sharp_as_the_photograph(blur: float) -> None:
    pixels, finished, _, shape = composed(blur, 0.0)
    inside = cv2.erode(shape, np.ones((9, 9), np.uint8)) == 255
    box = bounding(inside)
    of_photograph = blur_of(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32))
    of_thing = blur_of(cv2.cvtColor(finished, cv2.COLOR_RGB2GRAY).astype(np.float32)[box])
    assert of_thing == pytest.approx(of_photograph, rel=0.25, abs=0.3)


def bounding(mask: np.ndarray) -> tuple[slice, slice]:
    """The largest middle part of a mask that a box can hold: the middle two thirds of what it covers."""
    ys, xs = np.nonzero(mask)
    top, bottom, left, right = ys.min(), ys.max(), xs.min(), xs.max()
    by, bx = (bottom - top) // 6, (right - left) // 6
    return slice(top + by, bottom - by), slice(left + bx, right - bx)


@pytest.mark.parametrize("noise", [0.0, 3.0, 7.0])
def test_what_is_put_in_is_as_grainy_as_the_photograph(noise: float) -> None:
    pixels, finished, _, shape = next(
        result for result in (composed(0.6, noise, seed) for seed in range(1, 20)) if is_uncompressed(result)
    )
    box = bounding(cv2.erode(shape, np.ones((9, 9), np.uint8)) == 255)
    level = cv2.cvtColor(finished, cv2.COLOR_RGB2GRAY).astype(np.float32)
    of_photograph = noise_of(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32))
    assert noise_of(level[box]) == pytest.approx(of_photograph, rel=0.25, abs=0.6)


def is_uncompressed(result: tuple[np.ndarray, ...]) -> bool:
    """Whether the corners, which no thing or shadow reaches, are the photograph's own."""
    pixels, finished, _, shape = result
    return bool(not shape[:8, :8].any() and (pixels[:4, :4] == finished[:4, :4]).all())


def test_the_shadow_darkens_what_is_near_the_thing_alone() -> None:
    shape = np.zeros((200, 200), np.uint8)
    shape[60:140, 60:140] = 255
    left = shadow(lot(0, 0, 0, "shadow"), shape, SURFACES[0])
    assert left.max() <= 1.0 and left[141:144, 70:130].mean() < 0.9
    assert (left[:20] > 0.999).all() and (left[:, :20] > 0.999).all()
    assert left[141:144, 70:130].mean() < left[56:59, 70:130].mean(), "light comes from above"


@pytest.mark.parametrize("index", range(0, 24, 2))
def test_boxes_go_where_the_camera_puts_the_ink(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []
    monkeypatch.setattr(surfaces, "put_into", lambda *given: masks.append(put_into(*given)) or masks[-1])
    image, _ = write(PLAN, index, SHARP)
    ink = masks[-1][1].astype(float)
    inside = np.zeros(SIZE, np.uint8)
    for line in image.lines:
        assert line.size >= FACES[line.face].least
        assert "".join(c for c, _ in line.characters) == line.text.replace(" ", "")
        for character, quad in line.characters:
            cell = cv2.fillConvexPoly(np.zeros(SIZE, np.uint8), np.round(quad).astype(np.int32), 1)
            assert ink[cell > 0].max() > 60, character
            inside |= cell
        left, top, right, bottom = bounds([quad for _, quad in line.characters])
        assert left >= 0 and top >= 0 and right <= SIZE[1] and bottom <= SIZE[0]
    inside = cv2.dilate(inside, np.ones((3, 3), np.uint8))
    assert ink[inside == 0].sum() < 0.01 * ink.sum()


def test_text_in_a_blurred_photograph_is_larger() -> None:
    blurred = Sources(photographs=Scenes(blur=3.0))
    for index in range(0, 20, 4):
        image = write(PLAN, index, blurred)[0]
        assert min(line.size for line in image.lines) >= FACES[image.lines[0].face].least + 4


def test_lines_that_are_too_small_or_leave_the_image_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    face = FACES["Inter"]
    row = as_line(placed(["OPEN"], Type(face, 400, 20), (50, 50, 100), 1.2, "left")[0], "black", (0, 0, 0))
    surfaces.require_readable((row,), face, 1.0, SIZE)
    with pytest.raises(Unwritable, match="smaller than the least size"):
        surfaces.require_readable((row,), face, 3.0, SIZE)
    with pytest.raises(Unwritable, match="would leave the image"):
        surfaces.require_readable((row,), face, 1.0, (60, 256))
    monkeypatch.setattr(surfaces, "OWN_BLUR", 0.0)

    def large(pixels: np.ndarray) -> object:
        return replace(measured(pixels), blur=60.0)

    monkeypatch.setattr(surfaces, "measured", large)
    with pytest.raises(ValueError, match="smaller than the least size of the face once it is in the photograph"):
        write(PLAN, 0, SHARP)


def test_text_that_the_light_hides_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surfaces, "legibility", lambda pixels, ink: 2.9)
    with pytest.raises(ValueError, match="too little contrast in the light of the photograph"):
        write(PLAN, 0, SHARP)


def test_a_thing_is_as_bright_as_its_part_of_the_photograph() -> None:
    """Darker on the dark side, whatever its own slope; a screen, which shines itself, less so."""
    pixels = np.full((*SIZE, 3), 60, np.uint8)
    pixels[:, 128:] = 200
    ratios = {}
    for name in ("paper", "screen"):
        surface = next(each for each in SURFACES if each.name == name)
        light = [surfaces.lit(lot(seed, 0, 0, "light"), measured(pixels), surface) for seed in range(40)]
        ratios[name] = float(np.mean([each[:, 192:].mean() / each[:, :64].mean() for each in light]))
    assert ratios["paper"] > 1.15 and 1.03 < ratios["screen"] < ratios["paper"] - 0.05


def test_a_camera_turns_boxes_with_their_lines() -> None:
    """A quarter turn about the origin, twice as large."""
    flat = rendered_flat(lot(0, 0, 0, "f"), SURFACES[4], "OPEN", FACES["Inter"], (200, 300))
    line = as_line(flat.rows[0], *flat.ink)
    turned = seen(line, np.asarray([[0.0, -2.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert np.allclose(turned.quad, [(-2 * y, 2 * x) for x, y in line.quad])
    assert turned.size == pytest.approx(2 * line.size)


def test_ink_that_the_light_hides_is_refused() -> None:
    pixels = np.full((40, 40, 3), 100, np.uint8)
    ink = np.zeros((40, 40), np.uint8)
    ink[15:25, 15:25] = 255
    pixels[15:25, 15:25] = 130
    assert legibility(pixels, ink) < LEGIBLE
    pixels[15:25, 15:25] = 240
    assert legibility(pixels, ink) > LEGIBLE
    assert legibility(pixels, np.zeros((40, 40), np.uint8)) == 0.0


def test_an_image_is_a_function_of_its_index_and_has_its_captions() -> None:
    sources = Sources(photographs=Scenes(2, captions=("a quiet street.", "")))
    first = [write(PLAN, index, sources)[0] for index in (4, 9, 5)]
    again = [write(PLAN, index, sources)[0] for index in (5, 4, 9)]
    for one, other in zip(first, [again[1], again[2], again[0]], strict=True):
        assert np.array_equal(one.pixels_HW3, other.pixels_HW3) and one.record("") == other.record("")
        english, chinese = one.captions
        assert one.text in english and one.text in chinese and one.kind.startswith("compositional/")
        assert english.endswith("; behind it a quiet street") == (one.facts["photograph"] == 0)
        assert one.lines[0].colour in english and one.facts["ground"] in english
        face = one.lines[0].face.rstrip(" 0123456789")
        assert face in english and face in chinese
        assert any(f", {size}, " in english for size in SIZE_WORDS) and "字号" in chinese and "位于" in chinese


def test_every_thing_has_a_legible_ink_on_each_of_its_grounds() -> None:
    for surface in SURFACES:
        for ground in surface.grounds:
            assert inks_of(surface, ground), (surface.name, ground)


def test_photographs_that_cannot_be_used_are_named() -> None:
    class Broken(Scenes):
        def pixels(self, index: int) -> np.ndarray:
            raise ValueError("a.png is damaged")

    with pytest.raises(Unwritable, match=r"a\.png is damaged"):
        cut_out(Broken(), lot(0, 0, 0, "a"), SIZE)
    with pytest.raises(Unwritable, match="384x384 pixels are too few for images of 2048x2048"):
        cut_out(Scenes(), lot(0, 0, 0, "a"), (2048, 2048))
    with pytest.raises(ValueError, match="there are none"):
        write(PLAN, 0, Sources())
