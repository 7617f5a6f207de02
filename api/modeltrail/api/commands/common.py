"""What the commands share: the data folder, a server to ask, and how to print."""

from __future__ import annotations

import argparse
import base64
import errno
import fcntl
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from modeltrail.consumers.fold import Fold
    from modeltrail.eventlog import EventLog

DEFAULT_DATA = "./modeltrail-data"
_TIMEOUT_S = 660.0


class CommandError(Exception):
    """A command cannot do what was asked; the message says how to repair it."""


def say(text: str) -> None:
    """Print a line for people or scripts."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Print a line that is not part of the output."""
    sys.stderr.write(f"{text}\n")


def say_json(value: Any) -> None:
    """Print JSON."""
    say(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        shown.add_column(Text(column))
    for row in rows:
        shown.add_row(*(Text(_cell(value)) for value in row))
    width = None if sys.stdout.isatty() else 10_000
    Console(width=width, soft_wrap=width is not None).print(shown)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        value = json.dumps(value, ensure_ascii=False)
    # Control characters in a name must not steer the terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar for ``(done, total)`` on a terminal; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


# The data folder


class DataFolder:
    """A data folder, and who works on it."""

    def __init__(self, path: Path) -> None:
        """Name a folder; nothing is opened or made."""
        self.path = path
        self.database = path / "projections.duckdb"
        self.artifacts = path / "artifacts"
        self.info = path / "server.json"

    def make(self) -> None:
        """Make the folder; raises ``CommandError``."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(_cannot_write(self.path, error)) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who folds into it; raises ``CommandError``."""
        self.make()
        try:
            lock = (self.path / "server.lock").open("a")
        except OSError as error:
            raise CommandError(_cannot_write(self.path, error)) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CommandError(self._in_use()) from None
            yield

    def _in_use(self) -> str:
        found = self._info()
        if found is None:
            return f"{self.path} is in use by another modeltrail command; wait for it to end"
        return (
            f"{self.path} is in use by the server at {found['url']} (process {found['pid']}); "
            f"one folder has one server: stop that one (kill {found['pid']}), or serve another "
            "folder with --data"
        )

    def _info(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.info.read_text(encoding="utf-8"))
            return {**found, "url": str(found["url"]), "pid": int(found["pid"])}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def artifacts_of_server(self) -> str | None:
        """Where the server that runs on it keeps artifacts; None if none does."""
        return None if self.server() is None else (self._info() or {}).get("artifacts")

    def server(self) -> str | None:
        """URL of the server that runs on it; None if none does."""
        found = self._info()
        if found is None:
            return None
        try:
            with (self.path / "server.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held = error.errno in (errno.EWOULDBLOCK, errno.EACCES)
            return found["url"] if held else None
        return None  # its server was killed: nobody holds the lock


def _cannot_write(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk of {path} is full"
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{path} is not a folder"
    return f"cannot write in {path}: {error.strerror}; give a folder that you may write with --data"


def data_folder(args: argparse.Namespace) -> DataFolder:
    """The folder that ``--data`` or ``MODELTRAIL_URL`` names."""
    text = args.data
    if text is None:
        text = os.environ.get("MODELTRAIL_URL") or DEFAULT_DATA
        if urlsplit(text).scheme in ("http", "https", "kafka", "memory"):
            text = DEFAULT_DATA
    return DataFolder(Path(str(text).removeprefix("file:")))


def log_url(args: argparse.Namespace, folder: DataFolder) -> str:
    """The log's URL: ``--log``, a Kafka URL in ``MODELTRAIL_URL``, or the data folder."""
    if args.log is not None:
        return str(args.log)
    env = os.environ.get("MODELTRAIL_URL", "")
    if args.data is None and env.startswith("kafka:"):
        return env
    return str(folder.path)


def artifacts_url(args: argparse.Namespace, folder: DataFolder) -> str:
    """Where artifacts are: ``--artifacts``, ``MODELTRAIL_ARTIFACTS``, or as the folder's server."""
    given = args.artifacts or os.environ.get("MODELTRAIL_ARTIFACTS")
    if given and urlsplit(given).scheme in ("http", "https"):
        raise CommandError(
            f"artifacts cannot be kept at {given}: MODELTRAIL_ARTIFACTS names a server for "
            "training jobs; say with --artifacts where this server keeps them"
        )
    return str(given or folder.artifacts_of_server() or folder.artifacts)


def open_existing_log(args: argparse.Namespace, folder: DataFolder) -> EventLog:
    """Open the log that must be there already; raises ``LogError`` or ``CommandError``."""
    from modeltrail.eventlog import open_log

    url = log_url(args, folder)
    if url == str(folder.path) and not folder.path.is_dir():
        raise CommandError(
            f"there is no data folder {folder.path}; name one with --data, or start with: "
            "modeltrail serve"
        )
    return open_log(url, create=False)


@contextmanager
def caught_up(args: argparse.Namespace) -> Iterator[tuple[EventLog, Fold]]:
    """The log and an up-to-date fold of a folder that no server has."""
    from modeltrail.consumers.fold import Fold

    folder = data_folder(args)
    log = open_existing_log(args, folder)
    try:
        with folder.locked():
            fold = Fold(log, folder.database)
            with progress("folding") as bar:
                fold.open(bar)
                try:
                    fold.catch_up(progress=bar)
                except BaseException:
                    fold.stop()
                    raise
            try:
                yield log, fold
            finally:
                fold.stop()
    finally:
        log.close()


# A server


def server_of(args: argparse.Namespace) -> str | None:
    """The server to ask: ``--server``, ``MODELTRAIL_URL``, or the one that runs on the folder."""
    url = args.server
    if url is None and args.data is None and args.log is None:
        env = os.environ.get("MODELTRAIL_URL", "")
        url = env if urlsplit(env).scheme in ("http", "https") else None
    if url is None:
        return data_folder(args).server()
    if urlsplit(url).scheme not in ("http", "https"):
        raise CommandError(f"not the URL of a server: {url!r}; expected as in http://host:5000")
    return str(url).rstrip("/")


def _authorization() -> str | None:
    """Who we are, from the environment, as MLflow's clients and training jobs are told it too."""
    token = os.environ.get("MODELTRAIL_TOKEN") or os.environ.get("MLFLOW_TRACKING_TOKEN")
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if token:
        return f"Bearer {token}"
    if user:
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
    return None


def ask(
    server: str, path: str, body: Any = None, *, method: str | None = None, **query: Any
) -> IO[bytes]:
    """Send a request to a server; returns its answer, to be read and closed.

    Raises:
        CommandError: the server says no, or is not there.
    """
    given = {name: value for name, value in query.items() if value is not None}
    url = f"{server}{path}" + (f"?{urlencode(given)}" if given else "")
    request = urllib.request.Request(url, method=method)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    request.add_header("User-Agent", "modeltrail-cli")
    authorization = _authorization()
    if authorization is not None:
        request.add_header("Authorization", authorization)
    try:
        answer: IO[bytes] = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
        return answer
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode("utf-8", "replace")
        try:
            message = json.loads(text)["message"]
        except (ValueError, KeyError, TypeError):
            message = f"{error.code} {error.reason}"
        raise CommandError(message) from None
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise CommandError(f"no answer from {server}: {reason}; does it run?") from None


def ask_json(
    server: str, path: str, body: Any = None, *, method: str | None = None, **query: Any
) -> Any:
    """The JSON answer of a server; raises ``CommandError``."""
    with ask(server, path, body, method=method, **query) as answer:
        return json.load(answer)
