"""A reward that is loaded elsewhere: the client of ``glyphlab serve-rewards``, which is a scorer like any other.

Images travel as PNG, so they are 8-bit, as they are everywhere else. What could not be asked is NaN ("remote"), after
a bounded number of tries; a wrong address or token is an error at once, when the reward is loaded. So is, at any time,
another reward at the same address. A request that is too large, or refused for something in it, is asked in halves.

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

import logging
import math
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from preference_data.line_files import read_text
from preference_data.pixels import to_uint8
from preference_data.records import Prompt
from rewards.language.chat_client import check_url
from rewards.scores import Scores, View, concatenate, obstacles, tabulate
from rewards.serving.wire import decode_scores, encode_request

log = logging.getLogger(__name__)

_AGAIN = (408, 429, 502, 503, 504)  # statuses that may be different at another time
_HALVES = (413, 422)  # statuses of a request that is too large, or has something wrong in it


@dataclass(frozen=True)
class Remote:
    """Asks a reward server; range [-inf, inf], since the server's own is known only when it is asked.

    url: such as http://127.0.0.1:8100. token_file: holds the token, when the server wants one. batch: images in a
    request, at most. connections: requests at a time. tries: of each request. seconds: for an answer.
    """

    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    needs: ClassVar[tuple[str, ...]] = ("text",)

    url: str
    token_file: Path | None = None
    batch: int = 16
    connections: int = 4
    tries: int = 4
    seconds: float = 120.0

    def __post_init__(self) -> None:
        check_url(self.url, "it must be like http://127.0.0.1:8100")
        if min(self.batch, self.connections, self.tries) < 1 or self.seconds <= 0:
            raise ValueError(f"{self}: batch, connections and tries are at least 1, seconds is positive")

    def sees(self, height: int, width: int) -> View:
        return View(1.0, height, width, "all of it is sent; what the server's reward sees of that is its own")

    def load(self, device: str = "cpu") -> RemoteScorer:
        """Ask the server who it is. ConnectionError: it does not answer, or cannot judge; PermissionError: it wants a
        token."""
        return RemoteScorer(self)


class RemoteScorer:
    """A server that answered. ``name`` says which reward it has."""

    def __init__(self, settings: Remote) -> None:
        import httpx

        self._settings = settings
        token = read_text(settings.token_file).strip() if settings.token_file else ""
        self._http = httpx.Client(
            base_url=settings.url, timeout=settings.seconds, trust_env=False,
            headers={"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {}),
            verify=ssl.create_default_context(),  # the machine's certificates
            limits=httpx.Limits(keepalive_expiry=2.0),  # sooner than the server would close an idle connection
        )  # fmt: skip
        try:
            about: dict[str, Any] = self._http.get("/health").json()
            self.name = f"remote:{about['reward']}"
            self._parts: list[str] = list(about["parts"])
            self._identity = str(about.get("identity", ""))
            limits = about.get("limits", {})
            self._bytes, self._images = limits.get("bytes", math.inf), limits.get("images", math.inf)
            status = self._http.post("/score", content=encode_request([], [])).status_code
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise ConnectionError(
                f"no reward server answers at {settings.url} ({error!r}); start one: glyphlab serve-rewards"
            ) from error
        if status == 401:
            raise PermissionError(f"the reward server at {settings.url} wants another token; give token_file")
        if status not in (200, *_AGAIN) or about.get("status", "ok") != "ok":
            raise ConnectionError(
                f"the reward server at {settings.url} cannot judge (status {status}, {about.get('status')}); look at "
                "its log, and start it again"
            )

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """``unjudged``: the server's causes, and "remote" for what it could not be asked. Raises OtherReward."""
        causes = obstacles(prompts, images_B3HW)
        requested = [i for i, cause in enumerate(causes) if cause is None]
        size = self._settings.batch
        chunks = [requested[start : start + size] for start in range(0, len(requested), size)]
        with ThreadPoolExecutor(self._settings.connections) as threads:
            work = [([prompts[i] for i in chunk], to_uint8(images_B3HW[chunk])) for chunk in chunks]
            results = list(threads.map(self._score, work))
        return self._placed(causes, requested, concatenate(results))

    def _placed(self, causes: Sequence[str | None], requested: Sequence[int], scores: Scores) -> Scores:
        """The answers at their places, NaN elsewhere."""
        names = list(scores.parts) or self._parts
        rest = tabulate([cause or "" for cause in causes], names)  # NaN everywhere; only the causes below count
        value_B, parts = rest.value_B, rest.parts
        if requested:
            value_B[requested] = scores.value_B
            for name in names:
                parts[name][requested] = scores.parts[name]
        unjudged = dict(scores.unjudged)
        for cause in causes:
            if cause:
                unjudged[cause] = unjudged.get(cause, 0) + 1
        return Scores(value_B, parts, unjudged, scores.spent)

    def _score(self, work: tuple[list[Prompt], np.ndarray]) -> Scores:
        """The scores of a few images, asked together where they can be; what fails for good is not judged."""
        prompts, images = work
        body, cause = b"", ""
        try:
            body = encode_request(prompts, list(images))
        except ValueError as error:
            cause = f"it cannot be sent: {error}"
        count = len(prompts)
        fits = not cause and len(body) <= self._bytes and count <= self._images
        if (fits or (count == 1 and not cause)) and (scores := self._request(body, count)):
            return scores
        if count > 1:  # one of them may be at fault for all, or they are too many
            halves = (slice(0, count // 2), slice(count // 2, count))
            return concatenate([self._score((prompts[rows], images[rows])) for rows in halves])
        log.error("an image is not judged, for %s", cause)
        return tabulate(["no_source"], self._parts)

    def _request(self, body: bytes, count: int) -> Scores | None:
        """The answer to one request, tried a few times; None where it is to be asked in halves."""
        import httpx

        why, requests = "", 0
        for attempt in range(self._settings.tries):
            if attempt:
                time.sleep(min(0.2 * 2**attempt, 5.0))
            requests += 1
            try:
                answer = self._http.post("/score", content=body)
                if answer.status_code == 200:
                    scores = decode_scores(answer.content, count, self._identity)
                    spent = {
                        name: amount for name, amount in scores.spent.items() if name not in ("pictures", "seconds")
                    }
                    return Scores(scores.value_B, scores.parts, scores.unjudged, {**spent, "requests": float(requests)})
                if answer.status_code in _HALVES and count > 1:
                    return None
                why = f"{answer.status_code} {answer.text[:300]}"
                if answer.status_code not in _AGAIN:
                    break
            except (httpx.HTTPError, ValueError) as error:
                why = repr(error)
        log.error("the reward server at %s judged none of %d images: %s", self._settings.url, count, why)
        lost = tabulate(["remote"] * count, self._parts)
        return Scores(lost.value_B, lost.parts, lost.unjudged, {"requests": float(requests)})
