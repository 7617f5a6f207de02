"""Registered models and versions in MLflow's form, from the registry in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.calls import Call
from modeltrail.consumers.projections import registry_rules as rules
from modeltrail.consumers.projections.models import Model, Version
from modeltrail.consumers.projections.registry import RegistryProjection
from modeltrail.consumers.projections.requests import Verdict

T = TypeVar("T")

_GONE = "It was deleted in the meantime."


def by_the_rules(rule: Callable[[str], T], value: str) -> T:
    """Return the result of a registry rule. Raises ``InvalidRequest`` if it refuses the value."""
    try:
        return rule(value)
    except rules.Rejected as refusal:
        raise InvalidRequest(refusal.message) from None


def find_model(registry: RegistryProjection, name: str) -> Model:
    """Return a model by name. Raises ``NotFound``."""
    by_the_rules(rules.model_name, name)
    model = registry.models.model(name)
    if model is None:
        raise NotFound(f"Registered Model with name={name} not found")
    return model


def find_version(registry: RegistryProjection, name: str, number: int) -> tuple[Model, Version]:
    """Return a model and its version by number. Raises ``NotFound``."""
    by_the_rules(rules.model_name, name)
    model, version = registry.models.model(name), registry.models.version(name, number)
    if model is None or version is None:
        raise no_version(name, number)
    return model, version


def version_by_key(
    registry: RegistryProjection, key: str | None, number: int | None
) -> tuple[Model, Version] | None:
    """Return a model, whatever its current name, and its version; None if one of them is gone."""
    model = registry.models.by_key(key)
    version = model.versions.get(number or 0) if model is not None else None
    return None if model is None or version is None else (model, version)


def version_number(call: Call) -> int:
    """Return the version number that a call names."""
    text = call.get("version", "")
    try:
        number = int(text)
    except ValueError:
        raise InvalidRequest(f"Parameter 'version' must be an integer, got '{text}'.") from None
    if not -(2**63) <= number < 2**63:
        raise no_version(call["name"], number)
    return number


def decided_model(call: Call, verdict: Verdict) -> dict[str, Any]:
    """Return the model of a decided request."""
    with call.node.registry() as registry:
        model = registry.models.by_key(verdict.model_key)
        if model is None:
            raise NotFound(_GONE)
        return {"registered_model": model_of(model)}


def decided_version(call: Call, verdict: Verdict) -> dict[str, Any]:
    """Return the version of a decided request."""
    with call.node.registry() as registry:
        found = version_by_key(registry, verdict.model_key, verdict.version)
        if found is None:
            raise NotFound(_GONE)
        return {"model_version": version_of(*found)}


def no_version(name: str, number: int) -> NotFound:
    """Return the error for a missing version."""
    return NotFound(f"Model Version (name={name}, version={number}) not found")


def latest_versions(model: Model, stages: Collection[str] = rules.STAGES) -> Iterator[Version]:
    """Return the newest version in each stage, ordered by the stages' oldest versions."""
    newest: dict[str, Version] = {}
    for number in sorted(model.versions):
        version = model.versions[number]
        newest[version.stage] = version  # an existing key keeps its place
    return (version for stage, version in newest.items() if stage in stages)


def model_of(model: Model) -> dict[str, Any]:
    """Return a registered model."""
    aliases = model.values("alias")
    return wire.set_fields(
        name=model.model,
        creation_timestamp=model.created_at_ms,
        last_updated_timestamp=model.updated_at_ms,
        description=model.description or None,
        latest_versions=[plain_version_of(model, v) for v in latest_versions(model)] or None,
        tags=wire.pairs(model.values("tag")) or None,
        aliases=[{"alias": name, "version": at} for name, at in aliases.items()] or None,
    )


def plain_version_of(model: Model, version: Version) -> dict[str, Any]:
    """Return a version without its aliases.

    MLflow shows those only with a single version or model.
    """
    return wire.set_fields(
        name=model.model,
        version=str(version.version),
        creation_timestamp=version.created_at_ms,
        last_updated_timestamp=version.updated_at_ms,
        current_stage=version.stage,
        description=version.description or "",
        source=version.source,
        run_id=version.run_id or "",
        status="READY",
        tags=wire.pairs(version.values("tag")) or None,
        run_link=version.run_link or "",
    )


def version_of(model: Model, version: Version) -> dict[str, Any]:
    """Return a single version."""
    number = str(version.version)
    aliases = [name for name, at in model.values("alias").items() if at == number]
    return plain_version_of(model, version) | wire.set_fields(aliases=aliases or None)
