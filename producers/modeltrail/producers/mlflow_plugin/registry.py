"""The model registry: all of it is the server's, who decides in the log's order."""

from __future__ import annotations

from mlflow.store.model_registry.rest_store import RestStore
from mlflow.tracking._tracking_service.utils import _get_store


class RegistryStore(RestStore):  # type: ignore[misc]  # MLflow ships no types
    """MLflow's own client of the registry.

    Before each request it lets the server see what this process logged, so that a version can be
    made of a run that has just ended.
    """

    def __init__(self, store_uri: str) -> None:
        """Ask nobody yet; without a server each call raises ``MlflowException``, which says so."""
        super().__init__(_get_store(store_uri).server.creds)
