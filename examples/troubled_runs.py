"""Two runs that go wrong, to see what is recorded of them.

    MODELTRAIL_URL=http://127.0.0.1:5000 python examples/troubled_runs.py

One job is killed while it trains: its heartbeats end, and the server ends the run. The other logs
while its server is away, and its disk loses a part of what it kept: the run says how many events
are missing, and where.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from modeltrail.producers import start_run

EXPERIMENT = "digits"
PROGRAM = Path(sys.executable).parent / "modeltrail"
NOWHERE = "http://127.0.0.1:9"
"""Nothing listens on the port for `discard`."""
STEPS = 400_000


def loss(step: int, chance: random.Random) -> float:
    """A loss that falls, with noise."""
    return 2.3 * math.exp(-step / 80_000) + 0.05 + chance.random() * 0.02


def die() -> None:
    """Log some epochs, and die as a job does that the system kills."""
    chance = random.Random(1)
    run = start_run(EXPERIMENT, "killed", params={"kind": "mlp", "hidden": 512, "lr": 0.05})
    for epoch in range(6):
        run.log({"train_loss": loss(epoch * 10_000, chance), "val_accuracy": 0.1 * epoch}, epoch)
    run.flush(10)
    os._exit(137)


def lose() -> None:
    """Log many steps, one of them a spike, while no server answers."""
    chance = random.Random(2)
    values = [loss(step, chance) for step in range(STEPS)]
    values[123_456] = 9.75
    with start_run(EXPERIMENT, "lost-events", params={"kind": "mlp", "hidden": 64}) as run:
        for start in range(0, STEPS, 2_000):
            steps = range(start, start + 2_000)
            run.log_series("train_loss", steps, values[start : start + 2_000])


def job(what: str, **settings: str) -> None:
    """Run one of the jobs in a process of its own."""
    subprocess.run(
        [sys.executable, __file__, what],
        env={**os.environ, **settings},
        stderr=subprocess.DEVNULL,  # it warns that the server is away, and we know
        check=False,
    )


def main() -> None:
    """Start both jobs; then deliver what the second one left."""
    url = os.environ.get("MODELTRAIL_URL", "./modeltrail-data")
    job("die", MODELTRAIL_HEARTBEAT_S="1")
    with tempfile.TemporaryDirectory() as outbox:
        away = {"MODELTRAIL_URL": NOWHERE, "MODELTRAIL_OUTBOX": outbox}
        job("lose", **away, MODELTRAIL_FINISH_TIMEOUT_S="0.1")
        segments = sorted(Path(outbox).glob("*/events/*"))
        segments[len(segments) // 2].unlink()
        subprocess.run([PROGRAM, "sync", "--outbox", outbox, "--to", url], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Two runs that go wrong.")
    parser.add_argument("job", nargs="?", choices=("die", "lose"), help=argparse.SUPPRESS)
    {"die": die, "lose": lose, None: main}[parser.parse_args().job]()
