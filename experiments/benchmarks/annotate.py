"""How long an annotator waits: from the key to the next pair on the screen, alone and with twenty others at work.

Run:     python -m experiments.benchmarks.annotate --minutes 5

A campaign of noisy 1328-px images (3 MB each as PNG) is made in a temporary store and served by a process of its own
on localhost. One real browser (Debian's Chromium through playwright) answers by keyboard; the page itself takes the
time from `keydown` to the second frame after the images of the next pair were put into the document, decoded. Then
`visitors` more annotators work beside it. They speak the page's own protocol over a websocket (press a button, take
everything that the server sends, fetch the images that are loaded ahead) with a pause for thought of 2 to 6 seconds;
their times end when the page of the next pair was sent. Prints one JSON line; times in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import io
import json
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from preference_data.campaign import campaigns
from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.campaigns import Item
from preference_data.records import ImageRef, Prompt, Provenance
from preference_data.store import accounts, schema
from preference_data.store.store import Store

SIDE = 1328
PASSWORD = "a benchmark's password"
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-proxy-server"]  # fmt: skip
PANES = """() => { for (const e of document.querySelectorAll('*')) { const p = e.shadowRoot
  && e.shadowRoot.querySelector('.panes'); if (p) return p; } return null; }"""
NEXT = f"""before => {{ const p = ({PANES})(); return p && p.dataset.painted && p.dataset.painted !== before
  ? [p.dataset.painted, Number(p.dataset.paintedAt)] : false; }}"""
POLL = 50
"""Milliseconds between two looks at the page, which takes its times itself. A look at every frame keeps a core busy."""
CLOCK = "() => document.addEventListener('keydown', () => { window.pressedAt = performance.now(); }, true)"


def fill(store: Store, pairs: int, visitors: int) -> None:
    """A campaign of `pairs` pairs out of a few images, and accounts."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    refs = []
    for i in range(10):
        pixels = rng.integers(0, 255, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(content, "PNG", compress_level=1)
        sha, width, height = store.images.add(content.getvalue())
        refs.append(ImageRef(sha, f"{i}.png", width, height, Provenance(f"m{i % 2}", "", i, 1, 1.0, "bench", 0)))
    settings = CampaignSettings(overlap=1, cap=1, gold_share=0.0, attention_share=0.0, repeat_share=0.0)
    made = campaigns.create(store, store.operator, "bench", settings)
    couples = [(refs[i % 10], refs[(i + 1 + i // 10 % 9) % 10]) for i in range(pairs)]
    items = [Item(Prompt.from_text(f"an image of noise, number {i}"), pair) for i, pair in enumerate(couples)]
    campaigns.add_items(store, store.operator, made.id, items, source="benchmark")
    campaigns.set_state(store, store.operator, made.id, "open")
    accounts.create(store, store.operator, "browser", "annotator", PASSWORD)
    for i in range(visitors):
        accounts.create(store, store.operator, f"v{i}", "annotator", identity=("bench", str(i)))


def cookie(store: Store, name: str) -> str:
    """A session cookie as the server makes it."""

    def work(db: Any) -> tuple[str, Any]:
        key = db.execute(schema.secret.select().where(schema.secret.c.name == "cookies")).one().value
        return key, accounts.by_name(db, name)

    key, person = store.read(work)
    text = f"session.{person.id}.{person.session}.{int(time.time() + 7200)}"
    return f"glyphlab_session={text}.{hmac.new(bytes.fromhex(key), text.encode(), hashlib.sha256).hexdigest()}"


class Visitor:
    """An annotator without a browser, in the page's own protocol."""

    def __init__(self, port: int, token: str, chance: random.Random) -> None:
        self.port, self.token, self.chance = port, token, chance
        self.times: list[float] = []
        self.errors = 0
        self.button = self.fragment = ""
        self.known: set[bytes] = set()
        self.new: list[bytes] = []

    async def work(self, until: float) -> None:
        """Answer until that time (time.monotonic)."""
        import websockets

        url, headers = f"ws://127.0.0.1:{self.port}/_stcore/stream", {"Cookie": self.token}
        async with websockets.connect(url, subprotocols=["streamlit"], additional_headers=headers,
                                      origin=f"http://127.0.0.1:{self.port}", max_size=None) as line:  # fmt: skip
            await self.rerun(line, None)
            while time.monotonic() < until and self.button:
                await asyncio.sleep(self.chance.uniform(2.0, 6.0))
                before, begun = self.button, time.perf_counter()
                await self.rerun(line, before)
                self.times.append(1000 * (time.perf_counter() - begun))
                self.errors += self.button == before
                await asyncio.to_thread(self.fetch)

    async def rerun(self, line: Any, press: str | None) -> None:
        """Send a rerun, with a button pressed when one is named, and take everything until the script is done."""
        from streamlit.proto.BackMsg_pb2 import BackMsg
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        message = BackMsg()
        message.rerun_script.query_string = ""
        if press is not None:
            message.rerun_script.fragment_id = self.fragment
            widget = message.rerun_script.widget_states.widgets.add()
            widget.id, widget.trigger_value = press, True
        await line.send(message.SerializeToString())
        while True:
            content = await asyncio.wait_for(line.recv(), 60)
            self.new += [h for h in re.findall(rb"/picture/[\w-]{22}", content) if h not in self.known]
            self.known.update(self.new)
            metrics = ForwardMsg.FromString(content)
            if metrics.WhichOneof("type") == "delta" and metrics.delta.new_element.WhichOneof("type") == "button":
                if "-say_left_" in metrics.delta.new_element.button.id:
                    self.button, self.fragment = metrics.delta.new_element.button.id, metrics.delta.fragment_id
            elif metrics.WhichOneof("type") == "script_finished":
                return

    def fetch(self) -> None:
        """Load the images that were named for the first time, as a browser does ahead of time."""
        wanted, self.new = self.new, []
        for handle in dict.fromkeys(wanted):
            requested = urllib.request.Request(f"http://127.0.0.1:{self.port}{handle.decode()}",
                                           headers={"Cookie": self.token})  # fmt: skip
            with urllib.request.urlopen(requested, timeout=60) as answer:
                answer.read()


def shift(page: Any, answers: int, until: float | None = None) -> list[float]:
    """Waits of one browser at work, until `answers` are given or that time is reached."""
    times, at = [], page.wait_for_function(NEXT, arg="", timeout=240_000, polling=POLL).json_value()[0]
    while len(times) < answers or (until is not None and time.monotonic() < until):
        time.sleep(0.8)
        page.keyboard.press(random.choice("fjtgb"))
        at, painted = page.wait_for_function(NEXT, arg=at, timeout=240_000, polling=POLL).json_value()
        times.append(painted - page.evaluate("() => window.pressedAt"))
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """Count, median, 95th percentile and maximum."""
    order = sorted(times)
    late = order[min(int(0.95 * len(order)), len(order) - 1)]
    return {
        "n": len(order),
        "p50": round(statistics.median(order), 1),
        "p95": round(late, 1),
        "max": round(order[-1], 1),
    }


def sign_in(browser: Any, port: int) -> Any:
    """A page with a pair on it."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(240_000)
    page.goto(f"http://127.0.0.1:{port}", wait_until="commit")
    page.locator("input[autocomplete=username]").fill("browser")
    page.locator("input[type=password]").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_function(NEXT, arg="", timeout=240_000, polling=POLL)
    page.evaluate(CLOCK)
    return page


def measure(store: Store, port: int, answers: int, visitors: int, minutes: float) -> dict[str, Any]:
    """Both parts, as a dictionary of summaries."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=240_000)
        page = sign_in(browser, port)
        table: dict[str, Any] = {"alone": summary(shift(page, answers))}
        if visitors:
            people = [Visitor(port, cookie(store, f"v{i}"), random.Random(i)) for i in range(visitors)]
            until = time.monotonic() + 60 * minutes

            async def crowd() -> list[Any]:
                return await asyncio.gather(*(p.work(until) for p in people), return_exceptions=True)

            ended: list[Any] = []
            others = threading.Thread(target=lambda: ended.extend(asyncio.run(crowd())))
            others.start()
            table["in_company"] = summary(shift(page, 1, until))
            others.join()
            table["visitors"] = summary([t for p in people for t in p.times])
            table["errors"] = sum(p.errors for p in people) + sum(e is not None for e in ended)
        browser.close()
    return table


def main() -> int:
    """Make, serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=60, help="of the browser alone")
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=5.0, help="with visitors")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        store = Store.open(Path(folder))
        fill(store, 3000, args.visitors)
        server = subprocess.Popen([sys.executable, "-m", "dashboards.annotate", "--store", folder, "--port", str(port)],
                                  stdout=subprocess.DEVNULL)  # fmt: skip
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.5)
            print(json.dumps(measure(store, port, args.answers, args.visitors, args.minutes)))
        finally:
            server.kill()
            server.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
