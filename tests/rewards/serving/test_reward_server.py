"""The reward server and its client over real sockets."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import signal
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from preference_data.pixels import to_float
from preference_data.records import Prompt, SourceImage
from rewards.scores import Scores
from rewards.serving.mixed_sizes import batches, in_order
from rewards.serving.remote import Remote
from rewards.serving.reward_server import Service, identity_of, serve
from rewards.serving.wire import Limits, OtherReward, decode_scores, encode_request, encode_scores, to_png
from rewards.serving.workers import ScorerPool
from tests.fixtures.served_rewards import serving
from tests.rewards.serving.test_workers import PROMPT, SILENT, Mean, pictures

TOKEN = "a-token-of-this-test"
LIMITS = Limits(bytes=400_000, images=8, side=512, pixels=300_000)


def score_sizes(
    scorer: Callable[[list[Prompt], np.ndarray], Scores], prompts: Sequence[Prompt], images: Sequence[np.ndarray],
    most: int = 64,
) -> Scores:  # fmt: skip
    """Scores of images of any sizes, in their order, as the server makes them."""
    groups = batches(prompts, images, most)
    return in_order([indices for indices, _ in groups], [scorer(*batch) for _, batch in groups])


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, ScorerPool]]:
    with serving(Mean(), Service(workers=2, limits=LIMITS)) as running:
        yield running


def ask(
    url: str, path: str, body: bytes | None = None, method: str = "POST", token: str = "", length: int | None = None
) -> tuple[int, dict]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if length is not None:
            headers["Content-Length"] = str(length)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content.startswith(b"{") else {"text": content.decode()}
    finally:
        connection.close()


def one(png: object, prompt: object = 'a sign "A"') -> bytes:
    text = base64.b64encode(png).decode() if isinstance(png, bytes) else png
    return json.dumps({"pictures": [{"prompt": prompt, "png": text}]}).encode()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes whose pixels take width x height x 3 bytes."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    packed = zlib.compress(b"\0" * 1_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def other_format(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    return file.getvalue()


GOOD = to_png(pictures(1)[0])
WRONG = {
    "no json": (b"{", 400, "the body is not JSON"),
    "not utf-8": (b"\xff\xfe\x00", 400, "the body is not JSON"),
    "too deep": (b"[" * 100_000, 400, "the body is not JSON"),
    "a list": (b"[]", 422, "the body must be"),
    "no images": (b'{"pictures": 3}', 422, "the body must be"),
    "too many": (json.dumps({"pictures": [{}] * 9}).encode(), 413, "9 images in one request; at most 8"),
    "extra field": (b'{"pictures": [{"prompt": "a", "png": "", "path": "/etc/passwd"}]}', 422, "and nothing else"),
    "empty prompt": (one(GOOD, ""), 422, "the prompt of image 0"),
    "odd prompt": (one(GOOD, {"id": "x"}), 422, "the prompt of image 0: Prompt lacks text, spans"),
    "no base64": (one("%%%"), 422, "image 0 is not base64"),
    "no png": (one(b"\x80\x04\x95pickle"), 422, "image 0 is not a readable PNG"),
    "jpeg": (one(other_format("JPEG")), 422, "image 0 is not a readable PNG"),
    "truncated": (one(GOOD[:-20]), 422, "image 0 is not a readable PNG"),
    "damaged": (one(GOOD[:40] + b"\xff" * 10 + GOOD[50:]), 422, "image 0 is not a readable PNG"),
    "bomb": (one(bomb(60_000, 60_000)), 413, "image 0 is"),
    "long side": (one(bomb(513, 4)), 413, "image 0 is 513x4 pixels; at most 512 on a side"),
    "many pixels": (
        encode_request([PROMPT] * 2, [np.zeros((3, 500, 500), dtype=np.uint8)] * 2), 413,
        "the images up to number 1 have more than 300000 pixels",
    ),
    "large body": (b" " * 400_001, 413, "the request has 400001 bytes; at most 400000"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_answered_with_a_reason(server: tuple[str, ScorerPool], what: str) -> None:
    body, status, reason = WRONG[what]
    found, content = ask(server[0], "/score", body)
    assert found == status and reason in content["error"], content
    assert ask(server[0], "/health", method="GET")[0] == 200


def test_a_body_that_hides_its_length_is_cut_off(server: tuple[str, ScorerPool]) -> None:
    connection = http.client.HTTPConnection(urlsplit(server[0]).netloc, timeout=60)
    connection.request("POST", "/score", iter([b" " * 100_000] * 5), encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 413 and b"more than 400000 bytes" in response.read()
    connection.close()
    assert ask(server[0], "/nowhere", b"")[0] == 404 and ask(server[0], "/score", method="GET")[0] == 405


def test_scores_come_back_exactly_whatever_the_sizes(server: tuple[str, ScorerPool]) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(1, 255, (3, 4, 6 + i % 3), dtype=np.uint8) for i in range(7)]
    prompts = [SILENT if i == 4 else PROMPT for i in range(7)]
    status, content = ask(server[0], "/score", encode_request(prompts, images))
    found = decode_scores(json.dumps(content).encode(), 7)
    expected = score_sizes(lambda p, x: Mean().load()(p, to_float(x)), prompts, images)
    assert status == 200 and found.value_B.tobytes() == expected.value_B.tobytes()
    assert found.unjudged == expected.unjudged == {"no_spans": 1} and found.spent["pictures"] == 7
    means = [float(to_float(image).reshape(1, -1).mean(axis=1, dtype=np.float64)[0]) for image in images]
    np.testing.assert_allclose(np.delete(found.value_B, 4), np.delete(means, 4))


def test_answers_are_checked_by_the_client() -> None:
    scores = Scores(np.array([0.1, np.nan]), {"a": np.array([1 / 3, np.nan])}, {"x": 1}, {"seconds": 0.5})
    again = decode_scores(encode_scores(scores), 2)
    assert (
        again.value_B.tobytes() == scores.value_B.tobytes()
        and again.parts["a"].tobytes() == scores.parts["a"].tobytes()
    )
    with pytest.raises(ValueError, match="answered 2 scores to 3 images"):
        decode_scores(encode_scores(scores), 3)
    for damaged in (b"", b"[]", b'{"value": ["x"]}', b'{"value": 1, "parts": {}, "unjudged": {}, "spent": {}}'):
        with pytest.raises(ValueError, match="holds no scores"):
            decode_scores(damaged, 1)


def test_200_requests_at_once_lose_nothing_though_a_worker_is_killed(server: tuple[str, ScorerPool]) -> None:
    url, pool = server
    batches = [pictures(3, seed=i) for i in range(200)]
    bodies = [encode_request([PROMPT] * 3, list(batch)) for batch in batches]
    before, restarted = pool.processes(), pool.restarted
    gate = threading.Barrier(200)
    done = threading.Semaphore(0)

    def send(body: bytes) -> tuple[int, dict]:
        gate.wait()
        answer = ask(url, "/score", body)
        done.release()
        return answer

    with ThreadPoolExecutor(200) as threads:
        waiting = [threads.submit(send, body) for body in bodies]
        for _ in range(20):
            done.acquire()
        os.kill(before[0], signal.SIGKILL)
        answers = [future.result(timeout=120) for future in waiting]
    assert [status for status, _ in answers] == [200] * 200
    for batch, (_, content) in zip(batches, answers, strict=True):
        expected = to_float(batch).reshape(3, -1).mean(axis=1, dtype=np.float64)
        assert content["value"] == expected.tolist()
    ask(
        url, "/score", encode_request([PROMPT] * 8, list(pictures(8)))
    )  # both workers are asked, so the dead one is noticed
    assert pool.restarted <= restarted + 1 and ask(url, "/health", method="GET")[0] == 200


def test_a_killed_worker_is_replaced_and_its_pictures_are_judged_again() -> None:
    with serving(Mean(seconds=0.5), Service(workers=1)) as (url, pool):
        first = pool.processes()[0]
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(ask, url, "/score", encode_request([PROMPT], list(pictures(1))))
            os.kill(first, signal.SIGKILL)
            status, content = waiting.result(timeout=60)
        assert status == 200 and content["value"][0] > 0
        assert pool.restarted == 1 and pool.processes()[0] != first
        assert "glyphlab_worker_restarts_total 1" in ask(url, "/metrics", method="GET")[1]["text"]


def test_a_picture_that_kills_its_workers_fails_alone() -> None:
    black = np.zeros((1, 3, 4, 6), dtype=np.uint8)
    with serving(Mean(), Service(workers=1, restarts=2)) as (url, pool):
        status, content = ask(url, "/score", encode_request([PROMPT], list(black)))
        assert status == 500 and "the same images killed two workers" in content["error"]
        assert ask(url, "/score", encode_request([PROMPT], list(pictures(1))))[0] == 200 and pool.restarted == 2
        assert ask(url, "/score", encode_request([PROMPT], list(black)))[0] == 500
        status, content = ask(url, "/health", method="GET")
        assert status == 503 and "died (signal SIGKILL)" in content["status"]  # no replacement is left, and it says so
        with pytest.raises(ConnectionError, match=r"cannot judge \(status 200, .* died"):
            Remote(url).load()


def test_the_token_is_needed_and_the_client_sends_it(tmp_path: Path) -> None:
    body = encode_request([PROMPT], list(pictures(1)))
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    with serving(Mean(), Service(token=TOKEN)) as (url, _):
        assert ask(url, "/score", body)[0] == ask(url, "/score", body, token=TOKEN + "x")[0] == 401
        assert ask(url, "/metrics", method="GET")[0] == 401 and ask(url, "/health", method="GET")[0] == 200
        assert ask(url, "/score", body, token=TOKEN)[0] == 200
        with pytest.raises(PermissionError, match="wants another token"):
            Remote(url).load()
        assert Remote(url, file).load()([PROMPT], pictures(1)).value_B[0] > 0
        text = ask(url, "/metrics", method="GET", token=TOKEN)[1]["text"]
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["glyphlab_requests_total", "401"] == 4 and values["glyphlab_pictures_waiting",] == 0
    assert values["glyphlab_pictures_total",] == 2 and values["glyphlab_worker_restarts_total",] == 0
    assert values["glyphlab_chunks_queued",] == 0
    assert 0 < values["glyphlab_request_seconds", "0.5"] < values["glyphlab_request_seconds", "0.95"]
    with pytest.raises(ValueError, match="at least 16"):
        Service(token="short")
    with pytest.raises(ValueError, match=r"open to other machines; give --token-file"):
        serve("mean", Mean(), Service(), "0.0.0.0", 8100)


def test_too_much_waiting_is_refused_and_the_client_tries_again() -> None:
    with serving(Mean(seconds=0.4), Service(workers=1, waiting=2)) as (url, _):
        body = encode_request([PROMPT] * 2, list(pictures(2)))
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(lambda _: ask(url, "/score", body), range(2)))
        assert sorted(status for status, _ in found) == [200, 503]
        scores = Remote(url, batch=2, connections=2).load()([PROMPT] * 4, pictures(4))
    assert not np.isnan(scores.value_B).any() and scores.spent["requests"] >= 2


def test_the_client_keeps_order_and_says_what_it_could_not_ask(server: tuple[str, ScorerPool]) -> None:
    images = to_float(pictures(11))
    images[3, 0, 0, 0] = np.nan
    prompts = [SILENT if i == 6 else PROMPT for i in range(11)]
    scorer = Remote(server[0], batch=2, connections=3).load()
    scores = scorer(prompts, images)
    expected = Mean().load()(prompts, images)
    kept = [i for i in range(11) if i not in (3, 6)]
    assert scorer.name == "remote:mean" and scores.value_B[kept].tobytes() == expected.value_B[kept].tobytes()
    assert np.isnan(scores.value_B[[3, 6]]).all() and scores.unjudged == {"no_spans": 1, "not_finite": 1}
    assert scores.spent == {"requests": 5.0}


def test_a_request_that_is_too_large_is_asked_in_parts(server: tuple[str, ScorerPool]) -> None:
    """By the server's limits on images, bytes and pixels; what is too large by itself is NaN, alone."""
    scorer = Remote(server[0], batch=64, connections=1).load()
    found = scorer([PROMPT] * 20, pictures(20))
    np.testing.assert_array_equal(found.value_B, Mean().load()([PROMPT] * 20, to_float(pictures(20))).value_B)
    noise = np.random.default_rng(0).integers(1, 255, (3, 3, 240, 240), dtype=np.uint8)  # 173 kB each, before base64
    flat = np.full((2, 3, 500, 500), 100, dtype=np.uint8)
    wide = np.full((1, 3, 4, 513), 100, dtype=np.uint8)
    for images, judged in ((noise, 3), (flat, 2), (wide, 0)):
        scores = scorer([PROMPT] * len(images), images)
        assert np.isfinite(scores.value_B).sum() == judged == len(images) - scores.unjudged.get("remote", 0)


def test_what_is_refused_costs_nothing_that_was_sent_with_it(
    server: tuple[str, ScorerPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt that the server does not take, as one of another version may not, and a source image that is gone."""
    gone = replace(PROMPT, sources=(SourceImage("0" * 64, 4, 4, "/nowhere.png"),))
    odd = replace(PROMPT, id="odd")
    monkeypatch.setattr(
        "rewards.serving.remote.encode_request", lambda *batch: encode_request(*batch).replace(b'"odd"', b'""')
    )
    found = Remote(server[0]).load()([PROMPT, odd, PROMPT, gone, PROMPT], pictures(5))
    assert np.isnan(found.value_B).tolist() == [False, True, False, True, False]
    assert found.unjudged == {"remote": 1, "no_source": 1}


def test_another_reward_at_the_same_address_is_an_error(server: tuple[str, ScorerPool]) -> None:
    """Scores of two rewards in one run would be compared as if they were of one."""
    scorer = Remote(server[0]).load()
    assert np.isfinite(scorer([PROMPT], pictures(1)).value_B).all()
    assert scorer._identity == identity_of("mean", Mean()) != identity_of("mean", Mean(seconds=0.1))
    scorer._identity = "ocr 0123456789ab"
    with pytest.raises(OtherReward, match=r"answers as 'mean .*', and was 'ocr 0123456789ab' when this began"):
        scorer([PROMPT], pictures(1))


def test_a_server_that_is_gone_is_nan_and_never_0(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Mean(), Service()) as (url, _):
        scorer = Remote(url, tries=2).load()
    scores = scorer([PROMPT] * 3, pictures(3))
    assert np.isnan(scores.value_B).all() and scores.unjudged == {"remote": 3} and "judged none of 3" in caplog.text
    assert list(scores.parts) == ["process", "threads"]
    with pytest.raises(ConnectionError, match=r"no reward server answers at .*; start one: glyphlab serve-rewards"):
        Remote(url).load()
    for wrong in ("localhost:8100", "ftp://x", "http://me:pw@localhost:8100"):
        with pytest.raises(ValueError, match="it must be like"):
            Remote(wrong)


def test_pictures_of_mixed_sizes_keep_their_order() -> None:
    rng = np.random.default_rng(3)
    images = [rng.integers(1, 255, (3, 4, int(rng.integers(4, 7))), dtype=np.uint8) for _ in range(20)]
    sizes: list[tuple[int, ...]] = []

    def judge(prompts: list[Prompt], batch: np.ndarray) -> Scores:
        sizes.append(batch.shape)
        return Mean().load()(prompts, to_float(batch))

    scores = score_sizes(judge, [PROMPT] * 20, images, most=3)
    single = [Mean().load()([PROMPT], to_float(image[None])).value_B[0] for image in images]
    assert scores.value_B.tolist() == single and max(size[0] for size in sizes) == 3
    assert score_sizes(judge, [], []).value_B.shape == (0,)
