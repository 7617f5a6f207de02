"""What can go wrong for a caller of the API, and in a client. An ``ApiError`` owns its status."""

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

    def __init__(self, message: str, *, code: str | None = None, **details: Any) -> None:
        """Say what is wrong; ``code`` takes the place of the class's."""
        self.message = message
        self.code = code or type(self).code
        self.details = details
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        """The JSON answer."""
        return {"error_code": self.code, "message": self.message, **self.details}


class ClientError(Exception):
    """A server or folder cannot be asked, or says no; the message says how to repair it.

    Attributes:
        status: HTTP status of the refusal; None where nothing answered.
        code: Error code of the refusal.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        """Say what is wrong."""
        self.status = status
        self.code = code
        super().__init__(message)


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """A question to append to a message; nothing where no known name is close to the text."""
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(text.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


class InvalidRequest(ApiError):
    """The request itself is wrong; a retry will not help."""

    status = 400
    code = "INVALID_PARAMETER_VALUE"


class Unauthenticated(ApiError):
    """A token is needed."""

    status = 401
    code = "UNAUTHENTICATED"


class Forbidden(ApiError):
    """The caller may not do this."""

    status = 403
    code = "PERMISSION_DENIED"


class NotFound(ApiError):
    """Nothing is there."""

    status = 404
    code = "RESOURCE_DOES_NOT_EXIST"


class Conflict(ApiError):
    """Something else is there."""

    status = 409
    code = "RESOURCE_CONFLICT"


class UnknownSchema(Conflict):
    """The writer's schema is not known; PUT it, then send the batch again."""

    code = "UNKNOWN_SCHEMA"


class TooLarge(ApiError):
    """Over a limit of the server's settings."""

    status = 413
    code = "REQUEST_TOO_LARGE"


class TooBusy(ApiError):
    """As much as the server does at a time is under way already."""

    status = 429
    code = "REQUEST_LIMIT_EXCEEDED"


class Unavailable(ApiError):
    """The log is out of reach, or the fold has not come as far as it has to."""

    status = 503
    code = "TEMPORARILY_UNAVAILABLE"


class TimedOut(ApiError):
    """The query took longer than allowed."""

    status = 504
    code = "DEADLINE_EXCEEDED"


class Refused(ApiError):
    """The fold refused a registry request; code and status are MLflow's."""

    _STATUS: ClassVar[dict[str, int]] = {
        "RESOURCE_DOES_NOT_EXIST": 404,
        "RESOURCE_CONFLICT": 409,
        "PERMISSION_DENIED": 403,
    }

    def __init__(self, code: str, message: str, **details: Any) -> None:
        """Pass on a refusal of the fold."""
        super().__init__(message, code=code, **details)
        self.status = self._STATUS.get(code, 400)
