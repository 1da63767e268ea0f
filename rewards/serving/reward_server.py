"""A reward behind HTTP, so that one loaded judge serves many runs and machines.

    POST /score     judge images (rewards/serving/wire.py has the format)
    GET  /health    which reward, its range and parts, workers alive; needs no token
    GET  /metrics   counters and queue lengths, in Prometheus's text format

Every request is answered: with scores, or with a status and a reason. 400 no JSON, 401 no or wrong token, 408 too slow,
411/413 too large, 422 not what is expected, 503 too much waiting (with Retry-After), 500 the reward itself failed.
A worker that dies is replaced and its images are judged again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from preference_data.records import Prompt
from rewards.scores import Reward, Scores
from rewards.serving.cache import identity
from rewards.serving.mixed_sizes import batches, in_order
from rewards.serving.wire import Limits, Refused, decode_request, encode_scores
from rewards.serving.workers import ScorerPool

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_REMEMBERED = 1000  # requests whose times the quantiles are of


@dataclass(frozen=True)
class Service:
    """How to serve. ``token``: what clients must show, None for nothing; ``waiting``: images that may wait."""

    workers: int = 1
    token: str | None = None
    limits: Limits = field(default_factory=Limits)
    waiting: int = 4096
    restarts: int = 100
    body_seconds: float = 60.0
    start_seconds: float = 600.0  # for a worker to load; large weights take minutes

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < 16:
            raise ValueError(f"the token has {len(self.token)} characters; use at least 16, such as a random one")


class Traffic:
    """Counts what happened so far, for Prometheus to collect. Only the event loop touches it."""

    def __init__(self, pool: ScorerPool) -> None:
        self.answers: Counter[int] = Counter()  # by status
        self.images = 0
        self.unjudged: Counter[str] = Counter()
        self.waiting = 0  # images accepted and not yet judged
        self.seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._pool = pool

    def count(self, scores: Scores) -> None:
        self.images += len(scores.value_B)
        self.unjudged.update(scores.unjudged)

    def collect(self) -> Iterator[Metric]:
        """Yields every metric, as ``prometheus_client`` asks a collector for them."""
        requests = CounterMetricFamily("glyphlab_requests", "Requests answered, by status", labels=["status"])
        for status, number in sorted(self.answers.items()):
            requests.add_metric([str(status)], number)
        unjudged = CounterMetricFamily("glyphlab_unjudged", "Images not judged, by cause", labels=["cause"])
        for cause, number in sorted(self.unjudged.items()):
            unjudged.add_metric([cause], number)
        seconds = GaugeMetricFamily("glyphlab_request_seconds", "Seconds of recent requests", labels=["quantile"])
        for share in (0.5, 0.95):
            seconds.add_metric([str(share)], float(np.quantile(self.seconds or [0.0], share)))
        restarts = self._pool.restarted
        yield from (requests, unjudged, seconds)
        yield CounterMetricFamily("glyphlab_pictures", "Images answered", self.images)
        yield CounterMetricFamily("glyphlab_worker_restarts", "Workers that died and were replaced", restarts)
        yield GaugeMetricFamily("glyphlab_pictures_waiting", "Images accepted and not yet judged", self.waiting)
        yield GaugeMetricFamily("glyphlab_chunks_queued", "Chunks that wait for a worker", self._pool.waiting())


def application(name: str, reward: Reward, service: Service) -> FastAPI:
    """The server of a reward. Its workers start and stop with it; one image is judged first, so that a reward that
    cannot work does not start."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = ScorerPool(reward, service.workers, service.start_seconds, restarts=service.restarts)
        try:
            first = pool([Prompt.from_text('a sign "A"')], np.full((1, 3, 64, 64), 0.5, dtype=np.float32))
            app.state.pool, app.state.traffic, app.state.parts = pool, Traffic(pool), list(first.parts)
            app.state.identity = identity_of(pool.name, reward)
            app.state.registry = CollectorRegistry()
            app.state.registry.register(app.state.traffic)
            yield
        finally:
            pool.close()

    app = FastAPI(title=f"glyphlab reward {name}", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.reward, app.state.service = reward, service

    @app.middleware("http")
    async def counted(request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
        start = time.perf_counter()
        response = await handle(request)
        traffic: Traffic = request.app.state.traffic
        traffic.answers[response.status_code] += 1
        if request.url.path == "/score":
            traffic.seconds.append(time.perf_counter() - start)
        return response

    app.add_exception_handler(Refused, refusal)
    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/metrics", metrics, methods=["GET"])
    app.add_api_route("/score", score, methods=["POST"])
    return app


def identity_of(name: str, reward: Reward) -> str:
    """The loaded reward's name, and a hash of its settings, which it need not name."""
    settings = re.sub(r" at 0x[0-9a-f]+", "", identity(name, reward))  # an address is another in every process
    return f"{name} {hashlib.sha256(settings.encode()).hexdigest()[:12]}"


async def refusal(request: Request, error: Exception) -> JSONResponse:
    """The reason, as JSON, with the status that the error names."""
    status = error.status if isinstance(error, Refused) else 500
    return JSONResponse({"error": str(error)}, status, headers={"Retry-After": "1"} if status == 503 else {})


async def health(request: Request) -> JSONResponse:
    """200 while it can judge, 503 when its workers died more often than they may be replaced."""
    state = request.app.state
    broken = state.pool.broken()
    low, high = state.reward.range
    content = {
        "status": broken or "ok", "reward": state.pool.name, "version": state.reward.version, "parts": state.parts,
        "range": [low if np.isfinite(low) else None, high if np.isfinite(high) else None],
        "workers": state.service.workers, "restarts": state.pool.restarted, "identity": state.identity,
        "limits": asdict(state.service.limits),
    }  # fmt: skip
    return JSONResponse(content, 503 if broken else 200)


async def metrics(request: Request) -> Response:
    authorise(request)
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


async def score(request: Request) -> Response:
    authorise(request)
    state, service = request.app.state, request.app.state.service
    body = await read_body(request, service)
    prompts, images = await asyncio.to_thread(decode_request, body, service.limits)
    traffic: Traffic = state.traffic
    if traffic.waiting + len(images) > service.waiting:
        raise Refused(503, f"{traffic.waiting} images are waiting already; try again later")
    traffic.waiting += len(images)
    try:
        groups = batches(prompts, images, service.limits.images)
        futures = [asyncio.wrap_future(state.pool.submit(*batch)) for _, batch in groups]
        scores = in_order([indices for indices, _ in groups], await asyncio.gather(*futures))
    except RuntimeError as error:
        raise Refused(500, f"the reward could not judge this: {error}") from error
    finally:
        traffic.waiting -= len(images)
    traffic.count(scores)
    return Response(encode_scores(scores, state.identity), media_type="application/json")


def authorise(request: Request) -> None:
    """Refused unless the request shows the token, compared in constant time."""
    token = request.app.state.service.token
    header = request.headers.get("authorization", "")
    if token is not None and not hmac.compare_digest(header.encode(), f"Bearer {token}".encode()):
        raise Refused(401, "a token is needed: send the header Authorization: Bearer TOKEN")


async def read_body(request: Request, service: Service) -> bytes:
    """The body, up to the limit, whatever length it announces."""
    most = service.limits.bytes
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > most:
        raise Refused(413, f"the request has {announced} bytes; at most {most}")
    body = bytearray()
    try:
        async with asyncio.timeout(service.body_seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise Refused(413, f"the request has more than {most} bytes")
    except TimeoutError as error:
        raise Refused(408, f"the request did not arrive within {service.body_seconds:g} seconds") from error
    return bytes(body)


def serve(name: str, reward: Reward, service: Service, host: str, port: int) -> None:
    """Serve until interrupted. ValueError when strangers could reach it without a token."""
    import uvicorn

    if service.token is None and host not in LOOPBACK:
        raise ValueError(f"--host {host} is open to other machines; give --token-file, or serve on 127.0.0.1")
    uvicorn.run(application(name, reward, service), host=host, port=port, log_level="warning")
