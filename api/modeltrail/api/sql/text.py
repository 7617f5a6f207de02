"""The text of a statement: which parts are words, and which are in quotes or comments."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from modeltrail.api.errors import InvalidRequest
from modeltrail.api.sql.limits import STATEMENT_CHARACTERS_MAX, Params

# Strings, quoted names, dollar quotes and comments, each up to the end of the text if it is not
# closed, so that one pass is enough; and what matters outside of them.
_TOKEN = re.compile(
    r"""(?P<string>\bE'(?:[^'\\]|\\.|'')*(?:'|\Z)|'(?:[^']|'')*(?:'|\Z)"""
    r"""|\$(?P<tag>[^\W\d]\w*|)\$.*?(?:\$(?P=tag)\$|\Z))"""
    r"""|"(?P<quoted>(?:[^"]|"")*)(?:"|\Z)|(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))|(?P<end>;)"""
    r"""|(?P<mark>\?|\$(?P<name>\w+))|(?P<word>[^\W\d]\w*)""",
    re.DOTALL | re.IGNORECASE,
)


def bare(statement: str) -> str:
    """Return the statement without a final semicolon, so that it fits into parentheses.

    The returned text is the one that is checked and run, so a mistake here cannot let anything
    through.

    Raises:
        InvalidRequest: it is too long, or not text.
    """
    if len(statement) > STATEMENT_CHARACTERS_MAX:
        raise InvalidRequest(
            f"the statement has {len(statement):,} characters; "
            f"{STATEMENT_CHARACTERS_MAX:,} are allowed"
        )
    if "\0" in statement:
        raise InvalidRequest("the statement contains a NUL character")
    try:
        statement.encode()
    except UnicodeError as error:
        raise InvalidRequest(str(error), code="SQL_ERROR") from None
    for found in _TOKEN.finditer(statement):
        if found["end"]:
            rest = _TOKEN.sub(lambda t: "" if t["comment"] else "x", statement[found.end() :])
            return statement if rest.strip() else statement[: found.start()]
    return statement


def tokens(statement: str, *, quoted: bool = False) -> Iterator[str]:
    """Return words outside of strings, quotes and comments; quoted names only if asked for."""
    for found in _TOKEN.finditer(statement):
        if found["word"]:
            yield found["word"]
        elif quoted and found["quoted"]:
            yield found["quoted"].replace('""', '"')


def depth(statement: str) -> int:
    """Return how deeply brackets are nested, outside of strings, quotes and comments."""
    deepest = level = 0
    for character in _TOKEN.sub(" ", statement):
        if character in "([{":
            level += 1
            deepest = max(deepest, level)
        elif character in ")]}":
            level -= 1
    return deepest


def inlined(statement: str, params: Params | None) -> str | None:
    """Return the statement with its parameters as literals, for planning, or None if that fails."""
    if not params:
        return statement
    literals: dict[str, str] = {}
    pairs = params.items() if isinstance(params, Mapping) else enumerate(params, 1)
    for name, value in pairs:
        literal = _literal(value)
        if literal is None:
            return None
        literals[str(name).lower()] = literal
    count = 0

    def put(found: re.Match[str]) -> str:
        nonlocal count
        if not found["mark"]:
            return found[0]
        if found["name"]:
            return literals.get(found["name"].lower(), found[0])
        count += 1
        return literals.get(str(count), found[0])

    return _TOKEN.sub(put, statement)


def _literal(value: Any) -> str | None:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"({value})"
    if isinstance(value, float) and math.isfinite(value):
        return f"({value!r})::DOUBLE"
    if isinstance(value, str) and "\0" not in value:
        return "'" + value.replace("'", "''") + "'::VARCHAR"
    return None
