"""What the fold promises, whatever the order, batches, repeats and restarts: one state."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltrail.consumers import Fold
from modeltrail.eventlog import LogRecord, NewEvent, Partition
from modeltrail.eventlog.memory import MemoryLog
from modeltrail.schemas import Codec
from writers import JUMPS, RunWriter, Writer, stolen

pytestmark = pytest.mark.timeout(600)  # dozens of examples, each with several folds

VIEWS = (
    "runs", "params", "param_conflicts", "tags", "metrics", "latest_metrics", "datasets",
    "artifacts", "packages", "registrations", "dead_letters", "positions", "experiments",
    "logged_models", "logged_model_params", "logged_model_tags", "logged_model_artifacts",
    "model_inputs", "model_outputs",
)  # fmt: skip
VIEWS_WITHOUT_PLACES = tuple(v for v in VIEWS if v != "positions")
# Where an event is, and when it came there, depends on what else was appended meanwhile.
PLACES = {"position", "appended_at", "last_seen", "requested_at", "logged_at", "log_offset",
          "partition", "last_appended_at", "next_offset", "created_at", "updated_at"}  # fmt: skip

Tables = dict[str, list[tuple[Any, ...]]]

keys = st.sampled_from(["loss", "acc", "ключ 🚀", "nul\0"])
steps = st.integers(-2, 6)
times = st.integers(0, 3).map(lambda n: 1_700_000_000_000 + n)
values = st.sampled_from([0.0, 1.5, -1.0, math.nan, math.inf, -math.inf])
point = st.tuples(keys, steps, times, values)
texts = st.sampled_from(["", "1", "2", "ü 🚀 \0"])

actions: st.SearchStrategy[Callable[[RunWriter], NewEvent]] = st.one_of(
    st.lists(point, min_size=1, max_size=8).map(lambda ps: lambda w: w.points(*ps)),
    st.dictionaries(keys, texts, max_size=3).map(
        lambda d: lambda w: w.of_run("ParamsLogged", params=d)
    ),
    st.dictionaries(keys, st.none() | texts, max_size=3).map(
        lambda d: lambda w: w.of_run("TagsChanged", tags=d)
    ),
    st.sampled_from(["FINISHED", "FAILED", "nonsense"]).map(lambda s: lambda w: w.ended(s)),
    st.sampled_from(["RUNNING", None]).map(
        lambda s: lambda w: w.of_run("RunUpdated", name="renamed", status=s, ended_at_ms=None)
    ),
    st.sampled_from(["RunDeleted", "RunRestored"]).map(lambda t: lambda w: w.of_run(t)),
    st.integers(0, 3).map(
        lambda n: lambda w: w.of_run("Heartbeat", points_logged=n, points_dropped=n // 2)
    ),
    st.integers(0, 4).map(
        lambda n: lambda w: w.of_run(
            "RunHeartStopped", last_seen_offset=n, last_seen_at_ms=5, timeout_ms=1000
        )
    ),
    st.sampled_from(["a.txt", "b/c.bin", "../up"]).map(
        lambda p: lambda w: w.of_run(
            "ArtifactLogged", path=p, size_bytes=len(p), sha256="0" * 64, location="x"
        )
    ),
    st.just(lambda w: w.of_run("ArtifactDeleted", path="a.txt")),
    st.lists(st.tuples(st.sampled_from(["d1", "d2"]), texts), max_size=3).map(
        lambda found: lambda w: w.of_run(
            "DatasetsLogged",
            datasets=[
                {"name": "set", "digest": digest, "source_type": "local", "source": source,
                 "schema": None, "profile": None, "tags": {"context": "train"}}
                for digest, source in found
            ],
        )
    ),
    st.just(lambda w: w.started()),
    st.just(
        lambda w: w.of_run(
            "ModelRegistrationRequested", model="m", source="model", description=None
        )
    ),
    st.sampled_from([0, 1]).map(
        lambda n: lambda w: w.of_run(
            "RunModelsLogged", inputs=["m-0"], outputs=[{"model_id": f"m-{n}", "step": n}]
        )
    ),
)  # fmt: skip


def of_model(writer: Writer, type: str, model_id: str, **body: Any) -> NewEvent:
    return writer.event(type, key=model_id, model_id=model_id, **body)


model_actions: st.SearchStrategy[Callable[[Writer, str], NewEvent]] = st.one_of(
    st.dictionaries(keys, texts, max_size=2).map(
        lambda d: lambda w, m: of_model(
            w, "LoggedModelCreated", m, experiment_id="0", name="n", artifact_location="x", params=d
        )
    ),
    st.tuples(
        st.sampled_from([None, "READY", "FAILED", "nonsense"]),
        st.dictionaries(keys, texts, max_size=2),
        st.dictionaries(keys, st.none() | texts, max_size=2),
    ).map(
        lambda t: lambda w, m: of_model(
            w, "LoggedModelUpdated", m, status=t[0], params=t[1], tags=t[2]
        )
    ),
    st.just(lambda w, m: of_model(w, "LoggedModelDeleted", m)),
    st.sampled_from(["a.txt", "../up"]).map(
        lambda p: lambda w, m: of_model(
            w, "LoggedModelArtifactLogged", m, path=p, size_bytes=1, sha256="0", location="x"
        )
    ),
    st.just(lambda w, m: of_model(w, "LoggedModelArtifactDeleted", m, path="a.txt")),
)  # fmt: skip


@st.composite
def runs(draw: st.DrawFn) -> list[list[NewEvent]]:
    """The events of some runs and logged models, of each in their order."""
    out = []
    for n in range(draw(st.integers(1, 3))):
        writer = RunWriter(f"{n:032x}")
        first = [writer.started(params={"lr": "0.1"})] if draw(st.booleans()) else []
        out.append(first + [action(writer) for action in draw(st.lists(actions, max_size=10))])
    for n in range(draw(st.integers(0, 2))):
        model, model_id = Writer(f"model {n}"), f"m-{n}"
        wanted = draw(st.lists(model_actions, max_size=6))
        out.append([action(model, model_id) for action in wanted])
    return out


def with_repeats(draw: st.DrawFn, events: list[NewEvent]) -> list[NewEvent]:
    """As an outbox delivers: after a doubt, some of the last events come once more, in order."""
    out: list[NewEvent] = []
    for n, event in enumerate(events):
        out.append(event)
        if draw(st.integers(0, 4)) == 0:
            out += events[draw(st.integers(0, n)) : n + 1]
    return out


def interleave(draw: st.DrawFn, queues: list[list[NewEvent]]) -> list[NewEvent]:
    queues = [list(q) for q in queues if q]
    out = []
    while queues:
        queue = draw(st.sampled_from(queues))
        out.append(queue.pop(0))
        queues = [q for q in queues if q]
    return out


def a_log(events: list[NewEvent], partitions: int = 1) -> MemoryLog:
    ticks = count(1_800_000_000_000)
    log = MemoryLog(partitions, clock_ms=lambda: next(ticks))
    for event in events:
        log.append([event])
    return log


def dump(fold: Fold, *, places: bool = True) -> Tables:
    cursor = fold.cursor()
    try:
        out: Tables = {}
        for view in VIEWS if places else VIEWS_WITHOUT_PLACES:
            names = [row[0] for row in cursor.execute(f"DESCRIBE {view}").fetchall()]
            wanted = [n for n in names if places or n not in PLACES]
            columns = ", ".join(f'"{n}"' for n in wanted) or "1"
            rows = cursor.execute(f"SELECT {columns} FROM {view}").fetchall()
            out[view] = sorted(rows, key=repr)
        return out
    finally:
        cursor.close()


def same(left: Tables, right: Tables) -> None:
    # By repr, so that NaN equals NaN.
    for view in left:
        assert list(map(repr, left[view])) == list(map(repr, right[view])), view


def folded(log: MemoryLog, *, places: bool = True) -> Tables:
    fold = Fold(log, None, threads=1)
    fold.open()
    try:
        fold.catch_up()
        return dump(fold, places=places)
    finally:
        fold.stop()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_interleaving_and_any_repeats_give_one_state(data: st.DataObject) -> None:
    queues = data.draw(runs())
    # The silence of a heart is told by an offset, so it depends on what else was appended.
    quiet = [[e for e in q if not _names_an_offset(e)] for q in queues]
    plain = folded(a_log([e for q in quiet for e in q]), places=False)
    partitions = data.draw(st.integers(1, 3))
    mixed = interleave(data.draw, [with_repeats(data.draw, q) for q in quiet])  # type: ignore[arg-type]
    same(plain, folded(a_log(mixed, partitions), places=False))


EVIL = {"evil": "1"}


def hostile(draw: st.DrawFn, queue: list[NewEvent]) -> NewEvent:
    """A tag that one who knows the id of the queue's producer sets, elsewhere or as himself."""
    places = [("b" * 32, "ann"), ("b" * 32, "eve"), (queue[0].key, "eve")]
    run_id, actor = draw(st.sampled_from(places))
    thief = RunWriter(run_id, actor=actor)
    thief.producer_id = Codec().decode(queue[0].payload).event["envelope"]["producer_id"]
    sequence = draw(st.sampled_from([*range(12), *JUMPS]))
    return stolen(thief.of_run("TagsChanged", tags=EVIL), sequence)


def honest_part(tables: Tables) -> dict[str, list[str]]:
    """All but what hostile events say of themselves, and the numbers that they leave out."""
    letters = [r for r in tables["dead_letters"] if b"evil".hex() not in str(r).lower()]
    out = {"dead_letters": sorted(map(repr, letters))}
    for view in ("params", "param_conflicts", "tags", "metrics", "latest_metrics", "datasets",
                 "artifacts", "packages", "registrations", "logged_models", "logged_model_params",
                 "logged_model_tags", "logged_model_artifacts"):  # fmt: skip
        out[view] = [repr(row) for row in tables[view] if "evil" not in row]
    return out


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_hostile_events_anywhere_take_nothing_from_honest_producers(data: st.DataObject) -> None:
    draw: Any = data.draw
    honest = [q for q in ([e for e in q if not _names_an_offset(e)] for q in draw(runs())) if q]
    mixed = []
    for queue in honest:
        own = with_repeats(draw, queue)
        for _ in range(draw(st.integers(0, 4))):
            # Whoever knows the id of a producer has read it in the log.
            own.insert(draw(st.integers(1, len(own))), hostile(draw, queue))
        mixed.append(own)
    log = a_log(interleave(draw, mixed), draw(st.integers(1, 3)))
    plain = folded(a_log([e for q in honest for e in q]), places=False)
    assert honest_part(folded(log, places=False)) == honest_part(plain)
    whole = folded(log)
    records: list[LogRecord] = log.reader({}).poll(0)
    places = {Partition(r.stream, r.partition) for r in records}
    for order in permutations(sorted(places)):
        fold = Fold(log, None, threads=1)
        fold.open()
        try:
            for place in order:
                fold._fold([r for r in records if (r.stream, r.partition) == place])
            same(whole, dump(fold))
        finally:
            fold.stop()


def _names_an_offset(event: NewEvent) -> bool:
    return Codec().decode(event.payload).type == "RunHeartStopped"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_batches_and_any_restarts_give_one_state(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    queues = data.draw(runs())
    partitions = data.draw(st.integers(1, 2))
    log = a_log(interleave(data.draw, [with_repeats(data.draw, q) for q in queues]), partitions)  # type: ignore[arg-type]
    whole = folded(log)
    database = tmp_path_factory.mktemp("fold") / "projections.duckdb"
    fold = Fold(log, database, threads=1)
    fold.open()
    try:
        todo: list[LogRecord] = log.reader({}).poll(0)
        order = data.draw(st.permutations(sorted({(r.stream, r.partition) for r in todo})))
        todo.sort(key=lambda r: (order.index((r.stream, r.partition)), r.offset))
        while todo:
            size = data.draw(st.integers(1, 5))
            fold._fold(todo[:size])
            todo = todo[size:]
            if data.draw(st.integers(0, 3)) == 0:
                fold.stop()
                fold = Fold(log, database, threads=1)
                fold.open()
        same(whole, dump(fold))
    finally:
        fold.stop()


@settings(max_examples=60, deadline=None)
@given(
    batches=st.lists(st.lists(point, min_size=1, max_size=12), min_size=1, max_size=6),
    cuts=st.data(),
)
def test_points_are_a_set_and_the_latest_is_the_greatest(
    batches: list[list[tuple[str, int, int, float]]], cuts: st.DataObject
) -> None:
    writer = RunWriter("a" * 32)
    log = a_log([writer.points(*batch) for batch in batches])
    fold = Fold(log, None, threads=1)
    fold.open()
    try:
        todo = log.reader({}).poll(0)
        while todo:
            size = cuts.draw(st.integers(1, 3))
            fold._fold(todo[:size])
            todo = todo[size:]
        cursor = fold.cursor()
        stored = cursor.execute(
            "SELECT key, step, epoch_ms(timestamp), value FROM metrics"
        ).fetchall()
        latest = cursor.execute(
            "SELECT key, step, epoch_ms(timestamp), value, points FROM latest_metrics"
        ).fetchall()
        extremes = cursor.execute("SELECT key, min_value, max_value FROM latest_metrics").fetchall()
        counted = cursor.execute("SELECT points_stored FROM runs").fetchall()
        cursor.close()
    finally:
        fold.stop()
    # The oracle: a set, with NaN equal to itself and greater than every number.
    expected = {
        (key, step, time, (math.isnan(value), 0.0 if math.isnan(value) else value))
        for batch in batches
        for key, step, time, value in batch
    }
    assert sorted(map(repr, stored)) == sorted(
        repr((k, s, t, _value(v))) for k, s, t, v in expected
    )
    greatest = {}
    for key, step, time, value in sorted(expected):
        greatest[key] = (step, time, value)
    assert {row[0]: repr(row[1:4]) for row in latest} == {
        k: repr((s, t, _value(v))) for k, (s, t, v) in greatest.items()
    }
    assert sum(row[4] for row in latest) == len(expected) == counted[0][0]
    for key, *found in extremes:
        finite = [_value(v) for k, _, _, v in expected if k == key and math.isfinite(_value(v))]
        assert found == ([min(finite), max(finite)] if finite else [None, None])


def _value(ordered: tuple[bool, float]) -> float:
    return math.nan if ordered[0] else ordered[1]


def test_rebuild_equals_live(tmp_path: Path) -> None:
    log = a_log([], partitions=3)
    fold = Fold(log, tmp_path / "projections.duckdb")
    fold.start()
    try:
        for n in range(30):
            writer = RunWriter(f"{n:032x}")
            log.append([writer.started(params={"n": str(n)}, tags={"t": "x"})])
            for step in range(20):
                log.append([writer.metric("loss", step, n / (step + 1))])
            log.append([writer.ended()])
        fold.wait_for(log.end(), 30)
        live = dump(fold)
    finally:
        fold.stop()
    (tmp_path / "projections.duckdb").unlink()
    again = Fold(log, tmp_path / "projections.duckdb")
    again.start()
    try:
        again.wait_for(log.end(), 30)
        same(live, dump(again))
        assert again.positions() == {p: n for p, n in log.end().items() if n}
    finally:
        again.stop()
