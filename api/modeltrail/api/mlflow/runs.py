"""Runs: writes become events of the run, reads come from the fold."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import duckdb

from modeltrail.api.artifacts.places import artifact_uri
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.calls import Call, Endpoints
from modeltrail.api.mlflow.experiments import tags_of
from modeltrail.api.mlflow.names import made_up_name
from modeltrail.api.mlflow.points import MetricColumns, points_or
from modeltrail.api.mlflow.run_answers import COLUMNS, info_of, runs_of
from modeltrail.api.runs.fields import RUN, RUN_NAME, run_entity, source_of
from modeltrail.api.runs.live import (
    DELETED,
    EXPERIMENT_ID,
    LiveRun,
    LiveRuns,
    among,
    from_runs,
)
from modeltrail.api.search import compile_filter, compile_order
from modeltrail.consumers.reading import sql
from modeltrail.limits import EVENT_BYTES_MAX, KEY_CHARACTERS_MAX, RUN_ENDED, RUN_STATUSES
from modeltrail.schemas import pack

endpoints = Endpoints()

_STATUS = wire.enum(*RUN_STATUSES)
_METRIC = {
    "key": wire.text,
    "value": wire.number,
    "timestamp": wire.integer,
    "step": wire.integer,
    "model_id": wire.text,
    "dataset_name": wire.text,
    "dataset_digest": wire.text,
}
_LOGGED_MODELS = "mlflow.log-model.history"
_PAGE_MAX = 50_000
_NEWEST_MAX = 5_000

Event = tuple[str, dict[str, Any]]


# Events


def _append(call: Call, run: LiveRun, *events: Event) -> None:
    if events:
        actor = call.actor(run.user)
        call.node.append_run_events(run.run_id, events, actor, call.caller.reason)


def _active(call: Call) -> LiveRun:
    live: LiveRuns = call.state[LiveRuns]
    return live.active(call.node, call["run_id"])


def _check_metric(metric: dict[str, Any], path: str = "") -> None:
    prefix = f"{path}." if path else ""
    wire.check_key(f"{prefix}name", metric["key"])
    if metric["timestamp"] < 0:
        raise wire.invalid(
            f"{prefix}timestamp",
            metric["timestamp"],
            f"metric '{metric['key']}' (value={metric['value']}). "
            "Timestamp must be a nonnegative long (64-bit integer) ",
        )
    wire.check_length("Metric name", metric["key"], KEY_CHARACTERS_MAX)
    if bool(metric.get("dataset_name")) != bool(metric.get("dataset_digest")):
        raise InvalidRequest(
            "Both dataset_name and dataset_digest must be provided if one is provided"
        )


def _metrics_event(metrics: MetricColumns | list[dict[str, Any]]) -> Event:
    if isinstance(metrics, MetricColumns):
        return "MetricsLogged", metrics.event
    series: dict[tuple[str, str | None, str | None, str | None], int] = {}
    index = [
        series.setdefault(
            (
                metric["key"],
                metric.get("model_id") or None,
                metric.get("dataset_name") or None,
                metric.get("dataset_digest") or None,
            ),
            len(series),
        )
        for metric in metrics
    ]
    columns = pack(
        index,
        [metric.get("step", 0) for metric in metrics],
        [metric["timestamp"] for metric in metrics],
        [metric["value"] for metric in metrics],
    )
    names = ("key", "model_id", "dataset_name", "dataset_digest")
    listed = [dict(zip(names, key, strict=True)) for key in series]
    return "MetricsLogged", {"series": listed, **columns}


def _checked_param(key: str, value: str, path: str = "key") -> str:
    wire.check_key(path, key)
    wire.check_length("Param key", key, KEY_CHARACTERS_MAX)
    return value[: wire.PARAM_VALUE_CHARACTERS_MAX]


def _checked_tag(key: str, value: str, path: str = "key") -> str:
    wire.check_key(path, key)
    wire.check_length(path, key, KEY_CHARACTERS_MAX)
    return value[: wire.TAG_VALUE_CHARACTERS_MAX]


def _tag_events(tags: dict[str, str | None]) -> list[Event]:
    """Return the events for tags.

    A run's name is stored once, so that name and tag cannot differ.
    """
    events: list[Event] = []
    others = {key: value for key, value in tags.items() if key != RUN_NAME}
    if tags.get(RUN_NAME):  # an empty name does not change the run's
        events.append(("RunUpdated", {"name": tags[RUN_NAME]}))
    if others:
        events.append(("TagsChanged", {"tags": others}))
    return events


def _new_params(call: Call, run: LiveRun, params: dict[str, str]) -> dict[str, str]:
    """Return the params that the run does not have. The caller holds the run's lock."""
    known = call.state[LiveRuns].params(call.node, run)
    changed = {key: value for key, value in params.items() if known.get(key, value) != value}
    if len(params) == 1:
        for key, value in changed.items():
            raise InvalidRequest(
                f"Changing param values is not allowed. Param with key='{key}' was already "
                f"logged with value='{known[key]}' for run ID='{run.run_id}'. "
                f"Attempted logging new value '{value}'."
            )
    if changed:
        told = [
            {"key": key, "old_value": known[key], "new_value": value}
            for key, value in changed.items()
        ]
        raise InvalidRequest(
            "Changing param values is not allowed. Params were already "
            f"logged='{told}' for run ID='{run.run_id}'."
        )
    return {key: value for key, value in params.items() if key not in known}


# Lifecycle


@endpoints.declare(
    "POST runs/create experiment_id? user_id? run_name? start_time? tags?", makes=True
)
def create_run(call: Call) -> dict[str, Any] | bytes:
    """Start a run."""
    experiment_id = wire.check_experiment_id(call.get("experiment_id") or "0")
    tags = tags_of(call.get("tags", []))
    for key, value in tags.items():
        wire.check_length("key", key, KEY_CHARACTERS_MAX)
        wire.check_text("value", value)
    name, name_tag = call.get("run_name", ""), tags.pop(RUN_NAME, "")
    if name and name_tag and name != name_tag:
        raise InvalidRequest(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with "
            f"different values (run_name='{name}', mlflow.runName='{name_tag}')."
        )
    live: LiveRuns = call.state[LiveRuns]
    experiment = live.active_experiment(call.node, experiment_id)
    name = name or name_tag or made_up_name()
    user = call.get("user_id") or tags.get("mlflow.user") or ""
    started_at_ms = call.get("start_time", time.time_ns() // 1_000_000)
    run = LiveRun(call.new_id, experiment_id, user, False, {})
    fields = {
        "experiment_id": experiment_id,
        "name": name,
        "parent_run_id": tags.get("mlflow.parentRunId") or None,
        "user": user,
        "started_at_ms": started_at_ms,
        "tags": tags,
        "source": source_of(tags),
    }
    actor = call.actor(user)
    call.node.append_event("RunStarted", run.run_id, fields, actor, call.caller.reason, call.cause)
    if call.attempt is not None and call.attempt.again:
        # The first attempt may have started it, under another generated name.
        call.values["run_id"] = run.run_id
        return get_run(call)
    live.put(run)
    info = {
        "run_id": run.run_id,
        "run_uuid": run.run_id,
        "run_name": name,
        "experiment_id": experiment_id,
        "user_id": user,
        "status": "RUNNING",
        "start_time": started_at_ms,
        "artifact_uri": artifact_uri(experiment_id, experiment.artifact_location, run.run_id),
        "lifecycle_stage": "active",
    }
    data = {"tags": wire.pairs({**tags, RUN_NAME: name})}
    return {"run": {"info": info, "data": data, "inputs": {}}}


@endpoints.declare("GET runs/get run_id")
def get_run(call: Call) -> dict[str, Any]:
    """Return a run, deleted or not."""
    run_id = call["run_id"]
    with call.node.read() as cursor:
        row = cursor.execute(
            f"SELECT {COLUMNS} FROM {from_runs(cursor)} WHERE r.run_id = ? AND r.started", [run_id]
        ).fetchone()
        if row is None:
            raise NotFound(f"Run with id={run_id} not found")
        return {"run": runs_of(cursor, [row])[0]}


@endpoints.declare("POST runs/update run_id status? end_time? run_name?", status=_STATUS)
def update_run(call: Call) -> dict[str, Any]:
    """Change the status, end or name."""
    run = _active(call)
    status, ended_at_ms, name = call.get("status"), call.get("end_time"), call.get("run_name")
    events: list[Event] = []
    if name:
        events.append(("RunUpdated", {"name": name}))
    if status in RUN_ENDED and ended_at_ms is not None:
        events.append(("RunEnded", {"status": status, "ended_at_ms": ended_at_ms}))
    else:
        if status is not None:
            events.append(("RunUpdated", {"status": status}))
        if ended_at_ms is not None:  # after the status: a resumed run loses its old end
            events.append(("RunUpdated", {"ended_at_ms": ended_at_ms}))
    _append(call, run, *events)
    with call.node.read() as cursor:
        row = cursor.execute(
            f"SELECT {COLUMNS} FROM {from_runs(cursor)} WHERE r.run_id = ?", [run.run_id]
        ).fetchone()
    if row is None:
        raise NotFound(f"Run with id={run.run_id} not found")
    return {"run_info": info_of(row)}


@endpoints.declare("POST runs/delete run_id")
def delete_run(call: Call) -> dict[str, Any]:
    """Move a run to the deleted runs."""
    return _move(call, "RunDeleted")


@endpoints.declare("POST runs/restore run_id")
def restore_run(call: Call) -> dict[str, Any]:
    """Restore a run. If its experiment is deleted, the run comes back with it."""
    live: LiveRuns = call.state[LiveRuns]
    experiment_id = live.run(call.node, call["run_id"]).experiment_id
    try:
        gone = live.experiment(call.node, experiment_id).deleted
    except NotFound:
        gone = False  # the run's experiment does not exist yet
    if gone:
        raise InvalidRequest(
            f"The experiment {experiment_id} must be in the 'active' state. "
            "Current state is deleted. To bring the run back, restore the experiment."
        )
    return _move(call, "RunRestored")


def _move(call: Call, type: str) -> dict[str, Any]:
    live = call.state[LiveRuns]
    run = live.run(call.node, call["run_id"])
    _append(call, run, (type, {}))
    live.forget(run.run_id)
    return {}


# Logging


@endpoints.declare(
    "POST runs/log-metric run_id key value timestamp step? model_id? dataset_name? dataset_digest?",
    value=wire.number,
)
def log_metric(call: Call) -> dict[str, Any]:
    """Log one point."""
    _check_metric(call.values)
    _append(call, _active(call), _metrics_event([call.values]))
    return {}


@endpoints.declare("POST runs/log-parameter run_id key value?")
def log_param(call: Call) -> dict[str, Any]:
    """Log one param. Its first value stays."""
    key = call["key"]
    params = {key: _checked_param(key, call.get("value", ""))}
    with call.state[LiveRuns].lock(call["run_id"]):
        _log_params(call, _active(call), params)
    return {}


def _log_params(call: Call, run: LiveRun, params: dict[str, str], *others: Event) -> None:
    """Append the new params, followed by other events. The caller holds the run's lock."""
    new = _new_params(call, run, params)
    _append(call, run, *([("ParamsLogged", {"params": new})] if new else []), *others)
    if new and call.node.log.shared:
        run.params = None
        _new_params(call, run, params)  # another server may have been first
    elif run.params is not None:
        run.params.update(new)


@endpoints.declare("POST runs/set-tag run_id key value?")
def set_tag(call: Call) -> dict[str, Any]:
    """Set a tag; the last value counts."""
    key = call["key"]
    value = _checked_tag(key, call.get("value", ""))
    _append(call, _active(call), *_tag_events({key: value}))
    return {}


@endpoints.declare("POST runs/delete-tag run_id key")
def delete_tag(call: Call) -> dict[str, Any]:
    """Delete a tag, which must exist."""
    run, key = _active(call), call["key"]
    if key == RUN_NAME:
        raise InvalidRequest(f"Tag '{key}' is the run's name; it can be changed, not deleted.")
    if _tag(call, run, key) is None:
        raise NotFound(f"No tag with name: {key} in run with id {run.run_id}")
    _append(call, run, *_tag_events({key: None}))
    return {}


def _tag(call: Call, run: LiveRun, key: str) -> str | None:
    with call.node.read() as cursor:
        found = cursor.execute(sql("runs.tag"), [run.run_id, key]).fetchone()
    return None if found is None else str(found[0])


@endpoints.declare(
    "POST runs/log-batch run_id metrics? params? tags?",
    metrics=points_or(wire.many(wire.message(**_METRIC))),
)
def log_batch(call: Call) -> dict[str, Any]:
    """Log metrics, params and tags together. A refused batch logs nothing."""
    wire.check_run_id(call["run_id"])
    metrics, params, tags = (call.get(name, []) for name in ("metrics", "params", "tags"))
    for n, metric in enumerate(() if isinstance(metrics, MetricColumns) else metrics):
        for name in ("key", "value", "timestamp"):
            if metric.get(name) in (None, ""):
                raise wire.missing(f"metrics[{n}].{name}")
        _check_metric(metric, f"metrics[{n}]")
    for name, entries, check in (
        ("params", params, _checked_param),
        ("tags", tags, _checked_tag),
    ):
        for n, entry in enumerate(entries):
            if not entry.get("key"):
                raise wire.missing(f"{name}[{n}].key")
            path = f"{name}[{n}].key"
            entry["value"] = check(entry["key"], entry.get("value", ""), path)
    _check_batch_size(len(metrics), len(params), len(tags))
    keys = [param["key"] for param in params]
    if len(set(keys)) < len(keys):
        repeated = [key for n, key in enumerate(keys) if key in keys[:n]]
        raise InvalidRequest(
            f"Duplicate parameter keys have been submitted: {repeated}. Please ensure "
            "the request contains only one param value per param key."
        )
    others: list[Event] = [_metrics_event(metrics)] if metrics else []
    others += _tag_events({tag["key"]: tag["value"] for tag in tags})
    if not params:
        _append(call, _active(call), *others)
        return {}
    with call.state[LiveRuns].lock(call["run_id"]):
        run = _active(call)
        _log_params(call, run, {param["key"]: param["value"] for param in params}, *others)
    return {}


def _check_batch_size(metrics: int, params: int, tags: int) -> None:
    for what, limit, n in (
        ("metrics", 1000, metrics),
        ("params", 100, params),
        ("tags", 100, tags),
        ("metrics, params, and tags", 1000, metrics + params + tags),
    ):
        if n > limit:
            raise InvalidRequest(
                f"A batch logging request can contain at most {limit} {what}. "
                f"Got {n} {what}. Please split up {what} across multiple requests and try again."
            )


_DATASET_LIMITS = {
    "name": 500,
    "digest": 36,
    "source_type": 500,
    "source": 65_535,
    "schema": 1_048_575,
    "profile": 16_777_215,
}
_DATASET_BYTES_MAX = EVENT_BYTES_MAX - 64 * 1024
"""Maximum size of the datasets in one event; the rest is for its other content."""
_DATASET_INPUT = wire.message(
    tags=wire.many(wire.TAG), dataset=wire.message(**dict.fromkeys(_DATASET_LIMITS, wire.text))
)


@endpoints.declare(
    "POST runs/log-inputs run_id datasets? models?",
    datasets=wire.many(_DATASET_INPUT),
    models=wire.many(wire.message(model_id=wire.text)),
)
def log_inputs(call: Call) -> dict[str, Any]:
    """Log datasets and models that the run used."""
    wire.check_run_id(call["run_id"])
    datasets: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in call.get("datasets", []):
        dataset = _dataset(entry)
        datasets.setdefault((dataset["name"], dataset["digest"]), dataset)
    models = [model["model_id"] for model in call.get("models", []) if model.get("model_id")]
    events: list[Event] = []
    events += [("DatasetsLogged", {"datasets": some}) for some in _in_events(datasets.values())]
    if models:
        events.append(("RunModelsLogged", {"inputs": models}))
    _append(call, _active(call), *events)
    return {}


def _in_events(datasets: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the datasets in as few events as their size allows."""
    events: list[list[dict[str, Any]]] = []
    room = 0
    for dataset in datasets:
        texts = [value for value in dataset.values() if isinstance(value, str)]
        texts += [text for tag in dataset["tags"].items() for text in tag]
        size = sum(len(text.encode("utf-8", "replace")) + 8 for text in texts)
        if size > _DATASET_BYTES_MAX:
            raise InvalidRequest(
                f"Dataset {dataset['name']!r} has {size:,} bytes, and {_DATASET_BYTES_MAX:,} is "
                "the most; shorten its profile or schema."
            )
        if size > room:
            events.append([])
            room = _DATASET_BYTES_MAX
        events[-1].append(dataset)
        room -= size
    return events


def _dataset(entry: dict[str, Any]) -> dict[str, Any]:
    if "dataset" not in entry:
        raise InvalidRequest("Dataset input must have a dataset associated with it.")
    dataset, tags = entry["dataset"], tags_of(entry.get("tags", []), "datasets.tags")
    for name, limit in _DATASET_LIMITS.items():
        if name not in ("schema", "profile") and name not in dataset:
            raise InvalidRequest(f"Dataset {name} cannot be None")
        wire.check_length(name, dataset.get(name, ""), limit)
    for key, value in tags.items():
        wire.check_length("key", key, 255)
        wire.check_length("value", value, 500)
    return {**dataset, "tags": tags}


@endpoints.declare("POST runs/log-model run_id model_json")
def log_model(call: Call) -> dict[str, Any]:
    """Add a model to a tag of the run. Clients of MLflow 2 send this with each model."""
    try:
        model = dict(json.loads(call["model_json"]))
        absent = {"artifact_path", "flavors", "utc_time_created", "run_id"} - set(model)
        flavors = {
            name: {k: v for k, v in flavor.items() if k != "config"}
            if isinstance(flavor, dict)
            else flavor
            for name, flavor in dict(model.get("flavors", {})).items()
        }
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequest(
            f"Malformed model info. \n {call['model_json'][:500]} \n is not a valid JSON."
        ) from None
    if absent:
        raise InvalidRequest(f"Model json is missing mandatory fields: {absent}")
    names = ("run_id", "artifact_path", "utc_time_created", "model_uuid")
    entry = {**{name: model[name] for name in names if name in model}, "flavors": flavors}
    with call.state[LiveRuns].lock(call["run_id"]):
        run = _active(call)
        history = json.loads(_tag(call, run, _LOGGED_MODELS) or "[]")
        value = json.dumps([*history, entry])
        wire.check_text(_LOGGED_MODELS, value)
        _append(call, run, *_tag_events({_LOGGED_MODELS: value}))
    return {}


# Search


@endpoints.declare(
    "POST runs/search experiment_ids? filter? run_view_type? max_results? order_by? page_token?"
)
def search_runs(call: Call) -> dict[str, Any]:
    """Return the runs that match a filter, page by page; of all experiments if none is named."""
    limit = call.get("max_results", 1000)
    wire.check_max_results(limit, _PAGE_MAX)
    pages = call.pages("runs")
    offset = pages.offset(call.get("page_token"))
    experiment_ids = [wire.check_experiment_id(i) for i in call.get("experiment_ids", [])]
    compile_filter(RUN, call.get("filter"))  # report its mistakes before waiting
    compile_order(RUN, call.get("order_by", []))
    with call.node.read() as cursor:
        # First find the runs, then read them: sorting whole rows would cost more.
        query, params = _search(call, cursor, experiment_ids, limit, offset)
        found = cursor.execute(query, params).fetchall()
        numbers = [row[0] for row in found[:limit]]
        wanted, params = among(numbers)
        rows = cursor.execute(
            f"SELECT {COLUMNS} FROM {from_runs(cursor)} WHERE r.run {wanted}", params
        ).fetchall()
        by_number = {row[0]: row for row in rows}
        answer: dict[str, Any] = {"runs": runs_of(cursor, [by_number[n] for n in numbers])}
    if len(found) > limit:
        answer["next_page_token"] = pages.token(offset=offset + limit)
    return answer


def _search(
    call: Call,
    cursor: duckdb.DuckDBPyConnection,
    experiment_ids: list[str],
    limit: int,
    offset: int,
) -> tuple[str, list[Any]]:
    """Return the query for the numbers of the runs of a page, and of the one after it."""
    condition = compile_filter(RUN, call.get("filter"))
    order = compile_order(RUN, call.get("order_by", []))
    entity = run_entity(cursor, condition.fields | order.fields)
    if entity is not RUN:
        condition = compile_filter(entity, call.get("filter"))
        order = compile_order(entity, call.get("order_by", []))
    where, params = ["r.started"], [*order.params]
    if experiment_ids:
        where.append(f"{EXPERIMENT_ID} IN (SELECT unnest(?::VARCHAR[]))")
        params.append(experiment_ids)
    view = call.get("run_view_type", "ACTIVE_ONLY")
    if view != "ALL":
        where.append(DELETED if view == "DELETED_ONLY" else f"NOT {DELETED}")
    readable = call.caller.rights.readable_experiments(EXPERIMENT_ID)
    where += [readable.sql, condition.sql]
    params += [*readable.params, *condition.params]
    page = f"LIMIT {limit + 1} OFFSET {offset}"
    tables = f"FROM {from_runs(cursor)}{order.joins} WHERE {' AND '.join(where)}"
    if not order.terms and offset + limit < _NEWEST_MAX:
        return sql("runs.newest", tables=tables, n=offset + limit + 1, page=page), params
    terms = [*order.terms, "r.started_at_ms DESC", "r.run_id"]
    return f"SELECT r.run {tables} ORDER BY {', '.join(terms)} {page}", params
