"""Columns of metric points, sorted by series."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class Batch:
    """Columns of points, sorted by series."""

    def __init__(
        self,
        series: npt.NDArray[Any],
        steps: Ints,
        times: Ints,
        values: npt.NDArray[np.float64],
    ) -> None:
        self.series, self.steps, self.times, self.values = series, steps, times, values

    def take(self, where: npt.NDArray[Any]) -> Batch:
        return Batch(self.series[where], self.steps[where], self.times[where], self.values[where])

    def join(self, other: Batch) -> Batch:
        return Batch(
            np.concatenate([self.series, other.series]),
            np.concatenate([self.steps, other.steps]),
            np.concatenate([self.times, other.times]),
            np.concatenate([self.values, other.values]),
        )

    def groups(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return the index of the first and last point of each series."""
        edges = np.flatnonzero(self.series[1:] != self.series[:-1]) + 1
        return np.concatenate([[0], edges]), np.concatenate([edges, [len(self.series)]]) - 1

    def unordered(self) -> npt.NDArray[np.bool_]:
        """Return the points of the series that do not strictly advance by step, then time."""
        tied = self.steps[1:] == self.steps[:-1]
        later = (self.steps[1:] > self.steps[:-1]) | (tied & (self.times[1:] > self.times[:-1]))
        stuck = np.flatnonzero((self.series[1:] == self.series[:-1]) & ~later)
        if not len(stuck):
            return np.zeros(len(self.series), np.bool_)
        firsts, lasts = self.groups()
        bad = np.zeros(len(firsts), np.bool_)
        bad[np.searchsorted(firsts, stuck, side="right") - 1] = True
        return np.repeat(bad, lasts - firsts + 1)

    def ordered(self) -> Batch:
        """Return it sorted by series, step, timestamp and value, each point once.

        NaN is the greatest.
        """
        sorted_ = self.take(np.lexsort((self.values, self.times, self.steps, self.series)))
        s, t, m, v = sorted_.series, sorted_.steps, sorted_.times, sorted_.values
        again = (s[1:] == s[:-1]) & (t[1:] == t[:-1]) & (m[1:] == m[:-1])
        again &= (v[1:] == v[:-1]) | (np.isnan(v[1:]) & np.isnan(v[:-1]))
        return sorted_.take(np.concatenate([[True], ~again])) if len(s) else sorted_
