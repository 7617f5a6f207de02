"""Filters and orders of searches: MLflow's grammar and more, compiled to parameterised SQL.

    expression := term (OR term)*
    term       := factor (AND factor)*
    factor     := NOT factor | '(' expression ')' | comparison
    comparison := field op value
                | field [NOT] LIKE|ILIKE string
                | field [NOT] IN (string, ...)
                | field IS [NOT] NULL
    field      := [prefix '.'] key       keys with other characters in backticks or double quotes

MLflow has no OR, NOT and parentheses, and compares params as text only. An ``Entity`` describes
what a thing (a run, a model, ...) can be searched by. A comparison is true or false, never unknown:
with a missing key it is false, also for ``!=``, and NOT negates exactly that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, NoReturn

from modeltrail.api.errors import InvalidRequest

_FILTER_CHARACTERS_MAX = 100_000
_DEPTH_MAX = 100
CONDITIONS_MAX = 500
"""Maximum number of conditions in a filter."""
KEYED_CONDITIONS_MAX = 50
"""Maximum number of those on metrics, params, tags and the like, each of which needs a join."""
LISTED_MAX = 1_000
"""Maximum number of values in an ``IN``."""
ORDERS_MAX = 20
"""Maximum number of clauses in an ``order_by``."""
_NUMBER_OPS = ("=", "!=", "<", "<=", ">", ">=")
_TEXT_OPS = ("=", "!=", "LIKE", "ILIKE", "NOT LIKE", "NOT ILIKE", "IN", "NOT IN")
_ID_OPS = ("=", "!=", "IN", "NOT IN")
_NULL_OPS = ("IS NULL", "IS NOT NULL")
_OPS: Mapping[str, tuple[str, ...]] = {
    "number": _NUMBER_OPS, "time": _NUMBER_OPS, "id": _ID_OPS, "boolean": _NUMBER_OPS[:2]
}  # fmt: skip

_KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "IS", "LIKE", "ILIKE", "NULL"})

Kind = Literal["text", "number", "param", "id", "time", "boolean"]
"""How values compare: as text, as numbers, like the value compared with, as decimal ids, as times
(milliseconds since 1970 or a quoted ISO 8601 time), or as 'true' and 'false'."""


# What can be searched


@dataclass(frozen=True, slots=True)
class Attribute:
    """A property of every row of the entity, which may be NULL.

    Attributes:
        sql: An expression over the query's tables, such as ``r.status``.
        kind: How it compares.
        ordered: Whether an order may use it.
        filtered: Whether a filter may use it.
        nullable: Whether IS NULL is allowed.
    """

    sql: str
    kind: Kind = "text"
    ordered: bool = True
    filtered: bool = True
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Keyed:
    """Values under keys that users choose: tags, params, metrics.

    Attributes:
        rows: A SELECT of the columns ``id`` and ``value``, with ``?`` for the key; at most one
            value for an id if an order may use it. Empty if only the ``special`` keys exist.
        kind: How values compare.
        params: Values for further ``?`` in ``rows``, after the key.
        special: For some keys another SELECT, without ``?``.
        ordered: Whether an order may use it.
        nullable: Whether IS NULL is allowed.
    """

    rows: str = ""
    kind: Kind = "text"
    params: tuple[Any, ...] = ()
    special: Mapping[str, str] = field(default_factory=dict)
    ordered: bool = True
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Entity:
    """What can be searched.

    Attributes:
        id: An expression over the query's tables that equals ``id`` of the keyed rows.
        attributes: By name; several names may have the same attribute.
        keyed: By kind, in MLflow's word: "metric", "parameter", "tag", "dataset".
        prefixes: What may stand before the dot, and the kind it means. "attribute" is the kind of
            attributes, and the default.
        suffixes: By kind: what may stand after the key, as in ``metrics.loss.min``, and the kind
            that it means. A quoted key has no suffix within the quotes.
    """

    id: str
    attributes: Mapping[str, Attribute]
    keyed: Mapping[str, Keyed]
    prefixes: Mapping[str, str]
    suffixes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Condition(NamedTuple):
    """A compiled filter."""

    sql: str
    """A boolean expression that is never NULL."""
    params: list[Any]
    fields: frozenset[tuple[str, str]]
    """Kind and key of every field in the filter."""


class Order(NamedTuple):
    """A compiled order."""

    joins: str
    """LEFT JOINs after the query's tables; empty or with a leading space."""
    params: list[Any]
    terms: list[str]
    """Terms of ORDER BY."""
    fields: frozenset[tuple[str, str]]


# Tokens


class _Token(NamedTuple):
    kind: Literal["word", "string", "number", "op", "mark", "end"]
    text: str
    at: int
    """Index of its first character."""


_QUOTED = r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"|`[^`]*`"""
_PART = r"[^\W\d][\w/:\-]*"
_TOKEN = re.compile(
    rf"""
    (?P<space>\s+)
    | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<word>(?:[^\W\d]\w*|"[^"]*"|`[^`]*`)\.(?:(?:"[^"]*"|`[^`]*`)(?:\.\w+)?|[\w.][\w./:\-]*)
        | `[^`]*` | {_PART})
    | (?P<string>{_QUOTED})
    | (?P<op><=|>=|!=|<>|==|=|<|>)
    | (?P<mark>[(),])
    """,
    re.VERBOSE,
)


def _tokens(text: str, what: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            if text[at] in "'\"`":
                _fail(what, text, at, f"the quote {text[at]} is not closed")
            _fail(what, text, at, f"nothing may begin with {text[at]!r}")
        kind = match.lastgroup
        if kind != "space":
            yield _Token(kind, match.group(), at)  # type: ignore[arg-type]
        at = match.end()
    yield _Token("end", "", at)


def _fail(what: str, text: str, at: int, why: str) -> NoReturn:
    """Refuse a text, with MLflow's words first. Reasons from MLflow begin with a capital."""
    shown = text if len(text) <= 200 else text[:200] + "..."
    if why[0].isupper():
        raise InvalidRequest(f"{why}. Invalid {what}, at character {at + 1}: '{shown}'")
    words = f"Invalid {what} '{shown}'. Could not be parsed."
    if what == "filter":
        words = f"Invalid clause(s) in filter string: {shown}."
    raise InvalidRequest(f"{words} Wrong at character {at + 1}: {why}")


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"`":
        return text[1:-1].replace(text[0] * 2, text[0])
    return text


# Parsing


class Field(NamedTuple):
    """A field in a filter or an order."""

    kind: str
    key: str
    at: int


class Comparison(NamedTuple):
    """A field, an operator in capitals, and the value: text, a number, a tuple of texts, None."""

    field: Field
    op: str
    value: str | float | tuple[str, ...] | None


class Not(NamedTuple):
    """The negation of an expression."""

    node: Node


class All(NamedTuple):
    """True if all expressions are."""

    nodes: tuple[Node, ...]


class Any_(NamedTuple):
    """True if at least one expression is."""

    nodes: tuple[Node, ...]


Node = Comparison | Not | All | Any_


def with_suffix(entity: Entity, kind: str, rest: str) -> tuple[str, str]:
    """Return the kind and key of what follows a prefix, such as ``loss.min`` or ```a b`.min``."""
    suffixes = entity.suffixes.get(kind, {})
    key, dot, suffix = rest.rpartition(".")
    if rest[-1:] not in ('"', "`") and key and dot and suffix in suffixes:
        return suffixes[suffix], _unquoted(key)
    return kind, _unquoted(rest)


class _Parser:
    """A recursive-descent parser over the tokens of one text."""

    def __init__(self, entity: Entity, text: str, what: str) -> None:
        self._entity = entity
        self._text = text
        self._what = what
        if len(text) > _FILTER_CHARACTERS_MAX:
            raise InvalidRequest(f"a {what} may have {_FILTER_CHARACTERS_MAX:,} characters at most")
        self._tokens = list(_tokens(text, what))
        self._next = 0
        self._depth = 0
        self._conditions = 0
        self._keyed_conditions = 0

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def _fail(self, at: int, why: str) -> NoReturn:
        _fail(self._what, self._text, at, why)

    def _keyword(self, *words: str) -> str | None:
        """Consume the next token if it is one of these words."""
        token = self._peek()
        if token.kind == "word" and token.text.upper() in words:
            self._next += 1
            return token.text.upper()
        return None

    def _mark(self, mark: str) -> bool:
        if self._peek().kind == "mark" and self._peek().text == mark:
            self._next += 1
            return True
        return False

    def filter(self) -> Node:
        node = self._expression()
        token = self._peek()
        if token.kind != "end":
            self._fail(token.at, f"expected AND, OR or the end, found {token.text!r}")
        return node

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            self._fail(self._peek().at, f"more than {_DEPTH_MAX} levels of parentheses")
        nodes = [self._term()]
        while self._keyword("OR"):
            nodes.append(self._term())
        self._depth -= 1
        return nodes[0] if len(nodes) == 1 else Any_(tuple(nodes))

    def _term(self) -> Node:
        nodes = [self._factor()]
        while self._keyword("AND"):
            nodes.append(self._factor())
        return nodes[0] if len(nodes) == 1 else All(tuple(nodes))

    def _factor(self) -> Node:
        negated = False
        while self._keyword("NOT"):
            negated = not negated
        start = self._peek()
        if self._mark("("):
            node = self._expression()
            if not self._mark(")"):
                found = self._peek()
                self._fail(
                    found.at,
                    f"expected ')' for the '(' at character {start.at + 1}, "
                    f"found {found.text or 'the end'!r}",
                )
        else:
            node = self._comparison()
            self._count(start.at, node)
        return Not(node) if negated else node

    def _count(self, at: int, condition: Comparison) -> None:
        self._conditions += 1
        self._keyed_conditions += condition.field.kind != "attribute"
        if self._conditions > CONDITIONS_MAX:
            self._fail(
                at,
                f"a {self._what} may have {CONDITIONS_MAX} conditions at most; narrow it, or "
                "ask by SQL",
            )
        if self._keyed_conditions > KEYED_CONDITIONS_MAX:
            self._fail(
                at,
                f"a {self._what} may have {KEYED_CONDITIONS_MAX} conditions on metrics, params "
                "and tags at most; narrow it, use IN for several values of one key, or ask by SQL",
            )

    def field(self) -> Field:
        token = self._take()
        if (token.kind == "word" and token.text.upper() not in _KEYWORDS) or (
            token.kind == "string" and token.text[0] == '"'
        ):
            return self._field(token)
        self._fail(
            token.at,
            "expected a field as in metrics.loss or tags.`a key`, "
            f"found {token.text or 'the end'!r}",
        )

    def _field(self, token: _Token) -> Field:
        entity, text = self._entity, token.text
        quoted_alone = text[0] in '"`' and text.find(text[0], 1) == len(text) - 1
        if quoted_alone or "." not in text:
            kind, key = "attribute", _unquoted(text)
        else:
            end = text.find(text[0], 1) + 1 if text[0] in '"`' else text.index(".")
            prefix, rest = _unquoted(text[:end]), text[end + 1 :]
            known = entity.prefixes.get(prefix)
            if known is None:
                self._fail(
                    token.at,
                    f"Invalid entity type '{prefix}'. "
                    f"Valid values are {sorted(set(entity.prefixes))}",
                )
            kind, key = with_suffix(entity, known, rest)
            if rest[0] in '"`' and rest[-1] != rest[0] and kind == known:
                at = token.at + end + 1 + rest.rindex(".")
                self._fail(at, f"nothing may begin with {rest[rest.rindex('.') :]!r}")
        if kind == "attribute" and key not in entity.attributes:
            self._fail(
                token.at,
                f"Invalid attribute key '{key}' specified. "
                f"Valid keys are '{sorted(entity.attributes)}'",
            )
        if kind != "attribute":
            keyed = entity.keyed[kind]
            if not keyed.rows and key not in keyed.special:
                self._fail(
                    token.at,
                    f"Invalid {kind} key '{key}' specified. "
                    f"Valid keys are '{sorted(keyed.special)}'",
                )
        return Field(kind, key, token.at)

    def _comparison(self) -> Comparison:
        name = self.field()
        token = self._peek()
        op = self._operator()
        allowed = self._allowed(name)
        if op in _NULL_OPS:
            if op not in allowed:
                self._fail(
                    token.at,
                    "IS NULL / IS NOT NULL is only supported for "
                    f"{self._nullable()}, not for '{name.kind}' '{name.key}'",
                )
            return Comparison(name, op, None)
        if op not in allowed:
            self._fail(token.at, f"Invalid comparator '{op}' not one of {list(allowed)}")
        value = self._list() if op.endswith("IN") else self._value(name, op)
        if self._kind(name) == "id":
            for one in value if isinstance(value, tuple) else (value,):
                if not str(one).isdecimal():
                    self._fail(
                        token.at,
                        f"Invalid experiment ID '{one}'. Experiment ID must be a valid integer",
                    )
        return Comparison(name, op, value)

    def _nullable(self) -> str:
        kinds = [kind for kind, keyed in self._entity.keyed.items() if keyed.nullable]
        return " and ".join(f"{kind}s" for kind in kinds) or "nothing here"

    def _kind(self, name: Field) -> Kind:
        if name.kind == "attribute":
            return self._entity.attributes[name.key].kind
        return self._entity.keyed[name.kind].kind

    def _allowed(self, name: Field) -> tuple[str, ...]:
        if name.kind == "attribute":
            attribute = self._entity.attributes[name.key]
            if not attribute.filtered:
                self._fail(name.at, f"'{name.key}' is for order_by only")
            return (*_OPS.get(attribute.kind, _TEXT_OPS), *_NULL_OPS[: 2 * attribute.nullable])
        keyed = self._entity.keyed[name.kind]
        ops: tuple[str, ...] = _NUMBER_OPS if keyed.kind == "number" else _TEXT_OPS
        if keyed.kind == "param":
            ops = (*_NUMBER_OPS, *_TEXT_OPS[2:])
        return (*ops, *_NULL_OPS) if keyed.nullable else ops

    def _operator(self) -> str:
        token = self._take()
        if token.kind == "op":
            return token.text
        word = token.text.upper() if token.kind == "word" else ""
        if word in ("LIKE", "ILIKE", "IN"):
            return word
        if word == "NOT":
            after = self._keyword("LIKE", "ILIKE", "IN")
            if after:
                return f"NOT {after}"
        if word == "IS":
            negated = self._keyword("NOT")
            if self._keyword("NULL"):
                return "IS NOT NULL" if negated else "IS NULL"
        self._fail(
            token.at,
            "Invalid comparison clause: expected a comparator (=, !=, <, LIKE, IN, IS NULL, ...), "
            f"found {token.text or 'the end'!r}",
        )

    def _value(self, name: Field, op: str) -> str | float:
        token, kind = self._take(), self._kind(name)
        shown = token.text or "the end"
        if kind == "number":
            if token.kind != "number":
                what = (
                    "metric" if name.kind.startswith("metric") else f"numeric attribute: {name.key}"
                )
                self._fail(token.at, f"Expected numeric value type for {what}. Found {shown}")
            return float(token.text)
        if kind == "time":
            if token.kind == "string" and token.text[0] != "`":
                return self._time(token)
            if token.kind == "number":
                return float(token.text)
            self._fail(
                token.at,
                f"expected a time as in '2026-03-01T12:00:00Z', or milliseconds since 1970, for "
                f"{name.key}, found {shown}",
            )
        if kind == "boolean":
            value = _unquoted(token.text).lower()
            if token.kind not in ("string", "word") or value not in ("true", "false"):
                self._fail(token.at, f"expected 'true' or 'false' for {name.key}, found {shown}")
            return value
        if token.kind == "string" and token.text[0] != "`":
            if op in _NUMBER_OPS[2:]:
                self._fail(
                    token.at,
                    f"Invalid comparator '{op}' not one of {list(_TEXT_OPS)} for text; "
                    "give the number without quotes to compare numbers",
                )
            return _unquoted(token.text)
        if kind == "param" and token.kind == "number" and op in _NUMBER_OPS:
            return float(token.text)
        what = "attributes" if name.kind == "attribute" else name.kind
        self._fail(
            token.at,
            f"Expected a quoted string value for {what} (e.g. 'my-value'). Got value {shown}",
        )

    def _time(self, token: _Token) -> float:
        """Return a quoted time, UTC unless it says otherwise, in ms since 1970."""
        try:
            moment = datetime.fromisoformat(_unquoted(token.text).strip())
            return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000
        except (ValueError, OverflowError):
            self._fail(token.at, f"not a time: {token.text}; expected as in '2026-03-01T12:00:00Z'")

    def _list(self) -> tuple[str, ...]:
        start = self._take()
        values: list[str] = []
        if start.kind != "mark" or start.text != "(":
            self._fail(start.at, f"expected a list in parentheses, found {start.text!r}")
        while True:
            token = self._take()
            if token.kind == "mark" and token.text == ")" and values:
                break  # after a final comma, as Python's tuples may have
            if token.kind != "string" or token.text[0] == "`":
                self._fail(
                    token.at,
                    "While parsing a list in the query, expected a non-empty list of string "
                    f"values, but found {token.text or 'the end'!r}",
                )
            values.append(_unquoted(token.text))
            if len(values) > LISTED_MAX:
                self._fail(token.at, f"a list may have {LISTED_MAX:,} values at most")
            token = self._take()
            if token.kind == "mark" and token.text == ")":
                break
            if token.kind != "mark" or token.text != ",":
                self._fail(
                    token.at, f"expected ',' or ')' in a list, found {token.text or 'the end'!r}"
                )
        return tuple(values)

    def order(self) -> tuple[Field, bool]:
        name = self.field()
        word = self._keyword("ASC", "DESC")
        token = self._peek()
        if token.kind != "end":
            self._fail(token.at, f"expected ASC, DESC or the end, found {token.text!r}")
        return name, word != "DESC"


def parse_filter(entity: Entity, text: str) -> Node:
    """Return the syntax tree of a filter that is not blank. Raises ``InvalidRequest``."""
    return _Parser(entity, text, "filter").filter()


# Compiling


def compile_filter(entity: Entity, text: str | None) -> Condition:
    """Compile a filter. Raises ``InvalidRequest`` with the place and the reason."""
    blank = text is None or not text.strip()
    return compile_node(entity, None if blank else parse_filter(entity, str(text)))


def compile_node(entity: Entity, root: Node | None) -> Condition:
    """Compile the syntax tree of a filter; None for a blank one."""
    if root is None:
        return Condition("TRUE", [], frozenset())
    params: list[Any] = []
    fields: set[tuple[str, str]] = set()

    def sql_of(node: Node) -> str:
        if isinstance(node, All):
            return "(" + " AND ".join(map(sql_of, node.nodes)) + ")"
        if isinstance(node, Any_):
            return "(" + " OR ".join(map(sql_of, node.nodes)) + ")"
        if isinstance(node, Not):
            return f"(NOT {sql_of(node.node)})"
        fields.add((node.field.kind, node.field.key))
        return _comparison(entity, node, params)

    return Condition(sql_of(root), params, frozenset(fields))


def without(root: Node | None, kind: str, key: str) -> Node | None:
    """Return a filter without those of its parts, joined by AND, that are about one field only."""
    nodes = root.nodes if isinstance(root, All) else () if root is None else (root,)
    kept = tuple(node for node in nodes if _fields_of(node) != {(kind, key)})
    return All(kept) if kept else None


def _fields_of(node: Node) -> set[tuple[str, str]]:
    if isinstance(node, Comparison):
        return {(node.field.kind, node.field.key)}
    nodes = (node.node,) if isinstance(node, Not) else node.nodes
    return set().union(*map(_fields_of, nodes))


def _comparison(entity: Entity, node: Comparison, params: list[Any]) -> str:
    name = node.field
    if name.kind == "attribute":
        attribute = entity.attributes[name.key]
        if node.op in _NULL_OPS:
            return f"({attribute.sql} {node.op})"
        condition = _test(attribute.sql, attribute.kind, node, params)
        return f"({attribute.sql} IS NOT NULL AND {condition})"
    keyed = entity.keyed[name.kind]
    rows = _rows(keyed, name.key, params)
    if node.op in _NULL_OPS:
        word = "NOT IN" if node.op == "IS NULL" else "IN"
        return f"({entity.id} {word} (SELECT id FROM ({rows}) WHERE value IS NOT NULL))"
    condition = _test("value", keyed.kind, node, params)
    return f"({entity.id} IN (SELECT id FROM ({rows}) WHERE {condition}))"


def _rows(keyed: Keyed, key: str, params: list[Any]) -> str:
    if key in keyed.special:
        return keyed.special[key]
    params += [key, *keyed.params]
    return keyed.rows


def _test(sql: str, kind: Kind, node: Comparison, params: list[Any]) -> str:
    """Return a condition on an expression, with parameters in the order of their marks."""
    if isinstance(node.value, tuple):
        params.append(list(node.value))
        return f"{'NOT ' if node.op.startswith('NOT') else ''}list_contains(?::VARCHAR[], {sql})"
    params.append(node.value)
    if kind == "boolean":
        return f"{sql} {node.op} ?::BOOLEAN"
    if isinstance(node.value, str):
        return f"{sql} {node.op} ?"
    number = f"TRY_CAST({sql} AS DOUBLE)" if kind == "param" else sql
    condition = f"{number} {node.op} ?::DOUBLE"
    if node.op in (">", ">="):
        # SQL here treats NaN as the greatest number. A comparison with it is false.
        return f"({condition} AND NOT isnan({number}::DOUBLE))"
    return f"coalesce({condition}, FALSE)" if kind == "param" else condition


def compile_order(entity: Entity, texts: Sequence[str]) -> Order:
    """Compile the clauses of an ``order_by``. Raises ``InvalidRequest``.

    In both directions, values come first, then NaN, then missing values.
    """
    if len(texts) > ORDERS_MAX:
        raise InvalidRequest(f"order_by may have {ORDERS_MAX} clauses at most, not {len(texts):,}")
    return order_of(entity, [_Parser(entity, text, "order_by clause").order() for text in texts])


def order_of(entity: Entity, clauses: Sequence[tuple[Field, bool]]) -> Order:
    """Compile an order given as fields, each with True for ascending."""
    joins: list[str] = []
    params: list[Any] = []
    terms: list[str] = []
    seen: set[tuple[str, str]] = set()
    for n, (name, ascending) in enumerate(clauses):
        if name.kind == "attribute":
            attribute = entity.attributes[name.key]
            ordered, kind, sql = attribute.ordered, attribute.kind, attribute.sql
            identity = (name.kind, attribute.sql)
        else:
            keyed = entity.keyed[name.kind]
            ordered, kind, sql = keyed.ordered, keyed.kind, f"order_{n}.value"
            identity = (name.kind, name.key)
        if not ordered:
            raise InvalidRequest(
                f"Invalid order_by: '{name.kind}' '{name.key}' cannot be ordered by"
            )
        if identity in seen:
            raise InvalidRequest(f"`order_by` contains duplicate fields: '{name.key}'")
        seen.add(identity)
        if name.kind != "attribute":
            rows = _rows(keyed, name.key, params)
            joins.append(f" LEFT JOIN ({rows}) order_{n} ON order_{n}.id = {entity.id}")
        nan = f" WHEN isnan({sql}::DOUBLE) THEN 1" if kind == "number" else ""
        terms.append(f"CASE WHEN {sql} IS NULL THEN 2{nan} ELSE 0 END")
        terms.append(f"{sql} {'ASC' if ascending else 'DESC'}")
    return Order("".join(joins), params, terms, frozenset((f.kind, f.key) for f, _ in clauses))
