"""The frame: what every page has, and what no page may do."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from api_server import Server
from browsers import ROOT, Watched
from modeltrail.api.native.page import PAGES


def test_the_page_opens_and_shows_the_runs(reader: Watched) -> None:
    page = reader.open("/")
    expect(page.get_by_role("link", name="trial-0", exact=True)).to_be_visible()
    assert page.title() == "All runs · Modeltrail"
    assert page.get_by_role("link", name="Runs", exact=True).get_attribute("aria-current") == "page"


def test_the_theme_follows_the_system_until_it_is_chosen(reader: Watched) -> None:
    page = reader.open("/runs")

    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = ground()
    page.get_by_role("button", name="Dark theme").click()
    dark = ground()
    assert dark != light
    page.reload()
    page.wait_for_selector("main")
    assert ground() == dark
    page.goto(f"{reader.url}/runs?theme=light")
    page.wait_for_selector("main")
    assert ground() == light


def test_question_mark_lists_the_keys(reader: Watched) -> None:
    page = reader.open("/runs")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("Show the keys")
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()


def test_an_unknown_address_says_so(reader: Watched, world: Server) -> None:
    page = reader.open("/runs")
    page.evaluate("history.pushState(null, '', '/nowhere'); dispatchEvent(new Event('popstate'))")
    expect(page.get_by_text("Nothing is at this address")).to_be_visible()


def test_every_address_of_the_page_is_served() -> None:
    routes = (ROOT / "api" / "page" / "src" / "frame" / "routes.ts").read_text()
    known = re.findall(r'\{ path: "([^"]+)",.*import\("../pages/([\w-]+)/index', routes)
    assert known
    served = {re.sub(r"\{(\w+)\}", r":\1", path): page for path, page in PAGES.items()}
    assert dict(known) == served


def test_what_is_served(world: Server) -> None:
    import httpx2 as httpx

    with httpx.Client(base_url=world.url) as client:
        html = client.get("/runs", headers={"Accept": "text/html"})
        policy = html.headers["content-security-policy"]
        assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
        assert "unsafe" not in policy
        assert html.headers["cache-control"] == "no-cache"
        again = client.get("/runs", headers={"If-None-Match": html.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assets = re.findall(r'"(/assets/[^"]+)"', html.text)
        assert len(assets) >= 3
        for encodings, name in (("br, gzip", "br"), ("gzip", "gzip"), ("identity", None)):
            asset = client.get(assets[0], headers={"Accept-Encoding": encodings})
            assert asset.headers.get("content-encoding") == name
            assert "immutable" in asset.headers["cache-control"]
        assert client.get("/assets/none.js").status_code == 404
        assert client.get("/assets/..%2findex.html").status_code == 404
        assert "modeltrail sql" in client.get("/", headers={"Accept": "*/*"}).text
