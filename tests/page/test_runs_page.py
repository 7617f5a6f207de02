"""A researcher's sweep: filter, group, compare, look at one run; by mouse and by keyboard."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, expect

from api_server import Server
from browsers import Watched, axe, watched

FIRST = f"{0:032x}"
FIRST_LOAD_BYTES = 120_000


def test_a_sweep_by_mouse(reader: Watched) -> None:
    page = reader.open("/runs")
    grid = page.get_by_role("grid", name="Runs")
    expect(grid).to_have_attribute("aria-rowcount", "15")
    # A facet is a condition of the filter, and the same as SQL.
    page.get_by_role("complementary", name="Facets").get_by_label(re.compile("^failed")).check()
    expect(page.get_by_role("combobox", name="Filter")).to_have_value("status = 'FAILED'")
    expect(grid).to_have_attribute("aria-rowcount", "2")
    expect(page.get_by_role("link", name="trial-3", exact=True)).to_be_visible()
    expect(page.locator(".sql-line")).to_contain_text("FAILED")
    page.get_by_role("button", name="Clear the filter").click()
    expect(grid).to_have_attribute("aria-rowcount", "15")
    # Sort by a metric: the greatest first.
    grid.get_by_role("button", name="val_accuracy").click()
    expect(page).to_have_url(re.compile(r"sort=-metrics\.val_accuracy"))
    # Two runs are compared.
    for name in ("trial-2", "trial-5"):
        row = grid.get_by_role("row").filter(has_text=name)
        row.get_by_role("checkbox").click()
    page.get_by_role("link", name="Compare 2").click()
    table = page.get_by_role("region", name="What differs")
    expect(table.get_by_role("row", name=re.compile("^lr "))).to_contain_text("0.003")
    expect(table).to_contain_text("0.006")
    expect(page.get_by_role("figure", name=re.compile("^loss of 2 runs, falling"))).to_be_visible()
    page.go_back()
    expect(page.get_by_role("link", name="Compare 2")).to_be_visible()


def test_a_sweep_by_keyboard(reader: Watched) -> None:
    page = reader.open("/runs")
    expect(page.get_by_role("link", name="trial-0", exact=True)).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("params.dep")
    offer = page.get_by_role("option", name=re.compile(r"params\.depth"))
    expect(offer).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.type("= '4' ")
    page.keyboard.press("Enter")
    grid = page.get_by_role("grid", name="Runs")
    expect(grid).to_have_attribute("aria-rowcount", "6")
    page.keyboard.press("Escape")
    for key in ("x", "j", "x"):
        page.keyboard.press(key)
    expect(page.get_by_role("link", name="Compare 2")).to_be_visible()
    page.keyboard.press("c")
    expect(page.get_by_role("heading", name="2 runs")).to_be_visible()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox", name="Go to")).to_be_focused()
    page.keyboard.type("trial-7")
    expect(page.get_by_role("option", name=re.compile("trial-7"))).to_be_visible()
    page.keyboard.press("Enter")
    expect(page).to_have_title("trial-7 · Modeltrail")


def test_seeds_are_grouped_with_their_mean(reader: Watched) -> None:
    page = reader.open("/runs?mode=group&group=params.depth")
    grid = page.get_by_role("grid", name="Runs")
    expect(grid).to_have_attribute("aria-rowcount", "4")
    expect(grid.get_by_role("columnheader", name="val_accuracy mean")).to_be_visible()
    grid.get_by_role("row").nth(1).dblclick()
    expect(page.get_by_role("combobox", name="Filter")).to_have_value(re.compile(r"params\.depth"))
    expect(page.get_by_role("button", name="Flat")).to_have_attribute("aria-pressed", "true")


def test_a_filter_that_is_refused_says_so_and_keeps_the_rows(reader: Watched) -> None:
    reader.expected.append("400")
    page = reader.open("/runs")
    expect(page.get_by_role("link", name="trial-0", exact=True)).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("metrics.loss >")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Invalid")
    expect(page.get_by_role("link", name="trial-0", exact=True)).to_be_visible()


def test_one_run(reader: Watched) -> None:
    page = reader.open(f"/runs/{FIRST}")
    expect(page.get_by_role("heading", name="trial-0")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("^loss "))).to_be_visible()
    chart = page.get_by_role("figure", name=re.compile("^loss of 1 run, falling"))
    expect(chart).to_be_visible()
    chart.get_by_role("button", name="More of loss").click()
    page.get_by_role("menuitem", name="As a table").click()
    expect(chart.get_by_role("cell", name="300", exact=True)).to_be_visible()


def test_nothing_writes_in_the_past(reader: Watched) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    page = reader.open(f"/runs?at={now}")
    expect(page.get_by_role("link", name="trial-0", exact=True)).to_be_visible()
    expect(page.get_by_text("You see")).to_be_visible()
    page.keyboard.press("x")
    expect(page.get_by_text("selected")).to_be_visible()
    expect(page.get_by_role("button", name="Delete")).not_to_be_visible()
    expect(page.get_by_role("figure", name=re.compile("^loss of"))).to_be_visible()
    page.get_by_role("button", name="Back to now").click()
    expect(page).not_to_have_url(re.compile("at="))
    expect(page.get_by_role("button", name="Delete")).to_be_visible()


def test_links_of_mlflow_and_of_last_month(reader: Watched) -> None:
    page = reader.open(f"/#/experiments/1/runs/{FIRST}")
    expect(page).to_have_url(f"{reader.url}/runs/{FIRST}")
    expect(page.get_by_role("heading", name="trial-0")).to_be_visible()
    reader.expected.append("404")
    page.goto(f"{reader.url}/runs/gone")
    expect(page.get_by_text("This run is not here")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 360])
def test_readers_of_all_kinds_can_use_it(
    browser: Browser, world: Server, theme: str, width: int
) -> None:
    paths = ("/runs", f"/runs/{FIRST}", f"/compare?runs={FIRST},{1:032x}")
    with watched(browser, world.url, width=width, theme=theme) as reader:
        found = {}
        for path in paths:
            page = reader.open(path)
            page.wait_for_selector("text=trial-0")
            page.wait_for_timeout(200)
            found[path] = axe(page)
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{path} is {wide} px too wide"
    assert not any(found.values()), found


def test_the_first_load_is_small(reader: Watched, world: Server) -> None:
    page = reader.open("/runs")
    page.wait_for_selector("figure")
    assets = {url for url in reader.requests if "/assets/" in url}
    with httpx.Client() as client:
        headers = {"Accept-Encoding": "gzip"}
        sizes = {u: int(client.get(u, headers=headers).headers["content-length"]) for u in assets}
    assert sum(sizes.values()) <= FIRST_LOAD_BYTES, sizes
    assert len(assets) <= 9
