"""A gate that keeps a fork from copying what another thread has half done.

A child inherits locks in the state they have at the fork: those of the import system, and those
inside SQLite. Where a thread of ours held one just then, the child would wait for it for ever.
"""

from __future__ import annotations

import os
import threading

_WAIT_S = 2.0


class ForkGate:
    """Held by our threads while they import a module or use SQLite; a fork waits for it."""

    def __init__(self) -> None:
        """Open."""
        self._lock = threading.Lock()
        self._forking = False

    def __enter__(self) -> None:
        """Hold up forks."""
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        """Let forks go on."""
        self._lock.release()

    def before_fork(self) -> None:
        """Wait, but not for ever: a fork that hangs is worse than a child that may."""
        self._forking = self._lock.acquire(timeout=_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """Open again."""
        if self._forking:
            self._forking = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget who held it in the parent."""
        self._lock = threading.Lock()
        self._forking = False


fork_gate = ForkGate()

os.register_at_fork(
    before=fork_gate.before_fork,
    after_in_parent=fork_gate.after_fork_in_parent,
    after_in_child=fork_gate.after_fork_in_child,
)
