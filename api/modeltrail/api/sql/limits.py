"""A query and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from modeltrail.api.errors import ApiError, InvalidRequest, TimedOut

STATEMENT_CHARACTERS_MAX = 100_000
TIMEOUT_S = 30.0
TIMEOUT_S_MAX = 600.0
ROWS_MAX = 100_000_000

Params = Sequence[Any] | Mapping[str, Any]


class Question(NamedTuple):
    """A query, and the form of its answer."""

    statement: str
    params: Params | None = None
    format: str = "json"
    limit: int = ROWS_MAX
    """Maximum number of rows."""
    timeout_s: float = TIMEOUT_S
    """Time limit for the query and for reading its answer."""
    admin: bool = True
    """Whether an administrator asks, who sees more views."""


def too_late(timeout_s: float) -> TimedOut:
    """Return the error for a query that exceeded its time limit."""
    return TimedOut(
        f"the query took longer than {timeout_s:g} s; narrow it, or ask with a longer timeout"
    )


def refusal(error: Exception) -> ApiError:
    """Return the error for the user, from one of DuckDB or Python."""
    if isinstance(error, ApiError):
        return error
    text = str(error)
    if isinstance(error, MemoryError) or "Out of Memory" in text or "bad allocation" in text:
        return too_large()
    return InvalidRequest(text, code="SQL_ERROR")


def too_large() -> InvalidRequest:
    """Return the error for a query that needs too much memory."""
    return InvalidRequest(
        "the query needs more memory than the server allows for one; narrow it: fewer columns, "
        "a WHERE, or an aggregate in place of lists",
        code="SQL_ERROR",
    )
