"""Asking from Python: a folder, a server, with and without what a thin install lacks."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from api_server import Job, Server, modeltrail
from modeltrail.api import ClientError, QueryResult, client, open_client, query
from modeltrail.api.data_folder import DataFolder
from modeltrail.api.tables import drawn
from modeltrail.eventlog import RUNS, NewEvent, open_log
from modeltrail.schemas import writer_schemas

TYPED = """
    SELECT sum(x) AS huge, 1.5::DECIMAL(10, 2) AS exact, TIMESTAMP '2026-01-01 00:00:00.5' AS at,
        TIMESTAMPTZ '2026-01-01 02:00:00+02' AS zoned, DATE '2026-01-02' AS day,
        TIME '10:00:00' AS time, 'ab'::BLOB AS bytes, MAP {'a': 'b'} AS map, [1, NULL] AS list,
        ['inf'::DOUBLE] AS endless, {'x': 1} AS struct, NULL AS nothing, true AS yes, 'é' AS text
    FROM (VALUES (1), (2)) t(x)
"""
TYPED_ROW = (
    3,
    Decimal("1.50"),
    datetime(2026, 1, 1, 0, 0, 0, 500_000),
    datetime(2026, 1, 1, tzinfo=UTC),
    date(2026, 1, 2),
    time(10),
    b"ab",
    {"a": "b"},
    [1, None],
    [math.inf],
    {"x": 1},
    None,
    True,
    "é",
)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODELTRAIL_URL", "MODELTRAIL_TOKEN", "MODELTRAIL_SERVER", "MODELTRAIL_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with one run and one artifact, and no server."""
    path = tmp_path / "data"
    log = open_log(str(path))
    log.add_schemas(writer_schemas())
    job = Job()
    events = [job.started(), job.metrics("loss", [0.5, 0.25])]
    log.append([NewEvent(RUNS, "run-1", event) for event in events])
    log.close()
    return path


@contextmanager
def thin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if pyarrow were not installed."""
    with monkeypatch.context() as patch:
        patch.setattr(client, "find_spec", lambda name: None)
        yield


def check_answers(where: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = query("SELECT value FROM metrics WHERE key = ? ORDER BY step", ["loss"], url=where)
    assert list(found) == [(0.5,), (0.25,)]
    assert query("SELECT $n + 1 AS n", {"n": 1}, url=where).dicts() == [{"n": 2}]
    for since in ("2020-01-01", datetime(2020, 1, 1), date(2020, 1, 1)):
        found = query("SELECT run_id FROM runs WHERE start_time > ?", [since], url=where)
        assert found.rows() == [("run-1",)]
    typed = query(TYPED, url=where)
    assert typed.rows() == [TYPED_ROW]
    assert isinstance(typed.arrow(), pa.Table)
    with thin(monkeypatch):
        plain = query(TYPED, url=where)
    assert (plain.columns, plain.rows()) == (typed.columns, typed.rows())
    with pytest.raises(ImportError, match="pip install pyarrow"):
        plain.arrow()
    assert len(query("FROM range(20_000)", url=where)) == 20_000
    assert len(query("FROM range(20_000)", url=where, limit=7)) == 7
    with pytest.raises(ClientError, match="only queries are allowed") as refused:
        query("DROP TABLE runs", url=where)
    assert refused.value.status == 400
    with pytest.raises(ClientError, match="list or a mapping"):
        query("SELECT ?", "ada", url=where)
    with open_client(where) as asked:
        assert asked.get("/api/v1/runs/run-1")["points_stored"] == 2
        with pytest.raises(ClientError) as missing:
            asked.get("/api/v1/runs/none")
        assert (missing.value.status, missing.value.code) == (404, "RESOURCE_DOES_NOT_EXIST")
        with asked.stream("FROM range(3)", format="csv") as pieces:
            assert b"".join(pieces).split() == [b"range", b"0", b"1", b"2"]


def test_a_folder_without_a_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_answers(str(folder), monkeypatch)
    assert len(query("FROM runs", url=folder)) == 1
    monkeypatch.setenv("MODELTRAIL_URL", folder.as_uri().replace("file://", "file:"))
    check_answers(None, monkeypatch)


def test_a_running_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(folder)
    try:
        server.ready()
        check_answers(str(folder), monkeypatch)  # by way of the folder's server.json
        check_answers(server.url, monkeypatch)
        monkeypatch.setenv("MODELTRAIL_URL", "kafka://broker:9092/x")
        monkeypatch.setenv("MODELTRAIL_SERVER", server.url)
        check_answers(None, monkeypatch)
    finally:
        server.stop()


def test_an_open_client_sees_what_is_appended_later(folder: Path) -> None:
    with open_client(str(folder)) as asked:
        assert len(asked.query("FROM runs")) == 1
        log = open_log(str(folder))
        log.append([NewEvent(RUNS, "run-2", Job("run-2").started())])
        log.close()
        assert len(asked.query("FROM runs")) == 2
        with pytest.raises(ClientError, match="in use by another"):
            query("FROM runs", url=str(folder))
    assert len(query("FROM runs", url=str(folder))) == 2


def test_files_come_the_same_way_from_folder_and_server(folder: Path) -> None:
    data = bytes(range(256)) * 10_000
    server = Server(folder)
    try:
        server.ready()
        path = "/api/v1/runs/run-1/artifacts/sub/file.bin"
        put = urllib.request.Request(server.url + path, data, method="PUT")
        with urllib.request.urlopen(put, timeout=30) as answer:
            assert answer.status in (200, 201)
        with open_client(server.url) as asked, asked.download(path) as pieces:
            assert b"".join(pieces) == data
    finally:
        server.stop()
    with open_client(str(folder)) as asked:
        with asked.download(path) as pieces:
            assert b"".join(pieces) == data
        with asked.download(path) as pieces:
            next(pieces)  # and no further: nothing waits for the rest
        assert len(asked.query("FROM runs")) == 1


def test_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    password = "correct horse battery"
    server = Server(tmp_path / "data", "--auth", env={"MODELTRAIL_ADMIN_PASSWORD": password})
    try:
        server.ready()
        with pytest.raises(ClientError) as refused:
            query("SELECT 1", url=server.url)
        assert refused.value.status == 401
        inside = server.url.replace("://", "://admin:correct%20horse%20battery@")
        assert query("SELECT 1 AS n", url=inside).rows() == [(1,)]
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        assert query("SELECT 1 AS n", url=server.url).rows() == [(1,)]
        made = modeltrail(
            *("token", "create", "admin", "--json", "--server", server.url),
            env={"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": password},
        )
        token = json.loads(made.stdout)["token"]
        monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
        assert query("SELECT 1 AS n", url=server.url, token=token).rows() == [(1,)]
        monkeypatch.setenv("MODELTRAIL_TOKEN", token)
        assert query("SELECT 1 AS n", url=str(tmp_path / "data")).rows() == [(1,)]
    finally:
        server.stop()


def test_what_cannot_be_asked_is_said(tmp_path: Path) -> None:
    for url, says in (
        (str(tmp_path / "none"), "no data folder"),
        ("http://127.0.0.1:9", "does it run"),
        ("http://", "not the URL of a server"),
    ):
        with pytest.raises(ClientError, match=says):
            query("SELECT 1", url=url)


def test_frames() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pa.table({"n": pa.array([3], pa.decimal128(38, 0)), "x": ["a"]})
    with_arrow = QueryResult(["n", "x"], None, table)
    without = QueryResult(["n", "x"], [(3, "a")], None)
    for result in (with_arrow, without):
        assert result.df().equals(pd.DataFrame({"n": [3], "x": ["a"]}))


def test_polars_frames() -> None:
    pl = pytest.importorskip("polars", reason="polars is not installed")
    table = pa.table({"n": pa.array([3], pa.decimal128(38, 0)), "x": ["a"]})
    with_arrow = QueryResult(["n", "x"], None, table)
    without = QueryResult(["n", "x"], [(3, "a")], None)
    for result in (with_arrow, without):
        assert result.pl().equals(pl.DataFrame({"n": [3], "x": ["a"]}))


def shown(rows: list[tuple[Any, ...]], *columns: str, width: int = 80) -> list[str]:
    return drawn(columns, rows, width).splitlines()


def test_a_result_prints_as_a_table() -> None:
    assert shown([("a", 0.5), (None, 10)], "name", "n") == [
        "┌──────┬─────┐",
        "│ name │ n   │",
        "├──────┼─────┤",
        "│ a    │ 0.5 │",
        "│ NULL │  10 │",
        "└──────┴─────┘",
        "2 rows, 2 columns",
    ]
    assert shown([], "a")[-1] == "0 rows, 1 column"
    long = shown([(n,) for n in range(100)], "n")
    assert (len(long), long[-1]) == (4 + 21 + 1, "100 rows (20 shown), 1 column")
    wide = shown([tuple(range(1000, 1030))], *(f"column {n}" for n in range(30)))
    assert max(map(len, wide)) <= 80
    assert "…" in wide[1]
    assert wide[1].startswith("│ column 0 ")
    assert wide[1].endswith(" column 29 │")
    assert "30 columns (" in wide[-1]
    assert "\x1b" not in "".join(shown([("\x1b[31m",)], "\x1b"))


def test_a_result_in_a_notebook() -> None:
    result = QueryResult(["<b>"], [("<script>",)] * 30, None)
    page = result._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<tr>") == 22
    assert "30 rows" in page


def test_importing_it_is_cheap() -> None:
    code = (
        "import sys; from modeltrail.api import query, open_client, ClientError, QueryResult;"
        "print([m for m in ('duckdb', 'fastapi', 'pyarrow', 'numpy', 'rich', 'asyncio')"
        " if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_folder_is_named_in_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    server, folder, log_url = client.find("~/data")
    assert (server, folder.path, log_url) == (None, tmp_path / "data", None)
    assert client.find("kafka://h:1/p")[2] == "kafka://h:1/p"
    assert isinstance(client.find()[1], DataFolder)
