"""The command that opens the annotation pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.commands.arguments import RUNS


@dataclass(frozen=True)
class Annotate:
    """Open the annotation pages in a browser; with nothing to work on yet, first make a campaign and an account.

    Example: glyphlab annotate --run-folder runs/quickstart
    """

    run_folder: Path = RUNS / "quickstart"
    """the run whose pictures make the first campaign; a handful of words is drawn when it is not there"""
    store: str = "annotations"
    """folder of the store (SQLite), or postgresql://user@host/database"""
    pictures: Path | None = None
    """folder of its pictures; STORE/pictures when not given, needed for PostgreSQL"""
    runs: Path = RUNS
    """where the form for new campaigns may look for runs and pictures"""
    address: str = "127.0.0.1"
    """to listen on; 0.0.0.0 for other machines, behind a proxy that speaks HTTPS"""
    port: int = 8501
    """to listen on"""

    def run(self) -> int:
        import subprocess
        import sys

        from experiments.first_campaign import FIRST, prepare
        from preference_data.store import Store

        store = Store.open(self.store, self.pictures)
        ready = prepare(store, self.run_folder)
        store.close()
        made = f", {ready.items} new pairs" if ready.items else ""
        print(f"campaign: {ready.campaign}{made}")
        if ready.password:
            print(f"sign in as {FIRST} with the one-time password {ready.password} (change it under Account)")
        print(f"open http://{self.address}:{self.port}", flush=True)
        pictures = [] if self.pictures is None else ["--pictures", str(self.pictures)]
        command = [sys.executable, "-m", "dashboards.annotate", "--store", self.store, *pictures, "--runs",
                   str(self.runs), "--address", self.address, "--port", str(self.port)]  # fmt: skip
        return subprocess.run(command, check=False).returncode
