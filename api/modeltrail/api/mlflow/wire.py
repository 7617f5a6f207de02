"""MLflow's JSON: read and check requests, and write answers.

MLflow's messages are protobuf in JSON, with their own rules: names in snake_case, 64-bit integers
as numbers (also as strings in requests), NaN and infinities as strings, unset fields left out,
unknown fields ignored. A GET has its fields in the query, with repeated ones repeated.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import parse_qs

import orjson

from modeltrail.api.errors import InvalidRequest
from modeltrail.limits import ID_CHARACTERS_MAX, INT64_MAX, TEXT_BYTES_MAX, is_too_long

PARAM_VALUE_CHARACTERS_MAX = 6_000
TAG_VALUE_CHARACTERS_MAX = 8_000

_INT64 = range(-INT64_MAX - 1, INT64_MAX + 1)
_KEY = re.compile(r"[/\w.\- :]*")
_RUN_ID = re.compile(rf"[a-zA-Z0-9][\w\-]{{0,{ID_CHARACTERS_MAX - 1}}}")
_SPECIAL_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_ADVICE = " See the API docs for more information about request parameters."

Reader = Callable[[str, Any], Any]
"""Converts a JSON value, given the field's path. Raises ``InvalidRequest``."""


# Reading


def wrong_type(path: str, value: Any, more: str = "") -> NoReturn:
    """Return the error for a value of the wrong type, in MLflow's words."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"))
    raise InvalidRequest(
        f"Invalid value {_short(shown)} for parameter '{path}' supplied:  "
        f"Hint: Value was of type '{type(value).__name__}'.{_ADVICE}{more}"
    )


def invalid(path: str, value: Any, why: str | None = None) -> InvalidRequest:
    """Return the error for an invalid value of the right type."""
    shown = _short(json.dumps(value, sort_keys=True, separators=(",", ":")))
    why = f": {why}" if why else "."
    return InvalidRequest(f"Invalid value {shown} for parameter '{path}' supplied{why}")


def missing(path: str) -> InvalidRequest:
    """Return the error for a missing value."""
    return InvalidRequest(f"Missing value for required parameter '{path}'.{_ADVICE}")


def _short(text: str) -> str:
    return text if len(text) <= 500 else text[:500] + "..."


def text(path: str, value: Any) -> str:
    """Read a string that can be encoded; half a surrogate pair cannot."""
    if not isinstance(value, str):
        wrong_type(path, value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise invalid(path, value, "it is not valid Unicode") from None
    return value


def integer(path: str, value: Any) -> int:
    """Read a 64-bit integer, as a number or a string."""
    number = value
    if isinstance(value, str):
        try:
            number = int(value)
        except ValueError:
            wrong_type(path, value)
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    if not isinstance(number, int) or isinstance(number, bool) or number not in _INT64:
        wrong_type(path, value)
    return number


def number(path: str, value: Any) -> float:
    """Read a double. NaN and infinities are strings."""
    if type(value) is float:
        return value
    if isinstance(value, str):
        try:
            return _SPECIAL_FLOATS[value] if value in _SPECIAL_FLOATS else float(value)
        except ValueError:
            wrong_type(path, value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        wrong_type(path, value)
    try:
        return float(value)
    except OverflowError:
        wrong_type(path, value)


def boolean(path: str, value: Any) -> bool:
    """Read true or false; in a query, their names."""
    if isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise InvalidRequest(f"Invalid boolean value: {value}, must be 'true' or 'false'.")
        return value.lower() == "true"
    if not isinstance(value, bool):
        wrong_type(path, value)
    return value


def enum(*names: str) -> Reader:
    """Return a reader for one of these names or its number; the first is number 1."""

    def read(path: str, value: Any) -> str:
        if isinstance(value, str) and value in names:
            return value
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= len(names):
            return names[value - 1]
        wrong_type(path, value)

    read.names = names  # type: ignore[attr-defined]
    return read


def many(item: Reader) -> Reader:
    """A list."""

    def read(path: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            wrong_type(path, value)
        return [item(f"{path}[{n}]", entry) for n, entry in enumerate(value)]

    read.item = item  # type: ignore[attr-defined]
    return read


def message(**fields: Reader) -> Reader:
    """Return a reader for an object with these fields.

    Others are ignored, and null counts as unset.
    """

    def read(path: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            wrong_type(path, value)
        return {
            name: reader(f"{path}.{name}" if path else name, value[name])
            for name, reader in fields.items()
            if value.get(name) is not None
        }

    read.fields = fields  # type: ignore[attr-defined]
    return read


VIEW = enum("ACTIVE_ONLY", "DELETED_ONLY", "ALL")
TAG = message(key=text, value=text)
Fields = Mapping[str, Reader]


def query_fields(query: bytes, fields: Fields) -> dict[str, Any]:
    """Return the fields in the query of a request."""
    found = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    values: dict[str, Any] = {}
    for name, reader in [*fields.items(), ("run_uuid", text)]:
        if name in found:
            values[name] = found[name] if hasattr(reader, "item") else found[name][0]
    return values


def _parsed(text: bytes | str) -> Any:
    """Return a JSON value. The fast parser refuses some of what Python's accepts, such as NaN."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def body_fields(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. An empty body has no fields.

    Older clients send JSON within a JSON string.
    """
    if not body.strip():
        return {}
    try:
        value = _parsed(body)
        if isinstance(value, str):
            value = _parsed(value)
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest("the body is not a JSON object")
    return value


def check(values: Mapping[str, Any], fields: Fields, required: Sequence[str]) -> dict[str, Any]:
    """Return the known fields of a request, converted. Raises ``InvalidRequest``.

    Args:
        values: The fields of the request.
        fields: The known fields.
        required: Fields that must be set, and not to the empty string.
    """
    found = dict(values)
    if "run_uuid" in values and "run_id" in fields and not values.get("run_id"):
        found["run_id"] = values["run_uuid"]  # its name before MLflow 1.0, still sent
    for name in required:
        if found.get(name) in (None, ""):
            raise missing(name)
    return {
        name: reader(name, found[name])
        for name, reader in fields.items()
        if found.get(name) is not None
    }


# Checking, with MLflow's wording


def check_key(path: str, key: str) -> None:
    """Check the key of a metric, param or tag."""
    if not _KEY.fullmatch(key):
        raise invalid(
            path,
            key,
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.),"
            " spaces ( ), colon(:) and slashes (/).",
        )
    normal = posixpath.normpath(key)
    if normal != key or normal == "." or normal.startswith(("..", "/")):
        raise invalid(
            path,
            key,
            "Names may be treated as files in certain cases, and must not resolve to other names"
            f" when treated as such. This name would resolve to {normal!r}",
        )


def check_length(what: str, value: str, limit: int) -> None:
    """Check a number of characters."""
    if len(value) > limit:
        raise InvalidRequest(f"'{what}' exceeds the maximum length of {limit} characters")


def check_text(what: str, value: str) -> None:
    """Check the size of a value."""
    if is_too_long(value):
        raise InvalidRequest(f"'{what}' exceeds the maximum length of {TEXT_BYTES_MAX} bytes")


def check_run_id(run_id: str) -> None:
    """Check the form of a run's id."""
    if not _RUN_ID.fullmatch(run_id):
        raise invalid("run_id", run_id)


def check_experiment_id(experiment_id: str) -> str:
    """Check the form of an experiment's id, a decimal string, and return it."""
    try:
        return str(int(experiment_id))
    except ValueError:
        shown = _short(experiment_id)
        raise InvalidRequest(
            f"Invalid experiment ID '{shown}'. Experiment ID must be a valid integer."
        ) from None


def check_max_results(max_results: int, limit: int, least: int = 1) -> None:
    """Check the size of a page."""
    if max_results < least:
        raise InvalidRequest(
            f"Invalid value {max_results} for parameter 'max_results' supplied. "
            "It must be a positive integer"
        )
    if max_results > limit:
        wrong_type("max_results", max_results, f" It must be at most {limit}.")


# Writing


def double(value: float) -> float | str:
    """Return a double for JSON."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def set_fields(**values: Any) -> dict[str, Any]:
    """Return an object of the fields that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def pairs(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return tags or params in MLflow's form, by key."""
    return [{"key": key, "value": values[key]} for key in sorted(values)]


def to_json(body: Any) -> bytes:
    """Return the bytes of an answer."""
    try:
        return orjson.dumps(body)
    except TypeError:  # half a surrogate pair, or an integer of more than 64 bits
        pass
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
