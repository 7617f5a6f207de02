"""Every route of MLflow's own servers: served here, or answered with an error that names it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from mlflow_client import python_with_mlflow
from reference_docs import generate

SCRIPT = Path(__file__).parent / "flows" / "surface.py"


@pytest.mark.slow
@pytest.mark.parametrize("major", ["2", "3"])
def test_the_list_is_that_of_the_real_servers(major: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [python_with_mlflow(major), str(SCRIPT)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    listed = {
        f"{method} {path}"
        for versions, method, path in generate().mlflow_routes()
        if major in versions
    }
    assert set(done.stdout.splitlines()) == listed


def test_each_route_is_served_or_named(client: TestClient) -> None:
    """With nothing but a path; what is served may find the request wanting, but not itself."""
    absent = 0
    for _, method, path, served in generate().mlflow_surface():
        asked = path.replace("{}", "0")
        answer = client.request(method, asked, content=None if method == "GET" else b"{}")
        what = (method, path, answer.status_code, answer.text[:300])
        if served:
            assert answer.status_code < 500 or answer.status_code == 501, what
            assert "ENDPOINT_NOT_FOUND" not in answer.text, what
        else:
            absent += 1
            assert answer.status_code in (404, 405), what
            assert answer.json()["error_code"] in ("ENDPOINT_NOT_FOUND", "METHOD_NOT_ALLOWED"), what
            assert answer.status_code == 405 or asked in answer.json()["message"], what
    assert absent > 200  # traces, the gateway and the like


@pytest.mark.parametrize(
    ("path", "feature"),
    [
        ("/api/3.0/mlflow/traces/tr-1", "traces"),
        ("/api/2.0/mlflow/traces", "traces"),
        ("/api/3.0/mlflow/datasets/search", "evaluation datasets"),
        ("/api/3.0/mlflow/scorers/list", "scorers"),
        ("/api/3.0/mlflow/workspaces", "workspaces"),
        ("/api/3.0/mlflow/gateway/endpoints/list", "AI gateway"),
    ],
)
def test_what_is_not_there_says_what_it_is(client: TestClient, path: str, feature: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error_code"] == "ENDPOINT_NOT_FOUND"
    assert answer.json()["message"].endswith(f"which has no {feature}")
