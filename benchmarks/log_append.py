"""How fast events of 26 kB (1,000 metric points) become durable in the log.

    python benchmarks/log_append.py [--seconds 5] [--kafka host:port]

Processes append at once, in calls of 10 events, to the embedded log, with a reader in another
process; then to a naive SQLite file (a commit an event, busy time-out, WAL, synchronous=FULL)
in the same run; then to Kafka: a broker of its own, unless one is named.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from modeltrail.eventlog import RUNS, NewEvent, open_log

EVENT_BYTES = 26_000
CALL_EVENTS = 10
POINTS_PER_EVENT = 1_000


def payloads() -> list[bytes]:
    """Half noise, half zeros: metric columns compress about so much."""
    return [os.urandom(EVENT_BYTES // 2) + bytes(EVENT_BYTES // 2) for _ in range(20)]


def append(url: str, k: int, ready: Any, go: Event, seconds: float, results: Any) -> None:
    """One producer."""
    log = open_log(url)
    some = payloads()
    log.append([NewEvent(RUNS, f"run{k}", some[0])])
    count, waits = 0, []
    ready.release()
    go.wait()
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        log.append([NewEvent(RUNS, f"run{k}", some[i]) for i in range(CALL_EVENTS)])
        count += CALL_EVENTS
        waits.append(time.perf_counter() - began)
    results.put((count, statistics.median(waits), max(waits)))
    log.close()


def append_naively(path: str, k: int, ready: Any, go: Event, seconds: float, results: Any) -> None:
    """One producer that commits each event by itself."""
    con = sqlite3.connect(path, isolation_level=None, timeout=30)
    con.execute("PRAGMA synchronous=FULL")
    some = payloads()
    count, waits = 0, []
    ready.release()
    go.wait()
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        con.execute("INSERT INTO runs (payload) VALUES (?)", (some[count % 20],))
        count += 1
        waits.append(time.perf_counter() - began)
    results.put((count, statistics.median(waits), max(waits)))
    con.close()


def read(url: str, ready: Any, stop: Event, results: Any) -> None:
    """The reader beside the producers."""
    log = open_log(url)
    began_at = log.end()
    reader = log.reader(began_at)
    ready.release()
    count, whole = 0, None
    while whole is None or count < whole:
        count += len(reader.poll(0.2))
        if whole is None and stop.is_set():
            whole = sum(log.end().values()) - sum(began_at.values())
    results.put(count)
    reader.close()
    log.close()


def measure(name: str, target: Any, where: str, processes: int, seconds: float) -> float:
    """Run producers for some seconds; prints and answers events a second."""
    spawn = multiprocessing.get_context("spawn")
    ready, go, stop = spawn.Semaphore(0), spawn.Event(), spawn.Event()
    results, read_count = spawn.Queue(), spawn.Queue()
    work = [
        spawn.Process(target=target, args=(where, k, ready, go, seconds, results))
        for k in range(processes)
    ]
    reads = target is append
    if reads:
        reader = spawn.Process(target=read, args=(where, ready, stop, read_count))
        reader.start()
    for p in work:
        p.start()
    for _ in range(processes + reads):
        ready.acquire()
    began = time.perf_counter()
    go.set()
    found = [results.get() for _ in work]
    took = time.perf_counter() - began
    stop.set()
    got = read_count.get() if reads else 0
    late = time.perf_counter() - began - took
    for p in work:
        p.join()
    events = sum(f[0] for f in found)
    rate: float = events / took
    beside = f", reader {got:,}, done {late:.1f} s later" if reads else ""
    print(
        f"{name:9} {processes} processes: {rate:8,.0f} events/s"
        f" {rate * EVENT_BYTES / 1e6:6,.0f} MB/s"
        f" = {rate * POINTS_PER_EVENT / 1e6:5.2f} M points/s; a call {found[0][1] * 1e3:6.1f} ms"
        f" median, {max(f[2] for f in found) * 1e3:6.0f} ms at most; fairest to least fair"
        f" {max(f[0] for f in found) / max(min(f[0] for f in found), 1):.2f}{beside}",
        flush=True,
    )
    return rate


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=5.0)
    arguments.add_argument("--kafka", help="host:port of a broker; else one is started")
    arguments.add_argument("--without-kafka", action="store_true")
    said = arguments.parse_args()
    for processes in (1, 2, 4, 8):
        with tempfile.TemporaryDirectory() as folder:
            ours = measure("embedded", append, f"{folder}/log", processes, said.seconds)
            naive = f"{folder}/naive.sqlite"
            con = sqlite3.connect(naive)
            con.execute("PRAGMA journal_mode=WAL")
            con.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY, payload BLOB)")
            con.close()
            theirs = measure("naive", append_naively, naive, processes, said.seconds)
            print(f"{'':9} ratio {ours / theirs:.1f}", flush=True)
    if said.without_kafka:
        return
    if said.kafka:
        for processes in (1, 4, 8):
            url = f"kafka://{said.kafka}/bench-{os.getpid()}-"
            measure("kafka", append, url, processes, said.seconds)
        return
    from kafka_broker import KafkaBroker

    with (
        tempfile.TemporaryDirectory() as folder,
        KafkaBroker(Path(folder) / "kafka", heap_mb=1024) as broker,
    ):
        for processes in (1, 4, 8):
            measure("kafka", append, broker.url("bench-"), processes, said.seconds)


if __name__ == "__main__":
    main()
