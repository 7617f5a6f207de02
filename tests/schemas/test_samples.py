"""What was released stays readable and is never edited."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import modeltrail.schemas
from modeltrail.schemas import Codec, event_types, released_versions
from modeltrail.schemas.codec import _version

HERE = Path(__file__).parent
SCHEMAS = Path(modeltrail.schemas.__file__).parent
SAMPLES = sorted((HERE / "samples").rglob("*.bin"))


def kept(before: Any, now: Any) -> bool:
    """Is all of ``before`` (from JSON) in ``now``? Newer schemas may add fields."""
    if isinstance(before, dict):
        if before.keys() == {"base64"}:
            return bool(base64.b64decode(before["base64"]) == now)
        return isinstance(now, dict) and all(
            k in now and kept(v, now[k]) for k, v in before.items()
        )
    if isinstance(before, list):
        return len(before) == len(now) and all(map(kept, before, now))
    return type(before) is type(now) and before == now


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_sample_decodes_to_the_same_values_for_ever(sample: Path) -> None:
    decoded = Codec().decode(sample.read_bytes())
    assert decoded.type == sample.stem
    expected = json.loads(sample.with_suffix(".json").read_text(encoding="utf-8"))
    assert kept(expected, decoded.event)


@pytest.mark.parametrize("version", released_versions())
def test_every_released_schema_has_a_sample(version: str) -> None:
    have = {p.stem for p in SAMPLES if p.parent.name == version}
    assert have == set(_version(version)), "run tests/support/schema_samples.py for the new version"


def test_a_released_schema_is_never_edited() -> None:
    lines = (HERE / "released.sha256").read_text(encoding="utf-8").splitlines()
    released = {path: digest for digest, path in (line.split(maxsplit=1) for line in lines)}
    now = {
        p.relative_to(SCHEMAS).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in SCHEMAS.glob("v*/*.avsc")
    }
    changed = sorted(path for path in released if now.get(path) != released[path])
    assert not changed, (
        f"released schemas were edited or removed: {changed}. Restore them, and put the changed "
        f"types into a new folder v{len(released_versions()) + 1}/ (see docs/reference/events.md)"
    )
    added = sorted(now.keys() - released.keys())
    assert not added, f"release them: add the sha256 of {added} to tests/schemas/released.sha256"


def test_every_type_and_field_is_documented() -> None:
    def undocumented(schema: Any, path: str) -> list[str]:
        if isinstance(schema, list):
            return [p for s in schema for p in undocumented(s, path)]
        if not isinstance(schema, dict):
            return []
        found = [] if "doc" in schema or "name" not in schema else [path]
        for field in schema.get("fields", []):
            if "doc" not in field:
                found.append(f"{path}.{field['name']}")
            found += undocumented(field["type"], f"{path}.{field['name']}")
        return found + undocumented(schema.get("items"), path)

    for file in SCHEMAS.glob("v*/*.avsc"):
        assert not undocumented(json.loads(file.read_text(encoding="utf-8")), file.stem)


def test_both_streams_have_event_types() -> None:
    streams = {modeltrail.schemas.event_stream(t) for t in event_types()}
    assert streams == {"runs", "registry"}
