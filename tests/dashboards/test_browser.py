"""A real browser: a shift by keyboard alone, undo, reload, a lost connection, a killed server, two people at once."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from preference_data.campaign import assignment
from preference_data.store import accounts, schema
from preference_data.store.store import Store
from tests.fixtures import chromium
from tests.fixtures.desk_of_pictures import PASSWORD, SECRETS, fill, staffed

pytestmark = pytest.mark.slow
SHIFT = 40
KEYS = "fjtgbs"


def answers(store: Store) -> int:
    return int(store.read(lambda db: db.execute(select(func.count()).select_from(schema.answer)).scalar_one()))


def press(page: Any, key: str, before: str) -> str:
    """Press a key and wait for the next pair."""
    time.sleep(0.25)  # nobody answers faster; the desk refuses what comes before anybody can have looked
    page.keyboard.press(key)
    return chromium.painted(page, before)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_shift_by_keyboard_alone(tmp_path: Path, language: str) -> None:
    store = staffed(tmp_path, passwords=True)
    accounts.change(store, store.operator, "ann", language=language)
    fill(store, [f'the word "WORD" on wall {i}' for i in range(SHIFT + 4)])
    with chromium.server(tmp_path) as (address, process), chromium.browser() as found:
        context = found.new_context()
        page = chromium.sign_in(context, address, "ann", PASSWORD)
        page.get_by_text("都差" if language == "zh" else "Both bad").first.wait_for()
        at = chromium.painted(page)
        for i in range(5):
            at = press(page, KEYS[i], at)
            assert answers(store) == i + 1
        undone = press(page, "u", at)  # the pair before, answered anew
        at = press(page, "b", undone)
        assert answers(store) == 6
        for i in range(6, SHIFT):
            at = press(page, KEYS[i % len(KEYS)], at)
        assert answers(store) == SHIFT  # one of them a revision
        seen = chromium.sides(page)
        page.reload(wait_until="commit")
        assert chromium.painted(page) == at and chromium.sides(page) == seen, "a reload: same pair, same sides"
        process.send_signal(signal.SIGKILL)  # after an answer: nothing is lost, and the page finds its way back
        process.wait()
        assert answers(store) == SHIFT
        chromium.restart(tmp_path, address)
        until = time.monotonic() + chromium.PATIENCE / 1000
        while answers(store) == SHIFT and time.monotonic() < until:
            page.keyboard.press("f")  # pressed in vain until the connection is there again
            page.wait_for_timeout(1000)
        assert SHIFT < answers(store) <= SHIFT + 2


def test_two_browsers_never_see_the_same_leased_pair(tmp_path: Path) -> None:
    store = staffed(tmp_path, passwords=True)
    fill(store, [f"wall {i}" for i in range(16)])
    with chromium.server(tmp_path) as (address, _), chromium.browser() as found:
        pages = [chromium.sign_in(found.new_context(), address, name, PASSWORD) for name in ("ann", "bob")]
        at = [chromium.painted(page) for page in pages]
        for _ in range(4):
            asked = select(schema.assignment.c.item_id).where(schema.assignment.c.state == "leased")
            held = store.read(lambda db, asked=asked: db.execute(asked).scalars().all())
            assert len(held) == len(set(held)) > 2
            at = [press(page, "f", before) for page, before in zip(pages, at, strict=True)]


def test_no_payload_before_the_answer_names_anything(tmp_path: Path) -> None:
    store = staffed(tmp_path, passwords=True)
    campaign = fill(store, ['the word "GLYPH"', "a door"])
    heard: list[tuple[str, bytes]] = []

    def listen(page: Any) -> None:
        page.on("response", lambda r: heard.append((r.url, _body(r) + repr(r.headers).encode())))
        page.on("websocket", lambda ws: ws.on("framereceived", lambda data: heard.append((ws.url, _bytes(data)))))

    with chromium.server(tmp_path) as (address, _), chromium.browser() as found:
        context = found.new_context()
        context.on("page", listen)
        chromium.sign_in(context, address, "ann", PASSWORD)
    shas = store.read(lambda db: list(db.execute(select(schema.image.c.sha256)).scalars()))
    frames = [content for url, content in heard if url.startswith("ws")]
    pictures = [url for url, _ in heard if "/picture/" in url]
    assert frames and any(b"GLYPH" in f or b"a door" in f for f in frames) and len(pictures) >= 2, "something was heard"
    for url, content in heard:
        if "/static/" not in url:  # Streamlit's own scripts
            for word in (*SECRETS, *shas):
                assert word.encode() not in content and word not in url, f"{word} in {url}"
    assert answers(store) == 0
    assert assignment.claim(store, store.read(lambda db: accounts.by_name(db, "ann")).id, campaign).views


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_annotator_cannot_open_the_leads_pages_by_address(tmp_path: Path, language: str) -> None:
    store = staffed(tmp_path, passwords=True)
    accounts.change(store, store.operator, "ann", language=language)
    fill(store, ["a wall"])
    with chromium.server(tmp_path) as (address, _), chromium.browser() as found:
        page = chromium.sign_in(found.new_context(), address, "ann", PASSWORD)
        for name in ("overview", "quality", "standings", "people"):
            page.goto(f"{address}/{name}", wait_until="commit")
            page.get_by_text("退出" if language == "zh" else "Sign out").wait_for()
            page.get_by_text("您的账号无权查看" if language == "zh" else "nothing here for your account").wait_for()
            shown = page.inner_text("body")
            assert "Page not found" not in shown
            assert not [word for word in ("secretmodel", "Rating model", "Bradley", "judy") if word in shown]
        for name in ("annotate", ""):  # both are the address of the first page
            page.goto(f"{address}/{name}", wait_until="commit")
            chromium.painted(page)
            assert "Page not found" not in page.inner_text("body")


def _body(response: Any) -> bytes:
    try:
        return response.body()
    except Exception:  # a redirect, or a page that is gone
        return b""


def _bytes(data: Any) -> bytes:
    return data if isinstance(data, bytes) else str(data).encode()
