"""A scored folder is read once, and an image on which the engine fails costs only itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.reward_models.score_folder import score_folder
from preference_data.pixels import to_uint8
from preference_data.records import Prompt
from rewards.scores import Scores, concatenate
from rewards.text.ocr import Ocr, OcrScorer
from rewards.text.ocr_contains import OcrContains
from rewards.text.ocr_page import OcrPage
from rewards.text.reading.read_page import OnnxPage
from rewards.text.recognisers import OnnxRecogniser, Reading
from tests.fixtures.writing import written

WORDS = ("KIWI", "LEMON", "TULIP")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, word in enumerate(WORDS):
        Image.fromarray(to_uint8(written(word)).transpose(1, 2, 0)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f'a sign "{word}"')
    return tmp_path


def rows(out: Path) -> list[dict[str, object]]:
    return list(json.loads((out / "scores.json").read_text())["rows"])


@pytest.mark.parametrize("reward", ["ocr", "ocr_contains", "ocr_page"])
def test_each_picture_is_read_once(folder: Path, reward: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = OnnxPage if reward == "ocr_page" else OcrScorer
    name = "read" if reward == "ocr_page" else "_read"
    calls, real = [], getattr(kind, name)
    monkeypatch.setattr(kind, name, lambda self, picture: (calls.append(1), real(self, picture))[1])
    score_folder(folder, reward, folder / "out")
    assert len(calls) == 3
    found = rows(folder / "out")
    assert [row["read"] for row in found] == list(WORDS) and [row["score"] for row in found] == [1.0] * 3


def test_one_picture_that_cannot_be_read_is_nan_in_the_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = OnnxRecogniser.read

    def flaky(self: OnnxRecogniser, line_HW3: np.ndarray) -> Reading:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return real(self, line_HW3)

    monkeypatch.setattr(OnnxRecogniser, "read", flaky)
    lines = "\n".join(score_folder(folder, "ocr", folder / "out"))
    found = rows(folder / "out")
    assert [row["read"] for row in found] == ["KIWI", "", "TULIP"]
    assert [row["score"] for row in found] == [1.0, None, 1.0]
    assert "1 could not be judged and count nowhere: 1 engine" in lines and "none" in lines


@pytest.mark.parametrize("name", ["score", "read", "picture", "prompt", "other"])
def test_a_part_takes_no_other_column_s_name(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that answers in JSON has a part called score, from 0 to 10, beside its score, which is 0 to 1."""

    class Tens:
        name = "tens"

        def __call__(self, prompts: list[Prompt], images: np.ndarray) -> Scores:
            tenth_B = np.arange(len(prompts)) / 10
            return Scores(tenth_B, {"value": tenth_B, part: 10 * tenth_B}, read=("AB",) * len(prompts))

    part = name
    monkeypatch.setattr(Ocr, "load", lambda *_: Tens())
    (folder / "more" / "deep").mkdir(parents=True)
    (folder / "more" / "deep" / "x.png").write_bytes((folder / "0.png").read_bytes())
    said = "\n".join(score_folder(folder, "ocr", folder / "out"))
    assert f"1 images in folders inside {folder} are not scored, such as {folder / 'more' / 'deep' / 'x.png'}" in said
    found = rows(folder / "out")[2]
    column = part if part == "other" else f"part/{part}"
    assert (found["score"], found[column], found["read"], found["prompt"]) == (0.2, 2.0, "AB", 'a sign "TULIP"')
    assert '2.png,"a sign ""TULIP""",0.2,0.2,2.0,AB' in (folder / "out/scores.csv").read_text()


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward that must not be opened."""
    monkeypatch.setattr(Ocr, "load", lambda *_: pytest.fail("the reward was opened before its inputs were looked at"))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])  # the head, and so the size, can still be read


def clear(path: Path) -> None:
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(cut_short, "is not a readable image"), (clear, "is transparent"),
     (lambda p: p.write_bytes(b""), r"is not a readable image \(PNG, JPEG, WEBP\): the file is empty"),
     (lambda p: p.with_suffix(".txt").unlink(), "has no prompt"),
     (lambda p: p.with_suffix(".txt").write_bytes(b"\xff\xfe\x00"), r"\.txt"),
     (lambda p: p.parent.joinpath("captions.jsonl").write_text("{"), "captions.jsonl line 1")],
)  # fmt: skip
@pytest.mark.parametrize("which", [0, 2])
def test_bad_inputs_are_found_before_the_reward_is_opened(
    folder: Path, spoil: Callable[[Path], object], says: str, which: int, closed: None
) -> None:
    spoil(folder / f"{which}.png")
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        score_folder(folder, "ocr", folder / "out")
    assert not (folder / "out").exists()


def test_all_images_that_cannot_be_read_are_named_at_once(folder: Path, closed: None) -> None:
    for i in (0, 2):
        cut_short(folder / f"{i}.png")
    with pytest.raises(ValueError, match=r"0\.png is not a readable .*; 1 more of 3 images cannot be read: 2\.png$"):
        score_folder(folder, "ocr", folder / "out")
    for i in range(3, 20):
        (folder / f"{i}.png").write_bytes(b"")
        (folder / f"{i}.txt").write_text("a cat")
    with pytest.raises(ValueError, match=r"; 18 more of 20 images cannot be read: 10\.png, .*, \.\.\.$"):
        score_folder(folder, "ocr", folder / "out")


def test_a_place_that_cannot_take_scores_is_found_before_the_reward_is_opened(folder: Path, closed: None) -> None:
    for out in (folder / "0.png", folder / "0.png" / "below"):
        with pytest.raises(ValueError, match=r"0\.png is a file; name another place"):
            score_folder(folder, "ocr", out)


@pytest.mark.parametrize("reward", [Ocr(), OcrContains(), OcrPage()])
def test_scores_say_what_was_read_in_each_picture(reward: Ocr | OcrContains | OcrPage) -> None:
    prompts = [Prompt.from_text('"KIWI"'), Prompt.from_text("a cat"), Prompt.from_text('"TULIP"')]
    scores = reward.load()(prompts, np.stack([written(word) for word in WORDS]))
    assert scores.read == ("KIWI", "", "TULIP")
    assert concatenate([scores, scores]).read == scores.read * 2
    assert concatenate([scores, Scores(np.zeros(1), dict.fromkeys(scores.parts, np.zeros(1)))]).read == ()
