"""SQL over everything."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from modeltrail.api.access.caller import Caller
from modeltrail.api.errors import ApiError, InvalidRequest
from modeltrail.api.gates import SQL, too_busy
from modeltrail.api.native.parameters import CallerHere, LogEnd, NodeHere
from modeltrail.api.node import Node
from modeltrail.api.routing import PooledRoute
from modeltrail.api.sql.formats import FORMATS
from modeltrail.api.sql.limits import ROWS_MAX, TIMEOUT_S, TIMEOUT_S_MAX, Question, too_late
from modeltrail.api.sql.queries import Queries, Running, Stopped

logger = logging.getLogger("modeltrail.api")

P = ParamSpec("P")
T = TypeVar("T")

router = APIRouter(prefix="/api/v1", tags=["sql"], route_class=PooledRoute)

Format = Literal["json", "csv", "arrow", "parquet"]
_JSON_ROWS = 10_000
_AGAIN_S = 0.05
_LATE_S = 0.3
_STOPPING: set[asyncio.Task[None]] = set()
"""Queries that were asked to stop and are still running; the event loop would lose them."""
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The result. Times are ISO 8601 in UTC, BLOBs hexadecimal, and in JSON NaN "
        "and infinities are text.",
        "content": {
            "application/json": {
                "example": {
                    "columns": ["status", "n"],
                    "types": ["VARCHAR", "BIGINT"],
                    "rows": [["FINISHED", 12]],
                    "truncated": False,
                }
            },
            "text/csv": {"example": "status,n\r\nFINISHED,12\r\n"},
            "application/vnd.apache.arrow.stream": {},
            "application/vnd.apache.parquet": {},
        },
    }
}


class Asked(BaseModel):
    """A query."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "statement": 'SELECT status, count(*) AS n FROM runs WHERE "user" = ? GROUP BY 1',
                "params": ["ada"],
                "format": "json",
            }
        },
    )

    statement: str = Field(description="One query.")
    params: list[Any] | dict[str, Any] | None = Field(
        None, description="Values for `?` (a list) or `$name` (an object)."
    )
    format: Format = "json"
    limit: int | None = Field(
        None,
        ge=0,
        le=ROWS_MAX,
        description=f"Most rows; {_JSON_ROWS:,} for JSON unless given, all for other formats.",
    )
    timeout_s: float = Field(TIMEOUT_S, gt=0, le=TIMEOUT_S_MAX, description="Seconds allowed.")


@router.post("/sql", summary="Run a query", responses=_ANSWERS, response_class=Response)
async def post_sql(
    asked: Asked, request: Request, node: NodeHere, caller: CallerHere, log_end: LogEnd
) -> Response:
    """Run one query over the public views. It cannot change anything or access anything else."""
    return _answer(request, node, caller, asked, log_end)


@router.get("/sql", summary="Run a query", responses=_ANSWERS, response_class=Response)
async def get_sql(
    request: Request,
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    statement: Annotated[
        str, Query(description="One query.", openapi_examples={"runs": {"value": "FROM runs"}})
    ],
    params: Annotated[str | None, Query(description="JSON list or object of values.")] = None,
    format: Format = "json",
    limit: Annotated[int | None, Query(ge=0, le=ROWS_MAX)] = None,
    timeout_s: Annotated[float, Query(gt=0, le=TIMEOUT_S_MAX)] = TIMEOUT_S,
) -> Response:
    """Run one query, for a browser or curl."""
    values = None
    if params is not None:
        try:
            values = json.loads(params)
            if not isinstance(values, list | dict):
                raise ValueError
        except (ValueError, RecursionError):
            raise InvalidRequest("params: expected a JSON list or object") from None
    asked = Asked(
        statement=statement, params=values, format=format, limit=limit, timeout_s=timeout_s
    )
    return _answer(request, node, caller, asked, log_end)


def _answer(request: Request, node: Node, caller: Caller, asked: Asked, log_end: bool) -> Response:
    limit = asked.limit
    if limit is None:
        limit = _JSON_ROWS if asked.format == "json" else ROWS_MAX
    admin = caller.rights.is_admin
    question = Question(asked.statement, asked.params, asked.format, limit, asked.timeout_s, admin)
    return _Answer(request.app.state.queries, node, question, log_end)


class _Answer(Response):
    """Waits for its turn, runs a query, and sends the answer as it comes.

    However it ends (the client disconnects or stalls, the time is up, an error), the query is
    stopped, and the next one starts as soon as its thread is free.
    """

    def __init__(self, queries: Queries, node: Node, question: Question, log_end: bool) -> None:
        super().__init__()
        self._queries = queries
        self._node = node
        self._question = question
        self._log_end = log_end
        self._running: Running | None = None
        self._in_loop = False
        """Whether the work is waiting in the event loop, where it can be cancelled."""
        self._begun = False
        """Whether the first bytes were sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer. Raises an ``ApiError`` if nothing was sent yet."""
        work = asyncio.create_task(self._work(send))
        gone = asyncio.create_task(_gone(receive))
        late = False
        try:
            await asyncio.wait(
                {work, gone}, timeout=self._question.timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            late = not work.done() and not gone.done()
        finally:
            gone.cancel()
            # Its place is taken until its thread is free. The client does not wait for that.
            stopping = asyncio.create_task(self._stop(work))
            _STOPPING.add(stopping)
            stopping.add_done_callback(_STOPPING.discard)
            await asyncio.wait({stopping}, timeout=_LATE_S)
            await asyncio.gather(gone, return_exceptions=True)
        if not work.done():
            work.add_done_callback(_ignored)
            if late and not self._begun:
                raise too_late(self._question.timeout_s)
            return
        try:
            work.result()
        except ApiError as error:
            if not self._begun:
                raise
            logger.warning("a query failed in mid-answer: %s", error)
        except (Stopped, asyncio.CancelledError):
            if late and self._running is None:
                raise too_busy("queries") from None
            if late and not self._begun:
                raise too_late(self._question.timeout_s) from None

    async def _stop(self, work: asyncio.Task[None]) -> None:
        # A thread cannot be cancelled, only asked to stop. Ask repeatedly, because it may be about
        # to start what an interrupt would end.
        while not work.done():
            if self._running is not None:
                self._running.stop()
            if self._in_loop:
                work.cancel()
            await asyncio.wait({work}, timeout=_AGAIN_S)

    async def _work(self, send: Send) -> None:
        question, reads = await SQL.run(self._checked)
        async with AsyncExitStack() as stack:
            await self._cancellable(stack.enter_async_context(self._queries.gate(reads).enter()))
            with self._node.cursor() as cursor:
                running = await self._run(self._queries.start, cursor, question, reads)
                self._running = running
                try:
                    while (piece := await self._run(running.next)) is not None:
                        await self._cancellable(self._send(send, piece))
                    await self._cancellable(self._send(send, b"", more=False))
                finally:
                    await self._run(running.close)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._queries.threads, partial(work, *args, **kwargs))

    def _checked(self) -> tuple[Question, frozenset[str] | None]:
        self._node.wait(log_end=self._log_end)
        with self._node.cursor() as cursor:
            return self._queries.checked(cursor, self._question)

    async def _send(self, send: Send, piece: bytes, *, more: bool = True) -> None:
        if not self._begun:
            self._begun = True
            headers = [(b"content-type", FORMATS[self._question.format][0].encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": piece, "more_body": more})

    async def _cancellable(self, waiting: Awaitable[T]) -> T:
        self._in_loop = True
        try:
            return await waiting
        finally:
            self._in_loop = False


def _ignored(work: asyncio.Task[None]) -> None:
    """Take the result of a query whose client has its answer, or the loop complains."""
    if not work.cancelled():
        work.exception()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
