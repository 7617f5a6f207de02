"""Blocks of points: a few hundred points of a series in one row, for charts.

The buckets of a chart are powers of two of steps or of milliseconds, and begin at multiples of
their width. A block lies within one bucket of steps and one of milliseconds, so it is a part of
exactly one wider bucket, and a chart of millions of points reads some thousand rows.

The points table only grows. Its new rows are summarized a chunk at a time, as soon as there are
enough for full blocks; readers use the points after the last chunk as they are. Late points become
blocks of a later chunk, so blocks of one series may overlap. How points are spread over blocks
depends on how they were batched; the buckets made of them do not.
"""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modeltrail.consumers import tables
from modeltrail.consumers.projections.batches import Batch, Ints

_BLOCK_POINTS = 512
_CHUNK_SERIES_POINTS = 2_048
_CHUNK_POINTS_MIN = 2**17
_CHUNK_POINTS_MAX = 2**20
_LEVEL_MAX = 62
_NOWHERE = np.iinfo(np.int64).min

_Indices = npt.NDArray[np.intp]
_Levels = npt.NDArray[np.uint8]


class BlocksWriter:
    """Summarizes the points that were stored."""

    def __init__(self) -> None:
        """Make it empty; ``load`` loads it."""
        self._tail: list[Batch] = []  # the points that are in no block yet
        self._first_row = 0  # the row of the first of them
        self._reached = np.full(1024, _NOWHERE)  # by series, the greatest step in a block

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Load the points that are in no block yet."""
        self._first_row = tables.scalar(con, "SELECT coalesce(max(end_row), 0) FROM fold.blocks")
        found = con.execute(
            "SELECT series, step, timestamp_ms, value FROM fold.points WHERE rowid >= ?",
            [self._first_row],
        ).fetchnumpy()
        tail = Batch(*(np.asarray(column) for column in found.values()))
        self._tail = [arrange([tail])] if len(tail.series) else []
        reached = con.execute(
            "SELECT series, max(step_max) AS step FROM fold.blocks GROUP BY series"
        ).fetchnumpy()
        self._reached = np.full(1024, _NOWHERE)
        if len(reached["series"]):
            self._grow(int(reached["series"].max()) + 1)
            self._reached[reached["series"]] = reached["step"]

    def _grow(self, size: int) -> None:
        if size > len(self._reached):
            more = np.full(2 * size - len(self._reached), _NOWHERE)
            self._reached = np.concatenate([self._reached, more])

    def add(self, con: duckdb.DuckDBPyConnection, batch: Batch) -> None:
        """Add points that were just stored, and write blocks if there are enough points."""
        self._tail.append(batch)
        points = sum(len(part.series) for part in self._tail)
        if points < _CHUNK_POINTS_MIN:
            return
        if points < _CHUNK_POINTS_MAX:
            series = max(len(part.groups()[0]) for part in self._tail)
            if points < series * _CHUNK_SERIES_POINTS:
                return
        chunk = arrange(self._tail)
        edges, step_levels, time_levels = _edges(chunk)
        columns = summarize(chunk, edges)
        series = columns["series"]
        self._grow(int(series[-1]) + 1)
        after = self._reached[series]  # the greatest step before each block
        same = np.flatnonzero(series[1:] == series[:-1]) + 1
        after[same] = columns["step_max"][same - 1]
        columns["late"] = columns["step_min"] <= after
        firsts, lasts = chunk.groups()
        touched = chunk.series[firsts]
        at = np.searchsorted(touched, series)
        columns["step_level"], columns["time_level"] = step_levels[at], time_levels[at]
        self._reached[touched] = np.maximum(self._reached[touched], chunk.steps[lasts])
        end_row = self._first_row + points
        columns["first_row"] = np.full(len(series), self._first_row)
        columns["end_row"] = np.full(len(series), end_row)
        tables.insert(con, "fold.blocks", columns)
        self._tail, self._first_row = [], end_row


def arrange(parts: list[Batch]) -> Batch:
    """Return all points, sorted by series, step, timestamp and value. They are all different."""
    points = parts[0]
    if len(parts) > 1:
        points = Batch(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("series", "steps", "times", "values")
            )
        )
    if (points.series[1:] < points.series[:-1]).any():
        ranks = points.series - points.series.min()
        if ranks.max() < 2**16:
            ranks = ranks.astype(np.uint16)  # which is sorted faster
        points = points.take(np.argsort(ranks, kind="stable"))
    where = np.flatnonzero(points.unordered())
    if len(where):
        ordered = points.take(where).ordered()
        points = points.take(np.arange(len(points.series)))  # the parts remain as they are
        points.steps[where], points.times[where] = ordered.steps, ordered.times
        points.values[where] = ordered.values
    return points


def _edges(chunk: Batch) -> tuple[_Indices, _Levels, _Levels]:
    """Return where blocks begin, and for each series the levels of its cells: steps and times."""
    firsts, lasts = chunk.groups()
    counts = lasts - firsts + 1
    same = chunk.series[1:] == chunk.series[:-1]
    step_levels = _levels(chunk.steps[firsts], chunk.steps[lasts], counts)
    least, greatest = (of.reduceat(chunk.times, firsts) for of in (np.minimum, np.maximum))
    time_levels = _levels(least, greatest, counts)
    steps = chunk.steps >> np.repeat(step_levels, counts)
    times = chunk.times >> np.repeat(time_levels, counts)
    by_step = ~same | (steps[1:] != steps[:-1])
    by_time = same & (times[1:] != times[:-1])
    # Where times go to and fro, they would cut off every point.
    cuts = np.add.reduceat(np.concatenate([[False], by_time]), firsts, dtype=np.int64)
    wild = cuts > 4 + 3 * counts // _BLOCK_POINTS
    if wild.any():
        by_time &= ~np.repeat(wild, counts)[1:]
        time_levels[wild] = _LEVEL_MAX + 1
    edges = np.concatenate([[0], np.flatnonzero(by_step | by_time) + 1])
    return edges, step_levels.astype(np.uint8), time_levels.astype(np.uint8)


def _levels(least: Ints, greatest: Ints, counts: Ints) -> Ints:
    """Return the logarithms of the widths of cells with about as many points as a block."""
    span = greatest.astype(np.float64) - least.astype(np.float64) + 1.0
    level = np.floor(np.log2(np.maximum(span / counts * _BLOCK_POINTS, 1.0)))
    return np.minimum(level, _LEVEL_MAX).astype(np.int64)


def summarize(batch: Batch, edges: _Indices) -> dict[str, Any]:
    """Summarize runs of points, which begin at the edges, as columns of ``fold.blocks``.

    Args:
        batch: Points sorted by series, step, timestamp and value.
        edges: Where the runs begin, each within one series.
    """
    lasts = np.concatenate([edges[1:], [len(batch.series)]]) - 1
    steps, times, values = batch.steps, batch.times, batch.values
    counts = lasts - edges + 1
    finite = np.isfinite(values)
    numbers = values + 0.0  # -0.0 becomes 0.0, so that no answer depends on which came first
    if finite.all():
        numbers_low = numbers_high = numbers
        nans = positive = negative = np.zeros(len(edges), np.int32)
    else:
        numbers_low, numbers_high = (
            np.where(finite, numbers, np.inf),
            np.where(finite, numbers, -np.inf),
        )
        numbers = np.where(finite, numbers, 0.0)
        nans, positive, negative = (
            np.add.reduceat(which, edges, dtype=np.int32)
            for which in (np.isnan(values), np.isposinf(values), np.isneginf(values))
        )
    none = counts == nans + positive + negative
    with np.errstate(over="ignore"):
        sums = np.add.reduceat(numbers, edges)
    return {
        "series": batch.series[edges],
        "step_min": steps[edges],
        "step_max": steps[lasts],
        "time_min": np.minimum.reduceat(times, edges),
        "time_max": np.maximum.reduceat(times, edges),
        "first_time": times[edges],
        "last_time": times[lasts],
        "n": counts.astype(np.int32),
        "nan": nans,
        "pos_inf": positive,
        "neg_inf": negative,
        "lo": pa.array(np.minimum.reduceat(numbers_low, edges), mask=none),
        "hi": pa.array(np.maximum.reduceat(numbers_high, edges), mask=none),
        "first": values[edges],
        "last": values[lasts],
        "sum": sums,
    }
