"""Producer ids: what counts as a repeat, and what others can do with somebody's id: nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from modeltrail.consumers import Fold
from modeltrail.eventlog import NewEvent
from modeltrail.eventlog.memory import MemoryLog
from registry_requests import Registry, request
from writers import JUMPS, RunWriter, Writer, stolen

VICTIM = "a" * 32
OTHER = "b" * 32


class Trail:
    def __init__(self) -> None:
        self.log = MemoryLog()
        self.fold = Fold(self.log, None, threads=1)
        self.fold.open()

    def add(self, *events: NewEvent) -> None:
        for event in events:
            self.log.append([event])
            self.fold.catch_up()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        cursor = self.fold.cursor()
        try:
            return cursor.execute(query).fetchall()
        finally:
            cursor.close()

    def values(self) -> list[float]:
        query = f"SELECT value FROM metrics WHERE run_id = '{VICTIM}' ORDER BY value"
        return [value for (value,) in self.rows(query)]

    def errors(self) -> list[str]:
        return [e for (e,) in self.rows("SELECT error FROM dead_letters ORDER BY log_offset")]


@pytest.fixture
def trail() -> Iterator[Trail]:
    found = Trail()
    yield found
    found.fold.stop()


@pytest.mark.parametrize("sequence", JUMPS)
@pytest.mark.parametrize(
    ("run_id", "actor"), [(OTHER, "ann"), (OTHER, "mallory"), (VICTIM, "mallory")]
)
def test_no_other_run_and_no_other_actor_silences_a_producer(
    trail: Trail, run_id: str, actor: str, sequence: int
) -> None:
    victim = RunWriter(VICTIM)
    trail.add(victim.started())
    thief = RunWriter(run_id, VICTIM, actor=actor)
    trail.add(stolen(thief.of_run("TagsChanged", tags={"evil": "1"}), sequence))
    trail.add(*(victim.metric("loss", n, n) for n in range(4)), victim.ended())
    assert trail.values() == [0, 1, 2, 3]
    assert trail.rows(f"SELECT status FROM runs WHERE run_id = '{VICTIM}'") == [("FINISHED",)]
    assert len(trail.errors()) == (not 0 <= sequence < 2**31)
    assert trail.fold.status().repeats == 0


@pytest.mark.parametrize("sequence", [1000, 2**31 - 1])
def test_numbers_below_a_jump_still_count(trail: Trail, sequence: int) -> None:
    victim = RunWriter(VICTIM)
    trail.add(victim.started(), stolen(victim.metric("evil", 0, 9), sequence))
    victim.sequence = 1
    missing = "SELECT events_missing FROM runs"
    assert trail.rows(missing) == [(sequence - 1,)]
    late = [victim.metric("loss", n, n) for n in range(4)]
    trail.add(*late, *late)
    assert trail.values() == [0, 1, 2, 3, 9]
    assert trail.rows(missing) == [(sequence - 5,)]
    assert trail.fold.status().repeats == 4
    assert trail.errors() == []


def test_another_event_with_the_last_number_is_a_dead_letter(trail: Trail) -> None:
    victim = RunWriter(VICTIM)
    trail.add(victim.started(), victim.metric("loss", 0, 0))
    trail.add(stolen(victim.metric("loss", 9, 9), 1))
    assert trail.errors() == [
        "its producer's sequence number 1 was used before, by another event of 'ann'"
    ]
    trail.add(stolen(victim.metric("loss", 9, 9), 0, actor="mallory"))
    assert len(trail.errors()) == 2, "an owner's number is not another's, however old"
    victim.sequence = 2
    trail.add(victim.metric("loss", 1, 1))
    assert trail.values() == [0, 1]


def test_a_dead_letter_leaves_its_number_to_another_event(trail: Trail) -> None:
    victim = RunWriter(VICTIM)
    bad = [victim.started(), victim.ended("nonsense")]
    trail.add(*bad, victim.metric("loss", 0, 0), *bad)
    assert len(trail.errors()) == 1, "a replay of a dead letter is a repeat"
    trail.add(stolen(victim.metric("loss", 1, 1), 1))
    assert trail.values() == [0, 1]
    assert trail.rows("SELECT events_missing FROM runs") == [(0,)]


def test_what_is_missing_before_a_dead_letter_is_counted(trail: Trail) -> None:
    victim = RunWriter(VICTIM)
    trail.add(victim.started())
    victim.sequence = 4
    trail.add(victim.ended("nonsense"), victim.metric("loss", 0, 0))
    assert trail.rows("SELECT events_missing FROM runs") == [(3,)]


def test_one_producer_for_several_actors_is_missing_nothing(trail: Trail) -> None:
    """As servers once did, with the numbers of all actors in one row."""
    writer = RunWriter(VICTIM)
    events = [writer.started()]
    for n in range(60):
        writer.actor = f"actor {n % 3}"
        events.append(writer.metric("loss", n, n))
    trail.add(*events, *events[-5:])
    assert trail.values() == list(range(60))
    assert trail.rows("SELECT events_missing FROM runs") == [(0,)]
    assert trail.errors() == []
    assert trail.fold.status().repeats == 5


def test_counts_that_would_overflow_are_dead_letters(trail: Trail) -> None:
    for n in range(3):
        writer = RunWriter(VICTIM, f"writer {n}")
        for counts in ((2**63 - 1, 0), (0, 2**63 - 1), (-1, 0)):
            beat = dict(zip(("points_logged", "points_dropped"), counts, strict=True))
            trail.add(writer.of_run("Heartbeat", **beat))
    trail.add(RunWriter(VICTIM).started())
    assert len(trail.errors()) == 9
    assert trail.rows("SELECT points_logged, points_dropped FROM runs") == [(0, 0)]


def test_a_producer_of_the_registry_cannot_be_silenced_from_the_runs(trail: Trail) -> None:
    server = Writer("server", actor="modeltrail")
    trail.add(request(server, "CreateRegisteredModel", model="m"))
    thief = RunWriter(OTHER, "server", actor="modeltrail")
    trail.add(stolen(thief.started(), 2**62), stolen(thief.started(), 2**30))
    trail.add(request(server, "CreateModelVersion", model="m", create_model=False))
    assert trail.rows("SELECT version FROM model_versions") == [(1,)]
    assert trail.rows("SELECT accepted FROM audit") == [(True,), (True,)]


def test_repeats_and_stolen_numbers_stay_in_the_trail_with_their_actor() -> None:
    registry = Registry()
    writer = registry.writer
    first = request(writer, "CreateRegisteredModel", model="m", reason="why")
    second = request(writer, "CreateRegisteredModel", model="n")
    theft = stolen(request(writer, "DeleteRegisteredModel", model="m"), 0, actor="mallory")
    same_name = stolen(request(writer, "DeleteRegisteredModel", model="n"), 0)
    registry.append(first, second, first, theft, same_name)
    registry.fold()
    found = registry.rows(
        "SELECT type, actor, model, accepted, code, request->>'$.model' FROM audit "
        "ORDER BY log_offset"
    )
    assert found == [
        ("CreateRegisteredModel", "ann", "m", True, None, "m"),
        ("CreateRegisteredModel", "ann", "n", True, None, "n"),
        ("CreateRegisteredModel", "ann", "m", None, "REPEAT", "m"),
        ("DeleteRegisteredModel", "mallory", "m", None, "DEAD_LETTER", "m"),
        ("DeleteRegisteredModel", "ann", "n", None, "DEAD_LETTER", "n"),
    ]
    assert registry.values("SELECT DISTINCT request->>'$.envelope.producer_id' FROM audit") == [
        None
    ], "who knows a producer's id could pass for it"
