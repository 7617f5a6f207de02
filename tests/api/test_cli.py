"""The command, and real server processes."""

from __future__ import annotations

import ctypes
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from api_server import Job, Server, modeltrail
from modeltrail.api.cli import build_parser, main
from modeltrail.eventlog import RUNS, NewEvent, open_log

Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that ends with the test, however the test does."""
    with ExitStack() as stack:

        def start(data: Path, *options: str) -> Server:
            server = Server(data, *options)
            stack.callback(server.stop)
            return server

        yield start


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("modeltrail ")
    assert main([]) == 2
    text = build_parser().format_help()
    for command in ("serve", "sql", "replay", "rebuild", "audit", "sync", "status", "doctor"):
        assert command in text
    # Alone, it shows each command once, by what it is for.
    assert sorted(re.findall(r"^  ([a-z]+) {2,}", text, re.M)) == sorted(build_parser().commands())
    with pytest.raises(SystemExit) as stopped:
        main(["serve", "--port", "99999999"])
    assert stopped.value.code == 2


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from modeltrail.api.cli import build_parser; build_parser().format_help();"
        "print([m for m in ('duckdb', 'fastapi', 'pyarrow', 'numpy', 'rich') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_server_from_start_to_stop(serve: Serve, tmp_path: Path) -> None:
    data = tmp_path / "data"
    server = serve(data)
    seconds = server.ready()
    assert seconds < 20, f"ready after {seconds:.1f} s; on a quiet machine 1.5 s is the promise"
    info = json.loads((data / "server.json").read_text())
    artifacts = (data / "artifacts").as_uri()
    assert info == {"url": server.url, "pid": server.process.pid, "artifacts": artifacts}
    job = Job()
    server.ingest(job.started(), job.metrics("loss", [0.5, 0.25]))
    server.ask("/api/v1/models/digits/versions", {"source": "s3://a/b", "create_model": True})
    server.ask("/api/v1/models/digits/aliases/champion", {"version": 1, "reason": "first"}, "PUT")

    asked = modeltrail("sql", "SELECT run_id, value FROM latest_metrics", "--data", str(data))
    assert "0.25" in asked.stdout, asked
    logged = modeltrail("audit", "log", "--model", "digits", "--data", str(data))
    assert "digits@champion version 1" in logged.stdout
    assert "first" in logged.stdout
    assert modeltrail("audit", "verify", "--data", str(data)).returncode == 0
    assert modeltrail("status", "--data", str(data), "--json").returncode == 0
    doctor = modeltrail("doctor", "--data", str(data), "--json")
    assert doctor.returncode == 0, doctor.stdout
    second = modeltrail("serve", "--data", str(data), "--port", "0")
    assert second.returncode == 1
    assert f"process {server.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert "stop" in modeltrail("rebuild", "--data", str(data)).stderr

    code, out, err = server.stop(signal.SIGTERM)
    assert (code, err) == (0, "")
    assert server.url in out
    assert not (data / "server.json").exists()

    # Nobody serves it now: the same questions, asked of the folder.
    asked = modeltrail("sql", "--data", str(data), "--json", stdin="SELECT count(*) FROM metrics")
    assert json.loads(asked.stdout)["rows"] == [[2]]
    logged = modeltrail("audit", "log", "--alias", "champion", "--data", str(data), "--json")
    assert [e["version"] for e in json.loads(logged.stdout)] == [1]
    verified = modeltrail("audit", "verify", "--data", str(data), "--json")
    verdict = json.loads(verified.stdout)
    assert (verdict["ok"], verdict["events"], verdict["compared"]) == (True, 4, 4)
    registry = verdict["partitions"]["registry:0"]
    assert (registry["events"], registry["compared"], registry["signed_offset"]) == (2, 2, 1)
    # One is signed at the stop; on a slow machine one after the first event came before it.
    assert verdict["checkpoints"] in (1, 2)

    then = tmp_path / "then.duckdb"
    position = ["--until", "registry:0:0", "--into", str(then)]
    assert modeltrail("replay", "--data", str(data), *position).returncode == 0
    again = modeltrail("replay", "--data", str(data), *position)
    assert (again.returncode, "never overwrites" in again.stderr) == (1, True)
    assert modeltrail("replay", "--data", str(data), "--until", "x", "--into", "y").returncode == 2
    assert modeltrail("rebuild", "--data", str(data)).returncode == 0

    into = tmp_path / "out"
    assert modeltrail("export", "--data", str(data), "--into", str(into)).returncode == 0
    assert pq.read_table(into / "metrics.parquet").column("value").to_pylist() == [0.5, 0.25]
    file = tmp_path / "runs.csv"
    assert modeltrail("sql", "FROM runs", "--data", str(data), "-o", str(file)).returncode == 0
    assert file.read_text().splitlines()[1].startswith("run-1,")

    restarted = serve(data)
    restarted.ready()
    assert restarted.ask("/api/v1/runs/run-1")["points_stored"] == 2
    assert restarted.stop(signal.SIGINT)[0] == 0


def test_what_was_acknowledged_survives_a_kill(serve: Serve, tmp_path: Path) -> None:
    server = serve(tmp_path / "data")
    server.ready()
    job = Job()
    server.ingest(job.started(), job.metrics("loss", [0.5]))
    server.ask("/api/v1/models", {"model": "m"})
    server.process.kill()
    server.stop()
    # The lock of a killed server is no obstacle, nor is its server.json taken for a server.
    assert modeltrail("sql", "FROM runs", "--data", str(tmp_path / "data")).returncode == 0
    restarted = serve(tmp_path / "data")
    restarted.ready()
    assert restarted.ask("/api/v1/runs/run-1")["points_stored"] == 1
    assert restarted.ask("/api/v1/models/m")["model"] == "m"
    assert restarted.stop()[0] == 0


def test_a_port_in_use_is_said_plainly(server: Server, tmp_path: Path) -> None:
    found = modeltrail("serve", "--data", str(tmp_path / "other"), "--port", str(server.port))
    assert found.returncode == 1
    assert "in use" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_folder_that_cannot_be_written_is_said_plainly(tmp_path: Path) -> None:
    for data in ("/proc/modeltrail", str(tmp_path / "file")):
        (tmp_path / "file").write_text("x")
        found = modeltrail("serve", "--data", data, "--port", "0")
        assert found.returncode == 1
        assert data in found.stderr
        assert "Traceback" not in found.stderr


def test_a_read_only_folder_is_said_plainly(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    # Where the tests run as root, take from the server what makes root stand above permissions.
    capability, drop = 1, 24  # CAP_DAC_OVERRIDE, PR_CAPBSET_DROP
    libc = ctypes.CDLL(None)
    found = subprocess.run(
        [
            *(sys.executable, "-m", "modeltrail.api.cli", "serve"),
            *("--data", str(tmp_path), "--port", "0"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: libc.prctl(drop, capability, 0, 0, 0),
    )
    tmp_path.chmod(0o755)
    assert found.returncode == 1
    assert "cannot write in" in found.stderr
    assert "Traceback" not in found.stderr


def test_listening_elsewhere_without_tokens_is_warned_of(serve: Serve, tmp_path: Path) -> None:
    server = serve(tmp_path / "data", "--host", "0.0.0.0")
    server.ready()
    code, _, err = server.stop()
    assert code == 0
    assert "WARNING: listening at 0.0.0.0" in err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["sql", "SELECT 1", "--server", "http://127.0.0.1:9"], 1, "no answer"),
        (["sql", "SELECT 1", "--server", "ftp://x"], 2, "not the URL of a server"),
        (["sql", "SELECT 1", "--data", "/nowhere"], 1, "no data folder"),
        (["sql", "", "--data", "/nowhere"], 2, "no query"),
        (["sql", "SELECT 1", "-o", "x.xyz"], 2, ".parquet"),
        (["replay", "--until", "never", "--into", "x"], 2, "neither a time nor a position"),
        (["status", "--log", "ftp://x"], 2, "not the URL of a log"),
        (["audit", "verify", "--trust", "xyz"], 2, "hexadecimal"),
    ],
)
def test_mistakes_get_a_message(args: list[str], code: int, says: str) -> None:
    found = modeltrail(*args)
    assert found.returncode == code
    assert says in found.stderr
    assert "Traceback" not in found.stderr


def test_the_doctor_sees_a_clock_that_was_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MODELTRAIL_URL", raising=False)
    now_ns = time.time_ns()
    for hours, code, says in ((0, 0, "clock: 20"), (4, 1, "FAIL  append times: the log's last")):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda ahead=hours: now_ns + ahead * 3600 * 10**9)
            log = open_log(str(tmp_path))
            log.append([NewEvent(RUNS, "run", b"x")])
            log.close()
        assert main(["doctor", "--data", str(tmp_path)]) == code
        assert says in capsys.readouterr().out


def test_freshness_of_health(server: Server) -> None:
    began = time.monotonic()
    assert server.ask("/health")["status"] == "ok"
    assert time.monotonic() - began < 10
