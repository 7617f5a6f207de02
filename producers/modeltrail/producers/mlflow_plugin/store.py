"""The tracking store: writes go to the producers, reads to a server or to what this process knows.

A write checks its arguments as MLflow's own stores do, and raises only for these. A read asks the
server if one answers. Otherwise MLflow's reads during training (the process's own runs, logged
models and experiments) are answered from what was logged here, and all other reads raise an error
that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.store.tracking.rest_store import RestStore

from modeltrail.producers.mlflow_plugin.experiments import Experiments
from modeltrail.producers.mlflow_plugin.logged_models import LoggedModels
from modeltrail.producers.mlflow_plugin.runs import Runs


class TrackingStore(Experiments, Runs, LoggedModels):
    """The store that MLflow calls. Thread-safe."""

    def _search_runs(self, *args: Any, **options: Any) -> Any:
        self.server.require()
        return self.rest._search_runs(*args, **options)


def _asks_server(name: str) -> Callable[..., Any]:
    def ask(self: TrackingStore, *args: Any, **options: Any) -> Any:
        self.server.require()
        return getattr(self.rest, name)(*args, **options)

    ask.__name__ = name
    ask.__doc__ = f"Ask the server; see MLflow's ``RestStore.{name}``."
    return ask


# Everything not above is asked of the server. Asynchronous logging uses ``log_batch``.
for _name in dir(AbstractStore):
    if (
        not _name.startswith("_")
        and not _name.endswith(("_async", "_async_logging"))
        and getattr(TrackingStore, _name) is getattr(AbstractStore, _name)
        and callable(getattr(RestStore, _name, None))
        and _name != "search_runs"
    ):
        setattr(TrackingStore, _name, _asks_server(_name))
