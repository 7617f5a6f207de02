"""The model registry. All calls go to the server, which decides in the log's order."""

from __future__ import annotations

from mlflow.store.model_registry.rest_store import RestStore
from mlflow.tracking._tracking_service.utils import _get_store


class RegistryStore(RestStore):  # type: ignore[misc]  # MLflow ships no types
    """MLflow's own client of the registry.

    Before each request it delivers what this process logged, so that a version can be created from
    a run that has just ended.
    """

    def __init__(self, store_uri: str) -> None:
        """Make a client; nothing is contacted yet.

        Without a server each call raises ``MlflowException``.
        """
        super().__init__(_get_store(store_uri).server.creds)
