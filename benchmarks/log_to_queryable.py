"""From log calls in several processes to the answer of an SQL query, through a real server.

Prints points a second from the first log call to the moment when a query counts every point, the
size of the projections after a checkpoint, the speed of a rebuild, and the time until a restarted
server is ready.

    python benchmarks/log_to_queryable.py [--points 30_000_000] [--producers 8] [--call series|log]
                                          [--kafka | --log kafka://127.0.0.1:9092/bench-]

``--call series`` hands 1,000 points a call to ``run.log_series``; ``--call log`` makes one
``run.log`` call for each step, of 10 metrics. ``--kafka`` starts a broker and measures that;
``--log`` measures any other log than the embedded one.
"""

from __future__ import annotations

import argparse
import array
import multiprocessing
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from server import cpu_seconds, serve, which_log

from modeltrail.producers import start_run

POINTS_PER_CALL = 1000


def produce(url: str, outbox: str, points: int, call: str, start: float) -> None:
    """Log a number of points, as fast as it goes."""
    import os

    os.environ["MODELTRAIL_OUTBOX"] = outbox
    values = array.array("d", (random.random() for _ in range(POINTS_PER_CALL)))
    time.sleep(max(0.0, start - time.time()))
    run = start_run("benchmark", url=url)
    if call == "series":
        for first in range(0, points, POINTS_PER_CALL):
            steps = range(first, first + POINTS_PER_CALL)
            run.log_series("loss", steps, values)
    else:
        metrics = {f"metric_{i}": values[i] for i in range(10)}
        for step in range(points // 10):
            run.log(metrics, step)
    if not run.finish(timeout_s=600):
        raise SystemExit("not everything was delivered")
    if run.points_dropped:
        raise SystemExit(f"{run.points_dropped} points were dropped")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=30_000_000)
    parser.add_argument("--producers", type=int, default=8)
    parser.add_argument("--call", choices=("series", "log"), default="series")
    parser.add_argument("--log", help="URL of the log; default: embedded, in a temporary folder")
    parser.add_argument("--kafka", action="store_true", help="start a Kafka broker and measure it")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="modeltrail-bench-"))
    try:
        with which_log(args.log, args.kafka, folder) as log:
            measure(args, folder, log)
    finally:
        shutil.rmtree(folder)


def measure(args: argparse.Namespace, folder: Path, log: str | None) -> None:
    """One measurement in a folder of its own."""
    data = folder / "data"
    each = args.points // args.producers // POINTS_PER_CALL * POINTS_PER_CALL
    total = each * args.producers
    count = "SELECT sum(points_stored) FROM runs"
    with serve(data, log) as server:
        before = server.sql(count)[0][0] or 0
        start = time.time() + 2  # imports are not measured
        processes = [
            multiprocessing.get_context("spawn").Process(
                target=produce,
                args=(log or str(data), str(folder / f"outbox-{n}"), each, args.call, start),
            )
            for n in range(args.producers)
        ]
        for process in processes:
            process.start()
        while (server.sql(count)[0][0] or 0) - before < total:
            if any(p.exitcode for p in processes):
                raise SystemExit("a producer failed")
            time.sleep(0.1)
        took = time.time() - start
        for process in processes:
            process.join()
        stored = server.sql("SELECT count(*) FROM metrics")[0][0]
        cpu = cpu_seconds(server.process.pid)
    print(
        f"log to queryable: {total / took / 1e6:.2f} M points/s "
        f"({total:,} points, {args.producers} producers, {took:.1f} s, "
        f"server CPU {cpu:.1f} s, {log or 'embedded'}, --call {args.call})"
    )
    database = data / "projections.duckdb"
    print(f"projections: {database.stat().st_size / stored:.2f} bytes a point")
    begin = time.monotonic()
    with serve(data, log) as server:
        ready = time.monotonic() - begin
        if server.sql("SELECT count(*) FROM metrics")[0][0] != stored:
            raise SystemExit("a restart changed the number of points")
    print(f"ready again after a restart: {ready:.2f} s")
    begin = time.monotonic()
    command = [sys.executable, "-m", "modeltrail.api.cli", "rebuild", "--data", str(data)]
    subprocess.run(command + (["--log", log] if log else []), check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - begin
    print(f"rebuild: {stored / took / 1e6:.2f} M points/s ({took:.1f} s)")


if __name__ == "__main__":
    main()
