"""Errors for what MLflow's server has and this one does not."""

from __future__ import annotations

from modeltrail.api.errors import NotFound

_FEATURES = {
    "traces": "traces",
    "unified-traces": "traces",
    "get-online-trace-details": "traces",
    "get-trace-artifact": "traces",
    "assessments": "assessments",
    "datasets": "evaluation datasets",
    "scorers": "scorers",
    "gateway": "AI gateway",
    "gateway-proxy": "AI gateway",
    "mcp-servers": "registry of MCP servers",
    "review-queues": "review queues",
    "label-schemas": "label schemas",
    "issues": "issues found in traces",
    "prompt-optimization": "prompt optimization",
    "workspaces": "workspaces",
    "jobs": "jobs",
    "assistant": "assistant",
    "demo": "demo",
    "ui-telemetry": "telemetry",
}


def not_there(method: str, path: str) -> NotFound:
    """Return the error for an unknown path.

    It is 404 in all cases: clients that look for something newer or older then fall back, and no
    training run fails because it is missing.
    """
    message = f"{method} {path} is not an endpoint of this server"
    feature = next((_FEATURES[part] for part in path.split("/") if part in _FEATURES), None)
    if feature is not None:
        message += f", which has no {feature}"
    return NotFound(message, code="ENDPOINT_NOT_FOUND")
