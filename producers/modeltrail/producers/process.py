"""The state of the producers in one process, and the hooks for fork, exit and SIGTERM."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from modeltrail.producers.buffer import POINTS_MAX, Buffer
from modeltrail.producers.forks import fork_gate
from modeltrail.producers.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modeltrail.producers.buffer import Mark, Producer
    from modeltrail.producers.channel import Channel
    from modeltrail.producers.run import Run
    from modeltrail.producers.writer import Writer

_CLOSE_S = 0.2
_POLL_S = 0.002
_WRITE_S = 2.5
"""How long to wait for the outbox if no time for the target is left.

Anything not written by then is lost with the process. The first event of a run may wait two seconds
for Git.
"""
_WRITE_AGAIN_S = 0.6
_ROOM_WAITS_MAX = 200
_LOSSY_SHOWN_MAX = 10


class Process:
    """The producers' state in one process. A forked child gets a new one."""

    def __init__(self) -> None:
        self.buffer = Buffer()
        self.open_runs: dict[int, Run] = {}
        """Runs to end or flush at exit."""
        self._lock = threading.RLock()  # reentrant: the SIGTERM handler may interrupt the holder
        self._writer: Writer | None = None
        self._channels: dict[Settings, Channel] = {}
        self._stalled_at = -1
        self._unwritten = False
        self.lossy: dict[int, Producer] = {}
        """By id: producers that lost something."""

    def channel(self, settings: Settings) -> Channel:
        """Return the channel of a target, which all runs that log to it share.

        The first call takes about 0.1 s for imports. They are done here and not in a thread: next
        to a busy training thread an import takes seconds, and the buffer would be full by then.
        """
        with fork_gate:
            from modeltrail.producers.channel import Channel

        with self._lock:
            return self._channels.setdefault(settings, Channel(settings))

    def start(self) -> Writer:
        """Return the writer, started on the first call."""
        writer = self._writer
        if writer is None:
            with self._lock:
                if self._writer is None:
                    with fork_gate:
                        from modeltrail.producers.writer import Writer

                    self._writer = Writer(self.buffer, self.lossy)
                    _install_exit()
                writer = self._writer
        return writer

    def wake(self) -> None:
        """Make the writer check the buffer at once."""
        if self._writer is not None:
            self._writer.wake(hurry=True)

    def make_room(self) -> bool:
        """Let the writer run because points arrive faster than it takes them.

        Returns True if there is room.

        Releases the interpreter for at most about 0.2 s. If the writer takes nothing in that time,
        because a disk hangs, later calls do not wait until it has taken something.
        """
        writer, points = self._writer, self.buffer.points
        if writer is None or writer.passes == self._stalled_at:
            return False
        for _ in range(_ROOM_WAITS_MAX):
            writer.wake()
            time.sleep(0.001)
            if len(points) < POINTS_MAX:
                return True
        self._stalled_at = writer.passes
        return False

    def wait_delivered(self, marks: Iterable[tuple[Run, Mark]], timeout_s: float | None) -> None:
        """Wait until everything up to the marks was delivered.

        Args:
            marks: Runs, and the marks that they gave the writer.
            timeout_s: Maximum wait, in seconds; None for what is left of ``finish_timeout_s``.
        """
        began = time.monotonic()
        waiting = [(run.channel, mark) for run, mark in marks]
        limits = {
            channel: channel.patience_s if timeout_s is None else timeout_s
            for channel, _ in waiting
        }
        longest_s = max(limits.values(), default=0.0)

        def written() -> bool:
            return all(mark.appended is not None for _, mark in waiting)

        def over(channel: Channel, mark: Mark) -> bool:
            at = mark.appended
            return at is not None and (channel.handled(at) or channel.hopeless(at))

        def given_up() -> bool:
            spent_s = time.monotonic() - began
            return all(spent_s >= limits[c] or over(c, mark) for c, mark in waiting)

        write_s = longest_s
        if timeout_s is None:
            write_s = max(longest_s, _WRITE_AGAIN_S if self._unwritten else _WRITE_S)
        self._unwritten = not wait_until(written, write_s)
        wait_until(given_up, max(0.0, began + longest_s - time.monotonic()))
        spent_s = time.monotonic() - began
        for channel in limits:
            of_it = [mark for c, mark in waiting if c is channel]
            appended = [mark.appended for mark in of_it if mark.appended is not None]
            in_vain = not all(over(channel, mark) for mark in of_it)
            channel.waited(spent_s, max(appended, default=None), in_vain=in_vain)

    def shutdown(self, status: str, message: str | None) -> None:
        """End or flush all open runs within ``finish_timeout_s``. Report what was left or lost."""
        if self._writer is None:
            return
        runs = list(self.open_runs.values())
        for run in runs:
            if not run.managed or status == "KILLED":
                run.end(status, message)
        marks = [(run, mark) for run in runs if (mark := run.mark()) is not None]
        self.wait_delivered(marks, None)
        for run, mark in marks:
            run.delivered(mark)
        self._say_lost(self._writer)
        deadline = time.monotonic() + _CLOSE_S
        for channel in list(self._channels.values()):
            left_over = channel.left_over
            channel.close(deadline)
            if left_over is not None:
                self._say_left_over(left_over)

    def _say_left_over(self, folder: str) -> None:
        if os.path.exists(os.path.join(folder, "meta.json")):
            from modeltrail.producers.notices import warn

            warn(
                f"not everything was delivered; the rest is in {folder}. Deliver it with: "
                "modeltrail sync"
            )

    def _say_lost(self, writer: Writer) -> None:
        """Report for each run what was lost: dropped before, or still only in memory."""
        unwritten = writer.unwritten()
        lossy = {**self.lossy, **{id(producer): producer for producer in unwritten}}
        for n, producer in enumerate(lossy.values()):
            from modeltrail.producers.notices import warn

            if n == _LOSSY_SHOWN_MAX:
                warn(f"{len(lossy) - n} more runs lost data")
                break
            points, others = unwritten.get(producer, (0, 0))
            producer.count_drops()
            points += producer.points_dropped
            others += producer.others_dropped
            if points or others:
                warn(
                    f"run {producer.run_id} lost {points:,} metric points and {others:,} of its "
                    "other events (dropped, or refused by the target)"
                )

    def abandon(self) -> None:
        """In the child of a fork, let go of the parent's files."""
        for channel in self._channels.values():
            channel.abandon()


_process = Process()
_inherited: list[Process] = []
_runs: WeakSet[Run] = WeakSet()
_exit_pid = 0


def current() -> Process:
    """Return the state of this process."""
    return _process


def remember(run: Run) -> None:
    """Remember a run, so that the child of a fork can continue it."""
    _runs.add(run)


def _after_fork_in_child() -> None:
    global _process
    # Kept forever: collecting it could close the parent's log while it is in use.
    _inherited.append(_process)
    _process.abandon()
    _process = Process()
    for run in list(_runs):
        run.after_fork()


def _install_exit() -> None:
    """Flush at exit. Children of multiprocessing leave by ``os._exit``, which skips ``atexit``."""
    global _exit_pid
    if _exit_pid == os.getpid():
        return
    if _exit_pid == 0:
        atexit.register(_at_exit)
    _exit_pid = os.getpid()
    if "multiprocessing.process" in sys.modules:
        from multiprocessing import parent_process, util

        if parent_process() is not None:
            util.Finalize(None, _at_exit, exitpriority=100)


def _at_exit() -> None:
    error: BaseException | None = sys.exc_info()[1]
    if error is None and not hasattr(sys, "ps1"):
        error = getattr(sys, "last_value", None)  # set if an uncaught exception was printed
    try:
        _process.shutdown(*outcome(error))
    except Exception as problem:  # never a traceback at exit
        from modeltrail.producers.notices import warn

        warn(f"ending the runs failed: {type(problem).__name__}: {problem}")


def outcome(error: BaseException | None) -> tuple[str, str | None]:
    """Return the status and message of a run that this exception ended."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "FINISHED", None
    if isinstance(error, KeyboardInterrupt):
        return "KILLED", "KeyboardInterrupt"
    try:
        text = str(error)
    except Exception:  # a user's exception class may fail here
        text = "(no message)"
    return "FAILED", f"{type(error).__name__}: {text}"


def install_sigterm() -> None:
    """End runs as KILLED on SIGTERM, unless the program handles it."""
    import signal

    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: Any) -> None:
    import signal

    try:
        _process.shutdown("KILLED", "SIGTERM")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def wait_until(done: Any, timeout_s: float) -> bool:
    """Poll until ``done()`` is true or time is up. Returns whether it was.

    Uses no lock, because a signal handler could find it taken.
    """
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


os.register_at_fork(after_in_child=_after_fork_in_child)
