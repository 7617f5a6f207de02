"""One client for queries, whether a server answers or this process reads the data folder.

    from modeltrail.api import query

    query("SELECT name, status FROM runs WHERE experiment_name = ?", ["digits"]).df()

Use ``open_client`` for several queries. For a server the standard library is enough, so that a thin
install can ask; a folder needs ``modeltrail[server]``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlencode

from modeltrail.api.data_folder import DEFAULT_DATA, DataFolder
from modeltrail.api.errors import ApiError, ClientError
from modeltrail.api.remote import Server, refusal
from modeltrail.api.results import QueryResult

if TYPE_CHECKING:
    from fastapi import FastAPI

    from modeltrail.api.sql.queries import Queries
    from modeltrail.consumers.fold import Fold
    from modeltrail.eventlog import EventLog

QUERY_TIMEOUT_S = 60.0
ROWS_MAX = 100_000_000
"""Maximum number of rows of a query."""

_STATEMENT_IN_LINK_MAX = 4_000
"""Characters of a query that a link to its page holds; servers limit the length of addresses."""
_PIECES_AHEAD = 8
_POLL_S = 0.1

Params = Sequence[Any] | Mapping[str, Any]


def query(
    statement: str,
    params: Params | None = None,
    *,
    url: str | os.PathLike[str] | None = None,
    token: str | None = None,
    limit: int | None = None,
    timeout_s: float = QUERY_TIMEOUT_S,
) -> QueryResult:
    """Run a query and return its whole result.

    Args:
        statement: The query, over the public views (``SHOW TABLES`` lists them).
        params: Values for ``?`` (a sequence) or ``$name`` (a mapping).
        url: A server or a data folder; default ``MODELTRAIL_URL``, else ``./modeltrail-data``. If a
            server runs on the folder, that server answers.
        token: Bearer token of a server; default ``MODELTRAIL_TOKEN``.
        limit: Maximum number of rows; default: all.
        timeout_s: Time limit, in seconds.

    Raises:
        ClientError: the query is refused, or cannot be run here; the message gives the reason.
    """
    with open_client(url, token=token) as client:
        return client.query(statement, params, limit=limit, timeout_s=timeout_s)


def open_client(url: str | os.PathLike[str] | None = None, *, token: str | None = None) -> Client:
    """Return a client of a server or data folder; see ``query`` for the arguments.

    While a client reads a folder itself, no server can start on it: close the client.

    Raises:
        ClientError: the URL names neither.
    """
    server, folder, log_url = find(url)
    if server is not None:
        return ServerClient(server, token)
    return FolderClient(folder, log_url)


def find(
    url: str | os.PathLike[str] | None = None,
) -> tuple[str | None, DataFolder, str | None]:
    """Return what a URL names; by default the one in ``MODELTRAIL_URL``.

    Returns:
        The server, if one is to be asked; the data folder; the log's URL, if it is elsewhere.
    """
    from modeltrail.eventlog.address import kind_of, mistake_in

    text = (os.fspath(url or "") or os.environ.get("MODELTRAIL_URL") or DEFAULT_DATA).strip()
    wrong = mistake_in(text)
    if wrong is not None:
        raise ClientError(wrong)
    kind = kind_of(text)
    if kind == "server":
        return text, DataFolder(Path(DEFAULT_DATA)), None
    log_url = None
    if kind in ("kafka", "memory"):
        text, log_url = DEFAULT_DATA, text
        server = os.environ.get("MODELTRAIL_SERVER")
        if url is None and server:
            return server, DataFolder(Path(DEFAULT_DATA)), log_url
    folder = folder_of(text)
    return folder.server(), folder, log_url


def folder_of(text: str) -> DataFolder:
    """Return the data folder in a path or ``file:`` URL. Raises ``ClientError`` for other URLs."""
    from modeltrail.eventlog import LogMisconfigured
    from modeltrail.eventlog.address import kind_of, mistake_in, path_of

    wrong = mistake_in(text)
    if wrong is None and kind_of(text) in ("server", "kafka", "memory"):
        wrong = f"{text!r} is not a folder; name a server with --server, a log with --log"
    if wrong is not None:
        raise ClientError(wrong)
    try:
        return DataFolder(Path(path_of(text)).expanduser())
    except LogMisconfigured as error:
        raise ClientError(str(error)) from None


class Client(ABC):
    """A client of a server or a folder. Close it, or use it as a context manager."""

    def query(
        self,
        statement: str,
        params: Params | None = None,
        *,
        limit: int | None = None,
        timeout_s: float = QUERY_TIMEOUT_S,
    ) -> QueryResult:
        """Run a query and return its whole result. Raises ``ClientError``."""
        # JSON works in a thin install; Arrow is many times faster and exact.
        format = "arrow" if find_spec("pyarrow") else "json"
        with self.stream(
            statement, params, format=format, limit=limit, timeout_s=timeout_s
        ) as pieces:
            data = b"".join(pieces)
        result = QueryResult.of_arrow(data) if format == "arrow" else QueryResult.of_json(data)
        if params is None and len(statement) <= _STATEMENT_IN_LINK_MAX:
            result.page = self.page_of(statement)
        return result

    def page_of(self, statement: str) -> str | None:
        """Return the address of the page that shows a query, or None without a server."""
        return None

    @abstractmethod
    def stream(
        self,
        statement: str,
        params: Params | None = None,
        *,
        format: str = "json",
        limit: int | None = None,
        timeout_s: float = QUERY_TIMEOUT_S,
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Run a query and yield its result in pieces. Raises ``ClientError``.

        Args:
            statement: The query.
            params: Values for ``?`` or ``$name``.
            format: ``json``, ``csv``, ``arrow`` (an IPC stream) or ``parquet``.
            limit: Maximum number of rows; default: all.
            timeout_s: Time limit, in seconds.
        """

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the JSON answer to a GET, as in ``get("/api/v1/runs/0af7")``.

        Raises ``ClientError``.
        """
        with self.download(path, **parameters) as pieces:
            return json.loads(b"".join(pieces))

    def items(self, path: str, name: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, which an answer has under a name, page by page."""
        token = None
        while True:
            page = self.get(path, **parameters, page_token=token)
            yield from page[name]
            token = page.get("next_page_token")
            if token is None:
                return

    @abstractmethod
    def post(self, path: str, body: Any) -> Any:
        """Return the JSON answer to a search by POST. Raises ``ClientError``."""

    @abstractmethod
    def download(self, path: str, **parameters: Any) -> AbstractContextManager[Iterator[bytes]]:
        """Return the answer to a GET in pieces, such as an artifact. Raises ``ClientError``."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ServerClient(Server, Client):
    """A client of a server, over HTTP."""

    def page_of(self, statement: str) -> str | None:
        return f"{self.url}/sql?{urlencode({'q': statement})}"

    def post(self, path: str, body: Any) -> Any:
        return self.ask("POST", path, body)

    @contextmanager
    def stream(
        self,
        statement: str,
        params: Params | None = None,
        *,
        format: str = "json",
        limit: int | None = None,
        timeout_s: float = QUERY_TIMEOUT_S,
    ) -> Iterator[Iterator[bytes]]:
        body = {
            "statement": statement,
            "params": _checked(params),
            "format": format,
            "limit": ROWS_MAX if limit is None else limit,
            "timeout_s": timeout_s,
        }
        with self.request(
            "POST", "/api/v1/sql", body, timeout_s=max(timeout_s, 0) + QUERY_TIMEOUT_S
        ) as answer:
            yield self.pieces(answer)

    @contextmanager
    def download(self, path: str, **parameters: Any) -> Iterator[Iterator[bytes]]:
        with self.request("GET", path, **parameters) as answer:
            yield self.pieces(answer)

    def close(self) -> None:
        """Do nothing: each request has its own connection."""


class FolderClient(Client):
    """A client of a data folder without a server. It first folds what is new in the log."""

    def __init__(
        self,
        folder: DataFolder,
        log_url: str | None = None,
        *,
        artifacts_url: str | None = None,
        progress: AbstractContextManager[Callable[[int, int], None] | None] | None = None,
    ) -> None:
        """Use a folder, which is opened by the first query.

        Args:
            folder: The folder.
            log_url: The log, if it is not in the folder.
            artifacts_url: Where artifacts are stored; default ``MODELTRAIL_ARTIFACTS``, else the
                folder.
            progress: Entered while the folder is folded for the first time. It yields a function
                for the number of events folded and the total.
        """
        self._folder = folder
        self._log_url = log_url
        self._artifacts_url = artifacts_url
        self._progress = progress or nullcontext()
        self._opened: tuple[EventLog, Fold, Queries] | None = None
        self._app: FastAPI | None = None
        self._stack = ExitStack()

    def _open(self) -> tuple[EventLog, Fold, Queries]:
        if self._opened is None:
            from modeltrail.api.sql.queries import Queries

            with self._progress as bar:
                log, fold = self._stack.enter_context(self._folder.caught_up(self._log_url, bar))
            queries = Queries()
            self._stack.callback(queries.close)
            self._opened = log, fold, queries
        else:
            self._opened[1].catch_up()
        return self._opened

    @contextmanager
    def stream(
        self,
        statement: str,
        params: Params | None = None,
        *,
        format: str = "json",
        limit: int | None = None,
        timeout_s: float = QUERY_TIMEOUT_S,
    ) -> Iterator[Iterator[bytes]]:
        rows = ROWS_MAX if limit is None else limit
        with _client_errors():
            _, fold, queries = self._open()
            with (
                contextlib.closing(fold.cursor()) as cursor,
                queries.run(
                    cursor,
                    statement,
                    _checked(params),
                    format=format,
                    limit=rows,
                    timeout_s=timeout_s,
                ) as pieces,
            ):
                yield pieces

    @contextmanager
    def download(self, path: str, **parameters: Any) -> Iterator[Iterator[bytes]]:
        """Return the answer of the server's routes, run in this process."""
        given = {name: value for name, value in parameters.items() if value is not None}
        with _client_errors():
            app = self._application()
            with contextlib.closing(_call(app, path, urlencode(given))) as pieces:
                yield pieces

    def post(self, path: str, body: Any) -> Any:
        with _client_errors():
            data = json.dumps(body).encode()
            with contextlib.closing(_call(self._application(), path, "", data)) as pieces:
                return json.loads(b"".join(pieces))

    def _application(self) -> FastAPI:
        log, fold, _ = self._open()
        if self._app is None:
            from modeltrail.api.app import create_app
            from modeltrail.api.artifacts.store import ArtifactStore, open_storage
            from modeltrail.api.node import Node
            from modeltrail.eventlog.address import kind_of

            given = self._artifacts_url or os.environ.get("MODELTRAIL_ARTIFACTS")
            if not given or kind_of(given) == "server":
                given = str(self._folder.artifacts)
            # Not started, because it only reads.
            self._app = create_app(Node(log, fold, ArtifactStore(open_storage(given))))
        return self._app

    def close(self) -> None:
        self._opened = self._app = None
        self._stack.close()


@contextmanager
def _client_errors() -> Iterator[None]:
    """Turn every expected error into a ``ClientError``."""
    try:
        yield
    except ApiError as error:
        raise ClientError(error.message, status=error.status, code=error.code) from None
    except ModuleNotFoundError as error:
        raise ClientError(
            f"{error.name} is not installed, which reading a folder needs: ask a server by its "
            "URL, or install it with: pip install 'modeltrail[server]'"
        ) from None
    except Exception as error:
        from modeltrail.eventlog import LogError

        names = {base.__name__ for base in type(error).__mro__}
        if isinstance(error, LogError) or names & {"StoreError", "FoldBehind"}:
            raise ClientError(str(error)) from None
        raise


def _checked(params: Params | None) -> Params | None:
    if isinstance(params, (str, bytes)):
        raise ClientError(f"params: expected a list or a mapping of values, not {params!r:.100}")
    return params or None


def _call(app: FastAPI, path: str, parameters: str, body: bytes | None = None) -> Generator[bytes]:
    """Call an application as a server would, in a thread with its own event loop."""
    import asyncio

    came: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue(_PIECES_AHEAD)
    left = threading.Event()

    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if body is not None and not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        while not left.is_set():
            await asyncio.sleep(_POLL_S)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        while not left.is_set():
            with contextlib.suppress(queue.Full):
                came.put(message, timeout=_POLL_S)
                return
        raise ConnectionResetError("the answer is no longer read")

    def run() -> None:
        end: Exception | None = None
        try:
            asyncio.run(app(scope, receive, send))
        except Exception as error:
            end = error
        with contextlib.suppress(ConnectionResetError):
            asyncio.run(send(end))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET" if body is None else "POST",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": parameters.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 0),
        "server": ("localhost", 80),
    }
    thread = threading.Thread(target=run, name="modeltrail-client", daemon=True)
    thread.start()
    status, refused = 0, b""
    try:
        while (message := came.get()) is not None:
            if isinstance(message, Exception):
                raise message
            if message["type"] == "http.response.start":
                status = message["status"]
            elif status >= http.client.BAD_REQUEST:
                refused += message.get("body", b"")
            elif body := message.get("body", b""):
                yield body
    finally:
        left.set()
        thread.join()
    if refused or status >= http.client.BAD_REQUEST:
        raise refusal(status, http.client.responses.get(status, ""), refused.decode())
