"""The registry over time: timelines, reasons, the time bar, differences and incidents."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import PlainTextResponse, Response

from modeltrail.api.native.parameters import (
    AsOf,
    CallerHere,
    LogEnd,
    NodeHere,
    answer,
    json_example,
)
from modeltrail.api.native.registry import Number
from modeltrail.api.registry.difference import as_markdown, difference
from modeltrail.api.registry.incident import incident
from modeltrail.api.registry.moments import moments, near
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


_MOMENT = {
    "position": "registry:0:17",
    "log_offset": 17,
    "time": "2026-03-01T12:00:00.000000Z",
}


@router.get(
    "/moments",
    tags=["audit"],
    summary="How many requests came when",
    responses=json_example(
        {
            "from": "2026-03-01T11:00:00.000000Z",
            "to": "2026-03-01T12:00:00.000000Z",
            "events": 18,
            "first": {**_MOMENT, "position": "registry:0:0", "log_offset": 0},
            "last": _MOMENT,
            "buckets": [
                {
                    "from": "2026-03-01T11:59:42.000000Z",
                    "to": "2026-03-01T12:00:00.000000Z",
                    "events": 3,
                    "refused": 1,
                    "first_offset": 15,
                    "last_offset": 17,
                }
            ],
        }
    ),
)
def list_moments(
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    since: From = None,
    to: To = None,
    buckets: Annotated[int, Query(ge=1, le=2_000, description="Number of spans.")] = 200,
) -> Response:
    """Requests to the registry in equal spans of time, for a time bar; empty spans are left out.

    With `--auth`, only requests count that the caller may read.
    """
    with node.read(log_end=log_end) as cursor:
        return answer(moments(cursor, caller.rights, since, to, buckets))


@router.get(
    "/moments/near",
    tags=["audit"],
    summary="The request beside a moment",
    responses=json_example(
        {
            "position": "registry:0:17",
            "time": "2026-03-01T12:00:00.000000Z",
            "event": {
                "log_offset": 17,
                "appended_at": "2026-03-01T12:00:00.000000Z",
                "type": "SetRegisteredModelAlias",
                "actor": "ada",
                "verified": True,
                "entity": "alias",
                "experiment_id": None,
                "model": "digits",
                "version": 3,
                "alias": "champion",
                "accepted": True,
                "code": None,
            },
        }
    ),
)
def near_moment(
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    at: Annotated[
        str | None, Query(description="Time or registry position; by default the log's end.")
    ] = None,
    step: Annotated[
        Literal["1", "0", "-1"],
        Query(description="1: the next; -1: the one before; 0: the one whose effect is seen then."),
    ] = "-1",
) -> Response:
    """A request beside a moment, of those that the caller may read; nulls if there is none."""
    with node.read(log_end=log_end) as cursor:
        return answer(near(cursor, caller.rights, at, int(step)))


CHANGE = {
    "entity": "alias",
    "experiment_id": None,
    "experiment_name": None,
    "model": "digits",
    "version": None,
    "attribute": "alias",
    "key": "champion",
    "before": "2",
    "after": "3",
    "model_key": "4",
    "events": [
        {
            "log_offset": 17,
            "appended_at": "2026-03-01T12:00:00.000000Z",
            "type": "SetRegisteredModelAlias",
            "actor": "ada",
            "verified": True,
            "reason": "beats the champion by 2 points",
        }
    ],
}
"""An example of what ``changes`` of the registry returns."""


@router.get(
    "/diff",
    tags=["audit"],
    summary="What differs between two moments",
    responses={
        200: {
            "description": "The changes.",
            "content": {
                "application/json": {
                    "example": {
                        "from": {"position": "registry:0:12", "offset": 12, "time": None},
                        "to": {"position": "registry:0:17", "offset": 17, "time": None},
                        "changes": [CHANGE],
                        "more": False,
                    }
                },
                "text/markdown": {"example": "# Registry: registry:0:12 to registry:0:17\n"},
            },
        }
    },
)
def registry_diff(
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    since: Annotated[
        str, Query(alias="from", description="Time or registry position of the first moment.")
    ],
    to: Annotated[str | None, Query(description="Of the second moment; by default now.")] = None,
    format: Annotated[Literal["json", "markdown"], Query(description="Form of the answer.")] = (
        "json"
    ),
    limit: Annotated[int, Query(ge=1, le=10_000, description="Most changes.")] = 1_000,
) -> Response:
    """Each value of the registry that differs, with the requests that made it so.

    Values are attributes, tags and aliases of experiments, models and versions that the caller may
    read; null where there is none. If the first moment is later, changes are shown backwards.
    """
    with node.read(log_end=log_end) as cursor:
        body = difference(cursor, caller.rights, since, to, limit)
    if format == "markdown":
        return PlainTextResponse(as_markdown(body), media_type="text/markdown")
    return answer(body)


@router.get(
    "/incident",
    tags=["audit"],
    summary="What served at a moment, and what happened before",
    responses=json_example(
        {
            "at": "2026-03-01T12:00:00.000000Z",
            "position": "registry:0:17",
            "from": "2026-03-01T11:00:00.000000Z",
            "holders": [
                {
                    "model": "digits",
                    "kind": "alias",
                    "name": "champion",
                    "version": 3,
                    "since": "2026-03-01T11:58:00.000000Z",
                    "set_by": "ada",
                    "verified": True,
                    "reason": "beats the champion by 2 points",
                    "from_offset": 15,
                }
            ],
            "changes": [],
            "refused": [],
            "more": False,
            "silent_runs": [],
            "markdown": "# Registry at 2026-03-01T12:00:00.000000Z (registry:0:17)\n",
        }
    ),
)
def registry_incident(
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    at: Annotated[
        str | None, Query(description="Time or registry position; by default now.")
    ] = None,
    minutes: Annotated[int, Query(ge=1, le=10_080, description="How far to look back.")] = 60,
) -> Response:
    """Holders of aliases and stages, accepted and refused requests, and runs that went silent.

    `markdown` is all of it, to paste in a ticket. Only what the caller may read.
    """
    with node.read(log_end=log_end) as cursor:
        return answer(incident(cursor, caller.rights, at, minutes))
