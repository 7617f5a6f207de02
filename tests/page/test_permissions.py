"""Stories of people with rights: one who may see one team's work only, and one who signs in."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from api_server import Server
from browsers import ROOT, Watched, watched

SETTLED_MS = 700
"""By then a page has asked for everything that it shows; the live connection never ends."""
ADMIN = "one two three four"
PASSWORD = "correct horse battery"
SECRET = "zebra"
"""Is in every name, value and reason that the team's member may not see."""


def fill(admin: httpx.Client) -> None:
    """Two teams with the same things; all words of the other one have SECRET in them."""
    for team in ("open", SECRET):
        created = admin.post("/api/v1/experiments", json={"name": f"{team}-team"})
        assert created.is_success, created.text
        for n in range(3):
            run = admin.post(
                "/api/2.0/mlflow/runs/create",
                json={
                    "experiment_id": created.json()["experiment_id"],
                    "run_name": f"{team}-run-{n}",
                    "tags": [{"key": f"{team}-tag", "value": f"{team}-value"}],
                },
            )
            id = run.json()["run"]["info"]["run_id"]
            for call, body in (
                ("log-parameter", {"key": f"{team}-param", "value": f"{team}-one"}),
                ("log-metric", {"key": f"{team}-loss", "value": n, "step": 0, "timestamp": 1}),
                ("log-metric", {"key": "loss", "value": n, "step": 0, "timestamp": 1}),
            ):
                done = admin.post(f"/api/2.0/mlflow/runs/{call}", json={"run_id": id, **body})
                assert done.is_success, done.text
        version = admin.post(
            f"/api/v1/models/{team}-model/versions",
            json={"source": f"runs:/{id}/{team}", "run_id": id, "create_model": True},
        )
        assert version.is_success, version.text
        for alias, expected, status in (("champion", 0, 200), ("champion", 7, 409)):
            body = {"version": 1, "expected": expected, "reason": f"{team} reason"}
            answer = admin.put(f"/api/v1/models/{team}-model/aliases/{alias}", json=body)
            assert answer.status_code == status, answer.text


@pytest.fixture(scope="module")
def guarded(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with --auth: bob may read what belongs to the open team."""
    server = Server(
        tmp_path_factory.mktemp("guarded") / "data",
        "--auth",
        *("--default-permission", "none"),
        env={"MODELTRAIL_ADMIN_PASSWORD": ADMIN},
    )
    try:
        server.ready()
        with httpx.Client(base_url=server.url, auth=("admin", ADMIN), timeout=30) as admin:
            fill(admin)
            made = admin.post("/api/v1/users", json={"user": "bob", "password": PASSWORD})
            assert made.is_success, made.text
            for resource, pattern in (("experiment", "open-*"), ("registered_model", "open-*")):
                granted = admin.put(
                    "/api/v1/permissions",
                    json={
                        "user": "bob",
                        "resource": resource,
                        "pattern": pattern,
                        "permission": "READ",
                    },
                )
                assert granted.is_success, granted.text
        yield server
    finally:
        server.stop()


@pytest.fixture
def bob(browser: Browser, guarded: Server) -> Iterator[Watched]:
    """A page in which bob has signed in."""
    with watched(browser, guarded.url) as page:
        page.expected += ["401 (Unauthorized)", "403 (Forbidden)", "404 (Not Found)"]
        opened = page.open("/runs")
        opened.get_by_label("User").fill("bob")
        opened.get_by_label("Password").fill(PASSWORD)
        opened.keyboard.press("Enter")
        expect(opened.get_by_role("link", name="open-run-0", exact=True)).to_be_visible()
        yield page


def addresses(secret_run: str) -> list[str]:
    """An address of every page; of what has a name or an id, the open team's and the other's."""
    routes = (ROOT / "api" / "page" / "src" / "frame" / "routes.ts").read_text()
    paths = re.findall(r'\{ path: "([^"]+)"', routes)
    assert "/runs" in paths
    found = ["/runs?filter=metrics.loss<9", "/runs?group=user"]
    for path in paths:
        for team in ("open", SECRET) if ":" in path else ("",):
            named = path.replace(":model", f"{team}-model").replace(":version", "1")
            found.append(re.sub(r":run\w*", secret_run, named).replace(":offset", "5"))
    assert not [path for path in found if ":" in path], found
    return found


def test_a_member_of_one_team_sees_that_team_only(bob: Watched, guarded: Server) -> None:
    with httpx.Client(base_url=guarded.url, auth=("admin", ADMIN), timeout=30) as admin:
        answer = admin.post("/api/v1/runs/query", json={"columns": ["run_id", "run_name"]})
        secret = [row["run_id"] for row in answer.json()["rows"] if SECRET in row["run_name"]]
    assert len(secret) == 3
    leaks: list[str] = []

    def look(route: Route) -> None:
        """Let a request through, and read the answer before the page does."""
        answer = route.fetch()
        asked = route.request.url + (route.request.post_data or "")
        text = answer.text() if answer.ok else ""
        if SECRET in text and SECRET not in asked:
            leaks.append(f"{route.request.method} {asked}: {text[:300]}")
        leaks.extend(f"{asked} names run {id}" for id in secret if id in text and id not in asked)
        route.fulfill(response=answer)

    page = bob.page
    # The live connection is a stream, which has no end; tests of its route look at it.
    page.route(re.compile(r"/api/v1/(?!live)"), look)
    for path in addresses(secret[0]):
        bob.open(path)
        page.wait_for_timeout(SETTLED_MS)
        shown = page.inner_text("main")
        own = shown.replace(f"{SECRET}-model", "")  # a page repeats the address it was given
        assert SECRET not in own, (path, shown)
    bob.open("/runs")
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox", name="Go to")).to_be_focused()
    page.keyboard.type(SECRET[:4])
    page.wait_for_timeout(SETTLED_MS)
    assert SECRET not in page.inner_text("body").replace(SECRET[:4] + '"', "")
    page.unroute_all(behavior="wait")
    assert not leaks, leaks


def test_signing_out_ends_the_session(bob: Watched, guarded: Server) -> None:
    page = bob.open("/models")
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    with httpx.Client(base_url=guarded.url, cookies={cookie["name"]: cookie["value"]}) as client:
        assert client.get("/api/v1/models").status_code == 401
