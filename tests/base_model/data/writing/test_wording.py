"""What captions say of size, place and type, in English and Chinese."""

from __future__ import annotations

import pytest

from base_model.data.writing.wording import document_captions, position_of, pure_captions, quoted, size_word
from base_model.data.writing.written_image import Line, upright

SIZE = (200, 600)


def line(
    left: float = 10, top: float = 10, text: str = "OPEN", face: str = "Source Serif 4", style: str = "serif",
    weight: int = 700, size: float = 30,
) -> Line:  # fmt: skip
    return Line(text, upright(left, top, left + 60, top + 30), (), face, style, weight, size, "dark blue", (20, 34, 92))


@pytest.mark.parametrize(
    ("left", "top", "english", "chinese"),
    [(10, 10, "at the top left", "位于上方左侧"), (270, 85, "in the middle", "位于正中"),
     (270, 160, "at the bottom centre", "位于下方"), (500, 85, "in the middle right", "位于中间右侧")],
)  # fmt: skip
def test_positions_are_thirds_of_the_image(left: float, top: float, english: str, chinese: str) -> None:
    assert position_of([line(left, top)], SIZE) == (english, chinese)


def test_sizes_are_shares_of_the_height() -> None:
    heights = (512, 1024)
    assert [size_word(24, height)[0] for height in heights] == ["small", "tiny"]
    assert size_word(45, 512) == ("medium", "中等") and size_word(60, 512) == ("large", "大")
    assert size_word(120, 512) == ("huge", "特大")


def test_a_caption_says_everything_in_both_languages() -> None:
    english, chinese = pure_captions([line()], "OPEN", "en", SIZE, ("orange", "paper"), "centre")
    assert english == (
        'An orange paper with the text "OPEN" in dark blue bold Source Serif, serif, large, at the top left, centred'
    )
    assert chinese == "橙色纸张上的文字“OPEN”，深蓝色粗Source Serif（衬线体），大字号，位于上方左侧，居中对齐"
    own = pure_captions([line(style="own", face="Mine", weight=400)], "A", "en", SIZE, ("white", "plain"), "left")
    assert own[0].startswith('A white ground with the text "A" in dark blue Mine, large') and "Mine，大" in own[1]


def test_quotes_in_a_text_get_other_quotes_round_them() -> None:
    assert quoted('say "no"', "en") == ('“say "no"”', '“say "no"”')
    assert quoted("他说“好”", "zh-Hans") == ('"他说“好”"', "「他说“好”」")


def test_phrases_of_one_look_are_named_together() -> None:
    lines = [
        line(text="Menu", size=40),
        line(top=60, text="Tea"),
        line(top=90, text="Cake"),
        line(top=95, text="bread"),
    ]
    english, chinese = document_captions(lines, ["Menu", "Tea", "Cake bread"], [1, 1, 2], "en", SIZE, "menu", "white")
    assert english.startswith(
        'A white menu; the text "Menu" in dark blue bold Source Serif, serif, huge, at the top left'
    )
    assert '; the texts "Tea", "Cake bread" in dark blue bold Source Serif, serif, large, ' in english
    assert chinese.startswith("白色的一份菜单；文字“Menu”，") and "；文字“Tea”、“Cake bread”，" in chinese
