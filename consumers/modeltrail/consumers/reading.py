"""Queries of the fold's own tables, which readers outside this package name nowhere else.

Each file of ``queries/`` is about one subject. A query begins at a comment with its name, as in
``-- tag: The value of a run's tag``, and is used as ``sql("runs.tag")``. Some are parts of larger
queries, and some have parts in braces, which the caller fills in with SQL that the program wrote.
Values that users gave are parameters (``?``), never parts.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_QUERY = re.compile(r"^-- (\w+): .*\n((?:--.*\n)*)", re.MULTILINE)


def sql(name: str, **parts: object) -> str:
    """The text of a query.

    Args:
        name: File and query, as in ``runs.tag``.
        parts: What goes in at the names in braces.
    """
    file, _, query = name.partition(".")
    text = queries(file)[query]
    return text.format_map(parts) if parts else text


@cache
def queries(file: str) -> dict[str, str]:
    """The queries of a file, by name."""
    text = (resources.files(__package__) / "queries" / f"{file}.sql").read_text(encoding="utf-8")
    _, *rest = _QUERY.split(text)
    return {name: body.strip() for name, body in zip(rest[::3], rest[2::3], strict=True)}
