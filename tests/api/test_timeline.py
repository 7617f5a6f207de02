"""The timeline of a model agrees with what the registry says of each moment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from access_world import V1, World, world_in
from modeltrail.api.access.rights import EXPERIMENT, MODEL
from registry_story import BOB, ask, random_past


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("timeline")) as world:
        yield world


@pytest.fixture(scope="module")
def models(world: World) -> list[str]:
    return random_past(world, "past", seed=7)


def test_bars_agree_with_the_registry_at_each_moment(world: World, models: list[str]) -> None:
    with world.node.read() as cursor:
        ((last,),) = cursor.execute("SELECT max(log_offset) FROM audit").fetchall()
    lanes = {
        model: world.ask("root", "GET", f"{V1}/models/{model}/timeline")["lanes"]
        for model in models
    }
    held = 0
    for offset in range(last - 120, last + 1):
        with world.node.read() as cursor:
            expected = {
                (model, kind, name, version)
                for kind, query in (
                    ("alias", "SELECT model, alias, version FROM aliases_at(?)"),
                    ("stage", "SELECT model, stage, version FROM stages_at(?)"),
                )
                for model, name, version in cursor.execute(query, [offset]).fetchall()
                if name != "None"
            }
        found = {
            (model, lane["kind"], lane["name"], bar["version"])
            for model in models
            for lane in lanes[model]
            for bar in lane["bars"]
            if bar["from_offset"] <= offset
            and (bar["to_offset"] is None or bar["to_offset"] > offset)
        }
        assert found == expected, offset
        held += len(found)
    assert held > 100


def test_bars_have_who_when_and_why(world: World, models: list[str]) -> None:
    with world.node.read() as cursor:
        rows = cursor.execute(
            "SELECT model, alias, version, from_offset, to_offset, set_by, reason "
            "FROM aliases_history"
        ).fetchall()
    found = set()
    for model in models:
        for lane in world.ask("root", "GET", f"{V1}/models/{model}/timeline")["lanes"]:
            if lane["kind"] == "alias":
                found |= {
                    (
                        *(model, lane["name"], bar["version"], bar["from_offset"]),
                        *(bar["to_offset"], bar["set_by"], bar["reason"]),
                    )
                    for bar in lane["bars"]
                }
                assert all(bar["verified"] is True for bar in lane["bars"])
    assert found == set(rows)


def test_a_span_shows_what_was_known_at_its_end(world: World, models: list[str]) -> None:
    path = f"{V1}/models/{models[0]}/timeline"
    whole = world.ask("root", "GET", path)
    bars = [bar for lane in whole["lanes"] for bar in lane["bars"]]
    middle = sorted(bar["from_offset"] for bar in bars)[len(bars) // 2]
    span = world.ask("root", "GET", path, **{"from": str(middle - 10), "to": str(middle)})
    assert span["position"] == f"registry:0:{middle}"
    for lane in span["lanes"]:
        for bar in lane["bars"]:
            assert bar["from_offset"] <= middle
            assert bar["to_offset"] is None or middle - 10 < bar["to_offset"] <= middle
            assert (bar["to_offset"] is None) == (bar["valid_to"] is None)
    assert all(middle - 10 < one["log_offset"] <= middle for one in span["refused"])
    assert [one["log_offset"] for one in whole["refused"]] == sorted(
        one["log_offset"] for one in whole["refused"]
    )
    assert whole["refused"]
    world.ask("root", "GET", path, 400, **{"from": "yesterday"})
    world.ask("root", "GET", path, 400, to="registry:0:99999999")
    world.ask("root", "GET", f"{V1}/models/none/timeline", 404)


def test_a_run_that_the_caller_may_not_read_is_hidden(world: World) -> None:
    node = world.node
    run_ids = []
    for name, value in (("/open/e", 0.5), ("/closed/e", 0.9)):
        run_id = world.run("root", world.experiment("root", name))
        for key in ("accuracy", f"only{name.replace('/', '-')}"):
            world.ask(
                "root", "POST", "/api/2.0/mlflow/runs/log-metric", run_id=run_id, key=key,
                value=value, timestamp=1, step=0,
            )  # fmt: skip
        run_ids.append(run_id)
    ask(node, "CreateRegisteredModel", model="shown")
    for run_id in run_ids:
        source = f"runs:/{run_id}/model"
        ask(node, "CreateModelVersion", model="shown", run_id=run_id, source=source)
    ask(node, "SetRegisteredModelAlias", BOB, model="shown", alias="best", version=2)
    world.grant("ada", "READ", MODEL, "shown")
    world.grant("ada", "READ", EXPERIMENT, "/open/*")
    world.ask("bob", "GET", f"{V1}/models/shown/timeline", 403)
    for who, metrics, values, runs in (
        ("root", {"accuracy", "only-open-e", "only-closed-e"}, [0.9, 0.5], run_ids[::-1]),
        ("ada", {"accuracy", "only-open-e"}, [None, 0.5], [None, run_ids[0]]),
    ):
        found = world.ask(who, "GET", f"{V1}/models/shown/timeline")
        assert set(found["metrics"]) == metrics
        assert found["metric"] == "accuracy"
        assert [one["metric"] for one in found["versions"]] == values
        assert [one["run_id"] for one in found["versions"]] == runs
        assert [one["aliases"] for one in found["versions"]] == [["best"], []]


def test_a_former_model_of_the_name_is_not_shown(world: World) -> None:
    """Who may read the model that has a name now may not read the one that had it before."""
    ask(world.node, "CreateRegisteredModel", model="secret")
    old = ask(world.node, "CreateModelVersion", model="secret")
    ask(world.node, "DeleteRegisteredModel", model="secret")
    ask(world.node, "CreateRegisteredModel", model="secret")
    world.grant("ada", "READ", MODEL, "secret")
    path = f"{V1}/models/secret/timeline"
    assert len(world.ask("root", "GET", path, to=str(old))["versions"]) == 1
    assert world.ask("ada", "GET", path)["versions"] == []
    world.ask("ada", "GET", path, 404, to=str(old))


def test_holders_are_those_of_the_aliases_and_stages_at_each_moment(
    world: World, models: list[str]
) -> None:
    with world.node.read() as cursor:
        ((last,),) = cursor.execute("SELECT max(log_offset) FROM audit").fetchall()
    held = 0
    for offset in range(0, last + 1, 11):
        at = str(offset)
        found = world.ask("root", "GET", f"{V1}/holders", as_of=at)["holders"]
        expected = {
            ("stage", one["stage"], one["model"], one["version"], one["set_at"], one["reason"])
            for one in world.ask("root", "GET", f"{V1}/stages", as_of=at)["stages"]
            if one["stage"] in ("Production", "Staging")
        }
        for model in world.ask("root", "GET", f"{V1}/models", as_of=at)["models"]:
            path = f"{V1}/models/{model['model']}/aliases"
            expected |= {
                ("alias", one["alias"], one["model"], one["version"], one["set_at"], one["reason"])
                for one in world.ask("root", "GET", path, as_of=at)["aliases"]
            }
        names = ("kind", "name", "model", "version", "set_at", "reason")
        assert {tuple(one[name] for name in names) for one in found} == expected
        held += len(expected)
    assert held > 20
    # Pages continue one another, and show what the caller may read.
    pages: list[dict[str, object]] = []
    page = world.ask("root", "GET", f"{V1}/holders", limit=2)
    while page["next_page_token"]:
        pages += page["holders"]
        token = page["next_page_token"]
        page = world.ask("root", "GET", f"{V1}/holders", limit=2, page_token=token)
    assert pages + page["holders"] == world.ask("root", "GET", f"{V1}/holders")["holders"]
    held_now = {one["model"] for one in world.ask("root", "GET", f"{V1}/holders")["holders"]}
    shown = sorted(held_now & set(models))[0]
    assert world.ask("bob", "GET", f"{V1}/holders")["holders"] == []
    world.grant("bob", "READ", MODEL, shown)
    assert {one["model"] for one in world.ask("bob", "GET", f"{V1}/holders")["holders"]} == {shown}
