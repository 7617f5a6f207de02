"""SQL shows the views that are listed, by role, and nothing else that is in the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from access_world import V1, World, open_node
from modeltrail.api.access.acts import Level
from modeltrail.consumers import public, store
from modeltrail.consumers.database import Database
from modeltrail.eventlog import open_log
from modeltrail.schemas import Codec

ROLES = {"root": True, "ada": False}  # a user who may read everything is not an administrator


def _catalogue() -> tuple[list[str], list[str]]:
    """Every relation of a fold's database, by its full name, and those in ``main``."""
    codec = Codec()
    database = Database(None, codec, store.Limits(threads=1))
    try:
        found = database.connection.execute(
            "SELECT schema_name, view_name FROM duckdb_views() "
            "UNION SELECT schema_name, table_name FROM duckdb_tables() ORDER BY ALL"
        ).fetchall()
        views = database.connection.execute(
            "SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'"
        ).fetchall()
    finally:
        database.close()
    return [f"{schema}.{name}" for schema, name in found], sorted(name for (name,) in views)


RELATIONS, VIEWS = _catalogue()
HARMLESS_SCHEMAS = ("information_schema", "pg_catalog")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("views")
    log = open_log(str(folder / "data"))
    node, fold = open_node(log, folder / "artifacts")
    world = World(node, Level.READ)
    with world.client:
        yield world
    node.stop()
    fold.stop()
    log.close()


def ask(world: World, who: str, statement: str) -> Any:
    return world.client.post(f"{V1}/sql", json={"statement": statement}, headers=world.headers[who])


def test_every_public_view_is_listed_once() -> None:
    assert sorted(public.READER_VIEWS | public.ADMIN_VIEWS) == VIEWS
    assert not public.READER_VIEWS & public.ADMIN_VIEWS
    assert public.NARROW_VIEWS <= public.READER_VIEWS


@pytest.mark.parametrize("who", ROLES)
@pytest.mark.parametrize("relation", RELATIONS)
def test_what_is_listed_is_shown_and_nothing_else(world: World, who: str, relation: str) -> None:
    schema, _, name = relation.partition(".")
    seen = public.READER_VIEWS | (public.ADMIN_VIEWS if ROLES[who] else frozenset())
    for statement in (f"FROM {relation}", f"SELECT list(x) FROM {relation} x"):
        answer = ask(world, who, statement)
        if schema == "fold" and name in public.IMPORT_TABLES and statement.startswith("FROM"):
            assert answer.status_code == (200 if ROLES[who] else 400), answer.text
        elif schema == "main" and name in VIEWS:
            assert answer.status_code == (200 if name in seen else 400), answer.text
        elif answer.status_code == 200:
            # What DuckDB has by itself tells of the query's own database, which is no secret.
            assert schema in HARMLESS_SCHEMAS or (schema == "main" and "_" in name), relation
            for hidden in ("webhook_secrets", "has_password", "last_digest"):
                assert hidden not in answer.text or (hidden == "has_password" and ROLES[who])
        else:
            assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("who", ROLES)
def test_the_catalogue_shows_what_may_be_read(world: World, who: str) -> None:
    seen = public.READER_VIEWS | (public.ADMIN_VIEWS if ROLES[who] else frozenset())
    shown = {row[0] for row in ask(world, who, "SHOW TABLES").json()["rows"]}
    assert shown == seen
    listed = (
        "SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = 'main'"
    )
    assert {row[0] for row in ask(world, who, listed).json()["rows"]} == seen
    described = ask(world, who, "DESCRIBE runs").json()["rows"]
    assert ["run_id", "VARCHAR"] in [row[:2] for row in described]


@pytest.mark.parametrize(
    "statement",
    [
        "FROM users",
        "FROM main.users",
        'FROM "USERS"',
        "WITH x AS (FROM tokens) FROM x",
        "WITH tokens AS (SELECT 1) SELECT * FROM (FROM tokens), main.tokens",
        "SELECT (SELECT count(*) FROM permissions)",
        "SELECT list(x) FROM dead_letters x",
        'FROM runs WHERE name IN (SELECT "user" FROM users)',
        "FROM fold.secrets",
        "FROM as_of.users",
        "DESCRIBE users",
        "SUMMARIZE users",
        "PIVOT users ON admin USING count(*)",
        "SELECT * FROM query('FROM users')",
        "SELECT * FROM query_table('users')",
    ],
)
def test_no_way_around_for_who_is_no_administrator(world: World, statement: str) -> None:
    answer = ask(world, "ada", statement)
    assert answer.status_code == 400, answer.text


def test_a_name_of_a_common_table_expression_opens_nothing(world: World) -> None:
    for name in ("sqlite_master", "duckdb_tables", "users"):
        statement = f"SELECT 1 FROM (WITH {name} AS (SELECT 1) FROM {name}), {name}"
        answer = ask(world, "ada", statement)
        assert "has_password" not in answer.text
        assert answer.status_code in (200, 400)
        assert name != "users" or answer.status_code == 400


def test_the_macros_of_a_time_are_the_same_in_a_worker(world: World) -> None:
    world.ask("root", "POST", "/api/2.0/mlflow/registered-models/create", name="m")
    for macro in sorted(public.MACROS):
        argument = "100000" if macro.endswith("_at") else "'2100-01-01'"
        here = ask(world, "root", f"FROM {macro}({argument}) ORDER BY ALL").json()
        there = ask(world, "root", f"SELECT * FROM {macro}({argument}), (SELECT list(1)) t(x)")
        assert there.status_code == 200, there.text
        rows = [row[:-1] for row in there.json()["rows"]]
        assert sorted(map(str, rows)) == sorted(map(str, here["rows"])), macro


def test_only_macros_over_public_relations_are_made(world: World) -> None:
    con = duckdb.connect()
    con.execute(f"CREATE SCHEMA {public.AS_OF}")
    with world.node.cursor() as cursor:
        for relation in public.relations(cursor):
            typed = ", ".join(f'"{name}" {type}' for name, type in relation.columns.items())
            con.execute(f"CREATE TABLE {relation.schema}.{relation.name} ({typed})")
    for macro in public.macros():
        con.execute(macro)
    made = con.execute("SELECT function_name FROM duckdb_functions() WHERE NOT internal").fetchall()
    assert {name for (name,) in made} >= public.MACROS | public.SCALAR_MACROS
    con.close()
