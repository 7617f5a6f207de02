"""A node with users, for tests of what they may do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from access_users import bearer, make_user
from modeltrail.api.access import admin as access_admin
from modeltrail.api.access.acts import Level
from modeltrail.api.access.admin import BY_SERVER, Holder
from modeltrail.api.access.rights import Access
from modeltrail.api.app import create_app
from modeltrail.api.artifacts.store import ArtifactStore, open_storage
from modeltrail.api.node import Node
from modeltrail.consumers.fold import Fold
from modeltrail.eventlog import EventLog, open_log
from modeltrail.schemas.framing import frame

V1 = "/api/v1"
V2 = "/api/2.0/mlflow"
V3 = "/api/3.0/mlflow"


class World:
    """A node with an administrator and the users ada and bob, who have tokens."""

    def __init__(self, node: Node, default: Level) -> None:
        self.node = node
        self.access = Access(node, default)
        self.headers = {
            "root": bearer(make_user(node, "root", admin=True)),
            "ada": bearer(make_user(node, "ada")),
            "bob": bearer(make_user(node, "bob")),
        }
        self.client = TestClient(create_app(node, access=self.access), base_url="http://localhost")

    def ask(self, who: str, method: str, path: str, status: int = 200, /, **fields: Any) -> Any:
        """Ask as a user; fields go into the query of a GET, else into the body."""
        given: dict[str, Any] = {"params": fields} if method == "GET" else {"json": fields}
        answer = self.client.request(method, path, headers=self.headers[who], **given)
        assert answer.status_code == status, (who, method, path, answer.text)
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

    def grant(self, user: str, permission: str, resource: str, pattern: str) -> None:
        target = access_admin.target_of(self.node, resource, pattern)
        access_admin.grant(self.node, BY_SERVER, Holder(user), target, permission)

    def experiment(self, who: str, name: str) -> str:
        created = self.ask(who, "POST", f"{V2}/experiments/create", name=name)
        return str(created["experiment_id"])

    def run(self, who: str, experiment_id: str) -> str:
        started = self.ask(who, "POST", f"{V2}/runs/create", experiment_id=experiment_id)
        return str(started["run"]["info"]["run_id"])

    def ingest(self, who: str, *payloads: bytes) -> int:
        answer = self.client.post(
            f"{V1}/ingest", content=frame(list(payloads)), headers=self.headers[who]
        )
        return answer.status_code


def open_node(log: EventLog, folder: Path) -> tuple[Node, Fold]:
    """A node on a log, with its fold and artifacts in a folder; both are for the caller to stop."""
    fold = Fold(log, None, memory_limit="1GB", threads=2)
    fold.start()
    node = Node(log, fold, ArtifactStore(open_storage(str(folder))))
    node.start()
    return node, fold


@contextmanager
def world_in(folder: Path) -> Iterator[World]:
    """A world on a log of its own, in which nothing is allowed by default."""
    log = open_log(str(folder / "data"))
    node, fold = open_node(log, folder / "artifacts")
    try:
        world = World(node, Level.NONE)
        with world.client:
            yield world
    finally:
        node.stop()
        fold.stop()
        log.close()
