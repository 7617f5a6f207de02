"""Event schemas: one Avro schema for each event type, the codec and the compatibility rule.

Of Modeltrail, this package imports only the limits. An event is a plain ``dict`` in the shape of
its schema. Its type is the name of the record, which is unique across both streams.
"""

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
    now_ms,
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
    "now_ms",
    "pack",
    "parse_uuid",
    "parse_writer_schema",
    "released_versions",
    "unpack",
    "uuid_from_cause",
    "writer_schemas",
]
