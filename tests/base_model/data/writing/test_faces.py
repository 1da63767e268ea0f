"""Which characters a face can write: by its table, by ink, by language; what has to be shaped is refused by name."""

from __future__ import annotations

import copy
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import ImageFont

from base_model.data.writing import faces
from base_model.data.writing.corpora import standard_set
from base_model.data.writing.faces import (
    FACES,
    LANGUAGES,
    Face,
    faces_of,
    ink,
    language_named,
    own_face,
    refused,
    small_letters_are_capitals,
    undrawable,
)


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Face:
    """A face whose table of characters claims U+E000, which is blank, and U+E001, which is the box."""
    from fontTools.ttLib import TTFont

    package = tmp_path / "planted_face"
    package.mkdir()
    (package / "__init__.py").touch()
    table = TTFont(FACES["Kalam"].path)
    table.setGlyphOrder([*table.getGlyphOrder(), "box"])
    table["glyf"]["box"] = copy.deepcopy(table["glyf"][".notdef"])
    table["hmtx"]["box"] = table["hmtx"][".notdef"]
    for sub in table["cmap"].tables:
        if sub.isUnicode():
            sub.cmap |= {0xE000: "space", 0xE001: "box"}
    table.save(package / "face.ttf")
    monkeypatch.syspath_prepend(tmp_path)
    yield Face("Planted", "hand", "planted_face", "face.ttf")
    sys.modules.pop("planted_face", None)


def test_a_character_needs_ink_that_is_not_the_missing_box(planted: Face) -> None:
    assert not refused(planted, "Bread & salt, 2.50!", "en")
    assert undrawable(planted, "\ue000") == "leaves no ink"
    assert undrawable(planted, "\ue001") == "is the box of a missing character"
    assert refused(planted, "ab雨", "en") == "Planted: '雨' (U+96E8) not in the face"
    assert refused(planted, "a\ue000b", "en") == "Planted: '\\ue000' (U+E000) leaves no ink"


SETO = Path("/usr/share/fonts/truetype/seto/setofont.ttf")


@pytest.mark.skipif(not SETO.exists(), reason="needs Debian's fonts-seto")
def test_a_face_that_claims_everything_is_refused_where_it_is_blank() -> None:
    """SetoFont's table has all of GB 2312 level 1 and no outline for 454 characters of it."""
    face = own_face(SETO, "zh")
    reasons = Counter(undrawable(face, character) for character in standard_set("zh-Hans"))
    assert reasons == {"": 3301, "leaves no ink": 454}


def test_coverage_is_not_language() -> None:
    """The Japanese face has the character and writes it in its Japanese form."""
    japanese = FACES["Noto Sans JP"]
    assert not undrawable(japanese, "直") and not refused(japanese, "直", "ja")
    assert refused(japanese, "直", "zh-Hans") == "Noto Sans JP does not write zh-Hans"


@pytest.mark.parametrize("name", FACES)
def test_capitals_are_told_by_ink(name: str) -> None:
    assert FACES[name].capitals == small_letters_are_capitals(FACES[name])
    assert FACES[name].capitals == (name == "Bebas Neue")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_sans_and_serif_faces_of_its_own(language: str) -> None:
    assert {"sans", "serif"} <= {face.style for face in faces_of(language)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_face_writes_the_alphabet_of_its_language(language: str) -> None:
    """Every 23rd character of the standard set here, all of them in the slow test."""
    for face in faces_of(language):
        lost = [c for c in standard_set(language)[::23] if undrawable(face, c)]
        assert not lost, (face.name, lost)


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_face_writes_every_character_of_its_language(language: str) -> None:
    for face in faces_of(language):
        lost = [c for c in standard_set(language) if undrawable(face, c)]
        assert not lost, (face.name, lost)


def test_the_standard_sets_are_the_standards_own() -> None:
    sizes = {language: len(standard_set(language)) for language in LANGUAGES}
    assert sizes == {"en": 62, "zh-Hans": 3755, "zh-Hant": 5401, "ja": 2965 + 83 + 86 + 34, "ko": 2350}
    assert all(len(set(standard_set(language))) == count for language, count in sizes.items())


@pytest.mark.parametrize(("text", "script"), [("سلام", "Arabic"), ("नमस्ते", "Devanagari"), ("สวัสดี", "Thai")])
def test_letters_that_have_to_be_shaped_are_refused_by_name(planted: Face, text: str, script: str) -> None:
    assert script in refused(planted, text, "en") and "has to be shaped" in refused(planted, text, "en")


@pytest.mark.parametrize(
    ("text", "why"),
    [("e\u0301", "a combining mark"), ("a\u3099", "a combining mark"), ("a\u200b", "an invisible character"),
     ("co\u00adop", "an invisible character"), ("a\x07", "a control character")],
)  # fmt: skip
def test_characters_that_stand_on_others_or_are_none_are_refused(planted: Face, text: str, why: str) -> None:
    assert refused(planted, text, "en").endswith(f" is {why}")


def test_a_collection_of_ones_own_gives_the_face_of_the_language_in_its_weights() -> None:
    """Its first face is the Japanese one, and a variable face is thin where no weight is set."""
    path = FACES["Noto Sans CJK JP"].path
    names = {language: own_face(path, language) for language in LANGUAGES}
    assert [face.name.split()[-1] for face in names.values()] == ["JP", "SC", "TC", "JP", "KR"]
    chinese, japanese = names["zh-Hans"], names["ja"]
    assert ink(chinese, "直") != ink(japanese, "直"), "in the forms of their languages"
    assert chinese.weights == (400, 700)
    thin, bold = (sum(bytes(faces.font(chinese, weight, 40).getmask("直"))) for weight in (400, 700))
    assert bold > 1.2 * thin and thin > 1.5 * sum(bytes(ImageFont.truetype(str(path), 40, 2).getmask("直")))
    assert own_face(FACES["Kalam"].path, "en").weights == (400,)


def test_a_web_face_is_read_like_any_other(tmp_path: Path) -> None:
    from fontTools.ttLib import TTFont

    table = TTFont(FACES["Kalam"].path)
    table.flavor = "woff"
    table.save(tmp_path / "kalam.woff")
    face = own_face(tmp_path / "kalam.woff", "en")
    assert face.name == "Kalam" and not refused(face, "Bread", "en") and refused(face, "雨", "en")


@pytest.mark.parametrize(("name", "reason"), [("ar", "Arabic"), ("hi", "Hindi"), ("tlh", "'tlh' is not written")])
def test_languages_that_are_not_written_are_refused_by_name(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        language_named(name)


def test_languages_have_the_names_that_people_use() -> None:
    assert [language_named(name) for name in ("EN", "zh", "zh-TW", "jp")] == ["en", "zh-Hans", "zh-Hant", "ja"]


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"face Gone is missing \(fontpkg_gone\): pip install \"glyphlab\[data\]\""):
        faces.font(Face("Gone", "sans", "fontpkg_gone", "files/Gone.ttf"), 400, 12)


def test_few_fonts_are_kept_at_once() -> None:
    """Each takes some megabytes, and every process that writes has its own."""
    for size in range(20, 220):
        faces.font(FACES["Inter"], 400, size)
    assert faces.font.cache_info().currsize <= 64
