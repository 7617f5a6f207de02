"""Whether a caller may append events of runs: by the experiments of the runs that they are of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from modeltrail.api.access.files import check_source
from modeltrail.api.access.rights import Level, Rights
from modeltrail.api.artifacts.uris import Place, parse
from modeltrail.api.errors import NotFound
from modeltrail.consumers.caretaker import absolute_source
from modeltrail.schemas import experiment_id

_CREATING = ("LoggedModelCreated", "LoggedModelImported")


def check_events(rights: Rights, events: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Check a batch in its order.

    Args:
        rights: What the caller may do.
        events: Type and fields of each.

    Raises:
        Forbidden: one of them is not allowed; nothing of the batch may be appended.
        NotFound: one is of a run or logged model that never started.
    """
    if rights.is_admin:
        return
    allowed: set[str] = set()  # runs and logged models that were checked
    named: set[str] = set()  # ids that experiments will have, which runs of the batch name first
    for type, event in events:
        owner = event["run_id"] if "run_id" in event else event["model_id"]
        if type == "RunStarted":
            _check_start(rights, event)
            if event["experiment_id"] is None:
                named.add(experiment_id(event["experiment_name"]))
        elif type in _CREATING:
            _check_new_model(rights, event, allowed, named)
        elif owner not in allowed:
            if "run_id" in event:
                rights.run(owner, Level.EDIT)
            else:
                rights.logged_model(owner, Level.EDIT)
        if type == "ModelRegistrationRequested":
            _check_registration(rights, event)
        allowed.add(owner)


def _check_start(rights: Rights, event: Mapping[str, Any]) -> None:
    # A run that is there keeps its experiment whatever a second start says.
    if rights.is_run(event["run_id"]):
        rights.run(event["run_id"], Level.EDIT)
        return
    if event["experiment_id"] is not None:
        rights.experiment(event["experiment_id"], Level.EDIT)
        return
    name = event["experiment_name"]
    try:
        rights.experiment_named(name, Level.EDIT)
    except NotFound:
        rights.new_experiment(name)


def _check_new_model(
    rights: Rights, event: Mapping[str, Any], allowed: set[str], named: set[str]
) -> None:
    model_id, source_run_id = event["model_id"], event["source_run_id"]
    try:
        rights.logged_model(model_id, Level.EDIT)
    except NotFound:
        try:
            rights.experiment(event["experiment_id"], Level.EDIT)
        except NotFound:
            if event["experiment_id"] not in named:
                raise
    if source_run_id and source_run_id not in allowed:
        rights.run(source_run_id, Level.READ)
    location = event["artifact_location"]
    # The place that this server keeps for the model itself is not there yet.
    if location and parse(location) != Place("model", model_id, ""):
        # Whoever reads the model may fetch what is there.
        check_source(rights, location)


def _check_registration(rights: Rights, event: Mapping[str, Any]) -> None:
    rights.model_or_new(event["model"], Level.EDIT)
    check_source(rights, absolute_source(event["source"], event["run_id"]), event["run_id"])
