"""The relations that users may query: the public views, and what the as-of macros read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Final, NamedTuple

import duckdb


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


READER_VIEWS: Final = words("""
    aliases aliases_history artifacts audit comments datasets descriptions_history
    experiment_names_history experiment_tags experiment_tags_history experiments history
    latest_metrics logged_model_artifacts logged_model_metrics logged_model_params
    logged_model_tags logged_models
    metrics model_inputs model_names_history model_outputs model_tags model_tags_history
    model_version_tags model_version_tags_history model_versions models packages param_conflicts
    params positions registrations runs stages stages_history tags transitions
    """)
"""Views for users who may read everything that is tracked."""
ADMIN_VIEWS: Final = words("""
    dead_letters permissions permissions_history role_members roles saved_views tokens users
    users_history webhooks webhooks_history
    """)
"""Views for administrators, as in the rest of the API."""
IMPORT_TABLES: Final = words("""
    activity artifacts datasets experiments history logged_model_artifacts logged_model_params
    logged_model_tags logged_models model_inputs model_outputs model_versions models params points
    requests runs series tags
    """)
"""Tables of the fold that an import compares with. For administrators, in plain queries only."""
NARROW_VIEWS: Final = words(
    "latest_metrics logged_model_metrics metrics model_inputs model_outputs positions"
)
"""Views without long texts: no value is longer than a key or an id."""
MACROS: Final = frozenset(
    f"{kind}_{when}"
    for kind in ("aliases", "stages", "experiments", "models", "model_versions")
    for when in ("at", "as_of")
)
"""Table macros: the state at an offset or a time."""
SCALAR_MACROS: Final = frozenset({"registry_offset_as_of"})

AS_OF: Final = "as_of"
"""Schema of the relations below wherever the macros are created."""
# What the macros read: the public view `history`, and nothing else.
_MACRO_RELATIONS: Final = {
    "history": "SELECT * FROM fold.history "
    "WHERE entity IN ('experiment', 'model', 'model_version', 'alias')",
    "experiments": "SELECT * FROM fold.experiments",
    "models": "SELECT * FROM fold.models",
    "model_versions": "SELECT * FROM fold.model_versions",
    "requests": 'SELECT "offset", appended_at_ms FROM fold.requests',
}


class Relation(NamedTuple):
    """A relation that users may read."""

    schema: str
    name: str
    columns: Mapping[str, str]
    """Column to type, such as ``MAP(VARCHAR, VARCHAR)``."""
    query: str
    """Its definition, in the fold's database."""
    admin: bool


def relations(con: duckdb.DuckDBPyConnection) -> list[Relation]:
    """Return every relation that users may read, with its columns."""
    found = [
        _relation(con, "main", name, f"SELECT * FROM main.{name}", name in ADMIN_VIEWS)
        for name in sorted(READER_VIEWS | ADMIN_VIEWS)
    ]
    found += [_relation(con, AS_OF, name, q, False) for name, q in _MACRO_RELATIONS.items()]
    return found


def _relation(
    con: duckdb.DuckDBPyConnection, schema: str, name: str, query: str, admin: bool
) -> Relation:
    described = con.execute(f"DESCRIBE {query}").fetchall()
    return Relation(schema, name, {row[0]: row[1] for row in described}, query, admin)


def names(con: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Return the names of all tables and views, public or not, including DuckDB's own."""
    query = "SELECT view_name FROM duckdb_views() UNION SELECT table_name FROM duckdb_tables()"
    return frozenset(name.lower() for (name,) in con.execute(query).fetchall())


def macros() -> list[str]:
    """Return the statements that create the public macros, over relations in ``AS_OF``."""
    package = resources.files("modeltrail.consumers")
    texts: Iterable[str] = (
        package.joinpath(file).read_text(encoding="utf-8")
        for file in ("fold.sql", "projections/registry_views.sql")
    )
    return [
        re.sub(r"\bfold\.", f"{AS_OF}.", statement)
        for text in texts
        for statement in re.findall(r"^CREATE MACRO.*?;$", text, re.DOTALL | re.MULTILINE)
    ]
