"""MLflow's artifact proxy: where paths lead, and where they must not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from email.message import Message
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from modeltrail.api.artifacts.store import key_of
from modeltrail.api.artifacts.uris import Elsewhere, parse, place_of
from modeltrail.api.errors import InvalidRequest
from modeltrail.api.node import Node

Ask = Callable[..., Any]
PROXY = "/api/2.0/mlflow-artifacts/artifacts"
RUN = "0123456789abcdef" * 2
MODEL = "m-" + RUN


@pytest.fixture
def run_id(ask: Ask) -> str:
    run = ask("POST", "runs/create", experiment_id="0", user_id="ada")["run"]["info"]
    return str(run["run_id"])


def files(client: TestClient, path: str) -> dict[str, int | None]:
    answer = client.get(PROXY, params={"path": path})
    assert answer.status_code == 200, answer.text
    return {f["path"]: f.get("file_size") for f in answer.json().get("files", [])}


def sql(client: TestClient, statement: str) -> Any:
    return client.post("/api/v1/sql", json={"statement": statement}).json()["rows"]


def test_upload_list_fetch_delete(client: TestClient, ask: Ask, run_id: str) -> None:
    root = f"0/{run_id}/artifacts"
    names = ["model/MLmodel", "notes/a b é % # ü.txt", "empty"]
    for name in names:
        data = b"" if name == "empty" else name.encode()
        assert client.put(f"{PROXY}/{quote(f'{root}/{name}')}", content=data).json() == {}
        got = client.get(f"{PROXY}/{quote(f'{root}/{name}')}")
        assert got.content == data
        assert got.headers["content-disposition"].startswith("attachment")
        assert got.headers["x-content-type-options"] == "nosniff"
    assert files(client, root) == {"model": None, "notes": None, "empty": 0}
    assert files(client, f"{root}/notes/") == {"a b é % # ü.txt": 23}
    assert files(client, f"{root}/nothing") == {}
    listed = ask("GET", "artifacts/list", run_id=run_id, path="model")
    assert listed == {
        "root_uri": f"mlflow-artifacts:/{root}",
        "files": [{"path": "model/MLmodel", "is_dir": False, "file_size": 13}],
    }
    assert client.get(f"{PROXY}/{root}/model").status_code == 400
    missing = client.get(f"{PROXY}/{root}/nothing")
    assert (missing.status_code, missing.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    recorded = sql(client, "SELECT path, sha256, size_bytes FROM artifacts ORDER BY path")
    assert [row[0] for row in recorded] == sorted(names)
    assert recorded[1][1:] == [hashlib.sha256(b"model/MLmodel").hexdigest(), 13]
    assert client.delete(f"{PROXY}/{root}/notes").json() == {}
    assert client.delete(f"{PROXY}/{root}/empty").json() == {}
    assert client.delete(f"{PROXY}/{root}/nothing").json() == {}
    assert files(client, root) == {"model": None}
    assert sql(client, "SELECT path FROM artifacts") == [["model/MLmodel"]]


def test_both_kinds_of_clients_see_the_same_files(
    client: TestClient, tmp_path: Path, run_id: str
) -> None:
    client.put(f"{PROXY}/0/{run_id}/artifacts/by/mlflow.txt", content=b"m")
    client.put(f"/api/v1/runs/{run_id}/artifacts/by/ours.txt", content=b"o")
    ours = client.get(f"/api/v1/runs/{run_id}/artifacts").json()["artifacts"]
    assert [f["path"] for f in ours] == ["by/mlflow.txt", "by/ours.txt"]
    assert files(client, f"0/{run_id}/artifacts/by") == {"mlflow.txt": 1, "ours.txt": 1}
    assert (tmp_path / "artifacts" / run_id / "by" / "mlflow.txt").read_bytes() == b"m"


def test_files_of_a_logged_model(client: TestClient, ask: Ask) -> None:
    model = ask("POST", "logged-models", experiment_id="0")["model"]["info"]
    root = model["artifact_uri"].removeprefix("mlflow-artifacts:/")
    client.put(f"{PROXY}/{root}/MLmodel", content=b"flavors")
    path = f"logged-models/{model['model_id']}/artifacts/directories"
    assert ask("GET", path)["files"] == [{"path": "MLmodel", "is_dir": False, "file_size": 7}]
    found = sql(client, "SELECT model_id, path, size_bytes, sha256 FROM logged_model_artifacts")
    assert found == [[model["model_id"], "MLmodel", 7, hashlib.sha256(b"flavors").hexdigest()]]
    client.delete(f"{PROXY}/{root}/MLmodel")
    assert sql(client, "SELECT * FROM logged_model_artifacts") == []


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (f"0/{RUN}/artifacts/a/b", ("run", RUN, "a/b")),
        (f"0/{RUN}/artifacts", ("run", RUN, "")),
        ("17/my-run/artifacts/a", ("run", "my-run", "a")),
        (f"team/x/{RUN}/artifacts/artifacts/a", ("run", RUN, "artifacts/a")),
        (f"0/models/{MODEL}/artifacts/a", ("model", MODEL, "a")),
        (f"team/models/{MODEL}/artifacts/a", ("model", MODEL, "a")),
        ("0/models/artifacts/a", ("other", "", "0/models/artifacts/a")),
        ("0/traces/tr-1/artifacts/t.json", ("other", "", "0/traces/tr-1/artifacts/t.json")),
        ("a//b/./c/", ("other", "", "a/b/c")),
        ("", ("other", "", "")),
    ],
)
def test_where_a_path_leads(path: str, place: tuple[str, str, str]) -> None:
    assert place_of(path) == place
    assert parse(f"mlflow-artifacts:/{path}") == place
    assert parse(f"mlflow-artifacts://host:80/{path}") == place
    assert parse(f"https://host{PROXY}/{path}") == place
    assert isinstance(parse(f"s3://bucket/{path}"), Elsewhere)


SPOILERS = st.sampled_from(
    [
        *("..", ".", "/", "\\", "%", "%2e", "%2E%2e", "%2f", "%5c", "%25", "%252e", "%00", "\0"),
        *("C:", "c:/", "file:", "~", "%c0%ae", "\uff0e\uff0e", "\u2215", "\u202e", " ", "\n", "a"),
        *("etc/passwd", ".uploads", "other", "models", "artifacts", RUN, MODEL, "\ud800"),
    ]
)
PATHS = st.lists(st.one_of(SPOILERS, st.text(max_size=3)), max_size=12).map("".join)


@given(path=PATHS, prefix=st.sampled_from(["", f"0/{RUN}/artifacts/", f"0/models/{MODEL}/"]))
@settings(max_examples=400, deadline=None)
def test_no_path_at_all_leads_out(path: str, prefix: str) -> None:
    """Whatever is asked for is refused, or is a file below the folder of its own owner."""
    try:
        place = place_of(prefix + path)
        key = key_of(place.owner, place.path)
    except InvalidRequest:
        return
    home = os.path.abspath("/home/of/artifacts")
    owner = os.path.join(home, *place.owner.split("/"))
    file = os.path.join(home, *key.split("/"))
    assert os.path.normpath(file) == file
    assert file.startswith(f"{owner}/")
    assert not key.startswith(".uploads")
    assert PureWindowsPath(place.path).drive == ""
    assert not {"..", "\\", "\0"} & {*unquote(unquote(key)).split("/"), *key}
    key.encode()


BAD = [
    "../x", "a/../../x", "..", "%2e%2e/x", "a/%252e%252e/b", "a/%25252e%25252e/b", "..%2fx",
    "..%5cx", "a\\b", "/etc/passwd", "%2fetc/passwd", "C:/x", "C:\\x", "C:x", "file:///etc/passwd",
    "FILE:/etc", "a\x00b", "a%00b", "\\\\host\\x",
]  # fmt: skip


@pytest.mark.parametrize("path", BAD)
def test_no_path_leads_out(path: str, client: TestClient, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        place_of(path)
    sent = quote(path, safe="").replace(".", "%2e")
    for prefix in ("", f"0/{RUN}/artifacts/"):
        target = f"{PROXY}/{prefix}{sent}"
        inner = bool(prefix) and not {"..", "\\", "\x00"} & {*path.split("/"), *path}
        for answer in (
            client.put(target, content=b"x"),
            client.get(target),
            client.delete(target),
            client.get(PROXY, params={"path": prefix + path}),
        ):
            assert answer.status_code in ((200, 400, 404) if inner else (400,)), answer.text
    outside = {p for p in tmp_path.rglob("*") if p.is_file()}
    assert all(p.is_relative_to(tmp_path / "artifacts") or p.parent.name == "data" for p in outside)


def test_a_link_in_the_folder_is_not_followed(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("k")
    home = tmp_path / "artifacts" / "other" / "files"
    home.mkdir(parents=True)
    (home / "link").symlink_to(tmp_path / "secret")
    (home / "key").symlink_to(tmp_path / "secret" / "key")
    for path in ("link/key", "key"):
        assert client.get(f"{PROXY}/{path}").status_code in (400, 404)
    assert client.put(f"{PROXY}/link/new", content=b"x").status_code == 400
    assert files(client, "") == {}
    assert [p.name for p in (tmp_path / "secret").iterdir()] == ["key"]


def test_folders_that_are_not_a_runs_are_out_of_reach(client: TestClient) -> None:
    for run_id in ("models", "other"):
        answer = client.put(f"/api/v1/runs/{run_id}/artifacts/x/y", content=b"x")
        assert answer.status_code == 400


def test_a_file_and_a_folder_of_one_name(client: TestClient, run_id: str) -> None:
    root = f"{PROXY}/0/{run_id}/artifacts"
    client.put(f"{root}/a/b", content=b"x")
    for path in ("a", "a/b/c"):
        assert client.put(f"{root}/{path}", content=b"x").status_code == 400


def test_what_is_too_large_is_refused_and_leaves_nothing(
    client: TestClient, node: Node, run_id: str
) -> None:
    node.artifacts.bytes_max = 10
    root = f"0/{run_id}/artifacts"
    assert client.put(f"{PROXY}/{root}/big", content=b"x" * 11).status_code == 413
    assert files(client, root) == {}


def test_an_upload_in_parts(client: TestClient, run_id: str) -> None:
    base = "/api/2.0/mlflow-artifacts"
    folder = f"0/{run_id}/artifacts/d"
    asked = {"path": "C:\\data\\weights 1%.bin", "num_parts": 2}
    made = client.post(f"{base}/mpu/create/{folder}", json=asked).json()
    parts = []
    for credential, data in zip(made["credentials"], (b"one", b"two"), strict=True):
        assert credential["url"].startswith(f"http://localhost{base}/mpu/parts/")
        answer = client.put(credential["url"], content=data, headers=credential["headers"])
        number = credential["part_number"]
        parts.append({"part_number": number, "etag": answer.headers["ETag"], "url": "u"})
    done = {"path": asked["path"], "upload_id": made["upload_id"], "parts": parts}
    for bad in (
        {**done, "path": "another"},
        {**done, "upload_id": "0" * 64},
        {**done, "upload_id": "../x"},
        {**done, "parts": parts[:1]},
        {**done, "parts": [*parts, parts[0]]},
        {**done, "parts": [{}]},
        {**done, "parts": "x"},
        {"path": ""},
        {**done, "path": "a/.."},
    ):
        answer = client.post(f"{base}/mpu/complete/{folder}", json=bad)
        assert answer.status_code in (400, 404), bad
    for _ in range(2):
        answer = client.post(f"{base}/mpu/complete/{folder}", json=done)
        assert (answer.status_code, answer.json()) == (200, {}), answer.text
    assert client.get(f"{PROXY}/{folder}/weights%201%25.bin").content == b"onetwo"
    recorded = sql(client, "SELECT path, size_bytes, sha256 FROM artifacts")
    assert recorded == [["d/weights 1%.bin", 6, hashlib.sha256(b"onetwo").hexdigest()]]
    assert files(client, folder) == {"weights 1%.bin": 6}
    for path in (f"{made['upload_id']}/3", f"{made['upload_id']}/0", f"{'0' * 64}/1"):
        assert client.put(f"{base}/mpu/parts/{path}", content=b"x").status_code == 404
    through = {"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/mlflow"}
    answer = client.post(f"{base}/mpu/create/{folder}", json={"path": "f"}, headers=through)
    made = answer.json()
    assert made["credentials"][0]["url"].startswith(f"https://localhost/mlflow{base}/mpu/parts/")
    gone = {"path": "f", "upload_id": made["upload_id"]}
    assert client.post(f"{base}/mpu/abort/{folder}", json=gone).json() == {}
    assert client.post(f"{base}/mpu/abort/{folder}", json=gone).status_code == 404
    for path in ("..%2f..", "a%5cb", "%252e%252e/x", "C:x"):
        answer = client.post(f"{base}/mpu/create/{path}", json={"path": "f", "num_parts": 1})
        assert answer.status_code in (400, 404), path


def test_a_folder_has_no_signed_urls(client: TestClient, run_id: str) -> None:
    answer = client.get(f"/api/2.0/mlflow-artifacts/presigned/0/{run_id}/artifacts/a")
    assert (answer.status_code, answer.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    told = client.get("/api/3.0/mlflow/server-info").json()
    assert not told["multipart_uploads_enabled"]
    assert not told["multipart_downloads_enabled"]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("model.pkl", "model.pkl"),
        ("a b;c,d.txt", "a b;c,d.txt"),
        ('q"50%.txt', "q_50_.txt"),
        ("café.txt", "cafe.txt"),
        ("日本", "download"),
    ],
)
def test_the_name_of_a_download_for_old_and_new_clients(
    client: TestClient, run_id: str, name: str, plain: str
) -> None:
    url = f"{PROXY}/0/{run_id}/artifacts/d/{quote(name)}"
    assert client.put(url, content=b"x").status_code == 200
    header = client.get(url).headers["content-disposition"]
    assert header == f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    parsed = Message()
    parsed["content-disposition"] = header.partition("; filename*")[0]
    assert parsed.get_filename() == plain


@pytest.mark.parametrize(
    ("asked", "status", "expected", "told"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=3-1", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
    ],
)
def test_ranges(
    client: TestClient, run_id: str, asked: str, status: int, expected: bytes, told: str | None
) -> None:
    client.put(f"{PROXY}/0/{run_id}/artifacts/f", content=b"0123456789")
    for url in (f"{PROXY}/0/{run_id}/artifacts/f", f"/api/v1/runs/{run_id}/artifacts/f"):
        got = client.get(url, headers={"Range": asked})
        assert (got.status_code, got.content) == (status, expected)
        assert got.headers.get("content-range") == told
        etag = got.headers["etag"]
        changed = client.get(url, headers={"Range": asked, "If-Range": '"older"'})
        assert (changed.status_code, changed.content) == (200, b"0123456789")
        same = client.get(url, headers={"Range": asked, "If-Range": etag})
        assert same.status_code == status
    head = client.head(f"{PROXY}/0/{run_id}/artifacts/f")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "10", b"")


def test_artifacts_elsewhere_are_not_listed(ask: Ask) -> None:
    experiment = ask("POST", "experiments/create", name="e", artifact_location="file:///etc")
    run = ask("POST", "runs/create", **experiment)["run"]["info"]
    refusal = ask("GET", "artifacts/list", 501, run_id=run["run_id"])
    assert f"file:///etc/{run['run_id']}/artifacts" in refusal["message"]
    ask("GET", "artifacts/list", 404, run_id="nobody")


def test_files_as_pages_fetch_them(client: TestClient, ask: Ask, run_id: str) -> None:
    client.put(f"{PROXY}/0/{run_id}/artifacts/model/MLmodel", content=b"of the run")
    model = ask("POST", "logged-models", experiment_id="0")["model"]["info"]
    root = model["artifact_uri"].removeprefix("mlflow-artifacts:/")
    client.put(f"{PROXY}/{root}/MLmodel", content=b"of the model")
    ask("POST", "registered-models/create", name="m")
    ask("POST", "model-versions/create", name="m", source=f"runs:/{run_id}/model")
    ask("POST", "model-versions/create", name="m", source="models:/m/1")
    ask("POST", "model-versions/create", name="m", source="s3://elsewhere")
    files = f"/ajax-api/2.0/mlflow/logged-models/{model['model_id']}/artifacts/files"

    def fetch(url: str, **query: str) -> tuple[int, bytes]:
        answer = client.get(url, params=query)
        return answer.status_code, answer.content

    expected = (200, b"of the run")
    assert fetch("/get-artifact", run_id=run_id, path="model/MLmodel") == expected
    assert fetch("/get-artifact", run_uuid=run_id, path="model/MLmodel") == expected
    for version in ("1", "2"):
        query = {"name": "m", "version": version, "path": "MLmodel"}
        assert fetch("/model-versions/get-artifact", **query) == expected
    assert fetch(files, artifact_file_path="MLmodel") == (200, b"of the model")
    for status, url, query in (
        (400, "/get-artifact", {"run_id": run_id}),
        (400, "/get-artifact", {"run_id": run_id, "path": "../x"}),
        (400, "/get-artifact", {"run_id": run_id, "path": "model"}),
        (404, "/get-artifact", {"run_id": run_id, "path": "nothing"}),
        (404, "/get-artifact", {"run_id": "nobody", "path": "x"}),
        (404, "/model-versions/get-artifact", {"name": "m", "version": "x", "path": "x"}),
        (501, "/model-versions/get-artifact", {"name": "m", "version": "3", "path": "x"}),
        (400, files, {"artifact_file_path": "%2e%2e/x"}),
        (404, files.replace("m-", "m-0"), {"artifact_file_path": "x"}),
    ):
        assert fetch(url, **query)[0] == status, (url, query)
