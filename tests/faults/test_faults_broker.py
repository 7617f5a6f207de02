"""Real Apache Kafka, killed and frozen while producers and a server log to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from faults.account import RUN, Account, check_against_rebuild, check_registry, check_row
from faults.chance import chance, rounds
from faults.jobs import request_of
from faults.nursery import Child, Nursery
from kafka_broker import KafkaBroker
from modeltrail.api.access.caller import Caller
from modeltrail.api.actor import Actor
from modeltrail.api.artifacts.store import ArtifactStore
from modeltrail.api.errors import Refused, Unavailable
from modeltrail.api.node import Node
from modeltrail.consumers import Fold
from modeltrail.eventlog import open_log

pytestmark = pytest.mark.alone

PRELOAD = ("faults.jobs", "modeltrail.eventlog.kafka", "kafka", "modeltrail.producers.writer")
_FREEZE_S = 8.0  # longer than the broker's session with its own controller
_PATIENCE_S = 60.0


class Trainer:
    """A producer in a process of its own, and what it was told."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.run_id = ""
        self.acknowledged = 0
        self.finished = False
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while (report := self.child.next()) is not None:
            if report[0] == "run":
                self.run_id = report[1]
            elif report[0] == "acknowledged":
                self.acknowledged = report[1]
            else:
                self.finished = report[1]

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()


class Asker(threading.Thread):
    """Asks a node for decisions; what has no answer is asked again, with the same key."""

    def __init__(self, node: Node, name: str, seed: int) -> None:
        super().__init__(name=name)
        self.stopping = False
        self.done: list[Any] = []
        self.failure: BaseException | None = None
        self._node = node
        self._random = Random(seed)

    def run(self) -> None:
        try:
            n = 0
            while not self.stopping:
                n += 1
                type, fields = request_of(self._random, lambda _: None)
                while not self._ask(type, fields, f"{self.name}-{n}"):
                    time.sleep(0.05)
        except BaseException as error:
            self.failure = error

    def _ask(self, type: str, fields: dict[str, Any], key: str) -> bool:
        actor = Actor(self.name, False)
        try:
            verdict = self._node.decide(Caller(actor, idempotency_key=key), type, fields)
        except Unavailable:
            return False
        except Refused as refused:
            position, event_id = refused.details["position"], refused.details["event_id"]
            self.done.append(["done", self.name, position, event_id, key, False, None])
        else:
            position, event_id = str(verdict.position), verdict.id
            self.done.append(["done", self.name, position, event_id, key, True, verdict.version])
        return True


def wait_for(what: Callable[[], bool], said: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + _PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, said
        time.sleep(0.01)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_and_frozen_broker(own_kafka: KafkaBroker, tmp_path: Path) -> None:
    random = chance()
    url = own_kafka.url("faults-", "partitions=2")
    stop = tmp_path / "stop"
    with ExitStack() as stack:
        log = open_log(url)
        stack.callback(log.close)
        fold = Fold(log, tmp_path / "projections.duckdb", threads=1)
        fold.start()
        stack.callback(fold.stop)
        node = Node(log, fold, ArtifactStore(tmp_path / "artifacts"))
        node.start()
        stack.callback(node.stop)
        trainers = []
        for n in range(2):
            outbox = str(tmp_path / "outbox")
            nursery = Nursery(tmp_path / f"nursery-{n}", *PRELOAD, MODELTRAIL_OUTBOX=outbox)
            stack.enter_context(nursery)
            child = nursery.start(
                "train", url=url, burst=20, place="any time", nth=0, before=True, stop=str(stop)
            )
            trainers.append(Trainer(child))
        askers = [Asker(node, name, random.randrange(2**32)) for name in ("ann", "bob")]
        for asker in askers:
            asker.start()

        def progress() -> None:
            """Wait until everybody was told something new."""
            before = [t.acknowledged for t in trainers] + [len(a.done) for a in askers]
            wait_for(
                lambda: (
                    all(
                        now > then
                        for now, then in zip(
                            [t.acknowledged for t in trainers] + [len(a.done) for a in askers],
                            before,
                            strict=True,
                        )
                    )
                    or any(a.failure for a in askers)
                ),
                "nothing is acknowledged any more",
            )
            assert not [a.failure for a in askers if a.failure]

        try:
            progress()
            for _ in range(rounds(6)):
                time.sleep(random.uniform(0, 1))
                own_kafka.kill()
                time.sleep(random.uniform(0, 0.5))
                own_kafka.start()
                progress()
            own_kafka.freeze()
            time.sleep(_FREEZE_S)
            own_kafka.thaw()
            progress()
        finally:
            stop.touch()
            for asker in askers:
                asker.stopping = True
            for asker in askers:
                asker.join()
            for trainer in trainers:
                trainer.join()
        assert [t.finished for t in trainers] == [True, True]
        account = Account(log)
        account.read()
        fold.wait_for(log.end(), _PATIENCE_S)
        con = fold.cursor()
        for trainer in trainers:
            steps = account.check_run(trainer.run_id, trainer.acknowledged)
            assert steps == trainer.acknowledged
            check_row(con.execute(RUN, [trainer.run_id]).fetchone(), steps, 2 * steps)
        for asker in askers:
            for report in asker.done:
                account.check_done(report)
        check_registry(account, con)
        fold.stop()
        fold = Fold(log, tmp_path / "projections.duckdb", threads=1)
        fold.open()
        stack.callback(fold.stop)
        check_against_rebuild(log, fold)
        told = sum(len(a.done) for a in askers)
        repeats = account.repeats + sum(r.repeat for r in account.requests)
        steps = sum(t.acknowledged for t in trainers)
    print(f"{steps:,} steps acknowledged, {told} decisions told, {repeats} repeats")  # noqa: T201
