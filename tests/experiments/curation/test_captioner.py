"""Captions of a model behind a server: asked once an image, checked, tried again, joined with those of the source."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.cli import main
from experiments.curation import captioner, measuring
from experiments.curation.captioner import Captioner, checked, fused
from experiments.curation.curated_folder import CAPTIONS, curate
from rewards.image_scorer import Unjudged
from tests.experiments.curation.conftest import NAMES
from tests.experiments.curation.images_to_curate import photograph
from tests.experiments.curation.test_curated_folder import content, decisions
from tests.fixtures.chat_server import MODEL, Said, chat_server, completion, pictures_of

GOOD = {"caption": "a cup on a table", "type": "photograph", "style": "warm", "watermarks": [], "abnormal": False}
OVER = threading.Event()
"""never set: what waits for it waits"""
BLACK: Any = SimpleNamespace(reduced=np.zeros((8, 8, 3), np.uint8))
"""an opened image"""


def said(answer: Any) -> Said:
    return completion({}, answer if isinstance(answer, str) else json.dumps(answer))


def name_of(request: dict[str, Any]) -> str:
    shown = pictures_of(request)[0]
    return next(name for name in NAMES if np.array_equal(shown, np.asarray(photograph(name))))


def test_a_model_describes_each_image_once_and_faults_are_sent_back(photographs: Path, tmp_path: Path) -> None:
    def reply(request: dict[str, Any]) -> Said:
        name, tries = name_of(request), sum(each["role"] == "assistant" for each in request["messages"])
        if name == "chelsea" and tries == 0:
            return said("Sure! Here it is.")
        if name == "chelsea" and tries == 1:
            return said({**GOOD, "type": "painting"})
        if name == "rocket":
            return said({**GOOD, "watermarks": ["shutterstock"]})
        return said(f"```json\n{json.dumps({**GOOD, 'caption': f'the {name}', 'abnormal': name == 'coins'})}\n```")

    out = tmp_path / "set"
    with chat_server(reply) as server:
        settings = ["reading=no", f"captioner.url={server.url}", f"captioner.model={MODEL}", "captioner.shares=0|0|1"]
        list(curate([str(photographs)], out, settings))
        asked = Counter(name_of(request) for request in server.requests)
        assert asked == {"coffee": 1, "chelsea": 3, "rocket": 1, "coins": 1}
        last = [request for request in server.requests if name_of(request) == "chelsea"][-1]["messages"]
        assert "it is not JSON" in last[2]["content"] and "'type' must be one of" in last[4]["content"]
        before = content(out)
        for table in (out / ".curation" / "described").iterdir():
            table.unlink()
        list(curate((), out))
        assert len(server.requests) == 6 and content(out) == before, "answers are kept"
    by = {name: row["dropped_by"] for name, row in decisions(out).items()}
    assert by == {"coffee.png": "", "chelsea.png": "", "rocket.png": "model_marks", "coins.png": "abnormal"}
    rows = {Path(row["origins"][-1]).stem: row for row in map(json.loads, (out / CAPTIONS).read_text().splitlines())}
    assert rows["coffee"]["text"] == ["from the source", "the coffee"] and rows["coffee"]["caption_origin"] == "fused"


@pytest.mark.slow
def test_images_that_the_model_fails_on_stay_and_are_tried_again(photographs: Path, tmp_path: Path) -> None:
    failing = ["coffee"]
    with chat_server(lambda request: said("no" if name_of(request) in failing else GOOD)) as server:
        settings = ["reading=no", f"captioner.url={server.url}", f"captioner.model={MODEL}", "captioner.shares=0|1|0"]
        list(curate([str(photographs)], tmp_path / "set", settings))
        texts = {
            row["caption_origin"] for row in map(json.loads, (tmp_path / "set" / CAPTIONS).read_text().splitlines())
        }
        assert texts == {"raw", "model"} and len(server.requests) == 3 + captioner.TRIES
        failing.clear()
        list(curate((), tmp_path / "set"))
        assert len(server.requests) == 4 + captioner.TRIES
        assert (tmp_path / "set" / CAPTIONS).read_text().count("a cup on a table") == 4


@pytest.mark.parametrize(
    ("answer", "fault"),
    [(Said(b"{}", 401), "answers 401"), (Said(b"<html>"), "no chat completion"), (said(""), "it is not JSON"),
     (said("I see a cup."), "it is not JSON"), (said({"caption": "a cup"}), "'type' must be a str")],
)  # fmt: skip
def test_a_server_that_only_fails_is_asked_for_a_few_images(
    answer: Said, fault: str, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(measuring, "MOST_IN_A_ROW", 2)
    monkeypatch.setattr(captioner, "PAUSE", 0.0)
    line = ["curate", str(photographs), "-o", str(tmp_path / "set"), "--processes", "1", "--set", "reading=no"]
    with chat_server(lambda request: answer) as server:
        assert main([*line, f"captioner.url={server.url}", f"captioner.model={MODEL}"]) == 1
        assert {name_of(request) for request in server.requests} == {"chelsea", "coffee"}, "two of four images"
    error = capsys.readouterr().err
    assert "described failed on 2 images in a row, last with" in error and fault in error
    assert not (tmp_path / "set" / "captions.jsonl").exists()


FAILING = {
    "never": (Said(b"", stall=lambda: OVER.wait(60) and None), ("did not answer within", "captioner.timeout")),
    "late": (
        replace(said(GOOD), stall=lambda: OVER.wait(4) and None),
        ("did not answer within", "--processes"),
    ),
    "hangs up": (Said(b"", drop=True), ("look whether it still runs",)),
    "500": (Said(b"busy", status=500), ("answers 500: b'busy'",)),
    "half": (Said(said(GOOD).body[:40]), ("answers 200 with no chat completion",)),
}
"""how a server fails, and what is said of it"""


@pytest.mark.parametrize("how", FAILING)
def test_what_a_server_does_that_gives_no_answer_is_said(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioner, "PAUSE", 0.0)
    answer, faults = FAILING[how]
    monkeypatch.setattr(captioner, "ATTEMPTS", 2)
    with chat_server(lambda request: answer) as server:
        asks = Captioner(server.url, MODEL)
        if faults[0] == "did not answer within":
            captioner.client(asks)._timeout = 0.2  # once it is open: the machine may be busy
        with pytest.raises(Unjudged) as error:
            captioner.ask(asks, [BLACK])
    assert all(part in str(error.value) for part in (server.url, *faults))
    assert len(server.requests) == (1 if how == "half" else captioner.ATTEMPTS)


@pytest.mark.slow
@pytest.mark.parametrize("how", FAILING)
def test_a_server_that_stops_answering_ends_it_and_what_was_answered_is_kept(
    how: str, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measuring, "MOST_IN_A_ROW", 2)
    monkeypatch.setattr(captioner, "PAUSE", 0.0)
    answers = dict.fromkeys(NAMES, FAILING[how][0]) | {"chelsea": said(GOOD)}
    out = tmp_path / "set"
    line = ["curate", str(photographs), "-o", str(out), "--processes", "1", "--set", "reading=no"]
    with chat_server(lambda request: answers[name_of(request)]) as server:
        line += [f"captioner.url={server.url}", f"captioner.model={MODEL}", "captioner.timeout=3"]
        assert main([*line, "captioner.shares=0|1|0"]) == 1
        error = capsys.readouterr().err
        assert server.url in error and "answers and whole shards are kept" in error
        assert {name_of(request) for request in server.requests} == {"chelsea", "coffee", "coins"}
        answers |= dict.fromkeys(NAMES, said(GOOD))
        server.requests.clear()
        assert main(["curate", str(out), "--set", "captioner.timeout=60"]) == 0
        assert sorted(map(name_of, server.requests)) == ["coffee", "coins", "rocket"], "one answer was there"
    assert (out / CAPTIONS).read_text().count("a cup on a table") == 4


def test_a_server_is_asked_without_chance_and_told_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [said("no"), said(GOOD)]
    with chat_server(lambda request: answers.pop(0)) as server:
        asks = Captioner(server.url, MODEL)
        assert captioner.ask(asks, [BLACK]) == [GOOD]
    last = server.requests[-1]
    assert [each["role"] for each in last["messages"]] == ["user", "assistant", "user"] and last["temperature"] == 0.0
    key = captioner.answer_key(asks)
    monkeypatch.setattr(captioner, "QUESTION", "another question")
    assert captioner.answer_key(asks) != key


def test_a_server_that_fails_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioner, "PAUSE", 0.0)
    fails = [Said(b"", drop=True), Said(b"", status=503)]
    with chat_server(lambda request: fails.pop() if fails else said(GOOD)) as server:
        assert captioner.ask(Captioner(server.url, MODEL), [BLACK]) == [GOOD]
        assert len(server.requests) == 3


def test_mistakes_are_named_before_anything_is_measured(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["curate", str(photographs), "-o", str(tmp_path / "set"), "--set", "reading=no"]
    assert main([*line, "captioner.url=http://127.0.0.1:9/v1"]) == 2
    assert "needs captioner.model" in capsys.readouterr().err
    assert main([*line, "captioner.timeout=0"]) == 2
    assert "captioner.timeout=0.0 must be seconds above 0" in capsys.readouterr().err
    assert main([*line, "captioner.url=http://127.0.0.1:9/v1", "captioner.model=m"]) == 1
    assert "no server answers at" in capsys.readouterr().err
    with chat_server(lambda request: said(GOOD)) as server:
        assert main([*line, f"captioner.url={server.url}", "captioner.model=other"]) == 2
        assert f"does not serve 'other'; it serves {MODEL}" in capsys.readouterr().err
    assert not (tmp_path / "set" / ".curation" / "quality").exists()


@pytest.mark.parametrize(
    ("change", "fault"),
    [({"caption": ""}, "is empty"), ({"caption": 3}, "must be a str"), ({"watermarks": "none"}, "must be a list"),
     ({"watermarks": [1]}, "list of texts"), ({"abnormal": "no"}, "must be a bool"),
     ({"type": "art"}, "must be one of"),
     ({"caption": "I'm sorry, I can't help with that."}, "refuses to describe")],
)  # fmt: skip
def test_an_answer_is_checked_field_by_field(change: dict[str, Any], fault: str) -> None:
    assert checked(json.dumps(GOOD)) == GOOD
    with pytest.raises(ValueError, match=fault):
        checked(json.dumps({**GOOD, **change}))


def test_captions_are_joined_by_shares_and_unread_ones_are_left_out() -> None:
    asks = Captioner("http://localhost/v1", "m", shares=(0.2, 0.3, 0.5))
    kinds = Counter(fused(asks, f"{i * 2654435761 % 2**32:08x}", ["own"], "new", float("nan"))[1] for i in range(2000))
    assert [kinds[kind] / 2000 for kind in ("raw", "model", "fused")] == pytest.approx([0.2, 0.3, 0.5], abs=0.02)
    assert fused(asks, "ffffffff", ["own"], "new", 0.79) == (["own"], "raw")
    assert fused(asks, "ffffffff", ["own"], "new", 0.81) == (["own", "new"], "fused")
    assert fused(asks, "00000000", [], "new", 1.0) == (["new"], "model")
    assert fused(Captioner(), "ffffffff", ["own"], "new", 1.0) == (["own"], "raw")


def test_a_caption_at_the_line_counts_and_the_first_digits_of_a_hash_choose() -> None:
    asks = Captioner("http://localhost/v1", "m")
    assert fused(asks, "ff" * 4 + "00" * 28, ["own"], "new", 0.8) == (["own", "new"], "fused")
    assert fused(asks, "00" * 4 + "ff" * 28, ["own"], "new", 0.8) == (["own"], "raw")
