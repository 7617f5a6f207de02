"""Users and tokens for tests."""

from __future__ import annotations

import base64

from modeltrail.api.access.admin import BY_SERVER, create_token, create_user
from modeltrail.api.node import Node

PASSWORD = "correct horse battery"


def make_user(node: Node, name: str, *, admin: bool = False) -> str:
    """Create a user who has tokens only, and return one."""
    create_user(node, BY_SERVER, name, None, admin=admin)
    return create_token(node, BY_SERVER, name).token


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"Authorization": f"Bearer {token}"}


def basic(user: str, password: str) -> dict[str, str]:
    """The header that shows a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
