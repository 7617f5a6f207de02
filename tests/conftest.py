"""Fixtures for every part. What only one part needs is in that part's tests."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from modeltrail.eventlog import open_log

sys.path.insert(
    0, str(Path(__file__).parent / "support")
)  # `import kafka_broker`, from any test folder

from kafka_broker import KafkaBroker, KafkaMissing


def pytest_configure(config: pytest.Config) -> None:
    # Tests start hundreds of processes: where this is set, each compiles all that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Where two processes share the tests, a test that is to be alone waits for the other's.

    Who waits has the turn, so that no test overtakes it. No time limit of a test has begun yet.
    """
    if not hasattr(item.config, "workerinput"):
        return (yield)
    alone = item.get_closest_marker("alone") is not None
    with open(__file__) as turn, open(item.config.rootpath / "pyproject.toml") as running:
        fcntl.flock(turn, fcntl.LOCK_EX)
        fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(turn, fcntl.LOCK_UN)
        try:
            return (yield)
        finally:
            fcntl.flock(running, fcntl.LOCK_UN)  # said, as a process that a test left may hold it


def missing(reason: str) -> NoReturn:
    """Skip the test for lack of Kafka; in CI that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def broker_in(folder: Path) -> KafkaBroker:
    """A broker to be started, or the test is skipped."""
    try:
        broker = KafkaBroker(folder)
    except KafkaMissing as e:
        missing(str(e))
    return broker


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port`` of a Kafka broker that all tests share: take topics of your own prefix."""
    open_log("kafka://imports:1/kafka-python").close()  # its own import warns, and that is an error
    given = os.environ.get("MODELTRAIL_TEST_KAFKA")
    if given:
        yield given
        return
    with broker_in(tmp_path_factory.mktemp("kafka") / "shared") as broker:
        yield broker.bootstrap


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A running broker for this test alone, to be killed, frozen and started again."""
    with broker_in(tmp_path / "kafka") as broker:
        yield broker
