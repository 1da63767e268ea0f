"""Single filters: captions, hashes, bands, blocks, text that is read, rewards, categories."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from experiments.curation import hash_distances
from experiments.curation.curated_folder import CAPTIONS, as_texts, chosen_filters, curate
from experiments.curation.filters.stage7.balance import most_of_a_cell
from experiments.curation.hash_distances import nearest_before
from experiments.curation.measures import measure_groups
from experiments.curation.measures.caption_facts import garbage, scripts, words
from experiments.curation.measures.image_defects import bands, blockiness
from experiments.curation.measures.text_reading import MARK
from experiments.curation.thresholds import Filters, in_order
from tests.experiments.curation.images_to_curate import as_jpeg, as_png, photograph
from tests.experiments.curation.test_curated_folder import decisions


@pytest.mark.parametrize(
    ("text", "why"),
    [("12:30", "has no letters"), ("DSC_0042", "is a file name"), ("sunset.JPG", "is a file name"),
     ("https://a.org/b?c=d", "is an address"), ("<b>sale</b>", "has tags of HTML"),
     ("caf\u00c3\u00a9", "was decoded wrongly"), ("Ãrea", ""), ("bla bla bla", ""), ("杯", ""), ("a cup", ""),
     ("aaaaaaaaaaaa", "repeats itself"), ("I'm sorry, but I can't help", "refuses to describe"),
     ("抱歉，我无法描述", "refuses to describe"), ("a sorry dog", ""), ("a sign: www.a.org", ""),
     ("1 < 2 & 3 > 2 in chalk", ""), ("a photograph.jpg of a cat", "")],
)  # fmt: skip
def test_what_is_no_caption(text: str, why: str) -> None:
    assert garbage(text) == why


def test_words_and_scripts_of_captions() -> None:
    assert words("a cup - of tea!") == 4 and words("一杯茶 tea") == 4 and words("한국어 문장") == 2 and words("") == 0
    assert scripts("茶 tea") == {"latin": 0.75, "han": 0.25} and scripts("123") == {}
    assert (
        scripts("\uff54\uff45\uff41") == {"latin": 1.0}
        and set(scripts("ティーカップです")) == {"kana"}
        and scripts("人々") == {"han": 1.0}
    )


def test_many_images_are_compared_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """By groups of bits, the same duplicates come out as by all pairs."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2**63, 60, dtype=np.uint64)
    hashes = np.repeat(first, 5)
    for i in range(len(hashes)):
        for bit in rng.choice(64, int(rng.integers(0, 7)), replace=False):
            hashes[i] ^= np.uint64(1) << np.uint64(bit)
    both = np.stack([hashes, np.repeat(first, 5)], axis=1)
    fields = np.zeros((len(hashes), 48), np.int16)
    fields[7::10] += 40
    for least in (1, 4, 5, 9):
        pairs = nearest_before(both, fields, least, 12)
        with monkeypatch.context() as patch:
            patch.setattr(hash_distances, "ALL_PAIRS", 10)
            groups = nearest_before(both, fields, least, 12)
        dropped = pairs[1] >= 0
        assert np.array_equal(dropped, groups[1] >= 0) and np.array_equal(pairs[0][dropped], groups[0][dropped])
        assert (pairs[0][dropped] < least).all() and (dropped.any() or least == 1)
        assert not (pairs[0][~dropped] < least).any(), "what stays is not below the line"
        assert (fields[dropped, 0] == fields[pairs[1][dropped], 0]).all(), "colours are alike"


def test_bands_lie_on_two_opposite_sides() -> None:
    photo = np.asarray(photograph("camera").convert("L"))[:240, :240]
    film = np.pad(photo, ((30, 30), (0, 0)), constant_values=5)
    assert bands(film) == pytest.approx(0.2, abs=0.01) and bands(film.T) == bands(film)
    assert bands(photo) == 0.0
    assert bands(np.pad(photo, 30, constant_values=250)) == 0.0, "a ground on all sides"
    assert bands(np.pad(photo, ((30, 0), (0, 0)), constant_values=5)) == 0.0, "one side: a sky"
    assert bands(np.full((64, 64), 9, np.uint8)) == 0.0


def test_blocks_count_at_every_phase_and_repeated_pixels_do_not() -> None:
    image = photograph("camera")
    rough = np.asarray(Image.open(io.BytesIO(as_jpeg(image, 8))).convert("L"))
    assert blockiness(rough) > 2.2 and blockiness(rough[3:, 5:]) > 2.2
    assert blockiness(np.asarray(image.convert("L"))) < 1.2
    assert blockiness(np.asarray(image.convert("L")).repeat(2, 0).repeat(2, 1)) < 1.3
    assert np.isnan(blockiness(rough[:20]))


def test_marks_of_agencies_and_pages() -> None:
    for text in ("shutterstock", "www.example.org", "© 2020 A. B.", "gettyimages", "视觉中国"):
        assert MARK.search(text), text
    for text in ("OPEN", "a.m. to p.m.", "Company", "1.50", "command"):
        assert not MARK.search(text), text


def test_a_cell_gets_its_share() -> None:
    for counts, share in (([90, 5, 5], 0.5), ([10, 10], 0.5), ([7, 3, 2, 1], 0.4), ([1, 1, 1], 0.34)):
        counts = np.array(counts)
        room = most_of_a_cell(counts, share)
        left = np.minimum(counts, room)
        assert left.max() <= share * left.sum() + 1e-9
        more = np.minimum(counts, room + 1)
        assert room >= counts.max() or more.max() > share * more.sum() + 1e-9
    with pytest.raises(ValueError, match="is too small: 2 categories"):
        most_of_a_cell(np.array([5, 5]), 0.4)


def test_thresholds_are_written_and_read_back(tmp_path: Path) -> None:
    settings = ("clarity.least=40", "caption_script.scripts=latin|han", "reading=no", "near_duplicates.least=3",
                "aesthetic.reward=brisque", "file_size.most=inf")  # fmt: skip
    filters = chosen_filters(tmp_path, settings)
    texts = as_texts(filters)
    assert chosen_filters(tmp_path, [f"{name}={value}" for name, value in texts.items()]) == filters != Filters()
    assert set(in_order(filters)["file_size"].bounds()) == {"least"}


@pytest.mark.parametrize("name", list(in_order(Filters())))
def test_a_number_that_was_not_measured_drops_nothing(name: str) -> None:
    each = in_order(Filters())[name]
    for least, most in ((5.0, 9.0), (1.0, 2.0)):
        bounds = {key: value for key, value in (("least", least), ("most", most)) if hasattr(each, key)}
        changed = dataclasses.replace(each, **bounds)
        assert not changed.outside(np.array([np.nan])).any() and not changed.explain(float("nan"))
        assert changed.outside(np.array([-99.0, 99.0])).sum() == len(changed.bounds()) or not changed.bounds()


def test_rendered_pages_are_exempt_where_they_are_what_a_filter_drops(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    lines = []
    page = {"kind": "pure", "seed": 0}
    for name, facts in (("page", {**page, "index": 3}), ("photo", {}), ("same", {**page, "index": 4})):
        image = Image.new("RGB", (100 if name != "same" else 90, 90), "white")
        ImageDraw.Draw(image).text((10, 10 if facts else 30), "OPEN", "black")
        (folder / f"{name}.png").write_bytes(as_png(image))
        lines.append(json.dumps({"file_name": f"{name}.png", "text": "a page", "license": "mine", **facts}))
        lines.append(json.dumps({"file_name": f"other_{name}.png", "text": "another page", "license": "mine", **facts}))
        (folder / f"other_{name}.png").write_bytes(as_png(image.rotate(180)))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    (folder / "broken.png").write_bytes(b"nothing")
    list(curate([str(folder)], tmp_path / "set", ["reading=no", "file_size.least=0"]))
    rows = decisions(tmp_path / "set")
    assert {name: row["dropped_by"] for name, row in rows.items()} == {
        "page.png": "", "photo.png": "resolution", "broken.png": "broken", "same.png": "repeated_text",
        "other_page.png": "", "other_photo.png": "resolution", "other_same.png": "repeated_text",
    }, "pages look alike, so their captions tell them apart"  # fmt: skip
    line = json.loads((tmp_path / "set" / CAPTIONS).read_text().splitlines()[1])
    assert (line["kind"], line["seed"], line["index"], line["license"]) == ("pure", 0, 3, "mine")


def test_a_measure_that_fails_keeps_the_image_and_often_ends_the_run(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["reading=no", "quality.reward=brisque", "quality.least=0.99"]
    failing = ["rocket.png"]

    def score(reward: str, rgb_HW3: np.ndarray, captions: list[str]) -> float:
        if any(np.array_equal(rgb_HW3, np.asarray(photograph(name.removesuffix(".png")))) for name in failing):
            raise RuntimeError("out of memory")
        return 0.5

    monkeypatch.setattr(measure_groups, "score", score)
    list(curate([str(cells)], tmp_path / "set", settings))
    by = {name: row["dropped_by"] for name, row in decisions(tmp_path / "set").items()}
    assert by.pop("rocket.png") == "" and set(by.values()) == {"quality"}
    failing.append("camera.png")
    with pytest.raises(RuntimeError, match="failed on 2 of 8 images, first with: RuntimeError: out of memory"):
        list(curate([str(cells)], tmp_path / "other", settings))


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Eight unlike photographs, six of them of one category."""
    folder = tmp_path / "images"
    folder.mkdir()
    names = ("coffee", "chelsea", "astronaut", "rocket", "coins", "camera", "brick", "grass")
    lines = ["file_name,text,category"]
    for i, name in enumerate(names):
        (folder / f"{name}.png").write_bytes(as_png(photograph(name)))
        lines.append(f"{name}.png,a photograph,{'thing' if i < 6 else 'ground'}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


def test_categories_and_balance_and_rewards(cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    list(curate([str(cells)], out, ["reading=no", "quality.reward=brisque", "quality.least=0"]))
    assert not any(row["dropped_by"] for row in decisions(out).values())
    list(curate((), out, ["balance.share=0.5"]))
    by = {name: row["dropped_by"] for name, row in decisions(out).items()}
    assert sum(each == "balance" for each in by.values()) == 4 and by["brick.png"] == by["grass.png"] == ""
    list(curate((), out, ["balance.share=1", "category.without=ground|other"]))
    by = {name: row["dropped_by"] for name, row in decisions(out).items()}
    assert {name for name, each in by.items() if each} == {"brick.png", "grass.png"}
    with pytest.raises(ValueError, match="there is no reward 'brisk'"):
        list(curate((), out, ["quality.reward=brisk"]))


@pytest.mark.slow
def test_text_is_read_and_compared_with_what_captions_quote(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()

    def sign(name: str, photo: str, text: str, caption: str, size: int = 48) -> None:
        image = photograph(photo).copy()
        drawing = ImageDraw.Draw(image)
        font = ImageFont.load_default(size)
        drawing.rectangle((20, 20, 120, 80) if "\n" in text else (20, 100, 280, 190), "white")
        drawing.multiline_text((30, 30 if "\n" in text else 110), text, "black", font)
        (folder / f"{name}.png").write_bytes(as_png(image))
        (folder / f"{name}.txt").write_text(caption)

    sign("right", "coffee", "OPEN", 'a sign that says "OPEN"')
    sign("wrong", "brick", "CLOSED", 'a sign that says "BAKERY"')
    sign("unquoted", "grass", "HELLO", "a white sign")
    sign("mark", "rocket", "www.shop.com", "a rocket", 32)
    sign("quoted_mark", "gravel", "www.shop.com", 'a sign that says "www.shop.com"', 32)
    sign(
        "small", "immunohistochemistry", "the small print\nof a long contract\nin four lines\nand more", "a notice", 11
    )
    sign("korean", "coins", "OPEN", 'a sign that says "안녕하세요"')
    out = tmp_path / "set"
    list(curate([str(folder)], out, ["small_text.least=18"]))
    assert {Path(name).stem: row["dropped_by"] for name, row in decisions(out).items()} == {
        "right": "", "wrong": "quoted_text", "unquoted": "", "mark": "watermark", "quoted_mark": "",
        "small": "small_text", "korean": "",
    }  # fmt: skip
