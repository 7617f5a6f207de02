"""MLflow's file store: a folder ``mlruns`` of YAML and text files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from modeltrail.api.importing.databases import model_id_of
from modeltrail.api.importing.entities import (
    RUN_NAME,
    Experiment,
    LoggedModel,
    Model,
    PointsBuilder,
    Run,
    SeriesKey,
    SourceError,
    SourcePoints,
    Version,
)
from modeltrail.api.importing.files import StoredFolder, folder_at, local_path
from modeltrail.limits import MODEL_STATUSES, RUN_STATUSES

_RUNS = 250
_META = "meta.yaml"
_TRASH = ".trash"
_MODELS = "models"
_STATUSES = dict(enumerate(RUN_STATUSES, 1))
_MODEL_STATUSES = dict(enumerate(MODEL_STATUSES, 1))
_DELETED = "Deleted_Internal"

Point = tuple[str, int, int, str]
"""Key, step, timestamp, and the value as text."""


class FolderSource:
    """A file store."""

    def __init__(self, source: str, artifacts: str | None = None) -> None:
        """Open it for reading.

        Args:
            source: The folder, as a path or ``file:`` URL.
            artifacts: Where ``mlflow-artifacts:/`` leads.

        Raises:
            SourceError: it is not a file store.
        """
        path = local_path(source)
        if path is None or not path.is_dir():
            raise SourceError(f"there is no folder {source}")
        self._root = path.absolute()
        self._artifacts = artifacts
        self.identity = self._root.as_uri()
        self.notes: list[str] = []
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

    def close(self) -> None:
        """See ``Source.close``."""

    def folder(
        self, uri: str, *, run_id: str | None = None, model_id: str | None = None
    ) -> StoredFolder:
        return folder_at(uri, self._artifacts)

    def size(self) -> int:
        return 0

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
            found.append(
                Experiment(
                    folder.name,
                    str(meta["name"]),
                    meta.get("artifact_location"),
                    meta.get("lifecycle_stage") == "deleted" or folder.parent.name == _TRASH,
                    meta.get("creation_time"),
                    meta.get("last_update_time"),
                    _texts(folder / "tags"),
                )
            )
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
        tags = _texts(folder / "tags")
        name_tag = tags.pop(RUN_NAME, "")
        run = Run(
            folder.name,
            folder.parent.name,
            str(meta.get("run_name") or meta.get("name") or name_tag),
            str(meta.get("user_id") or ""),
            _status(meta.get("status"), _STATUSES, "RUNNING"),
            meta.get("start_time") or 0,
            meta.get("end_time"),
            meta.get("lifecycle_stage") == "deleted",
            str(meta.get("artifact_uri") or ""),
            _texts(folder / "params"),
            tags,
        )
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
            LoggedModel(
                folder.name,
                experiment.id,
                str(meta["name"]),
                meta.get("model_type") or None,
                meta.get("source_run_id") or None,
                str(meta.get("artifact_location") or ""),
                _status(meta.get("status"), _MODEL_STATUSES, "PENDING"),
                meta.get("status_message") or None,
                meta.get("lifecycle_stage") == "deleted",
                meta.get("creation_timestamp"),
                meta.get("last_updated_timestamp"),
                _texts(folder / "params"),
                _texts(folder / "tags"),
            )
            for folder, meta in self._metas(self._folder_of(experiment) / _MODELS)
        ]

    def models(self) -> Iterator[Model]:
        for folder, meta in self._metas(self._root / _MODELS):
            versions = [self._version(one, found) for one, found in self._metas(folder)]
            yield Model(
                str(meta["name"]),
                meta.get("description") or None,
                meta.get("creation_timestamp"),
                meta.get("last_updated_timestamp"),
                _texts(folder / "tags"),
                {alias: int(number) for alias, number in (meta.get("aliases") or {}).items()},
                sorted(versions, key=lambda version: version.number),
            )

    def _version(self, folder: Path, meta: dict[str, Any]) -> Version:
        source = str(meta.get("source") or meta.get("storage_location") or "")
        stage = str(meta.get("current_stage") or "None")
        return Version(
            int(meta["version"]),
            source,
            meta.get("run_id") or None,
            meta.get("model_id") or model_id_of(source),
            meta.get("run_link") or None,
            meta.get("description") or None,
            stage,
            meta.get("creation_timestamp"),
            meta.get("last_updated_timestamp"),
            stage == _DELETED,
            {} if stage == _DELETED else _texts(folder / "tags"),
        )


def _status(found: Any, names: dict[int, str], default: str) -> str:
    """Return a status, which is a number, or a name in old stores."""
    if isinstance(found, int):
        return names.get(found, default)
    return found if found in names.values() else default


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
