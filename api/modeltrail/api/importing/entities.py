"""What a source tells, in the shapes that MLflow's entities have."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from modeltrail.api.errors import ApiError

SeriesKey = tuple[str, str | None, str | None, str | None]
"""Metric key, model id, dataset name, dataset digest."""

POINTS_MAX = 32_768
"""Most points of one ``Points``: what one event takes."""

RUN_NAME = "mlflow.runName"


class SourceError(ApiError):
    """The source cannot be read, or is none; the message says how to repair it."""


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


@dataclass(slots=True)
class Run:
    """A run without its metric points."""

    run_id: str
    experiment_id: str
    """At the source."""
    name: str
    user: str
    status: str
    started_at_ms: int
    ended_at_ms: int | None
    deleted: bool
    artifact_uri: str
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    """Without the run's name."""
    datasets: list[dict[str, Any]] = field(default_factory=list)
    """As in the event ``DatasetsLogged``."""
    model_inputs: set[str] = field(default_factory=set)
    model_outputs: set[tuple[str, int]] = field(default_factory=set)
    """Ids of logged models, and the step at which each was made."""


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
    """By number; deleted ones are among them where the source still knows the number."""


@dataclass(slots=True)
class Points:
    """Up to ``POINTS_MAX`` points of one run, as columns."""

    run_id: str
    series: list[SeriesKey]
    index: array[int]
    """Of each point, into ``series``."""
    steps: array[int]
    timestamps_ms: array[int]
    values: array[float]


class PointsBuilder:
    """Gathers points of one run into ``Points``."""

    def __init__(self, run_id: str) -> None:
        """Begin with no points."""
        self._run_id = run_id
        self._clear()

    def _clear(self) -> None:
        self._series: dict[SeriesKey, int] = {}
        self._columns = Points(self._run_id, [], array("H"), array("q"), array("q"), array("d"))

    def add(self, key: SeriesKey, step: int, timestamp_ms: int, value: float) -> bool:
        """Take a point; True when it is time to ``take``."""
        columns = self._columns
        columns.index.append(self._series.setdefault(key, len(self._series)))
        columns.steps.append(step)
        columns.timestamps_ms.append(timestamp_ms)
        columns.values.append(value)
        return len(columns.index) >= POINTS_MAX

    def take(self) -> Points:
        """The points so far; it begins anew."""
        taken = self._columns
        taken.series = list(self._series)
        self._clear()
        return taken

    def __len__(self) -> int:
        """How many points wait."""
        return len(self._columns.index)


class File(NamedTuple):
    """A file of a run or logged model."""

    path: str
    """Within its artifacts."""
    size_bytes: int | None
    modified_at_ms: int | None


class Folder(Protocol):
    """The artifacts of one run or logged model."""

    def files(self) -> Iterator[File]:
        """All files; raises ``SourceError`` if they cannot be listed."""
        ...

    def read(self, path: str) -> Iterator[bytes]:
        """The bytes of a file, piece by piece; raises ``SourceError``."""
        ...


class Source(Protocol):
    """A tracker that is read. It is never written to."""

    identity: str
    """URL without credentials: what the trail names."""
    notes: list[str]
    """What it has and the import leaves out, for people."""

    def size(self) -> int:
        """About how many runs and points there are, for the progress bar; 0 if that is unknown."""
        ...

    def experiments(self) -> list[Experiment]:
        """All experiments, deleted ones too."""
        ...

    def runs(self, experiment: Experiment) -> Iterator[list[Run]]:
        """The runs of an experiment, deleted ones too, some hundreds at a time."""
        ...

    def points(self, runs: Sequence[Run]) -> Iterator[Points]:
        """All metric points of these runs, run after run, each point once."""
        ...

    def logged_models(self, experiment: Experiment) -> list[LoggedModel]:
        """The logged models of an experiment, deleted ones too where the source tells of them."""
        ...

    def models(self) -> Iterator[Model]:
        """The registered models, prompts too, with their versions by number."""
        ...

    def folder(self, uri: str, *, run_id: str | None = None, model_id: str | None = None) -> Folder:
        """The artifacts of a run or logged model, at a URI; raises ``SourceError``."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
