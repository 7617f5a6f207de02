"""Open a data folder as a node of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from modeltrail.api.artifacts.storage import Storage
from modeltrail.api.artifacts.store import ArtifactStore
from modeltrail.api.data_folder import DataFolder
from modeltrail.api.node import Node
from modeltrail.consumers.fold import Fold
from modeltrail.eventlog import open_log

_READ_TIMEOUT_S = 600.0


@contextmanager
def open_node(
    folder: DataFolder,
    log_url: str,
    storage: Storage,
    progress: AbstractContextManager[Callable[[int, int], None] | None],
) -> Iterator[Node]:
    """Yield a started node on a folder without a server, with the whole log folded.

    Args:
        folder: The folder; it is locked meanwhile.
        log_url: The log, which is created if it does not exist.
        storage: Where artifacts are stored.
        progress: Entered while the log is folded. It yields a function for the number of events
            folded and the total.

    Raises:
        ClientError: the folder is in use, or cannot be written.
        LogError: the log cannot be opened.
    """
    with ExitStack() as stack:
        stack.enter_context(folder.locked())
        log = open_log(log_url)
        stack.callback(log.close)
        fold = Fold(log, folder.database)
        stack.callback(fold.stop)
        with progress as bar:
            fold.start(bar)
        node = Node(log, fold, ArtifactStore(storage), read_timeout_s=_READ_TIMEOUT_S)
        node.start()
        stack.callback(node.stop)
        node.wait(log_end=True)
        yield node
