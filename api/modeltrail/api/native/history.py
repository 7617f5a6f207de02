"""The registry over time: timelines, and why a version is where it is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from modeltrail.api.native.parameters import (
    AsOf,
    CallerHere,
    LogEnd,
    NodeHere,
    answer,
    json_example,
)
from modeltrail.api.native.registry import Number
from modeltrail.api.registry.timeline import timeline
from modeltrail.api.registry.why import why
from modeltrail.api.routing import PooledRoute
from modeltrail.limits import NAME_CHARACTERS_MAX

router = APIRouter(prefix="/api/v1", tags=["registry"], route_class=PooledRoute)

From = Annotated[
    str | None,
    Query(
        alias="from",
        description="Begin after this time (ISO 8601) or registry position; by default with the "
        "first event.",
    ),
]
To = Annotated[
    str | None,
    Query(description="End at this time (ISO 8601) or registry position; by default now."),
]

_BAR = {
    "version": 3,
    "valid_from": "2026-03-01T12:00:00.000000Z",
    "valid_to": None,
    "from_offset": 17,
    "to_offset": None,
    "set_by": "ada",
    "verified": True,
    "reason": "beats the champion by 2 points",
    "event_id": "0195a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
}
_REFUSED = {
    "log_offset": 18,
    "appended_at": "2026-03-01T12:00:00.012000Z",
    "type": "SetRegisteredModelAlias",
    "actor": "bob",
    "verified": True,
    "alias": "champion",
    "stage": None,
    "version": 4,
    "expected_version": "2",
    "expected_stage": None,
    "code": "RESOURCE_CONFLICT",
    "message": "Registered model alias champion of digits was expected to point at version 2, but "
    "it is found to point at version 3.",
    "reason": "newer data",
}


@router.get(
    "/models/{model}/timeline",
    summary="Which version held each alias and stage",
    responses=json_example(
        {
            "model": "digits",
            "from": None,
            "to": None,
            "position": "registry:0:18",
            "lanes": [{"kind": "alias", "name": "champion", "bars": [_BAR]}],
            "refused": [_REFUSED],
            "versions": [
                {
                    "version": 3,
                    "created_at": "2026-03-01T11:00:00.000000Z",
                    "created_by": "ada",
                    "run_id": "0af7651916cd43dd8448eb211c80319c",
                    "stage": "None",
                    "aliases": ["champion"],
                    "metric": 0.97,
                }
            ],
            "metric": "accuracy",
            "metrics": ["accuracy", "loss"],
        }
    ),
)
def model_timeline(
    model: str,
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    since: From = None,
    to: To = None,
    metric: Annotated[
        str | None,
        Query(max_length=NAME_CHARACTERS_MAX, description="Metric of the versions' runs."),
    ] = None,
) -> Response:
    """The timeline of a model, as it was known at `to`: a lane for each alias and stage.

    A bar is an interval in which a version held it, with who set it and why. `refused` are requests
    without effect. `metric` is the latest value of the run, of a likely metric unless one is named.
    """
    with node.read(log_end=log_end) as cursor:
        return answer(timeline(cursor, caller.rights, model, since, to, metric))


_HOLD = {
    "kind": "alias",
    "name": "champion",
    "since": "2026-03-01T12:00:00.000000Z",
    "from_offset": 17,
    "set_by": "ada",
    "verified": True,
    "reason": "rollback: incident 41",
    "before": {
        "version": 4,
        "since": "2026-03-01T09:00:00.000000Z",
        "until": "2026-03-01T12:00:00.000000Z",
        "held_s": 10800.0,
        "from_offset": 12,
        "to_offset": 17,
    },
}


@router.get(
    "/models/{model}/versions/{version}/why",
    summary="Why a version is where it is",
    responses=json_example(
        {
            "model": "digits",
            "version": 2,
            "as_of": None,
            "created_at": "2026-02-01T12:00:00.000000Z",
            "created_by": "ada",
            "holds": [_HOLD],
            "sentence": "Version 2 is @champion since 1 Mar 12:00 UTC because "
            "'rollback: incident 41', set by ada, before it version 4 for 3 h.",
            "evidence": [
                {
                    "kind": "metric",
                    "key": "accuracy",
                    "value": "0.97",
                    "position": "runs:0:4711",
                    "run_id": "0af7651916cd43dd8448eb211c80319c",
                    "against": {"version": 4, "value": "0.93", "position": "runs:0:4502"},
                }
            ],
            "race": None,
            "refused": [],
            "source": "runs:/0af7651916cd43dd8448eb211c80319c/model",
            "run": {"readable": True, "run_id": "0af7651916cd43dd8448eb211c80319c"},
            "commit": "9fceb02d0ae598e95dc970b74767f19372d61af8",
            "datasets": [],
            "artifacts": [{"path": "model/model.pkl", "size_bytes": 1024, "sha256": "9f86d081…"}],
            "lineage": {"model_id": None, "run_link": None, "siblings": []},
            "proof": {
                "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "verified_to": 1204,
                "contradiction": None,
                "checkpoint": {
                    "offset": 1000,
                    "signed_at": "2026-03-01T12:10:00.000000Z",
                    "covers": True,
                },
                "signed_by": "d75a980182b10ab7…",
            },
            "comments": [],
            "tags": {},
            "description": None,
            "history": [],
        }
    ),
)
def version_why(
    model: str,
    version: Number,
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    as_of: AsOf = None,
) -> Response:
    """What a version holds, since when, by whom, why and on what evidence; now or at a moment.

    `holds` begins with what people mean by production, and `sentence` says it in words. `against`
    is what the previous holder had. `race` has requests that expected the same state as the
    accepted one and came later. `run` is `{"readable": false}` if the caller may not read it;
    source, files and datasets are hidden then, too.
    """
    with node.read(log_end=log_end) as cursor:
        return answer(why(node, cursor, caller.rights, model, version, as_of))
