"""Decide which statements run in the server's process: those made only of what is listed here.

Everything listed is bounded: DuckDB's memory limit counts its state, an interrupt ends it within
one vector of 2,048 rows, and no value of its result is longer than the values that it reads.
Functions that make texts or lists (``||``, ``replace``, ``list``, ``repeat``) are not listed, and
neither is anything that this module does not know: such a statement runs in a process with its own
limits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import duckdb

from modeltrail.api.sql.limits import Params
from modeltrail.api.sql.text import depth
from modeltrail.consumers.public import (
    ADMIN_VIEWS,
    IMPORT_TABLES,
    MACROS,
    NARROW_VIEWS,
    READER_VIEWS,
    SCALAR_MACROS,
    words,
)

# Parsing this much takes milliseconds.
_CHARACTERS_MAX = 10_000
_DEPTH_MAX = 50
_EXPRESSIONS_MAX = 300  # each has a vector of up to 32 KiB in every thread
_RELATIONS_MAX = 8
_IMPORT_TABLES_MAX = 2
_IMPORT_FUNCTIONS = frozenset(("->>", "unnest", "and", "or", "not"))
_NODES_MAX = 24
_NEEDLE_CHARACTERS_MAX = 32
_LITERAL_CHARACTERS_MAX = 256
_COLUMNS_MAX = 40

_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "CTE_NODE"})
_RELATIONS: Final = frozenset(
    {"BASE_TABLE", "JOIN", "SUBQUERY", "EMPTY", "EXPRESSION_LIST", "TABLE_FUNCTION", "EMPTY_FROM"}
)
_MODIFIERS: Final = words("""
    ORDER_MODIFIER LIMIT_MODIFIER LIMIT_PERCENT_MODIFIER DISTINCT_MODIFIER
    ORDER_DEFAULT ASCENDING DESCENDING
    """)
_EXPRESSIONS: Final = words("""
    COLUMN_REF VALUE_CONSTANT VALUE_PARAMETER STAR SUBQUERY FUNCTION TYPE
    COMPARE_EQUAL COMPARE_NOTEQUAL COMPARE_LESSTHAN COMPARE_GREATERTHAN COMPARE_LESSTHANOREQUALTO
    COMPARE_GREATERTHANOREQUALTO COMPARE_DISTINCT_FROM COMPARE_NOT_DISTINCT_FROM
    COMPARE_IN COMPARE_NOT_IN COMPARE_BETWEEN CONJUNCTION_AND CONJUNCTION_OR
    OPERATOR_NOT OPERATOR_IS_NULL OPERATOR_IS_NOT_NULL OPERATOR_COALESCE OPERATOR_NULLIF
    OPERATOR_CAST CASE_EXPR
    WINDOW_AGGREGATE WINDOW_ROW_NUMBER WINDOW_RANK WINDOW_RANK_DENSE WINDOW_PERCENT_RANK
    WINDOW_CUME_DIST WINDOW_NTILE WINDOW_LAG WINDOW_LEAD WINDOW_FIRST_VALUE WINDOW_LAST_VALUE
    WINDOW_NTH_VALUE
    """)
_TYPES: Final = words("""
    BOOL BOOLEAN TINYINT SMALLINT INT INT4 INT8 INTEGER BIGINT HUGEINT UBIGINT FLOAT REAL DOUBLE
    DECIMAL NUMERIC DATE TIME TIMESTAMP DATETIME INTERVAL VARCHAR TEXT STRING
    """)
_AGGREGATES: Final = words("""
    count count_star sum avg mean min max first any_value arbitrary stddev stddev_samp stddev_pop
    variance var_samp var_pop bool_and bool_or count_if countif
    """)
# Their state must not be part of a window: it would be created for every row.
_MORE_AGGREGATES: Final = words("""
    last arg_max arg_min argmax argmin max_by min_by median quantile_cont quantile_disc corr
    covar_pop covar_samp regr_slope regr_intercept regr_r2 skewness kurtosis product fsum kahan_sum
    approx_count_distinct
    """)
_WINDOWS: Final = words("""
    row_number rank dense_rank rank_dense percent_rank cume_dist ntile lag lead first_value
    last_value nth_value
    """)
_FUNCTIONS: Final = words("""
    + - * / // % ** ^ abs round floor ceil ceiling trunc sign sqrt cbrt ln log log10 log2 exp pow
    power mod divide multiply subtract add greatest least isnan isinf isfinite
    length len strlen octet_length
    date_trunc datetrunc date_part datepart date_diff datediff date_sub datesub year month day hour
    minute second quarter week dayofweek weekday dayofyear isodow isoyear epoch epoch_ms now today
    current_date current_timestamp get_current_timestamp to_timestamp make_date make_timestamp
    time_bucket to_years to_months to_weeks to_days to_hours to_minutes to_seconds to_milliseconds
    """)
_MATCHES: Final = words("~~ !~~ contains prefix suffix starts_with ends_with ^@")
_SIMPLE_PATTERN: Final = re.compile(r"%?[^%_\\]*%?")
_WITH_TWO_ARGUMENTS_AT_MOST: Final = words(
    "arg_max arg_min argmax argmin max_by min_by quantile_cont quantile_disc"
)
_WITH_ONE_ARGUMENT: Final = words("min max")


class _Unlisted(Exception):
    """The statement contains something that is not listed."""


def parsed(cursor: duckdb.DuckDBPyConnection, statement: str, params: Params | None) -> Any:
    """Return the parse tree of a statement, or None if it is long, deep, or not a single query.

    Raises:
        duckdb.Error: it does not parse.
    """
    values: Any = (params.values() if isinstance(params, Mapping) else params) or ()
    return _tree(cursor, statement) if all(_is_short(value) for value in values) else None


def _tree(cursor: duckdb.DuckDBPyConnection, statement: str) -> Any:
    if len(statement) > _CHARACTERS_MAX or depth(statement) > _DEPTH_MAX:
        return None
    row = cursor.execute("SELECT json_serialize_sql(?)", [statement]).fetchone()
    try:
        tree = json.loads(row[0]) if row else {"error": True}
    except RecursionError:
        return None
    return None if tree.get("error") else tree


def _is_short(value: Any) -> bool:
    return not isinstance(value, list | dict | tuple) and (
        not isinstance(value, str) or len(value) <= _LITERAL_CHARACTERS_MAX
    )


def relations_of(tree: Any, existing: frozenset[str], *, admin: bool) -> frozenset[str] | None:
    """Return the public views that a statement reads, or None if something is not listed.

    Args:
        tree: The parse tree.
        existing: Names of all tables and views, public or not.
        admin: Whether an administrator asks.
    """
    allowed = READER_VIEWS | ADMIN_VIEWS if admin else READER_VIEWS
    cte_names = {name.lower() for name in _expressions_named(tree)}
    if cte_names & existing:
        return None  # which of the two a name means depends on its place
    found: set[str] = set()
    counts = {"expressions": 0, "relations": 0, "nodes": 0}
    try:
        _check(tree, allowed, cte_names, found, counts)
    except _Unlisted:
        return None
    return frozenset(found)


def is_of_import(cursor: duckdb.DuckDBPyConnection, statement: str) -> bool:
    """Return whether a query is of the kind that an import makes: joins and conditions.

    It reads tables of the fold, and calls nothing that makes values larger. DuckDB's memory limit
    and an interrupt therefore bound it, like everything listed.

    Raises:
        duckdb.Error: it does not parse.
    """
    tree = _tree(cursor, statement)
    if tree is None or len(tree["statements"]) != 1:
        return False
    tables = 0
    for node in _dicts(tree):
        type = node.get("type")
        if type == "BASE_TABLE":
            path = [str(part).lower() for part in node["qualified_name"]["path"]]
            if len(path) != 2 or path[0] != "fold" or path[1] not in IMPORT_TABLES:
                return False
            tables += 1
        elif (
            type in ("TABLE_FUNCTION", "CTE_NODE", "RECURSIVE_CTE_NODE", "SET_OPERATION_NODE")
            or str(node.get("function_name") or "->>").lower() not in _IMPORT_FUNCTIONS
            or str(type).startswith("LAMBDA")
        ):
            return False
    return 0 < tables <= _IMPORT_TABLES_MAX


def multiplies(tree: Any) -> bool:
    """Return whether a value that is read may be in many values of the answer.

    DuckDB copies them without counting the memory: a text of 64 KiB in 2,048 rows takes 128 MiB.
    Grouped values are not multiplied, whatever was joined before.
    """
    node = tree["statements"][0]["node"]
    columns = node.get("select_list") or ()
    if len(columns) > _COLUMNS_MAX:
        return True
    relations = sum(n.get("type") in ("BASE_TABLE", "TABLE_FUNCTION") for n in _dicts(tree))
    grouped = bool(node.get("group_expressions")) or node.get("aggregate_handling") == (
        "FORCE_AGGREGATES"
    )
    return relations > 1 and not grouped


def is_narrow(relations: frozenset[str]) -> bool:
    """Return whether everything that a statement reads is no longer than a key or an id."""
    return relations <= NARROW_VIEWS


def _expressions_named(tree: Any) -> Iterator[str]:
    """Return the names of common table expressions."""
    for node in _dicts(tree):
        entries = node.get("cte_map")
        if isinstance(entries, dict):
            yield from (entry["key"] for entry in entries.get("map", ()))
        if node.get("type") == "CTE_NODE":
            yield str(node.get("cte_name") or node.get("ctename"))


def _dicts(root: Any) -> Iterator[dict[str, Any]]:
    todo = [root]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo.extend(node)
        elif isinstance(node, dict):
            yield node
            todo.extend(node.values())


def _check(
    tree: Any,
    allowed: frozenset[str],
    cte_names: set[str],
    found: set[str],
    counts: dict[str, int],
) -> None:
    for node in _dicts(tree):
        if node.get("sample") or node.get("columns") is True or node.get("at_clause"):
            raise _Unlisted
        if len(node.get("group_sets") or ()) > 1 or node.get("using_key"):
            raise _Unlisted
        type = node.get("type")
        if type == "ORDER_MODIFIER":
            _allow_order_by_all(node)
        if not isinstance(type, str):
            continue
        if type in _NODES:
            counts["nodes"] += 1
        elif type in _RELATIONS and "class" not in node:
            counts["relations"] += _relation(node, allowed, cte_names, found)
        elif "class" in node:
            counts["expressions"] += 1
            _expression(node, type)
        elif type not in _MODIFIERS:
            raise _Unlisted
        if (
            counts["expressions"] > _EXPRESSIONS_MAX
            or counts["relations"] > _RELATIONS_MAX
            or counts["nodes"] > _NODES_MAX
        ):
            raise _Unlisted


def _allow_order_by_all(node: dict[str, Any]) -> None:
    for order in node.get("orders") or ():
        expression = order.get("expression") or {}
        if expression.get("type") == "STAR" and not expression.get("expr"):
            expression["columns"] = False


def _relation(
    node: dict[str, Any], allowed: frozenset[str], cte_names: set[str], found: set[str]
) -> int:
    """Check a relation. Returns how many it counts as."""
    if node["type"] == "BASE_TABLE":
        path = [str(part).lower() for part in node["qualified_name"]["path"]]
        if len(path) == 2 and path[0] == "main" and path[1] in allowed:
            found.add(path[1])
        elif len(path) == 1 and path[0] in allowed:
            found.add(path[0])
        elif len(path) != 1 or path[0] not in cte_names:
            raise _Unlisted
        return 1
    if node["type"] == "TABLE_FUNCTION":
        function = node["function"]
        ordinality = node.get("with_ordinality", "WITHOUT_ORDINALITY")
        if _path(function) not in [[name] for name in MACROS] or ordinality != "WITHOUT_ORDINALITY":
            raise _Unlisted
        found.add(function["function_name"].lower())
        function["is_macro"] = True
        return 2
    return 0


def _path(node: dict[str, Any]) -> list[str]:
    return [str(part).lower() for part in (node.get("qualified_name") or {}).get("path", ())]


def _expression(node: dict[str, Any], type: str) -> None:
    if type not in _EXPRESSIONS:
        raise _Unlisted
    if type == "VALUE_CONSTANT":
        text = (node.get("literal") or {}).get("text")
        if isinstance(text, str) and len(text) > _LITERAL_CHARACTERS_MAX:
            raise _Unlisted  # it may be in every row
    if type == "TYPE":
        if len(_path(node)) != 1 or str(node.get("type_name", "")).upper() not in _TYPES:
            raise _Unlisted
        return
    if type != "FUNCTION" and not type.startswith("WINDOW_"):
        return
    name = str(node.get("function_name", "")).lower()
    if _path(node) != [name]:
        raise _Unlisted
    arguments = [argument.get("expression") for argument in node.get("arguments") or ()]
    if (node.get("order_bys") or {}).get("orders") or node.get("arg_orders"):
        raise _Unlisted
    if name in _WITH_TWO_ARGUMENTS_AT_MOST and len(arguments) > 2:
        raise _Unlisted
    if name in _WITH_ONE_ARGUMENT and len(arguments) != 1:
        raise _Unlisted
    if type.startswith("WINDOW_"):
        if name not in _WINDOWS and name not in _AGGREGATES:
            raise _Unlisted
    elif name in _MATCHES:
        _match(name, arguments)
    elif not (
        name in _FUNCTIONS
        or name in _AGGREGATES
        or name in _MORE_AGGREGATES
        or name in SCALAR_MACROS
        or (name in MACROS and node.get("is_macro"))
    ):
        raise _Unlisted


def _match(name: str, arguments: list[Any]) -> None:
    """Check that a pattern is constant, short and simple.

    Other patterns take time that grows with a power of the text's length.
    """
    literal = (arguments[1].get("literal") if len(arguments) == 2 else None) or {}
    text = literal.get("text")
    if (
        literal.get("kind") != "STRING"
        or not isinstance(text, str)
        or len(text) > _NEEDLE_CHARACTERS_MAX
        or (name.endswith("~~") and not _SIMPLE_PATTERN.fullmatch(text))
    ):
        raise _Unlisted
