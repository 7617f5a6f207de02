"""The compatibility rule as (writer, reader) pairs, each held against what fastavro does."""

from io import BytesIO
from typing import Any

import fastavro
import pytest

from modeltrail.schemas import codec, compatibility
from modeltrail.schemas.compatibility import check, check_released, main

A_STRING = {"name": "a", "type": "string"}


def record(*fields: dict[str, Any], name: str = "E") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


def field(type: Any, **more: Any) -> dict[str, Any]:
    return {"name": "f", "type": type, **more}


def parse(schema: Any) -> Any:
    return fastavro.parse_schema(schema, _write_hint=False)


READABLE = [
    ("a field with a default is added", record(A_STRING),
     record(A_STRING, field("long", default=7)), {"a": "x"}, {"a": "x", "f": 7}),
    ("a field may become null", record(field("string")), record(field(["null", "string"])),
     {"f": "x"}, {"f": "x"}),
    ("a union grows", record(field(["null", "long"])), record(field(["null", "string", "long"])),
     {"f": 3}, {"f": 3}),
    ("int to long", record(field("int")), record(field("long")), {"f": 3}, {"f": 3}),
    ("long to double", record(field("long")), record(field("double")), {"f": 3}, {"f": 3.0}),
    ("float to double", record(field("float")), record(field("double")), {"f": 0.5}, {"f": 0.5}),
    ("string to bytes", record(field("string")), record(field("bytes")), {"f": "é"},
     {"f": "é".encode()}),
    ("bytes to string", record(field("bytes")), record(field("string")), {"f": b"x"}, {"f": "x"}),
    ("map values may become null", record(field({"type": "map", "values": "string"})),
     record(field({"type": "map", "values": ["null", "string"]})), {"f": {"k": "v"}},
     {"f": {"k": "v"}}),
    ("fields change places", record(A_STRING, field("long")), record(field("long"), A_STRING),
     {"a": "x", "f": 1}, {"a": "x", "f": 1}),
    ("an inner record grows",
     record(field({"type": "array", "items": record(A_STRING, name="I")})),
     record(field({"type": "array",
                   "items": record(A_STRING, field("long", default=0), name="I")})),
     {"f": [{"a": "x"}]}, {"f": [{"a": "x", "f": 0}]}),
    ("an enum grows", record(field({"type": "enum", "name": "N", "symbols": ["A"]})),
     record(field({"type": "enum", "name": "N", "symbols": ["A", "B"]})), {"f": "A"}, {"f": "A"}),
]  # fmt: skip

UNREADABLE = [
    (record(A_STRING), record(A_STRING, field("long")), "E.f: a new field needs a default"),
    (record(A_STRING, field("long")), record(A_STRING), "E.f: the field is gone"),
    (record(field("string")), record(field("long")), "E.f: was string, is now long"),
    (record(field("long")), record(field("int")), "E.f: was long, is now int"),
    (record(field("double")), record(field("long")), "E.f: was double, is now long"),
    (record(field(["null", "long"])), record(field("long")), "E.f: was null, is now long"),
    (record(field("long")), record(field(["null", "string"])),
     "E.f: was long, is now [null, string]"),
    (record(field({"type": "map", "values": "string"})),
     record(field({"type": "array", "items": "string"})), "E.f: was map, is now array"),
    (record(field({"type": "map", "values": "string"})), record(field("string")),
     "E.f: was map, is now string"),
    (record(field({"type": "map", "values": "string"})),
     record(field({"type": "map", "values": "long"})), "E.f{}: was string, is now long"),
    (record(field({"type": "array", "items": "string"})),
     record(field({"type": "array", "items": "long"})), "E.f[]: was string, is now long"),
    (record(field({"type": "fixed", "name": "F", "size": 4})),
     record(field({"type": "fixed", "name": "F", "size": 8})), "E.f: had 4 bytes, has 8"),
    (record(field({"type": "fixed", "name": "F", "size": 4})),
     record(field({"type": "fixed", "name": "G", "size": 4})), "E.f: was named F, is G"),
    (record(field({"type": "enum", "name": "N", "symbols": ["A", "B"]})),
     record(field({"type": "enum", "name": "N", "symbols": ["B"]})), "E.f: symbols ['A'] are gone"),
    (record(A_STRING), record(A_STRING, name="Other"), "E: was named E, is Other"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("writer", "reader", "wrote", "reads"),
    [case[1:] for case in READABLE],
    ids=[case[0] for case in READABLE],
)
def test_compatible_pairs_read_what_was_written(
    writer: Any, reader: Any, wrote: Any, reads: Any
) -> None:
    writer, reader = parse(writer), parse(reader)
    assert check(writer, reader) == []
    out = BytesIO()
    fastavro.schemaless_writer(out, writer, wrote)
    assert fastavro.schemaless_reader(BytesIO(out.getvalue()), writer, reader) == reads


@pytest.mark.parametrize(
    ("writer", "reader", "problem"), UNREADABLE, ids=[case[2] for case in UNREADABLE]
)
def test_incompatible_pairs_are_named(writer: Any, reader: Any, problem: str) -> None:
    assert [str(p) for p in check(parse(writer), parse(reader))] == [problem]


def test_every_problem_is_listed() -> None:
    writer = record(A_STRING, field("long"))
    reader = record({"name": "a", "type": "long"}, {"name": "g", "type": "long"})
    assert len(check(parse(writer), parse(reader))) == 3


def test_what_is_released_is_compatible(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_released() == []
    assert main() == 0
    assert "event types, compatible" in capsys.readouterr().out


def test_a_break_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = {
        "v1": {"E": parse(record(A_STRING))},
        "v2": {"E": parse(record(A_STRING, field("long")))},
    }
    monkeypatch.setattr(codec, "released_versions", lambda: ("v1", "v2"))
    monkeypatch.setattr(compatibility, "_schemas", versions.__getitem__)
    assert main() == 1
    assert capsys.readouterr().out == "v1/E.f: a new field needs a default\n"
