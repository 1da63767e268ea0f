"""Complex images: slides, posters, tickets, menus, pages and screens, set by typst from templates with whole phrases.

A template's slots are filled with whole phrases; typst sets them, and pdfium makes pixels of the PDF and says where
each character stands. What it says is compared with the slots, so a label is what can be seen: a character that is
missing, a slot that runs off the page, or lines that overlap discard the document.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from base_model.data.writing.corpora import DENSE, Corpus, phrase, phrases, pick, vocabulary
from base_model.data.writing.faces import FACES, Face, refused
from base_model.data.writing.grounds import COLOURS, contrast, inks_on, varied
from base_model.data.writing.photographs import cut_out
from base_model.data.writing.typesetting import Character, Set, typeset
from base_model.data.writing.wording import document_captions
from base_model.data.writing.written_image import Colour, Line, Photographs, Unwritable, WrittenImage, upright

LEGIBLE = 3.0
"""least contrast ratio of a line and what is behind it (WCAG 2.1, large text)"""
SCALES = {"slide": (1.0, 1.6), "poster": (1.1, 1.7), "ticket": (0.9, 1.2), "menu": (0.9, 1.3),
          "poster with photograph": (0.8, 1.1), "page": (0.85, 1.2),
          "screen": (0.9, 1.25)}  # fmt: skip
"""how large the type of a template may be; what then does not fit is discarded"""
ENLARGED = 1.01
"""by how much more than its smallest line needs a document is enlarged that would be too small to read"""
LOCALES = {"en": "en_US", "zh-Hans": "zh_CN", "zh-Hant": "zh_TW", "ja": "ja_JP", "ko": "ko_KR"}
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")  # fmt: skip
PRICES = {"en": ("£{:.2f}", 2, 30), "zh-Hans": ("¥{:.0f}", 8, 200), "zh-Hant": ("NT${:.0f}", 40, 900),
          "ja": ("{:.0f}円", 300, 4000), "ko": ("{:.0f}원", 3000, 40000)}  # fmt: skip
"""How a price is written, and what is cheap and dear."""


@dataclass(frozen=True)
class Slot:
    """A phrase of a document, in the order in which they are set."""

    text: str
    role: str
    """title or body: which of the two faces sets it"""


@dataclass(frozen=True)
class Document:
    """A template with what fills it."""

    template: str
    fields: Mapping[str, Any]
    slots: tuple[Slot, ...]


@functools.cache
def names(language: str) -> Any:
    """Names, firms and cities of a language."""
    from faker import Faker

    return Faker(LOCALES[language])


@dataclass(frozen=True)
class Phrases:
    """Where the phrases of one document come from."""

    language: str
    rng: np.random.Generator
    corpus: Corpus

    def one(self, key: str) -> str:
        """A phrase of a list of the vocabulary."""
        return phrase(self.language, key, self.rng)

    def several(self, key: str, low: int, high: int) -> list[str]:
        """Different phrases of a list."""
        return phrases(self.language, key, int(self.rng.integers(low, high + 1)), self.rng)

    def label(self, key: str) -> str:
        """What a form calls something."""
        return str(vocabulary(self.language)["labels"][key])

    def invented(self, what: str) -> str:
        """A name, company or city of nobody."""
        source = names(self.language)
        source.seed_instance(int(self.rng.integers(2**31)))
        return str(getattr(source, what)())

    def number(self, low: int, high: int) -> int:
        """A whole number up to `high`, which is not reached."""
        return int(self.rng.integers(low, high))

    def date(self) -> str:
        """A day, as the language writes it."""
        year, month, day = self.number(2019, 2031), self.number(1, 13), self.number(1, 29)
        if self.language == "en":
            return f"{day} {MONTHS[month - 1]} {year}"
        return f"{year}년 {month}월 {day}일" if self.language == "ko" else f"{year}年{month}月{day}日"

    def price(self) -> str:
        """An amount of money, rounded as menus do."""
        pattern, low, high = PRICES[self.language]
        step = 0.5 if self.language == "en" else 10.0 ** max(0, len(str(high)) - 3)
        return pattern.format(round(float(self.rng.uniform(low, high)) / step) * step)

    def hour(self) -> str:
        """A time of the day."""
        return f"{self.number(7, 23)}:{pick(['00', '15', '30', '45'], self.rng)}"


def slide(p: Phrases) -> Document:
    """A title, points, and sometimes a chart."""
    values = [round(float(v), 2) for v in p.rng.uniform(0.2, 1.0, p.number(3, 6))] if p.rng.random() < 0.4 else []
    points, footer, chart = p.several("points", 2, 3 if values else 5), p.invented("company"), p.label("chart")
    fields = {"points": points, "values": values, "chart": chart, "footer": footer}
    return _document("slide", p.one("titles"), fields, [*points, *([chart] if values else []), footer])


def poster(p: Phrases) -> Document:
    """An event with its day, hour, place, and a sentence."""
    date, venue, sentence = f"{p.date()} {p.hour()}", p.one("venues"), p.corpus.paragraph(p.rng, (40, 90))
    fields = {"date": date, "venue": venue, "sentence": sentence}
    return _document("poster", p.one("events"), fields, [date, venue, sentence])


def ticket(p: Phrases) -> Document:
    """Of a journey, or to an event."""
    journey = bool(p.rng.random() < 0.5)
    ends = zip((p.label("from"), p.label("to")), p.several("cities", 2, 2), strict=True)
    cities = [list(end) for end in ends] if journey else []
    seat = f"{p.number(1, 40)}{pick(list('ABCDEF'), p.rng)}"
    rows = [[p.label("date"), p.date()], [p.label("seat"), seat], [p.label("name"), p.invented("name")],
            [p.label("price"), p.price()]]  # fmt: skip
    train = f"{p.label('train')} {pick(list('GDKTZ'), p.rng)}{p.number(10, 999)}"
    fields = {"cities": cities, "fields": rows, "code": p.rng.integers(1, 3, 48).tolist()}
    return _document(
        "ticket", train if journey else p.one("events"), fields, [t for pair in cities + rows for t in pair]
    )


def menu(p: Phrases) -> Document:
    """Groups of dishes with prices."""
    words = vocabulary(p.language)
    title, groups = p.one("restaurants"), []
    slots = [Slot(title, "title")]
    first = p.number(0, 2)
    for name, dishes in list(zip(words["dish_groups"], words["dishes"], strict=True))[first : first + p.number(2, 4)]:
        chosen = p.rng.permutation(len(dishes)).tolist()[: p.number(2, 4)]
        rows = [[dishes[i], p.price()] for i in chosen]
        groups.append({"name": name, "dishes": rows})
        slots += [Slot(name, "title"), *(Slot(text, "body") for row in rows for text in row)]
    return Document("menu", {"title-text": title, "groups": groups}, tuple(slots))


def page(p: Phrases) -> Document:
    """A heading, who wrote it when, and paragraphs."""
    count, byline, number = p.number(1, 4), f"{p.invented('name')}, {p.date()}", str(p.number(1, 400))
    paragraphs = list(dict.fromkeys(p.corpus.paragraph(p.rng, (60, 60 + 300 // count)) for _ in range(count)))
    fields = {"byline": byline, "paragraphs": paragraphs, "footer": number}
    return _document("page", p.one("titles"), fields, [byline, *paragraphs, number])


def screen(p: Phrases) -> Document:
    """Settings of an app with a button."""
    rows = [[text, pick(["on", "more"], p.rng)] for text in p.several("settings", 3, 4)]
    action = p.one("actions")
    fields = {"rows": rows, "action": action}
    return _document("screen", p.one("settings"), fields, [*(text for text, _ in rows), action])


def _document(template: str, title: str, fields: Mapping[str, Any], body: Sequence[str]) -> Document:
    slots = Slot(title, "title"), *(Slot(text, "body") for text in body)
    return Document(template, {**fields, "title-text": title}, slots)


DOCUMENTS: dict[str, Callable[[Phrases], Document]] = {
    "slide": slide, "poster": poster, "ticket": ticket, "menu": menu, "page": page, "screen": screen,
}  # fmt: skip


@dataclass(frozen=True)
class Palette:
    """Names and levels of a document's colours by role."""

    names: Mapping[str, str]
    levels: Mapping[str, Colour]


def chosen_palette(rng: np.random.Generator) -> Palette:
    """Colours whose texts are legible on what is behind them."""
    light = bool(rng.random() < 0.75)
    ground = pick(["white", "cream", "light grey", "light blue", "light green", "pink"] if light
                  else ["black", "dark blue", "dark green", "dark grey"], rng)  # fmt: skip
    inks = [name for name in inks_on(ground, 7.0) if name in ("black", "white", "cream", "dark blue", "dark grey")]
    accent = pick([name for name in ("red", "dark red", "orange", "green", "dark green", "teal", "blue", "dark blue",
                                     "purple", "brown", "gold", "yellow") if name != ground
                   and contrast(COLOURS[name].rgb, COLOURS[ground].rgb) > 1.8], rng)  # fmt: skip
    ink = pick(inks, rng)
    on_accent = max(("white", "black"), key=lambda name: contrast(COLOURS[name].rgb, COLOURS[accent].rgb))
    strong = accent if accent in inks_on(ground) else ink
    named = {"ground": ground, "ink": ink, "accent": accent, "on_accent": on_accent, "strong": strong}
    levels = {role: varied(name, rng) for role, name in named.items() if role != "strong"}
    levels["strong"] = levels["accent" if strong == accent else "ink"]
    mixed = 0.94 if light else 0.85
    levels["card"] = tuple(
        round(mixed * g + (1 - mixed) * i) for g, i in zip(levels["ground"], levels["ink"], strict=True)
    )  # type: ignore[assignment]
    return Palette(named, levels)


def write_document(
    rng: np.random.Generator, name: str, language: str, faces: tuple[Face, Face], corpus: Corpus,
    size: tuple[int, int], photographs: Photographs | None = None,
) -> WrittenImage:  # fmt: skip
    """A document in two faces, for titles and for the rest; the lower part of some posters is a photograph.

    Raises Unwritable when a slot is not there as a whole.
    """
    document = DOCUMENTS[name](Phrases(language, rng, corpus))
    photo = bool(name == "poster" and photographs and rng.random() < 0.5)
    palette = chosen_palette(rng)
    by_role = dict(zip(("title", "body"), faces, strict=True))
    weights = {"title": max(faces[0].weights), "body": min(faces[1].weights)}
    for slot in document.slots:
        if why := refused(by_role[slot.role], slot.text, language):
            raise Unwritable(by_role[slot.role].name, why.removeprefix(f"{by_role[slot.role].name}: "))
    scale = rng.uniform(*SCALES["poster with photograph" if photo else name])
    fields = {
        **document.fields, "width": size[1], "height": size[0], "scale": float(scale), "photo": photo,
        "layout": 2 if photo else int(rng.integers(3)), "lang": language.split("-")[0], "region": _region(language),
        "title": {"face": by_role["title"].name, "weight": weights["title"]},
        "body": {"face": by_role["body"].name, "weight": weights["body"]},
        "colours": {role: f"#{bytes(levels).hex()}" for role, levels in palette.levels.items()},
    }  # fmt: skip
    result = typeset(name, json.dumps(fields))
    lines = tuple(_lines(document, result, by_role, weights, palette))
    if (larger := max(FACES[line.face].least / line.size for line in lines)) > 1.0:
        result = typeset(name, json.dumps({**fields, "scale": float(scale) * larger * ENLARGED}))
        lines = tuple(_lines(document, result, by_role, weights, palette))
    pictured = ""
    if photo and photographs:
        index = paste_below(rng, result.pixels_HW3, lines, photographs)
        pictured = photographs.caption(index) or "a photograph"
    require_whole(lines, result, faces)
    text = (" " if language not in DENSE else "\n").join(slot.text for slot in document.slots)
    captions = document_captions(lines, [slot.text for slot in document.slots], _slots_of(lines, document), language,
                                 size, name, palette.names["ground"], pictured)  # fmt: skip
    facts = {"ground": palette.names["ground"], "slots": [slot.text for slot in document.slots]}
    return WrittenImage(result.pixels_HW3, f"complex/{name}", language, text, lines, captions, facts)


def paste_below(
    rng: np.random.Generator, pixels_HW3: np.ndarray, lines: Sequence[Line], photographs: Photographs
) -> int:
    """Put a photograph into a poster, below its lines; which one it is.

    Raises Unwritable when the lines leave less than a third of the poster.
    """
    height, width = pixels_HW3.shape[:2]
    top = round(max(line.quad[2][1] for line in lines) + 0.06 * height)
    if height - top < height / 3:
        raise Unwritable("photograph", "too little of the poster is left below the text")
    part, index = cut_out(photographs, rng, (height - top, width))
    pixels_HW3[top:] = part
    return index


def _region(language: str) -> str:
    """What tells typst the forms of Chinese characters."""
    return {"zh-Hans": "cn", "zh-Hant": "tw"}.get(language, "us" if language == "en" else language[:2])


def _lines(
    document: Document, result: Set, faces: Mapping[str, Face], weights: Mapping[str, int], palette: Palette
) -> Iterator[Line]:
    """The lines of every slot. Raises Unwritable when a character is not the slot's."""
    characters = iter(result.characters)
    for slot in document.slots:
        face = faces[slot.role]
        row: list[tuple[str, Character]] = []
        for word in slot.text.split():
            for position, expected in enumerate(word):
                character = next(characters, None)
                if character is None or character.text != expected:
                    raise Unwritable(face.name, f"{expected!r} is not where it was set in {document.template}")
                if row and _is_below(character, row[-1][1]):
                    yield _line(row, face, weights[slot.role], palette)
                    row = []
                row.append((" " if row and not position else "", character))
        yield _line(row, face, weights[slot.role], palette)
    if (extra := next(characters, None)) is not None:
        raise Unwritable(document.template, f"{extra.text!r} is in no slot")


def _is_below(character: Character, before: Character) -> bool:
    """Whether a character begins a line: it is further left than the one before it."""
    return character.box[0] < before.box[0] - 0.3 * character.size


def _line(row: Sequence[tuple[str, Character]], face: Face, weight: int, palette: Palette) -> Line:
    text = "".join(blank + character.text for blank, character in row)
    quads = tuple((character.text, upright(*character.box)) for _, character in row)
    boxes, size, ink = np.asarray([character.box for _, character in row]), row[0][1].size, row[0][1].ink
    top, bottom = float(boxes[:, 1].min()), float(boxes[:, 3].max())
    lacking = max(0.0, size - (bottom - top)) / 2
    quad = upright(float(boxes[:, 0].min()), top - lacking, float(boxes[:, 2].max()), bottom + lacking)
    colour = next(palette.names[role] for role, levels in palette.levels.items() if levels == ink and role != "card")
    return Line(text, quad, quads, face.name, face.style, weight, size, colour, ink)


def require_whole(lines: Sequence[Line], result: Set, faces: tuple[Face, Face]) -> None:
    """Raises Unwritable when a line is too small, leaves the page, is over another one or is hard to see."""
    height, width = result.pixels_HW3.shape[:2]
    boxes = np.zeros((len(lines), 4))
    for i, line in enumerate(lines):
        if line.size < FACES[line.face].least:
            raise Unwritable(line.face, "smaller than the least size of the face")
        points = np.asarray([quad for _, quad in line.characters]).reshape(-1, 2)
        boxes[i] = *points.min(0), *points.max(0)
        if boxes[i].min() < 1 or boxes[i, 2] > width - 1 or boxes[i, 3] > height - 1:
            raise Unwritable(line.face, "a line runs off the page")
        if hidden_at_ends(result.pixels_HW3, boxes[i], line.ink):
            raise Unwritable(line.face, "too little contrast with what is behind it")
    if overlapping(boxes):
        raise Unwritable(faces[1].name, "lines are over one another")


def hidden_at_ends(pixels_HW3: np.ndarray, box: np.ndarray, ink: Colour) -> bool:
    """Whether a line is hard to see on what is round it, or just before its first or behind its last character."""
    left, top, right, bottom = (int(side) for side in (box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 3))
    part = pixels_HW3[max(0, top) : bottom, max(0, left) : right]
    rows = np.median(np.concatenate([part[0], part[-1]]), axis=0)
    sides = [np.quantile(part[:, end].astype(float), share, axis=0) for end in (0, -1) for share in (0.1, 0.5, 0.9)]
    return any(contrast(_colour(levels), ink) < LEGIBLE for levels in (rows, *sides))


def _colour(levels: np.ndarray) -> Colour:
    red, green, blue = levels.astype(int).tolist()
    return red, green, blue


def overlapping(boxes: np.ndarray) -> bool:
    """Whether two boxes (left, top, right, bottom) share more than a twentieth of the smaller one."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    least = np.minimum(areas[:, None], areas[None, :])
    return bool((np.triu(shared / np.maximum(least, 1e-6), 1) > 0.05).any())


def _slots_of(lines: Sequence[Line], document: Document) -> list[int]:
    """How many lines each slot has."""
    counts, position = [], 0
    for slot in document.slots:
        rest, first = len("".join(slot.text.split())), position
        while rest > 0:
            rest -= len(lines[position].characters)
            position += 1
        counts.append(position - first)
    return counts
