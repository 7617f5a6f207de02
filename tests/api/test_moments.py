"""The time bar, the audit trail of what the caller may read, and incidents."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from access_world import V1, V2, World, world_in
from modeltrail.api.access.rights import EXPERIMENT, MODEL
from registry_story import ADA, BOB, ask, random_past


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("moments")) as world:
        random_past(world, "open", seed=2, n=60)
        random_past(world, "closed", seed=4, n=60)
        world.grant("ada", "READ", MODEL, "open-*")
        world.grant("ada", "READ", EXPERIMENT, "/open/*")
        yield world


def trail(world: World, who: str, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token = None
    while True:
        page = world.ask(who, "GET", f"{V1}/audit", limit=37, **query, **(token or {}))
        found += page["events"]
        if page["next_page_token"] is None:
            return found
        token = {"page_token": page["next_page_token"]}


def offsets(events: list[dict[str, Any]]) -> set[int]:
    return {event["log_offset"] for event in events}


def may_ada_read(event: dict[str, Any], experiments: set[str]) -> bool:
    if event["entity"] == "experiment":
        return event["experiment_id"] in experiments
    return (event["model"] or "").startswith("open-")


def test_the_trail_has_what_the_caller_may_read(world: World) -> None:
    everything = trail(world, "root")
    with world.node.read() as cursor:
        rows = cursor.execute("SELECT experiment_id FROM experiments WHERE name LIKE '/open/%'")
        experiments = {row[0] for row in rows.fetchall()}
    expected = {e["log_offset"] for e in everything if may_ada_read(e, experiments)}
    seen = trail(world, "ada")
    assert offsets(seen) == expected
    assert 30 < len(expected) < len(everything)
    assert {event["entity"] for event in seen} <= {"experiment", "model", "model_version", "alias"}
    assert trail(world, "bob") == []
    for event in everything:
        status = 200 if event["log_offset"] in expected else 404
        world.ask("ada", "GET", f"{V1}/audit/{event['log_offset']}", status)


def test_facets_count_what_the_filters_leave(world: World) -> None:
    for who in ("root", "ada"):
        events = trail(world, who)
        names = "actor,type,model,outcome"
        facets = world.ask(who, "GET", f"{V1}/audit", facets=names, actor="bob")["facets"]
        by_bob = [event for event in events if event["actor"] == "bob"]
        for name, of in (("actor", events), ("type", by_bob), ("model", by_bob)):
            counts = Counter(event[name] for event in of if event[name] is not None)
            assert {one["value"]: one["events"] for one in facets[name]} == dict(counts)
        outcomes = {one["value"]: one["events"] for one in facets["outcome"]}
        assert outcomes["refused"] == sum(event["accepted"] is False for event in by_bob)
        refused = trail(world, who, outcome="refused", actor="bob")
        assert len(refused) == outcomes["refused"]
    assert "closed-a" not in {one["value"] for one in facets["model"]}
    world.ask("root", "GET", f"{V1}/audit", 400, facets="actor,request")
    world.ask("root", "GET", f"{V1}/audit", 400, outcome="lost")


def test_the_trail_as_of_a_moment(world: World) -> None:
    events = trail(world, "root")
    middle = sorted(offsets(events))[len(events) // 2]
    assert offsets(trail(world, "root", as_of=f"registry:0:{middle}")) == {
        offset for offset in offsets(events) if offset <= middle
    }


def test_moments_count_what_the_caller_may_read(world: World) -> None:
    for who in ("root", "ada"):
        events = trail(world, who)
        bar = world.ask(who, "GET", f"{V1}/moments", buckets=50)
        assert bar["events"] == len(events) == sum(one["events"] for one in bar["buckets"])
        refused = sum(event["accepted"] is False for event in events)
        assert sum(one["refused"] for one in bar["buckets"]) == refused
        assert bar["first"]["log_offset"] == min(offsets(events))
        assert bar["last"]["log_offset"] == max(offsets(events))
        assert len(bar["buckets"]) <= 50
        times = {event["log_offset"]: event["appended_at"] for event in events}
        for one in bar["buckets"]:
            for offset in (one["first_offset"], one["last_offset"]):
                assert one["from"] <= times[offset] <= one["to"]
        ordered = sorted(times)
        since, until = ordered[len(ordered) // 4], ordered[len(ordered) // 2]
        part = world.ask(who, "GET", f"{V1}/moments", **{"from": str(since), "to": times[until]})
        expected = [o for o in ordered if times[since] <= times[o] <= times[until]]
        assert part["events"] == len(expected)
    none = world.ask("bob", "GET", f"{V1}/moments")
    assert (none["events"], none["first"], none["buckets"]) == (0, None, [])
    world.ask("root", "GET", f"{V1}/moments", 400, **{"from": "9", "to": "3"})


def test_steps_go_through_what_the_caller_may_read(world: World) -> None:
    for who in ("root", "ada"):
        expected = sorted(offsets(trail(world, who)))
        found, at = [], None
        for _ in range(20):
            query: dict[str, Any] = {} if at is None else {"at": at}
            step = world.ask(who, "GET", f"{V1}/moments/near", step=-1, **query)
            at = step["position"]
            found.append(step["event"]["log_offset"])
            assert at == f"registry:0:{found[-1]}"
        assert found == expected[::-1][:20]
        here = world.ask(who, "GET", f"{V1}/moments/near", step=0, at=at)
        assert (here["position"], here["time"]) == (at, here["event"]["appended_at"])
        between = world.ask(who, "GET", f"{V1}/moments/near", step=0, at=str(found[-1] + 1))
        assert between["event"]["log_offset"] in (found[-1], found[-1] + 1)
        forward = world.ask(who, "GET", f"{V1}/moments/near", step=1, at=at)
        assert forward["event"]["log_offset"] == found[-2]
        moment = forward["event"]["appended_at"]
        later = world.ask(who, "GET", f"{V1}/moments/near", step=1, at=moment)
        assert later["event"]["appended_at"] > moment
        end = world.ask(who, "GET", f"{V1}/moments/near", step=1, at=str(expected[-1]))
        assert end == {"position": None, "time": None, "event": None}
    assert world.ask("bob", "GET", f"{V1}/moments/near")["event"] is None


def test_what_a_request_says_of_hidden_runs_is_hidden(world: World) -> None:
    run_id = world.run("root", world.experiment("root", "/closed/run"))
    model = "open-a"
    ask(world.node, "CreateRegisteredModel", model="closed-source")
    ask(world.node, "CreateModelVersion", model="closed-source")
    made = [
        ask(
            world.node, "CreateModelVersion", model=model, run_id=run_id,
            source=f"runs:/{run_id}/model",
        ),
        ask(world.node, "CreateModelVersion", model=model, source="models:/closed-source/1"),
        ask(
            world.node, "SetRegisteredModelAlias", model=model, alias="best", version=1,
            evidence=[
                {"kind": "metric", "key": "k", "value": "1", "run_id": run_id, "position": None}
            ],
        ),
    ]  # fmt: skip
    for offset in filter(None, made):
        shown = world.ask("ada", "GET", f"{V1}/audit/{offset}")
        assert run_id not in str(shown)
        assert "closed-source" not in str(shown)
        whole = str(world.ask("root", "GET", f"{V1}/audit/{offset}"))
        assert run_id in whole or "closed-source" in whole
    listed = str(world.ask("ada", "GET", f"{V1}/audit", limit=1000))
    assert run_id not in listed
    assert "closed-source" not in listed


def test_an_incident_has_what_served_and_who_changed_it(world: World) -> None:
    node = world.node
    for model in ("open-serve", "closed-serve"):
        ask(node, "CreateRegisteredModel", model=model)
        for _ in range(2):
            ask(node, "CreateModelVersion", model=model)
        ask(node, "SetRegisteredModelAlias", ADA, model=model, alias="champion", version=1)
        moved = ask(
            node, "TransitionModelVersionStage", BOB, model=model, version=2, stage="Production"
        )
        late = ask(
            node, "SetRegisteredModelAlias", BOB, model=model, alias="champion", version=2,
            expected_version=2,
        )  # fmt: skip
        assert late is None
    at = f"registry:0:{moved}"
    ask(node, "SetRegisteredModelAlias", ADA, model="open-serve", alias="champion", version=2)
    body = world.ask("root", "GET", f"{V1}/incident", at=at)
    serving = {(h["model"], h["kind"], h["name"], h["version"]) for h in body["holders"]}
    for model in ("open-serve", "closed-serve"):
        assert (model, "alias", "champion", 1) in serving
        assert (model, "stage", "Production", 2) in serving
    assert body["changes"][0]["log_offset"] == moved
    assert all(event["log_offset"] <= moved for event in body["changes"] + body["refused"])
    seen = world.ask("ada", "GET", f"{V1}/incident")
    assert "closed" not in str(seen)
    assert "open-serve" in seen["markdown"].replace("\\", "")
    assert ("open-serve", "champion", 2) in {
        (h["model"], h["name"], h["version"]) for h in seen["holders"]
    }
    assert any("expected to point at" in (e["message"] or "") for e in seen["refused"])
    assert seen["markdown"].startswith("# Registry at ")
    assert world.ask("bob", "GET", f"{V1}/incident")["holders"] == []
    world.ask("root", "GET", f"{V1}/incident", 400, at="lunch")
    world.ask("root", "GET", f"{V1}/incident", 400, minutes=0)


def test_an_incident_has_the_runs_that_went_silent(world: World) -> None:
    for name in ("/open/silent", "/closed/silent"):
        experiment = world.experiment("root", name)
        run_id = world.run("root", experiment)
        world.node.append_event(
            "RunHeartStopped",
            run_id,
            {"last_seen_offset": last_seen(world, run_id), "last_seen_at_ms": 1, "timeout_ms": 1},
            ADA.actor,
        )
    world.ask("root", "GET", f"{V2}/experiments/get-by-name", experiment_name="/open/silent")
    found = world.ask("ada", "GET", f"{V1}/incident")["silent_runs"]
    assert [run["experiment_name"] for run in found] == ["/open/silent"]
    everything = world.ask("root", "GET", f"{V1}/incident")["silent_runs"]
    assert {run["experiment_name"] for run in everything} == {"/open/silent", "/closed/silent"}
    early = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 7200))
    assert world.ask("root", "GET", f"{V1}/incident", at=early)["silent_runs"] == []


def last_seen(world: World, run_id: str) -> int:
    with world.node.read() as cursor:
        ((offset,),) = cursor.execute(
            "SELECT last_seen_offset FROM fold.activity a JOIN fold.runs r USING (run) "
            "WHERE r.run_id = ?",
            [run_id],
        ).fetchall()
    return int(offset)
