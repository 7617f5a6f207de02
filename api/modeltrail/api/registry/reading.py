"""The current state of the registry, and its state at an earlier moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import duckdb

from modeltrail.api.answers import one, parse_time, rows, time_of
from modeltrail.api.errors import InvalidRequest
from modeltrail.api.node import Node
from modeltrail.consumers.reading import sql
from modeltrail.eventlog import REGISTRY, Position

AS_OF_NOW = 2**62


def position_in(cursor: duckdb.DuckDBPyConnection, text: str, name: str) -> int | None:
    """Return the offset of a registry position, ``registry:0:17`` or ``17``; None for a time.

    Raises:
        InvalidRequest: the position is not one, or is not in the log yet.
    """
    text = text.strip()
    if text.isdecimal() and len(text) < 19:
        offset = int(text)
    elif text.startswith(f"{REGISTRY}:"):
        try:
            offset = Position.parse(text).offset
        except ValueError as error:
            raise InvalidRequest(f"{name}: {error}") from None
    else:
        return None
    last = last_offset(cursor)
    if offset > last:
        raise InvalidRequest(
            f"{name}: the registry has no event at offset {offset} yet; its last is {last}"
        )
    return offset


def offset_of(cursor: duckdb.DuckDBPyConnection, as_of: str | None, name: str = "as_of") -> int:
    """Return the registry offset for ``as_of``: the state right after it is the one asked for.

    Raises:
        InvalidRequest: it is neither a time nor a position, or a position that is not in the log
            yet.
    """
    if as_of is None:
        return AS_OF_NOW
    offset = position_in(cursor, as_of, name)
    if offset is not None:
        return offset
    found = cursor.execute("SELECT registry_offset_as_of(?)", [parse_time(as_of, name)]).fetchone()
    return int(found[0]) if found else -1


def last_offset(cursor: duckdb.DuckDBPyConnection) -> int:
    """Return the last offset that is folded; -1 for none."""
    found = cursor.execute(sql("registry.last_offset")).fetchone()
    return -1 if found is None else int(found[0])


def offset_by(cursor: duckdb.DuckDBPyConnection, ms: int) -> int:
    """Return the last offset that the log had taken by a time, in ms since 1970; -1 for none."""
    found = cursor.execute(sql("registry.offset_by"), [ms]).fetchone()
    return -1 if found is None else int(found[0])


def time_at(cursor: duckdb.DuckDBPyConnection, offset: int) -> str | None:
    """Return when the log took the event at an offset."""
    found = cursor.execute(sql("moments.time"), [offset]).fetchone()
    return None if found is None else time_of(found[0])


def as_of_text(as_of: str | None) -> str:
    """Return the end of a message that something does not, or did not, exist."""
    return "" if as_of is None else f" as of {as_of}"


def tags_at(
    cursor: duckdb.DuckDBPyConnection, offset: int, entity: str, *columns: str
) -> dict[tuple[Any, ...], dict[str, str]]:
    """Return the tags of all entities of a kind at an offset, by the values of some columns."""
    found: dict[tuple[Any, ...], dict[str, str]] = {}
    query = sql("registry.tags_at", columns=", ".join(columns))
    for *who, key, value in cursor.execute(query, [entity, offset]).fetchall():
        found.setdefault(tuple(who), {})[key] = value
    return found


def model_at(
    cursor: duckdb.DuckDBPyConnection, offset: int, model: str, as_of: str | None
) -> dict[str, Any]:
    """Return a model at an offset. Raises ``NotFound``."""
    return one(
        cursor,
        "SELECT * FROM models_at(?) WHERE model = ?",
        [offset, model],
        f"Registered Model with name={model} not found{as_of_text(as_of)}",
    )


def version_at(
    cursor: duckdb.DuckDBPyConnection, offset: int, model: str, version: int, as_of: str | None
) -> dict[str, Any]:
    """Return a version at an offset. Raises ``NotFound``."""
    return one(
        cursor,
        "SELECT * FROM model_versions_at(?) WHERE model = ? AND version = ?",
        [offset, model, version],
        f"Model Version (name={model}, version={version}) not found{as_of_text(as_of)}",
    )


def _tags_then(
    cursor: duckdb.DuckDBPyConnection, offset: int, names: Sequence[str], entity: str
) -> dict[tuple[str, int | None], dict[str, str]]:
    """Return tags of models or versions, by model and version (None for the model itself).

    Args:
        cursor: The cursor to read with.
        offset: The moment.
        names: Names of the models at that moment.
        entity: "model" or "model_version".
    """
    found: dict[tuple[str, int | None], dict[str, str]] = {}
    for model, version, key, value in cursor.execute(
        sql("registry.tags_of_models_at"), {"entity": entity, "names": names, "at": offset}
    ).fetchall():
        found.setdefault((model, version), {})[key] = value
    return found


def aliases_at(
    cursor: duckdb.DuckDBPyConnection, offset: int, *models: str
) -> list[dict[str, Any]]:
    """Return the aliases of models at an offset, by model and name."""
    return rows(
        cursor,
        "SELECT * FROM aliases_at(?) WHERE model IN (SELECT unnest(?)) ORDER BY model, alias",
        [offset, models],
    )


def add_to_models(
    cursor: duckdb.DuckDBPyConnection, offset: int, models: Sequence[dict[str, Any]]
) -> None:
    """Add tags and aliases to models at an offset."""
    names = [model["model"] for model in models]
    tags = _tags_then(cursor, offset, names, "model")
    aliases: dict[str, dict[str, int]] = {name: {} for name in names}
    for row in aliases_at(cursor, offset, *names):
        aliases[row["model"]][row["alias"]] = row["version"]
    for model in models:
        model["tags"] = tags.get((model["model"], None), {})
        model["aliases"] = aliases[model["model"]]


def add_to_versions(
    cursor: duckdb.DuckDBPyConnection, offset: int, model: str, versions: list[dict[str, Any]]
) -> None:
    """Add tags and aliases to versions of a model at an offset."""
    tags = _tags_then(cursor, offset, [model], "model_version")
    aliases: dict[int, list[str]] = {}
    for row in aliases_at(cursor, offset, model):
        aliases.setdefault(row["version"], []).append(row["alias"])
    for version in versions:
        version["tags"] = tags.get((model, version["version"]), {})
        version["aliases"] = aliases.get(version["version"], [])


class Outcome(NamedTuple):
    """The decision about a request to the registry."""

    accepted: bool
    message: str | None
    experiment_id: str | None


def outcomes(node: Node, positions: Sequence[Position]) -> list[Outcome]:
    """Wait for the decisions about requests, and return them."""
    with node.read() as cursor:
        found = {
            offset: Outcome(accepted, message, experiment_id)
            for offset, accepted, message, experiment_id in cursor.execute(
                sql("registry.outcomes"), [[position.offset for position in positions]]
            ).fetchall()
        }
    undecided = Outcome(False, "it was not applied; see the dead letters", None)
    return [found.get(position.offset, undecided) for position in positions]
