"""Single letters, small text on large pages, columns that lean, letters that look turned: read by the real engine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from preference_data.records import Prompt
from rewards.text.ocr_page import OcrPage, PageScorer
from rewards.text.reading.detector import Detector, _clockwise, boxes, cut_out
from rewards.text.reading.ink import ground_of, ink, ink_boxes, text_crop
from rewards.text.reading.read_page import OnnxPage
from rewards.text.recognisers import LINE_HEIGHT, V6_DETECTION, Reading, find_weights
from tests.fixtures.writing import FACES

SERIF = "STIXGeneralBol.ttf"


def letters(text: str, face: str = FACES[1], size: int = 60, canvas: tuple[int, int] = (512, 512), turn: float = 0.0,
            middle: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:  # fmt: skip
    """uint8 (H, W, 3): black on white, in the middle."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    font = ImageFont.truetype(str(Path(spec.origin).parent / "mpl-data/fonts/ttf" / face), size)
    picture = Image.new("RGB", canvas[::-1], "white")
    at = (canvas[1] * middle[0], canvas[0] * middle[1])
    ImageDraw.Draw(picture).text(at, text, font=font, fill="black", anchor="mm")
    return np.asarray(picture.rotate(turn, fillcolor="white", resample=Image.Resampling.BICUBIC))


def value(scorer: PageScorer, text: str, picture: np.ndarray) -> float:
    return float(scorer([Prompt("a", "a", (text,))], picture.transpose(2, 0, 1)[None]).value_B[0])


@pytest.fixture(scope="module")
def ocr() -> PageScorer:
    return OcrPage().load()


@pytest.mark.parametrize("face", [FACES[1], SERIF])
@pytest.mark.parametrize("size", [60, 200])
def test_a_single_letter_or_digit_is_found_and_read(ocr: PageScorer, face: str, size: int) -> None:
    shown = "AFIJKLMTVWXYZ0127" if size == 200 else "ILTVWY17"
    assert {c: value(ocr, c, letters(c, face, size)) for c in shown} == dict.fromkeys(shown, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("face", ["LiberationSans-Bold", "LiberationSans-Regular", "LiberationSerif-Regular"])
def test_all_letters_and_digits_are_read_at_many_sizes(ocr: PageScorer, face: str) -> None:
    file = Path(f"/usr/share/fonts/truetype/liberation/{face}.ttf")
    if not file.is_file():
        pytest.skip(f"{file} is not installed")
    for size in (200, 120, 60):
        for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789":
            picture = Image.new("RGB", (512, 512), "white")
            font = ImageFont.truetype(str(file), size)
            ImageDraw.Draw(picture).text((256, 256), c, font=font, fill="black", anchor="mm")
            assert value(ocr, c, np.asarray(picture)) == 1.0, (size, c)


TALL = [("I", FACES[1], 120, (256, 512)), ("l", FACES[1], 120, (256, 512)), ("i", FACES[1], 60, (256, 512)),
        ("!", SERIF, 200, (256, 512)), ("I", FACES[0], 24, (32, 96)), ("1", FACES[0], 120, (512, 256))]  # fmt: skip


@pytest.mark.parametrize(("text", "face", "size", "canvas"), TALL)
def test_a_tall_letter_is_read_upright(
    ocr: PageScorer, text: str, face: str, size: int, canvas: tuple[int, int]
) -> None:
    assert value(ocr, text, letters(text, face, size, canvas)) == 1.0


def test_thin_letters_and_ampersands_are_what_most_frames_read(ocr: PageScorer) -> None:
    """How much blank stands around a lone letter decides what the engine takes it for: J and ! for 1, & for alpha."""
    sizes = {"J": (40, 60, 300), "!": (40, 120, 200), "&": (60, 200), "i": (120,), "j": (120,)}
    shown = [(c, size) for c in sizes for size in sizes[c]]
    read = {(c, size): value(ocr, c, letters(c, FACES[0], size)) for c, size in shown}
    read |= {("bold !", size): value(ocr, "!", letters("!", FACES[1], size)) for size in (120, 300)}
    read["serif i", 200] = value(ocr, "i", letters("i", "DejaVuSerif.ttf", 200))
    assert read == dict.fromkeys(read, 1.0)


class Same:
    """A recogniser that reads the same in whatever it is shown; and a detector that finds the same."""

    name = "same"

    def __init__(self, reading: Reading, boxes: Sequence[np.ndarray] = ()) -> None:
        self.reading, self.boxes = reading, boxes

    def read(self, line_HW3: np.ndarray) -> Reading:
        return self.reading

    def scale(self, height: int, width: int) -> float:
        return 1.0

    def find(self, picture_HW3: np.ndarray, scale: float | None = None) -> list[np.ndarray]:
        return list(self.boxes)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=float)


def test_a_letter_in_two_boxes_is_tried_whole_however_sure_its_parts_are() -> None:
    page = np.full((300, 300, 3), 255, np.uint8)
    page[60:80, 140:160] = page[100:220, 140:160] = 0
    mask = ink(page)
    assert mask is not None
    reader = OnnxPage(Same(Reading("", 0.0)), Same(Reading("i", 0.8)), 0.5)  # type: ignore[arg-type]
    parts = [box(136, 56, 164, 84), box(136, 96, 164, 224)]
    sure = [Reading("Il", 0.97), Reading("1", 0.97)]
    assert [r.text for r in reader._letter(page, mask, parts, sure)] == ["i"]
    assert reader._letter(page, mask, parts[1:], sure[:1]) == sure[:1]  # one sure line of two letters is no letter
    doubtful = OnnxPage(Same(Reading("", 0.0)), Same(Reading("i", 0.2)), 0.5)  # type: ignore[arg-type]
    assert [r.text for r in doubtful._letter(page, mask, parts, sure)] == ["i"]  # four frames are surer than one
    assert doubtful._letter(page, mask, parts[1:], sure[1:]) == sure[1:]  # without a dot it may be a bar
    bar = OnnxPage(Same(Reading("", 0.0)), Same(Reading("l", 0.99)), 0.5)  # type: ignore[arg-type]
    assert bar._letter(page, mask, parts, sure) == sure  # what has a dot is no bar
    alone = OnnxPage(Same(Reading("", 0.0)), Same(Reading("i", 0.96)), 0.5)  # type: ignore[arg-type]
    assert alone._letter(page, mask, parts[1:], sure[1:]) == sure[1:]  # the surer one counts
    assert alone._letter(page, mask, parts[1:], [Reading("1", 0.95)])[0].text == "i"


def test_what_was_found_already_is_not_found_again_from_nearby() -> None:
    """Small print around a title: seen closer, the title is there too."""
    page = np.full((220, 300, 3), 255, np.uint8)
    for top in range(20, 150, 24):
        page[top : top + 20, 20:24] = 0
    page[150:156, 20:200] = 0
    mask = ink(page)
    assert mask is not None
    title, print_, far = box(60, 40, 180, 100), box(18, 147, 202, 159), box(230, 20, 280, 40)
    assert ink_boxes(mask, [title], 40) == [(20, 20, 200, 160)]
    reader = OnnxPage(Same(Reading("", 0.0), [title, print_, far]), Same(Reading("", 0.0)), 0.5)  # type: ignore[arg-type]
    assert [each.tolist() for each in reader._overlooked(page, mask, [title])] == [print_.tolist()]


def test_i_and_l_differ_in_words_and_other_letters_always(ocr: PageScorer) -> None:
    assert value(ocr, "L", letters("I", size=120)) < 0.1 and value(ocr, "H", letters("I", size=120)) < 0.1
    assert value(ocr, "HELLO", letters("HEIIO", size=60)) < 1.0


@pytest.mark.parametrize(("size", "side"), [(14, 1024), (14, 1328), (20, 2048), (10, 640)])
def test_how_small_text_may_be_does_not_depend_on_the_blank_around(ocr: PageScorer, size: int, side: int) -> None:
    assert value(ocr, "HELLO WORLD", letters("HELLO WORLD", FACES[0], size, (side, side))) == 1.0


def test_small_print_beside_a_title_is_read_too(ocr: PageScorer) -> None:
    title = letters("TITLE", size=120, canvas=(1328, 1328), middle=(0.5, 0.3))
    both = np.minimum(title, letters("small print", FACES[0], 14, (1328, 1328), middle=(0.1, 0.95)))
    prompt = [Prompt("a", "a", ("TITLE", "small print"))]
    assert ocr(prompt, both.transpose(2, 0, 1)[None]).parts["exact"][0] == 1.0


def test_ink_in_no_box_is_found_on_plain_grounds_only() -> None:
    page = np.full((200, 300, 3), 240, np.uint8)
    page[20:40, 20:100], page[150:156, 200:230], page[100, 100] = 10, 10, 10  # a title, small print, one dark pixel
    mask = ink(page)
    assert mask is not None and mask.sum() == 20 * 80 + 6 * 30 + 1
    title = np.array([[18, 18], [102, 18], [102, 42], [18, 42]], dtype=float)
    assert ink_boxes(mask, [title], 40) == [(200, 150, 230, 156)]
    assert sorted(ink_boxes(mask, [], 40)) == [(20, 20, 100, 40), (200, 150, 230, 156)]
    assert ink_boxes(mask, [], 10) == [(200, 150, 230, 156)]  # what is higher is no small print
    assert ink(np.full((40, 40, 3), 9, np.uint8)) is None
    noisy = np.clip(128 + 60 * np.random.default_rng(0).standard_normal((200, 300, 3)), 0, 255).astype(np.uint8)
    assert ink(noisy) is None  # no plain ground
    scattered = np.full((400, 400, 3), 240, np.uint8)
    scattered[20::60, 20::60] = scattered[21::60, 20::60] = scattered[22::60, 20::60] = 0
    scattered[23::60, 20::60] = scattered[24::60, 20::60] = 0
    texture = ink(scattered)
    assert texture is not None and ink_boxes(texture, [], 40) == []


def test_a_frame_around_a_page_is_no_character(ocr: PageScorer) -> None:
    picture = Image.new("RGB", (512, 512), "white")
    ImageDraw.Draw(picture).rectangle((20, 20, 492, 492), outline="black", width=6)
    assert ocr.texts(np.asarray(picture).transpose(2, 0, 1)[None]) == [""]


@pytest.mark.parametrize("shape", ["frame", "circle", "heart", "arrow", "line"])
def test_shapes_beside_a_text_are_no_text(ocr: PageScorer, shape: str) -> None:
    picture = Image.fromarray(letters("OPEN LATE", size=48, middle=(0.5, 0.25)))
    pen = ImageDraw.Draw(picture)
    if shape == "frame":
        pen.rectangle((20, 20, 492, 492), outline="black", width=6)
    elif shape == "circle":
        pen.ellipse((170, 270, 350, 450), outline="red", width=8)
    elif shape == "heart":
        pen.ellipse((270, 270, 330, 330), fill="red")
        pen.ellipse((330, 270, 390, 330), fill="red")
        pen.polygon([(275, 318), (385, 318), (330, 390)], fill="red")
    elif shape == "arrow":
        pen.line((250, 330, 390, 330), fill="black", width=10)
        pen.polygon([(390, 305), (390, 355), (430, 330)], fill="black")
    else:
        pen.line((60, 330, 452, 330), fill="black", width=5)
    assert ocr.texts(np.asarray(picture).transpose(2, 0, 1)[None]) == ["OPEN LATE"]


@pytest.mark.parametrize("wide", [True, False])
def test_corners_begin_at_the_upper_left_however_a_box_leans(wide: bool) -> None:
    half = np.array([300.0, 12.0] if wide else [12.0, 300.0])
    flat = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    rng = np.random.default_rng(0)
    for degrees in range(-44, 45):
        a = np.deg2rad(degrees)
        turned = flat @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) + [500, 400]
        for _ in range(3):
            np.testing.assert_allclose(_clockwise(rng.permutation(turned)), turned, atol=1e-9, err_msg=str(degrees))
    given = np.array([[90, 32], [144, 34], [63, 1607], [9, 1605]])
    assert _clockwise(given).tolist() == given.tolist()


@pytest.mark.parametrize("lean", [-8, -3, 3, 8])
def test_columns_that_lean_are_read(ocr: PageScorer, lean: float) -> None:
    text = "ABCDEFGHJKMNPQRSTVWXYZ2345"
    assert value(ocr, text, letters(text, FACES[0], 30, (900, 900), 90 + lean)) == 1.0
    core = np.zeros((400, 200), np.float32)
    core[20:380, 95:105] = 0.9
    [box] = boxes(core, (1.0, 1.0))
    assert cut_out(np.zeros((400, 200, 3), np.uint8), box).shape[0] > 5 * cut_out(
        np.zeros((400, 200, 3), np.uint8), box
    ).shape[1]  # fmt: skip


def by_side(upright: Reading, turned: Reading) -> Callable[[np.ndarray], Reading]:
    """A recogniser that sees which way up a line is by its dark upper left corner."""
    return lambda line: upright if line[2, 4].mean() < 128 else turned


@pytest.mark.parametrize(
    ("upright", "turned", "wins"),
    [
        (Reading("ABC123", 0.7), Reading("E", 0.95), "ABC123"),  # surer about fewer characters
        (Reading("ABC123", 0.5), Reading("ESIJGV", 0.98), "ESIJGV"),
        (Reading("\u4f60\u597d\u554a", 0.7), Reading("ABCD", 0.95), "\u4f60\u597d\u554a"),  # wide characters are two
        (Reading("OPEN", 0.85), Reading("NEdOX", 0.9), "OPEN"),  # not surer by enough
        (Reading("", 0.0), Reading("HELLO", 0.9), "HELLO"),
        (Reading("OPEN", 0.95), Reading("HELLOHELLO", 1.0), "OPEN"),  # legible: never turned
    ],
)
def test_upside_down_counts_only_when_it_explains_more(upright: Reading, turned: Reading, wins: str) -> None:
    class Fake:
        name = "fake"

        def read(self, line_HW3: np.ndarray) -> Reading:
            assert line_HW3.shape[0] == LINE_HEIGHT
            return by_side(upright, turned)(line_HW3)

    crop = np.full((48, 240, 3), 255, np.uint8)
    crop[:8, :16] = 0
    assert OnnxPage(Detector(find_weights(V6_DETECTION)), Fake(), 0.5)._line(crop).text == wins


@pytest.mark.parametrize("size", [30, 48, 72])
def test_full_width_letters_are_read(ocr: PageScorer, size: int) -> None:
    spec = importlib.util.find_spec("manimgx_fonts_cjk")
    if spec is None or spec.origin is None:
        pytest.skip("the package manimgx-fonts-cjk is not installed")
    font = ImageFont.truetype(str(Path(spec.origin).parent / "NotoSansCJK-VF.otf.ttc"), size, index=2)
    text = "\uff21\uff22\uff23\uff11\uff12\uff13"
    picture = Image.new("RGB", (512, 256), "white")
    ImageDraw.Draw(picture).text((256, 128), text, font=font, fill="black", anchor="mm")
    assert value(ocr, text, np.asarray(picture)) == 1.0


def test_a_w_is_no_m() -> None:
    """Of a single letter nobody can say which side is up: it is read as it stands."""

    class Fake:
        name = "fake"

        def read(self, line_HW3: np.ndarray) -> Reading:
            rows = np.flatnonzero(line_HW3.mean(axis=(1, 2)) < 250)  # darkest where the upper half of the ink is
            upright = line_HW3.mean(axis=(1, 2)).argmin() < rows.mean()
            return Reading("W", 0.8) if upright else Reading("M", 0.99)

    crop = np.full((60, 60, 3), 255, np.uint8)
    crop[10:30, 10:50], crop[30:50, 10:50] = 0, 120
    assert text_crop(crop) is not None
    assert OnnxPage(Detector(find_weights(V6_DETECTION)), Fake(), 0.5)._line(crop).text == "W"


@pytest.mark.parametrize("width", [3, 4])
def test_the_ground_is_the_median_of_the_border_and_a_crop_goes_on_beyond_it(width: int) -> None:
    noise = np.random.default_rng(width).integers(0, 256, (5, width, 3), dtype=np.uint8)
    edge = np.concatenate([noise[0], noise[-1], noise[:, 0], noise[:, -1]])
    np.testing.assert_array_equal(ground_of(noise), np.median(edge, axis=0))
    page = np.full((20, 30, 3), 255, np.uint8)
    page[0:12, 1:9] = (200, 10, 90)
    crop = text_crop(page)
    assert crop is not None
    np.testing.assert_array_equal(crop, np.pad(page[:15, :12], ((3, 0), (2, 0), (0, 0)), mode="edge"))
