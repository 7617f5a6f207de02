"""Files of a data folder are its owner's alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from access_users import PASSWORD
from api_server import Job, Server, modeltrail
from modeltrail.eventlog import RUNS, NewEvent, open_log
from modeltrail.eventlog.private import close_to_others, too_open
from modeltrail.producers import start_run


@pytest.fixture(autouse=True)
def generous() -> Iterator[None]:
    """A umask that takes nothing away, as some containers have it."""
    before = os.umask(0)
    yield
    assert os.umask(before) == 0, "a library must not change the umask of its process"


def _modes(folder: Path) -> dict[str, int]:
    found = {".": folder, **{str(p.relative_to(folder)): p for p in folder.rglob("*")}}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()}


def test_a_log_is_private_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "some" / "data"
    with closing(open_log(str(folder))) as log:
        log.append([NewEvent(RUNS, "run-1", Job().started())])
        modes = _modes(folder)
    assert {"log.sqlite", "log.sqlite-wal", "log.sqlite-shm"} <= set(modes)
    assert modes.pop(".") == 0o700
    assert set(modes.values()) == {0o600}, modes


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_folder_that_is_a_groups_on_purpose_stays_so(tmp_path: Path, umask: int) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o2770)
    os.umask(umask)
    try:
        with closing(open_log(str(folder))) as log:
            log.append([NewEvent(RUNS, "run-1", Job().started())])
            modes = _modes(folder)
    finally:
        os.umask(0)
    assert modes.pop(".") == 0o2770
    assert set(modes.values()) == {0o660}, modes


def test_a_job_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELTRAIL_OUTBOX", str(tmp_path / "outbox"))
    with start_run("private", "mine", url=str(tmp_path / "data")) as run:
        run.log({"loss": 1.0}, 1)
    for folder in (tmp_path / "data", tmp_path / "outbox"):
        assert too_open(folder) == []


@pytest.mark.parametrize("shared", [False, True])
def test_a_server_leaves_nothing_open(tmp_path: Path, shared: bool) -> None:
    folder = tmp_path / "data"
    if shared:
        folder.mkdir()
        folder.chmod(0o2770)
    key = {"MODELTRAIL_ADMIN_PASSWORD": PASSWORD}
    server = Server(folder, env=key)
    try:
        server.ready()
        run = server.ask("/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
        run_id = run["run"]["info"]["run_id"]
        server.ask(f"/api/v1/runs/{run_id}/artifacts/a/file.txt", {"x": 1}, method="PUT")
        while_running = _modes(folder)
    finally:
        server.stop()
    after = _modes(folder)
    for modes in (while_running, after):
        bits = 0o007 if shared else 0o077
        assert not {n: oct(m) for n, m in modes.items() if m & bits}, modes
    assert {"log.sqlite", "projections.duckdb", "webhooks.sqlite", "server.json"} <= {
        *while_running
    }
    assert any(name.endswith("file.txt") for name in after)
    if shared:
        assert after["projections.duckdb"] & 0o060 == 0o060


def test_doctor_finds_what_is_open_and_repairs_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with closing(open_log(str(folder))) as log:
        log.append([NewEvent(RUNS, "run-1", Job().started())])
    assert too_open(folder) == []
    folder.chmod(0o755)
    (folder / "log.sqlite").chmod(0o644)
    assert too_open(folder) == [folder, folder / "log.sqlite"]
    found = modeltrail("doctor", "--data", str(folder))
    assert found.returncode == 1
    assert "FAIL  privacy" in found.stdout
    assert "doctor --repair" in found.stdout
    repaired = modeltrail("doctor", "--repair", "--data", str(folder))
    assert "ok    privacy" in repaired.stdout, repaired.stdout
    assert _modes(folder)["."] == 0o700
    assert _modes(folder)["log.sqlite"] == 0o600
    close_to_others(folder)  # nothing more to do
