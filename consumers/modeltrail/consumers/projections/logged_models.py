"""Logged models: the events of the runs stream that are about a model, not a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import duckdb
import pyarrow as pa

from modeltrail.consumers import tables
from modeltrail.consumers.projections import Incoming, check_entries, check_path
from modeltrail.limits import ID_CHARACTERS_MAX, MODEL_STATUSES
from modeltrail.schemas import Malformed

_KEPT_MAX = 50_000


@dataclass(slots=True)
class _Model:
    """A row of ``fold.logged_models``, in the order of its columns."""

    model_id: str
    partition: int
    experiment_id: str
    name: str
    model_type: str | None
    source_run_id: str | None
    artifact_location: str
    status: str
    status_message: str | None
    deleted: bool
    created_at_ms: int
    updated_at_ms: int
    actor: str
    offset: int


_COLUMNS = [f.name for f in fields(_Model)]
_TYPES = {
    "model_type": pa.string(),
    "source_run_id": pa.string(),
    "status_message": pa.string(),
}


class LoggedModelTables:
    """Folds the events of logged models, for the projection of the runs stream."""

    def __init__(self) -> None:
        """Make it without state; models are loaded when an event refers to them."""
        self._models: dict[str, _Model] = {}
        self._params: dict[str, dict[str, str]] = {}
        self._clear_batch()
        self._handlers: dict[str, Callable[[Incoming], None]] = {
            "LoggedModelCreated": self._created,
            "LoggedModelImported": self._imported,
            "LoggedModelUpdated": self._updated,
            "LoggedModelDeleted": self._deleted,
            "LoggedModelArtifactLogged": self._artifact_logged,
            "LoggedModelArtifactDeleted": self._artifact_deleted,
        }

    def _clear_batch(self) -> None:
        self._changed: dict[str, _Model] = {}
        self._new_params: list[tuple[str, str, str]] = []
        self._tags: dict[tuple[str, str], str | None] = {}
        self._artifacts: dict[tuple[str, str], dict[str, Any] | None] = {}
        self._inputs: dict[tuple[int, str], None] = {}
        self._outputs: dict[tuple[int, str, int], None] = {}

    def forget(self) -> None:
        """Clear the state after a failed transaction."""
        self._models.clear()
        self._params.clear()
        self._clear_batch()

    def handles(self, type: str) -> bool:
        """Return whether events of this type are about a logged model."""
        return type in self._handlers

    def prepare(self, con: duckdb.DuckDBPyConnection, batch: Sequence[Incoming]) -> None:
        """Load the models in the events of a batch, with their params."""
        wanted = {i.event["model_id"] for i in batch if i.type in self._handlers}
        wanted -= self._models.keys()
        if not wanted:
            return
        ids = {"model_id": list(wanted)}
        for row in tables.lookup(
            con,
            "SELECT m.* FROM fold.logged_models m SEMI JOIN wanted w ON m.model_id = w.model_id",
            ids,
        ):
            self._models[row[0]] = _Model(*row)
            self._params[row[0]] = {}
        for model_id, key, value in tables.lookup(
            con,
            """SELECT p.* FROM fold.logged_model_params p
               SEMI JOIN wanted w ON p.model_id = w.model_id""",
            ids,
        ):
            self._params[model_id][key] = value

    def apply(self, incoming: Incoming) -> None:
        """Apply an event. Raises ``Malformed``; the state is then unchanged."""
        self._handlers[incoming.type](incoming)

    def link(self, run: int, event: dict[str, Any]) -> None:
        """Record which models a run used and created. A repeated link counts once."""
        for model_id in event["inputs"]:
            self._inputs[run, model_id] = None
        for output in event["outputs"]:
            self._outputs[run, output["model_id"], output["step"]] = None

    # One method for each event type. Each checks first, then changes.

    def _created(self, incoming: Incoming) -> None:
        record, event = incoming.record, incoming.event
        model_id = event["model_id"]
        if not 0 < len(model_id) <= ID_CHARACTERS_MAX:
            raise Malformed(f"a logged model's id has 1 to {ID_CHARACTERS_MAX} characters")
        if model_id in self._models:
            raise Malformed(f"logged model {model_id} was created before")
        check_entries("param", event["params"])
        check_entries("tag", event["tags"])
        self._models[model_id] = self._changed[model_id] = _Model(
            model_id,
            record.partition,
            event["experiment_id"],
            event["name"],
            event["model_type"],
            event["source_run_id"],
            event["artifact_location"],
            "PENDING",
            None,
            False,
            record.appended_at_ms,
            record.appended_at_ms,
            event["envelope"]["actor"],
            record.offset,
        )
        self._params[model_id] = {}
        self._add_params(model_id, event["params"])
        self._change_tags(model_id, event["tags"])

    def _imported(self, incoming: Incoming) -> None:
        event = incoming.event
        if event["status"] not in MODEL_STATUSES:
            raise Malformed(f"LoggedModelImported: no such status: {event['status']!r}")
        self._created(incoming)
        model = self._models[event["model_id"]]
        model.status, model.status_message = event["status"], event["status_message"]
        # By the clock of the tracker that it was imported from.
        if event["created_at_ms"] is not None:
            model.created_at_ms = event["created_at_ms"]
        if event["updated_at_ms"] is not None:
            model.updated_at_ms = event["updated_at_ms"]

    def _model(self, incoming: Incoming) -> _Model:
        model_id = incoming.event["model_id"]
        model = self._models.get(model_id)
        if model is None:
            raise Malformed(f"{incoming.type}: logged model {model_id!r} was never created")
        return model

    def _updated(self, incoming: Incoming) -> None:
        record, event = incoming.record, incoming.event
        model, status = self._model(incoming), event["status"]
        if status is not None and status not in MODEL_STATUSES:
            raise Malformed(f"LoggedModelUpdated: no such status: {status!r}")
        check_entries("param", event["params"])
        check_entries("tag", event["tags"])
        if status is not None:
            model.status, model.status_message = status, event["status_message"]
            # As in MLflow, tags and params do not change the time of the last update.
            self._touch(model, record.appended_at_ms)
        self._add_params(model.model_id, event["params"])
        self._change_tags(model.model_id, event["tags"])

    def _deleted(self, incoming: Incoming) -> None:
        model = self._model(incoming)
        model.deleted = True
        self._touch(model, incoming.record.appended_at_ms)

    def _artifact_logged(self, incoming: Incoming) -> None:
        record, type, event, _ = incoming
        check_path(type, event["path"])
        self._artifacts[event["model_id"], event["path"]] = {
            **event, "appended_at_ms": record.appended_at_ms,
        }  # fmt: skip

    def _artifact_deleted(self, incoming: Incoming) -> None:
        self._artifacts[incoming.event["model_id"], incoming.event["path"]] = None

    def _touch(self, model: _Model, now_ms: int) -> None:
        model.updated_at_ms = now_ms
        self._changed[model.model_id] = model

    def _add_params(self, model_id: str, params: dict[str, str]) -> None:
        known = self._params[model_id]
        for key, value in params.items():
            if key not in known:
                known[key] = value
                self._new_params.append((model_id, key, value))

    def _change_tags(self, model_id: str, tags: dict[str, str | None]) -> None:
        for key, value in tags.items():
            self._tags[model_id, key] = value

    # Writing

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Write the changes since the last write, in the open transaction."""
        if self._changed:
            _delete(con, "fold.logged_models", {"model_id": list(self._changed)})
            rows = tables.rows(list(self._changed.values()), _COLUMNS)
            tables.insert(con, "fold.logged_models", rows, **_TYPES)
        if self._new_params:
            rows = _columns(self._new_params, "model_id", "key", "value")
            tables.insert(con, "fold.logged_model_params", rows)
        if self._tags:
            _delete(con, "fold.logged_model_tags", _columns(list(self._tags), "model_id", "key"))
            kept = [(*who, v) for who, v in self._tags.items() if v is not None]
            rows = _columns(kept, "model_id", "key", "value")
            tables.insert(con, "fold.logged_model_tags", rows)
        if self._artifacts:
            columns = _columns(list(self._artifacts), "model_id", "path")
            _delete(con, "fold.logged_model_artifacts", columns)
            files = [a for a in self._artifacts.values() if a is not None]
            names = ("model_id", "path", "size_bytes", "sha256", "location", "appended_at_ms")
            rows = {name: [a[name] for a in files] for name in names}
            tables.insert(con, "fold.logged_model_artifacts", rows)
        _write_links(con, "fold.model_inputs", list(self._inputs), "run", "model_id")
        _write_links(con, "fold.model_outputs", list(self._outputs), "run", "model_id", "step")
        self._clear_batch()
        if len(self._models) > _KEPT_MAX:
            self._models.clear()
            self._params.clear()


def _columns(rows: Sequence[tuple[Any, ...]], *names: str) -> dict[str, list[Any]]:
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _write_links(
    con: duckdb.DuckDBPyConnection, table: str, links: Sequence[tuple[Any, ...]], *names: str
) -> None:
    if links:
        columns = _columns(links, *names)
        _delete(con, table, columns)
        tables.insert(con, table, columns)


def _delete(con: duckdb.DuckDBPyConnection, table: str, keys: dict[str, list[Any]]) -> None:
    match = " AND ".join(f"t.{name} = b.{name}" for name in keys)
    tables.run(con, f"DELETE FROM {table} t USING batch b WHERE {match}", keys)
