"""Charts and live streams of a real server: time, CPU of the server, and bytes.

First many series of many points are logged into a folder. Then charts of all of them are asked for,
as a page does: the whole, a zoom, other axes, one series. At last live streams are opened, idle and
beside a steady load.

    python benchmarks/charts.py [--series 100] [--points 1_000_000] [--data FOLDER]

The goals of a chart of 100 series of a million points are 60 ms of the server's CPU. ``--data``
keeps the folder, and uses what is in it the next time.
"""

from __future__ import annotations

import argparse
import array
import http.client
import json
import multiprocessing
import os
import shutil
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from freshness import load
from server import Server, cpu_seconds, serve

from modeltrail.producers import start_run

_CHUNK = 50_000
_REPEATS = 10
_LIVE_S = 20.0


def fill(data: Path, outbox: Path, series: int, points: int) -> None:
    """Log the series, all at once, a piece of each after the other."""
    import random

    os.environ["MODELTRAIL_OUTBOX"] = str(outbox)
    runs = [start_run("charts", f"run {n}", url=data) for n in range(series)]
    values = array.array("d", (random.random() for _ in range(_CHUNK)))
    start_ms = time.time_ns() // 1_000_000
    for first in range(0, points, _CHUNK):
        steps = range(first, min(points, first + _CHUNK))
        for run in runs:
            times = range(start_ms + 10 * steps.start, start_ms + 10 * steps.stop, 10)
            run.log_series("loss", steps, values[: len(steps)], times)
    for run in runs:
        if not run.finish(timeout_s=600) or run.points_dropped:
            raise SystemExit(f"{run!r}: not everything was delivered")


def ask(server: Server, body: dict[str, Any]) -> int:
    """Ask for a chart as Arrow, and return its size in bytes."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/api/v1/charts?format=arrow", json.dumps(body), headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(data.decode())
    return len(data)


def measure(server: Server, name: str, body: dict[str, Any]) -> None:
    """Print what a chart takes."""
    ask(server, body)
    took = []
    before = cpu_seconds(server.process.pid)
    for _ in range(_REPEATS):
        begin = time.monotonic()
        size = ask(server, body)
        took.append(time.monotonic() - begin)
    cpu = (cpu_seconds(server.process.pid) - before) / _REPEATS
    print(
        f"{name}: median {statistics.median(took) * 1000:.0f} ms, server CPU {cpu * 1000:.0f} ms, "
        f"{size / 1e6:.2f} MB"
    )


class Listener:
    """A client of a live stream, which counts its bytes."""

    def __init__(self, server: Server) -> None:
        parts = urlsplit(server.url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        self._connection.request("GET", "/api/v1/live?registry=true")
        self._answer = self._connection.getresponse()
        self.bytes = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while line := self._answer.readline():
            self.bytes += len(line)

    def close(self) -> None:
        """End it."""
        sock = self._connection.sock
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()


def live(server: Server, folder: Path, streams: int) -> None:
    """Print what streams cost, idle and beside 100,000 points a second."""
    listeners = [Listener(server) for _ in range(streams)]
    for what, rate in (("idle", 0), ("beside 100,000 points/s", 100_000)):
        before = cpu_seconds(server.process.pid)
        received = sum(listener.bytes for listener in listeners)
        begin = time.monotonic()
        if rate:
            ours, theirs = multiprocessing.Pipe()
            outbox = str(folder / f"outbox-{streams}")
            process = multiprocessing.get_context("spawn").Process(
                target=load, args=(server.url, outbox, rate, _LIVE_S, theirs)
            )
            process.start()
            ours.recv()
            process.join()
        else:
            time.sleep(_LIVE_S)
        took = time.monotonic() - begin
        cpu = cpu_seconds(server.process.pid) - before
        received = sum(listener.bytes for listener in listeners) - received
        each = received / max(streams, 1) / took / 1000
        print(f"{streams} streams, {what}: server CPU {cpu / took:.1%} of a core, {each:.2f} kB/s")
    for listener in listeners:
        listener.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=100)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--data", type=Path, help="folder to keep")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="modeltrail-bench-"))
    data = args.data or folder / "data"
    try:
        if not data.exists():
            fill(data, folder / "outbox", args.series, args.points)
        with serve(data) as server:
            charts(server, args.points)
            for streams in (0, 10, 0, 10):
                live(server, folder, streams)
    finally:
        shutil.rmtree(folder)


def charts(server: Server, points: int) -> None:
    """Measure the charts."""
    every: dict[str, Any] = {
        "query": {"filter": "name LIKE 'run %'", "limit": 1_000}, "keys": ["loss"], "width": 500
    }  # fmt: skip
    first = server.request("POST", "/api/v1/runs/query", {"columns": ["run_id"], "limit": 1})
    middle = points // 2
    measure(server, "all series", every)
    measure(
        server, "all series, a tenth of the steps", every | {"from": middle, "to": middle * 1.2}
    )
    measure(server, "all series, 500 points of each", every | {"from": middle, "to": middle + 499})
    measure(server, "all series by time", every | {"x": "time"})
    one = {"runs": [first["rows"][0]["run_id"]], "keys": ["loss"], "width": 1_000}
    measure(server, "one series", one)


if __name__ == "__main__":
    main()
