"""How fast a tracking database in SQLite is imported, and with how much memory.

A database as MLflow makes it, with one run of a million points and a thousand runs of a thousand
points; imported into an empty folder, with the check; then once more, when nothing is new.

    python benchmarks/import_mlflow.py [--points 1_000_000] [--runs 1000]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from tracking_database import TrackingDatabase


def imported(source: Path, data: Path) -> tuple[dict[str, Any], float]:
    """The report of an import, and the seconds that the whole command took."""
    began = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "modeltrail.api.cli", "import", "mlflow", str(source)),
            *("--into", str(data), "--json"),
        ],
        stdout=subprocess.PIPE,
        check=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("MODELTRAIL_")},
    )
    return json.loads(done.stdout), time.monotonic() - began


def main() -> None:
    """Fill, import, import again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000, help="of each of the two halves")
    parser.add_argument("--runs", type=int, default=1_000, help="that share the second half")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        store = TrackingDatabase(Path(folder) / "mlflow.db")
        for number, (runs, points) in enumerate(
            [(1, args.points), (args.runs, args.points // args.runs)], 1
        ):
            store.experiment(number, f"{runs} runs")
            store.runs(number, runs, points)
        size = store.path.stat().st_size
        sys.stdout.write(f"{size / 1e6:,.0f} MB of SQLite, {2 * args.points:,} points\n")
        cpu = 0.0
        for which in ("first", "second"):
            report, seconds = imported(store.path, Path(folder) / "data")
            points = sum(e["here"]["points"] for e in report["experiments"])
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            before, cpu = cpu, used.ru_utime + used.ru_stime
            sys.stdout.write(
                f"{which} import: {points:,} points and {report['events']:,} events in "
                f"{seconds:.1f} s, {points / seconds:,.0f} points/s with the check; "
                f"{cpu - before:.1f} s of CPU, at most {used.ru_maxrss / 1024:,.0f} MB of memory\n"
            )


if __name__ == "__main__":
    main()
