"""The commands of docs/access.md, as a newcomer types them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from starlette.testclient import TestClient

from access_users import PASSWORD
from access_world import open_node
from api_server import modeltrail
from modeltrail.api.app import create_app
from modeltrail.eventlog import open_log

_DOCS = Path(__file__).parent.parent.parent / "docs" / "access.md"


def test_every_command_works_in_its_order(tmp_path: Path) -> None:
    commands = re.findall(r"^    (modeltrail .*?)(?: {3,}.*)?$", _DOCS.read_text(), re.MULTILINE)
    assert len(commands) >= 10
    env = {"MODELTRAIL_URL": str(tmp_path / "data"), "MODELTRAIL_NEW_PASSWORD": PASSWORD}
    token_id = "none yet"
    for command in commands:
        words = shlex.split(command)[1:]
        if words[0] == "serve":
            continue
        words = [token_id if word == "17" else word for word in words]
        done = modeltrail(*words, env=env)
        assert done.returncode == 0, (command, done.stderr)
        made = re.search(r"This is token (\d+)", done.stderr)
        token_id = made[1] if made else token_id
    listed = modeltrail("permission", "list", env=env).stdout
    assert "bob" in listed
    assert "ada" in listed


def test_head_is_get_without_a_body(tmp_path: Path) -> None:
    log = open_log("memory:")
    node, fold = open_node(log, tmp_path)
    try:
        client = TestClient(create_app(node), base_url="http://localhost")
        for path in ("/", "/health", "/metrics", "/version", "/api/v1/status", "/api/v1/runs"):
            head, get = client.head(path), client.get(path)
            assert (head.status_code, head.content) == (200, b""), path
            assert get.status_code == 200
            assert head.headers["content-type"] == get.headers["content-type"]
            assert int(head.headers["content-length"]) > 0
        assert client.head("/api/v1/runs/none").status_code == 404
        assert client.head("/api/v1/ingest").status_code == 405
    finally:
        node.stop()
        fold.stop()
        log.close()
