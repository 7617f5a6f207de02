"""Metric points, also as any Avro reader in any language sees them."""

import json
import math
import struct
from io import BytesIO
from typing import Any

import avro.io
import avro.schema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltrail.schemas import Codec, Malformed, encode, envelope, pack, unpack, writer_schemas
from modeltrail.schemas.points import POINTS_PER_EVENT_MAX

LONG = st.integers(-(2**63), 2**63 - 1)
POINT = st.tuples(st.integers(0, 2), LONG, LONG, st.floats())
SERIES = [{"key": "loss"}, {"key": "acc 🚀", "dataset_name": "digits"}, {"key": ""}]


def metrics_logged(points: list[tuple[int, int, int, float]]) -> dict[str, Any]:
    columns = zip(*points, strict=True) if points else ([], [], [], [])
    return {
        "envelope": envelope(producer_id=b"p" * 16, sequence=0, actor="ada", client="test"),
        "run_id": "r",
        "series": SERIES,
        **pack(*columns),
    }


def same(a: float, b: float) -> bool:
    return struct.pack("<d", a) == struct.pack("<d", b) or (math.isnan(a) and math.isnan(b))


@settings(deadline=None)
@given(st.lists(POINT, max_size=50))
def test_a_reader_of_another_making_reads_the_points(
    points: list[tuple[int, int, int, float]],
) -> None:
    payload = encode("MetricsLogged", metrics_logged(points))

    # From here on nothing of Modeltrail or fastavro: the avro package, struct, and the schema's
    # text as the log keeps it.
    marker, fingerprint, body = payload[:2], payload[2:10], payload[10:]
    assert marker == b"\xc3\x01"
    schema = avro.schema.parse(dict(writer_schemas())[fingerprint])
    event: Any = avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(BytesIO(body)))
    n = len(event["values"]) // 8
    read = zip(
        struct.unpack(f"<{n}H", event["series_index"]),
        struct.unpack(f"<{n}q", event["steps"]),
        struct.unpack(f"<{n}q", event["timestamps_ms"]),
        struct.unpack(f"<{n}d", event["values"]),
        strict=True,
    )
    for (i, step, time, value), wrote in zip(read, points, strict=True):
        assert (i, step, time) == wrote[:3]
        assert same(value, wrote[3])
    assert [s["key"] for s in event["series"]] == ["loss", "acc 🚀", ""]


@settings(deadline=None)
@given(st.lists(POINT, max_size=50))
def test_packed_points_are_unpacked(points: list[tuple[int, int, int, float]]) -> None:
    event = Codec().decode(encode("MetricsLogged", metrics_logged(points))).event
    columns = unpack(event)
    assert list(zip(*columns[:3], strict=True)) == [p[:3] for p in points]
    assert all(same(a, p[3]) for a, p in zip(columns.values, points, strict=True))


@pytest.mark.parametrize("column", ["series_index", "steps", "timestamps_ms", "values"])
@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + bytes(8), lambda b: b""])
def test_columns_of_different_length_are_malformed(column: str, change: Any) -> None:
    event = metrics_logged([(0, 0, 0, 0.5), (1, 1, 1, 1.5)])
    event[column] = change(event[column])
    with pytest.raises(Malformed, match="differ in length"):
        unpack(event)


def test_a_point_of_no_series_is_malformed() -> None:
    with pytest.raises(Malformed, match="names a series"):
        unpack(metrics_logged([(3, 0, 0, 0.5)]))


def test_an_event_has_a_limit_of_points() -> None:
    n = POINTS_PER_EVENT_MAX
    assert len(unpack(metrics_logged([(0, 0, 0, 0.5)] * n)).values) == n
    with pytest.raises(Malformed, match="65,536 are allowed"):
        pack([0] * (n + 1), [0] * (n + 1), [0] * (n + 1), [0.0] * (n + 1))


def test_columns_are_checked_when_they_are_packed() -> None:
    with pytest.raises(Malformed, match="differ in length"):
        pack([0], [0, 1], [0], [0.0])
    for bad in ([2**16], [-1]):
        with pytest.raises(OverflowError):
            pack(bad, [0], [0], [0.0])
    with pytest.raises(OverflowError):
        pack([0], [2**63], [0], [0.0])


def test_the_layout_is_in_the_schema_itself() -> None:
    text = next(t for t in writer_schemas().values() if '.MetricsLogged"' in t)
    fields = {f["name"]: f["doc"] for f in json.loads(text)["fields"]}
    for column in ("series_index", "steps", "timestamps_ms", "values"):
        assert "little-endian" in fields[column]
