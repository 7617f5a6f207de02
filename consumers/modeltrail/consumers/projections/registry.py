"""The registry: decides every request in log order, and keeps what came of it.

The state is held as Python objects, so that a decision costs microseconds; what it changes is
gathered and written in bulk. Everything that changes is an interval of ``fold.history``, and the
open intervals are all that ``load`` needs beside the entities themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import duckdb
import pyarrow as pa

from modeltrail.consumers import tables
from modeltrail.consumers.projections import Incoming, access, webhooks
from modeltrail.consumers.projections import registry_rules as rules
from modeltrail.consumers.projections.registry_rules import Rejected
from modeltrail.consumers.sequences import Producer
from modeltrail.eventlog import REGISTRY, LogRecord
from modeltrail.schemas import Malformed, experiment_id

_PROMPT = "mlflow.prompt.is_prompt"

Event = Mapping[str, Any]


class _Interval:
    """A value that holds now."""

    __slots__ = ("from_offset", "interval_id", "value")

    def __init__(self, interval_id: int, value: str | None, from_offset: int) -> None:
        self.interval_id = interval_id
        self.value = value
        self.from_offset = from_offset


_Slot = tuple[str, str | None]  # attribute and key


class Entity:
    """An experiment, model, version, user ...: what changes about it, and its row."""

    __slots__ = ("open", "row", "versions")

    def __init__(self, row: dict[str, Any]) -> None:
        """Keep its row of present values."""
        self.row = row
        self.open: dict[_Slot, _Interval] = {}
        self.versions: dict[int, Entity] = {}  # of a model

    def values(self, attribute: str) -> dict[str, str]:
        """What an attribute of many keys has now, as tags and aliases do; in the order of keys."""
        found = [
            (key, i.value or "")
            for (name, key), i in self.open.items()
            if name == attribute and key is not None
        ]
        return dict(sorted(found))

    def alias(self, name: str) -> int | None:
        """The version that an alias of this model points at."""
        interval = self.open.get(("alias", name))
        return None if interval is None else int(interval.value or 0)


_REQUEST_COLUMNS = {
    "offset": pa.int64(),
    "appended_at_ms": pa.int64(),
    "hash": pa.binary(),
    "event_id": pa.binary(),
    "type": pa.string(),
    "actor": pa.string(),
    "actor_verified": pa.bool_(),
    "client": pa.string(),
    "reason": pa.string(),
    "entity": pa.string(),
    "experiment_id": pa.string(),
    "model": pa.string(),
    "model_key": pa.string(),
    "version": pa.int64(),
    "alias": pa.string(),
    "accepted": pa.bool_(),
    "code": pa.string(),
    "message": pa.string(),
    "request": pa.string(),
}
_HISTORY_COLUMNS = {
    "interval_id": pa.int64(),
    "entity": pa.string(),
    "entity_id": pa.string(),
    "version": pa.int64(),
    "attribute": pa.string(),
    "key": pa.string(),
    "value": pa.string(),
    "from_offset": pa.int64(),
    "to_offset": pa.int64(),
    "from_time_ms": pa.int64(),
    "to_time_ms": pa.int64(),
    "from_event_id": pa.binary(),
    "actor": pa.string(),
    "actor_verified": pa.bool_(),
    "reason": pa.string(),
}
_TABLES = {
    "experiment": (
        "fold.experiments",
        ("experiment_id",),
        {
            "experiment_id": pa.string(),
            "name": pa.string(),
            "artifact_location": pa.string(),
            "deleted": pa.bool_(),
            "created_at_ms": pa.int64(),
            "updated_at_ms": pa.int64(),
            "created_by": pa.string(),
        },
        ("name", "artifact_location", "deleted", "created_at_ms", "updated_at_ms", "created_by"),
    ),
    "model": (
        "fold.models",
        ("model_key",),
        {
            "model_key": pa.string(),
            "model": pa.string(),
            "description": pa.string(),
            "next_version": pa.int64(),
            "created_at_ms": pa.int64(),
            "updated_at_ms": pa.int64(),
            "created_by": pa.string(),
            "deleted": pa.bool_(),
        },
        ("model", "description", "next_version", "updated_at_ms", "deleted"),
    ),
    "model_version": (
        "fold.model_versions",
        ("model_key", "version"),
        {
            "model_key": pa.string(),
            "version": pa.int64(),
            "stage": pa.string(),
            "description": pa.string(),
            "source": pa.string(),
            "run_id": pa.string(),
            "model_id": pa.string(),
            "run_link": pa.string(),
            "created_at_ms": pa.int64(),
            "updated_at_ms": pa.int64(),
            "created_by": pa.string(),
            "deleted": pa.bool_(),
        },
        ("stage", "description", "updated_at_ms", "deleted"),
    ),
    **access.TABLES,
    **webhooks.TABLES,
}


class RegistryProjection:
    """Folds the registry stream. For one thread.

    Requests are decided in log order and only there: one that was passed over as a dead letter
    gets its decision in a rebuild, never later than the events that follow it.
    """

    stream = REGISTRY

    def __init__(self) -> None:
        """Know nothing; call ``load`` first."""
        self._forget()

    def _forget(self) -> None:
        self._experiments: dict[str, Entity] = {}
        self._experiment_names: dict[str, Entity] = {}
        self._models: dict[str, Entity] = {}
        self._models_by_key: dict[str, Entity] = {}
        self.access = access.Access(self)
        self._webhooks = webhooks.Webhooks(self)
        self._next_interval = 0
        self._clear()

    def _clear(self) -> None:
        self._requests: dict[int, dict[str, Any]] = {}  # by offset
        self._opened: dict[int, dict[str, Any]] = {}
        self._closed: list[tuple[int, int, int]] = []
        self._created: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _TABLES}
        self._changed: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in _TABLES}
        self._fresh: set[int] = set()

    # -- the runner's interface -------------------------------------------------------------

    def create(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make the tables and views in an empty database."""
        tables.script(con, __package__, "registry.sql")
        tables.script(con, __package__, "registry_views.sql")
        tables.script(con, __package__, "access.sql")
        tables.script(con, __package__, "webhooks.sql")

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Take the state from the tables, at the start or after a transaction that failed."""
        self._forget()
        for row in _rows(con, "FROM fold.experiments"):
            entity = self._experiments[row["experiment_id"]] = Entity(row)
            self._experiment_names[row["name"]] = entity
        models = self._models_by_key
        for row in _rows(con, "FROM fold.models WHERE NOT deleted"):
            models[row["model_key"]] = self._models[row["model"]] = Entity(row)
        for row in _rows(con, "FROM fold.model_versions WHERE NOT deleted"):
            models[row["model_key"]].versions[row["version"]] = Entity(row)
        self.access.load(_rows(con, query) for query in access.LOAD)
        self._webhooks.load(_rows(con, query) for query in webhooks.LOAD)
        for kind, entity_id, version, attribute, key, *interval in con.execute(
            """SELECT entity, entity_id, version, attribute, key, interval_id, value, from_offset
               FROM fold.history WHERE to_offset IS NULL"""
        ).fetchall():
            if kind in access.TABLES:
                entity = self.access.entity(kind, entity_id)
            elif kind in webhooks.TABLES:
                entity = self._webhooks.entity(entity_id)
            else:
                entity = (self._experiments if kind == "experiment" else models)[entity_id]
            if kind == "model_version":
                entity = entity.versions[version]
            entity.open[attribute, key] = _Interval(*interval)
        self._next_interval = tables.scalar(
            con, "SELECT coalesce(max(interval_id) + 1, 0) FROM fold.history"
        )

    def see(self, record: LogRecord, hash: bytes) -> None:
        """Keep a record's place in the chain, whatever is in it."""
        row: dict[str, Any] = dict.fromkeys(_REQUEST_COLUMNS)
        row["offset"] = record.offset
        row["appended_at_ms"] = record.appended_at_ms
        row["hash"] = hash
        self._requests[record.offset] = row

    def prepare(self, con: duckdb.DuckDBPyConnection, batch: Sequence[Incoming]) -> None:
        """Nothing to fetch: the whole registry is in memory."""

    def apply(self, incoming: Incoming, producer: Producer, missing: int) -> None:
        """Decide a request and keep the outcome.

        A request that the rules or the state refuse is an outcome too, not an error.

        Raises:
            Malformed: the type is none of the registry's; nothing was changed.
        """
        _, type, event = incoming
        decide = _DECISIONS.get(type)
        if decide is None:
            raise Malformed(f"{type} is no request that this version can decide")
        request = self.request = self._described(incoming)
        try:
            decide(self, event)
        except Rejected as refusal:
            request["accepted"] = False
            request["code"] = refusal.code
            request["message"] = refusal.message
        else:
            request["accepted"] = True

    def pass_over(self, incoming: Incoming) -> None:
        """See ``Projection.pass_over``: who asked for what stays in the trail."""
        self._described(incoming)

    def _described(self, incoming: Incoming) -> dict[str, Any]:
        """The row of ``fold.requests`` of an event, with all but what was decided."""
        record, type, event = incoming
        request = self._requests[record.offset]
        envelope = event["envelope"]
        request.update(
            event_id=envelope["event_id"],
            type=type,
            actor=envelope["actor"],
            actor_verified=envelope["actor_verified"],
            client=envelope["client"],
            reason=envelope["reason"],
            entity=_ENTITIES.get(type),
            experiment_id=event.get("experiment_id"),
            model=event.get("model"),
            version=event.get("version"),
            alias=event.get("alias"),
            request=_json({**access.redacted(event), "envelope": _shown(envelope)}),
        )
        model = self._models.get(request["model"])
        if model is not None:
            request["model_key"] = model.row["model_key"]
        return request

    def may_have(self, con: duckdb.DuckDBPyConnection, event_id: bytes) -> bool:
        """See ``Projection.may_have``; the trail has all ids."""
        if any(row["event_id"] == event_id for row in self._requests.values()):
            return True
        query = "SELECT 1 FROM fold.requests WHERE event_id = ? LIMIT 1"
        return bool(con.execute(query, [event_id]).fetchall())

    def decided(self) -> list[dict[str, Any]]:
        """The rows of ``fold.requests`` of what was decided since the last write."""
        return [row for row in self._requests.values() if row["accepted"] is not None]

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Write the effects of everything since the last write, in the open transaction."""
        _insert(con, "fold.requests", list(self._requests.values()), _REQUEST_COLUMNS)
        _insert(con, "fold.history", list(self._opened.values()), _HISTORY_COLUMNS)
        if self._closed:
            ids, offsets, times = zip(*self._closed, strict=True)
            ends = {"interval_id": ids, "to_offset": offsets, "to_time_ms": times}
            tables.update(con, "fold.history", ["interval_id"], ends)
        for kind, (table, keys, columns, changing) in _TABLES.items():
            _insert(con, table, self._created[kind], columns)
            changed = list(self._changed[kind].values())
            if changed:
                typed = {name: columns[name] for name in (*keys, *changing)}
                tables.update(con, table, keys, _columns(changed, typed))
        self._clear()

    # -- for readers, while no event is applied ----------------------------------------------

    def model(self, name: str) -> Entity | None:
        """A registered model that is there."""
        return self._models.get(name)

    def version(self, name: str, number: int) -> Entity | None:
        """A version that is there, of a registered model."""
        model = self._models.get(name)
        return None if model is None else model.versions.get(number)

    def model_by_key(self, key: str) -> Entity | None:
        """A registered model that is there, whatever it is called now."""
        return self._models_by_key.get(key)

    # -- effects ----------------------------------------------------------------------------

    def add(self, kind: str, row: dict[str, Any]) -> None:
        """Make a row of a kind's table."""
        self._created[kind].append(row)
        self._fresh.add(id(row))

    def new(self, kind: str, row: dict[str, Any]) -> Entity:
        """Make an entity, active from this event on."""
        now = self.request["appended_at_ms"]
        row.update(
            created_at_ms=now,
            updated_at_ms=now,
            created_by=self.request["actor"],
            deleted=False,
        )
        self.add(kind, row)
        entity = Entity(row)
        self.put(kind, entity, "lifecycle", None, "active")
        self.put(kind, entity, "updated", None, None)
        return entity

    def put(
        self, kind: str, entity: Entity, attribute: str, key: str | None, value: str | None
    ) -> None:
        """From this event on the attribute has this value."""
        old = entity.open.get((attribute, key))
        offset = self.request["offset"]
        if old is not None:
            if old.value == value and attribute != "updated":
                return
            if old.from_offset == offset:  # twice within one event: the last value counts
                self._opened[old.interval_id]["value"] = old.value = value
                return
            self._close(old)
        row = entity.row
        self._opened[self._next_interval] = {
            "interval_id": self._next_interval,
            "entity": kind,
            "entity_id": row[_TABLES[kind if kind in _TABLES else "model"][1][0]],
            "version": int(value) if kind == "alias" and value else row.get("version"),
            "attribute": attribute,
            "key": key,
            "value": value,
            "from_offset": offset,
            "to_offset": None,
            "from_time_ms": self.request["appended_at_ms"],
            "to_time_ms": None,
            "from_event_id": self.request["event_id"],
            "actor": self.request["actor"],
            "actor_verified": self.request["actor_verified"],
            "reason": self.request["reason"],
        }
        entity.open[attribute, key] = _Interval(self._next_interval, value, offset)
        self._next_interval += 1

    def remove(self, entity: Entity, attribute: str, key: str | None) -> None:
        """From this event on the attribute has no value."""
        interval = entity.open.pop((attribute, key), None)
        if interval is not None:
            self._close(interval)

    def _close(self, interval: _Interval) -> None:
        offset, now = self.request["offset"], self.request["appended_at_ms"]
        row = self._opened.get(interval.interval_id)
        if row is None:
            self._closed.append((interval.interval_id, offset, now))
        else:
            row["to_offset"] = offset
            row["to_time_ms"] = now

    def update(self, kind: str, entity: Entity, **values: Any) -> None:
        """Change present values, which are in the entity's row; a new row is written whole."""
        entity.row.update(values)
        self.change(kind, entity.row)

    def change(self, kind: str, row: dict[str, Any]) -> None:
        """Write a row that has changed."""
        if id(row) not in self._fresh:
            self._changed[kind][id(row)] = row

    def touch(self, kind: str, entity: Entity) -> None:
        """The entity's time of last update is this event's."""
        self.put(kind, entity, "updated", None, None)
        self.update(kind, entity, updated_at_ms=self.request["appended_at_ms"])

    def _put_tags(self, kind: str, entity: Entity, tags: Mapping[str, str | None]) -> None:
        for key, value in tags.items():
            if value is None:
                self.remove(entity, "tag", key)
            else:
                self.put(kind, entity, "tag", key, value)

    def end(self, kind: str, entity: Entity) -> None:
        """The entity is no more: all of its intervals end."""
        for interval in entity.open.values():
            self._close(interval)
        entity.open.clear()
        self.update(kind, entity, deleted=True)

    # -- experiments ------------------------------------------------------------------------

    def _create_experiment(self, event: Event) -> None:
        name, tags = event["name"], event["tags"]
        rules.experiment_name(name)
        rules.artifact_location(event["artifact_location"])
        rules.tags(tags, rules.EXPERIMENT_TAG_VALUE_MAX)
        self._free_experiment_name(name)
        self._add_experiment(self._new_experiment_id(name), event)

    def _new_experiment_id(self, name: str) -> str:
        generation = 1
        while (new_id := experiment_id(name, generation)) in self._experiments:
            generation += 1
        return new_id

    def _add_experiment(self, new_id: str, event: Event) -> Entity:
        name = event["name"]
        self.request["experiment_id"] = new_id
        experiment = self.new(
            "experiment",
            {
                "experiment_id": new_id,
                "name": name,
                "artifact_location": event["artifact_location"] or None,
            },
        )
        self._experiments[new_id] = self._experiment_names[name] = experiment
        self.put("experiment", experiment, "name", None, name)
        self._put_tags("experiment", experiment, event["tags"])
        self.access.own("experiment", new_id)
        return experiment

    def _import_experiment(self, event: Event) -> None:
        name, wanted = event["name"], event["experiment_id"]
        rules.experiment_name(name)
        rules.artifact_location(event["artifact_location"])
        rules.tags(event["tags"], rules.EXPERIMENT_TAG_VALUE_MAX)
        if wanted is not None:
            rules.experiment_id(wanted)
        experiment = self._experiments.get(wanted)
        if experiment is None:
            self._free_experiment_name(name)
            experiment = self._add_experiment(wanted or self._new_experiment_id(name), event)
        elif experiment.row["created_at_ms"] is not None:
            raise Rejected(rules.EXISTS, f"Experiment(id={wanted}) already exists.")
        else:
            self._take_experiment(experiment, event)
        if event["deleted"] != experiment.row["deleted"]:
            lifecycle = "deleted" if event["deleted"] else "active"
            self.put("experiment", experiment, "lifecycle", None, lifecycle)
            self.update("experiment", experiment, deleted=event["deleted"])
        self.update("experiment", experiment, **_told_times(event))

    def _take_experiment(self, experiment: Entity, event: Event) -> None:
        """Make the experiment that is here from the start, and that nobody created, this one."""
        name, old = event["name"], experiment.row["name"]
        if name != old:
            self._free_experiment_name(name)
            del self._experiment_names[old]
            self._experiment_names[name] = experiment
            self.put("experiment", experiment, "name", None, name)
        now = self.request["appended_at_ms"]
        self.update(
            "experiment",
            experiment,
            name=name,
            artifact_location=event["artifact_location"] or None,
            created_at_ms=now,
            updated_at_ms=now,
            created_by=self.request["actor"],
        )
        self._put_tags("experiment", experiment, event["tags"])

    def _free_experiment_name(self, name: str) -> None:
        """Refuse a name that is taken, telling by whom."""
        holder = self._experiment_names.get(name)
        if holder is None:
            return
        taken = holder.row["experiment_id"]
        if self.request["experiment_id"] is None:
            self.request["experiment_id"] = taken
        if holder.row["deleted"]:
            raise Rejected(
                rules.EXISTS,
                f"Experiment(name={name}) already exists in deleted state (id={taken}). Restore "
                "it, or rename it after restoring it to free the name.",
            )
        raise Rejected(rules.EXISTS, f"Experiment(name={name}) already exists.")

    def _experiment(self, event: Event, deleted: bool | None = None) -> Entity:
        wanted = event["experiment_id"]
        experiment = self._experiments.get(wanted)
        if experiment is None or (deleted is not None and experiment.row["deleted"] != deleted):
            raise Rejected(rules.MISSING, f"No Experiment with id={wanted} exists")
        return experiment

    def _rename_experiment(self, event: Event) -> None:
        name = event["name"]
        rules.experiment_name(name)
        experiment = self._experiment(event)
        if experiment.row["deleted"]:
            raise Rejected(rules.INVALID, "Cannot rename a non-active experiment.")
        if name != experiment.row["name"]:
            self._free_experiment_name(name)
            del self._experiment_names[experiment.row["name"]]
            self._experiment_names[name] = experiment
            self.put("experiment", experiment, "name", None, name)
            self.update("experiment", experiment, name=name)
        self.touch("experiment", experiment)

    def _delete_experiment(self, event: Event) -> None:
        self._move_experiment(event, deleted=True)

    def _restore_experiment(self, event: Event) -> None:
        self._move_experiment(event, deleted=False)

    def _move_experiment(self, event: Event, *, deleted: bool) -> None:
        experiment = self._experiment(event, deleted=not deleted)
        lifecycle = "deleted" if deleted else "active"
        self.put("experiment", experiment, "lifecycle", None, lifecycle)
        self.update("experiment", experiment, deleted=deleted)
        self.touch("experiment", experiment)

    def _change_experiment_tags(self, event: Event) -> None:
        tags = event["tags"]
        rules.tags(tags, rules.EXPERIMENT_TAG_VALUE_MAX)
        experiment = self._experiment(event)
        wanted = experiment.row["experiment_id"]
        if experiment.row["deleted"]:
            raise Rejected(
                rules.INVALID,
                f"The experiment {wanted} must be in the 'active' state. Current state is deleted.",
            )
        for key, value in tags.items():
            if value is None and ("tag", key) not in experiment.open:
                raise Rejected(
                    rules.MISSING, f"No tag with name: {key} in experiment with id {wanted}"
                )
        self._put_tags("experiment", experiment, tags)

    # -- registered models ------------------------------------------------------------------

    def _create_model(self, event: Event) -> None:
        self._checked_new_model(event)

    def _import_model(self, event: Event) -> None:
        self.update("model", self._checked_new_model(event), **_told_times(event))

    def _checked_new_model(self, event: Event) -> Entity:
        name, tags = event["model"], event["tags"]
        rules.model_name(name)
        rules.description(event["description"])
        rules.tags(tags, rules.MODEL_TAG_VALUE_MAX)
        holder = self._models.get(name)
        if holder is not None:
            raise Rejected(rules.EXISTS, _name_is_taken(name, holder, tags))
        return self._add_model(name, event["description"], tags)

    def _add_model(self, name: str, description: str | None, tags: Mapping[str, str]) -> Entity:
        key = self.request["model_key"] = str(self.request["offset"])
        model = self._models[name] = self._models_by_key[key] = self.new(
            "model",
            {"model_key": key, "model": name, "description": description, "next_version": 1},
        )
        self.put("model", model, "name", None, name)
        if description is not None:
            self.put("model", model, "description", None, description)
        self._put_tags("model", model, tags)
        self.access.own("registered_model", key)
        return model

    def _model(self, event: Event) -> Entity:
        name = event["model"]
        rules.model_name(name)
        model = self._models.get(name)
        if model is None:
            raise Rejected(rules.MISSING, f"Registered Model with name={name} not found")
        return model

    def _update_model(self, event: Event) -> None:
        description = event["description"]
        rules.description(description)
        model = self._model(event)
        self.put("model", model, "description", None, description)
        self.update("model", model, description=description)
        self.touch("model", model)

    def _rename_model(self, event: Event) -> None:
        name = event["name"]
        rules.model_name(name, "new_name")
        model = self._model(event)
        old = model.row["model"]
        if name != old:
            if name in self._models:
                raise Rejected(rules.EXISTS, f"Registered Model (name={name}) already exists.")
            self._models[name] = self._models.pop(old)
            self.put("model", model, "name", None, name)
            self.update("model", model, model=name)
        self.touch("model", model)
        for version in model.versions.values():
            self.touch("model_version", version)

    def _delete_model(self, event: Event) -> None:
        model = self._model(event)
        for version in model.versions.values():
            self.end("model_version", version)
        self.end("model", model)
        self.access.forget("registered_model", model.row["model_key"])
        del self._models[model.row["model"]]
        del self._models_by_key[model.row["model_key"]]

    def _change_model_tags(self, event: Event) -> None:
        rules.tags(event["tags"], rules.MODEL_TAG_VALUE_MAX)
        self._put_tags("model", self._model(event), event["tags"])

    # -- aliases ----------------------------------------------------------------------------

    def _set_alias(self, event: Event) -> None:
        rules.model_name(event["model"])
        rules.new_alias(event["alias"])
        model, _ = self._version(event)
        self._expect_alias(model, event)
        self.put("alias", model, "alias", event["alias"], str(event["version"]))

    def _delete_alias(self, event: Event) -> None:
        rules.model_name(event["model"])
        rules.alias(event["alias"])
        model = self._model(event)
        self._expect_alias(model, event)
        points_at = model.alias(event["alias"])
        if points_at is not None:
            self.request["version"] = points_at
            self.remove(model, "alias", event["alias"])

    def _expect_alias(self, model: Entity, event: Event) -> None:
        expected = event["expected_version"]
        if expected is None:
            return
        found = model.alias(event["alias"])
        if found != (expected or None):
            raise Rejected(
                rules.CONFLICT,
                f"Registered model alias {event['alias']} of {event['model']} was expected to "
                f"{_pointing(expected or None)}, but it is found to {_pointing(found)}.",
            )

    # -- model versions ---------------------------------------------------------------------

    def _create_version(self, event: Event) -> None:
        name = event["model"]
        rules.model_name(name)
        if event["refusal"] is not None:
            raise Rejected(rules.INVALID, event["refusal"])
        rules.source(event["source"])
        rules.description(event["description"])
        rules.tags(event["tags"], rules.MODEL_TAG_VALUE_MAX)
        for alias in event["aliases"]:
            rules.new_alias(alias)
        if event["create_model"] and name not in self._models:
            model = self._add_model(name, None, {})
        else:
            model = self._model(event)
        number = model.row["next_version"]
        self._add_version(model, number, event)
        for alias in event["aliases"]:
            self.put("alias", model, "alias", alias, str(number))
        self.touch("model", model)

    def _import_version(self, event: Event) -> None:
        number = event["version"]
        rules.model_name(event["model"])
        rules.source(event["source"])
        rules.description(event["description"])
        rules.tags(event["tags"], rules.MODEL_TAG_VALUE_MAX)
        stage = rules.stage(event["stage"])
        model = self._model(event)
        following = model.row["next_version"]
        if number < following:
            raise Rejected(
                rules.CONFLICT,
                f"Model Version (name={event['model']}, version={number}) cannot be imported: "
                f"numbers below {following} are used up.",
            )
        if event["deleted"]:
            self.update("model", model, next_version=number + 1)
            return
        version = self._add_version(model, number, event)
        self.put("model_version", version, "stage", None, stage)
        self.update("model_version", version, stage=stage, **_told_times(event))

    def _add_version(self, model: Entity, number: int, event: Event) -> Entity:
        self.request["version"] = number
        version = model.versions[number] = self.new(
            "model_version",
            {
                "model_key": model.row["model_key"],
                "version": number,
                "stage": "None",
                "description": event["description"],
                "source": event["source"],
                "run_id": event["run_id"] or None,
                "model_id": event["model_id"] or None,
                "run_link": event["run_link"] or None,
            },
        )
        self.put("model_version", version, "stage", None, "None")
        if event["description"] is not None:
            self.put("model_version", version, "description", None, event["description"])
        self._put_tags("model_version", version, event["tags"])
        self.update("model", model, next_version=number + 1)
        return version

    def _version(self, event: Event) -> tuple[Entity, Entity]:
        name, number = event["model"], event["version"]
        rules.model_name(name)
        version = self.version(name, number)
        if version is None:
            raise Rejected(
                rules.MISSING, f"Model Version (name={name}, version={number}) not found"
            )
        return self._models[name], version

    def _update_version(self, event: Event) -> None:
        description = event["description"]
        rules.description(description)
        _, version = self._version(event)
        self.put("model_version", version, "description", None, description)
        self.update("model_version", version, description=description)
        self.touch("model_version", version)

    def _transition(self, event: Event) -> None:
        stage = rules.stage(event["stage"])
        expected = event["expected_stage"]
        if expected is not None:
            expected = rules.stage(expected)
        archive = event["archive_existing_versions"]
        if archive and stage not in rules.ACTIVE_STAGES:
            raise Rejected(
                rules.INVALID,
                "Model version transition cannot archive existing model versions because "
                f"'{event['stage']}' is not an Active stage. Valid stages are "
                f"{list(rules.ACTIVE_STAGES)}",
            )
        model, version = self._version(event)
        found = version.row["stage"]
        if expected is not None and expected != found:
            raise Rejected(
                rules.CONFLICT,
                f"Model Version (name={event['model']}, version={event['version']}) was expected "
                f"to be in stage {expected}, but it is found in stage {found}.",
            )
        if archive:
            for other in model.versions.values():
                if other is not version and other.row["stage"] == stage:
                    self._move(other, "Archived")
        self._move(version, stage)
        self.touch("model", model)

    def _move(self, version: Entity, stage: str) -> None:
        self.put("model_version", version, "stage", None, stage)
        self.update("model_version", version, stage=stage)
        self.touch("model_version", version)

    def _delete_version(self, event: Event) -> None:
        model, version = self._version(event)
        number = event["version"]
        text = str(number)
        pointing = [
            key
            for (attribute, key), i in model.open.items()
            if attribute == "alias" and i.value == text
        ]
        for alias in pointing:
            self.remove(model, "alias", alias)
        self.end("model_version", version)
        del model.versions[number]
        self.touch("model", model)

    def _change_version_tags(self, event: Event) -> None:
        rules.tags(event["tags"], rules.MODEL_TAG_VALUE_MAX)
        _, version = self._version(event)
        self._put_tags("model_version", version, event["tags"])


def _by_access(
    decide: Callable[[access.Access, Event], None],
) -> Callable[[RegistryProjection, Event], None]:
    return lambda registry, event: decide(registry.access, event)


def _by_webhooks(
    decide: Callable[[webhooks.Webhooks, Event], None],
) -> Callable[[RegistryProjection, Event], None]:
    return lambda registry, event: decide(registry._webhooks, event)


_DECISIONS: dict[str, Callable[[RegistryProjection, Event], None]] = {
    "ChangeExperimentTags": RegistryProjection._change_experiment_tags,
    "ChangeModelVersionTags": RegistryProjection._change_version_tags,
    "ChangeRegisteredModelTags": RegistryProjection._change_model_tags,
    "CreateExperiment": RegistryProjection._create_experiment,
    "CreateModelVersion": RegistryProjection._create_version,
    "CreateRegisteredModel": RegistryProjection._create_model,
    "DeleteExperiment": RegistryProjection._delete_experiment,
    "DeleteModelVersion": RegistryProjection._delete_version,
    "DeleteRegisteredModel": RegistryProjection._delete_model,
    "DeleteRegisteredModelAlias": RegistryProjection._delete_alias,
    "ImportExperiment": RegistryProjection._import_experiment,
    "ImportModelVersion": RegistryProjection._import_version,
    "ImportRegisteredModel": RegistryProjection._import_model,
    "RenameExperiment": RegistryProjection._rename_experiment,
    "RenameRegisteredModel": RegistryProjection._rename_model,
    "RestoreExperiment": RegistryProjection._restore_experiment,
    "SetRegisteredModelAlias": RegistryProjection._set_alias,
    "TransitionModelVersionStage": RegistryProjection._transition,
    "UpdateModelVersion": RegistryProjection._update_version,
    "UpdateRegisteredModel": RegistryProjection._update_model,
    **{type: _by_access(decide) for type, decide in access.DECISIONS.items()},
    **{type: _by_webhooks(decide) for type, decide in webhooks.DECISIONS.items()},
}


def _entity_of(type: str) -> str:
    if type in access.ENTITIES:
        return access.ENTITIES[type]
    if type in webhooks.DECISIONS:
        return "webhook"
    if "Experiment" in type:
        return "experiment"
    if "Alias" in type:
        return "alias"
    return "model_version" if "Version" in type else "model"


_ENTITIES = {type: _entity_of(type) for type in _DECISIONS}


def _told_times(event: Event) -> dict[str, int]:
    """The times of an imported entity, where the other tracker told them."""
    names = ("created_at_ms", "updated_at_ms")
    return {name: event[name] for name in names if event[name] is not None}


def _name_is_taken(name: str, holder: Entity, tags: Mapping[str, str]) -> str:
    """MLflow's message; prompts are registered models with a tag, and the message tells."""

    def word(is_prompt: str | None) -> str:
        return "Prompt" if (is_prompt or "").lower() == "true" else "Registered Model"

    tag = holder.open.get(("tag", _PROMPT))
    old, new = word(tag.value if tag else None), word(tags.get(_PROMPT))
    if old == new:
        return f"{new} (name={name}) already exists."
    return (
        f"Tried to create a {new.lower()} with name {name!r}, but the name is already taken by a "
        f"{old.lower()}. MLflow does not allow creating a model and a prompt with the same name."
    )


def _pointing(version: int | None) -> str:
    return "be unset" if version is None else f"point at version {version}"


def _uuid_text(value: bytes) -> str:
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _shown(envelope: Event) -> Event:
    """An envelope as the trail shows it: who knows a producer's id could pass for it."""
    return {name: value for name, value in envelope.items() if name != "producer_id"}


# Only the ids of the envelope are bytes.
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_uuid_text).encode


def _rows(con: duckdb.DuckDBPyConnection, query: str) -> Iterable[dict[str, Any]]:
    result = con.execute(query)
    names = [column[0] for column in result.description or ()]
    return (dict(zip(names, row, strict=True)) for row in result.fetchall())


def _columns(rows: list[dict[str, Any]], columns: Mapping[str, pa.DataType]) -> dict[str, pa.Array]:
    values = zip(*map(itemgetter(*columns), rows), strict=True)
    return {
        name: pa.array(column, type=type)
        for (name, type), column in zip(columns.items(), values, strict=True)
    }


def _insert(
    con: duckdb.DuckDBPyConnection,
    table: str,
    rows: list[dict[str, Any]],
    columns: Mapping[str, pa.DataType],
) -> None:
    if rows:
        tables.insert(con, table, _columns(rows, columns))
