"""A producer that is killed at any point loses nothing acknowledged, and repeats nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from faults.account import RUN, Account, check_against_rebuild, check_row
from faults.chance import chance, rounds
from faults.nursery import Child, Nursery
from faults.server import Server
from modeltrail.consumers import Fold
from modeltrail.eventlog import open_log
from modeltrail.producers import sync

pytestmark = pytest.mark.alone

PRELOAD = (
    "faults.jobs", "http.client", "sqlite3", "modeltrail.eventlog.embedded",
    "modeltrail.producers.channel", "modeltrail.producers.syncing", "modeltrail.producers.writer",
)  # fmt: skip
PLACES = [
    *(["any time"] * 6), *(["write"] * 3), "pwrite", "pwrite", "unlink", "rename", "open", "close",
    "mkdir",
]  # fmt: skip

Row = Callable[[str], Any]


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    outbox = str(tmp_path / "outbox")
    with Nursery(tmp_path / "nursery", *PRELOAD, MODELTRAIL_OUTBOX=outbox) as nursery:
        yield nursery


class Trainers:
    """Kills producers, round by round, and keeps what they were told."""

    def __init__(self, nursery: Nursery, random: Random, outbox: Path) -> None:
        self.nursery = nursery
        self.random = random
        self.outbox = outbox
        self.acknowledged: dict[str, int] = {}

    def round(self, url: str, delivered: str, stops: int) -> None:
        """Train and kill; then, mostly, deliver what is left, by a process that may be killed too.

        Args:
            url: Where the producer logs to.
            delivered: A place to die at, after something was delivered.
            stops: About how often each place is come by in the time that a producer is given.
        """
        random = self.random
        place = random.choice([*PLACES, delivered, delivered])
        child = self.nursery.start(
            "train",
            url=url,
            burst=random.choice([1, 7, 100, 3000]),
            place=place,
            nth=random.randint(1, stops),
            before=random.random() < 0.5,
        )
        self.watch(child, random.uniform(0, 0.25))
        while random.random() < 0.3:
            child = self.nursery.start("deliver", outbox=str(self.outbox))
            time.sleep(random.uniform(0, 0.03))
            child.kill()

    def watch(self, child: Child, seconds: float) -> None:
        """Kill it after a while, and take in what it was told until then."""
        time.sleep(seconds)
        run_id = None
        for report in child.kill():
            if report[0] == "run":
                run_id = report[1]
                self.acknowledged[run_id] = 0
            else:
                assert report[0] == "acknowledged"
                assert run_id is not None
                self.acknowledged[run_id] = report[1]

    def deliver(self, url: str) -> None:
        """Deliver everything."""
        for litter in self.outbox.glob(".*"):
            os.utime(litter, (0, 0))
        for result in sync(str(self.outbox), url=url):
            assert result.error is None
            assert result.refused == result.left_bytes == 0
        assert list(self.outbox.iterdir()) == []

    def last_one(self, url: str) -> None:
        """A producer that nobody kills finds nothing in its way."""
        stop = self.outbox.parent / "stop"
        stop.touch()
        child = self.nursery.start(
            "train", url=url, burst=10, place="any time", nth=0, before=True, stop=str(stop)
        )
        reports = child.rest()
        assert reports[-1] == ["finished", True]
        self.acknowledged[reports[0][1]] = 0


def check(account: Account, acknowledged: dict[str, int], row: Row) -> None:
    """Every run is there as far as it was acknowledged, by both accounts."""
    account.read()
    for run_id, steps in acknowledged.items():
        if run_id not in account.runs:
            assert steps == 0, "acknowledged and lost"
            continue
        found = account.check_run(run_id, steps)
        points = sum(
            len(event["values"]) // 8
            for type, event in account.runs[run_id]
            if type == "MetricsLogged"
        )
        check_row(row(run_id), found, points)
    acknowledged.clear()


def test_a_killed_producer_of_the_embedded_log(nursery: Nursery, tmp_path: Path) -> None:
    random = chance()
    data, away = tmp_path / "data", tmp_path / "file" / "data"
    away.parent.touch()  # no folder: nothing can be delivered there
    trainers = Trainers(nursery, random, tmp_path / "outbox")
    log = open_log(str(data))
    fold = Fold(log, tmp_path / "projections.duckdb")
    fold.open()
    account = Account(log)

    def row(run_id: str) -> Any:
        return fold.cursor().execute(RUN, [run_id]).fetchone()

    some = 0
    for n in range(rounds(72)):
        trainers.round(str(away if random.random() < 0.2 else data), "append", 20)
        if n % 3 == 2:
            some += sum(trainers.acknowledged.values())
            trainers.deliver(str(data))
            fold.catch_up()
            check(account, trainers.acknowledged, row)
    trainers.last_one(str(data))
    trainers.deliver(str(data))
    fold.catch_up()
    check(account, trainers.acknowledged, row)
    check_against_rebuild(log, fold)
    fold.stop()
    log.close()
    assert some > 0
    print(f"{some:,} steps acknowledged, {account.repeats} events repeated")  # noqa: T201


def test_a_killed_producer_of_a_server(nursery: Nursery, tmp_path: Path) -> None:
    random = chance()
    trainers = Trainers(nursery, random, tmp_path / "outbox")
    with Server(tmp_path / "data", "--threads", "1") as server:
        log = open_log(str(server.data))
        account = Account(log)

        def row(run_id: str) -> Any:
            (found,) = server.sql(RUN, run_id)
            return found

        some = 0
        for n in range(rounds(44)):
            trainers.round(server.url, "post", 10)
            if n % 3 == 2:
                some += sum(trainers.acknowledged.values())
                trainers.deliver(server.url)
                check(account, trainers.acknowledged, row)
        trainers.last_one(server.url)
        trainers.deliver(server.url)
        check(account, trainers.acknowledged, row)
        log.close()
        assert some > 0
        print(f"{some:,} steps acknowledged, {account.repeats} events repeated")  # noqa: T201
