"""Errors of the API and of clients. An ``ApiError`` has its own HTTP status."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, ClassVar


class ApiError(Exception):
    """A request cannot be answered as asked.

    ApiError
    ├── InvalidRequest     400  the request itself is wrong
    ├── Unauthenticated    401  no token, or an unknown one
    ├── Forbidden          403  known, but not allowed; or a foreign Host or Origin
    ├── NotFound           404  nothing is there
    ├── Conflict           409  something else is there
    │   └── UnknownSchema  409  PUT the writer's schema first, then retry
    ├── TooLarge           413  over a limit of the server's settings
    ├── TooBusy            429  wait, then retry
    ├── Unavailable        503  the log or the fold is behind; a retry may help
    ├── TimedOut           504  the query took longer than allowed
    └── Refused            any  the fold refused a registry request, with MLflow's code

    Attributes:
        code: Error code, MLflow's where it has one.
        message: What is wrong and how to repair it, for people.
        details: More members of the JSON answer.
    """

    status: int = 500
    code: str = "INTERNAL_ERROR"

    def __init_subclass__(cls, status: int | None = None, code: str | None = None) -> None:
        cls.status, cls.code = status or cls.status, code or cls.code

    def __init__(self, message: str, *, code: str | None = None, **details: Any) -> None:
        """Make the error. ``code`` replaces that of the class."""
        self.message = message
        self.code = code or type(self).code
        self.details = details
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        return {"error_code": self.code, "message": self.message, **self.details}


class ClientError(Exception):
    """A server or folder cannot be queried, or refuses. The message says how to repair it.

    Attributes:
        status: HTTP status of the refusal, or None if there was no answer.
        code: Error code of the refusal.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        self.status = status
        self.code = code
        super().__init__(message)


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Return a suggestion to append to a message, or an empty text if no known name is similar."""
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(text.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


class InvalidRequest(ApiError, status=400, code="INVALID_PARAMETER_VALUE"):
    """The request is wrong. A retry does not help."""


class Unauthenticated(ApiError, status=401, code="UNAUTHENTICATED"):
    """The request needs a password or token."""


class Forbidden(ApiError, status=403, code="PERMISSION_DENIED"):
    """The caller lacks the permission."""


class NotFound(ApiError, status=404, code="RESOURCE_DOES_NOT_EXIST"):
    """The object does not exist."""


class Conflict(ApiError, status=409, code="RESOURCE_CONFLICT"):
    """The request conflicts with what exists."""


class UnknownSchema(Conflict, code="UNKNOWN_SCHEMA"):
    """The writer's schema is not known. PUT it, then send the batch again."""


class TooLarge(ApiError, status=413, code="REQUEST_TOO_LARGE"):
    """The request exceeds a limit of the server."""


class TooBusy(ApiError, status=429, code="REQUEST_LIMIT_EXCEEDED"):
    """The server is already doing as much of this as it can at a time."""


class Unavailable(ApiError, status=503, code="TEMPORARILY_UNAVAILABLE"):
    """The log is out of reach, or the fold is behind."""


class TimedOut(ApiError, status=504, code="DEADLINE_EXCEEDED"):
    """The query took longer than allowed."""


class Refused(ApiError):
    """The fold refused a registry request. Code and status are MLflow's."""

    _STATUS: ClassVar[dict[str, int]] = {
        "RESOURCE_DOES_NOT_EXIST": 404,
        "RESOURCE_CONFLICT": 409,
        "PERMISSION_DENIED": 403,
    }

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message, code=code, **details)
        self.status = self._STATUS.get(code, 400)
