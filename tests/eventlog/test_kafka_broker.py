"""The broker that tests start."""

from __future__ import annotations

import uuid

import pytest

from kafka_broker import KafkaBroker


@pytest.fixture
def hyphen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes cluster ids that begin with "-", as one in 64 does: base64 has it for 111110."""
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(bytes=b"\xf8" + bytes(range(15))))


def test_a_cluster_id_may_begin_with_a_hyphen(hyphen: None, own_kafka: KafkaBroker) -> None:
    assert own_kafka.pid > 0
