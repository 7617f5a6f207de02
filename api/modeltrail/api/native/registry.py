"""The registry: requests that the fold decides in log order, and what holds now or held then."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from modeltrail.api.access.caller import Caller
from modeltrail.api.answers import one, page, rows
from modeltrail.api.errors import InvalidRequest
from modeltrail.api.native.parameters import (
    AsOf,
    CallerHere,
    Limit,
    LogEnd,
    NodeHere,
    PageToken,
    answer,
    json_example,
    reading,
)
from modeltrail.api.node import Node
from modeltrail.api.pages import Pages
from modeltrail.api.registry.commands import act_of
from modeltrail.api.registry.evidence import EVIDENCE_MAX, latest_metrics
from modeltrail.api.registry.reading import (
    add_to_models,
    add_to_versions,
    aliases_at,
    as_of_text,
    model_at,
    offset_of,
    tags_at,
    version_at,
)
from modeltrail.api.registry.sources import Lineage, origin_of
from modeltrail.api.routing import PooledRoute

_EXPERIMENTS = Pages("experiments")
_MODELS = Pages("models")
_VERSIONS = Pages("versions")
_STAGES = Pages("stages")
router = APIRouter(prefix="/api/v1", tags=["registry"], route_class=PooledRoute)

_INT64_MAX = 2**63 - 1

Number = Annotated[int, Path(ge=1, le=_INT64_MAX, description="Version number.")]
Tags = dict[str, str]
TagChanges = dict[str, str | None]


# What people send


class _Body(BaseModel):
    """A request; ``reason`` stays in the trail for good."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(None, description="Why, in your words.", max_length=10_000)


class Reason(_Body):
    """Nothing but why."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"reason": "no longer in use"}}
    )


class Evidence(BaseModel):
    """One thing that a decision rests on, as it was when it was read."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(description="metric, tag, param, approval, policy or note.")
    key: str
    value: str
    run_id: str | None = None
    position: str | None = Field(None, description="How far the log had been read then.")


class NewExperiment(_Body):
    """An experiment to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "/vision/digits", "tags": {"team": "vision"}}},
    )

    name: str
    artifact_location: str | None = None
    tags: Tags = {}


class ExperimentChange(_Body):
    """What to change; exactly one of the two."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"name": "/vision/digits-v1", "reason": "a second one began"}
        },
    )

    name: str | None = Field(None, description="New name.")
    tags: TagChanges | None = Field(None, description="Key to new value; null removes the tag.")


class NewModel(_Body):
    """A registered model to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"model": "digits", "description": "Reads digits."}},
    )

    model: str = Field(description="Its name.")
    description: str | None = None
    tags: Tags = {}


class ModelChange(_Body):
    """What to change; exactly one of the three."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"description": "Reads digits, of all hands."}},
    )

    name: str | None = Field(None, description="New name.")
    description: str | None = None
    tags: TagChanges | None = Field(None, description="Key to new value; null removes the tag.")


class NewVersion(_Body):
    """A version to create; the fold gives its number."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "source": "runs:/0af7651916cd43dd8448eb211c80319c/model",
                "run_id": "0af7651916cd43dd8448eb211c80319c",
                "aliases": ["challenger"],
                "create_model": True,
            }
        },
    )

    source: str = Field(description="URI of the model's files.")
    run_id: str | None = None
    model_id: str | None = None
    run_link: str | None = None
    description: str | None = None
    tags: Tags = {}
    aliases: list[str] = Field([], description="Aliases to point at it at once.")
    create_model: bool = Field(False, description="Create the model first if it does not exist.")


class VersionChange(_Body):
    """What to change; exactly one of the two."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"tags": {"approved_by": "grace"}}}
    )

    description: str | None = None
    tags: TagChanges | None = Field(None, description="Key to new value; null removes the tag.")


class StageChange(_Body):
    """A stage to move to."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "stage": "Production",
                "archive_existing_versions": True,
                "expected": "Staging",
                "reason": "passed the gate",
            }
        },
    )

    stage: str = Field(description="None, Staging, Production or Archived.")
    archive_existing_versions: bool = Field(
        False, description="Move the other versions in that stage to Archived."
    )
    expected: str | None = Field(None, description="Only if it is in this stage now.")
    evidence: list[Evidence] | None = Field(
        None,
        max_length=EVIDENCE_MAX,
        description="What the decision rests on; the latest metrics of the version's run if left "
        "out.",
    )


class AliasChange(_Body):
    """Where an alias is to point."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"version": 3, "expected": 2, "reason": "beats the champion by 2 points"}
        },
    )

    version: int = Field(ge=1, le=_INT64_MAX)
    expected: int | None = Field(
        None,
        ge=0,
        le=_INT64_MAX,
        description="Only if it points at this version now; 0: only if it is not set.",
    )
    evidence: list[Evidence] | None = Field(
        None,
        max_length=EVIDENCE_MAX,
        description="What the decision rests on; the latest metrics of the version's run if left "
        "out.",
    )


_DONE = json_example(
    {"position": "registry:0:17", "event_id": "0195a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"},
    "Decided, and accepted.",
)


def _decide(
    node: Node,
    caller: Caller,
    reason: str | None,
    type: str,
    fields: dict[str, Any],
) -> dict[str, Any]:
    verdict = node.decide(
        type,
        fields,
        caller.actor,
        reason=reason or caller.reason,
        idempotency_key=caller.idempotency_key,
        client=caller.client,
    )
    return {"position": str(verdict.position), "event_id": verdict.id, "_": verdict}


def _done(body: dict[str, Any], **more: Any) -> Response:
    body.pop("_")
    return answer({**body, **more})


def _said(why: Reason | None) -> str | None:
    return None if why is None else why.reason


def _exactly_one(**given: Any) -> None:
    if sum(value is not None for value in given.values()) != 1:
        names = ", ".join(given)
        raise InvalidRequest(f"give exactly one of: {names}; each is a request of its own")


# Experiments


@router.post(
    "/experiments",
    summary="Create an experiment",
    responses=json_example(
        {"position": "registry:0:3", "event_id": "0195a1b2-…", "experiment_id": "5230471834401"},
        "Decided, and accepted.",
    ),
)
def create_experiment(new: NewExperiment, node: NodeHere, caller: CallerHere) -> Response:
    """Its id follows from the name, so that jobs can log by name before it exists."""
    caller.rights.new_experiment(new.name)
    fields = new.model_dump(exclude={"reason"})
    body = _decide(node, caller, new.reason, "CreateExperiment", fields)
    return _done(body, experiment_id=body["_"].experiment_id)


@router.patch("/experiments/{experiment_id}", summary="Rename or tag", responses=_DONE)
def change_experiment(
    experiment_id: str, change: ExperimentChange, node: NodeHere, caller: CallerHere
) -> Response:
    """Rename an experiment, or change its tags. The id stays."""
    _exactly_one(name=change.name, tags=change.tags)
    fields: dict[str, Any] = {"experiment_id": experiment_id}
    if change.name is not None:
        caller.rights.new_experiment(change.name)
        type, fields["name"] = "RenameExperiment", change.name
    else:
        type, fields["tags"] = "ChangeExperimentTags", change.tags
    return _done(_decide(node, caller, change.reason, type, fields))


@router.delete("/experiments/{experiment_id}", summary="Delete an experiment", responses=_DONE)
def delete_experiment(
    experiment_id: str, node: NodeHere, caller: CallerHere, why: Reason | None = None
) -> Response:
    """Move it to the deleted ones; it can be restored."""
    fields = {"experiment_id": experiment_id}
    return _done(_decide(node, caller, _said(why), "DeleteExperiment", fields))


@router.post(
    "/experiments/{experiment_id}/restore", summary="Restore an experiment", responses=_DONE
)
def restore_experiment(
    experiment_id: str, node: NodeHere, caller: CallerHere, why: Reason | None = None
) -> Response:
    """Bring a deleted experiment back."""
    fields = {"experiment_id": experiment_id}
    return _done(_decide(node, caller, _said(why), "RestoreExperiment", fields))


_EXPERIMENT: dict[str, Any] = {
    "experiment_id": "0",
    "name": "Default",
    "artifact_location": None,
    "deleted": False,
    "tags": {},
}


@router.get(
    "/experiments",
    summary="Experiments",
    responses=json_example({"experiments": [_EXPERIMENT], "next_page_token": None}),
)
def list_experiments(
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    as_of: AsOf = None,
    name: Annotated[str | None, Query(description="Exactly this name.")] = None,
    deleted: Annotated[bool, Query(description="The deleted ones instead.")] = False,
    limit: Limit = 1_000,
    page_token: PageToken = None,
) -> Response:
    """Experiments by name, now or at an earlier moment."""
    last = _EXPERIMENTS.last(page_token, str)
    readable, values = caller.rights.readable_experiments("experiment_id").named()
    with reading(node, log_end) as cursor:
        offset = offset_of(cursor, as_of)
        found = rows(
            cursor,
            "SELECT * FROM experiments_at($at) WHERE deleted = $deleted "
            "AND ($name IS NULL OR name = $name) AND ($after IS NULL OR name > $after) "
            f"AND {readable} ORDER BY name LIMIT {limit + 1}",
            {
                "at": offset,
                "deleted": deleted,
                "name": name,
                "after": last and last[0],
                **values,
            },
        )
        body = page(found, limit, _EXPERIMENTS, ["name"])
        tags = tags_at(cursor, offset, "experiment", "experiment_id")
    for experiment in body["experiments"]:
        experiment["tags"] = tags.get((experiment["experiment_id"],), {})
    return answer(body)


@router.get(
    "/experiments/{experiment_id}", summary="One experiment", responses=json_example(_EXPERIMENT)
)
def get_experiment(
    experiment_id: str, node: NodeHere, log_end: LogEnd, as_of: AsOf = None
) -> Response:
    """An experiment, now or at an earlier moment."""
    with reading(node, log_end) as cursor:
        offset = offset_of(cursor, as_of)
        experiment = one(
            cursor,
            "SELECT * FROM experiments_at(?) WHERE experiment_id = ?",
            [offset, experiment_id],
            f"there is no experiment {experiment_id!r}{as_of_text(as_of)}",
        )
        tags = tags_at(cursor, offset, "experiment", "experiment_id")
    return answer({**experiment, "tags": tags.get((experiment_id,), {})})


# Registered models


@router.post("/models", summary="Create a registered model", responses=_DONE)
def create_model(new: NewModel, node: NodeHere, caller: CallerHere) -> Response:
    """Refused with RESOURCE_ALREADY_EXISTS where the name is taken."""
    caller.rights.new_model(new.model)
    fields = new.model_dump(exclude={"reason"})
    return _done(_decide(node, caller, new.reason, "CreateRegisteredModel", fields))


@router.patch("/models/{model}", summary="Rename, describe or tag", responses=_DONE)
def change_model(model: str, change: ModelChange, node: NodeHere, caller: CallerHere) -> Response:
    """Rename a model, change its description, or its tags."""
    _exactly_one(name=change.name, description=change.description, tags=change.tags)
    fields: dict[str, Any] = {"model": model}
    if change.name is not None:
        caller.rights.new_model(change.name)
        type, fields["name"] = "RenameRegisteredModel", change.name
    elif change.description is not None:
        type, fields["description"] = "UpdateRegisteredModel", change.description
    else:
        type, fields["tags"] = "ChangeRegisteredModelTags", change.tags
    return _done(_decide(node, caller, change.reason, type, fields))


@router.delete("/models/{model}", summary="Delete a registered model", responses=_DONE)
def delete_model(
    model: str, node: NodeHere, caller: CallerHere, why: Reason | None = None
) -> Response:
    """Delete a model with all of its versions. The trail keeps them."""
    return _done(_decide(node, caller, _said(why), "DeleteRegisteredModel", {"model": model}))


_MODEL = {"model": "digits", "description": "Reads digits.", "tags": {}, "aliases": {"champion": 3}}
_VERSION = {
    "model": "digits",
    "version": 3,
    "stage": "Production",
    "source": "runs:/0af7651916cd43dd8448eb211c80319c/model",
    "run_id": "0af7651916cd43dd8448eb211c80319c",
    "tags": {},
    "aliases": ["champion"],
}


@router.get(
    "/models",
    summary="Registered models",
    responses=json_example({"models": [_MODEL], "next_page_token": None}),
)
def list_models(
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    as_of: AsOf = None,
    limit: Limit = 1_000,
    page_token: PageToken = None,
) -> Response:
    """Registered models by name, now or at an earlier moment."""
    last = _MODELS.last(page_token, str)
    readable, values = caller.rights.readable_models("model", "model").named()
    with reading(node, log_end) as cursor:
        offset = offset_of(cursor, as_of)
        found = rows(
            cursor,
            "SELECT * FROM models_at($at) WHERE ($after IS NULL OR model > $after) "
            f"AND {readable} ORDER BY model LIMIT {limit + 1}",
            {"at": offset, "after": last and last[0], **values},
        )
        body = page(found, limit, _MODELS, ["model"])
        add_to_models(cursor, offset, body["models"])
    return answer(body)


@router.get("/models/{model}", summary="One registered model", responses=json_example(_MODEL))
def get_model(model: str, node: NodeHere, log_end: LogEnd, as_of: AsOf = None) -> Response:
    """A registered model, now or at an earlier moment, under the name it had then."""
    with reading(node, log_end) as cursor:
        offset = offset_of(cursor, as_of)
        found = model_at(cursor, offset, model, as_of)
        add_to_models(cursor, offset, [found])
    return answer(found)


# Versions


@router.post(
    "/models/{model}/versions",
    summary="Create a version",
    responses=json_example(
        {"position": "registry:0:12", "event_id": "0195a1b2-…", "model": "digits", "version": 3},
        "Decided, and accepted.",
    ),
)
def create_version(model: str, new: NewVersion, node: NodeHere, caller: CallerHere) -> Response:
    """Two that race get two numbers: the fold gives them in log order."""
    need = act_of("CreateModelVersion").level
    if new.create_model:
        caller.rights.model_or_new(model, need)
    else:
        caller.rights.model(model, need)
    given = Lineage(new.source, new.run_id or None, new.model_id or None)
    origin, _ = origin_of(node, caller.rights, given, new.tags)
    fields = {"model": model, **new.model_dump(exclude={"reason"}), **origin._asdict()}
    body = _decide(node, caller, new.reason, "CreateModelVersion", fields)
    return _done(body, model=model, version=body["_"].version)


@router.patch(
    "/models/{model}/versions/{version}", summary="Describe or tag a version", responses=_DONE
)
def change_version(
    model: str, version: Number, change: VersionChange, node: NodeHere, caller: CallerHere
) -> Response:
    """Change a version's description, or its tags."""
    _exactly_one(description=change.description, tags=change.tags)
    fields: dict[str, Any] = {"model": model, "version": version}
    if change.description is not None:
        type, fields["description"] = "UpdateModelVersion", change.description
    else:
        type, fields["tags"] = "ChangeModelVersionTags", change.tags
    return _done(_decide(node, caller, change.reason, type, fields))


@router.delete("/models/{model}/versions/{version}", summary="Delete a version", responses=_DONE)
def delete_version(
    model: str, version: Number, node: NodeHere, caller: CallerHere, why: Reason | None = None
) -> Response:
    """Delete a version and the aliases that point at it. The trail keeps them."""
    fields = {"model": model, "version": version}
    return _done(_decide(node, caller, _said(why), "DeleteModelVersion", fields))


@router.get(
    "/models/{model}/versions",
    summary="Versions of a model",
    responses=json_example({"versions": [_VERSION], "next_page_token": None}),
)
def list_versions(
    model: str,
    node: NodeHere,
    log_end: LogEnd,
    as_of: AsOf = None,
    stage: Annotated[str | None, Query(description="Only those in this stage.")] = None,
    limit: Limit = 1_000,
    page_token: PageToken = None,
) -> Response:
    """Versions, newest first, now or at an earlier moment."""
    last = _VERSIONS.last(page_token, int)
    with reading(node, log_end) as cursor:
        offset = offset_of(cursor, as_of)
        model_at(cursor, offset, model, as_of)
        found = rows(
            cursor,
            "SELECT * FROM model_versions_at($at) WHERE model = $model "
            "AND ($stage IS NULL OR lower(stage) = lower($stage)) "
            "AND ($after IS NULL OR version < $after) "
            f"ORDER BY version DESC LIMIT {limit + 1}",
            {"at": offset, "model": model, "stage": stage, "after": last and last[0]},
        )
        body = page(found, limit, _VERSIONS, ["version"])
        add_to_versions(cursor, offset, model, body["versions"])
    return answer(body)


@router.get(
    "/models/{model}/versions/{version}", summary="One version", responses=json_example(_VERSION)
)
def get_version(
    model: str,
    version: Number,
    node: NodeHere,
    log_end: LogEnd,
    as_of: AsOf = None,
) -> Response:
    """A version with stage, tags and aliases, now or at an earlier moment."""
    with reading(node, log_end) as cursor:
        offset = offset_of(cursor, as_of)
        found = version_at(cursor, offset, model, version, as_of)
        add_to_versions(cursor, offset, model, [found])
    return answer(found)


# Stages


@router.put("/models/{model}/versions/{version}/stage", summary="Move to a stage", responses=_DONE)
def put_stage(
    model: str, version: Number, change: StageChange, node: NodeHere, caller: CallerHere
) -> Response:
    """Move a version to a stage, on evidence, and only if it still is where you think it is."""
    fields = {
        "model": model,
        "version": version,
        "stage": change.stage,
        "archive_existing_versions": change.archive_existing_versions,
        "expected_stage": change.expected,
        "evidence": _evidence(node, model, version, change.evidence),
    }
    return _done(_decide(node, caller, change.reason, "TransitionModelVersionStage", fields))


@router.get(
    "/models/{model}/versions/{version}/stage",
    summary="The stage of a version",
    responses=json_example(
        {
            "model": "digits",
            "version": 3,
            "stage": "Production",
            "set_at": "2026-03-01T12:00:00.000000Z",
            "set_by": "ada",
            "reason": "passed the gate",
        }
    ),
)
def get_stage(
    model: str,
    version: Number,
    node: NodeHere,
    log_end: LogEnd,
    as_of: AsOf = None,
) -> Response:
    """The stage, who set it, when and why; now or at an earlier moment."""
    with reading(node, log_end) as cursor:
        return answer(
            one(
                cursor,
                "SELECT * FROM stages_at(?) WHERE model = ? AND version = ?",
                [offset_of(cursor, as_of), model, version],
                f"Model Version (name={model}, version={version}) not found{as_of_text(as_of)}",
            )
        )


@router.get(
    "/stages",
    summary="Stages of all versions",
    responses=json_example(
        {
            "stages": [{"model": "digits", "version": 3, "stage": "Production"}],
            "next_page_token": None,
        }
    ),
)
def list_stages(
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    as_of: AsOf = None,
    model: str | None = None,
    stage: str | None = None,
    limit: Limit = 1_000,
    page_token: PageToken = None,
) -> Response:
    """What was in Production on that day: the stage of every version, now or then."""
    model_after, version_after = _STAGES.last(page_token, str, int) or (None, None)
    readable, values = caller.rights.readable_models("model", "model").named()
    with reading(node, log_end) as cursor:
        found = rows(
            cursor,
            "SELECT * FROM stages_at($at) WHERE ($model IS NULL OR model = $model) "
            "AND ($stage IS NULL OR lower(stage) = lower($stage)) "
            "AND ($m IS NULL OR model > $m OR (model = $m AND version > $v)) "
            f"AND {readable} ORDER BY model, version LIMIT {limit + 1}",
            {
                **values,
                "at": offset_of(cursor, as_of),
                "model": model,
                "stage": stage,
                "m": model_after,
                "v": version_after,
            },
        )
    return answer(page(found, limit, _STAGES, ["model", "version"]))


# Aliases


@router.put("/models/{model}/aliases/{alias}", summary="Point an alias", responses=_DONE)
def put_alias(
    model: str, alias: str, change: AliasChange, node: NodeHere, caller: CallerHere
) -> Response:
    """Point an alias at a version; with `expected`, only if it still points where you think."""
    fields = {
        "model": model,
        "alias": alias,
        "version": change.version,
        "expected_version": change.expected,
        "evidence": _evidence(node, model, change.version, change.evidence),
    }
    return _done(_decide(node, caller, change.reason, "SetRegisteredModelAlias", fields))


@router.delete("/models/{model}/aliases/{alias}", summary="Remove an alias", responses=_DONE)
def delete_alias(
    model: str,
    alias: str,
    node: NodeHere,
    caller: CallerHere,
    expected: Annotated[
        int | None,
        Query(ge=1, le=_INT64_MAX, description="Only if it points at this version now."),
    ] = None,
    why: Reason | None = None,
) -> Response:
    """Remove an alias; with `expected`, only if it still points where you think."""
    fields = {"model": model, "alias": alias, "expected_version": expected}
    return _done(_decide(node, caller, _said(why), "DeleteRegisteredModelAlias", fields))


_ALIAS = {
    "model": "digits",
    "alias": "champion",
    "version": 3,
    "set_at": "2026-03-01T12:00:00.000000Z",
    "set_by": "ada",
    "reason": "beats the champion by 2 points",
}


@router.get(
    "/models/{model}/aliases",
    summary="Aliases of a model",
    responses=json_example({"aliases": [_ALIAS]}),
)
def list_aliases(model: str, node: NodeHere, log_end: LogEnd, as_of: AsOf = None) -> Response:
    """Aliases, where they point, who set them, when and why; now or at an earlier moment."""
    with reading(node, log_end) as cursor:
        offset = offset_of(cursor, as_of)
        model_at(cursor, offset, model, as_of)
        return answer({"aliases": aliases_at(cursor, offset, model)})


@router.get(
    "/models/{model}/aliases/{alias}",
    summary="Where an alias points",
    responses=json_example(_ALIAS),
)
def get_alias(
    model: str,
    alias: str,
    node: NodeHere,
    log_end: LogEnd,
    as_of: AsOf = None,
) -> Response:
    """What `@champion` points at, or pointed at last March, who set it, and why."""
    with reading(node, log_end) as cursor:
        return answer(
            one(
                cursor,
                "SELECT * FROM aliases_at(?) WHERE model = ? AND alias = ?",
                [offset_of(cursor, as_of), model, alias],
                f"Registered model alias {alias} not found for {model}{as_of_text(as_of)}",
            )
        )


def _evidence(
    node: Node, model: str, version: int, given: list[Evidence] | None
) -> list[dict[str, Any]]:
    """What the caller gave; else the latest metrics of the version's run."""
    if given is not None:
        return [evidence.model_dump() for evidence in given]
    return latest_metrics(node, model, version)
