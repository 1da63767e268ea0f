"""A real browser behind a real reverse proxy that shows the pages below a path."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import func, select

from preference_data.store import schema
from tests.fixtures import chromium
from tests.fixtures.desk_of_pictures import PASSWORD, fill, staffed
from tests.fixtures.reverse_proxy import below

pytestmark = pytest.mark.slow
LOADED = f"() => [...({chromium.PANES})().querySelectorAll('img')].map(i => i.complete && i.naturalWidth)"


@pytest.mark.parametrize(("base", "strip"), [("/annotate", True), ("/team/annotate", False)])
def test_a_pair_is_annotated_below_a_path_whether_the_proxy_takes_it_away_or_not(
    tmp_path: Path, base: str, strip: bool
) -> None:
    store = staffed(tmp_path, passwords=True)
    fill(store, ["a wall", "a door", "a roof"])
    with (
        chromium.server(tmp_path, "--base-path", base) as (inside, _),
        below(base, int(urlsplit(inside).port or 0), strip) as proxy,
        chromium.browser() as found,
    ):
        context, failed = found.new_context(), []
        context.on("response", lambda r: failed.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        page = chromium.sign_in(context, proxy.address + base, "ann", PASSWORD)
        first = chromium.painted(page)
        assert page.evaluate(LOADED) == [48, 48]
        assert all(url.startswith(f"{base}/picture/") for url in chromium.sides(page))
        page.wait_for_timeout(800)
        page.keyboard.press("f")
        second = chromium.painted(page, first)
        assert page.evaluate(LOADED) == [48, 48]
        took = store.read(lambda db: db.execute(select(schema.answer.c.duration_ms)).scalars().all())
        assert len(took) == 1 and took[0] > 500, "the report of the paint came through as well"
        assert [cookie["path"] for cookie in context.cookies() if cookie["name"].startswith("glyphlab")] == [base]
        page.reload(wait_until="commit")
        assert chromium.painted(page) == second, "the cookie below the path signs in again"
        page.get_by_text("My answers").first.click()
        page.get_by_text("a ").first.wait_for()
        page.wait_for_url(f"**{base}/history*")
        page.get_by_text("Sign out").click()
        page.locator("input[type=password]").wait_for()
        page.wait_for_function("() => !document.cookie.includes('glyphlab')")
        assert proxy.websockets >= 2 and proxy.refused in ([], ["/favicon.ico"]) and not failed, (proxy, failed)
        assert store.read(lambda db: db.execute(select(func.count()).select_from(schema.answer)).scalar_one()) == 1
