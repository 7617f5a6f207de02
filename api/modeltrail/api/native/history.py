"""The registry over time: the timeline of a model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from modeltrail.api.native.parameters import CallerHere, LogEnd, NodeHere, answer, json_example
from modeltrail.api.registry.timeline import timeline
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
