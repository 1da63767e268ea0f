"""Images of rare categories and characters are shown more often: by the stated power, up to the cap, in whole times."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from experiments.curation.balancing.image_categories import cells, seen_categories
from experiments.curation.balancing.resampling import Resampling, add_repeats, balance_table, factors
from experiments.curation.curated_folder import CAPTIONS, curate
from experiments.curation.curation_report import write_report
from experiments.images.image_sources import ImageSources, open_images
from tests.experiments.curation.images_to_curate import as_png, photograph

CELLS = ["photo"] * 900 + ["menu"] * 90 + ["neon"] * 10
"""a long tail of 1,000 images"""


def lines(texts: list[str]) -> list[dict[str, object]]:
    return [{"id": sha256(str(i).encode()).hexdigest(), "text": [text]} for i, text in enumerate(texts)]


def test_the_rarer_a_cell_the_more_often_it_is_shown() -> None:
    things = [[cell] for cell in CELLS]
    by = dict(zip(CELLS, factors(things, 0.1, 0.5), strict=True))
    assert by == pytest.approx({"photo": 1.0, "menu": (0.1 / 0.09) ** 0.5, "neon": 10**0.5})
    assert sorted({*factors(things, 0.1, 1.0)}) == pytest.approx([1.0, 0.1 / 0.09, 10.0])
    assert (factors(things, 0.0, 1.0) == 1.0).all() and (factors(things, 0.1, 0.0) == 1.0).all()
    # the rarest thing of an image counts, each thing once, and images without any do not make the others rarer
    assert list(factors([["a", "a", "b"], ["a"], [], ["a"]], 0.5, 1.0)) == pytest.approx([1.5, 1.0, 1.0, 1.0])
    assert list(factors([["a", "a"], ["b"]], 0.75, 1.0)) == pytest.approx([1.5, 1.5])


def test_repeats_are_whole_and_of_the_stated_mean_up_to_the_cap() -> None:
    rows = add_repeats(lines([""] * 1000), CELLS, Resampling(cells=0.15, power=1.0, most=9))
    table = {row["cell"]: row for row in balance_table(rows, CELLS)}
    assert [*table] == ["photo", "menu", "neon"] and table["photo"]["times"] == 1.0
    assert table["menu"]["times"] == pytest.approx(0.15 / 0.09, abs=0.2) and table["neon"]["times"] == 9.0
    assert {row.get("repeats", 1) for row in rows[900:990]} == {1, 2}
    assert table["neon"]["shown"] == pytest.approx(90 / sum(row.get("repeats", 1) for row in rows))
    again = add_repeats(lines([""] * 1000)[::-1], CELLS[::-1], Resampling(cells=0.15, power=1.0, most=9))
    assert again[::-1] == rows, "an image's repeats are its own, whatever the order"


def test_characters_that_captions_seldom_quote_are_shown_more_often() -> None:
    texts = ['a sign that says "门"'] * 60 + ['a sign that says "门龘"'] + ["a dog, and no 龘"] * 40
    rows = add_repeats(lines(texts), ["one"] * 101, Resampling(characters=0.05, power=1.0))
    assert [row.get("repeats", 1) for row in rows] == pytest.approx([1] * 60 + [0.05 * 61] + [1] * 40, abs=1)
    assert rows[60]["repeats"] in (3, 4)
    assert rows[:60] + rows[61:] == lines(texts)[:60] + lines(texts)[61:]


def test_the_rarer_of_cell_and_characters_counts_and_marks_are_no_characters() -> None:
    rare = Resampling(cells=0.2, characters=0.3, power=1.0, most=9)
    for texts, repeats in ((['says "A"'] + ['says "B"'] * 9, 3), (['says "B!"'] + ['says "B"'] * 9, 2)):
        rows = add_repeats(lines(texts), ["x"] + ["y"] * 9, rare)
        assert [row.get("repeats", 1) for row in rows] == [repeats] + [1] * 9
    assert [row["cell"] for row in balance_table(rows[:3], ["b", "a", "c"])] == ["a", "b", "c"], "of equally many"


def test_an_image_is_of_what_its_source_says_then_a_model_then_what_is_read_then_a_face() -> None:
    columns = {
        "category": np.array(["menu", *["general"] * 5], object),
        "image_type": np.array(["poster", "poster", "", "", "", ""], object),
        "text_area": np.array([0.9, 0.9, 0.05, 0.04, 0.0, np.nan]),
        "face_area": np.array([0.9, 0.9, 0.9, 0.03, 0.02, np.nan]),
    }
    assert seen_categories(columns).tolist() == ["menu", "poster", "text", "portrait", "general", "general"]
    sides = {"category": columns["category"][:5], "short_side": np.array([255.0, 256.0, 1327.0, 1328.0, np.nan])}
    assert [*cells(sides)] == [
        "menu, below 256", "general, from 256", "general, from 640", "general, from 1328", "general, below 256"
    ]  # fmt: skip


def test_repeats_of_a_source_stay_until_something_is_resampled() -> None:
    rows = [{**row, "repeats": 3} for row in lines(["a", "b"])]
    assert add_repeats(rows, ["x", "y"], Resampling()) == rows
    assert add_repeats(rows, ["x", "y"], Resampling(cells=0.1)) == lines(["a", "b"])


@pytest.mark.parametrize("wrong", [{"cells": 1.5}, {"characters": -0.1}, {"power": 2.0}, {"most": 0}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values())):g} must be"):
        Resampling(**wrong)  # type: ignore[arg-type]


def test_a_planted_rare_class_is_shown_more_often_in_training(tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "set"
    folder.mkdir()
    table = ["file_name,text,category"]
    for name in ("coffee", "coins", "camera", "rocket"):
        (folder / f"{name}.png").write_bytes(as_png(photograph(name)))
        table.append(f"{name}.png,a photograph,{'rare' if name == 'rocket' else 'common'}")
    (folder / "metadata.csv").write_text("\n".join(table))
    list(curate([str(folder)], out, ["reading=no"]))
    before = (out / CAPTIONS).read_bytes()
    list(curate((), out, ["resampling.cells=0.75", "resampling.power=1", "resampling.most=5"]))
    rows = {Path(row["origins"][0]).stem: row for row in map(json.loads, (out / CAPTIONS).read_text().splitlines())}
    assert {name: row.get("repeats", 1) for name, row in rows.items()} == dict.fromkeys(rows, 1) | {"rocket": 3}
    page = write_report(out).read_text()
    assert "<td>rare, from 256</td>" in page and "50.0%" in page and "3.00" in page
    images = open_images(ImageSources((str(out),)))
    names = [next(images.candidates(index)).name for index in range(len(images))]
    assert len(names) == 6 and np.unique(names, return_counts=True)[1].max() == 3
    assert "4 images with 1 captions" in images.summary() and "a pass shows 6" in images.summary()
    list(curate((), out, ["resampling.cells=0"]))
    assert (out / CAPTIONS).read_bytes() == before
