"""Clients that ask again until they are told, while servers are killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from faults.server import NoAnswer, Server
from mlflow_crowd import ask, done

MODEL = "persistent"
_PATIENCE_S = 240.0
_POINTS = 3


class Persistent:
    """Clients in threads, each of which goes to the next server when one does not answer."""

    def __init__(self, servers: Sequence[Server], clients: int, rounds: int) -> None:
        """Make the model that they share."""
        self.servers, self.clients, self.rounds = servers, clients, rounds
        self.acknowledged, self.unanswered = 0, 0
        self.some = threading.Event()
        """Set when a third of the work is done."""
        self._lock = threading.Lock()
        done(servers[0], "POST", "registered-models/create", name=MODEL)

    def _told(self, n: int, method: str, path: str, headers: Any = None, /, **fields: Any) -> Any:
        """Ask the same again until there is an answer; its body."""
        until = time.monotonic() + _PATIENCE_S
        place = n
        while True:
            server = self.servers[place % len(self.servers)]
            try:
                answer = ask(server, method, path, headers, **fields)
            except NoAnswer:
                with self._lock:
                    self.unanswered += 1
            else:
                # What MLflow's clients ask again after, but for 500.
                if answer.status not in (429, 503, 504):
                    assert answer.status == 200, (path, fields, answer)
                    break
            assert time.monotonic() < until, (path, fields)
            place += 1
            time.sleep(0.05)
        with self._lock:
            self.acknowledged += 1
            if self.acknowledged >= self.clients * self.rounds * (_POINTS + 5) // 3:
                self.some.set()
        return answer.body

    def work(self, n: int) -> list[tuple[str, int]]:
        """A run and a version in each round, as acknowledged."""
        made = []
        for turn in range(self.rounds):
            run = self._told(n, "POST", "runs/create")["run"]["info"]["run_id"]
            for step in range(_POINTS):
                point = {"key": "loss", "value": 0.5, "timestamp": 1, "step": step}
                self._told(n, "POST", "runs/log-metric", run_id=run, **point)
            self._told(n, "POST", "runs/log-parameter", run_id=run, key="turn", value=str(turn))
            key = {"Idempotency_Key": f"{n} {turn}"}
            source = {"name": MODEL, "source": f"runs:/{run}/model", "run_id": run}
            version = self._told(n, "POST", "model-versions/create", key, **source)
            number = version["model_version"]["version"]
            alias = {"name": MODEL, "alias": f"a{n}", "version": number}
            self._told(n, "POST", "registered-models/alias", **alias)
            self._told(n, "POST", "runs/update", run_id=run, status="FINISHED", end_time=2)
            made.append((run, int(number)))
        return made

    def work_all(self, pool: ThreadPoolExecutor) -> list[Any]:
        """All of them, started."""
        return [pool.submit(self.work, n) for n in range(self.clients)]

    def check(self, made: Sequence[Sequence[tuple[str, int]]]) -> None:
        """All that was acknowledged is there, and no acknowledged version is there twice."""
        total = self.clients * self.rounds
        for server in self.servers:
            versions = server.sql(
                "SELECT run_id, version FROM model_versions WHERE model = ? ORDER BY version",
                MODEL,
                consistency="log",
            )
            told = sorted((number, run) for mine in made for run, number in mine)
            assert versions == [[run, number] for number, run in told]
            assert [number for number, _ in told] == list(range(1, total + 1))
            runs = server.sql(
                "SELECT run_id, status, points_stored FROM runs "
                "WHERE list_contains(?::VARCHAR[], run_id) ORDER BY run_id",
                [run for _, run in told],
            )
            expected = sorted([run, "FINISHED", _POINTS] for _, run in told)
            assert len({run for _, run in told}) == total, "two clients were given one run"
            assert runs == expected, [run for run in runs if run not in expected]
            found = done(server, "GET", "registered-models/get", name=MODEL)["registered_model"]
            aliases = {a["alias"]: int(a["version"]) for a in found["aliases"]}
            assert aliases == {f"a{n}": mine[-1][1] for n, mine in enumerate(made)}
            assert server.sql("SELECT * FROM dead_letters") == []
