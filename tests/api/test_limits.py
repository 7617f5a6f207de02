"""Ingest, MLflow's API and the fold have the same limits."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient

from api_server import Job
from modeltrail.limits import ID_CHARACTERS_MAX, TEXT_BYTES_MAX
from modeltrail.schemas.framing import frame

EURO = "€"  # three bytes in UTF-8
FITS = EURO * (TEXT_BYTES_MAX // 3)
TOO_LONG = FITS + EURO


def _ingest(client: TestClient, *payloads: bytes) -> Any:
    return client.post("/api/v1/ingest", content=frame(payloads))


def _log_batch(client: TestClient, run_id: str) -> Any:
    batch = {"run_id": run_id, "params": [{"key": "p", "value": "1"}]}
    return client.post("/api/2.0/mlflow/runs/log-batch", json=batch)


def test_the_longest_run_id_passes_every_door(client: TestClient) -> None:
    run_id = "r" * ID_CHARACTERS_MAX
    assert _ingest(client, Job(run_id).started()).status_code == 200
    assert client.get(f"/api/v1/runs/{run_id}").json()["run_id"] == run_id
    assert _log_batch(client, run_id).status_code == 200


def test_a_longer_run_id_passes_none(client: TestClient) -> None:
    run_id = "r" * (ID_CHARACTERS_MAX + 1)
    answer = _ingest(client, Job(run_id).started())
    assert answer.status_code == 400
    assert f"1 to {ID_CHARACTERS_MAX} printable" in answer.json()["message"]
    assert _log_batch(client, run_id).json()["error_code"] == "INVALID_PARAMETER_VALUE"


def test_texts_are_measured_in_bytes(client: TestClient) -> None:
    job = Job(params={"p": FITS}, tags={"t": FITS})
    assert _ingest(client, job.started()).status_code == 200
    run = client.get("/api/v1/runs/run-1").json()
    assert (run["params"], run["tags"]) == ({"p": FITS}, {"t": FITS})
    for field in ("params", "tags"):
        answer = _ingest(client, Job("run-2", **{field: {"k": TOO_LONG}}).started())
        assert answer.status_code == 400
        assert f"{TEXT_BYTES_MAX:,} are allowed" in answer.json()["message"]
    for value, status in ((FITS, 200), (TOO_LONG, 400)):
        new = {"experiment_id": "0", "tags": [{"key": "t", "value": value}]}
        assert client.post("/api/2.0/mlflow/runs/create", json=new).status_code == status
