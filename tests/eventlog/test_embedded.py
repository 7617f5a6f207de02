"""What only the log in one SQLite file promises."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from modeltrail.eventlog import (
    REGISTRY,
    RUNS,
    LogMisconfigured,
    LogRecord,
    LogRefused,
    LogUnavailable,
    NewEvent,
    open_log,
)
from modeltrail.eventlog.embedded import EmbeddedLog

SPAWN = multiprocessing.get_context("spawn")


def run_event(text: str) -> NewEvent:
    return NewEvent(RUNS, "run", text.encode())


def read_all(log: EmbeddedLog) -> list[LogRecord]:
    reader = log.reader({})
    records: list[LogRecord] = []
    while some := reader.poll(0.0):
        records += some
    reader.close()
    return records


@pytest.mark.parametrize("table", [RUNS, REGISTRY, "schemas"])
@pytest.mark.parametrize(
    "statement",
    ["UPDATE {} SET {} = {}", "DELETE FROM {}", "INSERT OR REPLACE INTO {} SELECT * FROM {}"],
)
def test_nothing_can_be_rewritten(tmp_path: Path, table: str, statement: str) -> None:
    log = EmbeddedLog(tmp_path)
    log.append([run_event("one"), NewEvent(REGISTRY, "", b"two")])
    log.add_schemas({b"12345678": '"int"'})
    column = "json" if table == "schemas" else "payload"
    names = (table, table) if "REPLACE" in statement else (table, column, column)
    con = sqlite3.connect(tmp_path / "log.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match=r"never rewritten|only grows"):
        con.execute(statement.format(*names))
    con.close()
    assert [r.payload for r in read_all(log)] == [b"one", b"two"]
    log.close()


def test_a_row_can_only_be_added_at_the_end(tmp_path: Path) -> None:
    EmbeddedLog(tmp_path).close()
    con = sqlite3.connect(tmp_path / "log.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="only grows at its end"):
        con.execute("INSERT INTO runs VALUES (7, 1, x'00')")
    con.close()


def append_until_killed(folder: str, k: int, acknowledged: int) -> None:
    log = EmbeddedLog(folder)
    i = 0
    while True:
        count = random.randrange(1, 5)
        log.append([NewEvent(RUNS, f"{k}", b"%d:%d" % (k, i + j) * 500) for j in range(count)])
        i += count
        os.write(acknowledged, b"%d\n" % i)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork: the pipe is inherited
def test_killing_writers_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    log = EmbeddedLog(tmp_path)
    for round_ in range(10):
        pipes = [os.pipe() for _ in range(3)]
        processes = [
            fork.Process(target=append_until_killed, args=(str(tmp_path), round_ * 3 + n, w))
            for n, (_, w) in enumerate(pipes)
        ]
        for p in processes:
            p.start()
        time.sleep(random.uniform(0.05, 0.25))
        for p in processes:
            assert p.pid is not None
            os.kill(p.pid, signal.SIGKILL)
            p.join()
        records = read_all(log)
        assert [r.offset for r in records] == list(range(len(records)))
        for n, (r, w) in enumerate(pipes):
            os.close(w)
            with os.fdopen(r) as said:
                counts = said.read().split()
            k = round_ * 3 + n
            mine = [x.payload for x in records if x.payload.startswith(b"%d:" % k)]
            assert mine == [b"%d:%d" % (k, i) * 500 for i in range(len(mine))]
            assert len(mine) >= int(counts[-1] if counts else 0)
    log.append([run_event("goes on")])
    log.close()


def append_many(folder: str, k: int, count: int, go: Event) -> None:
    log = EmbeddedLog(folder)
    go.wait()
    for i in range(count):
        log.append([NewEvent(RUNS, f"{k}", bytes(2_000)), NewEvent(REGISTRY, "", b"%d" % i)])
    log.close()


def test_eight_processes_and_a_reader_never_find_the_file_locked(tmp_path: Path) -> None:
    go = SPAWN.Event()
    processes = [
        SPAWN.Process(target=append_many, args=(str(tmp_path), k, 60, go)) for k in range(8)
    ]
    for p in processes:
        p.start()
    log = EmbeddedLog(tmp_path)
    reader = log.reader({})
    go.set()
    records: list[LogRecord] = []
    until = time.monotonic() + 60
    while len(records) < 960 and time.monotonic() < until:
        records += reader.poll(0.2)
    for p in processes:
        p.join()
    assert [p.exitcode for p in processes] == [0] * 8
    for stream in (RUNS, REGISTRY):
        assert [r.offset for r in records if r.stream == stream] == list(range(480))
    reader.close()
    log.close()


def tick(folder: str, count: int) -> None:
    log = EmbeddedLog(folder)
    for _ in range(count):
        time.sleep(0.05)
        log.append([NewEvent(REGISTRY, "", b"%d" % time.monotonic_ns())])
    log.close()


def test_a_reader_sees_appends_of_another_process_within_milliseconds(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path)
    reader = log.reader({})
    process = SPAWN.Process(target=tick, args=(str(tmp_path), 20))
    process.start()
    waits: list[float] = []
    while len(waits) < 20:
        records = reader.poll(20.0)
        assert records
        waits += [(time.monotonic_ns() - int(r.payload)) / 1e9 for r in records]
    process.join()
    assert sorted(waits)[10] < 0.03, waits  # the append itself is within
    reader.close()
    log.close()


@pytest.mark.alone
def test_waiting_costs_next_to_nothing(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path)
    reader = log.reader({})
    reader.poll(0.3)
    began = time.thread_time()
    reader.poll(2.0)
    assert time.thread_time() - began < 0.06  # 3 %; some 0.5 % on a quiet machine
    reader.close()
    log.close()


def test_the_write_ahead_log_stays_small_beside_a_steady_reader(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path)
    reader = log.reader({})
    largest = 0
    read = 0
    for _ in range(150):
        log.append([NewEvent(RUNS, "a", bytes(20_000)) for _ in range(40)])
        read += len(reader.poll(0.0))
        largest = max(largest, (tmp_path / "log.sqlite-wal").stat().st_size)
    assert read == 6_000
    assert largest < 32 * 1024 * 1024
    reader.close()
    log.close()


def test_a_clock_that_goes_back_does_not_take_append_times_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = EmbeddedLog(tmp_path)
    log.append([run_event("now")])
    assert not caplog.text
    earlier = time.time_ns() - 3_600_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: earlier)
    log.append([NewEvent(REGISTRY, "", b"an hour ago?")])
    log.append([run_event("and again")])
    assert caplog.text.count("its last event is dated 3600 s after now") == 1
    assert len({record.appended_at_ms for record in read_all(log)}) == 1
    log.close()


def test_a_second_log_in_a_process_leaves_the_locks_of_the_first(tmp_path: Path) -> None:
    first = EmbeddedLog(tmp_path)
    first.append([run_event("a")])
    second = EmbeddedLog(tmp_path)
    second.append([run_event("b")])
    wal = tmp_path / "log.sqlite-wal"
    inode = wal.stat().st_ino
    other = (
        "import sqlite3, sys; con = sqlite3.connect(sys.argv[1]);"
        "con.execute('SELECT count(*) FROM runs').fetchone(); con.close()"
    )
    path = str(tmp_path / "log.sqlite")
    subprocess.run([sys.executable, "-c", other, path], check=True)
    assert wal.exists(), "the last one who closes removes it, and another one has it open"
    assert wal.stat().st_ino == inode
    first.close()
    second.close()


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    con = sqlite3.connect(tmp_path / "log.sqlite")
    con.execute("CREATE TABLE theirs (x)")
    con.close()
    for create in (True, False):
        with pytest.raises(LogMisconfigured, match="another program"):
            EmbeddedLog(tmp_path, create=create)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    EmbeddedLog(tmp_path).close()
    con = sqlite3.connect(tmp_path / "log.sqlite")
    con.execute("PRAGMA user_version = 99")
    con.close()
    with pytest.raises(LogMisconfigured, match=r"format 99.*upgrade"):
        EmbeddedLog(tmp_path)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite").write_bytes(b"these are my notes" * 1000)
    with pytest.raises(LogMisconfigured, match="not a log, or is damaged"):
        EmbeddedLog(tmp_path)
    assert (tmp_path / "log.sqlite").read_bytes() == b"these are my notes" * 1000


def test_a_log_that_should_be_there_and_is_not(tmp_path: Path) -> None:
    with pytest.raises(LogMisconfigured, match="there is no log at"):
        open_log(str(tmp_path / "nowhere"), create=False)
    assert not (tmp_path / "nowhere").exists()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogMisconfigured, match="cannot make the log's folder"):
        EmbeddedLog(tmp_path / "file")


_AS_A_USER = """
import os, sys
from modeltrail.eventlog import open_log, LogMisconfigured, NewEvent
import modeltrail.eventlog.embedded  # now: another user may not read Python's folder
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)  # root may write anywhere
folder = sys.argv[1]
log = open_log(folder, create=False)
print(len(log.reader({}).poll(0.0)))
for make in (lambda: log.append([NewEvent("runs", "a", b"x")]), lambda: open_log(folder)):
    try:
        make()
    except LogMisconfigured as e:
        print(e)
"""


def test_a_folder_that_one_may_only_read() -> None:
    with tempfile.TemporaryDirectory() as name:  # tmp_path is in a folder closed to others
        folder = Path(name)
        log = EmbeddedLog(folder)
        log.append([run_event("one"), run_event("two")])
        log.close()
        (folder / "log.lock").chmod(0o444)
        (folder / "log.sqlite").chmod(0o444)
        folder.chmod(0o555)
        ran = subprocess.run(
            [sys.executable, "-c", _AS_A_USER, name], capture_output=True, text=True, check=False
        )
        folder.chmod(0o755)
    assert ran.returncode == 0, ran.stderr
    count, *refusals = ran.stdout.splitlines()
    assert count == "2"
    assert len(refusals) == 2
    assert all("chmod u+w" in r for r in refusals)


def test_reading_beside_a_writer_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from modeltrail.eventlog import *\n"
        "open_log(sys.argv[1]).append([NewEvent('runs', 'a', b'x')]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / "log.sqlite-wal").stat().st_size > 0
    log = EmbeddedLog(tmp_path, create=False)
    assert [r.payload for r in read_all(log)] == [b"x"]
    log.close()


def events_of_the_file_alone(folder: Path, copy: Path) -> int:
    """How many events a copy of ``log.sqlite`` has, without what SQLite keeps beside it."""
    copy.mkdir()
    shutil.copy(folder / "log.sqlite", copy)
    log = EmbeddedLog(copy, create=False)
    found = len(read_all(log))
    log.close()
    return found


def test_a_closed_log_is_whole_in_its_file(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log")
    log.append([run_event("a"), run_event("b")])
    reader = log.reader({})
    assert len(reader.poll(1)) == 2  # both of its connections for reading are open
    reader.close()
    log.close()
    assert events_of_the_file_alone(tmp_path / "log", tmp_path / "copy") == 2


def test_a_log_that_closes_beside_a_reader_is_whole_in_its_file(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log")
    log.append([run_event("a")])
    other = EmbeddedLog(tmp_path / "log", create=False)
    assert len(read_all(other)) == 1
    log.close()
    assert events_of_the_file_alone(tmp_path / "log", tmp_path / "copy") == 1
    other.close()


def test_what_a_killed_writer_left_is_in_the_file_after_an_orderly_close(tmp_path: Path) -> None:
    code = (
        "import os, sys; from modeltrail.eventlog import *\n"
        "open_log(sys.argv[1]).append([NewEvent('runs', 'a', b'x')]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "log")], check=False)
    EmbeddedLog(tmp_path / "log").close()
    assert events_of_the_file_alone(tmp_path / "log", tmp_path / "copy") == 1


def test_a_copy_keeps_positions_and_times(tmp_path: Path) -> None:
    log, copy = EmbeddedLog(tmp_path / "log"), EmbeddedLog(tmp_path / "copy")
    log.append([run_event("a"), run_event("b"), run_event("c")])
    records = read_all(log)
    with pytest.raises(LogRefused, match="only grows at its end"):
        copy.adopt(records[1:])
    copy.adopt(records[:1])
    copy.adopt(records[1:])
    assert read_all(copy) == records
    with pytest.raises(LogRefused, match="only grows at its end"):
        copy.adopt(records[2:])
    with pytest.raises(LogRefused, match="has no partition runs:1"):
        copy.adopt([records[2]._replace(partition=1)])
    assert read_all(copy) == records
    log.close()
    copy.close()


def test_a_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path)
    log.append([run_event("before")])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    used = (tmp_path / "log.sqlite-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (used + 100_000, hard))
    try:
        with pytest.raises(LogUnavailable, match=r"log\.sqlite"):
            log.append([NewEvent(RUNS, "a", bytes(300_000))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.append([run_event("after")])
    assert [r.payload for r in read_all(log)] == [b"before", b"after"]
    log.close()


def test_a_process_that_holds_the_lock_for_too_long(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path)
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'r+'); fcntl.flock(f, fcntl.LOCK_EX)\n"
        "print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log.lock")], stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        began = time.monotonic()
        errors: list[LogUnavailable] = []

        def work() -> None:
            try:
                log.append([run_event("late")], timeout_s=0.3)
            except LogUnavailable as e:
                errors.append(e)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert time.monotonic() - began < 10
        assert len(errors) == 4
        holder.kill()
    log.append([run_event("soon")])
    assert [r.payload for r in read_all(log)] == [b"soon"]
    log.close()
