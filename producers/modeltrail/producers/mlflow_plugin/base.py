"""Base of the tracking store: what this process knows, and the server to ask."""

from __future__ import annotations

import logging
import os
from http import HTTPStatus
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
)
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.validation import (
    _validate_run_id,
)

from modeltrail.producers import process
from modeltrail.producers.mlflow_plugin import lifetime
from modeltrail.producers.mlflow_plugin.address import parse_address
from modeltrail.producers.mlflow_plugin.known import (
    Known,
    KnownRun,
)
from modeltrail.producers.mlflow_plugin.server import Server
from modeltrail.producers.run import Run
from modeltrail.producers.settings import read_settings

logger = logging.getLogger("modeltrail")


class BaseStore(AbstractStore):  # type: ignore[misc]  # MLflow ships no types
    """A tracking store without MLflow's methods."""

    def __init__(self, store_uri: str) -> None:
        """Make a store; nothing is opened yet. ``store_uri`` is the tracking URI."""
        super().__init__()
        address = parse_address(store_uri)
        settings = read_settings(address.target)
        token = settings.token or os.environ.get("MLFLOW_TRACKING_TOKEN") or None
        server = address.server or settings.server
        self.settings = settings._replace(artifacts=settings.artifacts or server, token=token)
        self.known = Known()
        self.server = Server(address, self.flush)
        self.rest = RestStore(self.server.creds)
        self.exiting = False
        """True once the interpreter exits."""
        self._warned = False
        lifetime.remember(self)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything logged is delivered. Does not wait while deliveries fail."""
        marks = [(run, run.mark()) for run in list(process.current().open_runs.values())]

        def over() -> bool:
            return all(mark is None or run.delivered(mark) or run.stuck for run, mark in marks)

        process.wait_until(over, timeout_s)
        return all(mark is None or run.delivered(mark) for run, mark in marks)

    def from_server(self, name: str, *args: Any, missing: bool = False) -> Any:
        """Return the server's answer, or None if it has none.

        Args:
            name: The method of MLflow's REST store.
            args: Its arguments.
            missing: Whether the object may not be on the server yet. Otherwise a refusal raises.
        """
        if not self.server.answers:
            return None
        try:
            return getattr(self.rest, name)(*args)
        except MlflowException as error:
            if not missing and error.get_http_status_code() < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                self.warn_away(error)
            return None

    def warn_away(self, error: MlflowException) -> None:
        """Warn once that the server did not answer."""
        if not self._warned:
            self._warned = True
            logger.warning("answered from what this process knows, not by the server: %s", error)

    def writable_run(self, run_id: str) -> KnownRun:
        """Return a run to log to. Raises ``MlflowException`` if it is known not to exist."""
        run = self.known.runs.get(run_id)
        if run is None:
            run = self.adopt_run(run_id)
        if run.deleted:
            raise MlflowException(
                f"The run {run_id} must be in the 'active' state. Current state is deleted.",
                error_code=INVALID_PARAMETER_VALUE,
            )
        return run

    def adopt_run(self, run_id: str) -> KnownRun:
        """Return a run that another process started. If a server answers, it must know the run."""
        _validate_run_id(run_id)
        found = self.from_server("get_run", run_id)
        with self.known.lock:
            known = self.known.runs.get(run_id)
            if known is not None:
                return known
            known = self.new_run(run_id, owner=False)
            if found is not None:
                info = found.info
                known.experiment_id, known.user = info.experiment_id, info.user_id or ""
                known.name, known.status = info.run_name or "", info.status
                known.started_at_ms, known.ended_at_ms = info.start_time, info.end_time
                known.deleted = info.lifecycle_stage == "deleted"
                known.params, known.tags = dict(found.data.params), dict(found.data.tags)
                known.experiment_location = str(info.artifact_uri).removesuffix(
                    f"/{run_id}/artifacts"
                )
            self.known.runs.put(run_id, known)
            return known

    def new_run(self, run_id: str, *, owner: bool, user: str | None = None) -> KnownRun:
        """Return a run with a writer of this process, in the experiment chosen last."""
        writer = Run(run_id, self.settings, user=user or None, owner=owner)
        writer.managed = True
        experiment_id = self.known.last_experiment_id
        return KnownRun(writer, owner, experiment_id, self.location(experiment_id))

    def location(self, experiment_id: str) -> str:
        """Return the URI under which the runs of an experiment store their artifacts."""
        found = self.known.experiment(experiment_id)
        return found.location if found else f"mlflow-artifacts:/{experiment_id}"
