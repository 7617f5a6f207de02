"""Settings of the producers, read from the environment when a run starts."""

from __future__ import annotations

import os
from typing import NamedTuple

DEFAULT_URL = "./modeltrail-data"


class Settings(NamedTuple):
    """What can be set; every field names its variable."""

    url: str = DEFAULT_URL
    """``MODELTRAIL_URL``: folder, ``file:``, ``kafka://`` or ``http(s)://`` to log to."""
    token: str | None = None
    """``MODELTRAIL_TOKEN``: bearer token for ``http(s)://`` targets; never written to disk."""
    outbox: str | None = None
    """``MODELTRAIL_OUTBOX``: folder of the outboxes; default in the user's state folder."""
    outbox_bytes_max: int = 4 * 1024**3
    """``MODELTRAIL_OUTBOX_BYTES_MAX``: most bytes that one process keeps for one target."""
    artifacts: str | None = None
    """``MODELTRAIL_ARTIFACTS``: folder or server that takes the artifacts of Kafka targets."""
    finish_timeout_s: float = 5.0
    """``MODELTRAIL_FINISH_TIMEOUT_S``: how long a process waits for a target that is away, in all
    calls of ``finish()`` and ``flush()`` and at its exit together."""
    heartbeat_s: float = 30.0
    """``MODELTRAIL_HEARTBEAT_S``: how often a run shows that it is alive."""
    server: str | None = None
    """``MODELTRAIL_SERVER``: the server that the MLflow plugin asks; takes artifacts as well."""
    read_timeout_s: float = 5.0
    """``MODELTRAIL_READ_TIMEOUT_S``: how long a read of the plugin waits for own events first."""


def read_settings(url: str | None = None, token: str | None = None) -> Settings:
    """Settings from the environment; the arguments go first.

    A value that cannot be read falls back to the default: a typo must not stop training.
    """
    env = os.environ
    plain = Settings()
    return Settings(
        url=absolute_url(url or env.get("MODELTRAIL_URL") or plain.url),
        token=token or env.get("MODELTRAIL_TOKEN") or None,
        outbox=env.get("MODELTRAIL_OUTBOX") or None,
        outbox_bytes_max=int(
            _number("MODELTRAIL_OUTBOX_BYTES_MAX", plain.outbox_bytes_max, minimum=1)
        ),
        artifacts=env.get("MODELTRAIL_ARTIFACTS") or env.get("MODELTRAIL_SERVER") or None,
        finish_timeout_s=_number("MODELTRAIL_FINISH_TIMEOUT_S", plain.finish_timeout_s, minimum=0),
        heartbeat_s=_number("MODELTRAIL_HEARTBEAT_S", plain.heartbeat_s, minimum=0.05),
        server=env.get("MODELTRAIL_SERVER") or None,
        read_timeout_s=_number("MODELTRAIL_READ_TIMEOUT_S", plain.read_timeout_s, minimum=0),
    )


def _number(name: str, default: float, minimum: float) -> float:
    try:
        value = float(os.environ[name])
    except (KeyError, ValueError):
        return default
    return value if minimum <= value < 1e18 else default


def absolute_url(url: str) -> str:
    """The URL with a folder made absolute, so that it holds after a change of directory."""
    scheme, colon, rest = url.partition(":")
    if colon and scheme == "file":
        folder = rest[2:] if rest.startswith("///") else rest
        return os.path.abspath(folder or ".")
    if colon and len(scheme) > 1 and scheme.isalnum():
        return url
    return os.path.abspath(os.path.expanduser(url))


def without_secrets(url: str) -> str:
    """The URL without user name, password, and options that hold a password, key or token."""
    head, mark, query = url.partition("?")
    scheme, sep, rest = head.partition("://")
    if sep:
        host, slash, path = rest.partition("/")
        head = scheme + sep + host.rpartition("@")[2] + slash + path
    hidden = ("password", "secret", "token", "username", "key")
    kept = [
        option
        for option in query.split("&")
        if option and not any(word in option.partition("=")[0].lower() for word in hidden)
    ]
    return head + ("?" + "&".join(kept) if kept else "") if mark else head
