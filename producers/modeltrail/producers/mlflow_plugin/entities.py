"""MLflow's entities, made from what this process knows."""

from __future__ import annotations

import inspect
from typing import Any, NoReturn

from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    Metric,
    Param,
    RunData,
    RunInfo,
    RunInputs,
    RunTag,
)
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE

from modeltrail.producers.mlflow_plugin.known import (
    KnownExperiment,
    KnownModel,
    KnownRun,
    Point,
)

# In MLflow 3 metrics have an owner and runs list their models; not so in MLflow 2.
HAS_MODELS = "model_id" in inspect.signature(Metric.__init__).parameters
_RUN_UUID = "run_uuid" in inspect.signature(RunInfo.__init__).parameters


def experiment_of(found: KnownExperiment) -> Any:
    """Return an experiment. It is active as far as this process knows."""
    name = found.name or f"(experiment {found.experiment_id})"
    return Experiment(found.experiment_id, name, found.location, "active")


def artifact_uri(run: KnownRun) -> str:
    """Return where a run stores its artifacts, as the server would."""
    return f"{run.experiment_location.rstrip('/')}/{run.writer.run_id}/artifacts"


def info_of(run: KnownRun) -> Any:
    """Return a run's info."""
    run_id = run.writer.run_id
    return RunInfo(
        **({"run_uuid": run_id} if _RUN_UUID else {}),
        run_id=run_id,
        experiment_id=run.experiment_id,
        user_id=run.user,
        status=run.status,
        start_time=run.started_at_ms,
        end_time=run.ended_at_ms,
        lifecycle_stage="deleted" if run.deleted else "active",
        artifact_uri=artifact_uri(run),
        run_name=run.name,
    )


def run_of(run: KnownRun) -> Any:
    """Return a run with everything that this process logged to it."""
    run_id = run.writer.run_id
    if not run.readable:
        return MlflowRun(info_of(run), _UnknownData(run_id))
    tags = {**run.tags, "mlflow.runName": run.name}
    data = RunData(
        [metric_of(run_id, key, metric.latest) for key, metric in sorted(run.metrics.items())],
        [Param(key, value) for key, value in sorted(run.params.items())],
        [RunTag(key, value) for key, value in sorted(tags.items())],
    )
    datasets = [
        DatasetInput(
            Dataset(**{key: value for key, value in dataset.items() if key != "tags"}),
            [InputTag(key, value) for key, value in _tags(dataset).items()],
        )
        for dataset in run.datasets
    ]
    if not HAS_MODELS:
        return MlflowRun(info_of(run), data, RunInputs(datasets))
    from mlflow.entities import LoggedModelInput, LoggedModelOutput, RunOutputs

    inputs = [LoggedModelInput(model_id) for model_id in run.inputs]
    outputs = [LoggedModelOutput(model_id, step) for model_id, step in run.outputs]
    return MlflowRun(info_of(run), data, RunInputs(datasets, inputs), RunOutputs(outputs))


def _tags(dataset: dict[str, object]) -> dict[str, str]:
    tags = dataset["tags"]
    return tags if isinstance(tags, dict) else {}


def metric_of(run_id: str, key: str, point: Point) -> Any:
    """Return a metric point."""
    if not HAS_MODELS:
        return Metric(key, point.value, point.timestamp_ms, point.step)
    return Metric(
        key,
        point.value,
        point.timestamp_ms,
        point.step,
        model_id=point.model_id,
        dataset_name=point.dataset_name,
        dataset_digest=point.dataset_digest,
        run_id=run_id,
    )


def model_of(model: KnownModel) -> Any:
    """Return a logged model."""
    from mlflow.entities import LoggedModel, LoggedModelStatus

    return LoggedModel(
        experiment_id=model.experiment_id,
        model_id=model.model_id,
        name=model.name,
        artifact_location=model.location,
        creation_timestamp=model.created_at_ms,
        last_updated_timestamp=model.updated_at_ms,
        model_type=model.model_type,
        source_run_id=model.source_run_id,
        status=LoggedModelStatus(model.status),
        tags=dict(model.tags),
        params=dict(model.params),
        metrics=[metric_of(run_id, key, point) for run_id, key, point in model.metrics] or None,
    )


class _UnknownData(RunData):  # type: ignore[misc]  # MLflow ships no types
    """Data of a run that another process started, if there is no server to ask.

    Such a run can be written to and resumed. Reading its params, tags or metrics raises.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id

    def _refuse(self) -> NoReturn:
        raise MlflowException(
            f"Run {self._run_id} was started by another process. What is in it has to be read "
            "from a Modeltrail server, and none answers: set MODELTRAIL_SERVER to its URL.",
            error_code=INVALID_STATE,
        )

    metrics = params = tags = property(_refuse)
