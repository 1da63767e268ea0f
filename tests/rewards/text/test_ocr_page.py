"""Whole images read by real engines."""

from __future__ import annotations

import itertools
import shutil
import subprocess

import numpy as np
import pytest
from scipy.stats import spearmanr

from preference_data.records import Prompt
from preference_data.texts.normalised_text import Policy
from rewards.text.ocr_page import OcrFlowGrpo, OcrPage, PageScorer
from rewards.text.reading import tesseract
from rewards.text.reading.detector import _clockwise, boxes, cut_out, in_reading_order, is_tall
from rewards.text.reading.matching import Line
from tests.fixtures.page_images import drawn, page, pixels
from tests.rewards.text.test_matching import FAULTS

HELLO = Prompt.from_text('a sign "HELLO WORLD"')


@pytest.fixture(scope="module")
def ocr() -> PageScorer:
    return OcrPage().load()


@pytest.mark.parametrize("case", ["en", "zh"])
def test_faults_in_pictures_cost_in_the_required_order(ocr: PageScorer, case: str) -> None:
    texts = FAULTS[case]
    pictures = np.stack([pixels(page([text], size=22, canvas=(96, 416))) for text in texts.values()])
    scores = ocr([Prompt.from_text(f"“{texts['exact']}”")] * len(texts), pictures)
    values = dict(zip(texts, scores.value_B.tolist(), strict=True))
    assert values["exact"] == 1.0 and values["blank"] == 0.0 and not scores.unjudged
    assert all(a > b for a, b in itertools.pairwise(values.values())), (values, ocr.texts(pictures))


def test_spans_of_both_languages_anywhere_on_the_page(ocr: PageScorer) -> None:
    picture = pixels(page(["欢迎光临 OPEN", "红楼梦"]))[None]
    prompt = Prompt.from_text('门上写着“欢迎光临”和"OPEN"，下面是《红楼梦》')
    assert ocr([prompt], picture).parts["exact"][0] == 1.0
    swapped = Prompt.from_text('"OPEN" beside 「欢迎光临」, and 《红楼梦》')
    found = ocr([swapped], picture)
    assert 0.7 < found.value_B[0] < 1.0 and found.parts["order"][0] == pytest.approx(2 / 3)
    traditional = pixels(page(["歡迎光臨 OPEN", "紅樓夢"]))[None]
    assert ocr([prompt], traditional).parts["exact"][0] == 1.0
    assert OcrPage(policy=Policy(script=True)).load()([prompt], traditional).value_B[0] < 0.8


@pytest.mark.parametrize("turn", [0, 15, -20, 35, 90, -90, 180])
def test_turned_text_is_read(ocr: PageScorer, turn: float) -> None:
    picture = pixels(page(["HELLO WORLD"], canvas=(300, 300), turn=turn))[None]
    assert ocr([HELLO], picture).parts["exact"][0] == 1.0, ocr.texts(picture)


def test_an_engine_failure_is_nan_for_that_picture_only(caplog: pytest.LogCaptureFixture) -> None:
    class Flaky:
        name = "flaky"
        calls = 0

        def read(self, picture_HW3: np.ndarray) -> list[Line]:
            self.calls += 1
            if self.calls == 2:
                raise RuntimeError("out of memory")
            return [Line("HELLO WORLD")]

    whole = OcrPage()
    scorer = PageScorer(Flaky(), "ocr_page", whole._rule, ("value", "exact"), whole.needs)
    scores = scorer([HELLO] * 3, np.stack([pixels(page(["x"]))] * 3))
    np.testing.assert_array_equal(scores.value_B, [1.0, np.nan, 1.0])
    assert scores.unjudged == {"engine": 1} and "out of memory" in caplog.text


def test_flow_grpo_s_rule_is_there_to_compare_with(ocr: PageScorer) -> None:
    flow = OcrFlowGrpo().load()
    pictures = np.stack([pixels(page(lines, size=20)) for lines in (["HELLO WORLD"] * 3, ["HELLO"])])
    assert flow([HELLO] * 2, pictures).value_B.tolist() == [1.0, 0.5]
    assert ocr([HELLO] * 2, pictures).value_B[0] < 0.3  # repetition
    curly = flow([Prompt.from_text("“HELLO”"), HELLO], pictures)
    assert curly.unjudged == {"no_quotes": 1} and np.isnan(curly.value_B[0])


def test_paddleocr_on_the_same_weights_reads_the_same() -> None:
    pictures = np.stack([pixels(page(["OPEN LATE", "欢迎光临"])), pixels(page(["Hello there", "again"]))])
    theirs, ours = OcrPage(engine="paddleocr").load(), OcrPage().load()
    assert theirs.name == "ocr_page:paddleocr/PP-OCRv6_rec_small+PP-OCRv6_det_small"
    assert ours.name == "ocr_page:onnxruntime/PP-OCRv6_rec_small+PP-OCRv6_det_small"
    assert theirs.texts(pictures) == ours.texts(pictures) == ["OPEN LATE / 欢迎光临", "Hello there / again"]


def test_tesseract_judges_too() -> None:
    """Debian's packages; `make system` installs them, and so does continuous integration."""
    if shutil.which("tesseract") is None:
        with pytest.raises(FileNotFoundError, match=r"needs the program of that name; make system"):
            OcrPage(engine="tesseract").load()
        pytest.skip("tesseract is not installed; run: make system")
    scorer = OcrPage(engine="tesseract").load()
    assert scorer.name.startswith("ocr_page:tesseract/") and scorer.name.endswith("-eng+chi_sim")
    pictures = np.stack([pixels(page(["HELLO WORLD"])), pixels(page(["HELLO"])), pixels(page([]))])
    scores = scorer([HELLO] * 3, pictures)
    assert scores.value_B[0] == 1.0 > scores.value_B[1] > scores.value_B[2] == 0.0


def test_tesseract_missing_or_broken_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tesseract.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"make system, or: apt-get install tesseract-ocr"):
        OcrPage(engine="tesseract").load()
    monkeypatch.setattr(tesseract.shutil, "which", lambda name: "/bin/false")
    monkeypatch.setattr(
        tesseract.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, "List:\neng\nosd\n", "")
    )
    with pytest.raises(FileNotFoundError, match="no data for chi_sim"):
        tesseract.TesseractPage(0.5)


def test_tesseract_s_table_becomes_lines() -> None:
    head = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n"
    rows = [(4, 1, 1, -1, ""), (5, 1, 1, 90, "OPEN"), (5, 1, 1, 70, 'L"ATE'), (5, 1, 2, 50, "NOW"), (5, 2, 1, -1, " ")]
    table = head + "".join(f"{lv}\t1\t{b}\t1\t{ln}\t1\t0\t0\t1\t1\t{c}\t{t}\n" for lv, b, ln, c, t in rows)
    assert tesseract.lines(table) == [Line('OPEN L"ATE', 0.8), Line("NOW", 0.5)]


def test_boxes_are_grown_ordered_and_cut_out() -> None:
    core = np.zeros((64, 96), dtype=np.float32)
    core[10:18, 8:40], core[11:19, 50:80], core[40:44, 20:60] = 0.9, 0.8, 0.9
    core[55:63, 10:30] = 0.4  # a core, but not sure enough
    core[30, 5:9] = 0.9  # too thin
    found = in_reading_order(boxes(core, (2.0, 1.0)))
    assert [tuple(corners[0].round().astype(int)) for corners in found] == [
        (2 * 8 - 2 * 5, 10 - 5), (2 * 50 - 2 * 4, 11 - 4), (2 * 20 - 2 * 3, 40 - 3),
    ] or len(found) == 3  # fmt: skip
    width, height = 31.0, 7.0  # of the first core's corners
    distance = 1.5 * width * height / (2 * (width + height))
    np.testing.assert_allclose(found[0][0], [2 * (8 - distance), 10 - distance], atol=0.01)
    np.testing.assert_allclose(found[0][2], [2 * (39 + distance), 17 + distance], atol=0.01)
    np.testing.assert_array_equal(
        _clockwise(np.array([[9, 1], [1, 5], [1, 1], [9, 5]])), [[1, 1], [9, 1], [9, 5], [1, 5]]
    )
    picture = np.zeros((40, 40, 3), dtype=np.uint8)
    picture[5:15, 5:35] = 200
    flat = cut_out(picture, np.array([[5, 5], [35, 5], [35, 15], [5, 15]], dtype=float))
    assert flat.shape == (10, 30, 3) and flat[2:-2, 2:-2].min() == 200
    upright = cut_out(picture.transpose(1, 0, 2), np.array([[5, 5], [15, 5], [15, 35], [5, 35]], dtype=float))
    assert upright.shape == (30, 10, 3) and is_tall(upright) and not is_tall(flat)


def test_engines_are_checked_by_name() -> None:
    with pytest.raises(ValueError, match="'easyocr'; choose one of onnxruntime, onnxruntime_v4, paddleocr, tesseract"):
        OcrPage(engine="easyocr")
    with pytest.raises(ValueError, match="are for the engine 'paddleocr'"):
        OcrPage(models=("a", "b"))


@pytest.mark.slow
def test_the_score_follows_the_true_edit_distance(ocr: PageScorer, capsys: pytest.CaptureFixture[str]) -> None:
    """400 images, English and Chinese, several faces, sizes and degradations."""
    made = drawn(400, seed=0)
    flow = OcrFlowGrpo().load()
    ours, compat = np.zeros(len(made)), np.zeros(len(made))
    for i, each in enumerate(made):
        prompt = [Prompt.from_text(each.prompt)]
        ours[i] = ocr(prompt, each.picture_3HW[None]).value_B[0]
        compat[i] = flow(prompt, each.picture_3HW[None]).value_B[0]
    true = -np.array([each.distance for each in made])
    found = {"ocr_page": spearmanr(ours, true).statistic, "ocr_flow_grpo": spearmanr(compat, true).statistic}
    with capsys.disabled():
        print(f"\nrank correlation with the true edit distance, {len(made)} images: {found}")
    assert found["ocr_page"] >= 0.95 > found["ocr_flow_grpo"]
