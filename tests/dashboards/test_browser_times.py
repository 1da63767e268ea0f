"""A real browser: how long an answer took, from the paint to the key, and presses that nobody can have meant."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from preference_data.store import schema
from preference_data.store.store import Store
from tests.fixtures import chromium
from tests.fixtures.desk_of_pictures import PASSWORD, fill, staffed

pytestmark = pytest.mark.slow
HOLD = """([key, ms]) => new Promise(done => { const begun = performance.now(); let repeat = false;
  const press = () => { document.body.dispatchEvent(new KeyboardEvent('keydown',
      { key, code: 'Key' + key.toUpperCase(), keyCode: key.toUpperCase().charCodeAt(0), bubbles: true,
        cancelable: true, repeat }));
    repeat = true; if (performance.now() - begun < ms) setTimeout(press, 35); else done(true); }; press(); })"""


def given(store: Store) -> list[Any]:
    asked = select(schema.answer.c.outcome, schema.answer.c.duration_ms).order_by(schema.answer.c.id)
    return list(store.read(lambda db: db.execute(asked).all()))


def waited(page: Any) -> float:
    """Milliseconds since the pair was painted, by the browser's own clock."""
    return float(page.evaluate(f"() => performance.now() - Number(({chromium.PANES})().dataset.paintedAt)"))


def test_the_stored_time_is_that_from_the_paint_to_the_key_and_an_undo_has_its_own(tmp_path: Path) -> None:
    store = staffed(tmp_path, passwords=True)
    fill(store, [f"wall {i}" for i in range(12)])
    with chromium.server(tmp_path) as (address, _), chromium.browser() as found:
        page = chromium.sign_in(found.new_context(), address, "ann", PASSWORD)
        failed: list[str] = []
        page.on("response", lambda r: failed.append(r.url) if r.status >= 400 else None)
        at, took = chromium.painted(page), []
        for seconds in (0.4, 1.2, 2.5, 0.8):
            page.wait_for_timeout(1000 * seconds)
            took.append(waited(page))
            page.keyboard.press("t")
            at = chromium.painted(page, at)
        page.wait_for_timeout(1500)
        page.keyboard.press("u")
        undone = chromium.painted(page, at)
        page.wait_for_timeout(600)
        took.append(waited(page))
        page.keyboard.press("g")
        chromium.painted(page, undone)
    stored = [row.duration_ms for row in given(store)]
    assert len(stored) == 5 and [row.outcome for row in given(store)] == ["tie"] * 4 + ["both_good"]
    for one, other in zip(stored, took, strict=True):
        assert abs(one - other) < 350, (stored, took)
    assert not failed, "every report was taken"


def test_a_key_that_is_held_down_answers_once(tmp_path: Path) -> None:
    store = staffed(tmp_path, passwords=True)
    fill(store, [f"wall {i}" for i in range(12)])
    with chromium.server(tmp_path) as (address, _), chromium.browser() as found:
        page = chromium.sign_in(found.new_context(), address, "ann", PASSWORD)
        at = chromium.painted(page)
        page.wait_for_timeout(500)
        page.evaluate(HOLD, ["t", 3000])
        at = chromium.painted(page, at)
        page.wait_for_timeout(500)
        assert [row.outcome for row in given(store)] == ["tie"]
        page.keyboard.down("g")  # as the browser itself repeats it
        for _ in range(60):
            page.keyboard.down("g")
            page.wait_for_timeout(30)
        page.keyboard.up("g")
        page.wait_for_timeout(500)
        assert [row.outcome for row in given(store)] == ["tie", "both_good"]


def test_hammering_a_key_answers_only_what_could_be_looked_at(tmp_path: Path) -> None:
    store = staffed(tmp_path, passwords=True)
    fill(store, [f"wall {i}" for i in range(40)])
    with chromium.server(tmp_path) as (address, _), chromium.browser() as found:
        page = chromium.sign_in(found.new_context(), address, "ann", PASSWORD)
        chromium.painted(page)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            page.keyboard.press("b")
            page.wait_for_timeout(10)
        page.wait_for_timeout(800)
        rows = given(store)
        assert 1 <= len(rows) < 25 and min(row.duration_ms for row in rows) >= 140, rows
