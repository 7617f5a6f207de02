"""A server that is killed after it appended a request and before it answered: one effect.

MLflow's client sends the request again by itself, to the next process on the same folder.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from faults.server import NoAnswer, Server
from mlflow_client import MlflowClient, python_with_mlflow

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]

# `modeltrail serve`, which dies after an append while there is a file that says so.
_DYING = """
import os, signal, sys
from modeltrail.api import cli
from modeltrail.api.node import Appender

doom = sys.argv.pop(1)
append = Appender.append

def dying(self, asked):
    append(self, asked)
    try:
        os.unlink(doom)
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)

Appender.append = dying
sys.exit(cli.main())
"""

_CLIENT = """
import os
import time
told = {}
doom = %r

def cut(call, *args, **options):
    open(doom, "w").close()
    made = call(*args, **options)
    assert not os.path.exists(doom), "the server was not killed"
    return made

first = cut(client.create_experiment, "cut")
told["experiments"] = [e.name for e in client.search_experiments() if e.name == "cut"]
run = cut(client.create_run, first, run_name=None)
told["runs"] = [r.info.run_id for r in client.search_runs([first])]
assert told["runs"] == [run.info.run_id], told
assert client.get_run(run.info.run_id).info.run_name == run.info.run_name
cut(client.create_registered_model, "cut")
version = cut(client.create_model_version, "cut", "s3://bucket/model")
assert version.version in (1, "1"), version
second = client.create_model_version("cut", "s3://bucket/model")
assert second.version in (2, "2"), "who got an answer and asks the same again means a second one"
third = cut(client.create_model_version, "cut", "s3://bucket/model")
assert third.version in (3, "3"), third
told["versions"] = len(client.search_model_versions("name = 'cut'"))
if hasattr(client, "create_logged_model"):
    model = cut(client.create_logged_model, first, name="cut")
    found = client.search_logged_models([first])
    assert [m.model_id for m in found] == [model.model_id], found
print("told:", json.dumps(told))
"""


@contextmanager
def revived(server: Server) -> Iterator[None]:
    """Start the server again whenever it dies, until the end of the block."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            process = server._process
            if process is not None and process.poll() is not None:
                server.start()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("version", ["3", "2"])
def test_mlflows_own_retry_makes_nothing_twice(tmp_path: Path, version: str) -> None:
    doom = tmp_path / "doom"
    server = Server(tmp_path / "data")
    at = server._command.index("-m")
    server._command[at : at + 2] = ["-c", _DYING, str(doom)]
    client = MlflowClient(python_with_mlflow(version), server.url, tmp_path)
    with server, revived(server):
        out = client.run(
            _CLIENT % str(doom),
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="7",
            MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR="1",
        )
        told = json.loads(out.partition("told:")[2])
        assert told["experiments"] == ["cut"]
        assert told["versions"] == 3
        with suppress(NoAnswer):  # the connection to the first process
            server.request("GET", "/health")
        repeats = server.sql("SELECT count(*) FROM audit WHERE code = 'REPEAT'")
        assert repeats == [[4]], "two versions, a model and an experiment were asked for twice"
    assert list((tmp_path / "data" / "unanswered").iterdir()) == []
