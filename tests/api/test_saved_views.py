"""Saved views: own ones, those of an experiment, those of everyone, and what they were before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from access_world import V1, World, world_in
from modeltrail.api.access.rights import EXPERIMENT
from modeltrail.consumers.projections import saved_views
from registry_requests import Registry


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("views")) as world:
        yield world


def save(world: World, who: str, name: str, status: int = 200, **fields: Any) -> dict[str, Any]:
    body = {"name": name, "page": "runs", "query": "a=1", **fields}
    made: dict[str, Any] = world.ask(who, "POST", f"{V1}/views", status, **body)
    return made


def seen(world: World, who: str, **query: Any) -> list[str]:
    return [view["name"] for view in world.ask(who, "GET", f"{V1}/views", **query)["views"]]


def test_views_are_seen_by_those_whom_they_are_for(world: World) -> None:
    world.grant("ada", "EDIT", EXPERIMENT, "/team/*")
    team, other = (world.experiment("root", name) for name in ("/team/e", "/other/e"))
    save(world, "ada", "mine")
    save(world, "bob", "his")
    save(world, "ada", "mine of the team", experiment_id=team)
    save(world, "ada", "team", experiment_id=team, shared=True)
    save(world, "root", "others", experiment_id=other, shared=True)
    save(world, "root", "all", shared=True)
    assert seen(world, "ada") == ["all", "team", "mine", "mine of the team"]
    assert seen(world, "bob") == ["all", "his"]
    assert seen(world, "root") == ["all", "others", "team"]
    assert seen(world, "ada", experiment=team) == ["team", "mine of the team"]
    assert seen(world, "ada", experiment=other) == []
    assert seen(world, "ada", page="compare") == []


def test_who_may_save_and_delete(world: World) -> None:
    world.grant("ada", "EDIT", EXPERIMENT, "/desk/*")
    world.grant("bob", "READ", EXPERIMENT, "/desk/*")
    desk = world.experiment("root", "/desk/e")
    save(world, "ada", "global", 403, shared=True)
    save(world, "bob", "of desk", 403, experiment_id=desk, shared=True)
    own = save(world, "bob", "own of desk", experiment_id=desk)["view_id"]
    shared = save(world, "ada", "of desk", experiment_id=desk, shared=True)["view_id"]
    hidden = world.experiment("root", "/hidden/e")
    save(world, "ada", "of hidden", 403, experiment_id=hidden)
    save(world, "ada", "of none", 404, experiment_id="12345")
    end = world.node.log.end()
    world.ask("bob", "DELETE", f"{V1}/views/{shared}", 403)
    world.ask("ada", "DELETE", f"{V1}/views/{own}", 403)
    assert world.node.log.end() == end
    world.ask("bob", "DELETE", f"{V1}/views/{own}")
    world.ask("ada", "DELETE", f"{V1}/views/{shared}")
    world.ask("ada", "DELETE", f"{V1}/views/{shared}", 404)
    assert "of desk" not in seen(world, "ada")


def test_saving_again_replaces_and_keeps_what_was(world: World) -> None:
    first = save(world, "root", "default", shared=True, query="columns=a", reason="new layout")
    again = save(world, "root", "default", shared=True, query="columns=b", description="two")
    assert again["view_id"] == first["view_id"]
    listed = world.ask("root", "GET", f"{V1}/views", history="true")["views"]
    (view,) = [one for one in listed if one["name"] == "default"]
    assert (view["query"], view["description"], view["updated_by"]) == ("columns=b", "two", "root")
    queries = [one for one in view["history"] if one["attribute"] == "query"]
    assert [one["value"] for one in queries] == ["columns=a", "columns=b"]
    assert queries[0]["reason"] == "new layout"
    assert queries[0]["to_offset"] == queries[1]["from_offset"]
    then = world.ask("root", "GET", f"{V1}/views", as_of=first["position"])["views"]
    assert [one["query"] for one in then if one["name"] == "default"] == ["columns=a"]
    # One's own view of the same name is another one.
    assert save(world, "ada", "default", query="own")["view_id"] != first["view_id"]
    assert seen(world, "bob").count("default") == 1


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    view = {"page": "runs", "query": "", "description": None, "experiment_id": None}
    for name in ("", "  ", "a\nb", "x" * 251):
        assert registry.refused("SaveView", name=name, shared=False, **view)[0] == (
            "INVALID_PARAMETER_VALUE"
        )
    for long in ({"page": "x" * 101}, {"query": "x" * 16_001}):
        _, message = registry.refused("SaveView", name="v", shared=False, **{**view, **long})
        assert "characters at most" in str(message)
    code, _ = registry.refused("SaveView", name="v", shared=True, **{**view, "experiment_id": "9"})
    assert code == "RESOURCE_DOES_NOT_EXIST"
    monkeypatch.setattr(saved_views, "VIEWS_MAX", 2)
    for name in ("a", "b"):
        registry.do("SaveView", name=name, shared=False, **view)
    registry.do("SaveView", name="b", shared=False, **view)
    registry.refused("SaveView", name="c", shared=False, **view)
    registry.do("SaveView", name="c", shared=True, **view)
    assert registry.values("SELECT name FROM saved_views ORDER BY ALL") == ["a", "b", "c"]
    code, _ = registry.refused("DeleteView", view_id=99)
    assert code == "RESOURCE_DOES_NOT_EXIST"
