"""Checksums that do not depend on the order of what is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from modeltrail.api.importing.entities import SeriesKey

_MASK = (1 << 64) - 1
_Hashes = npt.NDArray[np.uint64]


def text_hash(*parts: str | None) -> int:
    """Return 64 bits of a BLAKE2b of texts. None and the empty text differ."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = b"" if part is None else part.encode("utf-8", "surrogatepass")
        digest.update(b"-" if part is None else b"%d:" % len(data))
        digest.update(data)
    return int.from_bytes(digest.digest(), "little")


def entries_sum(entries: Mapping[str, str]) -> int:
    """Return the sum of the hashes of entries, modulo 2^64."""
    return sum(text_hash(key, value) for key, value in entries.items()) & _MASK


def _mix(x: _Hashes) -> _Hashes:
    """The finalizer of SplitMix64: a small change of x changes half of the bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def point_hashes(
    series: Iterable[SeriesKey],
    index: npt.NDArray[np.integer],
    steps: npt.NDArray[np.int64],
    timestamps_ms: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
) -> _Hashes:
    """Return a hash of each point: of key, model, dataset, step, time and value.

    All NaN are equal.
    """
    keys = np.array([text_hash(*key) for key in series], np.uint64)
    values = np.where(np.isnan(values), np.nan, values + 0.0)  # -0.0 equals 0.0 in MLflow's keys
    h = _mix(keys[index] + steps.view(np.uint64))
    h = _mix(h + timestamps_ms.view(np.uint64))
    return _mix(h + values.view(np.uint64))


def total(hashes: _Hashes) -> int:
    """Return the sum, modulo 2^64."""
    return int(hashes.sum(dtype=np.uint64))
