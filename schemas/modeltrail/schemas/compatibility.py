"""The compatibility rule: the newest schema of a type reads everything that was ever written.

CI checks each new schema against every released one, by the schema resolution rules of the Avro
specification and two stricter rules: no field may be removed, because its values would be lost
silently, and an added field needs a default.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from modeltrail.schemas import codec

# The promotions of the Avro specification, section "Schema Resolution".
_PROMOTIONS = {
    "int": {"int", "long", "float", "double"},
    "long": {"long", "float", "double"},
    "float": {"float", "double"},
    "string": {"string", "bytes"},
    "bytes": {"bytes", "string"},
}


class Incompatibility(NamedTuple):
    """One reason why a reader's schema cannot read what a writer's schema wrote."""

    path: str
    problem: str

    def __str__(self) -> str:
        """Return for example ``RunStarted.name: was string, is now long``."""
        return f"{self.path}: {self.problem}"


def check(writer: Any, reader: Any) -> list[Incompatibility]:
    """Return every reason why ``reader`` cannot read what ``writer`` wrote; empty if it can."""
    return list(_compare(writer, reader, _name(writer), {}, {}))


def check_released() -> list[Incompatibility]:
    """Check the newest schema of each type against every released one."""
    newest = {n: s for v in codec.released_versions() for n, s in _schemas(v).items()}
    return [
        Incompatibility(f"{version}/{problem.path}", problem.problem)
        for version in codec.released_versions()
        for name, schema in _schemas(version).items()
        for problem in check(schema, newest[name])
    ]


def _schemas(version: str) -> dict[str, Any]:
    return {name: known.schema for name, known in codec._version(version).items()}


def _name(schema: Any) -> str:
    if isinstance(schema, dict):
        return str(schema.get("name", schema["type"])).rpartition(".")[2]
    if isinstance(schema, list):
        return "[" + ", ".join(_name(s) for s in schema) + "]"
    return str(schema).rpartition(".")[2]


def _resolve(schema: Any, named: dict[str, Any]) -> Any:
    if isinstance(schema, str) and schema in named:
        return named[schema]
    if isinstance(schema, dict):
        if "name" in schema:
            named[schema["name"]] = schema
        if not isinstance(schema["type"], str):
            return _resolve(schema["type"], named)
        if schema["type"] not in {"record", "enum", "fixed", "array", "map"}:
            return schema["type"]
    return schema


def _compare(
    writer: Any, reader: Any, path: str, writers: dict[str, Any], readers: dict[str, Any]
) -> list[Incompatibility]:
    writer, reader = _resolve(writer, writers), _resolve(reader, readers)
    if isinstance(writer, list):
        return [p for w in writer for p in _compare(w, reader, path, writers, readers)]
    if isinstance(reader, list):
        tried = [_compare(writer, r, path, writers, readers) for r in reader]
        if any(not problems for problems in tried):
            return []
        return [Incompatibility(path, f"was {_name(writer)}, is now {_name(reader)}")]
    if isinstance(writer, str) or isinstance(reader, str):
        if isinstance(writer, str) and isinstance(reader, str):
            allowed = _PROMOTIONS.get(writer, {writer})
            if reader in allowed:
                return []
        return [Incompatibility(path, f"was {_name(writer)}, is now {_name(reader)}")]
    if writer["type"] != reader["type"]:
        return [Incompatibility(path, f"was {writer['type']}, is now {reader['type']}")]
    if "name" in writer and _name(writer) != _name(reader):
        return [Incompatibility(path, f"was named {_name(writer)}, is {_name(reader)}")]
    match writer["type"]:
        case "array":
            return _compare(writer["items"], reader["items"], f"{path}[]", writers, readers)
        case "map":
            return _compare(writer["values"], reader["values"], f"{path}{{}}", writers, readers)
        case "fixed" if writer["size"] != reader["size"]:
            return [Incompatibility(path, f"had {writer['size']} bytes, has {reader['size']}")]
        case "enum" if not set(writer["symbols"]) <= set(reader["symbols"]):
            gone = sorted(set(writer["symbols"]) - set(reader["symbols"]))
            return [Incompatibility(path, f"symbols {gone} are gone")]
        case "record":
            return _compare_fields(writer, reader, path, writers, readers)
    return []


def _compare_fields(
    writer: Any, reader: Any, path: str, writers: dict[str, Any], readers: dict[str, Any]
) -> list[Incompatibility]:
    problems: list[Incompatibility] = []
    now = {f["name"]: f for f in reader["fields"]}
    before = {f["name"]: f for f in writer["fields"]}
    for name, field in before.items():
        if name in now:
            problems += _compare(
                field["type"], now[name]["type"], f"{path}.{name}", writers, readers
            )
        else:
            problems.append(Incompatibility(f"{path}.{name}", "the field is gone"))
    for name, field in now.items():
        if name not in before and "default" not in field:
            problems.append(Incompatibility(f"{path}.{name}", "a new field needs a default"))
    return problems


def main() -> int:
    """Print each problem on a line. Returns 1 if there is one."""
    problems = check_released()
    for problem in problems:
        print(problem)  # noqa: T201 - a command's output
    types = {name: codec.event_stream(name) for name in codec.event_types()}
    if not problems:
        print(f"{len(types)} event types, compatible: {json.dumps(types)}")  # noqa: T201
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
