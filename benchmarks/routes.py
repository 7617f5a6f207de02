"""How long every MLflow route takes to answer, with many runs stored and many clients at work.

Each client has one connection and goes through a session again and again: it makes an experiment,
a run, a model and a logged model, does everything to them that there is a route for, and searches
all runs. Metrics are logged more often than the rest. Between two requests it waits a while, as
jobs and people do; with `--pause-ms 0` it does not, and the server is saturated.

    python benchmarks/routes.py [--check] [--runs 100_000] [--clients 16] [--seconds 60] ...
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from filling import fill_modeltrail, history_modeltrail, runs
from server import Server, cpu_seconds, serve

from modeltrail.api.mlflow import (
    artifacts,
    experiments,
    history,
    logged_models,
    registry,
    service,
)
from modeltrail.api.mlflow import runs as mlflow_runs
from modeltrail.eventlog import open_log

P95_MS_MAX = 100
_HISTORY_POINTS = 5_000
_PARTS = (artifacts, experiments, history, logged_models, registry, service, mlflow_runs)
_FILES = "/api/2.0/mlflow-artifacts/artifacts"

Request = tuple[str, str, dict[str, Any] | bytes | None]
"""Method, path after ``mlflow/`` as the route has it, fields."""


def all_routes() -> set[tuple[str, str]]:
    """Method and path of every endpoint."""
    return {(m, e.path) for part in _PARTS for e in part.endpoints.all for m in e.methods}


class Client:
    """One client; its answers' times by route."""

    def __init__(self, number: int, port: int, times: dict[tuple[str, str], list[float]]) -> None:
        self.number = number
        self.dice = random.Random(number)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._times = times
        self.errors: list[str] = []

    def ask(self, method: str, route: str, fields: Any = None, **path: str) -> Any:
        """Send one request, and note how long the answer took."""
        url = route if route.startswith("/") else f"/api/2.0/mlflow/{route}"
        if route == "server-info":
            url = "/api/3.0/mlflow/server-info"
        for name, value in path.items():
            url = url.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
        body: bytes | None = None
        if isinstance(fields, bytes):
            body = fields
        elif fields is not None and method == "GET":
            url += "?" + urlencode(fields, doseq=True)
        elif fields is not None:
            body = json.dumps(fields).encode()
        began = time.perf_counter()
        self._connection.request(method, url, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        data = answer.read()
        self._times[method, route].append(time.perf_counter() - began)
        if answer.status >= 400 and answer.status != 501:
            self.errors.append(f"{method} {url}: {answer.status} {data[:300].decode()}")
        is_json = answer.getheader("content-type", "").startswith("application/json")
        return json.loads(data) if is_json and data else None


def session(client: Client, n: int, known: list[str]) -> Iterator[None]:
    """All that a client does, one request after the other."""
    unique = f"{client.number}-{n}"
    steps = [_experiment, _run, _search, _registry, _logged_model, _files]
    client.dice.shuffle(steps)  # or all clients would search at once, and then none
    for step in steps:
        yield from step(client, unique, known)


def _experiment(client: Client, unique: str, known: list[str]) -> Iterator[None]:
    ask = client.ask
    made = ask("POST", "experiments/create", {"name": f"exp-{unique}"})
    experiment = {"experiment_id": made["experiment_id"]}
    yield
    yield ask("GET", "experiments/get", experiment)
    yield ask("GET", "experiments/get-by-name", {"experiment_name": f"exp-{unique}"})
    yield ask("POST", "experiments/search", {"max_results": 50})
    yield ask("GET", "experiments/search", {"max_results": 50, "filter": "name LIKE 'exp%'"})
    tag = {**experiment, "key": "team", "value": "search"}
    yield ask("POST", "experiments/set-experiment-tag", tag)
    yield ask("POST", "experiments/delete-experiment-tag", {**experiment, "key": "team"})
    yield ask("POST", "experiments/update", {**experiment, "new_name": f"exp-{unique}-renamed"})
    yield ask("POST", "experiments/delete", experiment)
    yield ask("POST", "experiments/restore", experiment)
    yield ask("GET", "server-info")


def _run(client: Client, unique: str, known: list[str]) -> Iterator[None]:
    ask, now = client.ask, time.time_ns() // 1_000_000
    tags = [{"key": "mlflow.user", "value": "ada"}]
    made = ask("POST", "runs/create", {"experiment_id": "0", "start_time": now, "tags": tags})
    run = {"run_id": made["run"]["info"]["run_id"]}
    yield
    yield ask("POST", "runs/log-parameter", {**run, "key": "lr", "value": "0.1"})
    for step in range(10):
        metric = {"key": "loss", "value": 1 / (step + 1), "timestamp": now + step, "step": step}
        yield ask("POST", "runs/log-metric", {**run, **metric})
    for batch in range(3):
        metrics = [
            {"key": f"m{k}", "value": client.dice.random(), "timestamp": now + s, "step": s}
            for s in range(batch * 20, batch * 20 + 20)
            for k in range(10)
        ]
        yield ask("POST", "runs/log-batch", {**run, "metrics": metrics})
    yield ask("POST", "runs/set-tag", {**run, "key": "phase", "value": "train"})
    yield ask("POST", "runs/delete-tag", {**run, "key": "phase"})
    dataset = {"name": "d", "digest": "1", "source_type": "local", "source": "{}"}
    yield ask("POST", "runs/log-inputs", {**run, "datasets": [{"dataset": dataset}]})
    model = {"artifact_path": "m", "flavors": {}, "utc_time_created": "t", **run}
    yield ask("POST", "runs/log-model", {**run, "model_json": json.dumps(model)})
    yield ask("GET", "runs/get", run)
    yield ask("GET", "metrics/get-history", {**run, "metric_key": "loss", "max_results": 25_000})
    yield ask("POST", "runs/update", {**run, "status": "FINISHED", "end_time": now + 1_000})
    yield ask("POST", "runs/delete", run)
    yield ask("POST", "runs/restore", run)
    yield ask("GET", "artifacts/list", run)


def _search(client: Client, unique: str, known: list[str]) -> Iterator[None]:
    ask = client.ask
    for fields in (
        {"filter": "metrics.accuracy > 0.5 and params.model = 'resnet'",
         "order_by": ["metrics.loss ASC"]},
        {},
        {"filter": "tags.`mlflow.user` = 'ada' and attributes.status = 'FINISHED'"},
    ):  # fmt: skip
        yield ask("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 100, **fields})
    some = client.dice.sample(known, 10)
    yield ask("GET", "runs/get", {"run_id": some[0]})
    long = {"metric_key": "long", "max_results": 25_000}
    yield ask("GET", "metrics/get-history", {"run_id": known[0], **long})
    charted = {"metric_key": "loss", "max_results": 320}
    yield ask("GET", "metrics/get-history-bulk-interval", {"run_ids": some, **charted})
    yield ask("GET", "metrics/get-history-bulk", {"run_id": some, "metric_key": "loss"})


def _registry(client: Client, unique: str, known: list[str]) -> Iterator[None]:
    ask = client.ask
    model = {"name": f"model-{unique}"}
    yield ask("POST", "registered-models/create", model)
    yield ask("GET", "registered-models/get", model)
    yield ask("PATCH", "registered-models/update", {**model, "description": "text"})
    source = {"source": f"s3://bucket/{unique}", "run_id": client.dice.choice(known)}
    for _ in range(2):
        yield ask("POST", "model-versions/create", {**model, **source})
    version = {**model, "version": "1"}
    yield ask("GET", "model-versions/get", version)
    yield ask("GET", "model-versions/get-download-uri", version)
    yield ask("PATCH", "model-versions/update", {**version, "description": "text"})
    stage = {"stage": "Staging", "archive_existing_versions": True}
    yield ask("POST", "model-versions/transition-stage", {**version, **stage})
    yield ask("POST", "model-versions/set-tag", {**version, "key": "k", "value": "v"})
    yield ask("DELETE", "model-versions/delete-tag", {**version, "key": "k"})
    yield ask("POST", "registered-models/alias", {**version, "alias": "champion"})
    yield ask("GET", "registered-models/alias", {**model, "alias": "champion"})
    yield ask("DELETE", "registered-models/alias", {**model, "alias": "champion"})
    yield ask("POST", "registered-models/set-tag", {**model, "key": "k", "value": "v"})
    yield ask("DELETE", "registered-models/delete-tag", {**model, "key": "k"})
    yield ask("POST", "registered-models/get-latest-versions", model)
    yield ask("GET", "registered-models/get-latest-versions", model)
    yield ask("GET", "registered-models/search", {"max_results": 100})
    yield ask("GET", "model-versions/search", {"filter": f"name = 'model-{unique}'"})
    yield ask("DELETE", "model-versions/delete", {**model, "version": "2"})
    yield ask("POST", "registered-models/rename", {**model, "new_name": f"renamed-{unique}"})
    if client.dice.random() < 0.5:
        yield ask("DELETE", "registered-models/delete", {"name": f"renamed-{unique}"})


def _logged_model(client: Client, unique: str, known: list[str]) -> Iterator[None]:
    ask, run_id = client.ask, client.dice.choice(known)
    fields = {"experiment_id": "0", "name": "net", "source_run_id": run_id}
    model_id: str = ask("POST", "logged-models", fields)["model"]["info"]["model_id"]
    yield
    params = {"model_id": model_id, "params": [{"key": "a", "value": "1"}]}
    one = "logged-models/{model_id}"
    yield ask("POST", f"{one}/params", params, model_id=model_id)
    tags = {"model_id": model_id, "tags": [{"key": "t", "value": "1"}]}
    yield ask("PATCH", f"{one}/tags", tags, model_id=model_id)
    yield ask("DELETE", f"{one}/tags/{{tag_key:path}}", {}, model_id=model_id, tag_key="t")
    ready = {"model_id": model_id, "status": "LOGGED_MODEL_READY"}
    yield ask("PATCH", one, ready, model_id=model_id)
    yield ask("GET", one, {}, model_id=model_id)
    output = {"run_id": run_id, "models": [{"model_id": model_id, "step": 0}]}
    yield ask("POST", "runs/outputs", output)
    yield ask("POST", "logged-models/search", {"experiment_ids": ["0"], "max_results": 50})
    yield ask("GET", f"{one}/artifacts/directories", {}, model_id=model_id)
    if client.dice.random() < 0.5:
        yield ask("DELETE", one, {}, model_id=model_id)


def _files(client: Client, unique: str, known: list[str]) -> Iterator[None]:
    ask, run_id = client.ask, client.dice.choice(known)
    file = f"{_FILES}/{{path:path}}"
    path = f"0/{run_id}/artifacts/{unique}.bin"
    data = base64.b64encode(client.dice.randbytes(20_000))
    yield ask("PUT", file, data, path=path)
    yield ask("GET", file, None, path=path)
    yield ask("GET", _FILES, {"path": f"0/{run_id}/artifacts"})
    yield ask("DELETE", file, None, path=path)
    for route in ("artifacts/presigned-upload-url", "artifacts/presigned-download-url"):
        yield ask("POST", route, {"run_id": run_id, "path": "f"})


def work(client: Client, known: list[str], pause_s: float, ended: threading.Event) -> None:
    """Go through sessions until time is over."""
    n = 0
    ended.wait(client.dice.uniform(0, 1.5) * pause_s)  # or all would begin in one moment
    while not ended.is_set() and not client.errors:
        for _ in session(client, n, known):
            if ended.wait(client.dice.uniform(0.5, 1.5) * pause_s):
                return
        n += 1


def fill(data: Path, server: Server, n: int) -> list[str]:
    """Runs in the log, folded; their ids."""
    log = open_log(str(data))
    fill_modeltrail(log, "0", 0, n)
    known = [run.run_id for run in runs(0, n)]
    history_modeltrail(log, known[0], _HISTORY_POINTS)
    end = sum(log.end().values())
    log.close()
    while server.sql("SELECT sum(next_offset) FROM positions")[0][0] < end:
        time.sleep(0.2)
    return known


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 if a P95 is over 100 ms")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pause-ms", type=float, default=200, help="mean, between two requests")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="modeltrail-bench-"))
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    try:
        with serve(folder / "data") as server:
            known = fill(folder / "data", server, args.runs)
            port = int(server.url.rpartition(":")[2])
            _go(args, [Client(i, port, defaultdict(list)) for i in range(2)], known, 5)  # warm
            clients = [Client(i + 10, port, times) for i in range(args.clients)]
            before = cpu_seconds(server.process.pid)
            _go(args, clients, known, args.seconds)
            spent = cpu_seconds(server.process.pid) - before
    finally:
        shutil.rmtree(folder)
    return report(args, times, clients, spent)


def _go(args: argparse.Namespace, clients: list[Client], known: list[str], seconds: float) -> None:
    ended = threading.Event()
    threads = [
        threading.Thread(target=work, args=(client, known, args.pause_ms / 1_000, ended))
        for client in clients
    ]
    for thread in threads:
        thread.start()
    ended.wait(seconds)
    ended.set()
    for thread in threads:
        thread.join()


def report(
    args: argparse.Namespace,
    times: dict[tuple[str, str], list[float]],
    clients: list[Client],
    spent_s: float,
) -> int:
    """Print the table; 1 if something is wrong."""
    for error in [error for client in clients for error in client.errors][:5]:
        print(error, file=sys.stderr)
    missing = all_routes() - set(times)
    if missing:
        print(f"not asked, measure for longer: {sorted(missing)}", file=sys.stderr)
    count = sum(map(len, times.values()))
    print(
        f"{args.runs:,} runs, {args.clients} clients, {count / args.seconds:.0f} requests/s, "
        f"{1_000 * spent_s / count:.1f} ms of the server's CPU each, "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    print(f"{'route':60} {'n':>6} {'P50':>8} {'P95':>8} {'P99':>8}  ms")
    slow = 0
    for (method, route), found in sorted(times.items(), key=lambda item: item[0][1]):
        found.sort()
        p50, p95, p99 = (1_000 * found[min(len(found) - 1, int(len(found) * q))]
                         for q in (0.5, 0.95, 0.99))  # fmt: skip
        slow += p95 > P95_MS_MAX
        mark = "  over" if p95 > P95_MS_MAX else ""
        print(f"{method + ' ' + route:60} {len(found):6} {p50:8.1f} {p95:8.1f} {p99:8.1f}{mark}")
    everything = sorted(t for found in times.values() for t in found)
    print(f"all: P95 {1_000 * everything[int(len(everything) * 0.95)]:.1f} ms; {slow} routes over")
    wrong = missing or any(client.errors for client in clients)
    return int(bool(wrong) or (args.check and slow > 0))


if __name__ == "__main__":
    sys.exit(main())
