"""Registered models and versions: requests for the fold to decide, and the current state.

Prompts are registered models with a tag, and versions whose text is a tag. A search leaves them out
unless its filter contains that tag.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from modeltrail.api.artifacts import places
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.calls import Call, Endpoints
from modeltrail.api.mlflow.experiments import tags_of
from modeltrail.api.mlflow.logged_models import add_model_version
from modeltrail.api.mlflow.registered import (
    by_the_rules,
    find_model,
    find_version,
    latest_versions,
    model_of,
    no_version,
    plain_version_of,
    version_by_key,
    version_of,
)
from modeltrail.api.pages import Pages
from modeltrail.api.registry import sources
from modeltrail.api.registry.evidence import latest_metrics
from modeltrail.api.search import (
    Attribute,
    Entity,
    Keyed,
    Order,
    compile_filter,
    compile_order,
)
from modeltrail.consumers.projections import registry_rules as rules
from modeltrail.consumers.projections.registry import RegistryProjection
from modeltrail.consumers.projections.requests import Verdict
from modeltrail.consumers.reading import sql
from modeltrail.eventlog import REGISTRY

endpoints = Endpoints()

PROMPT = "mlflow.prompt.is_prompt"
REASON = "modeltrail.reason"
"""Tag of a version with the reason, for clients that cannot send a header."""

_MODELS_MAX = 1_000
_VERSIONS_MAX = 200_000
_TOLD_AT_ONCE = 500
_GONE = "It was deleted in the meantime."
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
            sql("registry.search_model_tag"),
            special={PROMPT: sql("registry.search_prompt", tag=PROMPT)},
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
            sql("registry.search_version_tag"),
            special={PROMPT: sql("registry.search_prompt_version", tag=PROMPT)},
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


def _number(call: Call) -> int:
    """Return the version number that a call names."""
    text = call.get("version", "")
    try:
        number = int(text)
    except ValueError:
        raise InvalidRequest(f"Parameter 'version' must be an integer, got '{text}'.") from None
    if not -(2**63) <= number < 2**63:
        raise no_version(call["name"], number)
    return number


# Deciding


def _decided_model(call: Call, verdict: Verdict) -> dict[str, Any]:
    """Return the model of a decided request."""
    with call.node.registry() as registry:
        model = registry.models.by_key(verdict.model_key)
        if model is None:
            raise NotFound(_GONE)
        return {"registered_model": model_of(model)}


def _decided_version(call: Call, verdict: Verdict) -> dict[str, Any]:
    """Return the version of a decided request."""
    with call.node.registry() as registry:
        found = version_by_key(registry, verdict.model_key, verdict.version)
        if found is None:
            raise NotFound(_GONE)
        return {"model_version": version_of(*found)}


def _reason(call: Call, type: str, number: int, alias: str | None = None) -> str | None:
    """Return the version's tag with the reason, unless an earlier decision used it."""
    if call.caller.reason:
        return call.caller.reason
    with call.node.registry() as registry:
        version = registry.models.version(call["name"], number)
        tag = version.open.get(("tag", REASON)) if version is not None else None
        if version is None or tag is None:
            return None
        key, said_at, reason = version.model_key, tag.from_offset, tag.value
    with call.node.read(stream=REGISTRY) as cursor:
        found = cursor.execute(sql("registry.last_decision"), [key, number, type, alias]).fetchall()
    return reason if said_at > found[0][0] else None


# Registered models


@endpoints.add(
    "POST",
    "registered-models/create",
    {"name": wire.text, "tags": wire.many(wire.TAG), "description": wire.text},
    required=["name"],
    makes=True,
)
def create_model(call: Call) -> dict[str, Any]:
    """Create a registered model. A name that is taken is refused."""
    tags = tags_of(call.get("tags", []))
    fields = {"model": call["name"], "description": call.get("description") or None, "tags": tags}
    verdict = call.decide(
        "CreateRegisteredModel",
        fields,
        reason=tags.get(REASON),
        user=tags.get("mlflow.user"),
    )
    return _decided_model(call, verdict)


@endpoints.add("GET", "registered-models/get", _NAME, required=["name"])
def get_model(call: Call) -> dict[str, Any]:
    """Return a registered model."""
    with call.node.registry() as registry:
        return {"registered_model": model_of(find_model(registry, call["name"]))}


@endpoints.add(
    "PATCH",
    "registered-models/update",
    {"name": wire.text, "description": wire.text},
    required=["name"],
)
def update_model(call: Call) -> dict[str, Any]:
    """Change the description of a registered model."""
    fields = {"model": call["name"], "description": call.get("description", "")}
    return _decided_model(call, call.decide("UpdateRegisteredModel", fields))


@endpoints.add(
    "POST",
    "registered-models/rename",
    {"name": wire.text, "new_name": wire.text},
    required=["name", "new_name"],
)
def rename_model(call: Call) -> dict[str, Any]:
    """Rename a registered model. Its versions, tags and aliases stay with it."""
    fields = {"model": call["name"], "name": call["new_name"]}
    return _decided_model(call, call.decide("RenameRegisteredModel", fields))


@endpoints.add("DELETE", "registered-models/delete", _NAME, required=["name"])
def delete_model(call: Call) -> dict[str, Any]:
    """Delete a registered model with all of its versions. The trail keeps them."""
    call.decide("DeleteRegisteredModel", {"model": call["name"]})
    return {}


@endpoints.add("GET", "registered-models/search", _SEARCH)
def search_models(call: Call) -> dict[str, Any]:
    """Return registered models that match a filter."""
    limit = call.get("max_results", 100)
    wire.check_max_results(limit, _MODELS_MAX)
    pages = call.pages("registered_models")
    offset = pages.offset(call.get("page_token"))
    condition = compile_filter(MODEL, call.get("filter"))
    order = compile_order(MODEL, call.get("order_by", []))
    hidden = _without_prompts(MODEL, condition.fields)
    readable = call.caller.rights.readable_models("m.model_key")
    with call.node.read(stream=REGISTRY) as cursor:
        keys = cursor.execute(
            sql(
                "registry.models",
                joins=order.joins,
                rest=f"{readable.sql} AND {hidden} AND {condition.sql} "
                f"ORDER BY {_terms(order, 'm.model')} LIMIT {limit + 1} OFFSET {offset}",
            ),
            [*order.params, *readable.params, *condition.params],
        ).fetchall()

    def told(registry: RegistryProjection, row: tuple[Any, ...]) -> dict[str, Any] | None:
        model = registry.models.by_key(row[0])
        return None if model is None else model_of(model)

    return _page(call, pages, keys, told, limit, offset)


def _without_prompts(entity: Entity, fields: frozenset[tuple[str, str]]) -> str:
    if ("tag", PROMPT) in fields:
        return "TRUE"
    prompts = entity.keyed["tag"].special[PROMPT]
    return f"{entity.id} NOT IN (SELECT id FROM ({prompts}) WHERE value = 'true')"


def _terms(order: Order, *last: str) -> str:
    return ", ".join([*order.terms, *last])


def _page(
    call: Call,
    pages: Pages,
    found: Sequence[tuple[Any, ...]],
    told: Callable[[RegistryProjection, tuple[Any, ...]], dict[str, Any] | None],
    limit: int,
    offset: int,
) -> dict[str, Any]:
    """Return a page of the results, without what was deleted since."""
    page: list[dict[str, Any]] = []
    for at in range(0, min(limit, len(found)), _TOLD_AT_ONCE):
        with call.node.registry() as registry:
            answers = [told(registry, row) for row in found[at : min(at + _TOLD_AT_ONCE, limit)]]
        page += [answer for answer in answers if answer is not None]
    return wire.set_fields(
        **{pages.name: page or None},
        next_page_token=pages.token(offset=offset + limit) if len(found) > limit else None,
    )


@endpoints.add(
    "GET POST",
    "registered-models/get-latest-versions",
    {"name": wire.text, "stages": wire.many(wire.text)},
    required=["name"],
)
def get_latest_versions(call: Call) -> dict[str, Any]:
    """Return the highest version in each stage."""
    with call.node.registry() as registry:
        model = find_model(registry, call["name"])
        stages = [by_the_rules(rules.stage, s) for s in call.get("stages", [])] or rules.STAGES
        found = [version_of(model, version) for version in latest_versions(model, stages)]
    return wire.set_fields(model_versions=found or None)


@endpoints.add(
    "POST",
    "registered-models/set-tag",
    {**_NAME, "key": wire.text, "value": wire.text},
    required=["name", "key"],
)
def set_model_tag(call: Call) -> dict[str, Any]:
    """Set a tag of a registered model."""
    tags = {call["key"]: call.get("value", "")}
    call.decide("ChangeRegisteredModelTags", {"model": call["name"], "tags": tags})
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
    call.decide("ChangeRegisteredModelTags", {"model": call["name"], "tags": tags})
    return {}


# Aliases


@endpoints.add(
    "POST",
    "registered-models/alias",
    {**_VERSION, "alias": wire.text},
    required=["name", "alias", "version"],
)
def set_alias(call: Call) -> dict[str, Any]:
    """Point an alias at a version, with its run's metrics as evidence."""
    name, number, alias = call["name"], _number(call), call["alias"]
    reason = _reason(call, "SetRegisteredModelAlias", number, alias)
    evidence = latest_metrics(call.node, name, number)
    fields = {"model": name, "alias": alias, "version": number, "evidence": evidence}
    call.decide("SetRegisteredModelAlias", fields, reason=reason)
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
    call.decide("DeleteRegisteredModelAlias", fields)
    return {}


@endpoints.add(
    "GET",
    "registered-models/alias",
    {**_NAME, "alias": wire.text},
    required=["name", "alias"],
)
def get_version_by_alias(call: Call) -> dict[str, Any]:
    """Return the version that an alias points at. ``latest`` is the highest."""
    name, alias = call["name"], call["alias"]
    by_the_rules(rules.alias, alias)
    with call.node.registry() as registry:
        model = find_model(registry, name)
        if alias.lower() == "latest":
            number = max(model.versions, default=None)
            if number is None:
                raise NotFound(f"Latest version not found for model {name}.")
        else:
            number = model.alias(alias)
            if number is None:
                raise InvalidRequest(f"Registered model alias {alias} not found.")
        return {"model_version": version_of(model, model.versions[number])}


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
    """Create a version. The fold assigns its number."""
    tags = tags_of(call.get("tags", []))
    given = sources.Lineage(
        call["source"], call.get("run_id") or None, call.get("model_id") or None
    )
    origin, is_prompt = sources.origin_of(call.node, call.caller.rights, given, tags)
    verdict = call.decide(
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
    """Return a version."""
    number = _number(call)
    with call.node.registry() as registry:
        return {"model_version": version_of(*find_version(registry, call["name"], number))}


@endpoints.add("GET", "model-versions/get-download-uri", _VERSION)
def get_download_uri(call: Call) -> dict[str, Any]:
    """Return where the files of a version are."""
    number, name = _number(call), call.get("name", "")
    with call.node.registry() as registry:
        _, version = find_version(registry, name, number)
    with call.node.read(stream=REGISTRY) as cursor:
        uri = places.download_uri(cursor, version.source, version.created_at_ms)
    return {"artifact_uri": uri}


@endpoints.add(
    "PATCH",
    "model-versions/update",
    {**_VERSION, "description": wire.text},
    required=["name", "version"],
)
def update_version(call: Call) -> dict[str, Any]:
    """Change the description of a version."""
    fields = {
        "model": call["name"],
        "version": _number(call),
        "description": call.get("description", ""),
    }
    return _decided_version(call, call.decide("UpdateModelVersion", fields))


@endpoints.add(
    "POST",
    "model-versions/transition-stage",
    {**_VERSION, "stage": wire.text, "archive_existing_versions": wire.boolean},
    required=["name", "version", "stage"],
)
def transition(call: Call) -> dict[str, Any]:
    """Move a version to a stage, with its run's metrics as evidence."""
    name, number = call["name"], _number(call)
    reason = _reason(call, "TransitionModelVersionStage", number)
    fields = {
        "model": name,
        "version": number,
        "stage": call["stage"],
        "archive_existing_versions": call.get("archive_existing_versions", False),
        "evidence": latest_metrics(call.node, name, number),
    }
    verdict = call.decide("TransitionModelVersionStage", fields, reason=reason)
    return _decided_version(call, verdict)


@endpoints.add("DELETE", "model-versions/delete", _VERSION, required=["name", "version"])
def delete_version(call: Call) -> dict[str, Any]:
    """Delete a version and the aliases that point at it. The trail keeps them."""
    fields = {"model": call["name"], "version": _number(call)}
    call.decide("DeleteModelVersion", fields)
    return {}


@endpoints.add("GET", "model-versions/search", _SEARCH)
def search_versions(call: Call) -> dict[str, Any]:
    """Return versions that match a filter, by default the last changed first."""
    limit = call.get("max_results", 10_000)
    if limit < 1:
        raise InvalidRequest(
            f"Invalid value for max_results. It must be a positive integer, but got {limit}"
        )
    wire.check_max_results(limit, _VERSIONS_MAX)
    pages = call.pages("model_versions")
    offset = pages.offset(call.get("page_token"))
    condition = compile_filter(VERSION, call.get("filter"))
    order = compile_order(VERSION, call.get("order_by", []))
    last = ["m.model", "v.version DESC"]
    if not order.terms:
        last.insert(0, "v.updated_at_ms DESC")
    hidden = _without_prompts(VERSION, condition.fields)
    readable = call.caller.rights.readable_models("m.model_key")
    with call.node.read(stream=REGISTRY) as cursor:
        found = cursor.execute(
            sql(
                "registry.versions",
                joins=order.joins,
                rest=f"{readable.sql} AND {hidden} AND {condition.sql} "
                f"ORDER BY {_terms(order, *last)} LIMIT {limit + 1} OFFSET {offset}",
            ),
            [*order.params, *readable.params, *condition.params],
        ).fetchall()

    def told(registry: RegistryProjection, row: tuple[Any, ...]) -> dict[str, Any] | None:
        version = version_by_key(registry, *row)
        return None if version is None else plain_version_of(*version)

    return _page(call, pages, found, told, limit, offset)


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
    call.decide("ChangeModelVersionTags", fields)
