"""What the producers' tests share."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modeltrail.eventlog import RUNS, open_log
from modeltrail.schemas import Codec
from open_runs import end_open_runs

Event = tuple[str, dict[str, Any]]


class Home:
    """A place of its own for one test: working folder, outbox, and an embedded log as target."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outbox = folder / "outbox"
        self.data = folder / "modeltrail-data"

    def events(self, data: Path | None = None) -> list[Event]:
        """All events of the stream ``runs``, in order, repeats of the outbox removed."""
        log = open_log(str(data or self.data))
        codec = Codec(lambda: log.schemas().values())
        reader = log.reader({})
        events: list[Event] = []
        while records := reader.poll(0.05):
            events += [codec.decode(r.payload) for r in records if r.stream == RUNS]
        reader.close()
        log.close()
        return without_repeats(events)

    def outboxes(self) -> list[str]:
        """Names of the outboxes that are left."""
        return sorted(os.listdir(self.outbox)) if self.outbox.exists() else []

    def script(
        self, text: str, *, check: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(text)],
            cwd=self.folder,
            env={**os.environ, **env},
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        assert not check or done.returncode == 0, done.stderr
        return done


def without_repeats(events: list[Event]) -> list[Event]:
    """What the fold would make of it: per producer, no number twice, and rising."""
    last: dict[bytes, int] = {}
    kept = []
    for type, event in events:
        head = event["envelope"]
        if head["sequence"] > last.get(head["producer_id"], -1):
            last[head["producer_id"]] = head["sequence"]
            kept.append((type, event))
    return kept


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """See ``Home``. What is left running is stopped afterwards."""
    here = Home(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELTRAIL_OUTBOX", str(here.outbox))
    monkeypatch.delenv("MODELTRAIL_URL", raising=False)
    monkeypatch.delenv("MODELTRAIL_TOKEN", raising=False)
    yield here
    end_open_runs()
