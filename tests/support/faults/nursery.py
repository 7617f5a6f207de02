"""A light parent whose children are killed: to fork one takes milliseconds, to start one a second.

The nursery imports what its children need and starts no thread. A child runs one function of
``faults.jobs`` and tells by ``report`` what it did; a line is one write to a pipe, so it is there
whole or not at all, and what was reported before a kill is not lost.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_write = os.write  # jobs replace os.write
_GONE = "gone"

Report = list[Any]


def report(*words: Any) -> None:
    """In a child: tell the test something."""
    _write(1, json.dumps(words).encode() + b"\n")


def main() -> None:
    """The nursery's process: an order a line on standard input, one child at a time."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    while line := sys.stdin.buffer.readline():
        pid = os.fork()
        if pid == 0:
            _be_child(json.loads(line))
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        report(_GONE)
        sys.stdin.buffer.readline()  # until now the id cannot have been given to another process
        os.waitpid(pid, 0)


def _be_child(order: dict[str, Any]) -> None:
    code = 1
    report("child", os.getpid())
    try:
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.environ.update(order["environment"])
        getattr(importlib.import_module("faults.jobs"), order["job"])(**order["given"])
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class Child:
    """A running job."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._over = False
        word, self.pid = self._read()
        assert word == "child"

    def _read(self) -> Report:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the nursery has died"
        report: Report = json.loads(line)
        return report

    def next(self) -> Report | None:
        """The next report, waiting for it; None when there is no more, and the child is dead."""
        if self._over:
            return None
        report = self._read()
        if report[0] != _GONE:
            return report
        self._over = True
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return None

    def rest(self) -> list[Report]:
        """What it reports until its end."""
        reports = []
        while (report := self.next()) is not None:
            reports.append(report)
        return reports

    def kill(self) -> list[Report]:
        """SIGKILL, unless it is dead already; gives the rest of its reports."""
        if not self._over:
            os.kill(self.pid, signal.SIGKILL)
        return self.rest()


class Nursery:
    """Starts children, one at a time."""

    def __init__(self, folder: Path, *preload: str, **environment: str) -> None:
        """Args: a folder to work in, modules to import, and variables for all children."""
        folder.mkdir(exist_ok=True)
        self.errors = folder / "errors.txt"
        """What children write to standard error."""
        self._child: Child | None = None
        support = str(Path(__file__).parents[1])
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "faults.nursery", *preload],
                cwd=folder,
                env={**os.environ, **environment, "PYTHONPATH": support},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def start(self, job: str, environment: Mapping[str, str] | None = None, **given: Any) -> Child:
        """Fork a child that calls ``faults.jobs.<job>(**given)``."""
        order = {"job": job, "environment": dict(environment or {}), "given": given}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        self._child = Child(self._process)
        return self._child

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *error: object) -> None:
        if self._child is not None:
            self._child.kill()
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


if __name__ == "__main__":
    # Under its own name, so that there is one of it.
    importlib.import_module("faults.nursery").main()
