"""The answer gets lost after the server did the work, and MLflow's client asks again by itself."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from api_server import Server
from mlflow_client import MlflowClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class _Lossy(ThreadingHTTPServer):
    """Passes requests on; of each write that is new it cuts the connection instead of answering."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = port
        self.cut: set[tuple[str, str, bytes]] = set()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Lossy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        behind = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
        behind.request(self.command, self.path, body, headers)
        answer = behind.getresponse()
        data = answer.read()
        behind.close()
        request = (self.command, self.path, body)
        if self.command != "GET" and request not in self.server.cut:
            self.server.cut.add(request)
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _pass_on

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def lossy(server: Server) -> Iterator[_Lossy]:
    with _Lossy(server.port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


def test_answers_get_lost(mlflow_client: MlflowClient, lossy: _Lossy) -> None:
    out = mlflow_client.run(
        """
import time
from mlflow.entities import Metric, Param, RunTag
told = {}

def twice(name, call, *args, **options):
    try:
        call(*args, **options)
        told[name] = "done"
    except MlflowException as error:
        told[name] = error.error_code

name = "retried by MLflow " + mlflow.__version__.replace(".", "-")
now = int(time.time() * 1000)
twice("create_experiment", client.create_experiment, name)
experiment_id = client.get_experiment_by_name(name).experiment_id
run_id = client.create_run(experiment_id).info.run_id
told["runs"] = len(client.search_runs([experiment_id]))
twice("log_metric", client.log_metric, run_id, "m", 0.5, now, 1)
twice("log_batch", client.log_batch, run_id,
      [Metric("m", 1.5, now, 2)], [Param("a", "b")], [RunTag("c", "d")])
twice("log_param", client.log_param, run_id, "p", 1)
twice("set_tag", client.set_tag, run_id, "t", "u")
twice("log_text", client.log_text, run_id, "text", "a.txt")
twice("set_terminated", client.set_terminated, run_id)
twice("delete_run", client.delete_run, run_id)
twice("restore_run", client.restore_run, run_id)
twice("create_registered_model", client.create_registered_model, name)
version = client.create_model_version(name, f"runs:/{run_id}/model", run_id).version
told["versions"] = len(client.search_model_versions(f"name = '{name}'"))
twice("set_alias", client.set_registered_model_alias, name, "champion", version)
twice("transition", client.transition_model_version_stage, name, version, "Production", True)
twice("set_version_tag", client.set_model_version_tag, name, version, "a", "b")
twice("delete_alias", client.delete_registered_model_alias, name, "champion")
twice("delete_version", client.delete_model_version, name, version)
twice("delete_experiment", client.delete_experiment, experiment_id)
run = client.get_run(run_id)
told["points"] = [(m.step, m.value) for m in client.get_metric_history(run_id, "m")]
told["params"] = run.data.params
print("told:", json.dumps(told))
""",
        MLFLOW_TRACKING_URI=lossy.url,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="2",
        MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR="0",
    )
    told = json.loads(out.partition("told:")[2])
    assert len(lossy.cut) >= 18, lossy.cut
    there, gone = "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"
    assert told == {
        # What names its effect has it once, and the client is content.
        **dict.fromkeys(
            (
                *("log_metric", "log_batch", "log_param", "set_tag", "log_text", "set_terminated"),
                *("delete_run", "restore_run", "set_alias", "transition", "set_version_tag"),
                "delete_alias",
            ),
            "done",
        ),
        "points": [[1, 0.5], [2, 1.5]],
        "params": {"a": "b", "p": "1"},
        # Once as well, but MLflow's protocol has the second answer say what the first one did.
        **dict.fromkeys(("create_experiment", "create_registered_model"), there),
        **dict.fromkeys(("delete_version", "delete_experiment"), gone),
        # Two equal requests may be meant as two: only an Idempotency-Key could tell.
        "runs": 2,
        "versions": 2,
    }
