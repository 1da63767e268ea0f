"""A reward server for tests: real sockets on loopback, in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from rewards.scores import Reward
from rewards.server import Service, application
from rewards.workers import ScorerPool


@contextmanager
def serving(reward: Reward, service: Service) -> Iterator[tuple[str, ScorerPool]]:
    """The address of a running server, and its workers."""
    app = application("test", reward, service)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.05)
            assert thread.is_alive(), "the server did not start"
        try:
            yield f"http://127.0.0.1:{port}", app.state.pool
        finally:
            server.should_exit = True
            thread.join()
