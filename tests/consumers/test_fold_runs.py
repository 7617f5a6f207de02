"""What a run's events do, the bad ones too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from modeltrail.consumers import Fold
from modeltrail.consumers.projections.registry import RegistryProjection
from modeltrail.eventlog import NewEvent
from modeltrail.eventlog.memory import MemoryLog
from modeltrail.limits import EVENT_BYTES_MAX
from modeltrail.schemas import MARKER, encode, envelope, experiment_id
from writers import RunWriter, Writer

RUN = "0123456789abcdef" * 2


class Trail:
    """A log in memory with its fold."""

    def __init__(self) -> None:
        ticks = count(1_800_000_000_000, 1000)
        self.log = MemoryLog(clock_ms=lambda: next(ticks))
        self.fold = Fold(self.log, None, threads=1)
        self.fold.open()

    def append(self, *events: NewEvent) -> None:
        self.log.append(events)
        self.fold.catch_up()

    def sql(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        cursor = self.fold.cursor()
        try:
            return cursor.execute(query, list(params)).fetchall()
        finally:
            cursor.close()


@pytest.fixture
def trail() -> Iterator[Trail]:
    trail = Trail()
    yield trail
    trail.fold.stop()


def test_a_run_from_start_to_end(trail: Trail) -> None:
    run = RunWriter(RUN)
    source = {
        "entry_point": "train.py", "git_commit": "abc", "git_branch": "main", "git_dirty": True,
        "git_remote": None, "host": "h", "process_id": 7, "python_version": "3.11.7",
        "platform": "Linux", "packages": {"numpy": "2.4"},
    }  # fmt: skip
    trail.append(
        run.started(params={"lr": "0.1"}, tags={"team": "search"}, source=source),
        run.metric("loss", 1, 0.5),
        run.metric("loss", 2, 0.25),
        run.ended(points_logged=2),
    )
    assert trail.sql(
        "SELECT name, status, duration_s, git_dirty, complete, points_logged, points_stored, host "
        "FROM runs"
    ) == [("a run", "FINISHED", 60.0, True, True, 2, 2, "h")]
    assert trail.sql("FROM params") == [(RUN, "lr", "0.1")]
    assert trail.sql("FROM tags") == [(RUN, "team", "search")]
    assert trail.sql("FROM packages") == [(RUN, "numpy", "2.4")]
    assert trail.sql("SELECT key, step, value, points FROM latest_metrics") == [
        ("loss", 2, 0.25, 2)
    ]


def test_a_hole_in_the_sequence_shows_on_the_run(trail: Trail) -> None:
    run = RunWriter(RUN)
    first = run.started()
    run.metric("lost", 1, 1.0)
    run.metric("lost", 2, 1.0)
    trail.append(first, run.metric("loss", 3, 1.0))
    assert trail.sql("SELECT complete, events_missing FROM runs") == [(False, 2)]


def test_what_the_producer_dropped_shows_on_the_run(trail: Trail) -> None:
    a, b = RunWriter(RUN, "a"), RunWriter(RUN, "b")
    trail.append(
        a.started(),
        a.of_run("Heartbeat", points_logged=5, points_dropped=1),
        b.of_run("Heartbeat", points_logged=7, points_dropped=0),
        a.of_run("Heartbeat", points_logged=9, points_dropped=2),
        a.of_run("Heartbeat", points_logged=9, points_dropped=2),
    )
    assert trail.sql("SELECT complete, points_logged, points_dropped FROM runs") == [(False, 16, 2)]


def test_the_first_value_of_a_param_stands(trail: Trail) -> None:
    run = RunWriter(RUN)
    trail.append(run.started(params={"lr": "0.1"}))
    trail.append(run.of_run("ParamsLogged", params={"lr": "0.2", "depth": "3"}))
    trail.append(run.of_run("ParamsLogged", params={"lr": "0.1"}))
    assert sorted(trail.sql("FROM params")) == [(RUN, "depth", "3"), (RUN, "lr", "0.1")]
    assert trail.sql("SELECT key, value, refused_value FROM param_conflicts") == [
        ("lr", "0.1", "0.2")
    ]


def test_tags_change_and_go(trail: Trail) -> None:
    run = RunWriter(RUN)
    trail.append(run.started(tags={"a": "1", "b": "1"}))
    trail.append(run.of_run("TagsChanged", tags={"a": "2", "b": None, "c": None}))
    assert trail.sql("FROM tags") == [(RUN, "a", "2")]


def test_nan_infinities_late_steps_and_repeated_points(trail: Trail) -> None:
    run = RunWriter(RUN)
    t = 1_700_000_000_000
    trail.append(run.points(("m", 5, t, 1.0), ("m", 3, t, math.nan), ("m", 5, t, 1.0)))
    trail.append(run.points(("m", 3, t, math.nan), ("m", -1, t, math.inf), ("m", 5, t, -math.inf)))
    rows = trail.sql("SELECT step, value FROM metrics ORDER BY step, value")
    assert str(rows) == "[(-1, inf), (3, nan), (5, -inf), (5, 1.0)]"
    assert trail.sql("SELECT step, value, points FROM latest_metrics") == [(5, 1.0, 4)]


def test_extremes_are_those_of_all_finite_values(trail: Trail) -> None:
    run = RunWriter(RUN)
    t = 1_700_000_000_000
    extremes = "SELECT key, min_value, max_value FROM latest_metrics ORDER BY key"
    trail.append(run.points(("m", 5, t, math.nan), ("n", 1, t, math.inf)))
    assert trail.sql(extremes) == [("m", None, None), ("n", None, None)]
    trail.append(run.points(("m", 6, t, -0.0), ("n", 2, t, -math.inf), ("n", 3, t, math.nan)))
    assert str(trail.sql(extremes)) == "[('m', 0.0, 0.0), ('n', None, None)]"
    trail.append(run.points(("m", 7, t, 0.5)), run.points(("m", 1, t, -4.0), ("m", 8, t, math.inf)))
    assert trail.sql(extremes) == [("m", -4.0, 0.5), ("n", None, None)]


def test_a_run_that_logs_after_its_end_loses_nothing(trail: Trail) -> None:
    run = RunWriter(RUN)
    trail.append(run.started(), run.ended(), run.metric("late", 1, 1.0))
    assert trail.sql("SELECT status, events_after_end, points_stored FROM runs") == [
        ("FINISHED", 1, 1)
    ]


def test_a_deleted_run_keeps_what_it_logs(trail: Trail) -> None:
    run = RunWriter(RUN)
    trail.append(run.started(), run.of_run("RunDeleted"), run.metric("m", 1, 1.0))
    assert trail.sql("SELECT deleted, status, points_stored FROM runs") == [(True, "RUNNING", 1)]
    trail.append(run.of_run("RunRestored"))
    assert trail.sql("SELECT deleted FROM runs") == [(False,)]


def test_events_of_a_run_whose_start_was_lost(trail: Trail) -> None:
    run = RunWriter(RUN)
    run.started()
    trail.append(run.metric("m", 1, 1.0))
    assert trail.sql("SELECT status, complete, events_missing, points_stored FROM runs") == [
        ("RUNNING", False, 1, 1)
    ]


def test_text_with_emoji_and_nul(trail: Trail) -> None:
    text = "nul\0 🚀 ü"
    run = RunWriter(RUN)
    trail.append(run.started(name=text, params={text: text}, tags={text: text}))
    trail.append(run.metric(text, 1, 1.0))
    assert trail.sql("SELECT name FROM runs") == [(text,)]
    assert trail.sql("FROM params") == trail.sql("FROM tags") == [(RUN, text, text)]
    assert trail.sql("SELECT value FROM metrics WHERE key = ?", text) == [(1.0,)]


@pytest.mark.parametrize("length", [0, 251, 2000])
def test_a_key_of_the_wrong_length_is_a_dead_letter(trail: Trail, length: int) -> None:
    key = "k" * length
    run = RunWriter(RUN)
    trail.append(
        run.started(),
        run.metric(key, 1, 1.0),
        run.of_run("ParamsLogged", params={key: "1", "other": "1"}),
        run.of_run("TagsChanged", tags={key: "1"}),
    )
    assert trail.sql("SELECT event_type FROM dead_letters ORDER BY ALL") == [
        ("MetricsLogged",), ("ParamsLogged",), ("TagsChanged",),
    ]  # fmt: skip
    assert all("250 characters" in e for (e,) in trail.sql("SELECT error FROM dead_letters"))
    assert trail.sql("FROM params") == []
    assert trail.sql("SELECT points_stored FROM runs") == [(0,)]


def test_a_key_of_250_characters_is_fine(trail: Trail) -> None:
    key = "k" * 250
    run = RunWriter(RUN)
    trail.append(run.started(params={key: "1"}, tags={key: "1"}), run.metric(key, 1, 1.0))
    assert trail.sql("FROM dead_letters") == []
    assert trail.sql("SELECT count(*) FROM metrics WHERE key = ?", key) == [(1,)]


def test_what_cannot_be_decoded_is_kept_as_it_came(trail: Trail) -> None:
    run = RunWriter(RUN)
    good = run.started().payload
    unknown = MARKER + b"\1\2\3\4\5\6\7\x08" + b"body"
    bad = [b"", b"not avro", unknown, good[:-3], good + b"x", b"\xc3\x01" + b"x" * EVENT_BYTES_MAX]
    accepted = bad[:-1]  # no log takes the last
    trail.append(*(NewEvent("runs", RUN, payload) for payload in accepted))
    rows = trail.sql("SELECT error, payload_hex FROM dead_letters ORDER BY log_offset")
    assert [bytes.fromhex(payload) for _, payload in rows] == accepted
    assert "fingerprint 0102030405060708" in rows[2][0]
    assert trail.fold.status().dead_letters == len(accepted)
    assert trail.sql("FROM runs") == []


def test_an_event_in_the_wrong_stream_is_a_dead_letter(trail: Trail) -> None:
    request = Writer("server").event("CreateRegisteredModel", model="m", description=None)
    trail.append(NewEvent("runs", "m", request.payload))
    trail.append(NewEvent("registry", RUN, RunWriter(RUN).started().payload))
    errors = [e for (e,) in trail.sql("SELECT error FROM dead_letters")]
    assert all("does not belong into stream" in e for e in errors)
    assert len(errors) == 2
    assert trail.sql("FROM models") == trail.sql("FROM runs") == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"values": b"1234567"}, "columns differ"),
        ({"steps": b""}, "columns differ"),
        ({"series_index": b"\x05\x00"}, "names a series"),
    ],
)
def test_damaged_points_are_a_dead_letter(
    trail: Trail, change: dict[str, bytes], problem: str
) -> None:
    run = RunWriter(RUN)
    columns = {
        "series_index": b"\0\0", "steps": b"\0" * 8, "timestamps_ms": b"\0" * 8, "values": b"\0" * 8
    } | change  # fmt: skip
    trail.append(run.of_run("MetricsLogged", series=[{"key": "m"}], **columns))
    assert problem in trail.sql("SELECT error FROM dead_letters")[0][0]
    assert trail.sql("FROM runs") == []


def test_a_second_start_is_a_dead_letter(trail: Trail) -> None:
    trail.append(RunWriter(RUN, "a").started(name="one"), RunWriter(RUN, "b").started(name="two"))
    assert trail.sql("SELECT name FROM runs") == [("one",)]
    assert "started before" in trail.sql("SELECT error FROM dead_letters")[0][0]


def test_absurd_clocks_break_no_query(trail: Trail) -> None:
    run = RunWriter(RUN)
    trail.append(run.started(started_at_ms=2**62), run.points(("m", 1, -(2**63), 1.0)))
    trail.append(run.ended(ended_at_ms=-5))
    assert trail.sql("SELECT start_time, end_time IS NULL FROM runs") == [(None, False)]
    assert trail.sql('SELECT "timestamp", value FROM metrics') == [(None, 1.0)]


def test_the_extremes_of_steps(trail: Trail) -> None:
    run = RunWriter(RUN)
    trail.append(run.points(("m", -(2**63), 0, 1.0), ("m", 2**63 - 1, 0, 2.0)))
    assert trail.sql("SELECT step FROM latest_metrics") == [(2**63 - 1,)]


def test_a_bug_in_the_fold_makes_one_dead_letter_and_loses_nothing(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunWriter(RUN)
    real = RegistryProjection.apply

    def apply(self: RegistryProjection, incoming: Any, *rest: Any) -> None:
        if incoming.event.get("name") == "boom":
            raise ZeroDivisionError("a bug")
        real(self, incoming, *rest)

    monkeypatch.setattr(RegistryProjection, "apply", apply)
    server = Writer("server")
    events = [run.started(), run.metric("m", 1, 1.0)] + [
        server.event("CreateExperiment", name=name, artifact_location=None)
        for name in ("one", "boom", "two")
    ]
    trail.log.append(events)
    with pytest.raises(ZeroDivisionError):
        trail.fold.catch_up()
    assert trail.sql("FROM runs") == []
    trail.fold.catch_up()
    assert trail.sql("SELECT error FROM dead_letters") == [("ZeroDivisionError: a bug",)]
    assert trail.sql("SELECT points_stored FROM runs") == [(1,)]
    assert {n for (n,) in trail.sql("SELECT name FROM experiments")} >= {"one", "two"}


# Experiments by name: the two streams meet when a query runs.


def create(server: Writer, name: str) -> NewEvent:
    return server.event("CreateExperiment", name=name, artifact_location=None)


def test_a_run_may_come_before_its_experiment(trail: Trail) -> None:
    trail.append(RunWriter(RUN).started(experiment_name="later"))
    assert trail.sql("SELECT experiment_id, experiment_name FROM runs") == [
        (experiment_id("later"), "later")
    ]
    trail.append(create(Writer("server"), "later"))
    assert trail.sql("SELECT experiment_id FROM runs") == [(experiment_id("later"),)]


def test_a_renamed_experiment_keeps_its_runs_and_frees_its_name(trail: Trail) -> None:
    server = Writer("server")
    first = experiment_id("a")
    trail.append(create(server, "a"))
    trail.append(RunWriter("1" * 32).started(experiment_name="a"))
    trail.append(server.event("RenameExperiment", experiment_id=first, name="b"))
    trail.append(RunWriter("2" * 32).started(experiment_name="a"))  # nobody holds the name now
    trail.append(create(server, "a"))
    trail.append(RunWriter("3" * 32).started(experiment_name="a"))
    second = experiment_id("a", 2)
    assert trail.sql("SELECT run_id[1], experiment_id, experiment_name FROM runs ORDER BY 1") == [
        ("1", first, "b"),
        ("2", second, "a"),
        ("3", second, "a"),
    ]


def test_codec_and_envelope_defaults() -> None:
    header = envelope(producer_id=b"\0" * 16, sequence=0, actor="a", client="c")
    assert encode("RunDeleted", {"envelope": header, "run_id": RUN})[:2] == MARKER
