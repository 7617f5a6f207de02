"""MLflow's JSON rules."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeltrail.api.errors import InvalidRequest
from modeltrail.api.mlflow import wire
from modeltrail.api.pages import Pages

FIELDS = {
    "run_id": wire.text,
    "step": wire.integer,
    "value": wire.number,
    "flag": wire.boolean,
    "status": wire.enum("RUNNING", "DONE"),
    "tags": wire.many(wire.TAG),
    "names": wire.many(wire.text),
}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"step": "9223372036854775807"}, {"step": 2**63 - 1}),
        ({"step": -3}, {"step": -3}),
        ({"step": 2.0}, {"step": 2}),
        ({"value": "Infinity"}, {"value": math.inf}),
        ({"value": "-Infinity"}, {"value": -math.inf}),
        ({"value": 3}, {"value": 3.0}),
        ({"value": "1e3"}, {"value": 1000.0}),
        ({"status": "DONE"}, {"status": "DONE"}),
        ({"status": 2}, {"status": "DONE"}),
        ({"flag": True, "unknown": 1, "run_id": None}, {"flag": True}),
        ({"run_uuid": "r"}, {"run_id": "r"}),
        ({"tags": [{"key": "a", "more": 1}]}, {"tags": [{"key": "a"}]}),
    ],
)
def test_what_is_read(sent: dict[str, Any], read: dict[str, Any]) -> None:
    assert wire.check(sent, FIELDS, []) == read


def test_nan_is_a_string() -> None:
    assert math.isnan(wire.check({"value": "NaN"}, FIELDS, [])["value"])
    assert [wire.double(v) for v in (math.nan, math.inf, -math.inf, 1.5)] == [
        "NaN",
        "Infinity",
        "-Infinity",
        1.5,
    ]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"step": "x"}, "Invalid value \"x\" for parameter 'step' supplied:  Hint: Value was of "),
        ({"step": 2**63}, "for parameter 'step'"),
        ({"step": True}, "Value was of type 'bool'"),
        ({"value": "x"}, "Value was of type 'str'"),
        ({"value": 10**400}, "for parameter 'value'"),
        ({"run_id": 5}, "Value was of type 'int'"),
        ({"status": "NO"}, "for parameter 'status'"),
        ({"status": 3}, "for parameter 'status'"),
        ({"tags": {}}, "Value was of type 'dict'"),
        ({"tags": [{"key": 1}]}, "for parameter 'tags[0].key'"),
        ({"flag": "maybe"}, "Invalid boolean value: maybe"),
    ],
)
def test_what_is_refused(sent: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.check(sent, FIELDS, [])
    assert told in caught.value.message


@pytest.mark.parametrize("sent", [{}, {"run_id": ""}, {"run_id": None}])
def test_what_is_required(sent: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="Missing value for required parameter 'run_id'"):
        wire.check(sent, FIELDS, ["run_id"])


def test_a_query_repeats_what_is_a_list() -> None:
    query = b"names=a&names=b&run_id=r%20s&flag=true&other=1"
    found = wire.check(wire.query_fields(query, FIELDS), FIELDS, [])
    assert found == {"names": ["a", "b"], "run_id": "r s", "flag": True}


@pytest.mark.parametrize("body", [b"", b"  ", b"null", b"{}", b'"{}"'])
def test_bodies_without_fields(body: bytes) -> None:
    assert wire.body_fields(body) == {}


@pytest.mark.parametrize("body", [b"{", b"[]", b"5", b'"x"', b"\xff", b"[" * 100_000])
def test_bodies_that_are_none(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        wire.body_fields(body)


@given(st.integers(1, 2**40))
def test_page_tokens_come_back(offset: int) -> None:
    pages = Pages("runs", filter="a")
    assert pages.offset(pages.token(offset=offset)) == offset
    last = pages.last(pages.token(last=[offset, "ä", "Infinity"]), int, str, float)
    assert last == [offset, "ä", math.inf]
    for other in (Pages("experiments", filter="a"), Pages("runs", filter="b"), Pages("runs", a=1)):
        with pytest.raises(InvalidRequest, match="page token"):
            other.offset(pages.token(offset=offset))


@pytest.mark.parametrize(
    "token", ["x", "e30=", "W10=", "eyJvZmZzZXQiOiAtMX0=", "eyJvZmZzZXQiOiAiYSJ9", "%%%", "é"]
)
def test_bad_page_tokens(token: str) -> None:
    with pytest.raises(InvalidRequest, match="Invalid page token"):
        Pages("runs").offset(token)


@pytest.mark.parametrize("key", ["a", "a/b", "a b:c.d-e_f", "ä", "..a"[2:]])
def test_good_keys(key: str) -> None:
    wire.check_key("key", key)


@pytest.mark.parametrize("key", ["", ".", "..", "/a", "a//b", "a/../b", "a$", "a\n", "a/"])
def test_bad_keys(key: str) -> None:
    with pytest.raises(InvalidRequest, match="for parameter 'key' supplied"):
        wire.check_key("key", key)
