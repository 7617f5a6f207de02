"""Runs in MLflow's form."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import duckdb

from modeltrail.api.artifacts.places import artifact_uri
from modeltrail.api.mlflow import wire
from modeltrail.api.runs.fields import COLUMN_OF_TAG, RECORDED, RUN_NAME
from modeltrail.api.runs.live import DELETED, EXPERIMENT_ID, among
from modeltrail.consumers.reading import sql

COLUMNS = ", ".join(
    [
        "r.run", "r.run_id", "r.name", "r.status", "r.started_at_ms", "r.ended_at_ms",
        'r."user"', f"{EXPERIMENT_ID}", f"{DELETED}", "e.artifact_location",
        *(f"CASE WHEN {RECORDED} THEN r.{column} END" for column in COLUMN_OF_TAG.values()),
    ]
)  # fmt: skip
"""The columns that ``runs_of`` needs for each run, over the tables ``from_runs``."""
_FIXED = 10


def info_of(row: Sequence[Any]) -> dict[str, Any]:
    """Return the ``RunInfo`` of a row of ``COLUMNS``."""
    _, run_id, name, status, started, ended, user, experiment_id, deleted, location = row[:_FIXED]
    return wire.set_fields(
        run_id=run_id,
        run_uuid=run_id,
        run_name=name or "",
        experiment_id=experiment_id,
        user_id=user or "",
        status=status,
        start_time=started,
        end_time=ended,
        artifact_uri=artifact_uri(experiment_id, location, run_id),
        lifecycle_stage="deleted" if deleted else "active",
    )


def runs_of(
    cursor: duckdb.DuckDBPyConnection, rows: Sequence[Sequence[Any]]
) -> list[dict[str, Any]]:
    """Return whole runs for rows of ``COLUMNS``, in their order."""
    wanted, numbers = among([row[0] for row in rows])

    def of(query: str) -> dict[int, list[tuple[Any, ...]]]:
        found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for row in cursor.execute(sql(query, runs=wanted), numbers).fetchall():
            found[row[0]].append(row[1:])
        return found

    params = of("runs.params_of")
    tags = of("runs.tags_of")
    series = of("runs.series_of")
    datasets = of("runs.datasets_of")
    used = of("runs.model_inputs_of")
    made = of("runs.model_outputs_of")
    runs = []
    for row in rows:
        run = row[0]
        shown = {
            key: value for key, value in zip(COLUMN_OF_TAG, row[_FIXED:], strict=True) if value
        }
        shown.update(tags.get(run, ()))
        if row[2]:
            shown[RUN_NAME] = row[2]
        data = {
            "metrics": _latest(series.get(run, ())),
            "params": wire.pairs(dict(params.get(run, ()))),
            "tags": wire.pairs(shown),
        }
        runs.append(
            {
                "info": info_of(row),
                "data": {name: entries for name, entries in data.items() if entries},
                "inputs": _inputs(datasets.get(run, ()), used.get(run, ())),
                "outputs": _outputs(made.get(run, ())),
            }
        )
    return runs


def _latest(series: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the latest point of each metric, by key, for whatever model or dataset."""
    latest: dict[str, tuple[Any, ...]] = {}
    for key, step, timestamp_ms, value in series:
        rank = (step, timestamp_ms, math.isnan(value), value)
        if key not in latest or rank > latest[key]:
            latest[key] = rank
    return [
        {"key": key, "value": wire.double(value), "timestamp": timestamp_ms, "step": step}
        for key, (step, timestamp_ms, _, value) in sorted(latest.items())
    ]


def _inputs(datasets: Sequence[Sequence[Any]], models: Sequence[Sequence[Any]]) -> dict[str, Any]:
    dataset_inputs = [
        {
            "tags": wire.pairs(tags or {}),
            "dataset": wire.set_fields(
                name=name,
                digest=digest,
                source_type=source_type,
                source=source,
                schema=schema or None,
                profile=profile or None,
            ),
        }
        for name, digest, source_type, source, schema, profile, tags in datasets
    ]
    model_inputs = [{"model_id": model_id} for (model_id,) in models]
    return wire.set_fields(dataset_inputs=dataset_inputs or None, model_inputs=model_inputs or None)


def _outputs(models: Sequence[Sequence[Any]]) -> dict[str, Any]:
    made = [{"model_id": model_id, "step": step} for model_id, step in models]
    return wire.set_fields(model_outputs=made or None)
