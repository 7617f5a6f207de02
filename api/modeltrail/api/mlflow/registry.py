"""Registered models and versions: requests for the fold to decide, and the current state.

Prompts are registered models with a tag, and versions whose text is a tag. A search leaves them out
unless its filter contains that tag.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modeltrail.api.artifacts import places
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.acts import REASON
from modeltrail.api.mlflow.calls import Call, Endpoints
from modeltrail.api.mlflow.experiments import tags_of
from modeltrail.api.mlflow.logged_models import add_model_version
from modeltrail.api.mlflow.registered import (
    by_the_rules,
    decided_model,
    decided_version,
    find_model,
    find_version,
    latest_versions,
    model_of,
    plain_version_of,
    version_by_key,
    version_number,
    version_of,
)
from modeltrail.api.registry import sources
from modeltrail.api.search import (
    Attribute,
    Entity,
    Keyed,
    compile_filter,
    compile_order,
)
from modeltrail.consumers.projections import registry_rules as rules
from modeltrail.consumers.projections.registry import RegistryProjection
from modeltrail.consumers.reading import sql
from modeltrail.eventlog import REGISTRY

endpoints = Endpoints()

PROMPT = "mlflow.prompt.is_prompt"
_MODELS_MAX = 1_000
_VERSIONS_MAX = 200_000
_TOLD_AT_ONCE = 500
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


@endpoints.declare("POST registered-models/create name tags? description?", makes=True)
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
    return decided_model(call, verdict)


@endpoints.declare("GET registered-models/get name")
def get_model(call: Call) -> dict[str, Any]:
    """Return a registered model."""
    with call.node.registry() as registry:
        return {"registered_model": model_of(find_model(registry, call["name"]))}


@endpoints.declare("GET registered-models/search filter? max_results? order_by? page_token?")
def search_models(call: Call) -> dict[str, Any]:
    """Return registered models that match a filter."""
    limit = call.get("max_results", 100)
    wire.check_max_results(limit, _MODELS_MAX)

    def told(registry: RegistryProjection, row: tuple[Any, ...]) -> dict[str, Any] | None:
        model = registry.models.by_key(row[0])
        return None if model is None else model_of(model)

    return _search(call, MODEL, "registered_models", "registry.models", limit, told)


def _without_prompts(entity: Entity, fields: frozenset[tuple[str, str]]) -> str:
    if ("tag", PROMPT) in fields:
        return "TRUE"
    prompts = entity.keyed["tag"].special[PROMPT]
    return f"{entity.id} NOT IN (SELECT id FROM ({prompts}) WHERE value = 'true')"


def _search(
    call: Call,
    entity: Entity,
    name: str,
    query: str,
    limit: int,
    told: Callable[[RegistryProjection, tuple[Any, ...]], dict[str, Any] | None],
) -> dict[str, Any]:
    """Return a page of what matches a call, without what was deleted since."""
    pages = call.pages(name)
    offset = pages.offset(call.get("page_token"))
    condition = compile_filter(entity, call.get("filter"))
    order = compile_order(entity, call.get("order_by", []))
    terms = [*order.terms, "m.model"]
    if entity is VERSION:
        terms = [*(order.terms or ["v.updated_at_ms DESC"]), "m.model", "v.version DESC"]
    hidden = _without_prompts(entity, condition.fields)
    readable = call.caller.rights.readable_models("m.model_key")
    with call.node.read(stream=REGISTRY) as cursor:
        found = cursor.execute(
            sql(
                query,
                joins=order.joins,
                rest=f"{readable.sql} AND {hidden} AND {condition.sql} "
                f"ORDER BY {', '.join(terms)} LIMIT {limit + 1} OFFSET {offset}",
            ),
            [*order.params, *readable.params, *condition.params],
        ).fetchall()
    page: list[dict[str, Any]] = []
    for at in range(0, min(limit, len(found)), _TOLD_AT_ONCE):
        with call.node.registry() as registry:
            answers = [told(registry, row) for row in found[at : min(at + _TOLD_AT_ONCE, limit)]]
        page += [answer for answer in answers if answer is not None]
    return wire.set_fields(
        **{pages.name: page or None},
        next_page_token=pages.token(offset=offset + limit) if len(found) > limit else None,
    )


@endpoints.declare("GET POST registered-models/get-latest-versions name stages?")
def get_latest_versions(call: Call) -> dict[str, Any]:
    """Return the highest version in each stage."""
    with call.node.registry() as registry:
        model = find_model(registry, call["name"])
        stages = [by_the_rules(rules.stage, s) for s in call.get("stages", [])] or rules.STAGES
        found = [version_of(model, version) for version in latest_versions(model, stages)]
    return wire.set_fields(model_versions=found or None)


@endpoints.declare("GET registered-models/alias name alias")
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


@endpoints.declare(
    "POST model-versions/create name source run_id? tags? run_link? description? model_id?",
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
    answer = decided_version(call, verdict)
    if origin.model_id is not None and not is_prompt:
        add_model_version(call, origin.model_id, call["name"], verdict.version or 0)
    return answer


@endpoints.declare("GET model-versions/get name version")
def get_version(call: Call) -> dict[str, Any]:
    """Return a version."""
    number = version_number(call)
    with call.node.registry() as registry:
        return {"model_version": version_of(*find_version(registry, call["name"], number))}


@endpoints.declare("GET model-versions/get-download-uri name? version?")
def get_download_uri(call: Call) -> dict[str, Any]:
    """Return where the files of a version are."""
    number, name = version_number(call), call.get("name", "")
    with call.node.registry() as registry:
        _, version = find_version(registry, name, number)
    with call.node.read(stream=REGISTRY) as cursor:
        uri = places.download_uri(cursor, version.source, version.created_at_ms)
    return {"artifact_uri": uri}


@endpoints.declare("GET model-versions/search filter? max_results? order_by? page_token?")
def search_versions(call: Call) -> dict[str, Any]:
    """Return versions that match a filter, by default the last changed first."""
    limit = call.get("max_results", 10_000)
    if limit < 1:
        raise InvalidRequest(
            f"Invalid value for max_results. It must be a positive integer, but got {limit}"
        )
    wire.check_max_results(limit, _VERSIONS_MAX)

    def told(registry: RegistryProjection, row: tuple[Any, ...]) -> dict[str, Any] | None:
        version = version_by_key(registry, *row)
        return None if version is None else plain_version_of(*version)

    return _search(call, VERSION, "model_versions", "registry.versions", limit, told)
