"""A gate that prevents a fork while another thread is in a critical section.

A child inherits locks in the state that they have at the fork, such as those of the import system
and those inside SQLite. If a thread of this package held one at that moment, the child would wait
for it forever.
"""

from __future__ import annotations

import os
import threading

_WAIT_S = 2.0


class ForkGate:
    """Held by this package's threads while they import a module or use SQLite.

    A fork waits for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forking = False

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Wait, but with a limit: a fork that hangs is worse than a child that may."""
        self._forking = self._lock.acquire(timeout=_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """Open the gate again."""
        if self._forking:
            self._forking = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget which threads held the gate in the parent."""
        self._lock = threading.Lock()
        self._forking = False


fork_gate = ForkGate()

os.register_at_fork(
    before=fork_gate.before_fork,
    after_in_parent=fork_gate.after_fork_in_parent,
    after_in_child=fork_gate.after_fork_in_child,
)
