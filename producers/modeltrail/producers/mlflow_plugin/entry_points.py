"""What MLflow loads where Modeltrail is installed, used or not: hence nothing is imported here.

MLflow loads its plugins while its own modules are half imported, too.
"""

from __future__ import annotations

from typing import Any


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """The tracking store of a URI of this plugin."""
    from modeltrail.producers.mlflow_plugin.store import TrackingStore

    return TrackingStore(store_uri)


def registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """The model registry of a URI of this plugin."""
    from modeltrail.producers.mlflow_plugin.registry import RegistryStore

    return RegistryStore(store_uri)


def artifact_repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """The repository of an ``mlflow-artifacts:`` URI: this plugin's, or MLflow's own.

    It stands in for MLflow's, so that the URIs of runs and logged models are the same for every
    client. With any tracking URI but the plugin's it makes what MLflow would have made.
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
