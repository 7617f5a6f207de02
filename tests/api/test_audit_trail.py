"""What the trail says of each kind of request."""

from __future__ import annotations

from typing import Any

import pytest

from modeltrail.api.registry.trail import trail
from modeltrail.schemas import event_stream, event_types, experiment_id
from registry_requests import Registry

_IMPORTED = {"imported_from": "old", "created_at_ms": 1, "updated_at_ms": 1}
_VISION = experiment_id("vision")


def test_every_kind_of_request_says_what_it_is_about() -> None:
    registry = Registry()
    webhook = {"description": None, "events": ["registered_model.created"], "secret": None}
    place = {"resource": "experiment", "pattern": None, "entity_id": _VISION}
    team = {"resource": "registered_model", "pattern": "team-*", "entity_id": None}
    ada, reviewers = {"user": "ada", "role_id": None}, {"user": None, "role_id": None}

    def last(query: str) -> Any:
        (value,) = registry.values(query)
        return value

    said: dict[str, set[str]] = {}

    def do(type: str, expected: str, **fields: Any) -> None:
        registry.ask(type, **fields)
        cursor = registry.con.cursor()
        (event,) = trail(cursor, {}, 1, None)
        cursor.close()
        assert event["accepted"], event["message"]
        assert (event["type"], event["about"]) == (type, expected)
        said.setdefault(type, set()).add(expected)

    do("CreateExperiment", "experiment vision", name="vision")
    of = {"experiment_id": _VISION}
    do("ChangeExperimentTags", "experiment vision", tags={"a": "b"}, **of)
    do("RenameExperiment", "experiment sight", name="sight", **of)
    do("DeleteExperiment", "experiment sight", **of)
    do("RestoreExperiment", "experiment sight", **of)
    do(
        "ImportExperiment", "experiment old", name="old", imported_id="5", experiment_id="5",
        artifact_location=None, tags={}, deleted=False, **_IMPORTED,
    )  # fmt: skip
    do("CreateRegisteredModel", "model digits", model="digits")
    do("UpdateRegisteredModel", "model digits", model="digits", description="d")
    do("ChangeRegisteredModelTags", "model digits", model="digits", tags={"a": "b"})
    do("CreateModelVersion", "model digits version 1", model="digits")
    one = {"model": "digits", "version": 1}
    do("UpdateModelVersion", "model digits version 1", description="d", **one)
    do("ChangeModelVersionTags", "model digits version 1", tags={"a": "b"}, **one)
    do("CommentAdded", "model digits version 1", text="as good as the last", **one)
    do("TransitionModelVersionStage", "model digits version 1 to Production",
       stage="Production", **one)  # fmt: skip
    do("SetRegisteredModelAlias", "model digits@best version 1", alias="best", **one)
    do("DeleteRegisteredModelAlias", "model digits@best version 1", model="digits", alias="best")
    do("DeleteModelVersion", "model digits version 1", **one)
    do("RenameRegisteredModel", "model digits", model="digits", name="numbers")
    do("DeleteRegisteredModel", "model numbers", model="numbers")
    do("ImportRegisteredModel", "model old", model="old", description=None, tags={}, **_IMPORTED)
    do(
        "ImportModelVersion", "model old version 3 to Staging", model="old", version=3,
        source="s3://b/m", run_id=None, model_id=None, run_link=None, description=None,
        stage="Staging", tags={}, deleted=False, **_IMPORTED,
    )  # fmt: skip
    do("CreateWebhook", "webhook chat", name="chat", url="https://h.example/x",
       stage_transitions=None, status="ACTIVE", **webhook)  # fmt: skip
    of = {"webhook_id": last("SELECT webhook_id FROM webhooks")}
    keep = dict.fromkeys(("url", "description", "events", "stage_transitions", "secret", "status"))
    do("UpdateWebhook", "webhook talk", name="talk", **keep, **of)
    do("DeleteWebhook", "webhook talk", **of)
    do("SaveView", "view mine", name="mine", page="runs", query="a=b", shared=False)
    do("DeleteView", "view mine", view_id=last("SELECT view_id::BIGINT FROM saved_views"))
    do("CreateUser", "user ada", user="ada", password_hash=None, admin=True)
    do("CreateUser", "user bob", user="bob", password_hash=None, admin=True)
    do("UpdateUser", "user ada", user="ada", password_hash=None, admin=None)
    do("CreateToken", "token of user ada", user="ada", description=None, token_hash="0" * 64,
       expires_at_ms=None)  # fmt: skip
    id = last("SELECT token_id::BIGINT FROM fold.tokens")
    do("RevokeToken", f"token {id} of user ada", token_id=id)
    do("CreateRole", "role reviewers", role="reviewers", description=None)
    reviewers["role_id"] = role = last("SELECT role_id::BIGINT FROM fold.roles")
    do("AssignRole", "role reviewers, user ada", role_id=role, user="ada")
    do("UnassignRole", "role reviewers, user ada", role_id=role, user="ada")
    for holder, who in ((ada, "user ada"), (reviewers, "role reviewers")):
        for target, what in ((place, "experiment sight"), (team, "registered model team-*")):
            about = f"{who} on {what}"
            do("GrantPermission", about, permission="EDIT", exists=None, **target, **holder)
            do("RevokePermission", about, **target, **holder)
    do("UpdateRole", "role judges", role_id=role, role="judges", description=None)
    do("DeleteRole", "role judges", role_id=role)
    do("DeleteUser", "user bob", user="bob")
    assert said.keys() == {type for type in event_types() if event_stream(type) == "registry"}


@pytest.mark.parametrize("type", ["RestoreExperiment", "DeleteWebhook", "RevokeToken"])
def test_requests_about_what_was_never_there_name_its_id(type: str) -> None:
    registry = Registry()
    name = {"R": "token_id", "D": "webhook_id"}[type[0]]
    name = "experiment_id" if "Experiment" in type else name
    fields: dict[str, Any] = {name: 99 if name == "token_id" else "99"}
    registry.ask(type, **fields)
    (event,) = trail(registry.con, {}, 1, None)
    assert not event["accepted"]
    assert event["about"].endswith(" 99")
