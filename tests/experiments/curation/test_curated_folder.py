"""`glyphlab curate`: what is dropped and why, what a set holds, how it is cut anew, and that it can be trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from experiments.cli import main
from experiments.curation import curated_folder, measuring
from experiments.curation.curated_folder import CAPTIONS, DECISIONS, HIDDEN, curate, recorded
from experiments.curation.shard_files import read_table
from experiments.images import own_latents
from experiments.images.image_sources import ImageSources, open_images
from experiments.record import record
from experiments.record.record import exclusive
from tests.experiments.curation.images_to_curate import as_png, photograph, write_images_to_curate


@pytest.fixture
def copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The set, to be changed."""
    monkeypatch.setattr(curated_folder, "SHARD", 4)
    return Path(shutil.copytree(made, tmp_path / "copy"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def decisions(folder: Path) -> dict[str, dict]:
    return {Path(row["name"]).name: row for row in read_table(folder / HIDDEN / DECISIONS).to_pylist()}


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / CAPTIONS).read_text(encoding="utf-8").splitlines()]


def test_every_filter_drops_its_sinner_and_keeps_its_twin(images: tuple[Path, dict[str, str]], made: Path) -> None:
    assert {name: row["dropped_by"] for name, row in decisions(made).items()} == images[1]
    of = {name: row["duplicate_of"] for name, row in decisions(made).items() if row["duplicate_of"] >= 0}
    order = list(decisions(made))
    assert {name: order[row] for name, row in of.items()} == {
        "coffee_again.png": "coffee.png", "cat_jpeg.jpg": "cat.png", "shifted.jpg": "unshifted.jpg",
        "moon_cut.png": "moon.png",
    }  # fmt: skip


def test_a_set_holds_the_bytes_and_the_captions_that_stay(images: tuple[Path, dict[str, str]], made: Path) -> None:
    by_source = {Path(row["origins"][-1]).name: row for row in rows(made)}
    assert set(by_source) == {name for name, by in images[1].items() if not by}
    for name, row in by_source.items():
        assert (made / row["file_name"]).read_bytes() == (images[0] / name).read_bytes()
    assert by_source["coffee.png"]["text"] == ["a cup", "of coffee", "the same cup"], "captions of a copy count"
    assert by_source["galaxies.png"]["text"] == ["some galaxies"], "a file name is no caption"
    assert by_source["misnamed.jpg"]["file_name"].endswith(".png")
    there = {path.relative_to(made).as_posix() for path in (made / "images").rglob("*.*")}
    assert there == {row["file_name"] for row in rows(made)}


def test_own_images_read_a_set_as_it_is(made: Path) -> None:
    stream = open_images(ImageSources(folder=(str(made),), max_bad=0.0))
    assert len(stream) == len(rows(made)) and not stream.bad and not stream.duplicates


def test_a_set_is_cut_anew_from_stored_numbers(
    images: tuple[Path, dict[str, str]], copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    opener = measuring.OpenedImage
    monkeypatch.setattr(measuring, "OpenedImage", lambda entry: opened.append(Path(entry.name).name) or opener(entry))
    monkeypatch.setattr(curated_folder, "list_sources", lambda *_: pytest.fail("the source was listed"))
    before = content(copy)
    list(curate((), copy, ["luma.most=200", "resolution.least=270"]))
    assert not opened and decisions(copy)["gravel.png"]["dropped_by"] == "resolution"
    list(curate((), copy, ["luma.most=245", "clarity.least=0"]))
    assert opened == ["blurred.png"], "what passes now is measured for the stages that it had not reached"
    by = {name: row["dropped_by"] for name, row in decisions(copy).items()}
    assert (
        by["blurred.png"] == ""
        and by["gravel.png"] == "resolution"
        and recorded(copy)["filters"]["luma.least"] == "12.0"
    )
    assert all((copy / row["file_name"]).exists() for row in rows(copy))
    list(curate((), copy, ["clarity.least=8.0", "resolution.least=256"]))
    numbers = {name for name in content(copy) if name.startswith(f"{HIDDEN}/codes/")}
    after = content(copy)
    assert {name for name in before | after if before.get(name) != after.get(name)} <= numbers
    list(curate((), copy))
    assert len(opened) == 1 and content(copy) == after


def test_what_is_measured_stays_and_what_changed_is_measured_again(
    images: tuple[Path, dict[str, str]], copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    opener = measuring.OpenedImage
    monkeypatch.setattr(measuring, "OpenedImage", lambda entry: opened.append(Path(entry.name).name) or opener(entry))
    before = content(copy)
    list(curate([str(images[0])], copy))
    assert not opened and content(copy) == before
    table = copy / HIDDEN / "quality" / "00002.parquet"
    table.write_bytes(table.read_bytes()[:-10])
    list(curate((), copy))
    assert len(opened) == 4 and content(copy) == before, "a damaged shard alone"
    opened.clear()
    quality = next(each for each in measuring.CHEAP if each.name == "quality")
    monkeypatch.setattr(
        measuring, "version_of", lambda each, old=measuring.version_of: old(each) + "x" * (each is quality)
    )
    stamps = {path: path.stat().st_mtime_ns for path in (copy / HIDDEN).rglob("*.parquet")}
    list(curate((), copy))
    again = {path.parent.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert again == {"quality", HIDDEN}, "of another version, that group of measures alone, and the decisions"


@pytest.mark.slow
def test_images_that_are_added_or_changed_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curated_folder, "SHARD", 2)
    folder = tmp_path / "images"
    write_images_to_curate(folder)
    for name in ("coffee", "cat", "rocket", "woman"):
        (tmp_path / "few").mkdir(exist_ok=True)
        for ending in (".png", ".txt"):
            shutil.copy(folder / f"{name}{ending}", tmp_path / "few")
    list(curate([str(tmp_path / "few")], tmp_path / "set", ["reading=no"]))
    (tmp_path / "few" / "cat.txt").write_text("another cat")
    Image.fromarray(np.asarray(Image.open(folder / "moon.png"))).save(tmp_path / "few" / "rocket.png")
    shutil.copy(folder / "camera.png", tmp_path / "few")
    (tmp_path / "few" / "camera.txt").write_text("a man")
    list(curate([str(tmp_path / "few")], tmp_path / "set", ["reading=no"]))
    list(curate([str(tmp_path / "few")], tmp_path / "fresh", ["reading=no"]))
    assert content(tmp_path / "set") == content(tmp_path / "fresh")
    assert [row["text"] for row in rows(tmp_path / "set")] == [
        ["a man"],
        ["another cat"],
        ["a cup", "of coffee"],
        ["a rocket"],
        ["a woman"],
    ]


def test_a_larger_copy_that_is_dropped_takes_no_good_images_away(tmp_path: Path) -> None:
    """A blurred image with more pixels looks like the sharp one, and goes by itself."""
    folder = tmp_path / "images"
    folder.mkdir()
    sharp = photograph("coffee")
    blurred = sharp.resize((2 * sharp.width, 2 * sharp.height)).filter(ImageFilter.GaussianBlur(12))
    for name, image in (("a_blurred", blurred), ("sharp", sharp)):
        (folder / f"{name}.png").write_bytes(as_png(image))
        (folder / f"{name}.txt").write_text("a cup")
    list(curate([str(folder)], tmp_path / "set", ["reading=no"]))
    by = {name: row["dropped_by"] for name, row in decisions(tmp_path / "set").items()}
    assert by == {"a_blurred.png": "near_duplicates", "sharp.png": ""}


def test_mistakes_are_one_line(
    images: tuple[Path, dict[str, str]], made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, fresh = str(images[0]), str(tmp_path / "new")
    for line, message in (
        ([source], "is not a set; name a folder for one"),
        (["nowhere", "-o", fresh], "there is no folder or file nowhere"),
        ([source, "-o", source], "holds other things and no curation.json"),
        ([source, "-o", f"{source}/set"], "are in each other"),
        ([str(made), "--set", "clarity"], "sets nothing"),
        ([str(made), "--set", "clarity.last=3"], "did you mean least?"),
        ([str(made), "--set", "luma.least=250"], "least=250 must not be above most=245"),
        ([str(made), "--set", "resolution.least=9999"], "The first of them drops by resolution.least=9999"),
        ([str(made), "--set", "caption_script.scripts=klingon"], "there is no script 'klingon'"),
        ([str(made), "--set", "clarity.least=nan"], "clarity.least: a number is wanted, such as 0.5; 'nan' is not one"),
        ([str(made), "--set", "quality.reward=clipscore"], "weights is not set"),
        ([str(made), "--processes", "-1"], "processes=-1 must be at least 1"),
        ([str(made), "--lineage", "nothing.png"], "have no image 'nothing.png'"),
    ):
        assert main(["curate", *line]) == 2, line
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert message in error, (line, error)
        assert not Path(fresh).exists()


def test_a_threshold_that_was_once_nan_is_the_default(copy: Path) -> None:
    about = recorded(copy)
    about["filters"]["clarity.least"] = "nan"
    (copy / curated_folder.SETTINGS).write_text(json.dumps(about))
    assert curated_folder.chosen_filters(copy, []).clarity.least == 8.0


def test_a_source_that_cannot_be_listed_costs_no_set(copy: Path, images: tuple[Path, dict[str, str]]) -> None:
    before = content(copy)
    (copy.parent / "empty").mkdir()
    for source in ("empty", "nowhere"):
        with pytest.raises((ValueError, FileNotFoundError)):
            list(curate([str(images[0]), str(copy.parent / source)], copy, ["reading=no"]))
        assert content(copy) == before
    list(curate((), copy, ["reading=no"]))


def test_two_commands_do_not_work_on_one_set_at_once(
    copy: Path, images: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "PATIENCE", 0.0)
    before = content(copy)
    with exclusive(copy):
        for sources in ((), [str(images[0])]):
            with pytest.raises(ValueError, match="another process is working in"):
                list(curate(sources, copy, ["resolution.least=1"]))
        assert content(copy) == before
    list(curate((), copy))


def test_lineage_says_where_an_image_is_from_and_every_number(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = next(row for row in rows(made) if row["origins"][-1].endswith("cat.png"))
    shown = []
    for name in (str(made / row["file_name"]), row["id"][:10], "cat.png"):
        assert main(["curate", str(made), "--lineage", name]) == 0
        shown.append(capsys.readouterr().out)
    assert len(set(shown)) == 1 and "stays" in shown[0] and row["id"] in shown[0] and "clarity = " in shown[0]
    assert main(["curate", str(made), "--lineage", "blurred.png"]) == 0
    assert "dropped by clarity: clarity " in capsys.readouterr().out


@pytest.mark.slow
def test_a_batch_of_a_run_is_traced_to_its_sources(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[list[str]] = []
    real = own_latents.OwnLatents.batch

    def recorded_batch(self, step, size, rank=0, ranks=1):  # type: ignore[no-untyped-def]
        result = real(self, step, size, rank, ranks)
        seen.append(result.texts)
        return result

    monkeypatch.setattr(own_latents.OwnLatents, "batch", recorded_batch)
    line = ["train", "nano_pretrain", "--data.folder", str(made), "-o", str(tmp_path / "run"), "--no-evaluate"]
    line += ["--algorithm.steps", "3", "--algorithm.batch", "4", "--algorithm.micro", "4", "--size", "48", "48"]
    assert main(line) == 0
    capsys.readouterr()
    for update in range(3):
        assert main(["lineage", str(tmp_path / "run"), str(update)]) == 0
        shown = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("images of ")]
        assert [line.split(": ", 1)[1] for line in shown[::2]] == [repr(text) for text in seen[update]]
        by_id = {row["id"]: row for row in rows(made)}
        for caption, image in zip(shown[::2], shown[1::2], strict=True):
            row = by_id[image.rsplit(" ", 1)[1]]
            assert row["origins"][-1] in image and caption.split(": ", 1)[1] in map(repr, row["text"])
    assert main(["lineage", str(tmp_path / "run"), "2", "3"]) == 0
    in_full = capsys.readouterr().out
    assert in_full.startswith("images of ") and "\nsample 3: " in in_full
    assert "clarity = " in in_full and "licence " in in_full
    assert main(["lineage", str(tmp_path / "run"), "2", "4"]) == 2
    assert "sample=4 must be from 0 to 3" in capsys.readouterr().err
    assert main(["lineage", str(tmp_path / "run"), "0", "--ranks", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[9].startswith("sample 4: "), "the second rank reads on"
    assert main(["lineage", str(tmp_path / "run"), "3"]) == 2
    assert "must be from 0 to 2" in capsys.readouterr().err


@pytest.mark.slow
def test_tables_and_archives_are_curated_as_folders_are(tmp_path: Path) -> None:
    """Parquet, webdataset and metadata.csv, with what each says of its images, and several sources at once."""
    import io
    import tarfile

    import pyarrow
    import pyarrow.parquet

    photos = {name: as_png(photograph(name)) for name in ("coffee", "chelsea", "rocket")}
    table = {"image": [{"bytes": photos["coffee"], "path": "c.png"}], "text": ["a cup"], "license": ["CC0"]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        about = json.dumps({"caption": "a cat", "license": "mine", "seed": 7}).encode()
        for name, body in (("x/cat.png", photos["chelsea"]), ("x/cat.json", about)):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "r.png").write_bytes(photos["rocket"])
    (tmp_path / "c" / "metadata.csv").write_text("file_name,text,author\nr.png,a rocket,NASA\nno.png,nothing,\n")
    sources = [str(tmp_path / name) for name in ("a.parquet", "b.tar", "c")]
    list(curate(sources, tmp_path / "set", ["reading=no"]))
    shown = {row["text"][0]: row for row in rows(tmp_path / "set")}
    assert shown.keys() == {"a cup", "a cat", "a rocket"}
    assert shown["a cup"]["license"] == "CC0" and shown["a rocket"]["author"] == "NASA"
    assert (shown["a cat"]["license"], shown["a cat"]["seed"]) == ("mine", 7)
    assert [row["dropped_by"] for row in decisions(tmp_path / "set").values()].count("broken") == 1
    list(curate([str(tmp_path / "set")], tmp_path / "again", ["reading=no"]))
    chain = {row["text"][0]: row["origins"] for row in rows(tmp_path / "again")}
    assert len(chain["a cup"]) == 2 and chain["a cup"][0].startswith(sources[0])
