"""Folders of captioned images: the same rules in scoring and in campaigns, and every error names file and line."""

from __future__ import annotations

import codecs
import io
import json
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import cli
from experiments.preferences.from_people import _copy
from experiments.reward_models.compare_rewards import read_scores
from experiments.reward_models.score_folder import score
from experiments.reward_models.train_reward import path_of_image
from preference_data.campaign.sources import from_disagreements, images_of_folder
from preference_data.captions import captioned_prompts
from preference_data.prompts import PromptSet
from preference_data.records import ImageRef, Prompt, Provenance
from preference_data.store.image_store import ImageFolder
from rewards.comparison.score_table import PromptImage
from rewards.reward_table import REWARDS
from rewards.text.ocr import Ocr
from tests.experiments.test_cli import MadeUp, MadeUpScorer

CASES = Path(__file__).parents[1] / "fixtures" / "cases"
NFC, NFD = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
Read = Callable[[Path], list[tuple[str, str]]]


def scored(folder: Path) -> list[tuple[str, str]]:
    return [(path.name, prompt.text) for path, prompt in captioned_prompts(folder)]


def asked(folder: Path) -> list[tuple[str, str]]:
    return [(found.path.name, found.prompt) for found in images_of_folder(folder, "x")]


both = pytest.mark.parametrize("read", [scored, asked])


def image(path: Path, level: int = 7, size: tuple[int, int] = (8, 16)) -> Path:
    Image.fromarray(np.full((*size, 3), level, np.uint8)).save(path)
    return path


def captions(folder: Path, *rows: object) -> Path:
    path = folder / "captions.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def row(name: str, prompt: object = "a cat") -> dict[str, object]:
    return {"picture": name, "prompt": prompt}


@both
@pytest.mark.parametrize(
    "line",
    [row("a.png", None), row("a.png", ["a", "cat"]), row("a.png", 5), row("a.png", " "), row(""), row("a.png", {}),
     {"picture": "a.png"}, {"prompt": "a cat"}, {"picture": 5, "prompt": "a cat"}, ["a.png", "a cat"], 5,
     '"a.png"', "null", "{", '{"picture": "a.png", "prompt": "a", "prompt": "b"}'],
)  # fmt: skip
def test_a_line_that_is_no_caption_is_refused_with_its_number(read: Read, line: object, tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    captions(tmp_path, "", line)
    with pytest.raises(ValueError, match=r"captions\.jsonl line 2"):
        read(tmp_path)


@both
def test_a_set_to_learn_from_can_be_scored(read: Read, tmp_path: Path) -> None:
    """Its lines have file_name and text, and several captions an image; picture and prompt go first."""
    for name in "abc":
        image(tmp_path / f"{name}.png")
    lines = ({"file_name": "a.png", "text": ["one", "two"]}, {"image": "b.png", "caption": "three"},
             {"picture": "c.png", "image": 7, "prompt": "four", "text": "five"})  # fmt: skip
    captions(tmp_path, *lines)
    assert sorted(read(tmp_path)) == [("a.png", "one"), ("b.png", "three"), ("c.png", "four")]
    captions(tmp_path, *lines, {"file_name": "a.png", "text": []})
    with pytest.raises(ValueError, match=r"captions\.jsonl line 4"):
        read(tmp_path)


@both
def test_names_are_compared_as_files(read: Read, tmp_path: Path) -> None:
    for name in ("a", "b", NFD):
        image(tmp_path / f"{name}.png")
    (tmp_path / "sub").mkdir()
    image(tmp_path / "sub" / "c.png")
    captions(tmp_path, row("./a.png"), "", row("sub/../b.png", "b"), row(f"{NFC}.png", "c"), row("sub/c.png", "d"))
    expected = [("a.png", "a cat"), ("b.png", "b"), (f"{NFD}.png", "c"), ("c.png", "d")]
    assert sorted(read(tmp_path)) == sorted(expected)
    for twice in ("a.png", "sub/../a.png", f"{NFD}.png", "sub//c.png"):
        captions(tmp_path, row("./a.png"), row(f"{NFC}.png"), "", row("sub/c.png"), row(twice))
        with pytest.raises(ValueError, match=r"line 5: .* has a prompt in line [124] already"):
            read(tmp_path)
    captions(tmp_path, row("a.png"), row("z.png"))
    with pytest.raises(FileNotFoundError, match=r"line 2 names 'z\.png', which is not in"):
        read(tmp_path)


@both
def test_companions_of_files_are_no_files(read: Read, tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a cat\n")
    for name in ("._a.png", "._a.txt", ".DS_Store", ".b.png"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X\xff")
    assert read(tmp_path) == [("a.png", "a cat")]


@both
def test_texts_beside_images_in_any_encoding_with_a_mark(read: Read, tmp_path: Path) -> None:
    for number, encoding in enumerate(("utf-8", "utf-8-sig", "utf-16", "utf-32")):
        image(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text("the word\r\nCAFÉ\n", encoding=encoding)
    image(tmp_path / f"{NFC}.png")
    (tmp_path / f"{NFD}.txt").write_text("the word CAFÉ")
    assert {text for _, text in read(tmp_path)} == {"the word CAFÉ"}
    captions(tmp_path, row("0.png"))
    content = (tmp_path / "captions.jsonl").read_bytes()
    (tmp_path / "captions.jsonl").write_bytes(codecs.BOM_UTF8 + content)
    assert dict(read(tmp_path))["0.png"] == "a cat"
    (tmp_path / "1.txt").write_bytes(b"one\ncaf\xe9")
    with pytest.raises(ValueError, match=r"1\.txt line 2 is not UTF-8"):
        read(tmp_path)


@both
def test_the_cases_of_other_peoples_folders(read: Read) -> None:
    assert read(CASES / "score" / "bom_txt") == [("a.png", "the word HELLO in black")]
    ((_, prompt),) = read(CASES / "score" / "jsonl_ls2028")
    assert Prompt.from_text(prompt).spans == ("HELLO",)
    assert len(read(CASES / "score" / "modes")) == 2
    for name, message in (("cp1252_txt", r"a\.txt line 1"), ("jsonl_surrogate", r"captions\.jsonl line 1: .*\\ud83d")):
        with pytest.raises(ValueError, match=message):
            read(CASES / "score" / name)


def test_prompts_and_captions_keep_their_line_separators(tmp_path: Path) -> None:
    prompts = PromptSet([Prompt.from_text("a\u2028b"), Prompt.from_text("c\x85d\u2029e\x0b\x1cf")])
    path = tmp_path / "p.jsonl"
    path.write_text(prompts.to_jsonl(), encoding="utf-8")
    assert list(PromptSet.load(path)) == list(prompts)
    path.write_text(prompts.to_jsonl(), encoding="utf-8-sig")
    assert list(PromptSet.load(path)) == list(prompts) == list(PromptSet.decode(path.read_bytes(), "up.JSONL"))
    plain = tmp_path / "p.txt"
    plain.write_bytes("a\u2028b\r\n\r\nc\x85d".encode("utf-16"))
    assert [p.text for p in PromptSet.load(plain)] == ["a\u2028b", "c\x85d"]
    plain.write_bytes(b"one\ncaf\xe9\n")
    for read in (PromptSet.load, lambda p: PromptSet.decode(p.read_bytes(), p.name)):
        with pytest.raises(ValueError, match=r"p\.txt line 2"):
            read(plain)
    path.write_text('"a prompt"\n')
    with pytest.raises(ValueError, match=r"p\.jsonl line 1: Prompt: expected an object"):
        PromptSet.load(path)


def test_images_are_scored_in_the_size_in_which_they_are_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("jpg", "png", "webp"):
        content = io.BytesIO()
        Image.fromarray(np.full((20, 40, 3), 102, np.uint8)).save(content, "JPEG" if kind == "jpg" else kind, exif=exif)
        (tmp_path / f"{kind}.{kind}").write_bytes(content.getvalue())
    image(tmp_path / "upright.png", 102, (40, 20))
    captions(tmp_path, *(row(path.name, "the word A") for path in sorted(tmp_path.iterdir())))
    seen = []

    class Sees(MadeUpScorer):
        def __call__(self, prompts, images):  # type: ignore[no-untyped-def]
            seen.append(images.shape)
            return super().__call__(prompts, images)

    values, _ = score(captioned_prompts(tmp_path), Sees())
    assert seen == [(4, 3, 40, 20)] and np.allclose(values.value_B, 0.4, atol=0.02)


def test_black_letters_on_transparency_are_read(tmp_path: Path) -> None:
    scores, *_ = score(captioned_prompts(CASES / "score" / "modes"), Ocr().load())
    assert (scores.value_B == 1.0).all()


def test_one_bad_file_of_a_folder_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REWARDS, "made_up", MadeUp)
    captions(tmp_path, row("a.png"), row("b.png"))
    image(tmp_path / "a.png")
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    whole = image(tmp_path / "b.png", size=(40, 40)).read_bytes()
    for content in (head, whole[:60], b"text", b""):
        (tmp_path / "b.png").write_bytes(content)
        assert cli.main(["score", str(tmp_path), "--reward", "made_up"]) == 2
        assert "b.png" in (said := capsys.readouterr().err) and "Traceback" not in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png", "captions.jsonl"]


def test_a_list_of_pairs_is_read_as_strictly(tmp_path: Path) -> None:
    for i, name in enumerate(("a", NFD)):
        image(tmp_path / f"{name}.png", 50 * i)
    pictures, path = ImageFolder(tmp_path / "s"), tmp_path / "d.jsonl"
    good = {"prompt": "a\u2028cat", "left": "a.png", "right": f"{NFC}.png", "disagreement": 1}
    path.write_text(json.dumps(good, ensure_ascii=False), encoding="utf-8-sig")
    (item,) = from_disagreements(path, pictures)
    assert item.prompt.text == "a\u2028cat"
    for wrong in ({**good, "prompt": None}, {**good, "left": 5}, {**good, "disagreement": float("nan")}, [good], "x"):
        path.write_text("\n" + json.dumps(wrong))
        with pytest.raises(ValueError, match=r"d\.jsonl line 2"):
            from_disagreements(path, pictures)


def test_images_of_pairs_are_found_however_their_names_are_spelt(tmp_path: Path) -> None:
    image(tmp_path / f"{NFD}.png")
    ref = ImageRef("0" * 64, f"{NFC}.png", 16, 8, Provenance("m", "", 0, 0, 0.0, "", 0))
    assert path_of_image(tmp_path, ref) == tmp_path / f"{NFD}.png"
    _copy(ImageRef("0" * 64, str(tmp_path / f"{NFC}.png"), 16, 8, ref.provenance), tmp_path / "run")
    assert (tmp_path / "run" / "pictures" / f"{'0' * 64}.png").exists()
    with pytest.raises(FileNotFoundError, match="neither"):
        path_of_image(tmp_path / "run", ImageRef("1" * 64, "none.png", 16, 8, ref.provenance))


def test_scores_made_elsewhere_are_finite_and_said_once(tmp_path: Path) -> None:
    made = Provenance("m", "", 0, 0, 0.0, "", 0)
    hashes = [c * 64 for c in "abc"]
    pictures = [PromptImage(Prompt.from_text("a cat"), ImageRef(sha, "a.png", 8, 8, made)) for sha in hashes]
    path = tmp_path / "s.csv"

    def read(*lines: str, encoding: str = "utf-8") -> list[float]:
        path.write_text("\n".join(["sha256,mine", *lines]) + "\n", encoding=encoding)
        return [float(v) for v in read_scores(path, pictures)["mine"]]

    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        found = read(f"{hashes[0]},0.5", "", f"{hashes[1]},", f"{hashes[2]},nan", encoding=encoding)
        assert found[0] == 0.5 and np.isnan(found[1:]).all()
    for cell in ("inf", "-inf", "Infinity", "1e999"):
        with pytest.raises(ValueError, match=rf"s\.csv line 3: mine is '{cell}'; a score is finite"):
            read(f"{hashes[0]},0.5", f"{hashes[1]},{cell}")
    for lines, message in (
        ((f"{hashes[0]},x",), "line 2: mine is 'x', no number"),
        ((f"{hashes[0]},1", f"{hashes[0]},2"), "line 3: a+ has scores in line 2"),
        ((f"{hashes[0]}",), "line 2 has 1 cells"),
    ):
        with pytest.raises(ValueError, match=message):
            read(*lines)
    with pytest.raises(ValueError, match=r"inf\.csv line 2: mine is 'inf'"):
        read_scores(CASES / "inf.csv", pictures)
