"""The command that opens the annotation pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.commands.arguments import RUNS
from experiments.commands.campaigns import StoreLocation


@dataclass(frozen=True)
class Annotate(StoreLocation):
    """Open the annotation pages in a browser; with nothing to work on yet, first make a campaign and an account.

    Example: glyphlab annotate --run-folder runs/quickstart
    """

    run_folder: Path = RUNS / "quickstart"
    """the run whose images make the first campaign; a handful of words is rendered when it is not there"""
    runs: Path = RUNS
    """where the form for new campaigns may look for runs and images"""
    address: str = "127.0.0.1"
    """to listen on; 0.0.0.0 for other machines, behind a proxy that speaks HTTPS"""
    port: int = 8501
    """to listen on"""

    base_path: str = ""
    """path under which a proxy shows the pages, such as /annotate"""

    def run(self) -> int:
        import os
        import sys

        from experiments.preferences.first_campaign import FIRST, prepare
        from experiments.record.leftovers import removed_on_error
        from preference_data.store.store import Store

        require_free(self.address, self.port)
        with removed_on_error(Path(self.store), lambda made: True):
            store = Store.open(self.store, self.images)
            try:
                ready = prepare(store, self.run_folder)
            finally:
                store.close()
        made = f", {ready.items} new pairs" if ready.items else ""
        print(f"campaign: {ready.campaign}{made}")
        if ready.password:
            print(f"sign in as {FIRST} with the one-time password {ready.password}; the page then asks for your own")
        below = self.base_path.strip("/")
        print(f"open http://{self.address}:{self.port}/{below}".rstrip("/"), flush=True)
        images = [] if self.images is None else ["--images", str(self.images)]
        # -P: a folder called `experiments` where the command runs is not ours
        command = [sys.executable, "-P", "-m", "dashboards.annotate", "--store", self.store, *images, "--runs",
                   str(self.runs), "--address", self.address, "--port", str(self.port), "--base-path",
                   below]  # fmt: skip
        sys.stderr.flush()
        # this process becomes the server, so that whatever ends it ends the server
        os.execv(sys.executable, command)


def require_free(address: str, port: int) -> None:
    """Raise ValueError when nothing can listen there: the port is taken, not allowed or none, or no such address."""
    import socket

    if not 0 < port < 65536:
        raise ValueError(f"--port {port}: a port lies between 1 and 65535")
    try:
        family, kind, protocol, _, socket_address = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port whose connections just ended is free
            probe.bind(socket_address)
    except OSError as error:
        raise ValueError(f"cannot listen on {address}:{port} ({error.strerror}): end what listens there, or name "
                         "another with --port or --address") from error  # fmt: skip
