"""Runs flows of users in one process of an unmodified MLflow client.

    python run_flows.py REPORT MODULE.FUNCTION...

The environment says where the server is. Writes what became of each flow to REPORT, as JSON by
name: ``seconds``, and ``error`` with the traceback where it failed. One that fails stops no other.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path


def main(report: str, *names: str) -> None:
    """Run the flows, each in an empty folder and an experiment of its own."""
    warnings.filterwarnings("ignore")
    import mlflow

    outcomes: dict[str, dict[str, object]] = {}
    for name in names:
        began = time.monotonic()
        error = None
        os.chdir(tempfile.mkdtemp(dir=Path(report).parent))
        try:
            module, _, function = name.partition(".")
            mlflow.set_experiment(f"/flows/{mlflow.__version__}/{name}")
            getattr(importlib.import_module(module), function)()
        except (Exception, SystemExit):
            error = traceback.format_exc()
        while mlflow.active_run():
            mlflow.end_run()
        mlflow.autolog(disable=True)
        outcomes[name] = {"seconds": round(time.monotonic() - began, 2), "error": error}
        half = Path(report).with_suffix(".half")
        half.write_text(json.dumps(outcomes), encoding="utf-8")
        half.replace(report)


if __name__ == "__main__":
    main(*sys.argv[1:])
