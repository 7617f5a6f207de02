"""Status, Live and the API reference: the operator's story, by mouse and by keyboard alone."""

from __future__ import annotations

import re
from contextlib import closing

import pytest
from playwright.sync_api import Browser, Page, expect

from api_server import Job, Server
from browsers import Watched, axe, watched
from modeltrail.eventlog import RUNS, NewEvent, open_log


@pytest.fixture(scope="module")
def ill(world: Server) -> str:
    """Position of an event that cannot be applied."""
    with closing(open_log(str(world.data))) as log:
        (position,) = log.append([NewEvent(RUNS, "x", b"nonsense")])
    return str(position)


def _tab_to(page: Page, name: str) -> None:
    """Move the focus to the control with this name, by Tab alone."""
    named = "document.activeElement.ariaLabel || document.activeElement.innerText || ''"
    for _ in range(120):
        page.keyboard.press("Tab")
        if str(page.evaluate(named)).startswith(name):
            return
    raise AssertionError(f"Tab does not reach {name}")


def test_the_operator_by_mouse(reader: Watched, world: Server, ill: str) -> None:
    page = reader.open("/runs")
    page.get_by_role("link", name="Status", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("attention", timeout=30_000)
    letter = page.locator("details").filter(has_text=ill)
    expect(letter).to_contain_text("not an event")
    letter.locator("summary").click()
    expect(letter.locator("pre")).to_contain_text("6e 6f 6e 73 65 6e 73 65")
    page.get_by_role("button", name="Try again: the dead letters").click()
    expect(page.get_by_text("0 applied, 1 left.")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="runs:0")
    expect(row).to_contain_text("complete")
    expect(row.get_by_role("cell").nth(2)).to_have_text("0")


def test_the_operator_by_keyboard(reader: Watched, ill: str) -> None:
    page = reader.open("/status")
    expect(page.get_by_text("1 event is a dead letter")).to_be_visible(timeout=30_000)
    _tab_to(page, "Try again: the dead letters")
    page.keyboard.press("Enter")
    expect(page.get_by_text("0 applied, 1 left.")).to_be_visible()
    _tab_to(page, ill)
    page.keyboard.press("Enter")
    expect(page.locator("details pre")).to_be_visible()


def test_the_tail_shows_what_is_written_and_opens_it(reader: Watched, world: Server) -> None:
    page = reader.open("/live")
    said = page.locator(".live-said")
    expect(said).to_contain_text("live", timeout=30_000)
    page.get_by_role("searchbox", name="Filter").fill("loss -dead")
    job = Job("e" * 32, experiment_name="tail", name="<b>tail</b>")
    world.ingest(job.started(), job.metrics("loss", [0.5, 0.25]))
    row = page.get_by_role("row").filter(has_text="2 points of loss")
    expect(row).to_be_visible(timeout=30_000)
    expect(said).to_contain_text("log to page")
    page.keyboard.press("Escape")
    page.get_by_role("button", name=re.compile("Pause")).click()
    world.ingest(job.metrics("loss", [0.1]))
    expect(said).to_contain_text("paused, ", timeout=30_000)
    expect(page.get_by_role("row").filter(has_text="1 point of loss")).to_have_count(0)
    page.get_by_role("button", name=re.compile("Go on")).click()
    expect(page.get_by_role("row").filter(has_text="1 point of loss")).to_be_visible()
    # By keyboard: the newest event, its fields and its schema.
    page.get_by_role("grid", name="Events").focus()
    page.keyboard.press("Enter")
    opened = page.get_by_role("region", name=re.compile("^Event runs:0:"))
    expect(opened).to_contain_text("MetricsLogged")
    expect(opened).to_contain_text("Applied to the tables")
    opened.locator("summary").click()
    expect(opened).to_contain_text("series")
    assert "event=runs:0:" in page.url
    world.ingest(job.event("RunDeleted"))  # other tests count the runs


def test_the_api_reference_tries_a_request(reader: Watched, world: Server) -> None:
    reader.expected.append("404")
    page = reader.open("/docs")
    page.get_by_role("searchbox", name="Find a route").fill("runs/{run_id} get")
    page.get_by_role("link", name="GET /runs/{run_id}", exact=True).click(timeout=30_000)
    form = page.get_by_role("form", name="Try it")
    form.get_by_label("run_id").fill(f"{1:032x}")
    form.get_by_role("button", name="Try it").click()
    expect(form.get_by_role("status")).to_contain_text("200")
    expect(form.locator(".came pre")).to_contain_text('"name": "trial-1"')
    form.get_by_label("run_id").fill("none")
    page.keyboard.press("Enter")
    expect(form.locator(".came pre")).to_contain_text("RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (1440, "dark"), (360, "dark")])
def test_for_all_readers(browser: Browser, world: Server, ill: str, width: int, theme: str) -> None:
    with watched(browser, world.url, width=width, theme=theme) as reader:
        for path, shown in (
            ("/status", ill),
            (f"/live?event={ill}", "no effect"),
            ("/live?event=registry:0:0", "nothing"),
            ("/docs?op=POST%20/api/v1/sql", "Run a query"),
            ("/access", "without --auth"),
        ):
            page = reader.open(path)
            expect(page.locator("main").get_by_text(shown).first).to_be_visible(timeout=30_000)
            assert axe(page) == [], path
            assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), path
