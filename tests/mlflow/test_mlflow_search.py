"""The search grammar, against a plain evaluation in Python."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeltrail.api.errors import InvalidRequest
from modeltrail.api.search import (
    Attribute,
    Entity,
    Keyed,
    compile_filter,
    compile_order,
)

ENTITY = Entity(
    id="r.run",
    attributes={
        "name": Attribute("r.name"),
        "run name": Attribute("r.name"),
        "start_time": Attribute("r.start", "number"),
        "secret": Attribute("r.name", filtered=False),
    },
    keyed={
        "metric": Keyed("SELECT run AS id, value FROM metrics WHERE key = ?", "number"),
        "parameter": Keyed(
            "SELECT run AS id, value FROM params WHERE key = ?", "param", nullable=True
        ),
        "tag": Keyed(
            "SELECT run AS id, value FROM tags WHERE key = ?",
            nullable=True,
            special={"name": "SELECT run AS id, name AS value FROM runs WHERE name IS NOT NULL"},
        ),
        "dataset": Keyed(
            special={"name": "SELECT run AS id, value FROM tags WHERE key = 'd'"}, ordered=False
        ),
    },
    prefixes={
        "attributes": "attribute",
        "metric": "metric",
        "metrics": "metric",
        "params": "parameter",
        "tag": "tag",
        "tags": "tag",
        "dataset": "dataset",
    },
)

KEYS = ["a", "b.c", "d e", "x/y:z-1", "AND"]
TEXTS = ["", "a", "A", "ab", "it's", '"q"', "5", "-1.5", "nan", "100%", "a_b", "x OR y = 'z'"]
NUMBERS = [0, 1, -1.5, 5, 1e300, math.inf]


class Run(NamedTuple):
    number: int
    name: str | None
    start: int | None
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]


def database(runs: list[Run]) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("CREATE TABLE runs (run INTEGER, name VARCHAR, start BIGINT)")
    for table, kind in (("metrics", "DOUBLE"), ("params", "VARCHAR"), ("tags", "VARCHAR")):
        con.execute(f"CREATE TABLE {table} (run INTEGER, key VARCHAR, value {kind})")
    for run in runs:
        con.execute("INSERT INTO runs VALUES (?, ?, ?)", [run.number, run.name, run.start])
        for table in ("metrics", "params", "tags"):
            for key, value in getattr(run, table).items():
                con.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", [run.number, key, value])
    return con


def search(con: duckdb.DuckDBPyConnection, text: str) -> set[int]:
    condition = compile_filter(ENTITY, text)
    query = f"SELECT r.run FROM runs r WHERE {condition.sql}"
    return {row[0] for row in con.execute(query, condition.params).fetchall()}


# A filter is generated as its text together with what it means.


class Filter(NamedTuple):
    text: str
    holds: Callable[[Run], bool]


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def like(value: str, pattern: str, flags: re.RegexFlag = re.NOFLAG) -> bool:
    parts = {"%": ".*", "_": "."}
    regex = "".join(parts.get(c) or re.escape(c) for c in pattern)
    return re.fullmatch(regex, value, flags | re.DOTALL) is not None


def as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def quoted(value: str, mark: str) -> str:
    return f"{mark}{value.replace(mark, mark * 2)}{mark}"


@st.composite
def fields(draw: st.DrawFn) -> tuple[str, str, Callable[[Run], Any]]:
    """A field's text, its kind, and how to get its value."""
    kind = draw(st.sampled_from(["metrics", "params", "tags", "name", "start_time"]))
    if kind in ("name", "start_time"):
        text = draw(st.sampled_from([kind, f"attributes.{kind}", f"attributes.`{kind}`"]))
        get = (lambda run: run.name) if kind == "name" else (lambda run: run.start)
        return text, ("text" if kind == "name" else "number"), get
    key = draw(st.sampled_from(KEYS))
    marks = ["`", '"'] + ([""] if " " not in key else [])
    mark = draw(st.sampled_from(marks))
    value_kind = {"metrics": "number", "params": "param", "tags": "text"}[kind]
    return f"{kind}.{mark}{key}{mark}", value_kind, lambda run: getattr(run, kind).get(key)


@st.composite
def comparisons(draw: st.DrawFn) -> Filter:
    field, kind, get = draw(fields())
    nullable = field.startswith(("params", "tags"))
    space = draw(st.sampled_from(["", " ", "  "]))
    form = draw(st.sampled_from(["compare", "compare", "like", "in", "null"]))
    if form == "null" and nullable:
        word, absent = draw(st.sampled_from([("IS NULL", True), ("is not null", False)]))
        return Filter(f"{field} {word}", lambda run: (get(run) is None) == absent)
    if kind == "number" or (kind == "param" and draw(st.booleans())):
        op = draw(st.sampled_from(list(_COMPARE)))
        number = draw(st.sampled_from([n for n in NUMBERS if math.isfinite(n)]))

        def numeric(run: Run) -> bool:
            value = get(run)
            value = as_number(value) if isinstance(value, str) else value
            return value is not None and _COMPARE[op](value, number)

        return Filter(f"{field}{space}{op}{space}{number}", numeric)
    value = draw(st.sampled_from(TEXTS))
    mark = draw(st.sampled_from(["'", '"']))
    if form == "like":
        negated, word = draw(st.booleans()), draw(st.sampled_from(["LIKE", "ilike"]))
        flags = re.IGNORECASE if word == "ilike" else re.NOFLAG

        def matches(run: Run) -> bool:
            found = get(run)
            return found is not None and like(found, value, flags) != negated

        return Filter(f"{field} {'NOT ' * negated}{word} {quoted(value, mark)}", matches)
    if form == "in":
        values = draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3))
        negated = draw(st.booleans())
        listed = ", ".join(quoted(v, mark) for v in values)
        return Filter(
            f"{field} {'not ' * negated}in ({listed})",
            lambda run: get(run) is not None and (get(run) in values) != negated,
        )
    op = draw(st.sampled_from(["=", "!="]))
    return Filter(
        f"{field}{space}{op}{space}{quoted(value, mark)}",
        lambda run: get(run) is not None and _COMPARE[op](get(run), value),
    )


def both(parts: tuple[Filter, Filter]) -> Filter:
    a, b = parts
    return Filter(f"({a.text}) AND ({b.text})", lambda run: a.holds(run) and b.holds(run))


def either(parts: tuple[Filter, Filter]) -> Filter:
    a, b = parts
    return Filter(f"({a.text} or {b.text})", lambda run: a.holds(run) or b.holds(run))


filters = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(both),
        st.tuples(inner, inner).map(either),
        inner.map(lambda f: Filter(f"NOT ({f.text})", lambda run: not f.holds(run))),
    ),
    max_leaves=6,
)
values = st.sampled_from([*NUMBERS, math.nan, -math.inf]).map(float)
runs = st.lists(
    st.tuples(
        st.none() | st.sampled_from(TEXTS),
        st.none() | st.sampled_from([0, 1, 5]),
        st.dictionaries(st.sampled_from(KEYS), values, max_size=3),
        st.dictionaries(st.sampled_from(KEYS), st.sampled_from(TEXTS), max_size=3),
        st.dictionaries(st.sampled_from(KEYS), st.sampled_from(TEXTS), max_size=3),
    ),
    max_size=5,
).map(lambda rows: [Run(n, *row) for n, row in enumerate(rows)])


@settings(max_examples=150, deadline=None)
@given(runs, st.lists(filters, min_size=1, max_size=4))
def test_a_filter_finds_what_it_says(found: list[Run], asked: list[Filter]) -> None:
    with database(found) as con:
        for one in asked:
            assert search(con, one.text) == {r.number for r in found if one.holds(r)}, one.text


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40) | st.lists(st.sampled_from(
    ["metrics.a", "params.`b c`", "name", "AND", "or", "NOT", "(", ")", "=", ">=", "'x'", "5",
     "IN", "LIKE", "IS", "NULL", ",", "`", '"', "'", ".", "\\", ";", "-"]
), max_size=8).map(" ".join))  # fmt: skip
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        condition = compile_filter(ENTITY, text)
    except InvalidRequest:
        return
    with database([]) as con:
        con.execute(f"SELECT r.run FROM runs r WHERE {condition.sql}", condition.params)


def test_a_key_cannot_become_sql() -> None:
    text = "tags.`x' OR 1=1 --` = 'y'' OR ''1'' = ''1'"
    condition = compile_filter(ENTITY, text)
    assert condition.params == ["x' OR 1=1 --", "y' OR '1' = '1"]
    assert "1=1" not in condition.sql
    assert condition.fields == {("tag", "x' OR 1=1 --")}


@pytest.mark.parametrize(
    ("text", "at", "why"),
    [
        ("metrics.a > '1'", 13, "Expected numeric value type for metric. Found '1'"),
        ("metrics.a", 10, "expected a comparator"),
        ("params.a > '5'", 12, "give the number without quotes"),
        ("params.a = v", 12, "Expected a quoted string value for parameter"),
        ("tags.a = 5", 10, "Expected a quoted string value for tag"),
        ("tags.a > 5", 8, "Invalid comparator '>'"),
        ("name = x", 8, "Expected a quoted string value for attributes"),
        ("foo.a = '1'", 1, "Invalid entity type 'foo'"),
        ("foo = '1'", 1, "Invalid attribute key 'foo'"),
        ("dataset.foo = '1'", 1, "Invalid dataset key 'foo'"),
        ("secret = 'x'", 1, "for order_by only"),
        ("name = 'a' name = 'b'", 12, "expected AND, OR or the end"),
        ("name = 'a' AND", 15, "expected a field"),
        ("AND name = 'a'", 1, "expected a field"),
        ("(name = 'a'", 12, "expected ')' for the '(' at character 1"),
        ("name = 'a", 8, "the quote ' is not closed"),
        ("tags.a == 'x'", 8, "Invalid comparator '=='"),
        ("name IN ()", 10, "non-empty list of string values"),
        ("name IN (1)", 10, "non-empty list of string values"),
        ("name IN ('a' 'b')", 14, "expected ',' or ')'"),
        ("start_time IS NULL", 12, "only supported for parameters and tags"),
        ("name = 'a'; DROP", 11, "nothing may begin with ';'"),
        ("(" * 200, 101, "levels of parentheses"),
    ],
)
def test_a_bad_filter_is_told_where_and_why(text: str, at: int, why: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(f"at character {at}: ")) as caught:
        compile_filter(ENTITY, text)
    assert why in caught.value.message


def ordered(con: duckdb.DuckDBPyConnection, *clauses: str) -> list[int]:
    order = compile_order(ENTITY, clauses)
    query = f"SELECT r.run FROM runs r{order.joins} ORDER BY {', '.join([*order.terms, 'r.run'])}"
    return [row[0] for row in con.execute(query, order.params).fetchall()]


def test_values_then_nan_then_missing_whatever_the_direction() -> None:
    metrics: list[dict[str, float]] = [{"m": 1}, {}, {"m": math.nan}, {"m": 3}, {"m": math.inf}]
    params = [{"p": "b"}, {"p": "a"}, {}, {"p": "b"}, {"p": "10"}]
    found = [
        Run(n, None, n, m, p, {}) for n, (m, p) in enumerate(zip(metrics, params, strict=True))
    ]
    with database(found) as con:
        assert ordered(con, "metrics.m") == [0, 3, 4, 2, 1]
        assert ordered(con, "metrics.m DESC") == [4, 3, 0, 2, 1]
        assert ordered(con, "params.`p` asc") == [4, 1, 0, 3, 2]
        assert ordered(con, "params.p", "metrics.m DESC") == [4, 1, 3, 0, 2]
        assert ordered(con, "attributes.start_time DESC") == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    "clauses",
    [
        ["nope"],
        ["metrics.a x"],
        ["metrics.a DESC ASC"],
        ["dataset.name"],
        [""],
        ["name", "`run name`"],
    ],
)
def test_a_bad_order_is_refused(clauses: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        compile_order(ENTITY, clauses)
