"""The MLflow plugin, installed beside unmodified clients: scripts log by way of the producers."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_server import Server
from mlflow_client import MlflowClient, finished, python_with_mlflow
from modeltrail.eventlog import RUNS, open_log
from modeltrail.producers import sync
from modeltrail.schemas import Codec
from plugin_install import install_plugin

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

VERSIONS = ("3", "2")

_HEAD = """
import json, math, os, sys, threading, time, warnings
warnings.filterwarnings("ignore")
import mlflow, numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
client = MlflowClient()
THREE = mlflow.__version__.startswith("3")

def refused(call, *args, **options):
    try:
        call(*args, **options)
    except MlflowException as error:
        return str(error)
    raise AssertionError("not refused")

def log_model(factor, **options):
    from sklearn.linear_model import LinearRegression
    x = np.arange(10.0).reshape(-1, 1)
    where = {"name": "model"} if THREE else {"artifact_path": "model"}
    return mlflow.sklearn.log_model(
        LinearRegression().fit(x, x.ravel() * factor),
        pip_requirements=["scikit-learn"], **where, **options,
    )

def factor(uri):
    return round(mlflow.pyfunc.load_model(uri).predict(np.array([[1.0]]))[0])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with the wheel, as a thin install for Kafka would have it."""
    return install_plugin(tmp_path_factory.mktemp("installed"))


class Plugin:
    """Clients of all versions with the plugin, in a folder of their own."""

    def __init__(self, site: Path, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.outbox = folder / "outbox"

    def start(
        self, version: str, uri: str, script: str, *arguments: str, **environment: str
    ) -> subprocess.Popen[str]:
        """Start a script."""
        client = MlflowClient(python_with_mlflow(version), uri, self.folder)
        return client.start(
            *("-c", _HEAD + script, *arguments),
            PYTHONPATH=str(self.site),
            MODELTRAIL_OUTBOX=str(self.outbox),
            **environment,
        )

    def outboxes(self) -> list[Path]:
        """Outboxes that are left."""
        return sorted(self.outbox.iterdir()) if self.outbox.exists() else []

    def run(self, uri: str, script: str, **environment: str) -> dict[str, str]:
        """Run a script with all versions at once; the last line that each printed."""
        return last_lines(
            {version: self.start(version, uri, script, **environment) for version in VERSIONS}
        )


def last_lines(processes: dict[str, subprocess.Popen[str]]) -> dict[str, str]:
    """The last line that each process printed; all must end well."""
    try:
        return {name: finished(process).splitlines()[-1] for name, process in processes.items()}
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
                process.communicate()


@pytest.fixture
def plugin(installed: Path, tmp_path: Path) -> Plugin:
    return Plugin(installed, tmp_path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on a folder that the plugin logs to."""
    server = Server(tmp_path_factory.mktemp("served") / "data")
    try:
        server.ready()
        yield server
    finally:
        server.stop()


_TRAIN = """
import pandas as pd, subprocess
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

name = f"/team/plugin/{mlflow.__version__}"
assert mlflow.set_experiment(name).name == name
with mlflow.start_run(run_name="parent", description="what it is for") as parent:
    later = subprocess.Popen(
        [sys.executable, "-c", "import mlflow\\n"
         "mlflow.set_experiment(%r)\\n"
         "with mlflow.start_run(run_id=%r) as run:\\n"
         "    mlflow.log_metric('later', 2.5)" % (name, parent.info.run_id)],
        env=dict(os.environ, MODELTRAIL_HEARTBEAT_S="0.5"),
    )
    mlflow.log_params({"depth": 5, "kind": "tree", "long": "x" * 3000})
    for step in range(100):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"nan": math.nan, "inf": math.inf, "f1": 0.9}, step=-3)
    mlflow.set_tags({"team": "vision", "a.b/c d": "odd"})
    mlflow.log_input(mlflow.data.from_pandas(pd.DataFrame({"x": [1.0]}), name="d"), "training")
    mlflow.log_text("hello", "notes/hello.txt")
    assert "depth" in refused(mlflow.log_param, "depth", 6)
    refused(mlflow.log_metric, "no*star", 1)
    threads = [
        threading.Thread(target=lambda n=n: [
            client.log_metric(parent.info.run_id, f"thread {n}", i, step=i) for i in range(100)
        ])
        for n in range(4)
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    mlflow.log_metric("async", 1.0, synchronous=False)
    mlflow.log_params({"later": 1}, synchronous=False).wait()
    mlflow.flush_async_logging()
    if os.fork() == 0:
        client.log_metric(parent.info.run_id, "child", 1.0)
        sys.exit(0)
    os.wait()
    with mlflow.start_run(nested=True) as child:
        mlflow.log_metric("loss", 7)
    assert client.get_parent_run(child.info.run_id).info.run_id == parent.info.run_id
    assert mlflow.get_run(parent.info.run_id).data.metrics["loss"] == 0.01
    assert later.wait() == 0
assert mlflow.get_run(parent.info.run_id).info.status == "FINISHED"
assert [m.step for m in client.get_metric_history(parent.info.run_id, "loss")] == list(range(100))

mlflow.sklearn.autolog(log_models=False)
x, y = load_iris(return_X_y=True)
with mlflow.start_run() as automatic:
    LogisticRegression(max_iter=200).fit(x, y)
mlflow.sklearn.autolog(disable=True)

try:
    with mlflow.start_run() as failed:
        info = log_model(2)
        raise ValueError("on purpose")
except ValueError:
    pass
assert factor(info.model_uri) == 2, info.model_uri
assert [f.path for f in client.list_artifacts(parent.info.run_id, "notes")] == ["notes/hello.txt"]
assert mlflow.artifacts.load_text(parent.info.artifact_uri + "/notes/hello.txt") == "hello"

for call in (mlflow.search_runs, client.search_registered_models, client.search_experiments,
             lambda: client.get_run("0" * 32).data.params, lambda: client.get_experiment("7"),
             lambda: mlflow.register_model(f"runs:/{failed.info.run_id}/model", "m")):
    assert "MODELTRAIL_SERVER" in refused(call), call
open_run = client.create_run(parent.info.experiment_id, run_name="left open")
client.delete_run(client.create_run(parent.info.experiment_id, run_name="deleted").info.run_id)
ids = {name: run.info.run_id for name, run in
       dict(parent=parent, child=child, auto=automatic, failed=failed, open=open_run).items()}
known = {name: json.loads(json.dumps(mlflow.get_run(i).to_dictionary())) for name, i in ids.items()}
at_exit = mlflow.start_run(run_name="at exit")  # ended by the exit
ids["exit"] = at_exit.info.run_id
print(json.dumps([ids, known, info.model_uri]))
"""

_COMPARE = """
for version, (ids, known, model) in json.loads(sys.argv[1]).items():
    found = {name: client.get_run(run_id) for name, run_id in ids.items()}
    metrics = found["parent"].data.metrics
    assert metrics["later"] == 2.5 and metrics["child"] == 1.0, metrics
    for name, expected in known.items():
        told = json.loads(json.dumps(found[name].to_dictionary()))
        for side in (told, expected):
            side.get("outputs") and side["outputs"]["model_outputs"] or side.pop("outputs", None)
            side["info"].pop("run_uuid", None)
            for key in ("later", "child"):
                side["data"]["metrics"].pop(key, None)
            side["inputs"].pop("model_inputs", None)
        if name == "open":  # the client said nothing of where it came from; the producers do
            for key in ("mlflow.user", "mlflow.source.name"):
                assert told["data"]["tags"].pop(key)
        if name == "parent":
            # Ended here, and before that by the process that resumed it.
            assert told["info"]["end_time"] >= expected["info"]["start_time"]
            told["info"]["end_time"] = expected["info"]["end_time"]
        if not version.startswith("3"):
            told.pop("outputs", None)  # MLflow 2 knows nothing of them
        assert json.dumps(told, sort_keys=True) == json.dumps(expected, sort_keys=True), (
            name, told, expected)
    status = {name: run.info.status for name, run in found.items()}
    assert status == {"parent": "FINISHED", "child": "FINISHED", "auto": "FINISHED",
                      "failed": "FAILED", "open": "RUNNING", "exit": "FINISHED"}, status
    history = client.get_metric_history(ids["parent"], "thread 3")
    assert [m.step for m in history] == list(range(100)), history
    (experiment,) = client.search_experiments(filter_string=f"name LIKE '/team/plugin/{version}.%'")
    assert experiment.experiment_id == found["parent"].info.experiment_id
    assert {run.info.run_id for run in client.search_runs([experiment.experiment_id])} == set(
        ids.values())
    assert factor(model) == 2
print("equal")
"""


def test_a_folder_without_a_server(plugin: Plugin) -> None:
    printed = plugin.run("modeltrail+file:./trail", _TRAIN)
    told = {version: json.loads(line) for version, line in printed.items()}
    assert not plugin.outboxes()
    server = Server(plugin.folder / "trail")
    try:
        server.ready()
        client = MlflowClient(python_with_mlflow("3"), server.url, plugin.folder)
        compared = client.start("-c", _HEAD + _COMPARE, json.dumps(told))
        assert last_lines({"3": compared}) == {"3": "equal"}
        holes = "SELECT run_id FROM runs WHERE events_missing > 0 OR points_dropped > 0"
        assert server.ask("/api/v1/sql", {"statement": holes})["rows"] == []
        dead = server.ask("/api/v1/sql", {"statement": "SELECT * FROM dead_letters"})["rows"]
        assert dead == []
    finally:
        server.stop()


_SHIP = """
name = "shipped " + mlflow.__version__.replace(".", "-")
mlflow.set_experiment("/" + name)
with mlflow.start_run() as run:
    mlflow.log_metric("mse", 0.5)
    mlflow.log_param("p", 1)
    mine = mlflow.search_runs(filter_string="metrics.mse = 0.5 and params.p = '1'")
    assert list(mine.run_id) == [run.info.run_id], mine
    assert client.get_run(run.info.run_id).data.metrics == {"mse": 0.5}
    info = log_model(3, registered_model_name=name)
client.set_registered_model_alias(name, "champion", "1")
for uri in (info.model_uri, f"models:/{name}@champion", f"models:/{name}/1",
            f"runs:/{run.info.run_id}/model"):
    assert factor(uri) == 3, uri
second = mlflow.register_model(f"runs:/{run.info.run_id}/model", name)
assert int(second.version) == 2 and second.run_id == run.info.run_id, second
assert "not found" in refused(client.log_metric, "0" * 32, "m", 1)
assert client.get_experiment_by_name("nothing of this name") is None
plain = MlflowClient(sys.argv[1])
theirs = plain.create_run(client.get_experiment_by_name("/" + name).experiment_id)
client.log_param(theirs.info.run_id, "by", "plugin")
client.set_terminated(theirs.info.run_id)
client.get_run(theirs.info.run_id)
assert plain.get_run(theirs.info.run_id).data.params == {"by": "plugin"}
assert plain.get_run(theirs.info.run_id).info.status == "FINISHED"
same = [c.get_run(run.info.run_id).to_dictionary() for c in (plain, client)]
assert same[0] == same[1]
print("shipped")
"""


def test_reads_and_registry_are_the_servers(plugin: Plugin, served: Server) -> None:
    ways = {"3": f"modeltrail+file:{served.data}", "2": f"modeltrail+{served.url}"}
    started = {v: plugin.start(v, uri, _SHIP, served.url) for v, uri in ways.items()}
    assert set(last_lines(started).values()) == {"shipped"}
    assert not plugin.outboxes()


_AWAY = """
began = time.monotonic()
mlflow.set_experiment("/away")
for n in range(5):
    with mlflow.start_run(run_name=f"away {n}") as run:
        for step in range(200):
            mlflow.log_metric("loss", step, step=step)
        mlflow.log_text("kept", "note.txt")
assert mlflow.get_run(run.info.run_id).data.metrics == {"loss": 199.0}
print(json.dumps([time.monotonic() - began, run.info.run_id]))
"""


@pytest.mark.alone
@pytest.mark.kafka
def test_the_log_is_away(plugin: Plugin, kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = f"plugin-{uuid.uuid4().hex[:8]}-"
    stored = plugin.folder / "stored"
    printed = plugin.run(
        "modeltrail+kafka://127.0.0.1:9/p?server=http://127.0.0.1:9",
        _AWAY,
        MODELTRAIL_FINISH_TIMEOUT_S="0.2",
    )
    runs = {}
    for line in printed.values():
        took_s, run_id = json.loads(line)
        assert took_s < 10, "logging waited for a log that is not there"
        runs[run_id] = 200
    assert len(plugin.outboxes()) == 2
    url = f"kafka://{kafka}/{prefix}"
    monkeypatch.setenv("MODELTRAIL_ARTIFACTS", str(stored))
    done = sync(str(plugin.outbox), url=url)
    assert [result.error for result in done] == [None, None], done
    assert sync(str(plugin.outbox), url=url) == []
    assert not plugin.outboxes()
    points = _points(url)
    assert {run_id: points[run_id] for run_id in runs} == runs
    assert len(points) == 10
    assert {p.parent.name for p in stored.rglob("note.txt")} == set(points)


def _points(url: str) -> dict[str, int]:
    """Metric points by run."""
    log = open_log(url)
    codec = Codec(lambda: log.schemas().values())
    points: dict[str, int] = {}
    reader = log.reader({})
    try:
        while records := reader.poll(1.0):
            for record in records:
                if record.stream != RUNS:
                    continue
                type, event = codec.decode(record.payload)
                if type == "MetricsLogged":
                    n = len(event["values"]) // 8
                    points[event["run_id"]] = points.get(event["run_id"], 0) + n
    finally:
        reader.close()
        log.close()
    return points


def test_other_tracking_uris_are_left_alone(plugin: Plugin, served: Server) -> None:
    script = """
assert not [name for name in sys.modules if name.startswith("modeltrail.producers.mlflow_plugin.s")]
mlflow.set_experiment("/plain")
with mlflow.start_run() as run:
    mlflow.log_text("hello", "hello.txt")
assert mlflow.artifacts.load_text(run.info.artifact_uri + "/hello.txt") == "hello"
print("fine")
"""
    assert set(plugin.run(served.url, script).values()) == {"fine"}
