"""A local data folder: who uses it, and how to fold into it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeltrail.api.errors import ClientError
from modeltrail.eventlog.private import make_folder, open_private

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
        """Return where the running server stores artifacts, or None if no server runs on it."""
        return None if self.server() is None else (self._info() or {}).get("artifacts")

    def server(self) -> str | None:
        """Return the URL of the server that runs on it, or None."""
        found = self._info()
        if found is None:
            return None
        try:
            # Open for reading, which creates no file and needs no permission to write.
            with (self.path / "server.lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            held = error.errno in (errno.EWOULDBLOCK, errno.EACCES)
            return found["url"] if held else None
        return None  # its server was killed, so the lock is free

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

        log = self.open_log(log_url)
        try:
            with ExitStack() as stack:
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
        finally:
            log.close()


def _cannot_write(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk of {path} is full"
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{path} is not a folder"
    return f"cannot write in {path}: {error.strerror}; give a folder that you may write with --data"
