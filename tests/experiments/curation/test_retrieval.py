"""Images of a weak category are retrieved by captions or by a reward, and balancing sees them as one category."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.curation.balancing.retrieval import Retrieval, folded, likeness_of_captions, retrieved, summary
from experiments.curation.curated_folder import CAPTIONS, curate
from experiments.curation.curation_report import write_report
from experiments.curation.measures import measure_groups
from tests.experiments.curation.images_to_curate import as_png, photograph

TEXTS = ["a neon sign at night", "a sign in the fog", "a neon fish", "a dog at night", "霓虹灯招牌", ""]


def columns(texts: list[str], **others: object) -> dict[str, np.ndarray]:
    count = len(texts)
    return {
        "texts": np.array(texts, object), "id": np.array([f"{count - i:03d}" for i in range(count)], object),
        "category": np.array(["general"] * count, object), "alone": np.ones(count, bool),
        "rendered": np.zeros(count, bool), **{name: np.asarray(each) for name, each in others.items()},
    }  # fmt: skip


def test_rare_words_of_a_query_count_more_and_the_best_query_counts() -> None:
    texts = ["a neon sign", "a sign", "a sign", "a dog", ""]
    neon, sign, a = np.log(6 / 2), np.log(6 / 4), np.log(6 / 5)
    expected = np.array([neon + sign + a, sign + a, sign + a, a, 0]) / (neon + sign + a)
    assert likeness_of_captions(texts, ["A Neon SIGN"]) == pytest.approx(expected)
    both = likeness_of_captions(texts, ["a neon sign", "the dog"])
    dog = np.log(6 / 2) / (np.log(6 / 2) + np.log(6))
    assert both == pytest.approx([*expected[:3], dog, 0])
    assert likeness_of_captions(["a", "a"], ["a"]).tolist() == [0.0, 0.0], "a word that all have says nothing"
    assert likeness_of_captions([*TEXTS], ["招牌"]).argmax() == 4, "characters are words where no blanks are"
    assert folded("\uff2e\uff45on") == "neon"


def test_the_likest_of_the_pool_are_taken_up_to_a_number_and_none_below_the_line() -> None:
    every = columns(TEXTS)
    everything = np.ones(len(TEXTS), bool)
    settings = Retrieval(("neon sign",), "neon", least=0.3)
    assert retrieved(every, everything, settings)["category"].tolist() == ["neon"] * 3 + ["general"] * 3
    assert (every["category"] == "general").all(), "the columns are left as they were"
    one = Retrieval(("neon sign",), least=0.3, most=1)
    assert retrieved(every, everything, one)["category"].tolist() == ["neon sign"] + ["general"] * 5
    assert retrieved(every, everything, Retrieval(("neon sign",), least=0.99))["category"][0] == "neon sign"
    ties = Retrieval(("sign",), most=1)
    assert retrieved(every, everything, ties)["category"].tolist().index("sign") == 1, "the smaller hash wins"
    for column in ("alone", "rendered"):
        kept = columns(TEXTS, **{column: [column == "rendered"] + [column == "alone"] * 5})
        found = retrieved(kept, everything, one)
        assert found["category"][0] == "general" and np.isnan(found["likeness"][0])
    gone = everything.copy()
    gone[0] = False
    assert retrieved(every, gone, one)["category"].tolist()[:3] == ["general", "general", "neon sign"]
    assert retrieved(every, everything, Retrieval()) == {}


def test_what_is_as_alike_as_asked_for_is_taken_and_told_without_what_had_the_name_before() -> None:
    every, by_reward = columns(["a"] * 3, likeness=[0.9, 0.5, 0.4]), Retrieval(("x",), reward="brisque", least=0.5)
    every["category"][2] = "x"
    found = every | retrieved(every, np.ones(3, bool), by_reward)
    assert found["category"].tolist() == ["x", "x", "x"]
    assert summary(found, by_reward) == ["2 images are retrieved as 'x', with a likeness of 0.5 to 0.9"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"queries": ("a", "")}, "must each have a word"),
        ({"queries": ("...",)}, "a word"),
        ({"most": 0}, "most=0 must"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Retrieval(**wrong)  # type: ignore[arg-type]


def test_a_planted_class_is_retrieved_and_then_shown_more_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "images", tmp_path / "set"
    folder.mkdir()
    captions = {"coffee": "a cup of coffee", "coins": "old coins", "camera": "a camera", "rocket": "a rocket starts"}
    for name, text in captions.items():
        (folder / f"{name}.png").write_bytes(as_png(photograph(name)))
        (folder / f"{name}.txt").write_text(text)
    often = ["resampling.cells=0.75", "resampling.power=1", "reading=no"]
    said = list(curate([str(folder)], out, [*often, "retrieval.queries=a rocket|spaceships"]))
    assert "1 images are retrieved as 'a rocket', with a likeness of" in said[-3]

    def shown() -> dict[str, int]:
        rows = map(json.loads, (out / CAPTIONS).read_text().splitlines())
        return {Path(row["origins"][0]).stem: row.get("repeats", 1) for row in rows}

    assert shown() == {"coffee": 1, "coins": 1, "camera": 1, "rocket": 3}
    calls: list[str] = []

    def score(reward: str, rgb_HW3: np.ndarray, texts: list[str]) -> float:
        calls.append(texts[0])
        return 0.3 if np.array_equal(rgb_HW3, np.asarray(photograph("coins"))) and texts == ["money"] else 0.1

    monkeypatch.setattr(measure_groups, "score", score)
    list(curate((), out, ["retrieval.queries=money|gold", "retrieval.reward=brisque", "retrieval.least=0.2"]))
    assert shown() == {"coffee": 1, "coins": 3, "camera": 1, "rocket": 1} and len(calls) == 8
    lines = list(curate((), out, ["retrieval.least=0.4", "retrieval.category=money"]))
    assert len(calls) == 8, "another line measures nothing again"
    assert shown()["coins"] == 1 and "0 images are retrieved as 'money'; the likest has 0.3" in lines[-3]
    list(curate((), out, ["retrieval.least=0.05", "retrieval.most=2"]))
    page = write_report(out).read_text()
    list(curate((), out, ["retrieval.queries=gold"]))
    assert len(calls) == 12, "other queries are other numbers"
    assert "most alike" in page and "money; gold" in page and page.startswith("<!DOCTYPE html>")
