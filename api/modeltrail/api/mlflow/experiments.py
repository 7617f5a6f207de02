"""Experiments: requests for the fold to decide, and the current state."""

from __future__ import annotations

from typing import Any

import duckdb

from modeltrail.api.artifacts.places import artifact_location
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.calls import Call, Endpoints
from modeltrail.api.runs.live import EXPERIMENT_ID, from_runs
from modeltrail.api.search import (
    Attribute,
    Entity,
    Keyed,
    compile_filter,
    compile_order,
)
from modeltrail.consumers.reading import sql

endpoints = Endpoints()

_PAGE_MAX = 50_000
_DATASETS_OF_MAX = 20
_DATASETS_MAX = 1_000

_BEGINNING = sql("registry.beginning")
_CREATED = f"coalesce(e.created_at_ms, {_BEGINNING})"

EXPERIMENT = Entity(
    id="e.experiment_id",
    attributes={
        "name": Attribute("e.name"),
        "experiment_id": Attribute("e.experiment_id", "id"),
        "creation_time": Attribute(_CREATED, "number"),
        "last_update_time": Attribute(f"coalesce(e.updated_at_ms, {_CREATED})", "number"),
    },
    keyed={
        "tag": Keyed(sql("registry.search_experiment_tag"), nullable=True, ordered=False),
    },
    prefixes={
        **dict.fromkeys(("attribute", "attributes", "attr"), "attribute"),
        **dict.fromkeys(("tag", "tags"), "tag"),
    },
)

_COLUMNS = (
    "e.experiment_id, e.name, e.artifact_location, e.deleted, e.created_at_ms, e.updated_at_ms"
)


def _experiments(
    cursor: duckdb.DuckDBPyConnection, found: list[tuple[Any, ...]]
) -> list[dict[str, Any]]:
    beginning = None
    if any(row[4] is None for row in found):
        (beginning,) = cursor.execute(f"SELECT {_BEGINNING}").fetchall()[0]
    tags: dict[str, dict[str, str]] = {row[0]: {} for row in found}
    for experiment_id, key, value in cursor.execute(
        sql("registry.experiment_tags"), [list(tags)]
    ).fetchall():
        tags[experiment_id][key] = value
    return [
        wire.set_fields(
            experiment_id=experiment_id,
            name=name,
            artifact_location=artifact_location(experiment_id, location),
            lifecycle_stage="deleted" if deleted else "active",
            creation_time=beginning if created_at_ms is None else created_at_ms,
            last_update_time=beginning if updated_at_ms is None else updated_at_ms,
            tags=wire.pairs(tags[experiment_id]) or None,
        )
        for experiment_id, name, location, deleted, created_at_ms, updated_at_ms in found
    ]


def _one(call: Call, column: str, value: str, missing: str) -> dict[str, Any]:
    with call.node.read() as cursor:
        found = cursor.execute(
            sql("registry.experiments", columns=_COLUMNS, rest=f"WHERE e.{column} = ?"), [value]
        ).fetchall()
        if not found:
            raise NotFound(missing)
        return {"experiment": _experiments(cursor, found)[0]}


@endpoints.declare("POST experiments/create name artifact_location? tags?", makes=True)
def create_experiment(call: Call) -> dict[str, Any]:
    """Create an experiment. A name that was ever used is refused."""
    tags = tags_of(call.get("tags", []))
    fields = {
        "name": call["name"],
        "artifact_location": call.get("artifact_location") or None,
        "tags": tags,
    }
    verdict = call.decide("CreateExperiment", fields, user=tags.get("mlflow.user"))
    return {"experiment_id": verdict.experiment_id}


def tags_of(entries: list[dict[str, str]], path: str = "tags") -> dict[str, str]:
    """Return a list of tags by key. The last value of a key counts."""
    tags: dict[str, str] = {}
    for n, entry in enumerate(entries):
        if not entry.get("key"):
            raise wire.missing(f"{path}[{n}].key")
        tags[entry["key"]] = entry.get("value", "")
    return tags


@endpoints.declare("GET experiments/get experiment_id")
def get_experiment(call: Call) -> dict[str, Any]:
    """Return an experiment, deleted or not."""
    wanted = wire.check_experiment_id(call["experiment_id"])
    return _one(call, "experiment_id", wanted, f"No Experiment with id={wanted} exists")


@endpoints.declare("GET experiments/get-by-name experiment_name")
def get_experiment_by_name(call: Call) -> dict[str, Any]:
    """Return an experiment, deleted or not."""
    name = call["experiment_name"]
    return _one(call, "name", name, f"Could not find experiment with name '{name}'")


@endpoints.declare(
    "GET POST experiments/search max_results? page_token? filter? order_by? view_type?"
)
def search_experiments(call: Call) -> dict[str, Any]:
    """Return experiments that match a filter, page by page."""
    limit = call.get("max_results", 0)
    if limit > _PAGE_MAX:
        raise InvalidRequest(
            f"Invalid value {limit} for parameter 'max_results' supplied. "
            f"It must be at most {_PAGE_MAX}"
        )
    wire.check_max_results(limit, _PAGE_MAX)
    pages = call.pages("experiments")
    offset = pages.offset(call.get("page_token"))
    condition = compile_filter(EXPERIMENT, call.get("filter"))
    order = compile_order(EXPERIMENT, call.get("order_by", []))
    # As in MLflow: among equals in a requested order, the one with the greater id comes first.
    terms = order.terms or [f"{_CREATED} DESC NULLS LAST"]
    terms = [*terms, f"e.experiment_id::BIGINT {'DESC' if order.terms else 'ASC'}"]
    view = call.get("view_type", "ACTIVE_ONLY")
    readable = call.caller.rights.readable_experiments("e.experiment_id")
    lifecycle = {"ACTIVE_ONLY": "NOT e.deleted", "DELETED_ONLY": "e.deleted"}.get(view, "TRUE")
    with call.node.read() as cursor:
        found = cursor.execute(
            sql(
                "registry.experiments",
                columns=_COLUMNS,
                rest=f"{order.joins} WHERE {lifecycle} AND {readable.sql} AND {condition.sql} "
                f"ORDER BY {', '.join(terms)} LIMIT {limit + 1} OFFSET {offset}",
            ),
            [*order.params, *readable.params, *condition.params],
        ).fetchall()
        answer: dict[str, Any] = {"experiments": _experiments(cursor, found[:limit])}
    if len(found) > limit:
        answer["next_page_token"] = pages.token(offset=offset + limit)
    return answer


@endpoints.declare("POST experiments/search-datasets experiment_ids?")
def search_datasets(call: Call) -> dict[str, Any]:
    """Return the datasets that runs of some experiments used, once for each context."""
    wanted = [wire.check_experiment_id(one) for one in call.get("experiment_ids", [])]
    if not wanted:
        raise InvalidRequest("SearchDatasets request must specify at least one experiment_id.")
    if len(wanted) > _DATASETS_OF_MAX:
        raise InvalidRequest(
            f"SearchDatasets request cannot specify more than {_DATASETS_OF_MAX} experiment_ids. "
            f"Received {len(wanted)} experiment_ids."
        )
    with call.node.read() as cursor:
        found = cursor.execute(
            sql(
                "runs.datasets_in",
                experiment_id=EXPERIMENT_ID,
                tables=from_runs(cursor),
                limit=_DATASETS_MAX,
            ),
            [wanted],
        ).fetchall()
    names = ("experiment_id", "name", "digest", "context")
    summaries = [wire.set_fields(**dict(zip(names, row, strict=True))) for row in found]
    return wire.set_fields(dataset_summaries=summaries or None)
