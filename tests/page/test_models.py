"""Stories of the registry's pages: the engineer at 3 a.m."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from api_server import Server
from browsers import Watched, watched
from registry_past import Team

RUNS = [f"{n:032x}" for n in range(3)]


@pytest.fixture
def team(world: Server, request: pytest.FixtureRequest) -> Iterator[Team]:
    """A model of the test's own, whose champion is version 3."""
    team = Team(world, request.node.name.removeprefix("test_")[:40].strip("_"))
    team.past(RUNS)
    yield team
    team.client.close()


@pytest.fixture
def phone(browser: Browser, world: Server) -> Iterator[Watched]:
    """A page 360 pixels wide."""
    with watched(browser, world.url, width=360, height=740, theme="dark") as page:
        yield page


def holder(page: Page, name: str) -> str:
    """The row of an alias or a stage in the table of holders."""
    return str(
        page.get_by_role("region", name="Holders").get_by_role("row", name=name).inner_text()
    )


def test_who_changed_production(reader: Watched, team: Team) -> None:
    page = reader.open("/models")
    section = page.get_by_role("region", name=team.model, exact=True)
    expect(section.get_by_role("row", name="@champion")).to_contain_text("release train 48")
    expect(section).to_contain_text("expected to point at version 1")
    section.get_by_role("link", name=team.model, exact=True).click()
    expect(page).to_have_title(f"{team.model} · Modeltrail")
    expect(page.get_by_role("region", name="Holders")).to_contain_text("release train 48")
    assert "bob" in holder(page, "@champion")
    # The timeline says it in words as well, and each bar says who and why.
    drawing = page.get_by_role("group", name=f"Timeline of {team.model}.")
    assert "then version 2 from" in str(drawing.get_attribute("aria-label"))
    # By its key: in this short past a refusal's cross may cover the middle of the bar.
    drawing.get_by_role("button", name="@champion: version 2 from").press("Enter")
    card = page.get_by_role("dialog", name="What happened here")
    expect(card).to_contain_text("shadow week looks right")
    expect(card).to_contain_text("grace")
    page.keyboard.press("Escape")
    expect(card).not_to_be_visible()
    drawing.get_by_role("button", name="refused: version 1 for @champion").click()
    expect(card).to_contain_text("nightly refresh")
    expect(card).to_contain_text("RESOURCE_CONFLICT")


def test_roll_back_with_a_reason(reader: Watched, team: Team) -> None:
    page = reader.open(f"/models/{team.model}")
    page.get_by_role("button", name="Roll back @champion").click()
    dialog = page.get_by_role("dialog", name=f"Roll back @champion of {team.model}")
    expect(dialog.get_by_role("radio", checked=True)).to_have_count(1)
    expect(dialog).to_contain_text("@champion: 3 → 2")
    expect(dialog).to_contain_text("version 2: Archived → Production")
    dialog.get_by_role("button", name="Roll back to version 2").click()
    # The browser asks for the reason: nothing was sent.
    expect(dialog.get_by_role("button", name="Roll back to version 2")).to_be_visible()
    dialog.get_by_label("Why").fill("rollback: incident 41")
    dialog.get_by_role("button", name="Roll back to version 2").click()
    expect(dialog.get_by_text("accepted at")).to_have_count(2)
    dialog.get_by_role("button", name="Done").click()
    expect(page.get_by_role("region", name="Holders")).to_contain_text("rollback: incident 41")
    assert "2" in holder(page, "@champion").split()
    assert team.ask("GET", f"{team.path}/aliases/champion")["version"] == 2
    assert team.ask("GET", f"{team.path}/versions/2")["stage"] == "Production"
    assert team.ask("GET", f"{team.path}/versions/3")["stage"] == "Archived"


def test_refused_because_somebody_was_faster_then_by_keyboard(reader: Watched, team: Team) -> None:
    page = reader.open(f"/models/{team.model}")
    reader.expected.append("409")
    button = page.get_by_role("button", name="Roll back @champion")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=f"Roll back @champion of {team.model}")
    expect(dialog).to_contain_text("@champion: 3 → 2")
    assert team.alias("champion", 1, 3, "older is safer", "grace")
    reason = dialog.get_by_label("Why")
    while not reason.evaluate("element => element === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.type("rollback: incident 41")
    page.keyboard.press("Control+Enter")
    alert = dialog.get_by_role("alert")
    expect(alert).to_contain_text("RESOURCE_CONFLICT")
    expect(alert).to_contain_text("grace was faster by")
    expect(alert).to_contain_text("older is safer")
    expect(alert).to_contain_text("Nothing was changed")
    # The stage was not asked for, as the alias was refused.
    assert team.ask("GET", f"{team.path}/versions/3")["stage"] == "Production"
    # Look again: the holder is another now, and the request is made anew against it.
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("@champion: 1 → ")
    while not reason.evaluate("element => element === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.type("incident 41, together with grace")
    page.keyboard.press("Control+Enter")
    expect(dialog.get_by_text("accepted at").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()


def test_roll_back_on_a_phone(phone: Watched, team: Team) -> None:
    page = phone.open(f"/models/{team.model}")
    page.get_by_role("button", name="Roll back @champion").click()
    dialog = page.get_by_role("dialog", name=f"Roll back @champion of {team.model}")
    dialog.get_by_label("Why").fill("3 a.m.")
    button = dialog.get_by_role("button", name="Roll back to version 2")
    box = button.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    assert box["height"] >= 40
    button.click()
    expect(dialog.get_by_text("accepted at").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_promote_a_new_alias(reader: Watched, team: Team) -> None:
    page = reader.open(f"/models/{team.model}")
    page.get_by_role("button", name="Promote…").click()
    dialog = page.get_by_role("dialog", name=f"Promote a version of {team.model}")
    expect(dialog).to_contain_text("@champion is version 3 already")
    dialog.get_by_label("Version").select_option("1")
    dialog.get_by_label("Becomes").select_option("another alias…")
    dialog.get_by_label("Alias", exact=True).fill("shadow")
    dialog.get_by_label("Why").fill("shadow traffic")
    expect(dialog).to_contain_text("@shadow: none → 1")
    dialog.get_by_role("button", name="Promote version 1").click()
    expect(dialog).to_contain_text("accepted at")
    assert team.ask("GET", f"{team.path}/aliases/shadow")["version"] == 1


def test_why_is_this_in_production(reader: Watched, team: Team) -> None:
    team.alias("champion", 2, 3, "rollback: incident 41", "ada")
    team.alias("champion", 1, 3, "too late", "nightly")
    page = reader.open("/models")
    section = page.get_by_role("region", name=team.model, exact=True)
    section.get_by_role("row", name="@champion").get_by_role("link", name="version 2").click()
    sentence = page.get_by_role("heading", level=1)
    expect(sentence).to_contain_text(f"Version 2 of {team.model} is @champion since")
    expect(sentence).to_contain_text(
        "because rollback: incident 41, set by ada; before it, version 3"
    )
    row = page.get_by_role("region", name="Evidence").get_by_role("row", name="loss", exact=False)
    expect(row.first).to_contain_text("lower")
    race = page.get_by_role("region", name="Race")
    expect(race).to_contain_text("ada was first by")
    expect(race).to_contain_text("too late")
    expect(race).to_contain_text("expected to point at version 3, but it is found")
    expect(page.get_by_role("region", name="Proof")).to_contain_text("Chain verified to")
    drawing = page.get_by_role("group", name="From left to right:")
    assert "run trial-1, " in str(drawing.get_attribute("aria-label"))
    expect(page.get_by_role("region", name="Against another version")).to_contain_text("lr")
    # A comment is an event like any other.
    page.get_by_label("Comment", exact=True).fill("scores of new merchants are off")
    page.get_by_role("button", name="Comment").click()
    expect(page.get_by_role("region", name="Comments")).to_contain_text("scores of new merchants")
    # An hour before, another version was the answer.
    events = team.ask("GET", f"/audit?limit=100&model={team.model}")["events"]
    before = next(one["log_offset"] for one in events if one["reason"] == "release train 48")
    page.goto(f"{reader.url}/models/{team.model}/versions/3?at=registry:0:{before}")
    expect(sentence).to_contain_text("because release train 48, set by bob")
    assert page.get_by_role("button", name="Roll back").count() == 0
    assert page.get_by_label("Comment", exact=True).count() == 0


def test_nothing_writes_in_the_past(reader: Watched, team: Team) -> None:
    events = team.ask("GET", "/audit?limit=1&model=" + team.model)["events"]
    first = events[0]["log_offset"] - 3  # before version 3 was promoted
    page = reader.open(f"/models/{team.model}?at=registry:0:{first}")
    expect(page.get_by_role("region", name="Holders")).to_contain_text("shadow week looks right")
    assert page.get_by_role("button", name="Roll back").count() == 0
    assert page.get_by_role("button", name="Promote").count() == 0
    page.get_by_role("button", name="Back to now").click()
    expect(page.get_by_role("button", name="Roll back @champion")).to_be_visible()


def test_who_set_a_tag_on_focus(reader: Watched, team: Team) -> None:
    page = reader.open(f"/models/{team.model}")
    page.get_by_role("button", name="owner risk").focus()
    tip = page.get_by_role("tooltip")
    expect(tip).to_contain_text("Set by grace")
    page.keyboard.press("Escape")
    expect(tip).not_to_be_visible()
