"""Experiments: on the server, or named by their first run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
)
from mlflow.utils.validation import (
    _validate_experiment_name,
)

from modeltrail.producers.mlflow_plugin import entities
from modeltrail.producers.mlflow_plugin.base import BaseStore
from modeltrail.producers.mlflow_plugin.known import (
    KnownExperiment,
    experiment,
)


class Experiments(BaseStore):
    """The methods of the tracking store for experiments."""

    def get_experiment(self, experiment_id: str) -> Any:
        """Return an experiment, from the server or as far as this process knows."""
        found = self.from_server("get_experiment", str(experiment_id), missing=True)
        if found is not None:
            return self._note(found)
        known = self.known.experiment(str(experiment_id))
        if known is None:
            self.server.require()
            raise MlflowException(
                f"No Experiment with id={experiment_id} exists", RESOURCE_DOES_NOT_EXIST
            )
        return entities.experiment_of(self.known.note(known))

    def get_experiment_by_name(self, experiment_name: str) -> Any:
        """Return an experiment, or None.

        Without a server every name has one, which a run may use.
        """
        if self.server.answers:
            found = self.from_server("get_experiment_by_name", experiment_name, missing=True)
            if found is not None:
                return self._note(found)
            if self.server.answers:
                return None
        _validate_experiment_name(experiment_name)
        known = self.known.named(experiment_name) or experiment(experiment_name)
        return entities.experiment_of(self.known.note(known))

    def _note(self, found: Any) -> Any:
        self.known.note(
            KnownExperiment(
                found.experiment_id, found.name, found.artifact_location or "", from_server=True
            )
        )
        return found

    def create_experiment(
        self,
        name: str,
        artifact_location: str | None = None,
        tags: Sequence[Any] | None = None,
    ) -> str:
        """Create an experiment: on the server, or by its name in its first run."""
        _validate_experiment_name(name)
        if self.server.answers:
            return str(self.rest.create_experiment(name, artifact_location, tags))
        if artifact_location or tags:
            self.server.require()
        if name in self.known.created:
            raise MlflowException(f"Experiment '{name}' already exists.", RESOURCE_ALREADY_EXISTS)
        self.known.created.add(name)
        return self.known.note(self.known.named(name) or experiment(name)).experiment_id
