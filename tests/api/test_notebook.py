"""What notebooks show, and `modeltrail open`: both lead to the page of a server."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from api_server import Server, modeltrail
from modeltrail.api import QueryResult, query
from modeltrail.api.results import _cell
from modeltrail.producers import Run, active_run, notebook, start_run
from modeltrail.producers.notebook import link, run_html, sparkline
from open_runs import end_open_runs


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("server") / "data")
    try:
        started.ready()
        yield started
    finally:
        started.stop()


@pytest.fixture(autouse=True)
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An outbox of the test's own. Runs that it leaves open end with it."""
    monkeypatch.setenv("MODELTRAIL_OUTBOX", str(tmp_path / "outbox"))
    monkeypatch.delenv("MODELTRAIL_URL", raising=False)
    yield
    end_open_runs()
    assert active_run() is None


class _Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


def _logged(url: str, name: str | None = None) -> Run:
    with start_run("notebook", name, url=url) as run:
        for step in range(20):
            run.log({"loss": 1 / (step + 1), "<b>odd</b>": float("nan")}, step=step)
    return run


def test_a_run_shows_its_metrics_and_links_to_its_page(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "_ASK_TIMEOUT_S", 30.0)  # this is not about speed
    run = _logged(server.url, name="<img src=x onerror=alert(1)>")
    page = run._repr_html_()
    assert f'href="{server.url}/runs/{run.run_id}"' in page
    assert ">loss</td>" in page
    assert ">20</td>" in page
    assert "&lt;b&gt;odd&lt;/b&gt;" in page  # NaN only: no line for it
    plain = {"p", "b", "a", "code", "table", "thead", "tbody", "tr", "th", "td", "svg", "path"}
    assert set(_Tags(page).found) <= plain
    assert page.count("<svg") == 1
    assert re.search(r'd="M2\.0 2\.0L', page), "the line begins at the top left: the greatest value"


def test_a_run_in_a_folder_links_to_the_server_of_the_folder(
    server: Server, tmp_path: Path
) -> None:
    settings = start_run(url=str(server.data)).settings
    run = Run("0" * 32, settings, user=None, owner=False)
    assert f'href="{server.url}/runs/{run.run_id}"' in run._repr_html_()
    alone = _logged(str(tmp_path / "alone"))
    page = alone._repr_html_()
    assert "FINISHED" in page
    assert alone.run_id in page
    assert "<a " not in page


def test_a_server_that_is_silent_or_gone_delays_a_notebook_briefly(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        settings = start_run(url=str(tmp_path / "data")).settings
        url = f"http://ada:secret@127.0.0.1:{deaf.getsockname()[1]}"
        run = Run("0" * 32, settings._replace(url=url), user=None, owner=False)
        began = time.monotonic()
        page = run_html(run)
        assert time.monotonic() - began < 3
    assert "RUNNING" in page
    assert "secret" not in page
    assert "RUNNING" in run_html(run)  # now nobody listens


def test_a_run_never_raises_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start_run(name="<i>", url=str(tmp_path / "data"))
    with monkeypatch.context() as broken:
        broken.setattr(run, "settings", None)
        broken.setattr(Run, "__repr__", lambda self: "<odd>")
        assert run_html(run) == "<pre>&lt;odd&gt;</pre>"


def test_a_result_links_to_the_page_that_shows_it(server: Server) -> None:
    result = query("SELECT 1 AS \"<b>\", 'a' < 'b' AS y", url=server.url)
    page = result._repr_html_()
    assert f"{server.url}/sql?q=SELECT+1+AS+%22%3Cb%3E%22" in page
    assert "&lt;b&gt;" in page
    assert query("SELECT ?", [1], url=server.url).page is None
    assert query(f"SELECT 1 -- {'x' * 5_000}", url=server.url).page is None


def test_lists_of_numbers_are_lines() -> None:
    assert "<svg" in _cell([1, 2, None, float("nan"), 3.5])
    assert "<svg" not in _cell(["a", "b"])
    assert "<svg" not in _cell([1])
    assert QueryResult(["x"], [([0, 1],)], None)._repr_html_().count("<svg") == 1


@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 5,
        [1.7e308, -1.7e308],
        [float("inf"), 1.0, 2.0, float("-inf")],
        [10**400, 1],
        ["1", "x"],
        [],
    ],
    ids=["flat", "huge", "infinite", "beyond floats", "text", "empty"],
)
def test_a_line_of_odd_values_is_drawn_or_left_out(values: list[float]) -> None:
    drawn = sparkline(values)
    assert drawn == "" or re.fullmatch(
        r'<svg .*<path d="(M[\d.]+ [\d.]+(L[\d.]+ [\d.]+)*)+".*', drawn
    )


def test_no_spike_is_lost_in_a_line() -> None:
    values = [0.0] * 10_000
    values[7_777] = 1.0
    ys = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", sparkline(values))]
    assert min(ys) == 2.0
    assert len(ys) < 600


def test_only_pages_are_linked() -> None:
    assert link("javascript:alert(1)", "x") == "x"
    assert 'href="http://h/?a=1&amp;b=%22"' in link("http://h/?a=1&b=%22", "x")


def test_open_prints_the_address(server: Server, tmp_path: Path) -> None:
    done = modeltrail("open", "--data", str(server.data), "--print")
    assert (done.returncode, done.stdout) == (0, f"{server.url}/\n")
    done = modeltrail("open", "models/a b", "--server", "http://ada:pw@h:1/x", "--print")
    assert done.stdout == "http://h:1/x/models/a%20b\n"
    done = modeltrail("open", "--data", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "modeltrail serve --data" in done.stderr


def test_open_opens_the_browser(server: Server, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{seen}"\n')
    browser.chmod(0o755)
    done = modeltrail("open", "sql", "--data", str(server.data), env={"BROWSER": f"{browser} %s"})
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{server.url}/sql\n", "")
    assert seen.read_text() == f"{server.url}/sql\n"
    none = {"BROWSER": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    done = modeltrail("open", "--data", str(server.data), env=none)
    assert done.returncode == 0
    assert "no browser" in done.stderr
    assert done.stdout == f"{server.url}/\n"
