import contextlib
import json
import struct
import subprocess
import sys
import threading
from io import BytesIO
from typing import Any

import avro.schema
import fastavro
import pytest
from fastavro.schema import to_parsing_canonical_form
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltrail.limits import EVENT_BYTES_MAX
from modeltrail.schemas import (
    MARKER,
    Codec,
    Malformed,
    SchemaError,
    UnknownSchema,
    encode,
    envelope,
    event_stream,
    event_types,
    fingerprint,
    parse_writer_schema,
    writer_schemas,
)
from modeltrail.schemas.codec import _types
from schema_samples import value_of as sample_of

ENVELOPE = envelope(producer_id=b"p" * 16, sequence=0, actor="ada", client="test")
TAGS = {"envelope": ENVELOPE, "run_id": "r", "tags": {"a": "1"}}
LONG = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def values(schema: Any, named: dict[str, Any]) -> st.SearchStrategy[Any]:
    """All values that fit a schema."""
    if isinstance(schema, list):
        return st.one_of([values(s, named) for s in schema])
    if isinstance(schema, str) and schema in named:
        return values(named[schema], named)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(schema, dict) and "name" in schema:
        named[schema["name"]] = schema
    match kind:
        case "record":
            fields = {f["name"]: values(f["type"], named) for f in schema["fields"]}
            return st.fixed_dictionaries(fields)
        case "array":
            return st.lists(values(schema["items"], named), max_size=4)
        case "map":
            return st.dictionaries(TEXT, values(schema["values"], named), max_size=4)
        case "fixed":
            return st.binary(min_size=schema["size"], max_size=schema["size"])
    return {
        "null": st.none(),
        "string": TEXT,
        "bytes": st.binary(),
        "long": LONG,
        "double": st.floats(allow_nan=False),
        "boolean": st.booleans(),
    }[kind]


@settings(deadline=None)
@given(
    st.sampled_from(event_types()).flatmap(
        lambda t: st.tuples(st.just(t), values(_types()[t].schema, {}))
    )
)
def test_what_is_encoded_is_decoded(case: tuple[str, dict[str, Any]]) -> None:
    type, event = case
    assert Codec().decode(encode(type, event)) == (type, event)


@pytest.mark.parametrize("type", event_types())
def test_defaults_fit_their_fields(type: str) -> None:
    required = [f for f in _types()[type].schema["fields"] if "default" not in f]
    schema = {**_types()[type].schema, "fields": required}
    event = sample_of(schema, type, {})
    decoded = Codec().decode(encode(type, event)).event
    assert decoded.keys() >= {f["name"] for f in _types()[type].schema["fields"]}


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_give_an_event_or_a_schema_error(body: bytes) -> None:
    codec = Codec()
    for known in _types().values():
        try:
            decoded = codec.decode(MARKER + known.fingerprint + body)
        except SchemaError:
            continue
        assert decoded.type == known.name


@settings(deadline=None)
@given(st.data())
def test_damage_gives_an_event_or_a_schema_error(data: st.DataObject) -> None:
    payload = bytearray(encode("TagsChanged", TAGS))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SchemaError):
        Codec().decode(bytes(payload))


def test_every_truncation_is_malformed() -> None:
    payload = encode("TagsChanged", TAGS)
    for length in range(len(payload)):
        with pytest.raises(Malformed):
            Codec().decode(payload[:length])


def test_trailing_bytes_are_malformed() -> None:
    with pytest.raises(Malformed, match="2 bytes after its end"):
        Codec().decode(encode("TagsChanged", TAGS) + b"\x00\x00")


def test_another_format_is_malformed() -> None:
    with pytest.raises(Malformed, match="single-object header"):
        Codec().decode(b'{"type": "RunStarted", "run_id": "r"}')


def test_an_event_of_the_largest_size_passes_and_one_byte_more_does_not() -> None:
    def event(n: int) -> dict[str, Any]:
        return {**TAGS, "tags": {"a": "x" * n}}

    n = EVENT_BYTES_MAX - (len(encode("TagsChanged", event(2**20))) - 2**20) - 1
    n += EVENT_BYTES_MAX - len(encode("TagsChanged", event(n)))
    payload = encode("TagsChanged", event(n))
    assert len(payload) == EVENT_BYTES_MAX
    assert Codec().decode(payload).event["tags"]["a"] == "x" * n
    with pytest.raises(Malformed, match="8,388,608 at most"):
        encode("TagsChanged", event(n + 1))
    with pytest.raises(Malformed, match="8,388,608 are allowed"):
        Codec().decode(payload + b"\x00")


def test_a_length_that_lies_takes_no_memory() -> None:
    prefix = MARKER + _types()["TagsChanged"].fingerprint + bytes(32)
    body = avro_long(0) + avro_long(0) + avro_long(2**62) + b"short"
    with pytest.raises(Malformed):
        Codec().decode(prefix + body)


def avro_long(n: int) -> bytes:
    out = bytearray()
    n = (n << 1) ^ (n >> 63)
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


@pytest.mark.parametrize(
    ("type", "change", "message"),
    [
        ("Nonsense", {}, "unknown event type"),
        ("TagsChanged", {"tags": {1: "a"}}, "must be string"),
        ("TagsChanged", {"tags": {"a": 1}}, "TagsChanged does not fit"),
        ("TagsChanged", {"tags": [("a", "b")]}, "TagsChanged does not fit"),
        ("TagsChanged", {"run_id": None}, "must be string"),
        ("TagsChanged", {"run_id": "\ud800"}, "surrogates not allowed"),
        ("TagsChanged", {"extra": 1}, "extra"),
        ("TagsChanged", {"envelope": {**ENVELOPE, "event_id": b"short"}}, "size"),
        ("TagsChanged", {"envelope": {**ENVELOPE, "sequence": 2**63}}, "too large"),
        ("RunDeleted", {}, "tags"),
    ],
)
def test_values_that_do_not_fit_are_refused(type: str, change: Any, message: str) -> None:
    with pytest.raises(Malformed, match=message):
        encode(type, {**TAGS, **change})


def test_an_unknown_type_has_no_stream() -> None:
    with pytest.raises(Malformed, match="unknown event type 'Nonsense'"):
        event_stream("Nonsense")


def test_an_unknown_fingerprint_is_named() -> None:
    with pytest.raises(UnknownSchema, match="6162636465666768") as caught:
        Codec().decode(MARKER + b"abcdefgh" + b"body")
    assert caught.value.fingerprint == b"abcdefgh"


def older_tags_changed() -> tuple[str, bytes]:
    """A schema of TagsChanged that was never released here (no reason), and an event of it."""
    schema: dict[str, Any] = {
        "type": "record",
        "name": "TagsChanged",
        "namespace": "modeltrail.runs",
        "fields": [
            {"name": "envelope", "type": {**_types()["TagsChanged"].schema["fields"][0]["type"]}},
            {"name": "run_id", "type": "string"},
            {"name": "tags", "type": {"type": "map", "values": "string"}},
        ],
    }
    text = json.dumps(schema)
    fp, parsed = parse_writer_schema(text)
    out = BytesIO()
    fastavro.schemaless_writer(out, parsed, TAGS)
    return text, MARKER + fp + out.getvalue()


def test_a_schema_that_the_log_brings_is_learned_when_it_is_needed() -> None:
    text, payload = older_tags_changed()
    held: list[str] = []
    asked = 0

    def schemas() -> list[str]:
        nonlocal asked
        asked += 1
        return held

    codec = Codec(schemas)
    for _ in range(3):
        with pytest.raises(UnknownSchema):
            codec.decode(payload)
    assert asked == 1, "an unknown fingerprint is remembered"
    held += ["no schema at all", text]
    codec.forget_unknown()
    assert codec.decode(payload) == ("TagsChanged", TAGS)
    assert codec.decode(payload).event["tags"] == {"a": "1"}
    assert asked == 2


def test_learning_a_schema_lifts_its_refusal() -> None:
    text, payload = older_tags_changed()
    codec = Codec()
    with pytest.raises(UnknownSchema) as caught:
        codec.decode(payload)
    assert codec.learn(text) == caught.value.fingerprint
    assert codec.decode(payload).type == "TagsChanged"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an Avro schema"),
        ("[]", "not an Avro schema"),
        ('"string"', "not an Avro schema"),
        ("[" * 100_000, "not an Avro schema"),
        ('{"type": "record", "name": "Foo", "fields": []}', "not an event type"),
        (
            '{"type": "record", "name": "other.TagsChanged", "fields": []}',
            "not an event type",
        ),
        (
            '{"type": "record", "name": "modeltrail.runs.TagsChanged", "fields": []}',
            "a new field needs a default",
        ),
    ],
)
def test_foreign_schemas_are_refused(text: str, message: str) -> None:
    with pytest.raises(Malformed, match=message):
        parse_writer_schema(text)


def test_logical_types_of_a_writer_change_no_values() -> None:
    schema = json.loads(writer_schemas()[_types()["RunEnded"].fingerprint])
    for field in schema["fields"]:
        if field["name"] == "ended_at_ms":
            field["type"] = {"type": "long", "logicalType": "timestamp-millis"}
    schema["fields"] = [f for f in schema["fields"] if f["name"] != "points_dropped"]
    codec = Codec()
    fp = codec.learn(json.dumps(schema))
    out = BytesIO()
    event = {"envelope": ENVELOPE, "run_id": "r", "status": "FINISHED", "ended_at_ms": 5}
    writer = parse_writer_schema(json.dumps(schema))[1]
    fastavro.schemaless_writer(out, writer, {**event, "message": None, "points_logged": 0})
    assert codec.decode(MARKER + fp + out.getvalue()).event["ended_at_ms"] == 5


def crc_64_avro(data: bytes) -> bytes:
    """The Avro specification's algorithm, section "Schema Fingerprints", written once more."""
    empty = 0xC15D213AA4D7A795
    fp = empty
    for byte in data:
        low = (fp ^ byte) & 0xFF
        for _ in range(8):
            low = (low >> 1) ^ (empty if low & 1 else 0)
        fp = (fp >> 8) ^ low
    return struct.pack("<Q", fp)


def test_fingerprints_are_those_of_the_avro_specification() -> None:
    # Not held against the avro package: its canonical form spells a named type out each time.
    for fp, text in writer_schemas().items():
        canonical = to_parsing_canonical_form(json.loads(text))
        assert canonical.count('"size":16') == 1
        assert fp == crc_64_avro(canonical.encode())
        assert parse_writer_schema(text)[0] == fp
    assert fingerprint("int") == crc_64_avro(b'"int"') == struct.pack("<Q", 0x7275D51A3F395C8F)
    assert fingerprint("int") == avro.schema.parse('"int"').fingerprint()


def test_the_first_use_by_many_threads_at_once_is_safe() -> None:
    code = (
        "import threading\n"
        "from modeltrail.schemas import *\n"
        "e = dict(envelope=envelope(producer_id=b'p'*16, sequence=0, actor='', client=''),"
        " run_id='r')\n"
        "out = []\n"
        "ts = [threading.Thread(target=lambda: out.append(encode('RunDeleted', e)))"
        " for _ in range(16)]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]\n"
        "assert len(out) == 16 and len(set(out)) == 1\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_one_codec_serves_threads() -> None:
    codec = Codec()
    payload = encode("TagsChanged", TAGS)
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(codec.decode(payload))) for _ in range(8)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [("TagsChanged", TAGS)] * 8
