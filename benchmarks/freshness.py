"""How soon a logged point is in the answer of a query, while many others arrive.

One process logs 100,000 points a second; another logs a point now and then and this one asks for
it, over HTTP, until it is there. Meanwhile point queries (the latest metrics of one run) are timed:
over HTTP, and then, with a fold in this process, as DuckDB answers them.

    python benchmarks/freshness.py [--seconds 20] [--rate 100_000] [--kafka | --log URL]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from server import serve, which_log

from modeltrail.producers import start_run


def load(url: str, outbox: str, rate: int, seconds: float, ready: Connection) -> None:
    """Log at a steady rate: 1,000 points of 10 metrics, again and again."""
    os.environ["MODELTRAIL_OUTBOX"] = outbox
    run = start_run("load", url=url)
    ready.send(run.run_id)
    values = [random.random() for _ in range(1000)]
    begin = time.monotonic()
    step = 0
    while time.monotonic() < begin + seconds:
        for i in range(100):
            run.log({f"metric_{k}": values[10 * i + k] for k in range(10)}, step=step)
            step += 1
        time.sleep(max(0.0, begin + step * 10 / rate - time.monotonic()))
    run.finish(timeout_s=60)


def probe(url: str, outbox: str, seconds: float, sent: Connection) -> None:
    """Log one point every 0.2 s, and tell when."""
    os.environ["MODELTRAIL_OUTBOX"] = outbox
    run = start_run("probe", url=url)
    sent.send(run.run_id)
    begin = time.monotonic()
    step = 0
    while time.monotonic() < begin + seconds:
        step += 1
        at = time.monotonic()
        run.log({"probe": 1.0}, step=step)
        sent.send((step, at))
        time.sleep(0.15 + 0.1 * random.random())
    run.finish(timeout_s=60)
    sent.send(None)


def quantiles_ms(times: list[float]) -> str:
    """Median and 99th percentile, in milliseconds."""
    times = sorted(times)
    p99 = times[min(len(times) - 1, len(times) * 99 // 100)]
    return f"median {statistics.median(times) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"


def point_queries(folder: Path, rate: int, seconds: float) -> list[float]:
    """Seconds that point queries take in the process of a busy fold."""
    from modeltrail.consumers import Fold
    from modeltrail.eventlog import open_log

    spawn = multiprocessing.get_context("spawn")
    log = open_log(str(folder / "own"))
    fold = Fold(log, folder / "own" / "projections.duckdb")
    fold.start()
    ready, load_end = spawn.Pipe(duplex=False)
    loader = spawn.Process(
        target=load, args=(str(folder / "own"), str(folder / "o3"), rate, seconds + 2, load_end)
    )
    loader.start()
    run_id = ready.recv()
    time.sleep(1.5)
    cursor = fold.cursor()
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        cursor.execute(
            "SELECT key, step, value FROM latest_metrics WHERE run_id = ?", [run_id]
        ).fetchall()
        times.append(time.monotonic() - begin)
        time.sleep(0.01 * random.random())
    cursor.close()
    loader.join()
    fold.stop()
    log.close()
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=int, default=100_000, help="points a second")
    parser.add_argument("--log", help="URL of the log; default: embedded, in a temporary folder")
    parser.add_argument("--kafka", action="store_true", help="start a Kafka broker and measure it")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="modeltrail-bench-"))
    spawn = multiprocessing.get_context("spawn")
    try:
        with (
            which_log(args.log, args.kafka, folder) as log,
            serve(folder / "data", log) as server,
        ):
            url = log or str(folder / "data")
            ready, load_end = spawn.Pipe(duplex=False)
            loader = spawn.Process(
                target=load,
                args=(url, str(folder / "o1"), args.rate, args.seconds + 3, load_end),
            )
            loader.start()
            load_run = ready.recv()
            time.sleep(2)
            sent, probe_end = spawn.Pipe(duplex=False)
            prober = spawn.Process(
                target=probe, args=(url, str(folder / "o2"), args.seconds, probe_end)
            )
            prober.start()
            probe_run = sent.recv()
            fresh: list[float] = []
            queries: list[float] = []
            while (message := sent.recv()) is not None:
                step, at = message
                while True:
                    rows = server.sql(
                        f"SELECT step FROM latest_metrics WHERE run_id = '{probe_run}'"
                    )
                    if rows and rows[0][0] >= step:
                        break
                    time.sleep(0.002)
                fresh.append(time.monotonic() - at)
                begin = time.monotonic()
                server.sql(
                    f"SELECT key, step, value FROM latest_metrics WHERE run_id = '{load_run}'"
                )
                queries.append(time.monotonic() - begin)
            for process in (loader, prober):
                process.join()
            stored = server.sql("SELECT count(*) FROM metrics")[0][0]
        print(
            f"freshness at {args.rate:,} points/s ({stored:,} points, {len(fresh)} probes): "
            f"{quantiles_ms(fresh)}"
        )
        print(f"point query over HTTP, fold busy: {quantiles_ms(queries)}")
        if args.log is None and not args.kafka:
            own = point_queries(folder, args.rate, args.seconds / 2)
            print(f"point query in DuckDB, fold busy: {quantiles_ms(own)}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
