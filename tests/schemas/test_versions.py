"""A second version of the schemas, in a folder of its own, beside the first."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeltrail.schemas import Codec, codec, encode, envelope, event_types

ENVELOPE = envelope(producer_id=b"p" * 16, sequence=0, actor="ada", client="test")
EVENT = {"envelope": ENVELOPE, "run_id": "r"}


def forget() -> None:
    for cached in (
        codec.released_versions,
        codec._version,
        codec._types,
        codec.writer_schemas,
    ):
        cached.cache_clear()


@pytest.fixture
def second_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """``v2`` holds only what it changes: RunDeleted, with one field more."""
    shutil.copytree(codec._HERE / "v1", tmp_path / "v1")
    name = "modeltrail.runs.RunDeleted.avsc"
    schema = json.loads((tmp_path / "v1" / name).read_text(encoding="utf-8"))
    schema["fields"].append({"name": "forced", "type": "boolean", "default": False, "doc": "New."})
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / name).write_text(json.dumps(schema), encoding="utf-8")
    monkeypatch.setattr(codec, "_HERE", tmp_path)
    forget()
    yield tmp_path
    monkeypatch.undo()
    forget()


def test_the_newest_version_writes_and_reads_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    types = tuple(sorted(codec._version("v1")))
    old = encode("RunDeleted", EVENT)
    request.getfixturevalue("second_version")
    assert codec.released_versions() == ("v1", "v2")
    assert event_types() == types, "what v2 does not change stays as it was"
    new = encode("RunDeleted", {**EVENT, "forced": True})
    assert new[:10] != old[:10]
    assert Codec().decode(old).event == {**EVENT, "forced": False}
    assert Codec().decode(new).event == {**EVENT, "forced": True}


def test_an_older_program_refuses_what_it_would_lose_and_takes_it_after_its_upgrade(
    request: pytest.FixtureRequest,
) -> None:
    request.getfixturevalue("second_version")
    new = encode("RunDeleted", {**EVENT, "forced": True})
    texts = [codec.writer_schemas()[new[2:10]]]
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "released_versions", lambda: ("v1",))
        codec._version.cache_clear()
        older = Codec(lambda: texts)
        with pytest.raises(codec.UnknownSchema):
            older.decode(new)
    forget()
    assert Codec(lambda: texts).decode(new).event["forced"] is True
