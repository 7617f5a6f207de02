"""Sign-in and the page Access, on a server with --auth."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from access_users import basic
from api_server import Server
from browsers import Watched, axe, watched

PASSWORD = "correct horse battery staple"


class Guarded(Server):
    """A server with an administrator, and with ada, who may read one experiment."""

    def ask_as(self, user: str, method: str, path: str, body: Any = None) -> Any:
        headers = {**basic(user, PASSWORD), "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def guarded(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    server = Guarded(
        tmp_path_factory.mktemp("guarded") / "data",
        *("--auth", "--default-permission", "none"),
        env={"MODELTRAIL_ADMIN_PASSWORD": PASSWORD},
    )
    try:
        server.ready()
        ada = {"user": "ada", "password": PASSWORD, "reason": "joins the team"}
        server.ask_as("admin", "POST", "/api/v1/users", ada)
        grant = {"user": "ada", "resource": "experiment", "pattern": "/vision/*"}
        more = {"permission": "READ", "reason": "reads <b>vision</b>"}
        server.ask_as("admin", "PUT", "/api/v1/permissions", {**grant, **more})
        yield server
    finally:
        server.stop()


@pytest.fixture
def visitor(browser: Browser, guarded: Guarded) -> Iterator[Watched]:
    with watched(browser, guarded.url) as page:
        page.expected.append("401")
        yield page


def _sign_in(visitor: Watched, path: str, user: str, password: str = PASSWORD) -> Page:
    page = visitor.open(path)
    page.get_by_label("User", exact=True).fill(user)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    return page


def test_sign_in_and_out_with_the_keyboard(visitor: Watched) -> None:
    page = _sign_in(visitor, "/access", "ada", "wrong")
    expect(page.get_by_role("alert")).to_be_visible(timeout=30_000)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Access", level=1)).to_be_visible(timeout=30_000)
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    cookie = cookies["modeltrail_session"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Password")).to_be_visible()


def test_what_a_reader_may_not_do_is_not_offered(visitor: Watched, guarded: Guarded) -> None:
    visitor.expected.append("403")
    page = _sign_in(visitor, "/access", "ada")
    expect(page.get_by_text("may not administer")).to_be_visible(timeout=30_000)
    permissions = page.get_by_role("region", name="Permissions")
    expect(permissions).to_contain_text("/vision/*")
    expect(permissions).to_contain_text("reads <b>vision</b>")
    expect(permissions.get_by_role("button", name=re.compile("Take back"))).to_have_count(0)
    expect(page.get_by_role("heading", name="Users")).to_have_count(0)
    expect(page.get_by_role("link", name="SQL", exact=True)).to_have_count(0)
    page.goto(f"{guarded.url}/sql")
    expect(page.get_by_text("SQL is for those who may read everything")).to_be_visible()


def test_a_token_is_made_shown_once_and_revoked(visitor: Watched, guarded: Guarded) -> None:
    page = _sign_in(visitor, "/access", "ada")
    page.get_by_role("button", name="New token").click(timeout=30_000)
    page.get_by_label("What is it for?").fill("nightly <i>job</i>")
    page.get_by_label("It ends after").select_option("90 days")
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_label("Why").fill("the nightly job needs it")
    page.get_by_role("button", name="Make the token").click()
    shown = page.get_by_role("dialog", name="The token").locator("pre")
    token = str(shown.text_content(timeout=30_000))
    page.get_by_role("button", name="I have it").click()

    def status(token: str) -> int:
        request = urllib.request.Request(f"{guarded.url}/api/v1/whoami")
        request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert status(token) == 200
    (made,) = [
        one
        for one in guarded.ask_as("ada", "GET", "/api/v1/tokens")["tokens"]
        if one["description"]
    ]
    assert made["made_by_token"] is None
    row = page.get_by_role("row").filter(has_text="nightly <i>job</i>")
    expect(row).to_contain_text(re.compile("in 2 months|in 90 d"))
    page.get_by_role("button", name="Revoke nightly <i>job</i>").click()
    page.get_by_label("Why").fill("the job is gone")
    page.get_by_role("button", name="Revoke the token").click()
    expect(page.get_by_role("button", name="Revoke nightly <i>job</i>")).to_have_count(0)
    assert status(token) == 401
    events = guarded.ask_as("admin", "GET", "/api/v1/audit?type=RevokeToken")["events"]
    assert events[0]["reason"] == "the job is gone"


def test_permissions_then_and_now(visitor: Watched, guarded: Guarded) -> None:
    page = _sign_in(visitor, "/access", "admin")
    permissions = page.get_by_role("region", name="Permissions")
    expect(permissions).to_contain_text("/vision/*", timeout=30_000)
    expect(page.get_by_role("region", name="Users")).to_contain_text("ada")
    assert axe(page) == []
    granted = guarded.ask_as("admin", "GET", "/api/v1/audit?type=GrantPermission")["events"][0]
    before = granted["log_offset"] - 1
    page.goto(f"{guarded.url}/access?at=registry:0:{before}")
    expect(page.get_by_text("what was granted at")).to_be_visible(timeout=30_000)
    expect(permissions).to_have_count(0)
    page.goto(f"{guarded.url}/access?at=registry:0:{before + 1}")
    expect(permissions).to_contain_text("/vision/*", timeout=30_000)
    expect(page.get_by_role("button", name=re.compile("Take back|New token"))).to_have_count(0)
