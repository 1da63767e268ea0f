"""A small server with OpenAI's chat interface on loopback, for tests: what it says, and how it fails, is a function."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

MODEL = "tiny-vlm"


@dataclass
class Said:
    """A response: status, headers, body; ``stall`` is called before the body is sent, ``drip`` sends it by bytes.

    ``trickle`` sends a header without end instead."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    stall: Callable[[], None] | None = None
    drip: bool = False
    drop: bool = False
    trickle: bool = False


Reply = Callable[[dict[str, Any]], Said]


def completion(odds: dict[str, float], text: str = "", finish: str = "stop") -> Said:
    """A chat completion with these first-token probabilities, ``text`` as its content, and 100 + 1 tokens used."""
    listed = [{"token": token, "logprob": float(np.log(p)) if p > 0 else -9999.0} for token, p in odds.items()]
    first = {**listed[0], "top_logprobs": listed} if listed else {}
    choice = {
        "index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text},
        "logprobs": {"content": [first]} if listed else None,
    }  # fmt: skip
    usage = {"prompt_tokens": 100, "completion_tokens": 1}
    return Said(json.dumps({"choices": [choice], "usage": usage}).encode())


def pictures_of(request: dict[str, Any]) -> list[np.ndarray]:
    """The pictures of a request, in order, as (H, W, 3) 8-bit."""
    found = []
    for part in request["messages"][0]["content"]:
        if part["type"] == "image_url":
            kind, _, data = part["image_url"]["url"].partition(";base64,")
            assert kind == "data:image/png"
            found.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")))
    return found


def question_of(request: dict[str, Any]) -> str:
    return str(request["messages"][0]["content"][-1]["text"])


class ChatServer:
    """``requests`` are all it was asked, in order; ``busy`` and ``busiest`` count what it answers at once."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.lock = threading.Lock()
        self.busy = self.busiest = 0
        self.served = [MODEL]
        self.url = ""


@contextmanager
def chat_server(reply: Reply) -> Iterator[ChatServer]:
    """Run one until the block ends."""
    chat = ChatServer(reply)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send(Said(json.dumps({"data": [{"id": name} for name in chat.served]}).encode()))

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with chat.lock:
                chat.requests.append(request)
                chat.keys.append(self.headers.get("Authorization"))
                chat.busy += 1
                chat.busiest = max(chat.busiest, chat.busy)
            try:
                self.send(chat.reply(request))
            finally:
                with chat.lock:
                    chat.busy -= 1

        def send(self, said: Said) -> None:
            if said.drop:
                self.close_connection = True
                return
            try:
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                if said.trickle:
                    self.flush_headers()
                while said.trickle:
                    self.wfile.write(b"x")
                    threading.Event().wait(0.02)
                self.end_headers()  # no length: the body ends with the connection
                if said.stall:
                    said.stall()
                for piece in (bytes([b]) for b in said.body) if said.drip else [said.body]:
                    self.wfile.write(piece)
                    self.wfile.flush()
                    if said.drip:
                        threading.Event().wait(0.02)
            except OSError:
                pass  # the client has hung up, as it should

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
