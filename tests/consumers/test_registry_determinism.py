"""Batches and restarts do not change what the registry decides; as-of equals stopping there."""

from __future__ import annotations

from dataclasses import asdict
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltrail.consumers.database import Database
from modeltrail.consumers.store import Limits
from modeltrail.eventlog import LogRecord
from modeltrail.eventlog.memory import MemoryLog
from modeltrail.schemas import Codec, experiment_id
from registry_requests import START_MS, emptied, request
from writers import Writer

Request = tuple[str, dict[str, Any]]
Rows = dict[str, list[tuple[Any, ...]]]

VIEWS = (
    "experiments", "experiment_tags", "models", "model_tags", "model_versions",
    "model_version_tags", "aliases", "stages", "history", "aliases_history", "stages_history",
    "descriptions_history", "model_names_history", "model_tags_history",
    "model_version_tags_history", "experiment_names_history", "experiment_tags_history",
    "transitions", "comments", "audit", "fold.history",
)  # fmt: skip
AS_OF = ("experiments", "models", "model_versions", "aliases", "stages")

models = st.sampled_from(["m", "n", "bad/name"])
versions = st.integers(0, 3)
aliases = st.sampled_from(["a", "b", "latest"])
experiments = st.sampled_from(["0", experiment_id("x"), experiment_id("y"), experiment_id("x", 2)])
experiment_names = st.sampled_from(["x", "y", "Default", ""])
stages = st.sampled_from(["None", "staging", "PRODUCTION", "Archived", "Live"])
texts = st.sampled_from(["", "d", "e 🚀"])
tags = st.dictionaries(st.sampled_from(["k", "l", "../k"]), texts, max_size=2)
changes = st.dictionaries(st.sampled_from(["k", "l", "/k"]), st.none() | texts, max_size=2)


def a(type: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Request]:
    return st.fixed_dictionaries(fields).map(lambda body: (type, body))


requests = st.one_of(
    a("CreateExperiment", name=experiment_names, tags=tags),
    a("RenameExperiment", experiment_id=experiments, name=experiment_names),
    a("DeleteExperiment", experiment_id=experiments),
    a("RestoreExperiment", experiment_id=experiments),
    a("ChangeExperimentTags", experiment_id=experiments, tags=changes),
    a("CreateRegisteredModel", model=models, description=st.none() | texts, tags=tags),
    a("UpdateRegisteredModel", model=models, description=texts),
    a("RenameRegisteredModel", model=models, name=models),
    a("DeleteRegisteredModel", model=models),
    a("ChangeRegisteredModelTags", model=models, tags=changes),
    a(
        "CreateModelVersion",
        model=models,
        description=st.none() | texts,
        tags=tags,
        aliases=st.lists(aliases, max_size=2),
        create_model=st.booleans(),
    ),
    a("CreateModelVersion", model=st.sampled_from(["m", "n"]), create_model=st.just(True)),
    a("UpdateModelVersion", model=models, version=versions, description=texts),
    a("DeleteModelVersion", model=models, version=versions),
    a("ChangeModelVersionTags", model=models, version=versions, tags=changes),
    a("CommentAdded", model=models, version=versions, text=texts),
    a(
        "SetRegisteredModelAlias",
        model=models,
        alias=aliases,
        version=versions,
        expected_version=st.none() | versions,
    ),
    a(
        "DeleteRegisteredModelAlias",
        model=models,
        alias=aliases,
        expected_version=st.none() | versions,
    ),
    a(
        "TransitionModelVersionStage",
        model=models,
        version=versions,
        stage=stages,
        archive_existing_versions=st.booleans(),
        expected_stage=st.none() | stages,
    ),
)

WHOLE = Database(None, Codec(), Limits())
PARTS = Database(None, Codec(), Limits())


def recorded(sequence: list[Request], steps_ms: list[int]) -> list[LogRecord]:
    times = count()
    log = MemoryLog(
        clock_ms=lambda: START_MS + sum(steps_ms[: next(times) % (len(steps_ms) + 1)]) * 1000
    )
    writer = Writer()
    for n, (type, body) in enumerate(sequence):
        writer.actor = f"actor-{n}"
        log.append([request(writer, type, reason=f"because {n}", **body)])
    reader = log.reader({})
    return reader.poll(0) if sequence else []


def tables(database: Database, views: tuple[str, ...] = VIEWS) -> Rows:
    return {v: database.connection.execute(f"FROM {v} ORDER BY ALL").fetchall() for v in views}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(requests, st.sampled_from(["", "batch", "restart"])), max_size=40),
    st.lists(st.integers(-2, 5), max_size=40),
)
def test_batches_and_restarts_change_nothing(
    steps: list[tuple[Request, str]], steps_ms: list[int]
) -> None:
    records = recorded([r for r, _ in steps], steps_ms)
    whole, parts = emptied(WHOLE), emptied(PARTS)
    if records:
        whole.fold(records)
    batch: list[LogRecord] = []
    for record, (_, then) in zip(records, steps, strict=True):
        batch.append(record)
        if then:
            parts.fold(batch)
            batch = []
        if then == "restart":
            parts._load()
    if batch:
        parts.fold(batch)
    assert tables(parts) == tables(whole)
    now = tuple(f"{view}_at({len(records) - 1})" for view in AS_OF)
    assert list(tables(whole, now).values()) == list(tables(whole, AS_OF).values())


@settings(max_examples=25, deadline=None)
@given(st.lists(requests, min_size=1, max_size=30), st.data())
def test_as_of_is_what_was_there_then(sequence: list[Request], data: st.DataObject) -> None:
    records = recorded(sequence, [1] * len(sequence))
    stop = data.draw(st.integers(0, len(records) - 1), label="stop")
    then, whole = emptied(PARTS), emptied(WHOLE)
    then.fold(records[: stop + 1])
    whole.fold(records)
    expected = list(tables(then, AS_OF).values())
    assert list(tables(whole, tuple(f"{v}_at({stop})" for v in AS_OF)).values()) == expected
    moment = f"make_timestamp_ms({records[stop].appended_at_ms} + 999)"
    assert list(tables(whole, tuple(f"{v}_as_of({moment})" for v in AS_OF)).values()) == expected


class Oracle:
    """Models, versions and aliases as plainly as can be, written without a look at the fold."""

    def __init__(self) -> None:
        self.next: dict[str, int] = {}
        self.live: set[tuple[str, int]] = set()
        self.pointing: dict[tuple[str, str], int] = {}

    def ask(self, type: str, body: dict[str, Any]) -> bool:
        name, alias, version = body["model"], body.get("alias", ""), body.get("version", 0)
        if type == "CreateModelVersion":
            if any(a == "latest" for a in body["aliases"]):
                return False
            if name not in self.next and not body["create_model"]:
                return False
            number = self.next.setdefault(name, 1)
            self.next[name] += 1
            self.live.add((name, number))
            for given_alias in body["aliases"]:
                self.pointing[name, given_alias] = number
            return True
        if type == "DeleteRegisteredModel":
            if name not in self.next:
                return False
            del self.next[name]
            self.live = {(m, v) for m, v in self.live if m != name}
            self.pointing = {k: v for k, v in self.pointing.items() if k[0] != name}
            return True
        if type == "DeleteModelVersion":
            if (name, version) not in self.live:
                return False
            self.live.remove((name, version))
            self.pointing = {k: v for k, v in self.pointing.items() if (k[0], v) != (name, version)}
            return True
        expected = body["expected_version"]
        held = self.pointing.get((name, alias), 0)
        if expected is not None and expected != held:
            return False
        if type == "SetRegisteredModelAlias":
            if alias == "latest" or (name, version) not in self.live:
                return False
            self.pointing[name, alias] = version
            return True
        if name not in self.next:
            return False
        self.pointing.pop((name, alias), None)
        return True


plain_models = st.sampled_from(["m", "n"])
plain_requests = st.one_of(
    a(
        "CreateModelVersion",
        model=plain_models,
        aliases=st.lists(aliases, max_size=2),
        create_model=st.booleans(),
    ),
    a("DeleteRegisteredModel", model=plain_models),
    a("DeleteModelVersion", model=plain_models, version=st.integers(1, 4)),
    a(
        "SetRegisteredModelAlias",
        model=plain_models,
        alias=aliases,
        version=st.integers(1, 4),
        expected_version=st.none() | versions,
    ),
    a(
        "DeleteRegisteredModelAlias",
        model=plain_models,
        alias=aliases,
        expected_version=st.none() | versions,
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(plain_requests, min_size=1, max_size=40))
def test_an_independent_account_agrees(sequence: list[Request]) -> None:
    oracle = Oracle()
    expected = [oracle.ask(*r) for r in sequence]
    database = emptied(WHOLE)
    database.fold(recorded(sequence, []))
    con = database.connection
    decided = con.execute("SELECT accepted FROM audit ORDER BY log_offset").fetchall()
    assert [accepted for (accepted,) in decided] == expected
    found = con.execute("SELECT model, version FROM model_versions").fetchall()
    assert sorted(found) == sorted(oracle.live)
    found = con.execute("SELECT model, alias, version FROM aliases").fetchall()
    assert sorted(found) == sorted((*k, v) for k, v in oracle.pointing.items())


@settings(max_examples=30, deadline=None)
@given(st.lists(plain_requests, min_size=1, max_size=20))
def test_what_is_told_before_it_is_written_is_what_is_written(sequence: list[Request]) -> None:
    """Even if the first attempt to write it fails."""
    database = emptied(WHOLE)
    told: list[list[dict[str, Any]]] = []

    def fold() -> None:
        told.append([])
        database.fold(recorded(sequence, []), lambda rows: told[-1].extend(map(asdict, rows)))

    failing = patch.object(database, "_write", side_effect=OSError("no space"))
    with failing, pytest.raises(OSError, match="no space"):
        fold()
    assert database.connection.execute("SELECT count(*) FROM fold.requests").fetchall() == [(0,)]
    fold()
    result = database.connection.execute(
        'FROM fold.requests WHERE accepted IS NOT NULL ORDER BY "offset"'
    )
    names = [column[0] for column in result.description or ()]
    written = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    assert told[0] == told[1] == written
