"""What runs can be searched by, and the columns that their query shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import duckdb

from modeltrail.api.runs.live import DELETED, EXPERIMENT_ID
from modeltrail.api.search import Attribute, Entity, Keyed
from modeltrail.consumers.reading import sql

RUN_NAME = "mlflow.runName"

# Tags that MLflow's users expect, and where runs of Modeltrail's producers store the same.
COLUMN_OF_TAG = {
    "mlflow.parentRunId": "parent_run_id",
    "mlflow.user": '"user"',
    "mlflow.source.name": "entry_point",
    "mlflow.source.git.commit": "git_commit",
    "mlflow.source.git.branch": "git_branch",
    "mlflow.source.git.repoURL": "git_remote",
}
RECORDED = "r.python_version IS NOT NULL"
"""Whether Modeltrail's producers recorded a run. MLflow's clients send all of these as tags."""


def source_of(tags: Mapping[str, str]) -> dict[str, str | None] | None:
    """Return where a run's code came from, as its start records it, from MLflow's tags."""
    names = {name: tag for tag, name in COLUMN_OF_TAG.items() if tag.startswith("mlflow.source.")}
    source = {name: tags.get(tag) for name, tag in names.items()}
    return source if any(source.values()) else None


_ARTIFACT_ROOT = (
    f"coalesce(nullif(e.artifact_location, ''), 'mlflow-artifacts:/' || {EXPERIMENT_ID})"
)
_NAME = Attribute("r.name")
_START = Attribute("r.started_at_ms", "number")

RUN = Entity(
    id="r.run",
    attributes={
        "run_id": Attribute("r.run_id"),
        **dict.fromkeys(("run_name", "run name", "Run name", "Run Name"), _NAME),
        "status": Attribute("r.status"),
        "user_id": Attribute('r."user"'),
        "artifact_uri": Attribute(
            f"(rtrim({_ARTIFACT_ROOT}, '/') || '/' || r.run_id || '/artifacts')"
        ),
        **dict.fromkeys(("start_time", "created", "Created"), _START),
        "end_time": Attribute("r.ended_at_ms", "number"),
    },
    keyed={
        # One value for each key, as the run shows it: the latest of all models and datasets.
        "metric": Keyed(sql("runs.search_metric"), "number"),
        "parameter": Keyed(sql("runs.search_param"), "param", nullable=True),
        "tag": Keyed(
            sql("runs.search_tag"),
            nullable=True,
            special={
                RUN_NAME: sql("runs.search_name"),
                **{
                    key: sql("runs.search_column", key=key, column=column, recorded=RECORDED)
                    for key, column in COLUMN_OF_TAG.items()
                },
            },
        ),
        "dataset": Keyed(
            special={
                "name": sql("runs.search_dataset", value="name"),
                "digest": sql("runs.search_dataset", value="digest"),
                "context": sql("runs.search_dataset", value="tags['mlflow.data.context']"),
            },
            ordered=False,
        ),
    },
    prefixes={
        **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attribute"),
        **dict.fromkeys(("metric", "metrics"), "metric"),
        **dict.fromkeys(("parameter", "parameters", "param", "params"), "parameter"),
        **dict.fromkeys(("tag", "tags"), "tag"),
        **dict.fromkeys(("dataset", "datasets"), "dataset"),
    },
)
"""Runs as MLflow's API searches them."""

_PLAIN_METRIC = Keyed(sql("runs.search_plain_metric"), "number")


def run_entity(
    cursor: duckdb.DuckDBPyConnection, fields: Iterable[tuple[str, str]], entity: Entity = RUN
) -> Entity:
    """Return the entity, or a faster equivalent if each run has one series of a metric.

    Args:
        cursor: The cursor for the search.
        fields: Kind and key of the fields in the search.
        entity: Runs as they are searched.
    """
    keys = [key for kind, key in fields if kind == "metric"]
    if keys and cursor.execute(sql("runs.has_several"), [keys]).fetchone():
        return entity
    metric = replace(_PLAIN_METRIC, nullable=entity.keyed["metric"].nullable)
    return replace(entity, keyed={**entity.keyed, "metric": metric})


# The native query


Type = Literal["text", "number", "integer", "time", "boolean"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A property of runs that the native query shows.

    Attributes:
        fold: Its SQL over the fold's tables; a time is in ms since 1970.
        view: Its SQL over the public view ``runs``, if it is not a column of the same name. A time
            is a TIMESTAMP.
        type: Of its values.
    """

    fold: str
    view: str = ""
    type: Type = "text"


SHOWN: Final[Mapping[str, Shown]] = {
    "run_id": Shown("r.run_id"),
    "run_name": Shown("r.name", "r.name"),
    "experiment_id": Shown(EXPERIMENT_ID),
    "experiment_name": Shown("coalesce(e.name, r.experiment_name)"),
    "status": Shown("r.status"),
    "start_time": Shown("r.started_at_ms", type="time"),
    "end_time": Shown("r.ended_at_ms", type="time"),
    "duration_s": Shown("((r.ended_at_ms - r.started_at_ms) / 1000)", type="number"),
    "user": Shown('r."user"', 'r."user"'),
    "parent_run_id": Shown("r.parent_run_id"),
    "message": Shown("r.message"),
    "deleted": Shown(
        DELETED,
        "(r.deleted OR r.experiment_id IN "
        "(SELECT experiment_id FROM experiments WHERE deleted AND experiment_id IS NOT NULL))",
        "boolean",
    ),
    "entry_point": Shown("r.entry_point"),
    "git_commit": Shown("r.git_commit"),
    "git_branch": Shown("r.git_branch"),
    "git_dirty": Shown("r.git_dirty", type="boolean"),
    "git_remote": Shown("r.git_remote"),
    "host": Shown("r.host"),
    "python_version": Shown("r.python_version"),
    "complete": Shown(
        "(r.started AND a.events_missing = 0 AND a.points_dropped = 0)", type="boolean"
    ),
    "events_missing": Shown("a.events_missing", type="integer"),
    "points_logged": Shown("a.points_logged", type="integer"),
    "points_dropped": Shown("a.points_dropped", type="integer"),
    "points_stored": Shown("a.points_stored", type="integer"),
    "events_after_end": Shown("r.events_after_end", type="integer"),
    "last_heartbeat": Shown("a.last_seen_ms", "r.last_seen", "time"),
    "actor": Shown("r.actor"),
    "appended_at": Shown("r.appended_at_ms", type="time"),
    "position": Shown("('runs:' || r.partition || ':' || r.\"offset\")"),
}
"""The properties by name. All can be shown, filtered and ordered by."""


def _view_of(name: str) -> str:
    shown = SHOWN[name]
    text = shown.view or f"r.{name}"
    return f"epoch_ms({text})" if shown.type == "time" else text


_KINDS: Final = {
    "text": "text", "number": "number", "integer": "number", "time": "time", "boolean": "boolean"
}  # fmt: skip


def _attributes(sql_of: Mapping[str, str]) -> dict[str, Attribute]:
    found = {
        name: Attribute(sql_of[name], _KINDS[shown.type], nullable=True)  # type: ignore[arg-type]
        for name, shown in SHOWN.items()
    }
    others = {
        **dict.fromkeys(("run name", "Run name", "Run Name", "name"), "run_name"),
        **dict.fromkeys(("created", "Created"), "start_time"),
        "user_id": "user",
    }
    return {**found, **{other: found[name] for other, name in others.items()}}


def _metrics(**rows: str) -> dict[str, Keyed]:
    """Return the latest value of a metric, and what may follow its key, from their rows."""
    kinds = {name: "metric" if name == "latest" else f"metric.{name}" for name in rows}
    return {kinds[name]: Keyed(rows[name], "number", nullable=True) for name in rows}


QUERIED: Final = replace(
    RUN,
    attributes=_attributes({name: shown.fold for name, shown in SHOWN.items()}),
    keyed={
        **RUN.keyed,
        **_metrics(
            latest=sql("runs.search_metric"),
            min=sql("runs.search_metric_min"),
            max=sql("runs.search_metric_max"),
            points=sql("runs.search_metric_points"),
        ),
    },
    suffixes={"metric": {name: f"metric.{name}" for name in ("min", "max", "points")}},
)
"""Runs as the native query searches them, in the fold's tables."""

IN_VIEWS: Final = replace(
    QUERIED,
    id="r.run_id",
    attributes=_attributes({name: _view_of(name) for name in SHOWN}),
    keyed={
        **_metrics(
            latest=sql("run_views.search_metric"),
            min=sql("run_views.search_metric_min"),
            max=sql("run_views.search_metric_max"),
            points=sql("run_views.search_metric_points"),
        ),
        "parameter": replace(RUN.keyed["parameter"], rows=sql("run_views.search_param")),
        "tag": replace(
            RUN.keyed["tag"],
            rows=sql("run_views.search_tag"),
            special={
                RUN_NAME: sql("run_views.search_name"),
                **{
                    key: sql("run_views.search_column", key=key, column=column)
                    for key, column in COLUMN_OF_TAG.items()
                },
            },
        ),
        "dataset": replace(
            RUN.keyed["dataset"],
            special={
                "name": sql("run_views.search_dataset", value="name"),
                "digest": sql("run_views.search_dataset", value="digest"),
                "context": sql("run_views.search_dataset", value="tags['mlflow.data.context']"),
            },
        ),
    },
)
"""The same in the public views."""
