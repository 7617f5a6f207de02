"""What a log call costs the training thread, and the producers' memory.

Each figure is taken in a process of its own, with delivery into an embedded log running. Beside
``run.log`` stand two peers in the same process: ``list.append`` of the same tuple, which is the
least that any logger does, and ``queue.Queue.put``, which most loggers do.

    python benchmarks/log_call.py [--calls N] [--pause MICROSECONDS]
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable


def resident_bytes() -> int:
    """Resident memory of this process, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(call: Callable[[int], object], calls: int, pause_us: float) -> tuple[float, float]:
    """Median and 99th percentile of a call in microseconds, with the clock's own cost taken off."""
    clock, times = time.perf_counter_ns, []
    for i in range(calls):
        begin = clock()
        call(i)
        end = clock()
        times.append(end - begin)
        until = end + pause_us * 1000
        while clock() < until:  # the training code, which keeps the interpreter busy
            pass
    clock_cost = statistics.median(-clock() + clock() for _ in range(10_000))
    times.sort()
    return (
        max(0.0, times[calls // 2] - clock_cost) / 1000,
        max(0.0, times[calls * 99 // 100] - clock_cost) / 1000,
    )


def child(case: str, calls: int, pause_us: float) -> None:
    """Measure one case and print the result as JSON."""
    before = resident_bytes()
    peak = before
    result: dict[str, float] = {}
    if case in ("one", "ten", "memory"):
        from modeltrail.producers import start_run

        metrics = {f"metric_{i}": 0.5 + i for i in range(10 if case == "ten" else 1)}
        run = start_run("benchmark")
        if case == "memory":
            import threading

            done = threading.Event()

            def watch() -> None:
                nonlocal peak
                while not done.wait(0.01):
                    peak = max(peak, resident_bytes())

            threading.Thread(target=watch, daemon=True).start()
            for i in range(calls):
                run.log(metrics, i)
            run.finish(timeout_s=60)
            done.set()
            result = {"peak_mb": (peak - before) / 1e6, "dropped": run.points_dropped}
        else:
            run.log(metrics, 0)
            time.sleep(1)
            median, p99 = measure(lambda i: run.log(metrics, i), calls, pause_us)
            delivered = run.finish(timeout_s=60)
            result = {
                "median_us": median,
                "p99_us": p99,
                "dropped": run.points_dropped,
                "delivered": delivered,
            }
    elif case == "list":
        points: list[tuple[object, ...]] = []
        median, p99 = measure(lambda i: points.append((None, "m", i, 1, 0.5)), calls, pause_us)
        result = {"median_us": median, "p99_us": p99}
    else:
        line: queue.Queue[tuple[object, ...]] = queue.Queue()
        median, p99 = measure(lambda i: line.put((None, "m", i, 1, 0.5)), calls, pause_us)
        result = {"median_us": median, "p99_us": p99}
    print(json.dumps(result))


def main() -> None:
    """Measure all cases and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--pause", type=float, default=20.0, help="microseconds between calls")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        child(args.case, args.calls, args.pause)
        return
    for case in ("list", "queue", "one", "ten", "memory"):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [
                    sys.executable,
                    os.path.abspath(__file__),
                    f"--case={case}",
                    f"--calls={args.calls * 5 if case == 'memory' else args.calls}",
                    f"--pause={args.pause}",
                ],
                cwd=folder,
                env={**os.environ, "MODELTRAIL_OUTBOX": os.path.join(folder, "outbox")},
                capture_output=True,
                check=True,
                text=True,
            )
        figures = json.loads(done.stdout)
        shown = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
        print(f"{case:7} {shown}")
        if done.stderr:
            print(done.stderr)


if __name__ == "__main__":
    main()
