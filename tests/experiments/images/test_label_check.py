"""Lines are read back as they are labelled, by the real engine, each by its known corners."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from base_model.data.writing.faces import FACES
from base_model.data.writing.writer import Sources, lot, write
from base_model.data.writing.written_image import Writing
from experiments.benchmarks.data import READ, MadeUp, least_size, shares_read
from experiments.cli import main
from experiments.images import label_check
from experiments.images.label_check import (
    LEAST_HEIGHT,
    Checked,
    as_csv,
    check_lines,
    compared,
    reads_korean,
    straightened,
    summary,
    table,
)

LANGUAGES = ("en", "zh", "zh-Hant", "ja")
KOREAN = 0.85
"""share of Korean lines that tesseract has to read exactly"""
SOURCES = Sources(photographs=MadeUp(1024))


def checked(kind: str, images: int, size: tuple[int, int] = (512, 512)) -> list[Checked]:
    plan = Writing(seed=21, kinds=(kind,), languages=LANGUAGES, size=size)
    written = (write(plan, index, SOURCES)[0] for index in range(images))
    return [line for image in written for line in check_lines(image.pixels_HW3, image.record(""))]


@pytest.mark.parametrize("kind", ["pure", "compositional", "complex"])
def test_an_engine_reads_what_is_written(kind: str) -> None:
    """A few images; the slow test has the bounds of many."""
    lines = checked(kind, 4)
    assert len(lines) >= 6
    assert sum(line.likeness for line in lines) / len(lines) > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pure", "compositional", "complex"])
def test_an_engine_reads_what_is_written_in_many_images(kind: str) -> None:
    lines = [line for line in checked(kind, 60) if line.size >= 16]
    printed = [line for line in lines if FACES[line.face].style in ("sans", "serif")]
    assert len(printed) > 80
    assert sum(line.likeness for line in printed) / len(printed) >= 0.99
    assert sum(line.likeness for line in lines) / len(lines) >= 0.97


def test_erasing_a_character_changes_its_reading_and_no_other() -> None:
    """The box of a character is filled with what is round it."""
    plan = Writing(seed=2, languages=("zh",), size=(512, 512), rare=0.0)
    image = write(plan, 5, SOURCES)[0]
    line = image.lines[0]
    position = len(line.characters) // 2
    character, quad = line.characters[position]
    (left, top), (right, bottom) = np.floor(quad[0]).astype(int), np.ceil(quad[2]).astype(int)
    pixels = image.pixels_HW3.copy()
    pixels[top:bottom, left:right] = pixels[top - 1, left - 1]
    row = image.record("")
    before, after = (compared(check_lines(each, row)[0].read) for each in (image.pixels_HW3, pixels))
    assert before == compared(line.text) and character in before
    assert after == compared(line.text[:position] + line.text[position + 1 :])


def test_a_line_is_straightened_by_its_corners() -> None:
    upright = np.full((60, 200, 3), 255, np.uint8)
    upright[20:40, 50:150] = lot(0, 0, 0, "stripes").integers(0, 255, (1, 100, 1), dtype=np.uint8)
    turn = cv2.getRotationMatrix2D((100, 30), 30, 1.0)
    turned = cv2.warpAffine(upright, turn, (220, 160), borderValue=(255, 255, 255))
    corners = np.asarray([[50, 20], [150, 20], [150, 40], [50, 40]], float)
    quad = (np.c_[corners, np.ones(4)] @ turn.T).tolist()
    one, other = straightened(upright, corners.tolist()), straightened(turned, quad)
    assert one.shape == other.shape and one.shape[0] >= 48
    assert (one[:2] == 255).all() and (one[:, :2] == 255).all(), "with a margin"
    inner = slice(10, -10), slice(10, -10)
    assert np.abs(one[inner].astype(int) - other[inner].astype(int)).mean() < 12


def test_what_is_compared_and_counted() -> None:
    assert compared("\uff26ull\uff0dwidth, 2.50!") == "fullwidth250"
    right, wrong = (Checked("open 24", read, "Inter", "en", "complex/slide", 15) for read in ("OPEN24", "0PEN 2"))
    assert right.exact and not wrong.exact and wrong.likeness == pytest.approx(1 - 2 / 6)
    assert right.size_group == "14-19 px" and Checked("a", "a", "b", "en", "pure", 40).size_group == "from 32 px"
    assert table(summary([])) == [label_check.NOBODY]


def test_lines_are_grouped_by_face_script_and_size_with_what_a_gate_would_drop() -> None:
    lines = [
        Checked("open", read, face, language, "complex/slide", size, image)
        for read, face, language, size, image in (
            ("open", "Inter", "en", 15, "a"), ("0pen", "Inter", "en", 15, "a"), ("open", "Inter", "en", 40, "b"),
            ("x", "Kalam", "en", 15, "b"), ("x", "Kai", "zh-Hans", 40, "b"),
        )
    ]  # fmt: skip
    rows = summary(lines)
    by = {(row["by"], row["group"]): row for row in rows}
    assert (by["all", ""]["exact"], by["all", ""]["dropped"]) == (0.4, 0.4)
    assert by["script", "Latin"]["lines"] == 4 and by["script", "simplified Chinese"]["dropped"] == 1.0
    assert by["face", "Inter"]["exact"] == pytest.approx(2 / 3) and by["face", "Inter"]["dropped"] == 0.0
    assert by["face, script and size", "Inter; Latin; 14-19 px"]["likeness"] == pytest.approx(1 - 1 / 8)
    assert [row["group"] for row in rows if row["by"] == "face"][-1] == "Inter", "the worst come first"
    assert all(row["exact_low"] <= row["exact"] <= row["exact_high"] for row in rows)
    one = summary([replace(line, image="a") for line in lines * 20])[0]
    many = summary([replace(line, image=str(i)) for i, line in enumerate(lines * 20)])[0]
    assert many["exact_high"] - many["exact_low"] < one["exact_high"] - one["exact_low"], "images are the units"
    told = table(rows)
    assert told[0].startswith("5 lines read back: 0.400") and "by face, script and size:" in told
    assert as_csv(rows).decode().splitlines()[0].startswith("by,group,lines,exact,exact_low")
    assert any("complex" in line for line in told)


def test_the_least_size_is_one_from_which_lines_stay_readable() -> None:
    assert least_size({8: 0.5, 9: 0.96, 10: 0.9, 11: 0.95, 12: 1.0, 13: 1.0}) == 11
    assert least_size({8: 0.5, 9: 0.6}) == 9


@pytest.mark.slow
@pytest.mark.parametrize("name", FACES)
def test_a_face_is_read_at_its_least_size(name: str) -> None:
    """Of Korean lines tesseract reads fewer at any size: it takes some syllables for others."""
    if FACES[name].languages == ("ko",) and not reads_korean():
        pytest.skip("tesseract with its Korean data is not installed")
    least, korean = FACES[name].least, FACES[name].languages == ("ko",)
    assert least >= 12
    assert shares_read(FACES[name], 40, 3, [least])[least] >= (KOREAN if korean else READ)


def korean_lines(count: int) -> list[Checked]:
    plan = Writing(seed=21, languages=("ko",), size=(512, 512), rare=0.0)
    written = (write(plan, index, SOURCES)[0] for index in range(count))
    return [line for image in written for line in check_lines(image.pixels_HW3, image.record(""))]


def test_korean_is_read_by_tesseract_or_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other engine has no Hangul: what it reads would count as wrong."""
    monkeypatch.setattr(label_check, "recogniser", None)
    asked = []
    monkeypatch.setattr(label_check, "reads_korean", lambda: bool(asked))
    monkeypatch.setattr(label_check, "read_korean", lambda line_HW3: str(asked.append(line_HW3.shape[0])))
    assert not korean_lines(1)
    asked.append(0)
    assert korean_lines(1) and min(asked[1:]) >= LEAST_HEIGHT


@pytest.mark.slow
def test_tesseract_reads_korean() -> None:
    if not reads_korean():
        pytest.skip("tesseract with its Korean data is not installed")
    lines = korean_lines(40)
    assert len(lines) > 60
    assert sum(line.exact for line in lines) / len(lines) >= KOREAN


def test_the_command_reads_back_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["write", "-o", str(tmp_path / "a"), "--count", "3", "--check", "2", "--size", "256", "256"]
    assert main(line) == 0
    assert "lines read back" in capsys.readouterr().out
    assert "face, script and size" in (tmp_path / "a" / "check.csv").read_text()
