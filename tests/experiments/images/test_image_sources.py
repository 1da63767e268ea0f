"""Own images: every layout gives the same images and captions, bad ones are named, and a batch is a function."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.curation.image_facts import list_sources
from experiments.images import columnar_files
from experiments.images.canvases import BUCKETS, cover
from experiments.images.image_readers import list_entries
from experiments.images.image_sources import Bad, ImageSources, OwnImages, open_images, require_usable
from experiments.images.own_latents import OwnLatents
from experiments.images.sample_order import BLOCK

NAMES = ("a", "b", "c", "d")


def encoded(seed: int, size: tuple[int, int] = (48, 64), form: str = "PNG", **settings: object) -> bytes:
    """Bytes of an image that no other seed has."""
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **settings)
    return file.getvalue()


CONTENT = {name: encoded(i) for i, name in enumerate(NAMES)}
CAPTIONS = {name: [f"the image {name}"] for name in NAMES} | {"d": ["one caption", "another caption"]}


def txt(folder: Path, ending: str = ".txt") -> Path:
    for name in NAMES:
        (folder / f"{name}.png").write_bytes(CONTENT[name])
        (folder / f"{name}{ending}").write_text("\n\n".join(CAPTIONS[name]) + "\n", encoding="utf-8")
    return folder


def caption(folder: Path) -> Path:
    return txt(folder, ".caption")


def metadata_csv(folder: Path) -> Path:
    """As Hugging Face's imagefolder: paths from the table's folder, an image twice for two captions."""
    (folder / "train").mkdir()
    with (folder / "metadata.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "text"])
        for name in NAMES:
            (folder / "train" / f"{name}.png").write_bytes(CONTENT[name])
            rows.writerows([[f"train/{name}.png", text] for text in CAPTIONS[name]])
    return folder


def captions_jsonl(folder: Path) -> Path:
    lines = []
    for name in NAMES:
        (folder / f"{name}.png").write_bytes(CONTENT[name])
        lines.append(json.dumps({"file_name": f"{name}.png", "text": CAPTIONS[name]}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return folder


def table_file(folder: Path) -> Path:
    return captions_jsonl(folder) / "captions.jsonl"


def metadata_parquet(folder: Path) -> Path:
    """As newer imagefolders: the table is Parquet without images; a path is named in another way than the file's."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (folder / "train").mkdir()
    for name in NAMES:
        (folder / "train" / f"{name}.png").write_bytes(CONTENT[name])
    names = [f"train/../train/{name}.png" for name in NAMES[:3]] + [str(folder / "train" / f"{NAMES[3]}.png")]
    table = pa.table({"file_name": names, "text": [CAPTIONS[name] for name in NAMES]})
    pq.write_table(table, folder / "metadata.parquet")
    return folder


def windows(folder: Path) -> Path:
    """Names in capitals, a caption named after the whole file, and a table in capitals."""
    txt(folder)
    (folder / "a.txt").rename(folder / "a.TXT")
    (folder / "b.txt").rename(folder / "b.png.txt")
    (folder / "c.txt").unlink()
    (folder / "Metadata.CSV").write_text("file_name,text\nc.png,the image c\n")
    return folder


def archive_of(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as archive:
        for member, content in members:
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def tar(folder: Path) -> Path:
    texts = {name: json.dumps({"caption": CAPTIONS[name]}).encode() for name in NAMES}
    pairs = [((f"x/{name}.json", texts[name]), (f"x/{name}.PNG", CONTENT[name])) for name in NAMES]
    archive_of(folder / "00000.tar", [member for pair in pairs for member in pair])
    return folder


def img2dataset(folder: Path) -> Path:
    """An archive with a table of what was fetched beside it, whose sidecars hold NaN."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    files = [(f"{n}.json", b'{"caption": "x", "similarity": NaN}') for n in NAMES]
    files += [(f"{n}.png", CONTENT[n]) for n in NAMES] + [(f"{n}.txt", "\n".join(CAPTIONS[n]).encode()) for n in NAMES]
    archive_of(folder / "00000.tar", files)
    pq.write_table(pa.table({"url": ["http://x"], "caption": ["lost"], "key": ["e"]}), folder / "00000.parquet")
    return folder


def parquet(folder: Path) -> Path:
    """As Hugging Face's hub has data sets: a struct of bytes and path, several row groups."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": CONTENT[name], "path": f"{name}.png"} for name in NAMES]
    table = pa.table({"id": [1, 2, 3, 4], "image": images, "text": [CAPTIONS[name] for name in NAMES]})
    (folder / "data").mkdir()
    pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet", row_group_size=3)
    return folder


def saved_to_disk(folder: Path) -> Path:
    """As `datasets.Dataset.save_to_disk` writes it."""
    datasets = pytest.importorskip("datasets")
    images = [{"bytes": CONTENT[name], "path": None} for name in NAMES]
    kinds = datasets.Features(image=datasets.Image(), caption=datasets.Sequence(datasets.Value("string")))
    columns = {"image": images, "caption": [CAPTIONS[name] for name in NAMES]}
    datasets.Dataset.from_dict(columns, features=kinds).save_to_disk(folder / "set")
    return folder / "set"


LAYOUTS = (
    txt, caption, metadata_csv, captions_jsonl, table_file, tar, parquet, saved_to_disk, metadata_parquet, windows,
    img2dataset,
)  # fmt: skip


def opened(*folders: Path, size: tuple[int, int] = (32, 48), **settings: object) -> OwnImages:
    chosen = ImageSources(tuple(map(str, folders)), **{"aspect": False} | settings)  # type: ignore[arg-type]
    return open_images(chosen, not settings.get("uncaptioned")).sized(size, 16)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_images_and_captions(layout, tmp_path: Path) -> None:
    source = layout(tmp_path)
    entries = [entry for entry in list_entries(str(source)) if not entry.by_design]
    assert [entry.content() for entry in entries] == list(CONTENT.values())
    assert [list(entry.captions) for entry in entries] == list(CAPTIONS.values())
    stream = opened(source)
    images, texts, _ = stream.batch(0, 4)
    assert len(stream) == 4 and not stream.bad
    assert {text for name in "abc" for text in CAPTIONS[name]} < set(texts), "an image was not shown in the first pass"
    expected = cover(np.asarray(Image.open(io.BytesIO(CONTENT["a"]))), (32, 48)).transpose(2, 0, 1)
    assert np.array_equal(images[texts.index("the image a")].numpy(), expected)


def test_a_folder_may_hold_several_layouts(tmp_path: Path) -> None:
    for layout in (txt, tar):
        (tmp_path / layout.__name__).mkdir()
        layout(tmp_path / layout.__name__)
    stream = opened(tmp_path)
    assert (len(stream), stream.duplicates) == (4, 4)


def test_batches_are_a_function_and_ranks_share_the_stream(tmp_path: Path) -> None:
    folder = txt(tmp_path)
    first, again = opened(folder, seed=3), opened(folder, seed=3)
    for step in (7, 0, 3):
        whole = first.batch(step, 6)
        parts = [again.batch(step, 3, rank, 2) for rank in (1, 0)]
        assert whole.texts == parts[1].texts + parts[0].texts
        assert all(torch.equal(a, b) for a, b in zip(whole.images, [*parts[1].images, *parts[0].images], strict=True))
    assert first.batch(0, 8).texts != opened(folder, seed=4).batch(0, 8).texts


def test_a_pass_shows_every_image_once_and_all_captions_come(tmp_path: Path) -> None:
    stream = opened(txt(tmp_path))
    shown = [next(stream.candidates(index)).name for index in range(80)]
    assert all(len(set(shown[i : i + 4])) == 4 for i in range(0, 80, 4))
    assert len({tuple(shown[i : i + 4]) for i in range(0, 80, 4)}) > 3, "every pass has the same order"
    texts = stream.batch(0, 80).texts
    assert 4 <= texts.count("one caption") <= 16 and 4 <= texts.count("another caption") <= 16


def test_a_table_says_how_often_an_image_is_shown_in_a_pass(tmp_path: Path) -> None:
    folder, table = txt(tmp_path), tmp_path / "captions.jsonl"
    once = open_images(ImageSources((str(folder),)))
    lines = [{"file_name": "b.png", "text": "b", "repeats": 3}, {"file_name": "c.png", "text": "c", "repeats": 1}]
    lines += [{"file_name": "b.png", "text": "b again", "repeats": 2}]
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    images = open_images(ImageSources((str(folder),)))
    for first in (0, 6):
        shown = [Path(next(images.candidates(index)).name).stem for index in range(first, first + 6)]
        assert sorted(shown) == ["a", "b", "b", "b", "c", "d"]
    of_table = [Path(entry.name).stem for entry in open_images(ImageSources((str(table),))).sources[0]]
    assert of_table == ["b", "b", "b", "c"]
    (folder / "a_copy.png").write_bytes(CONTENT["a"])
    table.write_text(f'{table.read_text()}{{"file_name": "a_copy.png", "text": "a copy", "repeats": 2}}\n')
    shown = [Path(entry.name).stem for entry in open_images(ImageSources((str(folder),))).sources[0]]
    assert shown == ["a", "a", "b", "b", "b", "c", "d"]
    (folder / "a_copy.png").unlink()
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "4 images with" in images.summary() and "a pass shows 6" in images.summary()
    table.write_text(table.read_text().replace('"repeats": 3', '"repeats": 2'))
    assert len({each.fingerprint for each in (once, images, open_images(ImageSources((str(folder),))))}) == 3
    for wrong in ("0", '"often"', "1.5", "-1"):
        table.write_text(f'{{"file_name": "b.png", "text": "b", "repeats": {wrong}}}')
        with pytest.raises(ValueError, match=r"line 1: repeats is .*, and an image is shown a whole number of times"):
            list_entries(str(folder))


def test_weights_share_samples_exactly_and_each_source_still_goes_round(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    txt(first)
    for i in range(3):
        (second / f"{i}.png").write_bytes(encoded(50 + i))
        (second / f"{i}.txt").write_text("of the second")
    stream = opened(first, second, weights=(1.0, 3.0))
    names = [next(stream.candidates(index)).name for index in range(2 * BLOCK + 40)]
    assert sum("second" in name for name in names[:BLOCK]) == 750
    for folder, count in (("first", len(stream.sources[0])), ("second", 3)):
        own = [name for name in names if folder in name]
        passes = [own[i : i + count] for i in range(0, len(own) - count + 1, count)]
        assert all(len(set(one)) == count for one in passes), "a block begins its sources anew"
    equal = opened(first, second)
    assert sum("second" in next(equal.candidates(i)).name for i in range(BLOCK)) == round(BLOCK * 3 / 7)
    often = opened(first, second, repeats=(1, 4))
    assert sum("second" in next(often.candidates(i)).name for i in range(BLOCK)) == round(BLOCK * 12 / 16)


def awkward(folder: Path) -> None:
    """What cameras, printers and scanners make, and what goes wrong."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40] = (200, 30, 30)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(folder / "turned.jpg", quality=95, exif=turned)
    Image.fromarray(pixels).convert("CMYK").save(folder / "printed.jpg", quality=95)
    Image.fromarray((np.arange(1600, dtype=np.uint16) * 40).reshape(40, 40)).save(folder / "deep.png")
    clear = np.dstack([pixels, np.where(np.arange(80) < 40, 255, 0)[None].repeat(40, 0).astype(np.uint8)])
    Image.fromarray(clear).save(folder / "clear.png")
    for name in ("turned", "printed", "deep", "clear"):
        (folder / f"{name}.txt").write_text(name)


def test_images_are_shown_as_a_viewer_shows_them(tmp_path: Path) -> None:
    awkward(tmp_path)
    stream = opened(tmp_path, size=(80, 48))
    batch = stream.batch(0, 4)
    shown = dict(zip(batch.texts, batch.images, strict=True))
    red = (200, 30, 30)
    assert shown["turned"][:, :30].float().mean((1, 2)).numpy() == pytest.approx(red, abs=6), "turned: red comes to top"
    assert shown["turned"][:, 50:].float().mean() < 6
    assert shown["printed"].float().mean((1, 2)).numpy() == pytest.approx((100, 15, 15), abs=30)
    assert shown["deep"].float().mean() == pytest.approx(1600 * 40 / 2 / 256, abs=12)
    assert (shown["clear"][:, :, -8:] == 255).all(), "what is transparent is white"


def spoil(folder: Path) -> None:
    (folder / "empty.png").write_bytes(b"")
    (folder / "empty.txt").write_text("an empty file")
    (folder / "tiny.png").write_bytes(encoded(9, (8, 8)))
    (folder / "tiny.txt").write_text("a tiny image")
    (folder / "silent.png").write_bytes(encoded(10))
    (folder / "scan.tiff").write_bytes(b"II*\0")


def test_no_share_is_advised_that_would_leave_nothing() -> None:
    settings = ImageSources(("scans",))
    for bad, total, left in ((3, 3, "none"), (299, 300, "1")):
        with pytest.raises(ValueError, match=rf"Mend them or remove them; {left} would be left to learn from$"):
            require_usable([Bad(f"{i}.png", "is empty") for i in range(bad)], total, settings)
    with pytest.raises(ValueError, match=r"with --data.max-bad 0.99$"):
        require_usable([Bad("a.png", "is empty")] * 99, 100, settings)


def test_bad_images_are_named_counted_and_left_out_up_to_a_share(tmp_path: Path) -> None:
    folder = txt(tmp_path)
    spoil(folder)
    (folder / "twice.png").write_bytes(CONTENT["a"])
    (folder / "twice.txt").write_text("a copy of a")
    with pytest.raises(ValueError, match=r"4 of 9 images .* at most 5%.*--data.max-bad 0.45"):
        opened(folder)
    stream = opened(folder, max_bad=0.45)  # what the sentence says is enough
    reasons = {Path(bad.name).name: bad.reason for bad in stream.bad}
    assert set(reasons) == {"empty.png", "tiny.png", "silent.png", "scan.tiff"}
    assert "8x8" in reasons["tiny.png"] and "caption" in reasons["silent.png"] and "readable" in reasons["empty.png"]
    assert len(stream) == 4 and stream.duplicates == 1
    assert "a copy of a" in stream.captions, "the copy's caption counts"
    assert "4 left out" in stream.summary() and "1 copies" in stream.summary()


@pytest.mark.parametrize("which", ["missing", "empty", "silent", "table", "odd"])
def test_a_folder_that_cannot_be_learned_from_is_refused_with_the_remedy(which: str, tmp_path: Path) -> None:
    folder = tmp_path / which
    if which != "missing":
        folder.mkdir()
    if which in ("silent", "table"):
        (folder / "a.png").write_bytes(CONTENT["a"])
    if which == "table":
        (folder / "metadata.csv").write_text("file_name,text\nb.png,the image b\n")
    if which == "odd":
        folder = folder / "images.zip"
        folder.write_bytes(b"PK")
    remedy = {
        "missing": "there is no folder", "empty": "holds no image", "silent": "has no caption: put a .txt",
        "table": r"b\.png is not there, and .*metadata\.csv line 2", "odd": "name the folder",
    }  # fmt: skip
    with pytest.raises((ValueError, FileNotFoundError), match=remedy[which]):
        opened(folder)


def test_images_damaged_behind_their_head_are_named_and_replaced_by_the_next_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = txt(tmp_path)
    whole = encoded(30, form="JPEG")
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "cut.txt").write_text("cut off")
    stream, again = opened(folder, max_bad=0.3), opened(folder, max_bad=0.3)
    assert len(stream) == 5 and not stream.bad
    texts = stream.batch(0, 10).texts
    assert "cut off" not in texts and [Path(name).name for name in stream.broken] == ["cut.jpg"]
    assert capsys.readouterr().err.count("cut.jpg is left out from here on: ") == 1
    assert again.batch(1, 5).texts == texts[5:], "what was seen before makes no difference"
    with pytest.raises(ValueError, match="1 of 5 images"):
        opened(folder).batch(0, 10)


def test_folders_behind_links_are_read_once_and_what_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    txt(tmp_path / "elsewhere")
    folder = tmp_path / "Ünter" / "深い"
    folder.mkdir(parents=True)
    (folder / "é 图.png").write_bytes(encoded(9))
    (folder / "é 图.txt").write_text("ein Bild 图", encoding="utf-8")
    for name, target in (("linked", tmp_path / "elsewhere"), ("again", tmp_path / "elsewhere"), ("loop", "..")):
        (folder / name).symlink_to(target)
    assert [len(entry.captions) for entry in list_entries(str(tmp_path / "Ünter"))] == [1, 1, 1, 2, 1]
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").write_bytes(encoded(1))
    (tmp_path / "one" / "a.txt").write_text("hello")
    (tmp_path / "one" / "metadata.jsonl").write_text('{"file_name": "a.png", "caption": "a"}')
    with pytest.raises(ValueError, match="has no column 'txt'; it has file_name, caption"):
        list_entries(str(tmp_path / "one"), "txt")
    (folder / "dead.jpg").symlink_to("nowhere.jpg")
    (folder / "part.tar.gz").write_bytes(b"packed")
    bad = {Path(each.name).name: each.reason for each in opened(tmp_path / "Ünter", max_bad=0.5).bad}
    assert bad.keys() == {"dead.jpg", "part.tar.gz"} and "unpack it" in bad["part.tar.gz"]
    assert "No such file" in bad["dead.jpg"]


def test_columns_of_tables_are_read_in_any_case(tmp_path: Path) -> None:
    lines = ["File_Name,Score,Caption"]
    for name in NAMES:
        (tmp_path / f"{name}.png").write_bytes(CONTENT[name])
        lines.append(f'{name}.png,0.5,"the ""image"", {name}"')
    (tmp_path / "metadata.csv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    assert sorted(opened(tmp_path).captions) == [f'the "image", {name}' for name in NAMES]


def test_names_that_come_again_in_an_archive_are_other_samples_and_no_image_goes_unnamed(tmp_path: Path) -> None:
    first = [("0.png", CONTENT["a"]), ("0.txt", b"first"), ("1.v2.png", CONTENT["b"]), ("1.v2.txt", b"dotted")]
    second = [("0.png", CONTENT["c"]), ("0.txt", b"second"), ("0.jpg", CONTENT["d"]), ("0.txt", b"corrected")]
    archive_of(tmp_path / "both.tar", first + second)
    stream = opened(tmp_path)
    assert [(entry.content(), entry.captions) for entry in stream.entries] == [
        (CONTENT["a"], ("first",)), (CONTENT["c"], ("corrected",)),
    ]  # fmt: skip
    assert (stream.count, len(stream)) == (2, 2), "the samples have names of their own"
    assert [Path(each.name).name.partition(", ")[0] for each in stream.by_design] == [
        "both.tar:0.jpg (again",
        "both.tar:1.v2.png",
    ]
    archive_of(tmp_path / "both.tar", first[2:])
    with pytest.raises(ValueError, match=r"left out: .*1\.v2\.png has 'v2' between its key"):
        opened(tmp_path)


def test_curation_says_what_it_passes_over_and_takes_no_facts_of_another_sample(tmp_path: Path) -> None:
    urls = [("0.json", b'{"url": "http://one"}'), ("1.json", b'{"url": "http://two"}'), ("2.json", b'{"url": NaN}')]
    members = [(f"{i}.png", CONTENT[name]) for i, name in enumerate("abc")] + [("1.v2.png", CONTENT["d"])]
    archive_of(tmp_path / "x.tar", [*urls, *members, ("0.png", CONTENT["d"]), ("0.json", b'{"url": "http://four"}')])
    listed, passed = list_sources([str(tmp_path)], "")
    facts = {row["name"].partition(".tar:")[2].partition(",")[0]: row["facts"] for row in listed}
    assert facts == {"0.png": "", "0.png (again": "", "1.png": '{"url": "http://two"}', "2.png": ""}
    assert len(passed) == 1 and f"passed over in {tmp_path}: 1, first {tmp_path}/x.tar:1.v2.png has 'v2'" in passed[0]


def test_a_caption_that_cannot_be_read_makes_its_own_image_bad_alone(tmp_path: Path) -> None:
    folder = captions_jsonl(tmp_path)
    (folder / "a.txt").write_bytes("café".encode("latin-1"))
    archive_of(
        folder / "more.tar", [("e.png", encoded(5)), ("e.txt", b"\xe9"), ("f.png", encoded(6)), ("f.txt", b"an f")]
    )
    rows = [{"file_name": "g.png", "text": 5}, {"file_name": "h.png", "text": [None, "an h"]}]
    for row in rows:
        (folder / row["file_name"]).write_bytes(encoded(ord(row["file_name"][0])))
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    stream = opened(folder, max_bad=0.3)
    reasons = {each.name[-5:]: each.reason for each in stream.bad}
    assert reasons.keys() == {"e.png", "g.png"} and "the image a" in stream.captions
    assert "e.txt line 1 is not UTF-8" in reasons["e.png"] and "line 1: text is 5" in reasons["g.png"]
    assert {"an f", "an h"} < set(stream.captions)
    assert not open_images(ImageSources((str(folder),)), needs_captions=False).bad, "an autoencoder needs no captions"


def test_captions_that_a_model_cannot_read_are_named(tmp_path: Path) -> None:
    folder = txt(tmp_path)
    (folder / "a.txt").write_text("50 % off\nplain words")
    (folder / "b.txt").write_text("50 % off")
    refused = {"50 % off": "it has no digits"}
    settings = ImageSources((str(folder),), max_bad=0.3)
    stream = open_images(settings, refused=lambda text: refused.get(text, ""))
    assert [Path(bad.name).name for bad in stream.bad] == ["b.png"] and "no digits" in stream.bad[0].reason
    assert "plain words" in stream.captions and "50 % off" not in stream.captions


def test_the_fingerprint_follows_pixels_and_captions_and_nothing_else(tmp_path: Path) -> None:
    folder = txt(tmp_path)
    before = opened(folder).fingerprint
    (folder / "notes.md").write_text("nothing")
    assert opened(folder).fingerprint == before
    (folder / "a.txt").write_text("another caption of a")
    changed = opened(folder).fingerprint
    (folder / "b.png").write_bytes(encoded(40))
    assert len({before, changed, opened(folder).fingerprint}) == 3


def test_aspects_are_kept_on_canvases_of_about_as_many_pixels(tmp_path: Path) -> None:
    stream = opened(txt(tmp_path), size=(64, 64), aspect=True)
    for shape in ((48, 64), (100, 10), (10, 1000), (64, 64)):
        height, width = stream.canvas(shape)
        assert height % 16 == width % 16 == 0 and 0.6 < height * width / 4096 < 1.5
        assert (height > width) == (shape[0] > shape[1]) or height == width
    assert stream.canvas((64, 64)) == (64, 64)
    assert {tuple(image.shape) for image in stream.batch(0, 4).images} == {(3, *stream.canvas((48, 64)))}
    with pytest.raises(ValueError, match="multiples of 16"):
        stream.sized((40, 64), 16)


def test_any_shape_covers_any_canvas() -> None:
    """Also where the scale does not divide: 64 x 98 on 32 x 64 ended a run by a box that began below 0."""
    for height in range(60, 70):
        for width in range(60, 110):
            for size in ((32, 64), (48, 48), (80, 32)):
                assert cover(np.zeros((height, width, 3), np.uint8), size).shape == (*size, 3)


def test_buckets_are_few_and_images_of_the_runs_aspect_keep_its_size(tmp_path: Path) -> None:
    assert ImageSources(("a",)).aspect, "nothing is cut to one size unless it is asked for"
    stream = opened(txt(tmp_path), aspect=True).sized((512, 640), 16, BUCKETS)
    shapes = [(height, width) for height in range(100, 1000, 37) for width in range(100, 1000, 41)]
    canvases = {shape: stream.canvas(shape) for shape in shapes}
    assert 8 < len(set(canvases.values())) <= len(BUCKETS) + 1 and stream.canvas((400, 500)) == (512, 640)
    for (height, width), (tall, wide) in canvases.items():
        assert tall % 16 == wide % 16 == 0 and abs(tall * wide / (512 * 640) - 1) < 0.1
        if 1 / 3 < height / width < 3:
            kept = (height / width) / (tall / wide)
            assert 0.8 < kept < 1.25, "more than a fifth would be cut off"


def test_latents_are_encoded_once_and_do_not_depend_on_what_was_read_before(tmp_path: Path) -> None:
    stream, seen = opened(txt(tmp_path)), []

    def encode(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return images.mean(1).flatten(1)[:, :6, None]

    with OwnLatents(stream, encode) as latents, OwnLatents(stream, encode, keep_bytes=0) as forgetful:
        batches = [latents.batch(step, 4) for step in range(3)]
        assert len(seen) == 4, "every image once"
        late = forgetful.batch(2, 4)
        assert len(seen) == 8
        forgetful.batch(3, 4)
        assert len(seen) == 12
    assert torch.equal(late.x0_BSC, batches[2].x0_BSC) and late.texts == batches[2].texts
    expected = stream.batch(2, 4).images
    assert torch.equal(late.x0_BSC, torch.cat([encode(image[None].float() / 255.0) for image in expected]))
    assert late.grids == ()
    ragged = replace(stream, settings=replace(stream.settings, aspect=True))
    with OwnLatents(ragged, encode) as latents:
        assert latents.batch(0, 2).grids == ((stream.size[0] // 16, stream.size[1] // 16),) * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folder": ()}, "--data.folder"), ({"weights": (1.0, 2.0)}, "2 weights for 1"),
        ({"weights": (0.0,)}, "shares"), ({"max_bad": 1.0}, "max_bad"), ({"min_side": 0}, "min_side"),
        ({"repeats": (1, 2)}, "2 repeats for 1"), ({"repeats": (0,)}, "at least 1"),
        ({"repeats": (2,), "weights": (1.0,)}, "in two ways"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSources(**({"folder": ("a",)} | settings))  # type: ignore[arg-type]


def test_a_parquet_file_has_one_reader_at_a_time(monkeypatch):
    """Two threads that read one open file ended the process now and then."""
    reading: list[int] = []

    class OpenFile:
        def read_row_group(self, group, columns):
            reading.append(group)
            time.sleep(0.01)
            assert reading == [group], "another thread reads"
            reading.clear()
            return dict.fromkeys(columns, group)

    monkeypatch.setattr(columnar_files, "parquet_file", lambda path: OpenFile())
    with ThreadPoolExecutor(4) as pool:
        rows = pool.map(lambda i: columnar_files.parquet_rows(Path("no such file"), i, "image"), range(8))
    assert list(rows) == list(range(8))
