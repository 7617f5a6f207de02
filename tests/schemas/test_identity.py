import time
import uuid

import pytest

from modeltrail.schemas import envelope, experiment_id, new_event_id, parse_uuid, uuid_from_cause

DIGITS = "729985397851488092"


def test_an_event_id_is_a_uuid_of_version_7_with_its_time() -> None:
    made = uuid.UUID(bytes=new_event_id(1_700_000_000_123))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == 1_700_000_000_123
    assert new_event_id() != new_event_id()


def test_the_same_cause_gives_the_same_id_and_another_one_another() -> None:
    assert uuid_from_cause("a", "b") == uuid_from_cause("a", "b")
    assert len({uuid_from_cause("a", "b"), uuid_from_cause("ab"), uuid_from_cause("a")}) == 3
    assert uuid.UUID(bytes=uuid_from_cause("a")).version == 5


def test_experiment_ids_are_what_they_were_when_they_were_released() -> None:
    assert experiment_id("Default") == "0"
    assert experiment_id("digits") == DIGITS
    assert experiment_id("digits", 2) != DIGITS
    assert experiment_id("Default", 2) != "0"
    ids = {experiment_id(f"/team/project/{i}") for i in range(1_000)}
    assert len(ids) == 1_000
    assert all(i.isdecimal() and 0 < int(i) < 10**18 for i in ids)


def test_uuids_are_read_with_and_without_dashes() -> None:
    made = uuid.uuid4()
    assert parse_uuid(str(made)) == parse_uuid(made.hex) == made.bytes
    with pytest.raises(ValueError, match="UUID"):
        parse_uuid("nonsense")


def test_an_envelope_takes_the_time_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = envelope(producer_id=b"p" * 16, sequence=3, actor="ada", client="test", reason="why")
    assert before <= made["occurred_at_ms"] <= time.time_ns() // 1_000_000
    assert made["sequence"] == 3
    assert made["actor_verified"] is False
    assert made["reason"] == "why"
