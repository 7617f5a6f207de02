"""Check who may manage accounts and grant permissions."""

from __future__ import annotations

from modeltrail.api.access.admin import PermissionTarget
from modeltrail.api.access.caller import Caller
from modeltrail.api.access.rights import Rights, UserRights
from modeltrail.api.errors import Forbidden
from modeltrail.api.registry.commands import act_of


def user_rights(caller: Caller) -> UserRights:
    """Return the rights of a user. Raises ``Forbidden`` on a server without authentication."""
    if not isinstance(caller.rights, UserRights):
        raise Forbidden(
            "this server runs without --auth, where anybody could make themselves administrator; "
            "stop it, and use the command: modeltrail user create NAME --admin"
        )
    return caller.rights


def only_own(rights: Rights, user: str | None) -> str | None:
    """Return the user that a list is limited to: None for administrators, otherwise the caller."""
    if rights.is_admin:
        return user
    if user not in (None, rights.user):
        rights.admin()
    return rights.user


def check_grant(rights: Rights, target: PermissionTarget, name: str | None) -> None:
    """Check whether a caller may grant something.

    This needs MANAGE; a prefix needs an administrator.
    """
    need = act_of("GrantPermission").level
    if target.entity_id is None:
        rights.admin()
    elif target.resource == "experiment":
        rights.experiment(target.entity_id, need)
    else:
        rights.model(str(name), need)
