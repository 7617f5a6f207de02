"""Logged models of MLflow 3, each written by its own writer, like a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
)
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.name_utils import _generate_random_name

from modeltrail.producers.mlflow_plugin import entities
from modeltrail.producers.mlflow_plugin.base import BaseStore
from modeltrail.producers.mlflow_plugin.known import (
    KnownModel,
)
from modeltrail.producers.run import Run, new_run_id
from modeltrail.schemas import now_ms

_BAD_IN_NAMES = ("/", ":", ".", "%", '"', "'")
_BY_NAME = re.compile(r"\s*name\s*=\s*'([^']*)'\s*")


class ModelWriter(Run):
    """Writes the events of a logged model, like ``Run`` those of a run."""

    _subject = "model_id"


class LoggedModels(BaseStore):
    """The methods of the tracking store for logged models."""

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Sequence[Any] | None = None,
        params: Sequence[Any] | None = None,
        model_type: str | None = None,
    ) -> Any:
        """Create a logged model that is waiting for its files."""
        name = name or _generate_random_name()
        if any(character in name for character in _BAD_IN_NAMES):
            raise MlflowException(
                f"Invalid model name ({name!r}) provided. Model name must be a non-empty string "
                f"and cannot contain the following characters: {_BAD_IN_NAMES}",
                error_code=INVALID_PARAMETER_VALUE,
            )
        model_id = f"m-{new_run_id()}"
        with self.known.lock:
            run = self.known.runs.get(source_run_id or "")
            writer = ModelWriter(
                model_id, self.settings, user=run.user if run else None, owner=False
            )
            writer.managed = True
            now = now_ms()
            model = KnownModel(
                writer,
                model_id,
                str(experiment_id),
                f"{self.location(str(experiment_id)).rstrip('/')}/models/{model_id}/artifacts",
                name,
                source_run_id or None,
                model_type or None,
                created_at_ms=now,
                updated_at_ms=now,
                tags=_pairs(tags),
                params=_pairs(params),
            )
            writer.record(
                "LoggedModelCreated",
                {
                    "experiment_id": model.experiment_id,
                    "name": name,
                    "model_type": model.model_type,
                    "source_run_id": model.source_run_id,
                    "artifact_location": model.location,
                    "params": dict(model.params),
                    "tags": dict(model.tags),
                },
                sum(map(len, model.params.values())),
            )
            self.known.models.put(model_id, model)
            return entities.model_of(model)

    def writable_model(self, model_id: str) -> KnownModel:
        """Return a logged model to write to."""
        known = self.known.models.get(model_id)
        if known is not None:
            return known
        self.server.require()
        found = self.rest.get_logged_model(model_id)
        writer = ModelWriter(model_id, self.settings, user=None, owner=False)
        writer.managed = True
        known = KnownModel(
            writer,
            model_id,
            found.experiment_id,
            found.artifact_location,
            found.name,
            found.source_run_id,
            found.model_type,
            str(found.status),
            found.creation_timestamp,
            found.last_updated_timestamp,
            dict(found.tags or {}),
            dict(found.params or {}),
        )
        self.known.models.put(model_id, known)
        return known

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> Any:
        """Return a logged model: from the server, or else what this process knows about it."""
        known = self.known.models.get(model_id)
        if known is None:
            self.server.require()
            return self.rest.get_logged_model(model_id, allow_deleted)
        found = self.from_server("get_logged_model", model_id, allow_deleted, missing=True)
        if found is not None and known.writer.flush(0):
            return found
        return entities.model_of(known)

    def finalize_logged_model(self, model_id: str, status: Any) -> Any:
        """Record that all files of a model are stored, or that storing them failed."""
        model = self.writable_model(model_id)
        with self.known.lock:
            model.status, model.updated_at_ms = str(getattr(status, "value", status)), now_ms()
            model.writer.record("LoggedModelUpdated", {"status": model.status})
            return entities.model_of(model)

    def set_logged_model_tags(self, model_id: str, tags: Sequence[Any]) -> None:
        """Set tags of a logged model."""
        model = self.writable_model(model_id)
        with self.known.lock:
            values = _pairs(tags)
            model.tags |= values
            if values:
                model.writer.record("LoggedModelUpdated", {"tags": values})

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        """Delete a tag of a logged model. The tag must exist."""
        model = self.writable_model(model_id)
        with self.known.lock:
            if model.tags.pop(key, None) is None:
                raise MlflowException(
                    f"No tag with key {key!r} found for model with ID {model_id!r}.",
                    error_code=RESOURCE_DOES_NOT_EXIST,
                )
            model.writer.record("LoggedModelUpdated", {"tags": {key: None}})

    def log_logged_model_params(self, model_id: str, params: Sequence[Any]) -> None:
        """Log params of a logged model. The first value of each param stays."""
        model = self.writable_model(model_id)
        with self.known.lock:
            new = {k: v for k, v in _pairs(params).items() if k not in model.params}
            model.params |= new
            if new:
                model.writer.record("LoggedModelUpdated", {"params": new})

    def search_logged_models(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None = None,
        *args: Any,
        **options: Any,
    ) -> Any:
        """Search the logged models of the server.

        Without a server, only a search by name is answered, from this process's own models: MLflow
        uses it to list a run's artifacts. Any other search raises.
        """
        by_name = _BY_NAME.fullmatch(filter_string or "")
        if by_name is None or self.server.answers:
            self.server.require()
            return self.rest.search_logged_models(experiment_ids, filter_string, *args, **options)
        with self.known.lock:
            found = [
                entities.model_of(model)
                for model in self.known.models.all()
                if model.name == by_name[1] and model.experiment_id in experiment_ids
            ]
        return PagedList(found, None)


def _pairs(items: Iterable[Any] | None) -> dict[str, str]:
    return {item.key: str(item.value) for item in items or ()}
