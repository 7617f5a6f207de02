"""Deliver an outbox to its target, in order, and retry until it succeeds."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from modeltrail.eventlog import LogRefused
from modeltrail.producers.forks import fork_gate
from modeltrail.producers.notices import warn
from modeltrail.producers.targets import EventRefused, NoArtifactStore, open_target
from modeltrail.schemas import encode

if TYPE_CHECKING:
    from modeltrail.producers.outbox import Frame, Outbox, SegmentQueue
    from modeltrail.producers.settings import Settings
    from modeltrail.producers.targets import Target

_BACKOFF_FIRST_S = 0.05
_BACKOFF_MAX_S = 2.0
_BATCH_EVENTS_MAX = 2000


class Delivery:
    """The delivery of one outbox to its target, shared by the threads that do it."""

    def __init__(self, outbox: Outbox, url: str, settings: Settings) -> None:
        self.outbox = outbox
        self.refused: dict[str, tuple[int, int]] = {}
        """Run id to the events and points of that run that the target refused."""
        self.refused_events = 0
        self.refused_artifacts = 0
        self.waits_for_setting = False
        """True while artifacts have no destination, so that waiting does not help."""
        self.error: str | None = None
        """The current obstacle to delivery, or None."""
        self._url = url
        self._settings = settings
        self._target: Target | None = None
        self._taken = False
        self._opening = threading.Lock()
        self._warned: set[str] = set()

    def target(self) -> Target:
        """Return the target, opened on first use. Raises ``LogError``."""
        with self._opening:
            if self._target is None:
                with fork_gate:
                    _import_client(self._url)
                self._target = open_target(self._url, self._settings)
            return self._target

    def close(self) -> None:
        with self._opening:
            if self._target is not None:
                with contextlib.suppress(Exception):  # everything acknowledged is safe already
                    self._target.close()
                self._target = None

    def step_events(self) -> bool:
        """Deliver one batch of events. Returns False if none are waiting.

        Raises the target's errors.
        """
        queue = self.outbox.events
        frames = queue.read()
        for at in range(0, len(frames), _BATCH_EVENTS_MAX):
            self._deliver(queue, frames[at : at + _BATCH_EVENTS_MAX])
        return bool(frames)

    def _deliver(self, queue: SegmentQueue, frames: list[Frame]) -> None:
        try:
            self.target().append(frames)
            self._taken = True
        except LogRefused as error:
            if len(frames) == 1:
                if not self._taken and not isinstance(error, EventRefused):
                    raise  # it probably refuses this client, not this event: wait for a repair
                self._set_aside(frames[0], str(error))
            else:  # find the refused event; those before it are delivered on the way
                half = len(frames) // 2
                self._deliver(queue, frames[:half])
                self._deliver(queue, frames[half:])
                return
        queue.done(frames)

    def step_artifacts(self) -> bool:
        """Deliver some artifacts, each with its event. Returns False if none are waiting."""
        queue = self.outbox.artifacts
        frames = queue.read()
        for frame in frames:
            order = json.loads(frame.payload)
            spooled = str(order["spooled"])
            file = os.path.join(self.outbox.spool, spooled)
            try:
                if os.path.exists(file):
                    self._deliver_artifact(frame, order, file)
                else:
                    self.warn_once("spool", f"the spooled copy {file} is gone")
            except LogRefused as error:
                self._set_aside(frame, str(error), spooled)
            self.waits_for_setting = False
            queue.done([frame])
            self.outbox.forget_spooled(spooled)
        return bool(frames)

    def _deliver_artifact(self, frame: Frame, order: dict[str, str], file: str) -> None:
        target = self.target()
        subject = order.get("subject", "run_id")
        of_model = subject == "model_id"
        owner = f"models/{frame.key}" if of_model else frame.key
        try:
            stored = target.upload(owner, order["path"], file)
        except NoArtifactStore as error:
            self.waits_for_setting = True
            self.warn_once("store", str(error))
            raise
        envelope: dict[str, object] = json.loads(order["envelope"])
        for name in ("event_id", "producer_id"):
            envelope[name] = bytes.fromhex(str(envelope[name]))
        payload = encode(
            "LoggedModelArtifactLogged" if of_model else "ArtifactLogged",
            {
                "envelope": envelope,
                subject: frame.key,
                "path": order["path"],
                "size_bytes": stored.size_bytes,
                "sha256": stored.sha256,
                "location": stored.location,
            },
        )
        target.append([frame._replace(payload=payload)])

    def _set_aside(self, frame: Frame, why: str, spooled: str | None = None) -> None:
        folder = self.outbox.set_aside(frame, spooled)
        if spooled is None:
            self.refused_events += 1
        else:
            self.refused_artifacts += 1
        events, points = self.refused.get(frame.key, (0, 0))
        self.refused[frame.key] = (events + 1, points + frame.points)
        self.warn_once("refused", f"an event was refused and is kept in {folder}: {why}")

    def warn_once(self, kind: str, message: str) -> None:
        """Log a warning, once for each kind."""
        if kind not in self._warned:
            self._warned.add(kind)
            warn(message)


class Deliverer(threading.Thread):
    """Repeats one step until it is stopped, with growing pauses after errors."""

    def __init__(self, name: str, delivery: Delivery, step: Callable[[], bool]) -> None:
        """Start delivering. ``step`` returns False when there is nothing to do."""
        super().__init__(name=f"modeltrail-{name}", daemon=True)
        self._delivery = delivery
        self._step = step
        self._stopping = False
        # A SimpleQueue, not an Event, because a signal handler may call its put().
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.start()

    def wake(self) -> None:
        """Signal that there is something to deliver. Does not shorten a pause after an error."""
        self._wake.put(None)

    def stop(self) -> None:
        self._stopping = True
        self._wake.put(None)

    def run(self) -> None:
        pause_s = 0.0
        while not self._stopping:
            try:
                while not self._stopping and self._step():
                    pause_s = 0.0
                    self._delivery.error = None
                pause_s = 0.0
                self._sleep(None)
            except Exception as error:  # whatever happened, the events are safe and time may help
                self._delivery.error = f"{type(error).__name__}: {error}"
                if not self._delivery.waits_for_setting:
                    self._delivery.warn_once(
                        "away",
                        f"events wait in {self._delivery.outbox.path} until they can be delivered: "
                        f"{error}",
                    )
                pause_s = min(_BACKOFF_MAX_S, max(_BACKOFF_FIRST_S, 2 * pause_s))
                self._sleep(pause_s * random.uniform(0.5, 1.0))

    def _sleep(self, timeout_s: float | None) -> None:
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with contextlib.suppress(queue.Empty):
            while not self._stopping:
                self._wake.get(
                    timeout=None if until is None else max(0.0, until - time.monotonic())
                )
                if until is None:
                    break
        with contextlib.suppress(queue.Empty):
            while True:  # any number of wake-ups needs one check
                self._wake.get_nowait()


def _import_client(url: str) -> None:
    scheme = url.partition(":")[0]
    if scheme in ("http", "https"):
        importlib.import_module("http.client")
    elif scheme == "kafka":
        importlib.import_module("modeltrail.eventlog.kafka")
    else:
        importlib.import_module("modeltrail.eventlog.embedded")
