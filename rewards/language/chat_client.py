"""Questions to a server with OpenAI's chat interface (vLLM, SGLang, llama.cpp, a hosted model), over plain HTTP.

One question is one POST to ``/chat/completions``. It ends within ``timeout`` seconds whatever the server does: headers
or a body sent byte by byte cannot hold a worker. What may pass by itself (no connection, a
timeout, 408, 429, 5xx) is tried again, ``attempts`` times in all, after 1, 2, 4 ... times ``pause`` seconds or what
Retry-After asks for; anything else is not. Every end without an answer is ``Unjudged`` with its cause:

    timeout, connection, rate_limit (429), server_error (5xx), refused (any other status), bad_response (no such JSON)

No proxy is used and no environment variable is read. Redirects are not followed: they would carry the key elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from preference_data.line_files import read_text
from rewards.image_scorer import Unjudged
from rewards.language.read_answer import LEAST_MASS, add_up

MOST_BYTES = 4 << 20  # of a response; an answer has a few thousand
LONGEST_WAIT = 30.0  # seconds; a server that asks for more is not waited for
_AGAIN = (408, 425, 429)


class Client:
    """Asks one server. ``url`` ends in /v1 as a rule; ``key`` is sent as a bearer token when it is not empty.

    Safe to use from several threads.
    """

    def __init__(self, url: str, key: str, timeout: float, attempts: int, pause: float) -> None:
        check_url(url, "give the base of an OpenAI-compatible server: http://localhost:8000/v1")
        if attempts < 1 or not timeout > 0:
            raise ValueError(f"attempts is {attempts}, timeout {timeout}; give at least one attempt and some seconds")
        self._base = url.rstrip("/")
        self._verify = ssl.create_default_context()  # the machine's certificates, read once
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._timeout, self._attempts, self._pause = timeout, attempts, pause
        self._lock = threading.Lock()
        self._spent = {"requests": 0.0, "tokens_in": 0.0, "tokens_out": 0.0}
        self.url = url

    def drain(self) -> dict[str, float]:
        """What was spent since the last time: requests, retries included, and the tokens that the server counted."""
        with self._lock:
            spent, self._spent = self._spent, dict.fromkeys(self._spent, 0.0)
        return spent

    def _spend(self, requests: int = 0, tokens_in: int = 0, tokens_out: int = 0) -> None:
        with self._lock:
            self._spent["requests"] += requests
            self._spent["tokens_in"] += tokens_in
            self._spent["tokens_out"] += tokens_out

    def models(self) -> list[str]:
        """The names of the models it serves; [] when it does not list them. ConnectionError when nobody answers."""
        try:
            status, _, body = self._once("GET", "/models", None)
        except Unjudged as error:
            raise ConnectionError(f"no server answers at {self.url}: {error}; is it running?") from error
        if status in (401, 403):
            raise PermissionError(f"{self.url} refuses the key (status {status}); name its file with key_file")
        try:
            return [str(model["id"]) for model in json.loads(body)["data"]] if status == 200 else []
        except (ValueError, KeyError, TypeError):
            return []

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The first choice of the answer to a request; ``Unjudged`` when there is none."""
        body = json.dumps(request).encode()
        for attempt in range(self._attempts):
            last = attempt == self._attempts - 1
            wait = self._pause * 2.0**attempt
            try:
                status, headers, content = self._once("POST", "/chat/completions", body)
            except Unjudged as error:
                if last or error.cause == "bad_response":
                    raise
            else:
                if status == 200:
                    return self._answer(content)
                cause = "rate_limit" if status == 429 else "server_error" if status >= 500 else "refused"
                wait = max(wait, _retry_after(headers))
                if last or not (status in _AGAIN or status >= 500) or wait > LONGEST_WAIT:
                    raise Unjudged(cause, f"{self.url} answers {status}: {content[:300]!r}")
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _answer(self, body: bytes) -> dict[str, Any]:
        try:
            content = json.loads(body)
            choice = content["choices"][0]
            if not isinstance(choice, dict):
                raise TypeError(f"a choice is {choice!r}")
            usage = content.get("usage") or {}
            self._spend(0, int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
            return choice
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            raise Unjudged(
                "bad_response", f"{self.url} answers 200 with no chat completion ({error!r}): {body[:200]!r}"
            ) from error

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[int, Mapping[str, str], bytes]:
        """One request: status, headers, body. ``Unjudged``: "timeout", "connection", "bad_response"."""
        import httpx

        self._spend(requests=1)
        try:
            # in a thread of its own, because a notebook's cell already runs in a loop
            with ThreadPoolExecutor(1) as thread:
                status, headers, content = thread.submit(asyncio.run, self._exchange(method, path, body)).result()
        except (TimeoutError, httpx.TimeoutException) as error:
            raise Unjudged("timeout", f"{self.url} did not answer within {self._timeout:g} s") from error
        except (OSError, httpx.HTTPError) as error:
            raise Unjudged("connection", f"{self.url}: {error!r}") from error
        if len(content) > MOST_BYTES:
            raise Unjudged("bad_response", f"{self.url} answers with more than {MOST_BYTES} bytes")
        return status, headers, content

    async def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, Mapping[str, str], bytes]:
        """The deadline is asyncio's: httpx's own timeouts begin anew with every byte."""
        import httpx

        content = bytearray()
        async with (
            asyncio.timeout(self._timeout),
            httpx.AsyncClient(verify=self._verify, trust_env=False, timeout=None) as client,
            client.stream(method, self._base + path, content=body, headers=self._headers) as response,
        ):
            async for piece in response.aiter_raw():
                content += piece
                if len(content) > MOST_BYTES:
                    break
        return response.status_code, response.headers, bytes(content)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that Retry-After asks for; 0 without it or when it is a date."""
    try:
        seconds = float(headers.get("Retry-After", "0"))
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def check_url(url: str, remedy: str) -> None:
    """ValueError for an address that is not one of HTTP, or that holds a password or a query."""
    import httpx

    try:
        index = httpx.URL(url)
        good = index.scheme in ("http", "https") and index.host and (index.port or 80) < 65536
        good = good and not index.query and not index.userinfo
    except httpx.InvalidURL:
        good = False
    if not good:
        raise ValueError(f"url is {url!r}; {remedy}")


def message(question: str, images_HW3: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """The one user message of a request: the images in order as lossless PNG, then the question."""
    shown = [{"type": "image_url", "image_url": {"url": _png(image)}} for image in images_HW3]
    return [{"role": "user", "content": [*shown, {"type": "text", "text": question}]}]


def _png(image_HW3: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image_HW3)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def token_odds(choice: dict[str, Any], words: Sequence[str], least: float = LEAST_MASS) -> dict[str, float]:
    """Word -> its probability as the first token of the answer, from the log-probabilities of a choice.

    Spellings add up, see ``answers.add_up``. A word outside of the listed tokens has 0: less than the least of them.
    ``Unjudged`` "no_logprobs" when the server sent none, "bad_logprobs" when they are no probabilities, "split_word".
    """
    try:
        listed = choice["logprobs"]["content"][0]["top_logprobs"]
        pairs = [(str(each["token"]), each["logprob"]) for each in listed]
    except (KeyError, IndexError, TypeError) as error:
        raise Unjudged("no_logprobs", "the server sent no log-probabilities of the first token") from error
    if not pairs:
        raise Unjudged("no_logprobs", "the list of log-probabilities of the first token is empty")
    for token, logprob in pairs:
        if isinstance(logprob, bool) or not isinstance(logprob, int | float) or not logprob <= 1e-6:
            raise Unjudged("bad_logprobs", f"the log-probability of {token!r} is {logprob!r}")
    tokens = [(token, math.exp(logprob)) for token, logprob in pairs]
    if (total := sum(p for _, p in tokens)) > 1.001:
        raise Unjudged("bad_logprobs", f"the probabilities of the first token add up to {total:.3f}")
    return add_up(tokens, words, least)


def read_key(key_file: str) -> str:
    """The key in a file, without the line's end; "" when no file is named. FileNotFoundError when it is missing."""
    if not key_file:
        return ""
    path = Path(key_file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"key_file is {key_file!r}: there is no such file; it holds the server's key, one line")
    return read_text(path).strip()
