"""What the children of a nursery do. They run until they are killed, or are told to stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from faults.nursery import report

_SYSTEM_CALLS = ("write", "pwrite", "unlink", "rename", "open", "close", "mkdir", "fsync")


def die() -> None:
    """End at once, as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def _die_around(owner: Any, name: str, nth: int, *, before: bool) -> None:
    """Die right before, or right after, the n-th call of a function."""
    function = getattr(owner, name)
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        now = calls == nth
        if now and before:
            if name == "write":
                function(args[0], bytes(args[1])[: len(args[1]) // 2])  # torn
            die()
        result = function(*args, **kwargs)
        if now:
            die()
        return result

    setattr(owner, name, counted)


def die_at(place: str, nth: int, before: bool) -> None:
    """Die around the n-th call of something; see the names below."""
    if place in _SYSTEM_CALLS:
        _die_around(os, place, nth, before=before)
    elif place == "append":
        from modeltrail.eventlog.embedded import EmbeddedLog

        _die_around(EmbeddedLog, "append", nth, before=before)
    elif place == "post":
        from modeltrail.producers.targets import HttpTarget

        _die_around(HttpTarget, "_request", nth, before=before)
    elif place == "commit":
        from modeltrail.consumers.database import Database
        from modeltrail.consumers.fold import Fold

        if before:
            _die_around(Database, "_write", nth, before=False)
        else:
            _die_around(Fold, "_publish", nth, before=True)
    else:
        assert place == "any time", place


# Producers


def value_of(step: int) -> float:
    """The value that is logged at a step."""
    return step * 0.5 - 3


def train(
    url: str, burst: int, place: str, nth: int, before: bool, stop: str | None = None
) -> None:
    """Log two metrics a step; report each step number below which all is acknowledged.

    Args:
        url: Where to log to.
        burst: Steps between two waits for the acknowledgement.
        place: See ``die_at``, and so for ``nth`` and ``before``.
        nth: Of the calls.
        before: Before or after the call.
        stop: Finish the run when this file is there.
    """
    from modeltrail.producers import start_run

    die_at(place, nth, before)
    run = start_run("faults", url=url, params={"burst": burst}, tags={"place": place})
    report("run", run.run_id)
    step = 0
    while stop is None or not os.path.exists(stop):
        for _ in range(burst):
            run.log({"m": value_of(step), "n": -value_of(step)}, step)
            step += 1
        if run.flush(60):
            report("acknowledged", step)
    report("finished", run.finish(timeout_s=120))


def deliver(outbox: str) -> None:
    """Deliver what dead producers left."""
    from modeltrail.producers import sync

    sync(outbox)


def ask_for_versions(url: str, n: int) -> None:
    """A run that asks for model versions, and then falls silent without an end."""
    from modeltrail.producers import start_run

    run = start_run("silent", url=url)
    for i in range(n):
        run.register_model("asked-for", f"model-{i}", description=str(i), aliases=[f"a{i}"])
    assert run.flush(60)
    report("asked", run.run_id)
    signal.pause()


# A server without its HTTP


class _Client(threading.Thread):
    """Asks for one thing after the other, in one of the server's threads."""

    def __init__(self, node: Any, name: str, seed: int, again: list[Any]) -> None:
        super().__init__(name=name, daemon=True)
        self._node = node
        self._chance = Random(seed)
        self._prefix = f"{name}-{seed}"
        self._again = again

    def run(self) -> None:
        for request in self._again:
            self._ask(*request)
        n = 0
        while True:
            n += 1
            type, fields = request_of(self._chance, self._alias)
            key = f"{self._prefix}-{n}" if self._chance.random() < 0.5 else None
            self._ask(type, fields, key)

    def _alias(self, model: str) -> int | None:
        with self._node.read() as cursor:
            row = cursor.execute(
                "SELECT version FROM aliases WHERE model = ? AND alias = 'champion'", [model]
            ).fetchone()
        return row and int(row[0])

    def _ask(self, type: str, fields: dict[str, Any], key: str | None) -> None:
        from modeltrail.api.actor import Actor, Asker
        from modeltrail.api.errors import Refused

        report("ask", self.name, [type, fields, key])
        try:
            asker = Asker(Actor(self.name, False), "a test", key)
            verdict = self._node.decide(asker, type, fields)
        except Refused as refused:
            position, event_id = refused.details["position"], refused.details["event_id"]
            report("done", self.name, position, event_id, key, False, None)
        else:
            position = str(verdict.position)
            report("done", self.name, position, verdict.id, key, True, verdict.version)


MODELS = ("digits", "faces", "voices")


def request_of(chance: Random, alias: Callable[[str], int | None]) -> tuple[str, dict[str, Any]]:
    """A request that a person could make; some will be refused."""
    model = chance.choice(MODELS)
    kind = chance.random()
    if kind < 0.4:
        new: dict[str, Any] = {
            "source": "s3://models/x",
            "run_id": None,
            "model_id": None,
            "run_link": None,
        }
        new |= {"description": None, "tags": {"k": "v"}, "aliases": [], "create_model": True}
        return "CreateModelVersion", {"model": model, **new}
    if kind < 0.7:
        here = alias(model)
        change = {"version": (here or 0) + 1, "expected_version": here or 0, "evidence": []}
        return "SetRegisteredModelAlias", {"model": model, "alias": "champion", **change}
    if kind < 0.85:
        stage = chance.choice(["None", "Staging", "Production", "Archived"])
        return "TransitionModelVersionStage", {
            "model": model,
            "version": chance.randint(1, 5),
            "stage": stage,
            "archive_existing_versions": chance.random() < 0.5,
            "expected_stage": None,
            "evidence": [],
        }
    if kind < 0.95:
        return "ChangeRegisteredModelTags", {
            "model": model,
            "tags": {chance.choice("abc"): chance.choice(["1", "2", None])},
        }
    experiment: dict[str, Any] = {
        "name": f"/{chance.randrange(20)}",
        "artifact_location": None,
        "tags": {},
    }
    return "CreateExperiment", experiment


def decide(
    folder: str,
    seed: int,
    again: dict[str, list[Any]],
    checkpoints: bool,
    place: str,
    nth: int,
    before: bool,
) -> None:
    """Log, fold and node in one process, and clients in threads, as in a server.

    Args:
        folder: The data folder.
        seed: Of what the clients ask.
        again: For each client, what it asked before and has no answer to.
        checkpoints: Copy DuckDB's write-ahead log into its file all the time.
        place: See ``die_at``, and so for ``nth`` and ``before``.
        nth: Of the calls.
        before: Before or after the call.
    """
    from modeltrail.api.artifacts.store import ArtifactStore
    from modeltrail.api.node import Node
    from modeltrail.consumers import Fold
    from modeltrail.eventlog import open_log

    log = open_log(folder)
    fold = Fold(log, Path(folder) / "projections.duckdb", threads=1)
    fold.start()
    node = Node(log, fold, ArtifactStore(Path(folder) / "artifacts"))
    node.start()
    report("ready")
    die_at(place, nth, before)
    for n, (name, requests) in enumerate(again.items()):
        _Client(node, name, seed + n, requests).start()
    while True:
        time.sleep(0.01)
        if checkpoints:
            with suppress(Exception), node.cursor() as cursor:  # beside a transaction it may not
                cursor.execute("CHECKPOINT")
