"""Settings: what cannot be meant is said."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from api_server import modeltrail
from modeltrail.eventlog import LogMisconfigured, mistake_in, open_log
from modeltrail.eventlog.address import absolute_url
from modeltrail.producers import settings, start_run, sync
from modeltrail.producers.settings import VARIABLES, read_settings
from open_runs import end_open_runs
from reference_docs import ROOT


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MODELTRAIL_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(settings, "_reported", set())


def test_the_known_variables_are_those_of_the_docs() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(MODELTRAIL_[A-Z0-9_]+)` \| (?!tests)", page, re.M))
    assert documented == VARIABLES


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("http//bad", "http://bad"),
        ("http:/bad:5000", "http://bad:5000"),
        ("https;//bad", "https://bad"),
        ("kafka:/b:9092/x", "kafka://b:9092/x"),
        ("localhost:5000", "http://localhost:5000"),
        ("10.0.0.1:5000/x", "http://10.0.0.1:5000/x"),
        ("htp://host", None),
    ],
)
def test_what_was_meant_for_a_url_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, meant: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = mistake_in(url)
    assert wrong is not None
    assert meant is None or f"did you mean '{meant}'" in wrong
    assert absolute_url(url) == url
    with pytest.raises(LogMisconfigured, match="neither a folder nor"):
        open_log(url)
    for command in (["sql", "SELECT 1"], ["serve", "--port", "0"], ["status"]):
        found = modeltrail(*command, env={"MODELTRAIL_URL": url})
        assert found.returncode == 2
        assert "MODELTRAIL_URL: " in found.stderr
        assert "Traceback" not in found.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("url", ["data", "./http//bad", "/a:1", "http", "kafka/x", "memory:"])
def test_folders_are_folders(url: str) -> None:
    assert mistake_in(url) is None


def test_a_folder_that_is_there_is_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data:1").mkdir()
    assert absolute_url("data:1") == str(tmp_path / "data:1")


def test_events_wait_for_the_right_url(
    home: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MODELTRAIL_URL", "http//bad")
    run = start_run()
    run.log({"m": 1.0})
    assert not run.finish(timeout_s=1)
    assert "did you mean 'http://bad'" in caplog.text
    end_open_runs()
    assert [(r.error, r.events) for r in sync(url=str(home.data))] == [(None, 3)]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("HEARTBEAT_S", "soon", "MODELTRAIL_HEARTBEAT_S='soon' is ignored"),
        ("FINISH_TIMEOUT_S", "-1", "expected a number from 0 on"),
        ("OUTBOX_BYTES_MAX", "4GB", "expected a number from 1 on"),
        ("URI", "http://x", "did you mean MODELTRAIL_URL?"),
        ("TOKN", "x", "did you mean MODELTRAIL_TOKEN?"),
        ("TIMEOUT_S", "1", "did you mean MODELTRAIL_"),
        ("SERVER", "host:5000", "expected a URL as in http://host:5000"),
        ("ARTIFACTS", "http//bad", "did you mean 'http://bad'"),
        ("WEBHOOK_ALLOW_PRIVATE", "ja", "expected true, 1, yes"),
    ],
)
def test_a_typo_is_said_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
    says: str,
) -> None:
    name = f"MODELTRAIL_{name}"
    monkeypatch.setenv(name, value)
    for _ in range(3):
        read_settings()
    assert caplog.text.count(says) == 1
    found = modeltrail("sync", "--outbox", str(tmp_path), env={name: value})
    assert says in found.stderr or "expected as in http://host:5000" in found.stderr
    assert found.returncode == (2 if name == "MODELTRAIL_SERVER" else 0)


def test_names_of_others_are_theirs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # What Kubernetes sets in every container, for a service "modeltrail".
    for name in ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_5000_TCP", "PORT_5000_TCP_PROTO"):
        monkeypatch.setenv(f"MODELTRAIL_{name}", "tcp://10.0.0.1:5000")
    read_settings()
    assert caplog.text == ""
