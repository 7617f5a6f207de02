"""SQL: what it answers, and what it refuses."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from api_server import Job, a_node
from modeltrail.api.app import create_app
from modeltrail.api.node import Node
from modeltrail.api.sql.queries import shares
from modeltrail.eventlog import Partition
from modeltrail.schemas.framing import frame

URL = "/api/v1/sql"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose fold runs, for all tests here."""
    with a_node(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(scope="module")
def client(node: Node) -> Iterator[TestClient]:
    """A client of its application."""
    with TestClient(create_app(node, shares=shares(10**9)), base_url="http://localhost") as client:
        yield client


def ask(client: TestClient, statement: str, **more: Any) -> Any:
    return client.post(URL, json={"statement": statement, **more})


def test_json_has_every_type_in_plain_form(client: TestClient) -> None:
    statement = """
        SELECT 'NaN'::DOUBLE AS nan, '-Infinity'::DOUBLE AS low,
            TIMESTAMP '2026-01-02 03:04:05' AS t,
            'ab'::BLOB AS b, 170141183460469231731687303715884105727::HUGEINT AS h, [1, NULL] AS l,
            {'x': 1} AS s, NULL AS n, true AS f, 1.50 AS d, DATE '2026-01-02' AS day,
            MAP {'k': 1} AS m
    """
    body = ask(client, statement).json()
    assert dict(zip(body["columns"], body["rows"][0], strict=True)) == {
        "nan": "NaN",
        "low": "-Infinity",
        "t": "2026-01-02T03:04:05.000000Z",
        "b": "6162",
        "h": 170141183460469231731687303715884105727,
        "l": [1, None],
        "s": {"x": 1},
        "n": None,
        "f": True,
        "d": "1.50",
        "day": "2026-01-02",
        "m": [["k", 1]],
    }
    assert body["truncated"] is False


def test_every_format_has_the_same_rows(client: TestClient) -> None:
    statement = "SELECT range AS i, 'x' || range AS s FROM range(25000) ORDER BY i DESC"
    expected = [(i, f"x{i}") for i in reversed(range(25000))]
    as_json = ask(client, statement, limit=25000).json()["rows"]
    assert [tuple(row) for row in as_json] == expected
    lines = ask(client, statement, format="csv").text.split("\r\n")
    assert lines[:2] == ["i,s", "24999,x24999"]
    assert len(lines) == 25002
    arrow = pa.ipc.open_stream(ask(client, statement, format="arrow").content).read_all()
    parquet = pq.read_table(io.BytesIO(ask(client, statement, format="parquet").content))
    for found in (arrow, parquet):
        assert found.column("i").to_pylist() == [i for i, _ in expected]


@pytest.mark.parametrize("format", ["json", "csv", "arrow", "parquet"])
def test_no_rows_is_a_result_too(client: TestClient, format: str) -> None:
    answer = ask(client, "SELECT 1 AS a WHERE false", format=format)
    assert answer.status_code == 200
    if format == "json":
        assert answer.json()["rows"] == []
    if format == "parquet":
        assert pq.read_table(io.BytesIO(answer.content)).num_rows == 0


def test_params_limit_and_get(client: TestClient) -> None:
    assert ask(client, "SELECT ? + 1", params=[2]).json()["rows"] == [[3]]
    assert ask(client, "SELECT $a || 'x'", params={"a": "b"}).json()["rows"] == [["bx"]]
    limited = ask(client, "FROM range(10)", limit=3).json()
    assert (len(limited["rows"]), limited["truncated"]) == (3, True)
    assert ask(client, "FROM range(3)", limit=3).json()["truncated"] is False
    query = {"statement": "SELECT ?", "params": "[7]", "format": "csv"}
    assert client.get(URL, params=query).text.endswith("7\r\n")
    assert client.get(URL, params={"statement": "SELECT 1", "params": "x"}).status_code == 400
    assert ask(client, "SELECT ?", params=[]).status_code == 400


@pytest.mark.parametrize(
    "statement",
    [
        "FROM runs",
        "SELECT 1;",
        "SELECT 1; -- done; really",
        "SELECT ';--' AS x -- ;",
        "/* a; b */ SELECT 1 /* ; */",
        "VALUES (1), (2)",
        "DESCRIBE runs",
        "SUMMARIZE runs",
        "SHOW TABLES",
        "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 5) FROM r",
        "PIVOT runs ON status IN ('FINISHED') USING count(*)",
        "PIVOT runs ON status USING count(*)",
        "UNPIVOT (SELECT run_id, name, status FROM runs) ON name, status",
        "EXPLAIN FROM runs",
        "SELECT repeat('ab', 3), lpad('x', 3, '-'), rpad('x', 3, '-'), bar(1, 0, 2, 10)",
        "SELECT format('{:>5}', 1), printf('%05d', 1), list_resize([1], 2), range(3)",
        "SELECT name || 'x', replace(name, 'a', 'b'), string_agg(name) FROM runs GROUP BY ALL",
        "SELECT * FROM information_schema.columns",
        "SHOW ALL TABLES",
        "SELECT unnest([1, 2])",
        "FROM aliases_as_of('2026-01-01')",
        "SELECT * FROM duckdb_columns()",
    ],
)
def test_queries_are_allowed(client: TestClient, statement: str) -> None:
    assert ask(client, statement).status_code == 200, ask(client, statement).text


ATTACKS = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_json('/etc/passwd')",
    "SELECT * FROM parquet_scan('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM '/etc/*.csv'",
    "FROM 'http://127.0.0.1:1/x.csv'",
    "FROM 's3://bucket/x.parquet'",
    "COPY runs TO '/tmp/x.csv'",
    "COPY (SELECT 1) TO '/tmp/x.csv'",
    "WITH x AS (COPY runs TO '/tmp/x.csv') SELECT * FROM x",
    "WITH x AS (DELETE FROM fold.runs RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO fold.meta VALUES ('a', 'b') RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE fold.meta SET value = '9' RETURNING *) SELECT * FROM x",
    "SELECT * FROM (WITH x AS (DELETE FROM fold.runs RETURNING *) SELECT * FROM x)",
    "EXPORT DATABASE '/tmp/x'",
    "IMPORT DATABASE '/tmp/x'",
    "ATTACH '/tmp/x.duckdb'",
    "DETACH memory",
    "USE fold",
    "SET threads = 1",
    "RESET threads",
    "SET VARIABLE x = 1",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "CALL checkpoint()",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '/tmp/x.so'",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "COMMIT; DROP TABLE fold.runs",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE fold.runs",
    "SELECT 1) ; DROP TABLE fold.runs; SELECT * FROM (SELECT 1",
    "SELECT 1) UNION SELECT * FROM (SELECT 2",
    "CREATE TABLE x (i INT)",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE MACRO x() AS 1",
    "CREATE SECRET s (TYPE s3)",
    "DROP VIEW runs",
    "ALTER TABLE fold.runs ADD COLUMN x INT",
    "INSERT INTO fold.meta VALUES ('a', 'b')",
    "DELETE FROM fold.runs",
    "UPDATE fold.meta SET value = '9'",
    "TRUNCATE fold.runs",
    "MERGE INTO fold.meta USING (SELECT 1) ON false WHEN NOT MATCHED THEN INSERT VALUES (1, 2)",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "EXPLAIN ANALYZE SELECT 1",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM force_checkpoint()",
    "SELECT * FROM enable_logging()",
    "SELECT * FROM enable_profiling()",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM which_secret('s3://x', 's3')",
    "SELECT * FROM duckdb_logs",
    "SELECT * FROM create_external_resource('x')",
    "SELECT current_setting('secret_directory')",
    "SELECT getenv('HOME')",
    "SELECT getvariable('x')",
    "SELECT write_log('x')",
    "SELECT nextval('x')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('runs')",
    "SELECT * FROM query('DROP TABLE fold.runs')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM some_python_variable",
    "SELECT * FROM node",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "",
    "   ",
    "-- nothing",
    ";",
    "SELEKT 1",
    "SELECT 1 \0",
    "\ud800",
]


@pytest.mark.parametrize("statement", ATTACKS)
def test_attacks_are_refused(client: TestClient, node: Node, statement: str) -> None:
    some_python_variable = pa.table({"a": [1]})
    before = node.log.end()
    began = time.monotonic()
    answer = client.post(
        URL,
        content=json.dumps({"statement": statement}).encode(),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 400, answer.text
    assert time.monotonic() - began < 5
    assert some_python_variable.num_rows == 1
    assert node.log.end() == before
    assert not Path("/tmp/x.csv").exists()
    with node.read() as cursor:
        version = cursor.execute("SELECT value FROM fold.meta WHERE key = 'version'").fetchone()
    assert version != ("9",)


def test_the_transaction_alone_would_stop_a_write(node: Node) -> None:
    with node.read() as cursor, pytest.raises(duckdb.Error, match="read-only"):
        cursor.execute("DELETE FROM fold.runs")


def test_checks_do_not_look_into_strings_and_names(client: TestClient) -> None:
    statement = "SELECT 'DROP TABLE x; nextval(1)' AS \"getenv(1)\""
    assert ask(client, f"{statement}, [1]").status_code == 200


@pytest.mark.parametrize(
    "statement",
    [
        "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) SELECT count(*) FROM r",
        "SELECT count(*) FROM range(100000000000)",
        "SELECT count(*) FROM range(9999999) a, range(9999999) b WHERE a.range < b.range",
    ],
)
def test_a_query_without_end_is_ended(client: TestClient, statement: str) -> None:
    began = time.monotonic()
    answer = ask(client, statement, timeout_s=0.5)
    assert answer.status_code == 504, answer.text
    assert time.monotonic() - began < 10
    assert ask(client, "SELECT 1").status_code == 200


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM range(10000000000) ORDER BY hash(range)",
        "SELECT list(range) FROM range(10000000000)",
        "WITH RECURSIVE r(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM r) SELECT s FROM r",
    ],
)
def test_memory_is_bounded(client: TestClient, statement: str) -> None:
    assert ask(client, statement, timeout_s=3).status_code in (400, 504)
    assert ask(client, "SELECT 1").status_code == 200


def test_a_query_sees_one_moment_while_the_fold_goes_on(client: TestClient) -> None:
    stop = threading.Event()

    def write() -> None:
        job = Job()
        client.post("/api/v1/ingest", content=frame([job.started()]))
        step = 0
        while not stop.is_set():
            body = frame([job.metrics("loss", [1.0] * 10, step)])
            client.post("/api/v1/ingest", content=body)
            step += 10

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(10):
            statement = (
                "SELECT (SELECT count(*) FROM metrics), (SELECT sum(points) FROM latest_metrics)"
            )
            ((points, counted),) = ask(client, statement).json()["rows"]
            assert points == (counted or 0)
    finally:
        stop.set()
        writer.join()
    assert client.app.state.node.fold.positions()[Partition("runs", 0)] > 0  # type: ignore[attr-defined]
