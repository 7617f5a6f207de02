"""The contract: one Avro schema per event type, the codec, and the compatibility rule.

Nothing here imports any other part of Modeltrail. An event is a plain ``dict`` in the shape of
its schema; its type is the name of the record, which is unique over both streams.
"""

from modeltrail.schemas.codec import (
    EVENT_BYTES_MAX,
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
