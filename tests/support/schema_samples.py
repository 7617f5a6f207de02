"""Write the samples of a version of the schemas: run once, before the version is released.

``python tests/support/schema_samples.py v1``. A sample that exists is never written again.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

from modeltrail.schemas import Codec, encode, pack
from modeltrail.schemas.codec import _version

SAMPLES = Path(__file__).parents[1] / "schemas" / "samples"


def jsonable(value: Any) -> Any:
    """The value with bytes as ``{"base64": ...}`` and numbers that JSON lacks as text."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {k: jsonable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [jsonable(v) for v in value]
    return value


def value_of(schema: Any, name: str, named: dict[str, Any]) -> Any:
    """A value that tells its field, with every optional part present."""
    if isinstance(schema, list):
        return value_of(schema[-1], name, named)
    if isinstance(schema, str) and schema in named:
        return value_of(named[schema], name, named)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(schema, dict) and "name" in schema:
        named[schema["name"]] = schema
    match kind:
        case "record":
            return {f["name"]: value_of(f["type"], f["name"], named) for f in schema["fields"]}
        case "array":
            return [value_of(schema["items"], name, named) for _ in range(2)]
        case "map":
            return {f"{name} é🚀": value_of(schema["values"], name, named)}
        case "fixed":
            return bytes((len(name) * 7 + i) % 256 for i in range(schema["size"]))
        case "string":
            return f"{name} ü\x00🚀"
        case "bytes":
            return name.encode()
        case "long" | "int":
            return 1_700_000_000_000 + len(name)
        case "double" | "float":
            return 0.1
        case "boolean":
            return True
    raise AssertionError(f"no sample of {schema!r}")


def main(version: str) -> None:
    """Write what is missing."""
    folder = SAMPLES / version
    folder.mkdir(parents=True, exist_ok=True)
    for name, known in _version(version).items():
        event = value_of(known.schema, name, {})
        if name == "MetricsLogged":
            values = [0.5, float("nan"), float("inf"), -0.0]
            event |= pack([0, 1, 1, 0], [0, 1, -1, 2**62], [0, 1, 2, -3], values)
        file = folder / f"{name}.bin"
        if not file.exists():
            file.write_bytes(encode(name, event))
            text = json.dumps(
                jsonable(Codec().decode(file.read_bytes()).event), indent=1, ensure_ascii=False
            )
            file.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
