"""Logged models of MLflow 3: created by runs, and the source of registered versions."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import duckdb

from modeltrail.api.artifacts.places import model_root
from modeltrail.api.errors import Forbidden, InvalidRequest, NotFound
from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.artifacts import list_under
from modeltrail.api.mlflow.calls import Call, Endpoints
from modeltrail.api.mlflow.experiments import tags_of
from modeltrail.api.mlflow.names import made_up_name
from modeltrail.api.pages import Pages
from modeltrail.api.registry.commands import act_of
from modeltrail.api.runs.live import LiveRuns
from modeltrail.api.search import Attribute, Entity, Keyed, compile_filter
from modeltrail.consumers.reading import sql
from modeltrail.limits import KEY_CHARACTERS_MAX, MODEL_STATUSES

endpoints = Endpoints()

_WIRE_STATUSES = ("LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED")
_BAD_IN_NAMES = ("/", ":", ".", "%", '"', "'")
_VERSIONS_TAG = "mlflow.modelVersions"
_PAGE_MAX = 1_000
_POINTS_MAX = 10_000
"""Maximum number of metric points shown with a model: the latest ones."""

_CREATED = Attribute("l.created_at_ms", "number")
_UPDATED = Attribute("l.updated_at_ms", "number")
_ATTRIBUTES = {
    "name": Attribute("l.name"),
    "model_id": Attribute("l.model_id"),
    "model_type": Attribute("l.model_type"),
    "status": Attribute("l.status"),
    "source_run_id": Attribute("l.source_run_id"),
    "experiment_id": Attribute("l.experiment_id"),
    **dict.fromkeys(("creation_time", "creation_timestamp", "creation_timestamp_ms"), _CREATED),
    **dict.fromkeys(("last_updated_timestamp", "last_updated_timestamp_ms"), _UPDATED),
}


def _entity(datasets: str, params: tuple[Any, ...]) -> Entity:
    """Return what a filter may use, with metrics limited to certain datasets."""
    return Entity(
        id="l.model_id",
        attributes=_ATTRIBUTES,
        keyed={
            "metric": Keyed(
                sql("logged_models.search_metric", datasets=datasets), "number", params
            ),
            "parameter": Keyed(sql("logged_models.search_param"), "param"),
            "tag": Keyed(sql("logged_models.search_tag")),
        },
        prefixes={
            **dict.fromkeys(("attribute", "attributes"), "attribute"),
            **dict.fromkeys(("metric", "metrics"), "metric"),
            **dict.fromkeys(("param", "params"), "parameter"),
            **dict.fromkeys(("tag", "tags"), "tag"),
        },
    )


# Reading


def _metrics(cursor: duckdb.DuckDBPyConnection, ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the newest metrics of logged models, by model id."""
    metrics: dict[str, list[dict[str, Any]]] = defaultdict(list)
    # Most have none, which is quickly known. The numbers of series say where points are.
    series = cursor.execute(sql("logged_models.series_of", ids=_marks(ids)), ids).fetchall()
    if not series:
        return metrics
    for model_id, key, value, timestamp, step, name, digest, run_id in cursor.execute(
        sql(
            "logged_models.metrics_of",
            series=", ".join(str(number) for (number,) in series),
            n=_POINTS_MAX,
        )
    ).fetchall():
        metrics[model_id].append(
            wire.set_fields(
                key=key,
                value=wire.double(value),
                timestamp=timestamp,
                step=step,
                dataset_name=name,
                dataset_digest=digest,
                model_id=model_id,
                run_id=run_id,
            )
        )
    return metrics


def _marks(ids: list[str]) -> str:
    return f"({', '.join('?' * len(ids)) or 'NULL'})"


def _models(
    cursor: duckdb.DuckDBPyConnection, rest: str, params: Sequence[Any]
) -> list[dict[str, Any]]:
    """Return logged models in MLflow's form. ``rest`` is the query after its FROM clause."""
    found = cursor.execute(sql("logged_models.models", rest=rest), params).fetchall()
    ids = [row[0] for row in found]

    def pairs_of(query: str) -> dict[str, dict[str, str]]:
        pairs: dict[str, dict[str, str]] = defaultdict(dict)
        for model_id, key, value in cursor.execute(sql(query, ids=_marks(ids)), ids).fetchall():
            pairs[model_id][key] = value
        return pairs

    tags, values = pairs_of("logged_models.tags_of"), pairs_of("logged_models.params_of")
    metrics = _metrics(cursor, ids)
    return [
        {
            "info": wire.set_fields(
                model_id=model_id,
                experiment_id=experiment_id,
                name=name,
                creation_timestamp_ms=created_at_ms,
                last_updated_timestamp_ms=updated_at_ms,
                artifact_uri=location,
                status=_WIRE_STATUSES[MODEL_STATUSES.index(status)],
                model_type=model_type or "",
                status_message=status_message,
                source_run_id=source_run_id or "",
                tags=wire.pairs(tags[model_id]) or None,
            ),
            "data": wire.set_fields(
                params=wire.pairs(values[model_id]) or None, metrics=metrics[model_id] or None
            ),
        }
        for (
            model_id, experiment_id, name, created_at_ms, updated_at_ms, location, status,
            model_type, status_message, source_run_id,
        ) in found
    ]  # fmt: skip


def _model(call: Call, *, deleted: bool = False) -> dict[str, Any]:
    """Return the model that a call names. Raises ``NotFound``."""
    with call.node.read() as cursor:
        found = _models(
            cursor, "WHERE l.model_id = ? AND (? OR NOT l.deleted)", [call["model_id"], deleted]
        )
    if not found:
        raise NotFound(f"Logged model with ID '{call['model_id']}' not found.")
    return found[0]


# Writing


def _append(call: Call, type: str, fields: dict[str, Any], user: str | None = None) -> None:
    actor = call.actor(user)
    call.node.append_event(type, call["model_id"], fields, actor, call.caller.reason, call.cause)


def _check_pairs(what: str, pairs: dict[str, str]) -> dict[str, str]:
    for key, value in pairs.items():
        wire.check_key("key", key)
        wire.check_length(f"{what} key", key, KEY_CHARACTERS_MAX)
        wire.check_text(f"{what} value", value)
    return pairs


@endpoints.declare(
    "POST logged-models experiment_id name? model_type? source_run_id? params? tags?", makes=True
)
def create_logged_model(call: Call) -> dict[str, Any]:
    """Create a logged model that is waiting for its files."""
    name = call.get("name") or made_up_name()
    if any(character in name for character in _BAD_IN_NAMES):
        raise InvalidRequest(
            f"Invalid model name ({name!r}) provided. Model name must be a non-empty string "
            f"and cannot contain the following characters: {_BAD_IN_NAMES}"
        )
    tags = _check_pairs("tag", tags_of(call.get("tags", [])))
    params = _check_pairs("param", tags_of(call.get("params", []), "params"))
    experiment_id = wire.check_experiment_id(call["experiment_id"])
    live: LiveRuns = call.state[LiveRuns]
    experiment = live.active_experiment(call.node, experiment_id)
    source_run_id = call.get("source_run_id") or None
    user = tags.get("mlflow.user")
    if source_run_id is not None and user is None:
        try:
            user = live.run(call.node, source_run_id).user
        except NotFound:
            user = None  # MLflow accepts any id
    model_id = f"m-{call.new_id}"
    call.values["model_id"] = model_id
    location = model_root(experiment_id, experiment.artifact_location, model_id)
    fields = {
        "experiment_id": experiment_id,
        "name": name,
        "model_type": call.get("model_type") or None,
        "source_run_id": source_run_id,
        "artifact_location": location,
        "params": params,
        "tags": tags,
    }
    _append(call, "LoggedModelCreated", fields, user)
    return {"model": _model(call)}


@endpoints.declare("GET logged-models/{model_id} allow_deleted?")
def get_logged_model(call: Call) -> dict[str, Any]:
    """Return a logged model."""
    return {"model": _model(call, deleted=call.get("allow_deleted", False))}


@endpoints.declare("PATCH logged-models/{model_id} status", status=wire.enum(*_WIRE_STATUSES))
def finalize_logged_model(call: Call) -> dict[str, Any]:
    """Record that all files of a model are stored, or that storing them failed."""
    _model(call, deleted=True)
    status = MODEL_STATUSES[_WIRE_STATUSES.index(call["status"])]
    _append(call, "LoggedModelUpdated", {"status": status})
    return {"model": _model(call, deleted=True)}


@endpoints.declare("DELETE logged-models/{model_id}")
def delete_logged_model(call: Call) -> dict[str, Any]:
    """Delete a logged model. Its files stay."""
    _model(call, deleted=True)
    _append(call, "LoggedModelDeleted", {})
    return {}


@endpoints.declare("PATCH logged-models/{model_id}/tags tags?")
def set_logged_model_tags(call: Call) -> dict[str, Any]:
    """Set tags of a logged model."""
    tags = _check_pairs("tag", tags_of(call.get("tags", [])))
    _model(call, deleted=True)
    if tags:
        _append(call, "LoggedModelUpdated", {"tags": tags})
    return {}


@endpoints.declare("DELETE logged-models/{model_id}/tags/{tag_key:path}")
def delete_logged_model_tag(call: Call) -> dict[str, Any]:
    """Delete a tag of a logged model."""
    key = call["tag_key"]
    tags = _model(call, deleted=True)["info"].get("tags", [])
    if all(tag["key"] != key for tag in tags):
        raise NotFound(f"No tag with key {key!r} found for model with ID {call['model_id']!r}.")
    _append(call, "LoggedModelUpdated", {"tags": {key: None}})
    return {}


_changing = threading.Lock()


def add_model_version(call: Call, model_id: str, name: str, version: int) -> None:
    """Record in a logged model's tags that a version was created from it, as MLflow does.

    If the caller may only read the logged model, its tags do not change.
    """
    try:
        call.caller.rights.logged_model(model_id, act_of("LoggedModelUpdated").level)
    except Forbidden:
        return
    with _changing:  # the tag is a list, and must keep two entries added at once
        with call.node.read() as cursor:
            row = cursor.execute(sql("logged_models.tag"), [model_id, _VERSIONS_TAG]).fetchone()
        try:
            versions = json.loads(row[0]) if row else []
        except ValueError:
            versions = []
        entry = {"name": name, "version": version}
        if not isinstance(versions, list) or entry in versions:
            return
        value = json.dumps([*versions, entry])
        fields = {"tags": {_VERSIONS_TAG: value}}
        actor = call.actor()
        call.node.append_event("LoggedModelUpdated", model_id, fields, actor)


@endpoints.declare("POST logged-models/{model_id}/params params?")
def log_logged_model_params(call: Call) -> dict[str, Any]:
    """Log params of a logged model. Repeating a value is accepted, another value is not."""
    params = _check_pairs("param", tags_of(call.get("params", []), "params"))
    with _changing:
        stored = {
            param["key"]: param["value"]
            for param in _model(call, deleted=True)["data"].get("params", [])
        }
        for key, value in params.items():
            if stored.get(key, value) != value:
                raise InvalidRequest(
                    f"Changing param values is not allowed. Param with key='{key}' was already "
                    f"logged with value='{stored[key]}' for model ID='{call['model_id']}'. "
                    f"Attempted logging new value '{value}'."
                )
        new = {key: value for key, value in params.items() if key not in stored}
        if new:
            _append(call, "LoggedModelUpdated", {"params": new})
    return {}


@endpoints.declare(
    "GET logged-models/{model_id}/artifacts/directories artifact_directory_path? page_token?"
)
def list_logged_model_artifacts(call: Call) -> dict[str, Any]:
    """List the files of a logged model."""
    root = _model(call)["info"]["artifact_uri"]
    path = call.get("artifact_directory_path")
    files = list_under(call.node, call.caller.rights, root, path)
    return wire.set_fields(root_uri=root, files=files or None)


@endpoints.declare(
    "POST runs/outputs run_id models",
    models=wire.many(wire.message(model_id=wire.text, step=wire.integer)),
)
def log_outputs(call: Call) -> dict[str, Any]:
    """Record which logged models a run created."""
    run = call.state[LiveRuns].active(call.node, call["run_id"])
    outputs = [
        {"model_id": model["model_id"], "step": model.get("step", 0)}
        for model in call["models"]
        if model.get("model_id")
    ]
    if outputs:
        call.node.append_event(
            "RunModelsLogged",
            run.run_id,
            {"outputs": outputs},
            call.actor(run.user),
            call.caller.reason,
        )
    return {}


# Search


_ORDER = wire.message(
    field_name=wire.text,
    ascending=wire.boolean,
    dataset_name=wire.text,
    dataset_digest=wire.text,
)


@endpoints.declare(
    "POST logged-models/search experiment_ids filter? datasets? max_results? order_by? page_token?",
    datasets=wire.many(wire.message(dataset_name=wire.text, dataset_digest=wire.text)),
    order_by=wire.many(_ORDER),
)
def search_logged_models(call: Call) -> dict[str, Any]:
    """Return logged models that match a filter. Metrics may be limited to certain datasets."""
    experiment_ids = [wire.check_experiment_id(one) for one in call["experiment_ids"]]
    if not experiment_ids:
        raise wire.missing("experiment_ids")
    limit = call.get("max_results") or 100
    wire.check_max_results(limit, _PAGE_MAX)
    query = {name: call.get(name) or None for name in ("filter", "order_by", "datasets")}
    pages = Pages("models", experiment_ids=experiment_ids, **query)
    offset = pages.offset(call.get("page_token"))
    datasets, dataset_params = _on_datasets(call.get("datasets", []))
    condition = compile_filter(_entity(datasets, dataset_params), call.get("filter"))
    where, params = condition.sql, list(condition.params)
    if dataset_params and not any(kind == "metric" for kind, _ in condition.fields):
        where += f" AND l.model_id IN ({sql('logged_models.with_datasets', datasets=datasets)})"
        params += dataset_params
    joins, join_params, terms = _order(call.get("order_by", []))
    readable = call.caller.rights.readable_experiments("l.experiment_id")
    with call.node.read() as cursor:
        found = _models(
            cursor,
            f"{joins} WHERE NOT l.deleted AND list_contains(?::VARCHAR[], l.experiment_id) "
            f"AND {readable.sql} AND {where} ORDER BY {terms} LIMIT {limit + 1} OFFSET {offset}",
            [*join_params, experiment_ids, *readable.params, *params],
        )
    token = pages.token(offset=offset + limit) if len(found) > limit else None
    return wire.set_fields(models=found[:limit] or None, next_page_token=token)


def _on_datasets(datasets: list[dict[str, Any]]) -> tuple[str, tuple[str, ...]]:
    """Return a condition on the series ``s``, and its parameters."""
    conditions: list[str] = []
    params: list[str] = []
    for dataset in datasets:
        if not dataset.get("dataset_name"):
            raise InvalidRequest("`dataset_name` in the `datasets` clause must be specified.")
        conditions.append("s.dataset_name = ?")
        params.append(dataset["dataset_name"])
        if dataset.get("dataset_digest"):
            conditions[-1] = f"({conditions[-1]} AND s.dataset_digest = ?)"
            params.append(dataset["dataset_digest"])
    return f"({' OR '.join(conditions)})" if conditions else "TRUE", tuple(params)


def _order(clauses: list[dict[str, Any]]) -> tuple[str, list[Any], str]:
    """Return joins with their parameters, and terms: values first, then NaN, then missing ones."""
    joins: list[str] = []
    params: list[Any] = []
    terms: list[str] = []
    for n, clause in enumerate(clauses):
        name = clause.get("field_name", "")
        kind, dot, key = name.partition(".")
        if dot and kind != "metrics":
            raise InvalidRequest(
                f"Invalid order by field name: {name}. Only metrics are supported."
            )
        if dot:
            datasets, dataset_params = "TRUE", tuple[str, ...]()
            given = [name for name in ("dataset_name", "dataset_digest") if clause.get(name)]
            if given:
                datasets = " AND ".join(f"s.{name} = ?" for name in given)
                dataset_params = tuple(clause[name] for name in given)
            joins.append(
                f" LEFT JOIN ({sql('logged_models.newest_metric', datasets=datasets)}) o{n} "
                f"ON o{n}.model_id = l.model_id"
            )
            params += [key.strip('`"'), *dataset_params]
            term, kinds = f"o{n}.value", f" WHEN isnan(o{n}.value) THEN 1"
        else:
            attribute = _ATTRIBUTES.get(name)
            if attribute is None:
                raise InvalidRequest(f"Invalid order by field name: {name}")
            term, kinds = attribute.sql, ""
        terms.append(f"CASE WHEN {term} IS NULL THEN 2{kinds} ELSE 0 END")
        terms.append(f"{term} {'ASC' if clause.get('ascending', True) else 'DESC'}")
    return "".join(joins), params, ", ".join([*terms, "l.created_at_ms DESC", "l.model_id"])
