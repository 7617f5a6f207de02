"""Many clients at once, each of which checks at once what it wrote, and what must hold after."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from faults.server import Answer, Server

MODEL = "crowd"
_POINTS = 20


def ask(server: Server, method: str, path: str, headers: Any = None, /, **fields: Any) -> Answer:
    """Call an endpoint under ``/api/2.0/mlflow/``."""
    url = f"/api/2.0/mlflow/{path}"
    if method == "GET":
        return server.request(method, f"{url}?{urlencode(fields)}", **(headers or {}))
    return server.request(method, url, fields, **(headers or {}))


def done(server: Server, method: str, path: str, headers: Any = None, /, **fields: Any) -> Any:
    """The same, where it must succeed; the answer's body."""
    answer = ask(server, method, path, headers, **fields)
    assert answer.status == 200, (method, path, fields, answer)
    return answer.body


@dataclass
class Done:
    """What a client was told that it did.

    Attributes:
        run_ids: Its runs.
        versions: The versions that it made; the others but the last of them it deleted.
        won: The races that it won, by name.
    """

    run_ids: list[str] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    won: list[str] = field(default_factory=list)


class Crowd:
    """Clients in threads, spread over servers with the same log."""

    def __init__(self, servers: Sequence[Server], clients: int, rounds: int) -> None:
        """Make what they share: an experiment, a run and a model."""
        self.servers, self.clients, self.rounds = servers, clients, rounds
        first = servers[0]
        name = {"name": "shared by the crowd"}
        self.experiment_id = done(first, "POST", "experiments/create", **name)["experiment_id"]
        run = done(first, "POST", "runs/create", experiment_id=self.experiment_id)
        self.run_id: str = run["run"]["info"]["run_id"]
        done(first, "POST", "registered-models/create", name=MODEL)
        self._start = threading.Barrier(clients)

    def work(self, timeout_s: float = 300) -> list[Done]:
        """Let them all work; what each was told, by its number."""
        with ThreadPoolExecutor(self.clients) as pool:
            working = [pool.submit(self._work, n) for n in range(self.clients)]
            try:
                return [one.result(timeout_s) for one in working]
            except BaseException:
                self._start.abort()  # or the others would wait for the one that failed
                raise

    def _work(self, n: int) -> Done:
        server, mine = self.servers[n % len(self.servers)], Done()
        for turn in range(self.rounds):
            self._start.wait(300)
            self._race(server, n, turn, mine)
            run_id = self._log(server, n, turn)
            mine.run_ids.append(run_id)
            self._share(server, n, turn)
            self._hand_over(server, self.servers[(n + 1) % len(self.servers)], f"{n} {turn}")
            self._register(server, n, run_id, mine)
            self._clean_up(server, n, run_id, mine)
        return mine

    def _race(self, server: Server, n: int, turn: int, mine: Done) -> None:
        """One of all has to win."""
        for name, path, code, fields in (
            ("model", "registered-models/create", "RESOURCE_ALREADY_EXISTS", {"name": f"m{turn}"}),
            ("experiment", "experiments/create", "RESOURCE_ALREADY_EXISTS", {"name": f"e{turn}"}),
            (
                *("param", "runs/log-parameter", "INVALID_PARAMETER_VALUE"),
                {"run_id": self.run_id, "key": f"p{turn}", "value": str(n)},
            ),
        ):
            answer = ask(server, "POST", path, **fields)
            if answer.status == 200:
                mine.won.append(f"{name} {turn}")
            else:
                assert (answer.status, answer.body["error_code"]) == (400, code), answer

    def _log(self, server: Server, n: int, turn: int) -> str:
        fields = {"experiment_id": self.experiment_id, "run_name": f"{n} {turn}", "user_id": "ada"}
        made = done(server, "POST", "runs/create", **fields)
        run = {"run_id": made["run"]["info"]["run_id"]}
        point = {"key": "loss", "value": 0.5, "timestamp": 1}
        done(server, "POST", "runs/log-metric", **run, **point, step=_POINTS)
        points = [{**point, "value": step, "step": step} for step in range(_POINTS)]
        tags = [{"key": "client", "value": str(n)}]
        params = [{"key": "turn", "value": str(turn)}]
        done(server, "POST", "runs/log-batch", **run, metrics=points, params=params, tags=tags)
        done(server, "POST", "runs/set-tag", **run, key="k", value="v")
        data = done(server, "GET", "runs/get", **run)["run"]["data"]
        assert [(m["key"], m["value"], m["step"]) for m in data["metrics"]] == [
            ("loss", 0.5, _POINTS)
        ], data
        assert data["params"] == params, data
        assert {t["key"]: t["value"] for t in data["tags"]}.items() >= {
            "client": str(n),
            "k": "v",
        }.items(), data
        history = done(server, "GET", "metrics/get-history", **run, metric_key="loss")
        assert len(history["metrics"]) == _POINTS + 1
        query = f"tags.client = '{n}'"
        fields = {"experiment_ids": [self.experiment_id], "filter": query}
        assert len(done(server, "POST", "runs/search", **fields)["runs"]) == turn + 1
        return str(run["run_id"])

    def _share(self, server: Server, n: int, turn: int) -> None:
        """All write to one run."""
        run = {"run_id": self.run_id}
        step = turn * self.clients + n
        point = {"key": "all", "value": n, "timestamp": 1, "step": step}
        done(server, "POST", "runs/log-metric", **run, **point)
        done(server, "POST", "runs/log-metric", **run, **point)  # sent again: still one point
        done(server, "POST", "runs/set-tag", **run, key=f"t{n}", value=str(turn))
        done(server, "POST", "runs/log-parameter", **run, key=f"{n} {turn}", value="x")

    def _hand_over(self, here: Server, there: Server, name: str) -> None:
        """What one server acknowledged can be written to at once through another."""
        made = done(here, "POST", "experiments/create", name=f"of {name}")
        run = done(there, "POST", "runs/create", **made)["run"]["info"]
        point = {"key": "loss", "value": 1, "timestamp": 1}
        done(here, "POST", "runs/log-metric", run_id=run["run_id"], **point)
        end = {"X_Modeltrail_Consistency": "log"}
        found = done(there, "GET", "runs/get", end, run_id=run["run_id"])["run"]["data"]["metrics"]
        assert [metric["value"] for metric in found] == [1], found

    def _register(self, server: Server, n: int, run_id: str, mine: Done) -> None:
        source = {"name": MODEL, "source": f"runs:/{run_id}/model", "run_id": run_id}
        made = done(server, "POST", "model-versions/create", **source)["model_version"]
        mine.versions.append(int(made["version"]))
        version = {"name": MODEL, "version": made["version"]}
        done(server, "POST", "model-versions/set-tag", **version, key="by", value=str(n))
        for alias in (f"a{n}", "champion"):
            done(server, "POST", "registered-models/alias", **version, alias=alias)
        found = done(server, "GET", "registered-models/alias", name=MODEL, alias=f"a{n}")
        assert found["model_version"]["run_id"] == run_id
        assert found["model_version"]["tags"] == [{"key": "by", "value": str(n)}]
        stage = {"stage": "Production", "archive_existing_versions": True}
        moved = done(server, "POST", "model-versions/transition-stage", **version, **stage)
        # Another client may have archived it again in the meantime.
        assert moved["model_version"]["current_stage"] in ("Production", "Archived")

    def _clean_up(self, server: Server, n: int, run_id: str, mine: Done) -> None:
        done(server, "POST", "runs/update", run_id=run_id, status="FINISHED", end_time=2)
        done(server, "POST", "runs/delete", run_id=run_id)
        refused = ask(server, "POST", "runs/set-tag", run_id=run_id, key="k", value="v")
        assert refused.status == 400, refused
        done(server, "POST", "runs/restore", run_id=run_id)
        info = done(server, "GET", "runs/get", run_id=run_id)["run"]["info"]
        assert (info["status"], info["lifecycle_stage"]) == ("FINISHED", "active")
        if len(mine.versions) > 1:
            version = {"name": MODEL, "version": str(mine.versions[-2])}
            done(server, "DELETE", "model-versions/delete", **version)
            assert ask(server, "GET", "model-versions/get", **version).status == 404

    def check(self, told: Sequence[Done], more_versions: int = 0) -> None:
        """Every server has all that the clients were told, and nothing twice.

        Args:
            told: What each client was told.
            more_versions: How many versions of the model others made, and did not delete.
        """
        versions = [number for mine in told for number in mine.versions]
        asked = len(versions) + more_versions
        won = Counter(race for mine in told for race in mine.won)
        assert len(won) == 3 * self.rounds, won
        assert set(won.values()) == {1}, won
        assert len(set(versions)) == len(versions)
        for server in self.servers:
            made = server.sql(
                "SELECT count(*), count(DISTINCT version), min(version), max(version) FROM audit "
                "WHERE type = 'CreateModelVersion' AND model = ? AND accepted",
                MODEL,
                consistency="log",
            )
            assert made == [[asked, asked, 1, asked]]
            self._check_registry(server, told, more_versions)
            self._check_runs(server, told)

    def _check_registry(self, server: Server, told: Sequence[Done], more_versions: int) -> None:
        found = done(server, "GET", "model-versions/search", filter=f"name='{MODEL}'")
        kept = {int(v["version"]): v for v in found["model_versions"]}
        assert {mine.versions[-1] for mine in told} <= set(kept)
        assert len(kept) == len(told) + more_versions
        # The last to be moved there archived the others; it may have been deleted since.
        assert sum(v["current_stage"] == "Production" for v in kept.values()) <= 1
        model = done(server, "GET", "registered-models/get", name=MODEL)["registered_model"]
        aliases = {a["alias"]: int(a["version"]) for a in model["aliases"]}
        for n, mine in enumerate(told):
            assert aliases[f"a{n}"] == mine.versions[-1]

    def _check_runs(self, server: Server, told: Sequence[Done]) -> None:
        data = done(server, "GET", "runs/get", run_id=self.run_id)["run"]["data"]
        params = {p["key"]: p["value"] for p in data["params"]}
        tags = {t["key"]: t["value"] for t in data["tags"]}
        for n, mine in enumerate(told):
            assert tags[f"t{n}"] == str(self.rounds - 1)
            for turn in range(self.rounds):
                assert params.pop(f"{n} {turn}") == "x"
                if f"param {turn}" in mine.won:
                    assert params.pop(f"p{turn}") == str(n)
        assert params == {}
        history = {"run_id": self.run_id, "metric_key": "all"}
        points = done(server, "GET", "metrics/get-history", **history)["metrics"]
        assert sorted(p["step"] for p in points) == list(range(self.clients * self.rounds))
        stored = server.sql(
            "SELECT run_id, count(*) FROM metrics WHERE key = 'loss' "
            "AND list_contains(?::VARCHAR[], run_id) GROUP BY ALL ORDER BY ALL",
            [run_id for mine in told for run_id in mine.run_ids],
        )
        run_ids = sorted(run_id for mine in told for run_id in mine.run_ids)
        assert stored == [[run_id, _POINTS + 1] for run_id in run_ids]


def answers(server: Server, crowd: Crowd) -> dict[str, Any]:
    """What MLflow's endpoints say about everything, for comparison."""
    everything: dict[str, Callable[[], Any]] = {
        "runs": lambda: done(
            server, "POST", "runs/search", max_results=50_000, order_by=["attributes.run_id ASC"]
        ),
        "experiments": lambda: done(server, "POST", "experiments/search", max_results=1_000),
        "models": lambda: done(server, "GET", "registered-models/search", max_results=1_000),
        "versions": lambda: done(server, "GET", "model-versions/search", max_results=10_000),
        "history": lambda: done(
            server, "GET", "metrics/get-history", run_id=crowd.run_id, metric_key="all"
        ),
    }
    # Lists of tags and the like have no order that clients may lean on.
    return {name: json.loads(_sorted(call())) for name, call in everything.items()}


def _sorted(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{" + ",".join(f"{json.dumps(k)}:{_sorted(v)}" for k, v in sorted(value.items())) + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(sorted(map(_sorted, value))) + "]"
    return json.dumps(value)
