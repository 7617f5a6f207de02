"""What a caller may see of the registry: models, requests, and the runs behind versions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import duckdb

from modeltrail.api.access.rights import Condition, Rights
from modeltrail.api.errors import NotFound
from modeltrail.api.registry.reading import as_of_text
from modeltrail.consumers.reading import sql


def events(rights: Rights) -> Condition:
    """Return the condition on columns of the view ``audit`` that the caller may read an event.

    An event is about an experiment, or a model with its versions and aliases. The others (users,
    permissions, webhooks, dead letters, and refusals that name nothing that exists) are shown to
    those who may read everything.
    """
    if rights.reads_everything():
        return Condition("TRUE", [])
    experiments = rights.readable_experiments("experiment_id")
    models = rights.readable_models("model_key")
    return Condition(
        f"(CASE WHEN entity = 'experiment' THEN {experiments.sql} "
        f"WHEN entity IN ('model', 'model_version', 'alias') THEN {models.sql} ELSE false END)",
        [*experiments.params, *models.params],
    )


def model_key(
    cursor: duckdb.DuckDBPyConnection, rights: Rights, offset: int, model: str, as_of: str | None
) -> str:
    """Return the key of the model that had a name at an offset.

    Another model than today's may have had it, which the caller may not see.

    Raises:
        NotFound: none had it, or the caller may not read it.
    """
    readable = rights.readable_models("model_key")
    found = cursor.execute(
        sql("history.model", readable=readable.sql), [model, offset, offset, *readable.params]
    ).fetchone()
    if found is None:
        raise NotFound(f"Registered Model with name={model} not found{as_of_text(as_of)}")
    return str(found[0])


def readable_runs(
    cursor: duckdb.DuckDBPyConnection, rights: Rights, run_ids: Iterable[str | None]
) -> set[str]:
    """Return which of some runs the caller may read; not those that do not exist, unless all."""
    ids = sorted({run_id for run_id in run_ids if run_id})
    if not ids or rights.reads_everything():
        return set(ids)
    readable = rights.readable_experiments("experiment_id")
    tables = "runs.from_runs"
    if cursor.execute(sql("runs.any_by_name")).fetchone() is None:
        tables = "runs.from_runs_by_id"
    rows = cursor.execute(
        sql("runs.readable", tables=sql(tables), readable=readable.sql), [ids, *readable.params]
    ).fetchall()
    return {run_id for (run_id,) in rows}


def hide_runs(request: dict[str, Any], readable: set[str]) -> None:
    """Replace what a request says of runs that the caller may not read by None, in place."""
    run_id = request.get("run_id")
    if run_id and run_id not in readable:
        request |= dict.fromkeys(("run_id", "source", "model_id", "run_link"))
        request["readable"] = False
    for one in request.get("evidence") or ():
        if one.get("run_id") and one["run_id"] not in readable:
            one["run_id"] = None
