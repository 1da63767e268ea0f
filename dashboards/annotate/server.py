"""The process that serves the pages: Streamlit under one roof with a few routes of our own.

    GET    /picture/HANDLE    the pixels behind a handle, to the account whose assignment it belongs to
    POST   /painted           the images of an assignment are on the screen: its time begins
    POST   /session           an `enter` ticket for a session cookie; DELETE /session ends it
    GET    /health            "ok" when the store answers

All of them lie below the base path where a proxy shows the pages under one (`--base-path`).

An image comes without a name, a date or any metadata; its address is good for one assignment of one account.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import time
from collections.abc import AsyncIterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from dashboards.annotate import served_store, signed_tokens
from dashboards.annotate.viewer import paint_times
from preference_data.campaign import assignment, assignment_view
from preference_data.store import accounts
from preference_data.store.roles import Account, Forbidden

SCRIPT = Path(__file__).with_name("main.py")
CONFIG = {
    "server.headless": True,
    "server.fileWatcherType": "none",
    "server.disconnectedSessionTTL": 600,
    "server.maxUploadSize": 64,
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "runner.magicEnabled": False,
    "theme.primaryColor": "#1f5fbf",
    "theme.baseFontSize": 15,
    "theme.buttonRadius": "6px",
    "logger.level": "warning",
}
MAX_BODY = 512
"""Bytes of a ticket or a token; nothing longer is read."""


def signed_in(request: Request) -> Account:
    """The account of the request's cookie, looked up anew. Raises Forbidden without one."""
    where = served_store.here()
    account = signed_tokens.read(where.key, "session", request.cookies.get(signed_tokens.COOKIE, ""), time.time())
    if account is None:
        raise Forbidden("log in first")
    return accounts.current(where.store, *account)


def image(request: Request) -> Response:
    """The bytes of an image. Unknown, somebody else's and gone look alike."""
    try:
        file = assignment_view.image_path(served_store.store(), signed_in(request).id, request.path_params["handle"])
        content = file.read_bytes()
    except (Forbidden, FileNotFoundError, ValueError):
        return PlainTextResponse("not found", 404)
    # no Last-Modified, no ETag: when a file was made would say which of two models is the newer one
    headers = {"Cache-Control": "private, max-age=3600, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(content, media_type="image/png", headers=headers)


async def painted(request: Request) -> Response:
    """Note when an assignment was painted: the first time begins its time, the newest is when it can be judged from.

    The body is `TOKEN/ANSWER` (`paints`), the answer being the one that would be revised, 0 for none.
    """
    from starlette.concurrency import run_in_threadpool

    where = served_store.here()
    at = where.store.clock()
    result = paint_times.split((await body(request)).decode("utf-8", "replace"))
    cookie = signed_tokens.read(where.key, "session", request.cookies.get(signed_tokens.COOKIE, ""), time.time())
    if result is not None and cookie is not None:  # at once: the answer may come while the database is busy
        paint_times.note(cookie[0], paint_times.name(*result), at)

    def note() -> Response:
        try:
            if result is None:
                raise Forbidden("this names no assignment")
            account = signed_in(request).id
            assignment.shown(where.store, account, result[0], at)  # a revision finds the first time taken already
        except Forbidden:
            return PlainTextResponse("not found", 404)
        return Response(status_code=204)

    return await run_in_threadpool(note)


async def enter(request: Request) -> Response:
    """Change a fresh ticket into a session cookie."""
    where, ticket = served_store.here(), (await body(request)).decode("utf-8", "replace")
    result = signed_tokens.read(where.key, "enter", ticket, time.time())
    if result is None:
        return PlainTextResponse("log in again", 403)
    response = Response(status_code=204)
    seconds = signed_tokens.HOURS * 3600
    token = signed_tokens.sign(where.key, "session", *result, time.time() + seconds)
    response.set_cookie(signed_tokens.COOKIE, token, max_age=seconds, httponly=True, samesite="strict",
                        path=where.base or "/", secure=request.url.scheme == "https")  # fmt: skip
    return response


def leave(request: Request) -> Response:
    """Signs out: forgets the cookie."""
    response = Response(status_code=204)
    response.delete_cookie(signed_tokens.COOKIE, path=served_store.here().base or "/", httponly=True, samesite="strict")
    return response


def health(request: Request) -> Response:
    """Says whether the store answers."""
    served_store.store().read(lambda db: db.exec_driver_sql("SELECT 1").scalar())
    return PlainTextResponse("ok")


async def body(request: Request) -> bytes:
    """The request's body, cut off where none of ours would go on."""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY:
            return b""
    return content


ROUTES = (
    Route("/picture/{handle}", image),
    Route("/painted", painted, methods=["POST"]),
    Route("/session", enter, methods=["POST"]),
    Route("/session", leave, methods=["DELETE"]),
    Route("/health", health),
)


FIRST_USED = ("dashboards.annotate.pages", "pandas", "pyarrow", "PIL.Image")
"""What the first visitors would else import while they wait; pandas and pyarrow are Streamlit's."""


def warm() -> None:
    """Import what the pages import, and take all of it out of the garbage collector's rounds for good.

    Streamlit collects garbage of every generation after every run of a script, with the interpreter's lock held: some
    200 ms after each answer of anybody, and nearly all of it spent on modules, which never become garbage.
    """
    for name in FIRST_USED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


@contextlib.asynccontextmanager
async def started(app: object) -> AsyncIterator[None]:
    """Streamlit is loaded as well by now."""
    warm()
    yield


class BasePath:
    """Lets pages be asked for with the base path and, by a proxy that takes it away, without."""

    def __init__(self, app: Any, base: str) -> None:
        self.app, self.base = app, base

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
            path = scope["path"]
            if path == self.base and scope["type"] == "http":
                # relative to this host, whatever a proxy calls it; the page's own addresses are relative to the slash
                query = f"?{scope['query_string'].decode('latin-1')}" if scope.get("query_string") else ""
                await RedirectResponse(f"{self.base}/{query}", 307)(scope, receive, send)
                return
            if not path.startswith(f"{self.base}/"):
                raw = scope.get("raw_path")
                scope = {**scope, "path": self.base + path, "raw_path": raw and self.base.encode() + raw}
        await self.app(scope, receive, send)


def under(base: str, routes: Sequence[Route]) -> list[Route]:
    """The routes below a base path."""
    return [Route(base + r.path, r.endpoint, methods=list(r.methods or ())) for r in routes]


def serve(address: str, port: int, script: Path = SCRIPT, routes: Sequence[Route] = ROUTES) -> None:
    """Serve a script's pages until stopped. `place.use` comes first, and says the base path."""
    import streamlit as st

    base = served_store.here().base
    middleware = [Middleware(BasePath, base=base)] if base else []
    st.App(script, routes=under(base, routes), lifespan=started, middleware=middleware).run(
        config={**CONFIG, "server.address": address, "server.port": port, "server.baseUrlPath": base.strip("/")}
    )
