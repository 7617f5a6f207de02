"""Every flow of users, by unmodified MLflow clients of both versions, on both kinds of logs.

The flows are in ``flows/``. One process of each version runs all of them on one server, both at
the same time; each test tells what became of one of them.
"""

from __future__ import annotations

import ast
import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from api_server import Server
from mlflow_client import FlowsOfClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FOLDER = Path(__file__).parent / "flows"
MODULES = ("tracking", "autologging", "models", "upkeep")
FLOWS = [
    f"{module}.{node.name}"
    for module in MODULES
    for node in ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
]
SINCE_3 = {"models.logged_models"}
# What these do differs from others in the client only; they take longest.
EMBEDDED_ONLY = {"autologging.scikit_learn", "autologging.grid_search"}


def flows(log: str, version: str) -> list[str]:
    """The flows that a client runs on a server with this kind of log."""
    without = (SINCE_3 if version == "2" else set()) | (EMBEDDED_ONLY if log == "kafka" else set())
    return [flow for flow in FLOWS if flow not in without]


CASES = [
    pytest.param(
        *(log, version, flow),
        id=f"{log}-mlflow-{version}-{flow}",
        marks=[pytest.mark.kafka] if log == "kafka" else [],
    )
    for log in ("embedded", "kafka")
    for version in ("3", "2")
    for flow in flows(log, version)
]


class Passed(NamedTuple):
    """A server on which both clients ran their flows, and what became of them."""

    server: Server
    outcomes: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def flows_on(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Passed]]:
    """Runs the flows on a kind of log, once for all tests."""
    done: dict[str, Passed] = {}

    def passed(log: str) -> Passed:
        if log not in done:
            folder = tmp_path_factory.mktemp(f"flows-{log}")
            options: list[str] = []
            if log == "kafka":
                prefix = f"flows-{os.urandom(4).hex()}-"
                options = ["--log", f"kafka://{request.getfixturevalue('kafka')}/{prefix}"]
            server = Server(folder / "data", *options)
            stack.callback(server.stop)
            server.ready()
            clients = {}
            for version in ("3", "2"):
                clients[version] = FlowsOfClient(
                    version, server.url, folder / version, flows(log, version)
                )
                stack.callback(clients[version].end)
            done[log] = Passed(server, {v: client.outcomes() for v, client in clients.items()})
        return done[log]

    with ExitStack() as stack:
        yield passed


@pytest.mark.parametrize(("log", "version", "flow"), CASES)
def test_flow(
    flows_on: Callable[[str], Passed],
    log: str,
    version: str,
    flow: str,
    record_property: Callable[[str, object], None],
) -> None:
    outcome = flows_on(log).outcomes[version][flow]
    record_property("seconds_in_client", outcome["seconds"])
    assert outcome["error"] is None, outcome["error"]


@pytest.mark.parametrize("log", ["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def test_trail_of_the_flows(flows_on: Callable[[str], Passed], log: str) -> None:
    """Who, why and on what evidence is in the trail, and nothing failed on the way."""
    server = flows_on(log).server

    def rows(statement: str) -> Any:
        return server.ask("/api/v1/sql", {"statement": statement})["rows"]

    assert rows("SELECT * FROM dead_letters") == []
    assert rows("SELECT DISTINCT actor FROM runs WHERE name = 'all'") == [[getpass.getuser()]]
    reasons = rows(
        "SELECT type, reason, request ->> '$.evidence[0].value' FROM audit "
        "WHERE reason IS NOT NULL ORDER BY ALL"
    )
    for expected in (
        ["TransitionModelVersionStage", "half the error", "0.25"],
        ["SetRegisteredModelAlias", "auc 0.95 against 0.9, margin 0.01", "0.95"],
        ["SetRegisteredModelAlias", "2 is slow: back, said by a tag", "0.5"],
        ["SetRegisteredModelAlias", "2 was innocent: forth, said by a header", "0.25"],
    ):
        assert reasons.count(expected) == 2, reasons  # once by each client
    assert rows("SELECT * FROM audit WHERE accepted IS NULL") == []
