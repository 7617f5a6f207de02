"""Encode events, and decode events that any released version wrote.

The encoding is that of the Avro specification, section "Single-object encoding": the two bytes ``C3
01``, the CRC-64-AVRO fingerprint of the writer's schema in Parsing Canonical Form as eight
little-endian bytes, and the body in Avro's binary encoding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, cast

import fastavro
from fastavro.repository.base import AbstractSchemaRepository
from fastavro.schema import fingerprint as _avro_fingerprint
from fastavro.schema import load_schema, to_parsing_canonical_form

from modeltrail.limits import EVENT_BYTES_MAX

_HERE = Path(__file__).parent

MARKER = b"\xc3\x01"
_HEADER_BYTES = len(MARKER) + 8

_UNKNOWN_MAX = 10_000

Schema = dict[str, Any]


class SchemaError(ValueError):
    """An event cannot be encoded or decoded.

    SchemaError
    ├── Malformed       the bytes or the dict do not fit the schema; a retry will not help
    └── UnknownSchema   no schema with that fingerprint is known here; learn it, then retry
    """


class Malformed(SchemaError):
    """The bytes or the values do not fit the schema."""


class UnknownSchema(SchemaError):
    """The schema that wrote the event is not known.

    Attributes:
        fingerprint: CRC-64-AVRO fingerprint of the writer's schema, 8 bytes little-endian.
    """

    def __init__(self, fingerprint: bytes) -> None:
        self.fingerprint = fingerprint
        super().__init__(
            f"no writer schema with fingerprint {fingerprint.hex()} is known; "
            "the log's own schemas may hold it, otherwise its program never registered it"
        )


class Decoded(NamedTuple):
    """A decoded event."""

    type: str
    """Event type, such as ``MetricsLogged``."""
    event: dict[str, Any]
    """Fields of the event, in the shape of the newest released schema of its type."""


class _EventType:
    """One version of an event type. Its schema is parsed on first use."""

    def __init__(self, version: str, full_name: str) -> None:
        namespace, _, self.name = full_name.rpartition(".")
        self.stream = namespace.removeprefix("modeltrail.")
        self._version = version
        self._full_name = full_name

    @cached_property
    def schema(self) -> Schema:
        # fastavro's own repository class looks for shared types in one folder only.
        repository = _Repository(self._version)
        parsed = load_schema(self._full_name, repo=repository, _injected_schemas=set())
        return cast(Schema, parsed)

    @cached_property
    def fingerprint(self) -> bytes:
        return fingerprint(self.schema)


class _Repository(AbstractSchemaRepository):
    """Find named types in the folder of a version, or else in those of earlier versions."""

    def __init__(self, version: str) -> None:
        versions = released_versions()
        self._folders = [_HERE / v for v in reversed(versions[: versions.index(version) + 1])]

    def load(self, name: str) -> Any:
        files = [folder / f"{name}.avsc" for folder in self._folders]
        found = next((file for file in files if file.exists()), files[0])
        return json.loads(found.read_text(encoding="utf-8"))


@cache
def released_versions() -> tuple[str, ...]:
    """Return the names of the schema folders, oldest first, such as ``("v1",)``."""
    names = [p.name for p in _HERE.glob("v*") if p.is_dir() and p.name[1:].isdigit()]
    return tuple(sorted(names, key=lambda n: int(n[1:])))


@cache
def _version(version: str) -> Mapping[str, _EventType]:
    names = sorted(p.name.removesuffix(".avsc") for p in (_HERE / version).glob("*.avsc"))
    # modeltrail.Envelope is not an event, but a part that all events share.
    types = [_EventType(version, n) for n in names if n.count(".") > 1]
    return {t.name: t for t in types}


@cache
def _types() -> Mapping[str, _EventType]:
    """Return the newest version of every event type.

    A folder contains only the types that it changed.
    """
    newest: dict[str, _EventType] = {}
    for version in released_versions():
        newest.update(_version(version))
    return newest


def event_types() -> tuple[str, ...]:
    """Return the names of all event types, sorted."""
    return tuple(sorted(_types()))


def event_stream(type: str) -> str:
    """Return the stream of an event type: ``runs`` or ``registry``."""
    try:
        return _types()[type].stream
    except KeyError:
        raise Malformed(f"unknown event type {type!r}") from None


def fingerprint(schema: Any) -> bytes:
    """Return the CRC-64-AVRO fingerprint of a schema, as 8 little-endian bytes."""
    canonical = to_parsing_canonical_form(schema)
    return bytes.fromhex(_avro_fingerprint(canonical, "CRC-64-AVRO"))  # little-endian already


@cache
def writer_schemas() -> Mapping[bytes, str]:
    """Return the schemas that this program writes with: fingerprint to schema as JSON text."""
    return {t.fingerprint: _portable(t.schema) for t in _types().values()}


def _portable(schema: Any) -> str:
    """Return the schema as JSON text, without fastavro's own additions."""

    def clean(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: clean(v) for k, v in node.items() if not k.startswith("__")}
        if isinstance(node, list):
            return [clean(v) for v in node]
        return node

    return json.dumps(clean(schema), ensure_ascii=False)


def parse_writer_schema(text: str) -> tuple[bytes, Schema]:
    """Check a schema that came from a log or a request.

    Returns:
        Its fingerprint (8 bytes little-endian) and the parsed schema.

    Raises:
        Malformed: the text is not an Avro schema of one of Modeltrail's event types.
    """
    try:
        # The canonical form leaves out logical types, which would turn numbers into other objects.
        canonical = to_parsing_canonical_form(json.loads(text))
        parsed: Any = fastavro.parse_schema(json.loads(canonical), _write_hint=False)
        name = str(parsed["name"])
    except Exception as error:  # fastavro raises many kinds, which all mean the same
        raise Malformed(f"not an Avro schema: {error}") from None
    known = _types().get(name.rpartition(".")[2])
    if known is None or name != known.schema["name"]:
        raise Malformed(f"schema {name!r} is not an event type of Modeltrail")
    from modeltrail.schemas.compatibility import check

    problems = check(parsed, known.schema)
    if problems:
        raise Malformed(f"schema {name!r} cannot be read by this version: {problems[0]}")
    return fingerprint(parsed), parsed


def encode(type: str, event: Mapping[str, Any]) -> bytes:
    """Encode an event with the newest released schema of its type.

    Args:
        type: Event type, as in ``RunStarted``.
        event: Its fields; fields with a default may be left out.

    Raises:
        Malformed: an unknown type, values that do not fit the schema, fields that the schema does
            not have, or a result of more than ``EVENT_BYTES_MAX`` bytes.
    """
    known = _types().get(type)
    if known is None:
        raise Malformed(f"unknown event type {type!r}")
    out = BytesIO()
    out.write(MARKER)
    out.write(known.fingerprint)
    try:
        fastavro.schemaless_writer(out, known.schema, event, strict_allow_default=True)
    except (TypeError, ValueError, KeyError, OverflowError, AttributeError) as error:
        raise Malformed(f"{type} does not fit its schema: {error}") from None
    payload = out.getvalue()
    if len(payload) > EVENT_BYTES_MAX:
        raise Malformed(
            f"{type} has {len(payload):,} bytes; an event may have {EVENT_BYTES_MAX:,} at most"
        )
    return payload


class Codec:
    """Decode events of every released schema and of every schema stored with the log."""

    def __init__(self, schemas: Callable[[], Iterable[str]] | None = None) -> None:
        """Make a codec.

        Args:
            schemas: Return the writer schemas stored with the log, as JSON texts. Called when an
                event has an unknown fingerprint.
        """
        self._schemas = schemas
        self._readers: dict[bytes, tuple[str, Any, Any]] = {}
        self._unknown: set[bytes] = set()
        self._tried: set[str] = set()
        for version in released_versions():
            for known in _version(version).values():
                self._know(known.name, known.fingerprint, known.schema)

    def _know(self, name: str, fingerprint: bytes, writer: Any) -> None:
        newest = _types()[name]
        reader = None if fingerprint == newest.fingerprint else newest.schema
        self._readers.setdefault(fingerprint, (name, writer, reader))

    def learn(self, text: str) -> bytes:
        """Add a writer schema and return its fingerprint. Raises ``Malformed``."""
        fp, schema = parse_writer_schema(text)
        self._know(schema["name"].rpartition(".")[2], fp, schema)
        self._unknown.discard(fp)
        return fp

    def forget_unknown(self) -> None:
        """Forget which schemas the log did not have, so that it is asked again.

        Used before dead letters are retried.
        """
        self._unknown.clear()

    def decode(self, payload: bytes) -> Decoded:
        """Decode one event.

        Raises:
            UnknownSchema: no schema with the event's fingerprint is known.
            Malformed: the bytes are not an event, are cut off, or continue after its end.
        """
        if payload[:2] != MARKER or len(payload) < _HEADER_BYTES:
            raise Malformed("not an event: it does not begin with Avro's single-object header")
        if len(payload) > EVENT_BYTES_MAX:
            raise Malformed(
                f"the event has {len(payload):,} bytes; {EVENT_BYTES_MAX:,} are allowed"
            )
        fp = payload[2:_HEADER_BYTES]
        found = self._readers.get(fp)
        if found is None:
            found = self._ask(fp)
        name, writer, reader = found
        body = BytesIO(payload)
        body.seek(_HEADER_BYTES)
        try:
            event: Any = fastavro.schemaless_reader(body, writer, reader)
        except Exception as error:  # damaged bytes raise many kinds of error
            raise Malformed(f"{name} cannot be decoded: {error or type(error).__name__}") from None
        if body.tell() != len(payload):
            raise Malformed(f"{name} has {len(payload) - body.tell()} bytes after its end")
        return Decoded(name, event)

    def _ask(self, fp: bytes) -> tuple[str, Any, Any]:
        if self._schemas is not None and fp not in self._unknown:
            for text in set(self._schemas()) - self._tried:
                self._tried.add(text)
                try:
                    self.learn(text)
                except Malformed:
                    continue  # the type of a newer version; its events become dead letters
        if fp not in self._readers:
            # Remember it, so that many events with unknown schemas do not read the log's schemas
            # each time.
            if len(self._unknown) >= _UNKNOWN_MAX:
                self._unknown.clear()
            self._unknown.add(fp)
            raise UnknownSchema(fp)
        return self._readers[fp]
