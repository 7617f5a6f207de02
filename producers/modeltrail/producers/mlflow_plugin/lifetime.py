"""What happens to MLflow's active runs and to the stores when a process forks or exits."""

from __future__ import annotations

import atexit
import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeltrail.producers.mlflow_plugin.base import BaseStore

# Kept forever, as MLflow keeps its stores.
_stores: list[BaseStore] = []
_ends_runs = False


def remember(store: BaseStore) -> None:
    """Remember a store, so that it learns of forks and of the exit."""
    _stores.append(store)


def end_runs_at_exit() -> None:
    """End MLflow's active runs before the producers flush, which is earlier than MLflow would.

    ``atexit`` calls the functions registered last first, and MLflow registers its own on import.
    """
    global _ends_runs
    if not _ends_runs:
        _ends_runs = True
        atexit.register(_at_exit)


def _at_exit() -> None:
    from mlflow.tracking import fluent

    for store in _stores:
        store.exiting = True
    with contextlib.suppress(Exception):  # as in MLflow, never a traceback at exit
        while fluent.active_run() is not None:
            fluent.end_run()


def _after_fork_in_child() -> None:
    for store in _stores:
        store.known.renew_lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
