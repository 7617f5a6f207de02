"""A server, asked over HTTP with the standard library alone."""

from __future__ import annotations

import base64
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import IO, Any
from urllib.parse import unquote, urlencode, urlsplit

from modeltrail.api.errors import ClientError

_ANSWER_TIMEOUT_S = 660.0
_PIECE_BYTES = 1024 * 1024


class Server:
    """A Modeltrail server. Each request has its own connection."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """Use the server at a URL, which may contain ``user:password@``. Nothing is sent yet.

        Without credentials here, ``MODELTRAIL_TOKEN`` (or ``MLFLOW_TRACKING_TOKEN``) is used, or
        else ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``.

        Raises:
            ClientError: it is not the URL of a server.
        """
        parts = urlsplit(url)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
            raise ClientError(f"not the URL of a server: {url!r}; expected as in http://host:5000")
        host = parts.netloc.rpartition("@")[2]
        self.url = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        """The server's URL, without user and password."""
        self._authorization = _authorization(token, parts.username, parts.password)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str | None = None,
        timeout_s: float = _ANSWER_TIMEOUT_S,
        **parameters: Any,
    ) -> IO[bytes]:
        """Send a request. Close the returned answer.

        A body is sent as JSON; with a content type it is bytes or their iterator, sent as it is.

        Raises:
            ClientError: the server refuses, or cannot be reached.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        url = f"{self.url}{path}" + (f"?{urlencode(given)}" if given else "")
        request = urllib.request.Request(url, method=method)
        if body is not None:
            request.data = body if content_type else json.dumps(body, default=_plain).encode()
            request.add_header("Content-Type", content_type or "application/json")
        request.add_header("User-Agent", "modeltrail-client")
        if self._authorization is not None:
            # Not sent to a redirect's target: another host must not learn the credentials.
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            answer: IO[bytes] = urllib.request.urlopen(request, timeout=timeout_s)
            return answer
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode("utf-8", "replace")
            raise refusal(error.code, error.reason, text) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error) or type(error).__name__
            raise ClientError(f"no answer from {self.url}: {reason}; does it run?") from None

    def ask(self, method: str, path: str, body: Any = None, **parameters: Any) -> Any:
        """Return the JSON answer to a request. Raises ``ClientError``."""
        with self.request(method, path, body, **parameters) as answer:
            return json.loads(b"".join(self.pieces(answer)) or b"null")

    def pieces(self, answer: IO[bytes]) -> Iterator[bytes]:
        """Yield the bytes of an answer. Raises ``ClientError``."""
        try:
            yield from iter(lambda: answer.read(_PIECE_BYTES), b"")
        except (OSError, http.client.HTTPException) as error:
            raise ClientError(
                f"the answer of {self.url} was cut off ({error or type(error).__name__}): the "
                "query took too long, failed half-way, or the server stopped"
            ) from None


def _plain(value: Any) -> Any:
    """Return a parameter as JSON can hold it."""
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, Sequence):
        return list(value)
    item = getattr(value, "item", None)  # a NumPy number
    return item() if callable(item) else str(value)


def _authorization(token: str | None, user: str | None, password: str | None) -> str | None:
    """Return the credentials: the given ones, or else those in the environment, as for MLflow."""
    if not token and user is None:
        token = os.environ.get("MODELTRAIL_TOKEN") or os.environ.get("MLFLOW_TRACKING_TOKEN")
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD")
    else:
        user, password = (unquote(text or "") for text in (user, password))
    if token:
        return f"Bearer {token}"
    if user:
        pair = f"{user}:{password or ''}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
    return None


def refusal(status: int, reason: str, text: str) -> ClientError:
    """Return the error for an answer that refuses a request."""
    try:
        answer = json.loads(text)
        return ClientError(
            # /health has a "reason" and no error code.
            str(answer.get("message") or answer["reason"]),
            status=status,
            code=str(answer.get("error_code")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return ClientError(f"{status} {reason}", status=status)
