"""Looking at runs from the command line: on a server, on a folder, from a thin install."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api_server import Job, Server, modeltrail
from modeltrail.api.cli import main
from modeltrail.api.commands.runs import _inside, _is_there, _store
from modeltrail.api.errors import ClientError
from modeltrail.schemas import experiment_id


def put(server: Server, run_id: str, path: str, data: bytes) -> None:
    request = subprocess.run(
        ["curl", "-fsS", "-X", "PUT", "--data-binary", "@-", "-H",
         "Content-Type: application/octet-stream",
         f"{server.url}/api/v1/runs/{run_id}/artifacts/{path}?record=true"],
        input=data, capture_output=True, check=False,
    )  # fmt: skip
    assert request.returncode == 0, request.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with three runs of two experiments, and files of one of them."""
    server = Server(tmp_path_factory.mktemp("runs") / "data")
    try:
        server.ready()
        for experiment in ("vision", "sound"):
            server.ask("/api/v1/experiments", {"name": experiment})
        for n, (name, experiment) in enumerate(
            [("first", "vision"), ("second", "vision"), ("deep \x1b[31m", "sound")]
        ):
            job = Job(
                f"abc{n}" + "0" * 28,
                name=name,
                experiment_name=experiment,
                experiment_id=experiment_id(experiment),
                started_at_ms=1_700_000_000_000 + n * 60_000,
                params={"lr": f"0.{n + 1}", "optimizer": "adam"},
            )
            ended = {"status": "FINISHED", "ended_at_ms": 1_700_000_065_000 + n * 60_000}
            server.ingest(
                job.started(),
                job.metrics("loss", [0.5, 3.0, 0.25 + n]),
                job.event("RunEnded", **ended, points_logged=3),
            )
        put(server, "abc0" + "0" * 28, "model/w%20%C3%BC.bin", b"weights")
        put(server, "abc0" + "0" * 28, "notes.txt", b"")
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["server", "folder"])
def at(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> list[str]:
    """Options that name the server, or a folder with the same that no server has."""
    if request.param == "server":
        return ["--server", server.url]
    copy = tmp_path / "copy"
    copy.mkdir()
    source, target = server.data / "log.sqlite", copy / "log.sqlite"
    code = "import sqlite3,sys; a,b=map(sqlite3.connect,sys.argv[1:]); a.backup(b)"
    subprocess.run([sys.executable, "-c", code, str(source), str(target)], check=True)
    (copy / "artifacts").symlink_to(server.data / "artifacts")
    return ["--data", str(copy)]


def said(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    assert main(list(line)) == 0
    return capsys.readouterr().out


def test_looking_at_runs(at: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = json.loads(said(capsys, "runs", "--json", *at))
    assert [one["name"] for one in found] == ["deep \x1b[31m", "second", "first"], "newest first"
    first = found[-1]
    assert first["metrics"] == {"loss": 0.25}
    assert first["params"] == {"lr": "0.1", "optimizer": "adam"}
    assert (first["experiment"], first["status"], first["duration_s"]) == ("vision", "FINISHED", 65)
    assert first["start_time"] == "2023-11-14T22:13:20.000Z"

    chosen = ["--filter", "metrics.loss < 2 and params.optimizer = 'adam'"]
    chosen += ["--experiment", "vision", "--order-by", "metrics.loss DESC"]
    table = list(csv.reader(io.StringIO(said(capsys, "runs", "--csv", *chosen, *at))))
    head = ["run_id", "name", "status", "experiment", "start_time", "duration_s"]
    assert table[0] == [*head, "metrics.loss", "params.lr"], "what is the same is left out"
    assert [(line[1], *line[-2:]) for line in table[1:]] == [
        ("second", "1.25", "0.2"),
        ("first", "0.25", "0.1"),
    ]
    shown = said(capsys, "runs", "--columns", "params.optimizer", "--limit", "1", *at)
    assert shown.splitlines()[0].split() == [
        "run",
        "name",
        "optimizer",
        "took",
        "started",
        "status",
    ]
    assert "\x1b" not in shown
    assert main(["runs", "--limit", "1", *at]) == 0
    assert "more than 1 runs" in capsys.readouterr().err

    for name in ("first", "abc0", "abc0" + "0" * 28):
        one = json.loads(said(capsys, "run", name, "--json", *at))
        assert one["run_id"] == "abc0" + "0" * 28
    (loss,) = one["metrics"]
    assert [loss[name] for name in ("value", "min", "max", "points")] == [0.25, 0.25, 3.0, 3]
    text = said(capsys, "run", "first", *at)
    assert "yes: all 3 points are here" in text
    assert "model/w ü.bin" in text

    rows = json.loads(said(capsys, "compare", "first", "second", "--json", *at))["rows"]
    params = [(r["key"], r["differs"], r["values"]) for r in rows if r["kind"] == "param"]
    assert params == [
        ("lr", True, ["0.1", "0.2"]),
        ("optimizer", False, ["adam", "adam"]),
    ]
    text = said(capsys, "compare", "first", "second", *at)
    assert text.index("param lr") < text.index("metric loss")
    assert "optimizer" not in text
    assert "optimizer" in said(capsys, "compare", "first", "second", "--all", *at)

    to = tmp_path / "files"
    got = json.loads(said(capsys, "artifacts", "get", "first", "--to", str(to), "--json", *at))
    assert [one["fetched"] for one in got["files"]] == [True, True]
    assert (to / "model" / "w ü.bin").read_bytes() == b"weights"
    assert (to / "notes.txt").read_bytes() == b""
    (to / "notes.txt").write_bytes(b"changed")
    get = ["artifacts", "get", "first", "--to", str(to), "--json", *at]
    assert [one["fetched"] for one in json.loads(said(capsys, *get))["files"]] == [False, True]
    assert sorted(p.name for p in to.rglob("*")) == ["model", "notes.txt", "w ü.bin"]
    get = ["artifacts", "get", "first", "model", "--to", str(tmp_path / "some"), "--json", *at]
    assert len(json.loads(said(capsys, *get))["files"]) == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("run frist", "there is no run 'frist'; did you mean 'first'?"),
        ("run abc", "several ids begin with 'abc'"),
        ("compare first nope", "there is no run 'nope'"),
        ("runs --experiment visoin", "did you mean 'vision'?"),
        ("runs --filter metrics.loss", "Invalid filter"),
        ("artifacts get first modle", "did you mean"),
        ("artifacts get second", "has no artifacts"),
    ],
)
def test_what_is_not_there_is_told(
    line: str, says: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line.split(), "--server", server.url]) == 1
    assert says in capsys.readouterr().err


def test_a_run_with_an_odd_name_is_found(server: Server) -> None:
    odd = Job("odd" + "0" * 29, name='it\'s "50%" _')
    server.ingest(odd.started())
    found = modeltrail("run", 'it\'s "50%" _', "--json", "--server", server.url)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["run_id"] == odd.run_id
    server.ask("/api/2.0/mlflow/runs/delete", {"run_id": odd.run_id})


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "link/x"])
def test_no_file_is_written_outside_of_the_folder(path: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(ClientError):
        _inside(folder, path)
    assert _inside(folder, "a/b") == folder / "a" / "b"


def test_a_download_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def broken() -> Iterator[bytes]:
        yield b"ne"
        raise ClientError("gone")

    digest = hashlib.sha256(b"new").hexdigest()
    for pieces in (broken(), iter([b"ne"])):
        with pytest.raises(ClientError):
            _store(pieces, target, digest)
        assert target.read_bytes() == b"old"
    _store(iter([b"ne", b"w"]), target, digest)
    assert _is_there(target, 3, digest)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


THIN = """
import sys, runpy
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("duckdb", "fastapi", "starlette", "pyarrow", "numpy", "rich",
                                      "pydantic", "uvicorn", "obstore", "cryptography"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from modeltrail.api.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "line",
    ["runs", "run first", "compare first second", "status", "sql 'FROM runs' --width 80",
     "audit log", "artifacts get first --to files", "export --into out --format csv",
     "runs --experiment vision --json"],
)  # fmt: skip
def test_a_thin_install_asks_a_server(line: str, server: Server, tmp_path: Path) -> None:
    import shlex

    found = subprocess.run(
        [sys.executable, "-c", THIN, *shlex.split(line), "--server", server.url],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout


def on_a_terminal(columns: int, *line: str) -> str:
    """What a command prints on a terminal of so many columns."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "modeltrail.api.cli", *line],
        stdout=terminal, stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(terminal)
    parts = []
    while True:
        try:
            data = os.read(controller, 65_536)
        except OSError:
            break
        if not data:
            break
        parts.append(data)
    os.close(controller)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return b"".join(parts).decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("line", [["sql", "FROM runs"], ["runs"], ["run", "first"], ["status"]])
def test_tables_fit_into_the_terminal(columns: int, line: list[str], server: Server) -> None:
    text = on_a_terminal(columns, *line, "--server", server.url)
    boxed = [one for one in text.splitlines() if one[:1] in "┌│├└"]
    assert all(len(one) <= columns for one in boxed)
    if line[0] == "sql":
        assert "│ run_id" in text
        assert "varchar" in text
        assert "… │" in text, "columns in the middle are left out"
        assert " rows, 29 columns (" in text.splitlines()[-1]
        assert " shown)" in text.splitlines()[-1]
    if line[0] == "run":
        assert "│   3.0 │" in text or "│ 3.0 │" in text


def test_null_is_not_the_empty_text(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    query = "SELECT NULL AS a, '' AS b, 'x' AS c, 10.5::DOUBLE AS d"
    text = said(capsys, "sql", query, "--server", server.url, "--width", "80")
    assert text.splitlines()[1:5] == [
        "│ a    │ b       │ c       │ d      │",
        "│ null │ varchar │ varchar │ double │",
        "├──────┼─────────┼─────────┼────────┤",
        "│ NULL │         │ x       │   10.5 │",
    ]
    assert text.splitlines()[-1] == "1 row, 4 columns"


def test_a_thin_install_manages_users_of_a_server(server: Server) -> None:
    found = subprocess.run(
        [sys.executable, "-c", THIN, "user", "list", "--server", server.url],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 1
    assert "this server runs without --auth" in found.stderr


def test_the_trail_on_a_terminal_is_for_reading(server: Server) -> None:
    server.ask("/api/v1/models", {"model": "m", "reason": "first of many"})
    text = on_a_terminal(80, "audit", "log", "--model", "m", "--server", server.url)
    assert text.splitlines()[-2:] == [
        "    CreateRegisteredModel: model m",
        "    why: first of many",
    ]
    assert re.match(r"registry:0:\d+  20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  anonymous", text)
