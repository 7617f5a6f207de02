"""The entry points that MLflow loads.

It loads them even if they are not used, so nothing is imported here.

MLflow also loads plugins while its own modules are half imported.
"""

from __future__ import annotations

from typing import Any


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """Return the tracking store for a URI of this plugin."""
    from modeltrail.producers.mlflow_plugin.store import TrackingStore

    return TrackingStore(store_uri)


def registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """Return the model registry for a URI of this plugin."""
    from modeltrail.producers.mlflow_plugin.registry import RegistryStore

    return RegistryStore(store_uri)


def artifact_repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """Return the repository of an ``mlflow-artifacts:`` URI: this plugin's, or MLflow's own.

    It replaces MLflow's, so that runs and logged models have the same URIs for every client. For
    tracking URIs of other kinds it returns what MLflow would.
    """
    from mlflow.tracking._tracking_service.utils import _get_store, get_tracking_uri

    uri = tracking_uri or get_tracking_uri()
    if uri.startswith("modeltrail+"):
        from modeltrail.producers.mlflow_plugin.artifacts import Artifacts

        return Artifacts(artifact_uri, _get_store(uri))
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    options = {"tracking_uri": tracking_uri, "registry_uri": registry_uri}
    given = {name: value for name, value in options.items() if value is not None}
    return MlflowArtifactsRepository(artifact_uri, **given)
