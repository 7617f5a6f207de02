"""One server with demo data and one Chromium for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

import page_world
from api_server import Server
from browsers import Watched, a_browser, build_page, watched


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium; the test is skipped where there is none."""
    with a_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def built() -> None:
    """The page is built from the sources that are here."""
    build_page()


@pytest.fixture(scope="session")
def world(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with demo data. Tests that write make things of their own in it."""
    server = Server(tmp_path_factory.mktemp("page") / "data")
    try:
        server.ready()
        page_world.fill(server)
        yield server
    finally:
        server.stop()


@pytest.fixture
def reader(browser: Browser, world: Server) -> Iterator[Watched]:
    """A page of the demo server: it fails on CSP reports, foreign requests and console errors."""
    with watched(browser, world.url) as page:
        yield page
