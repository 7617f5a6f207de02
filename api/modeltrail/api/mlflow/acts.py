"""MLflow's endpoints that perform one command of the registry and do nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.calls import Call, Endpoints
from modeltrail.api.mlflow.registered import decided_model, decided_version, version_number
from modeltrail.api.registry.commands import BY_TYPE, Command
from modeltrail.api.registry.evidence import latest_metrics
from modeltrail.api.runs.live import LiveRuns
from modeltrail.consumers.projections.requests import Verdict

endpoints = Endpoints()

REASON = "modeltrail.reason"
"""Tag of a version with the reason, for clients that cannot send a header."""

ENDPOINTS: Final = {
    "POST experiments/update experiment_id new_name": "RenameExperiment",
    "POST experiments/delete experiment_id": "DeleteExperiment",
    "POST experiments/restore experiment_id": "RestoreExperiment",
    "POST experiments/set-experiment-tag experiment_id key value?": "ChangeExperimentTags",
    "POST experiments/delete-experiment-tag experiment_id key": "ChangeExperimentTags",
    "PATCH registered-models/update name description?": "UpdateRegisteredModel",
    "POST registered-models/rename name new_name": "RenameRegisteredModel",
    "DELETE registered-models/delete name": "DeleteRegisteredModel",
    "POST registered-models/set-tag name key value?": "ChangeRegisteredModelTags",
    "DELETE registered-models/delete-tag name key": "ChangeRegisteredModelTags",
    "POST registered-models/alias name alias version": "SetRegisteredModelAlias",
    "DELETE registered-models/alias name alias": "DeleteRegisteredModelAlias",
    "PATCH model-versions/update name version description?": "UpdateModelVersion",
    "POST model-versions/transition-stage name version stage archive_existing_versions?": (
        "TransitionModelVersionStage"
    ),
    "DELETE model-versions/delete name version": "DeleteModelVersion",
    "POST model-versions/set-tag name version key value?": "ChangeModelVersionTags",
    "DELETE model-versions/delete-tag name version key": "ChangeModelVersionTags",
}
"""Method, path and fields (``?`` marks optional ones), and the command's event type."""

_ANSWERS: Final[dict[str, Callable[[Call, Verdict], dict[str, Any]]]] = {
    "registered-models/update": decided_model,
    "registered-models/rename": decided_model,
    "model-versions/update": decided_version,
    "model-versions/transition-stage": decided_version,
}
"""What endpoints answer, by path. The others answer nothing."""


def _fields(call: Call, names: Sequence[str]) -> dict[str, Any]:
    """Return the fields of an event, which MLflow gives other names, for some fields of a call."""
    fields: dict[str, Any] = {}
    for name in names:
        match name:
            case "experiment_id":
                fields[name] = wire.check_experiment_id(call[name])
            case "name":
                fields["model"] = call[name]
            case "new_name":
                fields["name"] = call[name]
            case "version":
                fields[name] = version_number(call)
            case "key":
                value = call.get("value", "") if "value" in names else None
                fields["tags"] = {call[name]: value}
            case "archive_existing_versions":
                fields[name] = call.get(name, False)
            case "alias" | "stage" | "description":
                fields[name] = call.get(name, "")
    return fields


def _reason(call: Call, type: str, number: int, alias: str | None) -> str | None:
    """Return the version's tag with the reason, unless an earlier decision used it."""
    if call.caller.reason:
        return call.caller.reason
    with call.node.registry() as registry:
        version = registry.models.version(call["name"], number)
        tag = version.open.get(("tag", REASON)) if version is not None else None
        if version is None or tag is None:
            return None
        return tag.value if tag.from_offset > version.decided.get((type, alias), -1) else None


def _declare(command: Command, endpoint: str) -> None:
    _, path, *given = endpoint.split()
    names = [name.rstrip("?") for name in given]
    has_evidence = any(field.event == "evidence" for field in command.fields)

    def act(call: Call) -> dict[str, Any]:
        fields, reason = _fields(call, names), None
        if has_evidence:
            number = fields["version"]
            reason = _reason(call, command.type, number, fields.get("alias"))
            fields["evidence"] = latest_metrics(call.node, fields["model"], number)
        verdict = call.decide(command.type, fields, reason=reason)
        if command.type in ("DeleteExperiment", "RestoreExperiment"):
            call.state[LiveRuns].forget()
        answer = _ANSWERS.get(path)
        return {} if answer is None else answer(call, verdict)

    act.__doc__ = command.doc
    endpoints.declare(endpoint)(act)


for _endpoint, _type in ENDPOINTS.items():
    _declare(BY_TYPE[_type], _endpoint)
