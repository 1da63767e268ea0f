"""Complex images: what typst sets is what the slots say, every character has its box, and nothing is cut or hidden."""

from __future__ import annotations

import json
from collections import Counter

import cv2
import numpy as np
import pytest

from base_model.data.writing import documents
from base_model.data.writing.corpora import Corpus
from base_model.data.writing.documents import DOCUMENTS, SCALES, hidden_at_ends, overlapping, write_document
from base_model.data.writing.faces import FACES, LANGUAGES, faces_of
from base_model.data.writing.grounds import COLOURS
from base_model.data.writing.typesetting import TEMPLATES, Set, typeset
from base_model.data.writing.wording import size_word
from base_model.data.writing.writer import Sources, lot, write
from base_model.data.writing.written_image import Unwritable, Writing, WrittenImage, bounds

SIZE = (384, 384)
PLAN = Writing(seed=8, kinds=("complex",), languages=LANGUAGES, size=SIZE)


def document(name: str, language: str = "en", seed: int = 0, size: tuple[int, int] = SIZE) -> WrittenImage:
    """The first document of a template that can be written."""
    face = faces_of(language)[0]
    for attempt in range(30):
        try:
            return write_document(lot(seed, attempt, 0, name), name, language, (face, face), Corpus(language), size)
        except Unwritable:
            continue
    raise AssertionError(f"no {name} in {language}")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_says_its_slots_and_nothing_else(name: str, language: str) -> None:
    image = document(name, language)
    slots = image.facts["slots"]
    assert "".join(line.text for line in image.lines).replace(" ", "") == "".join("".join(slots).split())
    for line in image.lines:
        assert "".join(c for c, _ in line.characters) == line.text.replace(" ", "")
        assert line.size >= FACES[line.face].least and line.colour in COLOURS
        left, top, right, bottom = bounds([quad for _, quad in line.characters])
        assert left >= 0 and top >= 0 and right <= SIZE[1] and bottom <= SIZE[0]
    assert image.kind == f"complex/{name}" and len(slots) >= 4
    english, chinese = image.captions
    for slot in slots:
        assert slot in english and slot in chinese
    for line in image.lines:
        face, size = line.face.rstrip(" 0123456789"), size_word(line.size, SIZE[0])
        assert f"{line.colour} " in english and COLOURS[line.colour].chinese in chinese
        assert face in english and face in chinese and size[0] in english and f"{size[1]}字号" in chinese
    assert ("at the top" in english or "in the middle" in english) and "位于" in chinese


@pytest.mark.parametrize("name", DOCUMENTS)
def test_boxes_are_round_the_ink_of_a_document(name: str) -> None:
    """Each box has pixels that differ from what is just outside of it, and covers them."""
    image = document(name)
    grey = cv2.cvtColor(image.pixels_HW3, cv2.COLOR_RGB2GRAY).astype(int)
    for line in image.lines:
        for character, quad in line.characters:
            left, top, right, bottom = (round(side) for side in bounds([quad]))
            part = grey[max(0, top) : bottom + 1, max(0, left) : right + 1]
            assert part.max() - part.min() > 40, (character, quad)
            height, width = part.shape
            ink = np.abs(part - np.median([part[0, 0], part[0, -1], part[-1, 0], part[-1, -1]])) > 40
            if min(height, width) >= 6:
                assert ink.any(0).sum() >= 0.5 * width and ink.any(1).sum() >= 0.5 * height, character


def test_a_document_is_a_function_of_its_index() -> None:
    """Also of names that are invented, and of what typst set before."""
    first = [write(PLAN, index, Sources())[0] for index in (0, 11, 7)]
    for index in range(20, 26):
        write(PLAN, index, Sources())
    again = [write(PLAN, index, Sources())[0] for index in (7, 11, 0)][::-1]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.pixels_HW3, other.pixels_HW3) and one.record("") == other.record("")


def test_templates_take_turns_and_are_all_there() -> None:
    plan = Writing(seed=8, kinds=("complex",), languages=("en",), size=SIZE)
    kinds = Counter(write(plan, index, Sources())[0].kind for index in range(12))
    assert kinds.keys() == {f"complex/{name}" for name in DOCUMENTS} and max(kinds.values()) <= 3
    assert {path.stem for path in TEMPLATES.glob("*.typ")} == {*DOCUMENTS, "style"}
    assert SCALES.keys() == {*DOCUMENTS, "poster with photograph"}


@pytest.mark.parametrize("size", [(256, 512), (512, 288), (256, 256)])
def test_documents_have_the_size_that_is_asked_for(size: tuple[int, int]) -> None:
    plan = Writing(kinds=("complex",), languages=("en", "ja"), size=size)
    for index in range(6):
        assert write(plan, index, Sources())[0].pixels_HW3.shape == (*size, 3)


@pytest.mark.parametrize("language", ["en", "zh-Hant"])
def test_a_document_that_would_be_too_small_to_read_is_set_larger(language: str) -> None:
    """A ticket of this size, at the largest type of its template, has lines of 10 pixels."""
    image = document("ticket", language, size=(256, 256))
    least = faces_of(language)[0].least
    assert least <= min(line.size for line in image.lines) < 1.05 * least


class Red:
    """A photograph that is all red."""

    def __len__(self) -> int:
        return 1

    def pixels(self, index: int) -> np.ndarray:
        return np.full((500, 500, 3), (250, 0, 0), np.uint8)

    def caption(self, index: int) -> str:
        return "a red wall."


def test_some_posters_have_a_photograph_below_their_text() -> None:
    plan, with_photo = Writing(kinds=("complex",), languages=("en",), size=SIZE), 0
    for index in range(1, 73, 6):
        image = write(plan, index, Sources(photographs=Red()))[0]
        assert image.kind == "complex/poster"
        red = (image.pixels_HW3 == (250, 0, 0)).all(axis=2)
        with_photo += bool(red.any())
        assert image.captions[0].endswith("; below it a red wall") == bool(red.any())
        if red.any():
            top = int(np.flatnonzero(red.all(1))[0])
            assert red[top:].all() and top <= SIZE[0] * 2 / 3 + 1
            assert max(line.quad[2][1] for line in image.lines) < top
    assert 2 <= with_photo <= 10


def test_the_stripes_of_a_poster_cross_no_text() -> None:
    striped = 0
    for seed in range(40):
        image = document("poster", "en", seed)
        whole = (image.pixels_HW3 == image.pixels_HW3[:, :1]).all((1, 2))  # rows of one colour
        stripes = whole & (image.pixels_HW3[:, 0] != image.pixels_HW3[0, 0]).any(1)
        if not stripes[-1]:
            continue
        striped += 1
        lowest = max(bounds([quad for _, quad in line.characters])[3] for line in image.lines)
        assert lowest < np.flatnonzero(stripes)[0]
    assert striped > 1


def test_names_and_places_of_templates_do_not_move_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot that the template does not set, or sets in another order, is seen."""

    def swapped(template: str, fields: str) -> Set:
        values = json.loads(fields)
        values["points"] = values["points"][::-1]
        return typeset(template, json.dumps(values))

    monkeypatch.setattr(documents, "typeset", swapped)
    with pytest.raises(Unwritable, match="is not where it was set in slide"):
        write_document(lot(0, 0, 0, "a"), "slide", "en", (FACES["Inter"],) * 2, Corpus("en"), SIZE)

    def longer(template: str, fields: str) -> Set:
        values = json.loads(fields)
        values["footer"] += " more"
        return typeset(template, json.dumps(values))

    monkeypatch.setattr(documents, "typeset", longer)
    with pytest.raises(Unwritable, match="is in no slot"):
        write_document(lot(0, 0, 0, "a"), "slide", "en", (FACES["Inter"],) * 2, Corpus("en"), SIZE)


def test_text_that_needs_a_second_page_is_discarded() -> None:
    corpus = Corpus("en", ("word " * 300 + "end",))
    with pytest.raises(Unwritable, match="more than one page"):
        write_document(lot(0, 0, 0, "a"), "page", "en", (FACES["Inter"],) * 2, corpus, SIZE)


def test_a_character_that_the_face_lacks_discards_the_document() -> None:
    corpus = Corpus("en", ("a text with 雨 in the middle of it",))
    with pytest.raises(Unwritable, match=r"'雨' \(U\+96E8\)"):
        write_document(lot(0, 0, 0, "a"), "poster", "en", (FACES["Inter"],) * 2, corpus, SIZE)


def test_lines_that_are_over_one_another_are_seen() -> None:
    boxes = np.asarray([[0, 0, 10, 10], [0, 12, 10, 22], [20, 0, 30, 10]], dtype=float)
    assert not overlapping(boxes)
    assert overlapping(np.vstack([boxes, [5, 5, 15, 15]]))


@pytest.mark.parametrize(
    ("check", "reason"), [("overlapping", "over one another"), ("hidden_at_ends", "too little contrast")]
)
def test_documents_that_are_hard_to_read_are_discarded(
    check: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, check, lambda *given: True)
    with pytest.raises(Unwritable, match=reason):
        write_document(lot(0, 0, 0, "a"), "menu", "en", (FACES["Inter"],) * 2, Corpus("en"), SIZE)


def test_ink_that_is_hidden_at_one_end_is_seen() -> None:
    pixels = np.full((40, 100, 3), 255, np.uint8)
    box = np.asarray([20.0, 10.0, 70.0, 30.0])
    assert not hidden_at_ends(pixels, box, (0, 0, 0))
    assert hidden_at_ends(pixels, box, (200, 200, 200))
    pixels[:, 68:] = 20
    assert hidden_at_ends(pixels, box, (0, 0, 0))
    pixels[:, 68:] = 255
    pixels[:14, :30] = 20
    assert hidden_at_ends(pixels, box, (0, 0, 0))


def test_a_menu_lists_dishes_in_their_groups_and_a_journey_has_two_ends() -> None:
    for seed in range(20):
        p = documents.Phrases("en", lot(seed, 0, 0, "menu"), Corpus("en"))
        words = documents.vocabulary("en")
        by_group = dict(zip(words["dish_groups"], words["dishes"], strict=True))
        for group in documents.menu(p).fields["groups"]:
            assert {dish for dish, _ in group["dishes"]} <= set(by_group[group["name"]])
        cities = [city for _, city in documents.ticket(p).fields["cities"]]
        assert len(set(cities)) == len(cities)
