"""Runs: writes go to the producers, reads to a server or to what this process knows."""

from __future__ import annotations

import contextlib
import json
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
)
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.validation import (
    _validate_batch_log_data,
    _validate_batch_log_limits,
    _validate_metric,
    _validate_param,
    _validate_run_id,
    _validate_tag,
)

from modeltrail.limits import RUN_ENDED
from modeltrail.producers import process
from modeltrail.producers.buffer import Mark, Series
from modeltrail.producers.environment import user_name
from modeltrail.producers.mlflow_plugin import entities, lifetime
from modeltrail.producers.mlflow_plugin.base import BaseStore
from modeltrail.producers.mlflow_plugin.known import (
    KnownRun,
    Metric,
    Point,
)
from modeltrail.producers.run import Run, new_run_id
from modeltrail.schemas import now_ms

logger = logging.getLogger("modeltrail")

_RUN_NAME = "mlflow.runName"
_PARENT = "mlflow.parentRunId"
_LOGGED_MODELS = "mlflow.log-model.history"
_MODEL_POINTS_KEPT_MAX = 1_000
_WRITE_WAIT_S = 1.0


class Runs(BaseStore):
    """The methods of the tracking store for runs."""

    def __init__(self, store_uri: str) -> None:
        super().__init__(store_uri)
        self._ending: deque[tuple[Run, Mark]] = deque()

    def create_run(
        self,
        experiment_id: str,
        user_id: str,
        start_time: int | None,
        tags: Iterable[Any],
        run_name: str | None,
    ) -> Any:
        """Start a run. Returns at once, whether or not the log or a server can be reached."""
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
            # A client that has no name sends this; it means nothing.
            user = values.get("mlflow.user") or ("" if user_id == "unknown" else user_id)
            user = user or user_name()
            run = self.new_run(new_run_id(), owner=True, user=user)
            run.experiment_id = str(experiment_id)
            run.experiment_location = self.location(run.experiment_id)
            run.user = user
            run.name = run_name or tag_name or _generate_random_name()
            run.tags = values
            run.started_at_ms = start_time or now_ms()
            known = self.known.experiment(run.experiment_id)
            # By name if the experiment is not known to exist: the server then creates it.
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
        lifetime.end_runs_at_exit()
        return entities.run_of(run)

    def get_run(self, run_id: str) -> Any:
        """Return a run: from the server, or else what this process knows about it."""
        known = self.known.runs.get(run_id)
        found = self.from_server("get_run", run_id, missing=known is not None)
        if found is not None and (known is None or self._delivered(known)):
            return found
        known = known or self.adopt_run(run_id)
        with self.known.lock:
            return entities.run_of(known)

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
        """Change a run's status, end or name.

        Ending a run waits for the local disk, not for the log.
        """
        run = self.writable_run(run_id)
        if self.exiting and not run.writer.owner:
            # A forked child may inherit active runs, which MLflow would end when the child exits.
            return entities.info_of(run)
        status = None if run_status is None else RunStatus.to_string(run_status)
        with self.known.lock:
            run.name = run_name or run.name
            if status == "RUNNING":
                run.writer.resume(run_name)
                run.status, run.ended_at_ms, run.readable = status, None, True
                lifetime.end_runs_at_exit()
                return entities.info_of(run)
            if status in RUN_ENDED:
                fields: dict[str, Any] = {"name": run_name, "status": None, "ended_at_ms": None}
            else:
                fields = {"name": run_name, "status": status, "ended_at_ms": end_time}
            if any(value is not None for value in fields.values()):
                run.writer.record("RunUpdated", fields)
                run.status = status or run.status
                run.ended_at_ms = end_time if end_time is not None else run.ended_at_ms
        if status in RUN_ENDED:
            self._end(run, status, end_time or now_ms())
        return entities.info_of(run)

    def _end(self, run: KnownRun, status: str, ended_at_ms: int) -> None:
        writer = run.writer
        with self.known.lock:
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
        """Drop ended runs that were delivered."""
        while self._ending and self._ending[0][0].delivered(self._ending[0][1]):
            self._ending.popleft()

    def delete_run(self, run_id: str) -> None:
        """Move a run to the deleted runs."""
        run = self.writable_run(run_id)
        with self.known.lock:
            run.deleted = True
            run.writer.record("RunDeleted", {})

    def restore_run(self, run_id: str) -> None:
        run = self.known.runs.get(run_id) or self.adopt_run(run_id)
        with self.known.lock:
            run.deleted = False
            run.writer.record("RunRestored", {})

    # Logging

    def log_metric(self, run_id: str, metric: Any) -> None:
        """Log one point, in microseconds."""
        _validate_metric(metric.key, metric.value, metric.timestamp, metric.step)
        self._add_metric(self.writable_run(run_id), metric)

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
            del model.metrics[:-_MODEL_POINTS_KEPT_MAX]

    def log_param(self, run_id: str, param: Any) -> None:
        """Log a param. A value that differs from the one that this process knows is refused."""
        checked = _validate_param(param.key, param.value)
        self._add_params(self.writable_run(run_id), {checked.key: str(checked.value)})

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
        self._add_tags(self.writable_run(run_id), {checked.key: str(checked.value)})

    def _add_tags(self, run: KnownRun, tags: dict[str, str]) -> None:
        with self.known.lock:
            name = tags.pop(_RUN_NAME, "")
            if name:  # kept in one place, so that name and tag cannot differ
                run.name = name
                run.writer.record("RunUpdated", {"name": name})
            run.tags |= tags
            if tags:
                run.writer.set_tags(tags)

    def delete_tag(self, run_id: str, key: str) -> None:
        """Delete a tag. It must exist, as far as this process can tell."""
        run = self.writable_run(run_id)
        if key == _RUN_NAME:
            raise MlflowException(
                f"Tag '{key}' is the run's name; it can be changed, not deleted.",
                error_code=INVALID_PARAMETER_VALUE,
            )
        if key not in run.tags:
            found = self.from_server("get_run", run_id, missing=True)
            if found is None or key not in found.data.tags:
                raise MlflowException(
                    f"No tag with name: {key} in run with id {run_id}",
                    error_code=RESOURCE_DOES_NOT_EXIST,
                )
        with self.known.lock:
            run.tags.pop(key, None)
            run.writer.delete_tag(key)

    def log_batch(
        self, run_id: str, metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]
    ) -> None:
        """Log metrics, params and tags. A refused batch logs nothing."""
        _validate_run_id(run_id)
        checked = _validate_batch_log_data(metrics, params, tags)
        if checked is not None:
            metrics, params, tags = checked
        _validate_batch_log_limits(metrics, params, tags)
        run = self.writable_run(run_id)
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
        run = self.writable_run(run_id)
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
        """Log the logged models that a run created."""
        _validate_run_id(run_id)
        run = self.writable_run(run_id)
        outputs = [(model.model_id, int(model.step or 0)) for model in models]
        if outputs:
            run.outputs += outputs
            listed = [{"model_id": model_id, "step": step} for model_id, step in outputs]
            run.writer.record("RunModelsLogged", {"outputs": listed})

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Add a model to the tag in which MLflow 2 lists a run's models."""
        model = mlflow_model.get_tags_dict()
        run = self.writable_run(run_id)
        with self.known.lock:
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
        """Return a metric's points: from the server, or else the last ones that it logged."""
        known = self.known.runs.get(run_id)
        if known is None:
            self.server.require()
        if self.server.answers and (known is None or self._delivered(known)):
            try:
                return self.rest.get_metric_history(run_id, metric_key, max_results, page_token)
            except MlflowException as error:
                if known is None or not known.readable:
                    raise
                self.warn_away(error)
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
