"""MLflow's file store: a folder ``mlruns`` of YAML and text files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modeltrail.api.importing.entities import (
    Experiment,
    LoggedModel,
    Model,
    PointsBuilder,
    Run,
    SeriesKey,
    Source,
    SourceError,
    SourcePoints,
    Version,
)
from modeltrail.api.importing.files import StoredFolder, folder_at, local_path

_RUNS = 250
_META = "meta.yaml"
_TRASH = ".trash"
_MODELS = "models"

Point = tuple[str, int, int, str]
"""Key, step, timestamp, and the value as text."""


class FolderSource(Source):
    """A file store."""

    def __init__(self, source: str, artifacts: str | None = None) -> None:
        """Open it for reading.

        Args:
            source: The folder, as a path or ``file:`` URL.
            artifacts: Where ``mlflow-artifacts:/`` leads.

        Raises:
            SourceError: it is not a file store.
        """
        super().__init__()
        path = local_path(source)
        if path is None or not path.is_dir():
            raise SourceError(f"there is no folder {source}")
        self._root = path.absolute()
        self._artifacts = artifacts
        self.identity = self._root.as_uri()
        # For the current experiment: the logged models and datasets of its points.
        self._links: dict[str, dict[Point, list[tuple[str, str | None, str | None]]]] = {}
        try:
            import yaml
        except ModuleNotFoundError:
            raise SourceError(
                "file stores are read with PyYAML: pip install 'modeltrail[import]'"
            ) from None
        self._load = yaml.load
        self._loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._error: type[Exception] = yaml.YAMLError
        if not list(self._experiment_folders()) and not (self._root / _MODELS).is_dir():
            raise SourceError(f"{self._root} is not MLflow's: no folder in it has a {_META}")

    def folder(
        self, uri: str, *, run_id: str | None = None, model_id: str | None = None
    ) -> StoredFolder:
        return folder_at(uri, self._artifacts)

    def _meta(self, folder: Path) -> dict[str, Any]:
        file = folder / _META
        try:
            found = self._load(file.read_text(encoding="utf-8"), self._loader)
        except (OSError, UnicodeError, self._error) as error:
            raise SourceError(f"{file} cannot be read: {error}") from None
        if not isinstance(found, dict):
            raise SourceError(f"{file} is damaged")
        return found

    def _metas(self, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Return the folders in a folder that describe an entity. Report and skip damaged ones."""
        for one in _folders(folder):
            if (one / _META).is_file():
                try:
                    yield one, self._meta(one)
                except SourceError as error:
                    self.notes.append(f"left out: {error.message}")

    # Experiments and runs

    def _experiment_folders(self) -> Iterator[Path]:
        for parent in (self._root, self._root / _TRASH):
            for folder in _folders(parent):
                if folder.name not in (_MODELS, _TRASH) and (folder / _META).is_file():
                    yield folder

    def experiments(self) -> list[Experiment]:
        found = []
        for folder in self._experiment_folders():
            meta = self._meta(folder)
            experiment = Experiment.of(meta, folder.name, _texts(folder / "tags"))
            experiment.deleted |= folder.parent.name == _TRASH
            found.append(experiment)
        return sorted(found, key=lambda e: (len(e.id), e.id))

    def _folder_of(self, experiment: Experiment) -> Path:
        return self._root / (_TRASH if experiment.deleted else "") / experiment.id

    def runs(self, experiment: Experiment) -> Iterator[list[Run]]:
        home = self._folder_of(experiment)
        self._links = self._model_points(home)
        datasets = {
            folder.name: {
                name: meta.get(name)
                for name in ("name", "digest", "source_type", "source", "schema", "profile")
            }
            for folder, meta in self._metas(home / "datasets")
        }
        found: list[Run] = []
        for folder, meta in self._metas(home):
            found.append(self._run(folder, meta, datasets))
            if len(found) >= _RUNS:
                yield found
                found = []
        if found:
            yield found

    def _run(self, folder: Path, meta: dict[str, Any], datasets: dict[str, dict[str, Any]]) -> Run:
        params, tags = _texts(folder / "params"), _texts(folder / "tags")
        run = Run.of(meta, folder.name, folder.parent.name, params, tags)
        for _, link in self._metas(folder / "inputs"):
            if link.get("source_type") == "DATASET":
                dataset = datasets.get(str(link["source_id"]))
                if dataset is not None:
                    run.datasets.append({**dataset, "tags": dict(link.get("tags") or {})})
            else:
                run.model_inputs.add(str(link["source_id"]))
        for _, link in self._metas(folder / "outputs"):
            run.model_outputs.add((str(link["destination_id"]), int(link.get("step") or 0)))
        return run

    # Points

    def _model_points(
        self, home: Path
    ) -> dict[str, dict[Point, list[tuple[str, str | None, str | None]]]]:
        """Return by run the points of its metrics that belong to logged models."""
        found: dict[str, dict[Point, list[tuple[str, str | None, str | None]]]] = defaultdict(dict)
        for folder in _folders(home / _MODELS):
            for key, file in _files(folder / "metrics"):
                with file.open(encoding="utf-8") as lines:
                    for line in lines:
                        parts = line.split()
                        if len(parts) < 4:
                            continue
                        point = (key, int(parts[2]), int(parts[0]), parts[1])
                        dataset = (parts[4], parts[5]) if len(parts) >= 6 else (None, None)
                        links = found[parts[3]].setdefault(point, [])
                        if (link := (folder.name, *dataset)) not in links:
                            links.append(link)
        return found

    def points(self, runs: Sequence[Run]) -> Iterator[SourcePoints]:
        for run in runs:
            home = self._root / run.experiment_id
            if not home.is_dir():
                home = self._root / _TRASH / run.experiment_id
            links = self._links.get(run.run_id, {})
            builder = PointsBuilder(run.run_id)
            for key, file in _files(home / run.run_id / "metrics"):
                for series, step, timestamp_ms, value in _points_of(key, file, links):
                    if builder.add(series, step, timestamp_ms, value):
                        yield builder.take()
            if len(builder):
                yield builder.take()

    # Logged models and the registry

    def logged_models(self, experiment: Experiment) -> list[LoggedModel]:
        return [
            LoggedModel.of(
                meta, folder.name, experiment.id, _texts(folder / "params"), _texts(folder / "tags")
            )
            for folder, meta in self._metas(self._folder_of(experiment) / _MODELS)
        ]

    def models(self) -> Iterator[Model]:
        for folder, meta in self._metas(self._root / _MODELS):
            versions = [
                Version.of(found, _texts(one / "tags")) for one, found in self._metas(folder)
            ]
            yield Model.of(meta, _texts(folder / "tags"), meta.get("aliases") or {}, versions)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(one for one in folder.iterdir() if one.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Return the files in and below a folder, by their path in it, which is their key."""
    if folder.is_dir():
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                yield file.relative_to(folder).as_posix(), file


def _texts(folder: Path) -> dict[str, str]:
    found = {}
    for key, file in _files(folder):
        try:
            # As bytes first, because reading as text would change the ends of lines.
            found[key] = file.read_bytes().decode("utf-8")
        except (OSError, UnicodeError) as error:
            raise SourceError(f"{file} cannot be read: {error}") from None
    return found


def _points_of(
    key: str,
    file: Path,
    links: dict[Point, list[tuple[str, str | None, str | None]]],
) -> Iterator[tuple[SeriesKey, int, int, float]]:
    """Return the points of a metric's file, each once: a repeated line is one point."""
    seen: set[tuple[int, int, str, str | None, str | None]] = set()
    before: tuple[int, int] | None = None
    forgets = _is_ordered(file)
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            parts = line.split()
            if not parts:
                continue
            try:
                timestamp_ms, value = int(parts[0]), float(parts[1])
                step = int(parts[2]) if len(parts) > 2 else 0
            except (ValueError, IndexError):
                raise SourceError(f"{file} is damaged: {line[:80]!r}") from None
            dataset = (parts[3], parts[4]) if len(parts) >= 5 else (None, None)
            at = (step, timestamp_ms)
            if forgets and at != before:
                seen.clear()  # no later line can repeat these
            before = at
            if (one := (*at, repr(value), *dataset)) in seen:
                continue
            seen.add(one)
            linked = links.get((key, step, timestamp_ms, parts[1]), ())
            for model_id, name, digest in linked or ((None, *dataset),):
                yield (key, model_id, name, digest), step, timestamp_ms, value


def _is_ordered(file: Path) -> bool:
    """Return whether the points of a file are ordered by step and time, as nearly always."""
    before: tuple[int, int] | None = None
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            parts = line.split()
            try:
                at = (int(parts[2]), int(parts[0])) if len(parts) > 2 else (0, int(parts[0]))
            except (ValueError, IndexError):
                continue  # reported when it is read
            if before is not None and at < before:
                return False
            before = at
    return True
