"""A registry with a past, for tests of what is shown of it."""

from __future__ import annotations

import random
from typing import Any

from access_world import World
from modeltrail.api.actor import Actor, Asker
from modeltrail.api.errors import Refused
from modeltrail.api.node import Node

ROOT = Asker(Actor("root", True), reason="better")
ADA = Asker(Actor("ada", True), reason="better")
BOB = Asker(Actor("bob", True))


def ask(node: Node, type: str, asker: Asker = ROOT, **fields: Any) -> int | None:
    """Have a request decided. Its offset, or None if it was refused."""
    defaults: dict[str, dict[str, Any]] = {
        "CreateRegisteredModel": {"description": None, "tags": {}},
        "CreateModelVersion": {"source": "s3://models/m", "tags": {}, "aliases": []},
        "SetRegisteredModelAlias": {"expected_version": None},
        "DeleteRegisteredModelAlias": {"expected_version": None},
        "TransitionModelVersionStage": {
            "archive_existing_versions": False,
            "expected_stage": None,
        },
        "CreateExperiment": {"artifact_location": None, "tags": {}},
    }
    try:
        return node.decide(asker, type, {**defaults.get(type, {}), **fields}).offset
    except Refused:
        return None


def random_past(world: World, prefix: str, seed: int, n: int = 120) -> list[str]:
    """Ask for random changes of three models and two experiments; the names that the models had."""
    chance, node = random.Random(seed), world.node
    names = [f"{prefix}-{letter}" for letter in "abc"]
    for name in names:
        ask(node, "CreateRegisteredModel", model=name)
    experiments = [world.experiment("root", f"/{prefix}/{letter}") for letter in "xy"]
    for _ in range(n):
        model, version = chance.choice(names), chance.randint(1, 4)
        alias, value = chance.choice(["champion", "challenger"]), str(chance.randint(0, 3))
        of: dict[str, Any] = {"model": model, "version": version}
        asker = chance.choice([ADA, BOB])
        match chance.randrange(12):
            case 0 | 1:
                ask(node, "CreateModelVersion", asker, model=model, tags={"k": value})
            case 2 | 3 | 4:
                expected = chance.choice([None, None, 0, 1, 2])
                ask(
                    node, "SetRegisteredModelAlias", asker, alias=alias,
                    expected_version=expected, **of,
                )  # fmt: skip
            case 5:
                ask(node, "DeleteRegisteredModelAlias", asker, model=model, alias=alias)
            case 6 | 7:
                stage = chance.choice(["Staging", "Production", "Archived", "None"])
                archive = stage in ("Staging", "Production") and chance.random() < 0.5
                ask(
                    node, "TransitionModelVersionStage", asker, stage=stage,
                    archive_existing_versions=archive, **of,
                )  # fmt: skip
            case 8:
                tags = {"t": chance.choice([value, None]), "u": value}
                ask(node, "ChangeModelVersionTags", asker, tags=tags, **of)
            case 9:
                ask(node, "UpdateRegisteredModel", asker, model=model, description=value)
            case 10:
                experiment = chance.choice(experiments)
                ask(
                    node, "ChangeExperimentTags", asker, experiment_id=experiment,
                    tags={"e": value},
                )  # fmt: skip
            case 11:
                if chance.random() < 0.3:
                    ask(node, "DeleteModelVersion", asker, **of)
                else:
                    ask(node, "UpdateModelVersion", asker, description=value, **of)
    return names
