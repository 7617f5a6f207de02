"""All of MLflow's endpoints together."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import BaseRoute

from modeltrail.api.mlflow import (
    artifacts,
    auth,
    downloads,
    experiments,
    history,
    logged_models,
    multipart,
    registry,
    runs,
    service,
    webhooks,
)
from modeltrail.api.mlflow.calls import Rule, routes
from modeltrail.api.mlflow.live import LiveRuns


def mlflow_routes(rule_of: Callable[[str, str], Rule] | None = None) -> list[BaseRoute]:
    """Routes for an application, with state of their own; see ``calls.routes``."""
    parts = [
        service.endpoints,
        auth.endpoints,
        experiments.endpoints,
        runs.endpoints,
        history.endpoints,
        registry.endpoints,
        logged_models.endpoints,
        artifacts.endpoints,
        webhooks.endpoints,
    ]
    return [
        *service.routes,
        *artifacts.routes(),
        *multipart.routes(),
        *downloads.routes(),
        *routes(parts, {LiveRuns: LiveRuns()}, rule_of),
    ]
