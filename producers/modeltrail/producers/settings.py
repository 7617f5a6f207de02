"""Settings of the producers, read from the environment when a run starts."""

from __future__ import annotations

import os
from typing import NamedTuple

DEFAULT_URL = "./modeltrail-data"


class Settings(NamedTuple):
    """The settings; each field names its variable."""

    url: str = DEFAULT_URL
    """``MODELTRAIL_URL``: folder, ``file:``, ``kafka://`` or ``http(s)://`` to log to."""
    token: str | None = None
    """``MODELTRAIL_TOKEN``: bearer token for ``http(s)://`` targets. Never written to disk."""
    outbox: str | None = None
    """``MODELTRAIL_OUTBOX``: folder of the outboxes; default in the user's state folder."""
    outbox_bytes_max: int = 4 * 1024**3
    """``MODELTRAIL_OUTBOX_BYTES_MAX``: maximum size of a process's outbox for one target."""
    artifacts: str | None = None
    """``MODELTRAIL_ARTIFACTS``: folder or server for the artifacts of Kafka targets."""
    finish_timeout_s: float = 5.0
    """``MODELTRAIL_FINISH_TIMEOUT_S``: how long a process waits for a target that is away.

    This is the total of all calls of ``finish()`` and ``flush()`` and of the exit.
    """
    heartbeat_s: float = 30.0
    """``MODELTRAIL_HEARTBEAT_S``: time between heartbeats of a run."""
    server: str | None = None
    """``MODELTRAIL_SERVER``: server that the MLflow plugin reads from, and that takes artifacts."""
    read_timeout_s: float = 5.0
    """``MODELTRAIL_READ_TIMEOUT_S``: how long a read of the plugin waits for own events first."""
    system_metrics: bool = False
    """``MODELTRAIL_SYSTEM_METRICS``: whether runs record system metrics."""
    system_metrics_interval_s: float = 10.0
    """``MODELTRAIL_SYSTEM_METRICS_INTERVAL_S``: time between two samples of system metrics."""


VARIABLES = frozenset(
    f"MODELTRAIL_{name}"
    for name in (
        *("ADMIN_PASSWORD", "ARTIFACTS", "EXPERIMENT_NAME", "FINISH_TIMEOUT_S", "HEARTBEAT_S"),
        *("KAFKA_PASSWORD", "NEW_PASSWORD", "OUTBOX", "OUTBOX_BYTES_MAX", "READ_TIMEOUT_S"),
        *("SERVER", "SYSTEM_METRICS", "SYSTEM_METRICS_INTERVAL_S", "TOKEN", "URL"),
        *("WEBHOOK_ALLOW_PRIVATE", "WEBHOOK_KEY"),
    )
)
"""Every variable that jobs, commands and servers read."""

_NUMBERS_MIN = {
    "MODELTRAIL_OUTBOX_BYTES_MAX": 1.0,
    "MODELTRAIL_FINISH_TIMEOUT_S": 0.0,
    "MODELTRAIL_HEARTBEAT_S": 0.05,
    "MODELTRAIL_READ_TIMEOUT_S": 0.0,
    "MODELTRAIL_SYSTEM_METRICS_INTERVAL_S": 0.1,
}
_TRUE = ("true", "1", "yes")
_BOOLEANS = dict.fromkeys(
    ("MODELTRAIL_SYSTEM_METRICS", "MODELTRAIL_WEBHOOK_ALLOW_PRIVATE"),
    (*_TRUE, "false", "0", "no"),
)
_ALIKE = 0.65
_reported: set[str] = set()


def read_settings(url: str | os.PathLike[str] | None = None, token: str | None = None) -> Settings:
    """Return the settings from the environment. Arguments take precedence.

    A value that cannot be read causes a warning and is replaced by the default, because a typo must
    not stop training. An invalid URL is kept, so that events wait in the outbox for the right one.
    """
    # not at the top: importing the producers must be cheap
    from modeltrail.eventlog.address import absolute_url

    env = os.environ
    plain = Settings()
    for problem in new_problems():
        from modeltrail.producers.notices import warn

        warn(problem)
    return Settings(
        url=absolute_url(os.fspath(url or "") or env.get("MODELTRAIL_URL") or plain.url),
        token=token or env.get("MODELTRAIL_TOKEN") or None,
        outbox=env.get("MODELTRAIL_OUTBOX") or None,
        outbox_bytes_max=int(_number("MODELTRAIL_OUTBOX_BYTES_MAX", plain.outbox_bytes_max)),
        artifacts=env.get("MODELTRAIL_ARTIFACTS") or env.get("MODELTRAIL_SERVER") or None,
        finish_timeout_s=_number("MODELTRAIL_FINISH_TIMEOUT_S", plain.finish_timeout_s),
        heartbeat_s=_number("MODELTRAIL_HEARTBEAT_S", plain.heartbeat_s),
        server=env.get("MODELTRAIL_SERVER") or None,
        read_timeout_s=_number("MODELTRAIL_READ_TIMEOUT_S", plain.read_timeout_s),
        system_metrics=env.get("MODELTRAIL_SYSTEM_METRICS", "").lower() in _TRUE,
        system_metrics_interval_s=_number(
            "MODELTRAIL_SYSTEM_METRICS_INTERVAL_S", plain.system_metrics_interval_s
        ),
    )


def new_problems() -> list[str]:
    """Return what is wrong with the variables in the environment. Each problem is returned once."""
    from modeltrail.eventlog.address import mistake_in

    env = os.environ
    found = []
    for name, least in _NUMBERS_MIN.items():
        if env.get(name) and _as_number(name) is None:
            found.append(f"{name}={env[name]!r} is ignored: expected a number from {least:g} on")
    for name, values in _BOOLEANS.items():
        if env.get(name, "true").lower() not in values:
            found.append(f"{name}={env[name]!r} is ignored: expected {', '.join(values)}")
    for name in ("MODELTRAIL_URL", "MODELTRAIL_ARTIFACTS"):
        text = env.get(name, "").strip()
        # An object store can hold artifacts, but not events.
        store = name == "MODELTRAIL_ARTIFACTS" and "://" in text
        if text and not store and (wrong := mistake_in(text)):
            found.append(f"{name}: {wrong}")
    server = env.get("MODELTRAIL_SERVER", "").strip()
    if server and not server.lower().startswith(("http://", "https://")):
        found.append(f"MODELTRAIL_SERVER={server!r}: expected a URL as in http://host:5000")
    unknown = [name for name in env if name.startswith("MODELTRAIL_") and name not in VARIABLES]
    for name in unknown:
        found += _meant(name)
    new = [problem for problem in found if problem not in _reported]
    _reported.update(new)
    return new


def _meant(name: str) -> list[str]:
    """Return the settings that an unknown name may be a typo of; none if it looks unrelated."""
    own = name.removeprefix("MODELTRAIL_")
    if own.startswith(("SERVICE_", "PORT")):
        return []  # Kubernetes sets these for a service of that name
    from difflib import get_close_matches

    known = [variable.removeprefix("MODELTRAIL_") for variable in VARIABLES]
    alike = get_close_matches(own, known, 1, _ALIKE)
    return [f"{name} is not a setting; did you mean MODELTRAIL_{alike[0]}?"] if alike else []


def _number(name: str, default: float) -> float:
    value = _as_number(name)
    return default if value is None else value


def _as_number(name: str) -> float | None:
    try:
        value = float(os.environ[name])
    except (KeyError, ValueError):
        return None
    return value if _NUMBERS_MIN[name] <= value < 1e18 else None
