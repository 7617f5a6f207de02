"""Take pictures of every page of a server: `python docs/pictures.py http://127.0.0.1:5000`.

They are PNG files, one for each page, theme and width, named as in `models-dark-360.png`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

SIZES = ((1440, 900), (360, 740))
SETTLED_MS = 2_500
"""By then a page has drawn its charts; the live connection never ends."""


def ask(url: str, body: dict[str, Any]) -> Any:
    """Return the rows of a query for runs, as JSON."""
    data = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
        return json.load(answer)["rows"]


def pages(url: str) -> dict[str, str]:
    """Return the name and address of each page, with the things that the server has."""
    found = {name: f"/{name}" for name in ("runs", "models", "audit", "diff", "incident")}
    found |= {name: f"/{name}" for name in ("sql", "live", "status", "access", "docs")}
    runs = [str(row["run_id"]) for row in ask(f"{url}/api/v1/runs/query", {"columns": ["run_id"]})]
    if runs:
        found["run"] = f"/runs/{runs[0]}"
        found["compare"] = f"/compare?runs={','.join(runs[:6])}"
    with urllib.request.urlopen(f"{url}/api/v1/models", timeout=30) as answer:
        models = json.load(answer)["models"]
    if models:
        found["model"] = f"/models/{models[0]['model']}"
        found["version"] = f"/models/{models[0]['model']}/versions/1"
    return found


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url", help="a server without --auth")
    parser.add_argument("--into", type=Path, default=Path(__file__).parent / "pictures")
    arguments = parser.parse_args()
    url = arguments.url.rstrip("/")
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        raise SystemExit("no Chromium is installed (on Debian: apt-get install chromium)")
    arguments.into.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for name, address in pages(url).items():
            for theme in ("light", "dark"):
                for width, height in SIZES:
                    page = browser.new_page(viewport={"width": width, "height": height})
                    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
                    page.goto(url + address)
                    page.wait_for_timeout(SETTLED_MS)
                    page.screenshot(path=arguments.into / f"{name}-{theme}-{width}.png")
                    page.close()
            sys.stdout.write(f"{name}\n")
        browser.close()


if __name__ == "__main__":
    main()
