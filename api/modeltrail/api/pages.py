"""Page tokens, which say where the next page begins.

A token is valid for its own list and query.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from modeltrail.api.errors import InvalidRequest

_OFFSET_MAX = 2**53
_WHAT = {
    "experiment_ids": "Experiment IDs",
    "filter": "Filter string",
    "order_by": "Order by",
    "datasets": "Datasets",
}
"""MLflow's words for parts of a query."""


class Pages:
    """Makes and reads the page tokens of one list and query.

    A token contains a JSON object: ``offset`` as in MLflow's own tokens, or ``last``, the sort
    values of the last item of the page before; and ``of``, short digests of the list's name and of
    the parts of the query.
    """

    def __init__(self, name: str, **query: Any) -> None:
        """Name the list, and everything else that must be the same on all pages."""
        self.name = name
        self._of = {part: _digest(value) for part, value in {"list": name, **query}.items()}

    def token(self, *, offset: int | None = None, last: Sequence[Any] | None = None) -> str:
        """Return the token of the page that begins at an offset, or after some values."""
        at = {} if offset is None else {"offset": offset}
        content = {**at, "of": self._of, **({} if last is None else {"last": list(last)})}
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()

    def offset(self, token: str | None) -> int:
        """Return where the page begins.

        Tokens of an MLflow server, which have only this, are accepted.

        Raises:
            InvalidRequest: it is not a page token, or one of another list or query.
        """
        if not token:
            return 0
        content = self._content(token)
        offset = content.get("offset")
        if isinstance(offset, str) and not offset.isdecimal():
            raise InvalidRequest(f"Invalid page token, not stringable {offset[:100]}")
        if type(offset) is not int or not 0 < offset < _OFFSET_MAX:
            raise _bad("parsed", content)
        return offset

    def last(self, token: str | None, *kinds: type) -> list[Any] | None:
        """Return the sort values of the last item of the page before, if the token has them.

        Args:
            token: The client's token.
            kinds: For each value ``str``, ``int`` (64 bits) or ``float``, which may be ``"NaN"``.

        Raises:
            InvalidRequest: it is not a page token, or one of another list or query.
        """
        if not token:
            return None
        content = self._content(token)
        values = content.get("last")
        if values is None and "offset" in content:
            return None
        if "of" not in content or not isinstance(values, list) or len(values) != len(kinds):
            raise _bad("parsed", content)
        return [_value(value, kind, content) for value, kind in zip(values, kinds, strict=True)]

    def _content(self, token: str) -> dict[str, Any]:
        try:
            plain = token.replace("-", "+").replace("_", "/")
            raw = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        except (ValueError, binascii.Error):
            raise InvalidRequest("Invalid page token, could not base64-decode") from None
        try:
            content = json.loads(raw)
        except (ValueError, RecursionError):
            raise _bad("decoded", raw) from None
        if not isinstance(content, dict):
            raise _bad("parsed", content)
        of = content.get("of", self._of)
        if not isinstance(of, dict):
            raise _bad("parsed", content)
        for part, digest in self._of.items():
            if of.get(part) == digest:
                continue
            if part == "list":
                raise InvalidRequest(
                    f"Invalid page token, of another list than {self.name}; begin with the first "
                    "page"
                )
            what = _WHAT.get(part, part)
            do = "do" if what.endswith("s") else "does"
            raise InvalidRequest(
                f"{what} in the page token {do} not match the requested "
                f"{what[0].lower()}{what[1:]}. Begin with the first page."
            )
        return content


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _value(value: Any, kind: type, content: Any) -> Any:
    if kind is float:
        if value in ("NaN", "Infinity", "-Infinity"):
            return float(value)
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    elif kind is int:
        if type(value) is int and -(2**63) <= value < 2**63:
            return value
    elif isinstance(value, str) and _is_text(value):
        return value
    raise _bad("parsed", content)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which DuckDB does not accept
        return False
    return True


def _bad(how: str, content: Any) -> InvalidRequest:
    return InvalidRequest(f"Invalid page token, {how} value={str(content)[:100]}")
