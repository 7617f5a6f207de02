"""Queries over HTTP, beside nothing else: those that run in the server, and those in a worker.

The first column is the median, the second the slowest of the rounds, both in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from server import serve

from modeltrail.producers import start_run

HERE = {
    "count": "SELECT count(*) FROM metrics",
    "group by key": "SELECT key, count(*), avg(value), max(value) FROM metrics GROUP BY key",
    "latest of a run": "SELECT key, value FROM latest_metrics WHERE run_id = 'none'",
    "runs": "SELECT run_id, name, status FROM runs ORDER BY start_time DESC LIMIT 5",
}
WORKER = {
    "a list": "SELECT [1]",
    "names": "SELECT upper(name), status FROM runs",
    "pivot": "PIVOT latest_metrics ON key IN ('m0', 'm1') USING first(value) GROUP BY run_id",
    "texts of points": "SELECT key || '!', count(*) FROM metrics GROUP BY 1",
}


def main() -> None:
    """Log points, then time each query."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder) / "data") as server:
        with start_run("bench", "sql", url=server.url) as run:
            for step in range(args.points // 10):
                run.log({f"m{n}": float(step) for n in range(10)}, step)
        print(f"{server.sql('SELECT count(*) FROM metrics')[0][0]:,} points")
        for where, queries in (("server", HERE), ("worker", WORKER)):
            for name, statement in queries.items():
                server.sql(statement)
                times = []
                for _ in range(args.rounds):
                    began = time.monotonic()
                    server.sql(statement)
                    times.append((time.monotonic() - began) * 1000)
                median = statistics.median(times)
                print(f"{where}  {name:18} {median:8.1f} {max(times):8.1f}")


if __name__ == "__main__":
    main()
