"""A judge behind a server: every way a server fails is a cause, never a score. Against a real server on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from preference_data.image_files import source_image
from preference_data.pixels import to_float
from preference_data.records import Prompt
from rewards.language.chat_client import Client
from rewards.language.chat_judge import ServerJudge, ServerScorer
from rewards.scores import Scores
from tests.fixtures.chat_server import MODEL, ChatServer, Said, chat_server, completion, pictures_of, question_of

PROMPTS = [Prompt.from_text(f'the word "{word}"') for word in ("CAT", "DOG", "FOX", "OWL", "BEE")]
SURE = {"Yes": 0.75, "No": 0.2, "Maybe": 0.05}


def greys(*levels: int) -> np.ndarray:
    """Images of one 8-bit grey each: (B, 3, 8, 12)."""
    return to_float(np.stack([np.full((3, 8, 12), level, dtype=np.uint8) for level in levels]))


def level(request: dict[str, Any], number: int = 0) -> int:
    return int(pictures_of(request)[number][0, 0, 0])


def judge(chat: ChatServer, **settings: Any) -> ServerJudge:
    return replace(ServerJudge(url=chat.url, model=MODEL, pause=0.01, timeout=60.0), **settings)


def test_probabilities_are_read_from_logprobs() -> None:
    with chat_server(lambda request: completion(SURE)) as chat:
        scores = judge(chat).load()(PROMPTS[:1], greys(10))
        request = chat.requests[0]
    assert scores.value_B[0] == pytest.approx(0.75)
    assert scores.parts["yes_or_no"][0] == pytest.approx(0.75 / 0.95) and scores.parts["mass"][0] == pytest.approx(0.95)
    assert scores.spent == {"requests": 2.0, "tokens_in": 100.0, "tokens_out": 1.0}  # the list of models is one
    assert (request["max_tokens"], request["temperature"], request["top_logprobs"]) == (1, 0.0, 20)
    assert request["logprobs"] is True and request["model"] == MODEL
    assert question_of(request) == 'Does this figure show "the word "CAT""? Please answer Yes or No.'
    assert level(request) == 10 and pictures_of(request)[0].shape == (8, 12, 3)


def test_a_rating_is_the_expected_value_of_the_words() -> None:
    odds = {" good": 0.5, "excellent": 0.25, "bad": 0.05, "The": 0.2}
    with chat_server(lambda request: completion(odds)) as chat:
        scores = judge(chat, reading="rating").load()(PROMPTS[:1], greys(10))
    rating = (0.5 * 4 + 0.25 * 5 + 0.05 * 1) / 0.8
    assert scores.parts["rating"][0] == pytest.approx(rating)
    assert scores.value_B[0] == pytest.approx((rating - 1) / 4)


def test_json_answers_become_scores_of_ten() -> None:
    with chat_server(lambda request: completion({}, '```json\n{"reason": "fine {x}", "score": 7.5}\n```')) as chat:
        scores = judge(chat, reading="json").load()(PROMPTS[:1], greys(10))
        assert "logprobs" not in chat.requests[0]
    assert scores.value_B[0] == 0.75 and scores.parts["score"][0] == 7.5


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("8/10, a fine image", "no_json"),
        ('{"score": "8"}', "no_score"),
        ('{"score": true}', "no_score"),
        ('{"score": null}', "no_score"),
        ('{"score": NaN}', "no_json"),
        ('{"score": 11}', "off_scale"),
        ('{"score": -1}', "off_scale"),
        ('{"score": 1e999}', "off_scale"),
        ('{"score": 3} or rather {"score": 8}', "two_answers"),
        ('{"score": 3, "score": 8}', "no_json"),
        ('{"reason": "says {"score": 2} itself", "score": 9}', "no_json"),
        ('{"reason": "cut', "no_json"),
        ('<think>{"score": 3}', "no_json"),
        ("", "no_json"),
        ("{" * 5000, "no_json"),
    ],
)
def test_a_text_that_is_no_answer_is_no_score(said: str, cause: str) -> None:
    with chat_server(lambda request: completion({}, said)) as chat:
        scores = judge(chat, reading="json").load()(PROMPTS[:1], greys(10))
    assert np.isnan(scores.value_B[0]) and np.isnan(scores.parts["score"][0]) and scores.unjudged == {cause: 1}


def test_thinking_is_not_the_answer() -> None:
    said = '<think>maybe {"score": 2}?</think>{"reason": "ok", "score": 6}'
    with chat_server(lambda request: completion({}, said)) as chat:
        assert judge(chat, reading="json").load()(PROMPTS[:1], greys(10)).value_B[0] == 0.6


def with_logprobs(logprobs: Any) -> Said:
    return Said(json.dumps({"choices": [{"message": {"content": "Yes"}, "logprobs": logprobs}]}).encode())


BAD = {
    "no_logprobs": with_logprobs(None),
    "no_logprobs ": with_logprobs({"content": []}),
    "no_logprobs  ": with_logprobs({"content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": []}]}),
    "bad_logprobs": with_logprobs({"content": [{"top_logprobs": [{"token": "Yes", "logprob": None}]}]}),
    "bad_logprobs ": with_logprobs({"content": [{"top_logprobs": [{"token": "Yes", "logprob": 0.5}]}]}),
    "bad_logprobs  ": with_logprobs(
        {"content": [{"top_logprobs": [{"token": "Yes", "logprob": -0.1}, {"token": "No", "logprob": -0.1}]}]}
    ),
    "no_answer": completion({"The": 0.9, "Yes": 0.01, "No": 0.01}),
    "bad_response": Said(b"<html>busy</html>"),
    "bad_response ": Said(b'{"choices": []}'),
    "bad_response  ": Said(b"[" * 100_000),
    "bad_response   ": Said(b'{"choices": [' + b" " * (5 << 20)),
    "refused": Said(b'{"error": "image too large"}', 400),
    "refused ": Said(b"", 302, {"Location": "http://192.0.2.1/"}),
    "server_error": Said(b"out of memory", 500),
    "rate_limit": Said(b"slow down", 429),
    "rate_limit ": Said(b"come back tomorrow", 429, {"Retry-After": "86400"}),
    "connection": Said(b"", drop=True),
}


@pytest.mark.parametrize("cause", BAD)
def test_every_failure_is_a_cause_and_the_others_keep_their_scores(cause: str) -> None:
    def reply(request: dict[str, Any]) -> Said:
        return BAD[cause] if level(request) == 99 else completion(SURE)

    with chat_server(reply) as chat:
        scores = judge(chat).load()(PROMPTS, greys(1, 99, 2, 99, 3))
        tries = sum(level(request) == 99 for request in chat.requests) // 2
    np.testing.assert_allclose(scores.value_B, [0.75, np.nan, 0.75, np.nan, 0.75])
    assert scores.unjudged == {cause.strip(): 2}
    again = cause in ("server_error", "rate_limit", "connection")  # what may pass by itself is tried again
    assert tries == (3 if again else 1)


def test_a_server_that_recovers_costs_nothing_but_time() -> None:
    failures = [Said(b"", 503), Said(b"", 429, {"Retry-After": "0.05"})]

    def reply(request: dict[str, Any]) -> Said:
        return failures.pop() if failures else completion(SURE)

    with chat_server(reply) as chat:
        start = time.monotonic()
        scores = judge(chat).load()(PROMPTS[:1], greys(10))
        waited = time.monotonic() - start
    assert scores.value_B[0] == pytest.approx(0.75) and not scores.unjudged
    assert scores.spent["requests"] == 4 and waited >= 0.05  # Retry-After was kept


@pytest.mark.parametrize("how", ["before the body", "byte by byte", "header without end"])
def test_a_server_that_hangs_is_left_after_the_timeout(how: str) -> None:
    gone = threading.Event()
    whole = completion(SURE).body
    said = {
        "before the body": Said(whole, stall=lambda: gone.wait(600) and None),
        "byte by byte": Said(whole + b" " * 30_000, drip=True),
        "header without end": Said(whole, trickle=True),
    }[how]

    with chat_server(lambda request: said if level(request) == 99 else completion(SURE)) as chat:
        start = time.monotonic()
        scores = judge(chat, timeout=1.0, attempts=2).load()(PROMPTS[:3], greys(1, 99, 2))
        took = time.monotonic() - start
        gone.set()
    assert scores.unjudged == {"timeout": 1} and np.isnan(scores.value_B[1]) and took < 60.0
    np.testing.assert_allclose(scores.value_B[[0, 2]], 0.75)


def test_a_notebook_can_ask_and_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def cell(scorer: ServerScorer) -> Scores:  # what a notebook runs is inside a loop already
        return scorer(PROMPTS[:1], greys(10))

    with chat_server(lambda request: completion(SURE)) as chat:
        assert asyncio.run(cell(judge(chat).load())).value_B[0] == pytest.approx(0.75)


def test_questions_are_asked_at_once_and_answers_keep_their_order() -> None:
    together = threading.Barrier(4, timeout=60)

    def reply(request: dict[str, Any]) -> Said:
        together.wait()  # passes only when four questions are here at once
        p = level(request) / 100
        return completion({"Yes": p, "No": 1 - p})

    with chat_server(reply) as chat:
        prompts = [PROMPTS[0]] * 8
        scores = judge(chat, workers=4).load()(prompts, greys(*range(10, 90, 10)))
        assert chat.busiest == 4
    np.testing.assert_allclose(scores.value_B, np.arange(10, 90, 10) / 100)


def test_a_pair_is_asked_in_both_orders_and_the_lean_cancels() -> None:
    """The server prefers the brighter image by 0.3, and the first by 0.15."""

    def reply(request: dict[str, Any]) -> Said:
        first, second = level(request, 0), level(request, 1)
        p = 0.5 + 0.15 + 0.3 * np.sign(first - second)
        return completion({"A": p, "B": 1 - p})

    with chat_server(reply) as chat:
        found = judge(chat).load_pairs()(PROMPTS[:3], greys(200, 10, 50), greys(100, 20, 50))
        assert len(chat.requests) == 6
    np.testing.assert_allclose(found.a_better_B, [0.8, 0.2, 0.5], atol=1e-9)
    np.testing.assert_allclose(found.lean_B, 0.15, atol=1e-9)
    np.testing.assert_array_equal(found.agree_B, [1.0, 1.0, 0.0])
    assert found.outcomes() == ["left", "right", "tie"] and not found.unjudged


def test_a_pair_judged_in_one_order_only_is_not_judged() -> None:
    def reply(request: dict[str, Any]) -> Said:
        return Said(b"", 400) if level(request, 0) == 99 else completion({"A": 0.9, "B": 0.1})

    with chat_server(reply) as chat:
        found = judge(chat).load_pairs()(PROMPTS[:2], greys(99, 1), greys(5, 2))
    np.testing.assert_array_equal(np.isnan(found.a_better_B), [True, False])
    assert np.isnan(found.lean_B[0]) and np.isnan(found.agree_B[0])
    assert found.unjudged == {"refused": 1} and found.outcomes() == [None, "tie"]


def test_an_edit_is_shown_with_its_source(tmp_path: Path) -> None:
    Image.fromarray(np.full((6, 6, 3), 77, dtype=np.uint8)).save(tmp_path / f"{PROMPTS[0].id}.png")
    with chat_server(lambda request: completion(SURE)) as chat:
        scorer = judge(chat, rubric="edit_faithfulness", sources=str(tmp_path)).load()
        scores = scorer(PROMPTS[:2], greys(10, 20))
        assert [level(chat.requests[0], 0), level(chat.requests[0], 1)] == [77, 10] and len(chat.requests) == 1
        with pytest.raises(FileNotFoundError, match="sources is 'nowhere'"):
            judge(chat, rubric="edit_faithfulness", sources="nowhere").load()
    assert scores.unjudged == {"no_source": 1} and scores.value_B[0] == pytest.approx(0.75)


def edit_of(folder: Path, *shades: int) -> Prompt:
    """An instruction about grey images of these shades."""
    sources = []
    for shade in shades:
        Image.fromarray(np.full((6, 6, 3), shade, dtype=np.uint8)).save(folder / f"{shade}.png")
        sources.append(source_image(folder / f"{shade}.png"))
    return Prompt.from_text("make it blue", sources=sources)


def test_an_edit_is_shown_with_the_sources_that_its_prompt_carries(tmp_path: Path) -> None:
    one, three = edit_of(tmp_path, 77), edit_of(tmp_path, 70, 71, 72)
    with chat_server(lambda request: completion(SURE)) as chat:
        reward = judge(chat, rubric="edit_faithfulness", workers=1)
        assert reward.needs == ("text", "sources")
        scores = reward.load()([one, three, PROMPTS[0]], greys(10, 20, 30))
        seen = [[level(request, i) for i in range(count)] for request, count in zip(chat.requests, (2, 4), strict=True)]
        questions = [question_of(request) for request in chat.requests]
    assert seen == [[77, 10], [70, 71, 72, 20]]
    assert questions[0].startswith('The first picture was edited to give the second one, by this instruction: "make it')
    assert questions[1].startswith("All pictures but the last were edited to give the last one, by")
    assert scores.unjudged == {"no_sources": 1} and np.isnan(scores.value_B).tolist() == [False, False, True]


def test_pairs_of_edits_are_compared_beside_their_sources(tmp_path: Path) -> None:
    def reply(request: dict[str, Any]) -> Said:
        return completion({"A": 0.9, "B": 0.1} if level(request, 2) < level(request, 3) else {"A": 0.2, "B": 0.8})

    with chat_server(reply) as chat:
        compare = judge(chat, rubric="edit_faithfulness", workers=1).load_pairs()
        answer = compare([edit_of(tmp_path, 77, 78), PROMPTS[0]], greys(10, 1), greys(20, 2))
        assert [[level(request, i) for i in range(4)] for request in chat.requests] == [
            [77, 78, 10, 20],
            [77, 78, 20, 10],
        ]
        assert "{" not in question_of(chat.requests[0])
    assert answer.outcomes() == ["left", None] and answer.unjudged == {"no_sources": 1}


def test_a_source_that_is_gone_leaves_its_image_unjudged(tmp_path: Path) -> None:
    prompt, other = edit_of(tmp_path, 33), edit_of(tmp_path, 76)
    (tmp_path / "33.png").unlink()
    with chat_server(lambda request: completion(SURE)) as chat:
        scores = judge(chat, rubric="edit_faithfulness").load()([prompt, other], greys(10, 20))
    assert scores.unjudged == {"no_source": 1} and np.isnan(scores.value_B).tolist() == [True, False]


def test_what_is_wrong_with_the_settings_is_said_at_once(tmp_path: Path) -> None:
    with chat_server(lambda request: completion(SURE)) as chat:
        with pytest.raises(ValueError, match=f"does not serve 'other'; it serves {MODEL}"):
            judge(chat, model="other").load()
        with pytest.raises(FileNotFoundError, match="key_file"):
            judge(chat, key_file="missing").load()
        with pytest.raises(FileNotFoundError, match="Did you mean aesthetics"):
            judge(chat, rubric="aesthetic").load()
        (tmp_path / "key").write_text("secret\n")
        scores = judge(chat, key_file=str(tmp_path / "key")).load()(PROMPTS[:1], greys(10))
        assert chat.keys == ["Bearer secret"] and not scores.unjudged
    with pytest.raises(ConnectionError, match="is it running"):
        judge(chat).load()  # it was
    with pytest.raises(ValueError, match="name a server and a model"):
        ServerJudge().load()
    with pytest.raises(ValueError, match="choose one of yes, rating, json"):
        ServerJudge(reading="stars")
    for url in ("localhost:8000", "ftp://localhost/v1", "http:///v1", "http://me:pw@localhost/v1", "http://a:999999"):
        with pytest.raises(ValueError, match="OpenAI-compatible"):
            Client(url, "", 1.0, 1, 0.0)


def test_a_rubric_fills_its_slots_once(tmp_path: Path) -> None:
    with chat_server(lambda request: completion(SURE)) as chat:
        judge(chat).load()([Prompt.from_text('{spans} and {x} "A"')], greys(10))
        judge(chat, rubric="text_correctness").load()([Prompt.from_text('"A B" then "咖啡"')], greys(10))
        first, second = (question_of(request) for request in chat.requests)
        scores = judge(chat, rubric="text_correctness").load()([Prompt.from_text("no words")], greys(10))
        assert len(chat.requests) == 2  # not asked: there is nothing to read
    assert 'show "{spans} and {x} "A""?' in first and '"A B", "咖啡"' in second
    assert scores.unjudged == {"no_spans": 1}
