"""The caller of a request: who asks, with which rights and headers."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from modeltrail.api.access.credentials import Presented
from modeltrail.api.access.rights import EVERYTHING, Access, Rights, UserRights
from modeltrail.api.actor import Actor, Asker
from modeltrail.api.guard import check_same_origin
from modeltrail.limits import NAME_CHARACTERS_MAX

COOKIE = "modeltrail_session"
"""The cookie of a session; its value is a token."""


@dataclass(frozen=True)
class Caller(Asker):
    """The caller of a request, and its headers."""

    rights: Rights = EVERYTHING


async def sign_in(request: Request) -> Rights:
    """Authenticate the caller by the header ``Authorization``, or by the cookie of a session.

    Raises:
        Unauthenticated: the server requires authentication, and the request has none.
        Forbidden: it has the cookie and changes something, but not from a page of this server.
        TooBusy: after too many wrong passwords.
        Unavailable: the server does not know its users yet.
    """
    access: Access | None = request.app.state.access
    if access is not None and not hasattr(request.state, "rights"):
        address = request.client.host if request.client else ""
        authorization, cookie = request.headers.get("authorization"), request.cookies.get(COOKIE)
        if authorization is None and cookie is not None:
            check_same_origin(request.scope)
            request.state.rights = await access.sign_in(Presented(None, cookie), address)
        else:
            request.state.rights = await access.authenticate(authorization, address)
    return rights_of(request)


def rights_of(request: Request) -> Rights:
    """Return the rights of a signed-in caller."""
    if request.app.state.access is None:
        return EVERYTHING
    rights: Rights = request.state.rights
    return rights


def caller_of(
    request: Request,
    actor_name: str | None,
    reason: str | None,
    idempotency_key: str | None,
    user_agent: str | None,
) -> Caller:
    """Return the signed-in caller."""
    rights = rights_of(request)
    if isinstance(rights, UserRights):
        actor = rights.actor
    else:
        name = (actor_name or "anonymous").strip()[:NAME_CHARACTERS_MAX]
        actor = Actor(name or "anonymous", False)
    client = user_agent[:NAME_CHARACTERS_MAX] if user_agent else None
    return Caller(actor, None, idempotency_key, client, rights).saying(reason)
