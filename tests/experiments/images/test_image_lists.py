"""A list of images is read back as it was, from every kind of source, also where its folder has moved."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from experiments.images.image_lists import ImageList, changed, packed, unpacked
from experiments.images.image_readers import Entry
from experiments.images.image_sources import ImageSources, open_images
from experiments.producers.generations import dropped, shortened


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write_sources(folder: Path) -> list[str]:
    """A folder with an edit and a table of repeats, an archive with an edit, and a table of columns."""
    images = folder / "images"
    images.mkdir(parents=True)
    for name, number in (("a", 1), ("b_source", 2), ("b_target", 3)):
        (images / f"{name}.png").write_bytes(png(number))
    (images / "b_target.txt").write_text("make it red")
    (images / "captions.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "赤い", "repeats": 3}))
    with tarfile.open(folder / "more.tar", "w") as archive:
        for name, content in (("c.source.png", png(4)), ("c.target.png", png(5)), ("c.txt", b"turn it")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    rows = [{"image": {"bytes": png(6 + i), "path": None}, "text": f"row {'ab'[i]}"} for i in range(2)]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet", row_group_size=1)
    return [str(folder / name) for name in ("images", "more.tar", "rows.parquet")]


def test_every_kind_of_source_is_read_back_where_its_folder_is_now(tmp_path: Path) -> None:
    folders = write_sources(tmp_path / "here")
    images = open_images(ImageSources(tuple(folders)))
    parts = [*map(list, images.listed)]
    content = packed(ImageList(parts, [[""], [""], ["", "/elsewhere"]]), folders)
    assert unpacked(content, "list", folders) == ImageList(parts, [[""], [""], ["", "/elsewhere"]])
    assert images.count == 5 and len(images) == 7 and images.edits == 2
    moved = [folder.replace("here", "there") for folder in folders]
    (tmp_path / "here").rename(tmp_path / "there")
    there = unpacked(content, "list", moved).parts
    assert there == [*map(list, open_images(ImageSources(tuple(moved))).listed)]
    assert [[*changed(entries, folder)] for entries, folder in zip(there, moved, strict=True)] == [[], [], []]
    (tmp_path / "there" / "images" / "b_source.png").unlink()
    assert [*changed(there[0], moved[0])] == [f"{tmp_path}/there/images/b_source.png is not there"]


def test_an_image_elsewhere_keeps_its_place_and_every_fault_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sources(Path("here"))
    entries = [*open_images(ImageSources(("here/images",))).listed[0]]
    content = packed(ImageList([entries], [["here/images"]]), ["elsewhere"])
    monkeypatch.chdir("/")
    ((first, edit),) = unpacked(content, "list", ["elsewhere"]).parts
    assert [first.file, edit.sources[0].file] == [tmp_path / "here/images/a.png", tmp_path / "here/images/b_source.png"]
    assert [*changed([first, edit], "elsewhere")] == []
    first.file.write_bytes(png(9))
    edit.file.unlink()
    edit.sources[0].file.unlink()
    gone = [f"{tmp_path}/here/images/b_{name}.png is not there" for name in ("source", "target")]
    assert [*changed([edit, first, edit], "elsewhere")] == [*gone, f"{first.name} is another image now"]


def test_an_image_that_another_part_shows_is_not_left_out_and_faults_are_shortened() -> None:
    a, b, c = (Entry(name, (), Path(name), "file", sha256=name) for name in "abc")
    before, now = (ImageList(parts, [[""], [""]]) for parts in ([[a, b], [c]], [[c], [a]]))
    assert dropped(before, now) == [[b], []]
    assert [shortened([*"abcde"[:count]]) for count in (3, 5)] == ["a; b; c", "a; b; c; and 2 more"]


def test_what_is_no_list_is_refused() -> None:
    for content, message in (
        (b'{"folders": [[""], [""]]}\n', "lists images of 2 folders, and the run has 1"), (b"", "not a list of images"),
        (b'{"folders": [[""]]}\n{"part": 3, "file": "a"}\n', "not a list of images"), (b"{", "line 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            unpacked(content, "list", ["images"])
