"""The channel of one process to one target: its outbox and the threads that deliver from it."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time

from modeltrail.eventlog.address import without_secrets
from modeltrail.producers.delivery import Deliverer, Delivery
from modeltrail.producers.outbox import Outbox, create_outbox, pack_frame
from modeltrail.producers.settings import Settings

_SLACK_BYTES = 16 * 1024 * 1024
"""Space beyond the cap for everything except metrics and artifacts, such as a run's end."""


class Channel:
    """Opens on first use, so that a process that logs nothing leaves nothing on disk."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.RLock()
        self._outbox: Outbox | None = None
        self._delivery: Delivery | None = None
        self._events: Deliverer | None = None
        self._artifacts: Deliverer | None = None
        self._waited_s = 0.0
        self._awaited: tuple[int, int] | None = None

    def _open(self) -> Outbox:
        with self._lock:
            if self._outbox is None:
                label = without_secrets(self.settings.url)
                self._outbox = create_outbox(self.settings.outbox, label)
                self._delivery = way = Delivery(self._outbox, self.settings.url, self.settings)
                self._events = Deliverer("events", way, way.step_events)
            return self._outbox

    def _room(self, outbox: Outbox, size: int, slack: int) -> None:
        if outbox.waiting_bytes + size > self.settings.outbox_bytes_max + slack:
            raise OSError(errno.EDQUOT, "the outbox has reached its cap (outbox_bytes_max)")

    def put_events(self, frames: list[bytes], points: int) -> None:
        """Append all of these events to the outbox, or none.

        Args:
            frames: The events.
            points: Number of metric points in them. With 0, the events may use the last reserves of
                space.

        Raises:
            OSError: the disk is full or the cap is reached.
        """
        outbox = self._open()
        data = b"".join(frames)
        self._room(outbox, len(data), 0 if points else _SLACK_BYTES)
        try:
            outbox.events.append(data, len(frames))
        except OSError as error:
            if points or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            if not outbox.give_up_reserve():
                raise
            outbox.events.append(data, len(frames))

    def put_artifact(self, run_id: str, order: bytes) -> None:
        """Append a request to upload a spooled file. Raises ``OSError``."""
        outbox = self._open()
        outbox.artifacts.append(pack_frame(run_id, order, 0))
        with self._lock:
            if self._artifacts is None and self._delivery is not None:
                way = self._delivery
                self._artifacts = Deliverer("artifacts", way, way.step_artifacts)

    def spool(self, path: str) -> str:
        """Copy a file into the outbox, in the caller's thread. Returns the name of the copy.

        It is a copy, not a link, because the training code may continue to write to its file.

        Raises:
            OSError: the file cannot be read, the disk is full, or the cap is reached.
        """
        outbox = self._open()
        self._room(outbox, os.path.getsize(path), 0)
        name = os.urandom(12).hex()
        copy = os.path.join(outbox.spool, name)
        try:
            shutil.copyfile(path, copy)
        except BaseException:
            if os.path.exists(copy):
                os.unlink(copy)
            raise
        outbox.spool_bytes += os.path.getsize(copy)
        return name

    def wake(self) -> None:
        """Tell the deliverers that something was appended."""
        for deliverer in (self._events, self._artifacts):
            if deliverer is not None:
                deliverer.wake()

    def appended(self) -> tuple[int, int]:
        """Return how many events and artifacts were appended so far."""
        outbox = self._outbox
        return (outbox.events.appended, outbox.artifacts.appended) if outbox else (0, 0)

    def handled(self, appended: tuple[int, int]) -> bool:
        """Return whether everything up to there was delivered, or refused and set aside."""
        outbox = self._outbox
        if outbox is None:
            return True
        return outbox.events.handled >= appended[0] and outbox.artifacts.handled >= appended[1]

    def hopeless(self, appended: tuple[int, int]) -> bool:
        """Return whether only artifacts are missing and they wait for a setting."""
        outbox, delivery = self._outbox, self._delivery
        if outbox is None or delivery is None or not delivery.waits_for_setting:
            return False
        return outbox.events.handled >= appended[0]

    @property
    def stuck(self) -> bool:
        """Return whether deliveries currently fail."""
        return self._delivery is not None and self._delivery.error is not None

    @property
    def patience_s(self) -> float:
        """Return how long this process may still wait for the target, in seconds.

        All unsuccessful waits of ``finish``, ``flush`` and the exit share ``finish_timeout_s``, so
        a target that is away delays a process once, not once for each run. When everything they
        waited for is delivered, the full time is available again.
        """
        if self._awaited is not None and self.handled(self._awaited):
            self._waited_s, self._awaited = 0.0, None
        return max(0.0, self.settings.finish_timeout_s - self._waited_s)

    def waited(self, seconds: float, appended: tuple[int, int] | None, *, in_vain: bool) -> None:
        """Subtract a wait, for everything up to ``appended``, from the remaining time."""
        self._waited_s = self._waited_s + seconds if in_vain else 0.0
        self._awaited = appended if in_vain else None

    def refused(self, run_id: str) -> tuple[int, int]:
        """Return how many events and points of a run the target refused."""
        return self._delivery.refused.get(run_id, (0, 0)) if self._delivery else (0, 0)

    @property
    def waiting_bytes(self) -> int:
        """Bytes in the outbox that are not delivered yet."""
        return self._outbox.waiting_bytes if self._outbox else 0

    @property
    def left_over(self) -> str | None:
        """The outbox's folder, if something in it was not delivered."""
        outbox = self._outbox
        return None if outbox is None or outbox.empty else outbox.path

    def close(self, deadline: float) -> None:
        """Stop delivering, and remove the outbox if it is empty. It opens again on the next use.

        Waits for a delivery in progress until ``deadline``, of the monotonic clock. A delivery that
        takes longer keeps its thread and the outbox until the process ends.
        """
        with self._lock:
            outbox, delivery = self._outbox, self._delivery
            threads = [t for t in (self._events, self._artifacts) if t is not None]
            self._outbox = self._delivery = self._events = self._artifacts = None
        if outbox is None or delivery is None:
            return
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if not any(thread.is_alive() for thread in threads):
            delivery.close()
            outbox.close()

    def abandon(self) -> None:
        """In the child of a fork, close the files, which belong to the parent."""
        if self._outbox is not None:
            self._outbox.close(forked=True)
