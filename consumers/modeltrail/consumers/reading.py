"""Queries of the fold's own tables, which code outside this package names nowhere else.

Each file of ``queries/`` is about one subject. A query begins with a comment with its name, such as
``-- tag: The value of a run's tag``, and is used as ``sql("runs.tag")``. Some are parts of larger
queries. Some have parts in braces, which the caller replaces by SQL that the program wrote. Values
from users are always parameters (``?``), never parts.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_QUERY = re.compile(r"^-- (\w+): .*\n((?:--.*\n)*)", re.MULTILINE)


def sql(name: str, **parts: object) -> str:
    """Return the text of a query.

    Args:
        name: File and query, such as ``runs.tag``.
        parts: The SQL for the names in braces.
    """
    file, _, query = name.partition(".")
    text = queries(file)[query]
    return text.format_map(parts) if parts else text


@cache
def queries(file: str) -> dict[str, str]:
    """Return the queries of a file, by name."""
    text = (resources.files(__package__) / "queries" / f"{file}.sql").read_text(encoding="utf-8")
    _, *rest = _QUERY.split(text)
    return {name: body.strip() for name, body in zip(rest[::3], rest[2::3], strict=True)}
