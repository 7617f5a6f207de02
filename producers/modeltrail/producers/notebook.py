"""What a notebook shows of a run: HTML without scripts, which every front end can display."""

from __future__ import annotations

import html
import json
import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from modeltrail.producers.run import Run

_ASK_TIMEOUT_S = 0.7
_METRICS_SHOWN = 6
_ANSWER_BYTES_MAX = 4 * 1024 * 1024
_POINTS_MAX = 10_000
_WIDTH, _HEIGHT = 120, 20
_EDGE = 2


def sparkline(values: Sequence[float | None]) -> str:
    """Return a line through the values as inline SVG; empty if fewer than two can be drawn.

    The line has the colour of the text around it. It breaks where a value is None or not finite.
    More values than pixels are drawn as the least and greatest of each pixel, so no spike is lost.
    """
    try:
        numbers = [float("nan") if value is None else float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        return ""
    finite = [value for value in numbers if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, high = min(finite), max(finite)
    # Divided before they are subtracted: the difference of two large floats may be infinite.
    span = high / 2 - low / 2
    last = len(numbers) - 1
    parts: list[str] = []
    pen = "M"
    for at, value in _thinned(numbers):
        if not math.isfinite(value):
            pen = "M"
            continue
        x = _EDGE + at / last * (_WIDTH - 2 * _EDGE)
        share = (value / 2 - low / 2) / span if span else 0.5
        y = _HEIGHT - _EDGE - share * (_HEIGHT - 2 * _EDGE)
        parts.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="from {numbers[0]:.4g} to {numbers[-1]:.4g}">'
        f'<path d="{"".join(parts)}" fill="none" stroke="currentColor" stroke-width="1.25" '
        'stroke-linejoin="round" stroke-linecap="round"/></svg>'
    )


def _thinned(numbers: list[float]) -> list[tuple[int, float]]:
    """Return the places and values to draw: at most four for each pixel."""
    size = max(1, -(-len(numbers) // _WIDTH))
    if size <= 4:
        return list(enumerate(numbers))
    kept: set[int] = set()
    for start in range(0, len(numbers), size):
        part = range(start, min(start + size, len(numbers)))
        known = [at for at in part if math.isfinite(numbers[at])]
        kept |= {part[0], part[-1]}
        if known:
            kept |= {min(known, key=numbers.__getitem__), max(known, key=numbers.__getitem__)}
    return [(at, numbers[at]) for at in sorted(kept)]


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Return a table. The cells are HTML."""
    top = f"<thead><tr>{_cells('th', head)}</tr></thead>" if head else ""
    body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
    return f"<table>{top}<tbody>{body}</tbody></table>"


def _cells(tag: str, cells: Sequence[str]) -> str:
    return "".join(f'<{tag} style="text-align:left">{cell}</{tag}>' for cell in cells)


def link(url: str, text: str) -> str:
    """Return a link to the page; only the text if the URL is not one of HTTP."""
    shown = html.escape(text)
    if not url.lower().startswith(("http://", "https://")):
        return shown
    return f'<a href="{html.escape(url)}" target="_blank" rel="noopener">{shown}</a>'


def run_html(run: Run) -> str:
    """Return a run as a small table: its status, and the metrics that its server has.

    Asks the server for at most 0.7 s, and shows less if there is no answer. Never raises.
    """
    try:
        server = _server_of(run)
        metrics = [] if server is None else _ask(server, run)
        return _html(run, server, metrics)
    except Exception:  # a notebook must not fail because of what it displays
        return f"<pre>{html.escape(repr(run))}</pre>"


def _html(run: Run, server: str | None, metrics: list[list[str]]) -> str:
    name = run.name or run.run_id
    title = html.escape(name) if server is None else link(_page(server, run), name)
    facts = f"{html.escape(run.status)} · <code>{html.escape(run.run_id)}</code>"
    if dropped := run.points_dropped:
        facts += f" · {dropped:,} points dropped"
    head = f"<p><b>{title}</b> · {facts}</p>"
    return head + (table(metrics, ["metric", "last", "points", ""]) if metrics else "")


def _server_of(run: Run) -> str | None:
    """Return the URL of the server that shows the run, without user and password, or None."""
    from modeltrail.eventlog.address import kind_of, path_of, without_secrets
    from modeltrail.eventlog.serving import server_on

    url = run.settings.url
    kind = kind_of(url)
    found: str | None = url
    if kind == "folder":
        found = server_on(path_of(url))
    elif kind != "server":
        found = run.settings.server
    if found is None:
        return None
    return without_secrets(found).rstrip("/")


def _page(server: str, run: Run) -> str:
    return f"{server}/runs/{quote(run.run_id, safe='')}"


def _ask(server: str, run: Run) -> list[list[str]]:
    """Return a row for each of the first metrics. Empty if the server does not answer in time."""
    found: list[list[str]] = []
    done = threading.Event()

    def ask() -> None:
        try:
            for row in _metrics(server, run):
                if done.is_set():
                    return
                found.append(row)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # no server, an older one, or it refuses: what came until then is shown
        done.set()

    # A thread, because no timeout of sockets covers the look-up of a name.
    threading.Thread(target=ask, name="modeltrail-notebook", daemon=True).start()
    done.wait(_ASK_TIMEOUT_S)
    done.set()
    return list(found)


def _metrics(server: str, run: Run) -> Any:
    api = f"{server}/api/v1/runs/{quote(run.run_id, safe='')}"
    metrics = _get(api, run)["metrics"]
    for metric in metrics[:_METRICS_SHOWN]:
        key, points = str(metric["key"]), int(metric["points"])
        line = ""
        if 1 < points <= _POINTS_MAX:
            path = f"{api}/metrics/{quote(key, safe='')}?limit={_POINTS_MAX}"
            line = sparkline([_number(point["value"]) for point in _get(path, run)["points"]])
        yield [html.escape(key), f"{_number(metric['value']):.4g}", f"{points:,}", line]
    if len(metrics) > _METRICS_SHOWN:
        yield [f"and {len(metrics) - _METRICS_SHOWN:,} more", "", "", ""]


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _get(url: str, run: Run) -> Any:
    import urllib.request

    request = urllib.request.Request(url)
    if run.settings.token:
        # Not sent to a redirect's target: another host must not learn the token.
        request.add_unredirected_header("Authorization", f"Bearer {run.settings.token}")
    with urllib.request.urlopen(request, timeout=_ASK_TIMEOUT_S) as answer:
        return json.loads(answer.read(_ANSWER_BYTES_MAX))
