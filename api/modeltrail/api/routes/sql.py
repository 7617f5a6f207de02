"""SQL over everything."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from modeltrail.api.context import CallerHere, LogEnd, NodeHere
from modeltrail.api.errors import InvalidRequest
from modeltrail.api.node import Node
from modeltrail.api.routing import PooledRoute
from modeltrail.api.sql import FORMATS, ROWS_MAX, TIMEOUT_S, TIMEOUT_S_MAX, Params, Queries

router = APIRouter(prefix="/api/v1", tags=["sql"], route_class=PooledRoute)

Format = Literal["json", "csv", "arrow", "parquet"]
_JSON_ROWS = 10_000
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
def post_sql(
    asked: Asked, request: Request, node: NodeHere, caller: CallerHere, log_end: LogEnd
) -> Response:
    """Run one query over the public views. It cannot change anything or reach anything else."""
    return _run(request, node, asked, log_end)


@router.get("/sql", summary="Run a query", responses=_ANSWERS, response_class=Response)
def get_sql(
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
    """The same for a browser or curl."""
    values = None
    if params is not None:
        try:
            values = json.loads(params)
            if not isinstance(values, list | dict):
                raise ValueError
        except ValueError:
            raise InvalidRequest("params: expected a JSON list or object") from None
    asked = Asked(
        statement=statement, params=values, format=format, limit=limit, timeout_s=timeout_s
    )
    return _run(request, node, asked, log_end)


def _run(request: Request, node: Node, asked: Asked, log_end: bool) -> Response:
    node.wait(log_end=log_end)
    limit = asked.limit
    if limit is None:
        limit = _JSON_ROWS if asked.format == "json" else ROWS_MAX
    media_type, _ = FORMATS[asked.format]
    stream = _stream(node, request.app.state.queries, asked, limit)
    first = next(stream)  # an error before the first bytes still gets a status of its own
    return StreamingResponse(_from(first, stream), media_type=media_type)


def _from(first: bytes, rest: Generator[bytes]) -> Iterator[bytes]:
    with _closing(rest):
        yield first
        yield from rest


@contextmanager
def _closing(stream: Generator[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        stream.close()


def _stream(node: Node, queries: Queries, asked: Asked, limit: int) -> Generator[bytes]:
    params: Params | None = asked.params
    with (
        node.cursor() as cursor,
        queries.run(
            cursor, asked.statement, params, limit=limit, timeout_s=asked.timeout_s
        ) as result,
    ):
        yield from _gathered(FORMATS[asked.format][1](result, limit))


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces of at least 64 KiB but for the last, so that small answers are whole at once."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= 65_536:
            yield bytes(held)
            held.clear()
    yield bytes(held)
