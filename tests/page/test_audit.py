"""Stories of the trail: the auditor looks at a day, at what changed since, and at evidence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from api_server import Server
from browsers import Watched, axe, watched
from registry_past import Team


@pytest.fixture(scope="module")
def team(world: Server) -> Iterator[Team]:
    """A model whose champion is version 3; nothing here changes it."""
    team = Team(world, "audited")
    team.past([f"{n:032x}" for n in range(3)])
    yield team
    team.client.close()


def test_the_trail_by_keyboard(reader: Watched, team: Team) -> None:
    page = reader.open("/audit")
    page.keyboard.press("/")
    page.keyboard.type("model:audited outcome:refused")
    page.keyboard.press("Enter")
    rows = page.get_by_role("row", name="nightly refresh")
    expect(rows).to_have_count(1)
    expect(page.get_by_role("row")).to_have_count(2)  # and the head
    assert "outcome=refused" in page.url
    page.keyboard.press("Tab")  # out of the filter
    page.keyboard.press("j")
    event = page.get_by_role("complementary", name="Event at offset")
    expect(event).to_contain_text("ci-bot asked for @champion → 1")
    expect(event).to_contain_text("expected to point at version 1")
    expect(event).to_contain_text('"expected_version": 1')
    assert page.url.split("?")[0].split("/")[-1].isdecimal()
    page.reload()
    expect(event).to_contain_text("Refused: RESOURCE_CONFLICT")
    page.keyboard.press("Escape")
    expect(event).not_to_be_visible()


def test_facets_and_what_an_event_changed(reader: Watched, team: Team) -> None:
    page = reader.open("/audit?model=audited")
    facets = page.get_by_role("complementary", name="Facets")
    facets.get_by_role("checkbox", name="grace").click()
    page.get_by_role("link", name="audited @champion → 2").click()
    event = page.get_by_role("complementary", name="Event at offset")
    expect(event.get_by_role("region", name="Effect")).to_contain_text("@champion: 1 → 2")
    expect(event.get_by_role("region", name="Chain").get_by_role("listitem")).to_have_count(2)
    page.emulate_media(media="print")
    expect(event.get_by_text("printed")).to_be_visible()
    assert not page.get_by_role("navigation", name="Pages").is_visible()


def test_as_of_a_moment_and_what_differs_since(reader: Watched, team: Team, tmp_path: Path) -> None:
    events = team.ask("GET", "/audit?model=audited&limit=100")["events"]
    first = next(one["log_offset"] for one in events if one["reason"] == "first go-live")
    page = reader.open(f"/audit?model=audited&at=registry:0:{first}")
    expect(page.get_by_role("row", name="first go-live").first).to_be_visible()
    assert page.get_by_role("row", name="release train 48").count() == 0
    page.goto(f"{reader.url}/diff?model=audited")
    start = page.get_by_label("From", exact=True).first
    start.fill("soon")
    start.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Write a time")
    start.fill(str(first))
    start.press("Enter")
    row = page.get_by_role("row", name="@champion")
    expect(row).to_contain_text("1")
    expect(row).to_contain_text("release train 48")
    assert f"from=registry:0:{first}" in page.url
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as found:
        page.get_by_role("menuitem", name="Save Markdown").click()
    path = tmp_path / "diff.md"
    found.value.save_as(path)
    assert "model audited@champion" in path.read_text()
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as found:
        page.get_by_role("menuitem", name="Save JSON").click()
    found.value.save_as(path)
    assert any(change["model"] == "audited" for change in json.loads(path.read_text())["changes"])


def test_an_incident(reader: Watched, team: Team) -> None:
    page = reader.open("/incident")
    served = page.get_by_role("region", name="What served")
    expect(served.get_by_role("row", name="audited @champion")).to_contain_text("release train 48")
    expect(page.get_by_role("region", name="Refused")).to_contain_text("nightly refresh")
    with page.expect_download() as found:
        page.get_by_role("button", name="Save Markdown").click()
    assert found.value.suggested_filename == "incident.md"


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 1440), ("light", 360)])
def test_everybody_can_use_these_pages(
    browser: Browser, world: Server, team: Team, theme: str, width: int
) -> None:
    events = team.ask("GET", "/audit?model=audited&outcome=refused")["events"]
    paths = {
        "/models": "Models",
        "/models/audited": "Timeline",
        "/models/audited/versions/3": "Proof",
        "/audit?model=audited": "audited",
        f"/audit/{events[0]['log_offset']}": "Request",
        "/diff?model=audited": "values differ",
        "/incident": "What served",
    }
    faults: dict[str, list[str]] = {}
    with watched(browser, world.url, theme=theme, width=width) as reader:
        for path, text in paths.items():
            page = reader.open(path)
            page.get_by_text(text).locator("visible=true").first.wait_for(state="attached")
            page.wait_for_load_state("networkidle")
            faults[path] = axe(page)
            if page.evaluate("document.documentElement.scrollWidth") > width:
                faults[path].append("wider than the screen")
    assert not any(faults.values()), faults
