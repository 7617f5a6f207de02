"""Charts: series of metric points in buckets, whose width is a power of two.

A bucket holds the true extremes of its points, whatever its width. Buckets begin at multiples of
their width, so they do not move when points are added, and all series of a chart share them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modeltrail.consumers.projections.batches import Batch, Ints
from modeltrail.consumers.projections.blocks import arrange, summarize
from modeltrail.consumers.reading import sql

ROWS_MAX: Final = 1_000_000
"""Most buckets of a chart, over all its series."""
POINTS_MAX: Final = 4_000_000
"""Most points that are read one by one for a chart."""
_LEVEL_MAX: Final = 62
_FAR: Final = 2**62
_SOON: Final = 2**53
_TINY: Final = 2.0**-1_000
_INTEGERS: Final = np.iinfo(np.int64)
_FIRST, _LAST = "step_min, first_time, first", "step_max, last_time, last"

X = Literal["step", "time", "relative"]


class TooManyPoints(Exception):
    """The chart needs more points one by one than ``POINTS_MAX``."""


class Series(NamedTuple):
    """What to draw."""

    number: int
    """The series' number in the fold."""
    least: int
    """The least step, or time in ms, of its points."""
    greatest: int
    """The greatest step, or time in ms."""
    started_at_ms: int = 0
    """Where relative times begin."""


class Drawing(NamedTuple):
    """The buckets of series."""

    width: float
    """Width of a bucket in x: steps, milliseconds, or the unit of a metric."""
    exact: bool
    """Whether no bucket holds more than one point."""
    buckets: pa.Table
    """Sorted by series and bucket. ``bucket`` is where it begins."""


def draw(
    cursor: duckdb.DuckDBPyConnection,
    series: Sequence[Series],
    x: X,
    low: int | None,
    high: int | None,
    width: int,
) -> Drawing:
    """Return the buckets of series.

    Args:
        cursor: A cursor of the fold, in a transaction.
        series: The series; the answer names them by their place.
        x: Steps; times in ms since 1970; or ms since the start of the run, which is rounded down to
            a multiple of the bucket's width.
        low: Where to begin; None for the first point. The bucket there is whole.
        high: Where to end; None for the last point. The bucket there is whole.
        width: How many buckets are wanted at most. There are fewer if more than ``POINTS_MAX``
            points would be read one by one, or more than ``ROWS_MAX`` buckets answered.
    """
    if not series:
        return Drawing(1, True, _table(_nothing(), np.zeros(0, np.int64)))
    numbers = np.array([one.number for one in series], np.int32)
    starts = np.array([one.started_at_ms if x == "relative" else 0 for one in series], np.int64)
    starts = np.clip(starts, -_SOON, _SOON)
    column = "step" if x == "step" else "time"
    wanted = {"series": numbers, "place": np.arange(len(series), dtype=np.int32)}
    cursor.register("wanted", pa.table(wanted))
    (end_row,) = _one(cursor, sql("charts.end_row"))
    widest, late, finite = _one(cursor, sql("charts.about", x=column))
    rest = _batch(_in_row_order(_columns(cursor, sql("charts.rest", end_row=end_row))))
    places = _places(numbers)
    reach = _Reach(
        starts,
        _sane(np.array([one.least for one in series]), x),
        _sane(np.array([one.greatest for one in series]), x),
        low,
        high,
    )
    buckets = min(width, max(1, ROWS_MAX // len(series)))
    level = 0
    while level < _LEVEL_MAX and reach.buckets(level) > buckets:
        level += 1
    while True:
        begin, end = reach.whole(level)
        offsets = (starts >> level) << level
        lows = np.array([_clamped(begin + int(start)) for start in offsets], np.int64)
        highs = np.array([_clamped(end + int(start)) for start in offsets], np.int64)
        cursor.register("wanted", pa.table({**wanted, "low": lows, "high": highs}))
        if level >= widest:
            coarse = None
            break
        coarse = _columns(cursor, sql("charts.coarse", x=column, level=level))
        if coarse["points"].sum() <= POINTS_MAX or level == _LEVEL_MAX:
            break
        level += 1
    parts = [rest]
    if not late and len(rest.series):
        late = _meets(rest, _columns(cursor, sql("charts.reached")))
    if coarse is not None and len(coarse["series"]):
        parts.append(_points_of(cursor, coarse, column))
        cursor.register("coarse", pa.table(coarse))
    points = arrange(parts)
    at = places(points.series)
    xs = points.steps if x == "step" else points.times
    inside = (xs >= lows[at]) & (xs <= highs[at])
    points, cells = points.take(inside), (xs >> level)[inside]
    cursor.register("summarized", _summarized(points, at[inside], cells))
    finite = finite and bool(np.isfinite(points.values).all())
    query = sql(
        "charts.buckets",
        x=column,
        level=level,
        first=f"({_FIRST})" if late else "step_min",
        last=f"({_LAST})" if late else "step_max",
        others=sql("charts.no_others" if finite else "charts.others"),
        fine=sql("charts.not_coarse") if len(parts) > 1 else "",
    )
    found = cursor.sql(query).to_arrow_table()
    for name in ("wanted", "summarized", "coarse"):
        cursor.unregister(name)
    found = found.take(np.lexsort((found["cell"].to_numpy(), found["series"].to_numpy())))
    of = found["series"].to_numpy()
    begins = (found["cell"].to_numpy() << level) - offsets[of]
    return Drawing(1 << level, _exact(found), _table(found, begins))


def draw_against(
    cursor: duckdb.DuckDBPyConnection,
    pairs: Sequence[tuple[int, int]],
    points: int,
    low: float | None,
    high: float | None,
    width: int,
) -> Drawing:
    """Return the buckets of series with another series of the same run as x, by step.

    Args:
        cursor: A cursor of the fold, in a transaction.
        pairs: The numbers of each series and of the one that is its x.
        points: How many points all of these series have together.
        low: Where to begin.
        high: Where to end.
        width: How many buckets are wanted at most.

    Raises:
        TooManyPoints: see there.
    """
    if points > POINTS_MAX:
        raise TooManyPoints(
            f"a metric as x reads every point, and these series have {points:,}, more than "
            f"{POINTS_MAX:,}: choose fewer runs or keys"
        )
    if not pairs:
        return Drawing(1, True, _table(_nothing(), np.zeros(0)))
    numbers = np.array([series for series, _ in pairs], np.int32)
    others = np.array([other for _, other in pairs], np.int32)
    cursor.register("wanted", pa.table({"series": numbers, "other": others}))
    columns = _columns(cursor, sql("charts.against"))
    cursor.unregister("wanted")
    xs = columns.pop("x")
    inside = np.isfinite(xs)
    inside &= (xs >= (-math.inf if low is None else low)) & (
        xs <= (math.inf if high is None else high)
    )
    if not inside.any():
        return Drawing(1, True, _table(_nothing(), np.zeros(0)))
    batch, xs = _batch(columns).take(inside), xs[inside]
    least, greatest = float(xs.min()), float(xs.max())
    buckets = min(width, max(1, ROWS_MAX // len(pairs)))
    # Constant, tiny and huge values, too, have a width that is a float.
    span = max(greatest / 2 - least / 2, np.spacing(max(abs(least), abs(greatest))), _TINY)
    level = min(math.ceil(math.log2(span / buckets)) + 1, 1_023)
    cells = np.floor(xs / 2.0**level)
    order = np.lexsort((batch.values, batch.times, batch.steps, cells, batch.series))
    batch, cells = batch.take(order), cells[order]
    of = _places(numbers)(batch.series)
    found = _summarized(batch, of, cells).sort_by([("series", "ascending"), ("cell", "ascending")])
    with np.errstate(over="ignore"):  # the least bucket may begin before the least float
        begins = np.maximum(found["cell"].to_numpy() * 2.0**level, np.finfo(np.float64).min)
    return Drawing(2.0**level, _exact(found), _table(found, begins))


def _one(cursor: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    (row,) = cursor.execute(query).fetchall()
    return row


def _columns(cursor: duckdb.DuckDBPyConnection, query: str) -> dict[str, npt.NDArray[Any]]:
    table = cursor.sql(query).to_arrow_table()
    return {name: table[name].to_numpy() for name in table.column_names}


def _in_row_order(columns: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return rows in the order of the table, which threads may have mixed up.

    Within a series that is nearly always the order of steps, so there is little left to sort.
    """
    order = np.argsort(columns["row"], kind="stable")
    return {name: column[order] for name, column in columns.items()}


def _batch(columns: dict[str, npt.NDArray[Any]]) -> Batch:
    return Batch(*(columns[name] for name in ("series", "step", "timestamp_ms", "value")))


def _places(numbers: npt.NDArray[np.int32]) -> Any:
    """Return a function from numbers of series to their places."""
    order = np.argsort(numbers)
    ordered = numbers[order]
    return lambda series: order[np.searchsorted(ordered, series)]


def _sane(xs: Ints, x: X) -> Ints:
    """Return numbers from which a start can be subtracted."""
    return np.clip(xs, -_FAR, _FAR) if x == "relative" else xs


class _Reach(NamedTuple):
    """How far a chart reaches: bounds, or else the extremes of its series."""

    starts: Ints
    """Where x is 0, by series."""
    leasts: Ints
    greatests: Ints
    low: int | None
    high: int | None

    def whole(self, level: int) -> tuple[int, int]:
        """Return the first and last x of the whole buckets of a width."""
        offsets = (self.starts >> level) << level
        least = int((self.leasts - offsets).min())
        greatest = int((self.greatests - offsets).max())
        high = greatest if self.high is None else self.high
        low = min(least, high) if self.low is None else self.low
        return (low >> level) << level, ((max(low, high) >> level) << level) + (1 << level) - 1

    def buckets(self, level: int) -> int:
        """Return the number of buckets of a width."""
        begin, end = self.whole(level)
        return (end + 1 - begin) >> level


def _clamped(number: int) -> int:
    return min(max(number, _INTEGERS.min), _INTEGERS.max)


def _meets(rest: Batch, blocks: dict[str, npt.NDArray[Any]]) -> bool:
    """Return whether a point has a step that is not after all blocks of its series."""
    if not len(blocks["series"]):
        return False
    order = np.argsort(blocks["series"])
    ordered, reached = blocks["series"][order], blocks["step_max"][order]
    at = np.minimum(np.searchsorted(ordered, rest.series), len(ordered) - 1)
    return bool(((ordered[at] == rest.series) & (rest.steps <= reached[at])).any())


def _points_of(
    cursor: duckdb.DuckDBPyConnection, coarse: dict[str, npt.NDArray[Any]], column: str
) -> Batch:
    """Return the points of these series in these chunks."""
    query = sql(
        "charts.points",
        x="step" if column == "step" else "timestamp_ms",
        first_row=int(coarse["first_row"].min()),
        end_row=int(coarse["end_row"].max()),
    )
    columns = _in_row_order(_columns(cursor, query))
    # Which chunks of which series these are, as one sorted number each.
    chunks, firsts = np.unique(coarse["first_row"], return_index=True)
    ends = coarse["end_row"][firsts]
    keys = np.sort(np.searchsorted(chunks, coarse["first_row"]) + coarse["series"] * len(chunks))
    in_chunk = np.searchsorted(chunks, columns["row"], side="right") - 1
    found = in_chunk + columns["series"].astype(np.int64) * len(chunks)
    at = np.minimum(np.searchsorted(keys, found), len(keys) - 1)
    return _batch(columns).take((keys[at] == found) & (columns["row"] < ends[in_chunk]))


def _summarized(points: Batch, places: npt.NDArray[Any], cells: npt.NDArray[Any]) -> pa.Table:
    """Return the summaries of points by series, as a place, and cell."""
    if not len(points.series):
        return _nothing()
    same = points.series[1:] == points.series[:-1]
    if (same & (cells[1:] < cells[:-1])).any():
        order = np.lexsort((cells, points.series))  # stable: steps remain in order
        points, places, cells = points.take(order), places[order], cells[order]
        same = points.series[1:] == points.series[:-1]
    edges = np.concatenate([[0], np.flatnonzero(~same | (cells[1:] != cells[:-1])) + 1])
    columns = summarize(points, edges)
    return pa.table({**columns, "series": places[edges].astype(np.int32), "cell": cells[edges]})


def _nothing() -> pa.Table:
    """Return the summary of no points."""
    one = np.zeros(1, np.int64)
    point = Batch(one.astype(np.int32), one, one, one.astype(np.float64))
    return pa.table({**summarize(point, np.zeros(1, np.intp)), "cell": one}).slice(0, 0)


_SHOWN: Final = ("lo", "hi", "first", "last", "sum", "n", "nan", "pos_inf", "neg_inf")


def _table(found: Any, begins: npt.NDArray[Any]) -> pa.Table:
    return pa.table(
        {"series": found["series"], "bucket": begins, **{name: found[name] for name in _SHOWN}}
    )


def _exact(found: pa.Table) -> bool:
    return bool((found["n"].to_numpy() <= 1).all())
