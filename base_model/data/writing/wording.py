"""Captions in English and Chinese: what is written, in which face, size and colour, where, and on what."""

from __future__ import annotations

from collections.abc import Sequence

from base_model.data.writing.grounds import COLOURS
from base_model.data.writing.written_image import Line, bounds

STYLES = {
    "sans": ("sans serif", "无衬线体"), "serif": ("serif", "衬线体"), "slab": ("slab serif", "粗衬线体"),
    "mono": ("monospace", "等宽体"), "display": ("condensed display", "窄体"), "hand": ("handwritten", "手写体"),
    "script": ("script", "花体"), "own": ("", ""),
}  # fmt: skip
"""what a face's style is called"""
SIZES = ((0.035, "tiny", "极小"), (0.06, "small", "小"), (0.1, "medium", "中等"), (0.17, "large", "大"))
"""em size by height of the image, below which a word counts"""
HUGE = ("huge", "特大")
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
POSITIONS = {
    "top": "上方", "middle": "中间", "bottom": "下方", "left": "左侧", "centre": "居中", "right": "右侧",
}  # fmt: skip
GROUNDS = {"plain": ("ground", "纯色背景"), "gradient": ("gradient", "渐变背景"), "paper": ("paper", "纸张")}
ALIGNED = {"left": ("left-aligned", "左对齐"), "centre": ("centred", "居中对齐"), "right": ("right-aligned", "右对齐")}


def quoted(text: str, language: str) -> tuple[str, str]:
    """A text in the quotation marks of an English and of a Chinese caption, in other ones where it has them itself."""
    english = f'"{text}"' if '"' not in text else f"“{text}”"
    chinese = f"“{text}”" if "“" not in text and "”" not in text else f"「{text}」"
    return english, chinese


def size_word(size: float, height: int) -> tuple[str, str]:
    """What an em size is called in an image of a height."""
    return next(((english, chinese) for bound, english, chinese in SIZES if size < bound * height), HUGE)


def position_of(lines: Sequence[Line], size: tuple[int, int]) -> tuple[str, str]:
    """Where lines stand: the third of the image that their middle is in."""
    left, top, right, bottom = bounds([line.quad for line in lines])
    row = ROWS[min(2, int(3 * (top + bottom) / 2 / size[0]))]
    column = COLUMNS[min(2, int(3 * (left + right) / 2 / size[1]))]
    if (row, column) == ("middle", "centre"):
        return "in the middle", "位于正中"
    english = f"at the {row} {column}" if row != "middle" else f"in the middle {column}"
    return english, f"位于{POSITIONS[row]}{POSITIONS[column]}" if column != "centre" else f"位于{POSITIONS[row]}"


def type_words(line: Line) -> tuple[str, str]:
    """The colour, weight, face and style of a line."""
    style = STYLES[line.style]
    weight = ("bold ", "粗") if line.weight >= 600 else ("light ", "细") if line.weight < 400 else ("", "")
    ink, name = COLOURS[line.colour], line.face.rstrip(" 0123456789")
    english, chinese = f"{line.colour} {weight[0]}{name}", f"{ink.chinese}{weight[1]}{name}"
    return (f"{english}, {style[0]}", f"{chinese}（{style[1]}）") if style[0] else (english, chinese)


def about_lines(lines: Sequence[Line], text: str, language: str, size: tuple[int, int]) -> tuple[str, str]:
    """Text, face, size, colour and place of lines of one type."""
    words = size_word(lines[0].size, size[0])
    english, chinese = quoted(text, language)
    kind, where = type_words(lines[0]), position_of(lines, size)
    return (
        f"the text {english} in {kind[0]}, {words[0]}, {where[0]}",
        f"文字{chinese}，{kind[1]}，{words[1]}字号，{where[1]}",
    )


def pure_captions(
    lines: Sequence[Line], text: str, language: str, size: tuple[int, int], ground: tuple[str, str], align: str
) -> tuple[str, str]:
    """Captions of a paragraph on a ground (colour, kind)."""
    colour, kind = ground
    about = about_lines(lines, text, language, size)
    chinese = COLOURS[colour].chinese
    article = "An" if colour[0] in "aeiou" else "A"
    return (
        f"{article} {colour} {GROUNDS[kind][0]} with {about[0]}, {ALIGNED[align][0]}",
        f"{chinese}{GROUNDS[kind][1]}上的{about[1]}，{ALIGNED[align][1]}",
    )


SURFACES = {
    "paper": ("sheet of paper", "纸"), "chalkboard": ("chalkboard", "黑板"), "whiteboard": ("whiteboard", "白板"),
    "sign": ("sign", "标牌"), "screen": ("screen", "屏幕"),
}  # fmt: skip


def surface_captions(
    lines: Sequence[Line], text: str, language: str, size: tuple[int, int], surface: str, ground: str, behind: str
) -> tuple[str, str]:
    """Captions of a text on a thing; `behind` is what the photograph shows, where that is known."""
    about = about_lines(lines, text, language, size)
    article = "An" if ground[0] in "aeiou" else "A"
    english = f"A photograph. {article} {ground} {SURFACES[surface][0]} with {about[0]}"
    chinese = f"照片：{COLOURS[ground].chinese}{SURFACES[surface][1]}上的{about[1]}"
    behind = behind.rstrip(" .。")
    return (f"{english}; behind it {behind}", f"{chinese}；背景：{behind}") if behind else (english, chinese)


DOCUMENTS = {
    "slide": ("presentation slide", "一张幻灯片"), "poster": ("poster", "一张海报"), "ticket": ("ticket", "一张票"),
    "menu": ("menu", "一份菜单"), "page": ("page of text", "一页文字"), "screen": ("screen of an app", "一个应用界面"),
}  # fmt: skip


def document_captions(
    lines: Sequence[Line], slots: Sequence[str], counts: Sequence[int], language: str, size: tuple[int, int],
    name: str, ground: str, pictured: str = "",
) -> tuple[str, str]:  # fmt: skip
    """Captions of a document: its title, then every other phrase in its order, phrases of one look together.

    `counts` says how many lines each phrase has, `pictured` what a photograph below the text shows.
    """
    groups: list[tuple[list[Line], list[str]]] = []
    position = 0
    for text, count in zip(slots, counts, strict=True):
        own = list(lines[position : position + count])
        position += count
        last = groups[-1][0][-1] if len(groups) > 1 else None
        if last and (last.face, last.weight, last.colour, round(last.size)) == _same_type(own[0]):
            groups[-1][0].extend(own)
            groups[-1][1].append(text)
        else:
            groups.append((own, [text]))
    article = "An" if ground[0] in "aeiou" else "A"
    english, chinese = f"{article} {ground} {DOCUMENTS[name][0]}", f"{COLOURS[ground].chinese}的{DOCUMENTS[name][1]}"
    for own, texts in groups:
        kind, where, words = type_words(own[0]), position_of(own, size), size_word(own[0].size, size[0])
        quotes = [quoted(text, language) for text in texts]
        noun = "text" if len(texts) == 1 else "texts"
        english += f"; the {noun} {', '.join(quote[0] for quote in quotes)} in {kind[0]}, {words[0]}, {where[0]}"
        chinese += f"；文字{'、'.join(quote[1] for quote in quotes)}，{kind[1]}，{words[1]}字号，{where[1]}"
    pictured = pictured.rstrip(" .。")
    return (f"{english}; below it {pictured}", f"{chinese}；下方图片：{pictured}") if pictured else (english, chinese)


def _same_type(line: Line) -> tuple[str, int, str, int]:
    return line.face, line.weight, line.colour, round(line.size)
