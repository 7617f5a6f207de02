"""The registry: its state now, or at an earlier moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from modeltrail.api.answers import page
from modeltrail.api.native.parameters import (
    AsOf,
    CallerHere,
    Limit,
    LogEnd,
    NodeHere,
    PageToken,
    answer,
    json_example,
)
from modeltrail.api.node import Node
from modeltrail.api.pages import Pages
from modeltrail.api.registry.reading import Moment
from modeltrail.api.routing import PooledRoute
from modeltrail.limits import INT64_MAX

_EXPERIMENTS = Pages("experiments")
_MODELS = Pages("models")
_VERSIONS = Pages("versions")
_COMMENTS = Pages("comments")
_STAGES = Pages("stages")
_HOLDERS = Pages("holders")
router = APIRouter(prefix="/api/v1", tags=["registry"], route_class=PooledRoute)


class Reading(NamedTuple):
    """What a request reads: the state now, or at an earlier moment."""

    node: Node
    log_end: bool
    as_of: str | None

    @contextmanager
    def begin(self) -> Iterator[Moment]:
        """Yield the moment, after waiting for what the request must see."""
        with self.node.read(log_end=self.log_end) as cursor:
            yield Moment(cursor, self.as_of)


async def reading(node: NodeHere, log_end: LogEnd, as_of: AsOf = None) -> Reading:
    """Return what a request reads."""
    return Reading(node, log_end, as_of)


ReadingHere = Annotated[Reading, Depends(reading)]
_BLAME = {
    "value": "3",
    "set_at": "2026-03-01T12:00:00.000000Z",
    "set_by": "ada",
    "verified": True,
    "reason": "beats the champion by 2 points",
    "from_offset": 17,
    "before": "2",
}
Blame = Annotated[
    bool,
    Query(
        description="Also `blame`: for each value (`name`, `description`, `stage`, `lifecycle`, "
        "and by name `tags` and `aliases`) who set it, when, why, at which offset, and what was "
        "there before."
    ),
]
Number = Annotated[int, Path(ge=1, le=INT64_MAX, description="Version number.")]


# Experiments


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
    reading: ReadingHere,
    caller: CallerHere,
    name: Annotated[str | None, Query(description="Exactly this name.")] = None,
    deleted: Annotated[bool, Query(description="The deleted ones instead.")] = False,
    limit: Limit = 1_000,
    page_token: PageToken = None,
) -> Response:
    """Experiments by name, now or at an earlier moment."""
    last = _EXPERIMENTS.last(page_token, str)
    readable, values = caller.rights.readable_experiments("experiment_id").named()
    with reading.begin() as at:
        found = at.rows(
            "SELECT * FROM experiments_at($at) WHERE deleted = $deleted "
            "AND ($name IS NULL OR name = $name) AND ($after IS NULL OR name > $after) "
            f"AND {readable} ORDER BY name LIMIT {limit + 1}",
            deleted=deleted,
            name=name,
            after=last and last[0],
            **values,
        )
        body = page(found, limit, _EXPERIMENTS, ["name"])
        at.add_to_experiments(body["experiments"])
    return answer(body)


@router.get(
    "/experiments/{experiment_id}", summary="One experiment", responses=json_example(_EXPERIMENT)
)
def get_experiment(experiment_id: str, reading: ReadingHere) -> Response:
    """An experiment, now or at an earlier moment."""
    with reading.begin() as at:
        found = at.one(
            "SELECT * FROM experiments_at($at) WHERE experiment_id = $id",
            f"there is no experiment {experiment_id!r}",
            id=experiment_id,
        )
        at.add_to_experiments([found])
    return answer(found)


# Registered models


_MODEL = {"model": "digits", "description": "Reads digits.", "tags": {}, "aliases": {"champion": 3}}
_COMMENT = {
    "comment": "Reviewed: the test set has no overlap.",
    "added_at": "2026-03-01T12:00:00.000000Z",
    "added_by": "ada",
    "verified": True,
    "log_offset": 21,
}
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
    reading: ReadingHere, caller: CallerHere, limit: Limit = 1_000, page_token: PageToken = None
) -> Response:
    """Registered models by name, now or at an earlier moment."""
    last = _MODELS.last(page_token, str)
    readable, values = caller.rights.readable_models("model", "model").named()
    with reading.begin() as at:
        found = at.rows(
            "SELECT * FROM models_at($at) WHERE ($after IS NULL OR model > $after) "
            f"AND {readable} ORDER BY model LIMIT {limit + 1}",
            after=last and last[0],
            **values,
        )
        body = page(found, limit, _MODELS, ["model"])
        at.add_to_models(body["models"])
    return answer(body)


@router.get(
    "/models/{model}",
    summary="One registered model",
    responses=json_example({**_MODEL, "blame": {"tags": {}, "aliases": {"champion": _BLAME}}}),
)
def get_model(
    model: str, reading: ReadingHere, caller: CallerHere, blame: Blame = False
) -> Response:
    """A registered model, now or at an earlier moment, under its name at that time."""
    with reading.begin() as at:
        found = at.model(model)
        at.add_to_models([found])
        if blame:
            found["blame"] = at.blame(model, caller.rights.readable_models("model_key")).get(None)
    return answer(found)


# Versions


@router.get(
    "/models/{model}/versions",
    summary="Versions of a model",
    responses=json_example({"versions": [_VERSION], "next_page_token": None}),
)
def list_versions(
    model: str,
    reading: ReadingHere,
    caller: CallerHere,
    blame: Blame = False,
    stage: Annotated[str | None, Query(description="Only those in this stage.")] = None,
    limit: Limit = 1_000,
    page_token: PageToken = None,
) -> Response:
    """Versions, newest first, now or at an earlier moment."""
    last = _VERSIONS.last(page_token, int)
    with reading.begin() as at:
        at.model(model)
        found = at.rows(
            "SELECT * FROM model_versions_at($at) WHERE model = $model "
            "AND ($stage IS NULL OR lower(stage) = lower($stage)) "
            "AND ($after IS NULL OR version < $after) "
            f"ORDER BY version DESC LIMIT {limit + 1}",
            model=model,
            stage=stage,
            after=last and last[0],
        )
        body = page(found, limit, _VERSIONS, ["version"])
        at.add_to_versions(model, body["versions"])
        if blame:
            who = at.blame(model, caller.rights.readable_models("model_key"))
            for one in body["versions"]:
                one["blame"] = who.get(one["version"])
    return answer(body)


@router.get(
    "/models/{model}/versions/{version}", summary="One version", responses=json_example(_VERSION)
)
def get_version(
    model: str,
    version: Number,
    reading: ReadingHere,
    caller: CallerHere,
    blame: Blame = False,
) -> Response:
    """A version with stage, tags and aliases, now or at an earlier moment."""
    with reading.begin() as at:
        found = at.version(model, version)
        at.add_to_versions(model, [found])
        if blame:
            who = at.blame(model, caller.rights.readable_models("model_key"))
            found["blame"] = who.get(version)
    return answer(found)


@router.get(
    "/models/{model}/versions/{version}/comments",
    summary="Comments on a version",
    responses=json_example({"comments": [_COMMENT], "next_page_token": None}),
)
def list_comments(
    model: str,
    version: Number,
    reading: ReadingHere,
    limit: Limit = 1_000,
    page_token: PageToken = None,
) -> Response:
    """Comments, oldest first, now or at an earlier moment."""
    last = _COMMENTS.last(page_token, int)
    with reading.begin() as at:
        at.version(model, version)
        found = at.rows(
            "SELECT * EXCLUDE (model, version, model_key) FROM comments WHERE version = $version "
            "AND model_key = (SELECT model_key FROM history WHERE entity = 'model' "
            "AND attribute = 'name' AND value = $model "
            "AND fold.holds(from_offset, to_offset, $at)) "
            "AND log_offset <= $at AND ($after IS NULL OR log_offset > $after) "
            f"ORDER BY log_offset LIMIT {limit + 1}",
            model=model,
            version=version,
            after=last and last[0],
        )
    return answer(page(found, limit, _COMMENTS, ["log_offset"]))


# Stages


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
def get_stage(model: str, version: Number, reading: ReadingHere) -> Response:
    """The stage, who set it, when and why; now or at an earlier moment."""
    with reading.begin() as at:
        return answer(at.version(model, version, "stages_at"))


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
    reading: ReadingHere,
    caller: CallerHere,
    model: str | None = None,
    stage: str | None = None,
    limit: Limit = 1_000,
    page_token: PageToken = None,
) -> Response:
    """The stage of every version, now or at an earlier moment: what was in Production that day."""
    model_after, version_after = _STAGES.last(page_token, str, int) or (None, None)
    readable, values = caller.rights.readable_models("model", "model").named()
    with reading.begin() as at:
        found = at.rows(
            "SELECT * FROM stages_at($at) WHERE ($model IS NULL OR model = $model) "
            "AND ($stage IS NULL OR lower(stage) = lower($stage)) "
            "AND ($m IS NULL OR model > $m OR (model = $m AND version > $v)) "
            f"AND {readable} ORDER BY model, version LIMIT {limit + 1}",
            model=model,
            stage=stage,
            m=model_after,
            v=version_after,
            **values,
        )
    return answer(page(found, limit, _STAGES, ["model", "version"]))


@router.get(
    "/holders",
    summary="Which version holds each alias and stage, of all models",
    responses=json_example(
        {
            "holders": [
                {
                    "model": "digits",
                    "kind": "alias",
                    "name": "champion",
                    "version": 3,
                    "set_at": "2026-03-01T12:00:00.000000Z",
                    "set_by": "ada",
                    "verified": True,
                    "reason": "beats the champion by 2 points",
                    "from_offset": 17,
                }
            ],
            "next_page_token": None,
        }
    ),
)
def list_holders(
    reading: ReadingHere, caller: CallerHere, limit: Limit = 1_000, page_token: PageToken = None
) -> Response:
    """What serves, now or at an earlier moment: who made it so, when and why.

    Aliases, and the stages Production and Staging, in which several versions can be.
    """
    last = _HOLDERS.last(page_token, str, str, str, int)
    model, kind, name, version = last or (None, None, None, None)
    readable, values = caller.rights.readable_models("h.model_key").named()
    with reading.begin() as at:
        found = at.rows(
            "SELECT * FROM (SELECT n.value AS model, "
            "CASE WHEN h.entity = 'alias' THEN 'alias' ELSE 'stage' END AS kind, "
            "CASE WHEN h.entity = 'alias' THEN h.key ELSE h.value END AS name, h.version, "
            "h.valid_from AS set_at, h.set_by, h.set_by_verified AS verified, h.reason, "
            "h.from_offset FROM history h JOIN history n ON n.model_key = h.model_key "
            "AND n.entity = 'model' AND n.attribute = 'name' "
            "WHERE (h.entity = 'alias' OR (h.entity = 'model_version' AND h.attribute = 'stage' "
            "AND h.value IN ('Production', 'Staging'))) "
            "AND h.from_offset <= $at AND (h.to_offset IS NULL OR h.to_offset > $at) "
            "AND n.from_offset <= $at AND (n.to_offset IS NULL OR n.to_offset > $at) "
            f"AND {readable}) "
            "WHERE $m IS NULL OR (model, kind, name, version) > ($m, $kind, $name, $version) "
            f"ORDER BY model, kind, name, version LIMIT {limit + 1}",
            m=model,
            kind=kind,
            name=name,
            version=version,
            **values,
        )
    return answer(page(found, limit, _HOLDERS, ["model", "kind", "name", "version"]))


# Aliases


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
def list_aliases(model: str, reading: ReadingHere) -> Response:
    """Aliases, their versions, who set them, when and why; now or at an earlier moment."""
    with reading.begin() as at:
        at.model(model)
        return answer({"aliases": at.aliases(model)})


@router.get(
    "/models/{model}/aliases/{alias}",
    summary="Where an alias points",
    responses=json_example(_ALIAS),
)
def get_alias(model: str, alias: str, reading: ReadingHere) -> Response:
    """The version that an alias points at, now or at an earlier moment, who set it, and why."""
    with reading.begin() as at:
        return answer(
            at.one(
                "SELECT * FROM aliases_at($at) WHERE model = $model AND alias = $alias",
                f"Registered model alias {alias} not found for {model}",
                model=model,
                alias=alias,
            )
        )
