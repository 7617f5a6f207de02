"""A server that is killed at any point loses no decision that it told, and makes none twice."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from faults.account import Account, check_against_rebuild, check_registry
from faults.chance import chance, rounds
from faults.jobs import request_of, value_of
from faults.nursery import Nursery
from faults.server import NoAnswer, Server
from modeltrail.consumers import Fold
from modeltrail.eventlog import open_log
from writers import RunWriter

pytestmark = pytest.mark.alone

CLIENTS = ("ann", "bob", "cid")
PLACES = ["any time", "any time", "append", "commit", "fsync"]


@contextmanager
def folded(data: Path) -> Iterator[tuple[Fold, Account]]:
    """The log of a folder that no server has, its fold, and an account of it."""
    log = open_log(str(data))
    fold = Fold(log, data / "projections.duckdb")
    fold.open()
    try:
        account = Account(log)
        account.read()
        fold.catch_up()
        yield fold, account
    finally:
        fold.stop()
        log.close()


def test_killed_nodes(tmp_path: Path) -> None:
    random = chance()
    data = tmp_path / "data"
    again: dict[str, list[Any]] = {name: [] for name in CLIENTS}
    done: list[Any] = []
    with Nursery(tmp_path / "nursery", "faults.jobs", "modeltrail.api.node") as nursery:
        for n in range(rounds(72)):
            child = nursery.start(
                "decide",
                folder=str(data),
                seed=random.randrange(2**32),
                again=again,
                checkpoints=random.random() < 0.3,
                place=random.choice(PLACES),
                nth=random.randint(1, 20),
                before=random.random() < 0.5,
            )
            early = random.random() < 0.2  # while it opens its files
            if not early:
                assert child.next() == ["ready"], nursery.errors.read_text()
            time.sleep(random.uniform(0, 0.3))
            for report in child.kill():
                if report[0] == "ask":
                    # Asked again only with a key: else it could take effect twice.
                    again[report[1]] = [report[2]] if report[2][2] is not None else []
                elif report[0] == "done":
                    again[report[1]] = []
                    done.append(report)
            if n % 20 == 19:
                with folded(data) as (fold, account):
                    check_registry(account, fold.cursor())
    with folded(data) as (fold, account):
        for report in done:
            account.check_done(report)
        check_registry(account, fold.cursor())
        check_against_rebuild(account.log, fold)
        repeats = sum(r.repeat for r in account.requests)
    assert any(accepted for *_, accepted, _ in done)
    assert "Exception in thread" not in (said := nursery.errors.read_text()), said
    print(f"{len(done)} decisions told, {repeats} repeated")  # noqa: T201


class Clients:
    """People and jobs that use a server which is killed under their hands."""

    def __init__(self, server: Server, random: Random) -> None:
        self.server = server
        self.stopping = threading.Event()
        self.done: list[Any] = []
        """What the server said to be decided, as ``Account.check_done`` wants it."""
        self.versions: list[tuple[str, int, str]] = []
        """Versions that it gave out: model, number, position."""
        self.ingested: dict[str, int] = {}
        self.failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._guarded, args=(work, name, random.randrange(2**32)))
            for work, name in [(self._decide, n) for n in CLIENTS] + [(self._ingest, "job")]
        ]

    def _guarded(self, work: Any, name: str, seed: int) -> None:
        try:
            work(name, Random(seed))
        except BaseException as error:
            self.failures.append(error)

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join()

    def _alias(self, model: str) -> int | None:
        answer = self.server.request("GET", f"/api/v1/models/{model}/aliases/champion")
        return int(answer.body["version"]) if answer.status == 200 else None

    def _decide(self, name: str, random: Random) -> None:
        n = 0
        while not self.stopping.is_set():
            n += 1
            try:
                type, fields = request_of(random, self._alias)
            except NoAnswer:
                time.sleep(0.02)
                continue
            route = route_of(type, fields)
            if route is None:
                continue
            key = f"{name}-{n}"
            while not self.stopping.is_set():
                try:
                    answer = self.server.request(
                        *route, X_Modeltrail_Actor=name, Idempotency_Key=key
                    )
                except NoAnswer:  # a repeat with the same key is safe
                    time.sleep(0.02)
                    continue
                body = answer.body
                assert answer.status in (200, 400, 404, 409), answer
                accepted, number = answer.status == 200, body.get("version")
                self.done.append(
                    ["done", name, body["position"], body["event_id"], key, accepted, number]
                )
                if accepted and type == "CreateModelVersion":
                    self.versions.append((fields["model"], number, body["position"]))
                break

    def _ingest(self, name: str, random: Random) -> None:
        while not self.stopping.is_set():
            run = RunWriter(os.urandom(16).hex(), actor=name)
            batch = [run.started(experiment_id="0")]
            self.ingested[run.run_id] = 0
            for step in range(0, 20, 5):
                for at in range(step, step + 5):
                    batch.append(run.metric("m", at, value_of(at)))
                    batch.append(run.metric("n", at, -value_of(at)))
                body = b"".join(len(e.payload).to_bytes(4, "little") + e.payload for e in batch)
                while not self.stopping.is_set():
                    try:
                        answer = self.server.request("POST", "/api/v1/ingest", body)
                    except NoAnswer:  # the fold drops what comes twice
                        time.sleep(0.02)
                        continue
                    assert answer.status == 200, answer
                    self.ingested[run.run_id] = step + 5
                    break
                batch = []


def route_of(type: str, fields: dict[str, Any]) -> tuple[str, str, Any] | None:
    """Method, path and body of a request; None for those that are not asked for here."""
    model = f"/api/v1/models/{fields.get('model')}"
    if type == "CreateModelVersion":
        body = {"source": fields["source"], "create_model": True}
        return "POST", f"{model}/versions", body
    if type == "SetRegisteredModelAlias":
        body = {"version": fields["version"], "expected": fields["expected_version"]}
        return "PUT", f"{model}/aliases/{fields['alias']}", body
    if type == "TransitionModelVersionStage":
        body = {"stage": fields["stage"], "archive_existing_versions": True}
        return "PUT", f"{model}/versions/{fields['version']}/stage", body
    return None


def test_killed_servers(tmp_path: Path) -> None:
    random = chance()
    server = Server(tmp_path / "data", "--threads", "1")
    with server, Clients(server, random) as clients:
        for _ in range(rounds(15)):
            told = len(clients.done)
            while len(clients.done) < told + 3 and not clients.failures:
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.5))
            server.end(9)
            server.start()
        told = len(clients.done)
        while len(clients.done) < told + 3 and not clients.failures:
            time.sleep(0.01)
    assert not clients.failures, clients.failures
    with folded(server.data) as (fold, account):
        for report in clients.done:
            account.check_done(report)
        for run_id, steps in clients.ingested.items():
            if steps or run_id in account.runs:
                account.check_run(run_id, steps)
        con = fold.cursor()
        for model, number, position in clients.versions:
            offset = int(position.rpartition(":")[2])
            found = con.execute(
                'SELECT model, version FROM fold.requests WHERE "offset" = ?', [offset]
            )
            assert found.fetchone() == (model, number)
        assert con.execute("SELECT sum(events_missing) FROM runs").fetchone() == (0,)
        check_registry(account, con)
        check_against_rebuild(account.log, fold)
    repeats = account.repeats + sum(r.repeat for r in account.requests)
    print(f"{len(clients.done)} decisions told, {repeats} events repeated")  # noqa: T201
