"""The calls of an MLflow client, timed against `mlflow server` and against `modeltrail serve`.

Both servers run at once, each call is measured on one right after the other, and the client is the
same unmodified one. `mlflow server` keeps its runs in SQLite, and has one worker: on two cores that
is its fastest. The stores are filled in bulk (see filling.py), the calls go through HTTP.

    python benchmarks/against_mlflow.py [--check] [--only log_batch] [--runs 10_000 100_000] ...

"client alone" is the same client against a server that answers at once and does nothing: what no
server can be faster than. Where that is short of the target, three fifths of it will do; the same
requests by plain HTTP then tell what the servers can do. The Python that has MLflow is
MODELTRAIL_TEST_MLFLOW3, or is made.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from filling import fill_mlflow, fill_modeltrail, history_mlflow, history_modeltrail, runs
from null_server import null_server
from server import serve

from modeltrail.eventlog import open_log

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from mlflow_client import python_with_mlflow

_SCRIPT = str(Path(__file__).with_name("client_calls.py"))
_MOST = 0.6
_PARTS = ("log_metric", "create_run", "promote", "log_batch", "history", "search")


class Side:
    """A server, and how its store is filled."""

    def __init__(self, name: str, url: str, python: str) -> None:
        self.name = name
        self.url = url
        self._python = python
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "MODELTRAIL"))}
        self._environment = {**clean, "MLFLOW_DISABLE_TELEMETRY": "true"}

    def begin(self, what: str, **arguments: Any) -> subprocess.Popen[str]:
        """Start a client."""
        return subprocess.Popen(
            [self._python, _SCRIPT, what, self.url, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )

    def call(self, what: str, **arguments: Any) -> Any:
        """Run a client; what it printed."""
        return result(self.begin(what, **arguments))

    def fill(self, experiment: str, first: int, last: int) -> None:
        raise NotImplementedError

    def fill_history(self, run_id: str, n: int) -> None:
        raise NotImplementedError


class Mlflow(Side):
    """`mlflow server`."""

    def __init__(self, url: str, python: str, database: Path) -> None:
        super().__init__("mlflow", url, python)
        self._database = database

    def fill(self, experiment: str, first: int, last: int) -> None:
        fill_mlflow(self._database, experiment, first, last)

    def fill_history(self, run_id: str, n: int) -> None:
        history_mlflow(self._database, run_id, n)


class Modeltrail(Side):
    """`modeltrail serve`."""

    def __init__(self, url: str, python: str, data: Path, sql: Callable[[str], Any]) -> None:
        super().__init__("modeltrail", url, python)
        self._data = data
        self._sql = sql

    def fill(self, experiment: str, first: int, last: int) -> None:
        self._append(lambda log: fill_modeltrail(log, experiment, first, last))

    def fill_history(self, run_id: str, n: int) -> None:
        self._append(lambda log: history_modeltrail(log, run_id, n))

    def _append(self, fill: Callable[[Any], None]) -> None:
        log = open_log(str(self._data))
        fill(log)
        end = sum(log.end().values())
        log.close()
        deadline = time.monotonic() + 600
        while self._sql("SELECT sum(next_offset) FROM positions")[0][0] < end:
            if time.monotonic() > deadline:
                raise RuntimeError("the fold does not come to the end of the log")
            time.sleep(0.1)


def result(client: subprocess.Popen[str], stdin: str | None = None) -> Any:
    """What a client printed last."""
    out, error = client.communicate(stdin)
    if client.returncode:
        raise RuntimeError(error[-3_000:])
    return json.loads(out.splitlines()[-1])


@contextmanager
def mlflow_server(python: str, folder: Path) -> Iterator[Mlflow]:
    """`mlflow server` on SQLite, at a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    database = folder / "mlflow.db"
    url = f"http://127.0.0.1:{port}"
    with (folder / "mlflow.out").open("wb") as out:
        process = subprocess.Popen(
            [
                *(python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
                *("--backend-store-uri", f"sqlite:///{database}", "--workers", "1"),
                *("--artifacts-destination", str(folder / "mlflow-artifacts")),
                *("--uvicorn-opts", "--log-level warning"),
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it starts processes of its own, which end with the group
            cwd=folder,
        )
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                with urlopen(f"{url}/health") as answer:
                    answer.read()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "mlflow.out").read_text()[-3_000:]) from None
                time.sleep(0.1)
        yield Mlflow(url, python, database)
    finally:
        # It does not end while it answers, and an answer may take it a minute.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    unit: str
    theirs: float
    ours: float
    alone: float | None
    times: float | None = None
    """How many times better ours has to be."""
    at_most: float | None = None

    def better(self, than_theirs: float) -> float:
        """How many times better a figure is."""
        less_is_better = self.unit == "ms"
        return self.theirs / than_theirs if less_is_better else than_theirs / self.theirs

    @property
    def most(self) -> float:
        """How many times better a server could be that costs nothing."""
        return math.inf if self.alone is None else self.better(self.alone)

    @property
    def holds(self) -> bool:
        """Whether the target is met; where the client is the limit, most of what it can do."""
        if self.at_most is not None:
            return self.ours <= self.at_most
        times = self.times or 0.0
        return self.better(self.ours) >= (times if self.most >= times else _MOST * self.most)

    def cells(self) -> list[str]:
        """As text."""
        number = "{:,.1f} ms" if self.unit == "ms" else "{:,.0f} " + self.unit
        target = f"<= {self.at_most:g} ms" if self.at_most is not None else f">= {self.times:g} x"
        return [
            self.what,
            number.format(self.theirs),
            number.format(self.ours),
            "" if self.alone is None else number.format(self.alone),
            f"{self.better(self.ours):.1f} x",
            target,
            ("yes" if self.holds else "NO")
            + (" (the client's limit)" if self.most < (self.times or 0) else ""),
        ]


def points_a_second(side: Side, what: str, clients: int, batches: int) -> float:
    """``log_batch`` by several processes at once."""
    processes = [side.begin(what, n=batches) for _ in range(clients)]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError(process.communicate()[1][-3_000:])
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = [result(process) for process in processes]
    spent = max(t["ended"] for t in told) - min(t["began"] for t in told)
    return float(sum(t["points"] for t in told) / spent)


def median_ms(times: list[float]) -> float:
    """Of seconds."""
    return 1_000 * statistics.median(times)


def measure(
    args: argparse.Namespace, theirs: Side, ours: Side, nothing: Side, parts: list[str]
) -> Iterator[Row]:
    """The lines of the table, one after the other."""

    def both(what: str, **arguments: Any) -> tuple[float, float]:
        return median_ms(theirs.call(what, **arguments)), median_ms(ours.call(what, **arguments))

    if "log_metric" in parts:
        alone = median_ms(nothing.call("log_metric", n=args.calls))
        found = both("log_metric", n=args.calls)
        yield Row("log_metric, one client, median", "ms", *found, alone, times=5)
    if "create_run" in parts:
        alone = median_ms(nothing.call("create_run", n=args.calls))
        found = both("create_run", n=args.calls)
        yield Row("create_run, median", "ms", *found, alone, times=4)
    if "promote" in parts:
        found = both("promote", n=args.calls)
        yield Row("promote by alias, median", "ms", *found, None, at_most=10)
    if "log_batch" in parts:
        for what, how in (("log_batch", "mlflow's clients"), ("log_batch_http", "plain HTTP")):
            alone = points_a_second(nothing, what, args.clients, args.batches)
            slow = points_a_second(theirs, what, args.clients, max(args.batches // 10, 2))
            fast = points_a_second(ours, what, args.clients, args.batches)
            title = f"log_batch of 1,000, {args.clients} x {how}"
            yield Row(title, "points/s", slow, fast, alone, times=20)
    if "history" in parts:
        n = args.points
        [run] = runs(0, 1)
        for side in (theirs, ours):
            side.fill("0", 0, 1)
            side.fill_history(run.run_id, n)
        for what, how in (("history", "mlflow's client"), ("history_http", "plain HTTP")):
            asked = ((theirs, run.run_id), (ours, run.run_id), (nothing, str(n)))
            slow, fast, alone = (n / float(s.call(what, run=r, points=n)) for s, r in asked)
            title = f"history of {n:,} points, {how}"
            yield Row(title, "points/s", slow, fast, alone, times=10)
    if "search" in parts:
        ids = {side.name: side.call("experiment", name="filled") for side in (theirs, ours)}
        last = 1
        for n in args.runs:
            for side in (theirs, ours):
                side.fill(ids[side.name], last, n + 1)
            last = n + 1
            slow, fast = (
                median_ms(side.call("search_runs", n=args.searches, experiment=ids[side.name]))
                for side in (theirs, ours)
            )
            times = 5 if n < 100_000 else 20
            yield Row(f"search_runs, 100 of {n:,}", "ms", slow, fast, None, times=times)


def table(rows: list[Row]) -> str:
    """A table in Markdown."""
    head = ["what", "mlflow server", "modeltrail", "client alone", "better", "target", "holds"]
    lines = [head, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(text)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=list(_PARTS))
    parser.add_argument("--calls", type=int, default=300, help="of each call of one client")
    parser.add_argument("--clients", type=int, default=8, help="processes that log batches")
    parser.add_argument("--batches", type=int, default=100, help="of each of them")
    parser.add_argument("--points", type=int, default=1_000_000, help="of the long history")
    parser.add_argument("--runs", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--searches", type=int, default=5)
    args = parser.parse_args()
    python = python_with_mlflow("3")
    folder = Path(tempfile.mkdtemp(prefix="modeltrail-bench-"))
    (folder / "ours").mkdir()
    try:
        with ExitStack() as stack:
            nothing = stack.enter_context(null_server())
            theirs = stack.enter_context(mlflow_server(python, folder))
            server = stack.enter_context(serve(folder / "ours" / "data"))
            ours = Modeltrail(server.url, python, folder / "ours" / "data", server.sql)
            print(f"load average {os.getloadavg()[0]:.1f}, {multiprocessing.cpu_count()} cores")
            rows = []
            for row in measure(args, theirs, ours, Side("nothing", nothing, python), args.only):
                print("  ".join(row.cells()), flush=True)
                rows.append(row)
            print("\n" + table(rows))
    finally:
        shutil.rmtree(folder)
    return int(args.check and not all(row.holds for row in rows))


if __name__ == "__main__":
    sys.exit(main())
