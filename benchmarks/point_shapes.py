"""What metric points cost to code in each of the shapes that they could travel in.

``python benchmarks/point_shapes.py [--points 1000]``: nanoseconds a point, medians of several
rounds, and the bytes that a point takes. The shape that was chosen is "packed columns".
"""

from __future__ import annotations

import argparse
import statistics
import time
from array import array
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro

from modeltrail.schemas import pack, unpack

ROUNDS = 7


def _record(*fields: tuple[str, Any]) -> Any:
    schema = {
        "type": "record",
        "name": "Points",
        "fields": [{"name": name, "type": type} for name, type in fields],
    }
    return fastavro.parse_schema(schema, _write_hint=False)


ONE = _record(("key", "string"), ("step", "long"), ("timestamp_ms", "long"), ("value", "double"))
ARRAYS = _record(
    ("series", {"type": "array", "items": "string"}),
    ("series_index", {"type": "array", "items": "int"}),
    ("steps", {"type": "array", "items": "long"}),
    ("timestamps_ms", {"type": "array", "items": "long"}),
    ("values", {"type": "array", "items": "double"}),
)
PACKED = _record(
    ("series", {"type": "array", "items": "string"}),
    ("series_index", "bytes"),
    ("steps", "bytes"),
    ("timestamps_ms", "bytes"),
    ("values", "bytes"),
)


def _write(schema: Any, value: Any) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, schema, value)
    return out.getvalue()


def _read(schema: Any, data: bytes) -> Any:
    return fastavro.schemaless_reader(BytesIO(data), schema, None)


def _median_ns(work: Callable[[], object], points: int) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        work()
        times.append((time.perf_counter_ns() - began) / points)
    return statistics.median(times)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="What metric points cost to code in each shape.")
    parser.add_argument("--points", type=int, default=1_000, help="points an event")
    n = parser.parse_args().points

    keys = ["loss", "accuracy"]
    index = [i % 2 for i in range(n)]
    steps = [i // 2 for i in range(n)]
    times = [1_800_000_000_000 + i for i in range(n)]
    values = [1.0 / (i + 1) for i in range(n)]
    ones = [
        {"key": keys[i], "step": s, "timestamp_ms": t, "value": v}
        for i, s, t, v in zip(index, steps, times, values, strict=True)
    ]
    arrays = {"series_index": index, "steps": steps, "timestamps_ms": times, "values": values}
    arrays = {"series": keys, **arrays}

    coded_ones = [_write(ONE, one) for one in ones]
    coded_arrays = _write(ARRAYS, arrays)
    coded_packed = _write(PACKED, {"series": keys, **pack(index, steps, times, values)})
    columns: list[array[Any]] = [
        array("H", index),
        array("q", steps),
        array("q", times),
        array("d", values),
    ]
    # Every message of its own carries the header, an envelope and the run's id as well.
    rows: list[tuple[str, Callable[[], object], Callable[[], object], int]] = [
        (
            "one message each",
            lambda: [_write(ONE, one) for one in ones],
            lambda: [_read(ONE, data) for data in coded_ones],
            sum(map(len, coded_ones)),
        ),
        (
            "parallel arrays",
            lambda: _write(ARRAYS, arrays),
            lambda: _read(ARRAYS, coded_arrays),
            len(coded_arrays),
        ),
        (
            "packed columns",
            lambda: _write(PACKED, {"series": keys, **pack(index, steps, times, values)}),
            lambda: unpack(_read(PACKED, coded_packed)),
            len(coded_packed),
        ),
        (
            "... out of arrays",
            lambda: _write(PACKED, {"series": keys, **pack(*columns)}),
            lambda: unpack(_read(PACKED, coded_packed)),
            len(coded_packed),
        ),
    ]
    print(f"{n:,} points an event, median of {ROUNDS} rounds")
    print(f"{'shape':20}{'encode':>12}{'decode':>12}{'size':>12}")
    for name, encode, decode, size in rows:
        print(
            f"{name:20}{_median_ns(encode, n):>9.1f} ns{_median_ns(decode, n):>9.1f} ns"
            f"{size / n:>10.1f} B"
        )


if __name__ == "__main__":
    main()
