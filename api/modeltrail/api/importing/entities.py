"""What sources yield, in the shapes of MLflow's entities.

Each ``of`` makes one from MLflow's own form, as its files and its servers have it, whose numbers
may be text.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self

from modeltrail.api.errors import ApiError
from modeltrail.limits import MODEL_STATUSES, RUN_STATUSES

SeriesKey = tuple[str, str | None, str | None, str | None]
"""Metric key, model id, dataset name, dataset digest."""

POINTS_MAX = 32_768
"""Maximum number of points in a ``SourcePoints``: as many as fit into one event."""

RUN_NAME = "mlflow.runName"
DELETED_STAGE = "Deleted_Internal"

Json = Mapping[str, Any]
Texts = dict[str, str]


class SourceError(ApiError):
    """The source is invalid or cannot be read. The message says how to repair it."""


def whole(value: Any) -> int | None:
    """Return a number of 64 bits; None for none, or NaN."""
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else int(value)


def status_of(found: Any, names: Sequence[str], default: str) -> str:
    """Return a status, which is one of the names, or its number; the first is number 1."""
    if isinstance(found, int):
        return names[found - 1] if 0 < found <= len(names) else default
    return found if found in names else default


def model_id_of(source: str) -> str | None:
    """Return the logged model in the source of a version."""
    found = re.fullmatch(r"models:/+(m-[0-9a-f]{32})", source)
    return None if found is None else found[1]


@dataclass(slots=True)
class Experiment:
    """An experiment."""

    id: str
    name: str
    artifact_location: str | None
    deleted: bool = False
    created_at_ms: int | None = None
    updated_at_ms: int | None = None
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Json, id: str, tags: Texts) -> Self:
        return cls(
            id,
            str(found["name"]),
            found.get("artifact_location") or None,
            found.get("lifecycle_stage") == "deleted",
            whole(found.get("creation_time")),
            whole(found.get("last_update_time")),
            tags,
        )


@dataclass(slots=True)
class Run:
    """A run without its metric points."""

    run_id: str
    experiment_id: str
    """Its id at the source."""
    name: str
    user: str
    status: str
    started_at_ms: int
    ended_at_ms: int | None
    deleted: bool
    artifact_uri: str
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    """Tags, without the run's name."""
    datasets: list[dict[str, Any]] = field(default_factory=list)
    """Datasets, as in the event ``DatasetsLogged``."""
    model_inputs: set[str] = field(default_factory=set)
    model_outputs: set[tuple[str, int]] = field(default_factory=set)
    """Ids of logged models, and the step at which each was created."""

    @classmethod
    def of(cls, found: Json, run_id: str, experiment_id: str, params: Texts, tags: Texts) -> Self:
        name_tag = tags.pop(RUN_NAME, "")
        return cls(
            run_id,
            experiment_id,
            str(found.get("run_name") or found.get("name") or name_tag),
            str(found.get("user_id") or ""),
            status_of(found.get("status"), RUN_STATUSES, "RUNNING"),
            whole(found.get("start_time")) or 0,
            whole(found.get("end_time")),
            found.get("lifecycle_stage") == "deleted",
            str(found.get("artifact_uri") or ""),
            params,
            tags,
        )


@dataclass(slots=True)
class LoggedModel:
    """A logged model."""

    model_id: str
    experiment_id: str
    name: str
    model_type: str | None
    source_run_id: str | None
    artifact_location: str
    status: str
    status_message: str | None
    deleted: bool
    created_at_ms: int | None
    updated_at_ms: int | None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Json, model_id: str, experiment: str, params: Texts, tags: Texts) -> Self:
        """Make it; see the module. Some names in files differ from those of a server."""
        status = found.get("status")
        if isinstance(status, str):
            status = status.removeprefix("LOGGED_MODEL_")
        created, updated = (
            whole(found.get(f"{name}_ms", found.get(name)))
            for name in ("creation_timestamp", "last_updated_timestamp")
        )
        return cls(
            model_id,
            experiment,
            str(found["name"]),
            found.get("model_type") or None,
            found.get("source_run_id") or None,
            str(found.get("artifact_location") or found.get("artifact_uri") or ""),
            status_of(status, MODEL_STATUSES, "PENDING"),
            found.get("status_message") or None,
            found.get("lifecycle_stage") == "deleted",
            created,
            updated,
            params,
            tags,
        )


@dataclass(slots=True)
class Version:
    """A version of a registered model."""

    number: int
    source: str
    run_id: str | None = None
    model_id: str | None = None
    run_link: str | None = None
    description: str | None = None
    stage: str = "None"
    created_at_ms: int | None = None
    updated_at_ms: int | None = None
    deleted: bool = False
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Json, tags: Texts) -> Self:
        source = str(found.get("source") or found.get("storage_location") or "")
        stage = str(found.get("current_stage") or "None")
        deleted = stage == DELETED_STAGE
        return cls(
            int(found["version"]),
            source,
            found.get("run_id") or None,
            found.get("model_id") or model_id_of(source),
            found.get("run_link") or None,
            found.get("description") or None,
            stage,
            whole(found.get("creation_timestamp")),
            whole(found.get("last_updated_timestamp")),
            deleted,
            {} if deleted else tags,
        )


@dataclass(slots=True)
class Model:
    """A registered model."""

    name: str
    description: str | None = None
    created_at_ms: int | None = None
    updated_at_ms: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    versions: list[Version] = field(default_factory=list)
    """Versions by number, including deleted ones if the source still has their numbers."""

    @classmethod
    def of(cls, found: Json, tags: Texts, aliases: Json, versions: list[Version]) -> Self:
        return cls(
            str(found["name"]),
            found.get("description") or None,
            whole(found.get("creation_timestamp")),
            whole(found.get("last_updated_timestamp")),
            tags,
            {alias: int(number) for alias, number in aliases.items()},
            sorted(versions, key=lambda version: version.number),
        )


@dataclass(slots=True)
class SourcePoints:
    """Up to ``POINTS_MAX`` points of one run, as columns."""

    run_id: str
    series: list[SeriesKey]
    index: array[int]
    """For each point, its index in ``series``."""
    steps: array[int]
    timestamps_ms: array[int]
    values: array[float]


class PointsBuilder:
    """Collects points of one run into ``SourcePoints``."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._clear()

    def _clear(self) -> None:
        self._series: dict[SeriesKey, int] = {}
        self._columns = SourcePoints(
            self._run_id, [], array("H"), array("q"), array("q"), array("d")
        )

    def add(self, key: SeriesKey, step: int, timestamp_ms: int, value: float) -> bool:
        """Add a point. Returns True when it is time to ``take``."""
        columns = self._columns
        columns.index.append(self._series.setdefault(key, len(self._series)))
        columns.steps.append(step)
        columns.timestamps_ms.append(timestamp_ms)
        columns.values.append(value)
        return len(columns.index) >= POINTS_MAX

    def take(self) -> SourcePoints:
        """Return the points so far, and start over."""
        taken = self._columns
        taken.series = list(self._series)
        self._clear()
        return taken

    def __len__(self) -> int:
        """Return the number of waiting points."""
        return len(self._columns.index)


class File(NamedTuple):
    """A file of a run or logged model."""

    path: str
    """Path within the artifacts."""
    size_bytes: int | None
    modified_at_ms: int | None


class Folder(Protocol):
    """The artifacts of one run or logged model."""

    def files(self) -> Iterator[File]:
        """Return all files. Raises ``SourceError`` if they cannot be listed."""

    def read(self, path: str) -> Iterator[bytes]:
        """Return the bytes of a file, in pieces. Raises ``SourceError``."""


class Source(ABC):
    """A tracker to read from. It is never written to."""

    identity: str
    """URL without credentials, for the audit trail."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        """What it contains and the import leaves out, for display."""

    def size(self) -> int:
        """Return the approximate numbers of runs and points, for the progress bar; 0 if unknown."""
        return 0

    @abstractmethod
    def experiments(self) -> list[Experiment]:
        """Return all experiments, including deleted ones."""

    @abstractmethod
    def runs(self, experiment: Experiment) -> Iterator[list[Run]]:
        """Return the runs of an experiment, including deleted ones, some hundreds at a time."""

    @abstractmethod
    def points(self, runs: Sequence[Run]) -> Iterator[SourcePoints]:
        """Return all metric points of these runs, run after run, each point once."""

    @abstractmethod
    def logged_models(self, experiment: Experiment) -> list[LoggedModel]:
        """Return the logged models of an experiment, including deleted ones if it has them."""

    @abstractmethod
    def models(self) -> Iterator[Model]:
        """Return the registered models and prompts, with their versions by number."""

    @abstractmethod
    def folder(self, uri: str, *, run_id: str | None = None, model_id: str | None = None) -> Folder:
        """Return the artifacts of a run or logged model at a URI. Raises ``SourceError``."""

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Close files and connections."""
