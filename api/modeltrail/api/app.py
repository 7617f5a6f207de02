"""The FastAPI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from modeltrail.api import native, rules
from modeltrail.api.access.caller import COOKIE
from modeltrail.api.access.rights import Access
from modeltrail.api.errors import ApiError
from modeltrail.api.guard import Counters, Guard, Hosts
from modeltrail.api.live import Live
from modeltrail.api.mlflow.app import mlflow_routes
from modeltrail.api.mlflow.openapi import describe_mlflow
from modeltrail.api.native import access as access_routes
from modeltrail.api.native import (
    artifacts,
    audit,
    charts,
    commands,
    events,
    history,
    importing,
    ingest,
    live,
    operation,
    page,
    registry,
    runs,
    saved_views,
    session,
    sql,
    webhooks,
)
from modeltrail.api.node import Node
from modeltrail.api.routing import ByPath
from modeltrail.api.sql.queries import Queries, Shares
from modeltrail.consumers.database import program_version

_DESCRIPTION = f"""{native.__doc__}

Writes answer when the event is durable in the log; a registry request when the fold has decided it.
Reads see everything that this server acknowledged; `consistency=log` waits for the log's end.
Errors are `{{"error_code": "...", "message": "..."}}`, with MLflow's codes where it has one.
"""


def create_app(
    node: Node,
    *,
    access: Access | None = None,
    hosts: Iterable[str] = (),
    shares: Shares | None = None,
    spill: Path | None = None,
    owns_node: bool = False,
    unanswered: Path | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        node: The node to serve; its fold must be running.
        access: Authentication and permissions; None lets everyone do everything, under any name.
        hosts: Host names that the server answers to, beside loopback and addresses.
        shares: How memory is divided between the fold's database and queries.
        spill: Folder for queries that do not fit into memory; None for the system's.
        owns_node: Start and stop the node with the application.
        unanswered: Folder for unanswered requests, so that a client that repeats its request after
            the server was killed creates nothing twice. Without it, that may happen.
    """
    queries = Queries(shares, spill)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        import anyio.to_thread

        if owns_node:
            await anyio.to_thread.run_sync(node.start)
        with closing(queries):
            yield
        if owns_node:
            await anyio.to_thread.run_sync(node.stop)

    app = FastAPI(
        title="Modeltrail",
        version=program_version(),
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # the page shows openapi.json, without another host
        redoc_url=None,
    )
    counters = Counters()
    app.state.node = node
    app.state.access = access
    app.state.queries = queries
    app.state.counters = counters
    app.state.live = Live(node)
    app.add_middleware(
        Guard,
        hosts=Hosts(hosts),
        counters=counters,
        artifact_bytes_max=lambda: node.artifacts.bytes_max,
    )
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    checks = [Depends(rules.check)] if access is not None else []
    for part in (
        operation,
        session,
        ingest,
        importing,
        runs,
        charts,
        artifacts,
        registry,
        saved_views,
        history,
        audit,
        events,
        live,
        sql,
        webhooks,
    ):
        app.include_router(part.router, dependencies=checks)
    app.include_router(page.router, dependencies=checks)
    app.include_router(commands.router, dependencies=checks)
    app.include_router(artifacts.models, dependencies=checks)
    app.include_router(access_routes.router, dependencies=checks)
    app.router.routes.extend(mlflow_routes(rules.endpoint_rule if access else None, unanswered))
    describe_mlflow(app)
    if access is not None:
        rules.close_gates(app.router.routes)
    app.router.routes.insert(0, ByPath(app.router.routes))
    return app


_CHALLENGE = 'Basic realm="modeltrail", charset="UTF-8"'


def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    headers = {}
    if error.status == 401 and not _is_script(request):
        headers["WWW-Authenticate"] = _CHALLENGE
    if error.status in (429, 503):
        headers["Retry-After"] = str(error.details.get("retry_after_s", 1))
    return JSONResponse(error.body(), error.status, headers)


def _is_script(request: Request) -> bool:
    """Return whether a page's script asks: a challenge would make the browser ask for a password.

    Browsers leave ``Sec-Fetch-Mode`` out over plain HTTP; ``X-Requested-With`` says the same.
    """
    headers = request.headers
    return (
        headers.get("sec-fetch-mode", "navigate") != "navigate"
        or "x-requested-with" in headers
        or COOKIE in request.cookies
        or request.url.path == "/api/v1/session"
    )


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [
        f"{'.'.join(str(p) for p in e['loc'][1:]) or e['loc'][0]}: {e['msg']}"
        for e in error.errors()
    ]
    body = {"error_code": "INVALID_PARAMETER_VALUE", "message": "; ".join(problems)[:2_000]}
    return JSONResponse(body, 400)


_CODES = {
    400: "BAD_REQUEST",
    404: "ENDPOINT_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "REQUEST_TOO_LARGE",
    429: "REQUEST_LIMIT_EXCEEDED",
}


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404:
        message = f"nothing is at {request.url.path}; see /docs for what there is"
    code = _CODES.get(error.status_code, "BAD_REQUEST")
    headers = {"Retry-After": "1"} if error.status_code == 429 else error.headers
    return JSONResponse({"error_code": code, "message": message}, error.status_code, headers)
