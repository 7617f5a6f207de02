"""What routes are given: the node, the caller, and how to answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import duckdb
from fastapi import Depends, Header, Query, Request
from starlette.responses import Response

from modeltrail.api.access.rights import EVERYTHING, Access, Rights, UserRights
from modeltrail.api.access.tokens import Actor
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.node import Node, Said
from modeltrail.api.pages import Pages
from modeltrail.api.sql.formats import plain
from modeltrail.eventlog import REGISTRY, Position

_NAME_CHARACTERS_MAX = 250
_REASON_CHARACTERS_MAX = 10_000
AS_OF_NOW = 2**62


async def node_of(request: Request) -> Node:
    """The node of the application."""
    node: Node = request.app.state.node
    return node


NodeHere = Annotated[Node, Depends(node_of)]


class Caller(NamedTuple):
    """Who asks, and what their headers say."""

    actor: Actor
    reason: str | None
    idempotency_key: str | None
    client: str | None
    rights: Rights = EVERYTHING

    def said(self, reason: str | None = None) -> Said:
        """What goes with a request to the registry; a reason given here counts first."""
        return {
            "reason": reason or self.reason,
            "idempotency_key": self.idempotency_key,
            "client": self.client,
        }


async def sign_in(request: Request) -> Rights:
    """Find out what the caller may do, by the header ``Authorization``.

    Raises:
        Unauthenticated: the server asks who it is, and the request does not prove it.
        TooBusy: after too many wrong passwords.
        Unavailable: the server does not know its users yet.
    """
    access: Access | None = request.app.state.access
    if access is not None and not hasattr(request.state, "rights"):
        address = request.client.host if request.client else ""
        request.state.rights = await access.authenticate(
            request.headers.get("authorization"), address
        )
    return rights_of(request)


def rights_of(request: Request) -> Rights:
    """What the caller may do, who has signed in."""
    if request.app.state.access is None:
        return EVERYTHING
    rights: Rights = request.state.rights
    return rights


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
            max_length=250,
            min_length=1,
        ),
    ] = None,
    user_agent: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Caller:
    """The caller; raises as ``sign_in`` does."""
    await sign_in(request)
    return caller_of(request, x_modeltrail_actor, x_modeltrail_reason, idempotency_key, user_agent)


def caller_of(
    request: Request,
    actor_name: str | None,
    reason: str | None,
    idempotency_key: str | None,
    user_agent: str | None,
) -> Caller:
    """The caller, who has signed in."""
    rights = rights_of(request)
    if isinstance(rights, UserRights):
        actor = rights.actor
    else:
        name = (actor_name or "anonymous").strip()[:_NAME_CHARACTERS_MAX]
        actor = Actor(name or "anonymous", False)
    return Caller(
        actor,
        reason[:_REASON_CHARACTERS_MAX] if reason else None,
        idempotency_key,
        user_agent[:_NAME_CHARACTERS_MAX] if user_agent else None,
        rights,
    )


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
    """Whether a read waits for the log's end."""
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


def rows(cursor: duckdb.DuckDBPyConnection, query: str, params: Any = None) -> list[dict[str, Any]]:
    """The rows of a query as dicts, with values as JSON has them."""
    result = cursor.execute(query, params) if params is not None else cursor.execute(query)
    names = [column[0] for column in result.description or ()]
    return [
        {name: plain(value) for name, value in zip(names, row, strict=True)}
        for row in result.fetchall()
    ]


def one(
    cursor: duckdb.DuckDBPyConnection, query: str, params: Sequence[Any], missing: str
) -> dict[str, Any]:
    """The only row of a query; raises ``NotFound``."""
    found = rows(cursor, query, params)
    if not found:
        raise NotFound(missing)
    return found[0]


def answer(body: Any, status: int = 200) -> Response:
    """A JSON answer."""
    data = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(data.encode("utf-8", "replace"), status, media_type="application/json")


def page(
    items: list[dict[str, Any]], limit: int, pages: Pages, last: Sequence[str]
) -> dict[str, Any]:
    """One page of a list that was asked for with one item more than the limit."""
    token = None
    if len(items) > limit:
        items = items[:limit]
        token = pages.token(last=[items[-1][column] for column in last])
    return {pages.name: items, "next_page_token": token}


def parse_time(text: str, name: str) -> datetime:
    """A time in UTC without zone, as the views have it; raises ``InvalidRequest``."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidRequest(
            f"{name}: not a time: {text[:100]!r}; expected as in '2026-03-01T12:00:00Z'"
        ) from None
    if moment.tzinfo is not None:
        try:
            moment = moment.astimezone(UTC)
        except OverflowError:
            raise InvalidRequest(f"{name}: out of range: {text[:100]!r}") from None
    return moment.replace(tzinfo=None)


def offset_of(cursor: duckdb.DuckDBPyConnection, as_of: str | None) -> int:
    """The registry offset that ``as_of`` means; the state right after it is what was asked for.

    Raises:
        InvalidRequest: neither a time nor a position, or a position that is not in the log yet.
    """
    if as_of is None:
        return AS_OF_NOW
    text = as_of.strip()
    if text.isdecimal() and len(text) < 19:
        offset = int(text)
    elif text.startswith(f"{REGISTRY}:"):
        try:
            offset = Position.parse(text).offset
        except ValueError as error:
            raise InvalidRequest(f"as_of: {error}") from None
    else:
        found = cursor.execute(
            "SELECT registry_offset_as_of(?)", [parse_time(text, "as_of")]
        ).fetchone()
        return int(found[0]) if found else -1
    last = cursor.execute('SELECT coalesce(max("offset"), -1) FROM fold.requests').fetchone()
    if last is not None and offset > last[0]:
        raise InvalidRequest(
            f"as_of: the registry has no event at offset {offset} yet; its last is {last[0]}"
        )
    return offset


@contextmanager
def reading(node: Node, log_end: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """A cursor that sees all that this node acknowledged."""
    with node.read(log_end=log_end) as cursor:
        yield cursor


def json_example(example: Any, description: str = "Done.") -> dict[int | str, dict[str, Any]]:
    """An OpenAPI description of the answer 200, with an example."""
    return {
        200: {
            "description": description,
            "content": {"application/json": {"example": example}},
        }
    }
