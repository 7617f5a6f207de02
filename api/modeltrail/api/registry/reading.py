"""The current state of the registry, and its state at an earlier moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import duckdb

from modeltrail.api.access.rights import Condition
from modeltrail.api.answers import parse_time, rows, time_of
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.node import Node
from modeltrail.consumers.reading import sql
from modeltrail.eventlog import REGISTRY, REGISTRY_PARTITION, Position

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


def registry_position(offset: int | None) -> str | None:
    """Return the position of a registry event as text; None for none, and before the first."""
    return None if offset is None or offset < 0 else str(Position(*REGISTRY_PARTITION, offset))


def time_at(cursor: duckdb.DuckDBPyConnection, offset: int) -> str | None:
    """Return when the log took the event at an offset."""
    found = cursor.execute(sql("moments.time"), [offset]).fetchone()
    return None if found is None else time_of(found[0])


def as_of_text(as_of: str | None) -> str:
    """Return the end of a message that something does not, or did not, exist."""
    return "" if as_of is None else f" as of {as_of}"


class Moment:
    """The registry at a moment: now, or right after an earlier event."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, as_of: str | None) -> None:
        """Read with a cursor. Raises ``InvalidRequest``; see ``offset_of``."""
        self._cursor = cursor
        self._as_of = as_of
        self.offset = offset_of(cursor, as_of)

    def rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """Return the rows of a query, in which ``$at`` is the offset."""
        return rows(self._cursor, query, {"at": self.offset, **values})

    def one(self, query: str, missing: str, **values: Any) -> dict[str, Any]:
        """Return the only row of a query. Raises ``NotFound`` with a message."""
        found = self.rows(query, **values)
        if not found:
            raise NotFound(f"{missing}{as_of_text(self._as_of)}")
        return found[0]

    def model(self, model: str) -> dict[str, Any]:
        """Return a model. Raises ``NotFound``."""
        return self.one(
            "SELECT * FROM models_at($at) WHERE model = $model",
            f"Registered Model with name={model} not found",
            model=model,
        )

    def version(self, model: str, version: int, table: str = "model_versions_at") -> dict[str, Any]:
        """Return a version, or its row in another table. Raises ``NotFound``."""
        return self.one(
            f"SELECT * FROM {table}($at) WHERE model = $model AND version = $version",
            f"Model Version (name={model}, version={version}) not found",
            model=model,
            version=version,
        )

    def aliases(self, *models: str) -> list[dict[str, Any]]:
        """Return the aliases of models, by model and name."""
        return self.rows(
            "SELECT * FROM aliases_at($at) WHERE model IN (SELECT unnest($models)) "
            "ORDER BY model, alias",
            models=models,
        )

    def add_to_experiments(self, experiments: Sequence[dict[str, Any]]) -> None:
        """Add tags to experiments."""
        found: dict[str, dict[str, str]] = {}
        for id, key, value in self._cursor.execute(
            sql("registry.tags_at", columns="experiment_id"), ["experiment", self.offset]
        ).fetchall():
            found.setdefault(id, {})[key] = value
        for experiment in experiments:
            experiment["tags"] = found.get(experiment["experiment_id"], {})

    def _tags(
        self, names: Sequence[str], entity: str
    ) -> dict[tuple[str, int | None], dict[str, str]]:
        """Return tags of models or versions, by model and version (None for the model itself)."""
        found: dict[tuple[str, int | None], dict[str, str]] = {}
        for model, version, key, value in self._cursor.execute(
            sql("registry.tags_of_models_at"), {"entity": entity, "names": names, "at": self.offset}
        ).fetchall():
            found.setdefault((model, version), {})[key] = value
        return found

    def add_to_models(self, models: Sequence[dict[str, Any]]) -> None:
        """Add tags and aliases to models."""
        names = [model["model"] for model in models]
        tags = self._tags(names, "model")
        aliases: dict[str, dict[str, int]] = {name: {} for name in names}
        for row in self.aliases(*names):
            aliases[row["model"]][row["alias"]] = row["version"]
        for model in models:
            model["tags"] = tags.get((model["model"], None), {})
            model["aliases"] = aliases[model["model"]]

    def add_to_versions(self, model: str, versions: Sequence[dict[str, Any]]) -> None:
        """Add tags and aliases to versions of a model."""
        tags = self._tags([model], "model_version")
        aliases: dict[int, list[str]] = {}
        for row in self.aliases(model):
            aliases.setdefault(row["version"], []).append(row["alias"])
        for version in versions:
            version["tags"] = tags.get((model, version["version"]), {})
            version["aliases"] = aliases.get(version["version"], [])

    def blame(self, model: str, readable: Condition) -> dict[int | None, dict[str, Any]]:
        """Return who set each value of a model and its versions, by version.

        None is the model itself. Tags and aliases are by their names. An alias is shown with its
        version and with the model.

        Args:
            model: Name of the model.
            readable: The condition that a ``model_key`` is of a model that the caller may read.
        """
        key = self._cursor.execute(
            sql("history.model", readable=readable.sql),
            [model, self.offset, self.offset, *readable.params],
        ).fetchone()
        found: dict[int | None, dict[str, Any]] = {}
        for row in self.rows(sql("history.blame"), key=None if key is None else key[0]):
            entity, version, attribute, name = (
                row.pop(column) for column in ("entity", "version", "attribute", "key")
            )
            for of in {version, None} if entity == "alias" else {version}:
                blame = found.setdefault(of, {"tags": {}, "aliases": {}})
                if name is None:
                    blame[attribute] = row
                else:
                    blame["aliases" if attribute == "alias" else "tags"][name] = row
        return found


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
