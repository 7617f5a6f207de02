"""Declare, find and call MLflow's endpoints."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from modeltrail.api.access.caller import COOKIE, Caller, caller_of, sign_in
from modeltrail.api.access.rights import Rights
from modeltrail.api.actor import Actor
from modeltrail.api.errors import Unavailable
from modeltrail.api.gates import pool_of
from modeltrail.api.guard import CLIENT_GONE
from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.absent import not_there
from modeltrail.api.mlflow.repeats import Key, Repeats, is_gone
from modeltrail.api.mlflow.unanswered import Attempt, Unanswered
from modeltrail.api.node import Node
from modeltrail.api.pages import Pages
from modeltrail.consumers.projections.requests import Verdict
from modeltrail.limits import NAME_CHARACTERS_MAX

_PREFIXES = ("/api", "/ajax-api")
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_READERS: dict[str, wire.Reader] = {
    **dict.fromkeys(
        ("allow_deleted", "archive_existing_versions", "is_admin", "stage_transitions"),
        wire.boolean,
    ),
    **dict.fromkeys(
        ("end_step", "end_time", "max_results", "role_id", "role_permission_id", "start_step"),
        wire.integer,
    ),
    **dict.fromkeys(("start_time", "step", "timestamp"), wire.integer),
    **dict.fromkeys(("experiment_ids", "order_by", "run_ids", "stages"), wire.many(wire.text)),
    **dict.fromkeys(("params", "tags"), wire.many(wire.TAG)),
    **dict.fromkeys(("run_view_type", "view_type"), wire.VIEW),
}


@dataclass(slots=True)
class Call:
    """One request to an endpoint.

    Attributes:
        node: The node.
        caller: The caller. Without authentication MLflow's clients send no name; see ``actor``.
        values: The request's set fields, by name.
        state: What the endpoints of this application keep between calls, by type.
        attempt: For an endpoint that creates something: the source of new ids.
    """

    node: Node
    caller: Caller
    values: dict[str, Any]
    state: dict[type, Any]
    attempt: Attempt | None = None

    @property
    def cause(self) -> bytes | None:
        """The id of the event that creates something, the same for a repeat of the request."""
        return None if self.attempt is None else self.attempt.cause

    @property
    def new_id(self) -> str:
        """Return an id for something new: 32 hexadecimal digits, the same in a repeat."""
        return (self.cause or secrets.token_bytes(16)).hex()

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, or the default if it is not set."""
        return self.values.get(name, default)

    def __getitem__(self, name: str) -> Any:
        """Return a field that is set."""
        return self.values[name]

    def pages(self, name: str) -> Pages:
        """Return the page tokens of the requested list."""
        query = {k: v for k, v in self.values.items() if k not in ("page_token", "max_results")}
        return Pages(name, **query)

    def decide(
        self,
        type: str,
        fields: Mapping[str, Any],
        *,
        reason: str | None = None,
        user: str | None = None,
    ) -> Verdict:
        """Let the fold decide a request of the caller; see ``Node.decide``.

        Args:
            type: Event type.
            fields: The event's fields, without the envelope.
            reason: The reason, if no header has it.
            user: The actor, if nothing else says who it is; see ``actor``.
        """
        asker = replace(self.caller, actor=self.actor(user))
        asker = asker.saying(asker.reason or reason)
        return self.node.decide(asker, type, fields, cause=self.cause)

    def actor(self, user: str | None = None) -> Actor:
        """Return the actor: the authenticated user, else the claimed name, else the given user."""
        actor = self.caller.actor
        if user == "unknown":  # what clients without a name send
            return actor
        if not actor.verified and actor.name == "anonymous" and user:
            return Actor(user[:NAME_CHARACTERS_MAX], False)
        return actor


Handler = Callable[[Call], dict[str, Any] | bytes]
"""Answers a call with a message, or with its JSON."""

Rule = Callable[[Rights, Mapping[str, Any]], None]
"""Checks that a caller may do what the fields of a call ask for."""


class Endpoint(NamedTuple):
    """An endpoint under ``/api/<version>/mlflow/`` and ``/ajax-api/<version>/mlflow/``."""

    methods: tuple[str, ...]
    path: str
    version: str
    fields: wire.Fields
    required: Sequence[str]
    handler: Handler
    makes: bool = False
    """Whether it creates something new each time, so that repeats must be recognized."""


class Endpoints:
    """The endpoints of a part of the API."""

    def __init__(self) -> None:
        self.all: list[Endpoint] = []

    def declare(
        self, endpoint: str, *, version: str = "2.0", makes: bool = False, **readers: wire.Reader
    ) -> Callable[[Handler], Handler]:
        """Declare the decorated function as an endpoint by its methods, path and fields.

        Args:
            endpoint: As in "GET POST models/{id}/tags key value?": ``?`` marks a field that need
                not be set. Those in the path are always set.
            version: The version in the path.
            makes: Whether it creates something new each time, even for the same request.
            readers: Readers of fields; by default those of ``_READERS``, and for others text.
        """
        words = endpoint.split()
        methods = tuple(word for word in words if word.isupper())
        path, *given = words[len(methods) :]
        names = [*(name.rstrip("?") for name in given), *re.findall(r"{(\w+)", path)]
        fields = {name: readers.get(name) or _READERS.get(name, wire.text) for name in names}
        required = [name for name in given if not name.endswith("?")]

        def declare(handler: Handler) -> Handler:
            self.all.append(Endpoint(methods, path, version, fields, required, handler, makes))
            return handler

        return declare


class CountedRoute(Route):
    """A route with a name for counters."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is not Match.NONE:
            child["route"] = self
        return match, child


class EndpointRoute(CountedRoute):
    """The route of an endpoint. Its access rule uses the fields of the call."""

    declared: Endpoint


def routes(
    parts: Sequence[Endpoints],
    state: dict[type, Any],
    rule_of: Callable[[str, str], Rule] | None = None,
) -> list[BaseRoute]:
    """Return all routes. The last ones answer for unknown paths under MLflow's.

    Args:
        parts: The endpoints.
        state: What they keep between calls.
        rule_of: Returns the rule for a method and an endpoint's path; None allows everyone.
    """
    found: list[BaseRoute] = []
    for part in parts:
        for endpoint in part.all:
            for prefix in _PREFIXES:
                path = f"{prefix}/{endpoint.version}/mlflow/{endpoint.path}"
                answerer = _answerer(endpoint, state, rule_of)
                route = EndpointRoute(path, answerer, methods=endpoint.methods)
                route.declared = endpoint
                found.append(route)
    for prefix in _PREFIXES:
        path = prefix + "/{version}/mlflow/{rest:path}"
        found.append(CountedRoute(path, nothing_there, methods=_METHODS))
    return found


def _answerer(
    endpoint: Endpoint,
    state: dict[type, Any],
    rule_of: Callable[[str, str], Rule] | None,
) -> Callable[[Request], Any]:
    rules: dict[str, Rule] = {}
    if rule_of is not None:
        rules = {method: rule_of(method, endpoint.path) for method in endpoint.methods}
        rules.setdefault("HEAD", rules.get("GET", next(iter(rules.values()))))

    repeats: Repeats[tuple[bytes, Attempt]] = Repeats()
    pool = pool_of(endpoint.methods[0], endpoint.path)

    async def call(request: Request, body: bytes, attempt: Attempt | None = None) -> bytes:
        rule = rules[request.method] if rules else None
        return await pool.run(_call, endpoint, state, rule, request, body, attempt)

    async def make(request: Request, body: bytes) -> Response:
        unanswered: Unanswered = state[Unanswered]

        async def work() -> tuple[bytes, Attempt]:
            actor = caller(request).actor
            attempt = unanswered.begin(request.url.path, request.scope["query_string"], body, actor)
            try:
                return await call(request, body, attempt), attempt
            except (Unavailable, asyncio.CancelledError):
                unanswered.leave(attempt)
                raise
            except BaseException:
                unanswered.end(attempt)
                raise

        data, attempt = await repeats.answer(request, _said(request, body), work)

        async def end() -> None:
            unanswered.end(attempt)

        # If the client is gone, its answer may still be asked for.
        sent = None if is_gone(request) else BackgroundTask(end)
        return Response(data, media_type="application/json", background=sent)

    async def answer(request: Request) -> Response:
        try:
            await sign_in(request)
            body = await request.body()

            if endpoint.makes:
                return await make(request, body)
            data = await call(request, body)
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        return Response(data, media_type="application/json")

    return answer


def _said(request: Request, body: bytes) -> Key:
    """Return everything that identifies a request: its content and its sender."""
    headers = request.headers
    who = (
        headers.get("authorization"),
        request.cookies.get(COOKIE),
        headers.get("x-modeltrail-actor"),
    )
    return (request.url.path, request.scope["query_string"], body, *who)


def _call(
    endpoint: Endpoint,
    state: dict[type, Any],
    rule: Rule | None,
    request: Request,
    body: bytes,
    attempt: Attempt | None,
) -> bytes:
    who = caller(request)
    values = wire.query_fields(request.scope["query_string"], endpoint.fields)
    if request.method != "GET":
        values |= wire.body_fields(body)
    values |= request.path_params
    node: Node = request.app.state.node
    log_end = request.headers.get("x-modeltrail-consistency") == "log"
    answer = _handled(endpoint, state, rule, who, node, values, log_end, attempt)
    return answer if isinstance(answer, bytes) else wire.to_json(answer)


def _handled(
    endpoint: Endpoint,
    state: dict[type, Any],
    rule: Rule | None,
    who: Caller,
    node: Node,
    values: Mapping[str, Any],
    log_end: bool,
    attempt: Attempt | None = None,
) -> dict[str, Any] | bytes:
    values = wire.check(values, endpoint.fields, endpoint.required)
    if rule is not None:
        rule(who.rights, values)
    if log_end:
        # Clients that also append directly to the log, such as the MLflow plugin, ask for this.
        node.wait(log_end=True)
    return endpoint.handler(Call(node, who, values, state, attempt))


def invoke(
    endpoint: Endpoint,
    state: dict[type, Any],
    rule: Rule | None,
    who: Caller,
    node: Node,
    values: Mapping[str, Any],
) -> Any:
    """Call an endpoint from within, with all checks of a request. Returns the message."""
    answer = _handled(endpoint, state, rule, who, node, values, log_end=False)
    return json.loads(answer) if isinstance(answer, bytes) else answer


def caller(request: Request) -> Caller:
    """Return the signed-in caller."""
    headers = request.headers
    return caller_of(
        request,
        headers.get("x-modeltrail-actor"),
        headers.get("x-modeltrail-reason"),
        headers.get("idempotency-key"),
        headers.get("user-agent"),
    )


async def nothing_there(request: Request) -> Response:
    """Answer for a path that is not an endpoint."""
    raise not_there(request.method, request.url.path)
