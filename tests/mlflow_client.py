"""Unmodified MLflow clients, each in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PINS = Path(__file__).parent / "mlflow"
_CACHE = Path(__file__).parent.parent / ".cache"


def python_with_mlflow(major: str) -> str:
    """A Python that has MLflow: named by an environment variable, or made here from the pins."""
    setting = {"2": "MODELTRAIL_TEST_MLFLOW2", "3": "MODELTRAIL_TEST_MLFLOW3"}[major]
    given = os.environ.get(setting)
    if given:
        return given
    pins = _PINS / f"requirements-mlflow{major}.txt"
    folder = _CACHE / f"mlflow{major}"
    python = folder / "bin" / "python"
    stamp = folder / "pins.txt"
    if stamp.exists() and stamp.read_bytes() == pins.read_bytes():
        return str(python)
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run(
            [
                *(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--require-hashes", "-r", str(pins)),
            ],
            check=True,
            timeout=900,
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = f"no environment with MLflow {major}: {error}; set {setting}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    stamp.write_bytes(pins.read_bytes())
    return str(python)


class MlflowClient:
    """Runs scripts with an unmodified MLflow against a server."""

    def __init__(self, python: str, url: str, folder: Path) -> None:
        self._python = python
        self._url = url
        self._folder = folder

    def run(self, script: str, *args: str, **environment: str) -> str:
        """Run a script with ``mlflow`` and a ``MlflowClient`` named ``client``; its output."""
        head = (
            "import json, math, sys, warnings\n"
            "warnings.filterwarnings('ignore')\n"
            "import mlflow\n"
            "from mlflow import MlflowClient\n"
            "from mlflow.exceptions import MlflowException\n"
            "client = MlflowClient()\n"
        )
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "MODELTRAIL"))}
        done = subprocess.run(
            [self._python, "-c", head + script, *args],
            capture_output=True,
            text=True,
            timeout=150,
            cwd=self._folder,
            check=False,
            env={
                **clean,
                "MLFLOW_TRACKING_URI": self._url,
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "GIT_PYTHON_REFRESH": "quiet",
                **environment,
            },
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout
