"""What runs can be searched by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import duckdb

from modeltrail.api.runs.live import EXPERIMENT_ID
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

_RUN_PLAIN = replace(
    RUN, keyed={**RUN.keyed, "metric": Keyed(sql("runs.search_plain_metric"), "number")}
)


def run_entity(cursor: duckdb.DuckDBPyConnection, fields: Iterable[tuple[str, str]]) -> Entity:
    """Return ``RUN``, or a faster equivalent if each run has one series of a metric.

    Args:
        cursor: The cursor for the search.
        fields: Kind and key of the fields in the search.
    """
    keys = [key for kind, key in fields if kind == "metric"]
    several = keys and cursor.execute(sql("runs.has_several"), [keys]).fetchone()
    return RUN if several else _RUN_PLAIN
