"""Hostile queries against a server process: bounded memory, an end in time, ingest undisturbed."""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from api_server import Job, Server
from modeltrail.schemas.framing import MEDIA_TYPE, frame

LIMIT_BYTES = 10**9
ABOVE_BYTES = 512 * 1024**2
TIMEOUT_S = 2.0
LATE_S = 1.0
POINTS = 200_000

TEN = "(VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) "
REPLACED = "repeat('aaaaaaaaaa', 1000)"
for _letter in "abcdefgh":
    REPLACED = f"replace({REPLACED}, '{_letter}', '{chr(ord(_letter) + 1) * 10}')"

ATTACKS = {
    # texts
    "nested replace": f"SELECT length({REPLACED})",
    "nested replace over rows": f"SELECT max({REPLACED.replace('repeat', 'key || repeat')}) FROM metrics",
    "repeat": "SELECT length(repeat('x', 3000000000))",
    "repeat of repeat": "SELECT length(repeat(repeat('x', 100000), 100000))",
    "repeat over rows": "SELECT max(length(repeat(key, 10000000))) FROM metrics",
    "lpad": "SELECT length(lpad('x', 2000000000, 'y'))",
    "rpad over rows": "SELECT max(rpad(key, 50000000, 'y')) FROM metrics",
    "format": "SELECT length(format('{:2000000000}', 1))",
    "printf": "SELECT length(printf('%2000000000d', 1))",
    "concat doubled": "WITH RECURSIVE r(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM r) SELECT s FROM r",
    "concat of many": "SELECT length(concat(" + ", ".join(["repeat(key, 1000000)"] * 50) + ")) FROM metrics",
    "string_agg": "SELECT length(string_agg(repeat(key, 1000), '')) FROM metrics, range(1000)",
    "bar": "SELECT bar(1, 0, 1, 2000000000)",
    "regexp_replace": "SELECT length(regexp_replace(repeat('a', 50000000), 'a', 'bbbbbbbbbbbbbbbbbbbb', 'g'))",
    "regexp_extract_all": "SELECT length(regexp_extract_all(repeat('a', 50000000), 'a'))",
    "split": "SELECT length(string_split(repeat('a,', 50000000), ','))",
    "translate": "SELECT length(upper(translate(repeat('a', 1000000000), 'a', 'b')))",
    "levenshtein": "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
    "like": "SELECT repeat('a', 100000) LIKE '" + "%a" * 30 + "%b'",
    "glob": "SELECT repeat('a', 100000) GLOB '" + "*a" * 30 + "*b'",
    "regexp": "SELECT regexp_matches(repeat('a', 10000000), '(a*)*b')",
    "hex": "SELECT length(hex(hex(hex(hex(repeat('x', 20000000))))))",
    "to_base64": "SELECT length(to_base64(repeat('x', 1000000000)::BLOB))",
    "md5 over repeat": "SELECT max(md5(repeat(key, 1000000))) FROM metrics",
    "wide literals": "WITH a AS (SELECT '" + "x" * 9_000 + "' AS s) SELECT "
    + ", ".join(["s"] * 250) + " FROM a, metrics",
    # lists and nested values
    "list of range": "SELECT list(range) FROM range(20000000)",
    "range in a row": "SELECT range(200000000)",
    "range over rows": "SELECT range(10000000) FROM metrics",
    "generate_series": "SELECT generate_series(1, 1000000000)",
    "list_resize": "SELECT list_resize([1], 1000000000)",
    "list_transform": "SELECT list_transform(range(50000000), x -> x || 'abc')",
    "list_concat": "SELECT length(flatten(list_transform(range(3000), x -> range(100000))))",
    "list of lists": "SELECT list(range(1000)) FROM range(1000000)",
    "list_sort": "SELECT list_sort(list_transform(range(50000000), x -> random()))",
    "list_distinct": "SELECT length(list_distinct(range(100000000)))",
    "array_agg by group": "SELECT key, array_agg(value) FROM metrics, range(10000) GROUP BY key",
    "histogram": "SELECT histogram(range) FROM range(100000000)",
    "map": "SELECT map(range(20000000), range(20000000))",
    "json": "SELECT json_group_array(range) FROM range(100000000)",
    "json of list": "SELECT to_json(range(50000000))",
    "struct nested": "SELECT {'a': range(10000000), 'b': {'c': range(10000000)}}",
    "unnest": "SELECT unnest(range(1000000000))",
    "window list": "SELECT list(value) OVER (ORDER BY step) FROM metrics",
    "bitstring": "SELECT length(repeat('1', 500000000)::BIT)",
    "mode": "SELECT mode(random()) FROM range(1000000000)",
    "approx_top_k": "SELECT approx_top_k(range, 100000) FROM range(100000000)",
    "reservoir": "SELECT reservoir_quantile(random(), 0.5, 100000000) FROM range(1000000000)",
    "arg_max of many": "SELECT arg_max(range, range, 999999) FROM range(100000000) GROUP BY range % 1000",
    # without end, or nearly
    "recursion": "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) SELECT count(*) FROM r",
    "recursion that grows": "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r, range(10)) "
    "SELECT count(*) FROM r",
    "range without end": "SELECT sum(range) FROM range(100000000000000)",
    "cross product": "SELECT count(*) FROM metrics a, metrics b WHERE a.value < b.value",
    "cross products": f"SELECT sum(a.x) FROM {TEN} a(x)"
    + "".join(f", metrics m{n}" for n in range(4)),
    "sort of a cross product": "SELECT a.value, b.value FROM metrics a, metrics b ORDER BY a.value * b.value",
    "groups without end": "SELECT a.value * b.value, count(*) FROM metrics a, metrics b GROUP BY 1",
    "distinct without end": "SELECT count(DISTINCT a.value * b.step) FROM metrics a, metrics b",
    "window without end": "SELECT max(r) FROM (SELECT row_number() OVER (ORDER BY a.value * b.value) AS r "
    "FROM metrics a, metrics b)",
    "median without end": "SELECT median(a.value * b.value) FROM metrics a, metrics b",
    "answer without end": "SELECT a.run_id, a.key, b.run_id, b.key FROM metrics a, metrics b",
    "doubling expressions": "WITH a0 AS (SELECT 1 AS x), "
    + ", ".join(f"a{n} AS (SELECT a.x FROM a{n - 1} a, a{n - 1} b)" for n in range(1, 25))
    + " SELECT count(*) FROM a24",
    "pivot": "PIVOT (SELECT range AS i FROM range(1000000)) ON i USING count(*)",
    "cube": "SELECT count(*) FROM metrics GROUP BY CUBE(run_id, key, step, timestamp, value, model_id, "
    "dataset_name, dataset_digest)",
    "summarize": "SUMMARIZE (SELECT a.* FROM metrics a, metrics b)",
    "sample": "SELECT count(*) FROM (SELECT random() FROM range(100000000000)) USING SAMPLE 90%",
    # texts of statements
    "brackets": "SELECT " + "(" * 45_000 + "1" + ")" * 45_000,
    "unions": " UNION ALL ".join(["SELECT 1"] * 5_800),
    "additions": "SELECT 1" + "+1" * 49_000,
    "negations": "SELECT " + "- " * 49_000 + "1",
    "subqueries": "SELECT * FROM " + "(SELECT * FROM " * 5_000 + "range(1)" + ")" * 5_000,
    "lists of lists": "SELECT " + "[" * 49_000 + "]" * 49_000,
    "cases": "SELECT " + "CASE WHEN true THEN " * 3_000 + "1" + " END" * 3_000,
    "in": "SELECT count(*) FROM metrics WHERE step IN (" + ", ".join(map(str, range(15_000))) + ")",
    "columns": "SELECT " + ", ".join(["COLUMNS(*)"] * 8_000) + " FROM metrics",
    "joins": "SELECT count(*) FROM runs" + " NATURAL JOIN runs" * 3_000,
    "open comments": "/* " * 33_000,
    "open dollar quotes": "".join(f"$a{n}$ " for n in range(12_000)),
}  # fmt: skip


class Usage(NamedTuple):
    """Memory of a process and its children, in bytes."""

    total: int
    parts: dict[int, int]


def usage(pid: int) -> Usage:
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    parts: dict[int, int] = {}
    todo = [pid]
    while todo:
        each = todo.pop()
        todo.extend(children.get(each, ()))
        try:
            lines = Path(f"/proc/{each}/status").read_text().splitlines()
        except OSError:
            continue
        sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")]
        parts[each] = sizes[0] if sizes else 0
    return Usage(sum(parts.values()), parts)


class Watch:
    """The most memory that a server and its workers had together."""

    def __init__(self, pid: int) -> None:
        self.most = Usage(0, {})
        self.stall_s = 0.0
        """How long this process, which wants little, had to wait for the processor."""
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        ended = False
        while not ended:
            began = time.monotonic()
            ended = self._stop.wait(0.02)
            self.stall_s = max(self.stall_s, time.monotonic() - began - 0.02)
            self.most = max(self.most, usage(self._pid), key=lambda usage: usage.total)

    def stop(self) -> Usage:
        self._stop.set()
        self._thread.join()
        return self.most


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("attacks")
    server = Server(folder / "data", "--memory-limit", "1GB")
    try:
        server.ready()
        job = Job("attacked")
        ingest(server, job.started())
        for key in range(10):
            for first in range(0, POINTS // 10, 10_000):
                values = [float(n % 977) for n in range(10_000)]
                ingest(server, job.metrics(f"key-{key}", values, first))
        yield server
    finally:
        server.stop()


def ingest(server: Server, *events: bytes) -> None:
    request = urllib.request.Request(f"{server.url}/api/v1/ingest", frame(list(events)))
    request.add_header("Content-Type", MEDIA_TYPE)
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()


def attack(server: Server, statement: str, timeout_s: float = TIMEOUT_S) -> tuple[int, float]:
    """Status and seconds of one query; whatever comes is thrown away. 0 is an answer cut off."""
    body = json.dumps({"statement": statement, "timeout_s": timeout_s}).encode()
    request = urllib.request.Request(f"{server.url}/api/v1/sql", body)
    request.add_header("Content-Type", "application/json")
    began = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            while answer.read(1024 * 1024):
                pass
            return answer.status, time.monotonic() - began
    except urllib.error.HTTPError as error:
        error.read()
        return error.code, time.monotonic() - began
    except (OSError, HTTPException):  # an answer that ends in the middle
        return 0, time.monotonic() - began


def test_there_are_many() -> None:
    assert len(ATTACKS) >= 50


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_bounded(server: Server, name: str) -> None:
    watch = Watch(server.process.pid)
    try:
        status, seconds = attack(server, ATTACKS[name])
    finally:
        most = watch.stop()
    assert status in (200, 400, 504, 0), status
    assert seconds < TIMEOUT_S + LATE_S + 10 * watch.stall_s, f"ended after {seconds:.1f} s"
    assert most.total < LIMIT_BYTES + ABOVE_BYTES, most
    assert server.process.poll() is None


@pytest.mark.alone
def test_log_metric_is_undisturbed_beside_heavy_queries(server: Server) -> None:
    base = "/api/2.0/mlflow/runs"
    run = server.ask(f"{base}/create", {"experiment_id": "0"})["run"]["info"]["run_id"]

    def log_metric(step: int) -> float:
        began = time.monotonic()
        point = {"run_id": run, "key": "loss", "value": 0.5, "timestamp": 1, "step": step}
        server.ask(f"{base}/log-metric", point)
        return time.monotonic() - began

    alone = sorted(log_metric(step) for step in range(200))
    names = ("cross product", "median without end", "nested replace over rows", "list of range")
    threads = [
        threading.Thread(target=attack, args=(server, ATTACKS[name], 8.0)) for name in names * 16
    ]
    watch = Watch(server.process.pid)
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    try:
        beside = sorted(log_metric(step) for step in range(200, 400))
    finally:
        for thread in threads:
            thread.join()
        most = watch.stop()
    p99 = beside[197]
    figures = (
        f"log_metric p99: {alone[197] * 1000:.0f} ms alone, {p99 * 1000:.0f} beside; "
        f"median {statistics.median(alone) * 1000:.0f}, {statistics.median(beside) * 1000:.0f}"
    )
    assert most.total < LIMIT_BYTES + ABOVE_BYTES, most
    # The promise is 100 ms; a machine on which it takes long when alone cannot show that.
    assert p99 < max(0.1, 5 * alone[197]), figures


def as_rows(server: Server, statement: str) -> Any:
    return server.ask("/api/v1/sql", {"statement": statement})["rows"]


def test_after_all_of_that_it_answers(server: Server) -> None:
    assert as_rows(server, "SELECT count(*) FROM metrics WHERE run_id = 'attacked'") == [[POINTS]]
    assert as_rows(server, "SELECT list(DISTINCT run_id) FROM metrics WHERE key = 'key-1'") == [
        [["attacked"]]
    ]
