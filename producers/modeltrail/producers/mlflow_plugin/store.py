"""The tracking store: writes go to the producers, reads to a server or to what is known here.

A write checks what it is given as MLflow's own stores do, and raises for that only. A read asks the
server if one answers. What MLflow reads while training (the process's own runs, logged models and
experiments) is answered from what was logged here where none does; all else raises and says so.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
)
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracking import fluent
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.validation import (
    _validate_batch_log_data,
    _validate_batch_log_limits,
    _validate_experiment_name,
    _validate_metric,
    _validate_param,
    _validate_run_id,
    _validate_tag,
)

from modeltrail.producers import process
from modeltrail.producers.buffer import Mark, Series
from modeltrail.producers.mlflow_plugin import entities
from modeltrail.producers.mlflow_plugin.address import parse_address
from modeltrail.producers.mlflow_plugin.known import (
    Known,
    KnownExperiment,
    KnownModel,
    KnownRun,
    Metric,
    Point,
    experiment,
)
from modeltrail.producers.mlflow_plugin.server import Server
from modeltrail.producers.run import Run, new_run_id
from modeltrail.producers.settings import read_settings

logger = logging.getLogger("modeltrail")

_RUN_NAME = "mlflow.runName"
_PARENT = "mlflow.parentRunId"
_LOGGED_MODELS = "mlflow.log-model.history"
_MODELS_KEPT_MAX = 1_000
_WRITE_WAIT_S = 1.0
_ENDED = ("FINISHED", "FAILED", "KILLED")
_BAD_IN_MODEL_NAMES = ("/", ":", ".", "%", '"', "'")


class ModelWriter(Run):
    """Writes the events of a logged model as those of a run are written."""

    _subject = "model_id"


def _asks_server(name: str) -> Callable[..., Any]:
    def ask(self: TrackingStore, *args: Any, **options: Any) -> Any:
        self.server.require()
        return getattr(self._rest, name)(*args, **options)

    ask.__name__ = name
    ask.__doc__ = f"Ask the server; see MLflow's ``RestStore.{name}``."
    return ask


class TrackingStore(AbstractStore):  # type: ignore[misc]  # MLflow ships no types
    """What MLflow calls. Every method may be called from any thread."""

    def __init__(self, store_uri: str) -> None:
        """Open nothing yet; ``store_uri`` is the tracking URI."""
        super().__init__()
        address = parse_address(store_uri)
        settings = read_settings(address.target)
        server = address.server or settings.server
        self.settings = settings._replace(artifacts=settings.artifacts or server)
        self.known = Known()
        self.server = Server(address, self.flush)
        self._rest = RestStore(self.server.creds)
        self._ending: deque[tuple[Run, Mark]] = deque()
        self._exiting = False
        self._warned = False
        _stores.append(self)

    # What is known here

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was logged is delivered; not at all while deliveries fail."""
        marks = [(run, run.mark()) for run in list(process.current().open_runs.values())]

        def over() -> bool:
            return all(mark is None or run.delivered(mark) or run.stuck for run, mark in marks)

        process.wait_until(over, timeout_s)
        return all(mark is None or run.delivered(mark) for run, mark in marks)

    def _from_server(self, name: str, *args: Any, missing: bool = False) -> Any:
        """What the server says; None where it is away, or does not know yet what is known here."""
        if not self.server.answers:
            return None
        try:
            return getattr(self._rest, name)(*args)
        except MlflowException as error:
            unknown = error.error_code == "RESOURCE_DOES_NOT_EXIST"
            if unknown and not missing:
                raise
            if not unknown:
                self._warn_away(error)
            return None

    def _warn_away(self, error: MlflowException) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("answered from what this process knows, not by the server: %s", error)

    def _writable(self, run_id: str) -> KnownRun:
        """A run to log to; raises ``MlflowException`` where it is known to be none."""
        run = self.known.runs.get(run_id)
        if run is None:
            run = self._adopt(run_id)
        if run.deleted:
            raise MlflowException(
                f"The run {run_id} must be in the 'active' state. Current state is deleted.",
                error_code=INVALID_PARAMETER_VALUE,
            )
        return run

    def _adopt(self, run_id: str) -> KnownRun:
        """A run that another process started. Where a server answers, it must know the run."""
        _validate_run_id(run_id)
        found = self._from_server("get_run", run_id)
        with self.known.lock:
            known = self.known.runs.get(run_id)
            if known is not None:
                return known
            known = self._new_run(run_id, owner=False)
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

    def _new_run(self, run_id: str, *, owner: bool, user: str | None = None) -> KnownRun:
        writer = Run(run_id, self.settings, user=user or None, owner=owner)
        writer.managed = True
        experiment_id = self.known.last_experiment_id
        return KnownRun(writer, owner, experiment_id, self._location(experiment_id))

    def _location(self, experiment_id: str) -> str:
        found = self.known.experiment(experiment_id)
        return found.location if found else f"mlflow-artifacts:/{experiment_id}"

    # Experiments

    def get_experiment(self, experiment_id: str) -> Any:
        """An experiment, from the server or as far as this process knows."""
        found = self._from_server("get_experiment", str(experiment_id), missing=True)
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
        """An experiment, or None. Without a server each name has one: a run may just name it."""
        if self.server.answers:
            found = self._from_server("get_experiment_by_name", experiment_name, missing=True)
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
        """Create an experiment: on the server, or by its name in the first run that is in it."""
        _validate_experiment_name(name)
        if self.server.answers:
            return str(self._rest.create_experiment(name, artifact_location, tags))
        if artifact_location or tags:
            self.server.require()
        if name in self.known.created:
            raise MlflowException(f"Experiment '{name}' already exists.", RESOURCE_ALREADY_EXISTS)
        self.known.created.add(name)
        return self.known.note(self.known.named(name) or experiment(name)).experiment_id

    # Runs

    def create_run(
        self,
        experiment_id: str,
        user_id: str,
        start_time: int | None,
        tags: Iterable[Any],
        run_name: str | None,
    ) -> Any:
        """Start a run. Returns at once; whether the log or a server can be reached is no matter."""
        values = {}
        for tag in tags or ():
            checked = _validate_tag(tag.key, tag.value)
            values[checked.key] = "" if checked.value is None else str(checked.value)
        tag_name = values.pop(_RUN_NAME, "")
        if run_name and tag_name and run_name != tag_name:
            raise MlflowException(
                "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with "
                f"different values (run_name='{run_name}', mlflow.runName='{tag_name}').",
                error_code=INVALID_PARAMETER_VALUE,
            )
        with self.known.lock:
            self._forget_ended()
            run = self._new_run(new_run_id(), owner=True, user=user_id)
            run.experiment_id = str(experiment_id)
            run.experiment_location = self._location(run.experiment_id)
            run.user = user_id or ""
            run.name = run_name or tag_name or _generate_random_name()
            run.tags = values
            run.started_at_ms = start_time or _now_ms()
            known = self.known.experiment(run.experiment_id)
            # By its name where nobody said that the experiment exists: the server makes it then.
            named = known is not None and not known.from_server
            run.writer.begin(
                experiment_name=known.name if known is not None and named else None,
                experiment_id=None if named else run.experiment_id,
                name=run.name,
                parent_run_id=values.get(_PARENT) or None,
                started_at_ms=run.started_at_ms,
                tags=values,
            )
            self.known.runs.put(run.writer.run_id, run)
        _end_runs_at_exit()
        return entities.run_of(run)

    def get_run(self, run_id: str) -> Any:
        """A run: from the server, else what this process knows of it."""
        known = self.known.runs.get(run_id)
        found = self._from_server("get_run", run_id, missing=known is not None)
        if found is not None and (known is None or self._delivered(known)):
            return found
        with self.known.lock:
            return entities.run_of(known or self._adopt(run_id))

    def _delivered(self, run: KnownRun) -> bool:
        mark = run.writer.mark()
        if mark is None:
            return True
        process.wait_until(
            lambda: run.writer.delivered(mark) or run.writer.stuck, self.settings.read_timeout_s
        )
        return run.writer.delivered(mark)

    def update_run_info(
        self, run_id: str, run_status: Any, end_time: int | None, run_name: str | None
    ) -> Any:
        """Change a run's status, end or name. Ending one waits for the local disk, not the log."""
        with self.known.lock:
            run = self._writable(run_id)
            if self._exiting and not run.writer.owner:
                # A forked child may inherit active runs, and MLflow would end them as it exits.
                return entities.info_of(run)
            if run_name:
                run.name = run_name
            status = None if run_status is None else RunStatus.to_string(run_status)
            if status in _ENDED:
                if run_name:
                    run.writer.record("RunUpdated", {"name": run_name})
                self._end(run, status, end_time or _now_ms())
            elif status == "RUNNING":
                run.writer.resume(run_name)
                run.status, run.ended_at_ms, run.readable = status, None, True
                _end_runs_at_exit()
            elif status is not None or run_name or end_time is not None:
                fields = {"name": run_name, "status": status, "ended_at_ms": end_time}
                run.writer.record("RunUpdated", fields)
                run.status = status or run.status
                run.ended_at_ms = end_time if end_time is not None else run.ended_at_ms
            return entities.info_of(run)

    def _end(self, run: KnownRun, status: str, ended_at_ms: int) -> None:
        writer = run.writer
        run.status, run.ended_at_ms = status, ended_at_ms
        if writer.owner and not writer.finished:
            writer.end(status, ended_at_ms=ended_at_ms)
        else:
            fields = {"status": status, "ended_at_ms": ended_at_ms, "message": None}
            writer.record("RunEnded", fields, force=True)
        mark = writer.mark()
        if mark is not None:
            self._ending.append((writer, mark))
            process.wait_until(lambda: mark.appended is not None, _WRITE_WAIT_S)

    def _forget_ended(self) -> None:
        """Let go of ended runs that were delivered."""
        while self._ending and self._ending[0][0].delivered(self._ending[0][1]):
            self._ending.popleft()

    def delete_run(self, run_id: str) -> None:
        """Move a run to the deleted ones."""
        with self.known.lock:
            run = self._writable(run_id)
            run.deleted = True
            run.writer.record("RunDeleted", {})

    def restore_run(self, run_id: str) -> None:
        """Bring a deleted run back."""
        with self.known.lock:
            run = self.known.runs.get(run_id) or self._adopt(run_id)
            run.deleted = False
            run.writer.record("RunRestored", {})

    # Logging

    def log_metric(self, run_id: str, metric: Any) -> None:
        """Log one point, in microseconds."""
        _validate_metric(metric.key, metric.value, metric.timestamp, metric.step)
        self._add_metric(self._writable(run_id), metric)

    def _add_metric(self, run: KnownRun, metric: Any) -> None:
        key = metric.key
        point = Point(int(metric.step or 0), int(metric.timestamp), float(metric.value))
        series: str | Series = key
        if entities.HAS_MODELS and (metric.model_id or metric.dataset_name):
            series = Series(
                key, metric.model_id or None, metric.dataset_name or None,
                metric.dataset_digest or None,
            )  # fmt: skip
            point = Point(*point[:3], *series[1:])
            self._add_to_model(run, key, point)
        known = run.metrics.get(key)
        if known is None:
            known = run.metrics.setdefault(key, Metric(point))
        known.add(point)
        run.writer.log_point(series, point.value, point.step, point.timestamp_ms)

    def _add_to_model(self, run: KnownRun, key: str, point: Point) -> None:
        model = self.known.models.get(point.model_id or "")
        if model is not None:
            model.metrics.append((run.writer.run_id, key, point))
            del model.metrics[:-_MODELS_KEPT_MAX]

    def log_param(self, run_id: str, param: Any) -> None:
        """Log a param; another value than the one that this process knows is refused."""
        checked = _validate_param(param.key, param.value)
        self._add_params(self._writable(run_id), {checked.key: str(checked.value)})

    def _add_params(self, run: KnownRun, params: dict[str, str]) -> None:
        with self.known.lock:
            for key, value in params.items():
                before = run.params.get(key, value)
                if before != value:
                    raise MlflowException(
                        "Changing param values is not allowed. Param with "
                        f"key='{key}' was already logged with value='{before}' for run "
                        f"ID='{run.writer.run_id}'. Attempted logging new value '{value}'.",
                        error_code=INVALID_PARAMETER_VALUE,
                    )
            new = {key: value for key, value in params.items() if key not in run.params}
            run.params |= new
            if new:
                run.writer.log_params(new)

    def set_tag(self, run_id: str, tag: Any) -> None:
        """Set a tag of a run."""
        checked = _validate_tag(tag.key, tag.value)
        self._add_tags(self._writable(run_id), {checked.key: str(checked.value)})

    def _add_tags(self, run: KnownRun, tags: dict[str, str]) -> None:
        with self.known.lock:
            name = tags.pop(_RUN_NAME, "")
            if name:  # kept once, so that name and tag cannot differ
                run.name = name
                run.writer.record("RunUpdated", {"name": name})
            run.tags |= tags
            if tags:
                run.writer.set_tags(tags)

    def delete_tag(self, run_id: str, key: str) -> None:
        """Delete a tag, which must be there as far as this process can tell."""
        with self.known.lock:
            run = self._writable(run_id)
            if key == _RUN_NAME:
                raise MlflowException(
                    f"Tag '{key}' is the run's name; it can be changed, not deleted.",
                    error_code=INVALID_PARAMETER_VALUE,
                )
            if key not in run.tags:
                found = self._from_server("get_run", run_id, missing=True)
                if found is None or key not in found.data.tags:
                    raise MlflowException(
                        f"No tag with name: {key} in run with id {run_id}",
                        error_code=RESOURCE_DOES_NOT_EXIST,
                    )
            run.tags.pop(key, None)
            run.writer.delete_tag(key)

    def log_batch(
        self, run_id: str, metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]
    ) -> None:
        """Log metrics, params and tags; of a batch that is refused, nothing is logged."""
        _validate_run_id(run_id)
        checked = _validate_batch_log_data(metrics, params, tags)
        if checked is not None:
            metrics, params, tags = checked
        _validate_batch_log_limits(metrics, params, tags)
        run = self._writable(run_id)
        self._add_params(run, {param.key: str(param.value) for param in params})
        for metric in metrics:
            self._add_metric(run, metric)
        self._add_tags(run, {tag.key: str(tag.value) for tag in tags})

    def log_inputs(
        self,
        run_id: str,
        datasets: Sequence[Any] | None = None,
        models: Sequence[Any] | None = None,
    ) -> None:
        """Log datasets and logged models that a run used."""
        _validate_run_id(run_id)
        run = self._writable(run_id)
        for used in datasets or ():
            dataset = used.dataset
            fields = {
                "name": dataset.name,
                "digest": dataset.digest,
                "source_type": dataset.source_type,
                "source": dataset.source,
                "schema": dataset.schema,
                "profile": dataset.profile,
                "tags": {tag.key: tag.value for tag in used.tags or ()},
            }
            run.datasets.append(fields)
            size = len(dataset.schema or "") + len(dataset.profile or "")
            run.writer.record("DatasetsLogged", {"datasets": [fields]}, size)
        inputs = [model.model_id for model in models or ()]
        if inputs:
            run.inputs += inputs
            run.writer.record("RunModelsLogged", {"inputs": inputs})

    def log_outputs(self, run_id: str, models: Sequence[Any]) -> None:
        """Log which logged models a run made."""
        _validate_run_id(run_id)
        run = self._writable(run_id)
        outputs = [(model.model_id, int(model.step or 0)) for model in models]
        if outputs:
            run.outputs += outputs
            listed = [{"model_id": model_id, "step": step} for model_id, step in outputs]
            run.writer.record("RunModelsLogged", {"outputs": listed})

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Add a model to the tag in which MLflow 2 lists those of a run."""
        model = mlflow_model.get_tags_dict()
        with self.known.lock:
            run = self._writable(run_id)
            history = []
            with contextlib.suppress(ValueError):
                history = json.loads(run.tags.get(_LOGGED_MODELS, "[]"))
            self._add_tags(run, {_LOGGED_MODELS: json.dumps([*history, model])})

    def get_metric_history(
        self,
        run_id: str,
        metric_key: str,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> Any:
        """A metric's points: from the server, else the last ones that this process logged."""
        known = self.known.runs.get(run_id)
        if known is None:
            self.server.require()
        if self.server.answers and (known is None or self._delivered(known)):
            try:
                return self._rest.get_metric_history(run_id, metric_key, max_results, page_token)
            except MlflowException as error:
                if known is None or not known.readable:
                    raise
                self._warn_away(error)
        if known is None or not known.readable:
            self.server.require()
            return PagedList([], None)
        metric = known.metrics.get(metric_key)
        if metric is None:
            return PagedList([], None)
        if metric.logged > len(metric.points):
            logger.warning(
                "of metric %r only the last %d points are known without a server",
                metric_key,
                len(metric.points),
            )
        points = sorted(metric.points, key=lambda p: (p.timestamp_ms, p.step, p.value))
        return PagedList([entities.metric_of(run_id, metric_key, p) for p in points], None)

    # Logged models

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Sequence[Any] | None = None,
        params: Sequence[Any] | None = None,
        model_type: str | None = None,
    ) -> Any:
        """Create a logged model, which waits for its files."""
        name = name or _generate_random_name()
        if any(character in name for character in _BAD_IN_MODEL_NAMES):
            raise MlflowException(
                f"Invalid model name ({name!r}) provided. Model name must be a non-empty string "
                f"and cannot contain the following characters: {_BAD_IN_MODEL_NAMES}",
                error_code=INVALID_PARAMETER_VALUE,
            )
        model_id = f"m-{new_run_id()}"
        with self.known.lock:
            run = self.known.runs.get(source_run_id or "")
            writer = ModelWriter(
                model_id, self.settings, user=run.user if run else None, owner=False
            )
            writer.managed = True
            now = _now_ms()
            model = KnownModel(
                writer,
                model_id,
                str(experiment_id),
                f"{self._location(str(experiment_id)).rstrip('/')}/models/{model_id}/artifacts",
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

    def _model(self, model_id: str) -> KnownModel:
        """A logged model to write to."""
        known = self.known.models.get(model_id)
        if known is not None:
            return known
        self.server.require()
        found = self._rest.get_logged_model(model_id)
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
        """A logged model: from the server, else what this process knows of it."""
        known = self.known.models.get(model_id)
        if known is None:
            self.server.require()
            return self._rest.get_logged_model(model_id, allow_deleted)
        found = self._from_server("get_logged_model", model_id, allow_deleted, missing=True)
        if found is not None and known.writer.flush(0):
            return found
        return entities.model_of(known)

    def finalize_logged_model(self, model_id: str, status: Any) -> Any:
        """Say that the files of a model are all there, or that they never will be."""
        with self.known.lock:
            model = self._model(model_id)
            model.status, model.updated_at_ms = str(getattr(status, "value", status)), _now_ms()
            model.writer.record("LoggedModelUpdated", {"status": model.status})
            return entities.model_of(model)

    def set_logged_model_tags(self, model_id: str, tags: Sequence[Any]) -> None:
        """Set tags of a logged model."""
        with self.known.lock:
            model = self._model(model_id)
            values = _pairs(tags)
            model.tags |= values
            if values:
                model.writer.record("LoggedModelUpdated", {"tags": values})

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        """Delete a tag of a logged model, which must be there."""
        with self.known.lock:
            model = self._model(model_id)
            if model.tags.pop(key, None) is None:
                raise MlflowException(
                    f"No tag with key {key!r} found for model with ID {model_id!r}.",
                    error_code=RESOURCE_DOES_NOT_EXIST,
                )
            model.writer.record("LoggedModelUpdated", {"tags": {key: None}})

    def log_logged_model_params(self, model_id: str, params: Sequence[Any]) -> None:
        """Log params of a logged model; the first value of each stands."""
        with self.known.lock:
            model = self._model(model_id)
            new = {k: v for k, v in _pairs(params).items() if k not in model.params}
            model.params |= new
            if new:
                model.writer.record("LoggedModelUpdated", {"params": new})

    def _search_runs(self, *args: Any, **options: Any) -> Any:
        self.server.require()
        return self._rest._search_runs(*args, **options)


def _pairs(items: Iterable[Any] | None) -> dict[str, str]:
    return {item.key: str(item.value) for item in items or ()}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# All that is not above is asked of the server; asynchronous logging goes through ``log_batch``.
for _name in dir(AbstractStore):
    if (
        not _name.startswith("_")
        and not _name.endswith(("_async", "_async_logging"))
        and _name not in vars(TrackingStore)
        and callable(getattr(RestStore, _name, None))
        and _name != "search_runs"
    ):
        setattr(TrackingStore, _name, _asks_server(_name))


_stores: list[TrackingStore] = []
_ends_runs = False


def _end_runs_at_exit() -> None:
    """End MLflow's active runs before the producers flush, which is before MLflow would.

    ``atexit`` calls what was registered last first, and MLflow registers when it is imported.
    """
    global _ends_runs
    if not _ends_runs:
        _ends_runs = True
        atexit.register(_at_exit)


def _at_exit() -> None:
    for store in _stores:
        store._exiting = True
    with contextlib.suppress(Exception):
        while fluent.active_run() is not None:
            fluent.end_run()


def _after_fork_in_child() -> None:
    for store in _stores:
        store.known.renew_lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
