"""How long the query for runs takes over 100,000 runs, and one run as of a moment.

    python benchmarks/runs_query.py [--runs 100_000] [--times 15] [--check]

Times are those of whole answers over HTTP on one connection, and the CPU time of the server for
each, with all of its threads.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from filling import fill_modeltrail
from server import Server, cpu_seconds, serve

from modeltrail.eventlog import open_log

_ATTRIBUTES = ["run_id", "run_name", "status", "start_time", "duration_s", "user"]
_PARAMS = ["params.model", "params.lr", "params.batch_size"]
_METRICS = ["metrics.accuracy", "metrics.loss", "metrics.f1.min"]
_TWELVE = [*_ATTRIBUTES, *_PARAMS, *_METRICS]
_ARROW = {"Accept": "application/vnd.apache.arrow.stream"}

QUERIES: dict[str, tuple[int, dict[str, Any]]] = {
    "first window of 12 columns": (60, {}),
    "window in the middle": (80, {"offset": 50_000}),
    "sorted by a metric": (200, {"order": [{"column": "metrics.loss"}]}),
    "sorted by the minimum of a metric": (200, {"order": [{"column": "metrics.loss.min"}]}),
    "filter by a name": (60, {"filter": "run_name LIKE '%99%'"}),
    "filter by metric and param": (
        60,
        {"filter": "metrics.accuracy > 0.9 AND (params.model = 'vit' OR params.seed = '7')"},
    ),
    "group by with mean and deviation": (300, {"group": ["params.model"]}),
    "tree with children": (200, {"tree": True, "columns": [*_TWELVE, "children"]}),
    "window with four facets": (
        300,
        {"facets": ["status", "user", "params.model", "params.optimizer"]},
    ),
    "window with the keys": (300, {"keys": True}),
    "as of a moment, what is kept": (80, {"as_of": "MOMENT", "columns": _ATTRIBUTES}),
    "as of a moment, 100 runs folded": (300, {"as_of": "MOMENT"}),
}
"""What is asked, and the milliseconds aimed at on a quiet machine."""


def _ask(server: Server, method: str, path: str, body: Any, headers: dict[str, str]) -> bytes:
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=120)
    try:
        said = None if body is None else json.dumps(body)
        connection.request(method, path, said, {**server.headers, **headers})
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {data.decode()[:500]}")
        return data
    finally:
        connection.close()


def _measure(
    server: Server, times: int, method: str, path: str, body: Any, headers: dict[str, str]
) -> tuple[float, float]:
    """Return the median time of an answer, and the mean CPU time, in ms."""
    _ask(server, method, path, body, headers)
    took: list[float] = []
    cpu = cpu_seconds(server.process.pid)
    for _ in range(times):
        began = time.perf_counter()
        _ask(server, method, path, body, headers)
        took.append(time.perf_counter() - began)
    cpu = cpu_seconds(server.process.pid) - cpu
    return statistics.median(took) * 1000, cpu * 1000 / times


def main() -> int:
    """Fill a server, ask it, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--check", action="store_true", help="fail where CPU is over the goal")
    options = parser.parse_args()
    slow = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        log = open_log(str(data))
        fill_modeltrail(log, "0", 0, options.runs)
        log.close()
        with serve(data) as server:
            server.request("POST", "/api/v1/runs/query", {"limit": 1})
            (run_id, position), *_ = server.sql(
                f"SELECT run_id, position FROM runs ORDER BY start_time OFFSET {options.runs // 2}"
                " LIMIT 1"
            )
            print(f"{'':36} {'goal':>6} {'answer':>8} {'CPU':>8}")
            asked: list[tuple[str, int, str, str, dict[str, Any] | None]] = [
                (name, goal, "POST", "/api/v1/runs/query", {"columns": _TWELVE, **body})
                for name, (goal, body) in QUERIES.items()
            ]
            asked.append(("one run", 80, "GET", f"/api/v1/runs/{run_id}", None))
            path = f"/api/v1/runs/{run_id}?as_of={position}"
            asked.append(("one run as of a moment", 80, "GET", path, None))
            for name, goal, method, path, body in asked:
                if body is not None and body.get("as_of"):
                    body["as_of"] = position
                headers = _ARROW if method == "POST" else {}
                ms, cpu = _measure(server, options.times, method, path, body, headers)
                print(f"{name:36} {goal:3} ms {ms:5.0f} ms {cpu:5.0f} ms")
                if cpu > goal:
                    slow.append(name)
    if options.check and slow:
        print(f"over the goal: {', '.join(slow)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
