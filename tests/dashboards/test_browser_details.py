"""A real browser: what the annotation page says of zoom, language, keys and a server that is gone, and whom it asks."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import func, select

from preference_data.store import schema
from tests.fixtures import chromium
from tests.fixtures.desk_of_pictures import PASSWORD, fill, staffed

pytestmark = pytest.mark.slow
ZOOM = f"() => [...({chromium.PANES})().querySelectorAll('.zoom')].map(z => z.textContent)"
WIDTHS = f"""() => [...({chromium.PANES})().querySelectorAll('img')].map(i =>
  i.getBoundingClientRect().width * devicePixelRatio / i.naturalWidth)"""
NAMES = f"() => ({chromium.PANES})().textContent"
AWAY = f"""() => {{ const a = ({chromium.PANES})().getRootNode().querySelector('.away');
  return a.hidden ? '' : a.textContent; }}"""
KEYS = """() => [...document.querySelectorAll('button kbd')].filter(k => k.offsetParent).map(k => {
  const ground = (e) => !e ? 'rgb(255, 255, 255)' : getComputedStyle(e).backgroundColor === 'rgba(0, 0, 0, 0)'
    ? ground(e.parentElement) : getComputedStyle(e).backgroundColor;
  return [getComputedStyle(k).color, ground(k), Number(getComputedStyle(k).opacity)]; })"""
ICONS = """() => [...document.querySelectorAll('[data-testid=stSidebarNavLink]')].map(
  link => getComputedStyle(link, '::before').content)"""


def contrast(one: str, other: str) -> float:
    """By WCAG 2.1, of two colours as a browser writes them."""

    def light(colour: str) -> float:
        parts = [float(x) / 255 for x in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def opened(found: Any, address: str, asked: list[str]) -> Any:
    context = found.new_context(viewport={"width": 1400, "height": 900})
    context.on("request", lambda r: asked.append(r.url))
    return chromium.sign_in(context, address, "ann", PASSWORD)


def test_the_page_tells_its_zoom_its_words_its_keys_and_asks_nobody_else(tmp_path: Path) -> None:
    store = staffed(tmp_path, passwords=True)
    fill(store, ["a wall", "a door", "a roof"], size=96)
    asked: list[str] = []
    with chromium.server(tmp_path) as (address, _), chromium.browser() as found:
        page = opened(found, address, asked)
        icons = page.evaluate(ICONS)
        assert len(icons) == 4 and "none" not in icons and len(set(icons)) == 4, "a menu entry's icon each"
        page.keyboard.press("o")  # one pixel on one pixel, though the image is smaller than its place
        page.wait_for_function(f"() => ({ZOOM})().every(z => z === '100 %')")
        assert page.evaluate(WIDTHS) == pytest.approx([1.0, 1.0], abs=0.02)
        keys = page.evaluate(KEYS)
        assert len(keys) > 10
        for colour, ground, opacity in keys:
            assert opacity == 1 and contrast(colour, ground) >= 4.5, (colour, ground, opacity)
        page.get_by_role("button", name="中文").click()
        page.wait_for_function(f"() => ({NAMES})().includes('左图')")
        text = page.evaluate(NAMES)
        assert "右图" in text and "Left image" not in text, "also of the pair that is on the screen"
    hosts = {urlsplit(url).netloc for url in asked if url.startswith(("http", "ws"))}
    assert hosts == {urlsplit(address).netloc}, hosts


def test_a_menu_that_is_folded_away_leaves_a_tablet_its_room(tmp_path: Path) -> None:
    store = staffed(tmp_path, passwords=True)
    fill(store, ["a wall", "a door"], size=96)
    with chromium.server(tmp_path) as (address, _), chromium.browser() as found:
        page = opened(found, address, [])
        for width in (768, 400):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function(f"() => ({chromium.PANES})().getBoundingClientRect().width > {0.9 * width}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_answer_to_a_server_that_is_gone_is_said_to_be_lost(tmp_path: Path) -> None:
    store = staffed(tmp_path, passwords=True)
    fill(store, ["a wall", "a door", "a roof"])
    with chromium.server(tmp_path) as (address, process), chromium.browser() as found:
        page = opened(found, address, [])
        page.wait_for_timeout(800)
        process.send_signal(signal.SIGKILL)
        process.wait()
        page.keyboard.press("f")
        page.wait_for_function(f"() => ({AWAY})().includes('your last answer was not taken')")
        assert "connected to the internet" not in page.inner_text("body")
    assert store.read(lambda db: db.execute(select(func.count()).select_from(schema.answer)).scalar_one()) == 0
