"""Why a version is where it is: the sentence, the evidence, the race, and what is hidden."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from access_world import V1, V2, World, world_in
from modeltrail.api.access.rights import EXPERIMENT, MODEL
from modeltrail.api.actor import Actor, Asker
from modeltrail.api.registry.why import _duration
from registry_story import ADA, BOB, ask, random_past


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("why")) as world:
        yield world


def why(world: World, model: str, version: int, who: str = "root", **query: Any) -> dict[str, Any]:
    found: dict[str, Any] = world.ask(
        who, "GET", f"{V1}/models/{model}/versions/{version}/why", **query
    )
    return found


def run_with(world: World, experiment: str, accuracy: float) -> str:
    run_id = world.run("root", world.experiment("root", experiment))
    world.ask(
        "root", "POST", f"{V2}/runs/log-metric", run_id=run_id, key="accuracy", value=accuracy,
        timestamp=1, step=0,
    )  # fmt: skip
    return run_id


@pytest.fixture(scope="module")
def story(world: World) -> dict[str, Any]:
    """Version 1 was the champion, then 2, then it was rolled back to 1 while bob tried the same."""
    node = world.node
    runs = [run_with(world, "/open/first", 0.9), run_with(world, "/closed/second", 0.8)]
    ask(node, "CreateRegisteredModel", model="digits")
    for run_id in runs:
        source = f"runs:/{run_id}/model"
        ask(node, "CreateModelVersion", model="digits", run_id=run_id, source=source)
    path, headers = f"{V1}/models/digits/aliases/champion", world.headers["root"]
    offsets = []
    for version, expected, reason in ((1, 0, None), (2, 1, "newer"), (1, 2, "incident 41")):
        body = {"version": version, "expected": expected, "reason": reason}
        answer = world.client.put(path, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        offsets.append(int(answer.json()["position"].rpartition(":")[2]))
    late = {"version": 1, "expected": 2, "reason": "me too"}
    assert world.client.put(path, json=late, headers=headers).status_code == 409
    unrelated = {"version": 1, "expected": 9}
    assert world.client.put(path, json=unrelated, headers=headers).status_code == 409
    return {"runs": runs, "offsets": offsets}


def test_the_sentence(world: World, story: dict[str, Any]) -> None:
    found = why(world, "digits", 1)
    (hold,) = found["holds"]
    since = datetime.fromisoformat(hold["since"])
    day = f"{since.day} {since:%b %H:%M} UTC"
    assert re.fullmatch(
        rf"Version 1 is @champion since {day} because 'incident 41', set by root, "
        r"before it version 2 for \d+ s\.",
        found["sentence"],
    ), found["sentence"]
    assert hold["from_offset"] == story["offsets"][2]
    assert hold["before"]["version"] == 2
    assert hold["before"]["to_offset"] == hold["from_offset"]
    gone = why(world, "digits", 2)
    assert gone["holds"] == []
    assert gone["sentence"].startswith("Version 2 holds no alias and no stage; it was @champion ")
    then = why(world, "digits", 2, as_of=str(story["offsets"][1]))
    assert "is @champion since" in then["sentence"]
    assert "because 'newer'" in then["sentence"]
    assert "before it version 1" in then["sentence"]
    first = why(world, "digits", 1, as_of=str(story["offsets"][0]))
    assert first["holds"][0]["before"] is None
    assert first["sentence"].endswith("UTC, set by root.")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (7_300, "2 h"), (100_000, "28 h"),
     (200_000, "2 days")],
)  # fmt: skip
def test_durations_in_words(seconds: float, text: str) -> None:
    assert _duration(seconds) == text


def test_evidence_stands_beside_what_the_previous_holder_had(
    world: World, story: dict[str, Any]
) -> None:
    found = why(world, "digits", 1)
    (one,) = found["evidence"]
    assert (one["kind"], one["key"], one["value"]) == ("metric", "accuracy", "0.9")
    assert one["position"].startswith("runs:")
    assert one["run_id"] == story["runs"][0]
    assert one["against"]["version"] == 2
    assert one["against"]["value"] == "0.8"


def test_the_race_has_who_was_late_and_by_how_much(world: World, story: dict[str, Any]) -> None:
    race = why(world, "digits", 1)["race"]
    assert race["expected"] == 2
    assert race["won"]["log_offset"] == story["offsets"][2]
    (lost,) = race["lost"]
    assert lost["by_offsets"] == lost["log_offset"] - story["offsets"][2] == 1
    assert lost["by_ms"] >= 0
    assert lost["reason"] == "me too"
    assert "expected to point at version 2" in lost["message"]
    assert len(why(world, "digits", 1)["refused"]) == 2
    before = why(world, "digits", 1, as_of=str(story["offsets"][2]))
    assert before["race"] is None
    assert before["refused"] == []


def test_a_run_that_the_caller_may_not_read_is_hidden(world: World, story: dict[str, Any]) -> None:
    world.grant("ada", "READ", MODEL, "digits")
    world.grant("ada", "READ", EXPERIMENT, "/open/*")
    headers = world.headers["root"]
    ask(world.node, "SetRegisteredModelAlias", ADA, model="digits", alias="next", version=2)
    for run_id in story["runs"]:
        url = f"{V1}/runs/{run_id}/artifacts/model/weights.bin?record=true"
        assert world.client.put(url, content=b"x", headers=headers).is_success
    seen = why(world, "digits", 1, "ada")
    assert seen["run"]["run_id"] == story["runs"][0]
    assert seen["source"] == f"runs:/{story['runs'][0]}/model"
    assert [file["path"] for file in seen["artifacts"]] == ["model/weights.bin"]
    hidden = why(world, "digits", 2, "ada")
    assert hidden["run"] == {"readable": False}
    assert hidden["source"] is None
    assert hidden["artifacts"] == hidden["datasets"] == []
    assert story["runs"][1] not in str(hidden)
    assert [file["path"] for file in why(world, "digits", 2)["artifacts"]] == ["model/weights.bin"]
    url = f"{V1}/models/digits/versions/2/why"
    assert world.client.get(url, headers=world.headers["bob"]).status_code == 403
    assert world.client.get(f"{url}?as_of=0", headers=headers).status_code == 404


def test_siblings_are_of_models_that_the_caller_may_read(
    world: World, story: dict[str, Any]
) -> None:
    run_id = story["runs"][0]
    for model in ("sibling", "private"):
        ask(world.node, "CreateRegisteredModel", model=model)
        ask(world.node, "CreateModelVersion", model=model, run_id=run_id, source="s3://m")
    world.grant("ada", "READ", MODEL, "digits")
    world.grant("ada", "READ", MODEL, "sibling")
    world.grant("ada", "READ", EXPERIMENT, "/open/*")
    for who, names in (("root", ["private", "sibling"]), ("ada", ["sibling"])):
        siblings = why(world, "digits", 1, who)["lineage"]["siblings"]
        assert [one["model"] for one in siblings] == names


def test_it_agrees_with_the_registry_at_each_moment(world: World) -> None:
    models = random_past(world, "rand", seed=3)
    with world.node.read() as cursor:
        ((last,),) = cursor.execute("SELECT max(log_offset) FROM audit").fetchall()
    n = 0
    for offset in range(last - 100, last + 1, 20):
        with world.node.read() as cursor:
            versions = cursor.execute(
                "SELECT model, version, stage, description FROM model_versions_at(?) "
                "WHERE model IN (SELECT unnest(?))",
                [offset, models],
            ).fetchall()
            aliases = cursor.execute(
                "SELECT model, version, alias FROM aliases_at(?)", [offset]
            ).fetchall()
            tags = cursor.execute(
                "SELECT model, version, key, value FROM model_version_tags_history WHERE "
                "from_offset <= $at AND (to_offset IS NULL OR to_offset > $at)",
                {"at": offset},
            ).fetchall()
        for model, version, stage, description in versions:
            found = why(world, model, version, as_of=str(offset))
            holds = {(one["kind"], one["name"]) for one in found["holds"]}
            expected = {("alias", a) for m, v, a in aliases if (m, v) == (model, version)}
            expected |= {("stage", stage)} - {("stage", "None")}
            assert holds == expected, (model, version, offset)
            assert found["description"] == description
            of = {key: value for m, v, key, value in tags if (m, v) == (model, version)}
            assert found["tags"] == of
            n += len(holds)
    assert n > 10


def test_proof_and_comments(world: World, story: dict[str, Any]) -> None:
    for text, asker in (("fine", BOB), ("checked", Asker(Actor("eve", False)))):
        ask(world.node, "CommentAdded", asker, model="digits", version=1, text=text)
    found = why(world, "digits", 1)
    assert [(c["comment"], c["added_by"], c["verified"]) for c in found["comments"]] == [
        ("fine", "bob", True),
        ("checked", "eve", False),
    ]
    chain = world.ask("root", "GET", f"{V1}/audit/chain", partition="registry:0")
    hashes = {offset: hash for offset, _, hash in chain["links"]}
    assert found["proof"]["hash"] == hashes[story["offsets"][2]]
    assert found["proof"]["verified_to"] == max(hashes)
    assert found["proof"]["checkpoint"] is None  # this node signs none


def test_blame_has_who_set_each_value_and_what_it_was(world: World, story: dict[str, Any]) -> None:
    node = world.node
    for text, asker in (("old", ADA), ("new", BOB)):
        ask(node, "UpdateRegisteredModel", asker, model="digits", description=text)
        tags = {"team": text}
        ask(node, "ChangeModelVersionTags", asker, model="digits", version=1, tags=tags)
    path = f"{V1}/models/digits"
    assert "blame" not in world.ask("root", "GET", path)
    model = world.ask("root", "GET", path, blame="true")["blame"]
    assert (model["description"]["set_by"], model["description"]["before"]) == ("bob", "old")
    champion = model["aliases"]["champion"]
    assert (champion["value"], champion["before"], champion["set_by"]) == ("1", "2", "root")
    assert champion["reason"] == "incident 41"
    assert champion["from_offset"] == story["offsets"][2]
    version = world.ask("root", "GET", f"{path}/versions/1", blame="true")["blame"]
    assert version["aliases"]["champion"] == champion
    assert (version["tags"]["team"]["value"], version["tags"]["team"]["before"]) == ("new", "old")
    assert version["stage"]["before"] is None
    listed = world.ask("root", "GET", f"{path}/versions", blame="true")["versions"]
    assert [one["blame"] for one in listed if one["version"] == 1] == [version]
    then = world.ask("root", "GET", path, blame="true", as_of=str(story["offsets"][1]))["blame"]
    assert then["aliases"]["champion"]["value"] == "2"
    assert "description" not in then


def test_blame_agrees_with_history(world: World) -> None:
    (model, *_) = random_past(world, "blamed", seed=9)
    found = world.ask("root", "GET", f"{V1}/models/{model}/versions", blame="true")["versions"]
    with world.node.read() as cursor:
        rows = cursor.execute(
            "SELECT version, attribute, key, value, set_by, from_offset FROM history "
            "WHERE model = ? AND entity = 'model_version' AND to_offset IS NULL",
            [model],
        ).fetchall()
    expected = {tuple(row) for row in rows}
    shown = set()
    for one in found:
        blame = dict(one["blame"])
        values = [(name, None, by) for name, by in blame.items() if name not in ("tags", "aliases")]
        values += [("tag", key, by) for key, by in blame["tags"].items()]
        shown |= {
            (one["version"], attribute, key, by["value"], by["set_by"], by["from_offset"])
            for attribute, key, by in values
        }
    assert shown == expected


def test_a_refusal_says_who_was_faster(world: World) -> None:
    node, headers = world.node, world.headers["root"]
    ask(node, "CreateRegisteredModel", model="raced")
    for _ in range(2):
        ask(node, "CreateModelVersion", model="raced")
    alias, stage = f"{V1}/models/raced/aliases/a", f"{V1}/models/raced/versions/1/stage"

    def refused(method: str, path: str, **body: Any) -> dict[str, Any]:
        answer = world.client.request(method, path, json=body, headers=headers)
        assert answer.status_code == 409, answer.text
        found: dict[str, Any] = answer.json()
        assert found["error_code"] == "RESOURCE_CONFLICT"
        assert found["rule"] == "expected"
        assert found["position"] == f"registry:0:{found['log_offset']}"
        faster: dict[str, Any] = found["faster"]
        assert faster["by_offsets"] == found["log_offset"] - faster["log_offset"] > 0
        assert faster["by_ms"] >= 0
        return faster

    won = ask(node, "SetRegisteredModelAlias", BOB, model="raced", alias="a", version=2)
    faster = refused("PUT", alias, version=1, expected=0)
    assert (faster["log_offset"], faster["actor"], faster["version"]) == (won, "bob", 2)
    gone = ask(node, "DeleteRegisteredModelAlias", ADA, model="raced", alias="a")
    faster = refused("PUT", alias, version=1, expected=2)
    assert (faster["log_offset"], faster["actor"]) == (gone, "ada")
    assert faster["type"] == "DeleteRegisteredModelAlias"
    moved = ask(
        node, "TransitionModelVersionStage", ADA, model="raced", version=1, stage="Production"
    )
    faster = refused("PUT", stage, stage="Staging", expected="None")
    assert (faster["log_offset"], faster["stage"]) == (moved, "Production")
    missing = world.client.put(alias, json={"version": 9}, headers=headers).json()
    assert missing["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert missing["position"] == f"registry:0:{missing['log_offset']}"
    assert "faster" not in missing
