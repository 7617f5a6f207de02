"""The first administrator of a server whose log has no users yet."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modeltrail.api.commands.common import CommandError, note

if TYPE_CHECKING:
    from modeltrail.api.access.rights import Access

PASSWORD_VARIABLE = "MODELTRAIL_ADMIN_PASSWORD"
_NAME = "admin"
_LOOK_EVERY_S = 0.2
_WAIT_S = 2.0

_MADE = f"""
  No users yet, so there is a first one:
      user      {_NAME}
      password  {{password}}
  It is shown only now. Set another with: modeltrail user password {_NAME}
"""

logger = logging.getLogger("modeltrail.access")


@contextmanager
def first_admin(access: Access) -> Iterator[None]:
    """Create the user ``admin``, in a thread, once the log was read and if it has no users.

    Raises:
        CommandError: the password in ``MODELTRAIL_ADMIN_PASSWORD`` is too short.
    """
    from modeltrail.api.access.credentials import PASSWORD_CHARACTERS_MIN

    given = os.environ.get(PASSWORD_VARIABLE)
    if given is not None and len(given) < PASSWORD_CHARACTERS_MIN:
        raise CommandError(
            f"{PASSWORD_VARIABLE}: a password has at least {PASSWORD_CHARACTERS_MIN} characters"
        )
    stopping = threading.Event()
    thread = threading.Thread(
        target=_make, args=(access, given, stopping), name="modeltrail-first-admin", daemon=True
    )
    thread.start()
    # Clients that see the server may sign in. A log out of reach does not delay it.
    thread.join(_WAIT_S)
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def _make(access: Access, given: str | None, stopping: threading.Event) -> None:
    from modeltrail.api.access.admin import BY_SERVER, create_user
    from modeltrail.api.errors import ApiError, Unavailable

    while True:
        try:
            if not access.has_users():
                password = given or secrets.token_urlsafe(12)
                asker = BY_SERVER.saying("the first administrator")
                create_user(access.node, asker, _NAME, password, admin=True)
                if given is None:
                    note(_MADE.format(password=password))
            return
        except Unavailable:
            if stopping.wait(_LOOK_EVERY_S):
                return
        except ApiError as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":  # otherwise another server was first
                logger.error("no first administrator was made: %s", error)
            return
