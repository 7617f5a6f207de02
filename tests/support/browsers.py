"""A real Chromium, and pages in it that notice what a page of ours must never do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    sync_playwright,
)

ROOT = Path(__file__).parents[2]


def chromium() -> str:
    """Path of a Chromium; without one the test is skipped, and in CI fails."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if (path := shutil.which(name)) is not None:
            return path
    reason = "no Chromium is installed (on Debian: apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def build_page() -> None:
    """Build the page if a source is newer than what is built."""
    subprocess.run([sys.executable, ROOT / "hatch_build.py"], check=True)


@contextmanager
def a_browser() -> Iterator[Browser]:
    """A headless Chromium."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


class Watched:
    """A page of the browser, and the faults that it has shown."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.url = url
        self.requests: list[str] = []
        self.faults: list[str] = []
        """CSP reports, requests to other hosts, errors on the console and uncaught exceptions."""
        self.expected: list[str] = []
        """Parts of faults that the test brings about."""
        context.add_init_script(
            "document.addEventListener('securitypolicyviolation', event => "
            "console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`))"
        )
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)
        url = urlsplit(request.url)
        if url.scheme not in ("data", "blob") and url.netloc != urlsplit(self.url).netloc:
            self.faults.append(f"request to another host: {request.url}")

    def open(self, path: str) -> Page:
        """Go to an address of the page, and wait until it shows something."""
        self.page.goto(self.url + path)
        self.page.wait_for_selector("main, .sign-in")
        return self.page

    def check(self) -> None:
        """Fail if the page did what it must not do."""
        found = [f for f in self.faults if not any(part in f for part in self.expected)]
        assert not found, found


def axe(page: Page) -> list[str]:
    """What axe-core finds wrong on a page, for readers who do not see or point."""
    source = ROOT / "api" / "page" / "node_modules" / "axe-core" / "axe.min.js"
    page.evaluate(source.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:3]}"
        for one in found["violations"]
    ]


@contextmanager
def watched(
    browser: Browser, url: str, *, width: int = 1440, height: int = 900, theme: str = "light"
) -> Iterator[Watched]:
    """A page in a browser context of its own: no cookies, no storage of another test."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if theme == "dark" else "light",
        locale="en-GB",
        timezone_id="UTC",
    )
    context.set_default_timeout(15_000)
    try:
        page = Watched(context, url)
        yield page
        page.check()
    finally:
        context.close()
