"""Reports on a phone, in a real browser: nothing is wider than the screen, and images of a row are of one width."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.report.page_style import CSS
from experiments.report.report import write_report
from tests.fixtures import chromium
from tests.fixtures.made_up_run import make_chain

pytestmark = pytest.mark.slow
WIDTHS = """() => [...document.querySelectorAll('.wall tr')]
  .map(row => [...row.querySelectorAll('img')].map(i => Math.round(i.getBoundingClientRect().width)))
  .filter(widths => widths.length > 1)"""


def test_a_report_fits_a_phone(tmp_path: Path) -> None:
    page_file = write_report(make_chain(tmp_path / "run"))
    with chromium.browser() as found:
        page = found.new_context(viewport={"width": 400, "height": 900}).new_page()
        page.goto(page_file.as_uri())
        page.wait_for_load_state("load")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        rows = page.evaluate(WIDTHS)
        assert rows and all(len(set(widths)) == 1 for widths in rows)


def test_facts_with_long_names_fit_a_phone(tmp_path: Path) -> None:
    facts = "".join(f"<dt>{'a name of several words ' * 4}</dt><dd>{n}</dd>" for n in range(3))
    (tmp_path / "page.html").write_text(
        f'<meta name="viewport" content="width=device-width"><style>{CSS}</style><dl class="facts">{facts}</dl>'
    )
    with chromium.browser() as found:
        page = found.new_context(viewport={"width": 400, "height": 900}).new_page()
        page.goto((tmp_path / "page.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
