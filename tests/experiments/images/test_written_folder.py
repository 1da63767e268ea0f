"""`glyphlab write`: what a folder holds, how it goes on, and that own images read it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from base_model.data.writing.faces import FACES
from base_model.data.writing.writer import Sources, write
from base_model.data.writing.written_image import Writing
from experiments.cli import main
from experiments.images import written_folder
from experiments.images.image_sources import ImageSources, open_images
from experiments.images.written_folder import CAPTIONS, PARTS, SETTINGS, FolderPhotographs, Request, write_folder

PLAN = Writing(seed=4, languages=("en", "zh"), size=(64, 128), length=(4, 24))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_folder, "PART", 4)


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the notes about parts."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and PARTS not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def written(folder: Path, count: int = 10, plan: Writing = PLAN) -> list[str]:
    return list(write_folder(Request(plan, count), folder))


def test_a_folder_holds_what_the_indices_say(tmp_path: Path) -> None:
    written(tmp_path / "a")
    rows = [json.loads(line) for line in (tmp_path / "a" / CAPTIONS).read_text(encoding="utf-8").splitlines()]
    assert [row["index"] for row in rows] == list(range(10))
    for row in rows:
        image = write(PLAN, row["index"], Sources())[0]
        assert np.array_equal(np.asarray(Image.open(tmp_path / "a" / row["file_name"])), image.pixels_HW3)
        assert row == json.loads(json.dumps(image.record(row["file_name"])))
    sheet = (tmp_path / "a" / "contact_sheet.html").read_text(encoding="utf-8")
    assert sheet.count("<img ") == 10 and sheet.count("<polygon") > 20
    assert all(Path(tmp_path / "a" / name).exists() for name in re.findall(r'src="([^"]+)"', sheet))


def test_a_stopped_run_goes_on_and_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "whole")
    written(tmp_path / "stopped", 4)
    first = (tmp_path / "stopped" / "images" / "00000" / "000000.png").stat().st_mtime_ns
    calls = []

    def stops(plan: Writing, index: int, sources: Sources) -> object:
        calls.append(index)
        if index == 6:
            raise KeyboardInterrupt
        return write(plan, index, sources)

    monkeypatch.setattr(written_folder, "write", stops)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "stopped")
    monkeypatch.undo()
    monkeypatch.setattr(written_folder, "PART", 4)
    assert calls == [4, 5, 6]
    (tmp_path / "stopped" / "images" / "00001" / "000005.png").write_bytes(b"half a file")
    assert written(tmp_path / "stopped")[0] == "1 of 3 parts are there already"
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")
    assert (tmp_path / "stopped" / "images" / "00000" / "000000.png").stat().st_mtime_ns == first


def test_a_try_that_failed_is_in_nobodys_way(tmp_path: Path) -> None:
    """Nothing was written whole, so other settings are as good."""
    with pytest.raises(ValueError, match="none of 40 texts could be written"):
        written(tmp_path / "a", plan=Writing(size=(32, 32)))
    (tmp_path / "a" / "images" / "00000").mkdir(parents=True, exist_ok=True)
    (tmp_path / "a" / "images" / "00000" / "000003.png").write_bytes(b"of the first try")
    written(tmp_path / "a", 2)
    written(tmp_path / "fresh", 2)
    assert content(tmp_path / "a") == content(tmp_path / "fresh")


def test_a_stopped_run_may_become_shorter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(plan: Writing, index: int, sources: Sources) -> object:
        if index == 10:
            raise KeyboardInterrupt
        return write(plan, index, sources)

    monkeypatch.setattr(written_folder, "write", stops)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "a", 20)
    monkeypatch.setattr(written_folder, "write", write)
    written(tmp_path / "a", 3)
    written(tmp_path / "fresh", 3)
    assert content(tmp_path / "a") == content(tmp_path / "fresh")
    written(tmp_path / "a", 10)
    written(tmp_path / "fresh", 10)
    assert content(tmp_path / "a") == content(tmp_path / "fresh")


def test_more_images_are_added_to_a_finished_folder(tmp_path: Path) -> None:
    written(tmp_path / "whole", 10)
    written(tmp_path / "grown", 6)
    written(tmp_path / "grown", 10)
    assert content(tmp_path / "grown") == content(tmp_path / "whole")


@pytest.mark.slow
def test_several_processes_write_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # other processes have parts of the usual size
    line = ["write", "--languages", "en,ja", "--size", "96", "96", "--count", "150"]
    assert main([*line, "-o", str(tmp_path / "one")]) == 0
    assert main([*line, "-o", str(tmp_path / "two"), "--processes", "2"]) == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_other_settings_or_things_in_a_folder_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "a", 2)
    with pytest.raises(ValueError, match="was begun with seed=4, not 5"):
        written(tmp_path / "a", 2, Writing(seed=5, languages=("en", "zh"), size=(64, 128), length=(4, 24)))
    written(tmp_path / "c", 6)
    with pytest.raises(ValueError, match=r"has 6 images already; --count 5"):
        written(tmp_path / "c", 5)
    settings = json.loads((tmp_path / "a" / SETTINGS).read_text())
    assert settings["versions"].keys() == {"cv2", "pillow", "numpy"}
    settings["versions"]["pillow"] = "1.0"
    (tmp_path / "a" / SETTINGS).write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="was begun with versions="):
        written(tmp_path / "a", 2)
    with pytest.raises(ValueError, match="whose images are taken for photographs"):
        list(write_folder(Request(PLAN, 2, (str(tmp_path),)), tmp_path / "d"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=f"holds other things and no {SETTINGS}"):
        written(tmp_path / "b")


def test_own_images_read_the_folder(tmp_path: Path) -> None:
    written(tmp_path / "a")
    images = open_images(ImageSources(folder=(str(tmp_path / "a"),), max_bad=0.0))
    assert len(images) == 10 and not images.bad and images.duplicates == 0
    assert len(images.captions) == 20
    sample = images.sized((32, 64), 16).batch(0, 4)
    assert all(tuple(image.shape) == (3, 32, 64) for image in sample.images)


def test_own_texts_are_written_and_their_changes_noticed(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "en.txt").write_text("Tides rise\nMoons set\n请选择文件夹\n", encoding="utf-8")
    plan = Writing(languages=("en",), size=(64, 128), rare=0.0)
    request = Request(plan, 6, texts=str(texts))
    notes = list(write_folder(request, tmp_path / "a"))
    assert "1 of 3 paragraphs are not in en: 请选择文件夹" in notes[0]
    rows = [json.loads(line) for line in (tmp_path / "a" / CAPTIONS).read_text(encoding="utf-8").splitlines()]
    assert {row["written"].lower() for row in rows} == {"tides rise", "moons set"}
    (texts / "en.txt").write_text("Tides fall\n", encoding="utf-8")
    written_folder.sources.cache_clear()
    with pytest.raises(ValueError, match="was begun with texts="):
        list(write_folder(request, tmp_path / "a"))
    with pytest.raises(ValueError, match="has no ja\\.txt with a paragraph a line; it has en"):
        list(write_folder(Request(Writing(languages=("ja",)), 1, texts=str(texts)), tmp_path / "b"))


def test_own_faces_take_the_place_of_ours(tmp_path: Path) -> None:
    fonts = tmp_path / "fonts"
    (fonts / "en").mkdir(parents=True)
    (fonts / "zh").mkdir()
    shutil.copy(FACES["Bebas Neue"].path, fonts / "en" / "shop.woff")
    request = Request(Writing(languages=("en", "zh"), size=(96, 192), length=(4, 12), rare=0.0), 8, fonts=str(fonts))
    list(write_folder(request, tmp_path / "a"))
    rows = [json.loads(line) for line in (tmp_path / "a" / CAPTIONS).read_text(encoding="utf-8").splitlines()]
    assert {line["face"] for row in rows if row["language"] == "en" for line in row["lines"]} == {"Bebas Neue"}
    assert all(row["written"].isupper() for row in rows if row["language"] == "en"), "it has capitals alone"
    assert all("Noto" in line["face"] for row in rows if row["language"] == "zh-Hans" for line in row["lines"])
    assert min(line["size"] for row in rows if row["language"] == "en" for line in row["lines"]) >= 18
    (fonts / "en" / "shop.woff").write_bytes(b"no face")
    written_folder.sources.cache_clear()
    with pytest.raises(ValueError, match=r"shop\.woff is not a type face"):
        list(write_folder(request, tmp_path / "b"))
    with pytest.raises(ValueError, match=r"has no type faces for ja.*; it has en/, zh/"):
        list(write_folder(Request(Writing(languages=("ja",)), 1, fonts=str(fonts)), tmp_path / "b"))
    shutil.copy(FACES["Kalam"].path, fonts / "zh" / "kalam.ttf")
    with pytest.raises(ValueError, match=r"kalam\.ttf cannot write zh-Hans, as .*'啊': not in the face"):
        list(write_folder(Request(Writing(languages=("zh",)), 1, fonts=str(fonts)), tmp_path / "b"))


def test_text_is_put_into_the_photographs_of_a_folder(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (300, 400, 3), dtype=np.uint8)).save(photos / "a.jpg")
    (photos / "a.txt").write_text("a wall of many colours")
    (photos / "b.png").write_bytes((photos / "a.jpg").read_bytes()[:500])
    plan = Writing(kinds=("compositional",), size=(128, 128), length=(4, 10))
    lines = list(write_folder(Request(plan, 6, (str(photos),)), tmp_path / "out"))
    rows = [json.loads(line) for line in (tmp_path / "out" / CAPTIONS).read_text(encoding="utf-8").splitlines()]
    assert all(row["text"][0].endswith("behind it a wall of many colours") for row in rows)
    assert "b.png" in json.loads((tmp_path / "out" / SETTINGS).read_text())["discarded"].__repr__()
    assert "texts were discarded" in lines[-1]
    (photos / "a.txt").write_text("another wall")
    written_folder.sources.cache_clear()
    with pytest.raises(ValueError, match="was begun with photographs="):
        list(write_folder(Request(plan, 6, (str(photos),)), tmp_path / "out"))


def test_large_photographs_are_scaled_once_and_small_ones_stay(tmp_path: Path) -> None:
    for name, size in (("a", (300, 900)), ("b", (90, 120))):
        Image.new("RGB", size[::-1], (9, 99, 9)).save(tmp_path / f"{name}.png")
    photographs = FolderPhotographs([str(tmp_path)], 100)
    assert [photographs.pixels(i).shape for i in range(2)] == [(100, 300, 3), (90, 120, 3)]
    assert photographs.pixels(0) is photographs.pixels(0)


def test_writing_needs_no_torch(tmp_path: Path) -> None:
    """The extra `data` alone is enough, and processes that write are light."""
    code = (
        "import sys\n"
        "from experiments.cli import main\n"
        "kinds = 'pure,compositional,complex'\n"
        f"line = ['write', '-o', {str(tmp_path / 'a')!r}, '--kinds', kinds, '--photos', {str(tmp_path / 'photos')!r}]\n"
        "assert main([*line, '--count', '3', '--size', '384', '384']) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    pixels = np.random.default_rng(0).integers(0, 255, (600, 600, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos" / "photo.png")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_extra_brings_no_second_opencv_and_no_torchvision() -> None:
    """Nor does anything that it needs: two builds of OpenCV overwrite each other's files."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting, seen = list(project["optional-dependencies"]["data"]), set()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = requirement.name.lower().replace("_", "-")
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        waiting += metadata.requires(name) or []
    assert {name for name in seen if "opencv" in name} == {"opencv-contrib-python"}
    assert not {"torch", "torchvision", "paddleocr"} & seen
    packages = {face.package.replace("_", "-") for face in FACES.values()}
    assert packages <= seen and {"typst", "pypdfium2", "faker", "fonttools"} <= seen
    assert not [each for each in project["dependencies"] if "opencv" in each or "font" in each]


def test_the_command_names_what_is_wrong_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    out = ["write", "-o", str(tmp_path / "a")]
    assert main([*out, "--languages", "en,ar"]) == 2
    assert "the language 'ar' is not written (Arabic" in capsys.readouterr().err
    assert main([*out, "--kinds", "compositional"]) == 2
    assert "name a folder of them with --photos" in capsys.readouterr().err
    assert main([*out, "--count", "0"]) == 2
    assert "count=0" in capsys.readouterr().err
    monkeypatch.setattr("base_model.data.writing.writer.NEEDED", {"pure": ("typst_of_nobody",)})
    assert main(out) == 2
    assert 'needs typst_of_nobody: pip install "glyphlab[data]"' in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_model_trains_on_written_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A preset that writes A to Z reads the English captions of English texts."""
    line = ["write", "-o", str(tmp_path / "a"), "--size", "48", "144", "--length", "4", "16", "--count", "24"]
    assert main([*line, "--rare", "0"]) == 0
    train = ["train", "nano_pretrain", "--data.folder", str(tmp_path / "a"), "--size", "48", "144", "--no-evaluate"]
    sizes = ["--algorithm.steps", "2", "--algorithm.batch", "4", "--algorithm.micro", "4"]
    assert main([*train, *sizes, "-o", str(tmp_path / "run")]) == 0
    assert "24 images with 24 captions" in capsys.readouterr().err
    assert (tmp_path / "run" / "model").is_dir()
