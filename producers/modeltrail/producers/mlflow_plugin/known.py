"""What this process knows about its own experiments, runs and logged models.

It answers MLflow's reads during training. Everything here is limited: the latest points of each
metric, and the runs and models used last.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from modeltrail.producers.run import Run
from modeltrail.schemas import experiment_id

POINTS_KEPT_MAX = 1_000
"""How many of the latest points of each metric are kept."""
_ITEMS_MAX = 1_000
_NAME_VARIABLE = "MODELTRAIL_EXPERIMENT_NAME"

T = TypeVar("T")


class Point(NamedTuple):
    """A metric point."""

    step: int
    timestamp_ms: int
    value: float
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


@dataclass(slots=True)
class Metric:
    """A metric of a run, as far as this process logged it."""

    latest: Point
    points: deque[Point] = field(default_factory=lambda: deque(maxlen=POINTS_KEPT_MAX))
    logged: int = 0

    def add(self, point: Point) -> None:
        """Add a point. The latest is the one with the greatest step, then time, then value."""
        self.points.append(point)
        self.logged += 1
        if point[:3] >= self.latest[:3]:
            self.latest = point


@dataclass(slots=True)
class KnownRun:
    """A run that this process writes to.

    Attributes:
        writer: Writes its events.
        readable: Whether this process started or resumed the run and can answer reads.
        experiment_id: Its experiment.
        experiment_location: URI of the artifacts of that experiment.
    """

    writer: Run
    readable: bool
    experiment_id: str
    experiment_location: str
    user: str = ""
    name: str = ""
    status: str = "RUNNING"
    started_at_ms: int = 0
    ended_at_ms: int | None = None
    deleted: bool = False
    metrics: dict[str, Metric] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[dict[str, object]] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True)
class KnownModel:
    """A logged model that this process created or writes to."""

    writer: Run
    model_id: str
    experiment_id: str
    location: str
    name: str = ""
    source_run_id: str | None = None
    model_type: str | None = None
    status: str = "PENDING"
    created_at_ms: int = 0
    updated_at_ms: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, str, Point]] = field(default_factory=list)
    """Run id, key and point; the last thousand."""


class Latest(Generic[T]):
    """Keeps the items used last, and those still needed."""

    def __init__(self, needed: Callable[[T], bool] = lambda item: False) -> None:
        """Start empty. ``needed`` tells whether an item must be kept."""
        self._items: OrderedDict[str, T] = OrderedDict()
        self._needed = needed

    def get(self, key: str) -> T | None:
        """Return the item if it is still kept. May be called without the lock."""
        item = self._items.get(key)
        if item is not None:
            with contextlib.suppress(KeyError):  # it may be removed at this moment
                self._items.move_to_end(key)
        return item

    def all(self) -> list[T]:
        """Return all items, the ones used last at the end."""
        return list(self._items.values())

    def put(self, key: str, item: T) -> None:
        """Keep an item. If there are too many, drop the one not used for longest."""
        self._items[key] = item
        self._items.move_to_end(key)
        if len(self._items) > _ITEMS_MAX:
            for old in list(self._items)[:-1]:
                if not self._needed(self._items[old]):
                    del self._items[old]
                    break


class KnownExperiment(NamedTuple):
    """An experiment. Its id is derived from its name, unless a server assigned another one.

    The name is empty if a parent process passed on only the id.
    """

    experiment_id: str
    name: str
    location: str
    from_server: bool
    """Whether it is known to be on a server. Otherwise runs name their experiment."""


class Known:
    """Everything that this process knows. Hold ``lock`` while using it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.runs: Latest[KnownRun] = Latest(
            lambda run: run.writer.owner and not run.writer.finished
        )
        self.models: Latest[KnownModel] = Latest()
        self._experiments: dict[str, KnownExperiment] = {}
        self._names: dict[str, str] = {}
        self.created: set[str] = set()
        """Names of experiments that the script created."""
        self.last_experiment_id = "0"
        """The experiment used last; unknown runs are assigned to it."""
        self._experiments["0"] = experiment("Default")
        self._names["Default"] = "0"

    def renew_lock(self) -> None:
        """In the child of a fork, replace the lock: a thread of the parent may have held it."""
        self.lock = threading.RLock()

    def note(self, found: KnownExperiment) -> KnownExperiment:
        self._experiments[found.experiment_id] = found
        self._names[found.name] = found.experiment_id
        self.last_experiment_id = found.experiment_id
        if found.name:  # MLflow passes the id to child processes, which need the name too
            os.environ[_NAME_VARIABLE] = found.name
        return found

    def named(self, name: str) -> KnownExperiment | None:
        """Return the experiment with a name."""
        return self._experiments.get(self._names.get(name, ""))

    def experiment(self, experiment_id: str) -> KnownExperiment | None:
        """Return the experiment with an id, if this process or its parent chose it."""
        found = self._experiments.get(experiment_id)
        if found is not None or experiment_id != os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return found
        inherited = experiment(os.environ.get(_NAME_VARIABLE, ""))
        if inherited.experiment_id == experiment_id:
            return inherited
        location = f"mlflow-artifacts:/{experiment_id}"
        return KnownExperiment(experiment_id, "", location, from_server=True)


def experiment(name: str) -> KnownExperiment:
    """Return an experiment that is not known yet."""
    found = experiment_id(name)
    return KnownExperiment(found, name, f"mlflow-artifacts:/{found}", from_server=False)
