"""A sinner and an innocent twin for each filter that needs weights, an engine or a choice, with stand-ins for these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.curation.curated_folder import CAPTIONS, curate
from experiments.curation.measures import measure_groups, text_reading
from experiments.curation.thresholds import Filters, in_order
from rewards.text.recognisers import Reading
from tests.experiments.curation.images_to_curate import as_png, images_to_curate, photograph
from tests.experiments.curation.test_curated_folder import decisions

REWARDS = {"safety": "brisque", "alignment": "ocr", "quality": "ocr_judge", "aesthetic": "ocr_contains"}
"""A reward each, so that the stand-in knows which filter asks."""
BAD, GOOD = 0.1, 9.0
OTHERS = {
    "nudity": "test_nudity", "blurred_face": "test_nudity", "mosaic_face": "test_nudity",
    "abnormal": "test_captioner", "model_marks": "test_captioner",
}  # fmt: skip
BOXES: dict[str, list[tuple[str, tuple[int, int, int, int]]]] = {
    "dense_text": [("A page with much text", (0, 0, 300, 200))],
    "small_text": [("The small print", (10, 10, 90, 6)), ("and more of it", (10, 20, 90, 5))],
    "quoted_text": [("CLOSED", (10, 10, 90, 30))],
    "watermark": [("www.shop.com", (10, 10, 90, 30))],
    "category": [("A SIGN", (10, 10, 200, 60))],
    "twin": [("OPEN 大 © 2020", (10, 10, 90, 30))],
}
"""What the engine reads: text, and left, top, width and height of its box; the twin's caption quotes it."""
SINNERS = {
    "misnamed": ("coffee", "a cup"), "safety": ("chelsea", "a cat"), "caption_script": ("rocket", "ракета"),
    "alignment": ("coins", "a dog"), "quality": ("camera", "a man"), "aesthetic": ("brick", "bricks"),
    "dense_text": ("grass", "a page"), "small_text": ("gravel", "a contract"),
    "quoted_text": ("moon", 'a door that says "BAKERY"'), "watermark": ("retina", "an eye"),
    "category": ("immunohistochemistry", "a sign"), "balance": ("hubble_deep_field", "galaxies"),
    "twin": ("astronaut", 'a woman, and the words "OPEN 大 © 2020"'),
}  # fmt: skip
"""filter -> photograph and caption; "twin" passes all of them"""


def test_every_filter_has_a_sinner() -> None:
    planted = {by for _, _, by in images_to_curate().values()} | SINNERS.keys() | OTHERS.keys()
    assert planted - {"", "twin"} == set(in_order(Filters()))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sinners, with stand-ins that tell them by their pixels."""
    images = tmp_path / "images"
    images.mkdir()
    lines = []
    for by, (photo, caption) in SINNERS.items():
        name = f"{by}.jpg" if by == "misnamed" else f"{by}.png"
        (images / name).write_bytes(as_png(photograph(photo)))
        category = {"category": ""}.get(by, "thing" if by in ("balance", "twin") else by)
        lines.append(json.dumps({"file_name": name, "text": caption, "category": category}, ensure_ascii=False))
    (images / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")

    def name_of(rgb_HW3: np.ndarray) -> str:
        return next(by for by, (photo, _) in SINNERS.items() if np.array_equal(np.asarray(photograph(photo)), rgb_HW3))

    class Engine:
        def read_boxes(self, rgb_HW3: np.ndarray) -> list[tuple[Any, np.ndarray]]:
            boxes = BOXES.get(name_of(rgb_HW3), [])
            return [(Reading(text, 1.0), np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], float))
                    for text, (x, y, w, h) in boxes]  # fmt: skip

    monkeypatch.setattr(text_reading, "reader", Engine)
    monkeypatch.setattr(
        measure_groups, "score", lambda reward, rgb, captions: BAD if REWARDS.get(name_of(rgb)) == reward else GOOD
    )
    return images


def test_sinners_are_dropped_and_their_twin_stays(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    rewards = [f"{name}.reward={reward}" for name, reward in REWARDS.items()]
    choices = ["misnamed.most=0", "caption_script.scripts=latin", "category.without=text"]
    list(curate([str(folder)], out, [*rewards, *choices]))
    by = {Path(name).stem: row["dropped_by"] for name, row in decisions(out).items()}
    assert by == {name: "" if name in ("twin", "balance") else name for name in SINNERS}
    staying = map(json.loads, (out / CAPTIONS).read_text(encoding="utf-8").splitlines())
    assert {Path(row["origins"][0]).stem: row["text_script"] for row in staying} == {"twin": "latin", "balance": "none"}
    list(curate((), out, ["balance.share=0.5", "category.without=", "caption_script.scripts="]))
    by = {Path(name).stem: row["dropped_by"] for name, row in decisions(out).items() if not row["dropped_by"]}
    assert {"category", "caption_script"} < by.keys() and len(by.keys() & {"twin", "balance"}) == 2
    list(curate((), out, ["balance.share=0.34"]))
    assert [row["dropped_by"] for row in decisions(out).values()].count("balance") == 1
    assert len((out / CAPTIONS).read_text(encoding="utf-8").splitlines()) == 3
