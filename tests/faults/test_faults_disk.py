"""A full disk under the embedded log: nothing acknowledged is lost, and all arrives in the end."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults.account import RUN, Account, check_registry, check_row
from faults.jobs import value_of
from faults.server import Answer, Server
from modeltrail.consumers import Fold
from modeltrail.eventlog import open_log
from modeltrail.producers import process, start_run
from writers import RunWriter

pytestmark = pytest.mark.alone

_DISK_BYTES = 24 * 1024 * 1024
_PATIENCE_S = 30.0


@contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """Make a folder a small disk of its own; False where this user may not."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(command, check=False, capture_output=True).returncode
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Space:
    """Takes all the space from a server, and gives it back."""

    def __init__(self, folder: Path, mounted: bool, pid: int) -> None:
        self._ballast = folder / "ballast"
        self._mounted = mounted
        self._pid = pid

    def take(self) -> None:
        """Fill the disk; or, for want of a disk, forbid the process to make files longer."""
        if not self._mounted:
            resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            return
        with self._ballast.open("wb", buffering=0) as ballast:
            size = 1024 * 1024
            while size:
                try:
                    ballast.write(b"\0" * size)
                except OSError:
                    size //= 2

    def give(self) -> None:
        """The opposite."""
        if self._mounted:
            self._ballast.unlink()
        else:
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(self._pid, resource.RLIMIT_FSIZE, unlimited)


def _until(ask: Callable[[], Answer], status: int) -> Answer:
    """Ask until there is an answer of that status; only 200 and 503 may come before."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        answer = ask()
        if answer.status == status:
            return answer
        assert answer.status in (200, 503), answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)


def _frames(run: RunWriter, steps: range) -> bytes:
    events = [run.started(experiment_id="0")] if not steps.start else []
    for step in steps:
        events += [run.metric("m", step, value_of(step)), run.metric("n", step, -value_of(step))]
    return b"".join(len(e.payload).to_bytes(4, "little") + e.payload for e in events)


@pytest.fixture(params=["a full disk", "a limit"])
def mounted_or_not(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, bool]]:
    """A folder to fill."""
    folder = tmp_path / "disk"
    if request.param == "a limit":
        folder.mkdir()
        yield folder, False
        return
    with disk(folder) as mounted:
        if not mounted:
            pytest.skip("only root may mount a disk; the other case stands for it")
        yield folder, True


@pytest.fixture(autouse=True)
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An outbox for the producers of this process, which are stopped afterwards."""
    monkeypatch.setenv("MODELTRAIL_OUTBOX", str(tmp_path / "outbox"))
    yield
    process.current().shutdown("FINISHED", None)


def test_a_server_on_a_full_disk(mounted_or_not: tuple[Path, bool]) -> None:
    folder, mounted = mounted_or_not
    version = {"source": "s3://" + "x" * 1000, "create_model": True}
    run, step, told = RunWriter("a" * 32), 0, 0
    with Server(folder / "data", "--threads", "1") as server:
        space = Space(folder, mounted, server.pid)

        def ingest() -> Answer:
            nonlocal step
            answer = server.request("POST", "/api/v1/ingest", _frames(run, range(step, step + 50)))
            if answer.status == 200:
                step += 50
            else:
                run.sequence -= 100 + (step == 0)  # the same again, under the same numbers
            return answer

        def decide() -> Answer:
            nonlocal told
            answer = server.request("POST", "/api/v1/models/digits/versions", version)
            told += answer.status == 200
            return answer

        _until(ingest, 200)
        _until(decide, 200)
        space.take()
        refused = [_until(ingest, 503), _until(decide, 503)]
        for answer in refused:
            assert answer.body["error_code"] == "TEMPORARILY_UNAVAILABLE"
        ingested, decided = (answer.body["message"] for answer in refused)
        assert "log" in ingested
        assert not mounted or "disk is full" in ingested, ingested
        # A version's source is looked up first, by what was folded, which has no space either.
        assert "log" in decided or "the fold is behind" in decided
        assert "disk is full" in decided or "No space left" in decided or not mounted, decided
        # What was told before can still be asked for, or the fold says why it cannot.
        answer = server.request("POST", "/api/v1/sql", {"statement": "SELECT count(*) FROM runs"})
        assert answer.status == 503 or answer.rows() == [[1]], answer
        producer = start_run("full", url=server.url)
        for i in range(500):
            producer.log({"m": value_of(i), "n": -value_of(i)}, i)
        assert not producer.flush(1), "there is no space for it"
        space.give()
        assert producer.flush(60)
        assert producer.finish(timeout_s=60)
        _until(ingest, 200)
        _until(decide, 200)
        (row,) = server.sql(RUN, producer.run_id)
        check_row(row, 500, 1000)
        (row,) = server.sql(RUN, run.run_id)
        check_row(row, step, 2 * step)
        assert server.request("GET", "/health").status == 200
        assert server.end() == 0
        log = open_log(str(server.data))
        fold = Fold(log, server.data / "projections.duckdb")
        fold.open()
        fold.catch_up()
        account = Account(log)
        account.read()
        check_registry(account, fold.cursor())
        versions = sum(r.type == "CreateModelVersion" for r in account.requests)
        assert versions == told
        assert account.check_run(run.run_id, step) == step
        assert account.check_run(producer.run_id, 500) == 500
        fold.stop()
        log.close()


def test_a_producer_whose_embedded_log_has_no_space(tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as mounted:
        if not mounted:
            pytest.skip("only root may mount a disk")
        space = Space(tmp_path / "disk", mounted, os.getpid())
        data = tmp_path / "disk" / "data"
        run = start_run(url=str(data))
        acknowledged = 0
        for burst in range(6):
            if burst == 2:
                space.take()
            if burst == 4:
                space.give()
            for step in range(burst * 1000, burst * 1000 + 1000):
                run.log({"m": value_of(step), "n": -value_of(step)}, step)
            if run.flush(1 if burst in (2, 3) else 30):
                acknowledged = burst * 1000 + 1000
            elif burst not in (2, 3):
                pytest.fail("there is space, and nothing is delivered")
        assert run.finish(timeout_s=30)
        assert acknowledged == 6000
        log = open_log(str(data))
        account = Account(log)
        account.read()
        assert account.check_run(run.run_id, acknowledged) == 6000
        log.close()
