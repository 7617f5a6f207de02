"""All of MLflow's endpoints together."""

from __future__ import annotations

from starlette.routing import BaseRoute

from modeltrail.api.mlflow import (
    artifacts,
    downloads,
    experiments,
    history,
    logged_models,
    multipart,
    registry,
    runs,
    service,
)
from modeltrail.api.mlflow.calls import routes
from modeltrail.api.mlflow.live import LiveRuns


def mlflow_routes() -> list[BaseRoute]:
    """Routes for an application, with state of their own."""
    parts = [
        service.endpoints,
        experiments.endpoints,
        runs.endpoints,
        history.endpoints,
        registry.endpoints,
        logged_models.endpoints,
        artifacts.endpoints,
    ]
    return [
        *service.routes,
        *artifacts.routes(),
        *multipart.routes(),
        *downloads.routes(),
        *routes(parts, {LiveRuns: LiveRuns()}),
    ]
