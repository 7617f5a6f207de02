"""Charts over HTTP: which series, axes, gaps, formats, and who sees what."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from access_world import world_in
from api_server import Job, a_node
from modeltrail.api.app import create_app
from modeltrail.eventlog import RUNS, NewEvent
from modeltrail.schemas.points import pack

CHARTS = "/api/v1/charts"
LOSS = [math.sin(n / 9) for n in range(2_000)]


class Charts:
    """A server with some runs, and their charts."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def ask(self, status: int = 200, /, **body: Any) -> Any:
        answer = self.client.post(CHARTS, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Charts]:
    with a_node(tmp_path_factory.mktemp("charts")) as node:
        whole, odd = Job("whole"), Job("odd")
        events = [
            ("whole", whole.started()),
            ("whole", whole.metrics("loss", LOSS)),
            ("whole", whole.metrics("system/cpu", [50.0])),
            ("whole", whole.event("RunEnded", status="FINISHED", ended_at_ms=1_700_000_000_000)),
            ("odd", odd.started()),
            ("odd", odd.metrics("loss", [math.nan, math.inf, -math.inf])),
            ("odd", odd.metrics("accuracy", [0.25, 0.5, 0.75])),
        ]
        node.append([NewEvent(RUNS, key, payload) for key, payload in events])
        with TestClient(create_app(node), base_url="http://localhost") as client:
            yield Charts(client)


def test_series_and_their_buckets(charts: Charts) -> None:
    found = charts.ask(runs=["odd", "whole", "none", "odd"], keys=["loss"], width=100)
    odd, whole = found["series"]
    assert (odd["run_id"], odd["min"], odd["max"], odd["points"]) == ("odd", None, None, 3)
    assert (whole["run_id"], whole["ended_at_step"], whole["status"]) == ("whole", 1999, "FINISHED")
    assert (whole["min"], whole["max"]) == (min(LOSS), max(LOSS))
    assert odd["ended_at_step"] is None
    assert found["bucket_width"] == 32
    assert not found["exact"]
    first, *rest = found["rows"]
    assert first == {
        "series": 0, "bucket": 0, "lo": None, "hi": None, "first": "NaN", "last": "-Infinity",
        "sum": 0.0, "n": 3, "nan": 1, "pos_inf": 1, "neg_inf": 1,
    }  # fmt: skip
    for row in rest:
        part = LOSS[row["bucket"] : row["bucket"] + 32]
        assert (row["lo"], row["hi"], row["n"]) == (min(part), max(part), len(part))
        assert (row["first"], row["last"]) == (part[0], part[-1])
    assert len(rest) == 63
    near = charts.ask(runs=["whole"], keys=["loss"], width=100, **{"from": 100, "to": 150})
    assert near["exact"]
    assert [row["lo"] for row in near["rows"]] == LOSS[100:151]


def test_arrow_has_the_same(charts: Charts) -> None:
    body = {"runs": ["whole", "odd"], "keys": ["loss", "accuracy"], "width": 50}
    answer = charts.client.post(
        CHARTS, json=body, headers={"Accept": "application/vnd.apache.arrow.stream"}
    )
    table = pa.ipc.open_stream(answer.content).read_all()
    expected = charts.ask(**body)
    rows = expected.pop("rows")
    assert json.loads(table.schema.metadata[b"modeltrail"]) == expected
    assert table["hi"].to_pylist() == [row["hi"] for row in rows]
    assert table["bucket"].type == pa.int64()
    nothing = charts.client.post(f"{CHARTS}?format=arrow", json={"runs": ["none"]})
    assert pa.ipc.open_stream(nothing.content).read_all().num_rows == 0


def test_all_keys_system_metrics_and_a_query(charts: Charts) -> None:
    def keys(**body: Any) -> list[tuple[str, str]]:
        return [(one["run_id"], one["key"]) for one in charts.ask(**body)["series"]]

    assert keys(runs=["whole", "odd"]) == [("whole", "loss"), ("odd", "accuracy"), ("odd", "loss")]
    assert keys(runs=["whole", "odd"], system=True) == [("whole", "system/cpu")]
    query = {"filter": "metrics.accuracy > 0.5"}
    assert keys(query=query, keys=["loss"]) == [("odd", "loss")]


def test_other_axes(charts: Charts) -> None:
    for x in ("time", "relative"):
        found = charts.ask(runs=["whole"], keys=["loss"], x=x, width=100)
        assert sum(row["n"] for row in found["rows"]) == 2_000
        assert all(row["bucket"] % found["bucket_width"] == 0 for row in found["rows"])
    found = charts.ask(runs=["odd", "whole"], keys=["loss"], x="accuracy")
    assert [one["run_id"] for one in found["series"]] == ["odd"]
    assert [(row["bucket"], row["first"]) for row in found["rows"]] == [
        (0.25, "NaN"), (0.5, "Infinity"), (0.75, "-Infinity"),
    ]  # fmt: skip


def test_gaps_are_where_events_are_missing(tmp_path: Path) -> None:
    now = time.time_ns() // 1_000_000

    def points(job: Job, key: str, steps: range, at_ms: int) -> bytes:
        n = len(steps)
        columns = pack([0] * n, steps, range(at_ms, at_ms + n), [0.5] * n)
        return job.event("MetricsLogged", series=[{"key": key}], **columns)

    with a_node(tmp_path) as node:
        job = Job("gappy")
        said = [job.started(), points(job, "loss", range(10), now - 100)]
        points(job, "loss", range(10, 20), now)  # this event never arrives
        after = now + 60_000
        said += [
            points(job, "loss", range(20, 30), after),
            points(job, "late", range(40, 41), after),
        ]
        node.append([NewEvent(RUNS, "gappy", payload) for payload in said])
        with TestClient(create_app(node), base_url="http://localhost") as client:
            charts = Charts(client)
            late, loss = charts.ask(runs=["gappy"])["series"]
            assert (loss["gaps"], late["gaps"]) == ([[9, 20]], [[None, 40]])
            (found,) = charts.ask(runs=["gappy"], keys=["loss"], x="time")["series"]
            assert found["gaps"] == [[now - 91, after]]
            relative = charts.ask(runs=["gappy"], keys=["loss"], x="relative")
            start = 1_700_000_000_000 // relative["bucket_width"] * relative["bucket_width"]
            assert relative["series"][0]["gaps"] == [[now - 91 - start, after - start]]


def test_the_points_of_a_moment(charts: Charts) -> None:
    now = charts.ask(runs=["whole", "odd"], keys=["loss"])
    position = now["position"]["runs"][0]
    for as_of in (position, "2999-01-01T00:00:00Z"):
        then = charts.ask(runs=["whole", "odd"], keys=["loss"], as_of=as_of)
        assert then["rows"] == now["rows"]
    # After the first two events of "whole", which come first.
    early = charts.ask(runs=["whole", "odd"], as_of="runs:0:1")
    assert [(one["run_id"], one["status"]) for one in early["series"]] == [("whole", "RUNNING")]
    assert early["series"][0]["ended_at_step"] is None
    assert charts.ask(runs=["whole"], as_of="2001-01-01")["series"] == []
    assert charts.ask(runs=["none"], as_of="runs:0:1")["series"] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"runs": ["whole"], "query": {}},
        {"runs": ["r"] * 1_001},
        {"runs": ["whole"], "width": 0},
        {"runs": ["whole"], "width": 4_001},
        {"runs": ["whole"], "from": 5, "to": 4},
        {"runs": ["whole"], "from": 1e300},
        {"runs": ["whole"], "x": ""},
        {"runs": ["whole"], "as_of": "yesterday"},
        {"runs": ["whole"], "as_of": "runs:0:999"},
        {"runs": ["whole"], "keys": ["k" * 2_000]},
        {"query": {"filter": "metrics."}},
    ],
)
def test_bad_requests_say_what_is_wrong(charts: Charts, body: dict[str, Any]) -> None:
    assert len(charts.ask(400, **body)["message"]) > 10


def test_a_run_that_one_may_not_read_does_not_exist(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        for who in ("ada", "bob"):
            experiment = world.experiment(who, f"of {who}")
            job = Job(f"run of {who}", experiment_id=experiment)
            said = [job.started(), job.metrics("loss", [1.0, 2.0])]
            world.node.append([NewEvent(RUNS, f"run of {who}", payload) for payload in said])
        runs = ["run of ada", "run of bob", "no run"]
        bodies: list[dict[str, Any]] = [{"runs": runs}, {"query": {}}]
        for body in bodies:
            found = world.ask("ada", "POST", CHARTS, 200, **body)
            assert [one["run_id"] for one in found["series"]] == ["run of ada"]
            assert {row["series"] for row in found["rows"]} == {0}
        assert len(world.ask("root", "POST", CHARTS, 200, runs=runs)["series"]) == 2
