"""Sign in from a browser, sign out, and what the caller is and may do."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from modeltrail.api.access import admin
from modeltrail.api.access.acts import Level
from modeltrail.api.access.caller import COOKIE, Caller, caller_of, sign_in
from modeltrail.api.access.credentials import PASSWORD_CHARACTERS_MAX, Presented
from modeltrail.api.access.rights import EXPERIMENT, MODEL, Access, UserRights
from modeltrail.api.answers import time_of
from modeltrail.api.errors import Forbidden, InvalidRequest, Unauthenticated
from modeltrail.api.gates import WRITES
from modeltrail.api.native.parameters import CallerHere, answer, json_example
from modeltrail.api.node import Node
from modeltrail.api.routing import PooledRoute
from modeltrail.limits import NAME_CHARACTERS_MAX

router = APIRouter(prefix="/api/v1", tags=["access"], route_class=PooledRoute)

_MAY = {
    "admin": False,
    "read_everything": False,
    "sql": False,
    "create_experiments": True,
    "create_models": True,
}
_WHO = {"actor": "ada", "verified": True, "auth": True, "may": _MAY}


def _who(caller: Caller, auth: bool) -> dict[str, Any]:
    """Return who a caller is, and what they may do."""
    rights = caller.rights
    reads_everything = rights.reads_everything()
    return {
        "actor": caller.actor.name,
        "verified": caller.actor.verified,
        "auth": auth,
        "may": {
            "admin": rights.is_admin,
            "read_everything": reads_everything,
            "sql": reads_everything,
            "create_experiments": rights.may_create(EXPERIMENT),
            "create_models": rights.may_create(MODEL),
        },
    }


@router.get(
    "/whoami",
    tags=["operation"],
    summary="Under which name this server knows you, and what you may do",
    responses=json_example({**_WHO, "level": "EDIT"}),
)
def whoami(
    request: Request,
    caller: CallerHere,
    model: Annotated[str | None, Query(description="A registered model, for `level`.")] = None,
    experiment: Annotated[
        str | None, Query(description="Id of an experiment, for `level`.")
    ] = None,
) -> Response:
    """The name that your events will have, whether it is proven, and what you may do.

    With a model or an experiment, `level` says what you may do with it: `READ`, `USE`, `EDIT` or
    `MANAGE`, or null if you may not see it or it does not exist.
    """
    if model is not None and experiment is not None:
        raise InvalidRequest("give a model or an experiment, not both")
    body = _who(caller, request.app.state.access is not None)
    if model is not None or experiment is not None:
        resource, of = (EXPERIMENT, experiment) if model is None else (MODEL, model)
        level = caller.rights.level(resource, of or "")
        body["level"] = level.name if level >= Level.READ else None
    return answer(body)


class _SignIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"user": "ada", "password": "correct horse battery"}},
    )
    user: str = Field(max_length=NAME_CHARACTERS_MAX, description="Name of the user.")
    password: str = Field(
        min_length=1, max_length=PASSWORD_CHARACTERS_MAX, description="Password, or a token."
    )


@router.post(
    "/session",
    summary="Sign in from a browser",
    responses=json_example({**_WHO, "expires_at": "2026-03-02T00:00:00.000000Z"}),
)
async def create_session(body: _SignIn, request: Request) -> Response:
    """Sign in with a password or token, and get the cookie of a session of 12 hours.

    Every route accepts the cookie like a token. The session is a token in the log, so it outlives a
    restart, and can be listed and revoked like the others.
    """
    access: Access | None = request.app.state.access
    if access is None:
        raise Forbidden("this server runs without --auth: there is nothing to sign in to")
    node: Node = request.app.state.node
    address = request.client.host if request.client else ""
    rights = await access.sign_in(Presented(body.user, body.password), address)
    request.state.rights = rights
    caller = caller_of(request, None, None, None, request.headers.get("user-agent"))
    made = await WRITES.run(
        admin.create_session, node, caller, caller.actor.name, made_by=rights.token
    )
    response = answer({**_who(caller, True), "expires_at": time_of(made.expires_at_ms)})
    _set_cookie(response, request, made.token, admin.SESSION_S)
    return response


@router.get(
    "/session",
    summary="The session of the caller",
    responses=json_example(
        {"user": "ada", "auth": True, "expires_at": "2026-03-02T00:00:00.000000Z"}
    ),
)
def get_session(request: Request, caller: CallerHere) -> Response:
    """Who is signed in, and when that ends; null for a password or a token without an end."""
    token = caller.rights.token
    return answer(
        {
            "user": caller.rights.user,
            "auth": request.app.state.access is not None,
            "expires_at": None if token is None else time_of(token.expires_at_ms),
        }
    )


@router.delete(
    "/session", summary="Sign out from a browser", responses=json_example({"ended": True})
)
async def delete_session(request: Request) -> Response:
    """End the session of the cookie, with the tokens that it made."""
    ended = False
    if request.app.state.access is not None and COOKIE in request.cookies:
        try:
            rights = await sign_in(request)
        except Unauthenticated:
            rights = None  # it ended before
        token = rights.token if isinstance(rights, UserRights) else None
        if token is not None and request.headers.get("authorization") is None:
            caller = caller_of(request, None, None, None, request.headers.get("user-agent"))
            await WRITES.run(_end, request.app.state.node, caller, int(token.token_id))
            ended = True
    response = answer({"ended": ended})
    _set_cookie(response, request, "", 0)
    return response


def _end(node: Node, caller: Caller, token_id: int) -> None:
    node.decide(caller, "RevokeToken", {"token_id": token_id})


def _set_cookie(response: Response, request: Request, value: str, seconds: int) -> None:
    response.set_cookie(
        COOKIE,
        value,
        max_age=seconds,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
