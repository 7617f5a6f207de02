"""What is asked, and within which limits."""

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
    """One query, and how its answer is wanted."""

    statement: str
    params: Params | None = None
    format: str = "json"
    limit: int = ROWS_MAX
    """Most rows of the answer."""
    timeout_s: float = TIMEOUT_S
    """For the query and for taking its answer."""
    admin: bool = True
    """Whether an administrator asks, who sees more views."""


def too_late(timeout_s: float) -> TimedOut:
    """Not done within its time."""
    return TimedOut(
        f"the query took longer than {timeout_s:g} s; narrow it, or ask with a longer timeout"
    )


def refusal(error: Exception) -> ApiError:
    """What DuckDB, or Python, says against a query, for who asked it."""
    if isinstance(error, ApiError):
        return error
    text = str(error)
    if isinstance(error, MemoryError) or "Out of Memory" in text or "bad allocation" in text:
        return too_large()
    return InvalidRequest(text, code="SQL_ERROR")


def too_large() -> InvalidRequest:
    """The query needs more memory than there is for one."""
    return InvalidRequest(
        "the query needs more memory than the server allows for one; narrow it: fewer columns, "
        "a WHERE, or an aggregate in place of lists",
        code="SQL_ERROR",
    )
