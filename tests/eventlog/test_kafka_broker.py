"""The broker that tests start."""

from __future__ import annotations

import uuid

import pytest

from kafka_broker import KafkaBroker


def test_a_cluster_id_may_begin_with_a_hyphen(
    own_kafka: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One id in 64 does: base64 has "-" for the bits 111110.
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(bytes=b"\xf8" + bytes(range(15))))
    with own_kafka:
        assert (own_kafka.folder / "server.properties").exists()
