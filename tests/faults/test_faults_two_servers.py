"""Two servers on the same Kafka topics agree in everything, whoever is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from faults.account import views
from faults.chance import chance
from faults.nursery import Nursery
from faults.server import Answer, Server

pytestmark = pytest.mark.alone

_PRELOAD = ("faults.jobs", "modeltrail.eventlog.kafka", "kafka", "modeltrail.producers.writer")
_RACES = 25
_ASKED_FOR = 5
_PATIENCE_S = 60.0


class _Race:
    """Four clients at two servers, who all want to move one alias on from where it is."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self._start = threading.Barrier(4)
        self._pool = ThreadPoolExecutor(4)

    def run(self, here: int, versions: list[int]) -> int:
        """Returns the version of the only winner."""

        def ask(n: int) -> Answer:
            self._start.wait()
            return self.servers[n % 2].request(
                "PUT",
                "/api/v1/models/digits/aliases/champion",
                {"version": versions[n], "expected": here, "evidence": []},
                X_Modeltrail_Actor=f"client-{n}",
            )

        answers = list(self._pool.map(ask, range(4)))
        won = [v for v, answer in zip(versions, answers, strict=True) if answer.status == 200]
        lost = [a for a in answers if a.status != 200]
        assert len(won) == 1, answers
        assert [(a.status, a.body["error_code"]) for a in lost] == [(409, "RESOURCE_CONFLICT")] * 3
        return won[0]

    def close(self) -> None:
        self._pool.shutdown()


def _wait_until(server: Server, query: str, expected: Any) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while (found := server.sql(query)) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


@pytest.mark.kafka
@pytest.mark.slow
def test_two_servers_agree(kafka: str, tmp_path: Path) -> None:
    random = chance()
    log = f"kafka://{kafka}/two-{os.urandom(4).hex()}-?partitions=3"
    options = ("--log", log, "--heart-timeout", "2", "--threads", "1")
    stop = tmp_path / "stop"
    environment = {"MODELTRAIL_OUTBOX": str(tmp_path / "outbox")}
    with ExitStack() as stack:
        servers = [Server(tmp_path / name, *options) for name in ("one", "two")]
        for server in servers:
            stack.enter_context(server)
        nurseries = [
            stack.enter_context(Nursery(tmp_path / f"nursery-{n}", *_PRELOAD, **environment))
            for n in range(3)
        ]
        # One job logs to the topics, one to a server, and one asks for versions and is killed.
        loads = [
            nursery.start(
                "train", url=url, burst=50, place="any time", nth=0, before=True, stop=str(stop)
            )
            for nursery, url in zip(nurseries, [log, servers[0].url], strict=False)
        ]
        silent = nurseries[2].start(
            "ask_for_versions", {"MODELTRAIL_HEARTBEAT_S": "0.2"}, url=log, n=_ASKED_FOR
        )
        asked = silent.next()
        assert asked is not None, nurseries[2].errors.read_text()
        silent.kill()

        race = _Race(servers)
        stack.callback(race.close)
        with ThreadPoolExecutor(8) as pool:
            body = {"source": "s3://x", "create_model": True}
            made = list(
                pool.map(
                    lambda n: servers[n % 2].request(
                        "POST", "/api/v1/models/digits/versions", body
                    ),
                    range(24),
                )
            )
        assert sorted(a.body["version"] for a in made) == list(range(1, 25))
        here = 0
        for _ in range(_RACES):
            # Whatever the other server has folded by now: it is the log's order that counts.
            here = race.run(here, random.sample([v for v in range(1, 25) if v != here], 4))

        run_id = asked[1]
        for server in servers:
            _wait_until(
                server,
                "SELECT count(*) FROM model_versions WHERE model = 'asked-for'",
                [[_ASKED_FOR]],
            )
            _wait_until(server, f"SELECT status FROM runs WHERE run_id = '{run_id}'", [["FAILED"]])
        stop.touch()
        for load in loads:
            assert load.rest()[-1] == ["finished", True]

        one, two = servers
        # Each may still be doing what the other has done: the log's end has to hold still.
        for view in views():
            query = f"FROM {view} ORDER BY ALL"
            answers = [server.sql(query, consistency="log") for server in servers]
            assert answers[0] == answers[1], view
            assert answers[0] or view not in ("runs", "metrics", "audit", "aliases"), view
        count = (
            "SELECT count(*), count(DISTINCT version), min(version), max(version) FROM {} "
            "WHERE model = '{}'"
        )
        for model, n in (("digits", 24), ("asked-for", _ASKED_FOR)):
            found = one.sql(count.format("model_versions", model))
            assert found == [[n, n, 1, n]]
        won = "SELECT count(*) FROM audit WHERE alias = 'champion' AND accepted"
        assert one.sql(won) == [[_RACES]]
        shown = "SELECT accepted, count(*) FROM registrations GROUP BY ALL"
        assert two.sql(shown) == [[True, _ASKED_FOR]]
        for path in (
            "/api/v1/models/digits/aliases/champion",
            "/api/v1/models/digits/versions",
            f"/api/v1/runs/{run_id}",
        ):
            answers_of_routes = [server.request("GET", path) for server in servers]
            assert answers_of_routes[0].status == 200
            assert answers_of_routes[0] == answers_of_routes[1]
    # Stopped servers have signed what they folded; the chain holds against the raw topics.
    for server in servers:
        verified = subprocess.run(
            [
                *(sys.executable, "-m", "modeltrail.api.cli", "audit", "verify", "--json"),
                *("--data", str(server.data), "--log", log),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        verdict = json.loads(verified.stdout or "{}")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert verdict["ok"], verdict
        assert verdict["compared_with_fold"], verdict
        assert verdict["checkpoints"] >= 1, verdict
        assert verdict["events"] > _RACES + 24, verdict
