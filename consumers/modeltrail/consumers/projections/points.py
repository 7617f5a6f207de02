"""Metric points: the many small columns of a batch become one large insert.

A point that is logged again (same series, step, timestamp and value) counts once. Looking for every
point in the table would cost more than storing it, so only those are looked for that do not come
after the latest point of their series.
"""

from __future__ import annotations

from typing import Any, Protocol

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modeltrail.consumers import tables
from modeltrail.consumers.projections.batches import Batch, Ints
from modeltrail.consumers.projections.blocks import BlocksWriter
from modeltrail.limits import KEY_CHARACTERS_MAX
from modeltrail.schemas import Malformed, points

SeriesKey = tuple[str, str | None, str | None, str | None]
"""Metric key, model id, dataset name, dataset digest."""

_GREATEST = np.iinfo(np.int64).max


class Counted(Protocol):
    """Something that counts stored points."""

    points_stored: int


class PointsWriter:
    """Collects and writes the points of a batch."""

    def __init__(self) -> None:
        """Make it without series; ``load`` loads them."""
        self._count = 0  # number of series
        self._saved = 0  # number of series in the table
        self._latest = _Latest(0)
        self._blocks = BlocksWriter()
        self._clear()

    def _clear(self) -> None:
        self._ids: list[int] = []  # series of the events, one event after the other
        self._bases: list[int] = []  # start of each event's series in _ids
        self._counts: list[int] = []  # number of points of each event
        self._columns: tuple[list[bytes], ...] = ([], [], [], [])
        self._new: list[tuple[int, int, SeriesKey]] = []
        self._owners: dict[int, Counted] = {}  # series to the counter of its run

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Load the latest point of every series."""
        found = con.execute(
            "SELECT series, step, timestamp_ms, value, points,"
            " coalesce(min_value, 'inf') AS min_value, coalesce(max_value, '-inf') AS max_value,"
            " min_step, min_time_ms, max_time_ms FROM fold.series"
        ).fetchnumpy()
        self._count = self._saved = int(found["series"].max()) + 1 if len(found["series"]) else 0
        self._latest = _Latest(self._count)
        self._latest.put(found)
        self._blocks.load(con)
        self._clear()

    def add(
        self, run: int, owner: Counted, known: dict[SeriesKey, int], event: dict[str, Any]
    ) -> None:
        """Add the points of a ``MetricsLogged`` of a run whose series are ``known``.

        Raises:
            Malformed: the columns differ in length, or an index refers to no series.
        """
        n = points.count(event)
        if not n:
            return
        keys = [
            (s["key"], s["model_id"], s["dataset_name"], s["dataset_digest"])
            for s in event["series"]
        ]
        index = event["series_index"]
        highest = index[0] + 256 * index[1] if n == 1 else np.frombuffer(index, "<u2").max()
        if highest >= len(keys):
            raise Malformed("MetricsLogged: a point names a series that the event does not have")
        new = [key for key in keys if key not in known]
        for key in new:
            if not 0 < len(key[0]) <= KEY_CHARACTERS_MAX:
                raise Malformed(
                    f"a metric key has 1 to {KEY_CHARACTERS_MAX} characters, not {len(key[0])}"
                )
        for key in dict.fromkeys(new):
            known[key] = self._count
            self._new.append((self._count, run, key))
            self._count += 1
        ids = [known[key] for key in keys]
        self._bases.append(len(self._ids))
        self._counts.append(n)
        self._ids += ids
        self._owners.update(dict.fromkeys(ids, owner))
        for column, name in zip(self._columns, points.Points._fields, strict=True):
            column.append(event[name])

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Write points and series, and count the points of the runs."""
        if not self._counts:
            return
        self._latest.grow(self._count)
        ids = np.array(self._ids, np.int32)
        index, steps, times = (
            np.frombuffer(b"".join(column), kind)
            for column, kind in zip(self._columns, ("<u2", "<i8", "<i8"), strict=False)
        )
        values = np.frombuffer(b"".join(self._columns[3]), "<f8")
        # np.unique makes the numbers small, so that the sort below is a radix sort.
        distinct, ranks = np.unique(ids, return_inverse=True)
        if len(distinct) <= 65_536:
            ranks = ranks.astype(np.uint16)
        rank = ranks[np.repeat(self._bases, self._counts) + index]
        order = np.argsort(rank, kind="stable")
        batch = Batch(distinct[rank[order]], steps[order], times[order], values[order])
        batch = self._without_repeats(con, batch)
        if len(batch.series):
            tables.insert(
                con,
                "fold.points",
                {
                    "series": batch.series,
                    "step": batch.steps,
                    "timestamp_ms": batch.times,
                    "value": batch.values,
                },
            )
            firsts, lasts = batch.groups()
            stored = lasts - firsts + 1
            self._latest.advance(batch, lasts, stored)
            self._latest.widen(batch, firsts)
            touched = batch.series[firsts]
            for series, count in zip(touched.tolist(), stored.tolist(), strict=True):
                self._owners[series].points_stored += count
            self._write_series(con, touched)
            self._blocks.add(con, batch)
        self._clear()

    def _without_repeats(self, con: duckdb.DuckDBPyConnection, batch: Batch) -> Batch:
        """Return the batch without points that exist already, in order within each series."""
        late = _late(batch, self._latest)
        if not late.any():
            return batch
        suspects = batch.take(late).ordered()
        firsts, lasts = suspects.groups()
        stored = self._latest.before_or_at(suspects, firsts)
        if stored.any():
            # Some of these may be in the table.
            sizes = lasts - firsts + 1
            where = np.repeat(stored, sizes)
            suspects = suspects.take(~where).join(_missing(con, suspects.take(where)))
        return batch.take(~late).join(suspects).ordered()

    def _write_series(self, con: duckdb.DuckDBPyConnection, touched: npt.NDArray[Any]) -> None:
        latest = self._latest
        old = touched[touched < self._saved]
        if len(old):
            columns = {"series": old, **latest.columns(old)}
            tables.update(con, "fold.series", ["series"], columns)
        if self._new:
            ids = np.array([series for series, _, _ in self._new])
            tables.insert(
                con,
                "fold.series",
                {
                    "series": ids,
                    "run": [run for _, run, _ in self._new],
                    "key": [key[0] for _, _, key in self._new],
                    "model_id": [key[1] for _, _, key in self._new],
                    "dataset_name": [key[2] for _, _, key in self._new],
                    "dataset_digest": [key[3] for _, _, key in self._new],
                    **latest.columns(ids),
                },
            )
        self._saved = self._count


class _Latest:
    """The latest point, the extremes and the number of points of every series, as arrays by series.

    The extremes of a series without a finite value are inf and -inf.
    """

    def __init__(self, size: int) -> None:
        size = max(1024, 2 * size)
        self.steps = np.zeros(size, np.int64)
        self.times = np.zeros(size, np.int64)
        self.values = np.zeros(size, np.float64)
        self.points = np.zeros(size, np.int64)
        self.lows = np.full(size, np.inf)
        self.highs = np.full(size, -np.inf)
        self.first_steps = np.full(size, _GREATEST)
        self.first_times = np.full(size, _GREATEST)
        self.last_times = np.full(size, -_GREATEST - 1)

    def grow(self, size: int) -> None:
        if size > len(self.steps):
            old, count = self, len(self.steps)
            bigger = _Latest(size)
            for name in vars(self):
                getattr(bigger, name)[:count] = getattr(old, name)
                setattr(self, name, getattr(bigger, name))

    def put(self, rows: dict[str, Any]) -> None:
        series = rows["series"]
        self.steps[series], self.times[series] = rows["step"], rows["timestamp_ms"]
        self.values[series], self.points[series] = rows["value"], rows["points"]
        self.lows[series], self.highs[series] = rows["min_value"], rows["max_value"]
        self.first_steps[series] = rows["min_step"]
        self.first_times[series] = rows["min_time_ms"]
        self.last_times[series] = rows["max_time_ms"]

    def before_or_at(self, batch: Batch, firsts: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Return for each series whether its first point in the batch is not after the latest."""
        series = batch.series[firsts]
        steps, times = batch.steps[firsts], batch.times[firsts]
        reached: npt.NDArray[np.bool_] = (steps < self.steps[series]) | (
            (steps == self.steps[series]) & (times <= self.times[series])
        )
        stored: npt.NDArray[np.bool_] = self.points[series] > 0
        return reached & stored

    def advance(self, batch: Batch, lasts: npt.NDArray[np.intp], stored: Ints) -> None:
        """Set the latest point of each series to the batch's last one, unless that is smaller."""
        series = batch.series[lasts]
        steps, times, values = batch.steps[lasts], batch.times[lasts], batch.values[lasts]
        old_steps, old_times = self.steps[series], self.times[series]
        greater = (steps > old_steps) | ((steps == old_steps) & (times > old_times))
        tied = (steps == old_steps) & (times == old_times)
        old_values = self.values[series]
        greater |= tied & ((values > old_values) | (np.isnan(values) & ~np.isnan(old_values)))
        greater |= self.points[series] == 0
        moved = series[greater]
        self.steps[moved], self.times[moved] = steps[greater], times[greater]
        self.values[moved] = values[greater]
        self.points[series] += stored

    def widen(self, batch: Batch, firsts: npt.NDArray[np.intp]) -> None:
        """Extend the extremes of each series by the steps, times and finite values in the batch."""
        series = batch.series[firsts]
        for kept, found, least in (
            (self.first_steps, batch.steps, np.minimum),
            (self.first_times, batch.times, np.minimum),
            (self.last_times, batch.times, np.maximum),
        ):
            kept[series] = least(kept[series], least.reduceat(found, firsts))
        finite = np.isfinite(batch.values)
        # Adding 0.0 makes -0.0 to 0.0: which of them is smaller must not depend on the batches.
        lows = highs = batch.values + 0.0
        if not finite.all():
            lows, highs = np.where(finite, lows, np.inf), np.where(finite, highs, -np.inf)
        self.lows[series] = np.minimum(self.lows[series], np.minimum.reduceat(lows, firsts))
        self.highs[series] = np.maximum(self.highs[series], np.maximum.reduceat(highs, firsts))

    def columns(self, series: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any] | pa.Array]:
        lows, highs = self.lows[series], self.highs[series]
        none = lows > highs
        return {
            "points": self.points[series],
            "step": self.steps[series],
            "timestamp_ms": self.times[series],
            "value": self.values[series],
            "min_value": pa.array(lows, mask=none),
            "max_value": pa.array(highs, mask=none),
            "min_step": self.first_steps[series],
            "min_time_ms": self.first_times[series],
            "max_time_ms": self.last_times[series],
        }


def _late(batch: Batch, latest: _Latest) -> npt.NDArray[np.bool_]:
    """Return the points of those series that do not strictly advance, in this batch or before.

    All points of such a series are returned, because any of them may be the repeat.
    """
    late = batch.unordered()
    firsts, lasts = batch.groups()
    reached = latest.before_or_at(batch, firsts)
    if reached.any():
        late |= np.repeat(reached, lasts - firsts + 1)
    return late


def _missing(con: duckdb.DuckDBPyConnection, batch: Batch) -> Batch:
    """Return the points of a batch that are not in the table."""
    found = np.array(
        tables.lookup(
            con,
            """SELECT w.at FROM wanted w SEMI JOIN fold.points p
               ON p.series = w.series AND p.step = w.step AND p.timestamp_ms = w.timestamp_ms
               AND p.value = w.value""",
            {
                "at": np.arange(len(batch.series)),
                "series": batch.series,
                "step": batch.steps,
                "timestamp_ms": batch.times,
                "value": batch.values,
            },
        ),
        np.intp,
    ).reshape(-1)
    missing = np.ones(len(batch.series), np.bool_)
    missing[found] = False
    return batch.take(missing)
