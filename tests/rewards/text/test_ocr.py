from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from preference_data.records import Prompt
from preference_data.texts.normalised_text import as_compared
from rewards.scores import Scores
from rewards.text import recognisers
from rewards.text.ocr import Ocr, OcrGold, OcrScorer, line, ned_score, text_crop
from rewards.text.ocr_page import flow_grpo_score
from rewards.text.recognisers import (
    PADDLE_MIN_WIDTH,
    V4,
    V6,
    OnnxRecogniser,
    PaddleRecogniser,
    Reading,
    decode,
    find_weights,
    paddle_folder,
)
from tests.fixtures.writing import words_and_pictures, written

WIDE = (40, 400)


@pytest.fixture(scope="module")
def ocr() -> OcrScorer:
    return Ocr().load()


@pytest.fixture(scope="module")
def judge() -> OcrScorer:
    return OcrGold().load()


def distance_by_recursion(a: Sequence[str], b: Sequence[str]) -> int:
    """Levenshtein's distance as the textbooks have it, row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def test_scores_are_those_of_the_textbook_distance() -> None:
    rng = np.random.default_rng(4)
    letters = list("ABCÄ好\u0301\U0001f600")
    assert distance_by_recursion("KITTEN", "SITTING") == 3 and distance_by_recursion("ABC", "ACB") == 2
    for longest in (4, 30, 200):  # one machine word of letters, and several
        for _ in range(60):
            target, read = ("".join(rng.choice(letters, rng.integers(0, longest))) for _ in range(2))
            a, b = as_compared(target, target), as_compared(read, target)
            assert ned_score(target, read) == 1.0 - distance_by_recursion(a, b) / max(len(a), len(b), 1)
            if wanted := target.lower():
                apart = 0 if wanted in read.lower() else distance_by_recursion(read.lower(), wanted)
                assert flow_grpo_score(target, [read]) == 1.0 - min(apart, len(wanted)) / len(wanted)


@pytest.mark.parametrize(
    ("target", "read", "score"),
    [
        ("CAT", "CAT", 1.0),
        ("CAT", "cat", 1.0),
        ("CAT", "C A T", 1.0),  # wide letter spacing
        ("CAT", "\uff23\uff21\uff34", 1.0),  # full-width forms
        ("ICON", "1C0N", 1.0),
        ("A10", "AIO", 1 / 3),  # digits asked for: digits it must be
        ("CAT", "CATCATCAT", 1 / 3),  # repeats cost
        ("CAT", "XXCATX", 0.5),  # garbage around costs
        ("CAT", "", 0.0),
        ("CAT", "DOG", 0.0),
        ("RED FOX", "REDFOX", 6 / 7),  # with two words the space between them counts
        ("RED FOX", " RED  FOX ", 1.0),
    ],
)
def test_the_score_of_a_reading(target: str, read: str, score: float) -> None:
    assert ned_score(target, read) == pytest.approx(score)


def test_case_counts_when_asked() -> None:
    assert ned_score("Cat", "CAT", ignore_case=False) == pytest.approx(1 / 3)
    assert as_compared(" caf\u0065\u0301 ", "x y", ignore_case=False) == "caf\u00e9"


@pytest.mark.parametrize("reward", [Ocr(), OcrGold()])
def test_clean_words_are_read(reward: Ocr | OcrGold) -> None:
    words, pictures = words_and_pictures(100, seed=11)
    scores = reward.load()([Prompt.from_text(f'"{word}"') for word in words], pictures)
    assert scores.parts["exact"].mean() >= 0.97
    assert scores.value_B.mean() >= 0.99 and not scores.unjudged


def test_better_pictures_score_higher_in_this_order(ocr: OcrScorer) -> None:
    texts = {
        "exact": "MAPLE ROAD",
        "typo": "MAPLE ROAT",
        "missing word": "MAPLE",
        "twice": "MAPLE ROAD MAPLE ROAD",
        "garbage around": "KVJX MAPLE ROAD WQZB NHKT",
        "wrong": "FIRST LOVE",
        "blank": "",
    }
    pictures = np.stack([written(text, size=20, canvas=WIDE) for text in texts.values()])
    readings = ocr.read(pictures)
    assert [reading.text for reading in readings[:3]] == ["MAPLE ROAD", "MAPLE ROAT", "MAPLE"]
    scores = ocr([Prompt.from_text('a sign "MAPLE ROAD"')] * len(texts), pictures)
    assert scores.value_B[0] == 1.0 and scores.value_B[-1] == 0.0
    assert np.all(np.diff(scores.value_B) < 0), dict(zip(texts, scores.value_B, strict=True))
    assert scores.parts["exact"].tolist() == [1.0] + [0.0] * 6
    np.testing.assert_array_equal(scores.parts["ned_score"], scores.value_B)
    assert scores.parts["confidence"][0] > 0.8 and scores.parts["confidence"][-1] == 0.0


def test_several_spans_are_expected_in_order(ocr: OcrScorer) -> None:
    picture = written("OPEN LATE", size=20, canvas=WIDE)[None]
    right, swapped = Prompt.from_text('"OPEN" left of "LATE"'), Prompt.from_text('"LATE" left of "OPEN"')
    assert ocr([right], picture).value_B[0] == 1.0
    assert ocr([swapped], picture).value_B[0] < 0.7


def test_a_blank_picture_reads_nothing_and_scores_0(ocr: OcrScorer) -> None:
    blank = np.full((2, 3, 32, 96), 0.4, dtype=np.float32)
    blank[1, :, 5:9, 5:40] += 0.02  # 5 of 255 levels: nothing a person could read
    assert ocr.read(blank) == [Reading("", 0.0)] * 2
    scores = ocr([Prompt.from_text('"CAT"')] * 2, blank)
    assert scores.value_B.tolist() == [0.0, 0.0] and not scores.unjudged


def test_what_cannot_be_judged_is_nan_with_a_cause_and_never_0(ocr: OcrScorer) -> None:
    cat = written("CAT")
    hole, flash = cat.copy(), cat.copy()
    hole[0, 0, 0], flash[2, 3, 4] = np.nan, np.inf
    asks, asks_nothing = Prompt.from_text('"CAT"'), Prompt.from_text("a cat")
    scores = ocr([asks, asks_nothing, asks, asks, asks], np.stack([cat, cat, hole, flash, cat]))
    expected = [1.0, np.nan, np.nan, np.nan, 1.0]
    np.testing.assert_array_equal(scores.value_B, expected)
    np.testing.assert_array_equal(scores.parts["exact"], expected)
    np.testing.assert_array_equal(np.isnan(scores.parts["confidence"]), np.isnan(expected))
    assert scores.unjudged == {"no_spans": 1, "not_finite": 2}
    for shape in [(2, 1, 32, 96), (2, 32, 96, 3), (2, 32, 96), (2, 3, 0, 96)]:
        scores = ocr([asks, asks], np.ones(shape, dtype=np.float32))
        assert np.isnan(scores.value_B).all() and scores.unjudged == {"shape": 2}


def test_scores_are_a_table(ocr: OcrScorer) -> None:
    prompts = [Prompt.from_text(text) for text in ('"CAT"', '"DOG"', "no text")]
    scores = ocr(prompts, np.stack([written("CAT")] * 3))
    table = scores.table()
    assert list(table) == ["value", *scores.parts, "read"] and table["read"].tolist() == list(scores.read)
    np.testing.assert_array_equal(table["value"], scores.value_B)
    np.testing.assert_array_equal(table["exact"], scores.parts["exact"])
    assert table["value"].isna().tolist() == [False, False, True]
    assert list(Scores(scores.value_B, scores.parts).table()) == ["value", *scores.parts]


def test_a_failing_engine_is_nan_for_its_picture_only(caplog: pytest.LogCaptureFixture) -> None:
    class Flaky:
        name = "flaky"
        calls = 0

        def read(self, line_HW3: np.ndarray) -> Reading:
            self.calls += 1
            if self.calls == 2:
                raise RuntimeError("out of memory")
            return Reading("CAT", 0.9)

    scorer = OcrScorer(Flaky(), "ocr", ignore_case=True, crop=True)
    scores = scorer([Prompt.from_text('"CAT"')] * 3, np.stack([written("CAT")] * 3))
    np.testing.assert_array_equal(scores.value_B, [1.0, np.nan, 1.0])
    assert scores.unjudged == {"engine": 1} and "out of memory" in caplog.text


def test_the_crop_finds_the_text_and_keeps_a_margin() -> None:
    picture = np.full((32, 96, 3), 200, dtype=np.uint8)
    picture[10:20, 40:60] = (20, 30, 40)
    crop = text_crop(picture)
    assert crop is not None and crop.shape == (10 + 6, 20 + 6, 3)
    assert (crop[3:-3, 3:-3] == (20, 30, 40)).all() and (crop[:3] == 200).all()
    corner = np.full((32, 96, 3), 200, dtype=np.uint8)
    corner[0:10, 0:20] = 0
    grown = text_crop(corner)
    assert grown is not None and grown.shape == (16, 26, 3)  # the margin continues beyond the image
    assert text_crop(np.full((32, 96, 3), 7, dtype=np.uint8)) is None
    speck = np.full((32, 96, 3), 200, dtype=np.uint8)
    speck[10, 10] = 0
    whole = text_crop(speck)
    assert whole is not None and whole.shape == speck.shape
    picture[0, 0], picture[31, 95] = 0, 0  # single noisy pixels do not stretch the crop
    again = text_crop(picture)
    assert again is not None and again.shape == crop.shape


def test_the_crop_makes_small_words_in_large_pictures_readable(judge: OcrScorer) -> None:
    words = ["ZEBRA", "KIWI", "LEMON", "TULIP", "ROBIN", "MANGO", "OTTER", "PANDA"]
    places = [(0.1, 0.1), (0.9, 0.2), (0.5, 0.9), (0.2, 0.8)] * 2
    pictures = np.stack(
        [written(word, size=15, at=at, canvas=(64, 256)) for word, at in zip(words, places, strict=True)]
    )
    prompts = [Prompt.from_text(f'"{word}"') for word in words]
    cropped = judge(prompts, pictures).parts["exact"].mean()
    assert cropped == 1.0
    assert cropped >= OcrGold(crop=False).load()(prompts, pictures).parts["exact"].mean() + 0.2


def test_noise_does_not_stop_the_reading(ocr: OcrScorer) -> None:
    words, pictures = words_and_pictures(40, seed=12)
    noisy = np.clip(pictures + np.random.default_rng(0).normal(0, 0.06, pictures.shape), 0, 1).astype(np.float32)
    scores = ocr([Prompt.from_text(f'"{word}"') for word in words], noisy)
    assert scores.parts["exact"].mean() >= 0.9


def test_greedy_ctc_merges_repeats_and_drops_blanks() -> None:
    path = [0, 1, 1, 0, 1, 2, 2, 0]  # -A A -ABB-
    probabilities = np.full((8, 3), 0.1, dtype=np.float32)
    probabilities[np.arange(8), path] = [0.8, 0.8, 0.7, 0.8, 0.6, 0.4, 0.8, 0.8]
    assert decode(probabilities, ["", "A", "B"]) == Reading("AAB", pytest.approx((0.8 + 0.6 + 0.4) / 3))
    assert decode(probabilities[:1], ["", "A", "B"]) == Reading("", 0.0)


def test_the_direct_engine_reads_as_paddleocr_does_and_nothing_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_network(*arguments: object, **named: object) -> None:
        raise AssertionError(f"reading text asked the network: {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    through_paddle = PaddleRecogniser(find_weights(V6))
    assert list((tmp_path / "glyphlab" / "ocr").iterdir()) == [paddle_folder(find_weights(V6))]
    padded = OnnxRecogniser(find_weights(V6), min_width=PADDLE_MIN_WIDTH)
    words, pictures = words_and_pictures(40, seed=13)
    pixels = (pictures * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    lines = [found for picture in pixels if (found := line(picture)) is not None]
    assert len(lines) == len(words)
    expected = [through_paddle.read(each) for each in lines]
    found = [padded.read(each) for each in lines]
    assert [reading.text for reading in found] == [reading.text for reading in expected]
    np.testing.assert_allclose([r.confidence for r in found], [r.confidence for r in expected], atol=1e-5)
    fast = OnnxRecogniser(find_weights(V6))  # the same without padding to 320 pixels
    same = [
        as_compared(fast.read(x).text, "A") == as_compared(r.text, "A") for x, r in zip(lines, expected, strict=True)
    ]
    assert np.mean(same) >= 0.975  # one letter may fall the other way; 995 of 1000 words are equal


def test_names_say_which_engine_and_weights(ocr: OcrScorer, judge: OcrScorer) -> None:
    assert ocr.name == "ocr:onnxruntime/PP-OCRv6_rec_small"
    assert judge.name == "ocr_judge:onnxruntime/ch_PP-OCRv4_rec_infer"
    with pytest.raises(ValueError, match="'tesseract'; choose one of onnxruntime, paddleocr"):
        Ocr(engine="tesseract")


def test_missing_weights_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for source in (V6, V4):
        with pytest.raises(FileNotFoundError, match=r"another version.*pip install --no-deps"):
            find_weights((source[0], "models/none.onnx", source[2]))
    monkeypatch.setattr(recognisers, "package_folder", lambda name: None)
    for reward, package in ((Ocr(), "rapidocr=="), (OcrGold(), "rapidocr-onnxruntime==")):
        with pytest.raises(FileNotFoundError, match=f"pip install --no-deps {package}"):
            reward.load()


def test_the_model_folder_is_whole_or_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    weights = find_weights(V6)

    def damaged(session: object) -> list[str]:
        raise ValueError("damaged")

    with monkeypatch.context() as patch:
        patch.setattr(recognisers, "characters", damaged)
        with pytest.raises(ValueError, match="damaged"):
            paddle_folder(weights, tmp_path)
    assert list(tmp_path.iterdir()) == []
    folder = paddle_folder(weights, tmp_path)
    assert sorted(entry.name for entry in folder.iterdir()) == ["inference.onnx", "inference.yml"]
    written_at = (folder / "inference.yml").stat().st_mtime_ns
    assert paddle_folder(weights, tmp_path) == folder and (folder / "inference.yml").stat().st_mtime_ns == written_at
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setattr(recognisers.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    assert paddle_folder(weights, blocked / "below").is_relative_to(tmp_path / "tmp")
