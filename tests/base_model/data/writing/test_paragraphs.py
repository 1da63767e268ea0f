"""Pure images: written whole, boxes round the ink, captions that say what there is, a function of (seed, index)."""

from __future__ import annotations

import unicodedata
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageDraw

from base_model.data.writing.corpora import Corpus, own_corpus, phrase, rare_text, standard_set
from base_model.data.writing.faces import FACES, LANGUAGES, font
from base_model.data.writing.grounds import CONTRAST, contrast, ink_and_ground, varied
from base_model.data.writing.paragraphs import write_paragraph
from base_model.data.writing.text_lines import NO_END, NO_START, Type, broken, fitted, placed, render_lines
from base_model.data.writing.writer import Sources, in_face, is_rare, lot, turn, write
from base_model.data.writing.written_image import Unwritable, Writing, WrittenImage, bounds

ALL = Writing(seed=5, languages=LANGUAGES, size=(256, 256))
NOTHING = Sources()
PROBE = {
    "en": "Jolly fox, why quit? 42", "zh-Hans": "你好，世界！“龙”", "zh-Hant": "請問，龍在哪裡？",
    "ja": "ガラスを、食べる。", "ko": "안녕하세요, 세계!",
}  # fmt: skip


def image_of(index: int, plan: Writing = ALL) -> WrittenImage:
    return write(plan, index, NOTHING)[0]


def test_an_image_is_a_function_of_seed_and_index_alone() -> None:
    first = [image_of(index) for index in (3, 40, 7)]
    for index in range(12):
        image_of(index)
    again = [image_of(index) for index in (7, 40, 3)][::-1]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.pixels_HW3, other.pixels_HW3)
        assert one.record("a") == other.record("a")
    assert not np.array_equal(
        image_of(3).pixels_HW3, image_of(3, Writing(6, languages=LANGUAGES, size=(256, 256))).pixels_HW3
    )


def test_kinds_and_languages_have_their_exact_shares() -> None:
    plan = Writing(kinds=("pure", "pure", "complex"), languages=("en", "ja"))
    turns = [turn(plan, index) for index in range(60)]
    assert Counter(each[:2] for each in turns) == {
        ("pure", "en"): 20, ("pure", "ja"): 20, ("complex", "en"): 10, ("complex", "ja"): 10,
    }  # fmt: skip
    for pair in {each[:2] for each in turns}:
        numbers = sorted(number for *own, number in turns if tuple(own) == pair)
        assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("index", range(0, 60, 3))
def test_lines_say_the_text_and_stand_in_the_image(index: int) -> None:
    image = image_of(index)
    assert "".join(line.text for line in image.lines).replace(" ", "") == image.text.replace(" ", "")
    for line in image.lines:
        assert "".join(c for c, _ in line.characters) == line.text.replace(" ", "")
        left, top, right, bottom = bounds([line.quad, *(quad for _, quad in line.characters)])
        assert left >= -1 and top >= -1 and right <= 257 and bottom <= 257
        assert line.size >= FACES[line.face].least
        assert line.text[0] not in NO_START and line.text[-1] not in NO_END


@pytest.mark.parametrize("name", FACES)
def test_boxes_are_round_the_ink_of_their_characters(name: str) -> None:
    """Ink outside of all boxes is under a hundredth; a box that is filled with paper takes its own ink away."""
    face = FACES[name]
    kind = Type(face, face.weights[-1], 40)
    (row,) = placed([in_face(face, PROBE[face.languages[0]], face.languages[0])], kind, (20, 20, 800), 1.4, "left")
    image = Image.new("RGB", (840, 120), (255, 255, 255))
    render_lines(image, [row], (0, 0, 0))
    ink = 255.0 - np.asarray(image)[..., 0]
    inside = np.zeros_like(ink, dtype=bool)
    for character, quad in row.characters:
        left, top, right, bottom = (round(side) for side in bounds([quad]))
        own = ink[top:bottom, left:right]
        assert own.size and own.max() > 100, f"no ink in the box of {character!r}"
        alone = Image.new("L", (840, 120))
        ImageDraw.Draw(alone).text((20, 20), character, fill=255, font=font(face, kind.weight, 40))
        box = alone.getbbox()
        assert abs((right - left) - (box[2] - box[0])) <= 2 and abs((bottom - top) - (box[3] - box[1])) <= 2, character
        inside[top:bottom, left:right] = True
    assert ink[~inside].sum() < 0.01 * ink.sum()


@pytest.mark.parametrize("name", FACES)
def test_ink_stands_in_the_middle_of_its_line(name: str) -> None:
    """Faces differ much in ascent and descent; capitals and characters stand at one height all the same."""
    face = FACES[name]
    (row,) = placed(
        ["H" if face.languages == ("en",) else "国"], Type(face, face.weights[0], 100), (0, 50, 0), 1.2, "left"
    )
    _, top, _, bottom = bounds([row.characters[0][1]])
    assert (top + bottom) / 2 == pytest.approx(50 + 60, abs=13)
    assert row.quad[0][1] <= top and row.quad[2][1] >= bottom


def test_a_text_is_written_whole_or_not_at_all() -> None:
    face = FACES["Lora"]
    with pytest.raises(Unwritable, match=r"'雨' \(U\+96E8\) not in the face"):
        in_face(face, "rain is 雨 in Chinese", "en")
    with pytest.raises(Unwritable, match="too long for the canvas"):
        write_paragraph(lot(0, 0, 0, "a"), "word " * 400, "en", face, (96, 96))
    with pytest.raises(Unwritable, match="too long for the canvas"):  # it would fit where nobody can read it
        write_paragraph(
            lot(0, 0, 0, "a"), "a letter from the old harbour " * 5, "en", FACES["Dancing Script"], (128, 128)
        )
    assert in_face(FACES["Bebas Neue"], "Choose file", "en") == "CHOOSE FILE"


def test_what_cannot_be_written_is_named_and_another_text_is_taken() -> None:
    corpora = {"en": Corpus("en", ("fine words", "rain is 雨 here"))}
    plan = Writing(languages=("en",), size=(128, 128), rare=0.0)
    results = [write(plan, index, Sources(corpora)) for index in range(12)]
    assert {image.text.lower() for image, _ in results} == {"fine words"}
    assert {reason.reason for _, reasons in results for reason in reasons} >= {"'雨' (U+96E8) not in the face"}
    with pytest.raises(ValueError, match=r"image 0 \(pure, en, 128x128\): none of 40 texts .* name a face that has it"):
        write(plan, 0, Sources({"en": Corpus("en", ("rain is 雨 here",))}))
    with pytest.raises(ValueError, match="too long for the canvas at the least size of the face; take a larger size"):
        write(plan, 0, Sources({"en": Corpus("en", ("rain " * 400,))}))


def test_chinese_breaks_by_its_rules() -> None:
    kind = Type(FACES["Noto Sans SC"], 400, 20)
    lines = broken("他说：“你好，世界。”然后（真的）走了。", kind.width, 84)
    assert lines is not None and "".join(lines) == "他说：“你好，世界。”然后（真的）走了。"
    assert not any(line[0] in NO_START or line[-1] in NO_END for line in lines)
    assert broken("unbreakable", kind.width, 20) is None
    assert broken("two words", Type(FACES["Inter"], 400, 20).width, 70) == ["two", "words"]


def test_the_largest_size_that_fits_is_taken() -> None:
    face = FACES["Inter"]
    fit = fitted("Fit me into the box, please", face, 400, (200, 120), (10, 80), 1.3)
    assert fit is not None
    kind, lines = fit
    assert all(kind.width(line) <= 200 for line in lines) and len(lines) * kind.size * 1.3 <= 140
    assert fitted("Fit me into the box, please", face, 400, (200, 120), (kind.size + 3, 80), 1.3) is None
    assert fitted("W", face, 400, (5, 5), (10, 80), 1.3) is None


def test_captions_name_text_face_size_colour_and_place() -> None:
    for index in range(10):
        image = image_of(index)
        english, chinese = image.captions
        line = image.lines[0]
        assert image.text in english and image.text in chinese
        assert line.colour in english and line.face.rstrip(" 0123456789") in english
        assert any(word in english for word in ("tiny", "small", "medium", "large", "huge"))
        assert any(word in english for word in ("top", "middle", "bottom"))
        assert "aligned" in english or "centred" in english
        assert "字号" in chinese and "色" in chinese and "位于" in chinese


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21.0)
    assert contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)
    assert contrast((255, 0, 0), (255, 255, 255)) == pytest.approx(4.0, abs=0.01)
    assert contrast((0, 0, 255), (255, 255, 255)) == pytest.approx(8.59, abs=0.01)


def test_ink_is_legible_on_its_ground() -> None:
    for index in range(200):
        rng = lot(1, index, 0, "ink")
        ink, ground = ink_and_ground(rng)
        assert contrast(varied(ink, rng), varied(ground, rng)) >= CONTRAST - 0.5


@pytest.mark.parametrize("language", LANGUAGES)
def test_rare_characters_all_appear_before_one_comes_again(language: str) -> None:
    alphabet = standard_set(language)
    pages = -(-len(alphabet) // 24)
    shown = Counter(c for page in range(pages) for c in rare_text(language, 4, page) if c != " ")
    assert set(shown) == set(alphabet) and max(shown.values()) <= 2
    assert rare_text(language, 4, 9) == rare_text(language, 4, 9) != rare_text(language, 5, 9)


def test_rare_pages_are_evenly_spread_and_shown() -> None:
    plan = Writing(seed=2, languages=("zh",), size=(256, 256), rare=0.25)
    assert [ordinal for ordinal in range(12) if is_rare(plan, ordinal)] == [3, 7, 11]
    assert image_of(7, plan).text == rare_text("zh-Hans", 2, 1)
    assert not any(is_rare(Writing(rare=0.0), ordinal) for ordinal in range(50))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_vocabulary_fills_every_slot_and_stays_in_its_language(language: str) -> None:
    rng = lot(0, 0, 0, language)
    for key in ("sentences", "titles", "points", "signs", "notes"):
        for _ in range(60):
            text = phrase(language, key, rng)
            assert "{" not in text and text == text.strip()
    texts = [Corpus(language).paragraph(rng, (40, 120)) for _ in range(40)]
    assert len(set(texts)) > 30 and max(map(len, texts)) <= 120
    letters = (3000, 3600) if language == "en" else (6000, 7200)
    assert 2700 <= len(Corpus(language).paragraph(rng, letters)) <= 3600


def test_own_texts_in_another_language_are_left_out() -> None:
    rows = [
        "请选择文件夹，然后单击确定。",
        "Choose a folder, then click OK.",
        "請選擇資料夾，然後點選確定。",
        "フォルダを選んで、押す。",
    ]
    corpus, left_out = own_corpus("zh-Hans", rows)
    assert corpus.own == (rows[0],) and left_out == rows[1:]
    assert own_corpus("en", rows)[0].own == (rows[1],)
    assert own_corpus("zh-Hant", rows)[0].own == (rows[2],)
    assert own_corpus("ja", rows)[0].own == (rows[3],)
    with pytest.raises(ValueError, match="none of 4 paragraphs is in the language ko"):
        own_corpus("ko", rows)


def test_letters_and_marks_of_own_texts_are_put_together() -> None:
    """Files of some systems have them apart, and so no face could write them."""
    apart = unicodedata.normalize("NFD", "한국어 글")
    assert own_corpus("ko", [apart])[0].own == ("한국어 글",)
    assert own_corpus("en", ["cafe\u0301"])[0].own == ("café",)


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"kinds": ("cartoon",)}, "cartoon"), ({"kinds": ()}, "kinds"), ({"languages": ()}, "no language"),
     ({"size": (8, 512)}, "size=\\(8, 512\\)"), ({"length": (9, 3)}, "length"), ({"rare": 1.5}, "rare=1.5"),
     ({"seed": -1}, "seed=-1")],
)  # fmt: skip
def test_settings_that_cannot_work_are_named(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Writing(**setting)
