"""A server that starts while its broker is away."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from access_users import PASSWORD
from api_server import Server
from kafka_broker import KafkaBroker

_AWAY = "kafka://127.0.0.1:9/away-"


def _get(server: Server, path: str, body: Any = None) -> tuple[int, Any, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers


def _until(true: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if true():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _waits(server: Server) -> bool:
    status, body, _ = _get(server, "/health")
    return status == 503 and "is not there yet" in body["reason"]


def test_it_waits_answers_from_what_it_has_and_is_ready_when_the_broker_is(
    own_kafka: KafkaBroker, tmp_path: Path
) -> None:
    log = own_kafka.url("late-")
    first = Server(tmp_path / "data", "--log", log)
    try:
        first.ready(60)
        made = first.ask("/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
        run_id = made["run"]["info"]["run_id"]
        assert first.ask(f"/api/v1/runs/{run_id}")["run_id"] == run_id
    finally:
        first.stop()
    own_kafka.stop()

    server = Server(tmp_path / "data", "--log", log)
    try:
        _until(lambda: _waits(server), 30)
        status, body, headers = _get(server, f"/api/v1/runs/{run_id}")
        assert (status, body["run_id"]) == (200, run_id)
        assert headers["X-Modeltrail-Behind"]
        assert _get(server, "/api/v1/status")[1]["log_error"]
        status, body, headers = _get(server, "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
        assert (status, headers["Retry-After"]) == (503, "1"), body
        assert body["error_code"] == "TEMPORARILY_UNAVAILABLE"
        time.sleep(12)  # longer than the server lived before
        assert server.process.poll() is None
        own_kafka.start()
        _until(lambda: _get(server, "/health")[0] == 200, 60)
        made = server.ask("/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
        other = made["run"]["info"]["run_id"]
        assert _get(server, f"/api/v1/runs/{other}")[2]["X-Modeltrail-Behind"] is None
        assert _get(server, f"/api/v1/runs/{run_id}")[0] == 200
    finally:
        code, _, said = server.stop()
    assert code == 0
    assert "waiting for the log: kafka://" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("auth", [False, True])
def test_who_waits_can_be_stopped(tmp_path: Path, auth: bool) -> None:
    options = ["--auth"] if auth else []
    server = Server(tmp_path, "--log", _AWAY, *options, env={"MODELTRAIL_ADMIN_PASSWORD": PASSWORD})
    _until(lambda: _waits(server), 30)
    if auth:
        request = urllib.request.Request(server.url + "/api/v1/runs")
        request.add_header("Authorization", "Bearer mt_x")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == 503
        refused.value.close()
    began = time.monotonic()
    code, _, said = server.stop()
    assert (code, "Traceback" in said) == (0, False), said
    assert time.monotonic() - began < 12
