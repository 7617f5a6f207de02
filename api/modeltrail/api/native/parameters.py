"""Parameters of routes, such as the node and the caller, and their answers."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request
from starlette.responses import Response

from modeltrail.api.access.caller import Caller, caller_of, sign_in
from modeltrail.api.node import Node
from modeltrail.limits import NAME_CHARACTERS_MAX


async def node_of(request: Request) -> Node:
    """Return the node of the application."""
    node: Node = request.app.state.node
    return node


NodeHere = Annotated[Node, Depends(node_of)]


async def signed_in_caller(
    request: Request,
    x_modeltrail_actor: Annotated[
        str | None,
        Header(description="Your name, where the server runs without `--auth`. Unverified."),
    ] = None,
    x_modeltrail_reason: Annotated[
        str | None, Header(description="Why; the same as `reason` in a body.")
    ] = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Requests with the same key take effect once, so that a retry is safe.",
            max_length=NAME_CHARACTERS_MAX,
            min_length=1,
        ),
    ] = None,
    user_agent: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Caller:
    """Return the caller. Raises like ``sign_in``."""
    await sign_in(request)
    return caller_of(request, x_modeltrail_actor, x_modeltrail_reason, idempotency_key, user_agent)


CallerHere = Annotated[Caller, Depends(signed_in_caller)]


async def wants_log_end(
    consistency: Annotated[
        str,
        Query(
            pattern="^(node|log)$",
            description="`node`: see all that this server acknowledged. `log`: wait for the log's "
            "end as of now, whoever appended.",
        ),
    ] = "node",
    x_modeltrail_consistency: Annotated[
        str | None, Header(description="The same as `consistency`.")
    ] = None,
) -> bool:
    """Return whether a read waits for the log's end."""
    return (x_modeltrail_consistency or consistency) == "log"


LogEnd = Annotated[bool, Depends(wants_log_end)]
Limit = Annotated[int, Query(ge=1, le=10_000, description="Most items in one answer.")]
PageToken = Annotated[str | None, Query(description="`next_page_token` of the answer before.")]
AsOf = Annotated[
    str | None,
    Query(
        description="The state at a time (ISO 8601, UTC unless it says otherwise), or right after "
        "a registry position: `registry:0:17`, or `17`.",
        openapi_examples={
            "now": {"value": None},
            "time": {"value": "2026-03-01T12:00:00Z"},
            "position": {"value": "registry:0:17"},
        },
    ),
]


def answer(body: Any, status: int = 200) -> Response:
    """Return a JSON answer."""
    data = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(data.encode("utf-8", "replace"), status, media_type="application/json")


def json_example(example: Any, description: str = "Done.") -> dict[int | str, dict[str, Any]]:
    """Return an OpenAPI description of the answer 200, with an example."""
    return {
        200: {
            "description": description,
            "content": {"application/json": {"example": example}},
        }
    }
