"""What the server takes, MLflow's endpoints included, changes only where it is meant to.

``api_surface.txt`` has a line for each operation, parameter and field of the OpenAPI document,
without its prose. ``python tests/api/test_api_surface.py`` writes it again; the diff is for review.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from modeltrail.api.app import create_app
from modeltrail.api.artifacts.store import ArtifactStore
from modeltrail.api.node import Node
from modeltrail.consumers.fold import Fold
from modeltrail.eventlog import open_log

SNAPSHOT = Path(__file__).parent / "api_surface.txt"
PROSE = {"title", "description", "example", "examples", "properties", "required", "items"}
"""What a field's line leaves out: prose, and what has lines of its own."""


def document() -> dict[str, Any]:
    log = open_log("memory:")
    try:
        with TemporaryDirectory() as folder:
            app = create_app(Node(log, Fold(log, None), ArtifactStore(Path(folder), bytes_max=1)))
            return app.openapi()
    finally:
        log.close()


def lines(spec: dict[str, Any]) -> Iterator[str]:
    def resolved(schema: dict[str, Any]) -> dict[str, Any]:
        reference = schema.get("$ref")
        if reference is None:
            return schema
        found: dict[str, Any] = spec["components"]["schemas"][reference.rpartition("/")[2]]
        return found

    def described(place: str, schema: dict[str, Any], needed: bool) -> Iterator[str]:
        schema = resolved(schema)
        if "anyOf" in schema:
            rest = {"default": schema["default"]} if "default" in schema else {}
            for one in schema["anyOf"]:
                yield from described(place, {**resolved(one), **rest}, needed)
            return
        limits = {name: schema[name] for name in sorted(schema) if name not in PROSE}
        yield f"  {place}{' (required)' if needed else ''} {json.dumps(limits)}"
        for name, inner in sorted(schema.get("properties", {}).items()):
            yield from described(f"{place}.{name}", inner, name in schema.get("required", ()))
        if "items" in schema:
            yield from described(f"{place}[]", schema["items"], False)

    for path, operations in sorted(spec["paths"].items()):
        for method, operation in sorted(operations.items()):
            yield f"{method.upper()} {path}"
            for one in sorted(operation.get("parameters", ()), key=lambda p: (p["in"], p["name"])):
                place = f"{one['in']} {one['name']}"
                yield from described(place, one["schema"], one.get("required", False))
            body = operation.get("requestBody", {})
            for media, content in sorted(body.get("content", {}).items()):
                yield from described(
                    f"body {media}", content["schema"], body.get("required", False)
                )


def surface() -> str:
    return "\n".join([*lines(document()), ""])


def test_the_surface_is_what_it_was() -> None:
    assert surface() == SNAPSHOT.read_text(encoding="utf-8"), (
        f"if this is meant: python {Path(__file__).relative_to(Path.cwd())}, and review the diff"
    )


if __name__ == "__main__":
    SNAPSHOT.write_text(surface(), encoding="utf-8")
