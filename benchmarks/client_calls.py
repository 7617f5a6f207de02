"""What an unmodified MLflow client does for a benchmark; runs in an environment that has MLflow.

    python benchmarks/client_calls.py WHAT URL '{"argument": ...}'

prints what it measured as JSON. It knows nothing of Modeltrail, so that both servers get the same.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

FILTER = "metrics.accuracy > 0.5 and params.model = 'resnet'"
ORDER = ["metrics.loss ASC"]


def timed(n: int, call: Callable[[int], object], warm: int = 5) -> list[float]:
    """Seconds that each of n calls takes, after a few that do not count."""
    for i in range(warm):
        call(-1 - i)
    times = []
    for i in range(n):
        began = time.perf_counter()
        call(i)
        times.append(time.perf_counter() - began)
    return times


def log_metric(client: Any, n: int) -> Any:
    """Points logged one by one."""
    run = client.create_run("0").info.run_id
    return timed(n, lambda i: client.log_metric(run, "loss", 1 / (i + 10), step=i))


def create_run(client: Any, n: int) -> Any:
    """Runs started as ``mlflow.start_run`` does it, with the tags that it sends."""
    tags = {
        "mlflow.user": "ada",
        "mlflow.source.name": "train.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.runName": "bench",
    }
    return timed(n, lambda i: client.create_run("0", tags=tags))


def log_batch(client: Any, n: int) -> Any:
    """Batches of 1,000 points, from when stdin says so; when they began and ended."""
    from mlflow.entities import Metric

    run = client.create_run("0").info.run_id
    batches = [
        [Metric(f"metric_{k}", 1 / (k + s + 1), 1_700_000_000_000 + s, s) for s in steps
         for k in range(10)]
        for steps in (range(b * 100, b * 100 + 100) for b in range(n))
    ]  # fmt: skip
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.time()
    for batch in batches:
        client.log_batch(run, metrics=batch)
    return {"began": began, "ended": time.time(), "points": 1_000 * n}


def log_batch_http(client: Any, n: int) -> Any:
    """The same requests as ``log_batch`` sends, made beforehand and sent by plain HTTP."""
    url = urlsplit(client.tracking_uri)
    run = client.create_run("0").info.run_id
    bodies = [
        json.dumps(
            {
                "run_id": run,
                "metrics": [
                    {"key": f"metric_{k}", "value": 1 / (k + s + 1),
                     "timestamp": 1_700_000_000_000 + s, "step": s}
                    for s in range(b * 100, b * 100 + 100) for k in range(10)
                ],
            }
        )
        for b in range(n)
    ]  # fmt: skip
    connection = http.client.HTTPConnection(url.netloc)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.time()
    for body in bodies:
        connection.request(
            "POST", "/api/2.0/mlflow/runs/log-batch", body, {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        if answer.read() and answer.status != 200:
            raise RuntimeError(f"answered {answer.status}")
    return {"began": began, "ended": time.time(), "points": 1_000 * n}


def search_runs(client: Any, n: int, experiment: str) -> Any:
    """100 runs by filter and order."""

    def search(_: int) -> None:
        found = client.search_runs([experiment], FILTER, order_by=ORDER, max_results=100)
        if len(found) != 100:
            raise RuntimeError(f"{len(found)} runs were found, not 100")

    return timed(n, search, warm=1)


def history(client: Any, run: str, points: int) -> Any:
    """All points of a metric."""
    began = time.perf_counter()
    found = len(client.get_metric_history(run, "long"))
    if found != points:
        raise RuntimeError(f"{found:,} points came, not {points:,}")
    return time.perf_counter() - began


def history_http(client: Any, run: str, points: int) -> Any:
    """The same pages as ``history`` asks for, by plain HTTP, and not read but for their token."""
    connection = http.client.HTTPConnection(urlsplit(client.tracking_uri).netloc)
    asked = {"run_id": run, "metric_key": "long", "max_results": 25_000}
    found = 0
    began = time.perf_counter()
    while True:
        connection.request("GET", f"/api/2.0/mlflow/metrics/get-history?{urlencode(asked)}")
        data = connection.getresponse().read()
        found += data.count(b'"timestamp"')
        token = re.search(rb'"next_page_token": ?"([^"]+)"', data)
        if token is None:
            break
        asked["page_token"] = token[1].decode()
    if found != points:
        raise RuntimeError(f"{found:,} points came, not {points:,}")
    return time.perf_counter() - began


def promote(client: Any, n: int) -> Any:
    """An alias moved to and fro between two versions."""
    client.create_registered_model("bench")
    for _ in range(2):
        client.create_model_version("bench", "s3://models/bench")
    return timed(
        n, lambda i: client.set_registered_model_alias("bench", "champion", str(i % 2 + 1))
    )


def experiment(client: Any, name: str) -> Any:
    """A new experiment's id."""
    return client.create_experiment(name)


CALLS = {f.__name__: f for f in (
    log_metric, create_run, log_batch, log_batch_http, search_runs, history, history_http, promote,
    experiment,
)}  # fmt: skip


def main() -> None:
    """Do what the command line says."""
    from mlflow import MlflowClient

    what, url, arguments = sys.argv[1:]
    print(json.dumps(CALLS[what](MlflowClient(url), **json.loads(arguments))))


if __name__ == "__main__" and len(sys.argv) > 1:
    main()
