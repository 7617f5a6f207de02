"""What every log promises: one suite, run unchanged on memory, SQLite and Apache Kafka."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modeltrail.eventlog import (
    REGISTRY,
    RUNS,
    EventLog,
    LogClosed,
    LogMisconfigured,
    LogRecord,
    LogRefused,
    NewEvent,
    Partition,
    Position,
    Reader,
    open_log,
)
from modeltrail.limits import EVENT_BYTES_MAX

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(params=["memory", "embedded", "kafka"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return "memory:"
    if request.param == "embedded":
        return str(tmp_path / "log")
    return f"kafka://{request.getfixturevalue('kafka')}/t{uuid.uuid4().hex[:8]}-?partitions=3"


@pytest.fixture
def log(url: str) -> Iterator[EventLog]:
    log = open_log(url)
    yield log
    log.close()


def run_event(key: str, text: str) -> NewEvent:
    return NewEvent(RUNS, key, text.encode())


def act(text: str) -> NewEvent:
    return NewEvent(REGISTRY, "", text.encode())


def read(reader: Reader, count: int, timeout_s: float = 20.0) -> list[LogRecord]:
    records: list[LogRecord] = []
    until = time.monotonic() + timeout_s
    while len(records) < count:
        assert time.monotonic() < until, f"{len(records)} of {count} records"
        records += reader.poll(1.0)
    return records


@contextmanager
def closing_reader(log: EventLog, offset: int) -> Iterator[Reader]:
    reader = log.reader({Partition(REGISTRY, 0): offset})
    try:
        yield reader
    finally:
        reader.close()


def read_all(log: EventLog, count: int) -> list[LogRecord]:
    reader = log.reader({})
    try:
        return read(reader, count)
    finally:
        reader.close()


def test_positions_are_those_that_a_reader_finds(log: EventLog) -> None:
    events = [run_event(f"run{i % 5}", f"r{i}") for i in range(40)]
    events += [act(f"a{i}") for i in range(10)]
    positions = log.append(events)
    found = {r.position: r.payload for r in read_all(log, 50)}
    assert found == {p: e.payload for p, e in zip(positions, events, strict=True)}


def test_events_of_a_key_share_a_partition_and_keep_their_order(log: EventLog) -> None:
    for i in range(20):
        log.append([run_event(f"run{k}", f"{k} {i} {j}") for j in range(3) for k in range(4)])
    of_key: dict[bytes, list[LogRecord]] = {}
    for record in read_all(log, 240):
        of_key.setdefault(record.payload[:1], []).append(record)
    for k, records in of_key.items():
        assert len({r.partition for r in records}) == 1
        assert [r.payload.decode() for r in records] == [
            f"{k.decode()} {i} {j}" for i in range(20) for j in range(3)
        ]
        assert [r.offset for r in records] == sorted(r.offset for r in records)


def test_the_registry_is_one_order(log: EventLog) -> None:
    for i in range(30):
        log.append([act(str(i))])
    records = read_all(log, 30)
    assert [r.payload for r in records] == [str(i).encode() for i in range(30)]
    assert [r.position for r in records] == [Position(REGISTRY, 0, i) for i in range(30)]


def test_threads_append_at_once(log: EventLog) -> None:
    positions: list[Position] = []

    def work(k: int) -> None:
        for i in range(25):
            positions.extend(log.append([run_event(f"run{k}", f"{k}:{i}")]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(positions)) == 200
    records = read_all(log, 200)
    assert {r.position for r in records} == set(positions)
    for k in range(8):
        mine = [r.payload.decode() for r in records if r.payload.startswith(b"%d:" % k)]
        assert mine == [f"{k}:{i}" for i in range(25)]


def append_from_process(url: str, k: int, count: int) -> None:
    log = open_log(url)
    for i in range(count):
        log.append([run_event(f"run{k}", f"{k}:{i}")])
    log.close()


def test_processes_append_at_once(url: str) -> None:
    if url == "memory:":
        pytest.skip("a log in memory is of one process")
    processes = [SPAWN.Process(target=append_from_process, args=(url, k, 40)) for k in range(4)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    assert [p.exitcode for p in processes] == [0] * 4
    log = open_log(url)
    records = read_all(log, 160)
    for k in range(4):
        mine = [r.payload.decode() for r in records if r.payload.startswith(b"%d:" % k)]
        assert mine == [f"{k}:{i}" for i in range(40)]
    assert sum(log.end().values()) == 160
    log.close()


def test_what_was_acknowledged_is_there_for_who_opens_the_log_later(url: str) -> None:
    if url == "memory:":
        pytest.skip("a log in memory is of one process")
    log = open_log(url)
    positions = log.append([run_event("a", "one"), act("two")])
    log.close()
    later = open_log(url, create=False)
    assert {r.position for r in read_all(later, 2)} == set(positions)
    later.close()


def test_a_reader_goes_on_from_any_position(log: EventLog) -> None:
    log.append([act(str(i)) for i in range(20)])
    for start in (0, 7, 19, 20):
        reader = log.reader({Partition(REGISTRY, 0): start})
        records = read(reader, 20 - start)
        assert [r.offset for r in records] == list(range(start, 20))
        assert reader.poll(0.05) == []
        reader.close()


def test_a_position_past_the_end_is_a_loud_error(log: EventLog) -> None:
    log.append([act("only")])
    with pytest.raises(LogMisconfigured, match=r"registry.*2"), closing_reader(log, 2) as reader:
        read(reader, 1)


def test_poll_gives_back_about_as_many_bytes_as_wanted(log: EventLog) -> None:
    log.append([NewEvent(REGISTRY, "", bytes(10_000)) for _ in range(50)])
    reader = log.reader({})
    got: list[LogRecord] = []
    while len(got) < 50:
        some = reader.poll(5.0, bytes_max=35_000)
        assert 1 <= len(some) <= 4
        got += some
    assert [r.offset for r in got] == list(range(50))
    assert len(reader.poll(0.0, bytes_max=1)) == 0
    log.append([act("x"), act("y")])
    assert len(reader.poll(5.0, bytes_max=1)) == 1
    reader.close()


def test_a_waiting_reader_sees_an_append_at_once(log: EventLog) -> None:
    reader = log.reader({})
    log.append([act("warm up")])
    read(reader, 1)
    waits = []
    for i in range(10):
        done: list[float] = []

        def work(i: int = i, done: list[float] = done) -> None:
            time.sleep(0.03)
            log.append([act(str(i))])
            done.append(time.monotonic())

        thread = threading.Thread(target=work)
        thread.start()
        read(reader, 1)
        seen = time.monotonic()
        thread.join()
        waits.append(seen - done[0])
    assert sorted(waits)[5] < 0.05, waits
    reader.close()


def test_poll_waits_no_longer_than_told(log: EventLog) -> None:
    reader = log.reader({})
    reader.poll(0.0)
    began = time.monotonic()
    assert reader.poll(0.3) == []
    assert 0.25 < time.monotonic() - began < 5.0
    reader.close()


def test_wake_ends_a_poll(log: EventLog) -> None:
    reader = log.reader({})
    threading.Timer(0.1, reader.wake).start()
    began = time.monotonic()
    assert reader.poll(20.0) == []
    assert time.monotonic() - began < 10.0
    reader.close()


def test_end_is_the_next_offset_of_every_partition(log: EventLog) -> None:
    before = log.end()
    assert before[Partition(REGISTRY, 0)] == 0
    assert set(before.values()) == {0}
    [run, *acts] = log.append([run_event("a", "x"), act("1"), act("2")])
    after = log.end()
    assert after[run.within] == 1
    assert after[Partition(REGISTRY, 0)] == acts[-1].offset + 1 == 2
    assert sum(after.values()) == 3


def test_append_times_never_go_back(log: EventLog) -> None:
    began = time.time_ns() // 1_000_000 - 1
    for i in range(30):
        log.append([act(str(i))])
    times = [r.appended_at_ms for r in read_all(log, 30)]
    assert times == sorted(times)
    assert began <= times[0] <= times[-1] <= time.time_ns() // 1_000_000 + 1


def test_schemas_are_kept_with_the_log(url: str, log: EventLog) -> None:
    assert log.schemas() == {}
    log.add_schemas({b"12345678": '{"type": "string"}', b"\0\n\xff45678": '"é"'})
    log.add_schemas({b"12345678": '{"type": "string"}', b"abcdefgh": '"int"'})
    want = {b"12345678": '{"type": "string"}', b"\0\n\xff45678": '"é"', b"abcdefgh": '"int"'}
    assert log.schemas() == want
    if url != "memory:":
        other = open_log(url)
        assert other.schemas() == want
        other.close()


def test_the_largest_event_is_taken_and_a_larger_one_refused(log: EventLog) -> None:
    largest = os.urandom(EVENT_BYTES_MAX)
    log.append([NewEvent(RUNS, "a", largest)])
    with pytest.raises(LogRefused, match=r"8,388,609 bytes"):
        log.append([run_event("a", "fits"), NewEvent(RUNS, "a", largest + b"!")])
    log.append([run_event("a", "goes on")])
    assert [r.payload for r in read_all(log, 2)] == [largest, b"goes on"]


def test_an_unknown_stream_is_refused(log: EventLog) -> None:
    with pytest.raises(LogRefused, match="runs, registry"):
        log.append([NewEvent("schemas", "", b"x")])


def test_nothing_to_append_is_fine(log: EventLog) -> None:
    assert log.append([]) == []


def test_a_closed_log_says_so(log: EventLog) -> None:
    log.append([act("x")])
    reader = log.reader({})
    log.close()
    log.close()
    with pytest.raises(LogClosed):
        log.append([act("y")])
    with pytest.raises(LogClosed):
        log.end()
    with pytest.raises(LogClosed):
        reader.poll(1.0)
    reader.close()


def test_closing_wakes_a_reader_that_waits(log: EventLog) -> None:
    reader = log.reader({})
    threading.Timer(0.1, log.close).start()
    with pytest.raises(LogClosed):
        reader.poll(20.0)
    reader.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads: on purpose
def test_a_forked_child_appends_with_connections_of_its_own(url: str, log: EventLog) -> None:
    if url == "memory:":
        pytest.skip("a log in memory is of one process")
    log.append([run_event("parent", "before")])
    reader = log.reader({})
    read(reader, 1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            log.append([run_event("child", f"child {i}") for i in range(5)], timeout_s=20)
            log.close()
            code = 0
        finally:
            os._exit(code)
    log.append([run_event("parent", f"parent {i}") for i in range(5)])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    log.append([run_event("parent", "after")])
    records = read(reader, 11)
    payloads = [r.payload.decode() for r in records]
    assert [p for p in payloads if p.startswith("child")] == [f"child {i}" for i in range(5)]
    assert len(payloads) == 11
    reader.close()
