"""The import: experiment by experiment, then the check.

What is missing is found by comparing the source with the fold, so there is no state file: an import
that was killed continues where the log ends, and a repeated one imports what is new. The check at
the end compares everything again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from modeltrail.api.errors import ApiError, did_you_mean
from modeltrail.api.importing.artifacts import ArtifactCopier
from modeltrail.api.importing.destinations import Destination, DryDestination, rows
from modeltrail.api.importing.entities import (
    Experiment,
    LoggedModel,
    Model,
    Run,
    Source,
    SourceError,
    SourcePoints,
)
from modeltrail.api.importing.files import is_ours_to_copy
from modeltrail.api.importing.logged_models import LoggedModelsHere
from modeltrail.api.importing.registry import (
    ExperimentsHere,
    model_requests,
    models_here,
    new_source,
)
from modeltrail.api.importing.runs import (
    Event,
    Here,
    beginning,
    ending,
    hashes_here,
    hashes_of,
    lacking,
    runs_here,
    sums_here,
)
from modeltrail.api.importing.tally import entries_sum, total
from modeltrail.api.importing.writing import Head, Outgoing, Request, Requests, Writer
from modeltrail.consumers.reading import sql
from modeltrail.schemas import pack

_SUM = 0xFFFF_FFFF_FFFF_FFFF
_DIFFERENCES_MAX = 1_000

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Counts:
    """Numbers of things, and sums of their hashes."""

    runs: int = 0
    params: int = 0
    params_sum: int = 0
    tags: int = 0
    tags_sum: int = 0
    points: int = 0
    points_sum: int = 0

    def add_run(self, run: Run | Here, points: tuple[int, int]) -> None:
        self.runs += 1
        self.params += len(run.params)
        self.params_sum = (self.params_sum + entries_sum(run.params)) & _SUM
        self.tags += len(run.tags)
        self.tags_sum = (self.tags_sum + entries_sum(run.tags)) & _SUM
        self.points += points[0]
        self.points_sum = (self.points_sum + points[1]) & _SUM


@dataclass(slots=True)
class ExperimentReport:
    """An experiment at the source and here."""

    name: str
    source_id: str
    id: str | None
    """None in a dry run that would create it."""
    source: Counts = field(default_factory=Counts)
    here: Counts = field(default_factory=Counts)
    artifacts: int = 0
    artifact_bytes: int = 0
    logged_models: int = 0


@dataclass(slots=True)
class Report:
    """The result of an import and its check."""

    source: str
    dry_run: bool
    experiments: list[ExperimentReport] = field(default_factory=list)
    registered_models: int = 0
    model_versions: int = 0
    aliases: int = 0
    events: int = 0
    """Number of events appended; in a dry run, to append."""
    artifacts_copied: int = 0
    artifact_bytes_copied: int = 0
    notes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    """Differences from the source; at most some hundreds."""
    differences_more: int = 0

    def differ(self, text: str) -> None:
        if len(self.differences) < _DIFFERENCES_MAX:
            self.differences.append(text)
        else:
            self.differences_more += 1

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON. Sums are hexadecimal, because JSON readers round such numbers."""
        found = asdict(self)
        for experiment in found["experiments"]:
            for side in ("source", "here"):
                for name in ("params_sum", "tags_sum", "points_sum"):
                    experiment[side][name] = f"{experiment[side][name]:016x}"
        return found


class Importer:
    """Imports a source into a destination."""

    def __init__(
        self,
        source: Source,
        destination: Destination,
        *,
        user: str,
        names: Sequence[str] = (),
        copy_artifacts: bool = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Make an importer.

        Args:
            source: The source to import.
            destination: The destination to import into.
            user: The user who imports.
            names: Only these experiments, and no registered models.
            copy_artifacts: Also copy artifacts of object stores, instead of referring to them.
            dry_run: Only count.
            progress: Called with the numbers of runs and points read, and the totals.
        """
        self._source = source
        self._destination = DryDestination(destination) if dry_run else destination
        self._names = set(names)
        self._copy_all = copy_artifacts
        self._report = Report(source.identity, dry_run)
        self._progress = progress
        self._done = self._size = 0
        head = Head(source.identity, user)
        self._requests = Requests(self._destination, head)
        self._outgoing = Outgoing(self._destination, head)
        self._copier = ArtifactCopier(self._destination, self._report)

    def run(self) -> Report:
        """Import and check.

        Raises:
            SourceError: the source cannot be read.
            ApiError: the destination refuses events, or cannot be reached.
        """
        self._size = self._source.size() if self._progress else 0
        experiments = self._experiments()
        for experiment, report in experiments:
            self._logged_models(experiment, report)
            for runs in self._source.runs(experiment):
                self._runs(runs, experiment, report)
        self._outgoing.flush()
        if not self._names:
            self._registry()
        self._report.events = self._outgoing.events + self._requests.events
        self._report.notes += self._source.notes
        return self._report

    def _advance(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, max(self._size, self._done))

    # Experiments

    def _experiments(self) -> list[tuple[Experiment, ExperimentReport]]:
        wanted = self._source.experiments()
        if self._names:
            missing = self._names - {experiment.name for experiment in wanted}
            if missing:
                names = [experiment.name for experiment in wanted]
                hint = did_you_mean(min(missing), names) if len(missing) == 1 else ""
                raise SourceError(
                    f"the source has no experiment {', '.join(sorted(missing))}{hint}"
                )
            wanted = [e for e in wanted if e.name in self._names]
            self._report.notes.append(
                "registered models are left out, since only some experiments are imported"
            )
        here = ExperimentsHere(self._destination, self._source.identity)
        requests: list[Request] = []
        for experiment in wanted:
            requests += here.requests(experiment, copy_all=self._copy_all)
        self._refused(self._requests.send(requests))
        here = ExperimentsHere(self._destination, self._source.identity)
        found = []
        for experiment in wanted:
            one = here.of(experiment)
            report = ExperimentReport(experiment.name, experiment.id, one.id if one else None)
            self._report.experiments.append(report)
            found.append((experiment, report))
            if self._report.dry_run:
                continue
            if one is None:
                self._report.differ(f"experiment {experiment.name!r} is not here")
                continue
            for request in here.requests(experiment, copy_all=self._copy_all):
                self._report.differ(f"{request.what}: {request.type} had no effect")
            if one.id != experiment.id:
                self._report.notes.append(
                    f"experiment {experiment.name!r} has id {one.id} here, not {experiment.id}"
                )
        return found

    def _refused(self, refused: list[tuple[Request, str]]) -> None:
        for request, message in refused:
            self._report.differ(f"{request.what}: {request.type} was refused: {message}")

    # Logged models

    def _logged_models(self, experiment: Experiment, report: ExperimentReport) -> None:
        models = LoggedModelsHere(self._destination, self._source.logged_models(experiment))
        report.logged_models = len(models.found)
        if report.id is None and not self._report.dry_run:
            return
        for model in models.found:
            here = models.here.get(model.model_id)
            writer = self._outgoing.writer(
                model.model_id, -1 if here is None else None, model.tags.get("mlflow.user")
            )
            location = model.artifact_location
            copied = self._copy_all or is_ours_to_copy(location)
            if copied:
                model.artifact_location = (
                    f"mlflow-artifacts:/{report.id}/models/{model.model_id}/artifacts"
                )
            for event in models.missing(model, report.id or experiment.id):
                writer.put(*event)
            if copied:
                self._outgoing.flush()
                self._copy_model(model, location, writer, report)
        self._outgoing.flush()
        if not self._report.dry_run:
            for text in models.differences():
                self._report.differ(text)

    def _copy_model(
        self, model: LoggedModel, location: str, writer: Writer, report: ExperimentReport
    ) -> None:
        try:
            folder = self._source.folder(location, model_id=model.model_id)
            self._copier.copy("model", model.model_id, folder, writer, report)
        except SourceError as error:
            self._report.differ(f"logged model {model.model_id}: {error.message}")

    # Runs

    def _runs(self, runs: list[Run], experiment: Experiment, report: ExperimentReport) -> None:
        experiment_id = report.id or experiment.id
        if experiment.deleted:
            # The runs of a deleted experiment are deleted with it, and restored with it.
            for run in runs:
                run.deleted = False
        here = runs_here(self._destination, [run.run_id for run in runs])
        nothing = Here()
        writers: dict[str, Writer] = {}
        changed: set[str] = set()

        def put(run: Run, events: list[Event]) -> None:
            for event in events:
                writers[run.run_id].put(*event)
                changed.add(run.run_id)

        for run in runs:
            one = here.get(run.run_id, nothing)
            writers[run.run_id] = self._outgoing.writer(run.run_id, one.offset, run.user or None)
            put(run, beginning(run, one, experiment_id))
        sums = self._points(runs, here, writers)
        for run in runs:
            writer, one = writers[run.run_id], here.get(run.run_id, nothing)
            if self._copy_all or is_ours_to_copy(run.artifact_uri):
                self._copy_run(run, writer, report)
            put(run, ending(run, one, writer.points))
            if writer.points:
                changed.add(run.run_id)
            report.source.add_run(run, sums.get(run.run_id, (0, 0)))
        self._advance(len(runs))
        self._outgoing.flush()
        self._check(runs, sums, here, changed, report)

    def _copy_run(self, run: Run, writer: Writer, report: ExperimentReport) -> None:
        try:
            folder = self._source.folder(run.artifact_uri, run_id=run.run_id)
            self._copier.copy("run", run.run_id, folder, writer, report)
        except SourceError as error:
            self._report.differ(f"run {run.run_id}: {error.message}")

    def _points(
        self, runs: list[Run], here: dict[str, Here], writers: dict[str, Writer]
    ) -> dict[str, tuple[int, int]]:
        """Send the missing points. Returns the number of all points of the source."""
        sums: dict[str, tuple[int, int]] = {}

        def read(some: list[Run]) -> Iterator[tuple[SourcePoints, npt.NDArray[np.uint64]]]:
            if not some:
                return
            for points in self._source.points(some):
                yield points, hashes_of(points)

        def count(points: SourcePoints, hashes: npt.NDArray[np.uint64]) -> None:
            n, sum_ = sums.get(points.run_id, (0, 0))
            sums[points.run_id] = (n + len(hashes), (sum_ + total(hashes)) & _SUM)
            self._advance(len(hashes))

        known = [run for run in runs if run.run_id in here and here[run.run_id].points]
        fresh = [run for run in runs if run not in known]
        for points, hashes in read(fresh):
            count(points, hashes)
            _send(writers[points.run_id], points)
        for points, hashes in read(known):
            count(points, hashes)
        ours = sums_here(self._destination, [run.run_id for run in known])
        for run in known:
            if ours.get(run.run_id) == sums.get(run.run_id, (0, 0)):
                continue
            there = _all_hashes(self._destination, run.run_id)
            for points, hashes in read([run]):
                missing = ~np.isin(hashes, there)
                if missing.any():
                    _send(writers[run.run_id], points, missing)
        return sums

    # The check

    def _check(
        self,
        runs: list[Run],
        sums: dict[str, tuple[int, int]],
        before: dict[str, Here],
        changed: set[str],
        report: ExperimentReport,
    ) -> None:
        here = {
            **before,
            **(runs_here(self._destination, sorted(changed)) if changed else {}),
        }
        points = sums_here(self._destination, [run.run_id for run in runs])
        for run in runs:
            one = here.get(run.run_id, Here())
            ours = points.get(run.run_id, (0, 0))
            theirs = sums.get(run.run_id, (0, 0))
            if one.started:
                report.here.add_run(one, ours)
            if self._report.dry_run:
                continue
            for text in lacking(run, one):
                self._report.differ(f"run {run.run_id}: {text}")
            if ours != theirs:
                lost = self._lost(run)
                if lost:
                    self._report.differ(
                        f"run {run.run_id}: {lost:,} of {theirs[0]:,} metric points are not here"
                    )

    def _lost(self, run: Run) -> int:
        """Return how many points of the source are missing here. There may be other points here."""
        there = _all_hashes(self._destination, run.run_id)
        return sum(
            int((~np.isin(hashes_of(points), there)).sum()) for points in self._source.points([run])
        )

    # Registered models

    def _registry(self) -> None:
        here = models_here(self._destination)
        requests: list[Request] = []
        models = []
        for model in self._source.models():
            for version in model.versions:
                version.source = new_source(version.source, self._experiment_of, self._copy_all)
            models.append(model)
            requests += model_requests(model, here.get(model.name))
            self._count_model(model)
        refused = self._requests.send(requests)
        self._refused(refused)
        if self._report.dry_run:
            return
        told = {request.what for request, _ in refused}
        here = models_here(self._destination)
        for model in models:
            for request in model_requests(model, here.get(model.name)):
                if request.what not in told:
                    self._report.differ(f"{request.what} differs: {request.type} had no effect")

    def _count_model(self, model: Model) -> None:
        self._report.registered_models += 1
        self._report.model_versions += sum(not version.deleted for version in model.versions)
        self._report.aliases += len(model.aliases)

    def _experiment_of(self, kind: str, id: str) -> str | None:
        query = "runs.experiment" if kind == "run" else "logged_models.experiment"
        return next((row[0] for row in rows(self._destination, sql(query), [id])), None)


def _send(writer: Writer, points: SourcePoints, which: npt.NDArray[np.bool_] | None = None) -> None:
    """Send all or some points of a run."""
    columns: tuple[Any, ...] = (
        points.index, points.steps, points.timestamps_ms, points.values
    )  # fmt: skip
    if which is not None:
        at = np.flatnonzero(which).tolist()
        columns = tuple([column[i] for i in at] for column in columns)
    names = ("key", "model_id", "dataset_name", "dataset_digest")
    series = [dict(zip(names, key, strict=True)) for key in points.series]
    writer.put("MetricsLogged", max(columns[2]), {"series": series, **pack(*columns)})
    writer.points += len(columns[0])


def _all_hashes(destination: Destination, run_id: str) -> npt.NDArray[np.uint64]:
    found = [hashes for _, _, hashes in hashes_here(destination, [run_id])]
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


__all__ = ["ApiError", "Importer", "Report"]
