"""Each request to the registry: what it does, and how it is refused. The wording is MLflow's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from modeltrail.eventlog import NewEvent
from modeltrail.schemas import experiment_id
from registry_requests import START_MS, Registry, request
from writers import RunWriter, Writer

INVALID, MISSING = "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"
EXISTS, CONFLICT = "RESOURCE_ALREADY_EXISTS", "RESOURCE_CONFLICT"


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def model(registry: Registry) -> Registry:
    """A registry with model m, versions 1 to 3."""
    registry.do("CreateRegisteredModel", model="m")
    for _ in range(3):
        registry.do("CreateModelVersion", model="m")
    return registry


def time(offset: int) -> datetime:
    return datetime.fromtimestamp(START_MS / 1000 + offset, UTC).replace(tzinfo=None)


# Experiments


def test_default_experiment_is_there_from_the_start(registry: Registry) -> None:
    assert registry.rows("FROM experiments") == [("0", "Default", None, False, None, None, None)]
    assert registry.refused("CreateExperiment", name="Default") == (
        EXISTS,
        "Experiment(name=Default) already exists.",
    )
    registry.do("DeleteExperiment", experiment_id="0")  # as MLflow allows
    assert registry.values("SELECT deleted FROM experiments") == [True]


def test_experiment_id_is_derived_from_the_name(registry: Registry) -> None:
    assert registry.do("CreateExperiment", name="/team/a").experiment_id == experiment_id("/team/a")


def test_an_old_name_taken_again_has_another_id(registry: Registry) -> None:
    first = registry.do("CreateExperiment", name="a").experiment_id
    registry.do("RenameExperiment", experiment_id=first, name="b")
    second = registry.do("CreateExperiment", name="a").experiment_id
    registry.do("RenameExperiment", experiment_id=second, name="c")
    third = registry.do("CreateExperiment", name="a").experiment_id
    assert [first, second, third] == [experiment_id("a", n) for n in (1, 2, 3)]
    assert registry.rows("SELECT name, valid_to IS NULL FROM experiment_names_history"
                         " WHERE experiment_id = ? ORDER BY from_offset", first) == [
        ("a", False), ("b", True),
    ]  # fmt: skip


def test_experiment_names_are_unique_deleted_ones_included(registry: Registry) -> None:
    a = registry.do("CreateExperiment", name="a").experiment_id
    b = registry.do("CreateExperiment", name="b").experiment_id
    assert registry.refused("RenameExperiment", experiment_id=b, name="a")[0] == EXISTS
    registry.do("DeleteExperiment", experiment_id=a)
    outcome = registry.ask("CreateExperiment", name="a")
    assert outcome.code == EXISTS
    assert outcome.experiment_id == a
    assert "deleted state" in (outcome.message or "")
    registry.do("RenameExperiment", experiment_id=b, name="b")  # to its own name


def test_life_of_an_experiment(registry: Registry) -> None:
    a = registry.do("CreateExperiment", name="a", tags={"k": "v"}).experiment_id
    nowhere = (MISSING, f"No Experiment with id={a} exists")
    assert registry.refused("RestoreExperiment", experiment_id=a) == nowhere
    registry.do("DeleteExperiment", experiment_id=a)
    assert registry.refused("DeleteExperiment", experiment_id=a) == nowhere
    assert registry.refused("RenameExperiment", experiment_id=a, name="x") == (
        INVALID,
        "Cannot rename a non-active experiment.",
    )
    assert registry.refused("ChangeExperimentTags", experiment_id=a, tags={"k": "w"}) == (
        INVALID,
        f"The experiment {a} must be in the 'active' state. Current state is deleted.",
    )
    registry.do("RestoreExperiment", experiment_id=a)
    registry.do("ChangeExperimentTags", experiment_id=a, tags={"k": "w", "l": "1"})
    registry.do("ChangeExperimentTags", experiment_id=a, tags={"l": None})
    assert registry.refused(
        "ChangeExperimentTags", experiment_id=a, tags={"n": "1", "l": None}
    ) == (
        MISSING,
        f"No tag with name: l in experiment with id {a}",
    )
    assert registry.rows("FROM experiment_tags") == [(a, "k", "w")]
    lives = registry.rows(
        "SELECT value, from_offset, to_offset FROM history WHERE attribute = 'lifecycle'"
        " AND experiment_id = ? ORDER BY from_offset", a)  # fmt: skip
    assert lives == [("active", 0, 2), ("deleted", 2, 6), ("active", 6, None)]
    assert registry.values("SELECT updated_at FROM experiments WHERE name = 'a'") == [time(6)]


@pytest.mark.parametrize("type", ["DeleteExperiment", "RestoreExperiment"])
def test_an_experiment_that_does_not_exist(registry: Registry, type: str) -> None:
    assert registry.refused(type, experiment_id="7") == (MISSING, "No Experiment with id=7 exists")


# Registered models


def test_a_model_exists_once(registry: Registry) -> None:
    registry.do("CreateRegisteredModel", model="m", description="d", tags={"a": "1"})
    registry.do("CreateRegisteredModel", model="p", tags={"mlflow.prompt.is_prompt": "true"})
    exists = (EXISTS, "Registered Model (name=m) already exists.")
    assert registry.refused("CreateRegisteredModel", model="m") == exists
    assert registry.refused("RenameRegisteredModel", model="p", name="m") == exists
    assert registry.refused(
        "CreateRegisteredModel", model="p", tags={"mlflow.prompt.is_prompt": "true"}
    ) == (EXISTS, "Prompt (name=p) already exists.")
    code, message = registry.refused("CreateRegisteredModel", model="p")
    assert code == EXISTS
    assert message == (
        "Tried to create a registered model with name 'p', but the name is already taken by a "
        "prompt. MLflow does not allow creating a model and a prompt with the same name."
    )
    assert registry.rows("SELECT model, description, created_by FROM models ORDER BY model") == [
        ("m", "d", "ann"), ("p", None, "ann"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("type", "body"),
    [
        ("UpdateRegisteredModel", {"description": "d"}),
        ("RenameRegisteredModel", {"name": "n"}),
        ("DeleteRegisteredModel", {}),
        ("ChangeRegisteredModelTags", {"tags": {"a": "1"}}),
        ("ChangeRegisteredModelTags", {"tags": {"a": None}}),
        ("CreateModelVersion", {}),
        ("DeleteRegisteredModelAlias", {"alias": "a"}),
    ],
)
def test_a_model_that_does_not_exist(registry: Registry, type: str, body: dict[str, Any]) -> None:
    expected = (MISSING, "Registered Model with name=gone not found")
    assert registry.refused(type, model="gone", **body) == expected


@pytest.mark.parametrize("model", ["m", "gone"])
@pytest.mark.parametrize(
    ("type", "body"),
    [
        ("UpdateModelVersion", {"description": "d"}),
        ("DeleteModelVersion", {}),
        ("ChangeModelVersionTags", {"tags": {"a": "1"}}),
        ("SetRegisteredModelAlias", {"alias": "a"}),
        ("TransitionModelVersionStage", {"stage": "Staging"}),
    ],
)
@pytest.mark.parametrize("version", [4, 0, -1, 2**62])
def test_a_version_that_does_not_exist(
    registry: Registry, model: str, type: str, body: dict[str, Any], version: int
) -> None:
    registry.do("CreateRegisteredModel", model="m")
    expected = (MISSING, f"Model Version (name={model}, version={version}) not found")
    assert registry.refused(type, model=model, version=version, **body) == expected


def test_a_rename_takes_everything_along(model: Registry) -> None:
    model.do("SetRegisteredModelAlias", model="m", alias="champion", version=2)
    model.do("RenameRegisteredModel", model="m", name="n")
    model.do("CreateRegisteredModel", model="m")
    assert model.rows("SELECT model, alias, version FROM aliases") == [("n", "champion", 2)]
    assert model.do("CreateModelVersion", model="n").version == 4
    assert model.do("CreateModelVersion", model="m").version == 1
    assert model.values("SELECT DISTINCT model FROM aliases_history") == ["n"]
    assert model.rows("SELECT model, alias FROM aliases_at(4)") == [("m", "champion")]
    assert model.values("SELECT updated_at FROM model_versions WHERE model = 'n' AND version = 1"
                        ) == [time(5)]  # fmt: skip


def test_version_numbers_are_not_used_again(model: Registry) -> None:
    model.do("DeleteModelVersion", model="m", version=3)
    assert model.do("CreateModelVersion", model="m").version == 4
    model.do("DeleteRegisteredModel", model="m")
    assert model.rows("FROM model_versions") == []
    model.do("CreateRegisteredModel", model="m")
    assert model.do("CreateModelVersion", model="m").version == 1


def test_what_was_deleted_is_in_the_history_only(model: Registry) -> None:
    model.do("SetRegisteredModelAlias", model="m", alias="a", version=3)
    model.do("SetRegisteredModelAlias", model="m", alias="b", version=2)
    model.do("ChangeModelVersionTags", model="m", version=3, tags={"k": "v"})
    model.do("DeleteModelVersion", model="m", version=3)
    assert model.rows("SELECT alias, version FROM aliases") == [("b", 2)]
    assert model.rows("FROM model_version_tags") == []
    assert model.rows("SELECT version, to_offset FROM aliases_history WHERE alias = 'a'") == [
        (3, 7)
    ]
    model.do("DeleteRegisteredModel", model="m")
    for view in ("models", "model_tags", "model_versions", "aliases", "stages"):
        assert model.rows(f"FROM {view}") == []
    assert model.values("SELECT count(*) FROM history WHERE to_offset IS NULL") == [2]  # Default
    assert len(model.rows("FROM model_versions_at(6)")) == 3


def test_create_version_with_everything(registry: Registry) -> None:
    outcome = registry.do(
        "CreateModelVersion",
        model="m", source="runs:/r/model", run_id="r", model_id="m-1", run_link="http://x",
        description="d", tags={"a": "1"}, aliases=["new", "newest", "new"], create_model=True,
    )  # fmt: skip
    assert outcome.version == 1
    assert registry.rows(
        "SELECT model, version, stage, description, source, run_id, model_id, run_link"
        " FROM model_versions"
    ) == [("m", 1, "None", "d", "runs:/r/model", "r", "m-1", "http://x")]
    assert registry.values("SELECT alias FROM aliases ORDER BY ALL") == ["new", "newest"]
    assert registry.do("CreateModelVersion", model="m", create_model=True).version == 2


def test_a_refused_version_makes_no_model(registry: Registry) -> None:
    code, _ = registry.refused("CreateModelVersion", model="m", aliases=["v1"], create_model=True)
    assert code == INVALID
    assert registry.rows("FROM models") == []
    assert registry.refused("CreateModelVersion", model="m", source="", create_model=True) == (
        INVALID,
        "Missing value for required parameter 'source'.",
    )


def test_what_counts_as_an_update(model: Registry) -> None:
    def updated() -> tuple[datetime, datetime]:
        return (
            model.values("SELECT updated_at FROM models")[0],
            model.values("SELECT updated_at FROM model_versions WHERE version = 1")[0],
        )

    start = updated()
    model.do("ChangeRegisteredModelTags", model="m", tags={"a": "1"})
    model.do("ChangeModelVersionTags", model="m", version=1, tags={"a": "1"})
    model.do("SetRegisteredModelAlias", model="m", alias="a", version=1)
    assert updated() == start == (time(3), time(1))
    model.do("UpdateModelVersion", model="m", version=1, description="d")
    assert updated() == (time(3), time(7))
    model.do("TransitionModelVersionStage", model="m", version=1, stage="None")
    assert updated() == (time(8), time(8))
    model.do("UpdateRegisteredModel", model="m", description="d")
    assert updated() == (time(9), time(8))
    model.do("DeleteModelVersion", model="m", version=2)
    assert updated() == (time(10), time(8))


# Stages


def test_stages_in_any_case_and_archiving(model: Registry) -> None:
    def stages() -> list[Any]:
        return model.values("SELECT stage FROM stages ORDER BY version")

    model.do("TransitionModelVersionStage", model="m", version=1, stage="PRODUCTION")
    model.do("TransitionModelVersionStage", model="m", version=2, stage="production")
    assert stages() == ["Production", "Production", "None"]
    model.do(
        "TransitionModelVersionStage", model="m", version=3, stage="Production",
        archive_existing_versions=True, by="bob", reason="better",
    )  # fmt: skip
    assert stages() == ["Archived", "Archived", "Production"]
    assert model.rows('SELECT version, from_stage, to_stage, moved_by, reason, log_offset'
                      ' FROM transitions WHERE log_offset = 6 ORDER BY version') == [
        (1, "Production", "Archived", "bob", "better", 6),
        (2, "Production", "Archived", "bob", "better", 6),
        (3, "None", "Production", "bob", "better", 6),
    ]  # fmt: skip


def test_stages_that_are_refused(model: Registry) -> None:
    assert model.refused("TransitionModelVersionStage", model="m", version=1, stage="Live") == (
        INVALID,
        "Invalid Model Version stage: Live. "
        "Value must be one of None, Staging, Production, Archived.",
    )
    assert model.refused(
        "TransitionModelVersionStage",
        model="m", version=1, stage="archived", archive_existing_versions=True,
    ) == (
        INVALID,
        "Model version transition cannot archive existing model versions because 'archived' is "
        "not an Active stage. Valid stages are ['Staging', 'Production']",
    )  # fmt: skip


def test_a_transition_that_expects_a_stage(model: Registry) -> None:
    body = {"model": "m", "version": 1, "stage": "Production", "expected_stage": "staging"}
    assert model.refused("TransitionModelVersionStage", **body) == (
        CONFLICT,
        "Model Version (name=m, version=1) was expected to be in stage Staging, "
        "but it is found in stage None.",
    )
    assert model.values("SELECT stage FROM stages WHERE version = 1") == ["None"]
    model.do("TransitionModelVersionStage", model="m", version=1, stage="Staging")
    model.do("TransitionModelVersionStage", **body)
    assert model.refused("TransitionModelVersionStage", **{**body, "expected_stage": "x"})[0] == (
        INVALID
    )


# Aliases


def test_the_last_decisions_about_a_version_are_known_after_a_restart(model: Registry) -> None:
    alias = {"model": "m", "alias": "champion", "version": 1}
    for _ in range(2):  # the second changes nothing, and is a decision all the same
        model.do("SetRegisteredModelAlias", **alias)
    model.refused("SetRegisteredModelAlias", **alias, expected_version=3)
    model.do("SetRegisteredModelAlias", **{**alias, "alias": "other"})
    model.do("TransitionModelVersionStage", model="m", version=1, stage="Staging")
    for _ in range(2):
        version = model.database.registry.models.version("m", 1)
        assert version is not None
        assert version.decided == {
            ("SetRegisteredModelAlias", "champion"): 5,
            ("SetRegisteredModelAlias", "other"): 7,
            ("TransitionModelVersionStage", None): 8,
        }
        model.database._load()


def test_an_alias_moves(model: Registry) -> None:
    model.do("SetRegisteredModelAlias", model="m", alias="champion", version=1, reason="first")
    model.do("SetRegisteredModelAlias", model="m", alias="champion", version=2, by="bob")
    model.do("SetRegisteredModelAlias", model="m", alias="champion", version=2, by="eve")
    assert model.rows("FROM aliases") == [("m", "champion", 2, time(5), "bob", None)]
    assert model.rows("FROM aliases_history ORDER BY from_offset") == [
        ("m", "champion", 1, time(4), time(5), 4, 5, "ann", "first"),
        ("m", "champion", 2, time(5), None, 5, None, "bob", None),
    ]
    model.do("DeleteRegisteredModelAlias", model="m", alias="champion")
    model.do("DeleteRegisteredModelAlias", model="m", alias="champion")
    assert model.rows("FROM aliases") == []
    assert model.rows("SELECT alias, version FROM aliases_as_of(?)", time(4)) == [("champion", 1)]
    assert model.rows("FROM aliases_as_of('2025-12-31')") == []


def test_an_alias_that_expects_where_it_points(model: Registry) -> None:
    body = {"model": "m", "alias": "a"}
    assert model.refused("SetRegisteredModelAlias", **body, version=1, expected_version=2) == (
        CONFLICT,
        "Registered model alias a of m was expected to point at version 2, "
        "but it is found to be unset.",
    )
    model.do("SetRegisteredModelAlias", **body, version=1, expected_version=0)
    assert model.refused("SetRegisteredModelAlias", **body, version=2, expected_version=0) == (
        CONFLICT,
        "Registered model alias a of m was expected to be unset, "
        "but it is found to point at version 1.",
    )
    model.do("SetRegisteredModelAlias", **body, version=2, expected_version=1)
    assert model.refused("DeleteRegisteredModelAlias", **body, expected_version=1)[0] == CONFLICT
    model.do("DeleteRegisteredModelAlias", **body, expected_version=2)


def test_two_pipelines_that_race_for_an_alias(model: Registry) -> None:
    model.do("SetRegisteredModelAlias", model="m", alias="champion", version=1)
    pipelines = [Writer("nightly", actor="nightly"), Writer("manual", actor="manual")]
    evidence = [{"kind": "metric", "key": "auc", "value": "0.93", "run_id": "r", "position": None}]
    model.append(*(
        request(w, "SetRegisteredModelAlias", model="m", alias="champion", version=v,
                expected_version=1, evidence=evidence)
        for w, v in zip(pipelines, (2, 3), strict=True)
    ))  # fmt: skip
    model.fold()
    assert model.rows('SELECT actor, accepted, code, request->>\'$.evidence[0].value\' FROM audit'
                      ' WHERE log_offset >= 5 ORDER BY log_offset') == [
        ("nightly", True, None, "0.93"), ("manual", False, CONFLICT, "0.93"),
    ]  # fmt: skip
    assert model.values("SELECT version FROM aliases") == [2]


# Rules for names, keys and sizes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "Missing value for required parameter 'name'."),
        (" \t", "Missing value for required parameter 'name'."),
        ("a/b", "Invalid model name 'a/b'. Names cannot contain '/' or ':'."),
        ("a:b", "Invalid model name 'a:b'. Names cannot contain '/' or ':'."),
        ("..", "This name would resolve to '..'"),
        (".", "This name would resolve to '.'"),
        ("x" * 257, "'name' exceeds the maximum length of 256 characters"),
    ],
)
def test_model_names_that_are_refused(registry: Registry, name: str, message: str) -> None:
    for type in ("CreateRegisteredModel", "CreateModelVersion", "UpdateRegisteredModel"):
        body = {"description": "d"} if type.startswith("Update") else {}
        code, text = registry.refused(type, model=name, **body)
        assert code == INVALID
        assert message in (text or "")


@pytest.mark.parametrize("name", ["модель 🚀", "nul\0inside", "x" * 256, "a.b-c d", 'it\'s "it"'])
def test_names_in_any_script(registry: Registry, name: str) -> None:
    registry.do("CreateRegisteredModel", model=name, description=name)
    registry.do("CreateExperiment", name=name)
    assert registry.rows("SELECT model, description FROM models") == [(name, name)]
    assert registry.rows("SELECT 1 FROM experiments WHERE name = ?", name) == [(1,)]
    assert registry.values("SELECT request->>'model' FROM audit ORDER BY log_offset")[0] == name


@pytest.mark.parametrize(
    ("alias", "message"),
    [
        ("", "Registered model alias name cannot be empty."),
        ("a b", "Invalid alias name: 'a b'."),
        ("a\n", "Invalid alias name: 'a\n'."),
        ("x" * 256, "'Registered model alias name' exceeds the maximum length of 255 characters"),
        ("LATEST", "'latest' alias name (case insensitive) is reserved."),
        ("V12", "Version alias name 'V12' is reserved."),
    ],
)
def test_aliases_that_are_refused(model: Registry, alias: str, message: str) -> None:
    outcome = model.refused("SetRegisteredModelAlias", model="m", alias=alias, version=1)
    assert outcome[0] == INVALID
    assert message in (outcome[1] or "")
    assert model.refused("CreateModelVersion", model="m", aliases=[alias]) == outcome


@pytest.mark.parametrize("alias", ["latest", "v1"])
def test_a_reserved_alias_can_be_deleted_for_nothing(model: Registry, alias: str) -> None:
    model.do("DeleteRegisteredModelAlias", model="m", alias=alias)


TAGS = [
    ({"": "v"}, "This name would resolve to '.'"),
    ({"/a": "v"}, "This name would resolve to '/a'"),
    ({"a//b": "v"}, "This name would resolve to 'a/b'"),
    ({"../a": "v"}, "This name would resolve to '../a'"),
    ({"a\n": "v"}, "Names may only contain alphanumerics"),
    ({"ok": "v", "a#b": "v"}, "Invalid value \"a#b\" for parameter 'key' supplied"),
    ({"k" * 251: "v"}, "'key' exceeds the maximum length of 250 characters"),
]


@pytest.mark.parametrize(("tags", "message"), TAGS)
def test_tags_that_are_refused(model: Registry, tags: dict[str, str], message: str) -> None:
    for type, body in [
        ("CreateExperiment", {"name": "e"}),
        ("ChangeExperimentTags", {"experiment_id": "0"}),
        ("CreateRegisteredModel", {"model": "n"}),
        ("ChangeRegisteredModelTags", {"model": "m"}),
        ("CreateModelVersion", {"model": "m"}),
        ("ChangeModelVersionTags", {"model": "m", "version": 1}),
    ]:
        code, text = model.refused(type, **body, tags=tags)  # type: ignore[arg-type]
        assert code == INVALID
        assert message in (text or "")
    assert model.values("SELECT count(*) FROM history WHERE attribute = 'tag'") == [0]


def test_sizes(model: Registry) -> None:
    def too_long(what: str, limit: int) -> tuple[str, str]:
        return INVALID, f"'{what}' exceeds the maximum length of {limit} characters"

    model.do("ChangeExperimentTags", experiment_id="0", tags={"k" * 250: "v" * 20_000})
    model.do("ChangeRegisteredModelTags", model="m", tags={"k" * 250: "v" * 100_000})
    for type, body, refusal in [
        ("CreateExperiment", {"name": "x" * 501}, too_long("name", 500)),
        ("CreateExperiment", {"name": ""}, (INVALID, "Invalid experiment name: ''")),
        ("ChangeExperimentTags", {"experiment_id": "0", "tags": {"k": "v" * 20_001}},
         too_long("value", 20_000)),
        ("ChangeRegisteredModelTags", {"model": "m", "tags": {"k": "v" * 100_001}},
         too_long("value", 100_000)),
        ("UpdateRegisteredModel", {"model": "m", "description": "v" * 100_001},
         too_long("description", 100_000)),
        ("CreateExperiment", {"name": "e", "artifact_location": "runs:/r/a"},
         (INVALID, "Artifact location cannot be a runs:/ URI. Given: 'runs:/r/a'")),
        ("CreateExperiment", {"name": "e", "artifact_location": "s3://b/a#f"},
         (INVALID, "'artifact_location' URL can't include fragments or params.")),
    ]:  # fmt: skip
        assert model.refused(type, **body) == refusal  # type: ignore[arg-type]


# The trail


def test_events_without_a_decision_are_in_the_trail(registry: Registry) -> None:
    event = request(Writer(), "CreateRegisteredModel", model="m")
    registry.append(
        event,
        event,
        NewEvent("registry", "", b"nonsense"),
        NewEvent("registry", "", RunWriter("r").started().payload),
        request(Writer("other"), "CreateRegisteredModel", model="m"),
    )
    registry.fold()
    assert registry.rows("SELECT type, accepted, code FROM audit ORDER BY log_offset") == [
        ("CreateRegisteredModel", True, None),
        ("CreateRegisteredModel", None, "REPEAT"),
        (None, None, "DEAD_LETTER"),
        ("RunStarted", None, "DEAD_LETTER"),
        ("CreateRegisteredModel", False, EXISTS),
    ]
    assert registry.values("SELECT count(DISTINCT hash) FROM audit") == [5]


def test_the_trail_holds_the_request_as_it_came(registry: Registry) -> None:
    registry.ask("CreateRegisteredModel", model="m", tags={"k": "é"}, by="bob", reason="why not")
    found = registry.rows(
        "SELECT event_id, actor, actor_verified, client, reason, entity, model,"
        " request->>'$.tags.k', request->>'$.envelope.event_id' FROM audit"
    )[0]
    assert found[1:8] == ("bob", False, "tests/1", "why not", "model", "m", "é")
    assert found[0] == found[8]
    assert len(found[0]) == 36


def test_every_registry_event_type_is_decided(registry: Registry) -> None:
    from modeltrail.consumers.projections.registry import RegistryProjection
    from modeltrail.schemas import event_stream, event_types

    assert set(RegistryProjection().decisions) == {
        t for t in event_types() if event_stream(t) == "registry"
    }


def test_every_public_column_is_described(registry: Registry) -> None:
    registry.database.describe()
    views = {
        "experiments", "experiment_tags", "models", "model_tags", "model_versions",
        "model_version_tags", "aliases", "stages", "aliases_history", "stages_history", "history",
        "transitions", "audit",
    }  # fmt: skip
    found = dict(registry.rows("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal"
                               " AND schema_name = 'main'"))  # fmt: skip
    assert views <= found.keys()
    assert None not in found.values()
    assert registry.rows(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL"
        " AND NOT internal AND schema_name = 'main'"
    ) == []  # fmt: skip
    assert registry.rows(
        "SELECT function_name FROM duckdb_functions() WHERE comment IS NULL AND NOT internal"
        " AND schema_name = 'main'"
    ) == []  # fmt: skip


def test_a_refused_change_of_a_role_changes_nothing(registry: Registry) -> None:
    registry.do("CreateRole", role="reviewers", description=None)
    (role_id,) = registry.values("SELECT role_id FROM roles")
    change = {"role_id": int(role_id), "role": "approvers", "description": "d" * 100_001}
    code, _ = registry.refused("UpdateRole", **change)
    assert code == "INVALID_PARAMETER_VALUE"
    assert registry.do("CreateRole", role="approvers", description=None).accepted
    assert registry.values("SELECT role FROM roles ORDER BY role") == ["approvers", "reviewers"]
