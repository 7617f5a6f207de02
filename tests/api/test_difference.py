"""What differs between two moments: applied to the one, it gives the other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from access_world import V1, World, world_in
from modeltrail.api.access.rights import EXPERIMENT, MODEL
from registry_story import ADA, ask, random_past

State = dict[tuple[Any, ...], str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("difference")) as world:
        random_past(world, "past", seed=11, n=200)
        yield world


def state_at(world: World, offset: int) -> State:
    """All values of the registry right after an offset."""
    with world.node.read() as cursor:
        rows = cursor.execute(
            "SELECT entity, experiment_id, model_key, "
            "CASE WHEN entity <> 'alias' THEN version END, attribute, key, value FROM history "
            "WHERE from_offset <= $at AND (to_offset IS NULL OR to_offset > $at) "
            "AND value IS NOT NULL",
            {"at": offset},
        ).fetchall()
    return {tuple(slot): value for *slot, value in rows}


def applied(state: State, changes: list[dict[str, Any]]) -> State:
    after = dict(state)
    for one in changes:
        names = ("entity", "experiment_id", "model_key", "version", "attribute", "key")
        slot = tuple(one[name] for name in names)
        assert after.get(slot) == one["before"]
        assert one["before"] != one["after"]
        if one["after"] is None:
            del after[slot]
        else:
            after[slot] = one["after"]
    return after


def last_offset(world: World) -> int:
    with world.node.read() as cursor:
        ((last,),) = cursor.execute("SELECT max(log_offset) FROM audit").fetchall()
    return int(last)


def test_a_difference_leads_from_one_moment_to_the_other(world: World) -> None:
    chance, last, n = random.Random(5), last_offset(world), 0
    for _ in range(25):
        one, other = chance.randint(0, last), chance.randint(0, last)
        body = world.ask(
            "root", "GET", f"{V1}/diff", **{"from": f"registry:0:{one}", "to": str(other)}
        )
        assert (body["from"]["offset"], body["to"]["offset"]) == (one, other)
        assert body["more"] is False
        before, after = state_at(world, one), state_at(world, other)
        assert applied(before, body["changes"]) == after
        span = range(min(one, other) + 1, max(one, other) + 1)
        for change in body["changes"]:
            assert change["events"]
            assert all(event["log_offset"] in span for event in change["events"])
        n += len(body["changes"])
    assert n > 100


def test_the_effect_of_an_event_is_the_difference_that_it_made(world: World) -> None:
    effects = 0
    for offset in range(last_offset(world) - 40, last_offset(world) + 1):
        event = world.ask("root", "GET", f"{V1}/audit/{offset}")
        assert event["position"] == f"registry:0:{offset}"
        after = applied(state_at(world, offset - 1), event["changes"])
        assert after == state_at(world, offset)
        assert not (event["accepted"] is False and event["changes"])
        effects += len(event["changes"])
        assert all(
            [one["log_offset"] for one in change["events"]] == [offset]
            for change in event["changes"]
        )
    assert effects > 10
    chain = world.ask("root", "GET", f"{V1}/audit/chain", partition="registry:0")
    hashes = {offset: hash for offset, _, hash in chain["links"]}
    assert (event["hash"], event["previous_hash"]) == (hashes[offset], hashes[offset - 1])
    world.ask("root", "GET", f"{V1}/audit/{offset + 1}", 404)
    assert world.ask("root", "GET", f"{V1}/audit/0")["previous_hash"] is None


def test_only_what_the_caller_may_read_differs(world: World) -> None:
    start = last_offset(world)
    for model in ("open-m", "closed-m"):
        ask(world.node, "CreateRegisteredModel", model=model)
    experiments = [world.experiment("root", f"/{name}/e") for name in ("open", "closed")]
    world.grant("ada", "READ", MODEL, "open-*")
    world.grant("ada", "READ", EXPERIMENT, "/open/*")
    query = {"from": str(start)}
    everything = world.ask("root", "GET", f"{V1}/diff", **query)["changes"]
    assert {one["model"] for one in everything} == {None, "open-m", "closed-m"}
    seen = world.ask("ada", "GET", f"{V1}/diff", **query)["changes"]
    assert {(one["model"], one["experiment_id"]) for one in seen} == {
        ("open-m", None),
        (None, experiments[0]),
    }
    assert world.ask("bob", "GET", f"{V1}/diff", **query)["changes"] == []
    page = world.client.get(
        f"{V1}/diff", params={**query, "format": "markdown"}, headers=world.headers["ada"]
    )
    assert page.headers["content-type"].startswith("text/markdown")
    assert "open\\-m" in page.text or "open-m" in page.text
    assert "closed" not in page.text


def test_limits_and_mistakes(world: World) -> None:
    few = world.ask("root", "GET", f"{V1}/diff", **{"from": "0", "limit": 2})
    assert (len(few["changes"]), few["more"]) == (2, True)
    world.ask("root", "GET", f"{V1}/diff", 400)
    refused = world.ask("root", "GET", f"{V1}/diff", 400, **{"from": "yesterday"})
    assert refused["message"].startswith("from: not a time")
    world.ask("root", "GET", f"{V1}/diff", 400, **{"from": "0", "to": "99999999"})
    same = world.ask("root", "GET", f"{V1}/diff", **{"from": "5", "to": "5"})
    assert same["changes"] == []


def test_names_in_markdown_are_shown_as_they_are(world: World) -> None:
    start = last_offset(world)
    ask(world.node, "CreateRegisteredModel", ADA, model="<b>|x`y`\n*z*|")
    page = world.client.get(
        f"{V1}/diff",
        params={"from": str(start), "format": "markdown"},
        headers=world.headers["root"],
    ).text
    rows = [line for line in page.splitlines() if line.startswith("|")][2:]
    assert rows
    for row in rows:
        assert row.replace("\\|", "").count("|") == 8
        assert "<b>" not in row
