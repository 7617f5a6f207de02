"""A tracking database such as MLflow makes, with as many runs and points as are asked for."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

START_MS = 1_700_000_000_000

_TABLES = """
CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name VARCHAR(256) NOT NULL UNIQUE,
    artifact_location VARCHAR(256), lifecycle_stage VARCHAR(32), creation_time BIGINT,
    last_update_time BIGINT);
CREATE TABLE experiment_tags (key VARCHAR(250), value VARCHAR(5000), experiment_id INTEGER,
    PRIMARY KEY (key, experiment_id));
CREATE TABLE runs (run_uuid VARCHAR(32) PRIMARY KEY, name VARCHAR(250), user_id VARCHAR(256),
    status VARCHAR(9), start_time BIGINT, end_time BIGINT, lifecycle_stage VARCHAR(20),
    artifact_uri VARCHAR(200), experiment_id INTEGER);
CREATE TABLE metrics (key VARCHAR(250), value FLOAT NOT NULL, timestamp BIGINT NOT NULL,
    run_uuid VARCHAR(32) NOT NULL, step BIGINT DEFAULT '0' NOT NULL, is_nan BOOLEAN NOT NULL,
    PRIMARY KEY (key, timestamp, step, run_uuid, value, is_nan));
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE TABLE params (key VARCHAR(250), value VARCHAR(8000), run_uuid VARCHAR(32),
    PRIMARY KEY (key, run_uuid));
CREATE TABLE tags (key VARCHAR(250), value VARCHAR(8000), run_uuid VARCHAR(32),
    PRIMARY KEY (key, run_uuid));
CREATE TABLE registered_models (name VARCHAR(256) PRIMARY KEY, creation_time BIGINT,
    last_updated_time BIGINT, description VARCHAR(5000));
CREATE TABLE model_versions (name VARCHAR(256), version INTEGER, creation_time BIGINT,
    last_updated_time BIGINT, description VARCHAR(5000), user_id VARCHAR(256),
    current_stage VARCHAR(20), source VARCHAR(500), run_id VARCHAR(32), run_link VARCHAR(500),
    PRIMARY KEY (name, version));
CREATE TABLE registered_model_tags (key VARCHAR(250), value VARCHAR(5000), name VARCHAR(256),
    PRIMARY KEY (key, name));
CREATE TABLE model_version_tags (key VARCHAR(250), value VARCHAR(5000), name VARCHAR(256),
    version INTEGER, PRIMARY KEY (key, name, version));
CREATE TABLE registered_model_aliases (alias VARCHAR(256), version INTEGER, name VARCHAR(256),
    PRIMARY KEY (name, alias));
"""


class TrackingDatabase:
    """A database that can grow."""

    def __init__(self, path: Path) -> None:
        """Make it, with the experiment Default."""
        self.path = path
        self.execute("PRAGMA journal_mode=WAL")
        with closing(sqlite3.connect(path)) as con:
            con.executescript(_TABLES)
        self.experiment(0, "Default")

    def execute(self, sql: str, *values: object) -> None:
        """Run a statement."""
        with closing(sqlite3.connect(self.path)) as con, con:
            con.execute(sql, values)

    def experiment(self, number: int, name: str, *, location: str | None = None) -> None:
        """Add an experiment."""
        self.execute(
            "INSERT INTO experiments VALUES (?, ?, ?, 'active', ?, ?)",
            number, name, location or f"{self.path.parent}/files/{number}", START_MS, START_MS,
        )  # fmt: skip

    def runs(self, experiment: int, count: int, points: int, *, keys: int = 10) -> None:
        """Add ended runs, each with so many points, some params and tags."""
        random_ = random.Random(f"{experiment} {count}")
        ids = [f"{random_.getrandbits(128):032x}" for _ in range(count)]
        with closing(sqlite3.connect(self.path)) as con, con:
            con.executemany(
                "INSERT INTO runs VALUES (?, ?, 'ada', 'FINISHED', ?, ?, 'active', ?, ?)",
                [
                    (
                        run_id, f"run {n}", START_MS + n, START_MS + n + points,
                        f"{self.path.parent}/files/{experiment}/{run_id}/artifacts", experiment,
                    )
                    for n, run_id in enumerate(ids)
                ],
            )  # fmt: skip
            for table in ("params", "tags"):
                con.executemany(
                    f"INSERT INTO {table} VALUES (?, ?, ?)",
                    [(f"{table} {i}", str(random_.random()), r) for r in ids for i in range(5)],
                )
            con.executemany(
                "INSERT INTO metrics VALUES (?, ?, ?, ?, ?, 0)",
                _points(ids, points, keys, random_),
            )


def _points(
    ids: list[str], points: int, keys: int, random_: random.Random
) -> Iterator[tuple[str, float, int, str, int]]:
    for run_id in ids:
        for n in range(points):
            step = n // keys
            yield f"metric {n % keys}", random_.random(), START_MS + step, run_id, step
