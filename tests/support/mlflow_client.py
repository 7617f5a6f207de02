"""Unmodified MLflow clients, each in an environment of its own.

Tests make the environments that they need. ``python tests/support/mlflow_client.py`` makes all of
them beforehand.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

_PINS = Path(__file__).parents[1] / "mlflow"
_CACHE = Path(__file__).parents[2] / ".cache"


def python_with_mlflow(version: str) -> str:
    """A Python that has MLflow: named by an environment variable, or made here from the pins."""
    setting = {
        "2.9": "MODELTRAIL_TEST_MLFLOW29",
        "2": "MODELTRAIL_TEST_MLFLOW2",
        "3": "MODELTRAIL_TEST_MLFLOW3",
    }[version]
    given = os.environ.get(setting)
    if given:
        return given
    _CACHE.mkdir(exist_ok=True)
    with (_CACHE / f"mlflow{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes must not make one environment
        return _made(version, setting)


def _made(version: str, setting: str) -> str:
    pins = _PINS / f"requirements-mlflow{version}.txt"
    folder = _CACHE / f"mlflow{version}"
    python = folder / "bin" / "python"
    stamp = folder / "pins.txt"
    if stamp.exists() and stamp.read_bytes() == pins.read_bytes():
        return str(python)
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run(
            [
                *(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--no-compile", "--require-hashes", "-r", str(pins)),
            ],
            check=True,
            timeout=900,
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = f"no environment with MLflow {version}: {error}; set {setting}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    stamp.write_bytes(pins.read_bytes())
    return str(python)


class MlflowClient:
    """Runs an unmodified MLflow against a server."""

    def __init__(self, python: str, url: str, folder: Path) -> None:
        self.python = python
        self.folder = folder
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "MODELTRAIL"))}
        self.environment = {
            **clean,
            "PATH": f"{Path(python).parent}{os.pathsep}{clean.get('PATH', '')}",
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_PYTHON_REFRESH": "quiet",
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start this Python with these arguments."""
        return subprocess.Popen(
            [self.python, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**self.environment, **environment},
        )

    def run(self, script: str, *arguments: str, **environment: str) -> str:
        """Run a script with ``mlflow`` and a ``MlflowClient`` named ``client``; its output."""
        head = (
            "import json, math, sys, warnings\n"
            "warnings.filterwarnings('ignore')\n"
            "import mlflow\n"
            "from mlflow import MlflowClient\n"
            "from mlflow.exceptions import MlflowException\n"
            "client = MlflowClient()\n"
        )
        return finished(self.start("-c", head + script, *arguments, **environment))

    def command(self, *words: str, **environment: str) -> str:
        """Run MLflow's own command; its output."""
        return finished(self.start("-m", "mlflow", *words, **environment))


def finished(process: subprocess.Popen[str]) -> str:
    """The output of a process, which must end well."""
    try:
        out, err = process.communicate(timeout=150)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    assert process.returncode == 0, f"{out}\n{err}"
    return out


class FlowsOfClient:
    """A process of a client, started at once, that runs flows of ``mlflow/flows/``."""

    def __init__(self, version: str, url: str, folder: Path, flows: Sequence[str]) -> None:
        folder.mkdir()
        self._report, self._output = folder / "report.json", folder / "output.txt"
        self._flows = list(flows)
        client = MlflowClient(python_with_mlflow(version), url, folder)
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(client.python, str(_PINS / "flows" / "run_flows.py")),
                    *(str(self._report), *flows),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=client.environment,
            )

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """What became of each, when all are done or 400 s are over."""
        try:
            code = self._process.wait(400)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            self.end()
        outcomes: dict[str, dict[str, Any]] = {}
        if self._report.exists():
            outcomes = json.loads(self._report.read_text(encoding="utf-8"))
        said = self._output.read_text(errors="replace")[-3000:]
        never = {"seconds": None, "error": f"the process never came to it (exit {code}): {said}"}
        return {flow: outcomes.get(flow, never) for flow in self._flows}

    def end(self) -> None:
        """End it, if it runs."""
        self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    for _version in ("3", "2", "2.9"):
        print(python_with_mlflow(_version))  # noqa: T201
