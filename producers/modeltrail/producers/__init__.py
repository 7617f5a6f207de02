"""Log runs from a training job.

    from modeltrail.producers import start_run

    with start_run("digits", params={"lr": 0.1}) as run:
        for step in range(1000):
            run.log({"loss": loss}, step)

A log call never blocks and never raises. Everything is written to an outbox on the local disk
first, and delivered from there in order, by this process or later by ``modeltrail sync``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeltrail.producers.run import Run, active_run, start_run

if TYPE_CHECKING:
    from modeltrail.producers.syncing import SyncResult, sync

__all__ = ["Run", "SyncResult", "active_run", "start_run", "sync"]


def __getattr__(name: str) -> object:
    """Import ``sync`` on first use, because training jobs do not need it."""
    if name in ("sync", "SyncResult"):
        import importlib

        # Use import_module: the import statement would bind the module's name over the function.
        module = importlib.import_module("modeltrail.producers.syncing")
        globals()["sync"], globals()["SyncResult"] = module.sync, module.SyncResult
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
