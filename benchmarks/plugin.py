"""What ``mlflow.log_metric`` costs the training loop: through the plugin, and over REST.

The same unmodified client, in a process of its own for each way: the plugin on a folder, the plugin
on a Kafka that is not there, MLflow's REST client on ``modeltrail serve`` and on ``mlflow server``.

    python benchmarks/plugin.py [--calls N] [--pause MICROSECONDS] [--without-mlflow-server]

The Python that has MLflow is MODELTRAIL_TEST_MLFLOW3, or is made.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from against_mlflow import mlflow_server
from server import serve

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from mlflow_client import python_with_mlflow
from plugin_install import install_plugin

_SCRIPT = """
import sys, time, warnings
warnings.filterwarnings("ignore")
import mlflow
calls, pause_ns = int(sys.argv[1]), int(float(sys.argv[2]) * 1000)
clock, times = time.perf_counter_ns, []
mlflow.set_experiment("/benchmark")
with mlflow.start_run():
    mlflow.log_metric("loss", 1.0, step=0)
    for step in range(calls):
        begin = clock()
        mlflow.log_metric("loss", 0.5, step=step)
        end = clock()
        times.append(end - begin)
        while clock() < end + pause_ns:  # the training code, which keeps the interpreter busy
            pass
times.sort()
print(times[calls // 2] / 1000, times[calls * 99 // 100] / 1000, flush=True)
"""


def measure(
    python: str, site: Path, folder: Path, uri: str, calls: int, pause_us: float
) -> tuple[float, float]:
    """Median and 99th percentile of a call, in microseconds."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "MODELTRAIL"))}
    done = subprocess.run(
        [python, "-c", _SCRIPT, str(calls), str(pause_us)],
        cwd=folder,
        env={
            **clean,
            "PYTHONPATH": str(site),
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MODELTRAIL_OUTBOX": str(folder / "outbox"),
            "MODELTRAIL_FINISH_TIMEOUT_S": "1",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    median, p99 = done.stdout.splitlines()[-1].split()
    return float(median), float(p99)


def main() -> None:
    """Measure all ways and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=3_000)
    parser.add_argument("--pause", type=float, default=500, metavar="MICROSECONDS")
    parser.add_argument("--without-mlflow-server", action="store_true")
    args = parser.parse_args()
    python = python_with_mlflow("3")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        site = install_plugin(folder)
        ours = stack.enter_context(serve(folder / "data"))
        ways = {
            "plugin, a folder": "modeltrail+file:./logged",
            "plugin, Kafka away": "modeltrail+kafka://127.0.0.1:9/benchmark",
            "REST, modeltrail serve": ours.url,
        }
        if not args.without_mlflow_server:
            theirs = stack.enter_context(mlflow_server(python, folder))
            ways["REST, mlflow server"] = theirs.url
        print(f"{'mlflow.log_metric':<24} {'median':>12} {'p99':>12}")
        for name, uri in ways.items():
            calls = args.calls if name.startswith("plugin") else min(args.calls, 500)
            median, p99 = measure(python, site, folder, uri, calls, args.pause)
            print(f"{name:<24} {median:>9,.0f} us {p99:>9,.0f} us", flush=True)


if __name__ == "__main__":
    main()
