"""Charts: every bucket holds the true extremes, whatever the order, batches and restarts."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeltrail.consumers import Fold, charts
from modeltrail.consumers.charts import Series, X, draw, draw_against
from modeltrail.consumers.projections import blocks
from modeltrail.eventlog.memory import MemoryLog
from writers import RunWriter

Point = tuple[str, int, int, float]

RUN = "a" * 32
START = 1_700_000_000_123


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few points, so that a few points make many."""
    monkeypatch.setattr(blocks, "_BLOCK_POINTS", 4)
    monkeypatch.setattr(blocks, "_CHUNK_SERIES_POINTS", 8)
    monkeypatch.setattr(blocks, "_CHUNK_POINTS_MIN", 10)
    monkeypatch.setattr(blocks, "_CHUNK_POINTS_MAX", 40)


class Folded:
    """A fold of batches of points, and its series."""

    def __init__(self, batches: list[list[Point]], path: Path | None = None) -> None:
        self.log = MemoryLog(1)
        self.writer = RunWriter(RUN)
        self.fold = Fold(self.log, path, threads=1)
        self.fold.open()
        for batch in batches:
            self.add(batch)
        self.cursor = self.fold.cursor()
        self.cursor.execute("BEGIN TRANSACTION READ ONLY")
        self.numbers = dict(self.cursor.execute("SELECT key, series FROM fold.series").fetchall())

    def add(self, batch: list[Point]) -> None:
        self.log.append([self.writer.points(*batch)])
        self.fold.catch_up()

    def draw(self, keys: list[str], x: X, low: int | None, high: int | None, width: int) -> Any:
        ends = "min_step, step" if x == "step" else "min_time_ms, max_time_ms"
        found = self.cursor.execute(f"SELECT series, {ends} FROM fold.series").fetchall()
        by_number = {number: (least, greatest) for number, least, greatest in found}
        series = [Series(n, *by_number[n], START) for n in (self.numbers[key] for key in keys)]
        return draw(self.cursor, series, x, low, high, width)

    def close(self) -> None:
        self.cursor.close()
        self.fold.stop()


def oracle(points: list[Point], x: X, key: str, width: int) -> dict[int, dict[str, Any]]:
    """The buckets of a series, one point after the other."""
    start = START // width * width
    cells: dict[int, list[tuple[int, int, tuple[bool, float]]]] = defaultdict(list)
    for name, step, time, value in set(map(_comparable, points)):
        if name == key:
            at = {"step": step, "time": time, "relative": time - start}[x]
            cells[at // width * width].append((step, time, value))
    out = {}
    for bucket, found in cells.items():
        values = [_number(value) for *_, value in sorted(found)]
        finite = [v for v in values if math.isfinite(v)]
        out[bucket] = {
            "lo": min(finite, default=None),
            "hi": max(finite, default=None),
            "first": values[0],
            "last": values[-1],
            "n": len(values),
            "nan": sum(map(math.isnan, values)),
            "pos_inf": values.count(math.inf),
            "neg_inf": values.count(-math.inf),
            "sum": math.fsum(finite),
        }
    return out


def _comparable(point: Point) -> tuple[str, int, int, tuple[bool, float]]:
    """A point that equals itself; NaN is the greatest."""
    key, step, time, value = point
    return key, step, time, (math.isnan(value), 0.0 if math.isnan(value) else value)


def _number(value: tuple[bool, float]) -> float:
    return math.nan if value[0] else value[1]


def check(drawing: Any, keys: list[str], points: list[Point], x: X, low: Any, high: Any) -> None:
    assert math.log2(drawing.width).is_integer()
    rows: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in drawing.buckets.to_pylist():
        rows[keys[row.pop("series")]][row.pop("bucket")] = row
    for key in keys:
        expected = oracle(points, x, key, drawing.width)
        begin = -math.inf if low is None else low // drawing.width * drawing.width
        end = math.inf if high is None else high
        expected = {b: e for b, e in expected.items() if begin <= b <= end}
        assert sorted(rows[key]) == sorted(expected)
        for bucket, found in rows[key].items():
            assert found.pop("sum") == pytest.approx(expected[bucket].pop("sum"))
            assert repr(dict(sorted(found.items()))) == repr(
                dict(sorted(expected[bucket].items()))
            ), (key, bucket)
    assert drawing.exact == all(r["n"] == 1 for of in rows.values() for r in of.values())


steps = st.one_of(
    st.integers(-5, 60), st.integers(-300, 4000), st.sampled_from([-(2**63), 2**63 - 1, 2**40])
)
values = st.sampled_from([0.0, 1.5, -1.0, 7.25, 1e300, math.nan, math.inf, -math.inf])
times = st.integers(-3, 500).map(lambda n: START + n)
batch = st.lists(st.tuples(st.sampled_from("ab"), steps, times, values), min_size=1, max_size=25)
ordered = st.integers(1, 30).flatmap(
    lambda n: st.lists(values, min_size=n, max_size=n).map(
        lambda vs: [("a", 2 * i, START + 3 * i, v) for i, v in enumerate(vs)]
    )
)
bound = st.none() | st.integers(-10, 70)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    batches=st.lists(batch | ordered, min_size=1, max_size=6),
    x=st.sampled_from(["step", "time", "relative"]),
    low=bound,
    high=bound,
    width=st.integers(1, 40),
)
def test_every_bucket_holds_the_truth(
    batches: list[list[Point]], x: X, low: int | None, high: int | None, width: int
) -> None:
    if x == "time":
        low, high = (None if b is None else b + START for b in (low, high))
    if low is not None and high is not None and high < low:
        low, high = high, low
    folded = Folded(batches)
    try:
        keys = sorted(folded.numbers)
        drawing = folded.draw(keys, x, low, high, width)
        points = [point for batch in batches for point in batch]
        check(drawing, keys, points, x, low, high)
        buckets = set(drawing.buckets["bucket"].to_pylist())
        assert len(buckets) <= max(width, 8)  # 8: the widest bucket of an absurd range
    finally:
        folded.close()


@pytest.fixture(scope="module")
def long() -> list[Point]:
    return [("a", n, START + 7 * n, math.sin(n / 9)) for n in range(1_000)]


def block_count(cursor: duckdb.DuckDBPyConnection) -> int:
    (row,) = cursor.execute("SELECT count(*) FROM fold.blocks").fetchall()
    return int(row[0])


def test_a_restart_and_late_points_change_nothing_but_what_they_add(
    long: list[Point], tmp_path: Path
) -> None:
    path = tmp_path / "projections.duckdb"
    folded = Folded([long[at : at + 15] for at in range(0, 500, 15)], path)
    assert block_count(folded.cursor) > 50
    folded.close()
    log = folded.log
    folded.fold = Fold(log, path, threads=1)
    folded.fold.open()
    late: Point = ("a", 3, START + 21, 99.0)
    others: list[Point] = [("b", n, START, 0.5) for n in range(200)]
    for at in range(510, 1_000, 15):
        folded.add(long[at : at + 15])
    folded.cursor = folded.fold.cursor()
    before = folded.draw(["a"], "step", None, None, 64).buckets
    folded.add([late, *others])
    folded.cursor = folded.fold.cursor()
    folded.numbers = dict(folded.cursor.execute("SELECT key, series FROM fold.series").fetchall())
    drawing = folded.draw(["a", "b"], "step", None, None, 64)
    check(drawing, ["a", "b"], [*long, late, *others], "step", None, None)
    after = drawing.buckets.filter(drawing.buckets["series"].to_numpy() == 0)
    # Only the bucket of the late point differs.
    assert before.slice(1).equals(after.slice(1))
    assert after["hi"][0].as_py() == 99.0
    folded.close()


def test_the_lines_of_a_zoom_are_parts_of_the_same_buckets(long: list[Point]) -> None:
    folded = Folded([long[at : at + 50] for at in range(0, 1_000, 50)])
    whole = folded.draw(["a"], "step", None, None, 100)
    assert whole.width == 16
    assert not whole.exact
    part = folded.draw(["a"], "step", 200, 990, 50)
    assert part.width == 16
    rows = {row["bucket"]: row for row in whole.buckets.to_pylist()}
    assert all(repr(rows[row["bucket"]]) == repr(row) for row in part.buckets.to_pylist())
    points = folded.draw(["a"], "step", 300, 340, 64)
    assert points.exact
    assert points.width == 1
    assert points.buckets["lo"].to_pylist() == [math.sin(n / 9) for n in range(300, 341)]
    folded.close()


def test_a_chart_reads_few_points_one_by_one(
    long: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = Folded([long[at : at + 50] for at in range(0, 1_000, 50)])
    monkeypatch.setattr(charts, "POINTS_MAX", 100)
    drawing = folded.draw(["a"], "step", None, None, 1_000)
    assert drawing.width > 1
    check(drawing, ["a"], long, "step", None, None)
    monkeypatch.setattr(charts, "ROWS_MAX", 20)
    assert len(folded.draw(["a"], "step", None, None, 1_000).buckets) <= 20
    folded.close()


def test_times_that_go_to_and_fro_do_not_make_a_block_of_each_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks, "_BLOCK_POINTS", 16)
    monkeypatch.setattr(blocks, "_CHUNK_POINTS_MIN", 200)
    monkeypatch.setattr(blocks, "_CHUNK_POINTS_MAX", 400)
    points: list[Point] = [("a", n, START + 10**9 * (n % 2) + n, 1.0) for n in range(1_000)]
    folded = Folded([points[at : at + 50] for at in range(0, 1_000, 50)])
    assert block_count(folded.cursor) < 150
    for x in ("step", "time", "relative"):
        check(folded.draw(["a"], x, None, None, 50), ["a"], points, x, None, None)
    folded.close()


def test_another_metric_as_x() -> None:
    points: list[Point] = []
    for n in range(100):
        points += [("x", n, START, n / 64), ("y", n, START, float(n % 7))]
    points += [("y", 200, START, 5.0), ("x", 300, START, 1.0), ("x", 5, START, math.nan)]
    folded = Folded([points])
    pair = [(folded.numbers["y"], folded.numbers["x"])]
    drawing = draw_against(folded.cursor, pair, 205, None, None, 50)
    assert drawing.width == 1 / 32
    assert not drawing.exact
    rows = drawing.buckets.to_pylist()
    # The point whose x is NaN is in no bucket, and neither are those without an x.
    assert [row["bucket"] for row in rows] == [n / 32 for n in range(50)]
    assert sum(row["n"] for row in rows) == 99
    assert rows[1]["first"] == 2.0
    assert rows[1]["last"] == 3.0
    near = draw_against(folded.cursor, pair, 205, 0.5, 0.75, 100)
    assert near.exact
    assert near.buckets["bucket"].to_pylist()[0] == 0.5
    with pytest.raises(charts.TooManyPoints, match="choose fewer"):
        draw_against(folded.cursor, pair, charts.POINTS_MAX + 1, None, None, 50)
    folded.close()


@pytest.mark.parametrize("xs", [[0.0, 0.0], [0.5, 0.5], [5e-324, -5e-324], [-1.7e308, 1.7e308]])
def test_constant_tiny_and_huge_values_as_x(xs: list[float]) -> None:
    points: list[Point] = [("x", n, START, x) for n, x in enumerate(xs)]
    folded = Folded([[*points, ("y", 0, START, 1.0), ("y", 1, START, 2.0)]])
    pair = [(folded.numbers["y"], folded.numbers["x"])]
    for width in (1, 500):
        rows = draw_against(folded.cursor, pair, 4, None, None, width).buckets.to_pylist()
        assert sum(row["n"] for row in rows) == 2
        assert all(math.isfinite(row["bucket"]) for row in rows)
    folded.close()


def test_nothing_to_draw() -> None:
    folded = Folded([[("a", 0, START, 1.0)]])
    for drawing in (
        draw(folded.cursor, [], "step", None, None, 10),
        draw_against(folded.cursor, [], 0, None, None, 10),
        folded.draw(["a"], "step", 10, 20, 10),
    ):
        assert len(drawing.buckets) == 0
        assert drawing.exact
    folded.close()
