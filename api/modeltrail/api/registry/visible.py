"""What a caller may see of the registry: models, requests, and the runs behind versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import duckdb

from modeltrail.api.access.acts import Level
from modeltrail.api.access.rights import MODEL, Condition, Rights
from modeltrail.api.artifacts.uris import ModelUri, Place, RunUri, parse
from modeltrail.api.errors import ApiError, InvalidRequest, NotFound
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
    rows = cursor.execute(
        sql("runs.readable", tables=run_tables(cursor), readable=readable.sql),
        [ids, *readable.params],
    ).fetchall()
    return {run_id for (run_id,) in rows}


def run_tables(cursor: duckdb.DuckDBPyConnection) -> str:
    """Return the tables of runs with their experiments, for queries."""
    by_name = cursor.execute(sql("runs.any_by_name")).fetchone() is not None
    return sql("runs.from_runs" if by_name else "runs.from_runs_by_id")


class _Origin(NamedTuple):
    """What a version, or a request for one, says that it was made from."""

    runs: frozenset[str]
    logged_models: frozenset[str]
    models: frozenset[str]


def _origin(fields: Mapping[str, Any]) -> _Origin:
    runs, logged = {fields.get("run_id")}, {fields.get("model_id")}
    models: set[str | None] = set()
    try:
        where = parse(fields.get("source") or "")
    except InvalidRequest:
        where = None
    if isinstance(where, RunUri):
        runs.add(where.run_id)
    elif isinstance(where, Place):
        (runs if where.kind == "run" else logged).add(where.id)
    elif isinstance(where, ModelUri):
        logged.add(where.model_id)
        models.add(where.name)
    return _Origin(*(frozenset(id for id in ids if id) for ids in (runs, logged, models)))


def origin_hidden(
    cursor: duckdb.DuckDBPyConnection, rights: Rights, fields: Sequence[Mapping[str, Any]]
) -> list[bool]:
    """Return which of some versions, or requests, were made from something unreadable."""
    if rights.reads_everything():
        return [False] * len(fields)
    origins = [_origin(one) for one in fields]
    runs = readable_runs(cursor, rights, {id for one in origins for id in one.runs})
    asked = {id for one in origins for id in one.logged_models}
    logged = {id for id in asked if _reads_logged_model(rights, id)}
    return [
        not (
            one.runs <= runs
            and one.logged_models <= logged
            and all(rights.level(MODEL, name) >= Level.READ for name in one.models)
        )
        for one in origins
    ]


def _reads_logged_model(rights: Rights, model_id: str) -> bool:
    try:
        rights.logged_model(model_id, Level.READ)
    except ApiError:
        return False
    return True


_ORIGIN = ("source", "run_id", "model_id", "run_link")


def hide_origins(
    cursor: duckdb.DuckDBPyConnection, rights: Rights, requests: Sequence[dict[str, Any]]
) -> None:
    """Replace what requests say of runs and models that the caller may not read, in place."""
    if rights.reads_everything():
        return
    for request, hidden in zip(requests, origin_hidden(cursor, rights, requests), strict=True):
        if hidden:
            request |= {name: None for name in _ORIGIN if name in request}
            request["readable"] = False
    evidence = [one for request in requests for one in request.get("evidence") or ()]
    readable = readable_runs(cursor, rights, (one.get("run_id") for one in evidence))
    for one in evidence:
        if one.get("run_id") not in readable:
            one["run_id"] = None
