"""Registered models and their versions: requests that the fold decides, and what holds now.

Prompts are registered models with a tag, and versions whose text is a tag; a search leaves them out
unless its filter names that tag.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from modeltrail.api.access.files import check_source
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow import sources, wire
from modeltrail.api.mlflow.calls import Call, Endpoints
from modeltrail.api.mlflow.experiments import tags_of
from modeltrail.api.mlflow.logged_models import add_model_version
from modeltrail.api.mlflow.search import (
    Attribute,
    Entity,
    Keyed,
    Order,
    compile_filter,
    compile_order,
)
from modeltrail.api.node import Verdict
from modeltrail.api.routes.registry import latest_metrics
from modeltrail.consumers.projections import registry_rules as rules

endpoints = Endpoints()

PROMPT = "mlflow.prompt.is_prompt"
REASON = "modeltrail.reason"
"""Tag of a version that says why, for clients that cannot send a header."""

_MODELS_MAX = 1_000
_VERSIONS_MAX = 200_000
_REASON_CHARACTERS_MAX = 10_000
_PREFIXES = {
    **dict.fromkeys(("attribute", "attributes"), "attribute"),
    **dict.fromkeys(("tag", "tags"), "tag"),
}

MODEL = Entity(
    id="m.model_key",
    attributes={
        "name": Attribute("m.model"),
        "creation_timestamp": Attribute("m.created_at_ms", "number", filtered=False),
        "last_updated_timestamp": Attribute("m.updated_at_ms", "number", filtered=False),
        "timestamp": Attribute("m.updated_at_ms", "number", filtered=False),
    },
    keyed={
        "tag": Keyed(
            "SELECT entity_id AS id, value FROM fold.history WHERE entity = 'model' "
            "AND attribute = 'tag' AND to_offset IS NULL AND key = ?",
            special={
                PROMPT: "SELECT p.model_key AS id, lower(coalesce(h.value, 'false')) AS value "
                "FROM fold.models p LEFT JOIN fold.history h ON h.entity = 'model' "
                "AND h.attribute = 'tag' AND h.entity_id = p.model_key AND h.to_offset IS NULL "
                f"AND h.key = '{PROMPT}'"
            },
            ordered=False,
        )
    },
    prefixes=_PREFIXES,
)
VERSION = Entity(
    id="v.model_key || '/' || v.version",
    attributes={
        "name": Attribute("m.model"),
        "version_number": Attribute("v.version", "number"),
        "run_id": Attribute("v.run_id", ordered=False),
        "source_path": Attribute("v.source", ordered=False),
        "creation_timestamp": Attribute("v.created_at_ms", "number", filtered=False),
        "last_updated_timestamp": Attribute("v.updated_at_ms", "number", filtered=False),
    },
    keyed={
        "tag": Keyed(
            "SELECT entity_id || '/' || version AS id, value FROM fold.history "
            "WHERE entity = 'model_version' AND attribute = 'tag' AND to_offset IS NULL "
            "AND key = ?",
            special={
                PROMPT: "SELECT p.model_key || '/' || p.version AS id, "
                "lower(coalesce(h.value, 'false')) AS value "
                "FROM fold.model_versions p LEFT JOIN fold.history h "
                "ON h.entity = 'model_version' AND h.attribute = 'tag' "
                "AND h.entity_id = p.model_key AND h.version = p.version "
                f"AND h.to_offset IS NULL AND h.key = '{PROMPT}'"
            },
            ordered=False,
        )
    },
    prefixes=_PREFIXES,
)
_NAME = {"name": wire.text}
_VERSION = {"name": wire.text, "version": wire.text}
_SEARCH = {
    "filter": wire.text,
    "max_results": wire.integer,
    "order_by": wire.many(wire.text),
    "page_token": wire.text,
}


# Reading


_FROM_VERSIONS = "fold.model_versions v JOIN fold.models m ON m.model_key = v.model_key"


def _among(keys: Sequence[str]) -> str:
    """A list of models' keys for IN. They are numbers of ours; a written list is planned faster."""
    return "(" + (", ".join(f"'{int(key)}'" for key in keys) or "NULL") + ")"


def _models(
    cursor: duckdb.DuckDBPyConnection, rest: str, params: Sequence[Any]
) -> list[dict[str, Any]]:
    """Registered models as MLflow tells them; ``rest`` of the query comes after FROM models m."""
    found = cursor.execute(
        "SELECT m.model_key, m.model, m.created_at_ms, m.updated_at_ms, m.description "
        f"FROM fold.models m {rest}",
        params,
    ).fetchall()
    keys = [row[0] for row in found]
    tags: dict[str, dict[str, str]] = {key: {} for key in keys}
    aliases: dict[str, list[dict[str, str]]] = {key: [] for key in keys}
    for key, attribute, name, value in cursor.execute(
        "SELECT entity_id, attribute, key, value FROM fold.history "
        "WHERE entity IN ('model', 'alias') AND attribute IN ('tag', 'alias') "
        f"AND to_offset IS NULL AND entity_id IN {_among(keys)} ORDER BY key"
    ).fetchall():
        if attribute == "tag":
            tags[key][name] = value
        else:
            aliases[key].append({"alias": name, "version": value})
    # Of each stage the newest version, in the order of their oldest.
    newest = cursor.execute(
        "SELECT model_key, max(version) FROM fold.model_versions "
        f"WHERE NOT deleted AND model_key IN {_among(keys)} "
        "GROUP BY model_key, stage ORDER BY min(version)"
    ).fetchall()
    latest: dict[str, list[dict[str, Any]]] = {key: [] for key in keys}
    if newest:
        numbers = ", ".join({str(number) for _, number in newest})
        among = f"WHERE v.model_key IN {_among(keys)} AND v.version IN ({numbers})"
        versions = {
            (key, int(version["version"])): version for key, version in _versions(cursor, among, [])
        }
        for key, number in newest:
            version = versions[key, number]
            version.pop("aliases", None)  # MLflow tells them with the model only
            latest[key].append(version)
    return [
        wire.set_fields(
            name=name,
            creation_timestamp=created_at_ms,
            last_updated_timestamp=updated_at_ms,
            description=description or None,
            latest_versions=latest[key] or None,
            tags=wire.pairs(tags[key]) or None,
            aliases=aliases[key] or None,
        )
        for key, name, created_at_ms, updated_at_ms, description in found
    ]


def _versions(
    cursor: duckdb.DuckDBPyConnection, rest: str, params: Sequence[Any] | dict[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """Versions as MLflow tells them, each with its model's key.

    ``rest`` of the query comes after FROM model_versions v and models m.
    """
    found = cursor.execute(
        "SELECT v.model_key, v.version, m.model, v.created_at_ms, v.updated_at_ms, v.description, "
        f"v.stage, v.source, v.run_id, v.run_link FROM {_FROM_VERSIONS} {rest}",
        params,
    ).fetchall()
    keys = list({row[0] for row in found})
    wanted = {(row[0], row[1]) for row in found}
    tags: dict[tuple[str, int], dict[str, str]] = {who: {} for who in wanted}
    aliases: dict[tuple[str, int], list[str]] = {who: [] for who in wanted}
    for key, number, attribute, name, value in cursor.execute(
        "SELECT entity_id, version, attribute, key, value FROM fold.history "
        "WHERE entity IN ('model_version', 'alias') AND attribute IN ('tag', 'alias') "
        f"AND to_offset IS NULL AND entity_id IN {_among(keys)} ORDER BY key"
    ).fetchall():
        if (key, number) not in wanted:
            continue
        if attribute == "tag":
            tags[key, number][name] = value
        else:
            aliases[key, number].append(name)
    return [
        (
            key,
            wire.set_fields(
                name=name,
                version=str(number),
                creation_timestamp=created_at_ms,
                last_updated_timestamp=updated_at_ms,
                current_stage=stage,
                description=description or "",
                source=source,
                run_id=run_id or "",
                status="READY",
                tags=wire.pairs(tags[key, number]) or None,
                run_link=run_link or "",
                aliases=aliases[key, number] or None,
            ),
        )
        for (
            key, number, name, created_at_ms, updated_at_ms, description, stage, source, run_id,
            run_link,
        ) in found
    ]  # fmt: skip


def _number(call: Call) -> int:
    """The number of the version that a call names."""
    text = call.get("version", "")
    try:
        number = int(text)
    except ValueError:
        raise InvalidRequest(f"Parameter 'version' must be an integer, got '{text}'.") from None
    if not -(2**63) <= number < 2**63:
        raise _no_version(call["name"], number)
    return number


def _no_version(name: str, number: int) -> NotFound:
    return NotFound(f"Model Version (name={name}, version={number}) not found")


def _no_model(name: str) -> NotFound:
    return NotFound(f"Registered Model with name={name} not found")


def _check_name(name: str) -> None:
    try:
        rules.model_name(name)
    except rules.Rejected as refusal:
        raise InvalidRequest(refusal.message) from None


def _one_version(cursor: duckdb.DuckDBPyConnection, name: str, number: int) -> dict[str, Any]:
    _check_name(name)
    found = _versions(
        cursor,
        "WHERE m.model = ? AND NOT m.deleted AND v.version = ? AND NOT v.deleted",
        [name, number],
    )
    if not found:
        raise _no_version(name, number)
    return found[0][1]


def _model_key(cursor: duckdb.DuckDBPyConnection, name: str) -> str:
    _check_name(name)
    row = cursor.execute(
        "SELECT model_key FROM fold.models WHERE model = ? AND NOT deleted", [name]
    ).fetchone()
    if row is None:
        raise _no_model(name)
    return str(row[0])


# Deciding


def _decide(
    call: Call,
    type: str,
    fields: dict[str, Any],
    *,
    reason: str | None = None,
    user: str | None = None,
) -> Verdict:
    return call.node.decide(
        type,
        fields,
        call.actor(user),
        reason=call.caller.reason or (reason[:_REASON_CHARACTERS_MAX] if reason else None),
        idempotency_key=call.caller.idempotency_key,
        client=call.caller.client,
    )


def _decided_model(call: Call, verdict: Verdict) -> dict[str, Any]:
    """The model that a request was about, whatever became of it since."""
    with call.node.read() as cursor:
        found = _models(
            cursor,
            'JOIN fold.requests q ON q.model_key = m.model_key WHERE q."offset" = ?',
            [verdict.position.offset],
        )
    return {"registered_model": found[0]}


def _decided_version(call: Call, verdict: Verdict) -> dict[str, Any]:
    """The version that a request was about, whatever became of it since."""
    with call.node.read() as cursor:
        found = _versions(
            cursor,
            "JOIN fold.requests q ON q.model_key = v.model_key AND q.version = v.version "
            'WHERE q."offset" = ?',
            [verdict.position.offset],
        )
    return {"model_version": found[0][1]}


_REASON_OF_VERSION = """
    SELECT t.value
    FROM fold.history t JOIN fold.models m ON m.model_key = t.entity_id
    WHERE m.model = $model AND NOT m.deleted AND t.entity = 'model_version'
        AND t.version = $version AND t.attribute = 'tag' AND t.key = $key AND t.to_offset IS NULL
        AND t.from_offset > (
            SELECT coalesce(max("offset"), -1) FROM fold.requests q
            WHERE q.model_key = t.entity_id AND q.version = t.version AND q.accepted
                AND q.type = $type AND q.alias IS NOT DISTINCT FROM $alias
        )
"""


def _reason(call: Call, type: str, number: int, alias: str | None = None) -> str | None:
    """The version's tag that says why, unless it was the reason of such a decision before."""
    if call.caller.reason:
        return call.caller.reason
    with call.node.read() as cursor:
        if not cursor.execute(
            "SELECT 1 FROM fold.history WHERE key = ? AND entity = 'model_version' LIMIT 1",
            [REASON],
        ).fetchone():
            return None  # nobody gives reasons this way here, and the query below is a long one
        row = cursor.execute(
            _REASON_OF_VERSION,
            {
                "model": call["name"],
                "version": number,
                "key": REASON,
                "type": type,
                "alias": alias,
            },
        ).fetchone()
    return row[0] if row else None


# Registered models


@endpoints.add(
    "POST",
    "registered-models/create",
    {"name": wire.text, "tags": wire.many(wire.TAG), "description": wire.text},
    required=["name"],
)
def create_model(call: Call) -> dict[str, Any]:
    """Create a registered model; a name that is taken is refused."""
    tags = tags_of(call.get("tags", []))
    fields = {"model": call["name"], "description": call.get("description") or None, "tags": tags}
    verdict = _decide(
        call,
        "CreateRegisteredModel",
        fields,
        reason=tags.get(REASON),
        user=tags.get("mlflow.user"),
    )
    return _decided_model(call, verdict)


@endpoints.add("GET", "registered-models/get", _NAME, required=["name"])
def get_model(call: Call) -> dict[str, Any]:
    """One registered model."""
    _check_name(call["name"])
    with call.node.read() as cursor:
        found = _models(cursor, "WHERE m.model = ? AND NOT m.deleted", [call["name"]])
    if not found:
        raise _no_model(call["name"])
    return {"registered_model": found[0]}


@endpoints.add(
    "PATCH",
    "registered-models/update",
    {"name": wire.text, "description": wire.text},
    required=["name"],
)
def update_model(call: Call) -> dict[str, Any]:
    """Describe a registered model."""
    fields = {"model": call["name"], "description": call.get("description", "")}
    return _decided_model(call, _decide(call, "UpdateRegisteredModel", fields))


@endpoints.add(
    "POST",
    "registered-models/rename",
    {"name": wire.text, "new_name": wire.text},
    required=["name", "new_name"],
)
def rename_model(call: Call) -> dict[str, Any]:
    """Rename a registered model; its versions, tags and aliases stay with it."""
    fields = {"model": call["name"], "name": call["new_name"]}
    return _decided_model(call, _decide(call, "RenameRegisteredModel", fields))


@endpoints.add("DELETE", "registered-models/delete", _NAME, required=["name"])
def delete_model(call: Call) -> dict[str, Any]:
    """Delete a registered model with all of its versions. The trail keeps them."""
    _decide(call, "DeleteRegisteredModel", {"model": call["name"]})
    return {}


@endpoints.add("GET", "registered-models/search", _SEARCH)
def search_models(call: Call) -> dict[str, Any]:
    """Registered models that match a filter."""
    limit = call.get("max_results", 100)
    wire.check_max_results(limit, _MODELS_MAX)
    offset = wire.page_offset(call.get("page_token"))
    condition = compile_filter(MODEL, call.get("filter"))
    order = compile_order(MODEL, call.get("order_by", []))
    hidden = _without_prompts(MODEL, condition.fields)
    readable = call.caller.rights.readable_models("m.model_key")
    with call.node.read() as cursor:
        found = _models(
            cursor,
            f"{order.joins} WHERE NOT m.deleted AND {readable.sql} AND {hidden} "
            f"AND {condition.sql} ORDER BY {_terms(order, 'm.model')} "
            f"LIMIT {limit + 1} OFFSET {offset}",
            [*order.params, *readable.params, *condition.params],
        )
    return _page("registered_models", found, limit, offset)


def _without_prompts(entity: Entity, fields: frozenset[tuple[str, str]]) -> str:
    if ("tag", PROMPT) in fields:
        return "TRUE"
    prompts = entity.keyed["tag"].special[PROMPT]
    return f"{entity.id} NOT IN (SELECT id FROM ({prompts}) WHERE value = 'true')"


def _terms(order: Order, *last: str) -> str:
    return ", ".join([*order.terms, *last])


def _page(name: str, found: list[dict[str, Any]], limit: int, offset: int) -> dict[str, Any]:
    return wire.set_fields(
        **{name: found[:limit] or None},
        next_page_token=wire.page_token(offset + limit) if len(found) > limit else None,
    )


@endpoints.add(
    "GET POST",
    "registered-models/get-latest-versions",
    {"name": wire.text, "stages": wire.many(wire.text)},
    required=["name"],
)
def get_latest_versions(call: Call) -> dict[str, Any]:
    """The highest version in each stage."""
    with call.node.read() as cursor:
        key = _model_key(cursor, call["name"])
        stages = [_stage(name) for name in call.get("stages", [])] or list(rules.STAGES)
        found = _versions(
            cursor,
            """JOIN (
                   SELECT max(version) AS version, min(version) AS first
                   FROM fold.model_versions
                   WHERE NOT deleted AND model_key = $key AND list_contains($stages, stage)
                   GROUP BY stage
               ) l ON l.version = v.version
               WHERE v.model_key = $key
               ORDER BY l.first""",
            {"key": key, "stages": stages},
        )
    return wire.set_fields(model_versions=[version for _, version in found] or None)


def _stage(name: str) -> str:
    try:
        return rules.stage(name)
    except rules.Rejected as refusal:
        raise InvalidRequest(refusal.message) from None


@endpoints.add(
    "POST",
    "registered-models/set-tag",
    {**_NAME, "key": wire.text, "value": wire.text},
    required=["name", "key"],
)
def set_model_tag(call: Call) -> dict[str, Any]:
    """Set a tag of a registered model."""
    tags = {call["key"]: call.get("value", "")}
    _decide(call, "ChangeRegisteredModelTags", {"model": call["name"], "tags": tags})
    return {}


@endpoints.add(
    "DELETE",
    "registered-models/delete-tag",
    {**_NAME, "key": wire.text},
    required=["name", "key"],
)
def delete_model_tag(call: Call) -> dict[str, Any]:
    """Delete a tag of a registered model, if it has it."""
    tags = {call["key"]: None}
    _decide(call, "ChangeRegisteredModelTags", {"model": call["name"], "tags": tags})
    return {}


# Aliases


@endpoints.add(
    "POST",
    "registered-models/alias",
    {**_VERSION, "alias": wire.text},
    required=["name", "alias", "version"],
)
def set_alias(call: Call) -> dict[str, Any]:
    """Point an alias at a version, on the evidence of its run's metrics."""
    name, number = call["name"], _number(call)
    fields = {
        "model": name,
        "alias": call["alias"],
        "version": number,
        "evidence": latest_metrics(call.node, name, number),
    }
    reason = _reason(call, "SetRegisteredModelAlias", number, call["alias"])
    _decide(call, "SetRegisteredModelAlias", fields, reason=reason)
    return {}


@endpoints.add(
    "DELETE",
    "registered-models/alias",
    {**_NAME, "alias": wire.text},
    required=["name", "alias"],
)
def delete_alias(call: Call) -> dict[str, Any]:
    """Remove an alias, if it is set."""
    fields = {"model": call["name"], "alias": call["alias"]}
    _decide(call, "DeleteRegisteredModelAlias", fields)
    return {}


@endpoints.add(
    "GET",
    "registered-models/alias",
    {**_NAME, "alias": wire.text},
    required=["name", "alias"],
)
def get_version_by_alias(call: Call) -> dict[str, Any]:
    """The version that an alias points at; ``latest`` is the highest."""
    name, alias = call["name"], call["alias"]
    try:
        rules.alias(alias)
    except rules.Rejected as refusal:
        raise InvalidRequest(refusal.message) from None
    with call.node.read() as cursor:
        key = _model_key(cursor, name)
        if alias.lower() == "latest":
            found = _versions(
                cursor,
                "WHERE v.model_key = ? AND NOT v.deleted ORDER BY v.version DESC LIMIT 1",
                [key],
            )
            if not found:
                raise NotFound(f"Latest version not found for model {name}.")
        else:
            found = _versions(
                cursor,
                "JOIN fold.history a ON a.entity_id = v.model_key AND a.version = v.version "
                "WHERE v.model_key = ? AND a.entity = 'alias' AND a.key = ? "
                "AND a.to_offset IS NULL",
                [key, alias],
            )
            if not found:
                raise InvalidRequest(f"Registered model alias {alias} not found.")
    return {"model_version": found[0][1]}


# Versions


@endpoints.add(
    "POST",
    "model-versions/create",
    {
        "name": wire.text,
        "source": wire.text,
        "run_id": wire.text,
        "tags": wire.many(wire.TAG),
        "run_link": wire.text,
        "description": wire.text,
        "model_id": wire.text,
    },
    required=["name", "source"],
    makes=True,
)
def create_version(call: Call) -> dict[str, Any]:
    """Create a version; the fold gives the number."""
    tags = tags_of(call.get("tags", []))
    origin = sources.Lineage(
        call["source"], call.get("run_id") or None, call.get("model_id") or None
    )
    is_prompt = tags.get(PROMPT, "false").lower() == "true"
    if is_prompt:
        sources.check_prompt_source(origin.source)
    else:
        with call.node.read() as cursor:
            origin = sources.lineage(cursor, *origin)
        check_source(call.caller.rights, call["source"])
        check_source(call.caller.rights, *origin)
    verdict = _decide(
        call,
        "CreateModelVersion",
        {
            "model": call["name"],
            **origin._asdict(),
            "run_link": call.get("run_link") or None,
            "description": call.get("description") or None,
            "tags": tags,
        },
        reason=tags.get(REASON),
        user=tags.get("mlflow.user"),
    )
    answer = _decided_version(call, verdict)
    if origin.model_id is not None and not is_prompt:
        add_model_version(call, origin.model_id, call["name"], verdict.version or 0)
    return answer


@endpoints.add("GET", "model-versions/get", _VERSION, required=["name", "version"])
def get_version(call: Call) -> dict[str, Any]:
    """One version."""
    number = _number(call)
    with call.node.read() as cursor:
        return {"model_version": _one_version(cursor, call["name"], number)}


@endpoints.add("GET", "model-versions/get-download-uri", _VERSION)
def get_download_uri(call: Call) -> dict[str, Any]:
    """Where the files of a version are."""
    number, name = _number(call), call.get("name", "")
    with call.node.read() as cursor:
        version = _one_version(cursor, name, number)
        uri = sources.download_uri(cursor, version["source"], version["creation_timestamp"])
    return {"artifact_uri": uri}


@endpoints.add(
    "PATCH",
    "model-versions/update",
    {**_VERSION, "description": wire.text},
    required=["name", "version"],
)
def update_version(call: Call) -> dict[str, Any]:
    """Describe a version."""
    fields = {
        "model": call["name"],
        "version": _number(call),
        "description": call.get("description", ""),
    }
    return _decided_version(call, _decide(call, "UpdateModelVersion", fields))


@endpoints.add(
    "POST",
    "model-versions/transition-stage",
    {**_VERSION, "stage": wire.text, "archive_existing_versions": wire.boolean},
    required=["name", "version", "stage"],
)
def transition(call: Call) -> dict[str, Any]:
    """Move a version to a stage, on the evidence of its run's metrics."""
    name, number = call["name"], _number(call)
    fields = {
        "model": name,
        "version": number,
        "stage": call["stage"],
        "archive_existing_versions": call.get("archive_existing_versions", False),
        "evidence": latest_metrics(call.node, name, number),
    }
    reason = _reason(call, "TransitionModelVersionStage", number)
    verdict = _decide(call, "TransitionModelVersionStage", fields, reason=reason)
    return _decided_version(call, verdict)


@endpoints.add("DELETE", "model-versions/delete", _VERSION, required=["name", "version"])
def delete_version(call: Call) -> dict[str, Any]:
    """Delete a version and the aliases that point at it. The trail keeps them."""
    fields = {"model": call["name"], "version": _number(call)}
    _decide(call, "DeleteModelVersion", fields)
    return {}


@endpoints.add("GET", "model-versions/search", _SEARCH)
def search_versions(call: Call) -> dict[str, Any]:
    """Versions that match a filter; those changed last come first."""
    limit = call.get("max_results", 10_000)
    wire.check_max_results(limit, _VERSIONS_MAX)
    offset = wire.page_offset(call.get("page_token"))
    condition = compile_filter(VERSION, call.get("filter"))
    order = compile_order(VERSION, call.get("order_by", []))
    last = ["m.model", "v.version DESC"]
    if not order.terms:
        last.insert(0, "v.updated_at_ms DESC")
    hidden = _without_prompts(VERSION, condition.fields)
    readable = call.caller.rights.readable_models("m.model_key")
    with call.node.read() as cursor:
        found = _versions(
            cursor,
            f"{order.joins} WHERE NOT v.deleted AND NOT m.deleted AND {readable.sql} "
            f"AND {hidden} AND {condition.sql} ORDER BY {_terms(order, *last)} "
            f"LIMIT {limit + 1} OFFSET {offset}",
            [*order.params, *readable.params, *condition.params],
        )
    versions = [version for _, version in found]
    for version in versions:
        version.pop("aliases", None)  # MLflow tells them of single versions only
    return _page("model_versions", versions, limit, offset)


@endpoints.add(
    "POST",
    "model-versions/set-tag",
    {**_VERSION, "key": wire.text, "value": wire.text},
    required=["name", "version", "key"],
)
def set_version_tag(call: Call) -> dict[str, Any]:
    """Set a tag of a version."""
    _change_version_tag(call, call.get("value", ""))
    return {}


@endpoints.add(
    "DELETE",
    "model-versions/delete-tag",
    {**_VERSION, "key": wire.text},
    required=["name", "version", "key"],
)
def delete_version_tag(call: Call) -> dict[str, Any]:
    """Delete a tag of a version, if it has it."""
    _change_version_tag(call, None)
    return {}


def _change_version_tag(call: Call, value: str | None) -> None:
    fields = {"model": call["name"], "version": _number(call), "tags": {call["key"]: value}}
    _decide(call, "ChangeModelVersionTags", fields)
