"""The native routes over a real log and fold."""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from access_users import make_user
from api_server import Job
from modeltrail.api.access.rights import Access
from modeltrail.api.app import create_app
from modeltrail.api.artifacts.folder import FileSink
from modeltrail.api.artifacts.store import ArtifactStore
from modeltrail.api.errors import Unavailable
from modeltrail.api.node import Node
from modeltrail.consumers.fold import Fold
from modeltrail.eventlog import NewEvent, Partition, open_log
from modeltrail.schemas import encode, envelope, new_event_id, writer_schemas
from modeltrail.schemas.framing import frame

API = "/api/v1"


def _version(client: TestClient, model: str = "digits", **fields: Any) -> int:
    body = {"source": "s3://bucket/model", "create_model": True, **fields}
    answer = client.post(f"{API}/models/{model}/versions", json=body)
    assert answer.status_code == 200, answer.text
    number: int = answer.json()["version"]
    return number


def _ingest(client: TestClient, *payloads: bytes, **headers: str) -> Any:
    return client.post(f"{API}/ingest", content=frame(list(payloads)), headers=headers)


# Runs


def test_what_was_ingested_is_read_at_once(client: TestClient) -> None:
    job = Job(name="trial", params={"lr": "0.1"}, tags={"team": "vision 🚀"})
    answer = _ingest(client, job.started(), job.metrics("loss", [0.5, math.nan, -math.inf]))
    assert answer.json() == {"appended": 2, "positions": {"runs:0": 2}}
    run = client.get(f"{API}/runs/run-1").json()
    assert run["name"] == "trial"
    assert run["params"] == {"lr": "0.1"}
    assert run["tags"] == {"team": "vision 🚀"}
    assert run["complete"] is True
    assert run["metrics"][0]["value"] == "-Infinity"
    points = client.get(f"{API}/runs/run-1/metrics/loss").json()["points"]
    assert [p["value"] for p in points] == [0.5, "NaN", "-Infinity"]


def test_a_repeated_batch_has_no_second_effect(client: TestClient) -> None:
    job = Job()
    batch = [job.started(), job.metrics("loss", [0.5, 0.25])]
    _ingest(client, *batch)
    _ingest(client, *batch)
    assert client.get(f"{API}/runs/run-1").json()["points_stored"] == 2


def test_metric_history_comes_in_pages(client: TestClient) -> None:
    job = Job()
    _ingest(client, job.started(), job.metrics("loss", [float(i) for i in range(7)]))
    found: list[float] = []
    token = None
    while True:
        query = {"limit": 3, **({"page_token": token} if token else {})}
        body = client.get(f"{API}/runs/run-1/metrics/loss", params=query).json()
        found += [p["value"] for p in body["points"]]
        token = body["next_page_token"]
        if token is None:
            break
    assert found == [float(i) for i in range(7)]


def test_runs_are_filtered_and_paged(client: TestClient) -> None:
    for i in range(5):
        job = Job(f"run-{i}", tags={"odd": str(i % 2)}, params={"i": str(i)})
        _ingest(client, job.started())
    odd = client.get(f"{API}/runs", params={"tag": "odd=1"}).json()["runs"]
    assert {r["run_id"] for r in odd} == {"run-1", "run-3"}
    first = client.get(f"{API}/runs", params={"limit": 3}).json()
    second = client.get(
        f"{API}/runs", params={"limit": 3, "page_token": first["next_page_token"]}
    ).json()
    ids = [r["run_id"] for r in first["runs"] + second["runs"]]
    assert sorted(ids) == [f"run-{i}" for i in range(5)]
    assert second["next_page_token"] is None
    assert client.get(f"{API}/runs", params={"tag": "odd"}).status_code == 400


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (b"\xc3\x01short", "single-object header"),
        (b"not an event at all", "single-object header"),
        (Job().started()[:-3], "cannot be decoded"),
        (Job().started() + b"x", "after its end"),
        (Job().event("ParamsLogged", params={"k" * 2000: "v"}), "1 to 250 characters"),
        (Job().event("TagsChanged", tags={"k": "v" * 70_000}), "65,536 are allowed"),
        (Job(experiment_name=None).started(), "neither experiment_id"),
        (Job().event("RunEnded", status="DONE", ended_at_ms=0), "is not FINISHED"),
        (Job("").started(), "run's id"),
        (Job("a\0b").started(), "run's id"),
        (
            Job().event(
                "MetricsLogged",
                series=[{"key": "loss"}],
                series_index=b"\x01\x00",
                steps=bytes(8),
                timestamps_ms=bytes(8),
                values=bytes(8),
            ),
            "series",
        ),
    ],
    ids=[
        "cut",
        "foreign",
        "truncated",
        "longer",
        "long key",
        "long value",
        "experiment",
        "status",
        "no id",
        "nul",
        "index",
    ],
)
def test_one_bad_event_refuses_the_batch(
    client: TestClient, node: Node, bad: bytes, says: str
) -> None:
    answer = _ingest(client, Job("good").started(), bad)
    assert answer.status_code == 400
    assert says in answer.json()["message"]
    assert answer.json()["index"] == 1
    assert node.log.end()[Partition("runs", 0)] == 0


def test_ingest_takes_long_keys_of_250_nul_and_emoji(client: TestClient) -> None:
    job = Job(params={"k" * 250: "a\0b 🚀"})
    assert _ingest(client, job.started()).status_code == 200
    assert client.get(f"{API}/runs/run-1").json()["params"] == {"k" * 250: "a\0b 🚀"}


def test_ingest_refuses_registry_events(client: TestClient) -> None:
    head = envelope(producer_id=new_event_id(), sequence=0, actor="x", client="x")
    payload = encode("DeleteRegisteredModel", {"envelope": head, "model": "m"})
    assert "registry" in _ingest(client, payload).json()["message"]


def test_ingest_refuses_frames_that_do_not_add_up(client: TestClient) -> None:
    for body in (b"\x01", b"\xff\xff\xff\xff", b"\x05\0\0\0abc"):
        assert client.post(f"{API}/ingest", content=body).status_code == 400


def test_an_unknown_schema_is_asked_for_and_then_taken(client: TestClient) -> None:
    payload = Job().started()
    foreign = payload[:2] + b"\x01\x02\x03\x04\x05\x06\x07\x08" + payload[10:]
    answer = _ingest(client, foreign)
    assert answer.status_code == 409
    assert answer.json()["error_code"] == "UNKNOWN_SCHEMA"
    assert answer.json()["fingerprint"] == "0102030405060708"
    fingerprint, text = next(iter(writer_schemas().items()))
    url = f"{API}/schemas/{fingerprint.hex()}"
    assert client.put(url, content=text).status_code == 200
    assert client.get(url).json() == json.loads(text)
    assert client.put(f"{API}/schemas/00", content=text).status_code == 400
    assert client.put(url, content=b"\xff").status_code == 400
    assert client.put(url, content=b'{"type": "string"}').status_code == 400


def test_too_large_a_body_is_refused(client: TestClient) -> None:
    assert client.post(f"{API}/ingest", content=bytes(33 * 1024**2)).status_code == 413

    def pieces() -> Any:  # no Content-Length
        for _ in range(5):
            yield bytes(1024**2)

    answer = client.post(f"{API}/sql", content=pieces())
    assert answer.status_code == 413
    assert answer.json()["error_code"] == "REQUEST_TOO_LARGE"


# Registry


def test_requests_are_decided_and_recorded(client: TestClient) -> None:
    assert _version(client) == 1
    assert _version(client) == 2
    url = f"{API}/models/digits/aliases/champion"
    assert client.put(url, json={"version": 1, "expected": 0}).status_code == 200
    conflict = client.put(url, json={"version": 2, "expected": 2, "reason": "mistaken"})
    assert conflict.status_code == 409
    assert conflict.json()["error_code"] == "RESOURCE_CONFLICT"
    assert client.get(url).json()["version"] == 1
    refused = client.get(f"{API}/audit", params={"accepted": False}).json()["events"]
    assert [(e["alias"], e["reason"]) for e in refused] == [("champion", "mistaken")]
    missing = client.put(url, json={"version": 9})
    assert (missing.status_code, missing.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_every_registry_route(client: TestClient) -> None:
    assert client.post(f"{API}/models", json={"model": "m"}).status_code == 200
    again = client.post(f"{API}/models", json={"model": "m"})
    assert (again.status_code, again.json()["error_code"]) == (400, "RESOURCE_ALREADY_EXISTS")
    one = _version(client, "m", tags={"a": "1"}, aliases=["x"])
    for url, body in (
        ("/models/m", {"description": "d"}),
        ("/models/m", {"tags": {"k": "v"}}),
        (f"/models/m/versions/{one}", {"description": "d"}),
        (f"/models/m/versions/{one}", {"tags": {"a": None, "b": "2"}}),
        ("/models/m", {"name": "n"}),
    ):
        assert client.patch(API + url, json=body).status_code == 200, body
    assert client.patch(f"{API}/models/n", json={}).status_code == 400
    stage = {"stage": "production", "archive_existing_versions": True, "expected": "None"}
    url = f"{API}/models/n/versions/{one}"
    assert client.put(f"{url}/stage", json=stage).status_code == 200
    version = client.get(url).json()
    assert (version["stage"], version["tags"], version["aliases"]) == (
        "Production",
        {"b": "2"},
        ["x"],
    )
    assert client.get(f"{API}/models/n").json()["tags"] == {"k": "v"}
    assert client.get(f"{API}/stages?stage=production").json()["stages"][0]["model"] == "n"
    assert client.delete(f"{API}/models/n/aliases/x?expected=7").status_code == 409
    assert client.delete(f"{API}/models/n/aliases/x?expected={one}").status_code == 200
    assert client.request("DELETE", url, json={"reason": "bad"}).status_code == 200
    assert client.get(url).status_code == 404
    assert client.delete(f"{API}/models/n").status_code == 200
    assert client.get(f"{API}/models").json()["models"] == []


def test_experiments_are_renamed_deleted_and_restored(client: TestClient) -> None:
    first = client.post(f"{API}/experiments", json={"name": "a", "tags": {"k": "v"}}).json()
    url = f"{API}/experiments/{first['experiment_id']}"
    assert client.patch(url, json={"name": "b"}).status_code == 200
    second = client.post(f"{API}/experiments", json={"name": "a"}).json()
    assert second["experiment_id"] != first["experiment_id"]
    assert client.delete(url).status_code == 200
    assert client.get(url).json()["deleted"] is True
    names = [e["name"] for e in client.get(f"{API}/experiments").json()["experiments"]]
    assert names == ["Default", "a"]
    assert client.post(f"{url}/restore").status_code == 200
    then = client.get(url, params={"as_of": first["position"]}).json()
    assert (then["name"], then["deleted"], then["tags"]) == ("a", False, {"k": "v"})


def test_as_of_by_position_and_time(client: TestClient) -> None:
    for _ in range(2):
        _version(client)
    url = f"{API}/models/digits/aliases/champion"
    first = client.put(url, json={"version": 1}).json()["position"]
    client.put(url, json={"version": 2})
    set_at = client.get(url).json()["set_at"]
    assert client.get(url, params={"as_of": first}).json()["version"] == 1
    assert client.get(url, params={"as_of": first.rpartition(":")[2]}).json()["version"] == 1
    assert client.get(url, params={"as_of": set_at}).json()["version"] == 2
    assert client.get(url, params={"as_of": "2001-01-01"}).status_code == 404
    for bad in ("registry:0:99", "99", "yesterday", "runs:0:1", "registry:0", "-1"):
        assert client.get(url, params={"as_of": bad}).status_code == 400, bad


def test_promotion_carries_the_metrics_of_the_run(client: TestClient) -> None:
    job = Job()
    _ingest(client, job.started(), job.metrics("auc", [0.5, 0.9]))
    number = _version(client, run_id="run-1")
    client.put(f"{API}/models/digits/aliases/champion", json={"version": number})
    own = [{"kind": "note", "key": "ticket", "value": "17"}]
    client.put(
        f"{API}/models/digits/versions/{number}/stage",
        json={"stage": "Production", "evidence": own},
    )
    stage, alias = client.get(f"{API}/audit?limit=2").json()["events"]
    assert alias["request"]["evidence"] == [
        {"kind": "metric", "key": "auc", "value": "0.9", "run_id": "run-1", "position": "runs:0:1"}
    ]
    assert stage["request"]["evidence"][0]["value"] == "17"


def test_an_idempotency_key_gives_one_effect(client: TestClient) -> None:
    def create(source: str) -> Any:
        return client.post(
            f"{API}/models/m/versions",
            json={"source": source, "create_model": True},
            headers={"Idempotency-Key": "k1"},
        )

    first, second, other = create("s3://a/b"), create("s3://a/b"), create("s3://a/c")
    assert first.json() == second.json()
    assert (other.status_code, other.json()["error_code"]) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert len(client.get(f"{API}/models/m/versions").json()["versions"]) == 1


def test_racing_requests_are_grouped_in_order_and_have_one_winner(
    client: TestClient, node: Node
) -> None:
    _version(client)
    appended: list[int] = []
    append = node.log.append

    def counted(events: list[NewEvent], timeout_s: float = 30.0) -> Any:
        appended.append(len(events))
        return append(events, timeout_s)

    node.log.append = counted  # type: ignore[method-assign, assignment]
    start = threading.Barrier(16)

    def claim(_: int) -> int:
        start.wait()
        codes = [
            client.put(
                f"{API}/models/digits/aliases/a{i}", json={"version": 1, "expected": 0}
            ).status_code
            for i in range(5)
        ]
        return codes.count(200)

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(claim, range(16))) == 5
    assert sum(appended) == 80
    assert len(appended) < 80
    events = client.get(f"{API}/audit?limit=1000&type=SetRegisteredModelAlias").json()["events"]
    sequences = [e["request"]["envelope"]["sequence"] for e in events]
    assert sequences == sorted(sequences, reverse=True)
    assert len(set(sequences)) == 80


def test_audit_is_filtered_and_paged(client: TestClient) -> None:
    for i in range(3):
        headers = {"X-Modeltrail-Actor": f"user{i}", "X-Modeltrail-Reason": "because"}
        client.post(f"{API}/models", json={"model": f"m{i}"}, headers=headers)
    first = client.get(f"{API}/audit?limit=2").json()
    rest = client.get(f"{API}/audit", params={"page_token": first["next_page_token"]}).json()
    assert [e["model"] for e in first["events"] + rest["events"]] == ["m2", "m1", "m0"]
    (found,) = client.get(f"{API}/audit?actor=user1").json()["events"]
    assert (found["model"], found["reason"], found["actor_verified"]) == ("m1", "because", False)
    assert client.get(f"{API}/audit?until=2001-01-01").json()["events"] == []
    assert client.get(f"{API}/audit?since=nonsense").status_code == 400
    assert client.get(f"{API}/audit?page_token=nonsense").status_code == 400


# Artifacts


def test_artifacts_are_stored_listed_fetched_and_removed(client: TestClient) -> None:
    url = f"{API}/runs/run-1/artifacts"
    data = bytes(range(256)) * 1000
    stored = client.put(f"{url}/model/a b.bin?record=true", content=data).json()
    assert stored["size_bytes"] == len(data)
    assert stored["sha256"] == hashlib.sha256(data).hexdigest()
    assert client.get(url).json()["artifacts"] == [
        {"path": "model/a b.bin", "size_bytes": len(data)}
    ]
    fetched = client.get(f"{url}/model/a b.bin")
    assert fetched.content == data
    assert fetched.headers["content-disposition"].startswith("attachment")
    assert client.get(f"{API}/runs/run-1").json()["artifacts"][0]["sha256"] == stored["sha256"]
    assert client.delete(f"{url}/model/a b.bin").status_code == 200
    assert client.get(url).json()["artifacts"] == []
    assert client.get(f"{url}/model/a b.bin").status_code == 404


@pytest.mark.parametrize(
    "path",
    ["..%2f..%2fx", "a%2f..%2f..%2fx", "%2fetc%2fpasswd", "a%00b", "a%5c..%5cb", "a%2f%2fb"],
)
def test_artifact_paths_cannot_lead_elsewhere(
    client: TestClient, tmp_path: Path, path: str
) -> None:
    for method in ("PUT", "GET", "DELETE"):
        answer = client.request(method, f"{API}/runs/r/artifacts/{path}")
        assert answer.status_code in (400, 404, 405), (method, answer.text)
    assert client.put(f"{API}/runs/..%2f../artifacts/x", content=b"x").status_code in (400, 404)
    assert not list(tmp_path.glob("x"))


def test_links_do_not_lead_out(client: TestClient, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "r"
    folder.mkdir(parents=True)
    (folder / "out").symlink_to("/etc")
    (folder / "passwd").symlink_to("/etc/passwd")
    assert client.get(f"{API}/runs/r/artifacts/out/passwd").status_code == 400
    assert client.get(f"{API}/runs/r/artifacts/passwd").status_code == 404
    assert client.put(f"{API}/runs/r/artifacts/out/x", content=b"x").status_code == 400


def test_an_artifact_over_the_limit_leaves_nothing(client: TestClient, tmp_path: Path) -> None:
    def pieces() -> Any:
        for _ in range(3):
            yield bytes(500_000)

    url = f"{API}/runs/r/artifacts/big"
    assert client.put(url, content=pieces()).status_code == 413
    assert client.put(url, content=bytes(1_000_001)).status_code == 413
    assert [f for f in (tmp_path / "artifacts").rglob("*") if f.is_file()] == []


def test_a_full_disk_refuses_the_artifact(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(sink: FileSink, data: bytes) -> None:
        sink._out.close()
        with open("/dev/full", "wb", buffering=0) as sink._out:
            write(sink, data)

    write = FileSink.write
    monkeypatch.setattr(FileSink, "write", full)
    answer = client.put(f"{API}/runs/r/artifacts/x", content=b"x")
    assert answer.status_code == 503
    assert "disk" in answer.json()["message"]
    assert client.get(f"{API}/runs/r/artifacts").json()["artifacts"] == []


# Who may talk, and how


def test_tokens_prove_the_actor(node: Node) -> None:
    token = make_user(node, "ada", admin=True)
    app = create_app(node, access=Access(node))
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get(f"{API}/runs").status_code == 401
        assert client.get(f"{API}/runs", headers={"Authorization": "Bearer x"}).status_code == 401
        assert client.get("/health").status_code == 200
        client.headers["Authorization"] = f"Bearer {token}"
        who = client.get(f"{API}/whoami").json()
        assert (who["actor"], who["verified"]) == ("ada", True)
        assert _ingest(client, Job().started()).status_code == 200
        found = client.get(f"{API}/sql", params={"statement": "SELECT actor FROM runs"}).json()
        assert found["rows"] == [["ada"]]
        other = make_user(node, "grace")
        headers = {"Authorization": f"Bearer {other}"}
        assert client.get(f"{API}/whoami", headers=headers).json()["actor"] == "grace"


def test_a_claimed_name_stays_unverified(client: TestClient) -> None:
    head = envelope(
        producer_id=new_event_id(), sequence=0, actor="root", client="x", actor_verified=True
    )
    start = {"envelope": head, "run_id": "r", "user": "u", "started_at_ms": 0}
    start["experiment_id"] = "0"
    _ingest(client, encode("RunStarted", start))
    node: Node = client.app.state.node  # type: ignore[attr-defined]
    reader = node.log.reader({})
    (record,) = [r for r in reader.poll(1) if r.stream == "runs"]
    reader.close()
    assert node.codec.decode(record.payload).event["envelope"]["actor_verified"] is False


def test_foreign_hosts_and_origins_are_refused(client: TestClient) -> None:
    evil = client.get(f"{API}/runs", headers={"Host": "evil.example.org"})
    assert (evil.status_code, evil.json()["error_code"]) == (403, "HOST_NOT_ALLOWED")
    for host in ("localhost:5000", "127.0.0.1", "[::1]:5000", "192.168.1.7:5000"):
        assert client.get(f"{API}/runs", headers={"Host": host}).status_code == 200
    body = {"model": "m"}
    for origin in ("http://evil.example.org", "null"):
        answer = client.post(f"{API}/models", json=body, headers={"Origin": origin})
        assert answer.json()["error_code"] == "ORIGIN_NOT_ALLOWED"
    own = client.post(f"{API}/models", json=body, headers={"Origin": "http://localhost"})
    assert own.status_code == 200


def test_answers_carry_security_headers_and_errors_no_traceback(
    client: TestClient, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(node, "acknowledged", broken)
    answer = client.get(f"{API}/runs")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["/nothing", f"{API}/runs/none", f"{API}/models/none", f"{API}/models/m/versions/x"]
)
def test_what_is_not_there_is_a_json_error(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (400, 404)
    assert set(answer.json()) >= {"error_code", "message"}


# Operation


def test_health_metrics_status_and_first_page(client: TestClient) -> None:
    assert client.get("/health").json() == {
        "status": "ok",
        "dead_letters": 0,
        "lag": {"registry:0": 0, "runs:0": 0},
        "webhooks": None,  # this node delivers none
    }
    client.get(f"{API}/runs/none")
    text = client.get("/metrics").text
    families = {f.name: f for f in text_string_to_metric_families(text)}
    lag = families["modeltrail_fold_lag_events"].samples
    assert [s.value for s in lag if s.labels == {"stream": "runs", "partition": "0"}] == [0]
    answers = families["modeltrail_http_requests"].samples
    labels = {"method": "GET", "route": "/api/v1/runs/{run_id}", "status": "404"}
    assert [s.value for s in answers if s.labels == labels] == [1]
    assert families["modeltrail_http_request_duration_seconds"].type == "histogram"
    assert client.get(f"{API}/status").json()["fold_error"] is None
    assert "/docs" in client.get("/").text
    assert client.get("/docs").status_code == 200


def test_dead_letters_show_and_can_be_retried(client: TestClient, node: Node) -> None:
    node.append([NewEvent("runs", "x", b"nonsense")])
    (letter,) = client.get(f"{API}/dead-letters").json()["dead_letters"]
    assert bytes.fromhex(letter["payload_hex"]) == b"nonsense"
    assert client.get("/health").json()["dead_letters"] == 1
    assert client.post(f"{API}/dead-letters/retry").json() == {"applied": 0, "left": 1}


def test_health_says_why_the_server_cannot_answer(client: TestClient, node: Node) -> None:
    node.end_at_start[Partition("runs", 0)] = 5
    answer = client.get("/health")
    assert answer.status_code == 503
    assert "5 events" in answer.json()["reason"]


def test_a_fold_that_stands_still_is_unavailable_not_wrong(client: TestClient, node: Node) -> None:
    node.read_timeout_s = 0.05
    node._acknowledge([node.log.append([NewEvent("runs", "x", b"x")])[0]._replace(offset=10)])
    answer = client.get(f"{API}/runs")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_reads_wait_for_what_was_in_the_log_before_the_start(tmp_path: Path) -> None:
    with closing(open_log(str(tmp_path / "data"))) as log:
        log.append([NewEvent("runs", "run-1", Job().started())])
        fold = Fold(log, None, memory_limit="1GB", threads=1)
        node = Node(log, fold, ArtifactStore(tmp_path / "artifacts"), read_timeout_s=0.05)
        node.start()  # the fold begins later
        with pytest.raises(Unavailable, match="behind"):
            node.wait()
        fold.start()
        node.read_timeout_s = 15.0
        with node.read() as cursor:
            assert cursor.execute("SELECT run_id FROM runs").fetchall() == [("run-1",)]
        node.stop()
        fold.stop()


def test_log_consistency_waits_for_what_others_appended(client: TestClient, node: Node) -> None:
    node.log.append([NewEvent("runs", "run-1", Job().started())])
    assert client.get(f"{API}/runs/run-1?consistency=log").status_code == 200
    headers = {"X-Modeltrail-Consistency": "log"}
    assert client.get(f"{API}/runs/run-1", headers=headers).status_code == 200
    assert client.get(f"{API}/runs?consistency=other").status_code == 400


def own_routes(client: TestClient) -> tuple[dict[str, Any], dict[str, Any]]:
    """The OpenAPI document, and its paths but for MLflow's."""
    spec = client.get("/openapi.json").json()
    theirs = re.compile(r"/(ajax-)?api/[23]\.0/|/(model-versions/)?get-artifact$|/version$")
    return spec, {p: methods for p, methods in spec["paths"].items() if not theirs.match(p)}


def test_every_route_is_in_openapi_with_an_example(client: TestClient) -> None:
    for path, methods in own_routes(client)[1].items():
        for method, operation in methods.items():
            content = operation["responses"]["200"].get("content", {})
            binary = {"application/octet-stream"} & set(content)
            assert binary or any("example" in c for c in content.values()), (method, path)


def test_openapi_examples_are_accepted(client: TestClient) -> None:
    """Each request example is sent to its route; a name in it may be missing, its shape may not."""
    spec, paths = own_routes(client)
    values = {
        **{"model": "digits", "version": "1", "alias": "champion", "experiment_id": "0"},
        **{"user": "ada", "role_id": "1", "webhook_id": "0"},
    }
    for path, methods in paths.items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            reference = body.get("schema", {}).get("$ref")
            if reference is None:
                continue
            example = spec["components"]["schemas"][reference.rpartition("/")[2]]["example"]
            url = path.format(**values) if "{" in path else path
            answer = client.request(method, url, json=example)
            # 403: users are not managed where nobody is asked who they are
            assert answer.status_code in (200, 403, 404, 409), (url, answer.text)
