"""A local data folder: who uses it, and how to fold into it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modeltrail.api.errors import ClientError
from modeltrail.eventlog.private import make_folder, open_private
from modeltrail.eventlog.serving import server_info, server_on

if TYPE_CHECKING:
    from modeltrail.consumers.fold import Fold
    from modeltrail.eventlog import EventLog

DEFAULT_DATA = "./modeltrail-data"


class DataFolder:
    """A data folder."""

    def __init__(self, path: Path) -> None:
        """Name a folder. Nothing is opened or created."""
        self.path = path
        self.database = path / "projections.duckdb"
        self.artifacts = path / "artifacts"
        self.info = path / "server.json"

    def writable(self) -> bool:
        """Return whether files can be created in it."""
        return os.access(self.path, os.W_OK | os.X_OK)

    def make(self) -> None:
        """Create the folder. Raises ``ClientError``."""
        try:
            make_folder(self.path)
        except OSError as error:
            raise ClientError(_cannot_write(self.path, error)) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock, so that no other process folds into it.

        Raises ``ClientError``.
        """
        self.make()
        try:
            lock = os.fdopen(open_private(self.path / "server.lock"), "r+")
        except OSError as error:
            raise ClientError(_cannot_write(self.path, error)) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ClientError(self._in_use()) from None
            yield

    def _in_use(self) -> str:
        found = server_info(self.path)
        if found is None:
            return f"{self.path} is in use by another modeltrail command; wait for it to end"
        return (
            f"{self.path} is in use by the server at {found['url']} (process {found['pid']}); "
            f"one folder has one server: stop that one (kill {found['pid']}), or serve another "
            "folder with --data"
        )

    def artifacts_of_server(self) -> str | None:
        """Return where the running server stores artifacts, or None if no server runs on it."""
        return None if self.server() is None else (server_info(self.path) or {}).get("artifacts")

    def server(self) -> str | None:
        """Return the URL of the server that runs on it, or None."""
        return server_on(self.path)

    def open_log(self, url: str | None = None) -> EventLog:
        """Open the log at ``url``, or the folder's own, which must exist.

        Raises:
            ClientError: there is no such folder.
            LogError: the log cannot be opened.
        """
        from modeltrail.eventlog import open_log

        if url is None and not self.path.is_dir():
            raise ClientError(
                f"there is no data folder {self.path}; choose one with --data or MODELTRAIL_URL, "
                "or start with: modeltrail serve"
            )
        return open_log(url or str(self.path), create=False)

    @contextmanager
    def caught_up(
        self, log_url: str | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[tuple[EventLog, Fold]]:
        """Yield the log and an up-to-date fold of it, in a folder without a server.

        Args:
            log_url: The log, if it is not the folder's own.
            progress: Called with the number of events folded and the total.

        Raises:
            ClientError: there is no such folder, or it is in use.
            LogError: the log cannot be opened.
        """
        from modeltrail.consumers.fold import Fold

        with closing(self.open_log(log_url)) as log, ExitStack() as stack:
            if self.writable():
                stack.enter_context(self.locked())
                fold = Fold(log, self.database)
            else:
                fold = Fold(log, None)  # in memory, because nothing can be stored here
            fold.open(progress)
            if not self.writable():
                fold.describe()
            try:
                fold.catch_up(progress=progress)
                yield log, fold
            finally:
                fold.stop()


def _cannot_write(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk of {path} is full"
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{path} is not a folder"
    return f"cannot write in {path}: {error.strerror}; give a folder that you may write with --data"
