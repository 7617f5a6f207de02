"""Live: server-sent events about what happens in the log."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from modeltrail.api.errors import InvalidRequest
from modeltrail.api.live import Interest, Live, Stream, parse_position
from modeltrail.api.native.parameters import CallerHere
from modeltrail.api.routing import PooledRoute

router = APIRouter(prefix="/api/v1", tags=["operation"], route_class=PooledRoute)

_EVENT_STREAM = "text/event-stream"
_NAMED_MAX = 1_000
_EXAMPLE = """id: registry:0:31,runs:0:7
event: hello
data: {"position":"registry:0:31,runs:0:7","time":"2026-03-01T12:00:00.000000Z","lag_ms":null}

id: registry:0:31,runs:0:9
event: runs
data: {"run_ids":["0af7651916cd43dd8448eb211c80319c"],"ended":[],"created":[]}

id: registry:0:32,runs:0:9
event: registry
data: {"log_offset":32,"type":"SetRegisteredModelAlias","model":"m","alias":"a","accepted":true}

"""
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events. `hello`, at the start, and `beat`, every 15 s: `position`, `time` "
        "(the server's clock) and `lag_ms` (from the log to this stream, of the last events). "
        "`runs`, five times a second at most: `run_ids` of runs that changed, and which of them "
        "`ended` or were `created`. `registry`: a request and its verdict. `tail`: any event in "
        "short; where there are more than a client can read, `skipped` says how many were left "
        "out.",
        "content": {_EVENT_STREAM: {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}


@router.get("/live", summary="What happens now", responses=_ANSWER, response_class=Response)
async def live(
    request: Request,
    caller: CallerHere,
    runs: Annotated[
        str | None, Query(description="Ids of runs, with commas between; all if absent.")
    ] = None,
    experiments: Annotated[
        str | None, Query(description="Ids of experiments whose runs to report.")
    ] = None,
    registry: Annotated[bool, Query(description="Also events of the registry.")] = False,
    tail: Annotated[bool, Query(description="Also each event of the log in short.")] = False,
    after: Annotated[
        str | None,
        Query(
            description="The id of the last event that was received; what came later is reported "
            "first, except the tail."
        ),
    ] = None,
    last_event_id: Annotated[str | None, Header(description="The same as `after`.")] = None,
) -> Response:
    """Server-sent events about the runs, models and experiments that you may read, as they happen.

    The stream ends when your rights or your session end, when the server stops, and when a client
    reads too slowly. Resume with `after`, as browsers do by themselves.
    """
    interest = Interest(_ids(runs, "runs"), _ids(experiments, "experiments"), registry, tail)
    where = after or last_event_id
    position = None if where is None else parse_position(where)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if getattr(request.state, "head", False):
        return Response(None, 200, headers, _EVENT_STREAM)
    hub: Live = request.app.state.live
    address = request.client.host if request.client else ""
    stream = Stream(hub, caller.rights, caller.rights.user or address, interest, position)
    return _Events(stream, headers)


class _Events(StreamingResponse):
    """Sends a stream, and closes it when the client is gone."""

    def __init__(self, stream: Stream, headers: dict[str, str]) -> None:
        super().__init__(stream.pieces(), 200, headers, _EVENT_STREAM)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.live.leave(self._stream)


def _ids(text: str | None, name: str) -> frozenset[str] | None:
    if text is None:
        return None
    ids = frozenset(filter(None, text.split(",")))
    if len(ids) > _NAMED_MAX:
        raise InvalidRequest(f"{name}: {_NAMED_MAX:,} ids at most; leave it out for all")
    return ids
