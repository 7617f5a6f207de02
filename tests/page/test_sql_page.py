"""The SQL page: the analyst's story, by mouse and by keyboard alone."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Page, expect

from api_server import Server
from browsers import Watched, axe, watched

CURVES = (
    "SELECT m.step, r.name, m.value FROM metrics m JOIN runs r USING (run_id) "
    "WHERE m.key = 'loss' AND r.name IN ('trial-1', 'trial-2') ORDER BY ALL"
)


def _result(page: Page) -> None:
    expect(page.get_by_role("grid", name="Result")).to_be_visible(timeout=30_000)


def test_the_analyst_by_mouse(reader: Watched, tmp_path: Path) -> None:
    page = reader.open("/sql")
    page.locator(".sql-host .cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(CURVES)
    page.get_by_role("button", name="Run Ctrl").click()
    _result(page)
    expect(page.get_by_text("600 rows in")).to_be_visible()
    assert "q=SELECT" in page.url
    chart = page.get_by_role("img", name="value by step")
    expect(chart).to_be_visible()
    assert "of 2 names: 600 values" in (chart.get_attribute("aria-label") or "")
    assert page.get_by_label("colour").input_value() == "name"
    page.get_by_role("button", name="Points").click()
    assert "kind=points" in page.url
    with page.expect_download() as downloaded:
        page.get_by_role("link", name="Parquet").click()
    downloaded.value.save_as(tmp_path / "result.parquet")
    table = pq.read_table(tmp_path / "result.parquet")
    assert (table.num_rows, table.column_names) == (600, ["step", "name", "value"])
    # The address is all that somebody else needs.
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    _result(page)
    assert page.get_by_role("button", name="Points").get_attribute("aria-pressed") == "true"


def test_the_analyst_by_keyboard(reader: Watched, tmp_path: Path) -> None:
    page = reader.open("/sql")
    expect(page.get_by_role("textbox", name="Query")).to_be_visible()
    page.locator(".sql-host .cm-content").wait_for()
    page.keyboard.press("/")
    page.keyboard.press("Control+a")
    page.keyboard.type("SELECT status, count(*) AS n FROM ru")
    expect(page.get_by_role("option").filter(has_text="runs")).to_be_visible()
    page.wait_for_timeout(300)  # the list ignores keys that come right after it opens
    page.keyboard.press("Enter")
    page.keyboard.type(" GROUP BY 1 ORDER BY 2 DESC")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Enter")
    _result(page)
    expect(page.get_by_role("gridcell", name="FINISHED")).to_be_visible()
    page.keyboard.press("Tab")  # out of the editor: it does not keep the key
    for _ in range(40):
        if page.evaluate("document.activeElement.textContent") == "CSV":
            break
        page.keyboard.press("Tab")
    with page.expect_download() as downloaded:
        page.keyboard.press("Enter")
    downloaded.value.save_as(tmp_path / "result.csv")
    assert "FINISHED,12" in (tmp_path / "result.csv").read_text()


def test_an_error_is_shown_at_its_place(reader: Watched) -> None:
    reader.expected.append("400")
    page = reader.open(f"/sql?q={quote('SELECT name, nmae FROM runs')}")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("nmae", timeout=30_000)
    expect(alert).to_contain_text("line 1, column 14")
    expect(alert).to_contain_text("SQL_ERROR")
    assert page.locator(".cm-wrong").text_content() == "nmae"


def test_a_running_query_is_cancelled(reader: Watched, world: Server) -> None:
    slow = "SELECT count(*) FROM range(100000000000) a"
    page = reader.open(f"/sql?q={quote(slow)}")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status").filter(has_text="cancelled")).to_be_visible()
    # Its place is free again.
    assert world.ask("/api/v1/sql", {"statement": "SELECT 1"})["rows"] == [[1]]


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (1440, "dark"), (360, "light")])
def test_sql_for_all_readers(browser: Browser, world: Server, width: int, theme: str) -> None:
    with watched(browser, world.url, width=width, theme=theme) as reader:
        page = reader.open(f"/sql?q={quote(CURVES)}")
        _result(page)
        page.locator(".sql-host .cm-content").wait_for()
        assert axe(page) == []
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
