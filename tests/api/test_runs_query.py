"""The query for runs: the grammar, columns, order and window, and the same rows by SQL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from api_server import Job, a_node
from modeltrail.api.app import create_app
from modeltrail.eventlog import RUNS, NewEvent

API = "/api/v1"


class Runs:
    """A server with a few runs, and their query."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def ask(self, status: int = 200, /, **body: Any) -> Any:
        answer = self.client.post(f"{API}/runs/query", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def ids(self, **body: Any) -> list[str]:
        return [row["run_id"] for row in self.ask(columns=["run_id"], **body)["rows"]]


LOSSES = {"a": [0.9, 0.1], "b": [0.5], "c": [math.nan], "d": [math.inf, -math.inf], "e": []}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with a_node(tmp_path_factory.mktemp("runs")) as node:
        events = []
        for n, (run_id, losses) in enumerate(LOSSES.items()):
            job = Job(
                run_id,
                name=f"<b>{run_id}</b>",
                experiment_name="Default" if n % 2 else "other",
                started_at_ms=1_700_000_000_000 + n,
                parent_run_id={"c": "a", "d": "a", "e": "c"}.get(run_id),
                params={"lr": f"0.{n}", "a 'key' \"?": "?"},
                tags={"team": "vision" if n < 3 else "x' OR '1'='1"},
            )
            said = [job.started(), *([job.metrics("loss", losses)] if losses else [])]
            if run_id == "b":
                said.append(job.event("RunEnded", status="FINISHED", ended_at_ms=1_700_000_060_001))
            events += [NewEvent(RUNS, run_id, payload) for payload in said]
        node.append(events)
        with TestClient(create_app(node), base_url="http://localhost") as client:
            yield Runs(client)


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ("", "edcba"),
        ("metrics.loss < 0.6", "dba"),
        ("NOT (metrics.loss < 0.6 OR params.lr = '0.4')", "c"),
        ("metrics.loss IS NULL OR metrics.loss.points = 2", "eda"),
        ("tags.team = 'x'' OR ''1''=''1'", "ed"),
        ("params.`a 'key' \"?` = '?' AND params.lr >= 0.3", "ed"),
        ("attributes.status = 'FINISHED'", "b"),
        ("end_time IS NOT NULL", "b"),
        ("start_time > '2023-11-14T22:13:20.002Z'", "ed"),
        ("start_time <= 1700000000001", "ba"),
        ("complete = 'false'", ""),
        ("experiment_name IN ('other') AND parent_run_id = 'a'", "c"),
        ("run_name LIKE '<b>%'", "edcba"),
    ],
)
def test_filters(runs: Runs, filter: str, found: str) -> None:
    answer = runs.ask(filter=filter, columns=["run_id"])
    assert "".join(row["run_id"] for row in answer["rows"]) == found
    assert answer["count"] == len(found)


def test_order_puts_nan_and_missing_values_last(runs: Runs) -> None:
    for descending, found in ((False, "dabce"), (True, "badce")):
        order = [{"column": "metrics.loss", "descending": descending}]
        assert "".join(runs.ids(order=order)) == found


def test_windows(runs: Runs) -> None:
    assert runs.ids(offset=1, limit=2) == ["d", "c"]
    for offset, limit in ((5, 10), (2**40, 1), (0, 0)):
        answer = runs.ask(offset=offset, limit=limit)
        assert (answer["rows"], answer["count"]) == ([], 5)


COLUMNS = ["run_id", "run_name", "experiment_name", "status", "start_time", "end_time", "complete",
           "duration_s", "params.lr", "params.a 'key' \"?", "tags.team", "metrics.loss",
           "metrics.loss.points", "metrics.`loss.points`", "last_heartbeat", "events_missing",
           "position", "deleted", "tags.mlflow.user"]  # fmt: skip


def test_columns(runs: Runs) -> None:
    answer = runs.ask(columns=COLUMNS, filter="run_id = 'b'")
    (row,) = answer["rows"]
    assert [column["name"] for column in answer["columns"]] == COLUMNS
    assert row["run_name"] == "<b>b</b>"
    assert row["start_time"] == "2023-11-14T22:13:20.001000Z"
    assert (row["duration_s"], row["complete"], row["deleted"]) == (60.0, True, False)
    assert (row["params.lr"], row["params.a 'key' \"?"]) == ("0.1", "?")
    assert (row["metrics.loss"], row["metrics.loss.points"]) == (0.5, 1)
    assert row["metrics.`loss.points`"] is None
    values = [row["metrics.loss"] for row in runs.ask(columns=["metrics.loss"])["rows"]]
    assert values == [None, "-Infinity", "NaN", 0.5, 0.1]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"filter": "metrics.loss < 1 AND params.`a 'key' \"?` = '?'"},
        {"filter": "tags.team LIKE '%''%' OR complete = 'true' AND metrics.loss.points > 0"},
        {"order": [{"column": "metrics.loss", "descending": True}], "limit": 3, "offset": 1},
        {"order": [{"column": "duration_s"}, {"column": "tags.team"}]},
        {"experiments": ["0"], "view": "all"},
        {"view": "deleted"},
    ],
)
def test_the_sql_gives_the_same_rows(runs: Runs, body: dict[str, Any]) -> None:
    answer = runs.ask(columns=COLUMNS, **body)
    done = runs.client.post(f"{API}/sql", json={"statement": answer["sql"]})
    assert done.status_code == 200, done.text
    assert done.json()["columns"] == COLUMNS
    assert done.json()["rows"] == [list(row.values()) for row in answer["rows"]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"filter": "foo = 1"}, "Invalid attribute key 'foo'"),
        ({"filter": "metrics.`loss`.mean > 1"}, "nothing may begin with '.mean'"),
        ({"filter": "(" * 200 + "run_id = 'a'" + ")" * 200}, "levels of parentheses"),
        ({"filter": "start_time > 'yesterday'"}, "not a time: 'yesterday'"),
        ({"filter": "complete = 'maybe'"}, "expected 'true' or 'false'"),
        ({"columns": ["nothing"]}, "there is no column 'nothing'"),
        ({"columns": ["metrics."]}, "there is no column"),
        ({"columns": ["run_id", "run_id"]}, "named twice"),
        ({"columns": ["run_id"] * 1_000}, "at most 200 items"),
        ({"columns": ["params." + "k" * 500]}, "at most 270 characters"),
        ({"limit": 10_001}, "less than or equal to 10000"),
        ({"offset": -1}, "greater than or equal to 0"),
        ({"wrong": 1}, "Extra inputs"),
    ],
)
def test_mistakes(runs: Runs, body: dict[str, Any], message: str) -> None:
    assert message in runs.ask(400, **body)["message"]


def test_a_filter_of_mlflow_has_no_suffixes(runs: Runs) -> None:
    body = {"filter": "metrics.`loss`.points > 1"}
    answer = runs.client.post("/api/2.0/mlflow/runs/search", json=body)
    assert answer.status_code == 400
    assert "nothing may begin with '.points'" in answer.json()["message"]
