"""What the tests of the page look at: a sweep with everything that the page has to show."""

from __future__ import annotations

import math
import random

from api_server import Job, Server

RUNS = 14


def curve(seed: int, points: int, lr: float) -> list[float]:
    """A loss that falls, with noise."""
    noise = random.Random(seed)
    return [math.exp(-step * lr) + 0.02 * noise.random() for step in range(points)]


def fill(server: Server) -> None:
    """Log a sweep of fourteen runs, one of which is still running."""
    events: list[bytes] = []
    for n in range(RUNS):
        lr = 0.001 * (n + 1)
        job = Job(
            f"{n:032x}",
            experiment_name="vision/sweep" if n % 2 else "fraud/scores",
            name=f"trial-{n}",
            user="ada" if n % 3 else "grace",
            started_at_ms=1_760_000_000_000 + n * 60_000,
        )
        events += [
            job.started(),
            job.event("ParamsLogged", params={"lr": f"{lr:g}", "depth": str(4 + n % 3)}),
            job.metrics("loss", curve(n, 300, lr * 10)),
            job.metrics("val_accuracy", [1 - v for v in curve(n + 100, 300, lr * 10)]),
        ]
        if n != RUNS - 1:
            status = "FAILED" if n == 3 else "FINISHED"
            ended = 1_760_000_000_000 + n * 60_000 + 90_000
            events.append(job.event("RunEnded", status=status, ended_at_ms=ended))
    server.ingest(*events)
