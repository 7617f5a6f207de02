"""How long a metric and a health check take beside a crowd of heavy queries and wrong passwords.

A server with `--auth` is asked by 64 connections for heavy queries, and by 64 with wrong
passwords of ever new users, all at once and without a pause, by another process. Beside it, one
job logs metrics by MLflow's `log-metric`, and one monitor asks for `/health`.

    python benchmarks/crowded.py [--check] [--seconds 20] [--queries 64] [--passwords 64]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from server import Server, serve

METRIC_P99_MS_MAX = 100.0
HEALTH_P99_MS_MAX = 50.0
_PASSWORD = "correct horse battery"
_HEAVY = "SELECT sum((a.range * b.range) % 7) FROM range(60000) a, range(60000) b"


class Figures(NamedTuple):
    """Times of answers in milliseconds, sorted, and what the crowd got: answers by status."""

    metric: list[float]
    health: list[float]
    queries: dict[int, int]
    passwords: dict[int, int]


def percentile(times: list[float], share: float) -> float:
    """A percentile of sorted times."""
    return times[min(len(times) - 1, int(len(times) * share))]


def measure(data: Path, *, seconds: float, queries: int, passwords: int) -> Figures:
    """Start a server, let the crowd in, and measure beside it."""
    with serve(data, None, "--auth", env={"MODELTRAIL_ADMIN_PASSWORD": _PASSWORD}) as server:
        server.headers["Authorization"] = _basic("admin", _PASSWORD)
        token = server.request("POST", "/api/v1/tokens", {"user": "admin"})["token"]
        server.headers["Authorization"] = f"Bearer {token}"
        port = int(server.url.rpartition(":")[2])
        with _crowd(port, token, queries, passwords) as answers:
            monitor = Server(port, server.process)
            run_id = server.request(
                "POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0", "start_time": 1}
            )["run"]["info"]["run_id"]
            point = {"run_id": run_id, "key": "loss", "value": 0.5, "timestamp": 1, "step": 1}
            health: list[float] = []
            until = time.monotonic() + seconds
            watch = threading.Thread(
                target=_time, args=(health, until, lambda: monitor.request("GET", "/health"))
            )
            watch.start()
            metric: list[float] = []
            _time(
                metric,
                until,
                lambda: server.request("POST", "/api/2.0/mlflow/runs/log-metric", point),
            )
            watch.join()
            monitor.close()
        counts = answers.get(timeout=60)
    return Figures(sorted(metric), sorted(health), *counts)


def _time(times: list[float], until: float, ask: Callable[[], Any]) -> None:
    while (began := time.monotonic()) < until:
        ask()
        times.append((time.monotonic() - began) * 1000)
        time.sleep(0.01)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@contextmanager
def _crowd(port: int, token: str, queries: int, passwords: int) -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    answers, ended = context.Queue(), context.Event()
    arguments = (port, token, queries, passwords, answers, ended)
    process = context.Process(target=_ask_until, args=arguments, daemon=True)
    process.start()
    time.sleep(2)  # until all of it is there
    try:
        yield answers
    finally:
        ended.set()


def _ask_until(
    port: int, token: str, queries: int, passwords: int, answers: Any, ended: Any
) -> None:
    os.nice(5)  # the crowd would be on other machines
    counts: tuple[Counter[int], Counter[int]] = (Counter(), Counter())

    async def ask(count: Counter[int], request: Callable[[], bytes]) -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while True:
                    writer.write(request())
                    head = await reader.readuntil(b"\r\n\r\n")
                    count[int(head.split()[1])] += 1
                    length = head.lower().partition(b"content-length:")[2].split()
                    if not length:
                        break
                    await reader.readexactly(int(length[0]))
            except (OSError, asyncio.IncompleteReadError):
                count[0] += 1
            finally:
                writer.close()

    body = json.dumps({"statement": _HEAVY, "timeout_s": 5}).encode()
    heavy = (
        f"POST /api/v1/sql HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body

    def wrong() -> bytes:
        user = _basic(secrets.token_hex(4), "wrong")
        return (
            f"GET /api/v1/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {user}\r\n\r\n"
        ).encode()

    async def all_of_them() -> None:
        tasks = [asyncio.create_task(ask(counts[0], lambda: heavy)) for _ in range(queries)]
        tasks += [asyncio.create_task(ask(counts[1], wrong)) for _ in range(passwords)]
        while not ended.is_set():
            await asyncio.sleep(0.2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(all_of_them())
    answers.put(tuple(map(dict, counts)))


def main() -> int:
    """Measure, print, and say whether a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--passwords", type=int, default=64)
    parser.add_argument("--check", action="store_true", help="fail if a target is missed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            Path(folder) / "data",
            seconds=args.seconds,
            queries=args.queries,
            passwords=args.passwords,
        )
    missed = False
    for name, times, most in (
        ("log-metric", found.metric, METRIC_P99_MS_MAX),
        ("/health", found.health, HEALTH_P99_MS_MAX),
    ):
        p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
        missed |= p99 > most
        print(
            f"{name:12} {len(times):6,} answers   median {p50:6.1f} ms   p99 {p99:6.1f} ms   "
            f"longest {times[-1]:7.1f} ms   target {most:.0f} ms"
            f"{'   MISSED' if p99 > most else ''}"
        )
    print(f"queries      answers by status: {found.queries}")
    print(f"passwords    answers by status: {found.passwords}")
    return 1 if missed and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
