"""Event schemas: one Avro schema for each event type, the codec and the compatibility rule.

This package imports no other part of Modeltrail. An event is a plain ``dict`` in the shape of its
schema. Its type is the name of the record, which is unique across both streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeltrail.schemas.codec import (
        MARKER,
        Codec,
        Decoded,
        Malformed,
        SchemaError,
        UnknownSchema,
        encode,
        event_stream,
        event_types,
        fingerprint,
        parse_writer_schema,
        released_versions,
        writer_schemas,
    )
    from modeltrail.schemas.identity import (
        envelope,
        experiment_id,
        new_event_id,
        parse_uuid,
        uuid_from_cause,
    )
    from modeltrail.schemas.limits import EVENT_BYTES_MAX
    from modeltrail.schemas.points import Points, pack, unpack

__all__ = [
    "EVENT_BYTES_MAX",
    "MARKER",
    "Codec",
    "Decoded",
    "Malformed",
    "Points",
    "SchemaError",
    "UnknownSchema",
    "encode",
    "envelope",
    "event_stream",
    "event_types",
    "experiment_id",
    "fingerprint",
    "new_event_id",
    "pack",
    "parse_uuid",
    "parse_writer_schema",
    "released_versions",
    "unpack",
    "uuid_from_cause",
    "writer_schemas",
]

_HOME = {
    "EVENT_BYTES_MAX": "limits",
    **dict.fromkeys(
        ("envelope", "experiment_id", "new_event_id", "parse_uuid", "uuid_from_cause"), "identity"
    ),
    **dict.fromkeys(("Points", "pack", "unpack"), "points"),
}


def __getattr__(name: str) -> object:
    # Loaded when first used: Avro takes long to import, and a training job needs the limits first.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOME.get(name, 'codec')}"), name)
    globals()[name] = value
    return value
