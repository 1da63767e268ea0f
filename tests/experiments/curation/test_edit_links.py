"""Edits are curated as pairs: an image and those that it was made from stay together, or go together."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from experiments.cli import main
from experiments.curation.curated_folder import curate, recorded
from experiments.curation.curation_report import write_report
from experiments.curation.edit_links import with_pairs
from experiments.images.image_sources import ImageSources, open_images
from tests.experiments.curation.images_to_curate import as_png, photograph
from tests.experiments.curation.test_curated_folder import decisions, rows
from tests.fixtures.chat_server import MODEL, chat_server, completion


def marked(image: Image.Image, colour: str) -> Image.Image:
    """A small edit, which looks like its source."""
    changed = image.copy()
    ImageDraw.Draw(changed).ellipse((140, 120, 180, 160), colour)
    return changed


@pytest.fixture
def edits(tmp_path: Path) -> Path:
    folder = tmp_path / "edits"
    folder.mkdir()
    coffee, cat = photograph("coffee"), photograph("chelsea")
    files = {
        "cup": coffee, "cup_red": marked(coffee, "red"), "cup_blue": marked(coffee, "blue"),
        "cup_again": coffee, "cup_red_again": marked(coffee, "red"),
        "cat": cat, "cat_blurred": cat.filter(ImageFilter.GaussianBlur(5)),
        "dark": photograph("rocket").point(lambda level: level // 16), "day": photograph("rocket"),
        "moon": photograph("moon"),
    }  # fmt: skip
    for name, image in files.items():
        (folder / f"{name}.png").write_bytes(as_png(image))
    pairs = [("cup_red", "cup", 'remove the word "SALE" and add a red dot'), ("cup_blue", "cup", "add a blue dot"),
             ("cup_red_again", "cup_again", "put a red dot there"), ("cat_blurred", "cat", "blur it"),
             ("day", "dark", "make it day")]  # fmt: skip
    lines = [
        {"file_name": f"{after}.png", "source_image": f"{before}.png", "instruction": text, "caption": "no instruction",
         "license": "mine", "source": "a site"} for after, before, text in pairs
    ]  # fmt: skip
    lines.append({"file_name": "moon.png", "text": "the moon", "license": "NASA"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def by_name(out: Path) -> dict[str, str]:
    return {Path(name).stem: row["dropped_by"] for name, row in decisions(out).items()}


def test_an_edit_goes_with_any_of_its_images_and_copies_are_copies_of_pairs(edits: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    (line, *_) = (each for each in curate([str(edits)], out, ["reading=no"]) if "stay in" in each)
    assert line.startswith("3 of 6 images stay") and "2 of them edits of others" in line
    assert by_name(out) == {
        "cup": "", "cup_red": "", "cup_blue": "", "moon": "", "cup_again": "duplicates", "cup_red_again": "duplicates",
        "cat": "clarity", "cat_blurred": "clarity", "dark": "luma", "day": "luma",
    }  # fmt: skip
    why = {Path(name).stem: row["why"] for name, row in decisions(out).items()}
    assert why["cat"] == "nothing that was made of it stays" and why["cat_blurred"].startswith("clarity ")
    assert "dark.png, which it was made from: luma " in why["day"]
    assert sum(sum(stage["drops"].values()) for stage in recorded(out)["stages"]) == 3
    shown = {Path(row["origins"][-1]).stem: row for row in rows(out)}
    assert shown.keys() == {"cup_red", "cup_blue", "moon"}
    assert shown["cup_red"]["text"] == ['remove the word "SALE" and add a red dot', "put a red dot there"]
    assert shown["cup_red"]["source_image"] == shown["cup_blue"]["source_image"] and "source_image" not in shown["moon"]
    assert (shown["cup_red"]["license"], shown["cup_red"]["source"]) == ("mine", "a site")
    assert "instruction" not in shown["cup_red"], "it would be read in place of the captions that stay"
    assert len(list((out / "images").rglob("*.png"))) == 4, "a source of two edits lies there once"
    stream = open_images(ImageSources(folder=(str(out),), max_bad=0.0))
    assert (len(stream), stream.edits) == (3, 2) and not stream.bad
    source = next(entry for entry in stream.sources[0] if "add a blue dot" in entry.captions).sources[0]
    assert source.file.read_bytes() == (edits / "cup.png").read_bytes()


def test_a_set_of_edits_is_cut_anew_shown_and_curated_again(
    edits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    list(curate([str(edits)], out, ["reading=no", "clarity.least=0"]))
    assert by_name(out)["cat"] == by_name(out)["cat_blurred"] == ""
    list(curate((), out, ["clarity.least=8"]))
    assert by_name(out)["cat"] == "clarity"
    assert "3 of 6 images stay" in write_report(out).read_text(encoding="utf-8")
    assert main(["curate", str(out), "--lineage", "day.png"]) == 0
    shown = capsys.readouterr().out
    assert "which it was made from: luma" in shown and f"made from  {edits / 'dark.png'}" in shown
    list(curate([str(out)], tmp_path / "again", ["reading=no"]))
    assert {name for name, by in by_name(tmp_path / "again").items() if by} == set()
    chain = [row for row in rows(tmp_path / "again") if "add a blue dot" in row["text"]]
    assert len(chain) == 1 and len(chain[0]["origins"]) == 2 and len(chain[0]["source_image"]) == 1


def test_edits_of_archives_are_curated_too(tmp_path: Path) -> None:
    cat = photograph("chelsea")
    members = {"0.source.png": as_png(cat), "0.target.png": as_png(marked(cat, "red")),
               "0.txt": b"a red dot", "1.source.png": b"no image", "1.target.png": as_png(photograph("coffee")),
               "1.txt": b"a cup",
               "1.mask.png": as_png(cat), "2.source.png": as_png(cat), "2.target.png": as_png(marked(cat, "blue")),
               "2.txt": b"a blue dot"}  # fmt: skip
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    out = tmp_path / "set"
    list(curate([str(tmp_path / "a.tar")], out, ["reading=no", "file_size.least=0"]))
    assert {Path(name).name.partition(":")[2]: row["dropped_by"] for name, row in decisions(out).items()} == {
        "0.source.png": "", "0.target.png": "", "1.source.png": "broken", "1.target.png": "broken",
        "2.source.png": "", "2.target.png": "",
    }, "two edits of one image whose bytes stand there twice are no copies"  # fmt: skip
    assert [row["text"] for row in rows(out)] == [["a red dot"], ["a blue dot"]]


def test_instructions_are_neither_compared_with_the_image_nor_replaced(edits: Path, tmp_path: Path) -> None:
    images = {"name": np.arange(3), "id": np.array(["a", "b", "c"], object), "quoted_read": np.zeros(3)}
    with_pairs(images, [(1,), (), ()])
    assert np.isnan(images["quoted_read"][0]) and not images["quoted_read"][1:].any()
    answer = {"caption": "a model's words", "type": "other", "style": "", "watermarks": [], "abnormal": False}
    with chat_server(lambda request: completion({}, json.dumps(answer))) as server:
        asks = [f"captioner.url={server.url}", f"captioner.model={MODEL}", "captioner.shares=0|1|0"]
        list(curate([str(edits)], tmp_path / "set", ["reading=no", *asks]))
    texts = {Path(row["origins"][-1]).stem: row["text"] for row in rows(tmp_path / "set")}
    assert texts["moon"] == ["a model's words"] and texts["cup_blue"] == ["add a blue dot"]
