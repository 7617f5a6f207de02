"""Where jobs that log to Kafka store their artifacts."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeltrail.producers.settings import Settings
from modeltrail.producers.targets import LogTarget, NoArtifactStore


def test_a_folder_by_url(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    place = tmp_path / "kept here"
    target = LogTarget("memory:", Settings(artifacts=f"file://{place}"))
    stored = target.upload("run", "d/f", str(tmp_path / "f"))
    target.close()
    assert (place / "run" / "d" / "f").read_bytes() == b"abc"
    assert stored.size_bytes == 3


@pytest.mark.parametrize("url", ["s3://bucket/x", "gs://key:secret@b", "az://b?token=secret"])
def test_an_object_store_is_a_servers_business(url: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    target = LogTarget("memory:", Settings(artifacts=url))
    with pytest.raises(NoArtifactStore) as refusal:
        target.upload("run", "f", str(tmp_path / "f"))
    target.close()
    assert "URL of a server" in str(refusal.value)
    assert "secret" not in str(refusal.value)
