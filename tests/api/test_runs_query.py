"""The query for runs: the grammar, columns, order and window, and the same rows by SQL."""

from __future__ import annotations

import csv
import io
import json
import math
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from access_world import world_in
from api_server import Job, a_node
from modeltrail.api.answers import plain
from modeltrail.api.app import create_app
from modeltrail.eventlog import RUNS, NewEvent
from modeltrail.schemas import pack

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
        ("metrics.loss.min IS NULL", "edc"),
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
           "metrics.loss.points", "metrics.loss.min", "metrics.loss.max", "metrics.`loss.points`",
           "children", "last_heartbeat", "events_missing",
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
    assert (row["metrics.loss.min"], row["metrics.loss.max"], row["children"]) == (0.5, 0.5, 0)
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
        {"tree": True},
        {"tree": True, "filter": "run_id <> 'a' AND metrics.loss.max IS NULL".replace("<>", "!=")},
        {"parent": "a", "order": [{"column": "metrics.loss.min"}]},
    ],
)
def test_the_sql_gives_the_same_rows(runs: Runs, body: dict[str, Any]) -> None:
    answer = runs.ask(columns=COLUMNS, **body)
    done = runs.client.post(f"{API}/sql", json={"statement": answer["sql"]})
    assert done.status_code == 200, done.text
    assert done.json()["columns"] == COLUMNS
    assert done.json()["rows"] == [list(row.values()) for row in answer["rows"]]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"order": [{"column": "mean(metrics.loss)"}]},
        {"order": [{"column": "tags.team", "descending": True}], "limit": 1, "offset": 1},
        {"filter": "metrics.loss < 0", "group": ["tags.team", "status", "complete"]},
        {"filter": "run_id = 'nothing'"},
        {"group": ["start_time", "metrics.loss"]},
    ],
)
def test_groups_and_their_sql(runs: Runs, body: dict[str, Any]) -> None:
    columns = ["run_id", "metrics.loss", "metrics.loss.points", "duration_s"]
    answer = runs.ask(**{"group": ["tags.team"], "columns": columns, **body})
    done = runs.client.post(f"{API}/sql", json={"statement": answer["sql"]})
    assert done.status_code == 200, done.text
    assert done.json()["rows"] == [list(row.values()) for row in answer["rows"]]
    assert done.json()["columns"] == [column["name"] for column in answer["columns"]]


def test_statistics_of_groups_are_of_finite_values(runs: Runs) -> None:
    answer = runs.ask(columns=["metrics.loss", "metrics.loss.max"], group=["tags.team"])
    assert (answer["count"], answer["runs"]) == (2, 5)
    vision, other = answer["rows"]
    assert (vision["tags.team"], vision["runs"]) == ("vision", 3)
    assert vision["mean(metrics.loss)"] == pytest.approx(0.3)  # of 0.1, 0.5 and NaN
    assert vision["std(metrics.loss)"] == pytest.approx(math.sqrt(0.08))
    assert (vision["min(metrics.loss)"], vision["max(metrics.loss)"]) == (0.1, 0.5)
    assert vision["max(metrics.loss.max)"] == 0.9
    assert [other[name] for name in other] == ["x' OR '1'='1", 2, *[None] * 8]


def test_a_tree(runs: Runs) -> None:
    answer = runs.ask(columns=["run_id", "children"], tree=True)
    assert answer["rows"] == [{"run_id": "b", "children": 0}, {"run_id": "a", "children": 2}]
    assert (answer["count"], answer["runs"]) == (2, 5)
    assert runs.ids(parent="a") == ["d", "c"]
    assert runs.ids(parent="c") == ["e"]
    # The rows below something that is not found are at the top.
    assert runs.ids(tree=True, filter="run_id != 'a'") == ["d", "c", "b"]


def test_facets_leave_out_what_the_filter_says_of_them_alone(runs: Runs) -> None:
    facets = ["status", "tags.team", "metrics.loss", "start_time"]
    answer = runs.ask(filter="status = 'FINISHED' AND tags.team = 'vision'", facets=facets)
    assert (answer["count"], answer["runs"]) == (1, 1)
    assert answer["facets"] == {
        "status": [{"value": "RUNNING", "runs": 2}, {"value": "FINISHED", "runs": 1}],
        "tags.team": [{"value": "vision", "runs": 1}],
        "metrics.loss": [{"value": 0.5, "runs": 1}],
        "start_time": [{"value": "2023-11-14T22:13:20.001000Z", "runs": 1}],
    }


def test_keys(runs: Runs) -> None:
    keys = runs.ask(keys=True)["keys"]
    assert keys["params"] == [{"key": "a 'key' \"?", "runs": 5}, {"key": "lr", "runs": 5}]
    assert (keys["metrics"], keys["metrics_count"]) == ([{"key": "loss", "runs": 4}], 1)
    assert keys["tags"] == [{"key": "team", "runs": 5}]
    keys = runs.ask(keys=True, key_prefix="L", keys_limit=1, filter="run_id = 'e'")["keys"]
    assert keys["params"] == [{"key": "lr", "runs": 1}]
    assert (keys["metrics_count"], keys["tags_count"]) == (0, 0)


def test_arrow(runs: Runs) -> None:
    body = {"columns": COLUMNS, "facets": ["status"]}
    expected = runs.ask(**body)
    headers = {"Accept": "application/vnd.apache.arrow.stream"}
    got = runs.client.post(f"{API}/runs/query", json=body, headers=headers)
    table = pa.ipc.open_stream(got.content).read_all()
    assert json.loads(table.schema.metadata[b"modeltrail"]) == {
        name: value for name, value in expected.items() if name != "rows"
    }
    names = [column["name"] for column in expected["columns"]]
    rows = [dict(zip(names, map(plain, row.values()), strict=True)) for row in table.to_pylist()]
    assert rows == expected["rows"]
    grouped = {"columns": ["metrics.loss"], "group": ["tags.team"], "filter": "run_id = 'x'"}
    got = runs.client.post(f"{API}/runs/query?format=arrow", json=grouped)
    assert pa.ipc.open_stream(got.content).read_all().num_rows == 0


def test_downloads_have_all_rows(runs: Runs) -> None:
    body = {"columns": ["run_id", "metrics.loss", "start_time", "complete"], "limit": 1}
    got = runs.client.post(f"{API}/runs/query?format=csv", json=body)
    assert got.headers["content-disposition"].startswith('attachment; filename="runs.csv"')
    lines = list(csv.reader(got.text.splitlines()))
    assert lines[0] == body["columns"]
    assert [line[:2] for line in lines[1:]] == [
        ["e", ""], ["d", "-Infinity"], ["c", "NaN"], ["b", "0.5"], ["a", "0.1"]
    ]  # fmt: skip
    assert lines[1][2:] == ["2023-11-14T22:13:20.004000Z", "true"]
    got = runs.client.post(f"{API}/runs/query?format=parquet", json=body)
    table = pq.read_table(io.BytesIO(got.content))
    assert table["run_id"].to_pylist() == list("edcba")
    body = {"columns": ["metrics.loss"], "group": ["tags.team"]}
    got = runs.client.post(f"{API}/runs/query?format=csv", json=body)
    assert [line.split(",")[0] for line in got.text.splitlines()] == [
        "tags.team", "vision", "x' OR '1'='1"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"group": ["status"], "order": [{"column": "run_id"}]}, "groups have no column 'run_id'"),
        ({"group": ["status"], "tree": True}, "one of group, tree and parent"),
        ({"order": [{"column": "children"}]}, "not ordered by"),
        ({"facets": ["children"]}, "not grouped or counted by"),
        ({"order": [{"column": "status"}, {"column": "status"}]}, "duplicate fields"),
        ({"filter": "foo = 1"}, "Invalid attribute key 'foo'"),
        ({"filter": "metrics.`loss`.mean > 1"}, "nothing may begin with '.mean'"),
        ({"filter": "(" * 200 + "run_id = 'a'" + ")" * 200}, "levels of parentheses"),
        ({"filter": "start_time > 'yesterday'"}, "not a time: 'yesterday'"),
        ({"filter": "complete = 'maybe'"}, "expected 'true' or 'false'"),
        ({"columns": ["nothing"]}, "there is no column 'nothing'"),
        ({"columns": ["metrics."]}, "there is no column"),
        ({"columns": ["run_id"] * 1_000}, "at most 200 items"),
        ({"columns": ["params." + "k" * 500]}, "at most 270 characters"),
        ({"limit": 10_001}, "less than or equal to 10000"),
        ({"offset": -1}, "greater than or equal to 0"),
        ({"wrong": 1}, "Extra inputs"),
        ({"group": ["status"], "columns": [f"metrics.{n}" for n in range(60)]}, "50 params, tags"),
        ({"filter": " OR ".join(["run_id = 'a'"] * 501)}, "500 conditions at most"),
        ({"filter": " AND ".join(["params.x IS NULL"] * 51)}, "50 conditions on metrics"),
        ({"filter": "tags.a = 1"}, "quoted string value"),
        ({"as_of": "never"}, "as_of: not a time"),
    ],
)
def test_mistakes(runs: Runs, body: dict[str, Any], message: str) -> None:
    assert message in runs.ask(400, **body)["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"filter": "tags.a = '\ud800'"},
        {"filter": "tags.`\ud800` = 'a'"},
        {"columns": ["params.\ud800"]},
        {"experiments": ["\ud800"]},
        {"parent": "\ud800"},
        {"keys": True, "key_prefix": "\ud800"},
    ],
)
def test_text_that_is_no_text(runs: Runs, body: dict[str, Any]) -> None:
    answer = runs.client.post(f"{API}/runs/query", content=json.dumps(body).encode())
    assert answer.status_code in (200, 400), answer.text
    assert "rows" not in answer.json() or answer.json()["keys"]["params"] == []


def test_a_filter_of_mlflow_has_no_suffixes(runs: Runs) -> None:
    body = {"filter": "metrics.`loss`.points > 1"}
    answer = runs.client.post("/api/2.0/mlflow/runs/search", json=body)
    assert answer.status_code == 400
    assert "nothing may begin with '.points'" in answer.json()["message"]


def test_nobody_sees_runs_that_they_may_not_read(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        hers, his = (world.experiment(who, f"of {who}") for who in ("ada", "bob"))
        secret = Job("hers", experiment_id=hers, experiment_name=None, params={"secret": "1"},
                     tags={"hidden": "x"}, parent_run_id="his")  # fmt: skip
        mine = Job("his", experiment_id=his, experiment_name=None, params={"lr": "1"})
        assert world.ingest("ada", secret.started(), secret.metrics("covert", [1.0])) == 200
        assert world.ingest("bob", mine.started(), mine.metrics("loss", [1.0])) == 200
        path = f"{API}/runs/query"
        body: dict[str, Any] = {
            "columns": ["run_id", "params.secret", "metrics.covert", "children"],
            "facets": ["experiment_id", "experiment_name", "params.secret", "parent_run_id"],
            "keys": True,
        }
        for more in (
            {},
            {"experiments": [hers, his]},
            {"filter": "params.secret IS NULL OR params.secret = '1'"},
            {"tree": True},
            {"view": "all"},
        ):
            found = world.ask("bob", "POST", path, 200, **body, **more)
            (row,) = found["rows"]
            assert row == {
                "run_id": "his", "params.secret": None, "metrics.covert": None, "children": 0
            }  # fmt: skip
            assert (found["count"], found["runs"], found["sql"]) == (1, 1, None)
            text = json.dumps([found["facets"], found["keys"]])
            assert not any(word in text for word in ('secret": "1', "covert", "hidden", "ada"))
            assert found["facets"]["params.secret"] == [{"value": None, "runs": 1}]
            assert found["keys"]["params"] == [{"key": "lr", "runs": 1}]
        for more in (
            {"experiments": [hers]},
            {"experiments": ["no such experiment"]},
            {"filter": "params.secret = '1'"},
            {"parent": "his"},
        ):
            found = world.ask("bob", "POST", path, 200, **body, **more)
            assert (found["rows"], found["count"], found["keys"]["params"]) == ([], 0, [])
        grouped = {"columns": ["metrics.covert"], "group": ["experiment_name"]}
        (row,) = world.ask("bob", "POST", path, 200, **grouped)["rows"]
        assert (row["experiment_name"], row["runs"]) == ("of bob", 1)
        answer = world.client.post(
            f"{path}?format=csv", headers=world.headers["bob"], json={"columns": ["run_id"]}
        )
        assert answer.text.split() == ["run_id", "his"]
        assert world.ask("root", "POST", path, 200, **body)["count"] == 2


# Filters against a plain evaluation

_FIELDS = {
    "metrics.loss": "number",
    "metrics.loss.min": "number",
    "metrics.`loss`.max": "number",
    "metrics.loss.points": "number",
    "metrics.`no such`": "number",
    "duration_s": "number",
    "params.lr": "text",
    "tags.team": "text",
    "tags.`a b`": "text",
    "attributes.run_id": "text",
    "parent_run_id": "text",
    "status": "text",
    "complete": "boolean",
    "start_time": "time",
    "end_time": "time",
}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_TIMES = [
    "2023-11-14T22:13:20.002000Z",
    "2023-11-14T22:14:20.001000Z",
    "2020-01-01T00:00:00.000000Z",
]

Row = dict[str, Any]
Filter = tuple[str, Callable[[Row], bool]]


def _value(row: Row, field: str) -> Any:
    value = row[field]
    return float(value) if _FIELDS[field] == "number" and value is not None else value


@st.composite
def comparisons(draw: st.DrawFn) -> Filter:
    field = draw(st.sampled_from(sorted(_FIELDS)))
    kind = _FIELDS[field]
    if draw(st.integers(0, 4)) == 0:
        negated = draw(st.booleans())
        return (
            f"{field} IS {'NOT ' if negated else ''}NULL",
            lambda row: (row[field] is None) is not negated,
        )
    op = draw(st.sampled_from(sorted(_COMPARE) if kind in ("number", "time") else ["=", "!="]))
    wanted: Any
    if kind == "number":
        wanted = draw(st.sampled_from([0.1, 0.5, 0.9, 1.0, 2.0, 60.0, -1.0]))
        text = str(wanted)
    elif kind == "boolean":
        wanted = draw(st.booleans())
        text = f"'{wanted}'"
    else:
        wanted = draw(st.sampled_from(_TIMES if kind == "time" else _TEXTS))
        text = "'" + wanted.replace("'", "''") + "'"
    compare = _COMPARE[op]

    def holds(row: Row) -> bool:
        value = _value(row, field)
        # A missing value compares with nothing, and NaN is unequal to everything.
        return value is not None and compare(value, wanted)

    return f"{field} {op} {text}", holds


_TEXTS = ["0.1", "0.3", "vision", "x' OR '1'='1", "a", "c", "RUNNING", "FINISHED", "?"]
filters: st.SearchStrategy[Filter] = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        inner.map(lambda f: (f"NOT ({f[0]})", lambda row: not f[1](row))),
        st.tuples(inner, inner).map(
            lambda two: (f"({two[0][0]}) AND ({two[1][0]})",
                         lambda row: two[0][1](row) and two[1][1](row))
        ),
        st.tuples(inner, inner).map(
            lambda two: (f"({two[0][0]} OR {two[1][0]})",
                         lambda row: two[0][1](row) or two[1][1](row))
        ),
    ),
    max_leaves=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def every(runs: Runs) -> list[Row]:
    rows: list[Row] = runs.ask(columns=list(_FIELDS))["rows"]
    return rows


@settings(max_examples=30, deadline=None)
@given(filter=filters)
def test_filters_mean_what_they_say(runs: Runs, every: list[Row], filter: Filter) -> None:
    text, holds = filter
    expected = [row["attributes.run_id"] for row in every if holds(row)]
    answer = runs.ask(columns=["run_id"], filter=text)
    assert [row["run_id"] for row in answer["rows"]] == expected
    done = runs.client.post(f"{API}/sql", json={"statement": answer["sql"]})
    assert done.status_code == 200, done.text
    assert [run_id for (run_id,) in done.json()["rows"]] == expected


# Hostile


@pytest.mark.parametrize("text", ["\0", "'; DROP TABLE runs; --", "😀" * 60, "\u202e", "a" * 249])
def test_keys_of_every_kind_are_only_keys(runs: Runs, text: str) -> None:
    columns = [f"params.{text}", f"tags.{text}", f"metrics.{text}", f"metrics.{text}.min"]
    answer = runs.ask(columns=columns, group=[], facets=[columns[0]], key_prefix=text, keys=True)
    assert answer["rows"] == [dict.fromkeys(columns)] * 5
    assert answer["facets"] == {columns[0]: [{"value": None, "runs": 5}]}
    assert (answer["keys"]["params"], answer["keys"]["metrics_count"]) == ([], 0)
    if "\0" not in text:
        done = runs.client.post(f"{API}/sql", json={"statement": answer["sql"]})
        assert done.json()["rows"] == [[None] * 4] * 5
    grouped = runs.ask(columns=[f"metrics.{text}"], group=[f"tags.{text}"])
    assert grouped["rows"][0]["runs"] == 5


def test_twelve_thousand_keys(tmp_path: Path) -> None:
    with a_node(tmp_path) as node:
        job = Job("wide", experiment_name="Default")
        keys = [f"layer/{n}/<i>grad</i>" for n in range(12_000)]
        columns = pack(range(12_000), [0] * 12_000, [0] * 12_000, map(float, range(12_000)))
        logged = job.event("MetricsLogged", series=[{"key": key} for key in keys], **columns)
        node.append([NewEvent(RUNS, "wide", payload) for payload in (job.started(), logged)])
        with TestClient(create_app(node), base_url="http://localhost") as client:
            runs = Runs(client)
            found = runs.ask(keys=True, key_prefix="LAYER/1199")["keys"]
            assert found["metrics_count"] == 11
            assert found["metrics"][0] == {"key": "layer/1199/<i>grad</i>", "runs": 1}
            assert len(runs.ask(keys=True, keys_limit=20_000)["keys"]["metrics"]) == 12_000
            wide = runs.ask(columns=[f"metrics.{key}" for key in keys[:200]])["rows"]
            assert list(wide[0].values()) == list(range(200))
