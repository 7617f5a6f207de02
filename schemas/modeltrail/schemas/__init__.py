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
    from modeltrail.schemas.points import Points, pack, unpack

__all__ = [
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


def __getattr__(name: str) -> object:
    # Loaded when first used: Avro takes long to import, and a training job needs the limits first.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    modules = (import_module(f"{__name__}.{home}") for home in ("codec", "identity", "points"))
    globals()[name] = value = next(vars(one)[name] for one in modules if name in vars(one))
    return value
