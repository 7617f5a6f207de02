"""MLflow's tracking database: SQLite directly, others through SQLAlchemy.

Column names are always qualified: ``key`` and ``timestamp`` are reserved words in some databases,
but not after a dot.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from modeltrail.api.importing.entities import (
    DELETED_STAGE,
    RUN_NAME,
    Experiment,
    LoggedModel,
    Model,
    PointsBuilder,
    Run,
    Source,
    SourceError,
    SourcePoints,
    Version,
    model_id_of,
    status_of,
)
from modeltrail.api.importing.files import StoredFolder, folder_at
from modeltrail.limits import MODEL_STATUSES

_RUNS = 250
_ROWS = 20_000
_WORKSPACE = "default"
_SCHEMES = ("postgresql", "mysql", "mssql", "mariadb")

Row = Sequence[Any]


class _Rows(Protocol):
    tables: frozenset[str]

    def query(self, sql: str, values: Mapping[str, Any]) -> Iterator[Row]: ...

    def columns(self, table: str) -> frozenset[str]: ...

    def close(self) -> None: ...


class _Sqlite:
    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise SourceError(f"there is no file {path}")
        try:
            uri = f"file:{quote(str(path.absolute()))}?mode=ro"
            self._con = sqlite3.connect(uri, uri=True, timeout=60.0)
            found = self._con.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            self.tables = frozenset(name for (name,) in found)
        except sqlite3.Error as error:
            raise SourceError(f"{path} cannot be read as an SQLite file: {error}") from None

    def query(self, sql: str, values: Mapping[str, Any]) -> Iterator[Row]:
        try:
            found = self._con.execute(sql, values)
            while rows := found.fetchmany(_ROWS):
                yield from rows
        except sqlite3.Error as error:
            raise SourceError(f"the tracking database cannot be read: {error}") from None

    def columns(self, table: str) -> frozenset[str]:
        found = self._con.execute("SELECT name FROM pragma_table_info(?)", [table])
        return frozenset(name for (name,) in found)

    def close(self) -> None:
        self._con.close()


class _Alchemy:
    def __init__(self, url: str) -> None:
        try:
            import sqlalchemy
        except ModuleNotFoundError:
            raise SourceError(
                "this database is read through SQLAlchemy; install it and the database's driver: "
                "pip install 'modeltrail[import]' and psycopg or pymysql"
            ) from None
        self._text = sqlalchemy.text
        self._error: type[Exception] = sqlalchemy.exc.SQLAlchemyError
        try:
            engine = sqlalchemy.create_engine(url)
            self._con = engine.connect().execution_options(stream_results=True)
            self._inspector = sqlalchemy.inspect(engine)
            self.tables = frozenset(self._inspector.get_table_names())
        except ModuleNotFoundError as error:
            raise SourceError(
                f"the database's driver is missing: pip install {error.name}"
            ) from None
        except self._error as error:
            raise SourceError(f"the tracking database cannot be opened: {_bare(error)}") from None

    def query(self, sql: str, values: Mapping[str, Any]) -> Iterator[Row]:
        try:
            found = self._con.execute(self._text(sql), dict(values))
            yield from found.yield_per(_ROWS)
        except self._error as error:
            raise SourceError(f"the tracking database cannot be read: {_bare(error)}") from None

    def columns(self, table: str) -> frozenset[str]:
        return frozenset(column["name"] for column in self._inspector.get_columns(table))

    def close(self) -> None:
        self._con.close()
        self._con.engine.dispose()


def _bare(error: Exception) -> str:
    """Return a database's message, without what may be a password."""
    return re.sub(r"//[^/@\s]*@", "//…@", str(getattr(error, "orig", None) or error))


def is_database(source: str) -> bool:
    """Return whether a source names a database."""
    scheme = urlsplit(source).scheme.partition("+")[0]
    return scheme in ("sqlite", *_SCHEMES) or (scheme == "" and Path(source).is_file())


class DatabaseSource(Source):
    """A tracking database."""

    def __init__(self, source: str, artifacts: str | None = None) -> None:
        """Open it for reading.

        Args:
            source: ``sqlite:///mlflow.db``, a path, or another URL for SQLAlchemy.
            artifacts: Where ``mlflow-artifacts:/`` leads.

        Raises:
            SourceError: it cannot be opened, or is not a database of MLflow.
        """
        super().__init__()
        parts = urlsplit(source)
        self._rows: _Rows
        if parts.scheme in ("sqlite", ""):
            path = source
            if parts.scheme:
                path = unquote(re.sub(r"^[^:]+:(///)?", "", source).partition("?")[0])
            file = Path(path).absolute()
            self._rows = _Sqlite(file)
            self.identity = f"sqlite:///{file}"
            beside = file.parent / "mlartifacts"
            self._artifacts = artifacts or (str(beside) if beside.is_dir() else None)
        else:
            self._rows = _Alchemy(source)
            host = parts.netloc.rpartition("@")[2]
            self.identity = f"{parts.scheme}://{host}{parts.path}"
            self._artifacts = artifacts
        if not {"experiments", "runs", "metrics"} <= self._rows.tables:
            self._rows.close()
            raise SourceError(f"{self.identity} is not MLflow's: it has no experiments and runs")
        self._metric_models: set[str] | None = None

    def close(self) -> None:
        self._rows.close()

    def folder(
        self, uri: str, *, run_id: str | None = None, model_id: str | None = None
    ) -> StoredFolder:
        return folder_at(uri, self._artifacts)

    def _query(self, sql: str, **values: Any) -> Iterator[Row]:
        return self._rows.query(sql, values)

    def _among(self, sql: str, wanted: Sequence[Any]) -> Iterator[Row]:
        """Return rows of a query in which ``{wanted}`` stands for a list of values."""
        if not wanted:
            return iter(())
        names = {f"w{i}": value for i, value in enumerate(wanted)}
        listed = ", ".join(f":{name}" for name in names)
        return self._rows.query(sql.replace("{wanted}", f"({listed})"), names)

    def _here(self, table: str, alias: str) -> str:
        """Return a condition for the imported workspace; databases before 3.10 have none."""
        if "workspace" in self._rows.columns(table):
            return f"{alias}.workspace = '{_WORKSPACE}'"
        return "1 = 1"

    def size(self) -> int:
        return sum(
            count for table in ("runs", "metrics")
            for (count,) in self._query(f"SELECT count(*) FROM {table}")
        )  # fmt: skip

    # Experiments and runs

    def experiments(self) -> list[Experiment]:
        if "workspace" in self._rows.columns("experiments"):
            found = self._query(
                "SELECT count(*) FROM experiments e WHERE e.workspace <> :here", here=_WORKSPACE
            )
            for (count,) in found:
                if count:
                    self.notes.append(f"{count} experiments of other workspaces are left out")
        tags: dict[str, dict[str, str]] = defaultdict(dict)
        if "experiment_tags" in self._rows.tables:
            for experiment_id, key, value in self._query(
                "SELECT t.experiment_id, t.key, t.value FROM experiment_tags t"
            ):
                tags[str(experiment_id)][key] = value or ""
        times = {"creation_time", "last_update_time"} & self._rows.columns("experiments")
        names = ", ".join(
            f"e.{name}" if name in times else "NULL"
            for name in ("creation_time", "last_update_time")
        )
        return [
            Experiment(str(i), name, location or None, stage == "deleted", created, updated,
                       tags[str(i)])
            for i, name, location, stage, created, updated in self._query(
                f"SELECT e.experiment_id, e.name, e.artifact_location, e.lifecycle_stage, {names} "
                f"FROM experiments e WHERE {self._here('experiments', 'e')} "
                "ORDER BY e.experiment_id"
            )
        ]  # fmt: skip

    def runs(self, experiment: Experiment) -> Iterator[list[Run]]:
        has_name = "name" in self._rows.columns("runs")
        name = "r.name" if has_name else "NULL"
        last = ""
        while True:
            found = [
                Run(run_id, experiment.id, name or "", user or "", status or "RUNNING",
                    started or 0, ended, stage == "deleted", uri or "")
                for run_id, name, user, status, started, ended, stage, uri in self._query(
                    f"SELECT r.run_uuid, {name}, r.user_id, r.status, r.start_time, r.end_time, "
                    "r.lifecycle_stage, r.artifact_uri FROM runs r "
                    "WHERE r.experiment_id = :experiment AND r.run_uuid > :last "
                    f"ORDER BY r.run_uuid LIMIT {_RUNS}",
                    experiment=int(experiment.id),
                    last=last,
                )
            ]  # fmt: skip
            if not found:
                return
            last = found[-1].run_id
            self._complete(found)
            yield found

    def _complete(self, runs: list[Run]) -> None:
        by_id = {run.run_id: run for run in runs}
        ids = list(by_id)
        for kind in ("params", "tags"):
            for run_id, key, value in self._among(
                f"SELECT t.run_uuid, t.key, t.value FROM {kind} t WHERE t.run_uuid IN {{wanted}}",
                ids,
            ):
                getattr(by_id[run_id], kind)[key] = value or ""
        for run in runs:
            name_tag = run.tags.pop(RUN_NAME, "")
            run.name = run.name or name_tag
        if "inputs" in self._rows.tables:
            self._complete_inputs(by_id)

    def _complete_inputs(self, by_id: dict[str, Run]) -> None:
        tags: dict[str, dict[str, str]] = defaultdict(dict)
        ids = list(by_id)
        for input_id, name, value in self._among(
            "SELECT t.input_uuid, t.name, t.value FROM input_tags t "
            "JOIN inputs i ON i.input_uuid = t.input_uuid "
            "WHERE i.destination_type = 'RUN' AND i.destination_id IN {wanted}",
            ids,
        ):
            tags[input_id][name] = value
        names = ("name", "digest", "source_type", "source", "schema", "profile")
        for run_id, input_id, *values in self._among(
            "SELECT i.destination_id, i.input_uuid, d.name, d.digest, d.dataset_source_type, "
            "d.dataset_source, d.dataset_schema, d.dataset_profile "
            "FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id "
            "WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN' "
            "AND i.destination_id IN {wanted}",
            ids,
        ):
            dataset = dict(zip(names, values, strict=True))
            by_id[run_id].datasets.append({**dataset, "tags": tags[input_id]})
        step = "i.step" if "step" in self._rows.columns("inputs") else "0"
        for kind, run_id, model_id, at in self._among(
            f"SELECT i.source_type, i.source_id, i.destination_id, {step} FROM inputs i "
            "WHERE i.source_type IN ('RUN_INPUT', 'RUN_OUTPUT') AND i.source_id IN {wanted}",
            ids,
        ):
            run = by_id[run_id]
            if kind == "RUN_INPUT":
                run.model_inputs.add(model_id)
            else:
                run.model_outputs.add((model_id, at or 0))

    # Points

    def points(self, runs: Sequence[Run]) -> Iterator[SourcePoints]:
        if self._metric_models is None:
            self._metric_models = set()
            if "logged_model_metrics" in self._rows.tables:
                found = self._query("SELECT DISTINCT l.run_id FROM logged_model_metrics l")
                self._metric_models.update(run_id for (run_id,) in found)
        plain = [run.run_id for run in runs if run.run_id not in self._metric_models]
        of_models = [run.run_id for run in runs if run.run_id in self._metric_models]
        columns = "m.run_uuid, m.key, m.step, m.timestamp, m.value, m.is_nan"
        yield from _packed(
            self._among(
                f"SELECT {columns}, NULL, NULL, NULL FROM metrics m "
                "WHERE m.run_uuid IN {wanted} ORDER BY m.run_uuid",
                plain,
            )
        )
        # A point of a logged model is in both tables, but is one point here.
        yield from _packed(
            self._among(
                f"SELECT {columns}, l.model_id, l.dataset_name, l.dataset_digest "
                "FROM metrics m LEFT JOIN logged_model_metrics l ON l.run_id = m.run_uuid "
                "AND l.metric_name = m.key AND l.metric_step = m.step "
                "AND l.metric_timestamp_ms = m.timestamp "
                "AND (l.metric_value = m.value OR l.metric_value IS NULL) "
                "WHERE m.run_uuid IN {wanted} ORDER BY m.run_uuid",
                of_models,
            )
        )

    # Logged models

    def logged_models(self, experiment: Experiment) -> list[LoggedModel]:
        if "logged_models" not in self._rows.tables:
            return []
        models = {
            model_id: LoggedModel(model_id, experiment.id, name, kind or None, run_id or None,
                                  location, status_of(status, MODEL_STATUSES, "PENDING"),
                                  message or None, stage == "deleted", created, updated)
            for model_id, name, kind, run_id, location, status, message, stage, created, updated
            in self._query(
                "SELECT l.model_id, l.name, l.model_type, l.source_run_id, l.artifact_location, "
                "l.status, l.status_message, l.lifecycle_stage, l.creation_timestamp_ms, "
                "l.last_updated_timestamp_ms FROM logged_models l "
                "WHERE l.experiment_id = :experiment "
                "ORDER BY l.creation_timestamp_ms, l.model_id",
                experiment=int(experiment.id),
            )
        }  # fmt: skip
        for kind in ("param", "tag"):
            for model_id, key, value in self._query(
                f"SELECT t.model_id, t.{kind}_key, t.{kind}_value FROM logged_model_{kind}s t "
                "WHERE t.experiment_id = :experiment",
                experiment=int(experiment.id),
            ):
                getattr(models[model_id], f"{kind}s")[key] = value or ""
        return list(models.values())

    # The registry

    def models(self) -> Iterator[Model]:
        if "registered_models" not in self._rows.tables:
            return
        columns = self._rows.columns("registered_models")
        description = "m.description" if "description" in columns else "NULL"
        here = self._here("registered_models", "m")
        models = [
            Model(*row)
            for row in self._query(
                f"SELECT m.name, {description}, m.creation_time, m.last_updated_time "
                f"FROM registered_models m WHERE {here} ORDER BY m.creation_time, m.name"
            )
        ]
        for model in models:
            model.description = model.description or None
            model.tags = self._tags("registered_model_tags", model.name)
            if "registered_model_aliases" in self._rows.tables:
                model.aliases = {
                    alias: int(version)
                    for alias, version in self._query(
                        "SELECT a.alias, a.version FROM registered_model_aliases a "
                        f"WHERE a.name = :name AND {self._here('registered_model_aliases', 'a')}",
                        name=model.name,
                    )
                }
            model.versions = list(self._versions(model.name))
            yield model

    def _tags(self, table: str, name: str, version: int | None = None) -> dict[str, str]:
        if table not in self._rows.tables:
            return {}
        which = "" if version is None else "AND t.version = :version"
        values = {"name": name} if version is None else {"name": name, "version": version}
        found = self._rows.query(
            f"SELECT t.key, t.value FROM {table} t "
            f"WHERE t.name = :name {which} AND {self._here(table, 't')}",
            values,
        )
        return {key: value or "" for key, value in found}

    def _versions(self, name: str) -> Iterator[Version]:
        columns = self._rows.columns("model_versions")
        optional = ", ".join(
            f"v.{column}" if column in columns else "NULL"
            for column in ("description", "run_link", "storage_location")
        )
        rows = list(
            self._query(
                "SELECT v.version, v.source, v.run_id, v.current_stage, v.creation_time, "
                f"v.last_updated_time, {optional} FROM model_versions v "
                f"WHERE v.name = :name AND {self._here('model_versions', 'v')} "
                "ORDER BY v.version",
                name=name,
            )
        )
        for number, source, run_id, stage, created, updated, description, link, storage in rows:
            source = source or storage or ""
            yield Version(
                number, source, run_id or None, model_id_of(source), link or None,
                description or None, stage or "None", created, updated, stage == DELETED_STAGE,
                {} if stage == DELETED_STAGE else self._tags("model_version_tags", name, number),
            )  # fmt: skip


def _packed(rows: Iterable[Row]) -> Iterator[SourcePoints]:
    builder = PointsBuilder("")
    current = None
    for run_id, key, step, timestamp_ms, value, is_nan, model_id, dataset, digest in rows:
        if run_id != current:
            if len(builder):
                yield builder.take()
            builder = PointsBuilder(run_id)
            current = run_id
        number = math.nan if is_nan else value
        if builder.add((key, model_id, dataset, digest), step, timestamp_ms, number):
            yield builder.take()
    if len(builder):
        yield builder.take()
