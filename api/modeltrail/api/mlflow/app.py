"""All of MLflow's endpoints together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute

from modeltrail.api.mlflow import (
    acts,
    artifacts,
    auth,
    downloads,
    experiments,
    graphql,
    history,
    logged_models,
    multipart,
    registry,
    runs,
    service,
    webhooks,
)
from modeltrail.api.mlflow.calls import Rule, routes
from modeltrail.api.mlflow.unanswered import Unanswered
from modeltrail.api.runs.live import LiveRuns


def mlflow_routes(
    rule_of: Callable[[str, str], Rule] | None = None, unanswered: Path | None = None
) -> list[BaseRoute]:
    """Return the routes for an application, with their own state.

    Args:
        rule_of: See ``calls.routes``.
        unanswered: Folder of the requests that were not answered yet; created if missing.
    """
    parts = [
        service.endpoints,
        auth.endpoints,
        experiments.endpoints,
        runs.endpoints,
        history.endpoints,
        registry.endpoints,
        acts.endpoints,
        logged_models.endpoints,
        artifacts.endpoints,
        webhooks.endpoints,
    ]
    state: dict[type, Any] = {LiveRuns: LiveRuns(), Unanswered: Unanswered(unanswered)}
    return [
        *service.routes,
        *artifacts.routes(),
        *multipart.routes(),
        *downloads.routes(),
        *graphql.routes(parts, state, rule_of),
        *routes(parts, state, rule_of),
    ]
