"""The page about a set: counts, histograms, and the images nearest to each threshold, all inside of one file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from experiments.curation.curated_folder import chosen_filters, curate, decided, recorded
from experiments.curation.curation_report import Thumbnails, rates, sides, write_report
from experiments.curation.histogram import histogram
from experiments.curation.thresholds import in_order
from tests.fixtures.chromium import browser


def test_the_page_counts_and_shows_images_on_both_sides(made: Path) -> None:
    page = write_report(made).read_text(encoding="utf-8")
    about = recorded(made)
    assert f"{about['kept']} of {about['images']} images stay" in page
    for stage in about["stages"]:
        for name, dropped in stage["drops"].items():
            assert f'id="{name}"' in page and (not dropped or f'<a href="#{name}">{name}</a> {dropped} ' in page)
    assert sum(sum(stage["drops"].values()) for stage in about["stages"]) == about["images"] - about["kept"]
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(source.startswith(("data:image/jpeg;base64,", "#")) for source in sources)
    assert "<script" not in page and page.count("<svg") > 8


def test_the_examples_are_the_nearest_on_each_side(made: Path) -> None:
    filters = chosen_filters(made, ())
    result = decided(made, recorded(made)["shards"], filters)
    thumbnails = Thumbnails(made, recorded(made)["shards"])
    each = in_order(filters)["luma"]
    numbers = np.where(result.reached["luma"], each.shown(result.images), np.nan)
    shown = sides("luma", each, result, numbers, thumbnails)
    by_side = {side["title"]: [float(example["value"]) for example in side["examples"]] for side in shown}
    low, high, passed_low, passed_high = (
        by_side[f"{words}, nearest to {bound}"]
        for words in ("dropped", "passed") for bound in ("least=12", "most=245")
    )  # fmt: skip
    assert low and all(value < 12 for value in low) and high and all(value > 245 for value in high)
    assert len(passed_low) == len(passed_high) == 5 and all(12 <= value <= 245 for value in passed_low + passed_high)
    passing = np.sort(numbers[np.isfinite(numbers) & (numbers >= 12) & (numbers <= 245)])
    assert passed_low == pytest.approx(passing[:5], rel=1e-3) and passed_high == pytest.approx(
        passing[:-6:-1], rel=1e-3
    )
    scripts = {row["name"]: row for row in rates(result)[0][1]}
    assert scripts["latin"]["low"] < scripts["latin"]["rate"] < scripts["latin"]["high"]


def test_a_histogram_shows_every_number_and_the_line() -> None:
    values = np.array([1.0, 2.0, 2.0, 100.0, 1000.0])
    chart = histogram(values, values < 1.5, {"least": 1.5}, "clarity")
    heights = [float(h) for h in re.findall(r'<rect class="in"[^>]*height="([\d.]+)"', chart)]
    assert len(heights) == 3 and max(heights) == pytest.approx(2 * min(heights), abs=0.2)
    assert chart.count('class="out"') == 1 and "least 1.5" in chart and "logarithmic" in chart
    assert histogram(values[:0], values[:0] > 0, {}, "clarity") == ""


def test_the_page_of_a_set_without_its_source_says_what_is_gone(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    source = tmp_path / "source"
    source.mkdir()
    for row in [json.loads(line) for line in (made / "captions.jsonl").read_text(encoding="utf-8").splitlines()][:3]:
        (source / Path(row["file_name"]).name).write_bytes((made / row["file_name"]).read_bytes())
        (source / Path(row["file_name"]).name).with_suffix(".txt").write_text("a photograph")
    list(curate([str(source)], out, ["reading=no"]))
    next(source.glob("*.png")).unlink()
    assert "No such file" in write_report(out).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_opens_in_a_browser_without_a_network(made: Path) -> None:
    path = write_report(made)
    with browser() as chromium:
        page = chromium.new_page(offline=True)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("requestfailed", lambda request: errors.append(request.url[:80]))
        page.goto(path.as_uri())
        broken = page.evaluate("() => [...document.images].filter(i => !i.complete || !i.naturalWidth).length")
        wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert not errors and broken == 0 and wide <= 0
