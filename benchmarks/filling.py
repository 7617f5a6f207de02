"""Fills stores with runs: ours through the log, MLflow's through its tables.

The rows in MLflow's tables are those that its API writes for the same calls; its API would take
hours for them.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from modeltrail.eventlog import RUNS, EventLog, NewEvent
from modeltrail.schemas import encode, envelope, new_event_id, pack

_START_MS = 1_700_000_000_000
_MODELS = ("resnet", "vit", "mlp", "gbdt")
_APPEND_EVENTS = 2_000


class FilledRun(NamedTuple):
    """A run that ended."""

    run_id: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    started_at_ms: int


def runs(first: int, last: int) -> Iterator[FilledRun]:
    """Runs of a sweep, numbered; the same numbers give the same runs."""
    for n in range(first, last):
        dice = random.Random(n)
        yield FilledRun(
            f"{dice.getrandbits(128):032x}",
            f"trial-{n}",
            {
                "model": dice.choice(_MODELS),
                "lr": f"{10 ** dice.uniform(-5, -1):.6g}",
                "batch_size": str(2 ** dice.randint(4, 10)),
                "seed": str(n),
                "optimizer": dice.choice(("adam", "sgd")),
            },
            {
                "mlflow.user": dice.choice(("ada", "bob", "cyn")),
                "mlflow.source.name": "train.py",
                "mlflow.source.type": "LOCAL",
                "mlflow.runName": f"trial-{n}",
            },
            {"accuracy": dice.random(), "loss": dice.expovariate(1), "f1": dice.random()},
            _START_MS + 1_000 * n,
        )


def fill_modeltrail(log: EventLog, experiment: str, first: int, last: int) -> None:
    """Append the events of runs."""
    events = (event for run in runs(first, last) for event in _events(run, experiment))
    while batch := list(islice(events, _APPEND_EVENTS)):
        log.append(batch)


def _events(run: FilledRun, experiment: str) -> Iterator[NewEvent]:
    producer = new_event_id()
    ended_at_ms = run.started_at_ms + 60_000
    tags = {key: value for key, value in run.tags.items() if key != "mlflow.runName"}
    columns = pack(
        range(len(run.metrics)),
        [0] * len(run.metrics),
        [ended_at_ms] * len(run.metrics),
        run.metrics.values(),
    )
    said: list[tuple[str, dict[str, Any]]] = [
        (
            "RunStarted",
            {
                "experiment_id": experiment,
                "name": run.name,
                "user": tags["mlflow.user"],
                "started_at_ms": run.started_at_ms,
                "params": run.params,
                "tags": tags,
            },
        ),
        ("MetricsLogged", {"series": [{"key": key} for key in run.metrics], **columns}),
        ("RunEnded", {"status": "FINISHED", "ended_at_ms": ended_at_ms}),
    ]
    for sequence, (type, fields) in enumerate(said):
        yield _event(run.run_id, producer, sequence, type, fields)


def _event(
    run_id: str, producer: bytes, sequence: int, type: str, fields: dict[str, Any]
) -> NewEvent:
    said = envelope(producer_id=producer, sequence=sequence, actor="bench", client="bench")
    return NewEvent(RUNS, run_id, encode(type, {"envelope": said, "run_id": run_id, **fields}))


def fill_mlflow(database: Path, experiment: str, first: int, last: int) -> None:
    """Insert the rows of runs."""
    with closing(sqlite3.connect(database, timeout=60)) as con, con:
        for run in runs(first, last):
            ended_at_ms = run.started_at_ms + 60_000
            con.execute(
                "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, "
                "user_id, status, start_time, end_time, source_version, lifecycle_stage, "
                "artifact_uri, experiment_id) VALUES (?, ?, 'UNKNOWN', '', '', ?, 'FINISHED', ?, "
                "?, '', 'active', ?, ?)",
                (
                    *(run.run_id, run.name, run.tags["mlflow.user"], run.started_at_ms),
                    *(ended_at_ms, f"mlflow-artifacts:/{experiment}/{run.run_id}/artifacts"),
                    int(experiment),
                ),
            )
            for table, entries in (("params", run.params), ("tags", run.tags)):
                con.executemany(
                    f"INSERT INTO {table} (key, value, run_uuid) VALUES (?, ?, ?)",
                    [(key, value, run.run_id) for key, value in entries.items()],
                )
            for table in ("metrics", "latest_metrics"):
                con.executemany(
                    f"INSERT INTO {table} (key, value, timestamp, run_uuid, step, is_nan) "
                    "VALUES (?, ?, ?, ?, 0, 0)",
                    [(key, v, ended_at_ms, run.run_id) for key, v in run.metrics.items()],
                )


def points(n: int) -> Iterator[tuple[int, int, float]]:
    """Step, timestamp and value of the points of a long history."""
    dice = random.Random(1)
    return ((step, _START_MS + 100 * step, dice.random()) for step in range(n))


def history_modeltrail(log: EventLog, run_id: str, n: int) -> None:
    """Append the points of metric ``long`` to a run, 1,000 an event."""
    producer = new_event_id()
    found = points(n)
    events = []
    sequence = 0
    while batch := list(islice(found, 1_000)):
        steps, times, values = zip(*batch, strict=True)
        columns = pack([0] * len(batch), steps, times, values)
        fields = {"series": [{"key": "long"}], **columns}
        events.append(_event(run_id, producer, sequence, "MetricsLogged", fields))
        sequence += 1
    for at in range(0, len(events), 100):
        log.append(events[at : at + 100])


def history_mlflow(database: Path, run_id: str, n: int) -> None:
    """Insert the points of metric ``long`` of a run."""
    with closing(sqlite3.connect(database, timeout=60)) as con, con:
        con.executemany(
            "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) "
            "VALUES ('long', ?, ?, ?, ?, 0)",
            ((value, at, run_id, step) for step, at, value in points(n)),
        )
        last = list(points(n))[-1]
        con.execute(
            "INSERT INTO latest_metrics (key, value, timestamp, run_uuid, step, is_nan) "
            "VALUES ('long', ?, ?, ?, ?, 0)",
            (last[2], last[1], run_id, last[0]),
        )
