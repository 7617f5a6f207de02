"""Logged models: compare them with the fold, and make the missing events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from modeltrail.api.importing.destinations import Destination, rows
from modeltrail.api.importing.entities import LoggedModel
from modeltrail.api.importing.runs import Event, fitting
from modeltrail.consumers.reading import sql


@dataclass(slots=True)
class ModelHere:
    """A logged model in the fold."""

    name: str
    status: str
    deleted: bool
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class LoggedModelsHere:
    """The logged models of one experiment of the source, and those here."""

    def __init__(self, destination: Destination, found: list[LoggedModel]) -> None:
        self.found = found
        self._destination = destination
        self.here = self._read()

    def _read(self) -> dict[str, ModelHere]:
        ids = [[model.model_id for model in self.found]]
        if not self.found:
            return {}
        here = {
            model_id: ModelHere(name, status, deleted)
            for model_id, name, status, deleted in rows(
                self._destination, sql("imports.logged_models"), ids
            )
        }
        among = "(SELECT unnest(?::VARCHAR[]))"
        for kind, query in (
            ("params", "logged_models.params_of"),
            ("tags", "logged_models.tags_of"),
        ):
            for model_id, key, value in rows(self._destination, sql(query, ids=among), ids):
                if model_id in here:
                    getattr(here[model_id], kind)[key] = value
        return here

    def missing(self, model: LoggedModel, experiment_id: str) -> Iterator[Event]:
        """Return the missing events of a model. ``location`` is that of its files here."""
        here = self.here.get(model.model_id)
        params, tags = fitting(model.params), fitting(model.tags)
        if here is None:
            fields: dict[str, Any] = {
                "experiment_id": experiment_id,
                "name": model.name,
                "model_type": model.model_type,
                "source_run_id": model.source_run_id,
                "artifact_location": model.artifact_location,
                "status": model.status,
                "status_message": model.status_message,
                "params": params,
                "tags": tags,
                "created_at_ms": model.created_at_ms,
                "updated_at_ms": model.updated_at_ms,
            }
            yield "LoggedModelImported", model.created_at_ms, fields
        else:
            changes: dict[str, Any] = {}
            if model.status != here.status:
                changes |= {"status": model.status, "status_message": model.status_message}
            new_params = {k: v for k, v in params.items() if k not in here.params}
            new_tags = {k: v for k, v in tags.items() if here.tags.get(k) != v}
            if new_params:
                changes["params"] = new_params
            if new_tags:
                changes["tags"] = new_tags
            if changes:
                yield "LoggedModelUpdated", None, changes
        if model.deleted and (here is None or not here.deleted):
            yield "LoggedModelDeleted", model.updated_at_ms, {}

    def differences(self) -> Iterator[str]:
        """Return how a model differs from the source, after the events were appended."""
        here = self._read()
        for model in self.found:
            one = here.get(model.model_id)
            what = f"logged model {model.model_id}"
            if one is None:
                yield f"{what} is not here"
                continue
            for name, same in (
                ("name", one.name == model.name),
                ("status", one.status == model.status),
                ("lifecycle", one.deleted == model.deleted),
                ("params", model.params.items() <= one.params.items()),
                ("tags", model.tags.items() <= one.tags.items()),
            ):
                if not same:
                    yield f"{what}: its {name} differ"
