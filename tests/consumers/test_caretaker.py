"""What a server does on its own: end silent runs, do in the registry what runs ask for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from modeltrail.api.registry.sources import take_over
from modeltrail.consumers import Fold
from modeltrail.consumers.caretaker import Caretaker
from modeltrail.eventlog.memory import MemoryLog
from modeltrail.schemas import experiment_id
from writers import RunWriter, Writer

RUN = "a" * 32
START_MS = 1_800_000_000_000


class House:
    """A log with a clock, and two nodes on it."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.now_s = 1_000.0
        self.log = MemoryLog(clock_ms=lambda: self.now_ms)
        self.folds = [Fold(self.log, None, threads=1) for _ in range(2)]
        for fold in self.folds:
            fold.open()
        self.caretakers = [
            Caretaker(self.log, f, take_over, heart_timeout_s=60) for f in self.folds
        ]

    def fold(self) -> None:
        for fold in self.folds:
            fold.catch_up()

    def look(self, after_s: float = 0) -> int:
        """Both nodes look before either has folded what the other one did."""
        self.fold()
        self.now_ms += int(after_s * 1000)
        self.now_s += after_s
        with pytest.MonkeyPatch.context() as patch:
            # As if both had asked for the log's end before either appended.
            patch.setattr(Caretaker, "_passed", lambda *_: True)
            count = sum(c.look(self.now_ms, self.now_s) for c in self.caretakers)
        self.fold()
        return count

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        answers = []
        for fold in self.folds:
            cursor = fold.cursor()
            answers.append(cursor.execute(query).fetchall())
            cursor.close()
        assert answers[0] == answers[1]
        return answers[0]


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    for fold in house.folds:
        fold.stop()


def test_a_silent_run_is_ended_once_by_however_many_nodes(house: House) -> None:
    run = RunWriter(RUN)
    house.log.append([run.started(experiment_id="0", heartbeat_interval_ms=5000)])
    assert house.look(after_s=59) == 0
    assert house.look(after_s=2) == 2  # one event of each node, and one effect
    assert house.sql("SELECT status, message FROM runs") == [
        ("FAILED", "no sign of life for more than 60 s")
    ]
    assert house.look(after_s=1000) == 0


def test_a_clock_that_went_forward_and_back_keeps_no_dead_run_alive(house: House) -> None:
    run = RunWriter(RUN)
    house.now_ms += 4 * 3600 * 1000
    house.log.append([run.started(experiment_id="0", heartbeat_interval_ms=5000)])
    house.now_ms -= 4 * 3600 * 1000
    assert house.look() == 0
    assert house.look(after_s=59) == 0
    house.log.append(
        [run.metric("m", 1, 1.0)]
    )  # dated four hours ahead, as the log never goes back
    assert house.look(after_s=1) == 0
    assert house.look(after_s=59.5) == 0
    assert house.look(after_s=1) == 2
    assert house.sql("SELECT status FROM runs") == [("FAILED",)]


def test_a_clock_that_goes_forward_ends_no_living_run(house: House) -> None:
    run = RunWriter(RUN)
    house.log.append([run.started(experiment_id="0", heartbeat_interval_ms=5000)])
    assert house.look() == 0
    house.now_ms += 4 * 3600 * 1000
    assert house.look(after_s=5) == 0
    house.now_ms += 4 * 3600 * 1000
    house.log.append([run.metric("m", 1, 1.0)])
    assert house.look(after_s=5) == 0


def test_a_silent_run_is_ended_while_others_go_on_logging() -> None:
    # The fold is then never at the end of the log as of later.
    log = MemoryLog(clock_ms=lambda: START_MS)
    silent, busy = RunWriter(RUN), RunWriter("b" * 32)
    log.append([w.started(experiment_id="0", heartbeat_interval_ms=5000) for w in (silent, busy)])
    fold = Fold(log, None, threads=1)
    fold.start()
    stop = threading.Event()

    def go_on() -> None:
        step = 0
        while not stop.is_set():
            log.append([busy.metric("m", step := step + 1, 1.0) for _ in range(10)])

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        caretaker = Caretaker(log, fold, take_over, heart_timeout_s=60)
        # Both are silent as of then; it is enough that it looks at all.
        ended, deadline = 0, time.monotonic() + 60
        while not ended and time.monotonic() < deadline:
            ended = caretaker.look(START_MS + 61_000, 0.0)
        assert ended >= 1
    finally:
        stop.set()
        thread.join()
        fold.stop()


def test_a_silent_run_is_ended_though_the_fold_is_never_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modeltrail.consumers.caretaker._CATCH_UP_S", 0.0)
    now_ms = START_MS
    log = MemoryLog(clock_ms=lambda: now_ms)
    silent, busy = RunWriter(RUN), RunWriter("b" * 32)
    log.append([w.started(experiment_id="0", heartbeat_interval_ms=5000) for w in (silent, busy)])
    fold = Fold(log, None, threads=1)
    fold.open()
    fold.catch_up()
    caretaker = Caretaker(log, fold, take_over, heart_timeout_s=60)
    ended = []
    for second in range(0, 150, 10):
        now_ms = START_MS + second * 1000
        behind = log.end()
        log.append([busy.metric("m", second, 1.0)])
        ended.append(caretaker.look(now_ms, second))
        fold.catch_up(behind)
    assert ended == [0] * 11 + [1] + [0] * 3
    fold.catch_up()
    assert fold.cursor().execute("SELECT run_id, status FROM runs ORDER BY ALL").fetchall() == [
        (RUN, "FAILED"),
        ("b" * 32, "RUNNING"),
    ]
    fold.stop()


def test_the_caretaker_is_woken_when_runs_want_something_of_the_registry() -> None:
    log, woken = MemoryLog(), []
    fold = Fold(log, None, threads=1, on_registry_work=lambda: woken.append(True))
    fold.open()
    first = RunWriter(RUN)
    log.append([first.started(experiment_id="0")])
    fold.catch_up()
    assert woken == []
    log.append([RunWriter("b" * 32).started(experiment_id=None, experiment_name="named")])
    fold.catch_up()
    assert woken == [True]
    log.append([first.metric("m", 1, 1.0)])
    fold.catch_up()
    assert woken == [True]
    fold.stop()


def test_a_run_that_was_only_cut_off_goes_on(house: House) -> None:
    run = RunWriter(RUN)
    house.log.append([run.started(experiment_id="0", heartbeat_interval_ms=5000)])
    house.look(after_s=61)
    house.log.append([run.metric("m", 1, 1.0)])
    house.fold()
    assert house.sql("SELECT status, message, end_time, events_after_end FROM runs") == [
        ("RUNNING", None, None, 0)
    ]
    house.log.append([run.ended()])
    house.fold()
    assert house.sql("SELECT status FROM runs") == [("FINISHED",)]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_an_hour_off_ends_nothing(house: House, hours: int) -> None:
    claimed_ms = START_MS + hours * 3_600_000
    run = RunWriter(RUN)
    started = run.started(experiment_id="0", heartbeat_interval_ms=5000, started_at_ms=claimed_ms)
    house.log.append([started, run.points(("m", 1, claimed_ms, 1.0))])
    assert house.look(after_s=59) == 0
    assert house.sql("SELECT epoch_ms(start_time) - epoch_ms(appended_at) FROM runs") == [
        (hours * 3_600_000,)
    ]
    assert house.sql("SELECT status FROM runs") == [("RUNNING",)]


def test_a_run_that_promised_no_heartbeat_is_left_alone(house: House) -> None:
    house.log.append([RunWriter(RUN).started(experiment_id="0")])
    assert house.look(after_s=10_000) == 0


def test_slow_heartbeats_are_waited_for(house: House) -> None:
    house.log.append([RunWriter(RUN).started(experiment_id="0", heartbeat_interval_ms=60_000)])
    assert house.look(after_s=200) == 0
    assert house.look(after_s=101) == 2


def test_an_absurd_heartbeat_interval_stops_nothing(house: House) -> None:
    other = "0f" * 16
    house.log.append(
        [
            RunWriter(other).started(experiment_id="0", heartbeat_interval_ms=2**63 - 1),
            RunWriter(RUN).started(experiment_id="0", heartbeat_interval_ms=5000),
        ]
    )
    assert house.look() == 0
    assert house.look(after_s=61) == 2
    assert house.look(after_s=4 * 24 * 3600) == 0
    assert house.look(after_s=2 * 24 * 3600) == 2
    assert house.sql("SELECT DISTINCT status FROM runs") == [("FAILED",)]


def test_an_experiment_that_a_run_names_is_made(house: House) -> None:
    house.log.append([RunWriter(RUN, actor="eve").started(experiment_name="/team/new")])
    house.look()
    assert house.sql(
        "SELECT experiment_id, created_by FROM experiments WHERE created_by IS NOT NULL"
    ) == [(experiment_id("/team/new"), "eve")]
    assert house.sql("SELECT count(*) FROM audit WHERE accepted") == [(1,)]
    assert house.look() == 0


def test_a_name_that_no_experiment_may_have_is_tried_once(house: House) -> None:
    house.log.append([RunWriter(RUN).started(experiment_name="x" * 3000)])
    house.look()
    assert house.look() == 0
    assert house.sql("SELECT accepted FROM audit WHERE accepted IS NOT NULL") == [(False,)]


def test_a_renamed_experiments_old_name_is_made_again_for_a_job_that_uses_it(house: House) -> None:
    house.log.append([RunWriter("1" * 32).started(experiment_name="a")])
    house.look()
    house.now_ms += 1000
    server = Writer("server")
    rename = server.event("RenameExperiment", experiment_id=experiment_id("a"), name="b")
    house.log.append([rename])
    house.now_ms += 1000
    house.log.append([RunWriter("2" * 32).started(experiment_name="a")])
    house.look()
    assert house.sql("SELECT experiment_name, experiment_id FROM runs ORDER BY run_id") == [
        ("b", experiment_id("a")),
        ("a", experiment_id("a", 2)),
    ]


def test_a_version_that_a_run_asks_for_is_made_once(house: House) -> None:
    run = RunWriter(RUN, actor="job-7")
    house.log.append(
        [
            run.started(experiment_id="0"),
            run.of_run(
                "ModelRegistrationRequested",
                model="digits",
                source="model",
                description="best",
                tags={"k": "v"},
                aliases=["champion"],
                reason="best of the sweep",
            ),
        ]
    )
    house.look()
    assert house.sql(
        "SELECT model, version, source, run_id, description, created_by FROM model_versions"
    ) == [("digits", 1, f"runs:/{RUN}/model", RUN, "best", "job-7")]
    assert house.sql("SELECT alias, version, set_by, reason FROM aliases") == [
        ("champion", 1, "job-7", "best of the sweep")
    ]
    assert house.sql("FROM model_version_tags") == [("digits", 1, "k", "v")]
    assert house.sql("SELECT accepted, version FROM registrations") == [(True, 1)]
    assert house.look() == 0
