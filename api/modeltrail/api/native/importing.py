"""The registry requests of an import."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from modeltrail.api.errors import InvalidRequest
from modeltrail.api.native.ingest import body_of, payloads_of
from modeltrail.api.native.parameters import CallerHere, NodeHere, answer, json_example
from modeltrail.api.registry.reading import outcomes
from modeltrail.api.routing import PooledRoute
from modeltrail.eventlog import REGISTRY, NewEvent
from modeltrail.schemas import SchemaError, encode
from modeltrail.schemas.framing import MEDIA_TYPE

router = APIRouter(prefix="/api/v1", tags=["import"], route_class=PooledRoute)

# What an import may request: users and permissions are not imported.
_TYPES = frozenset(
    [
        "ChangeExperimentTags",
        "ChangeModelVersionTags",
        "ChangeRegisteredModelTags",
        "DeleteExperiment",
        "DeleteModelVersion",
        "ImportExperiment",
        "ImportModelVersion",
        "ImportRegisteredModel",
        "RenameExperiment",
        "RestoreExperiment",
        "SetRegisteredModelAlias",
        "TransitionModelVersionStage",
        "UpdateModelVersion",
        "UpdateRegisteredModel",
    ]
)


@router.post(
    "/import",
    summary="Append registry requests of an import",
    responses=json_example(
        {"outcomes": [[True, None, "17"], [False, "Experiment(name=a) already exists.", None]]}
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
def import_requests(
    node: NodeHere, caller: CallerHere, body: Annotated[bytes, Depends(body_of)]
) -> Response:
    """Append requests, all or none, in order, and return what the fold decided about each.

    The body has the format of `/api/v1/ingest`. An outcome is: accepted, the message of a refusal,
    and the id of the experiment that it is about.
    """
    verified = caller.actor if caller.actor.verified else None
    events, checked = [], []
    for index, payload in enumerate(payloads_of(body)):
        try:
            type, event = node.codec.decode(payload)
        except SchemaError as error:
            raise InvalidRequest(f"event {index}: {error}; nothing was appended") from None
        if type not in _TYPES:
            raise InvalidRequest(f"event {index}: an import has no {type}; nothing was appended")
        if verified is not None:
            event["envelope"]["actor"] = verified.name
        event["envelope"]["actor_verified"] = verified is not None
        events.append(NewEvent(REGISTRY, "", encode(type, event)))
        checked.append(event)
    bound, _ = node.bindings.claim(REGISTRY, checked, verified, lambda event: False)
    decided = outcomes(node, node.append(events)) if events else []
    node.bindings.keep(bound)
    return answer({"outcomes": [list(outcome) for outcome in decided]})
