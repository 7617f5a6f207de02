"""Stores that MLflow itself made are imported, and its own clients read the same from both."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from api_server import Server, modeltrail
from mlflow_client import python_with_mlflow
from modeltrail.api.cli import main

# A module's stores are filled within its first test: half a minute, on a busy machine far more.
pytestmark = pytest.mark.timeout(600)

SCRIPTS = Path(__file__).parent / "scripts"


class Stores(NamedTuple):
    """URIs of filled stores."""

    three_server: str
    three_database: str
    three_artifacts: str
    three_folder: str
    two_database: str
    two_folder: str


def environment() -> dict[str, str]:
    """Of an MLflow that is alone."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "MODELTRAIL"))}
    return {
        **clean,
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
        "PYTHONWARNINGS": "ignore",
    }


def script(python: str, name: str, folder: Path, *args: str) -> subprocess.Popen[str]:
    """Start a script under an MLflow."""
    return subprocess.Popen(
        [python, str(SCRIPTS / name), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment(),
    )


def result(process: subprocess.Popen[str], word: str) -> Any:
    """What a script printed after a word."""
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return json.loads(next(x for x in out.splitlines() if x.startswith(word))[len(word) :])


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """A server, databases and folders, filled by both versions at once."""
    folder = tmp_path_factory.mktemp("stores")
    three, two = python_with_mlflow("3"), python_with_mlflow("2")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Stores(
        f"http://127.0.0.1:{port}",
        f"sqlite:///{folder}/three.db",
        f"{folder}/destination",
        f"file:{folder}/three",
        f"sqlite:///{folder}/two.db",
        f"file:{folder}/two",
    )
    with (folder / "server.txt").open("w") as out:
        server = subprocess.Popen(
            [
                *(three, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
                *("--workers", "1", "--backend-store-uri", found.three_database),
                *("--artifacts-destination", found.three_artifacts),
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment(),
            start_new_session=True,
        )
    try:
        filling = [
            script(two, "fill_store.py", folder, found.two_database, found.two_folder),
            script(three, "fill_store.py", folder, found.three_folder),
        ]
        for process in filling:
            result(process, "FILLED")
        until = time.monotonic() + 60
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{found.three_server}/health"):
                break
            assert server.poll() is None, (folder / "server.txt").read_text()
            assert time.monotonic() < until, (folder / "server.txt").read_text()
            time.sleep(0.1)
        result(script(three, "fill_store.py", folder, found.three_server), "FILLED")
        yield found
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)


def imported(source: str, data: Path, *options: str) -> dict[str, Any]:
    """Import, which must find no difference, and do what a dry run announced."""

    def run(*more: str) -> dict[str, Any]:
        with redirect_stdout(io.StringIO()) as out:
            code = main(["import", "mlflow", source, "--into", str(data), "--json", *more])
        report: dict[str, Any] = json.loads(out.getvalue())
        assert code == 0, report["differences"]
        return report

    planned, report = run("--dry-run", *options), run(*options)
    for name in ("events", "artifacts_copied", "artifact_bytes_copied"):
        assert planned[name] == report[name]
    assert report["differences"] == []
    for experiment in report["experiments"]:
        assert experiment["source"] == experiment["here"]
    return report


def differences(first: Any, second: Any, path: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
    """Where two answers differ, and how."""
    if isinstance(first, dict) and isinstance(second, dict):
        return [
            found
            for key in sorted(first.keys() | second.keys())
            for found in differences(first.get(key), second.get(key), (*path, key))
        ]
    return [] if first == second else [(*path, first, second)]


CASES = {
    "mlflow-3-database": ("3", "three_database", "three_server"),
    "mlflow-3-server": ("3", "three_server", "three_server"),
    "mlflow-3-folder": ("3", "three_folder", "three_folder"),
    "mlflow-2-database": ("2", "two_database", "two_database"),
    "mlflow-2-folder": ("2", "two_folder", "two_folder"),
}


@pytest.fixture(scope="module")
def read(
    stores: Stores, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[dict[str, Any], dict[str, Any]]]]:
    """Each case: what the unmodified client reads from the source, and from the import of it."""
    servers: dict[str, Server] = {}
    found = {}
    try:
        for case, (_, source, _) in CASES.items():
            data = tmp_path_factory.mktemp(case)
            options: tuple[str, ...] = ()
            if case == "mlflow-3-database":
                options = ("--artifacts-from", stores.three_artifacts)
            report = imported(getattr(stores, source), data, *options)
            assert (report["registered_models"], report["aliases"]) == (3, 3) or case[7] == "2"
            servers[case] = Server(data)
        for version in ("3", "2"):
            cases = [case for case in CASES if CASES[case][0] == version]
            uris = list(dict.fromkeys(getattr(stores, CASES[case][2]) for case in cases))
            for case in cases:
                servers[case].ready(120)
            process = script(
                python_with_mlflow(version), "read_store.py", tmp_path_factory.mktemp("read"),
                *uris, *(servers[case].url for case in cases),
            )  # fmt: skip
            answers = result(process, "READ")
            for place, case in enumerate(cases):
                source = answers[uris.index(getattr(stores, CASES[case][2]))]
                found[case] = (source, answers[len(uris) + place])
        yield found
    finally:
        for server in servers.values():
            server.stop()


@pytest.mark.parametrize("case", CASES)
def test_unmodified_clients_read_the_same_from_source_and_import(
    case: str, read: dict[str, tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    source, here = read[case]
    assert len(source["runs"]) == 6
    assert len(source["models"]["digits"]["versions"]) == 3, "two were deleted"
    assert source["loaded"] == [[2, 4]] * 3
    found = []
    for one in differences(source, here):
        if one[0] == "logged models" and one[2] == "metrics":
            # Databases keep the NaN of a logged model as 0, and folders tell the latest point only.
            theirs = [metric for metric in one[-2] if metric[0] != "nan"]
            assert theirs
            assert all(metric in one[-1] for metric in theirs)
        elif (
            case == "mlflow-3-folder" and one[0] == "runs" and one[2:4] == ("histories", "accuracy")
        ):
            # Folders lose the step of a point with a dataset when they read it.
            assert [point[1] for point in one[-2]] == [0, 0]
            assert [point[1] for point in one[-1]] == [0, 1]
        else:
            found.append(one)
    assert found == []


def test_the_trail_says_that_it_was_an_import_and_whose_runs_they_were(
    stores: Stores, tmp_path: Path
) -> None:
    imported(stores.two_folder, tmp_path / "data")
    statement = "SELECT DISTINCT actor_verified, client, reason FROM audit"
    done = modeltrail("sql", "--data", str(tmp_path / "data"), "--json", statement)
    ((verified, client, reason),) = json.loads(done.stdout)["rows"]
    assert not verified
    assert client.startswith("modeltrail-import/")
    assert reason == f"imported from file://{stores.two_folder.removeprefix('file:')}"
    statement = "SELECT actor, appended_at - start_time > INTERVAL 1 DAY FROM runs WHERE name = ?"
    done = modeltrail(
        "sql", "--data", str(tmp_path / "data"), "--json", statement, "--param", "failed"
    )
    assert json.loads(done.stdout)["rows"] == [["bob", True]]
