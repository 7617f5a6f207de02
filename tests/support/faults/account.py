"""What is in a log, by an account that knows nothing of the fold; and how folds are compared."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple
from uuid import UUID

import duckdb

from faults.jobs import value_of
from modeltrail.consumers import Fold
from modeltrail.consumers.audit import verify
from modeltrail.consumers.chain import of_tables
from modeltrail.eventlog import REGISTRY_PARTITION, EventLog, Partition
from modeltrail.eventlog.memory import MemoryLog
from modeltrail.schemas import Codec, unpack


class Request(NamedTuple):
    """A registry event as the log holds it."""

    offset: int
    event_id: str
    type: str
    event: dict[str, Any]
    repeat: bool


class Account:
    """Reads a log on from where it was the last time."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.repeats = 0
        """Events of runs that were in the log more than once."""
        self.runs: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        """Run id to its events, repeats left out."""
        self.requests: list[Request] = []
        """The registry."""
        self._codec = Codec(lambda: log.schemas().values())
        self._last: dict[bytes, int] = {}
        self._next: dict[Partition, int] = {}

    def read(self) -> None:
        """Read to the log's end as of now."""
        end = self.log.end()
        reader = self.log.reader(self._next)
        while any(self._next.get(p, 0) < n for p, n in end.items()):
            for record in reader.poll(1.0):
                partition = Partition(record.stream, record.partition)
                assert record.offset == self._next.get(partition, 0), "the log has a hole"
                self._next[partition] = record.offset + 1
                type, event = self._codec.decode(record.payload)
                head = event["envelope"]
                last = self._last.get(head["producer_id"], -1)
                repeat = head["sequence"] <= last
                if not repeat:
                    assert head["sequence"] == last + 1, f"a hole before {record.position}"
                    self._last[head["producer_id"]] = head["sequence"]
                if partition == REGISTRY_PARTITION:
                    event_id = str(UUID(bytes=head["event_id"]))
                    self.requests.append(Request(record.offset, event_id, type, event, repeat))
                elif repeat:
                    self.repeats += 1
                else:
                    self.runs[event["run_id"]].append((type, event))
        reader.close()

    def check_run(self, run_id: str, acknowledged: int) -> int:
        """A run's points are steps 0, 1, 2, … up to the acknowledged one at least, each once."""
        found: dict[str, list[tuple[int, float]]] = {"m": [], "n": []}
        for n, (type, event) in enumerate(self.runs[run_id]):
            assert (type == "RunStarted") == (n == 0)
            if type == "MetricsLogged":
                for series, step, _, value in zip(*unpack(event), strict=True):
                    found[event["series"][series]["key"]].append((step, value))
        steps = max(len(points) for points in found.values())
        assert found["m"] == [(step, value_of(step)) for step in range(len(found["m"]))]
        assert found["n"] == [(step, -value_of(step)) for step in range(len(found["n"]))]
        # The two points of a step are logged one after the other: a kill may fall in between.
        assert len(found["m"]) - len(found["n"]) in (0, 1)
        assert min(len(found["m"]), len(found["n"])) >= acknowledged, "acknowledged and lost"
        return steps

    def check_done(self, done: list[Any]) -> None:
        """A client's answer holds: the request is where it said, and takes effect once."""
        _, actor, position, event_id, key, _, _ = done
        found = [r for r in self.requests if r.event_id == event_id and not r.repeat]
        assert [f"registry:0:{r.offset}" for r in found] == [position]
        assert found[0].event["envelope"]["actor"] == actor
        if key is None:
            assert sum(r.event_id == event_id for r in self.requests) == 1


RUN = """
    SELECT r.complete, r.events_missing, r.points_dropped, r.points_stored, count(DISTINCT m.step),
        min(m.step), max(m.step) + 1, bool_and(m.value = m.step * 0.5 - 3)
    FROM runs r LEFT JOIN metrics m ON m.run_id = r.run_id AND m.key = 'm'
    WHERE r.run_id = ? GROUP BY ALL
"""


def check_row(row: Any, steps: int, points: int) -> None:
    """What the query ``RUN`` has to give for a run of so many steps and points."""
    least, most, good = (0, steps, True) if steps else (None, None, None)
    assert list(row) == [True, 0, 0, points, steps, least, most, good]


def check_registry(account: Account, con: duckdb.DuckDBPyConnection) -> None:
    """The chain verifies, numbers have no holes, and no alias was set against an expectation."""
    verdict = verify(account.log, of_tables(con))
    assert verdict.ok, verdict.findings
    registry = verdict.registry
    assert registry.events == registry.compared == len(account.requests)
    assert all(c.events == c.compared for c in verdict.partitions.values())
    decided = con.execute(
        "SELECT log_offset, accepted, code, version FROM audit WHERE accepted IS NOT NULL"
    ).fetchall()
    outcomes = {offset: rest for offset, *rest in decided}
    versions: dict[str, int] = defaultdict(int)
    aliases: dict[tuple[str, str], int] = {}
    for request in account.requests:
        if request.repeat:
            assert request.offset not in outcomes, "a repeat was decided again"
            continue
        accepted, code, version = outcomes[request.offset]
        event = request.event
        if request.type == "CreateModelVersion" and accepted:
            versions[event["model"]] += 1
            assert version == versions[event["model"]], "version numbers have a hole"
            for alias in event["aliases"]:
                aliases[event["model"], alias] = version
        if request.type == "SetRegisteredModelAlias" and event["expected_version"] is not None:
            here = aliases.get((event["model"], event["alias"]), 0)
            met = here == event["expected_version"]
            assert not accepted or met, "set against its expectation"
            assert code != "RESOURCE_CONFLICT" or not met, "refused without reason"
        if request.type == "SetRegisteredModelAlias" and accepted:
            aliases[event["model"], event["alias"]] = event["version"]
    shown = con.execute("SELECT model, alias, version FROM aliases").fetchall()
    assert {(m, a): v for m, a, v in shown} == aliases
    assert con.execute("SELECT count(*) FROM dead_letters").fetchone() == (0,)


def views() -> list[str]:
    """All public views."""
    fold = Fold(MemoryLog(), None)
    fold.open()
    try:
        found = fold.cursor().execute(
            "SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal"
        )
        return sorted(name for (name,) in found.fetchall())
    finally:
        fold.stop()


def dump(con: duckdb.DuckDBPyConnection) -> dict[str, list[Any]]:
    """The rows of every public view."""
    return {v: con.execute(f"FROM {v} ORDER BY ALL").fetchall() for v in views()}


def check_against_rebuild(log: EventLog, fold: Fold) -> None:
    """A fold that lived through everything equals one that begins from nothing."""
    again = Fold(log, None)
    again.open()
    try:
        fold.catch_up()
        again.catch_up(fold.positions())
        live, rebuilt = dump(fold.cursor()), dump(again.cursor())
        for view, rows in live.items():
            assert rows == rebuilt[view], view
    finally:
        again.stop()
