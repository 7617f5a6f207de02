"""Metrics of a request as columns, read in one pass if they have the usual form."""

from __future__ import annotations

from functools import wraps
from typing import Any, NamedTuple

from modeltrail.api.errors import InvalidRequest
from modeltrail.api.mlflow import wire
from modeltrail.limits import KEY_CHARACTERS_MAX
from modeltrail.schemas import Malformed, pack

_ALWAYS = 3  # key, value, timestamp


class MetricColumns(NamedTuple):
    """Checked metrics, in the form of a ``MetricsLogged``."""

    size: int
    event: dict[str, Any]

    def __len__(self) -> int:
        return self.size


def points_or(read: wire.Reader) -> wire.Reader:
    """Return a reader that makes ``MetricColumns`` of a list, or else uses another reader.

    For a batch of a thousand this costs a tenth of reading each metric field by field. The other
    reader handles what is unusual or wrong.
    """

    @wraps(read)
    def read_points(path: str, value: Any) -> Any:
        found = _points(value)
        return read(path, value) if found is None else found

    return read_points


def _points(metrics: Any) -> MetricColumns | None:
    """Return the points, or None unless all have the usual fields and types."""
    if type(metrics) is not list or not metrics:
        return None
    try:
        fields = _ALWAYS * len(metrics) + sum("step" in metric for metric in metrics)
        if sum(map(len, metrics)) != fields:
            return None  # some have more fields
        keys = [metric["key"] for metric in metrics]
        values = [metric["value"] for metric in metrics]
        times = [metric["timestamp"] for metric in metrics]
        steps = [metric.get("step", 0) for metric in metrics]
    except (KeyError, TypeError, AttributeError):
        return None
    if (
        set(map(type, keys)) != {str}
        or not set(map(type, values)) <= {float, int}
        or set(map(type, times)) != {int}
        or set(map(type, steps)) != {int}
        or min(times) < 0
    ):
        return None
    numbers = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    try:
        for key in numbers:
            if not key or len(key) > KEY_CHARACTERS_MAX:
                return None
            wire.check_key("", key)
        columns = pack([numbers[key] for key in keys], steps, times, values)
    except (InvalidRequest, Malformed, OverflowError):
        return None
    return MetricColumns(len(keys), {"series": [{"key": key} for key in numbers], **columns})
